"""TEC files of any kind -> one CF Zarr store ``time lat lon``, thinned or not, in pieces that fit in memory.

Whatever the number and the size of the files, a piece of :data:`HOURS_A_PIECE` maps (and the IONEX files that it comes
from) is in memory at once: NetCDF and Zarr are read in pieces, IONEX files one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..core.errors import DataError, PipelineError, first_line
from ..core.stages import Job, Result
from .coarsen import conservative, nodes, strided
from .ionex import TecMaps, outline, read

if TYPE_CHECKING:
    import xarray as xr

HOURS_A_PIECE = 48  # maps that are in memory at once: 48 of 1 degree are 13 MB
NETCDF = (".nc", ".nc4", ".netcdf", ".h5")
UNITS = {  # factor to TECU
    "tecu": 1.0,
    "1e16 m-2": 1.0,
    "1e16m-2": 1.0,
    "10^16 m-2": 1.0,
    "1e16 el/m2": 1.0,
    "1e16 electrons/m2": 1.0,
    "m-2": 1e-16,
    "1/m2": 1e-16,
    "m^-2": 1e-16,
}
NAMES = {
    "time": ("time", "epoch", "valid_time"),
    "lat": ("lat", "latitude"),
    "lon": ("lon", "longitude"),
    "tec": ("tec", "vtec", "tec_map", "tecmap"),
}


def opened(path: Path | str) -> xr.Dataset:
    """A NetCDF file or Zarr store with a regular grid as a lazy data set in pieces of time: ``tec`` and ``rms`` [time,
    lat, lon] in TECU, latitudes ascending, longitudes from -180 once round.

    Raises
    ------
    DataError
        No variable or coordinate that can be taken for TEC, time, latitude or longitude; unknown units; an uneven grid.
    """
    import xarray as xr

    try:
        if str(path).endswith(NETCDF):
            data = xr.open_dataset(path, cache=False)  # pieces are cut below: a file may be one piece itself
        else:
            data = xr.open_zarr(path, chunks=None, consolidated=False)
        return _maps(data, path)
    except PipelineError:
        raise
    except Exception as error:  # xarray and the libraries below it raise errors of many kinds
        raise DataError(f"{path} can't be opened as NetCDF or Zarr ({first_line(error)})") from None


def _maps(data: xr.Dataset, path: Path | str) -> xr.Dataset:
    """The maps of an opened file, in order; see :func:`opened`."""
    import xarray as xr

    found = {}
    for wanted, allowed in NAMES.items():
        matches = [str(name) for name in data.variables if str(name).lower() in allowed]
        if len(matches) != 1:
            raise DataError(
                f"{path}: exactly one variable of the names {', '.join(allowed)} is needed for {wanted}, it has "
                f"{', '.join(map(str, data.variables))}"
            )
        found[matches[0]] = wanted
    data = data.rename({old: new for old, new in found.items() if old != new})
    unit = str(data["tec"].attrs.get("units", "")).strip().lower()
    if unit not in UNITS:
        raise DataError(f"{path}: TEC in units {unit!r}; allowed are {', '.join(UNITS)}")
    if data["time"].dtype.kind != "M" or np.isnat(data["time"].values).any():
        raise DataError(f"{path}: its times must be dates (units such as hours since 2024-09-01), none missing")
    lacking = {"time", "lat", "lon"} - set(data["tec"].dims)
    if lacking or data["tec"].ndim != 3 or data["tec"].dtype.kind not in "fiu":
        raise DataError(f"{path}: TEC must be numbers over time, lat and lon; it is over {', '.join(data['tec'].dims)}")
    for name in {"tec", "rms"} & set(data.variables):
        data[name] = data[name].dims, _pieces(data[name].variable, path)
    maps = data["tec"].transpose("time", "lat", "lon") * UNITS[unit]
    maps = maps.where(abs(maps) < np.inf)
    rms = data["rms"].transpose("time", "lat", "lon") * UNITS[unit] if "rms" in data else xr.full_like(maps, np.nan)
    for axis in ("lat", "lon"):
        steps = np.diff(data[axis].values)
        even = len(steps) and steps[0] != 0 and np.allclose(steps, steps[0], atol=1e-4 * abs(steps[0]))
        if not even or not np.abs(data[axis].values).max() <= {"lat": 90, "lon": 360}[axis]:
            raise DataError(f"{path}: {axis} is not evenly spaced in degrees; only regular grids are read")
    both = xr.Dataset({"tec": maps, "rms": rms}).sortby("lat")
    lon = both["lon"].values
    if np.isclose(abs(lon[-1] - lon[0]), 360):
        both, lon = both.isel(lon=slice(None, -1)), lon[:-1]
    if not np.isclose(abs(lon[1] - lon[0]) * len(lon), 360):
        raise DataError(f"{path}: longitudes {lon[0]:g}..{lon[-1]:g} don't go once round the Earth")
    return both.assign_coords(lon=(np.round(lon, 6) + 180) % 360 - 180).sortby(["lon", "time"])


class _Reader:
    """A variable of a file as an array that names the file where a piece of it can't be read."""

    def __init__(self, variable: xr.Variable, path: Path | str):
        self.variable, self.path = variable, path
        self.shape, self.dtype, self.ndim = variable.shape, variable.dtype, variable.ndim

    def __getitem__(self, key: Any) -> np.ndarray:
        try:
            return self.variable[key].values
        except RuntimeError as error:  # of HDF5 and of Zarr's codecs
            raise DataError(f"{self.path} is damaged: not all of its maps can be read ({first_line(error)})") from None


