"""Calibration: PIT, coverage with binomial bands, reliability of marks, and the seed's calibration scores.

The seed's CS time (Li et al. 2024 as published in code) is kept under its own name for comparison with the paper. It is
no measure of calibration where gaps are skewed: its density estimate leaks mass below zero and its cumulative starts at
the smallest sample, so a calibrated log-normal forecast scores about 0.2 and one that is 40 % too narrow about 0.05.
Judge by PIT and CRPS. CS location is sound within its noise.
"""

from __future__ import annotations

from typing import Any

import numpy as np

LEVELS = np.linspace(0.5, 0.9, 5)  # of the seed
COVERAGE = np.linspace(0.1, 0.9, 9)
GRID = 100
BINS = 10
BLOCK = 256


def _bandwidth(count: int, dims: int) -> float:
    """Scott's factor, what ``scipy.stats.gaussian_kde`` takes by default."""
    return count ** (-1 / (dims + 4))


def inside_time(samples: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Whether the true gap lies in the seed's one-sided intervals [0, q] [n, 5].

    q is where the sum over a 100-point grid from the smallest to the largest sample of a kernel density (times the
    grid's step, not normalised) first reaches the level, or its own maximum.

    Parameters
    ----------
    samples: [n, M] gaps drawn; truth: [n].
    """
    out = np.zeros((len(truth), len(LEVELS)), bool)
    for start in range(0, len(truth), BLOCK):
        x = samples[start : start + BLOCK]
        width = np.maximum(x.std(axis=1, ddof=1) * _bandwidth(x.shape[1], 1), 1e-300)
        grid = x.min(axis=1)[:, None] + np.linspace(0, 1, GRID) * np.ptp(x, axis=1)[:, None]  # [b, G]
        z = (grid[:, :, None] - x[:, None, :]) / width[:, None, None]  # [b, G, M]
        dense = np.exp(-0.5 * z**2).mean(axis=2) / (np.sqrt(2 * np.pi) * width[:, None])
        total = np.cumsum(dense, axis=1) * (grid[:, 1] - grid[:, 0])[:, None]
        level = np.minimum(LEVELS, total[:, -1:])  # [b, 5]
        place = (total[:, None, :] < level[:, :, None]).sum(axis=2)
        reach = np.take_along_axis(grid, np.minimum(place, GRID - 1), axis=1)
        out[start : start + BLOCK] = truth[start : start + BLOCK, None] <= reach
    return out


def inside_location(samples: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Whether the true place lies in the highest-density regions [n, 5] of a kernel density on a 100 × 100 grid.

    Samples that coincide or lie on a line have no such density: those events are NaN.

    Parameters
    ----------
    samples: [n, M, 2]; truth: [n, 2].
    """
    out = np.full((len(truth), len(LEVELS)), np.nan)
    for i, (x, y) in enumerate(zip(samples, truth, strict=True)):
        covariance = np.cov(x.T) * _bandwidth(len(x), 2) ** 2
        if (
            not np.isfinite(covariance).all()
            or np.linalg.det(covariance) <= 1e-24 * max(np.trace(covariance), 1e-12) ** 2
        ):
            continue
        whiten = np.linalg.inv(np.linalg.cholesky(covariance)).astype(np.float32)
        u = (x - y).astype(np.float32) @ whiten.T  # [M, 2] around the truth
        axes = [np.linspace(x[:, a].min(), x[:, a].max(), GRID, dtype=np.float32) - np.float32(y[a]) for a in (0, 1)]
        # a lower triangular whitening: the first coordinate needs the grid's first axis only
        first = axes[0] * whiten[0, 0]
        second = axes[0][:, None] * whiten[1, 0] + axes[1] * whiten[1, 1]  # [G, G]
        near = np.exp(-0.5 * (first[:, None] - u[:, 0]) ** 2)  # [G, M]
        far = np.exp(-0.5 * (second[:, :, None] - u[:, 1]) ** 2)  # [G, G, M]
        grid = np.sort(np.einsum("abm,am->ab", far, near), axis=None).astype(np.float64)
        total = np.cumsum(grid)
        at = np.exp(-0.5 * (u.astype(np.float64) ** 2).sum(axis=1)).sum()
        place = np.searchsorted(total, (1 - LEVELS) * total[-1])
        out[i] = at >= grid[np.minimum(place, len(grid) - 1)]
    return out


def calibration_score(inside: np.ndarray) -> tuple[float, list[int], int]:
    """The seed's CS (mean distance of the coverages from their levels), cs2 (counts inside) and the number of events.

    Pooled over all events at once: the published code takes the distance batch by batch, which grows as batches shrink.
    """
    used = np.isfinite(inside.astype(float)).all(axis=1)
    count = int(used.sum())
    if not count:
        return float("nan"), [0] * len(LEVELS), 0
    hits = inside[used].astype(float).sum(axis=0)
    return float(np.abs(hits / count - LEVELS).mean()), [int(h) for h in hits], count


def ece(probability: np.ndarray, mark: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: mean distance of confidence and accuracy over equal bins of confidence (pooled)."""
    table = reliability(probability, mark, bins)
    return float(sum(abs(c - a) * n for c, a, n in zip(*table, strict=True) if n) / max(sum(table[2]), 1))


def reliability(probability: np.ndarray, mark: np.ndarray, bins: int = BINS) -> tuple[list, list, list]:
    """Mean confidence, accuracy and count by bin of confidence (highest probability), bins (0, .1], (.1, .2], …"""
    confidence, guess = probability.max(axis=1), probability.argmax(axis=1)
    right = guess == mark
    place = np.clip(np.ceil(confidence * bins - 1e-12).astype(int) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    mean = [np.bincount(place, values.astype(float), bins) / np.maximum(count, 1) for values in (confidence, right)]
    return mean[0].tolist(), mean[1].tolist(), count.tolist()


def kolmogorov(values: np.ndarray) -> float:
    """Kolmogorov-Smirnov distance of values in [0, 1] from the uniform law."""
    u = np.sort(values[np.isfinite(values)])
    n = len(u)
    if not n:
        return float("nan")
    return float(max((np.arange(1, n + 1) / n - u).max(), (u - np.arange(n) / n).max()))


def coverage(level: np.ndarray, band: float = 0.95) -> dict[str, Any]:
    """How often the truth lies in the regions of content .1 … .9, with the band that a calibrated forecast keeps to.

    Parameters
    ----------
    level: [n] content of the smallest region that still holds the truth (PIT-like, uniform if calibrated).

    Returns
    -------
    levels, share inside, and the binomial band [low, high] of independent events; events of one window are dependent,
    so the true band is wider.
    """
    from scipy.stats import binom

    used = level[np.isfinite(level)]
    n = len(used)
    tail = (1 - band) / 2
    return {
        "levels": COVERAGE.tolist(),
        "share": [float((used <= a).mean()) if n else float("nan") for a in COVERAGE],
        "low": [float(binom.ppf(tail, n, a) / max(n, 1)) for a in COVERAGE],
        "high": [float(binom.ppf(1 - tail, n, a) / max(n, 1)) for a in COVERAGE],
        "n": n,
    }


def central(pit: np.ndarray) -> np.ndarray:
    """Content of the smallest central interval that holds the truth, from its PIT: |2u - 1|."""
    return np.abs(2 * pit - 1)
