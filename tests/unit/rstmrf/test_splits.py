"""No profile is in two sets, whatever the split, and training reads the sets that the split gives."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import ConfigError, DataError
from pipeline.rstmrf.problem import make_problem, tensor_of
from pipeline.rstmrf.settings import Network
from pipeline.rstmrf.splits import kept_back

SMALL = Network(tec_factor=30, conv_layers=0)


@given(st.integers(3, 60), st.integers(0, 1000), st.sampled_from([0.08, 0.3, 0.5]))
@settings(max_examples=40, deadline=None)
def test_a_profile_is_kept_back_whole_or_not_at_all(count, seed, share):
    rng = np.random.default_rng(seed)
    profile = rng.permutation(np.repeat(rng.permutation(count) * 7, 9))
    mask = kept_back(profile, share, seed=seed)
    assert len(np.unique(profile[mask])) == int(share * count)
    assert not np.intersect1d(profile[mask], profile[~mask]).size


@given(st.integers(3, 12), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_a_day_is_kept_back_whole_and_profiles_over_midnight_belong_to_their_first(days, seed):
    rng = np.random.default_rng(seed)
    profile = np.repeat(np.arange(5 * days), 4)
    begin = np.datetime64("2024-09-01") + profile // 5
    over = rng.random(len(profile)) < 0.1
    over[::4] = False  # the first level stays on its day
    mask = kept_back(profile, 0.4, begin + over, seed)
    assert not np.intersect1d(profile[mask], profile[~mask]).size
    assert not np.intersect1d(begin[mask], begin[~mask]).size
    assert len(np.unique(begin[mask])) == max(int(0.4 * days), 1)


def profiles_of(world, coords):
    """Numbers of the profiles that rows of coordinates come from; every row must be one of the world's."""
    place = {tuple(row): number for row, number in zip(tensor_of(world.obs).tolist(), world.obs_profile, strict=True)}
    return {place[tuple(row)] for row in coords.tolist()}


def three_days(world):
    """The same profiles, spread over three days (times beyond the maps take the last map)."""
    return replace(world, obs=replace(world.obs, time_h=world.obs.time_h + 24.0 * (world.obs_profile % 3)))


@pytest.mark.parametrize("validation", ["profiles", "days"])
def test_no_profile_is_in_two_sets_of_a_problem(toy_world, validation):
    world = toy_world if validation == "profiles" else three_days(toy_world)
    problem = make_problem(world, SMALL, validation=validation)
    sets = [profiles_of(world, part) for part in (problem.coords, problem.check[0])]
    sets.append(set(world.obs_profile[world.obs_withheld]))
    assert all(sets) and sum(map(len, sets)) == len(set.union(*sets)) == len(np.unique(world.obs_profile))
    assert len(problem.coords) + len(problem.check[0]) == int((~world.obs_withheld).sum())
    if validation == "days":
        inside = [int(number) for number in sets[1]]
        first = {int(world.obs.time_h[world.obs_profile == number].min() // 24) for number in inside}
        assert len(first) == 1


def test_the_draw_is_the_one_that_results_were_made_with(toy_world):
    """137 of the 1,716 profiles of a world of the tables: the first of a permutation with seed 0."""
    numbers = np.repeat(np.delete(np.arange(1950), np.arange(0, 1950, 8)[:234]), 2)
    chosen = np.random.default_rng(0).permutation(np.unique(numbers))[: int(0.08 * len(np.unique(numbers)))]
    mask = kept_back(numbers, 0.08)
    assert len(chosen) == 137 and np.array_equal(np.unique(numbers[mask]), np.sort(chosen))


def test_days_that_are_too_few_are_refused(toy_world):
    with pytest.raises(ConfigError, match="at least 3 days, these begin on 1"):
        make_problem(toy_world, SMALL, validation="days")


def test_drivers_that_were_not_observed_are_refused(toy_world):
    kp = toy_world.drivers.kp.copy()
    kp[-3:] = np.nan
    with pytest.raises(DataError, match="has no kp for some of its hours"):
        make_problem(replace(toy_world, drivers=replace(toy_world.drivers, kp=kp)), SMALL)
    make_problem(
        replace(toy_world, drivers=replace(toy_world.drivers, kp=kp)), SMALL.model_copy(update={"drivers": ["f107"]})
    )
