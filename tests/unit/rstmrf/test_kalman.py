"""The smoother in information form against a plain one; observation operators against finite differences; skill."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.rstmrf import iri, kalman, observing, reanalysis
from pipeline.rstmrf.world import Points


@pytest.fixture(scope="module")
def reference():
    path = Path(__file__).parents[2] / "reference" / "rstmrf_kf.py"
    spec = importlib.util.spec_from_file_location("rstmrf_kf", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def problem():
    """A linear problem of six hours and eight states, one hour without observations."""
    rng = np.random.default_rng(0)
    keep = rng.uniform(0.3, 0.95, 8)
    counts = [5, 12, 0, 3, 20, 1]
    jacobians = [rng.normal(size=(count, 8)) for count in counts]
    values = [rng.normal(size=count) for count in counts]
    return keep, jacobians, values


def test_mean_and_draws_are_those_of_a_plain_smoother(reference, problem):
    keep, jacobians, values = problem
    _, means, covariances = reference.smoother(jacobians, values, keep)
    found, draws = kalman.smoothed(
        lambda t, x: (jacobians[t], values[t]), np.zeros(means.shape), keep, np.random.default_rng(1), samples=20000
    )
    assert np.allclose(found, means, atol=2e-5)  # factors are kept in single precision
    assert np.allclose(draws.mean(axis=0), means, atol=0.03)
    for step in range(len(values)):
        assert np.allclose(np.cov(draws[:, step].T), covariances[step], atol=0.03)


def test_the_filter_is_that_of_a_plain_filter(reference, problem):
    keep, jacobians, values = problem
    wanted, *_ = reference.smoother(jacobians, values, keep)
    found = kalman.filtered(lambda t, x: (jacobians[t], values[t]), len(values), keep, passes=1)
    assert np.allclose(found, wanted, atol=1e-9)


def test_one_hour_alone_is_the_plain_update(reference):
    rng = np.random.default_rng(3)
    h, y, keep = rng.normal(size=(4, 3)), rng.normal(size=4), np.full(3, 0.5)
    _, wanted, _ = reference.smoother([h], [y], keep)
    found, _ = kalman.smoothed(lambda t, x: (h, y), np.zeros((1, 3)), keep, rng)
    assert np.allclose(found, wanted, atol=1e-6)


def test_long_series_in_parts_are_nearly_the_whole():
    rng = np.random.default_rng(5)
    keep = np.full(4, np.exp(-1 / 4.0))
    jacobians, values = rng.normal(size=(60, 3, 4)), rng.normal(size=(60, 3))
    args = (lambda t, x: (jacobians[t], values[t]), np.zeros((60, 4)), keep, rng)
    whole, _ = kalman.smoothed(*args)
    parts, draws = kalman.in_parts(*args, samples=2, core=15, margin=16)
    assert np.abs(parts - whole).max() < 1e-3 and draws.shape == (2, 60, 4)


def test_the_filter_sees_nothing_of_the_future(problem):
    keep, jacobians, values = problem
    found = [
        kalman.filtered(lambda t, x, late=late: (jacobians[t], values[t] + (late if t > 3 else 0)), 6, keep, 2)
        for late in (0.0, 100.0)
    ]
    assert np.array_equal(found[0][:4], found[1][:4]) and not np.allclose(found[0][4], found[1][4])


def test_derivatives_of_levels_and_tec(toy_world):
    rng = np.random.default_rng(4)
    at = toy_world.dense.take(slice(0, 30))
    params = toy_world.background_at(at.time_h, at.lat, at.lon)
    increments = 0.05 * rng.standard_normal((30, 13)) * np.array([1, 100, *np.ones(11)])
    alt = at.alt_km
    value, slopes = observing.level_jacobian(params, increments, alt)
    assert np.allclose(value, iri.corrected(params, increments, alt), atol=1e-12)
    tec, tec_slopes = observing.tec_jacobian(params, increments)
    assert np.allclose(tec, np.log(iri.vtec(params, increments)), atol=5e-3)
    for index in range(13):
        step = np.zeros(13)
        step[index] = 1e-3 * (100 if index == 1 else 1)
        ends = [increments + sign * step for sign in (1, -1)]
        wanted = np.subtract(*(iri.corrected(params, end, alt) for end in ends)) / (2 * step[index])
        assert np.median(np.abs(slopes[:, index] - wanted) / (np.abs(wanted) + 1e-3)) < 0.03
        wanted = np.subtract(*(np.log(iri.vtec(params, end, nodes=9)) for end in ends)) / (2 * step[index])
        assert np.median(np.abs(tec_slopes[:, index] - wanted) / (np.abs(wanted) + 1e-3)) < 0.03


def test_the_prior_has_the_stated_spread():
    """The variance over the sphere of each field is its spread's square: harmonics have mean square one."""
    prior = observing.Prior()
    assert np.allclose(np.sqrt((prior.scale**2).sum(axis=1)), prior.spread)
    assert prior.keep[0] == pytest.approx(np.exp(-1 / prior.memory_h))
    assert (np.diff(prior.keep) <= 0).all()


