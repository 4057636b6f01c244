"""Random fields and their analysis against dense linear algebra."""

import numpy as np
import pytest
import torch

from pipeline.rstmrf.fields import FIELD_COUNT, Component, Prior, Sites
from pipeline.rstmrf.variational import Analysis, Setup, profile_blocks


def component(frame="sun", degree=3, sd=1.0, tau=10.0, tec=0.0):
    return Component(frame, degree, (*([sd] * FIELD_COUNT), tec), 1.2, tau)


KNOTS = np.arange(0, 13, 3.0)


def test_a_fields_variance_is_its_prior_variance_everywhere():
    """The harmonics' squares add to 2 l + 1 at every place (addition theorem), so the amplitudes' squares add to
    sd^2."""
    one = component(sd=0.7, degree=6)
    assert (one.amplitudes()[:, 0] ** 2).sum() == pytest.approx(0.49)
    by_degree = [(one.amplitudes()[d**2 : (d + 1) ** 2, 0]).tolist() for d in range(7)]
    assert by_degree[3][0] / by_degree[0][0] == pytest.approx(2**-1.2)  # (1 + 3/3)^-slope
    assert all(max(part) == pytest.approx(min(part)) for part in by_degree)


def test_time_factors_give_the_markov_correlation():
    factor = component(tau=10.0).time_factor(KNOTS)
    for degree in (0, 3):
        correlation = factor[degree] @ factor[degree].T
        lag = np.abs(KNOTS[:, None] - KNOTS[None])
        assert correlation == pytest.approx(np.exp(-lag * (1 + degree / 8) / 10.0), abs=1e-7)


def places(count, rng):
    return rng.uniform(0, 12, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count))), rng.uniform(-180, 180, count)


def test_sites_and_their_transpose_are_adjoint(toy_world):
    rng = np.random.default_rng(0)
    parts = [component(), component("earth", 2)]
    prior = Prior(parts, KNOTS)
    sites = Sites(toy_world, parts, KNOTS, *places(50, rng))
    control = torch.randn(prior.shape(2))
    values = torch.randn(50, prior.shape()[2] * 2)
    forward = sites.field(prior.coefficients(control))
    back = prior.adjoint(sites.adjoint(values, len(KNOTS)), 2)
    assert float((forward * values).sum()) == pytest.approx(float((control * back).sum()), rel=1e-4)


def test_fields_between_knots_are_straight_lines(toy_world):
    parts = [component(degree=0)]
    prior = Prior(parts, KNOTS)
    control = torch.randn(prior.shape())
    at = np.array([3.0, 4.0, 6.0])
    sites = Sites(toy_world, parts, KNOTS, at, np.zeros(3), np.zeros(3))
    values = sites.field(prior.coefficients(control))
    assert torch.allclose(values[1], (2 * values[0] + values[2]) / 3, atol=1e-5)


def small(samples=0, **more):
    parts = (component(degree=1, sd=0.1), component("earth", 1, sd=0.0, tec=1.0))
    return Setup(parts, knots_h=6.0, passes=1, iterations=120, samples=samples, huber=None, tolerance=1e-12, **more)


def test_the_analysis_is_the_gaussian_posterior_mean_and_its_draws_have_the_posterior_spread(toy_world):
    analysis = Analysis(toy_world, small(samples=24)).solve()
    shape = analysis.prior.shape()
    size = int(np.prod(shape))
    identity = torch.eye(size).view(*shape[:3], size)
    rows = [d.apply(analysis.prior.coefficients(identity), size) for d in analysis.data]  # whitened: [rows, size]
    a = torch.cat(rows).double().numpy()
    misfits = []
    for data in analysis.data:
        zero = torch.zeros(len(data.value), shape[2])
        value = analysis._linearise(data, zero)
        misfits.append(data.whiten((data.value - value)[:, None])[:, 0])
    precision = np.eye(size) + a.T @ a
    mean = np.linalg.solve(precision, a.T @ torch.cat(misfits).double().numpy())
    got = analysis.control.flatten().numpy()
    assert np.linalg.norm(got - mean) < 5e-3 * np.linalg.norm(mean)
    variance = np.diag(np.linalg.inv(precision))
    spread = analysis.draws.reshape(size, -1).square().mean(1).numpy()
    assert spread.mean() == pytest.approx(variance.mean(), rel=0.15)


def test_profiles_share_an_offset_and_neighbouring_levels_an_error(toy_world):
    used = toy_world.used
    blocks, factors = profile_blocks(toy_world, used, 0.0)
    rows = blocks[0][blocks[0] < len(used)].numpy()
    w = factors[0][: len(rows), : len(rows)].double().numpy()
    covariance = np.linalg.inv(w.T @ w)
    at = used[rows]
    alt, vertical = toy_world.obs.alt_km[at], toy_world.obs_sigma_vertical[at]
    lag = abs(alt[0] - alt[1])
    wanted = toy_world.obs_sigma_profile**2 + vertical[0] * vertical[1] * np.exp(-lag / toy_world.obs_vertical_km)
    assert covariance[0, 1] == pytest.approx(wanted, rel=1e-3)
    assert covariance[0, 0] == pytest.approx(
        toy_world.obs_sigma_profile**2 + vertical[0] ** 2 + toy_world.obs_sigma_white[at[0]] ** 2, rel=1e-3
    )


def test_withheld_profiles_change_nothing(toy_world):
    import copy

    other = copy.copy(toy_world)
    other.obs_log10_ne = np.where(toy_world.obs_withheld, 0.0, toy_world.obs_log10_ne)
    a, b = (Analysis(world, small()).solve().control for world in (toy_world, other))
    assert torch.equal(a, b)


def test_an_outlier_among_profiles_counts_less():
    world_misfit = torch.tensor([[0.1], [0.2], [30.0]])
    from pipeline.rstmrf.variational import Data

    data = Data(None, torch.zeros(3), torch.zeros(3, 8), None, torch.ones(3))
    analysis = Analysis.__new__(Analysis)
    analysis.setup = Setup((component(),), huber=3.0)
    analysis._weigh(data, world_misfit)
    assert data.robust.tolist() == pytest.approx([1.0, 1.0, 0.1**0.5])
