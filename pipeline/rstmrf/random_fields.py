"""Random fields on the sphere that live in time: spherical harmonics with autoregressive coefficients."""

from __future__ import annotations

import numpy as np

from .coordinates import degrees_of, harmonics


def amplitudes(degree: int, slope: float, lowest: int = 0) -> np.ndarray:
    """Standard deviation of each harmonic coefficient, falling as (1 + l/3)^-slope, so that the field's variance is
    one.

    Harmonics are 4-pi normalised: the variance is the sum of squares. Degrees below ``lowest`` are left out.
    """
    ls = degrees_of(degree)
    size = np.where(ls >= lowest, (1 + ls / 3.0) ** -slope, 0.0)
    return size / np.sqrt((size**2).sum())


def series(
    rng: np.random.Generator, steps: int, size: np.ndarray, memory_h: np.ndarray, step_h: float = 1.0
) -> np.ndarray:
    """Stationary first-order autoregressive coefficients [steps, K] with standard deviations and e-folding times
    [K]."""
    keep = np.exp(-step_h / memory_h)
    noise = rng.standard_normal((steps, len(size))) * size
    result = np.empty_like(noise)
    result[0] = noise[0]
    for step in range(1, steps):
        result[step] = keep * result[step - 1] + np.sqrt(1 - keep**2) * noise[step]
    return result


def maps(
    rng: np.random.Generator,
    lat: np.ndarray,
    lon: np.ndarray,
    hours: np.ndarray,
    *,
    degree: int = 14,
    slope: float = 1.5,
    memory_h: float = 20.0,
    sun_fixed: float = 0.7,
    lowest: int = 0,
    count: int = 1,
) -> np.ndarray:
    """Independent fields [count, T, LAT, LON] of unit variance over the sphere.

    A share ``sun_fixed`` of the variance stays at its local time while the Earth turns below it, the rest turns with
    it. Coefficients of degree l forget within memory_h / (1 + l/8) hours.
    """
    ls = degrees_of(degree)
    size, memory = amplitudes(degree, slope, lowest), memory_h / (1 + ls / 8)
    steps, step_h = len(hours), float(hours[1] - hours[0]) if len(hours) > 1 else 1.0
    total = np.zeros((count, steps, len(lat), len(lon)))
    fixed = harmonics(lat[:, None], lon[None, :], degree).reshape(-1, len(ls))  # [LAT * LON, K]
    for index in range(count):
        earth = series(rng, steps, size, memory, step_h) * np.sqrt(1 - sun_fixed)
        sun = series(rng, steps, size, memory, step_h) * np.sqrt(sun_fixed)
        both = earth + turned(sun, 15 * np.asarray(hours), degree)
        total[index] = (both @ fixed.T).reshape(steps, len(lat), len(lon))
    return total


def turned(coefficients: np.ndarray, angle_deg: np.ndarray, degree: int) -> np.ndarray:
    """Coefficients [T, K] of f(lat, lon + angle) from those of f: a rotation of each pair of order m by m times the
    angle."""
    result = coefficients.copy()
    for n in range(1, degree + 1):
        for m in range(1, n + 1):
            c, s = coefficients[:, n * n + 2 * m - 1], coefficients[:, n * n + 2 * m]
            turn = np.deg2rad(m * angle_deg)
            result[:, n * n + 2 * m - 1] = c * np.cos(turn) + s * np.sin(turn)
            result[:, n * n + 2 * m] = s * np.cos(turn) - c * np.sin(turn)
    return result
