"""Questions to a reconstruction: density at points, profiles, maps, vertical and slant content, foF2 and hmF2.

Values come from the analytic profile of the stored parameters, which are interpolated between the hourly maps and
between nodes; so densities are smooth in altitude, also between and beyond the levels of the file (80 to 2,000 km).
The spread is interpolated from the file's own levels and is that of the nearest one beyond them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import DataError
from ..core.store import open_zarr
from . import iri
from .estimates import AROUND_KM, PEAK_KM, peak
from .grid import Axes, interpolate
from .reconstruct import FLAGS, MAPS
from .scoring import fof2_mhz

if TYPE_CHECKING:
    import pandas as pd

EARTH_KM = 6371.0
VERTICAL_KM = (90.0, 2000.0)
PIECE_KM, NODES = 60.0, 6  # of a slant path
Array = np.ndarray


@dataclass
class AnalysisField:
    """An opened reconstruction. Times are datetime64 (UTC), positions degrees (longitudes of any turn) and km.

    Every question takes arrays that broadcast, and answers in their common shape.
    """

    path: str
    start: np.datetime64
    hours: Array
    alt_km: Array
    lat: Array
    lon: Array
    map: Array
    iri_map: Array
    sd: Array
    flag: Array
    hmf2_sd: Array

    @cached_property
    def axes(self) -> Axes:
        return Axes.of(self.hours, self.lat, self.lon)

    def since(self, time: Any) -> Array:
        """Hours since the first map.

        Raises
        ------
        DataError
            A time before the first map, or more than an hour after the last (within that hour the last one holds).
        """
        try:
            stamps = np.asarray(time, "datetime64[ms]")
        except ValueError as error:
            raise DataError(f"{time!r} is no time; write 2024-05-08T20:30 ({error})") from None
        since = (stamps - self.start.astype("datetime64[ms]")) / np.timedelta64(1, "h")
        if not np.all((since >= 0) & (since < self.hours[-1] + 1)):
            first, last = (str(self.start + np.timedelta64(round(60 * hour), "m"))[:16] for hour in self.hours[[0, -1]])
            raise DataError(f"{self.path} holds {first} to {last}; a time asked for lies outside or is missing")
        return since

    def _params(self, time: Any, lat: Any, lon: Any, background: bool) -> tuple[Array, Array]:
        """Parameters [..., 8] and increments [..., 13] of which only the bumps are set."""
        lat = _checked("latitude", lat, -90, 90)
        lon = _checked("longitude", lon, -180, 360)
        maps = self.iri_map if background else self.map
        values = interpolate(maps, self.axes, self.since(time), lat, lon)
        increments = np.zeros((*values.shape[:-1], len(iri.FIELDS)))
        if not background:
            increments[..., 7:] = values[..., 8:]
        return values[..., :8], increments

    def log10_ne(self, time: Any, lat: Any, lon: Any, alt_km: Any, background: bool = False) -> Array:
        """log10 of electron density in m-3; ``background``: IRI's, before any data."""
        alt_km = _checked("altitude", alt_km, 80, 2000)
        shape = np.broadcast_shapes(*(np.shape(part) for part in (time, lat, lon, alt_km)))
        params, increments = self._params(time, lat, lon, background)
        return np.broadcast_to(iri.corrected(params, increments, alt_km), shape)

    def log10_ne_sd(self, time: Any, lat: Any, lon: Any, alt_km: Any) -> Array:
        """Standard deviation of log10 Ne."""
        since, lat, lon, alt = np.broadcast_arrays(self.since(time), lat, lon, np.asarray(alt_km, float))
        at = np.clip(np.interp(alt, self.alt_km, np.arange(len(self.alt_km))), 0, len(self.alt_km) - 1)
        low = np.minimum(at.astype(int), len(self.alt_km) - 2)
        columns = interpolate(np.moveaxis(self.sd, 1, 0), self.axes, since, lat, lon)  # [..., A]
        below, above = (np.take_along_axis(columns, (low + k)[..., None], -1)[..., 0] for k in (0, 1))
        return below + (at - low) * (above - below)

    def flags(self, time: Any, lat: Any, lon: Any) -> Array:
        """Name of what reaches the nearest node: iri_alone, tec_maps, profiles, tec_maps_and_profiles."""
        since, lat, lon = np.broadcast_arrays(self.since(time), lat, lon)
        row = np.clip(np.round((since - self.axes.t0) / self.axes.dt), 0, len(self.hours) - 1).astype(int)
        y = np.clip(np.round((lat - self.axes.lat0) / self.axes.dlat), 0, len(self.lat) - 1).astype(int)
        x = np.round((lon - self.axes.lon0) / self.axes.dlon).astype(int) % len(self.lon)
        return np.array(FLAGS, object)[self.flag[row, y, x]]

    def peak(self, time: Any, lat: Any, lon: Any, background: bool = False) -> tuple[Array, Array]:
        """log10 NmF2 [m-3] and hmF2 [km], the greatest density between 150 and 550 km."""
        params, increments = self._params(time, lat, lon, background)
        shape = params.shape[:-1]
        params, increments = params.reshape(-1, 1, 8), increments.reshape(-1, 1, len(iri.FIELDS))
        _, height = peak(iri.corrected(params, increments, PEAK_KM[None]), PEAK_KM)
        around = height[:, None] + AROUND_KM
        value, height = peak(iri.corrected(params, increments, around), around)
        return value.reshape(shape), height.reshape(shape)

    def fof2(self, time: Any, lat: Any, lon: Any, background: bool = False) -> Array:
        """Critical frequency of the F2 layer [MHz]."""
        return fof2_mhz(self.peak(time, lat, lon, background)[0])

    def hmf2(self, time: Any, lat: Any, lon: Any, background: bool = False) -> Array:
        """Height of the F2 peak [km]."""
        return self.peak(time, lat, lon, background)[1]

    def vertical_tec(
        self,
        time: Any,
        lat: Any,
        lon: Any,
        low_km: float = VERTICAL_KM[0],
        high_km: float = VERTICAL_KM[1],
        background: bool = False,
    ) -> Array:
        """Vertical electron content between two altitudes [TECU]."""
        if not 80 <= low_km < high_km <= 2000:
            raise DataError(f"content from {low_km:g} to {high_km:g} km: ascending, between 80 and 2,000, is allowed")
        params, increments = self._params(time, lat, lon, background)
        return iri.vtec(params, increments, low_km, high_km)

    def slant_tec(
        self,
        time: Any,
        lat: float,
        lon: float,
        azimuth: float,
        elevation: float,
        low_km: float = VERTICAL_KM[0],
        high_km: float = VERTICAL_KM[1],
        station_km: float = 0.0,
        background: bool = False,
    ) -> float:
        """Electron content [TECU] along the straight line from a station, between two altitudes, at one time.

        Azimuth clockwise from north, elevation above the horizon (more than 0), on a sphere of 6,371 km.
        """
        if not 0 < elevation <= 90:
            raise DataError(f"elevation {elevation:g} degrees: more than 0, at most 90")
        if not station_km <= low_km < high_km <= 2000 or low_km < 80:
            raise DataError(f"content from {low_km:g} to {high_km:g} km: ascending, between 80 and 2,000, is allowed")
        edges = ray_length(np.array([low_km, high_km]), elevation, station_km)
        edges = np.linspace(*edges, 1 + max(1, int(np.ceil((edges[1] - edges[0]) / PIECE_KM))))
        x, w = np.polynomial.legendre.leggauss(NODES)
        halves = np.diff(edges) / 2
        length = ((edges[:-1] + halves)[:, None] + halves[:, None] * x).ravel()
        place = ray(lat, lon, azimuth, elevation, station_km, length)
        density = 10 ** self.log10_ne(time, *place, background=background)
        return float(np.sum(density * (halves[:, None] * w).ravel()) * 1e3 / iri.TECU)

    def against_ionosondes(self, path: Path | str) -> tuple[pd.DataFrame, dict[str, dict[str, float]], int]:
        """A table of ionosondes beside the analysis and IRI.

        Returns
        -------
        The rows within the period with columns ``fof2_analysis``, ``fof2_iri`` and so on added; for each quantity
        number, bias and RMSE of both; and how many rows were left out (other times, missing or impossible values).

        Raises
        ------
        DataError
            No table with columns time, lat, lon and fof2 [MHz] or hmf2 [km], or none of its rows in the period.
        """
        return ionosondes(self, path)


