"""Calibration scores against scipy, published figures and laws that are known."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from pipeline.smash import calibration

path = Path(__file__).parents[2] / "reference" / "smash_calibration_plain.py"
spec = importlib.util.spec_from_file_location("smash_calibration_plain", path)
plain = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plain)


def test_the_seeds_scores_are_those_of_scipys_kernel_density():
    rng = np.random.default_rng(0)
    x, y = rng.lognormal(0, 1.3, (40, 60)), rng.lognormal(0, 1.3, 40)
    assert (calibration.inside_time(x, y) == [plain.inside_time(a, b) for a, b in zip(x, y, strict=True)]).all()
    turn = np.array([[1.0, 0.6], [0.0, 0.5]])
    x, y = rng.normal(size=(25, 60, 2)) @ turn, rng.normal(size=(25, 2)) @ turn
    expected = [plain.inside_location(a, b) for a, b in zip(x, y, strict=True)]
    assert (calibration.inside_location(x, y) == expected).mean() > 0.98  # float32 against float64 at a border


def scored(sd, truth_sd=1.3, samples=100, n=900, seed=1):
    rng = np.random.default_rng(seed)
    inside = calibration.inside_time(rng.lognormal(0, sd, (n, samples)), rng.lognormal(0, truth_sd, n))
    return calibration.calibration_score(inside)[0]


def test_cs_time_rewards_forecasts_that_are_too_narrow():
    """A calibrated log-normal scores about 0.2, one 40 % too narrow about 0.05: why it is no measure of calibration."""
    assert scored(1.3) == pytest.approx(0.19, abs=0.03)
    assert scored(1.3, samples=300) == pytest.approx(0.215, abs=0.03)
    assert scored(0.6 * 1.3) < 0.1


def test_cs_of_a_normal_law_is_near_zero():
    rng = np.random.default_rng(0)
    inside = calibration.inside_time(5 + rng.normal(size=(900, 100)), 5 + rng.normal(size=900))
    assert calibration.calibration_score(inside)[0] < 0.04


def test_the_score_does_not_depend_on_batches():
    rng = np.random.default_rng(0)
    inside = rng.random((320, 5)) < calibration.LEVELS
    pooled, counts, n = calibration.calibration_score(inside)
    assert n == 320 and counts == inside.sum(axis=0).tolist()
    by_batch = np.mean([np.abs(b.mean(axis=0) - calibration.LEVELS).mean() for b in inside.reshape(10, 32, 5)])
    assert by_batch > 2 * pooled  # what the published code reports for the same forecasts
    shuffled = calibration.calibration_score(rng.permutation(inside))[0]
    assert shuffled == pytest.approx(pooled)


def test_places_that_coincide_have_no_region():
    assert np.isnan(calibration.inside_location(np.zeros((1, 20, 2)), np.zeros((1, 2)))).all()
    score, counts, n = calibration.calibration_score(np.full((3, 5), np.nan))
    assert np.isnan(score) and n == 0 and counts == [0] * 5


def test_ece_of_a_table_worked_out_by_hand():
    """Two bins: confidence .9 with 3 of 4 right (gap .15), confidence .6 with 1 of 2 right (gap .1)."""
    given = np.array([[0.9, 0.1]] * 4 + [[0.6, 0.4]] * 2)
    mark = np.array([0, 0, 0, 1, 0, 1])
    assert calibration.ece(given, mark) == pytest.approx((4 * 0.15 + 2 * 0.1) / 6)
    confidence, accuracy, count = calibration.reliability(given, mark)
    assert count[8] == 4 and accuracy[8] == 0.75 and confidence[5] == pytest.approx(0.6) and count[5] == 2


def test_the_kolmogorov_distance():
    assert calibration.kolmogorov(np.array([0.5])) == pytest.approx(0.5)
    assert calibration.kolmogorov((np.arange(100) + 0.5) / 100) == pytest.approx(0.005)
    assert calibration.kolmogorov(np.array([0.1, 0.2, np.nan])) == pytest.approx(0.8)


def test_coverage_of_a_calibrated_law_lies_in_its_band():
    rng = np.random.default_rng(0)
    table = calibration.coverage(calibration.central(rng.random(2000)))
    inside = [a <= s <= b for a, s, b in zip(table["low"], table["share"], table["high"], strict=True)]
    assert sum(inside) >= 8 and table["n"] == 2000
    narrow = calibration.coverage(calibration.central(0.5 + 0.9 * (rng.random(2000) - 0.5)))
    assert (np.array(narrow["share"]) > np.array(narrow["high"]))[4:].all()
