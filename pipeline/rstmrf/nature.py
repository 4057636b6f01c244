"""The nature run of a simulated world: an ionosphere that differs from the climatology in level, shape and time.

IRI driven by each day's own F10.7, with storm terms that follow Kp, random fields on every profile parameter, and a
vertical structure that no IRI profile has: a topside between NeQuick's and a Chapman layer whose scale height grows
with height, altitude bumps of log10 Ne, and a travelling disturbance.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from .coordinates import local_time, qd_latitude
from .grid import Axes, interpolate
from .iri import FLOOR, TECU, log10_density, quadrature
from .random_fields import maps as random_maps
from .weather import Drivers
from .world import Points

SPREAD = {  # standard deviation of the random field on each parameter
    "ln_nmf2": 0.25,
    "hmf2": 17.0,  # km
    "ln_b0": 0.17,
    "ln_b1": 0.14,
    "ln_btop": 0.20,
    "ln_f1": 0.25,
    "ln_nme": 0.22,
}
SHAPES = (  # centre km, width km, standard deviation dex of the altitude bumps: larger and narrower low down
    (118.0, 22.0, 0.090),
    (140.0, 26.0, 0.085),
    (168.0, 32.0, 0.075),
    (205.0, 40.0, 0.065),
    (260.0, 52.0, 0.055),
    (340.0, 66.0, 0.045),
    (450.0, 80.0, 0.035),
)
CHAPMAN_GROWTH = 0.10  # of the scale height with height
TID_DEX, TID_KM, TID_HOURS = 0.03, 1500.0, 1.5
STORM_KP = 3.0
SLOPE, MEMORY_H = 2.0, 30.0  # of the random fields: spectrum, and persistence of the largest scales


@dataclass(frozen=True)
class Storm:
    """Sizes of the storm terms at full strength (Kp 9): equatorial anomaly and high-latitude depletion in ln NmF2,
    uplift in km, thickness in ln B0 and ln Btop."""

    anomaly: float
    depletion: float
    uplift_km: float
    thickness: float

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Storm:
        """Random sizes: half to one and a half of the usual ones."""
        a, d, u, t = rng.uniform(0.5, 1.5, 4)
        return cls(0.30 * a, 0.30 * d, 22.0 * u, 0.08 * t)


def strength(drivers: Drivers, hours: np.ndarray, lag_h: float) -> np.ndarray:
    """Storm strength at hours: (Kp - 3) / 6 from below 0 cut off, in a running mean that forgets with ``lag_h``."""
    push = np.clip((drivers.kp - STORM_KP) / 6, 0, None)
    level, levels = push[0], []
    for value in push:
        level += (value - level) * (1 - np.exp(-1 / lag_h))
        levels.append(level)
    return np.interp(hours, drivers.time, levels)


@dataclass(frozen=True)
class Nature:
    """A nature run: parameter maps [8, T, LAT, LON], shape maps [2 + bumps, T, LAT, LON] (share of the Chapman topside,
    growth of its scale height, bumps in dex), and the travelling disturbance's phase, heading and size."""

    params: np.ndarray
    shapes: np.ndarray
    axes: Axes
    tid: tuple[float, float, float, float]

    def log10_ne(self, points: Points) -> np.ndarray:
        """log10 Ne [m-3] at points."""
        both = np.concatenate([self.params, self.shapes])
        at = interpolate(both, self.axes, points.time_h, points.lat, points.lon)
        value = profile(at[..., :8], at[..., 8:], points.alt_km)
        return value + self._tid(points)

    def vtec(self, low: float = 90.0, high: float = 2000.0) -> np.ndarray:
        """Vertical content on the grid [T, LAT, LON] in TECU, without the travelling disturbance (below the grid's
        step)."""
        result = np.empty(self.params.shape[1:])
        for step in range(result.shape[0]):
            at = np.moveaxis(self.params[:, step], 0, -1)
            shape = np.moveaxis(self.shapes[:, step], 0, -1)
            alt, weight = quadrature(np, at[..., 1], low, high, nodes=10)
            value = profile(at[..., None, :], shape[..., None, :], alt)
            result[step] = (10**value * weight).sum(-1) * (1e3 / TECU)
        return result

    def _tid(self, points: Points) -> np.ndarray:
        phase, heading, size, tilt = self.tid
        north = 111.2 * points.lat * np.cos(heading)
        east = 111.2 * points.lon * np.cos(np.deg2rad(points.lat)) * np.sin(heading)
        turns = (north + east + tilt * points.alt_km) / TID_KM - points.time_h / TID_HOURS
        envelope = np.exp(-0.5 * ((points.alt_km - 300) / 150) ** 2) * (0.3 + np.abs(np.sin(np.deg2rad(points.lat))))
        return size * envelope * np.sin(2 * np.pi * turns + phase)


