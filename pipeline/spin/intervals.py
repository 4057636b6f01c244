"""Intervals from validation errors: the quantiles of what a method missed, by channel and length of the gap.

Split conformal prediction (Vovk et al. 2005, Algorithmic Learning in a Random World) with groups: the errors on hidden
validation cells, which the method has not been fitted to, say how far it is off on cells of the same channel and with
a gap of like length. Methods without intervals of their own get theirs here, all in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .cube import VAL, Cube, Layout
from .gaps import Gaps, series

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
GAPS = (2, 3, 5, 9, 17, 33)  # upper ends of gap classes, rows from visible to visible cell; longer: one class more
LEAST = 200  # errors below which classes are joined with all of the channel


def gap_class(gap: np.ndarray) -> np.ndarray:
    """[cell] class of each gap length (rows from the last visible cell to the next)."""
    return np.searchsorted(GAPS, gap, side="left")


def gap_names() -> list[str]:
    """What each class is called, in rows that are not visible."""
    ends = [end - 1 for end in GAPS]
    starts = [1, *(end + 1 for end in ends)]
    middle = [f"{a}-{b}" if b > a else f"{a}" for a, b in zip(starts, ends, strict=False)]
    return [*middle, f"{starts[-1]}+"]


@dataclass(frozen=True)
class Intervals:
    """Quantiles of errors [channel, gap class, level]."""

    table: np.ndarray
    levels: tuple[float, ...] = LEVELS

    @classmethod
    def fit(
        cls, error: np.ndarray, gap: np.ndarray, channel: np.ndarray, channels: int, levels: tuple[float, ...] = LEVELS
    ) -> Intervals:
        """From errors (truth - imputed) of validation cells [cell], their gap lengths and channels.

        A quantile above one half is the order statistic that makes the interval at least as wide as exchangeability
        asks for, ceil(level (n + 1)); below one half likewise from the other side.
        """
        classes, kinds = gap_class(gap), len(GAPS) + 1
        table = np.zeros((channels, kinds, len(levels)))
        for c in range(channels):
            whole = np.sort(error[channel == c])
            for k in range(kinds):
                part = np.sort(error[(channel == c) & (classes == k)])
                part = part if len(part) >= LEAST else whole
                if len(part):
                    table[c, k] = [part[_rank(level, len(part))] for level in levels]
        return cls(table, levels)

    def around(self, value: np.ndarray, gap: np.ndarray, channel: np.ndarray) -> np.ndarray:
        """[cell, level] quantiles around imputed values [cell]."""
        return value[:, None] + self.table[channel, gap_class(gap)]


def target_gaps(cube: Cube, layout: Layout) -> np.ndarray:
    """[target] rows from the last to the next visible cell around each target; 10,000 where a side has none."""
    found = np.empty(layout.size)
    rows, _, channels = cube.shape
    for mask in np.unique(layout.mask):
        here = np.flatnonzero(layout.mask == mask)
        own = (layout.node[here] * channels + layout.channel[here]) * rows + layout.time[here]
        gaps = Gaps.find(series(cube.visible(mask)), cube.segment, own, reach=1)
        before, after = gaps.before[0], gaps.after[0]
        found[here] = np.where((before >= 0) & (after >= 0), after - before, 10_000)
    return found


def with_intervals(cube: Cube, layout: Layout, value: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """[member, target, level] quantiles by gap length, calibrated on the validation cells of the named mask."""
    validation = layout.slice(0, VAL)
    found = np.empty((*value.shape, len(LEVELS)))
    for member, imputed in enumerate(value):
        error = (layout.truth - imputed)[validation]
        fitted = Intervals.fit(error, gap[validation], layout.channel[validation], cube.shape[2])
        found[member] = fitted.around(imputed, gap, layout.channel)
    return found


def _rank(level: float, n: int) -> int:
    """Place of the order statistic in a sorted sample of n."""
    if level > 0.5:
        return min(n - 1, int(np.ceil(level * (n + 1))) - 1)
    if level < 0.5:
        return max(0, int(np.floor(level * (n + 1))) - 1)
    return (n - 1) // 2
