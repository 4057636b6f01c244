"""FSNet's readers on damaged files."""

import io

import numpy as np
import pandas as pd
import pytest

from pipeline.core.catalog import OwnData
from pipeline.fsnet.forecast import Forecaster, Setup
from pipeline.fsnet.grid import Table
from pipeline.fsnet.own import load_state, save_state
from pipeline.fsnet.readers import read, read_own

from .damage import file_of, fuzz, fuzz_apart, store_of, stored, struck_bytes, struck_dataset, struck_text, written

ROWS = 26


@pytest.fixture(scope="module")
def etth1():
    """The form of ETTh1."""
    values = np.round(20 + np.random.default_rng(0).normal(size=(ROWS, 3)).cumsum(axis=0), 3)
    frame = pd.DataFrame(values, columns=["HUFL", "HULL", "OT"])
    frame.insert(0, "date", [f"2016-07-{1 + h // 24:02d} {h % 24:02d}:00:00" for h in range(ROWS)])
    return frame


def sane(found: Table) -> None:
    assert found.frame.shape == found.filled.shape and np.isfinite(found.frame.to_numpy()).all()
    assert found.frame.index.is_monotonic_increasing and found.step_seconds > 0 and found.season >= 1


def as_bytes(write) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def test_series_as_csv(etth1, tmp_path):
    path = tmp_path / "series.csv"
    content = etth1.to_csv(index=False).encode()
    own = OwnData(path=str(path), target="OT", max_gap=2)
    fuzz(file_of(path, content, struck_text), lambda: read_own(own), str(path), sane, of=2)


def test_series_of_the_catalogue(etth1, tmp_path):
    path = tmp_path / "ETTh1.csv"
    content = etth1.to_csv(index=False).encode()
    options = {"columns": ["HUFL", "OT"]}
    fuzz(
        file_of(path, content, struck_text),
        lambda: read([path], "table", options, target="OT", step="1h"),
        str(path),
        sane,
        of=2,
    )


def test_series_as_parquet(etth1, tmp_path):
    path = tmp_path / "series.parquet"
    content = as_bytes(lambda out: etth1.to_parquet(out, index=False))
    own = OwnData(path=str(path), target="OT")
    fuzz_apart(file_of(path, content, struck_bytes), lambda: read_own(own), str(path), sane)


def test_series_without_time_stamps(tmp_path):
    values = np.random.default_rng(0).integers(0, 900, (8, 4)).astype(float)
    options = {"start": "2016-07-01", "columns": "MT_{:03d}", "count": 4}
    for name, write, strike in (
        ("some.txt", lambda out: np.savetxt(out, values, delimiter=",", fmt="%g"), struck_text),
        ("some.npy", lambda out: np.save(out, values), struck_bytes),
    ):
        path = tmp_path / name
        fuzz(
            file_of(path, as_bytes(write), strike),
            lambda path=path: read([path], "undated", options, target=None, step="1h"),
            str(path),
            sane,
            of=2,
        )


def test_weather_of_airports(tmp_path):
    frame = pd.DataFrame(
        {
            "origin": ["EWR"] * 6 + ["LGA"] * 6,
            "temp": np.linspace(30, 40, 12),
            "time_hour": [f"2013-01-01T{6 + h:02d}:00:00Z" for h in [*range(6), *range(6)]],
        }
    )
    path = tmp_path / "weather.csv"
    options = {"airport": "LGA", "columns": ["temp"], "max_gap": 1}
    fuzz(
        file_of(path, frame.to_csv(index=False).encode(), struck_text),
        lambda: read([path], "airport", options, target="temp", step="1h"),
        str(path),
        sane,
    )


def test_series_as_netcdf(etth1, tmp_path):
    path = tmp_path / "series.nc"
    data = etth1.assign(date=pd.to_datetime(etth1["date"])).set_index("date").to_xarray()
    own = OwnData(path=str(path), target="OT", time="date")
    data.to_netcdf(path)
    fuzz_apart(file_of(path, path.read_bytes(), struck_bytes), lambda: read_own(own), str(path), sane, of=2)
    fuzz_apart(lambda blows: written(struck_dataset(data, blows), path), lambda: read_own(own), str(path), sane, of=2)


def test_series_as_zarr(etth1, tmp_path):
    path = tmp_path / "series.zarr"
    data = etth1.assign(date=pd.to_datetime(etth1["date"])).set_index("date").to_xarray()
    own = OwnData(path=str(path), target="OT", time="date")
    stored(data, path)
    fuzz(store_of(path), lambda: read_own(own), str(path), sane, of=2)
    fuzz(lambda blows: stored(struck_dataset(data, blows), path), lambda: read_own(own), str(path), sane, of=2)


def test_the_saved_state_of_a_forecast(tmp_path):
    path = tmp_path / "state.npz"
    one = Forecaster(Setup("load", ("wind",), 2, 0.9, 3600.0, 24, 60), np.datetime64("2024-01-01"))
    one.update(np.random.default_rng(0).normal(size=(80, 2)), np.zeros((80, 2), bool))
    save_state(path, one)
    whole = one.state()

    def same(found):
        state = found.state()
        assert state.keys() == whole.keys()
        assert all(np.array_equal(state[name], whole[name], equal_nan=name != "meta") for name in whole)

    fuzz(file_of(path, path.read_bytes(), struck_bytes), lambda: load_state(path), str(path), same)
