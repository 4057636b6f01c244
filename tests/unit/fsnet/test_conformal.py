"""Intervals: coverage in the long run whatever the data do, the exact identity behind it, causality, resumption."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.fsnet.conformal import STEP, WARM, ConformalTracker, conformal_intervals

H = 4


def coverage(lower, upper, y):
    origins = np.arange(H + WARM - 1, len(y) - H)
    labels = y[origins[:, None] + np.arange(1, 1 + H)]
    return ((labels >= lower[origins]) & (labels <= upper[origins])).mean(axis=0)


def test_first_interval_and_width_on_normal_noise():
    rng = np.random.default_rng(0)
    y = rng.normal(size=20_000)
    lower, upper = conformal_intervals(np.zeros((len(y), H)), y, 0.9)
    assert np.isnan(lower[: H + WARM - 1]).all() and np.isfinite(lower[H + WARM - 1 :]).all()
    # the 5 % and 95 % quantiles of a standard normal
    assert lower[10_000:].mean() == pytest.approx(-1.645, abs=0.08)
    assert upper[10_000:].mean() == pytest.approx(1.645, abs=0.08)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    level=st.sampled_from([0.5, 0.8, 0.95]),
    kind=st.sampled_from(["heavy", "jump", "trend", "skew", "heteroscedastic"]),
)
def test_coverage_whatever_the_data(seed, level, kind):
    rng = np.random.default_rng(seed)
    n = 6000
    y = {
        "heavy": lambda: rng.standard_t(2.5, n),
        "jump": lambda: rng.normal(size=n) * np.where(np.arange(n) < n // 2, 1.0, 10.0),
        "trend": lambda: rng.normal(size=n) + np.arange(n) / 500,  # the forecast (0) gets ever worse
        "skew": lambda: rng.exponential(size=n),
        "heteroscedastic": lambda: rng.normal(size=n) * (1.1 + np.sin(np.arange(n) / 50)),
    }[kind]()
    covered = coverage(*conformal_intervals(np.zeros((n, H)), y, level), y)
    np.testing.assert_allclose(covered, level, atol=0.03)


def test_the_identity_behind_the_coverage():
    """Misses beyond a bound, counted from outside, equal T tail + (q_T - q_0) / STEP."""
    rng = np.random.default_rng(2)
    y, n = rng.standard_t(3, 3000), 3000
    tracker = ConformalTracker(H, 0.8)
    start = tracker.multiplier.copy()
    lower, upper = tracker.update(np.zeros((n, H)), y)
    origins = np.arange(H + WARM - 1, n - H)  # given an interval, and complete
    labels = y[origins[:, None] + np.arange(1, 1 + H)]
    misses = np.stack([(labels < lower[origins]).sum(axis=0), (labels > upper[origins]).sum(axis=0)])
    expected = len(origins) * 0.1 + (tracker.multiplier - start) / STEP
    np.testing.assert_allclose(misses, expected, atol=1e-6)


@pytest.mark.parametrize("poison", [np.nan, 1e30, -7.0])
def test_the_future_changes_no_bit(poison):
    rng = np.random.default_rng(3)
    y = rng.normal(size=400)
    forecast = rng.normal(size=(400, H))
    clean = conformal_intervals(forecast, y)
    y[301:], forecast[301:] = poison, poison
    with np.errstate(all="ignore"):
        dirty = conformal_intervals(forecast, y)
    for a, b in zip(clean, dirty, strict=True):
        assert np.array_equal(a[:301], b[:301], equal_nan=True)


def test_pieces_and_saved_states_give_the_same_bits():
    rng = np.random.default_rng(4)
    y, forecast = rng.normal(size=300), rng.normal(size=(300, H))
    whole, tracker, out = conformal_intervals(forecast, y), ConformalTracker(H), []
    for a, b in ((0, 1), (1, 3), (3, 120), (120, 121), (121, 300)):
        out.append(tracker.update(forecast[a:b], y[a:b]))
        saved, tracker = tracker.state(), ConformalTracker(H)
        tracker.restore(saved)
    for i in range(2):
        assert np.array_equal(np.concatenate([o[i] for o in out]), whole[i], equal_nan=True)


def test_bad_level():
    with pytest.raises(ValueError, match="level"):
        ConformalTracker(H, 1.0)
