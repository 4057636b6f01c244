"""What the observations of an hour say about the corrections of profile parameters, linearised.

The state of an hour is the spherical-harmonic coefficients, in quasi-dipole latitude and local time, of the thirteen
corrections (:data:`pipeline.rstmrf.iri.FIELDS`), in units of their prior standard deviations. An observation is a
level of a profile (log10 Ne, with the errors of its profile correlated) or ln TEC on a coarse grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .coordinates import degrees_of, harmonics, local_time
from .grid import interpolate
from .iri import FIELDS, TECU, bumps, log10_density, quadrature, raised, vtec
from .world import World

STEPS = np.array([0.02, 1.0, 0.02, 0.02, 0.02, 0.05, 0.05])  # finite differences of the seven profile parameters
TEC_LEAST = 2.0  # TECU; below it a map says little about the logarithm


@dataclass(frozen=True)
class Prior:
    """What is believed before any observation.

    degree: of the harmonics. spread: standard deviation of each field. slope: coefficients fall as (1 + l/3)^-slope.
    memory_h: e-folding time of degree 0, shorter by (1 + l/8) at degree l.
    """

    degree: int = 8
    spread: tuple[float, ...] = (0.25, 18.0, 0.15, 0.12, 0.18, 0.25, 0.20, 0.12, 0.12, 0.10, 0.07, 0.05, 0.06)
    slope: float = 2.2
    memory_h: float = 4.0

    @property
    def scale(self) -> np.ndarray:
        """Prior standard deviation [13, K] of every coefficient; a field's variance over the sphere is its spread's."""
        size = (1 + degrees_of(self.degree) / 3.0) ** -self.slope
        return np.array(self.spread)[:, None] * (size / np.sqrt((size**2).sum()))

    @property
    def keep(self) -> np.ndarray:
        """What one hour keeps [K] of a coefficient."""
        return np.exp(-(1 + degrees_of(self.degree) / 8.0) / self.memory_h)


@dataclass(frozen=True)
class Errors:
    """Errors that the analysis assumes. white: of one level [dex], representativeness included; profile: common to a
    profile; tec_factor: TEC errors are correlated, so that each map's stated error is taken so many times larger.
    """

    white: float = 0.09
    profile: float = 0.05
    tec_factor: float = 3.8
    tec_step_deg: tuple[float, float] = (10.0, 15.0)


@dataclass
class Hour:
    """Observations that belong to one hour: N levels, M cells of TEC."""

    params: np.ndarray  # [N, 8] background at the levels
    alt: np.ndarray  # [N] km
    value: np.ndarray  # [N] log10 Ne
    basis: np.ndarray  # [N, K]
    root: np.ndarray  # [N, N] Cholesky factor of the error covariance
    tec_params: np.ndarray  # [M, 8]
    tec_value: np.ndarray  # [M] ln TECU
    tec_sigma: np.ndarray  # [M] of the logarithm
    tec_basis: np.ndarray  # [M, K]


def basis(world: World, prior: Prior, time_h: np.ndarray, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """Harmonics [..., K] in quasi-dipole latitude and local time."""
    return harmonics(world.qd(lat, lon), 15 * local_time(time_h, lon), prior.degree)


def covariance(
    alt: np.ndarray, profile: np.ndarray, vertical: np.ndarray, length_km: float, errors: Errors
) -> np.ndarray:
    """Error covariance [N, N] of levels: common to a profile, correlated with altitude within it, and white."""
    same = profile[:, None] == profile[None]
    near = np.exp(-0.5 * ((alt[:, None] - alt[None]) / length_km) ** 2)
    shared = errors.profile**2 + vertical[:, None] * vertical[None] * near
    return np.where(same, shared, 0.0) + errors.white**2 * np.eye(len(alt))


def hours(world: World, background: np.ndarray, prior: Prior, errors: Errors, use_tec: bool = True) -> list[Hour]:
    """Observations by the hour of the parameter maps (a profile belongs whole to the hour nearest its middle)."""
    used = world.used
    number = world.obs_profile[used]
    points = world.obs.take(used)
    _, place, count = np.unique(number, return_inverse=True, return_counts=True)
    middle = np.bincount(place, points.time_h)[place] / count[place] if len(used) else np.empty(0)
    t0, dt = world.axes.t0, world.axes.dt
    slot = np.clip(np.round((middle - t0) / dt), 0, len(world.param_time_h) - 1).astype(int)
    params = interpolate(background, world.axes, points.time_h, points.lat, points.lon)
    functions = basis(world, prior, points.time_h, points.lat, points.lon)
    tec_lat = np.arange(-90 + errors.tec_step_deg[0] / 2, 90, errors.tec_step_deg[0])
    tec_lon = np.arange(-180 + errors.tec_step_deg[1] / 2, 180, errors.tec_step_deg[1])
    lats, lons = (axis.ravel() for axis in np.meshgrid(tec_lat, tec_lon, indexing="ij"))
    mapped = (
        {round(float(hour), 3): row for row, hour in enumerate(world.tec_time_h)} if use_tec and world.has_tec else {}
    )
    result = []
    for index, hour in enumerate(world.param_time_h):
        here = np.flatnonzero(slot == index)
        own = covariance(
            points.alt_km[here], number[here], world.obs_sigma_vertical[used][here], world.obs_vertical_km, errors
        )
        tec, sigma = np.empty(0), np.empty(0)
        row = mapped.get(round(float(hour), 3))
        if row is not None:
            maps = np.stack([world.tec[row], world.tec_sigma[row]])[:, None]
            tec, sigma = interpolate(maps, world.tec_axes, hour, lats, lons).T
        good = np.isfinite(tec) & (tec > TEC_LEAST) if row is not None else np.zeros(0, bool)
        at = (np.full(good.sum(), hour), lats[good], lons[good]) if row is not None else (np.empty(0),) * 3
        result.append(
            Hour(
                params[here],
                points.alt_km[here],
                world.obs_log10_ne[used][here],
                functions[here],
                np.linalg.cholesky(own),
                interpolate(background, world.axes, *at),
                np.log(tec[good]),
                errors.tec_factor * sigma[good] / tec[good],
                basis(world, prior, *at),
            )
        )
    return result


def level_jacobian(params: np.ndarray, increments: np.ndarray, alt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log10 Ne [N] of corrected parameters and its derivative [N, 13] by the corrections."""
    at = raised(params, increments)
    value = log10_density(at, alt)
    slopes = np.empty((len(alt), len(FIELDS)))
    for index, step in enumerate(STEPS):
        moved = at.copy()
        moved[:, index] += step
        slopes[:, index] = (log10_density(moved, alt) - value) / step
    slopes[:, len(STEPS) :] = bumps(alt)
    return value + (slopes[:, len(STEPS) :] * increments[:, len(STEPS) :]).sum(-1), slopes


