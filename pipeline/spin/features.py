"""Leave-one-out gap features: what the visible cells around a cell say of it, its own value never read.

Every feature of a cell (time, node, channel) is built from visible cells alone and never from the cell itself, so that
the features of a hidden cell and of a visible one mean the same: a model may be trained on cells that it can check.

The gap of a cell reaches from the last visible cell before it to the next one after it, in the same segment. Its base
is the straight line across. A neighbour's *gap-matched contrast* is how far the neighbour's value lies from the line
between the neighbour's own values at the ends of THIS cell's gap: what the line missed, as the neighbour saw it.

All values are in units of the channel's standard deviation (visible training cells); offsets are from the base. NaN
says that there is nothing to tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .cube import TRAIN, Cube
from .gaps import REACH, Gaps, kernel_means, line, series
from .kriging import Kriging
from .traffic import implied, lengths

WIDTHS = (1.5, 4.0, 12.0)  # of the kernel means [rows]
SHOWN = 4  # neighbours whose own surprise is a feature of its own
PARTNERS = 20  # series that a ridge regression may read
BLOCK = 512  # series whose correlations are taken at a time
STEEP = 4  # the weighted mean of contrasts weighs by correlation to this power
FAR = 1000.0  # number of rows that stands for "no visible cell"


@dataclass(frozen=True)
class FeatureSpace:
    """What the features need to know besides the values: neighbours, scales and calendar; from training cells.

    A series is one channel of one node; S = N * C, in the order node, channel.

    Attributes
    ----------
    shape: (T, N, C).
    run: [T] segment.
    mean, sd: [C] scaler.
    level, spread: [S] mean and standard deviation of the series, scaled.
    profile: [S, T] mean of the time of day (training), scaled; the level where there is none.
    neighbours: [S, K] series of other nodes, most correlated first.
    partners: [S, P] series of any node, most correlated first.
    correlation: [S, K] with them; 0 where unknown.
    daytime: [T] share of the day.
    channels: names.
    lengths: [N] median of speed x occupancy / flow, NaN where unknown; None without these channels.
    kriging: of values, and of their departures from the profile.
    """

    shape: tuple[int, int, int]
    run: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    level: np.ndarray
    spread: np.ndarray
    profile: np.ndarray
    neighbours: np.ndarray
    partners: np.ndarray
    correlation: np.ndarray
    daytime: np.ndarray
    channels: tuple[str, ...]
    lengths: np.ndarray | None = None
    kriging: tuple[Kriging, Kriging] | None = None

    @classmethod
    def fit(cls, cube: Cube, mask: int = 0, neighbours: int = 8) -> FeatureSpace:
        """Scales, profiles and neighbours from the visible training cells of a mask."""
        mean, sd = cube.scaler(mask)
        rows, nodes, channels = cube.shape
        z = series((cube.inputs(mask) - mean) / sd)  # [S, T]
        train = np.where(cube.split[None] == TRAIN, z, np.nan)
        seen = ~np.isnan(train)
        count = seen.sum(axis=1)
        level = np.where(count > 0, np.nansum(train, axis=1) / np.maximum(count, 1), 0.0)
        spread = np.sqrt(np.nansum((train - level[:, None]) ** 2, axis=1) / np.maximum(count, 1))
        profile = day_profile(train, cube.daytime, cube.step_seconds, level)
        near, correlation = correlated(train, np.repeat(np.arange(nodes), channels), neighbours)
        place = np.arange(len(z)).reshape(nodes, channels)
        own = np.stack([np.delete(place, c, axis=1) for c in range(channels)], axis=1)  # [N, C, C - 1]
        linked = np.concatenate([own.reshape(len(z), channels - 1), near], axis=1)
        return cls(
            shape=cube.shape,
            run=np.asarray(cube.segment),
            mean=mean,
            sd=sd,
            level=level,
            spread=spread,
            profile=profile,
            neighbours=near,
            partners=correlated(train, np.arange(len(z)), PARTNERS)[0],
            correlation=correlation,
            daytime=cube.daytime,
            channels=cube.channels,
            lengths=lengths(train, cube.channels, mean, sd),
            kriging=(
                Kriging.fit(train, cube.segment, linked, level),
                Kriging.fit(train - profile, cube.segment, linked, np.zeros(len(level))),
            ),
        )

    def scaled(self, value: np.ndarray) -> np.ndarray:
        """[S, T] of [T, N, C] physical values."""
        return series((value - self.mean) / self.sd)

    @cached_property
    def channel(self) -> np.ndarray:
        """[S] channel of each series."""
        return np.tile(np.arange(self.shape[2]), self.shape[1])


@dataclass(frozen=True)
class Features:
    """Features of some cells.

    Attributes
    ----------
    base: [cell] float32, the straight line across the gap, physical units.
    x: [cell, F] float32.
    names: [F].
    gap: [cell] float32, rows from the last to the next visible cell (FAR where there is none on a side).
    """

    base: np.ndarray
    x: np.ndarray
    names: tuple[str, ...]
    gap: np.ndarray


def day_profile(z: np.ndarray, daytime: np.ndarray, step_seconds: float, level: np.ndarray) -> np.ndarray:
    """[S, T] mean by time of day of [S, T] values with NaN, over half hours or the step, whichever is longer.

    A series that was never seen at a time of day has its level there.
    """
    bins = max(1, int(86400 // max(step_seconds, 1800)))
    slot = np.minimum((daytime * bins).astype(int), bins - 1)
    onto = np.zeros((len(slot), bins))
    onto[np.arange(len(slot)), slot] = 1
    seen = ~np.isnan(z)
    count = seen @ onto
    mean = (np.where(seen, z, 0) @ onto) / np.maximum(count, 1)
    return np.where(count > 0, mean, level[:, None])[:, slot]


def correlated(z: np.ndarray, node: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The series of other nodes that each series goes most with, by correlation over the cells that both show.

    Parameters
    ----------
    z: [S, T] with NaN.
    node: [S].
    most: K.

    Returns
    -------
    neighbours [S, K'] and their correlation [S, K'], K' = min(K, series of other nodes); 0 where fewer than 20 common
    cells.
    """
    seen = (~np.isnan(z)).astype(np.float32)
    count = np.maximum(seen.sum(axis=1, keepdims=True), 1)
    x = np.nan_to_num(z - np.nansum(z, axis=1, keepdims=True) / count).astype(np.float32)
    squares = x * x
    most = min(most, len(z) - int(np.bincount(np.unique(node, return_inverse=True)[1]).max()))
    near, found = np.empty((len(z), most), np.int64), np.empty((len(z), most), np.float32)
    for start in range(0, len(z), BLOCK):  # all pairs at once would not fit for many sensors
        part = slice(start, start + BLOCK)
        n = seen[part] @ seen.T
        mean_own, mean_other = x[part] @ seen.T, seen[part] @ x.T  # sums over common cells
        with np.errstate(invalid="ignore", divide="ignore"):
            covariance = x[part] @ x.T / n - mean_own * mean_other / n**2
            own = squares[part] @ seen.T / n - (mean_own / n) ** 2
            other = seen[part] @ squares.T / n - (mean_other / n) ** 2
            rho = covariance / np.sqrt(own * other)
        rho = np.where((n >= 20) & np.isfinite(rho), np.clip(rho, -1, 1), 0)
        order = np.where(node[part, None] != node[None], -np.abs(rho), np.inf)
        near[part] = np.argsort(order, axis=1, kind="stable")[:, :most]
        found[part] = np.take_along_axis(rho, near[part], axis=1)
    return near, found


