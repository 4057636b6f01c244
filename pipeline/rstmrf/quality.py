"""Which profiles can be trusted: the rules of the FY-3 and COSMIC-2 data (reference: zzmnl0/INR1, qc_profile_data),
each by name.

Roughness is the mean relative deviation from a running mean (Yang et al. 2009, doi 10.1029/2009RS004147); above 420
km it measures the topside's noise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from .profiles import Profile

WINDOW_KM = 18.0  # of the running mean: nine levels of a retrieval with steps of 2 km
NOISE_ABOVE_KM = 420.0


@dataclass(frozen=True)
class Rules:
    """Limits; densities in m-3, heights in km."""

    ne: tuple[float, float] = (5e6, 1e13)
    levels: int = 20
    span_km: float = 150.0
    peaks: tuple[int, int] = (1, 5)
    hmf2_km: tuple[float, float] = (200.0, 450.0)
    nmf2: tuple[float, float] = (1e9, 5e12)
    roughness: float = 0.1
    topside_noise: float = 0.05
    folds: float = 0.15


def trimmed(profile: Profile, rules: Rules | None = None) -> Profile:
    """A profile without its spurious bottom: everything up to the highest level below the peak at which density is not
    within its limits goes, and so do single such levels above the peak."""
    rules = rules or Rules()
    bad = (profile.ne < rules.ne[0]) | (profile.ne > rules.ne[1])
    if not bad.any():
        return profile
    allowed = np.where(bad, -np.inf, profile.ne)
    peak = int(allowed.argmax())
    below = np.flatnonzero(bad[:peak])
    first = below[-1] + 1 if len(below) else 0
    keep = ~bad
    keep[:first] = False
    note = (
        f"{int((~keep).sum())} levels with densities outside {rules.ne[0]:.0e}..{rules.ne[1]:.0e} m-3 or below them cut"
    )
    return part_of(profile, keep, note)


def part_of(profile: Profile, keep: np.ndarray, note: str) -> Profile:
    arrays = {name: getattr(profile, name)[keep] for name in ("time", "lat", "lon", "alt_km", "ne")}
    return replace(profile, **arrays, notes=(*profile.notes, note))


def smooth(ne: np.ndarray, alt_km: np.ndarray) -> np.ndarray:
    """Running mean over 18 km, at least three levels; fewer (and symmetric) near the ends."""
    window = max(3, round(WINDOW_KM / max(float(np.median(np.diff(alt_km))), 1e-3)))
    total = np.concatenate([[0.0], np.cumsum(ne)])
    index = np.arange(len(ne))
    half = np.minimum(window // 2, np.minimum(index, len(ne) - 1 - index))
    return (total[index + half + 1] - total[index - half]) / (2 * half + 1)


def faults(profile: Profile, rules: Rules | None = None) -> list[str]:
    """Names of the rules that a (trimmed) profile breaks, with its value; empty if it can be used."""
    rules = rules or Rules()
    found = []
    if len(profile.alt_km) < rules.levels:
        return [f"{len(profile.alt_km)} levels, at least {rules.levels} are needed"]
    span = float(np.ptp(profile.alt_km))
    if span < rules.span_km:
        found.append(f"spans {span:.0f} km, at least {rules.span_km:.0f} are needed")
    if profile.folds > rules.folds:
        found.append(
            f"altitude turns back at {100 * profile.folds:.0f} % of the levels, {100 * rules.folds:.0f} are allowed"
        )
    line = smooth(profile.ne, profile.alt_km)
    top = int(line.argmax())
    nmf2, hmf2 = float(profile.ne[top]), float(profile.alt_km[top])
    if not rules.hmf2_km[0] <= hmf2 <= rules.hmf2_km[1]:
        found.append(f"peak at {hmf2:.0f} km, allowed {rules.hmf2_km[0]:.0f}..{rules.hmf2_km[1]:.0f}")
    if not rules.nmf2[0] <= nmf2 <= rules.nmf2[1]:
        found.append(f"peak density {nmf2:.2g} m-3, allowed {rules.nmf2[0]:.0e}..{rules.nmf2[1]:.0e}")
    inner = line[1:-1]
    count = int(((inner > line[:-2]) & (inner >= line[2:]) & (inner > 0.3 * line.max())).sum())
    if not rules.peaks[0] <= count <= rules.peaks[1]:
        found.append(f"{count} maxima, allowed {rules.peaks[0]}..{rules.peaks[1]}")
    rough = np.abs(profile.ne - line) / line
    above = profile.alt_km > NOISE_ABOVE_KM
    if rough.mean() > rules.roughness:
        found.append(f"roughness {rough.mean():.2f}, at most {rules.roughness:g}")
    if above.sum() >= 5:
        if rough[above].mean() > rules.topside_noise:
            found.append(f"topside noise {rough[above].mean():.2f}, at most {rules.topside_noise:g}")
        slope = np.polyfit(profile.alt_km[above], np.log(profile.ne[above]), 1)[0]
        if slope >= 0:
            found.append("density does not fall with altitude on the topside")
    return found


def checked(profiles: Iterable[Profile], rules: Rules | None = None) -> tuple[list[Profile], list[tuple[str, str]]]:
    """Profiles that pass, trimmed, and ``(name, reason)`` of those left out."""
    kept, left = [], []
    for profile in profiles:
        cut = trimmed(profile, rules)
        reasons = faults(cut, rules)
        if reasons:
            left.append((profile.name, "; ".join(reasons)))
        else:
            kept.append(cut)
    return kept, left