def tec_jacobian(params: np.ndarray, increments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ln TEC [M] (90 to 2,000 km) of corrected parameters and its derivative [M, 13] by the corrections."""
    value = np.log(vtec(params, increments, nodes=9))
    slopes = np.empty((len(params), len(FIELDS)))
    for index, step in enumerate(STEPS):
        moved = increments.copy()
        moved[:, index] += step
        slopes[:, index] = (np.log(vtec(params, moved, nodes=9)) - value) / step
    at = raised(params, increments)
    alt, weight = quadrature(np, at[:, 1], 90.0, 2000.0, nodes=9)
    shapes = bumps(alt)  # [M, A, 6]
    ln_ne = np.log(10) * (log10_density(at[:, None], alt) + (shapes @ increments[:, len(STEPS) :, None])[..., 0])
    part = np.exp(ln_ne - value[:, None]) * weight * (1e3 / TECU)
    slopes[:, len(STEPS) :] = np.log(10) * np.einsum("ma,maf->mf", part, shapes)
    return value, slopes


def linearise(hour: Hour, coefficients: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whitened Jacobian [N + M, 13 K] and right-hand side [N + M] about scaled coefficients [13, K].

    The right-hand side is R^-1/2 (y - h(x) + H x), so that the analysis is that of a linear problem in x.
    """
    from scipy.linalg import solve_triangular

    physical = coefficients * scale
    rows, sides = [], []
    if len(hour.value):
        increments = hour.basis @ physical.T
        value, slopes = level_jacobian(hour.params, increments, hour.alt)
        side = hour.value - value + (slopes * increments).sum(-1)
        plain = np.concatenate([_spread(slopes, hour.basis, scale), side[:, None]], axis=1)
        white = solve_triangular(hour.root, plain, lower=True, check_finite=False)
        rows.append(white[:, :-1])
        sides.append(white[:, -1])
    if len(hour.tec_value):
        increments = hour.tec_basis @ physical.T
        value, slopes = tec_jacobian(hour.tec_params, increments)
        side = hour.tec_value - value + (slopes * increments).sum(-1)
        rows.append(_spread(slopes / hour.tec_sigma[:, None], hour.tec_basis, scale))
        sides.append(side / hour.tec_sigma)
    if not rows:
        return np.empty((0, scale.size)), np.empty(0)
    return np.concatenate(rows), np.concatenate(sides)


def _spread(slopes: np.ndarray, functions: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """[N, 13 K] Jacobian by scaled coefficients from slopes [N, 13] and basis [N, K]."""
    return (slopes[:, :, None] * functions[:, None, :] * scale).reshape(len(slopes), -1)
