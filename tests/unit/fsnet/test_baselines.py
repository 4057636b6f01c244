"""Baselines: published figures on ETTh1, closed forms, causality to the bit, any season and horizon, resumption."""

import csv
import functools
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import DataError
from pipeline.fsnet.baselines import BASELINES, AggregateStream, linear_pool
from pipeline.fsnet.experts import AGGREGATE, AGGREGATE_EXOG, LinearPool, LinearSpec
from pipeline.fsnet.features import FeatureBank, lag_set, season_length

PLAIN = Path(__file__).parents[2] / "reference" / "rls_plain.py"
spec = importlib.util.spec_from_file_location("rls_plain", PLAIN)
rls_plain = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rls_plain)

LEARNERS = BASELINES.keys() - {"persistence", "seasonal_naive", "half_drift"}


def made(n=500, season=24, seed=0, channels=2):
    rng = np.random.default_rng(seed)
    wave = np.sin(2 * np.pi * np.arange(n) / season)
    exog = np.cumsum(rng.normal(size=(n, channels)), axis=0) * 0.05
    return wave + exog.sum(axis=1) + 0.2 * rng.normal(size=n), exog


@pytest.fixture(scope="module")
def etth1(data_dir):
    """OT of rows 0 … 14399, z-scored on rows 0 … 2879."""
    with open(data_dir / "forecasting" / "ETTh1.csv", newline="") as file:
        values = np.array([float(row["OT"]) for row in csv.DictReader(file)])[:14400]
    return (values - values[:2880].mean()) / values[:2880].std()


@pytest.mark.parametrize(
    ("name", "published"),
    [("persistence", 0.0806), ("seasonal_naive", 0.1458), ("half_drift", 0.0748), ("rls", 0.0610)],
)
def test_published_figures(etth1, name, published):
    origins = np.arange(3599, 14388)
    assert len(origins) == 10_789
    labels = etth1[origins[:, None] + np.arange(1, 13)]
    forecast = BASELINES[name](etth1, 24, 12)[origins]
    assert ((forecast - labels) ** 2).mean() == pytest.approx(published, rel=0.01)


def test_bar_of_rls_rich(etth1):
    origins = np.arange(3599, 14388)
    labels = etth1[origins[:, None] + np.arange(1, 13)]
    assert ((BASELINES["rls_rich"](etth1, 24, 12)[origins] - labels) ** 2).mean() <= 0.0530


def test_simple_baselines_by_hand():
    y = np.arange(10.0) ** 2  # season 4, horizon 6, origin 8
    assert BASELINES["persistence"](y, 4, 6)[8].tolist() == [64] * 6
    assert BASELINES["seasonal_naive"](y, 4, 6)[8].tolist() == [25, 36, 49, 64, 25, 36]
    # 64 + half of (25, 36, 49, 64, 25, 36) - y[4] = 16
    assert BASELINES["half_drift"](y, 4, 6)[8].tolist() == [68.5, 74, 80.5, 88, 68.5, 74]
    assert BASELINES["half_drift"](y, 4, 6)[2].tolist() == [4] * 6  # no season has passed


def test_rls_equals_a_refit_at_every_row():
    y, _ = made(n=130)
    expected = rls_plain.delayed_forecasts(FeatureBank(24, 5).push(y)["raw"], y, 5, 10.0, first=47)
    np.testing.assert_allclose(BASELINES["rls"](y, 24, 5)[52:], expected[52:], rtol=1e-7, atol=1e-9)


def test_a_sine_is_forecast_exactly():
    """A noiseless season and a constant slope lie in the span of the features: the error falls to the ridge's bias."""
    t = np.arange(3000)
    y = np.sin(2 * np.pi * t / 24) + 0.3 * np.cos(4 * np.pi * t / 24)
    forecast = BASELINES["rls_rich"](y, 24, 12)
    labels = y[np.arange(2900, 2980)[:, None] + np.arange(1, 13)]
    assert np.abs(forecast[2900:2980] - labels).max() < 0.02


@functools.cache
def clean_forecast(name):
    y, exog = made(n=372)
    return BASELINES[name](y, 24, 12, exog)


@pytest.mark.parametrize("poison", [np.nan, 1e30, "noise"])
@pytest.mark.parametrize("name", list(BASELINES))
def test_the_future_changes_no_bit(name, poison):
    y, exog = made(n=372)
    t = 350  # after the forest's second fit
    clean = clean_forecast(name)
    bad = np.random.default_rng(9).normal(size=372) * 50 if poison == "noise" else np.full(372, poison)
    dirty, dirty_exog = y.copy(), exog.copy()
    dirty[t + 1 :], dirty_exog[t + 1 :] = bad[t + 1 :], bad[t + 1 :, None]
    with np.errstate(all="ignore"):
        assert np.array_equal(BASELINES[name](dirty, 24, 12, dirty_exog)[: t + 1], clean[: t + 1])


