"""Means of what other sensors show: what a network must beat where a sensor has no values of its own."""

from __future__ import annotations

import numpy as np


def inverse_squares(distance: np.ndarray) -> np.ndarray:
    """Weights 1 / distance², of the shape of ``distance``; below a thousandth of the median all count alike."""
    return 1 / np.maximum(distance, 1e-9 + 1e-3 * np.median(distance)) ** 2


def weighted_mean(value: np.ndarray, shown: np.ndarray, weight: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """[T, K, C] means over nodes of the values [T, N, C] that are shown, by weights [N, K]; ``rest`` where none is."""
    parts = np.where(shown, value, 0.0), np.asarray(shown, np.float64)
    total, near = (np.einsum("tnc,nk->tkc", part, weight, optimize=True) for part in parts)
    return np.where(near > 0, total / np.where(near > 0, near, 1), rest)
