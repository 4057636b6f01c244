"""Intervals calibrated on validation cells, by length of the gap (split conformal prediction).

A cell in a long gap is harder, so each class of gap length has its own calibration. With n validation cells in a class
the (1 - a)(1 + 1/n) quantile of their scores is taken, which covers at least 1 - a of exchangeable new cells (Vovk et
al. 2005; Romano, Patterson and Candes 2019 for quantile heads). Validation and test cells are not exchangeable in time,
so the coverage that is reached stands in the table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .cube import Cube
from .gaps import Gaps, series

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
BORDERS = (2.5, 4.5, 12.5, 36.5, 500.0)  # rows from visible to visible cell
FEWEST = 60  # validation cells that a class needs; smaller ones join their neighbour


def gap_lengths(cube: Cube, mask: int, time: np.ndarray, node: np.ndarray, channel: np.ndarray) -> np.ndarray:
    """[n] rows from the last visible cell before to the next one after; infinity where a side has none."""
    rows, _, channels = cube.shape
    cells = (node * channels + channel) * rows + time
    gaps = Gaps.find(series(cube.visible(mask)), np.asarray(cube.segment), cells, reach=1)
    before, after = gaps.before[0], gaps.after[0]
    return np.where((before >= 0) & (after >= 0), (after - before).astype(float), np.inf)


def classes(length: np.ndarray, calibration: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Class of each cell and of each calibration cell; classes with few of the latter are joined to shorter ones."""
    borders = list(BORDERS)
    while borders:
        counts = np.bincount(np.searchsorted(borders, calibration), minlength=len(borders) + 1)
        small = np.flatnonzero(counts < FEWEST)
        if len(small) == 0:
            break
        borders.pop(max(int(small[-1]) - 1, 0))
    return np.searchsorted(borders, length), np.searchsorted(borders, calibration)


def _upper(scores: np.ndarray, share: float) -> float:
    """The ceil((n + 1) share)-th smallest score; the largest where there are too few."""
    rank = min(int(np.ceil((len(scores) + 1) * share)), len(scores))
    return float(np.sort(scores)[rank - 1])


@dataclass(frozen=True)
class Calibration:
    """Offsets [class, level] that are added to a method's quantiles (or to its value, where it has none)."""

    offset: np.ndarray

    @classmethod
    def fit(cls, truth: np.ndarray, guess: np.ndarray, kind: np.ndarray, classes: int) -> Calibration:
        """From validation cells.

        Parameters
        ----------
        truth: [n]. guess: [n, level] quantiles; equal columns where a method gives a value alone.
        kind: [n] class.
        """
        offset = np.zeros((classes, len(LEVELS)))
        for one in range(classes):
            part = kind == one if (kind == one).any() else np.ones(len(kind), bool)
            error = truth[part, None] - guess[part]  # above 0: the truth is higher
            for low, high in ((0, 4), (1, 3)):
                width = LEVELS[high] - LEVELS[low]
                if np.array_equal(guess[part, low], guess[part, high]):  # a value alone: each tail for itself
                    offset[one, high] = _upper(error[:, high], LEVELS[high])
                    offset[one, low] = -_upper(-error[:, low], 1 - LEVELS[low])
                else:
                    score = np.maximum(error[:, high], -error[:, low])
                    offset[one, high] = _upper(score, width)
                    offset[one, low] = -offset[one, high]
        return cls(offset)

    def apply(self, guess: np.ndarray, kind: np.ndarray) -> np.ndarray:
        """[n, level] calibrated quantiles, in order; the median stays."""
        moved = guess + self.offset[kind]
        middle = moved[:, 2:3]
        low, high = np.minimum(moved[:, :2], middle), np.maximum(moved[:, 3:], middle)
        return np.concatenate([np.sort(low, 1), middle, np.sort(high, 1)], 1)
