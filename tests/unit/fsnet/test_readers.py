"""Readers of forecasting data: real files, forms of files, and everything that can be wrong with a user's own."""

import gzip

import numpy as np
import pandas as pd
import pytest

from pipeline.core.catalog import OwnData, load_catalog
from pipeline.core.errors import ConfigError, DataError
from pipeline.core.fetch import package_file
from pipeline.fsnet.readers import read, read_own


def catalogued(name, path):
    entry = load_catalog()[name]
    reader, options = entry.reading([str(path)])
    return read([path], reader, options, target=entry.target, step=entry.step)


# Real files


def test_etth1(data_dir):
    table = catalogued("etth1", data_dir / "forecasting" / "ETTh1.csv")
    assert list(table.frame.columns) == ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]
    assert table.frame.shape == (17420, 7) and not table.filled.any() and table.report == []
    assert (str(table.frame.index[0]), str(table.frame.index[-1])) == ("2016-07-01 00:00:00", "2018-06-26 19:00:00")
    assert table.frame["OT"].iloc[0] == 30.5310001373291 and table.frame["HUFL"].iloc[1] == 5.692999839782715
    assert (table.step_seconds, table.season, table.nominal) == (3600, 24, False)


def test_ettm1_is_etth1_at_every_fourth_row(data_dir):
    minute = catalogued("ettm1", data_dir / "forecasting" / "ETTm1.parquet")
    hour = catalogued("etth1", data_dir / "forecasting" / "ETTh1.csv")
    assert minute.frame.shape == (69680, 7) and (minute.step_seconds, minute.season) == (900, 96)
    every = minute.frame.iloc[::4]
    assert (every.index == hour.frame.index).all() and list(every.columns) == list(hour.frame.columns)
    assert np.abs(every.to_numpy() - hour.frame.to_numpy()).max() < 1e-4


def test_wth(data_dir):
    table = catalogued("wth", data_dir / "forecasting" / "WTH.csv")
    assert table.frame.shape == (35064, 12) and table.frame.columns[-1] == "WetBulbCelsius"
    # Month first: 1/2/2010 is the second of January.
    assert str(table.frame.index[24]) == "2010-01-02 00:00:00" and str(table.frame.index[-1]) == "2013-12-31 23:00:00"
    assert table.frame["WetBulbCelsius"].iloc[[0, -1]].tolist() == [-10.3, -1.5]


def test_exchange_rate_gets_nominal_business_days(data_dir):
    table = catalogued("exchange_rate", data_dir / "forecasting" / "exchange_rate.txt.gz")
    assert table.frame.shape == (7588, 8) and table.nominal and (table.season, table.step_seconds) == (5, 86400)
    first = [0.785500, 1.611000, 0.861698, 0.634196, 0.211242, 0.006838, 0.593000, 0.525486]
    assert table.frame.iloc[0].tolist() == first and table.frame.columns[-1] == "OT"
    assert set(table.frame.index.day_of_week.unique()) == {0, 1, 2, 3, 4}
    assert "no time stamps" in table.report[0]


def test_electricity_slice_is_read_transposed(data_dir):
    options = {"start": "2014-11-27", "columns": "MT_{:03d}", "count": 321, "transpose": True}
    path = data_dir / "forecasting" / "electricity35.npy"
    table = read([path], "undated", options, target="MT_320", step="1h")
    assert table.frame.shape == (840, 321) and table.frame["MT_320"].iloc[5] == np.load(path)[320, 5]
    with pytest.raises(DataError, match=r"shape \(840, 321\); 320 columns are expected"):
        read([path], "undated", {**options, "count": 320}, target=None, step="1h")


@pytest.mark.parametrize(("airport", "missing"), [("EWR", 27), ("JFK", 24), ("LGA", 24)])
def test_airport_weather_is_regular_and_its_missing_hours_are_flagged_and_causal(airport, missing):
    entry = load_catalog()["nyc_weather"]
    path = package_file(entry, entry.files[0])
    table = read([path], "airport", {"airport": airport, "columns": ["temp"], "max_gap": 6}, target="temp", step="1h")
    raw = pd.read_csv(path).query("origin == @airport")
    raw = raw.set_index(pd.to_datetime(raw["time_hour"]).dt.tz_localize(None))["temp"]
    assert len(table.frame) == 8730 and len(raw) == 8730 - missing
    absent = ~table.frame.index.isin(raw.index)
    assert absent.sum() == missing and str(missing) in table.report[0]
    # What the file has is untouched; what it lacks is the last value before, flagged; nothing later has any say.
    seen = raw.reindex(table.frame.index)
    assert (table.frame["temp"] == seen.ffill()).all()
    assert (table.filled[:, 0] == seen.isna()).all()
    assert table.filled[:, 0].sum() == missing + (1 if airport == "EWR" else 0)  # EWR lacks one temperature besides


