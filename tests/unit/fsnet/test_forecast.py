"""Forecasting a user's own file: the same bits however it is cut, honest errors, clear messages."""

import numpy as np
import pytest

from pipeline.fsnet.baselines import BASELINES
from pipeline.fsnet.forecast import METHODS, Forecaster, default_warmup

from .waves import HORIZON, START, same, stream, wave


@pytest.fixture(scope="module")
def series():
    return wave(420)


@pytest.fixture(scope="module")
def whole(series):
    return stream(series, [])


@pytest.mark.parametrize("cuts", [[106], [110, 111, 112, 118, 300], [200, 400], list(range(107, 135))])
def test_any_cut_gives_the_same_bits(series, whole, cuts):
    one, joined = stream(series, cuts)
    same(joined, whole[1])
    same(one.state(), whole[0].state())


def test_a_state_goes_on_to_the_bit(series, whole):
    """Also with further columns, and through the arrays that a file holds."""
    for others in ((), ("wind",)):
        reference = whole if not others else stream(series, [], others=others)
        first, early = stream(series[:250], [], others=others)
        second, late = stream(series[250:], [3, 60], one=Forecaster.from_state(first.state()))
        same({name: np.concatenate([early[name], late[name]]) for name in early}, reference[1])
        same(second.state(), reference[0].state())


def test_the_future_never_matters(series):
    """Whatever comes after row t, the forecasts up to the one from t are what they were."""
    t, poisoned = 299, series.copy()
    poisoned[t + 1 :] = 1e6 * np.random.default_rng(1).normal(size=poisoned[t + 1 :].shape)
    for others in ((), ("wind",)):
        _, clean = stream(series, [], others=others)
        _, bad = stream(poisoned, [], others=others)
        upto = clean["row"] <= t
        for name in ("forecast", "lower", "upper"):
            np.testing.assert_array_equal(clean[name][upto], bad[name][upto], err_msg=name)
        assert not np.array_equal(clean["forecast"], bad["forecast"])


def test_it_is_the_baseline_aggregate_on_the_scaled_series(series, whole):
    one, out = whole
    mean, sd = series[:100, 0].mean(), series[:100, 0].std()
    assert (one.mean[0], one.sd[0]) == (mean, sd)
    expected = BASELINES["aggregate"]((series[:, 0] - mean) / sd, 24, HORIZON) * sd + mean
    np.testing.assert_allclose(out["forecast"], expected[99:], rtol=1e-9)
    assert out["row"][0] == 99 and out["row"][-1] == len(series) - 1


def test_other_columns_are_the_inputs_of_aggregate_exog(series):
    z = (series - series[:100].mean(axis=0)) / series[:100].std(axis=0)
    _, out = stream(series, [], others=("wind",))
    expected = BASELINES["aggregate_exog"](z[:, 0], 24, HORIZON, z[:, 1:]) * series[:100, 0].std()
    np.testing.assert_allclose(out["forecast"], expected[99:] + series[:100, 0].mean(), rtol=1e-9)


def test_running_errors_are_those_of_a_plain_loop(series, whole):
    """Every forecast whose rows have all been seen counts once; each method by its definition."""
    one, out = whole
    y, (mean, sd) = series[:, 0], (series[:100, 0].mean(), series[:100, 0].std())
    rls = BASELINES["rls"]((y - mean) / sd, 24, HORIZON) * sd + mean
    own = dict(zip(out["row"], out["forecast"], strict=True))
    errors = {name: [] for name in METHODS}
    covered, known = 0, 0
    for origin in range(99, len(y) - HORIZON):
        for h in range(1, HORIZON + 1):
            truth = y[origin + h]
            errors["forecast"].append(own[origin][h - 1] - truth)
            errors["persistence"].append(y[origin] - truth)
            errors["seasonal_naive"].append(y[origin + h - 24] - truth)
            errors["rls"].append(rls[origin, h - 1] - truth)
            low, high = out["lower"][origin - 99, h - 1], out["upper"][origin - 99, h - 1]
            known += np.isfinite(low)
            covered += low <= truth <= high
    scores = one.scores()
    for name, values in errors.items():
        assert scores[name]["rmse"] == pytest.approx(np.sqrt(np.mean(np.square(values))), rel=1e-9), name
        assert scores[name]["mae"] == pytest.approx(np.mean(np.abs(values)), rel=1e-9), name
    assert scores["persistence"]["ratio"] == 1
    assert one.errors.count == len(y) - HORIZON - 99
    assert one.coverage()[0] == pytest.approx(covered / known, rel=1e-12)


def test_a_pure_wave_is_forecast_by_its_season():
    """Period 24 without noise: the seasonal naive forecast is exact, persistence is off by the known amount."""
    values = np.stack([10 + np.sin(2 * np.pi * np.arange(400) / 24)] * 2, axis=1)
    one, _ = stream(values, [], horizon=12)
    scores = one.scores()
    assert scores["seasonal_naive"]["rmse"] < 1e-12
    # (sin(a + d) - sin a)^2 averages to 1 - cos d over a
    expected = np.mean([1 - np.cos(2 * np.pi * h / 24) for h in range(1, 13)])
    assert scores["persistence"]["rmse"] ** 2 == pytest.approx(expected, rel=0.02)  # not whole days
    assert scores["forecast"]["rmse"] < 0.1 * scores["persistence"]["rmse"]


def test_units_don_t_matter(series, whole):
    """Degrees Fahrenheit for Celsius: the same forecast in other units."""
    _, other = stream(series * 1.8 + 32, [])
    np.testing.assert_allclose(other["forecast"], whole[1]["forecast"] * 1.8 + 32, rtol=1e-6)


def test_the_latest_forecast_is_of_rows_to_come(whole):
    one, out = whole
    latest = one.latest()
    np.testing.assert_array_equal(latest["forecast"], out["forecast"][-1])
    assert latest["time"][0] - one.last == np.timedelta64(1, "h")
    assert latest["time"][-1] == np.datetime64(START) + np.timedelta64(419 + HORIZON, "h")


def test_the_default_warmup_is_two_weeks_or_200_rows():
    assert [default_warmup(*x) for x in ((24, 12), (96, 12), (7, 7), (1, 1), (1, 100))] == [336, 1344, 200, 200, 400]
