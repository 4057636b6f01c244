"""Scores of imputations: each target once, under the named mask and the further ones, and paired comparisons.

Data of several channels have no common unit: there every error is divided by its channel's standard deviation (visible
training cells) before the overall scores are taken, and ``mae_<channel>`` gives each channel's own in its unit. With
one channel all scores are in its unit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .cube import TEST, Cube, Layout
from .intervals import GAPS, gap_class, gap_names

DRAWS = 2000
FEW = 10  # clusters
HOUR_S = 3600


@dataclass
class Scorer:
    """Scores along the target axis of a cube.

    Attributes
    ----------
    gap: [target] rows from the last to the next visible cell.
    scale: [C] what an error is divided by.
    """

    cube: Cube
    gap: np.ndarray
    layout: Layout = field(init=False)
    scale: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.layout = self.cube.layout()
        _, sd = self.cube.scaler(0)
        self.scale = sd if self.cube.shape[2] > 1 else np.ones(1)

    def error(self, value: np.ndarray) -> np.ndarray:
        """[target] scaled absolute errors of imputed values [target]."""
        return np.abs(value - self.layout.truth) / self.scale[self.layout.channel]

    def metrics(self, value: np.ndarray, quantile: np.ndarray | None, levels: tuple[float, ...]) -> dict[str, float]:
        """Scores of one member on the test targets.

        Parameters
        ----------
        value: [target], along the layout.
        quantile: [target, level] or None; ``levels`` their probabilities.

        Returns
        -------
        mae, mse, mre, mae_no_line (where there are such cells), mae_<channel> (where there are several), crps and
        coverage90 (where there are quantiles) of the named mask, and mae_masks, the mean of mae over all masks.
        """
        layout, cube = self.layout, self.cube
        part = layout.slice(0, TEST)
        channel, truth = layout.channel[part], layout.truth[part].astype(np.float64)
        error = self.error(value)
        here = error[part]
        found = {
            "mae": here.mean(),
            "mse": (here**2).mean(),
            "mre": here.sum() / (np.abs(truth) / self.scale[channel]).sum(),
            "mae_masks": np.mean([error[p].mean() for m, s, p in layout.parts() if s == TEST]),
        }
        on_line = cube.on_line[layout.time[part], layout.node[part], channel]
        if on_line.any():
            found["mae_no_line"] = here[~on_line].mean()
        if cube.shape[2] > 1:
            for c, name in enumerate(cube.channels):
                found[f"mae_{name}"] = here[channel == c].mean() * self.scale[c]
        if quantile is not None and np.isfinite(quantile[part]).all():
            bounds = quantile[part].astype(np.float64)
            found["crps"] = (crps(bounds, levels, truth) / self.scale[channel]).mean()
            low, high = (bounds[:, list(levels).index(level)] for level in (0.05, 0.95))
            found["coverage90"] = ((truth >= low) & (truth <= high)).mean()
        return {name: float(v) for name, v in found.items()}

    def vectors(self, value: np.ndarray) -> dict[str, list]:
        """mae of the named mask's test targets by gap length, hour and sensor, and by mask; None where no target."""
        layout, part = self.layout, self.layout.slice(0, TEST)
        error = self.error(value)
        hour = (self.cube.daytime * 24).astype(int)[layout.time[part]]
        by = {
            "mae_by_gap": (gap_class(self.gap[part]), len(GAPS) + 1),
            "mae_by_hour": (hour, 24),
            "mae_by_sensor": (layout.node[part], self.cube.shape[1]),
        }
        found = {name: means(error[part], groups, size) for name, (groups, size) in by.items()}
        found["mae_by_mask"] = [float(error[p].mean()) for _, s, p in layout.parts() if s == TEST]
        return found

    def axes(self) -> dict[str, list]:
        """What the entries of the vectors stand for."""
        part = self.layout.slice(0, TEST)
        sizes = np.bincount(gap_class(self.gap[part]), minlength=len(GAPS) + 1)
        return {"gap": gap_names(), "gap_targets": sizes.tolist(), "sensor": list(self.cube.nodes),
                "mask": list(self.cube.masks)}  # fmt: skip

    def compare(self, a: np.ndarray, b: np.ndarray) -> list[dict[str, Any]]:
        """Paired comparisons of two methods by cluster bootstrap: by hour and by sensor, of mae and of each channel's.

        Parameters
        ----------
        a, b: [member, target] imputed values; the losses of a method's members are averaged first.

        Returns
        -------
        Dicts with metric, difference (a - b of the mean over all masks' test targets), ci95, p, test, n, clusters, what
        was resampled, and the difference under each mask.
        """
        layout, cube = self.layout, self.cube
        test = np.flatnonzero(layout.split == TEST)
        loss = [np.mean([self.error(value)[test] for value in np.atleast_2d(method)], axis=0) for method in (a, b)]
        delta, mask, channel = loss[0] - loss[1], layout.mask[test], layout.channel[test]
        hour = cube.time[layout.time[test]].astype("datetime64[s]").astype(np.int64) // HOUR_S
        metrics = {"mae": (np.ones(len(test), bool), 1.0)}
        if cube.shape[2] > 1:
            metrics |= {f"mae_{name}": (channel == c, self.scale[c]) for c, name in enumerate(cube.channels)}
        found = []
        for metric, (part, unit) in metrics.items():
            if not part.any():
                continue
            by_mask = [float(unit * delta[part & (mask == m)].mean()) for m in np.unique(mask[part])]
            for name, cluster in (("hour", hour), ("sensor", layout.node[test])):
                result = clustered(unit * delta[part], cluster[part], mask[part])
                found.append({"metric": metric, **result, "by_mask": by_mask, "resampled": name})
        return found


