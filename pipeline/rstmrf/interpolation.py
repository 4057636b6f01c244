"""Optimal interpolation of a background's errors, point by point, with all observations.

Residuals of log10 Ne are taken as a Gaussian field that is smooth in quasi-dipole latitude, local time, altitude and
time (sun-fixed, anisotropic), observed with errors that are common to a profile, correlated along it, and white
(Gandin 1963; in today's words a Gaussian process). A world's 20,000 observations are solved in overlapping windows
of time: each covers the part of it that the correlation reaches, so its middle is that of the full solution (tested).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .coordinates import local_time
from .observing import Errors, covariance
from .world import Points, World

BLOCK = 4000


@dataclass(frozen=True)
class Lengths:
    """Correlation lengths and size of the residuals; chosen on development worlds.

    Correlation falls as exp(-d^2 / 2) of the scaled distance. The standard deviation goes linearly with altitude
    from ``low`` at 120 km to ``high`` at 500 km [dex].
    """

    qd_deg: float = 27.0
    lt_deg: float = 30.0
    alt_km: float = 45.0
    time_h: float = 4.0
    low: float = 0.30
    high: float = 0.12
    core_h: float = 8.0  # a window's middle, for which it is used
    reach: float = 2.0  # margin on either side, in time lengths


class OptimalInterpolation:
    """Residuals [n, B] of several backgrounds, interpolated at once: the weights are common to them."""

    def __init__(
        self, world: World, residuals: np.ndarray, lengths: Lengths | None = None, errors: Errors | None = None
    ):
        self.world, self.lengths = world, lengths or Lengths()
        self.errors = errors or Errors()
        self.residuals = residuals.reshape(len(residuals), -1)
        used = world.used
        self.points = world.obs.take(used)
        self.profile = world.obs_profile[used]
        self.vertical = world.obs_sigma_vertical[used]
        end = max(world.hours, float(self.points.time_h.max(initial=0.0)))
        count = max(1, round(end / self.lengths.core_h))
        self.edges = np.linspace(0, end, count + 1)
        self._weights: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def embed(self, points: Points) -> tuple[np.ndarray, np.ndarray]:
        """Scaled coordinates [N, 5], in which correlation is Gaussian, and standard deviations [N]."""
        one = self.lengths
        qd = self.world.qd(points.lat, points.lon)
        angle = np.deg2rad(15 * local_time(points.time_h, points.lon))
        ring = np.rad2deg(np.cos(np.deg2rad(qd))) / one.lt_deg
        parts = [qd / one.qd_deg, ring * np.cos(angle), ring * np.sin(angle)]
        parts += [points.alt_km / one.alt_km, points.time_h / one.time_h]
        share = np.clip((points.alt_km - 120) / 380, 0, 1)
        return np.stack(parts, axis=1), one.low + (one.high - one.low) * share

    def _solved(self, window: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Embedded observations of a window, and their standard deviations and weights [n, B]; solved once."""
        if window not in self._weights:
            from scipy.linalg import cho_factor, cho_solve

            margin = self.lengths.reach * self.lengths.time_h
            low, high = self.edges[window] - margin, self.edges[window + 1] + margin
            near = (self.points.time_h >= low) & (self.points.time_h <= high)
            near = np.isin(self.profile, self.profile[near])  # whole profiles
            at, size = self.embed(self.points.take(near))
            matrix = correlation(at, at) * (size[:, None] * size).astype(np.float32)
            _add_errors(
                matrix,
                self.points.alt_km[near],
                self.profile[near],
                self.vertical[near],
                self.world.obs_vertical_km,
                self.errors,
            )
            factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
            weights = cho_solve(factor, self.residuals[near].astype(np.float32), check_finite=False)
            self._weights[window] = (at, size, weights)
        return self._weights[window]

    def predict(self, points: Points) -> np.ndarray:
        """Residuals [N, B] at points; zero where there are no observations at all."""
        result = np.zeros((len(points), self.residuals.shape[1]))
        if not len(self.points):
            return result
        window = np.clip(np.searchsorted(self.edges, points.time_h, side="right") - 1, 0, len(self.edges) - 2)
        for index in np.unique(window):
            here = np.flatnonzero(window == index)
            at, size, weights = self._solved(int(index))
            to, to_size = self.embed(points.take(here))
            load = weights * size[:, None].astype(np.float32)
            for start in range(0, len(here), BLOCK):
                part = slice(start, start + BLOCK)
                result[here[part]] = (correlation(to[part], at) @ load) * to_size[part, None]
        return result


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """exp(-|a - b|^2 / 2) [N, M] in single precision."""
    a, b = a.astype(np.float32), b.astype(np.float32)
    exponent = a @ b.T
    exponent -= 0.5 * (a * a).sum(1)[:, None]
    exponent -= 0.5 * (b * b).sum(1)
    return np.exp(np.minimum(exponent, 0, out=exponent), out=exponent)


def _add_errors(matrix, alt, profile, vertical, length_km, errors) -> None:
    """Add the error covariance, profile by profile, in place; a profile's levels are neighbours in the arrays."""
    edges = np.flatnonzero(np.diff(np.concatenate([[-1], profile, [-1]])))
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        part = slice(start, stop)
        matrix[part, part] += covariance(alt[part], profile[part], vertical[part], length_km, errors)