def _pieces(variable: xr.Variable, path: Path | str) -> Any:
    """The variable as a Dask array in pieces of time."""
    import dask.array

    chunks = tuple(HOURS_A_PIECE if dim == "time" else -1 for dim in variable.dims)
    return dask.array.from_array(_Reader(variable, path), chunks, asarray=False)


def of_file(path: Path | str) -> xr.Dataset:
    """One file as a data set: NetCDF and Zarr lazily, IONEX in memory."""
    if _gridded(path):
        return opened(path)
    maps = read(path)
    return _dataset(maps, maps.tec.astype(np.float32), maps.rms.astype(np.float32))


def gathered(paths: Sequence[Path | str]) -> xr.Dataset:
    """All files as one lazy data set in time: IONEX, or NetCDF and Zarr on one grid; an epoch found twice keeps the
    later file's (of IONEX files the one that begins later, else the one named later).

    Of IONEX files the epochs are read now and the values when they are asked for, a file at a time.
    """
    if not paths:
        raise DataError("no TEC file is named")
    gridded = [path for path in paths if _gridded(path)]
    if gridded and len(gridded) < len(paths):
        raise DataError("IONEX files and NetCDF or Zarr stores don't go into one series; name one kind")
    parts = [opened(path) for path in paths] if gridded else _ionex(paths)
    return _series(parts, paths)


def _gridded(path: Path | str) -> bool:
    return str(path).endswith((*NETCDF, ".zarr"))


def _dataset(maps: TecMaps, tec: Any, rms: Any) -> xr.Dataset:
    import xarray as xr

    dims = ("time", "lat", "lon")
    coords = {"time": maps.time.astype("datetime64[ns]"), "lat": maps.lat, "lon": maps.lon}
    attrs = {"comment": "; ".join(maps.notes), "shell_height_km": maps.height_km}
    return xr.Dataset({"tec": (dims, tec), "rms": (dims, rms)}, coords, attrs)


def _ionex(paths: Sequence[Path | str]) -> list[xr.Dataset]:
    """A lazy data set each file, in the order of their first epochs."""
    import dask
    import dask.array

    def values(path: Path | str) -> np.ndarray:
        maps = read(path)
        return np.stack([maps.tec, maps.rms]).astype(np.float32)

    found = []
    for maps, path in sorted(((outline(path), path) for path in paths), key=lambda pair: pair[0].time[0]):
        shape = (2, len(maps.time), len(maps.lat), len(maps.lon))
        both = dask.array.from_delayed(dask.delayed(values)(path), shape, np.float32)
        found.append(_dataset(maps, both[0], both[1]))
    return found


