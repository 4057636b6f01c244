"""The data stage: borders, scaling, calendar, the store on disk, and what is loaded from it."""

import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.catalog import load_catalog
from pipeline.core.choices import choose, digest_of
from pipeline.core.errors import DataError
from pipeline.core.fetch import fetch
from pipeline.core.stages import Job
from pipeline.core.store import digest
from pipeline.fsnet.data import STAMPS, borders, build, calendar, prepare, write
from pipeline.fsnet.grid import Table
from pipeline.fsnet.regimes import simulate
from pipeline.fsnet.scoring import truth
from pipeline.fsnet.series import load_realizations
from pipeline.fsnet.settings import Data, Prepare, Simulation

SOURCE = {
    "name": "demo",
    "requested": "demo",
    "source": "config",
    "sha256": "0" * 64,
    "title": "Demo",
    "licence": "CC0",
    "citation": "nobody",
    "target": "y",
    "borders": "ratio",
    "units": {"y": "kW"},
}


class Log:
    """Keeps what a stage tells."""

    def __init__(self):
        self.lines = []

    def info(self, text):
        self.lines.append(text)


def load_series(path, features="S"):
    return load_realizations(path, features)[0]


def demo(rows=400, freq="h", start="2016-07-01", seed=0):
    rng = np.random.default_rng(seed)
    index = pd.date_range(start, periods=rows, freq=freq)
    frame = pd.DataFrame({"x": rng.normal(3, 2, rows), "y": rng.normal(-1, 5, rows).cumsum()}, index=index)
    return Table(frame, np.zeros(frame.shape, bool), freq)


def stored(tmp_path, table, features="S", **options):
    write(build(table, source=SOURCE, **options), tmp_path / "demo.zarr")
    return load_series(tmp_path / "demo.zarr", features)


def prepared(tmp_path, name, folders=(), features="S", seeds=(0,), asked=None):
    """Run the stage on a catalogue data set; returns its result, its series and what it told."""
    catalog = load_catalog()
    choice = choose(catalog, [name], folders=folders, cache=tmp_path / "raw", strict=True)
    if choice.fetched:
        fetch(catalog[name], tmp_path / "raw" / name)
    log, path = Log(), tmp_path / f"{name}.zarr"
    facts = {"source": catalog.describe(choice)}
    job = Job("fsnet", "prepare", {"raw": list(choice.files)}, {"data": path}, {}, seeds=list(seeds), facts=facts)
    result = prepare(job, asked or Prepare(), log)
    return result, load_realizations(path, features), log.lines


# Borders


@pytest.mark.parametrize(
    ("kind", "rows", "step", "own", "expected"),
    [
        ("auto", 17420, 3600, "seed", (2880, 3600, 14400)),
        ("seed", 69680, 900, "seed", (11520, 14400, 57600)),  # months, not rows
        ("upstream", 69680, 900, "seed", (2880, 3600, 14400)),  # rows, not months
        ("upstream", 35064, 3600, "ratio", (7012, 8766, 35064)),
        ("auto", 35064, 3600, "ratio", (7012, 8766, 35064)),
        ("ratio", 17420, 3600, "seed", (3484, 4355, 17420)),
        ("ratio", 8730, 3600, "ratio", (1746, 2183, 8730)),
        ("seed", 7588, 86400, "ratio", (120, 150, 600)),
    ],
)
def test_borders_by_name(kind, rows, step, own, expected):
    assert borders(kind, rows, step, own, "demo") == expected


@settings(deadline=None)
@given(st.integers(min_value=20, max_value=10**6))
def test_ratio_borders_take_a_fifth_and_three_quarters_of_any_length(rows):
    train, val, test = borders("ratio", rows, 3600, "ratio", "demo")
    assert train == rows // 5 and test - val == 3 * rows // 4 and test == rows
    assert 0 <= (val - train) - rows / 20 < 2


def test_too_short_a_series_is_a_clear_error():
    with pytest.raises(DataError, match=r"demo: 14,399 rows are too few for the borders 'seed'.*borders: ratio"):
        borders("seed", 14399, 3600, "seed", "demo")
    with pytest.raises(DataError, match="4 rows are too few"):
        borders("ratio", 4, 3600, "ratio", "demo")


# Scaling


