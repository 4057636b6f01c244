"""Scores against closed forms, estimates on disk, comparisons."""

import numpy as np
import pytest

from pipeline.rstmrf import estimates, scoring
from pipeline.rstmrf.estimates import Estimate


def test_the_parabola_finds_the_peak_of_a_parabola():
    alt = estimates.PEAK_KM
    heights = np.array([283.0, 304.9, 500.0])
    profiles = 12 - 1e-5 * (alt[None] - heights[:, None]) ** 2
    value, height = estimates.peak(profiles, alt)
    assert value == pytest.approx(np.full(3, 12.0))
    assert height == pytest.approx(heights)


def test_quadrature_turns_a_constant_density_into_its_content():
    altitudes, weights = estimates.integration(90.0, 2000.0)
    assert weights.sum() == pytest.approx((2000 - 90) * 1e3 / 1e16)
    scale = np.exp(-(altitudes - 90) / 100.0) @ weights  # an exponential layer
    assert scale == pytest.approx(100e3 / 1e16 * (1 - np.exp(-19.1)), rel=1e-9)


def test_crps_of_a_normal_forecast():
    # at the mean: sd (sqrt(2) - 1) / sqrt(pi); far away: the distance less sd / sqrt(pi)
    got = scoring.crps_normal(np.zeros(2), np.array([2.0, 1.0]), np.array([0.0, 50.0]))
    assert got == pytest.approx([2 * (2**0.5 - 1) / np.pi**0.5, 50 - 1 / np.pi**0.5])


def test_crps_equals_the_mean_over_a_sample():
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.3, 0.7, (2, 200_000))
    wanted = np.abs(x - 1.0).mean() - 0.5 * np.abs(x - y).mean()
    assert scoring.crps_normal(np.array(0.3), np.array(0.7), np.array(1.0)) == pytest.approx(wanted, abs=5e-3)


def test_the_critical_frequency_of_a_dense_layer():
    assert scoring.fof2_mhz(np.log10(1.24e12)) == pytest.approx(10.0, abs=0.01)  # 1.24e12 m-3 is 10 MHz


@pytest.fixture
def reference(toy_world, toy_truth):
    return scoring.Reference.of(toy_world, toy_truth)


def perfect(world, truth, shift=0.0, sd=None):
    spread = {} if sd is None else {"dense_sd": np.full(len(world.dense), sd)}
    return Estimate(
        "x", world.name, 0, truth.dense + shift, truth.withheld + shift, truth.nmf2, truth.hmf2, truth.tec, **spread
    )


def test_the_truth_scores_one_and_iri_scores_nothing(toy_world, toy_truth, reference):
    found = scoring.score(perfect(toy_world, toy_truth), reference)
    assert found["skill"] == found["skill_sampled"] == found["skill_withheld"] == 1.0
    assert found["rmse"] == found["rmse_hmf2_km"] == found["rmse_fof2_mhz"] == 0.0
    iri = perfect(toy_world, toy_truth)
    iri.dense = scoring.background(toy_world, toy_world.dense)
    assert scoring.score(iri, reference)["skill"] == pytest.approx(0.0, abs=1e-12)


def test_a_shift_is_bias_and_rmse_and_coverage_counts(toy_world, toy_truth, reference):
    found = scoring.score(perfect(toy_world, toy_truth, 0.1, sd=0.1), reference)
    assert (found["bias"], found["rmse"]) == pytest.approx((0.1, 0.1))
    assert found["coverage90"] == 1.0
    assert scoring.score(perfect(toy_world, toy_truth, 0.1, sd=0.05), reference)["coverage90"] == 0.0


def test_sampled_and_unsampled_parts_add_to_the_whole(toy_world, toy_truth, reference):
    rng = np.random.default_rng(1)
    one = perfect(toy_world, toy_truth)
    one.dense = one.dense + rng.normal(0, 0.1, len(one.dense))
    found, masks = scoring.score(one, reference), scoring.masks(reference)
    share = masks["sampled"].mean()
    assert found["rmse"] ** 2 == pytest.approx(
        share * found["rmse_sampled"] ** 2 + (1 - share) * found["rmse_unsampled"] ** 2
    )


def test_blocks_hold_all_losses(toy_world, toy_truth, reference):
    one = perfect(toy_world, toy_truth, 0.2)
    blocks = scoring.losses(one, reference)
    assert blocks.sum(0) == pytest.approx([0.04 * len(one.dense), reference.dense_iri.sum()])
    found = scoring.skill_difference([blocks], [blocks])
    assert found["difference"] == 0 and found["ci95"] == [0.0, 0.0] and found["p"] == 1.0


def test_the_interval_of_the_skill_covers_the_skill(toy_world, toy_truth, reference):
    rng = np.random.default_rng(1)
    one = perfect(toy_world, toy_truth)
    one.dense = one.dense + rng.normal(0, 0.1, len(one.dense))
    low, high = scoring.skill_interval([scoring.losses(one, reference)])
    assert low < scoring.score(one, reference)["skill"] < high


def test_days_are_whole_and_resampled_whole():
    """Three days that lose 1, 2 and 3 of 10: of three draws with replacement all three days are the best (or worst) one
    in 1 of 27 cases, which is more than 2.5 %."""
    days = np.array([[1.0, 10], [2, 10], [3, 10]])
    blocks = np.repeat(days / 4, 4, axis=0)
    (found,) = scoring.by_day([blocks])
    assert found == pytest.approx(days)
    assert scoring.skill_interval([found]) == pytest.approx([0.7, 0.9])
    difference = scoring.skill_difference([blocks], [blocks + [0.25, 0.0]])  # the second loses 1 a day more
    assert difference["ci95_by_day"] == pytest.approx([0.1, 0.1]) and difference["difference"] == pytest.approx(0.1)
    assert scoring.by_day([blocks, blocks[:8]]) is None  # two days of a world say nothing
    assert scoring.skill_difference([blocks[:8]], [blocks[:8]])["ci95_by_day"] is None


def test_estimates_come_back_from_disk(tmp_path, toy_world, toy_truth):
    first = perfect(toy_world, toy_truth, sd=0.2)
    second = perfect(toy_world, toy_truth)
    second.dense, second.attrs = second.dense[:-5], {"cpu_s": 3.0}
    estimates.write(tmp_path / "x.zarr", [first, second])
    a, b = estimates.read(tmp_path / "x.zarr")
    assert a.dense == pytest.approx(first.dense, abs=1e-5) and a.dense_sd == pytest.approx(0.2)
    assert len(b.dense) == len(second.dense) and b.dense_sd is None and b.attrs == {"cpu_s": 3.0}


def test_columns_of_the_background_have_the_background_peak(toy_world):
    found = estimates.columns(toy_world, lambda points: (scoring.background(toy_world, points), None))
    params = toy_world.background_at(toy_world.column_time_h, toy_world.column_lat, toy_world.column_lon)
    assert found["nmf2"] == pytest.approx(params[:, 0] / np.log(10), abs=1e-3)
    assert found["hmf2"] == pytest.approx(params[:, 1], abs=2.0)
