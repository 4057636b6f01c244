"""Scores of every event, from exact distributions or from samples: proper scores, calibration values, their store.

Log densities are in the units that ``meta["log_density"]`` names (its shift is added here, once). The mark is scored in
both factorisations: given time and place (it belongs to the joint likelihood) and given the time alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError
from ..core.store import open_zarr
from . import calibration
from .events import FLOOR, SPLITS, Catalogue, Targets

EVENT = {
    "log_time": "log density of the gap given the past (survival up to the event included)",
    "log_location": "log density of the place given the time and the past",
    "log_mark_given_tx": "log probability of the mark given time, place and the past",
    "log_mark_given_t": "log probability of the mark given the time and the past",
    "pit_time": "randomised probability integral transform of the gap",
    "residual_time": "events expected in the gap, exponential with mean 1 if the model is right",
    "crps_time": "CRPS of the gap [time]",
    "crps_log_time": "CRPS of the log gap, gaps below the floor counting as the floor",
    "energy_location": "energy score of the place (attribute location_given says given what) [place]",
    "energy_location_drawn": "energy score of the place drawn together with the time [place]",
    "energy_joint": "energy score of gap and place, each over its training standard deviation",
    "brier": "Brier score of the mark given the time, summed over marks",
    "median_time": "median of the gap [time]",
    "mean_time": "mean of the gap [time]",
    "location_error": "distance of the place from the mean of the samples [place]",
    "hpd_location": "content of the highest-density region whose border goes through the place",
}
BLOCKS = {"inside_time": "level", "inside_location": "level", "probability": "mark_class"}
MOST_LOCATIONS = 500  # events whose highest-density regions on a grid are computed
CHUNK = 512  # events at a time where pairs of samples are formed


@dataclass
class Samples:
    """Draws of the next event: dt [n, M], xy [n, M, 2], mark [n, M] labels or [n, M, K] probabilities (or None)."""

    dt: np.ndarray
    xy: np.ndarray
    mark: np.ndarray | None = None


@dataclass
class Exact:
    """What a method says exactly of n targets (W windows); natural logs per unit of the catalogue; None: it has none.

    Attributes
    ----------
    log_time: [n] log density of the gap; where times lie on a lattice, log(mass of the cell / its width).
    log_survival: [W] log probability of no event from the last one to the window's end.
    cdf_time: [n] P(gap <= truth); cdf_time_left: [n] P(gap < truth), where there are atoms.
    quantiles_time: [n, Q] at the levels (q + .5) / Q.
    log_location: [n]; mark_given_tx, mark_given_t: [n, K] probabilities.
    samples_location: [n, M, 2] given the true time. hpd_location: [n] (NaN where it was not computed).
    joint: draws of gap and place together.
    """

    log_time: np.ndarray | None = None
    log_survival: np.ndarray | None = None
    cdf_time: np.ndarray | None = None
    cdf_time_left: np.ndarray | None = None
    quantiles_time: np.ndarray | None = None
    log_location: np.ndarray | None = None
    mark_given_tx: np.ndarray | None = None
    mark_given_t: np.ndarray | None = None
    samples_location: np.ndarray | None = None
    hpd_location: np.ndarray | None = None
    joint: Samples | None = None


def crps_quantiles(quantiles: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """CRPS [n] as twice the mean pinball loss over quantiles [n, Q] at (q + .5) / Q (Gneiting and Ranjan 2011)."""
    level = (np.arange(quantiles.shape[1]) + 0.5) / quantiles.shape[1]
    gap = quantiles - truth[:, None]
    return 2 * np.where(gap > 0, (1 - level) * gap, -level * gap).mean(axis=1)


def crps_samples(samples: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Fair CRPS [n] of an ensemble [n, M]: its expectation doesn't depend on M (Ferro 2014)."""
    m = samples.shape[1]
    ordered = np.sort(samples, axis=1)
    spread = (ordered * (2 * np.arange(1, m + 1) - m - 1)).sum(axis=1) / (m * (m - 1))  # E|X - X'| / 2
    return np.abs(samples - truth[:, None]).mean(axis=1) - spread


