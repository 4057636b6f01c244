"""Scores of streamed forecasts: every forecast once, by horizon, in z-scored and in physical units."""

from __future__ import annotations

import numpy as np

from ..core import metrics
from .conformal import conformal_intervals

CURVE = 200  # points of a cumulative curve


def truth(labels: np.ndarray, origins: np.ndarray, horizon: int) -> np.ndarray:
    """Labels that the forecasts from ``origins`` are held against.

    Parameters
    ----------
    labels: [N, O] series of the outputs; origins: [n] rows last seen; horizon: H.

    Returns
    -------
    [n, H, O]: row o + h at (o, h).
    """
    return labels[origins[:, None] + np.arange(1, horizon + 1)]


def losses(forecast: np.ndarray, target: np.ndarray) -> np.ndarray:
    """[n] squared error of each forecast, mean over horizons and outputs: what comparisons resample."""
    return np.mean((forecast - target) ** 2, axis=(1, 2))


def scores(forecast: np.ndarray, target: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> dict[str, float]:
    """All metrics of a set of forecasts.

    Parameters
    ----------
    forecast, target: [n, H, O] z-scored; mean, sd: [O] of the training rows.

    Returns
    -------
    ``mse mae rmse mape_z`` of the z-scored values (``mape_z`` divides by values near zero: shown only to compare with
    published tables) and ``mape smape wape`` in physical units, percent.
    """
    physical, physical_target = forecast * sd + mean, target * sd + mean
    return {
        "mse": metrics.mse(forecast, target),
        "mae": metrics.mae(forecast, target),
        "rmse": metrics.rmse(forecast, target),
        "mape": metrics.mape(physical, physical_target),
        "mape_z": metrics.mape(forecast, target),
        "smape": metrics.smape(physical, physical_target),
        "wape": metrics.wape(physical, physical_target),
    }


def intervals(
    forecast: np.ndarray, labels: np.ndarray, origins: np.ndarray, test: np.ndarray, level: float = 0.9
) -> dict[str, float]:
    """Coverage and mean width of online conformal intervals on the test forecasts, averaged over outputs.

    Parameters
    ----------
    forecast: [n, H, O] from contiguous ``origins`` [n]; labels: [N, O]; test: [n] which forecasts are scored.
    """
    first, stop = int(origins[0]), int(origins[-1]) + 1
    covered, widths = [], []
    for output in range(forecast.shape[2]):
        lower, upper = conformal_intervals(forecast[:, :, output], labels[first:stop, output], level)
        target = truth(labels[:, output : output + 1], origins[test], forecast.shape[1])[:, :, 0]
        known = np.isfinite(lower[test]) & np.isfinite(upper[test])
        if not known.any():
            return {}
        covered.append(metrics.coverage(lower[test][known], upper[test][known], target[known]))
        widths.append(float(np.mean((upper - lower)[test][known])))
    return {"coverage90": float(np.mean(covered)), "width90": float(np.mean(widths))}


def vectors(forecast: np.ndarray, target: np.ndarray) -> dict[str, list[float]]:
    """MSE by horizon [H] and the running mean of the squared error at ``CURVE`` evenly spaced steps."""
    squared = (forecast - target) ** 2
    running = np.cumsum(squared.mean(axis=(1, 2))) / np.arange(1, len(squared) + 1)
    at = np.unique(np.linspace(0, len(running) - 1, CURVE).astype(int))
    return {
        "mse_by_horizon": [float(v) for v in squared.mean(axis=(0, 2))],
        "cumulative_mse": [float(v) for v in running[at]],
        "cumulative_step": [int(v) + 1 for v in at],
    }
