"""Simulator of a series whose regimes come back, with the truth known at every row.

A regime r is an AR(2) process driven by a daily profile,

    y[t] = phi1_r y[t-1] + phi2_r y[t-2] + p_r[t mod S] + e[t],    e[t] ~ N(0, sigma^2),

with S = 24 steps a day, so that the best one-step forecast is linear in two lags and the one-hot hour, and its MSE is
sigma^2 from the first row of a regime on.  The coefficients are drawn by partial autocorrelations (Barndorff-Nielsen
and Schou, 1973): pi1, pi2 ~ U(-b, b), phi2 = pi2, phi1 = pi1 (1 - pi2), which is stationary for every b < 1.  The
profile is S independent draws of N(0, amplitude^2).

A switch is abrupt or gradual.  In a gradual one coefficients and profile go linearly from the old regime to the
new one; the set of stationary (phi1, phi2) is a triangle, hence convex, so each row's coefficients are stationary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .settings import Simulation


@dataclass(frozen=True)
class Switch:
    """One change of regime.

    `row` is the first row labelled with the new regime (the middle of a gradual switch); rows `start` to `end` - 1
    are mixtures, and `start` = `end` = `row` where the switch is abrupt.
    """

    row: int
    start: int
    end: int
    previous: int
    regime: int
    kind: Literal["first", "recurrence"]


@dataclass(frozen=True)
class RegimeStream:
    """A simulated series with its truth.

    Shapes: `series` [n], `regime` [n] (labels 0 .. regimes - 1), `coefficients` [regimes, 2] (phi1, phi2),
    `profiles` [regimes, day]; `noise_variance` is the MSE of a forecaster that knows everything.
    """

    series: np.ndarray
    regime: np.ndarray
    switches: tuple[Switch, ...]
    coefficients: np.ndarray
    profiles: np.ndarray
    noise_variance: float


def simulate(settings: Simulation, seed: int) -> RegimeStream:
    """Draw a stream; the same settings and seed give the same bits.

    The first regime is 0; each next one is drawn evenly from all the others, after a stay drawn evenly from
    `shortest` .. `longest`.
    """
    # Separate generators: noise, regimes and order don't change one another when a setting changes.
    order_rng, regime_rng, noise_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    pi = regime_rng.uniform(-settings.persistence, settings.persistence, (settings.regimes, 2))
    coefficients = np.stack([pi[:, 0] * (1 - pi[:, 1]), pi[:, 1]], axis=1)  # [regimes, 2]
    profiles = settings.amplitude * regime_rng.standard_normal((settings.regimes, settings.day))

    switches = _draw_switches(settings, order_rng)
    mix = _mixture(settings, switches)  # [n, regimes]
    phi = mix @ coefficients  # [n, 2]
    hours = np.arange(settings.steps) % settings.day
    profile = np.einsum("nr,rn->n", mix, profiles[:, hours])  # [n]

    drive = profile + np.sqrt(settings.noise_variance) * noise_rng.standard_normal(settings.steps)  # [n]
    # Python floats: this recursion is the only sequential part, and numpy scalars are slow.
    series = [0.0, 0.0]
    for (phi1, phi2), innovation in zip(phi.tolist(), drive.tolist(), strict=True):
        series.append(phi1 * series[-1] + phi2 * series[-2] + innovation)
    return RegimeStream(
        series=np.array(series[2:]),
        regime=_labels(settings.steps, switches),
        switches=switches,
        coefficients=coefficients,
        profiles=profiles,
        noise_variance=settings.noise_variance,
    )


def _draw_switches(settings: Simulation, rng: np.random.Generator) -> tuple[Switch, ...]:
    switches: list[Switch] = []
    row, current, seen = 0, 0, {0}
    while True:
        row += int(rng.integers(settings.shortest, settings.longest + 1))
        # Drawn even where not needed, so that the order is the same whatever the share.
        shift = int(rng.integers(1, settings.regimes))
        gradual = rng.random() < settings.gradual_share
        if row >= settings.steps:
            return tuple(switches)
        before = settings.gradual_steps // 2 if gradual else 0
        after = settings.gradual_steps - before if gradual else 0
        following = (current + shift) % settings.regimes
        switches.append(
            Switch(
                row=row,
                start=row - before,
                end=min(row + after, settings.steps),
                previous=current,
                regime=following,
                kind="recurrence" if following in seen else "first",
            )
        )
        seen.add(following)
        current = following


def _labels(steps: int, switches: tuple[Switch, ...]) -> np.ndarray:
    regime = np.zeros(steps, dtype=np.int64)
    for switch in switches:
        regime[switch.row :] = switch.regime
    return regime


def _mixture(settings: Simulation, switches: tuple[Switch, ...]) -> np.ndarray:
    """Weight of each regime at each row, [n, regimes]; rows sum to one."""
    mix = np.eye(settings.regimes)[_labels(settings.steps, switches)]  # [n, regimes]
    for switch in switches:
        rows = np.arange(switch.start, switch.end)
        # Half-row offsets: the new regime has just passed one half at `row`.
        share = (rows - switch.start + 0.5) / settings.gradual_steps  # [rows]
        mix[rows] = 0.0
        mix[rows, switch.previous] = 1 - share
        mix[rows, switch.regime] = share
    return mix
