"""The Kalman smoother in parameter space: all observations of a world, its corrections as fields that persist.

Corrections of the thirteen fields are spherical harmonics of quasi-dipole latitude and local time; each coefficient
is a first-order autoregressive process by the hour, so that the sun-fixed field is what one hour hands to the next.
The state of all hours together has a block-tridiagonal precision with diagonal blocks off the main one; eliminating
it forward is a Kalman filter in information form, substituting back is the Rauch-Tung-Striebel smoother, and
substituting noise along with it draws from the exact posterior (Rue and Held 2005, Gaussian Markov Random Fields,
chapter 2). A plain covariance filter and smoother is kept in the tests, and agrees. The observation operator is not
linear: the smoother is run about the background and then about its own result (Gauss-Newton; two passes gain much
over one, a third does not).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .observing import Errors, Prior, hours, linearise
from .reanalysis import Analysis
from .world import World

CORE_H, MARGIN_H = 72, 24  # hours of a long series that are smoothed together, and seen beside them

Linear = Callable[[int, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Kalman:
    """What defines the analysis. scaled: start from IRI times the TEC ratio; tec: assimilate TEC; smooth: use later
    observations, too (False: a filter in real time); samples: posterior draws kept.
    """

    prior: Prior = Prior()
    errors: Errors = Errors(white=0.2)
    passes: int = 2
    scaled: bool = True
    tec: bool = True
    smooth: bool = True
    samples: int = 0


def assimilate(world: World, settings: Kalman | None = None, seed: int = 0) -> Analysis:
    """Analyse a world; see :class:`Kalman`. ``seed`` draws the posterior samples."""
    settings = settings or Kalman()
    prior = settings.prior
    use_tec = settings.tec and world.has_tec
    background = world.tec_scaled if settings.scaled and use_tec else world.param
    data = hours(world, background, prior, settings.errors, use_tec)
    scale = prior.scale
    keep = np.tile(prior.keep, len(scale))

    def linear(index: int, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return linearise(data[index], state.reshape(scale.shape), scale)

    rng = np.random.default_rng([seed, 77])
    if settings.smooth:
        mean = np.zeros((len(data), scale.size))
        for turn in range(settings.passes):
            last = turn == settings.passes - 1
            mean, draws = in_parts(linear, mean, keep, rng, settings.samples if last else 0)
    else:
        mean, draws = filtered(linear, len(data), keep, settings.passes), np.empty((0, len(data), scale.size))
    shape = (len(data), *scale.shape)
    return Analysis(
        world,
        background,
        prior,
        mean.reshape(shape) * scale,
        draws.reshape(len(draws), *shape) * scale,
    )


def in_parts(
    linear: Linear,
    about: np.ndarray,
    keep: np.ndarray,
    rng: np.random.Generator,
    samples: int = 0,
    core: int = CORE_H,
    margin: int = MARGIN_H,
) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`smoothed`, for long series in parts of ``core`` hours that see ``margin`` hours more on either side.

    A part's factors take 4 MB an hour; beyond two memories of the largest scale an observation says nothing more.
    """
    steps = len(about)
    if steps <= core + margin:
        return smoothed(linear, about, keep, rng, samples)
    mean, draws = np.empty_like(about), np.empty((samples, *about.shape), np.float32)
    for start in range(0, steps, core):
        low, high = max(start - margin, 0), min(start + core + margin, steps)
        part, more = smoothed(lambda t, x, low=low: linear(low + t, x), about[low:high], keep, rng, samples)
        stop = min(start + core, steps)
        mean[start:stop], draws[:, start:stop] = part[start - low : stop - low], more[:, start - low : stop - low]
    return mean, draws


