"""Radio occultations of a sun-synchronous satellite: where the tangent point of the ray runs while a profile is taken.

Circular orbits and straight rays. The frame turns with the sun (an inertial frame but for one degree a day), in
which the satellite's node stands still; longitude follows from the universal time. FY-3D: 836 km, 98.75 degrees,
ascending at 14 h local time, an occultation instrument that looks fore and aft (reference: Sun et al. 2018,
amt-11-5797).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

EARTH_KM = 6371.0
MU = 398600.4418  # km^3 s^-2
STEP_S = 10.0
CONSTELLATIONS = (
    (32, 6, 26560.0, 55.0),
    (24, 3, 27906.0, 55.0),
)  # satellites, planes, radius km, inclination: GPS, BeiDou
AZIMUTH_DEG = 55.0  # seen this far from the direction of flight, or from its opposite
LOW_KM, HIGH_KM = 100.0, 520.0


@dataclass(frozen=True)
class Orbit:
    """A circular orbit: altitude, inclination, local time of the ascending node."""

    altitude_km: float = 836.0
    inclination_deg: float = 98.75
    node_local_time_h: float = 14.0


@dataclass(frozen=True)
class Tracks:
    """Tangent points of M occultations at K levels each, [M, K]; ``alt_km`` falls or rises along a row as time goes."""

    time_h: np.ndarray
    lat: np.ndarray
    lon: np.ndarray
    alt_km: np.ndarray


def circle(radius: float, inclination: float, node: float, phase: np.ndarray) -> np.ndarray:
    """Positions [..., 3] on a circular orbit, angles in radians, node from the x axis (towards the sun)."""
    cos_u, sin_u, cos_i = np.cos(phase), np.sin(phase), np.cos(inclination)
    x = cos_u * np.cos(node) - sin_u * cos_i * np.sin(node)
    y = cos_u * np.sin(node) + sin_u * cos_i * np.cos(node)
    return radius * np.stack([x, y, sin_u * np.sin(inclination)], axis=-1)


def rate(radius: float) -> float:
    """Angular speed on a circular orbit [rad/s]."""
    return float(np.sqrt(MU / radius**3))


def tangent(receiver: np.ndarray, sender: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Point of a straight ray nearest to the Earth's centre [..., 3], and whether it lies between the two."""
    ray = sender - receiver
    share = -(receiver * ray).sum(-1) / (ray * ray).sum(-1)
    return receiver + share[..., None] * ray, (share > 0) & (share < 1)


def occultations(
    orbit: Orbit, hours: float, levels_km: np.ndarray, rng: np.random.Generator, jitter_km: float
) -> Tracks:
    """All occultations that cross every level within ``hours``, levels moved by up to ``jitter_km`` each.

    The senders' nodes and phases are random. Levels [K] in km.
    """
    seconds = np.arange(0, hours * 3600, STEP_S)
    radius, tilt = EARTH_KM + orbit.altitude_km, np.deg2rad(orbit.inclination_deg)
    node = np.deg2rad(15 * (orbit.node_local_time_h - 12))
    phase = rng.uniform(0, 2 * np.pi) + rate(radius) * seconds
    here = circle(radius, tilt, node, phase)  # [S, 3]
    ahead = circle(1.0, tilt, node, phase + np.pi / 2)  # unit vector of flight
    rows = []
    for count, planes, far, inclination in CONSTELLATIONS:
        start = rng.uniform(0, 2 * np.pi)
        for index in range(count):
            own = start + 2 * np.pi * (index % planes) / planes
            along = rng.uniform(0, 2 * np.pi) + rate(far) * seconds
            there = circle(far, np.deg2rad(inclination), own, along)
            rows += _crossings(seconds, here, ahead, there, levels_km, rng, jitter_km)
    time_h, lat, sun_lon, alt = (np.array(part).reshape(-1, len(levels_km)) for part in zip(*rows, strict=True))
    lon = (np.rad2deg(sun_lon) - 15 * (time_h - 12) + 180) % 360 - 180
    order = np.argsort(time_h.mean(axis=1), kind="stable")
    return Tracks(time_h[order], np.rad2deg(lat)[order], lon[order], alt[order])


def _crossings(seconds, here, ahead, there, levels, rng, jitter):
    """Time, latitude, sun-fixed longitude [rad] and altitude at the levels of each occultation of one sender."""
    ray = there - here
    point, between = tangent(here, there)
    height = np.linalg.norm(point, axis=-1) - EARTH_KM
    flat = ray - (ray * here).sum(-1, keepdims=True) * here / (here * here).sum(-1, keepdims=True)
    fore = np.abs((flat * ahead).sum(-1)) / np.linalg.norm(flat, axis=-1)
    seen = between & (height > LOW_KM - 60) & (height < HIGH_KM + 60) & (fore > np.cos(np.deg2rad(AZIMUTH_DEG)))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], seen.astype(np.int8), [0]])))
    found = []
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        h = height[start:stop]
        if stop - start < 4 or not (np.all(np.diff(h) > 0) or np.all(np.diff(h) < 0)):
            continue  # grazing: the ray does not cross the levels
        wanted = levels + rng.uniform(-jitter, jitter, len(levels))
        order = np.argsort(h)
        if h.min() > wanted.min() or h.max() < wanted.max():
            continue
        at = np.interp(wanted, h[order], seconds[start:stop][order])
        xyz = np.stack([np.interp(at, seconds[start:stop], point[start:stop, axis]) for axis in range(3)], axis=-1)
        lat = np.arcsin(xyz[:, 2] / np.linalg.norm(xyz, axis=-1))
        found.append((at / 3600, lat, np.arctan2(xyz[:, 1], xyz[:, 0]), wanted))
    return found
