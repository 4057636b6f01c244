"""Electron-density profiles from files: COSMIC ionPrf and igaPrf (NetCDF), FY-3 text profiles, tables and CSV.

A profile is no column: while it is taken the tangent point moves by up to 15 degrees in latitude and 40 in
longitude, so every level keeps its own place (and time, where the file tells). Densities come out in m-3.

Forms
-----
ionPrf, igaPrf   NetCDF with MSL_alt, GEO_lat, GEO_lon and ELEC_dens (el/cm3); the time in global attributes
FY-3 text        ``YYYYMMDD_HHMM*.txt``: columns longitude, latitude, altitude km, density m-3, one profile a file
table            Parquet or CSV with columns lat, lon, alt, time (date, or hours with ``start``), ne or log10_ne,
profile
                 (other usual names are understood; without a profile column a new one begins where time jumps)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..core.errors import DataError, first_line
from ..core.tabular import read_csv, read_parquet, to_numbers

Unit = Literal["auto", "m-3", "cm-3"]
UNITS = {"el/cm3": 1e6, "cm-3": 1e6, "1/cm3": 1e6, "#/cm3": 1e6, "el/cm^3": 1e6, "m-3": 1.0, "1/m3": 1.0, "el/m3": 1.0}
PEAK_M3 = (3e8, 3e13)  # a profile's largest density, else its unit is another than stated
FILL_BELOW = -900.0  # -999 and the like in coordinates
NAMED = re.compile(r"(\d{8})[_-]?(\d{4})")
COLUMNS = {
    "lat": ("lat", "latitude", "geo_lat"),
    "lon": ("lon", "longitude", "long", "geo_lon"),
    "alt": ("alt", "altitude", "alt_km", "height", "msl_alt"),
    "time": ("time", "datetime", "date", "timestamp", "epoch"),
    "hours": ("hours", "time_h", "hour"),
    "ne": ("ne", "density", "elec_dens", "electron_density"),
    "log10_ne": ("log10_ne", "ne_log", "log_ne", "logne", "log10ne"),
    "profile": ("profile", "profile_id", "prof", "occultation"),
}
FARTHEST_H = 1e6  # hours: a century
GAP_S = 1800.0  # seconds between levels that begin another profile, where a table has no column for it


@dataclass(frozen=True)
class Profile:
    """One profile, arrays [levels] in ascending altitude: ``time`` datetime64[ms], degrees (longitude in [-180,
    180)), km, ``ne`` in m-3 (as in the file, so also negative; NaN where it was missing)."""

    name: str
    time: np.ndarray
    lat: np.ndarray
    lon: np.ndarray
    alt_km: np.ndarray
    ne: np.ndarray
    folds: float = 0.0  # share of levels at which the file's altitude turned back
    notes: tuple[str, ...] = ()


def read(path: Path | str, unit: Unit = "auto", start: datetime | None = None) -> list[Profile]:
    """Profiles of one file, the form taken from its name.

    Parameters
    ----------
    path: NetCDF, text, CSV or Parquet.
    unit: of densities in forms that state none (text, tables). ``auto`` takes m-3, and el/cm3 where a peak between
    3e2 and
        3e7 can be nothing else; a note says so.
    start: to which the hours of a table count.

    Raises
    ------
    DataError
        What is wrong with the file, and what would be right.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} is no file")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    kind = path.suffix.lower()
    if kind in (".nc", ".nc4") or path.name.endswith("_nc"):
        return [_netcdf(path)]
    if kind in (".csv", ".parquet"):
        return _table(path, unit, start)
    return [_text(path, unit)]


def read_all(paths: Iterable[Path | str], unit: Unit = "auto", start: datetime | None = None):
    """Profiles of many files, and what was left out: ``(profiles, [(path, reason)])``. No bad file stops the others."""
    found: list[Profile] = []
    left: list[tuple[str, str]] = []
    for path in paths:
        try:
            found += read(path, unit, start)
        except DataError as error:
            left.append((str(path), str(error)))
    return found, left


def files(folder: Path | str) -> list[Path]:
    """All files below a folder that may hold profiles, sorted; a file stands for itself.

    Raises
    ------
    DataError
        Nothing there.
    """
    folder = Path(folder)
    if folder.is_file():
        return [folder]
    suffixes = (".nc", ".nc4", ".txt", ".dat", ".csv", ".parquet")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes or p.name.endswith("_nc"))
    if not found:
        raise DataError(f"{folder} holds no file that may be a profile ({', '.join(suffixes)}, *_nc)")
    return found


