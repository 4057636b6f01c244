"""Observing-system simulation: a nature run, and what a satellite, a TEC network and a climatology would know of it.

A world is a period and a seed. Its truth and its observations come from here alone; the digest of the code that
makes them and that of the data stand in its attributes, so that a table tells whether two results saw the same world.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from datetime import datetime, time
from pathlib import Path

import numpy as np

from . import estimates
from .coordinates import degrees_of, harmonics
from .grid import Axes, interpolate
from .nature import Nature, make
from .orbit import Orbit, occultations
from .periods import PERIODS, parse
from .random_fields import maps as random_maps
from .weather import hourly
from .world import Points, Truth, World

HISTORY_H = 72
PROFILES = 1950
LEVELS_KM = np.linspace(130, 490, 12)
JITTER_KM = 15.0
WITHHELD = 0.12
SIGMA_PROFILE = 0.04  # dex
VERTICAL_KM = 50.0
ALT_KM = (120.0, 500.0)
TEC_STEP = 1.0  # degrees
TEC_ERRORS = {"large": 1.3, "small": 0.8, "offset": 0.7}  # TECU
TEC_BLUR_DEG = 5.0
CODE = (  # every module that a world comes from
    *("simulation", "nature", "orbit", "random_fields", "coordinates", "grid", "iri", "iri_day", "weather"),
    *("periods", "estimates", "world", "tec"),
)


@dataclass(frozen=True)
class Size:
    """How large a world is; the defaults are those of the tables."""

    hours: int = 71
    profiles: int = PROFILES
    dense: int = 20_000
    columns: int = 1200


def level_errors(alt: np.ndarray) -> np.ndarray:
    """Size of the vertically correlated error, and of the white one [dex]: .09 at 120 km, .03 at 500 km."""
    return 0.03 + 0.06 * np.clip((ALT_KM[1] - alt) / (ALT_KM[1] - ALT_KM[0]), 0, 1) ** 1.5


def simulate(
    name: str, base: np.ndarray, background: np.ndarray, lat: np.ndarray, lon: np.ndarray, size: Size | None = None
) -> tuple[World, Truth]:
    """One world and its truth.

    Parameters
    ----------
    name: period letter and seed.
    base, background: hourly IRI maps [8, T, LAT, LON] for each day's F10.7 and for the trailing 81-day mean.
    lat, lon: their axes in degrees.
    size: how large.
    """
    size = size or Size()
    period, seed = parse(name)
    start = datetime.combine(PERIODS[period], time())
    hours = np.arange(size.hours + 1.0)
    base, background = base[:, : len(hours)], background[:, : len(hours)]
    rngs = [
        np.random.default_rng([seed, ord(period), part]) for part in range(5)
    ]  # one each, so that none shifts another
    drivers = hourly(start, len(hours), HISTORY_H)
    nature = make(base, hours, lat, lon, start, drivers, rngs[0])
    dense = uniform(size.dense, size.hours, rngs[1])
    spread = uniform(size.columns, size.hours, rngs[2])
    obs, values, exact, profile, withheld, sigma = _profiles(nature, size, rngs[3])
    tec, sigma_tec, tec_lat, tec_lon = _tec_maps(nature, hours, lat, lon, rngs[4])
    world = World(
        name=name,
        start=start,
        obs=obs,
        obs_log10_ne=values,
        obs_profile=profile,
        obs_withheld=withheld,
        obs_sigma_white=sigma,
        obs_sigma_vertical=sigma,
        obs_sigma_profile=SIGMA_PROFILE,
        obs_vertical_km=VERTICAL_KM,
        tec=tec,
        tec_sigma=sigma_tec,
        tec_time_h=hours,
        tec_lat=tec_lat,
        tec_lon=tec_lon,
        param=background,
        param_time_h=hours,
        param_lat=lat,
        param_lon=lon,
        drivers=drivers,
        dense=dense,
        column_time_h=spread.time_h,
        column_lat=spread.lat,
        column_lon=spread.lon,
    )
    columns = estimates.columns(world, lambda points: (nature.log10_ne(points), None))
    truth = Truth(nature.log10_ne(dense), exact[withheld], **columns)
    world.attrs = {
        "period": str(PERIODS[period]),
        "seed": seed,
        "kp_max": float(np.nanmax(drivers.kp[HISTORY_H:])),
        "code_digest": code_digest(),
        "data_digest": data_digest(world, truth),
    }
    return world, truth


def code_digest() -> str:
    """SHA-256 of the source of the simulator's modules."""
    total = hashlib.sha256()
    for module in CODE:
        total.update(Path(__file__).with_name(f"{module}.py").read_bytes())
    return total.hexdigest()