def gap_features(
    space: FeatureSpace,
    value: np.ndarray,
    visible: np.ndarray,
    cells: np.ndarray | None = None,
    estimates: Mapping[str, np.ndarray] | None = None,
) -> Features:
    """Leave-one-out features of cells.

    Parameters
    ----------
    space: from :meth:`FeatureSpace.fit`.
    value: [T, N, C] physical units; cells outside ``visible`` are never read.
    visible: [T, N, C] bool.
    cells: flat indices into [T, N, C]; None: all, in that order.
    estimates: name -> [T, N, C] further estimates in physical units, made without the cells in question.

    Returns
    -------
    :class:`Features`, rows in the order of ``cells``.
    """
    rows, nodes, channels = space.shape
    shown = series(visible)
    z = np.where(shown, space.scaled(np.where(visible, value, 0.0)), 0.0).astype(np.float32)
    if cells is None:
        cells = np.arange(visible.size)
    time, home = cells // (nodes * channels), cells % (nodes * channels)
    own = home * rows + time  # flat index into [S, T]
    gaps = Gaps.find(shown, space.run, own)
    left, right = (w.astype(np.float32) for w in gaps.weights(own))
    flat = z.ravel()
    lone = left + right == 0
    level = space.level.astype(np.float32)[home]
    base = np.where(lone, level, left * flat[gaps.before[0]] + right * flat[gaps.after[0]])
    table: dict[str, np.ndarray] = {"base_from_level": base - level, "spread": space.spread[home]}
    table["base_from_profile"] = base - space.profile.ravel()[own]
    steps = {}
    for side, found, sign in (("before", gaps.before, -1), ("after", gaps.after, 1)):
        for k in range(REACH):
            there = found[k] >= 0
            table[f"{side}{k + 1}"] = np.where(there, flat[found[k]] - base, np.nan)
            steps[side, k] = np.where(there, sign * (found[k] - own), np.nan)
            table[f"{side}{k + 1}_steps"] = np.log1p(steps[side, k])
    table["place_in_gap"] = np.where(left * right > 0, right, np.nan)
    gap = np.nan_to_num(steps["before", 0], nan=FAR) + np.nan_to_num(steps["after", 0], nan=FAR)
    table["gap"] = np.log1p(np.minimum(gap, FAR))
    for width in WIDTHS:
        table[f"kernel_{width:g}"] = kernel_means(z, shown, space.run, width).ravel()[own] - base
    length = np.where(lone, np.inf, np.where(left * right > 0, gap, 2 * np.minimum(gap, gap - FAR)))
    around = Around(z, shown, own, home, gaps, left, right, space)
    table |= around.neighbours()
    if channels > 1:
        table |= around.channels()
        both = implied(z, shown, space)
        if both is not None:
            table["implied"], table["implied_near"] = (values.ravel()[own] - base for values in both)
    table |= around.kriged(length, base)
    for name, estimate in (estimates or {}).items():
        table[f"estimate_{name}"] = space.scaled(estimate).ravel()[own] - base
    angle = 2 * np.pi * space.daytime[time]
    table["day_sin"], table["day_cos"] = np.sin(angle), np.cos(angle)
    channel = space.channel[home]
    physical = base * space.sd[channel] + space.mean[channel]
    x = np.empty((len(cells), len(table)), np.float32)
    for column, values in enumerate(table.values()):
        x[:, column] = values
    return Features(physical.astype(np.float32), x, tuple(table), gap.astype(np.float32))


