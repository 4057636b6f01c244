"""The user's own tables and graphs: three layouts, every kind of graph, one clear error for each mistake."""

import json

import numpy as np
import pandas as pd
import pytest

from pipeline.core.errors import DataError
from pipeline.spin.data import build
from pipeline.spin.data_settings import Data, Missing
from pipeline.spin.readers_own import read_own

SOURCE = {"name": "mine", "requested": "mine", "source": "config", "sha256": None, "licence": "-"}
T = 40


@pytest.fixture
def wide(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(50, 5, (T, 3)), columns=["a", "b", "c"])
    frame.insert(0, "time", pd.date_range("2024-01-01", periods=T, freq="5min"))

    def write(change=lambda f: f, name="mine.csv"):
        changed = change(frame.copy())
        path = tmp_path / name
        changed.to_parquet(path) if name.endswith("parquet") else changed.to_csv(path, index=False)
        return path

    return write


@pytest.fixture
def edges(tmp_path):
    def write(text="source,target,weight\na,b,0.5\nb,c,1.0\n", name="edges.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_wide_csv_and_parquet_are_the_same_cube(wide, edges):
    first, second = read_own(wide(), edges()), read_own(wide(name="mine.parquet"), edges())
    np.testing.assert_allclose(first.value, second.value)
    np.testing.assert_array_equal(first.time, second.time)
    assert first.nodes == second.nodes == ("a", "b", "c") and first.value.shape == (T, 3, 1)
    assert first.edges.index.tolist() == [[0, 1], [1, 2]] and first.edges.weight.tolist() == [0.5, 1.0]
    cube = build(first, Data(missing=Missing(kind="none")), SOURCE, "ratio")
    assert cube.shape == (T, 3, 1) and not cube.hidden.any()


def test_netcdf_and_the_long_table_give_the_same_two_channels(tmp_path):
    import xarray as xr

    time = pd.date_range("2024-01-01", periods=T, freq="1h")
    rng = np.random.default_rng(1)
    speed, flow = rng.normal(size=(2, T, 2))
    speed[3, 1] = np.nan
    data = xr.Dataset({"speed": (("time", "node"), speed), "flow": (("node", "time"), flow.T)},
                      coords={"time": time, "node": ["x", "y"]})  # fmt: skip
    data.to_netcdf(tmp_path / "mine.nc")
    data.to_dataframe().reset_index().to_csv(tmp_path / "mine.csv", index=False)
    a = read_own(tmp_path / "mine.nc", channels=["speed", "flow"])
    b = read_own(tmp_path / "mine.csv", channels=["speed", "flow"])
    np.testing.assert_allclose(a.value, b.value)
    assert a.nodes == b.nodes == ("x", "y") and a.channels == b.channels and np.isnan(a.value[3, 1, 0])
    assert a.edges.types == ("correlation",) and a.step_seconds == 3600


def test_the_lane_layout_with_its_graph(tmp_path):
    rows = [(lane, 10.0 * k, 3.0 * lane + k, 0.1 * k, 5, -1.0) for lane in (0, 1, 2) for k in range(6)]
    columns = ["lane_id", "start_frame", "avg_speed", "avg_occupancy", "total_vehicles", "near_ratio"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "lanes.csv", index=False)
    graph = {
        "nodes": [
            {"lane_id": 0, "node_connections": {"direct": [1], "near": [[2, 0.3]]}},
            {"lane_id": 1, "node_connections": {"crossing": [2]}},
            {"lane_id": 2, "node_connections": {}},
        ]
    }
    (tmp_path / "road.json").write_text(json.dumps(graph))
    raw = read_own(tmp_path / "lanes.csv", tmp_path / "road.json", channels=columns[2:5])
    assert raw.value.shape == (6, 3, 3) and raw.step_seconds == 10 and raw.nodes == ("0", "1", "2")
    assert raw.value[2, 1].tolist() == [5.0, pytest.approx(0.2), 5.0]
    found = {
        (s, t, raw.edges.types[k]): w
        for s, t, k, w in zip(*raw.edges.index, raw.edges.type, raw.edges.weight, strict=True)
    }
    assert found == {(0, 1, "direct"): 1, (0, 2, "near"): pytest.approx(0.3), (1, 2, "crossing"): 0.5}
    with pytest.raises(DataError, match=r"no value at all: 0 \(near_ratio\)"):  # -1 stands for "does not apply"
        read_own(tmp_path / "lanes.csv", tmp_path / "road.json")
    graph["nodes"][0]["node_connections"]["jump"] = [1]
    (tmp_path / "road.json").write_text(json.dumps(graph))
    with pytest.raises(DataError, match="connections of type 'jump'; known are direct, near, crossing"):
        read_own(tmp_path / "lanes.csv", tmp_path / "road.json", channels=columns[2:5])


def test_places_make_edges_by_distance(wide, edges):
    raw = read_own(wide(), edges("node,lat,lon\nc,0,2\na,0,0\nb,0,1\n"))
    assert raw.place_kind == "latlon" and raw.place.tolist() == [[0, 0], [0, 1], [0, 2]]
    away = np.array([[0, 1, 2], [1, 0, 1], [2, 1, 0]]) * 111.19508
    weight = np.exp(-((away / away.std()) ** 2))
    for s, t, w in zip(*raw.edges.index, raw.edges.weight, strict=True):
        assert w == pytest.approx(weight[s, t], rel=1e-4)
    assert len(raw.edges.weight) == 6 - 2 * (weight[0, 2] <= 0.1)


def test_rows_that_lack_are_put_in_and_long_gaps_part_segments(wide, edges):
    raw = read_own(wide(lambda f: f.drop(index=[5, 6])), edges())
    assert raw.value.shape[0] == T and np.isnan(raw.value[5:7]).all() and not np.isnan(raw.value[[4, 7]]).any()
    assert "2 rows that the file lacks are put in as missing" in raw.report and (raw.segment == 0).all()

    def later(frame):
        frame.loc[20:, "time"] += pd.Timedelta("7D")
        return frame

    raw = read_own(wide(later), edges())
    assert len(raw.time) == T and raw.segment.tolist() == [0] * 20 + [1] * 20


def test_zero_as_missing_is_a_named_setting(wide, edges):
    def zero(frame):
        frame.loc[3, "b"] = 0
        return frame

    assert read_own(wide(zero), edges()).value[3, 1, 0] == 0
    raw = read_own(wide(zero), edges(), zero_missing=True)
    assert np.isnan(raw.value[3, 1, 0]) and "1 zeros taken as missing" in raw.report


def empty(frame):
    frame["b"] = np.nan
    return frame


def swapped(frame):
    frame.loc[[3, 4], "time"] = frame.loc[[4, 3], "time"].to_numpy()
    return frame


def twice(frame):
    frame.loc[7, "time"] = frame.loc[6, "time"]
    return frame


def odd_step(frame):
    frame.loc[7, "time"] += pd.Timedelta("1min")
    return frame


def text(frame):
    frame["c"] = frame["c"].astype(object)
    frame.loc[2, "c"] = "bad"
    return frame


def infinite(frame):
    frame.loc[2, "c"] = np.inf
    return frame


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (empty, r"1 sensor has no value at all: b \(value\)"),
        (swapped, r"2024-01-01 00:15:00 comes after a later one \(row 5\); sort the rows by time"),
        (twice, r"2024-01-01 00:30:00 is given twice \(row 8\); keep one row a time"),
        (odd_step, r"mostly 300 s apart, but row 8 comes 360 s after"),
        (text, r"column 'c' holds 'bad' in row 3"),
        (infinite, r"column 'c' is infinite in row 3"),
        (lambda f: f.drop(columns="time"), "has no time column"),
        (lambda f: f.head(2), "has 2 rows; at least three"),
        (lambda f: f.head(0), "has no rows; at least three"),
        (lambda f: f.assign(time="x"), "can't be read as dates"),
    ],
)
def test_each_mistake_in_the_values_is_one_clear_error(wide, edges, change, message):
    with pytest.raises(DataError, match=message):
        read_own(wide(change), edges())


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (
            "source,target\na,z\nq,b\n",
            "e.csv",
            "names 2 nodes that the data don't have: q, z. The data have 3",
        ),
        ("source,target,weight\na,b,7\n", "e.csv", r"row 1 has the weight 7; weights must lie in \(0, 1\]"),
        ("source,target\na,b\na,b\n", "e.csv", "the edge a -> b of type edge is given twice"),
        ("node,lat,lon\na,1,1\nb,2,2\n", "e.csv", "gives no place for 1 sensors: c"),
        ("node,lat,lon\na,1,1\nb,2,2\nc,3,3\nd,4,4\n", "e.csv", "names 1 node that the data don't have: d"),
        ("node,x,y\na,1,1\nb,1,1\nc,1,1\n", "e.csv", "all nodes have the same place"),
        ("from,to\na,b\n", "e.csv", "is no graph: it must have the columns source and target"),
        ("{", "e.json", "can't be read as JSON"),
        ('{"nodes": [{"id": 1}]}', "e.json", '"lane_id"'),
    ],
)
def test_each_mistake_in_the_graph_is_one_clear_error(wide, edges, content, name, message):
    with pytest.raises(DataError, match=message):
        read_own(wide(), edges(content, name))


def test_unknown_kinds_and_missing_files_are_said(tmp_path, wide):
    (tmp_path / "a.xlsx").write_text("x")
    with pytest.raises(DataError, match="'.xlsx' are not read; use CSV, Parquet or NetCDF"):
        read_own(tmp_path / "a.xlsx")
    with pytest.raises(DataError, match="can't be read"):
        read_own(tmp_path / "none.csv")
    with pytest.raises(DataError, match="can't be read"):
        read_own(wide(), tmp_path / "none.csv")


def test_sensors_without_edges_are_told(wide, edges):
    raw = read_own(wide(), edges("source,target\na,b\n"))
    assert "1 sensors have no edge: c" in raw.report
