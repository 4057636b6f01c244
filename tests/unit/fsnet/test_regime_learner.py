"""The learner that meets regimes again: its least squares, its memory, its detector, its honesty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.core.errors import PipelineError
from pipeline.fsnet.regime_learner import (
    CLIP,
    CLIPPED_MEAN,
    RegimeLearner,
    SlotBank,
    run_stream,
    update_rls,
)
from pipeline.fsnet.regime_scores import recurrence_scores
from pipeline.fsnet.regimes import simulate
from pipeline.fsnet.settings import RegimeLearner as LearnerSettings
from pipeline.fsnet.settings import Simulation

SETTINGS = LearnerSettings()
STREAM = Simulation(steps=4800, regimes=3, shortest=250, longest=450)


@pytest.fixture(scope="module")
def streams():
    """[(stream, forecast and info without memory, forecast and info with memory)]."""
    found = []
    for seed in range(2):
        stream = simulate(STREAM, seed)
        found.append(
            (
                stream,
                run_stream(stream.series, SETTINGS, memory=False),
                run_stream(stream.series, SETTINGS, memory=True),
            )
        )
    return found


def stay_at(stream, row):
    """(first row, regime, kind) of the stay that a row lies in."""
    last = max((s for s in stream.switches if s.row <= row), key=lambda s: s.row)
    return last.row, last.regime, last.kind


# --- least squares -----------------------------------------------------------------------------------------------


def problem(rng, rows, size):
    return rng.standard_normal((rows, size)), rng.standard_normal(rows)


def fit(features, labels, prior, forgetting=1.0):
    weights, covariance = np.zeros(features.shape[1]), prior.copy()
    for x, y in zip(features, labels, strict=True):
        weights, covariance = update_rls(weights, covariance, x, y - x @ weights, forgetting)
    return weights, covariance


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 60),
    size=st.integers(1, 8),
    forgetting=st.floats(0.9, 1.0),
)
def test_rls_is_the_closed_form(seed, rows, size, forgetting):
    features, labels = problem(np.random.default_rng(seed), rows, size)
    weights, covariance = fit(features, labels, 2.0 * np.eye(size), forgetting)
    age = forgetting ** np.arange(rows - 1, -1, -1.0)
    precision = forgetting**rows * np.eye(size) / 2.0 + (features.T * age) @ features
    np.testing.assert_allclose(covariance, np.linalg.inv(precision), rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(weights, np.linalg.solve(precision, (features.T * age) @ labels), rtol=1e-6, atol=1e-9)


def test_covariance_stays_symmetric_positive_and_bounded():
    """Strong forgetting, one coordinate never excited and two that are always equal: what makes P wind up."""
    rng = np.random.default_rng(0)
    weights, covariance = np.zeros(6), np.eye(6)
    for _ in range(30_000):
        x = rng.standard_normal(6)
        x[0], x[1] = 0.0, x[2]
        weights, covariance = update_rls(weights, covariance, x, rng.standard_normal() - x @ weights, 0.95, 6.0)
    np.testing.assert_array_equal(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance).min() > 0
    assert covariance.trace() <= 6.0 / 0.95
    assert np.isfinite(weights).all()


def test_covariances_of_a_whole_stream_are_symmetric_positive(streams):
    learner = RegimeLearner(SETTINGS, memory=True)
    series = streams[0][0].series[:3000]
    hours = np.eye(24)
    for t in range(8, series.size):
        learner.learn(learner.predict(np.r_[series[t - 8 : t][::-1], hours[t % 24]]), series[t], t)
    assert learner.bank.filled.sum() == 3
    for covariance in (
        learner.live[1],
        learner.challenger[1],
        *learner.bank.covariances[learner.bank.filled],
    ):
        np.testing.assert_array_equal(covariance, covariance.T)
        assert np.linalg.eigvalsh(covariance).min() > 0


# --- memory ------------------------------------------------------------------------------------------------------


def snapshot(rng, size=4):
    root = rng.standard_normal((size, size))
    return rng.standard_normal(size), root @ root.T + np.eye(size)


def test_what_is_written_is_read():
    rng = np.random.default_rng(1)
    bank = SlotBank(slots=3, features=4, agree=0.5)
    written = {}
    for row in range(3):
        weights, covariance = snapshot(rng)
        weights *= 10  # far apart: nothing merges
        slot = bank.write(weights, covariance, noise=0.1, row=row, origin=None)
        written[slot] = (weights, covariance)
    assert sorted(written) == [0, 1, 2]
    for slot, (weights, covariance) in written.items():
        read = bank.read(slot)
        np.testing.assert_array_equal(read[0], weights)
        np.testing.assert_array_equal(read[1], covariance)


def test_a_read_is_a_copy():
    bank = SlotBank(slots=1, features=4, agree=0.5)
    bank.write(np.ones(4), np.eye(4), noise=1.0, row=0, origin=None)
    weights, covariance = bank.read(0)
    weights += 1
    covariance *= 2
    np.testing.assert_array_equal(bank.read(0)[0], np.ones(4))
    np.testing.assert_array_equal(bank.read(0)[1], np.eye(4))


def test_a_wrong_recall_does_not_overwrite_its_slot():
    """A learner recalled from slot 0 that ends elsewhere goes to a slot of its own."""
    bank = SlotBank(slots=2, features=4, agree=0.5)
    bank.write(np.ones(4), np.eye(4), noise=1.0, row=0, origin=None)
    assert bank.write(-5 * np.ones(4), np.eye(4), noise=1.0, row=1, origin=0) == 1
    np.testing.assert_array_equal(bank.read(0)[0], np.ones(4))


def test_a_continued_slot_is_replaced_and_not_counted_twice():
    bank = SlotBank(slots=2, features=4, agree=0.5)
    bank.write(np.ones(4), np.eye(4), noise=1.0, row=0, origin=None)
    assert bank.write(1.1 * np.ones(4), 0.5 * np.eye(4), noise=1.0, row=1, origin=0) == 0
    np.testing.assert_array_equal(bank.read(0)[0], 1.1 * np.ones(4))
    np.testing.assert_array_equal(bank.read(0)[1], 0.5 * np.eye(4))


def test_merging_two_learners_is_learning_from_both_data():
    rng = np.random.default_rng(2)
    truth = rng.standard_normal(5)
    features = rng.standard_normal((120, 5))
    labels = features @ truth + 0.1 * rng.standard_normal(120)
    bank = SlotBank(slots=3, features=5, agree=5.0)
    for part in (slice(0, 50), slice(50, 120)):
        bank.write(*fit(features[part], labels[part], 4.0 * np.eye(5)), 0.01, 0, None)
    assert bank.filled.tolist() == [True, False, False]
    # Both brought their prior, of precision 1/4.
    weights, covariance = fit(features, labels, 2.0 * np.eye(5))
    np.testing.assert_allclose(bank.read(0)[0], weights, rtol=1e-9)
    np.testing.assert_allclose(bank.read(0)[1], covariance, rtol=1e-9)


def test_distance_is_about_one_within_a_regime_and_large_between_regimes():
    """200 pairs of learners of the same truth: chi-squared by its degrees of freedom has mean one."""
    rng = np.random.default_rng(3)
    apart = []
    for _ in range(200):
        truth = rng.standard_normal(5)  # as the prior says
        first, second = rng.standard_normal((2, 60, 5))
        learnt = [fit(x, x @ truth + 0.3 * rng.standard_normal(60), np.eye(5) / 0.09) for x in (first, second)]
        bank = SlotBank(slots=2, features=5, agree=5.0)
        bank.write(*learnt[0], noise=0.09, row=0, origin=None)
        distance = bank.distance(*learnt[1], noise=0.09)
        assert distance[1] == np.inf
        apart.append(distance[0])
        # By hand: a weight off by one, variances added.
        other = bank.distance(learnt[1][0] + 1.0, learnt[1][1], noise=0.09)[0]
        step = learnt[1][0] + 1.0 - learnt[0][0]
        assert other == pytest.approx(step @ np.linalg.inv(learnt[0][1] + learnt[1][1]) @ step / (0.09 * 5))
        assert other > 20
    # The standard error of the mean is sqrt(2 / 5 / 200) = .045.
    assert np.mean(apart) == pytest.approx(1.0, abs=0.18)


def test_a_full_bank_gives_up_the_slot_longest_not_used():
    bank = SlotBank(slots=2, features=4, agree=0.5)
    for row, level in enumerate((0.0, 10.0)):
        bank.write(np.full(4, level), np.eye(4), noise=1.0, row=row, origin=None)
    bank.used[0] = 5  # read since
    assert bank.write(np.full(4, 20.0), np.eye(4), noise=1.0, row=6, origin=None) == 1
    np.testing.assert_array_equal(bank.read(0)[0], np.zeros(4))


# --- detector and recall -----------------------------------------------------------------------------------------


def test_clipped_mean_by_quadrature():
    z = np.linspace(-12, 12, 200_001)
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    assert CLIPPED_MEAN == pytest.approx(np.sum(np.minimum(z**2, CLIP) * density) * (z[1] - z[0]), rel=1e-6)


def test_noise_variance_is_found_whatever_it_is():
    for truth in (0.02, 0.5):
        stream = simulate(Simulation(steps=2500, shortest=3000, longest=3000, noise_variance=truth), seed=4)
        _, info = run_stream(stream.series, SETTINGS, memory=False)
        # The running mean of rate .002 has a relative standard deviation of sqrt(2 * .002 / 2) = 4.5 %.
        assert info["noise"] == pytest.approx(truth, rel=0.14)
        assert info["alarms"] == []


def test_every_switch_is_caught_within_a_day_and_none_is_invented(streams):
    for stream, (_, without), (_, with_memory) in streams:
        rows = np.array([s.row for s in stream.switches])
        for info in (without, with_memory):
            alarms = np.array(info["alarms"])
            assert alarms.size == rows.size
            assert ((alarms >= rows) & (alarms < rows + 24)).all()


def test_a_known_regime_recalls_its_own_slot_with_nearly_all_weight(streams):
    for stream, _, (_, info) in streams:
        owner = {}
        events = [(row, 1, slot) for row, slot in zip(info["firing"], info["recalled"], strict=True)]
        events += [(row, 0, slot) for row, slot in info["writes"]]
        recalled = []
        for row, is_recall, slot in sorted(events):
            start, regime, kind = stay_at(stream, row)
            if is_recall:
                assert owner[slot] == regime and kind == "recurrence"
                recalled.append(start)
                # Uniform would be 1 / experts, at most a quarter here.
                assert info["slot_scores"][row, slot] > 0.9
            else:
                owner[slot] = next(s.previous for s in stream.switches if s.row == start)
        # A switch in the last two days may be over before there is evidence enough.
        recurrences = [s.row for s in stream.switches if s.kind == "recurrence"]
        assert recalled == recurrences[: len(recalled)]
        assert all(row > stream.series.size - 48 for row in recurrences[len(recalled) :])
        assert info["slots_filled"] == 3


def test_a_regime_never_met_recalls_nothing(streams):
    for stream, _, (_, info) in streams:
        assert all(stay_at(stream, row)[2] == "recurrence" for row in info["firing"])
        for switch in (s for s in stream.switches if s.kind == "first"):
            settled = info["slot_scores"][switch.row + 48 : switch.row + 200]
            assert settled.max(axis=1).mean() < 0.05


def test_slots_are_written_from_before_the_change(streams):
    """Slot weights forecast their own regime at nearly the noise: nothing of the next regime got in."""
    stream, _, (_, info) = streams[0]
    learner = RegimeLearner(SETTINGS, memory=True)
    hours = np.eye(24)
    y = np.r_[np.zeros(8), stream.series]
    rows = np.array([np.r_[y[t : t + 8][::-1], hours[t % 24]] for t in range(stream.series.size)])
    first = stream.switches[0].row
    for t in range(first + 60):
        learner.learn(learner.predict(rows[t]), stream.series[t], t)
    assert learner.writes == info["writes"][:1]
    own = rows[:first] @ learner.bank.weights[0] - stream.series[:first]
    assert np.mean(own**2) < 1.1 * stream.noise_variance


def test_without_memory_nothing_is_written(streams):
    for _, (_, info), _ in streams:
        assert info["writes"] == info["firing"] == []
        assert not info["slot_scores"].any()


def test_memory_pays_after_recurrences_and_costs_little_elsewhere(streams):
    plain, memory = (
        [recurrence_scores(run[0].series - run[arm][0], run[0].switches) for run in streams] for arm in (1, 2)
    )
    for without, with_memory in zip(plain, memory, strict=True):
        assert with_memory["mse_first50"] < 0.4 * without["mse_first50"]
        assert with_memory["mse_new100"] < 1.1 * without["mse_new100"]
        assert with_memory["mse"] < without["mse"]


# --- honesty -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [False, True])
def test_a_poisoned_future_changes_no_forecast(memory):
    """Rows > t are NaN, huge or noise: forecasts of origins <= t (rows <= t + 1) and slot weights keep their bits."""
    series = simulate(Simulation(steps=1600, regimes=2, shortest=150, longest=250), 1).series
    forecast, info = run_stream(series, SETTINGS, memory)
    t = 1100
    if memory:
        assert min(info["firing"]) < t < max(info["firing"])
    for poison in (np.nan, 1e30, np.random.default_rng(0).standard_normal(series.size - t - 1)):
        poisoned = series.copy()
        poisoned[t + 1 :] = poison
        other, other_info = run_stream(poisoned, SETTINGS, memory)
        assert other[: t + 2].tobytes() == forecast[: t + 2].tobytes()
        for scores in ("slot_scores", "learner_scores"):
            assert other_info[scores][: t + 2].tobytes() == info[scores][: t + 2].tobytes()
        for events in ("alarms", "firing"):  # what the learner did with its state: fresh starts, recalls
            assert [row for row in other_info[events] if row <= t] == [row for row in info[events] if row <= t]
        assert [w for w in other_info["writes"] if w[0] <= t] == [w for w in info["writes"] if w[0] <= t]


def test_missing_values_are_bridged():
    """A gap teaches nothing and stops nothing: after a day without data the learner goes on as before."""
    stream = simulate(Simulation(steps=2500, shortest=3000, longest=3000), 0)
    series = stream.series.copy()
    series[2000:2024] = np.nan
    forecast, info = run_stream(series, SETTINGS, memory=True)
    assert np.isfinite(forecast).all()
    assert info["alarms"] == []
    # After the lags are real again.
    assert np.mean((stream.series - forecast)[2032:] ** 2) < 1.2 * stream.noise_variance


def test_absurd_values_count_as_missing():
    stream = simulate(Simulation(steps=900, shortest=3000, longest=3000), 0)
    absurd, missing = stream.series.copy(), stream.series.copy()
    absurd[500], missing[500] = -1e30, np.nan
    one, two = (run_stream(series, SETTINGS, memory=True)[0] for series in (absurd, missing))
    assert one.tobytes() == two.tobytes()


def test_a_series_without_noise_does_no_harm():
    forecast, info = run_stream(np.full(4000, 0.7), SETTINGS, memory=True)
    # The challenger may say zero, its prior, and keeps its share of the mixture.
    assert (forecast[1000:] > (1 - SETTINGS.share) * 0.7 - 1e-3).all() and (forecast[1000:] < 0.701).all()
    assert info["alarms"] == info["firing"] == []


def test_bad_input_is_refused():
    with pytest.raises(PipelineError, match=r"shape \(5, 2\)"):
        run_stream(np.zeros((5, 2)), SETTINGS, memory=True)
    with pytest.raises(ValidationError):
        LearnerSettings(forgetting=1.01)
    with pytest.raises(ValidationError):
        LearnerSettings(slot=3)