def _made(
    name: str,
    time: np.ndarray,
    lat: np.ndarray,
    lon: np.ndarray,
    alt: np.ndarray,
    ne: np.ndarray,
    where: str,
    notes: Sequence[str] = (),
) -> Profile:
    """A profile with fill values dropped, checked ranges, levels in ascending altitude and longitudes in [-180,
    180)."""
    notes = list(notes)
    lat, lon, alt, ne = (np.asarray(part, float) for part in (lat, lon, alt, ne))
    keep = (
        np.isfinite(lat)
        & np.isfinite(lon)
        & np.isfinite(alt)
        & (lat > FILL_BELOW)
        & (lon > FILL_BELOW)
        & (alt > FILL_BELOW)
    )
    keep &= np.isfinite(ne) & ~np.isin(ne, (-999.0, -9999.0, 9999.0, -999e6, -9999e6))
    if not keep.all():
        notes.append(f"{int((~keep).sum())} levels with fill values dropped")
    time, lat, lon, alt, ne = (part[keep] for part in (time, lat, lon, alt, ne))
    if len(alt) < 2:
        raise DataError(f"{where} holds {len(alt)} levels with values; a profile needs at least two")
    if np.abs(lat).max() > 90:
        raise DataError(
            f"{where}: latitude {lat[np.abs(lat).argmax()]:g} lies beyond 90 degrees; columns may be in another order "
            "(FY-3 text: longitude, latitude, altitude, density)"
        )
    if lon.min() < -180 or lon.max() > 360:
        raise DataError(f"{where}: longitudes {lon.min():g}..{lon.max():g}; -180..180 or 0..360 degrees are allowed")
    if lon.max() > 180:
        notes.append("longitudes 0..360 brought to -180..180")
    if alt.max() > 5000:
        raise DataError(f"{where}: altitudes up to {alt.max():g}; they must be in km (metres were given?)")
    order = np.argsort(alt, kind="stable")
    steps = np.diff(alt)
    rising = (steps > 0).sum() >= (steps < 0).sum()
    folds = float(((steps < 0) if rising else (steps > 0)).mean())
    if folds:
        notes.append(f"levels sorted by altitude ({100 * folds:.0f} % turned back)")
    return Profile(
        name,
        np.asarray(time, "datetime64[ms]")[order],
        lat[order],
        (lon[order] + 180) % 360 - 180,
        alt[order],
        ne[order],
        folds,
        tuple(notes),
    )


def in_m3(profile: Profile, factor: float | None, where: str) -> Profile:
    """A profile with densities in m-3: times a stated factor, or (None) judged by its peak.

    Raises
    ------
    DataError
        A peak that no ionosphere has in the stated unit.
    """
    peak = float(np.max(profile.ne))
    if factor is None:
        if PEAK_M3[0] <= 1e6 * peak < PEAK_M3[1] and not PEAK_M3[0] <= peak < PEAK_M3[1]:
            note = f"densities up to {peak:.3g} can only be el/cm3: times 1e6"
            return replace(profile, ne=1e6 * profile.ne, notes=(*profile.notes, note))
        factor = 1.0
    if not PEAK_M3[0] <= factor * peak < PEAK_M3[1]:
        other = "el/cm3" if factor == 1 else "m-3"
        raise DataError(
            f"{where}: its largest density would be {factor * peak:.3g} m-3, outside {PEAK_M3[0]:.0e}.."
            f"{PEAK_M3[1]:.0e}; is it in {other}, or logarithmic?"
        )
    return replace(profile, ne=factor * profile.ne)


def _netcdf(path: Path) -> Profile:
    import xarray as xr

    try:
        with xr.open_dataset(path, decode_times=False) as data:
            values = {str(name): data[name].values for name in data.variables}
            unit = str(data["ELEC_dens"].attrs.get("units", "el/cm3")) if "ELEC_dens" in values else ""
            attrs = dict(data.attrs)
    except Exception as error:  # the libraries below xarray raise errors of many kinds
        raise DataError(f"{path} can't be read as NetCDF ({first_line(error)})") from None
    wanted = ("MSL_alt", "GEO_lat", "GEO_lon", "ELEC_dens")
    missing = [name for name in wanted if name not in values]
    if missing:
        raise DataError(f"{path} is no ionPrf or igaPrf: it lacks {', '.join(missing)}; it has {', '.join(values)}")
    shapes = {values[name].shape for name in wanted}
    if len(shapes) > 1 or len(shapes.pop()) != 1 or any(values[name].dtype.kind not in "fiu" for name in wanted):
        raise DataError(f"{path}: {', '.join(wanted)} must be numbers along one dimension, the levels")
    try:
        stamp = datetime(*(int(attrs[name]) for name in ("year", "month", "day", "hour", "minute")))
        second = np.timedelta64(round(1000 * float(attrs.get("second", 0))), "ms")
    except (KeyError, ValueError, TypeError, OverflowError):
        raise DataError(f"{path} has no valid time: attributes year, month, day, hour and minute are needed") from None
    if unit.strip().lower() not in UNITS:
        raise DataError(f"{path}: density in units {unit!r}; known are {', '.join(UNITS)}")
    time = np.datetime64(stamp, "ms") + second + _level_times(values["MSL_alt"], attrs)
    notes = ["aided Abel retrieval"] if "ELEC_dens_bg" in values else []
    alt, lat, lon, ne = (values[name] for name in wanted)
    profile = _made(str(attrs.get("fileStamp", path.stem)), time, lat, lon, alt, ne, str(path), notes)
    return in_m3(profile, UNITS[unit.strip().lower()], str(path))


