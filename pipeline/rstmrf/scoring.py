"""Scores of one estimate against the truth of its world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import iri
from .estimates import Estimate, integration, spread_out
from .world import Points, Truth, World, sampled_local_time

Array = np.ndarray
ALTITUDES_KM = (120, 200, 300, 400, 500)
LOCAL_TIMES_H = (0, 6, 12, 18, 24)
LATITUDES = (0, 20, 50, 90)  # |quasi-dipole latitude|
ACTIVE_KP = 5.0
F_REGION_KM = 200.0
QUANTILE_90 = 1.6448536269514722
HZ_PER_ROOT_DENSITY = 8.98  # foF2 [Hz] = 8.98 sqrt(NmF2 [m-3])
SPREAD_BINS = 8
BLOCK_H = 6.0
FEWEST_DAYS = 3  # of each world, below which a bootstrap of days says nothing


def crps_normal(mean: Array, sd: Array, truth: Array) -> Array:
    """CRPS of a normal forecast, in the unit of its values (Gneiting and Raftery 2007, eq. 21)."""
    from scipy.special import ndtr

    z = (truth - mean) / sd
    return sd * (z * (2 * ndtr(z) - 1) + 2 * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) - 1 / np.sqrt(np.pi))


def fof2_mhz(log10_nmf2: Array) -> Array:
    """Critical frequency of the F2 layer in MHz from log10 of its peak density in m-3."""
    return HZ_PER_ROOT_DENSITY * 10 ** (log10_nmf2 / 2) / 1e6


@dataclass(frozen=True)
class Reference:
    """What a world's estimates are measured against: its truth, and IRI's own errors.

    dense_iri, withheld_iri: squared errors of IRI. kp: at the dense points.
    """

    world: World
    truth: Truth
    dense_iri: Array
    withheld_iri: Array
    kp: Array

    @classmethod
    def of(cls, world: World, truth: Truth) -> Reference:
        def error(points: Points, values: Array) -> Array:
            if not len(points):
                return np.empty(0)
            return (background(world, points) - values) ** 2

        held = world.obs.take(world.obs_withheld)
        hours = np.clip(np.searchsorted(world.drivers.time, world.dense.time_h, side="right") - 1, 0, None)
        kp = world.drivers.kp[hours] if len(world.dense) else np.empty(0)
        return cls(world, truth, error(world.dense, truth.dense), error(held, truth.withheld), kp)


def background(world: World, points: Points) -> Array:
    """log10 Ne of IRI at points."""
    return iri.log10_density(world.background_at(points.time_h, points.lat, points.lon), points.alt_km)


def masks(reference: Reference) -> dict[str, Array]:
    """Parts of the dense truth that are scored by themselves."""
    points = reference.world.dense
    sampled = sampled_local_time(points.local_time)
    return {
        "sampled": sampled,
        "unsampled": ~sampled,
        "f": points.alt_km >= F_REGION_KM,
        "e": points.alt_km < F_REGION_KM,
        "active": reference.kp >= ACTIVE_KP,
        "calm": reference.kp < ACTIVE_KP,
    }


def _ratio(error: Array, baseline: Array) -> float:
    return float(1 - error.mean() / baseline.mean()) if error.size else float("nan")


def score(estimate: Estimate, reference: Reference) -> dict[str, float]:
    """Metrics by name (design: scenario `osse`); a metric that the world or the method does not allow is left out.

    Densities in dex, ``rmse_nmf2`` in m-3, ``rmse_fof2_mhz`` in MHz, ``rmse_hmf2_km`` in km, ``rmse_tec`` in TECU.
    """
    truth, found = reference.truth, {}
    if estimate.dense.size:
        error = estimate.dense - truth.dense
        square = error**2
        found |= {"skill": _ratio(square, reference.dense_iri)}
        found |= {"rmse": float(np.sqrt(square.mean())), "bias": float(error.mean())}
        for name, mask in masks(reference).items():
            if mask.any():
                found[f"skill_{name}"] = _ratio(square[mask], reference.dense_iri[mask])
                found[f"rmse_{name}"] = float(np.sqrt(square[mask].mean()))
        if estimate.dense_sd is not None:
            sd = np.maximum(estimate.dense_sd, 1e-3)
            found["crps"] = float(crps_normal(estimate.dense, sd, truth.dense).mean())
            inside = np.abs(error) <= QUANTILE_90 * sd
            sampled = masks(reference)["sampled"]
            found["coverage90"] = float(inside.mean())
            found["coverage90_sampled"] = float(inside[sampled].mean())
            found["coverage90_unsampled"] = float(inside[~sampled].mean())
        else:
            found["crps"] = float(np.abs(error).mean())  # of a point forecast: its absolute error
    if estimate.withheld.size and truth.withheld.size:
        square = (estimate.withheld - truth.withheld) ** 2
        found["rmse_withheld"] = float(np.sqrt(square.mean()))
        found["skill_withheld"] = _ratio(square, reference.withheld_iri)
    if estimate.tec.size and truth.tec.size:
        found["rmse_tec"] = _rms(estimate.tec, truth.tec)
        if np.isfinite(truth.nmf2).any():
            found["rmse_nmf2"] = _rms(10**estimate.nmf2, 10**truth.nmf2)
            found["rmse_fof2_mhz"] = _rms(fof2_mhz(estimate.nmf2), fof2_mhz(truth.nmf2))
            found["rmse_hmf2_km"] = _rms(estimate.hmf2, truth.hmf2)
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _rms(a: Array, b: Array) -> float:
    return float(np.sqrt(np.nanmean((a - b) ** 2)))


def tec_skill(estimate: Estimate, reference: Reference) -> float:
    """1 - MSE / MSE of IRI in TEC, for worlds whose only truth is TEC."""
    world = reference.world
    altitudes, weights = integration(*world.column_tec_range_km)
    profile = background(world, spread_out(world, altitudes)).reshape(len(world.column_lat), -1)
    iri_tec = (10**profile) @ weights
    truth = reference.truth.tec
    return 1 - _rms(estimate.tec, truth) ** 2 / _rms(iri_tec, truth) ** 2


def vectors(estimate: Estimate, reference: Reference) -> dict[str, list]:
    """Splits of the dense truth.

    Skill by altitude, local time and magnetic latitude (nested lists in that order, null where a cell is empty), RMSE
    by local-time hour, and RMSE against spread.
    """
    if not estimate.dense.size:
        return {}
    points, world = reference.world.dense, reference.world
    square = (estimate.dense - reference.truth.dense) ** 2
    away = np.abs(world.qd(points.lat, points.lon))
    cells = []
    for low, high in zip(ALTITUDES_KM[:-1], ALTITUDES_KM[1:], strict=True):
        rows = []
        for first, last in zip(LOCAL_TIMES_H[:-1], LOCAL_TIMES_H[1:], strict=True):
            row = []
            for south, north in zip(LATITUDES[:-1], LATITUDES[1:], strict=True):
                mask = (points.alt_km >= low) & (points.alt_km < high) & (points.local_time >= first)
                mask &= (points.local_time < last) & (away >= south) & (away < north)
                row.append(_ratio(square[mask], reference.dense_iri[mask]) if mask.sum() > 10 else None)
            rows.append(row)
        cells.append(rows)
    hour = points.local_time.astype(int) % 24
    by_hour = [float(np.sqrt(square[hour == h].mean())) if (hour == h).any() else None for h in range(24)]
    found = {"skill_by_altitude_local_time_latitude": cells, "rmse_by_local_time": by_hour}
    if estimate.dense_sd is not None:
        order = np.array_split(np.argsort(estimate.dense_sd), SPREAD_BINS)
        found["spread"] = [float(np.sqrt((estimate.dense_sd[part] ** 2).mean())) for part in order]
        found["rmse_at_spread"] = [float(np.sqrt(square[part].mean())) for part in order]
    return found


def losses(estimate: Estimate, reference: Reference, block_h: float = BLOCK_H) -> Array:
    """[blocks, 2] sums of squared errors over spans of hours, the method's and IRI's: what is resampled."""
    if not estimate.dense.size:
        return np.empty((0, 2))
    block = (reference.world.dense.time_h // block_h).astype(int)
    both = ((estimate.dense - reference.truth.dense) ** 2, reference.dense_iri)
    return np.stack([np.bincount(block, value, block.max() + 1) for value in both], 1)


def by_day(blocks: list[Array]) -> list[Array] | None:
    """The same sums over whole days from the start, [days, 2] a world; None where a world has fewer than three."""
    length = round(24 / BLOCK_H)
    days = [np.add.reduceat(one, np.arange(0, len(one), length)) for one in blocks if len(one)]
    return days if days and min(map(len, days)) >= FEWEST_DAYS else None


def profile_losses(estimate: Estimate, reference: Reference) -> Array:
    """[profiles, 2] the same over withheld profiles."""
    if not estimate.withheld.size:
        return np.empty((0, 2))
    number = np.unique(reference.world.obs_profile[reference.world.obs_withheld], return_inverse=True)[1]
    both = ((estimate.withheld - reference.truth.withheld) ** 2, reference.withheld_iri)
    return np.stack([np.bincount(number, value) for value in both], 1)


def skill_interval(blocks: list[Array], draws: int = 2000, seed: int = 0) -> list[float]:
    """95 % bootstrap interval of the mean skill over worlds, resampling the blocks of each world.

    blocks: a world each, [n, 2] sums of squared errors of method and IRI.
    """
    return np.quantile(_drawn(blocks, draws, seed), [0.025, 0.975]).tolist()


def _drawn(blocks: list[Array], draws: int, seed: int) -> Array:
    """[draws] mean skill over worlds of resampled blocks; equal seeds draw equal blocks, so methods pair."""
    random = np.random.default_rng(seed)
    total = np.zeros(draws)
    for one in blocks:
        chosen = random.integers(0, len(one), (draws, len(one)))
        sums = one[chosen].sum(1)  # [draws, 2]
        total += 1 - sums[:, 0] / sums[:, 1]
    return total / len(blocks)


def skill_difference(a: list[Array], b: list[Array], draws: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Skill of a minus skill of b: mean over worlds, bootstrap interval and p, and the difference world by world.

    a, b: a world each, [n, 2] sums over 6-hour blocks. ``ci95_by_day`` resamples days instead (see :func:`by_day`):
    of three days it is too narrow by about a fifth, as a bootstrap of n draws has (n - 1) / n of the variance.
    """

    def skill(blocks: Array) -> float:
        sums = blocks.sum(0)
        return float(1 - sums[0] / sums[1])

    by_world = [skill(x) - skill(y) for x, y in zip(a, b, strict=True)]
    drawn = _drawn(a, draws, seed) - _drawn(b, draws, seed)
    tail = min((drawn <= 0).mean(), (drawn >= 0).mean())
    days = by_day(a), by_day(b)
    whole = _drawn(days[0], draws, seed) - _drawn(days[1], draws, seed) if all(days) else None
    return {
        "difference": float(np.mean(by_world)),
        "ci95": np.quantile(drawn, [0.025, 0.975]).tolist(),
        "ci95_by_day": None if whole is None else np.quantile(whole, [0.025, 0.975]).tolist(),
        "p": float(min(1.0, 2 * max(tail, 1 / draws))),
        "test": f"paired bootstrap of 6-hour blocks within worlds, {draws} draws",
        "n": int(sum(len(x) for x in a)),
        "by_world": by_world,
    }