def _checked(name: str, value: Any, low: float, high: float) -> Array:
    value = np.asarray(value, float)
    if not np.all((value >= low - 1e-6) & (value <= high + 1e-6)):
        raise DataError(f"{name} must lie within {low:g}..{high:g}")
    return value


def ray_length(alt_km: Array, elevation: float, station_km: float = 0.0) -> Array:
    """Distance [km] along a line of sight at which it reaches altitudes."""
    own, sin = EARTH_KM + station_km, np.sin(np.deg2rad(elevation))
    return np.sqrt((EARTH_KM + alt_km) ** 2 - own**2 * (1 - sin**2)) - own * sin


def ray(lat: float, lon: float, azimuth: float, elevation: float, station_km: float, length: Array):
    """Latitude, longitude and altitude [n] at distances [n] along a line of sight."""
    phi, lam, az, el = np.deg2rad([lat, lon, azimuth, elevation])
    up = np.array([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)])
    north = np.array([-np.sin(phi) * np.cos(lam), -np.sin(phi) * np.sin(lam), np.cos(phi)])
    east = np.array([-np.sin(lam), np.cos(lam), 0.0])
    line = np.sin(el) * up + np.cos(el) * (np.cos(az) * north + np.sin(az) * east)
    place = (EARTH_KM + station_km) * up + length[:, None] * line
    size = np.linalg.norm(place, axis=1)
    return (
        np.rad2deg(np.arcsin(np.clip(place[:, 2] / size, -1, 1))),
        np.rad2deg(np.arctan2(place[:, 1], place[:, 0])),
        size - EARTH_KM,
    )


