"""From a world to a file: the `assimilate` analysis on a grid, with its spread and a flag of what reaches where.

The file holds log10 Ne and its standard deviation on (time, alt, lat, lon), and the profile parameters behind them on
(time, lat, lon), from which every other quantity follows exactly (:mod:`.analysis_field`).

Reach of the profiles: distance to the nearest level in units of 20 degrees (along the ground, or in the frame that
turns with the sun) and 12 hours, as the root of the sum of squares. Up to one the analysis counts in full, from there
its corrections fade to zero at two, beyond which IRI stands alone. A TEC map reaches four hours everywhere.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import DataError
from . import iri
from .assimilate import Assimilated
from .coordinates import local_time
from .settings import Learn
from .world import Points, World

if TYPE_CHECKING:
    import xarray as xr

REACH_DEG, REACH_H = 20.0, 12.0
FULL, NONE = 1.0, 2.0  # distances at which the analysis counts in full, and no more
ALT_KM = (100.0, 600.0, 20.0)
FLAGS = ("iri_alone", "tec_maps", "profiles", "tec_maps_and_profiles")
MAPS = (*iri.PARAMS, *iri.FIELDS[7:])  # the corrected parameters and the bumps
MAP_UNITS = (*iri.UNITS, *("1" for _ in iri.FIELDS[7:]))


def _four(time_h: np.ndarray, lat: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Places [n, 4] whose Euclidean distance is the normalised one."""
    lat, angle = np.deg2rad(lat), np.deg2rad(angle)
    size = 1 / np.deg2rad(REACH_DEG)
    return np.stack(
        [
            size * np.cos(lat) * np.cos(angle),
            size * np.cos(lat) * np.sin(angle),
            size * np.sin(lat),
            time_h / REACH_H,
        ],
        1,
    )