def energy(samples: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Fair energy score [n] of samples [n, M, d] (Gneiting and Raftery 2007): E|X - y| - E|X - X'| / 2."""
    m, out = samples.shape[1], np.empty(len(truth))
    for start in range(0, len(truth), CHUNK):
        x = samples[start : start + CHUNK].astype(np.float32)
        y = truth[start : start + CHUNK, None].astype(np.float32)
        far = np.sqrt(((x - y) ** 2).sum(axis=2)).mean(axis=1)
        spread = np.zeros(len(x))
        for shift in range(1, m // 2 + 1):  # every ordered pair once, without an [M, M] array
            twice = 1 if 2 * shift == m else 2
            spread += twice * np.sqrt(((x - np.roll(x, shift, axis=1)) ** 2).sum(axis=2)).sum(axis=1)
        out[start : start + CHUNK] = far - 0.5 * spread / (m * (m - 1))
    return out


def _marks(out: dict[str, np.ndarray], given_t: np.ndarray, mark: np.ndarray) -> None:
    place = np.arange(len(mark))
    out["log_mark_given_t"] = np.log(np.maximum(given_t[place, mark], 1e-12))
    out["brier"] = ((given_t - np.eye(given_t.shape[1])[mark]) ** 2).sum(axis=1)
    out["probability"] = given_t


def _drawn(out: dict[str, np.ndarray], cat: Catalogue, samples: Samples, dt: np.ndarray, xy: np.ndarray) -> None:
    """Scores of samples of gap and place together."""
    scaler = cat.meta["scaler"]
    unit = np.array([scaler["dt"]["sd"], *scaler["xy"]["sd"]])
    both = np.concatenate([samples.dt[:, :, None], samples.xy], axis=2) / unit  # [n, M, 3]
    out["energy_joint"] = energy(both, np.column_stack([dt, xy]) / unit)
    out["energy_location_drawn"] = energy(samples.xy, xy)


def _regions(out: dict[str, np.ndarray], samples: np.ndarray, xy: np.ndarray) -> None:
    out["location_error"] = np.sqrt(((samples.mean(axis=1) - xy) ** 2).sum(axis=1))
    found = np.full((len(xy), len(calibration.LEVELS)), np.nan)
    chosen = np.unique(np.linspace(0, len(xy) - 1, min(len(xy), MOST_LOCATIONS)).astype(int))
    found[chosen] = calibration.inside_location(samples[chosen], xy[chosen])
    out["inside_location"] = found


def score_exact(cat: Catalogue, targets: Targets, exact: Exact, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Scores of exact distributions at the targets of one split.

    Returns
    -------
    Arrays [n] by the names of :data:`EVENT`, those of :data:`BLOCKS`, and ``log_survival`` [W]; names that the method
    can't fill are missing.
    """
    shift = cat.meta["log_density"]
    dt, xy, mark = cat.dt[targets.row], cat.xy[targets.row], cat.labels[targets.row]
    out: dict[str, np.ndarray] = {}
    if exact.log_time is not None:
        out["log_time"] = exact.log_time + shift["time"]
    if exact.log_survival is not None:
        out["log_survival"] = exact.log_survival
    if exact.cdf_time is not None:
        left = exact.cdf_time if exact.cdf_time_left is None else exact.cdf_time_left
        out["pit_time"] = left + rng.random(len(dt)) * (exact.cdf_time - left)
        out["residual_time"] = -np.log1p(-np.minimum(out["pit_time"], 1 - 1e-12))
    if exact.quantiles_time is not None:
        q = exact.quantiles_time
        out["crps_time"] = crps_quantiles(q, dt)
        out["crps_log_time"] = crps_quantiles(np.log(np.maximum(q, FLOOR)), np.log(np.maximum(dt, FLOOR)))
        out["median_time"], out["mean_time"] = np.median(q, axis=1), q.mean(axis=1)
        every = max(q.shape[1] // 100, 1)
        out["inside_time"] = calibration.inside_time(q[:, every // 2 :: every], dt)
    if exact.log_location is not None:
        out["log_location"] = exact.log_location + shift["place"]
    if exact.samples_location is not None:
        out["energy_location"] = energy(exact.samples_location, xy)
        _regions(out, exact.samples_location, xy)
    if exact.hpd_location is not None:
        out["hpd_location"] = exact.hpd_location
    if exact.mark_given_tx is not None:
        out["log_mark_given_tx"] = np.log(np.maximum(exact.mark_given_tx[np.arange(len(mark)), mark], 1e-12))
    if exact.mark_given_t is not None:
        _marks(out, exact.mark_given_t, mark)
    if exact.joint is not None:
        _drawn(out, cat, exact.joint, dt, xy)
    return out


def score_samples(
    cat: Catalogue, targets: Targets, samples: Samples, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Scores of samples at the targets of one split; log densities are not estimated from samples."""
    dt, xy, mark = cat.dt[targets.row], cat.xy[targets.row], cat.labels[targets.row]
    m = samples.dt.shape[1]
    below = (samples.dt < dt[:, None]).sum(axis=1)
    ties = (samples.dt == dt[:, None]).sum(axis=1)
    out = {
        "pit_time": (below + rng.random(len(dt)) * (ties + 1)) / (m + 1),
        "crps_time": crps_samples(samples.dt, dt),
        "crps_log_time": crps_samples(np.log(np.maximum(samples.dt, FLOOR)), np.log(np.maximum(dt, FLOOR))),
        "median_time": np.median(samples.dt, axis=1),
        "mean_time": samples.dt.mean(axis=1),
        "inside_time": calibration.inside_time(samples.dt, dt),
    }
    _drawn(out, cat, samples, dt, xy)
    out["energy_location"] = out["energy_location_drawn"]
    _regions(out, samples.xy, xy)
    if samples.mark is not None:
        found = samples.mark
        given = np.eye(cat.marks)[found].mean(axis=1) if found.ndim == 2 else found.mean(axis=1)
        _marks(out, given, mark)
    return out


@dataclass
class Scores:
    """A store read back: per-event values by name [member, event, …], survival [member, window], coordinates, attrs."""

    members: list[str]
    values: dict[str, np.ndarray]
    sequence: np.ndarray
    index: np.ndarray
    split: np.ndarray
    mark: np.ndarray
    dt: np.ndarray
    window: np.ndarray
    window_split: np.ndarray
    attrs: dict[str, Any] = field(default_factory=dict)

    def of(self, name: str, member: int, split: str = "test") -> np.ndarray:
        """One variable of a member on one split: [n, …] or, for ``log_survival``, [W]."""
        chosen = self.window_split if name == "log_survival" else self.split
        return self.values[name][member][chosen == SPLITS.index(split)]


def write(
    path: Path | str, members: list[Any], by_split: dict[str, list[dict]], cat: Catalogue, attrs: dict[str, Any]
) -> None:
    """Write a store: validation targets, then test targets, all members on the same events.

    Parameters
    ----------
    by_split: ``val`` and ``test`` -> one dict a member of :func:`score_exact` or :func:`score_samples`; a name that one
        member lacks is NaN there.
    """
    import xarray as xr

    targets = {split: cat.targets(split) for split in ("val", "test")}
    row = np.concatenate([t.row for t in targets.values()])
    windows = np.concatenate([t.windows for t in targets.values()])
    variables: dict[str, Any] = {}
    names = dict.fromkeys(name for parts in by_split.values() for part in parts for name in part)
    for name in names:
        sample = next(part[name] for parts in by_split.values() for part in parts if name in part)
        stacked = []
        for place in range(len(members)):
            parts = []
            for split, target in targets.items():
                n = len(target.windows) if name == "log_survival" else len(target.row)
                found = by_split[split][place].get(name)
                parts.append(np.full((n, *sample.shape[1:]), np.nan) if found is None else np.asarray(found, float))
            stacked.append(np.concatenate(parts))
        first = "window" if name == "log_survival" else "event"
        dims = ("member", first, *([BLOCKS[name]] if name in BLOCKS else []))
        note = EVENT.get(name, "")
        variables[name] = (dims, np.stack(stacked).astype(np.float32), {"long_name": note} if note else {})
    data = xr.Dataset(
        variables,
        coords={
            "member": ("member", np.array([str(m) for m in members], dtype=object)),
            "sequence": ("event", cat.sequence[row]),
            "index": ("event", np.concatenate([t.index for t in targets.values()])),
            "split": ("event", cat.split[cat.sequence[row]].astype(np.int64)),
            "mark": ("event", cat.labels[row]),
            "dt": ("event", cat.dt[row]),
            "window": ("window", windows),
            "window_split": ("window", cat.split[windows].astype(np.int64)),
        },
        attrs={"log_density": json.dumps(cat.meta["log_density"]), "notes": json.dumps(attrs)},
    )
    data.to_zarr(path, mode="w", zarr_format=3, consolidated=False)


def read(path: Path | str) -> Scores:
    """Read what :func:`write` wrote.

    Raises
    ------
    DataError
        No such store, or another kind of store.
    """
    try:
        with open_zarr(path) as data:
            coords = {name: data[name].values for name in ("sequence", "index", "split", "mark", "dt")}
            return Scores(
                [str(m) for m in data["member"].values],
                {str(name): data[name].values.astype(np.float64) for name in data.data_vars},
                **coords,
                window=data["window"].values,
                window_split=data["window_split"].values,
                attrs={"log_density": json.loads(data.attrs["log_density"]), **json.loads(data.attrs["notes"])},
            )
    except (KeyError, OSError, ValueError) as error:
        raise DataError(f"{path} is no store of scores ({error}); run the stage that writes it anew") from None


def metrics(scores: Scores, member: int, split: str = "test") -> dict[str, float]:
    """Means over the scored events of one member by the names of the results table; what it lacks is missing.

    ``log_likelihood_time`` holds the survival of the windows' ends, divided by the number of events of all windows.
    """
    found: dict[str, float] = {}

    def value(name: str) -> np.ndarray | None:
        if name not in scores.values:
            return None
        values = scores.of(name, member, split)
        used = values[np.isfinite(values)] if values.ndim == 1 else values
        return used if len(used) and np.isfinite(used).any() else None

    time, survival = value("log_time"), value("log_survival")
    if time is not None and survival is not None:
        found["log_likelihood_time"] = float(time.mean() + survival.sum() / len(time))
    for name, source in (
        ("log_likelihood_location", "log_location"),
        ("log_likelihood_mark", "log_mark_given_tx"),
        ("log_likelihood_mark_given_time", "log_mark_given_t"),
        ("crps_time", "crps_time"),
        ("crps_log_time", "crps_log_time"),
        ("energy_location", "energy_location"),
        ("energy_location_drawn", "energy_location_drawn"),
        ("energy_joint", "energy_joint"),
        ("brier", "brier"),
        ("location_error", "location_error"),
    ):
        values = value(source)
        if values is not None:
            found[name] = float(values.mean())
    parts = [found.get(f"log_likelihood_{part}") for part in ("time", "location", "mark")]
    if all(part is not None for part in parts):
        found["log_likelihood"] = float(sum(parts))
    if "log_likelihood_mark_given_time" in found:
        found["log_score_mark"] = -found["log_likelihood_mark_given_time"]
    for name, source in (("pit_ks", "pit_time"), ("hpd_ks", "hpd_location")):
        values = value(source)
        if values is not None:
            found[name] = calibration.kolmogorov(values)
    residual = value("residual_time")
    if residual is not None:
        found["residual_mean"] = float(residual.mean())
    for name in ("time", "location"):
        if value(f"inside_{name}") is not None:
            inside = scores.of(f"inside_{name}", member, split)
            score, counts, n = calibration.calibration_score(inside)
            if n:
                found[f"cs_{name}"] = score
                found |= {
                    f"cs2_{name}_{round(100 * a)}": float(c) for a, c in zip(calibration.LEVELS, counts, strict=True)
                }
                found[f"cs2_{name}_n"] = float(n)
    if value("probability") is not None:
        given = scores.of("probability", member, split)
        used = np.isfinite(given).all(axis=1)
        found["ece"] = calibration.ece(given[used], scores.mark[scores.split == SPLITS.index(split)][used])
    truth = scores.dt[scores.split == SPLITS.index(split)]
    for name, source in (("mae_time", "median_time"), ("mae_time_mean", "mean_time")):
        if source in scores.values:
            gap = np.abs(scores.of(source, member, split) - truth)
            if np.isfinite(gap).any():
                found[name] = float(np.nanmean(gap))
    return found