def test_an_expert_equals_a_refit_on_complete_windows():
    """From every origin: the batch solution on the windows whose last label is that origin's row, and on no other."""
    y, _ = made(n=140)
    horizon, season = 6, 24
    pool = LinearPool({"x": LinearSpec(("lags", "level"), reach=2, noise_floor=None)}, season, horizon)
    forecast = pool.update(y)[0]
    blocks = FeatureBank(season, horizon).push(y)
    kept = pool.bank.lags < 48
    x = np.concatenate([blocks["lags"][:, kept], blocks["level"]], axis=1)
    ridge = np.concatenate([100 * (1 + 10 * pool.bank.lags[kept] / season), [100.0, 100.0]])
    for t in (55, 90, 139):
        origins = np.arange(47, t - horizon + 1)
        moves = y[origins[:, None] + np.arange(1, 1 + horizon)] - y[origins][:, None]
        weights, _ = rls_plain.weighted_ridge(x[origins], moves, ridge)
        np.testing.assert_allclose(forecast[t], y[t] + weights @ x[t], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("season", "horizon"), [(96, 12), (24, 48), (24, 1), (7, 1), (1, 5), (2, 3)])
def test_any_season_and_horizon(season, horizon):
    y, exog = made(n=240, season=max(season, 2))
    for name, function in BASELINES.items():
        forecast = function(y, season, horizon, exog)
        assert forecast.shape == (240, horizon) and np.isfinite(forecast).all(), name
        assert np.abs(forecast).max() < 10 * np.abs(y).max(), name


def test_learning_beats_persistence_on_a_seasonal_stream():
    y, exog = made(n=900)
    origins = np.arange(500, 888)
    labels = y[origins[:, None] + np.arange(1, 13)]
    score = {
        name: ((function(y, 24, 12, exog)[origins] - labels) ** 2).mean()
        for name, function in BASELINES.items()
        if not name.startswith("aggregate_full")
    }
    for name in LEARNERS & score.keys():
        assert score[name] < 0.5 * score["persistence"], name
    assert score["aggregate"] < 1.02 * score["rls_rich"]


def test_pool_names_and_exog():
    y, exog = made(n=80)
    names, experts = linear_pool(y, 24, 4)
    assert names == list(AGGREGATE) and experts.shape == (len(names), 80, 4)
    names, experts = linear_pool(y, 24, 4, exog)
    assert names == list(AGGREGATE_EXOG) and experts.shape == (len(names), 80, 4)
    # before anything was learnt every expert is persistence
    assert np.array_equal(experts[:, :47], np.broadcast_to(y[None, :47, None], (len(names), 47, 4)))


@pytest.mark.parametrize(("members", "channels"), [("linear", 0), ("all", 2)])
def test_tomorrow_continues_today(members, channels, tmp_path):
    """Rows in pieces, the state on disk in between: the same bits as the whole file at once."""
    y, exog = made(n=560)
    give = exog if channels else None
    whole = AggregateStream(24, 3, channels, members=members).update(y, give)
    stream, out = AggregateStream(24, 3, channels, members=members), []
    edges = (0, 200, 336, 337, 505, 560)
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        out.append(stream.update(y[a:b], give[a:b] if channels else None))
        np.savez(tmp_path / "state.npz", **stream.state())
        with np.load(tmp_path / "state.npz", allow_pickle=False) as saved:
            stream = AggregateStream.from_state(dict(saved))
    for key, value in whole.items():
        assert np.array_equal(np.concatenate([o[key] for o in out]), value, equal_nan=True), key


def test_season_from_the_time_step():
    assert [season_length(s) for s in (900, 3600, 7200, 600)] == [96, 24, 12, 144]
    assert season_length(86_400) == 7
    assert season_length(7 * 86_400) == 1 and season_length(5 * 3600) == 1
    with pytest.raises(ValueError, match="positive"):
        season_length(0)


def test_lag_sets():
    assert lag_set(24, 12).tolist() == list(range(1, 168))
    quarter = lag_set(96, 12)
    assert len(quarter) < 200 and quarter.max() == 7 * 96
    for k in range(1, 8):  # the value a whole number of days before each forecast row
        assert set(k * 96 - np.arange(12)) <= set(quarter.tolist())


def test_many_channels_are_averaged_in_groups():
    y, exog = made(n=60, channels=30)
    blocks = FeatureBank(24, 3, 30).push(y, exog)
    assert blocks["exog"].shape == (60, 12 * 7)
    edges = np.linspace(0, 30, 13).astype(int)
    first = exog[:, edges[0] : edges[1]].mean(axis=1)
    np.testing.assert_allclose(blocks["exog"][:, 0], first, rtol=1e-12)


def test_bad_input():
    y, exog = made(n=60)
    with pytest.raises(DataError, match="needs other channels"):
        BASELINES["aggregate_exog"](y, 24, 3)
    with pytest.raises(DataError, match="one series"):
        BASELINES["rls"](exog, 24, 3)
    with pytest.raises(DataError, match="other channels must be"):
        BASELINES["aggregate_exog"](y, 24, 3, exog[:-1])
    with pytest.raises(DataError, match="at least 1"):
        BASELINES["persistence"](y, 0, 3)
    with pytest.raises(DataError, match="started with 2"):
        AggregateStream(24, 3, 2).update(y, exog[:, :1])


def test_noise_weight_and_huber_tame_an_outlier():
    """One absurd spike: the tamed expert's weights move less than the plain one's."""
    y, _ = made(n=400)
    spiked = y.copy()
    spiked[390] += 30.0
    moved = {}
    for name, extra in {"plain": dict(noise_floor=None), "tamed": dict(huber=2.5)}.items():
        weights = []
        for series in (y, spiked):
            pool = LinearPool({"x": LinearSpec(("lags", "level"), reach=2, **extra)}, 24, 3)
            pool.update(series)
            weights.append(pool.experts["x"].rls.weights)
        moved[name] = np.abs(weights[0] - weights[1]).max()
    assert moved["tamed"] < 0.2 * moved["plain"]
