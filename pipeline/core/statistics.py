"""Means over seeds with intervals, and paired comparisons that respect the dependence in time."""

from __future__ import annotations

from typing import Any

import numpy as np


def summary(values: list[float]) -> dict[str, Any]:
    """Mean, standard deviation and 95 % Student interval of one value a seed (null where there is one seed)."""
    values = [float(v) for v in values]
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return {"mean": mean, "sd": None, "ci95": None, "values": values}
    from scipy.special import stdtrit  # scipy.stats would cost half a second of import

    sd = float(np.std(values, ddof=1))
    half = float(stdtrit(n - 1, 0.975)) * sd / n**0.5
    return {"mean": mean, "sd": sd, "ci95": [mean - half, mean + half], "values": values}


def _student(found: dict[str, Any]) -> float | None:
    """Student's t of a ``summary`` against zero; None where nothing varies."""
    return found["mean"] / (found["sd"] / len(found["values"]) ** 0.5) if found["sd"] else None


def paired_seeds(a: list[float], b: list[float]) -> dict[str, Any]:
    """Compare two methods by one score a seed: mean of a - b, Student's 95 % interval and two-sided p over the seeds.

    ``ratio`` is the mean of a / b - 1, for scores whose size differs from seed to seed.
    """
    from scipy.special import stdtr

    delta = np.asarray(a, float) - np.asarray(b, float)
    found = summary(delta.tolist())
    t = _student(found)
    return {
        "difference": found["mean"],
        "ratio": float(np.mean(np.asarray(a) / np.asarray(b)) - 1),
        "ci95": found["ci95"],
        "p": float(2 * stdtr(len(delta) - 1, -abs(t))) if t is not None else None,
        "test": "paired t over seeds",
        "n": len(delta),
        "by_seed": delta.tolist(),
        "t_seeds": t,
    }


def block_bootstrap(losses: np.ndarray, block: int, draws: int = 2000, seed: int = 0) -> np.ndarray:
    """Bootstrap means of a dependent series by circular moving blocks.

    Parameters
    ----------
    losses: [n], one loss (or loss difference) a time step.
    block: length of a block in steps; at least the span of the dependence (for H-step errors, several H).

    Returns
    -------
    [draws] means of resampled series (Politis and Romano 1992, circular block bootstrap).
    """
    n = len(losses)
    block = max(1, min(block, n))
    count = -(-n // block)
    ends = np.concatenate([[0.0], np.cumsum(np.concatenate([losses, losses[: block - 1]]))])
    sums = ends[block:] - ends[:-block]  # [n] sum of the block that starts at each step
    starts = np.random.default_rng(seed).integers(0, n, size=(draws, count))
    return sums[starts].sum(axis=1) / (count * block)


def paired(a: np.ndarray, b: np.ndarray, block: int, draws: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Compare two methods by their losses at the same steps.

    Parameters
    ----------
    a, b: [seeds, n] or [n] losses; with several seeds the interval is of the seeds' mean loss, and the
        differences seed by seed are reported beside it.

    Returns
    -------
    difference (mean of a - b), ci95, two-sided bootstrap p, test, n, and where there are seeds their differences
    with Student's t.
    """
    a, b = np.atleast_2d(a), np.atleast_2d(b)
    delta = a - b  # [seeds, n], a single row broadcasts
    mean = delta.mean(axis=0)
    draws_ = block_bootstrap(mean, block, draws, seed)
    low, high = np.quantile(draws_, [0.025, 0.975])
    tail = min((draws_ <= 0).mean(), (draws_ >= 0).mean())
    result = {
        "difference": float(mean.mean()),
        "ci95": [float(low), float(high)],
        "p": float(min(1.0, 2 * max(tail, 1 / draws))),
        "test": f"paired circular block bootstrap, blocks of {block} steps, {draws} draws",
        "n": int(mean.size),
    }
    if len(delta) > 1:
        result["by_seed"] = [float(v) for v in delta.mean(axis=1)]
        result["t_seeds"] = _student(summary(result["by_seed"]))
    return result