def test_the_default_airport_has_no_gross_error():
    """Why LGA: hourly steps of temperature stay below 15 F and wind below 60 mile/h; JFK and EWR break one each."""
    entry = load_catalog()["nyc_weather"]
    path = package_file(entry, entry.files[0])

    def extremes(airport):
        options = {**entry.options, "airport": airport}
        frame = read([path], "airport", options, target="temp", step="1h").frame
        return frame["temp"].diff().abs().max(), frame["wind_speed"].max()

    assert entry.options["airport"] == "LGA"
    jump, wind = extremes("LGA")
    assert jump < 15 and wind < 60
    assert extremes("JFK")[0] > 40
    assert extremes("EWR")[1] > 1000


def test_an_unknown_airport_or_column_names_what_exists():
    entry = load_catalog()["nyc_weather"]
    path = package_file(entry, entry.files[0])
    with pytest.raises(DataError, match="no airport 'LAX'; it has EWR, JFK, LGA"):
        read([path], "airport", {"airport": "LAX", "columns": ["temp"]}, target="temp", step="1h")
    with pytest.raises(DataError, match="no column 'tmep'. Did you mean 'temp'"):
        read([path], "airport", {"airport": "JFK", "columns": ["tmep"]}, target=None, step="1h")
    with pytest.raises(ConfigError, match="options.city: unknown key"):
        read([path], "airport", {"airport": "JFK", "columns": ["temp"], "city": "NYC"}, target=None, step="1h")


# A user's own file


def hourly(rows=50):
    times = pd.date_range("2021-03-01", periods=rows, freq="h")
    return pd.DataFrame({"date": times.astype(str), "load": np.arange(rows) * 1.5, "wind": np.arange(rows) % 7})


def own(tmp_path, frame, target="load", name="mine.csv", **options):
    path = tmp_path / name
    frame.to_csv(path, index=False)
    return read_own(OwnData(path=str(path), target=target, **options))


