"""Calibration of a quantile head on validation cells, by channel and length of the gap.

Conformalised quantile regression (Romano, Patterson and Candes 2019, eq. 6-8): the score of a validation cell is how
far its truth lies outside the interval, negative inside; the interval of a new cell grows by the order statistic of
the scores that covers as many exchangeable cells as promised. Validation and test cells are not exchangeable in time,
so the coverage that is reached stands in the table. Methods that give a value alone get intervals in ``intervals``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .intervals import GAPS, LEAST, LEVELS, gap_class

PAIRS = ((0, 4), (1, 3))  # lower and upper level of each interval
MEDIAN = LEVELS.index(0.5)


def growth(score: np.ndarray, share: float) -> float:
    """The ceil((n + 1) share)-th smallest score; the largest where there are too few."""
    rank = min(int(np.ceil((len(score) + 1) * share)), len(score))
    return float(np.sort(score)[rank - 1])


@dataclass(frozen=True)
class Calibration:
    """How far each interval grows, [channel, gap class, interval]; negative: it shrinks."""

    table: np.ndarray

    @classmethod
    def fit(
        cls, truth: np.ndarray, guess: np.ndarray, gap: np.ndarray, channel: np.ndarray, channels: int
    ) -> Calibration:
        """From validation cells: truth [cell], quantiles [cell, level], gap lengths and channels [cell].

        A class with fewer cells than ``intervals.LEAST`` is calibrated with all cells of its channel.
        """
        table = np.zeros((channels, len(GAPS) + 1, len(PAIRS)))
        kind = gap_class(gap)
        for place, (low, high) in enumerate(PAIRS):
            score = np.maximum(truth - guess[:, high], guess[:, low] - truth)
            for c in range(channels):
                for k in range(len(GAPS) + 1):
                    part = (channel == c) & (kind == k)
                    part = part if part.sum() >= LEAST else channel == c
                    if part.any():
                        table[c, k, place] = growth(score[part], LEVELS[high] - LEVELS[low])
        return cls(table)

    def apply(self, guess: np.ndarray, gap: np.ndarray, channel: np.ndarray) -> np.ndarray:
        """[cell, level] calibrated quantiles, in order around the median, which stays."""
        found, grown = guess.copy(), self.table[channel, gap_class(gap)]
        for place, (low, high) in enumerate(PAIRS):
            found[:, low] -= grown[:, place]
            found[:, high] += grown[:, place]
        middle = found[:, MEDIAN, None]
        found[:, :MEDIAN] = np.sort(np.minimum(found[:, :MEDIAN], middle), 1)
        found[:, MEDIAN + 1 :] = np.sort(np.maximum(found[:, MEDIAN + 1 :], middle), 1)
        return found
