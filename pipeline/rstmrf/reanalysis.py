"""An analysis in parameter space: corrections of IRI's profile parameters at every hour, evaluated anywhere."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .iri import FIELDS, corrected, raised
from .observing import Prior, basis
from .world import Points, World

BLOCK = 20_000  # points at a time


@dataclass
class Analysis:
    """Coefficients [T, 13, K] of the corrections (physical units, quasi-dipole latitude and local time) at the hours of
    the parameter maps, on top of background maps [8, T, LAT, LON]; draws [n, T, 13, K] from their posterior.

    ``unresolved`` [dex] is the part of the error that the fields can't hold, added to the spread.
    """

    world: World
    background: np.ndarray
    prior: Prior
    increments: np.ndarray
    draws: np.ndarray
    unresolved: float = 0.0

    def increments_at(
        self, time_h: np.ndarray, lat: np.ndarray, lon: np.ndarray, draw: int | None = None
    ) -> np.ndarray:
        """Corrections [..., 13] at places, linear in time between hours."""
        shape = np.broadcast_shapes(np.shape(time_h), np.shape(lat), np.shape(lon))
        time_h, lat, lon = (np.broadcast_to(part, shape).ravel() for part in (time_h, lat, lon))
        values = self.increments if draw is None else self.draws[draw]
        functions = basis(self.world, self.prior, time_h, lat, lon)  # [N, K]
        axes = self.world.axes
        place = np.clip((time_h - axes.t0) / axes.dt, 0, len(values) - 1)
        left = np.minimum(place.astype(int), max(len(values) - 2, 0))
        share = (place - left)[:, None]
        result = np.empty((len(place), len(FIELDS)))
        for hour in np.unique(left):
            here = left == hour
            before = functions[here] @ values[hour].T
            after = functions[here] @ values[min(hour + 1, len(values) - 1)].T
            result[here] = (1 - share[here]) * before + share[here] * after
        return result.reshape(*shape, len(FIELDS))

    def _background_at(self, time_h: np.ndarray, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
        from .grid import interpolate

        return interpolate(self.background, self.world.axes, time_h, lat, lon)

    def params(self, time_h: np.ndarray, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
        """Corrected profile parameters [..., 8] (without the bumps)."""
        return raised(self._background_at(time_h, lat, lon), self.increments_at(time_h, lat, lon))

    def predict(self, points: Points) -> tuple[np.ndarray, np.ndarray | None]:
        """log10 Ne at points and its standard deviation (from the draws; None without any)."""
        mean = np.empty(len(points))
        sd = np.empty(len(points)) if len(self.draws) else None
        for start in range(0, len(points), BLOCK):
            part = slice(start, start + BLOCK)
            at = points.take(part)
            params = self._background_at(at.time_h, at.lat, at.lon)
            mean[part] = corrected(params, self.increments_at(at.time_h, at.lat, at.lon), at.alt_km)
            if sd is not None:
                square = 0.0
                for draw in range(len(self.draws)):
                    one = corrected(params, self.increments_at(at.time_h, at.lat, at.lon, draw), at.alt_km)
                    square = square + (one - mean[part]) ** 2
                sd[part] = np.sqrt(square / len(self.draws) + self.unresolved**2)
        return mean, sd

    def maps(self) -> np.ndarray:
        """Corrected parameters and corrections [21, T, LAT, LON] on the grid of the parameter maps."""
        world = self.world
        time, lat, lon = np.meshgrid(world.param_time_h, world.param_lat, world.param_lon, indexing="ij")
        increments = np.moveaxis(self.increments_at(time, lat, lon), -1, 0)
        params = self.background.copy()
        params[: len(FIELDS) - 6] += increments[: len(FIELDS) - 6]
        return np.concatenate([params, increments])

    def save(self, path: Path | str) -> None:
        """Write coefficients and background as Zarr (a folder of its own)."""
        import xarray as xr

        data = xr.Dataset(
            {
                "increments": (("time", "field", "harmonic"), self.increments.astype(np.float32)),
                "draws": (("draw", "time", "field", "harmonic"), self.draws.astype(np.float32)),
                "background": (("parameter", "time", "lat", "lon"), self.background.astype(np.float32)),
            },
            coords={"field": ("field", np.array(FIELDS, dtype=object))},
            attrs={
                "world": self.world.name,
                "degree": self.prior.degree,
                "spread": list(self.prior.spread),
                "slope": self.prior.slope,
                "memory_h": self.prior.memory_h,
                "unresolved": self.unresolved,
            },
        )
        data.to_zarr(path, mode="w", zarr_format=3, consolidated=False)


def load(path: Path | str, world: World) -> Analysis:
    """Read what :meth:`Analysis.save` wrote."""
    from ..core.store import open_zarr

    with open_zarr(path) as data:
        attrs = data.attrs
        prior = replace(
            Prior(),
            degree=int(attrs["degree"]),
            spread=tuple(attrs["spread"]),
            slope=float(attrs["slope"]),
            memory_h=float(attrs["memory_h"]),
        )
        parts = (data[name].values.astype(float) for name in ("background", "increments", "draws"))
        background, increments, draws = parts
        return Analysis(world, background, prior, increments, draws, float(attrs["unresolved"]))
