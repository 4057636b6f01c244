"""Worlds from real files: global TEC maps of which every other one is withheld, and single occultation profiles.

Both are the same :class:`~pipeline.rstmrf.world.World` that the simulator makes, so every method reads them. What
was withheld is the truth here, with its own errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path

import numpy as np

from ..core.errors import DataError
from . import iri_day
from .ionex import TecMaps, joined
from .ionex import read as read_ionex
from .profiles import Profile, read_all
from .quality import checked
from .simulation import HISTORY_H, SIGMA_PROFILE, VERTICAL_KM, level_errors
from .weather import Beyond, hourly, origin
from .world import Points, Truth, World, no_points

GIM_COLUMNS = 3000
GIM_RANGE_KM = (90.0, 2000.0)  # PyIRI's topside; a GNSS map also holds the plasmasphere above
LEVEL_KM = 10.0
RANGE_KM = (120.0, 500.0)


def blank(name: str, days: Sequence[date], iri_paths: Sequence[Path | str], beyond: Beyond = "error") -> dict:
    """Fields that any real world has: background, drivers and empty observations; ``beyond`` the observed space
    weather is an error or flagged."""
    maps, lat, lon = iri_day.read(iri_paths, days)
    start = datetime.combine(days[0], time())
    hours = np.arange(24.0 * len(days))
    return {
        "name": name,
        "start": start,
        "obs": no_points(),
        "obs_log10_ne": np.empty(0),
        "obs_profile": np.empty(0, int),
        "obs_withheld": np.empty(0, bool),
        "obs_sigma_white": np.empty(0),
        "obs_sigma_vertical": np.empty(0),
        "obs_sigma_profile": SIGMA_PROFILE,
        "obs_vertical_km": VERTICAL_KM,
        "param": maps[iri_day.LEVELS.index("f107_81")],
        "param_time_h": hours,
        "param_lat": lat,
        "param_lon": lon,
        "drivers": hourly(start, len(hours), HISTORY_H, beyond),
        "dense": no_points(),
        "column_time_h": np.empty(0),
        "column_lat": np.empty(0),
        "column_lon": np.empty(0),
    }


def no_tec(hours: np.ndarray) -> dict:
    """TEC maps that hold nothing, on a coarse grid."""
    lat, lon = np.arange(-90.0, 91, 30), np.arange(-180.0, 180, 30)
    empty = np.full((len(hours), len(lat), len(lon)), np.nan, np.float32)
    return {"tec": empty, "tec_sigma": empty.copy(), "tec_time_h": hours, "tec_lat": lat, "tec_lon": lon}


def map_errors(tec: np.ndarray, rms: np.ndarray) -> np.ndarray:
    """Stated errors, where a file has none 1.5 TECU plus 5 %."""
    return np.where(np.isfinite(rms), np.maximum(rms, 0.5), 1.5 + 0.05 * tec)


def _covered(maps: TecMaps) -> list[date]:
    first, last = (maps.time[index].astype("datetime64[s]").astype(datetime) for index in (0, -1))
    count = int((last - first + timedelta(hours=1)) / timedelta(days=1))
    if not count:
        raise DataError(f"the TEC maps from {first} to {last} don't cover a day")
    return [first.date() + timedelta(days=index) for index in range(count)]


def ionex(
    paths: Sequence[Path | str], iri_paths: Sequence[Path | str], beyond: Beyond = "error"
) -> list[tuple[World, Truth]]:
    """One world ``gim``: hourly maps of which the odd hours are withheld and scored at random cells of equal area.

    Raises
    ------
    DataError
        Maps that aren't hourly.
    """
    maps = joined([read_ionex(path) for path in paths])
    days = _covered(maps)
    base = blank("gim", days, iri_paths, beyond)
    since = (maps.time - np.datetime64(base["start"], "s")).astype(float) / 3600
    inside = (since >= 0) & (since <= base["param_time_h"][-1])
    since, tec, rms = since[inside], maps.tec[inside], maps.rms[inside]
    if not np.array_equal(since, base["param_time_h"]):
        raise DataError("every other map is withheld: hourly TEC maps of whole days are needed")
    given, held = np.flatnonzero(since % 2 == 0), np.flatnonzero(since % 2 == 1)
    held = held[held < given[-1]]  # between two given maps
    rng = np.random.default_rng(0)
    area = np.cos(np.deg2rad(maps.lat))
    row = rng.choice(len(maps.lat), GIM_COLUMNS, p=area / area.sum())
    column = rng.integers(len(maps.lon), size=GIM_COLUMNS)
    hour = rng.choice(held, GIM_COLUMNS)
    truth = tec[hour, row, column]
    known = np.isfinite(truth)
    row, column, hour, truth = row[known], column[known], hour[known], truth[known]
    base |= {
        "tec": tec[given].astype(np.float32),
        "tec_sigma": map_errors(tec, rms)[given].astype(np.float32),
        "tec_time_h": since[given],
        "tec_lat": maps.lat,
        "tec_lon": maps.lon,
        "column_time_h": since[hour],
        "column_lat": maps.lat[row],
        "column_lon": maps.lon[column],
        "column_tec_range_km": GIM_RANGE_KM,
    }
    none = np.full(len(truth), np.nan)
    facts = {"files": [Path(path).name for path in paths], "notes": list(maps.notes), "space_weather": origin(days[-1])}
    world = World(**base, attrs=facts)
    exact = Truth(
        np.empty(0), np.empty(0), none, none, truth, tec_maps=tec[held].astype(np.float32), tec_maps_time_h=since[held]
    )
    return [(world, exact)]


def thinned(profile: Profile, step_km: float = LEVEL_KM) -> Profile:
    """A profile's levels nearest to every ``step_km`` between 120 and 500 km."""
    from .quality import part_of

    wanted = np.arange(RANGE_KM[0], RANGE_KM[1] + 1, step_km)
    wanted = wanted[(wanted >= profile.alt_km[0]) & (wanted <= profile.alt_km[-1])]
    nearest = np.unique(np.abs(profile.alt_km[None] - wanted[:, None]).argmin(axis=1))
    keep = np.zeros(len(profile.alt_km), bool)
    keep[nearest] = True
    return part_of(profile, keep & (profile.ne > 0), f"thinned to every {step_km:g} km")


