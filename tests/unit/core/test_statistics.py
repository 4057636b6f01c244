"""Intervals against closed forms, and their behaviour under dependence."""

import numpy as np
import pytest

from pipeline.core.statistics import block_bootstrap, paired, paired_seeds, summary


def test_summary_is_students_interval():
    result = summary([1.0, 2.0, 3.0])
    assert result["mean"] == 2.0 and result["sd"] == pytest.approx(1.0)
    assert result["ci95"] == pytest.approx([2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5], rel=1e-6)


def test_one_seed_has_no_interval():
    assert summary([0.25]) == {"mean": 0.25, "sd": None, "ci95": None, "values": [0.25]}


def test_bootstrap_of_independent_losses_has_the_standard_error():
    losses = np.random.default_rng(0).normal(size=4000)
    assert block_bootstrap(losses, block=1).std() == pytest.approx(losses.std() / 4000**0.5, rel=0.1)


def test_bootstrap_widens_under_dependence():
    noise = np.random.default_rng(1).normal(size=4000)
    losses = np.repeat(noise, 10)  # runs of ten equal losses: the effective sample is 4000 of 40000
    narrow, wide = block_bootstrap(losses, 1).std(), block_bootstrap(losses, 100).std()
    assert narrow == pytest.approx(noise.std() / 40_000**0.5, rel=0.1)
    assert wide == pytest.approx(noise.std() / 4000**0.5, rel=0.1)


def test_a_block_as_long_as_the_series_is_a_rotation():
    losses = np.arange(7.0)
    assert block_bootstrap(losses, block=100) == pytest.approx(np.full(2000, losses.mean()))


def test_paired_sees_a_constant_difference_through_common_noise():
    noise = np.random.default_rng(2).normal(size=1000) ** 2
    result = paired(noise + 0.1, noise, block=50)
    assert result["difference"] == pytest.approx(0.1)
    assert result["ci95"] == pytest.approx([0.1, 0.1])
    assert result["p"] == pytest.approx(0.001) and result["n"] == 1000


def test_paired_reports_seeds():
    noise = np.random.default_rng(3).normal(size=500)
    a = np.stack([noise + 1, noise + 2, noise + 3])
    result = paired(a, noise, block=10)
    assert result["by_seed"] == pytest.approx([1, 2, 3])
    assert result["t_seeds"] == pytest.approx(2 / (1 / 3**0.5))


def test_paired_is_antisymmetric():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, 300))
    forth, back = paired(a, b, 20), paired(b, a, 20)
    assert forth["difference"] == pytest.approx(-back["difference"])
    assert forth["ci95"] == pytest.approx([-back["ci95"][1], -back["ci95"][0]])


def test_paired_seeds_is_students_test():
    from scipy.stats import ttest_rel

    a, b = [1.0, 2.0, 4.0, 3.0], [2.0, 2.5, 4.5, 5.0]
    found, known = paired_seeds(a, b), ttest_rel(a, b)
    assert found["p"] == pytest.approx(known.pvalue) and found["t_seeds"] == pytest.approx(known.statistic)
    low, high = known.confidence_interval()
    assert found["ci95"] == pytest.approx([low, high])
    assert found["ratio"] == pytest.approx((1 / 2 + 2 / 2.5 + 4 / 4.5 + 3 / 5) / 4 - 1)
