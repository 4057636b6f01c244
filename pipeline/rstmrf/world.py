"""A world: what was observed, what the climatology says, what drives it, and where estimates are wanted.

Real periods and simulated ones have the same form, so every method reads either. On disk a world is one group of a Zarr
store; its truth lies in another store, which the scoring stage alone opens. Times are hours since the world's start,
positions degrees (longitudes in [-180, 180)) and km, densities log10 of m-3.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError
from ..core.store import open_zarr
from .coordinates import local_time, qd_latitude
from .grid import Axes, interpolate
from .iri import PARAMS, vtec
from .weather import Drivers

TEC_RANGE_KM = (120.0, 500.0)
SAMPLED_LOCAL_TIMES = (2.0, 14.0)  # the two sectors that a sun-synchronous orbit with a 14 h node passes
SAMPLED_WITHIN_H = 2.5
RATIO_LIMITS = (0.2, 5.0)
TEC_UNIT = 0.1  # TECU, of stored maps


@dataclass
class Points:
    """Positions in space and time, arrays of one length."""

    time_h: np.ndarray
    lat: np.ndarray
    lon: np.ndarray
    alt_km: np.ndarray

    def __len__(self) -> int:
        return len(self.time_h)

    def take(self, index: np.ndarray) -> Points:
        """Those that an index array or a mask names."""
        return Points(*(getattr(self, part.name)[index] for part in fields(self)))

    @property
    def local_time(self) -> np.ndarray:
        """Solar local time [h]."""
        return local_time(self.time_h, self.lon)


def no_points() -> Points:
    return Points(*(np.empty(0) for _ in range(4)))


@dataclass
class World:
    """One world; N observations, W of them withheld, T hours of TEC maps, P hours of parameter maps.

    Attributes
    ----------
    obs, obs_log10_ne: [N] positions and values; a profile's levels differ in place and time.
    obs_profile, obs_withheld: [N] number of the profile; whether it is kept from every method.
    obs_sigma_white, obs_sigma_vertical: [N] documented error [dex]: of one level alone, and the part that is correlated
        over ``obs_vertical_km``; ``obs_sigma_profile`` is common to a whole profile.
    tec, tec_sigma: [T, LAT, LON] TECU, NaN where there is none; their axes ``tec_time_h``, ``tec_lat``, ``tec_lon``.
    param: [8, P, lat, lon] hourly background maps (:data:`pipeline.rstmrf.iri.PARAMS`), axes ``param_time_h``, ….
    drivers: hourly, with history.
    dense: where log10 Ne is scored; ``column_*``: where peak and TEC (over ``column_tec_range_km``) are.
    """

    name: str
    start: datetime
    obs: Points
    obs_log10_ne: np.ndarray
    obs_profile: np.ndarray
    obs_withheld: np.ndarray
    obs_sigma_white: np.ndarray
    obs_sigma_vertical: np.ndarray
    obs_sigma_profile: float
    obs_vertical_km: float
    tec: np.ndarray
    tec_sigma: np.ndarray
    tec_time_h: np.ndarray
    tec_lat: np.ndarray
    tec_lon: np.ndarray
    param: np.ndarray
    param_time_h: np.ndarray
    param_lat: np.ndarray
    param_lon: np.ndarray
    drivers: Drivers
    dense: Points
    column_time_h: np.ndarray
    column_lat: np.ndarray
    column_lon: np.ndarray
    column_tec_range_km: tuple[float, float] = TEC_RANGE_KM
    attrs: dict[str, Any] = field(default_factory=dict)

    @property
    def hours(self) -> float:
        """Length of the world: the time of its last parameter map."""
        return float(self.param_time_h[-1])

    @property
    def used(self) -> np.ndarray:
        """Indices of the observations that methods may use."""
        return np.flatnonzero(~self.obs_withheld)

    @property
    def axes(self) -> Axes:
        """Axes of the parameter maps."""
        return Axes.of(self.param_time_h, self.param_lat, self.param_lon)

    @property
    def tec_axes(self) -> Axes:
        """Axes of the TEC maps."""
        return Axes.of(self.tec_time_h, self.tec_lat, self.tec_lon)

    @cached_property
    def has_tec(self) -> bool:
        return bool(self.tec.size) and bool(np.isfinite(self.tec).any())

    def qd(self, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
        """Quasi-dipole latitude [deg]."""
        return qd_latitude(lat, lon, self.start)

    def background_at(self, time_h: np.ndarray, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
        """Background parameters [..., 8] at points."""
        return interpolate(self.param, self.axes, time_h, lat, lon)

    @cached_property
    def iri_tec(self) -> np.ndarray:
        """Vertical content of the background, 90 to 2,000 km, on its own grid [P, lat, lon] in TECU."""
        return vtec(np.moveaxis(self.param, 0, -1))

    @cached_property
    def observed_tec(self) -> np.ndarray:
        """TEC maps on the parameter grid [P, lat, lon]; hours without a map are interpolated between their
        neighbours in sun-fixed longitude; NaN where there is none."""
        from .tec import sun_fixed

        return sun_fixed(self.tec, self.tec_time_h, self.tec_lat, self.tec_lon)(
            self.param_time_h, self.param_lat, self.param_lon
        )

    @cached_property
    def ln_tec_ratio(self) -> np.ndarray:
        """ln of observed over background TEC on the parameter grid [P, lat, lon]; 0 where no TEC was observed."""
        if not self.has_tec:
            return np.zeros(self.param.shape[1:])
        ratio = np.clip(self.observed_tec / self.iri_tec, *RATIO_LIMITS)
        return np.nan_to_num(np.log(ratio))

    @cached_property
    def tec_scaled(self) -> np.ndarray:
        """Background maps [8, P, lat, lon] with NmF2 (and so NmF1) and NmE times the TEC ratio."""
        maps = self.param.copy()
        maps[PARAMS.index("ln_nmf2")] += self.ln_tec_ratio
        maps[PARAMS.index("ln_nme")] += self.ln_tec_ratio
        return maps

    def sampled(self, points: Points) -> np.ndarray:
        """Whether points lie within 2.5 h of the local times that the orbit passes (02 and 14 h)."""
        return sampled_local_time(points.local_time)


def sampled_local_time(hours: np.ndarray) -> np.ndarray:
    """Within :data:`SAMPLED_WITHIN_H` of one of :data:`SAMPLED_LOCAL_TIMES`."""
    away = [np.abs((hours - centre + 12) % 24 - 12) for centre in SAMPLED_LOCAL_TIMES]
    return np.minimum(*away) <= SAMPLED_WITHIN_H


@dataclass
class Truth:
    """What a simulated world really holds: log10 Ne at its dense points and (free of noise) at its withheld levels,
    and log10 NmF2, hmF2 [km] and TEC [TECU] of its columns. ``tec_maps`` are TEC maps that were withheld, where
    there are any.
    """

    dense: np.ndarray
    withheld: np.ndarray
    nmf2: np.ndarray
    hmf2: np.ndarray
    tec: np.ndarray
    tec_maps: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 0), np.float32))
    tec_maps_time_h: np.ndarray = field(default_factory=lambda: np.empty(0))


_OBS = {  # variable -> unit, long name
    "obs_log10_ne": ("1", "log10 of electron density in m-3"),
    "obs_profile": ("1", "number of the profile"),
    "obs_withheld": ("1", "profile is kept from every method"),
    "obs_sigma_white": ("1", "standard deviation of the error of one level alone, log10"),
    "obs_sigma_vertical": ("1", "standard deviation of the vertically correlated error, log10"),
}
_POINT = {"time_h": ("h", "hours since start"), "lat": ("degrees_north", "latitude")}
_POINT |= {"lon": ("degrees_east", "longitude"), "alt_km": ("km", "altitude")}
_DRIVERS = {"kp": "1", "ap": "2 nT", "f107": "1e-22 W m-2 Hz-1", "f107_81": "1e-22 W m-2 Hz-1", "observed": "1"}
_AXES = {
    "tec_time_h": "h",
    "tec_lat": "degrees_north",
    "tec_lon": "degrees_east",
    "param_time_h": "h",
    "param_lat": "degrees_north",
    "param_lon": "degrees_east",
    "column_time_h": "h",
    "column_lat": "degrees_north",
    "column_lon": "degrees_east",
}


def save(path: Path | str, world: World) -> None:
    """Write a world as the group ``world.name`` of a Zarr store (made if absent)."""
    import xarray as xr

    variables: dict[str, Any] = {}
    for name, (unit, title) in _OBS.items():
        variables[name] = ("obs", getattr(world, name), {"units": unit, "long_name": title})
    for group, dim in (("obs", "obs"), ("dense", "dense")):
        for name, (unit, title) in _POINT.items():
            values = getattr(getattr(world, group), name)
            variables[f"{group}_{name}"] = (dim, values, {"units": unit, "long_name": title})
    for name, unit in _AXES.items():
        dim = "column" if name.startswith("column") else name
        variables[name] = (dim, getattr(world, name), {"units": unit})
    tec_dims, param_dims = ("tec_time_h", "tec_lat", "tec_lon"), ("param_time_h", "param_lat", "param_lon")
    tecu = {"units": "1e16 m-2", "long_name": "vertical total electron content"}
    variables["tec"] = (tec_dims, world.tec.astype(np.float32), tecu)
    variables["tec_sigma"] = (tec_dims, world.tec_sigma.astype(np.float32), {**tecu, "long_name": "error of tec"})
    variables["param"] = (("parameter", *param_dims), world.param.astype(np.float32), {"long_name": "IRI parameters"})
    variables["driver_time_h"] = ("driver", world.drivers.time, {"units": "h"})
    for name, unit in _DRIVERS.items():
        variables[f"driver_{name}"] = ("driver", getattr(world.drivers, name), {"units": unit})
    attrs = {
        "Conventions": "CF-1.11",
        "name": world.name,
        "start": world.start.isoformat(),
        "obs_sigma_profile": world.obs_sigma_profile,
        "obs_vertical_km": world.obs_vertical_km,
        "column_tec_range_km": list(world.column_tec_range_km),
        "parameters": list(PARAMS),
        "facts": json.dumps(world.attrs, sort_keys=True),
    }
    data = xr.Dataset(variables, attrs=attrs)
    maps = {"dtype": "int16", "scale_factor": TEC_UNIT, "_FillValue": -32768}  # as IONEX: tenths of a TECU
    maps["chunks"] = (min(24, len(world.tec_time_h)) or 1, *world.tec.shape[1:])
    encoding = {"tec": maps, "tec_sigma": maps} if world.tec.size else {}
    data.to_zarr(path, mode="a", group=world.name, encoding=encoding, zarr_format=3, consolidated=False)


def names(path: Path | str) -> list[str]:
    """Names of the worlds in a store, sorted."""
    found = sorted(part.parent.name for part in Path(path).glob("*/zarr.json"))
    if not found:
        raise DataError(f"{path} holds no world; run the stage `prepare`")
    return found


def load(path: Path | str, name: str) -> World:
    """Read one world of a store.

    Raises
    ------
    DataError
        No such world there.
    """
    if not (Path(path) / name / "zarr.json").is_file():
        raise DataError(f"{path} holds no world {name!r}; it has {', '.join(names(path))}")
    with open_zarr(path, group=name) as data:
        values = {str(key): data[key].values for key in data.variables}
        attrs = dict(data.attrs)
    points = {
        group: Points(*(values[f"{group}_{part}"].astype(float) for part in _POINT)) for group in ("obs", "dense")
    }
    drivers = Drivers(values["driver_time_h"], *(values[f"driver_{key}"] for key in _DRIVERS))
    return World(
        name=attrs["name"],
        start=datetime.fromisoformat(attrs["start"]),
        obs=points["obs"],
        dense=points["dense"],
        **{key: values[key] for key in (*_OBS, *_AXES)},
        obs_sigma_profile=float(attrs["obs_sigma_profile"]),
        obs_vertical_km=float(attrs["obs_vertical_km"]),
        tec=values["tec"],
        tec_sigma=values["tec_sigma"],
        param=values["param"].astype(float),
        drivers=drivers,
        column_tec_range_km=tuple(attrs["column_tec_range_km"]),
        attrs=json.loads(attrs["facts"]),
    )


def save_truth(path: Path | str, name: str, truth: Truth) -> None:
    """Write the truth of a world as a group of a Zarr store."""
    import xarray as xr

    variables: dict[str, Any] = {"dense": ("dense", truth.dense, {"units": "1"})}
    variables["withheld"] = ("withheld", truth.withheld, {"units": "1"})
    for key, unit in (("nmf2", "1"), ("hmf2", "km"), ("tec", "1e16 m-2")):
        variables[key] = ("column", getattr(truth, key), {"units": unit})
    variables["tec_maps"] = (("map_time", "map_lat", "map_lon"), truth.tec_maps, {"units": "1e16 m-2"})
    variables["tec_maps_time_h"] = ("map_time", truth.tec_maps_time_h, {"units": "h"})
    xr.Dataset(variables).to_zarr(path, mode="a", group=name, zarr_format=3, consolidated=False)


def load_truth(path: Path | str, name: str) -> Truth:
    """Read the truth of a world; a ``DataError`` where there is none."""
    if not (Path(path) / name / "zarr.json").is_file():
        raise DataError(f"{path} holds no truth of {name!r}; it has {', '.join(names(path))}")
    with open_zarr(path, group=name) as data:
        return Truth(**{part.name: data[part.name].values for part in fields(Truth)})