def as_points(found: Sequence[Profile], start: datetime) -> tuple[Points, np.ndarray, np.ndarray]:
    """Levels of profiles as points, log10 Ne, and their profile's number."""
    time_h = [(one.time - np.datetime64(start, "ms")).astype(float) / 3.6e6 for one in found]
    parts = [np.concatenate([getattr(one, name) for one in found]) for name in ("lat", "lon", "alt_km", "ne")]
    number = np.repeat(np.arange(len(found)), [len(one.alt_km) for one in found])
    return Points(np.concatenate(time_h), *parts[:3]), np.log10(parts[3]), number


def profiles(
    paths: Sequence[Path | str], iri_paths: Sequence[Path | str], beyond: Beyond = "error"
) -> list[tuple[World, Truth]]:
    """Worlds ``cosmic_a``, ``cosmic_b``, …: each withholds one of the profiles and gives the others; no TEC.

    Raises
    ------
    DataError
        Fewer than two usable profiles of one day.
    """
    found, unread = read_all(paths)
    found, left = checked(found)
    found = [thinned(one) for one in sorted(found, key=lambda one: one.name)]
    if len(found) < 2:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in (*unread, *left))
        raise DataError(f"{len(found)} of {len(paths)} profiles can be used, two are needed ({reasons})")
    day = min(one.time.min() for one in found).astype("datetime64[s]").astype(datetime).date()
    worlds = []
    for index, letter in zip(range(len(found)), "abcdefghijklmnopqrstuvwxyz", strict=False):
        base = blank(f"cosmic_{letter}", [day], iri_paths, beyond)
        obs, values, number = as_points(found, base["start"])
        sigma = level_errors(obs.alt_km)
        base |= no_tec(base["param_time_h"])
        base |= {
            "obs": obs,
            "obs_log10_ne": values,
            "obs_profile": number,
            "obs_withheld": number == index,
            "obs_sigma_white": sigma,
            "obs_sigma_vertical": sigma,
        }
        facts = {"profiles": [one.name for one in found], "left_out": [*unread, *left], "space_weather": origin(day)}
        none = np.empty(0)
        worlds.append((World(**base, attrs=facts), Truth(none, values[number == index], none, none, none)))
    return worlds
