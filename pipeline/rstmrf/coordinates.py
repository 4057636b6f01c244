"""Quasi-dipole latitude, local time, and spherical harmonics in them."""

from __future__ import annotations

from datetime import date, datetime
from functools import cache

import numpy as np

from .grid import Axes, interpolate

QD_STEP = 2.0  # degrees; quasi-dipole latitude is smooth


def local_time(hour: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """Solar local time [h] in [0, 24) from universal hours and longitude."""
    return (np.asarray(hour, float) + np.asarray(lon, float) / 15) % 24


@cache
def qd_map(year: int, step: float = QD_STEP) -> np.ndarray:
    """Quasi-dipole latitude [LAT, LON] on a grid from -90 and -180 degrees, from PyIRI's Apex coefficients."""
    import PyIRI.sh_library as sh

    lat, lon = np.arange(-90, 90 + step / 2, step), np.arange(-180, 180 - step / 2, step)
    lats, lons = (axis.ravel() for axis in np.meshgrid(lat, lon, indexing="ij"))
    qd, _ = sh.Apex(lats, lons, datetime(year, 7, 1), "GEO_2_QD")
    return np.asarray(qd, float).reshape(len(lat), len(lon))


def qd_latitude(lat: np.ndarray, lon: np.ndarray, day: date | datetime | int) -> np.ndarray:
    """Quasi-dipole latitude [deg] of geographic positions, from the year's map."""
    year = day if isinstance(day, int) else day.year
    axes = Axes(0.0, 1.0, -90.0, QD_STEP, -180.0, QD_STEP)
    return interpolate(qd_map(year)[None, None], axes, 0.0, lat, lon)[..., 0]


def degrees_of(degree: int) -> np.ndarray:
    """Degree l of each of the (degree + 1)^2 harmonics, in the order of :func:`harmonics`."""
    return np.array([n for n in range(degree + 1) for _ in range(2 * n + 1)])


def harmonics(lat: np.ndarray, lon: np.ndarray, degree: int) -> np.ndarray:
    """Real spherical harmonics [..., (degree + 1)^2] with mean square one over the sphere (4-pi normalised).

    Order: by degree n, then m = 0, cos 1, sin 1, cos 2, …; ``lat`` and ``lon`` in degrees (of any spherical frame: for
    latitude and local time, give 15 degrees an hour). The recursion is the stable one in n at fixed m.
    """
    sin, cos = np.sin(np.deg2rad(lat)), np.cos(np.deg2rad(lat))
    sin, cos, angle = np.broadcast_arrays(sin, cos, np.deg2rad(lon))
    result = np.empty((*sin.shape, (degree + 1) ** 2))
    diagonal = np.ones_like(sin)  # fully normalised P_m^m, scaled so that m > 0 carries the sqrt(2)
    for m in range(degree + 1):
        if m:
            diagonal = diagonal * cos * np.sqrt((2 * m + 1) / (2 * m) * (2 if m == 1 else 1))
        turn = (np.cos(m * angle), np.sin(m * angle))
        before, here = np.zeros_like(sin), diagonal
        for n in range(m, degree + 1):
            if n > m:
                a = np.sqrt((4 * n * n - 1) / (n * n - m * m))
                b = np.sqrt(((n - 1) ** 2 - m * m) / (4 * (n - 1) ** 2 - 1)) if n - 1 > m else 0.0
                before, here = here, a * (sin * here - b * before)
            if m == 0:
                result[..., n * n] = here
            else:
                result[..., n * n + 2 * m - 1] = here * turn[0]
                result[..., n * n + 2 * m] = here * turn[1]
    return result
