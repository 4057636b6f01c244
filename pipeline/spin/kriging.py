"""Kriging of contrasts: the best linear guess of what a straight line misses, from what neighbours' lines missed.

The contrast of a series over a gap is its value minus the line between its values at the gap's ends. Contrasts of
neighbouring series over the same gap are jointly close to normal with mean zero; their covariance is estimated from
visible training cells, for each class of gap length, and the contrast of a hidden cell is the conditional mean given
those of the neighbours that are visible (simple kriging; Cressie 1993, Statistics for Spatial Data, section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LENGTHS = (2, 3, 5, 8, 13, 24, 48)  # rows from end to end; one covariance each, and one for "no line"
CLIP = 3.0  # standard deviations
PRIOR = 20.0  # pairs of no correlation that every covariance starts from
NUGGET = 0.3  # added to variances, as a share
BLOCK = 256  # series at a time


def contrasts(z: np.ndarray, run: np.ndarray, before: int, after: int) -> np.ndarray:
    """[S, T] value minus the line between the values so many rows before and after; NaN where one is missing."""
    rows = z.shape[1]
    found = np.full(z.shape, np.nan, np.float32)
    middle = np.arange(before, rows - after)
    middle = middle[run[middle - before] == run[middle + after]]
    share = before / (before + after)
    found[:, middle] = z[:, middle] - ((1 - share) * z[:, middle - before] + share * z[:, middle + after])
    return found


@dataclass(frozen=True)
class Kriging:
    """Covariances of contrasts between each series and its neighbours.

    Attributes
    ----------
    near: [S, K] neighbours.
    within: [classes, S, K, K] covariance between neighbours.
    across: [classes, S, K] covariance between a series and its neighbours.
    own: [classes, S] variance of the series' own contrast.
    """

    near: np.ndarray
    within: np.ndarray
    across: np.ndarray
    own: np.ndarray

    @classmethod
    def fit(cls, z: np.ndarray, run: np.ndarray, near: np.ndarray, level: np.ndarray) -> Kriging:
        """Covariances from values [S, T] with NaN where not visible or not training."""
        parts = [contrasts(z, run, length // 2, length - length // 2) for length in LENGTHS]
        parts.append((z - level[:, None]).astype(np.float32))
        found = [_covariances(part, near) for part in parts]
        return cls(near, *(np.stack([f[i] for f in found]) for i in range(3)))

    @staticmethod
    def kind(length: np.ndarray) -> np.ndarray:
        """[cell] class of each gap: the nearest of LENGTHS on a logarithmic scale, the last class without a line."""
        middles = np.sqrt(np.array(LENGTHS[:-1]) * np.array(LENGTHS[1:]))
        return np.where(np.isfinite(length), np.searchsorted(middles, length), len(LENGTHS))

    def predict(self, home: np.ndarray, length: np.ndarray, contrast: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Conditional mean and standard deviation of the contrasts of cells.

        Parameters
        ----------
        home: [cell] series.
        length: [cell] rows from end to end of the gap; infinity where there is no line.
        contrast: [K, cell] of the neighbours over the same gap, NaN where not visible.

        Returns
        -------
        mean [cell] (0 where no neighbour is visible) and standard deviation [cell].
        """
        kind = self.kind(length)
        mean, deviation = np.zeros(len(home), np.float32), np.empty(len(home), np.float32)
        size = self.near.shape[1]
        diagonal = np.arange(size)
        for start in range(0, len(home), 16384):
            part = slice(start, start + 16384)
            k, s, c = kind[part], home[part], contrast[:, part].T  # c: [b, K]
            there = ~np.isnan(c)
            both = there[:, :, None] & there[:, None]  # [b, K, K]
            matrix = np.where(both, self.within[k, s], 0)
            matrix[:, diagonal, diagonal] = np.where(there, matrix[:, diagonal, diagonal], 1)
            right = np.where(there, self.across[k, s], 0)  # [b, K]
            weights = np.linalg.solve(matrix, right[:, :, None])[:, :, 0]
            mean[part] = (weights * np.where(there, c, 0)).sum(axis=1)
            deviation[part] = np.sqrt(np.maximum(self.own[k, s] - (weights * right).sum(axis=1), 1e-6))
        return mean, deviation


def _covariances(contrast: np.ndarray, near: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Within, across and own covariance of one class, made positive semi-definite series by series."""
    seen = (~np.isnan(contrast)).astype(np.float32)
    count = np.maximum(seen.sum(axis=1), 1)
    spread = np.sqrt(np.nansum(contrast**2, axis=1) / count)
    spread = np.where(spread > 0, spread, 1).astype(np.float32)
    # jams make heavy tails: a few contrasts of many standard deviations would rule every covariance
    known = np.nan_to_num(np.clip(contrast / spread[:, None], -CLIP, CLIP))
    everyone = np.concatenate([np.arange(len(near))[:, None], near], axis=1)  # [S, 1 + K] the series first
    series, size = everyone.shape
    rho = np.empty((series, size, size), np.float32)
    for start in range(0, series, BLOCK):
        x, m = known[everyone[start : start + BLOCK]], seen[everyone[start : start + BLOCK]]  # [b, 1 + K, T]
        moments = (x @ x.transpose(0, 2, 1)) / (m @ m.transpose(0, 2, 1) + PRIOR)
        scale = np.sqrt(np.maximum(np.einsum("bkk->bk", moments), 1e-6))
        rho[start : start + BLOCK] = moments / (scale[:, :, None] * scale[:, None])
    values, vectors = np.linalg.eigh(rho)
    rho = (vectors * np.maximum(values, 0)[:, None]) @ vectors.transpose(0, 2, 1)
    diagonal = np.arange(size)
    rho[:, diagonal, diagonal] = 1 + NUGGET
    scale = spread[everyone]
    covariance = rho * scale[:, :, None] * scale[:, None]
    return covariance[:, 1:, 1:], covariance[:, 1:, 0], spread**2
