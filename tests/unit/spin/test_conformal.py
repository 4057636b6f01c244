"""Conformal intervals: their guarantee by simulation, closed forms, classes of gaps."""

import numpy as np
import pytest

from pipeline.spin.conformal import LEVELS, Calibration, classes, gap_lengths

from .made_up import cube


def test_offsets_of_a_plain_value_are_the_order_statistics():
    truth = np.arange(1.0, 100.0)  # errors 1 … 99 of a guess of zero: rank ceil(100 * 0.95) = 95
    found = Calibration.fit(truth, np.zeros((99, 5)), np.zeros(99, int), 1).offset[0]
    np.testing.assert_array_equal(found, [5, 25, 0, 75, 95])


def test_a_quantile_head_is_widened_alike_on_both_sides():
    guess = np.tile([-1.0, -0.5, 0, 0.5, 1.0], (999, 1))
    truth = np.linspace(-2, 2, 999)
    found = Calibration.fit(truth, guess, np.zeros(999, int), 1).offset[0]
    assert found[4] == pytest.approx(0.8, abs=0.01) and found[0] == -found[4]  # |y| <= 1.8 holds 90 %
    assert found[3] == pytest.approx(0.5, abs=0.01) and found[2] == 0


def test_coverage_of_exchangeable_cells_is_as_promised():
    """Over many calibrations of 60 cells the mean coverage of new cells lies between 0.9 and 0.9 + 2/61."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        truth, new = rng.normal(size=60) ** 3, rng.normal(size=400) ** 3
        fitted = Calibration.fit(truth, np.zeros((60, 5)), np.zeros(60, int), 1)
        found = fitted.apply(np.zeros((400, 5)), np.zeros(400, int))
        covered.append(np.mean((new >= found[:, 0]) & (new <= found[:, 4])))
    assert 0.9 <= np.mean(covered) <= 0.9 + 2 / 61 + 0.005


def test_calibrated_quantiles_are_in_order_and_the_median_stays():
    rng = np.random.default_rng(1)
    guess = np.sort(rng.normal(size=(300, len(LEVELS))), 1)
    kind = rng.integers(0, 2, 300)
    found = Calibration.fit(rng.normal(size=300), guess, kind, 2).apply(guess, kind)
    assert (np.diff(found, axis=1) >= 0).all()
    np.testing.assert_array_equal(found[:, 2], guess[:, 2])


def test_classes_with_few_validation_cells_are_joined():
    calibration = np.repeat([2.0, 3.0, 8.0, 20.0, 100.0, np.inf], [100, 100, 100, 10, 100, 5])
    kind, known = classes(np.array([2.0, 3.0, 8.0, 20.0, 100.0, np.inf]), calibration)
    assert np.bincount(known).min() >= 60
    assert list(kind) == [0, 1, 2, 2, 3, 3]
    assert (classes(calibration[:5], calibration[:5])[0] == 0).all()


def test_gap_lengths_are_counted_from_visible_to_visible_cell():
    made = cube(times=30, channels=1, missing=0, masks=1)
    made.hidden[:] = False
    made.hidden[0, 5:8, 2] = True
    made.hidden[0, 0, 2] = True
    made.hidden[0, 20, 2] = True
    found = gap_lengths(made, 0, np.array([5, 6, 7, 0, 20, 12]), np.full(6, 2), np.zeros(6, int))
    np.testing.assert_array_equal(found, [4, 4, 4, np.inf, 2, 2])  # the last one is visible itself: leave-one-out
