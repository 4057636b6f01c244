"""What any method must beat: the climatology, simple corrections of it, optimal interpolation and the Kalman smoother.

Each baseline is a function of points that gives log10 Ne (and a standard deviation where it has one). None is
trained, and the lengths and priors were chosen on development worlds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import numpy as np

from . import iri
from .estimates import Estimate, Predict, estimate
from .grid import interpolate
from .interpolation import Lengths, OptimalInterpolation
from .kalman import Kalman, assimilate
from .tec import sun_fixed
from .world import Points, World

CLIMATE_BINS = {"qd": np.arange(-90, 91, 20.0), "lt": np.arange(0, 25, 3.0), "alt": np.arange(100, 541, 55.0)}
CLIMATE_SHRINK = 30.0  # observations that a bin's mean is worth less
SAMPLES = 24
UNRESOLVED = 0.07  # dex beside the smoother's own spread, chosen for coverage on development worlds


def possible(name: str, world: World) -> bool:
    """Whether a world has what a baseline needs: TEC maps, profiles to learn from, or (the smoother) either."""
    profiles = len(world.used) > 0
    needs = {
        "iri": True,
        "iri_tec": world.has_tec,
        "tec_interpolation": world.has_tec,
        "oi_iri_tec": world.has_tec and profiles,
        "kf": world.has_tec or profiles,
        "kf_filter": world.has_tec or profiles,
    }
    return needs.get(name, profiles)


class Baselines:
    """The baselines of one world; what several of them need is made once."""

    def __init__(self, world: World, lengths: Lengths | None = None, smoother: Kalman | None = None):
        self.world, self.lengths, self.smoother = world, lengths, smoother or Kalman()

    def background(self, maps: np.ndarray) -> Callable[[Points], np.ndarray]:
        """log10 Ne of parameter maps at points."""

        def at(points: Points) -> np.ndarray:
            params = interpolate(maps, self.world.axes, points.time_h, points.lat, points.lon)
            return iri.log10_density(params, points.alt_km)

        return at

    @cached_property
    def residuals(self) -> np.ndarray:
        """[n, 2] used observations minus IRI, and minus IRI times the TEC ratio."""
        used = self.world.obs.take(self.world.used)
        values = self.world.obs_log10_ne[self.world.used]
        return np.stack([values - self.background(maps)(used) for maps in self._maps], axis=1)

    @cached_property
    def _maps(self) -> tuple[np.ndarray, np.ndarray]:
        return self.world.param, self.world.tec_scaled

    @cached_property
    def _interpolation(self) -> OptimalInterpolation:
        return OptimalInterpolation(self.world, self.residuals, self.lengths)

    def estimate(self, name: str) -> Estimate:
        """A baseline by name, evaluated at everything that the world asks for."""
        if name == "tec_interpolation":
            return self._tec_alone()
        return estimate(name, self.world, 0, self.named(name))

    def _tec_alone(self) -> Estimate:
        """TEC between the given maps by interpolation in sun-fixed longitude; it says nothing about density."""
        world = self.world
        at = sun_fixed(world.tec, world.tec_time_h, world.tec_lat, world.tec_lon)
        tec = np.full(len(world.column_lat), np.nan)
        for hour in np.unique(world.column_time_h):
            here = world.column_time_h == hour
            lats, row = np.unique(world.column_lat[here], return_inverse=True)
            lons, column = np.unique(world.column_lon[here], return_inverse=True)
            tec[here] = at([hour], lats, lons)[0][row, column]
        none = np.full(len(tec), np.nan)
        nothing = [np.full(size, np.nan) for size in (len(world.dense), int(world.obs_withheld.sum()))]
        return Estimate("tec_interpolation", world.name, 0, *nothing, none, none, tec)

    def named(self, name: str) -> Predict:
        """A baseline by name: ``predict(points) -> (log10 Ne, sd or None)``."""
        return getattr(self, name)()

    def iri(self) -> Predict:
        """IRI with the trailing 81-day mean of F10.7."""
        field = self.background(self.world.param)
        return lambda points: (field(points), None)

    def iri_offset(self) -> Predict:
        """IRI plus the mean residual of the observations, a profile counting once."""
        field, offset = self.background(self.world.param), 0.0
        if len(self.residuals):
            _, place, count = np.unique(
                self.world.obs_profile[self.world.used], return_inverse=True, return_counts=True
            )
            offset = float(np.average(self.residuals[:, 0], weights=1 / count[place]))
        return lambda points: (field(points) + offset, None)

    def iri_tec(self) -> Predict:
        """IRI with NmF2 and NmE times observed over modelled TEC: no learning."""
        field = self.background(self.world.tec_scaled)
        return lambda points: (field(points), None)

    def climatology(self) -> Predict:
        """IRI plus the mean residual by magnetic latitude, local time and altitude, shrunk where data are few."""
        world = self.world
        field = self.background(world.param)
        shape = tuple(len(edges) - 1 for edges in CLIMATE_BINS.values())

        def cell(points: Points) -> np.ndarray:
            axes = (world.qd(points.lat, points.lon), points.local_time, points.alt_km)
            places = [
                np.clip(np.searchsorted(edges, value, side="right") - 1, 0, len(edges) - 2)
                for value, edges in zip(axes, CLIMATE_BINS.values(), strict=True)
            ]
            return np.ravel_multi_index(places, shape)

        size = int(np.prod(shape))
        at = cell(world.obs.take(world.used))
        total = np.bincount(at, self.residuals[:, 0], minlength=size)
        mean = total / (np.bincount(at, minlength=size) + CLIMATE_SHRINK)
        return lambda points: (field(points) + mean[cell(points)], None)

    def oi_iri(self) -> Predict:
        """Optimal interpolation of IRI's residuals."""
        return self._interpolated(0)

    def oi_iri_tec(self) -> Predict:
        """Optimal interpolation of the residuals of IRI times the TEC ratio."""
        return self._interpolated(1)

    def _interpolated(self, column: int) -> Predict:
        field, weights = self.background(self._maps[column]), self._interpolation
        return lambda points: (field(points) + weights.predict(points)[:, column], None)

    def kf(self) -> Predict:
        """Kalman smoother in parameter space."""
        analysis = assimilate(self.world, replace(self.smoother, samples=SAMPLES))
        analysis.unresolved = UNRESOLVED
        return analysis.predict

    def kf_filter(self) -> Predict:
        """The same as a filter: no observation later than half an hour after the time in question."""
        return assimilate(self.world, replace(self.smoother, smooth=False)).predict
