"""A world from a user's own files: profiles and TEC maps of some days, whatever can't be used left out with its reason.

One bad file never stops the others. What is put right on the way (units, longitudes, order of levels, fill values)
stands in the notes of each profile; see :mod:`.profiles` and :mod:`.quality`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import DataError
from . import iri_day, weather
from .profiles import Profile, Unit, files, read_all
from .quality import checked
from .real import as_points, blank, map_errors, no_tec, thinned
from .simulation import level_errors
from .tec_store import of_file
from .world import World

if TYPE_CHECKING:
    import xarray as xr

LONGEST_DAYS = 31
TEC_AROUND_H = 4.0  # maps up to so long before and after the period still tell something of it
REASONS_SHOWN = 8
Left = tuple[str, str]


@dataclass(frozen=True)
class Request:
    """What to read. ``first`` and ``last`` bound the period (default: the days of the profiles, else of the maps);
    ``unit`` is that of densities in files that state none; ``start`` that to which hours in tables count; ``step`` the
    spacing of the background's maps in degrees; ``beyond`` whether days of which space weather was not observed are an
    error, or reconstructed with predictions and flagged."""

    profiles: Path | None = None
    tec: Path | None = None
    first: date | None = None
    last: date | None = None
    unit: Unit = "auto"
    start: datetime | None = None
    step: float = iri_day.STEP_DEG
    beyond: weather.Beyond = "error"


@dataclass
class Own:
    """A world, the files (or single profiles) left out with the reason, and what was put right."""

    world: World
    left_out: list[Left] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read(request: Request, report: Callable[[str], None] = lambda line: None) -> Own:
    """The world of a request; nothing in it is withheld.

    Raises
    ------
    DataError
        No folder is named, none of the files can be used, or they span more than :data:`LONGEST_DAYS`.
    """
    if request.profiles is None and request.tec is None:
        raise DataError("neither profiles nor TEC maps are named; give at least one folder")
    left: list[Left] = []
    found = _profiles(request, left) if request.profiles else []
    maps = _maps(request, left) if request.tec else []
    days = _days(request, found, maps, left)
    found = _inside(found, days, left)
    if not found and not maps:
        raise DataError(f"nothing can be used: {_reasons(left)}")
    start = datetime.combine(days[0], time())
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{day}.zarr" for day in days]
        for path, day in zip(paths, days, strict=True):
            report(f"background of {day}")
            iri_day.write(path, day, weather.flux(day, request.beyond), request.step)
        fields: dict[str, Any] = blank("own", days, paths, request.beyond)
    repaired: list[str] = []
    tec = _tec(maps, start, fields["param_time_h"][-1], left, repaired)
    fields |= tec if tec else no_tec(fields["param_time_h"])
    if not found and not tec:
        raise DataError(f"nothing can be used between {days[0]} and {days[-1]}: {_reasons(left)}")
    if found:
        obs, values, number = as_points(found, start)
        sigma = level_errors(obs.alt_km)
        fields |= {
            "obs": obs,
            "obs_log10_ne": values,
            "obs_profile": number,
            "obs_withheld": np.zeros(len(number), bool),
            "obs_sigma_white": sigma,
            "obs_sigma_vertical": sigma,
        }
    notes = repaired + [f"{one.name}: {note}" for one in found for note in one.notes]
    origin = weather.origin(days[-1])
    if origin != "observed":
        notes.append(f"space weather is {origin}: F10.7 of the background was not observed")
    if maps and not tec:
        notes.append("no TEC map lies in the period: profiles alone")
    facts = {"profiles": [one.name for one in found], "tec_maps": len(fields["tec_time_h"]), "space_weather": origin}
    world = World(**fields, attrs=facts)
    return Own(world, left, notes)


def _reasons(left: Sequence[Left]) -> str:
    more = f"; and {len(left) - REASONS_SHOWN} more" if len(left) > REASONS_SHOWN else ""
    return "; ".join(f"{name}: {why}" for name, why in left[:REASONS_SHOWN]) + more


def _profiles(request: Request, left: list[Left]) -> list[Profile]:
    found, unread = read_all(files(request.profiles), request.unit, request.start)
    kept, bad = checked(found)
    left += [*unread, *bad]
    usable = []
    for one in kept:
        levels = thinned(one)
        if len(levels.alt_km):
            usable.append(levels)
        else:
            left.append((one.name, "no level with a positive density between 120 and 500 km"))
    return sorted(usable, key=lambda one: (one.time.min(), one.name))


def tec_files(folder: Path) -> list[Path]:
    """Files and Zarr stores of a folder, sorted; a file or store stands for itself.

    Raises
    ------
    DataError
        Nothing there.
    """
    if folder.is_file() or folder.suffix == ".zarr":
        return [folder]
    inside = sorted(folder.rglob("*"))
    stores = [path for path in inside if path.suffix == ".zarr"]
    plain = [p for p in inside if p.is_file() and not any(store in p.parents for store in stores)]
    found = sorted([*stores, *(path for path in plain if not path.name.startswith("."))])
    if not found:
        raise DataError(f"{folder} holds no file: IONEX (plain, .gz, .Z), NetCDF or Zarr maps are read")
    return found


def _maps(request: Request, left: list[Left]) -> list[tuple[str, xr.Dataset]]:
    found = []
    for path in tec_files(request.tec):
        try:
            found.append((str(path), of_file(path)))
        except DataError as error:
            left.append((str(path), str(error)))
    return found


def _day(stamp: np.datetime64) -> date:
    return stamp.astype("datetime64[D]").astype(date)


def _days(request: Request, found: list[Profile], maps: list[tuple[str, xr.Dataset]], left: list[Left]) -> list[date]:
    """Whole days: as asked for, else those of the profiles, else those of the maps."""
    if found:
        ends = [np.median(one.time.astype("int64")).astype("int64").astype("datetime64[ms]") for one in found]
    else:
        ends = [data["time"].values[index] for _, data in maps for index in (0, -1)]
        ends = [min(ends), max(ends) - np.timedelta64(1, "s")] if ends else []  # midnight ends the day before
    if not ends and not (request.first and request.last):
        raise DataError(f"nothing can be used: {_reasons(left)}")
    first, last = request.first or _day(min(ends)), request.last or _day(max(ends))
    count = (last - first).days + 1
    if not 1 <= count <= LONGEST_DAYS:
        raise DataError(
            f"a period from {first} to {last}: between one and {LONGEST_DAYS} days are reconstructed at a time; name "
            "the first and the last day (--from, --to)"
        )
    return [first + timedelta(days=index) for index in range(count)]


def _inside(found: list[Profile], days: list[date], left: list[Left]) -> list[Profile]:
    low, high = np.datetime64(days[0], "ms"), np.datetime64(days[-1] + timedelta(days=1), "ms")
    kept = []
    for one in found:
        if low <= np.sort(one.time)[len(one.time) // 2] < high:
            kept.append(one)
        else:
            left.append((one.name, f"of {one.time.min()}, outside {days[0]}..{days[-1]}"))
    return kept


def _tec(
    maps: list[tuple[str, xr.Dataset]], start: datetime, hours: float, left: list[Left], notes: list[str]
) -> dict[str, Any]:
    """TEC fields of a world from files of one grid (that of the first in the period); empty where none is near.

    Of maps more often than hourly those at full hours are taken.
    """
    parts, grid = [], None
    for name, data in maps:
        since = (data["time"].values - np.datetime64(start, "ns")) / np.timedelta64(1, "h")
        near = (since >= -TEC_AROUND_H) & (since <= hours + TEC_AROUND_H)
        if not near.any():
            span = f"{str(data['time'].values[0])[:16]}..{str(data['time'].values[-1])[:16]}"
            left.append((name, f"its maps ({span}) lie outside the period; profiles there stand without TEC"))
            continue
        own = (data["lat"].values, data["lon"].values)
        if grid is not None and not all(len(a) == len(b) and np.allclose(a, b) for a, b in zip(grid, own, strict=True)):
            left.append((name, "its grid differs from that of the files before; one grid at a time"))
            continue
        full = near & np.isclose(since, np.round(since), atol=1e-3)
        rows = np.flatnonzero(full if full.any() else near)
        try:
            tec, rms = (data[part][rows].values for part in ("tec", "rms"))
        except DataError as error:
            left.append((name, str(error)))
            continue
        grid = own
        parts += zip(since[rows], tec, rms, strict=True)
    if not parts:
        return {}
    chosen = {round(float(part[0]), 4): part for part in parts}  # an epoch found twice keeps the later file's
    if len(chosen) < len(parts):
        notes.append(f"{len(parts) - len(chosen)} epochs of TEC stand in several files: the last file's maps are taken")
    order = sorted(chosen)
    tec, rms = (np.stack([chosen[hour][index] for hour in order]).astype(np.float32) for index in (1, 2))
    return {
        "tec": tec,
        "tec_sigma": map_errors(tec, rms).astype(np.float32),
        "tec_time_h": np.array(order),
        "tec_lat": grid[0],
        "tec_lon": grid[1],
    }