def smoothed(
    linear: Linear, about: np.ndarray, keep: np.ndarray, rng: np.random.Generator, samples: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean [T, S] of the problem linearised about [T, S], and draws [samples, T, S] of the whole series.

    ``linear(t, x)`` gives the whitened Jacobian and right-hand side of hour t; the prior is x_0 ~ N(0, 1),
    x_t = keep x_{t-1} + sqrt(1 - keep^2) noise.
    """
    from scipy.linalg import solve_triangular

    steps, size = about.shape
    inner = 1 / (1 - keep**2)  # diagonal of the prior precision at the ends
    link = keep * inner  # minus the off-diagonal blocks
    factors = np.empty((steps, size, size), np.float32)
    sides = np.empty((steps, size))
    for step in range(steps):
        jacobian, side = linear(step, about[step])
        between = step < steps - 1
        precision, total = _information(jacobian, side, inner + (keep**2 * inner if between and step else 0))
        if steps == 1:
            precision[np.diag_indices(size)] += 1 - inner
        if step:
            precision -= link[:, None] * _inverse(factors[step - 1]) * link
            total += link * _solve(factors[step - 1], sides[step - 1])
        factors[step], sides[step] = _factor(precision), total
    mean, draws = np.empty((steps, size)), np.empty((samples, steps, size), np.float32)
    after, after_draws = np.zeros(size), np.zeros((size, samples))
    for step in reversed(range(steps)):
        load = sides[step] + link * after if step < steps - 1 else sides[step]
        mean[step] = after = _solve(factors[step], load)
        if samples:
            pull = link[:, None] * after_draws if step < steps - 1 else 0 * after_draws
            noise = solve_triangular(
                factors[step], rng.standard_normal((size, samples)), lower=True, trans="T", check_finite=False
            )
            after_draws = _solve(factors[step], pull) + noise  # deviations from the mean
            draws[:, step] = mean[step] + after_draws.T
    return mean, draws


def filtered(linear: Linear, steps: int, keep: np.ndarray, passes: int) -> np.ndarray:
    """Filter means [T, S]: each hour's analysis from the observations up to it; ``passes`` linearisations an hour."""
    inner = 1 / (1 - keep**2)
    link = keep * inner
    mean = np.empty((steps, len(keep)))
    carried, gain = np.diag(np.ones_like(keep)), np.zeros_like(keep)  # information before the first hour
    forecast = np.zeros_like(keep)
    for step in range(steps):
        at = forecast
        for _ in range(passes):
            jacobian, side = linear(step, at)
            precision = carried + jacobian.T @ jacobian
            total = gain + jacobian.T @ side
            factor = _factor(precision)
            at = _solve(factor, total)
        mean[step], forecast = at, keep * at
        bridge = precision.copy()  # of this hour, seen from the next
        bridge[np.diag_indices_from(bridge)] += keep**2 * inner
        factor = _factor(bridge)
        carried = np.diag(inner) - link[:, None] * _inverse(factor) * link
        gain = link * _solve(factor, total)
    return mean


def _information(jacobian: np.ndarray, side: np.ndarray, diagonal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    small = jacobian.astype(np.float32)
    precision = (small.T @ small).astype(np.float32)
    precision[np.diag_indices_from(precision)] += diagonal.astype(np.float32)
    return precision, jacobian.T @ side


def _factor(matrix: np.ndarray) -> np.ndarray:
    """Lower Cholesky factor [S, S]."""
    from scipy.linalg import cholesky

    return cholesky(matrix, lower=True, overwrite_a=False, check_finite=False)


def _inverse(factor: np.ndarray) -> np.ndarray:
    """Inverse of the matrix whose lower Cholesky factor is given."""
    from scipy.linalg.lapack import get_lapack_funcs

    (potri,) = get_lapack_funcs(("potri",), (factor,))
    result, _ = potri(factor, lower=True)
    result = np.tril(result)
    return result + np.tril(result, -1).T


def _solve(factor: np.ndarray, load: np.ndarray) -> np.ndarray:
    from scipy.linalg import cho_solve

    return cho_solve((factor, True), load, check_finite=False)