class Around:
    """What other series say of cells: all of it by the value that they show and the line over the cell's own gap.

    Parameters
    ----------
    z, shown: [S, T] scaled values and whether they are visible.
    own, home: [cell] flat index into [S, T], and series.
    gaps, left, right: the cells' gaps and the weights of their ends.
    """

    def __init__(self, z, shown, own, home, gaps: Gaps, left, right, space: FeatureSpace):
        self.z, self.shown, self.home, self.space = z, shown, home, space
        self.left, self.right, self.lone = left, right, left + right == 0
        rows = z.shape[1]
        self.rows, self.now = rows, own % rows
        self.ends = [np.maximum(g[0], 0) % rows for g in (gaps.before, gaps.after)]
        self.lined = line(z, shown, space.run, space.level).astype(np.float32)
        self.filled = np.where(shown, z, self.lined)

    def contrast(self, other: np.ndarray, filled: np.ndarray, level: np.ndarray) -> np.ndarray:
        """[cell] contrasts of the series ``other`` [cell] over the cells' gaps; NaN where it is not visible now."""
        start = other * self.rows
        flat = filled.ravel()
        across = self.left * flat[start + self.ends[0]] + self.right * flat[start + self.ends[1]]
        across = np.where(self.lone, level[other], across)
        return np.where(self.shown.ravel()[start + self.now], flat[start + self.now] - across, np.nan)

    def neighbours(self) -> dict[str, np.ndarray]:
        """Contrasts of the neighbouring series, their means, and how each missed its own line (surprise)."""
        space, table = self.space, {}
        surprise = np.where(self.shown, self.z - self.lined, np.nan).ravel()
        level = space.level.astype(np.float32)
        top, bottom, plain, count, odd = (np.zeros(len(self.home), np.float32) for _ in range(5))
        for k in range(space.neighbours.shape[1]):
            near, rho = space.neighbours[self.home, k], space.correlation[self.home, k]
            contrast = self.contrast(near, self.filled, level) * np.sign(rho)
            own_surprise = surprise[near * self.rows + self.now] * np.sign(rho)
            table[f"contrast_{k + 1}"] = contrast
            if k < SHOWN:
                table[f"surprise_{k + 1}"] = own_surprise
            there = ~np.isnan(contrast)
            weight = np.where(there, np.abs(rho) ** STEEP, 0)
            top += weight * np.nan_to_num(contrast)
            odd += weight * np.nan_to_num(own_surprise)
            plain += np.nan_to_num(contrast)
            bottom += weight
            count += there
        with np.errstate(invalid="ignore", divide="ignore"):
            table["contrast_mean"] = np.where(count > 0, plain / count, np.nan)
            table["contrast_weighted"] = np.where(bottom > 0, top / bottom, np.nan)
            table["surprise_weighted"] = np.where(bottom > 0, odd / bottom, np.nan)
        table["contrast_count"] = count
        return table

    def channels(self) -> dict[str, np.ndarray]:
        """The node's other channels: how far from their level, and their contrast over this cell's gap."""
        space, channels = self.space, self.space.shape[2]
        table = {"channel": (self.home % channels).astype(np.float32)}
        for step in range(1, channels):
            other = self.home - self.home % channels + (self.home + step) % channels
            place = other * self.rows + self.now
            there = self.shown.ravel()[place]
            table[f"channel_{step}"] = np.where(there, self.z.ravel()[place] - space.level[other], np.nan)
            table[f"channel_{step}_contrast"] = self.contrast(other, self.filled, space.level)
        return table

    def kriged(self, length: np.ndarray, base: np.ndarray) -> dict[str, np.ndarray]:
        """Kriged contrasts of values and of departures from the profile, as offsets from the base."""
        space = self.space
        plain, seasonal = space.kriging
        mean, deviation = plain.predict(self.home, length, self._contrasts(plain.near, self.filled, space.level))
        table = {"kriged": mean, "kriged_sd": deviation}
        zero = np.zeros(len(space.level))
        departure = np.where(self.shown, self.z - space.profile, 0)
        filled = np.where(self.shown, departure, line(departure, self.shown, space.run, zero))
        mean, _ = seasonal.predict(self.home, length, self._contrasts(seasonal.near, filled, zero))
        flat, start = filled.ravel(), self.home * self.rows
        across = self.left * flat[start + self.ends[0]] + self.right * flat[start + self.ends[1]]
        table["kriged_profile"] = space.profile.ravel()[start + self.now] + across + mean - base
        return table

    def _contrasts(self, near: np.ndarray, filled: np.ndarray, level: np.ndarray) -> np.ndarray:
        columns = [self.contrast(near[self.home, k], filled, level) for k in range(near.shape[1])]
        return np.array(columns, np.float32).reshape(near.shape[1], len(self.home))
