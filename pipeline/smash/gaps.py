"""From an integrated rate to what is scored of a gap: density or mass of its cell, CDF, quantiles, survival."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .events import Catalogue, Targets
from .ties import Ties

GRID = 200


def law(
    cat: Catalogue,
    targets: Targets,
    log_rate: np.ndarray,
    integral: Callable[[np.ndarray], np.ndarray],
    tail: np.ndarray,
    longest: float,
    quantiles: int | None = 200,
) -> dict[str, Any]:
    """Arguments of :class:`pipeline.smash.scores.Exact` for the time of targets.

    Parameters
    ----------
    log_rate: [n] log rate at each target. integral: gaps [n, G] -> expected events from the event before it on.
    tail: [W] expected events from the last event to the window's end.
    longest: a gap by which nearly every law has ended; quantiles: Q, or None for no quantiles.
    """
    dt, step = cat.dt[targets.row], cat.meta["lattice"]["time"]
    if step:
        gap = np.rint(dt / step) * step
        low, high = (integral(g[:, None])[:, 0] for g in (gap, gap + step))
        with np.errstate(divide="ignore"):
            log_time = -low + np.log(-np.expm1(-np.maximum(high - low, 1e-12))) - np.log(step)
        found = {"log_time": log_time, "cdf_time": -np.expm1(-high), "cdf_time_left": -np.expm1(-low)}
        found["log_survival"] = -tail
        hurdle = Ties(None)
    else:
        gone = integral(dt[:, None])[:, 0]
        hurdle = Ties.fit(cat)
        log_time, cdf, left = hurdle.mixed(cat, targets, log_rate - gone, -np.expm1(-gone))
        found = {"log_time": log_time, "cdf_time": cdf, "cdf_time_left": left}
        found["log_survival"] = hurdle.survival(cat, targets, -tail)
    if quantiles:
        level = (np.arange(quantiles) + 0.5) / quantiles
        grid = np.concatenate([[0.0], np.geomspace(1e-6 * longest, longest, GRID - 1)])
        out = np.empty((len(dt), quantiles))

        def inverse(u: np.ndarray) -> np.ndarray:
            table = integral(np.broadcast_to(grid, (len(dt), GRID)))
            want = -np.log1p(-u)
            want = np.broadcast_to(want, (len(dt), want.shape[-1]))
            for i, row in enumerate(table):
                out[i] = np.interp(want[i], row, grid)
            return out

        drawn = hurdle.quantiles(cat, targets, level, inverse)
        found["quantiles_time"] = np.floor(drawn / step + 1e-9) * step if step else drawn
    return found
