"""The regime simulator and the scores around its switches."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.core.errors import PipelineError
from pipeline.fsnet.regime_scores import recurrence_scores
from pipeline.fsnet.regimes import Switch, simulate
from pipeline.fsnet.settings import Simulation


def innovations(stream, mix):
    """e[t] by the equation of the model, from row 2 on; mix [n, regimes] are the weights of the regimes."""
    y = stream.series
    hours = np.arange(y.size) % stream.profiles.shape[1]
    phi = mix @ stream.coefficients
    profile = (mix * stream.profiles[:, hours].T).sum(axis=1)
    return y[2:] - phi[2:, 0] * y[1:-1] - phi[2:, 1] * y[:-2] - profile[2:]


def test_same_seed_same_bits_other_seed_other_stream():
    one, two, three = (simulate(Simulation(), seed) for seed in (7, 7, 8))
    assert one.series.tobytes() == two.series.tobytes()
    assert one.regime.tobytes() == two.regime.tobytes()
    assert one.switches == two.switches
    assert not np.array_equal(one.series, three.series)


def test_noise_changes_neither_regimes_nor_their_order():
    quiet, loud = (simulate(Simulation(noise_variance=v), 3) for v in (0.01, 1.0))
    assert quiet.switches == loud.switches
    np.testing.assert_array_equal(quiet.coefficients, loud.coefficients)
    np.testing.assert_array_equal(quiet.profiles, loud.profiles)


def test_every_regime_is_stationary():
    for seed in range(20):
        stream = simulate(Simulation(steps=10, regimes=50, persistence=0.95), seed)
        for phi1, phi2 in stream.coefficients:
            assert np.abs(np.roots([1, -phi1, -phi2])).max() < 1


def test_partial_autocorrelations_are_within_their_bound():
    coefficients = simulate(Simulation(steps=10, regimes=50, persistence=0.5), 0).coefficients
    # Yule-Walker: the first partial autocorrelation is phi1 / (1 - phi2), the second is phi2.
    assert np.abs(coefficients[:, 0] / (1 - coefficients[:, 1])).max() <= 0.5
    assert np.abs(coefficients[:, 1]).max() <= 0.5


def test_innovations_are_white_and_have_the_stated_variance():
    stream = simulate(Simulation(), 11)
    e = innovations(stream, np.eye(5)[stream.regime])
    # Standard error of the variance of n normal values: sigma^2 sqrt(2 / n); 4 of them.
    assert e.var() == pytest.approx(0.09, rel=4 * math.sqrt(2 / e.size))
    assert abs(np.mean(e[1:] * e[:-1])) / 0.09 < 4 / math.sqrt(e.size)


def test_gradual_switches_go_linearly_from_regime_to_regime():
    stream = simulate(Simulation(gradual_share=1.0, gradual_steps=101), 5)
    mix = np.eye(5)[stream.regime]
    for switch in stream.switches:
        assert (switch.row - switch.start, switch.end - switch.start) == (50, 101)
        for row in range(switch.start, switch.end):
            new = (row - switch.start + 0.5) / 101
            mix[row] = 0
            mix[row, switch.previous], mix[row, switch.regime] = 1 - new, new
        assert mix[switch.row, switch.regime] == 0.5
    e = innovations(stream, mix)
    assert e.var() == pytest.approx(0.09, rel=4 * math.sqrt(2 / e.size))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    regimes=st.integers(2, 6),
    shortest=st.integers(40, 120),
    extra=st.integers(0, 100),
    gradual_share=st.sampled_from([0.0, 0.4, 1.0]),
)
def test_switch_table_tells_the_truth(seed, regimes, shortest, extra, gradual_share):
    stream = simulate(
        Simulation(
            steps=1500,
            regimes=regimes,
            shortest=shortest,
            longest=shortest + extra,
            gradual_share=gradual_share,
            gradual_steps=30,
        ),
        seed,
    )
    assert stream.series.shape == stream.regime.shape == (1500,)
    rows = np.flatnonzero(np.diff(stream.regime)) + 1
    assert [s.row for s in stream.switches] == rows.tolist()
    stays = np.diff([0, *rows])
    assert ((stays >= shortest) & (stays <= shortest + extra)).all()
    assert 1500 - ([0, *rows][-1]) <= shortest + extra
    for switch in stream.switches:
        assert switch.previous == stream.regime[switch.row - 1]
        assert switch.regime == stream.regime[switch.row]
        assert (switch.kind == "recurrence") == (switch.regime in stream.regime[: switch.row])
        assert switch.start <= switch.row <= switch.end


def test_default_stream_recurs_as_often_as_its_arithmetic_says():
    """Stays of mean 550 make 21.3 switches in 12,000 rows on average; of 5 regimes at most 4 come newly."""
    streams = [simulate(Simulation(), seed) for seed in range(40)]
    counts = np.array([len(s.switches) for s in streams])
    # A stay's sd is 144.6, so the count's is about 144.6 sqrt(21.8) / 550 = 1.2; four standard errors of 40 streams.
    # Renewal theory: E N(t) = t / mu + sigma^2 / (2 mu^2) - 1 / 2 = 21.35.
    assert counts.mean() == pytest.approx(21.35, abs=4 * 1.23 / math.sqrt(40))
    assert all(sum(s.kind == "first" for s in stream.switches) <= 4 for stream in streams)


def test_impossible_settings_are_refused():
    with pytest.raises(ValidationError, match="longest"):
        Simulation(shortest=500, longest=400)
    with pytest.raises(ValidationError, match="overlap"):
        Simulation(shortest=50, gradual_share=0.5, gradual_steps=60)
    with pytest.raises(ValidationError):
        Simulation(persistence=1.0)
    with pytest.raises(ValidationError):
        Simulation(regime=4)


def switch(row, kind):
    return Switch(row=row, start=row, end=row, previous=0, regime=1, kind=kind)


def test_scores_by_hand():
    """Errors 0 but for the windows: 60 rows of 2 after the recurrence at 100, 10 rows of 3 after the new regime."""
    errors = np.zeros(500)
    errors[100:160], errors[300:310], errors[420:430] = 2.0, -3.0, 1.0
    scores = recurrence_scores(errors, [switch(100, "recurrence"), switch(300, "first"), switch(420, "recurrence")])
    assert scores["mse_first50"] == pytest.approx((50 * 4 + 10 * 1) / 100)
    assert scores["mse_first100"] == pytest.approx((60 * 4 + 10 * 1) / 180)  # the last window has 80 rows
    assert scores["mse_new100"] == pytest.approx(10 * 9 / 100)
    assert scores["mse"] == pytest.approx((60 * 4 + 10 * 9 + 10) / 500)


def test_a_window_ends_at_the_next_switch():
    errors = np.zeros(200)
    errors[30:] = 1.0
    scores = recurrence_scores(errors, [switch(10, "first"), switch(30, "recurrence")])
    assert scores["mse_new100"] == 0.0
    assert scores["mse_first50"] == 1.0


def test_scores_without_such_a_switch_are_nan_and_bad_input_is_named():
    scores = recurrence_scores(np.ones(10), [])
    assert scores["mse"] == 1.0
    assert math.isnan(scores["mse_first50"]) and math.isnan(scores["mse_new100"])
    with pytest.raises(PipelineError, match="reach to row 12"):
        recurrence_scores(np.ones(10), [switch(12, "first")])