def test_errors_are_common_to_a_profile():
    alt, profile = np.array([200.0, 250.0, 200.0]), np.array([1, 1, 2])
    found = observing.covariance(alt, profile, np.full(3, 0.06), 50.0, observing.Errors(white=0.09, profile=0.05))
    assert found[0, 0] == pytest.approx(0.09**2 + 0.05**2 + 0.06**2)
    assert found[0, 1] == pytest.approx(0.05**2 + 0.06**2 * np.exp(-0.5))
    assert found[0, 2] == 0


@pytest.fixture(scope="module")
def small():
    return kalman.Kalman(prior=observing.Prior(degree=3), samples=6)


@pytest.fixture(scope="module")
def analysis(toy_world, small):
    return kalman.assimilate(toy_world, small)


def test_withheld_profiles_are_never_seen(toy_world, small, analysis):
    changed = replace(toy_world, obs_log10_ne=toy_world.obs_log10_ne + np.where(toy_world.obs_withheld, 3.0, 0.0))
    again = kalman.assimilate(changed, small)
    assert np.array_equal(again.increments, analysis.increments) and np.array_equal(again.draws, analysis.draws)


def test_the_analysis_beats_the_climatology_even_on_a_toy(toy_world, toy_truth, analysis):
    at = toy_world.dense
    background = iri.log10_density(toy_world.background_at(at.time_h, at.lat, at.lon), at.alt_km)
    mean, sd = analysis.predict(toy_world.dense)
    assert np.mean((mean - toy_truth.dense) ** 2) < 0.95 * np.mean((background - toy_truth.dense) ** 2)
    assert (sd > 0).all()


def test_maps_and_points_are_the_same_field(toy_world, analysis):
    maps = analysis.maps()
    place = (toy_world.param_time_h[5], toy_world.param_lat[4], toy_world.param_lon[7])
    assert np.allclose(analysis.params(*place), maps[:8, 5, 4, 7])
    assert np.allclose(analysis.increments_at(*place), maps[8:, 5, 4, 7])
    wanted = iri.log10_density(maps[:8, 5, 4, 7], 300.0) + iri.bumps(300.0) @ maps[15:, 5, 4, 7]
    found, _ = analysis.predict(Points(*(np.array([value]) for value in (*place, 300.0))))
    assert found[0] == pytest.approx(wanted)


def test_an_analysis_survives_the_disk(tmp_path, toy_world, analysis):
    analysis.save(tmp_path / "kf.zarr")
    again = reanalysis.load(tmp_path / "kf.zarr", toy_world)
    for one, other in zip(again.predict(toy_world.dense), analysis.predict(toy_world.dense), strict=True):
        assert np.allclose(one, other, atol=1e-4)