def test_scaling_uses_the_training_rows_alone(tmp_path):
    """Later rows replaced by anything: constants, z-scores and stamps of all earlier rows stay the same bits."""
    table = demo()
    first = stored(tmp_path, table, "M")
    frame = table.frame.copy()
    frame.iloc[80:] = np.random.default_rng(1).normal(1e6, 1e9, (320, 2))
    other = stored(tmp_path, Table(frame, table.filled, "h"), "M")
    assert first.train_end == 80
    assert (first.mean == other.mean).all() and (first.sd == other.sd).all()
    assert (first.z[:80] == other.z[:80]).all() and (first.stamps == other.stamps).all()
    frame.iloc[79] += 1  # the last training row counts
    assert (stored(tmp_path, Table(frame, table.filled, "h"), "M").mean != first.mean).all()


def test_constants_are_numpys_of_the_training_rows(tmp_path):
    series = stored(tmp_path, demo(), "M")
    train = demo().frame.iloc[:80]
    np.testing.assert_allclose(series.mean, train.mean(), rtol=1e-14)
    np.testing.assert_allclose(series.sd, train.std(ddof=0), rtol=1e-14)
    np.testing.assert_allclose(series.z[:80].mean(axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(series.z * series.sd + series.mean, demo().frame, rtol=1e-12)
    assert series.units == ("1", "kW")


def test_a_constant_channel_keeps_its_unit_and_a_constant_target_is_an_error(tmp_path):
    table = demo()
    table.frame.loc[table.frame.index[:80], "x"] = 7.0
    series = stored(tmp_path, table, "M")
    assert series.sd[0] == 1 and (series.z[:80, 0] == 0).all() and np.isfinite(series.z).all()
    table.frame.loc[table.frame.index[:80], "y"] = 7.0
    with pytest.raises(DataError, match="'y' has the same value in all 80 training rows"):
        build(table, source=SOURCE)


# Calendar


@settings(deadline=None)
@given(st.datetimes(min_value=datetime.datetime(1900, 1, 1), max_value=datetime.datetime(2200, 1, 1)))
def test_calendar_fields_are_those_of_the_standard_library(moment):
    fields = dict(zip(STAMPS, calendar(pd.DatetimeIndex([moment]))[0], strict=True))
    day = moment.timetuple()
    assert fields == {
        "minute": moment.minute,
        "hour": moment.hour,
        "dayofweek": moment.weekday(),
        "day": moment.day,
        "dayofyear": day.tm_yday,
        "month": moment.month,
        "weekofyear": moment.isocalendar().week,
    }


def test_stamps_are_standardised_by_training_rows_and_constant_ones_are_zero(tmp_path):
    series = stored(tmp_path, demo())
    index = demo().frame.index
    hours = index.hour.to_numpy()
    assert (series.stamps[:, STAMPS.index("minute")] == 0).all()
    assert (series.stamps[:, STAMPS.index("month")] == 0).all()  # 80 hours lie in one month
    expected = (hours - hours[:80].mean()) / hours[:80].std()
    np.testing.assert_allclose(series.stamps[:, STAMPS.index("hour")], expected, atol=1e-14)


@pytest.mark.parametrize(
    ("freq", "season"), [("h", 24), ("15min", 96), ("10min", 144), ("D", 7), ("B", 5), ("7h", 1), ("7D", 1)]
)
def test_the_season_follows_from_the_step(tmp_path, freq, season):
    assert stored(tmp_path, demo(freq=freq)).season == season


def test_a_step_below_a_second_is_a_clear_error():
    with pytest.raises(DataError, match="a step of 500ms is below one second"):
        build(demo(freq="500ms"), source=SOURCE)


# The store


def test_equal_content_gives_equal_bytes(tmp_path):
    for name in ("a.zarr", "b.zarr"):
        write(build(demo(rows=9000), source=SOURCE), tmp_path / name)
    assert digest(tmp_path / "a.zarr") == digest(tmp_path / "b.zarr")
    write(build(demo(rows=9000, seed=1), source=SOURCE), tmp_path / "c.zarr")
    assert digest(tmp_path / "a.zarr") != digest(tmp_path / "c.zarr")


def test_the_store_can_be_read_without_this_package(tmp_path):
    """Plain xarray sees coordinates, units, flags and borders; time decodes by the CF rules."""
    import xarray as xr

    table = demo(freq="15min")
    table.filled[5, 1] = True
    write(build(table, source=SOURCE), tmp_path / "demo.zarr")
    with xr.open_zarr(tmp_path / "demo.zarr", consolidated=False) as store:
        np.testing.assert_array_equal(store["series"].sel(channel="y"), table.frame["y"])
        assert (store["time"].to_index() == table.frame.index).all()
        assert store["time"].encoding["units"] == "seconds since 1970-01-01"
        assert store["time"].encoding["calendar"] == "standard"
        assert store["unit"].sel(channel="y") == "kW" and list(store["stamp"].values) == list(STAMPS)
        assert store["filled"].attrs["flag_meanings"].split()[1] == "last_observation_carried_forward"
        assert int(store["filled"].sum()) == 1
        borders_ = [store.attrs[key] for key in ("train_end", "val_end", "test_end", "season", "step_seconds")]
        assert borders_ == [80, 100, 400, 96, 900.0]
        assert store.attrs["Conventions"] == "CF-1.11" and store.attrs["licence"] == "CC0"


def test_rows_after_the_test_period_are_not_stored(tmp_path):
    series = stored(tmp_path, demo(), test_rows=30)
    assert (series.train_end, series.val_end, series.test_end, len(series.z)) == (80, 100, 130, 130)
    assert (series.z[:, 0] == stored(tmp_path, demo()).z[:130, 0]).all()  # a light run scales alike


def test_what_is_no_store_is_a_clear_error(tmp_path):
    with pytest.raises(DataError, match="is not a prepared series"):
        load_series(tmp_path / "nothing.zarr")
    with pytest.raises(DataError, match="features must be S, M or MS, got 'X'"):
        stored(tmp_path, demo(), "X")


# Features and windows


def test_features_choose_inputs_and_outputs(tmp_path):
    one, all_, mixed = (stored(tmp_path, demo(), f) for f in ("S", "M", "MS"))
    assert (one.channels, one.target, one.outputs, one.exog) == (("y",), 0, (0,), None)
    assert (all_.channels, all_.target, all_.outputs) == (("x", "y"), 1, (0, 1))
    assert (mixed.channels, mixed.target, mixed.outputs) == (("x", "y"), 1, (1,))
    assert (one.y == all_.y).all() and (mixed.exog[:, 0] == all_.z[:, 0]).all()
    assert [s.labels.shape for s in (one, all_, mixed)] == [(400, 1), (400, 2), (400, 1)]


@settings(deadline=None)
@given(T=st.integers(1, 60), H=st.integers(1, 20))
def test_periods_share_no_label_and_lose_none(T, H):
    from dataclasses import replace

    series = replace(SHARED, test_end=400)
    labels = {}
    for part, (first, end) in {"train": (T, 80), "val": (80, 100), "test": (100, 400), "stream": (80, 400)}.items():
        origins = series.origins(part, T, H)
        assert (np.diff(origins) == 1).all()
        labels[part] = set((origins[:, None] + np.arange(1, H + 1)).ravel())
        assert labels[part] == set(range(first, end))
    assert not labels["train"] & labels["val"] and not labels["val"] & labels["test"]


def test_a_period_without_windows_is_a_clear_error():
    with pytest.raises(DataError, match=r"val period holds no window of 48 \+ 21 rows"):
        SHARED.origins("val", 48, 21)


# The stage on real and simulated data


def test_etth1_has_the_published_sizes_and_constants(tmp_path, data_dir):
    result, (series,), _ = prepared(tmp_path, "etth1", [data_dir])
    sizes = [len(series.origins(part, T=48, H=12)) for part in ("train", "val", "test")]
    assert sizes == [2821, 709, 10789]
    assert series.origins("test", 48, 12)[[0, -1]].tolist() == [3599, 14387]
    assert (series.train_end, series.val_end, series.test_end) == (2880, 3600, 14400)
    assert round(float(series.mean[0]), 2) == 26.68 and round(float(series.sd[0]), 2) == 7.78
    assert (series.channels, series.units, series.season) == (("OT",), ("degC",), 24)
    raw = pd.read_csv(data_dir / "forecasting" / "ETTh1.csv")
    np.testing.assert_array_equal(series.values[:, 0], raw["OT"][:14400])
    known = load_catalog()["etth1"].files[0].sha256
    assert result.dataset == {
        "name": "etth1",
        "requested": "etth1",
        "source": "folder",
        "sha256": known,
        "licence": "CC BY-ND 4.0",
        "period": "2016-07-01 00:00 to 2018-02-20 23:00",
        "n": 14400,
    }
    assert result.metrics["rows"] == 14400 and result.metrics["values_filled"] == 0


def test_etth1_persistence_is_the_published_figure(tmp_path, data_dir):
    """Persistence on all 10,789 test windows, z-scored: MSE .0806, MAE .2030."""
    _, (series,), _ = prepared(tmp_path, "etth1", [data_dir])
    origins = series.origins("test", 48, 12)
    target = truth(series.labels, origins, 12)[:, :, 0]
    error = series.labels[origins] - target
    assert target.shape == (10789, 12)
    assert round(float((error**2).mean()), 4) == 0.0806 and round(float(np.abs(error).mean()), 4) == 0.2030


@pytest.mark.parametrize(
    ("name", "channels", "season", "ends"),
    [
        ("ettm1", 7, 96, (11520, 14400, 57600)),
        ("wth", 12, 24, (7012, 8766, 35064)),
        ("exchange_rate", 8, 5, (1517, 1897, 7588)),
    ],
)
def test_other_real_sets(tmp_path, data_dir, name, channels, season, ends):
    _, (series,), _ = prepared(tmp_path, name, [data_dir], "MS")
    assert (len(series.channels), series.season) == (channels, season)
    assert (series.train_end, series.val_end, series.test_end) == ends
    assert np.isfinite(series.z).all() and series.channels[series.target] == load_catalog()[name].target
    assert ("nominal" in series.info["period"]) == (name == "exchange_rate")


def test_upstream_borders_give_ettm1_one_month_of_training(tmp_path, data_dir):
    _, (series,), _ = prepared(tmp_path, "ettm1", [data_dir], asked=Prepare(data=Data(borders="upstream")))
    assert (series.train_end, series.test_end) == (2880, 14400)


def test_the_packaged_weather_says_what_was_missing(tmp_path):
    result, (series,), told = prepared(tmp_path, "nyc_weather", features="MS")
    assert (series.name, series.info["source"], series.info["n"]) == ("nyc_weather", "package", 8730)
    assert result.metrics["rows_filled"] == 24 == series.filled.any(axis=1).sum()
    assert any("24 of 8,730 rows were missing" in line for line in told) and "24 of 8,730" in series.attrs["comment"]
    assert series.channels[series.target] == "temp" and series.units[series.target] == "degF"


def test_changed_files_are_not_read_under_the_old_digest(tmp_path):
    path = tmp_path / "mine.csv"
    demo().frame.rename_axis("date").to_csv(path)
    catalog = load_catalog(own={"mine": {"path": str(path), "target": "y"}})
    choice = choose(catalog, ["mine"], folders=[], cache=tmp_path / "raw")
    job = Job("fsnet", "prepare", {"raw": str(path)}, {"data": tmp_path / "mine.zarr"}, {})
    job.facts["source"] = catalog.describe(choice)
    result = prepare(job, Prepare(), Log())
    assert result.dataset["sha256"] == digest_of([path]) and result.dataset["source"] == "config"
    assert load_series(tmp_path / "mine.zarr").y.shape == (400,)
    path.write_text(path.read_text() + "2016-07-17 16:00:00,1,2\n")
    with pytest.raises(DataError, match="mine.csv has changed since mine was chosen"):
        prepare(job, Prepare(), Log())


def test_a_simulation_gives_one_realization_a_seed(tmp_path):
    asked = Prepare(simulation=Simulation(steps=3000, gradual_share=1.0, gradual_steps=20))
    result, realizations, _ = prepared(tmp_path, "regimes", seeds=(3, 0, 11), asked=asked)
    assert [s.attrs["comment"] for s in realizations] == [f"simulated with seed {seed}" for seed in (0, 3, 11)]
    truth = simulate(asked.simulation, 3)
    np.testing.assert_array_equal(realizations[1].values[:, 0], truth.series)
    assert realizations[1].switches == truth.switches and len(truth.switches) > 3
    assert len({s.info["sha256"] for s in realizations} | {result.dataset["sha256"]}) == 1


SHARED = None


@pytest.fixture(scope="module", autouse=True)
def _shared(tmp_path_factory):
    """One stored series for the property tests: hypothesis can't use function fixtures."""
    global SHARED
    path = tmp_path_factory.mktemp("shared") / "demo.zarr"
    write(build(demo(), source=SOURCE), path)
    SHARED = load_series(path)