def data_digest(world: World, truth: Truth) -> str:
    """SHA-256 of a world's arrays and its truth's, in single precision: observations and which of them are withheld,
    TEC, background, drivers, the places of the scores, and the truth of points, profiles and columns."""
    total = hashlib.sha256()
    for record in (world.obs, world.dense, world.drivers, world, truth):
        for part in fields(record):
            value = getattr(record, part.name)
            if isinstance(value, np.ndarray):
                total.update(f"{part.name} {value.shape}".encode())
                total.update(np.ascontiguousarray(value, np.float32).tobytes())
    return total.hexdigest()


def uniform(count: int, hours: float, rng: np.random.Generator) -> Points:
    """Points that are uniform in time, area and altitude."""
    return Points(
        rng.uniform(0, hours, count),
        np.rad2deg(np.arcsin(rng.uniform(-1, 1, count))),
        rng.uniform(-180, 180, count),
        rng.uniform(*ALT_KM, count),
    )


def _profiles(nature: Nature, size: Size, rng: np.random.Generator):
    """Occultation profiles: positions, noisy and exact values, numbers, which are withheld, and the error's size."""
    tracks = occultations(Orbit(), size.hours, LEVELS_KM, rng, JITTER_KM)
    wanted = min(size.profiles, len(tracks.time_h))
    chosen = np.sort(rng.choice(len(tracks.time_h), wanted, replace=False))
    shape = (wanted, len(LEVELS_KM))
    obs = Points(*(getattr(tracks, part)[chosen].ravel() for part in ("time_h", "lat", "lon", "alt_km")))
    exact = nature.log10_ne(obs)
    alt = tracks.alt_km[chosen]
    sigma = level_errors(alt)
    near = np.exp(-0.5 * ((alt[:, :, None] - alt[:, None, :]) / VERTICAL_KM) ** 2) + 1e-9 * np.eye(shape[1])
    vertical = np.einsum("pij,pj->pi", np.linalg.cholesky(near), rng.standard_normal(shape)) * sigma
    error = SIGMA_PROFILE * rng.standard_normal((wanted, 1)) + vertical + sigma * rng.standard_normal(shape)
    withheld = np.zeros(wanted, bool)
    withheld[rng.choice(wanted, round(WITHHELD * wanted), replace=False)] = True
    number = np.repeat(np.arange(wanted), shape[1])
    return obs, exact + error.ravel(), exact, number, withheld[number], sigma.ravel()


def blurred(field: np.ndarray, lat: np.ndarray, lon: np.ndarray, sigma_deg: float, degree: int = 20) -> np.ndarray:
    """Maps [T, LAT, LON] smoothed by a Gaussian of ``sigma_deg`` on the sphere, through their harmonics."""
    basis = harmonics(lat[:, None], lon[None, :], degree).reshape(-1, (degree + 1) ** 2)
    area = np.repeat(np.sqrt(np.cos(np.deg2rad(lat)) + 1e-3), len(lon))
    ls = degrees_of(degree)
    damp = np.exp(-0.5 * ls * (ls + 1) * np.deg2rad(sigma_deg) ** 2)
    fit, *_ = np.linalg.lstsq(basis * area[:, None], (field.reshape(len(field), -1) * area).T, rcond=None)
    return (basis @ (fit * damp[:, None])).T.reshape(field.shape)


def _tec_maps(nature: Nature, hours: np.ndarray, lat: np.ndarray, lon: np.ndarray, rng: np.random.Generator):
    """Observed TEC on a 1-degree grid: the true map as a global model would smooth it, with errors that it would
    have."""
    tec = blurred(nature.vtec(), lat, lon, TEC_BLUR_DEG)
    large = random_maps(rng, lat, lon, hours, degree=5, slope=1.0, memory_h=30, sun_fixed=0.2, lowest=1)[0]
    small = random_maps(rng, lat, lon, hours, degree=16, slope=0.5, memory_h=8, sun_fixed=0.2, lowest=6)[0]
    tec = tec + TEC_ERRORS["large"] * large + TEC_ERRORS["small"] * small + TEC_ERRORS["offset"] * rng.standard_normal()
    tec = np.clip(tec, 0.1, None)
    fine_lat = np.arange(-90, 90 + TEC_STEP / 2, TEC_STEP)
    fine_lon = np.arange(-180, 180 - TEC_STEP / 2, TEC_STEP)
    axes = Axes.of(hours, lat, lon)
    fine = np.stack(
        [interpolate(tec[None], axes, hour, fine_lat[:, None], fine_lon[None, :])[..., 0] for hour in hours]
    )
    sigma = 1.5 + 0.05 * fine  # what the network would state of its own error
    return (*(np.round(part, 1).astype(np.float32) for part in (fine, sigma)), fine_lat, fine_lon)