class Reach:
    """How far the nearest level of a profile is from a place, and whether a TEC map is near."""

    def __init__(self, world: World):
        from scipy.spatial import cKDTree

        obs = world.obs.take(world.used)
        self.world = world
        frames = (obs.lon, 15 * local_time(obs.time_h, obs.lon))
        self.trees = [cKDTree(_four(obs.time_h, obs.lat, frame)) for frame in frames] if len(obs) else []

    def distance(self, time_h: np.ndarray, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
        """[n] normalised distance to the nearest level (infinite without any)."""
        nearest = np.full(len(lat), np.inf)
        for tree, frame in zip(self.trees, (lon, 15 * local_time(time_h, lon)), strict=False):
            nearest = np.minimum(nearest, tree.query(_four(time_h, lat, frame), distance_upper_bound=NONE)[0])
        return nearest

    def weight(self, points: Points, tec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Share [n] of the corrections that count, and flag [n] (index of :data:`FLAGS`); ``tec`` [n] of a map."""
        distance = self.distance(points.time_h, points.lat, points.lon)
        share = np.clip((NONE - distance) / (NONE - FULL), 0, 1)
        flag = tec.astype(np.int8) + 2 * (share > 0).astype(np.int8)
        return np.where(tec, 1.0, share), flag


def analysed(
    world: World,
    settings: Learn | None = None,
    alt_km: Sequence[float] | None = None,
    seed: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> xr.Dataset:
    """Fit the analysis of a world and evaluate it on the grid of the background's maps.

    Parameters
    ----------
    world: profiles that are not withheld and TEC maps are used.
    settings: of the arm; default the arm `assimilate`.
    alt_km: ascending altitudes, default 100 to 600 km by 20.

    Returns
    -------
    CF data set: ``log10_ne``, ``log10_ne_sd`` [time, alt, lat, lon], ``flag``, ``hmf2_sd`` [time, lat, lon], and the
    parameters ``map``, ``iri_map`` [parameter, time, lat, lon].
    """
    import torch

    settings = settings or Learn.model_validate({"method": {"kind": "assimilate"}})
    alt = np.arange(ALT_KM[0], ALT_KM[1] + 1e-6, ALT_KM[2]) if alt_km is None else np.asarray(alt_km, float)
    if len(alt) < 2 or np.any(np.diff(alt) <= 0) or alt[0] < 80 or alt[-1] > 2000:
        raise DataError(
            f"altitudes {alt[0]:g}..{alt[-1]:g} km: at least two, ascending, between 80 and 2,000 are allowed"
        )
    found = Assimilated(world, settings, seed).fit(seed, lambda step, parts: None)
    reach, floor = Reach(world), found.how.floor
    hours, lat, lon = world.param_time_h, world.param_lat, world.param_lon
    lats, lons = (axis.ravel() for axis in np.meshgrid(lat, lon, indexing="ij"))
    observed = np.isfinite(world.observed_tec).reshape(len(hours), -1) if world.has_tec and found.how.tec else None
    cells = (len(lat), len(lon))
    mean = np.empty((len(hours), len(alt), *cells), np.float32)
    sd, flags = np.empty_like(mean), np.empty((len(hours), *cells), np.int8)
    height_sd = np.empty((len(hours), *cells), np.float32)
    maps = np.empty((len(MAPS), len(hours), *cells), np.float32)
    at = torch.as_tensor(alt, dtype=torch.float32)
    with torch.no_grad():
        for row, hour in enumerate(hours):
            points = Points(np.full(len(lats), hour), lats, lons, np.zeros(len(lats)))
            tec = observed[row] if observed is not None else np.zeros(len(lats), bool)
            share, flag = reach.weight(points, tec)
            weight = torch.as_tensor(share, dtype=torch.float32)[:, None]
            params = found.analysis.params_at(points)  # [n, 8]
            middle, draws = found.increments(points)
            middle = middle * weight  # [n, 13]
            value = iri.corrected_torch(params[:, None], middle[:, None], at)  # [n, A]
            square = torch.zeros_like(value)
            for draw in draws.unbind(2):
                square += (iri.corrected_torch(params[:, None], (middle + draw)[:, None], at) - value).square()
            spread = (square / draws.shape[2] + floor**2).sqrt()
            mean[row], sd[row] = (part.T.reshape(-1, *cells).numpy() for part in (value, spread))  # [A, lat, lon]
            flags[row] = flag.reshape(cells)
            height_sd[row] = draws[:, 1].square().mean(1).sqrt().reshape(cells).numpy()
            full = torch.cat([params[:, :7] + middle[:, :7], params[:, 7:], middle[:, 7:]], 1)  # [n, 14]
            maps[:, row] = full.T.reshape(-1, *cells).numpy()
            report(row + 1, len(hours))
    return _dataset(world, alt, mean, sd, flags, height_sd, maps)


def _dataset(world: World, alt: np.ndarray, mean, sd, flags, height_sd, maps) -> xr.Dataset:
    import xarray as xr

    dims, flat = ("time", "alt", "lat", "lon"), ("time", "lat", "lon")
    stamps = np.datetime64(world.start, "ns") + np.round(3600 * world.param_time_h).astype("timedelta64[s]")
    levels = world.obs.alt_km[world.used]
    variables = {
        "log10_ne": (
            dims,
            mean,
            {
                "long_name": "log10 of electron density in m-3",
                "units": "1",
                "ancillary_variables": "log10_ne_sd flag",
            },
        ),
        "log10_ne_sd": (dims, sd, {"long_name": "standard deviation of log10_ne", "units": "1"}),
        "flag": (
            flat,
            flags,
            {
                "long_name": "data that reach the column",
                "standard_name": "status_flag",
                "flag_values": np.arange(len(FLAGS), dtype=np.int8),
                "flag_meanings": " ".join(FLAGS),
                "comment": f"iri_alone: no TEC map within 4 h and no profile within {NONE:g} units of {REACH_DEG:g} "
                f"degrees and {REACH_H:g} h",
            },
        ),
        "hmf2_sd": (flat, height_sd, {"long_name": "standard deviation of the peak's height", "units": "km"}),
        "map": (("parameter", *flat), maps, {"long_name": "parameters of the analysed profile and altitude bumps"}),
        "iri_map": (
            ("iri_parameter", *flat),
            world.param.astype(np.float32),
            {"long_name": "parameters of the background's profile"},
        ),
    }
    coords = {
        "time": ("time", stamps.astype("datetime64[ns]"), {"standard_name": "time", "axis": "T"}),
        "alt": ("alt", alt, {"standard_name": "altitude", "units": "km", "positive": "up", "axis": "Z"}),
        "lat": ("lat", world.param_lat, {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"}),
        "lon": ("lon", world.param_lon, {"standard_name": "longitude", "units": "degrees_east", "axis": "X"}),
    }
    attrs = {
        "Conventions": "CF-1.11",
        "title": "Electron density of the ionosphere, analysed from profiles and TEC maps on an IRI background",
        "source": "R-STMRF, arm assimilate; background PyIRI with the observed 81-day mean of F10.7",
        "parameters": " ".join(MAPS),
        "parameter_units": "; ".join(MAP_UNITS),
        "profiles": len(np.unique(world.obs_profile[world.used])),
        "tec_maps": int(np.isfinite(world.tec).reshape(len(world.tec), -1).any(1).sum()) if world.has_tec else 0,
        "space_weather": world.attrs.get("space_weather", "observed"),
        "levels_km": [float(levels.min()), float(levels.max())] if len(levels) else [],
    }
    return xr.Dataset(variables, coords, attrs)


def write(data: xr.Dataset, path: Path, force: bool = False) -> None:
    """Write as Zarr (``.zarr``) or NetCDF (``.nc``), under another name first, so that nothing half written is left.

    Raises
    ------
    DataError
        Another suffix, or something is there already and ``force`` is not set.
    """
    if path.suffix not in (".zarr", ".nc"):
        raise DataError(f"{path}: the name must end in .zarr or .nc")
    if path.exists() and not force:
        raise DataError(f"{path} is there already; name another file, or allow it to be replaced (--force)")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    time = {"units": "seconds since 1970-01-01", "dtype": "int64"}
    try:
        if path.suffix == ".nc":
            packed = {name: {"zlib": True, "complevel": 4} for name in data.data_vars}
            data.to_netcdf(part, engine="netcdf4", encoding={**packed, "time": time})
        else:
            chunks = {name: {"chunks": _chunks(data[name])} for name in data.data_vars}
            data.to_zarr(part, mode="w", encoding={**chunks, "time": time}, zarr_format=3, consolidated=False)
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(part, path)
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)


def _chunks(variable: xr.DataArray) -> tuple[int, ...]:
    """Half a day of maps together."""
    return tuple(
        min(12, size) if dim == "time" else size for dim, size in zip(variable.dims, variable.shape, strict=True)
    )
