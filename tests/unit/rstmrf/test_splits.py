"""No profile is in two sets, whatever the split."""

from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import ConfigError
from pipeline.rstmrf import splits


@given(st.integers(3, 60), st.integers(0, 1000), st.sampled_from([(0.1, 0.1), (0.3, 0.2), (0.0, 0.5)]))
@settings(max_examples=40, deadline=None)
def test_a_profile_is_in_one_set(count, seed, shares):
    rng = np.random.default_rng(seed)
    profile = rng.permutation(np.repeat(rng.permutation(count) * 7, 9))
    kind = splits.by_profile(profile, shares, seed)
    sets = [set(profile[kind == one]) for one in (splits.TRAIN, splits.VALIDATION, splits.TEST)]
    assert sum(len(one) for one in sets) == count and len(set.union(*sets)) == count
    assert abs(len(sets[2]) - shares[1] * count) <= 1 and sets[0]


@given(st.integers(3, 20), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_a_day_is_in_one_set_and_profiles_over_midnight_go_with_their_beginning(count, seed):
    rng = np.random.default_rng(seed)
    begin = np.datetime64("2024-09-01") + rng.integers(0, count, 50)
    begin[:count] = np.datetime64("2024-09-01") + np.arange(count)
    profile, day = np.repeat(np.arange(50), 4), np.repeat(begin, 4)
    day[3::4] += 1  # every profile ends on the next day
    kind = splits.by_day(profile, day, seed=seed)
    for one in np.unique(begin):
        assert len({*kind[np.isin(profile, np.flatnonzero(begin == one))].tolist()}) == 1
    assert {splits.TRAIN, splits.VALIDATION, splits.TEST} == {*kind.tolist()}


def test_locked_days_are_the_test_set_and_must_exist():
    profile = np.arange(30)
    day = np.datetime64("2024-09-01") + profile // 3
    kind = splits.by_day(profile, day, test=[date(2024, 9, 3), date(2024, 9, 5)])
    assert {*np.flatnonzero(kind == splits.TEST)} == {6, 7, 8, 12, 13, 14}
    with pytest.raises(ConfigError, match="2024-10-01"):
        splits.by_day(profile, day, test=[date(2024, 10, 1)])


def test_shares_that_leave_nothing_are_refused():
    with pytest.raises(ConfigError, match="less than one"):
        splits.by_profile(np.arange(9), (0.5, 0.5))