def crps(quantile: np.ndarray, levels: tuple[float, ...], truth: np.ndarray) -> np.ndarray:
    """[n] continuous ranked probability score from quantiles [n, level]: the integral of twice the pinball loss.

    Laio and Tamea (2007), Hydrol. Earth Syst. Sci. 11, 1267-1277, equation 15. Each level stands for the levels nearer
    to it than to another, so that few levels give a coarse but comparable score.
    """
    taus = np.asarray(levels)
    borders = np.concatenate([[0.0], (taus[1:] + taus[:-1]) / 2, [1.0]])
    below = truth[:, None] - quantile
    pinball = np.maximum(taus * below, (taus - 1) * below)
    return 2 * pinball @ np.diff(borders)


def means(values: np.ndarray, groups: np.ndarray, size: int) -> list[float | None]:
    """Mean of the values of each group 0 … size-1; None for an empty one."""
    count = np.bincount(groups, minlength=size)
    total = np.bincount(groups, values, minlength=size)
    return [float(t / n) if n else None for t, n in zip(total, count, strict=True)]


def clustered(
    delta: np.ndarray, cluster: np.ndarray, mask: np.ndarray, draws: int = DRAWS, seed: int = 0
) -> dict[str, Any]:
    """Bootstrap interval of a mean of dependent values: whole clusters are drawn, under all masks together.

    The estimate is the mean over masks of the mean under each mask. A cluster (an hour, a sensor) is drawn with its
    values under every mask, because masks share the data and so their noise.

    Parameters
    ----------
    delta: [n] differences of losses. cluster: [n] any integers. mask: [n].

    Returns
    -------
    difference, ci95 (percentiles), two-sided p, test, n and clusters. With fewer than FEW clusters p is None and
    ``test`` says that the interval is too narrow to be trusted: percentiles of so few clusters cover less than 95 %.
    """
    names, place = np.unique(cluster, return_inverse=True)
    kinds, which = np.unique(mask, return_inverse=True)
    flat = place * len(kinds) + which
    sums = np.bincount(flat, delta, len(names) * len(kinds)).reshape(len(names), len(kinds))
    counts = np.bincount(flat, minlength=len(names) * len(kinds)).reshape(len(names), len(kinds))
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)  # [draws, clusters]
    size = drawn @ counts
    with np.errstate(invalid="ignore", divide="ignore"):
        means_ = np.nanmean(np.where(size > 0, drawn @ sums / np.maximum(size, 1), np.nan), axis=1)
    low, high = np.nanquantile(means_, [0.025, 0.975])
    tail = min(np.mean(means_ <= 0), np.mean(means_ >= 0))
    few = len(names) < FEW
    return {
        "difference": float((sums.sum(axis=0) / counts.sum(axis=0)).mean()),
        "ci95": [float(low), float(high)],
        "p": None if few else float(min(1.0, 2 * max(tail, 1 / draws))),
        "test": f"paired cluster bootstrap, {draws} draws" + (", too few clusters to be trusted" if few else ""),
        "n": int(len(delta)),
        "clusters": int(len(names)),
    }