def profile(params: np.ndarray, shapes: np.ndarray, alt: np.ndarray) -> np.ndarray:
    """log10 Ne of the nature run's profile: params [..., 8], shapes [..., 2 + bumps], alt [...]."""
    value = log10_density(params, alt, FLOOR)
    ln_nm, hm, scale = params[..., 0], params[..., 1], np.exp(params[..., 4])
    share, growth = shapes[..., 0], shapes[..., 1]
    dh = np.clip(alt - hm, 0, None)
    z = np.log1p(growth * dh / scale) / growth
    chapman = (ln_nm + 0.5 * (1 - z - np.exp(-z))) / np.log(10)
    value = np.where(alt > hm, (1 - share) * value + share * chapman, value)
    for index, (centre, width, _) in enumerate(SHAPES):
        value = value + shapes[..., 2 + index] * np.exp(-0.5 * ((alt - centre) / width) ** 2)
    return value


def storm_terms(
    storm: Storm, drivers: Drivers, hours: np.ndarray, qd: np.ndarray, lon: np.ndarray
) -> dict[str, np.ndarray]:
    """Storm terms [T, LAT, LON] on ln_nmf2, hmf2 and the thicknesses; qd [LAT, LON], lon [LON] in degrees."""
    prompt = strength(drivers, hours, 2.0)[:, None, None]
    late = strength(drivers, hours, 9.0)[:, None, None]
    lt = local_time(hours[:, None], lon[None])[:, None, :]  # [T, 1, LON]
    away = np.abs(qd)[None]

    def near(centre: float, width: float) -> np.ndarray:
        return np.exp(-((((lt - centre + 12) % 24 - 12) / width) ** 2))

    crests = np.exp(-(((away - 16) / 9) ** 2)) - 0.7 * np.exp(-((away / 7) ** 2))
    anomaly = storm.anomaly * prompt * crests * (0.15 + near(17, 5))
    auroral = 1 / (1 + np.exp(-(away - 42) / 6))
    depletion = -storm.depletion * late * auroral * (0.75 + 0.4 * np.cos(2 * np.pi * (lt - 6) / 24))
    uplift = storm.uplift_km * (prompt * np.exp(-((away / 35) ** 2)) * (0.4 + near(17, 5)) + 0.5 * late * auroral)
    wider = storm.thickness * (late + 0 * auroral)
    return {"ln_nmf2": anomaly + depletion, "hmf2": uplift, "ln_b0": 0.6 * wider, "ln_btop": wider + 0 * lt}


def make(
    base: np.ndarray,
    hours: np.ndarray,
    lat: np.ndarray,
    lon: np.ndarray,
    start: datetime,
    drivers: Drivers,
    rng: np.random.Generator,
) -> Nature:
    """A nature run on top of IRI's maps ``base`` [8, T, LAT, LON] for each day's own F10.7."""
    params = base.copy()
    qd = qd_latitude(lat[:, None], lon[None, :], start)
    storm = Storm.drawn(rng)
    names = list(SPREAD)
    for name, term in storm_terms(storm, drivers, hours, qd, lon).items():
        params[names.index(name)] += term
    count = len(SPREAD) + 2 + len(SHAPES)
    noise = random_maps(rng, lat, lon, hours, slope=SLOPE, memory_h=MEMORY_H, count=count)
    for index, (_, size) in enumerate(SPREAD.items()):
        params[index] += size * noise[index]
    share = 1 / (1 + np.exp(-1.2 * noise[len(SPREAD)]))
    growth = CHAPMAN_GROWTH * np.exp(0.3 * noise[len(SPREAD) + 1])
    sizes = np.array([size for *_, size in SHAPES])[:, None, None, None]
    shapes = np.concatenate([np.stack([share, growth]), sizes * noise[len(SPREAD) + 2 :]])
    tid = (rng.uniform(0, 2 * np.pi), rng.uniform(2.4, 3.9), TID_DEX * np.sqrt(2), rng.uniform(0.2, 0.6))
    return Nature(params, shapes, Axes.of(hours, lat, lon), tid)
