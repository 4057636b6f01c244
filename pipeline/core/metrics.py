"""Deterministic scores of forecasts, plain functions over numpy arrays of equal shape."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def mse(forecast: Array, truth: Array) -> float:
    """Mean squared error over all entries, in squared units."""
    return float(np.mean((forecast - truth) ** 2))


def mae(forecast: Array, truth: Array) -> float:
    """Mean absolute error over all entries."""
    return float(np.mean(np.abs(forecast - truth)))


def rmse(forecast: Array, truth: Array) -> float:
    """Root of the pooled mean squared error (not the mean of the roots of each step)."""
    return float(np.sqrt(mse(forecast, truth)))


def mape(forecast: Array, truth: Array) -> float:
    """Mean absolute percentage error, percent; entries with a true value of zero are left out."""
    used = truth != 0
    return float(100 * np.mean(np.abs((forecast[used] - truth[used]) / truth[used])))


def smape(forecast: Array, truth: Array) -> float:
    """Symmetric MAPE, percent, 200 |e| / (|f| + |y|); entries where both are zero count as zero."""
    size = np.abs(forecast) + np.abs(truth)
    return float(200 * np.mean(np.divide(np.abs(forecast - truth), size, out=np.zeros_like(size), where=size > 0)))


def wape(forecast: Array, truth: Array) -> float:
    """Weighted absolute percentage error, percent: sum |e| / sum |y|."""
    return float(100 * np.abs(forecast - truth).sum() / np.abs(truth).sum())


def coverage(lower: Array, upper: Array, truth: Array) -> float:
    """Share of entries with lower <= truth <= upper."""
    return float(np.mean((lower <= truth) & (truth <= upper)))