def _level_times(alt: np.ndarray, attrs: dict[str, Any]) -> np.ndarray:
    """Time of each level after that of the peak, to which the file's time belongs, between top, peak and bottom."""
    try:
        marks = [(float(attrs[f"{part}alt"]), float(attrs[f"{part}time"])) for part in ("bot", "edmax", "top")]
    except (KeyError, ValueError, TypeError):
        return np.zeros(len(alt), "timedelta64[ms]")
    heights, seconds = (np.array(part) for part in zip(*marks, strict=True))
    if not (np.all(np.diff(heights) > 0) and np.ptp(seconds) <= 3600):
        return np.zeros(len(alt), "timedelta64[ms]")
    since = np.interp(alt, heights, seconds) - seconds[1]
    return np.round(1000 * np.nan_to_num(since)).astype("timedelta64[ms]")


def _text(path: Path, unit: Unit) -> Profile:
    match = NAMED.search(path.name)
    try:
        stamp = datetime.strptime("".join(match.groups()), "%Y%m%d%H%M") if match else None
    except ValueError:
        stamp = None
    if stamp is None:
        raise DataError(f"{path}: the name of an FY-3 text profile must hold its time as YYYYMMDD_HHMM")
    rows = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        parts = line.replace(",", " ").split()
        if not parts or not parts[0].lstrip("+-.").replace(".", "", 1)[:1].isdigit():
            continue  # blank lines and headings
        try:
            row = [float(part) for part in parts[:4]]
        except ValueError:
            raise DataError(f"{path}, line {number}: {line.strip()!r} is no row of numbers") from None
        if len(row) < 4:
            raise DataError(
                f"{path}, line {number}: {len(row)} columns; longitude, latitude, altitude, density are needed"
            )
        rows.append(row)
    if not rows:
        raise DataError(f"{path} holds no row of numbers; longitude, latitude, altitude km and density are needed")
    lon, lat, alt, ne = np.array(rows).T
    time = np.full(len(rows), np.datetime64(stamp, "ms"))
    return in_m3(_made(path.stem, time, lat, lon, alt, ne, str(path)), _factor(unit), str(path))


def _factor(unit: Unit) -> float | None:
    return None if unit == "auto" else UNITS[unit]


def _table(path: Path, unit: Unit, start: datetime | None) -> list[Profile]:
    import pandas as pd

    frame = read_parquet(path) if path.suffix.lower() == ".parquet" else read_csv(path)
    names = {}
    for wanted, allowed in COLUMNS.items():
        same = [name for name in frame.columns if str(name).strip().lower() in allowed]
        if same:
            names[wanted] = same[0]
    missing = [name for name in ("lat", "lon", "alt") if name not in names]
    if missing or not ({"ne", "log10_ne"} & names.keys()) or not ({"time", "hours"} & names.keys()):
        raise DataError(
            f"{path}: a table of profiles needs columns lat, lon, alt (km), time or hours, and ne or log10_ne; it has "
            f"{', '.join(map(str, frame.columns))}"
        )
    numbers = {}
    for key in names.keys() - {"time", "profile"}:
        numbers[key] = to_numbers(frame[names[key]])
    if "time" in names:
        time = pd.to_datetime(frame[names["time"]], errors="coerce").to_numpy("datetime64[ms]")
        if np.isnat(time).any():
            row = int(np.isnat(time).argmax())
            raise DataError(f"{path}, row {row + 1}: {frame[names['time']].iloc[row]!r} is no time")
    elif start is None:
        raise DataError(f"{path} counts time in hours; say from when (`start`)")
    else:
        far = ~(np.abs(numbers["hours"]) < FARTHEST_H)
        if far.any():
            row = int(far.argmax())
            raise DataError(f"{path}, row {row + 1}: {frame[names['hours']].iloc[row]!r} is no number of hours")
        time = np.datetime64(start, "ms") + np.round(3.6e6 * numbers["hours"]).astype("timedelta64[ms]")
    logarithmic = "ne" not in names
    ne = 10 ** numbers["log10_ne"] if logarithmic else numbers["ne"]
    if "profile" in names:
        label = frame[names["profile"]].to_numpy()
    else:
        jumps = np.abs(np.diff(time).astype(float)) > 1000 * GAP_S
        label = np.concatenate([[0], np.cumsum(jumps)])
    found = []
    for one in pd.unique(label):
        here = label == one
        profile = _made(
            f"{path.stem}:{one}",
            time[here],
            *(numbers[key][here] for key in ("lat", "lon", "alt")),
            ne[here],
            f"{path}, {one}",
        )
        found.append(in_m3(profile, 1.0 if logarithmic else _factor(unit), f"{path}, profile {one}"))
    return found