FORMS = {
    "mine.csv": lambda frame, path: frame.to_csv(path, index=False),
    "mine.csv.gz": lambda frame, path: frame.to_csv(path, index=False),
    "mine.parquet": lambda frame, path: frame.to_parquet(path),
    "indexed.parquet": lambda frame, path: (
        frame.assign(date=pd.to_datetime(frame["date"])).set_index("date").to_parquet(path)
    ),
    "mine.nc": lambda frame, path: (
        frame.assign(date=pd.to_datetime(frame["date"])).set_index("date").to_xarray().to_netcdf(path)
    ),
    "mine.zarr": lambda frame, path: (
        frame.assign(date=pd.to_datetime(frame["date"])).set_index("date").to_xarray().to_zarr(path, consolidated=False)
    ),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_form_gives_the_same_table(tmp_path, name):
    frame = hourly()
    FORMS[name](frame, tmp_path / name)
    table = read_own(OwnData(path=str(tmp_path / name), target="load"))
    assert list(table.frame.columns) == ["load", "wind"] and table.step == "h" and table.season == 24
    assert (table.frame["load"].to_numpy() == frame["load"]).all()
    assert (table.frame.index == pd.to_datetime(frame["date"])).all()


def test_numbers_are_read_to_the_last_bit(tmp_path):
    frame = hourly().assign(load=np.random.default_rng(0).normal(size=50) * 10.0 ** np.arange(-25, 25))
    assert (own(tmp_path, frame).frame["load"].to_numpy() == frame["load"].to_numpy()).all()


def test_zoned_times_become_utc(tmp_path):
    frame = hourly()
    frame["date"] = pd.date_range("2021-03-28 00:00", periods=50, freq="h", tz="Europe/Berlin").astype(str)
    table = own(tmp_path, frame)  # across the change to summer time: regular in UTC
    assert str(table.frame.index[0]) == "2021-03-27 23:00:00" and table.frame.index.tz is None


def test_columns_of_words_are_left_out_and_said(tmp_path):
    table = own(tmp_path, hourly().assign(station="north"))
    assert list(table.frame.columns) == ["load", "wind"] and "station" in table.report[0]


def test_business_days_are_a_step_of_their_own(tmp_path):
    """Weekends are no gaps; a holiday is one row, and a Saturday doesn't belong there."""
    days = pd.bdate_range("2024-12-16", periods=15)
    frame = pd.DataFrame({"date": days, "load": np.arange(15.0)})
    table = own(tmp_path, frame[frame["date"] != "2024-12-25"], step="B", max_gap=1)
    assert (table.frame.index == days).all() and table.season == 5
    assert table.filled[:, 0].nonzero()[0].tolist() == [7] and table.frame["load"].iloc[7] == 6
    frame.loc[4, "date"] = pd.Timestamp("2024-12-21")
    with pytest.raises(DataError, match=r"irregular: line 6 \(2024-12-21 00:00:00\) is 2 days"):
        own(tmp_path, frame, step="B")


def test_short_gaps_are_filled_where_allowed(tmp_path):
    frame = hourly().drop([10, 11]).reset_index(drop=True)
    frame.loc[20, "wind"] = np.nan  # the 23rd hour, since two rows are gone
    table = own(tmp_path, frame, max_gap=2)
    assert table.frame["load"].iloc[9:13].tolist() == [13.5, 13.5, 13.5, 18.0]
    assert np.flatnonzero(table.filled[:, 0]).tolist() == [10, 11]
    assert np.flatnonzero(table.filled[:, 1]).tolist() == [10, 11, 22]
    assert "2 of 50 rows were missing" in table.report[0] and "1 missing values of 'wind'" in table.report[1]


def put(frame, row, column, value):
    frame.loc[row, column] = value
    return frame


@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        (
            lambda: put(hourly().astype({"load": object}), 7, "load", "n/k"),
            {},
            r"line 9, column 'load': 'n/k' is not a number; 1 such",
        ),
        (
            lambda: put(hourly(), 7, "load", np.nan),
            {},
            r"1 values of column 'load' are missing from 2021-03-01 07:00:00",
        ),
        (lambda: put(hourly(), 0, "load", np.nan), {"max_gap": 5}, r"column 'load' starts with 1 missing values"),
        (lambda: put(hourly(), 3, "load", np.inf), {}, r"line 5, column 'load' is infinite"),
        (
            lambda: hourly().drop([10, 11, 12]),
            {"max_gap": 2},
            r"3 rows are missing from 2021-03-01 10:00:00 to 2021-03-01 12",
        ),
        (
            lambda: put(hourly(), 5, "date", "2021-03-01 04:00:00"),
            {},
            r"line 7 has the same time stamp .*04:00:00\); 1 such",
        ),
        (
            lambda: hourly().iloc[::-1],
            {},
            r"not in order of time: line 3 \(2021-03-03 00:00:00\) comes after 2021-03-03 01",
        ),
        (
            lambda: put(hourly(), 5, "date", "2021-03-01 05:10:00"),
            {},
            r"irregular: line 7 \(2021-03-01 05:10:00\) is 0 days 01:10",
        ),
        (lambda: put(hourly(), 5, "date", "soon"), {}, r"line 7, column 'date': 'soon' is not a time; 1 such rows"),
        (
            lambda: hourly().rename(columns={"date": "when"}),
            {},
            r"no column is named date, .*Columns: when, load, wind",
        ),
        (lambda: hourly().assign(date=range(50)), {}, r"time column 'date' holds plain numbers"),
        (lambda: hourly(), {"time": "dat"}, r"no time column 'dat'. Did you mean 'date'\?"),
        (lambda: hourly(), {"target": "lode"}, r"no target column 'lode'. Did you mean 'load'\?"),
        (lambda: hourly(), {"columns": ["winds"]}, r"no column 'winds'"),
        (lambda: hourly(2), {}, r"2 rows are too few"),
        (lambda: hourly(0), {}, r"has no rows"),
        (lambda: hourly(), {"step": "7min"}, r"off the grid of step 7min"),
        (lambda: hourly(), {"step": "1min"}, r"has 2,941 rows, the file 50; more are missing than there"),
        (lambda: hourly(), {"step": "soon"}, r"step 'soon' is not a fixed time"),
        (lambda: hourly().assign(load="x"), {}, r"line 2, column 'load': 'x' is not a number; 50 such"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, frame, options, message):
    with pytest.raises(DataError, match=message) as caught:
        own(tmp_path, frame(), **options)
    assert "mine.csv" in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="absent.csv does not exist"):
        read_own(OwnData(path=str(tmp_path / "absent.csv"), target="y"))
    (tmp_path / "notes.docx").write_bytes(b"x")
    with pytest.raises(DataError, match="files of the kind '.docx' are not read; use CSV or Parquet"):
        read_own(OwnData(path=str(tmp_path / "notes.docx"), target="y"))
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    with pytest.raises(DataError, match="bad.parquet can't be read as a table"):
        read_own(OwnData(path=str(tmp_path / "bad.parquet"), target="y"))
    (tmp_path / "semicolons.csv").write_text("date;load\n2021-03-01;1,5\n")
    with pytest.raises(DataError, match="one column 'date;load'.*separated by commas"):
        read_own(OwnData(path=str(tmp_path / "semicolons.csv"), target="load"))
    (tmp_path / "bad.csv.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match="bad.csv.gz can't be read as a table"):
        read_own(OwnData(path=str(tmp_path / "bad.csv.gz"), target="y"))


def test_undated_numbers_must_be_numbers(tmp_path):
    options = {"start": "2020-01-01", "columns": ["a", "b"]}
    path = tmp_path / "x.txt.gz"
    for text, message in [("1,2\n3\n", "line 2, column 'b' is missing"), ("1,2\nx,4\n", "can't be read as a table")]:
        path.write_bytes(gzip.compress(text.encode()))
        with pytest.raises(DataError, match=message):
            read([path], "undated", options, target="a", step="1h")


def test_pickles_inside_npy_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="can't be read as a table of numbers"):
        read([tmp_path / "x.npy"], "undated", {"start": "2020-01-01", "columns": ["a"]}, target="a", step="1h")