def _series(parts: list[xr.Dataset], paths: Sequence[Path | str]) -> xr.Dataset:
    """Data sets of one grid one after the other in time, each epoch once (that of the later part)."""
    import xarray as xr

    first = parts[0]
    for part in parts[1:]:
        if not all(part[axis].equals(first[axis]) for axis in ("lat", "lon")):
            sizes = " and ".join(f"{one.sizes['lat']} x {one.sizes['lon']}" for one in (first, part))
            raise DataError(f"TEC files on different grids ({sizes} nodes) don't join: {', '.join(map(str, paths))}")
    data = xr.concat(parts, dim="time", combine_attrs="drop_conflicts") if len(parts) > 1 else first
    if not data.sizes["time"]:
        raise DataError(f"{', '.join(map(str, paths))}: no TEC map, the axis of time is empty")
    order = np.argsort(data["time"].values, kind="stable")
    times = data["time"].values[order]
    rows = order[np.append(times[1:] != times[:-1], True)]
    return data if np.array_equal(rows, np.arange(len(order))) else data.isel(time=rows)


def thinned(data: xr.Dataset, factor: int, method: Literal["conservative", "strided"] = "conservative") -> xr.Dataset:
    """Maps thinned by a factor (4: 181 x 360 -> 46 x 90), lazily and piece by piece in time."""
    import xarray as xr

    if factor == 1:
        return data
    lat, lon = nodes(data["lat"].values, data["lon"].values, factor)
    fine = data["lat"].values
    work = (
        (lambda maps: conservative(maps, fine, factor))
        if method == "conservative"
        else (lambda maps: strided(maps, factor))
    )
    variables = {}
    for name in ("tec", "rms"):
        chunks = data[name].data.rechunk({0: HOURS_A_PIECE, 1: -1, 2: -1})
        small = chunks.map_blocks(work, dtype=data[name].dtype, chunks=(chunks.chunks[0], (len(lat),), (len(lon),)))
        variables[name] = (("time", "lat", "lon"), small)
    return xr.Dataset(variables, {"time": data["time"], "lat": lat, "lon": lon}, {**data.attrs, "thinned_by": factor})


def write(data: xr.Dataset, path: Path | str) -> None:
    """Write as CF Zarr; pieces in time are computed and written one after the other."""
    import dask

    data = data.copy()
    data["tec"].attrs = {
        "long_name": "vertical total electron content",
        "units": "1e16 m-2",
        "ancillary_variables": "rms",
    }
    data["rms"].attrs = {"long_name": "root-mean-square error of tec", "units": "1e16 m-2"}
    data["lat"].attrs = {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"}
    data["lon"].attrs = {"standard_name": "longitude", "units": "degrees_east", "axis": "X"}
    data["time"].attrs = {"standard_name": "time", "axis": "T"}
    data.attrs = {"Conventions": "CF-1.11", "title": "Global maps of total electron content", **data.attrs}
    shape = (min(HOURS_A_PIECE, data.sizes["time"]), data.sizes["lat"], data.sizes["lon"])
    encoding: dict[str, Any] = {name: {"chunks": shape, "dtype": "float32"} for name in ("tec", "rms")}
    encoding["time"] = {"units": "seconds since 1970-01-01", "dtype": "int64"}
    for name in data.variables:
        data[name].encoding = {}
    with dask.config.set(scheduler="synchronous"):
        data.chunk({"time": shape[0], "lat": -1, "lon": -1}).to_zarr(
            path, mode="w", encoding=encoding, zarr_format=3, consolidated=False
        )


def convert(job: Job, settings: Any, log: Any) -> Result:
    """Stage ``tec``: TEC files (``raw``) -> ``tec``, one CF Zarr store, thinned by ``settings.tec.factor`` the way that
    ``settings.tec.method`` names (``conservative`` or ``strided``)."""
    raw = job.inputs["raw"]
    data = gathered([raw] if isinstance(raw, str | Path) else list(raw))
    small = thinned(data, settings.tec.factor, settings.tec.method)
    write(small, job.outputs["tec"])
    log.info(f"{small.sizes['time']} maps of {small.sizes['lat']} x {small.sizes['lon']} nodes")
    return Result({"maps": small.sizes["time"], "nodes": small.sizes["lat"] * small.sizes["lon"]})
