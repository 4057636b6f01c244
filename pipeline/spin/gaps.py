"""Gaps: where the visible cells around each cell stand, the straight line across, kernel means.

Everything here is leave-one-out: the cell's own value is never read, be it visible or not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

REACH = 3  # visible cells before and after


def series(cells: np.ndarray) -> np.ndarray:
    """[S, T] of [T, N, C], in the order node, channel."""
    return np.ascontiguousarray(cells.reshape(len(cells), -1).T)


def dense(flat: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """[T, N, C] of [S, T]."""
    return np.ascontiguousarray(flat.T).reshape(shape)


@dataclass(frozen=True)
class Gaps:
    """Where the visible cells before and after each cell stand, cells as flat indices into [S, T].

    Attributes
    ----------
    before, after: [REACH, cell] flat indices of the k-th visible cell on that side, -1 where there is none.
    """

    before: np.ndarray
    after: np.ndarray

    @classmethod
    def find(cls, visible: np.ndarray, run: np.ndarray, cells: np.ndarray, reach: int = REACH) -> Gaps:
        """Look around ``cells`` in ``visible`` [S, T], within segments ``run`` [T]."""
        rows = visible.shape[1]
        flat = visible.ravel()
        place = np.flatnonzero(flat)
        rank = np.cumsum(flat)[cells] - flat[cells]  # visible cells before this one in the flat order
        home = cells // rows * (int(run.max()) + 1) + run[cells % rows]
        padded = np.concatenate([np.full(reach, -1), place, np.full(reach + 1, -1)])
        sides = []
        for offsets in (range(-1, -reach - 1, -1), range(reach)):
            side = np.stack([padded[rank + reach + k + (0 if k < 0 else flat[cells])] for k in offsets])
            theirs = side // rows * (int(run.max()) + 1) + run[side % rows]
            sides.append(np.where((side >= 0) & (theirs == home), side, -1))
        return cls(*sides)

    def weights(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights of the first cell before and after in the straight line across; both 0 where neither is there."""
        before, after = self.before[0], self.after[0]
        left, right = before >= 0, after >= 0
        length = np.where(left & right, after - before, 1)
        share = np.where(left & right, (cells - before) / length, np.where(right, 1.0, 0.0))
        return np.where(left, 1 - share, 0.0), share


def line(z: np.ndarray, visible: np.ndarray, run: np.ndarray, level: np.ndarray) -> np.ndarray:
    """[S, T] the straight line across each cell's gap, its own value not used.

    Parameters
    ----------
    z: [S, T]; cells outside ``visible`` [S, T] are never read.
    run: [T] segment.
    level: [S], taken where a segment shows nothing of a series.
    """
    rows = z.shape[1]
    cells = np.arange(z.size)
    gaps = Gaps.find(visible, run, cells, reach=1)
    left, right = gaps.weights(cells)
    flat = z.ravel()
    found = left * flat[gaps.before[0]] + right * flat[gaps.after[0]]
    return np.where(left + right > 0, found, level[cells // rows]).reshape(z.shape)


def kernel_means(z: np.ndarray, visible: np.ndarray, run: np.ndarray, width: float) -> np.ndarray:
    """[S, T] Gaussian means over the visible cells of the segment, the own cell left out; NaN where none is near."""
    from scipy.ndimage import correlate1d

    reach = int(np.ceil(3 * width))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    kernel[reach] = 0  # leave-one-out
    found = np.empty(z.shape, np.float32)
    shown = np.where(visible, z, 0).astype(np.float32)
    for part in runs(run):
        total = correlate1d(shown[:, part], kernel, axis=1, mode="constant")
        weight = correlate1d(visible[:, part].astype(np.float32), kernel, axis=1, mode="constant")
        with np.errstate(invalid="ignore", divide="ignore"):
            found[:, part] = np.where(weight > 1e-3, total / weight, np.nan)
    return found


def runs(run: np.ndarray) -> list[slice]:
    """The rows of each segment."""
    edges = np.flatnonzero(np.diff(run)) + 1
    return [slice(a, b) for a, b in zip([0, *edges], [*edges, len(run)], strict=True)]