def load(path: Path | str) -> AnalysisField:
    """Open what ``rstmrf reconstruct`` wrote (Zarr or NetCDF).

    Raises
    ------
    DataError
        Nothing there, or another kind of file.
    """
    import xarray as xr

    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; make it: python -m pipeline rstmrf reconstruct --out {path}")
    try:
        with open_zarr(path) if path.is_dir() else xr.open_dataset(path) as data:
            values = {str(name): data[name].values for name in data.variables}
            named = str(data.attrs["parameters"]).split()
        if named != list(MAPS):
            raise DataError(f"{path} has parameters {', '.join(named)}; this version knows {', '.join(MAPS)}")
        start = values["time"][0]
        return AnalysisField(
            str(path),
            start,
            (values["time"] - start) / np.timedelta64(1, "h"),
            values["alt"],
            values["lat"],
            values["lon"],
            values["map"].astype(float),
            values["iri_map"].astype(float),
            values["log10_ne_sd"].astype(float),
            values["flag"].astype(int),
            values["hmf2_sd"].astype(float),
        )
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is no reconstruction by `rstmrf reconstruct` ({error})") from None


PLAUSIBLE = {"fof2": (0.3, 30.0), "hmf2": (120.0, 700.0)}


def ionosondes(field: AnalysisField, path: Path | str) -> tuple[pd.DataFrame, dict[str, dict[str, float]], int]:
    """See :meth:`AnalysisField.against_ionosondes`."""
    frame = table(path, ("time", "lat", "lon"))
    asked = [name for name in PLAUSIBLE if name in frame]
    if not asked:
        raise DataError(f"{path} has neither a column fof2 (MHz) nor hmf2 (km); it has {', '.join(frame.columns)}")
    for name in asked:
        low, high = PLAUSIBLE[name]
        frame[name] = frame[name].where(frame[name].between(low, high))
    since = (frame["time"].to_numpy("datetime64[ms]") - field.start.astype("datetime64[ms]")) / np.timedelta64(1, "h")
    keep = (since >= 0) & (since < field.hours[-1] + 1) & frame[asked].notna().any(axis=1).to_numpy()
    keep &= frame["lat"].between(-90, 90).to_numpy() & frame["lon"].between(-180, 360).to_numpy()
    left, frame = int((~keep).sum()), frame[keep].reset_index(drop=True)
    if not len(frame):
        raise DataError(f"{path}: none of its {left} rows has a value and a time within {field.path}")
    place = (frame["time"].to_numpy("datetime64[ms]"), frame["lat"].to_numpy(), frame["lon"].to_numpy())
    scores = {}
    for source, background in (("analysis", False), ("iri", True)):
        density, height = field.peak(*place, background=background)
        values = {"fof2": fof2_mhz(density), "hmf2": height}
        for name in asked:
            frame[f"{name}_{source}"] = values[name]
            error = (frame[f"{name}_{source}"] - frame[name]).dropna()
            bias, rmse = float(error.mean()), float(np.sqrt((error**2).mean()))
            scores[f"{name}_{source}"] = {"n": len(error), "bias": bias, "rmse": rmse}
    frame["flag"] = field.flags(*place)
    return frame, scores, left


def table(path: Path | str, needed: Iterable[str]) -> pd.DataFrame:
    """A CSV file with lower-case column names; ``time`` parsed (UTC), the others numbers where they can be.

    Raises
    ------
    DataError
        An unreadable file, missing columns, or a row without a valid time.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(path)
    except Exception as error:  # parsers raise errors of many kinds
        raise DataError(f"{path} can't be read as CSV ({error})") from None
    frame.columns = [str(name).strip().lower() for name in frame.columns]
    missing = [name for name in needed if name not in frame]
    if missing:
        raise DataError(f"{path} lacks columns {', '.join(missing)}; it has {', '.join(frame.columns)}")
    times = pd.to_datetime(frame["time"], errors="coerce", utc=True, format="ISO8601")
    if times.isna().any():
        row = int(times.isna().to_numpy().argmax())
        raise DataError(f"{path}, row {row + 1}: {frame['time'].iloc[row]!r} is no time; write 2024-05-08T20:30")
    frame["time"] = times.dt.tz_localize(None)
    for name in ("lat", "lon", "alt", "fof2", "hmf2"):
        if name in frame:
            frame[name] = pd.to_numeric(frame[name], errors="coerce")
    return frame
