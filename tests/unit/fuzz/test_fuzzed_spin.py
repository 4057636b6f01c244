"""SPIN's readers on damaged files: the published data sets' forms, and the user's own tables and graphs."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.spin import own_model, pickles
from pipeline.spin.data_settings import Graph
from pipeline.spin.intervals import Intervals
from pipeline.spin.raw import Raw
from pipeline.spin.readers import aqi36, metr_la, pems_lanes
from pipeline.spin.readers_own import read_own
from pipeline.spin.settings import Settings

from ..spin.made_up import cube
from .damage import (
    file_of,
    fuzz,
    fuzz_apart,
    struck_bytes,
    struck_dataset,
    struck_text,
    struck_value,
    written,
)

SENSORS = ["773869", "767541", "767542", "717447"]
WEIGHT = np.eye(4) + np.diag([0.5, 0.7, 0.3], 1)
STATIONS = {"order": ["404531", "404532"]}


def sane(raw: Raw) -> None:
    rows, nodes, channels = raw.value.shape
    assert rows == len(raw.time) == len(raw.segment) and nodes == len(raw.nodes) == len(raw.place)
    assert channels == len(raw.channels) == len(raw.units) and not np.isinf(raw.value).any()
    assert not np.isnat(raw.time).any() and raw.step_seconds > 0
    ordered = np.diff(raw.time.astype("datetime64[ns]").astype(np.int64)) > 0
    assert (ordered | (np.diff(raw.segment) != 0)).all()
    edges = raw.edges
    assert edges.index.shape == (2, len(edges.weight)) and (edges.index < nodes).all() and (edges.index >= 0).all()
    assert (edges.weight > 0).all() and np.isfinite(edges.weight).all()
    assert raw.place_kind == "none" or np.isfinite(raw.place).all()


# ---- published forms


@pytest.fixture
def metr(tmp_path):
    """METR-LA's three files: speeds, adjacency and places; and how they are read."""
    rng = np.random.default_rng(0)
    speeds = pd.DataFrame(np.round(rng.uniform(20, 70, (8, 4)), 2), columns=SENSORS)
    speeds.to_csv(tmp_path / "los_speed.csv", index=False)
    content = [SENSORS, {name: i for i, name in enumerate(SENSORS)}, WEIGHT.astype(np.float32)]
    (tmp_path / "adj_mx.pkl").write_bytes(pickle.dumps(content, protocol=2))
    places = pd.DataFrame({"index": range(4), "sensor_id": SENSORS})
    places["latitude"], places["longitude"] = 34 + 0.1 * places["index"], -118 - 0.1 * places["index"]
    places.to_csv(tmp_path / "graph_sensor_locations.csv", index=False)

    def read():
        files = [path for path in tmp_path.iterdir() if path.suffix in (".csv", ".h5", ".pkl")]
        return metr_la(sorted(files), {}, Graph(), None)

    read.speeds = speeds
    return read


@pytest.mark.parametrize("name", ["los_speed.csv", "graph_sensor_locations.csv"])
def test_metr_la_as_csv(metr, tmp_path, name):
    path = tmp_path / name
    fuzz(file_of(path, path.read_bytes(), struck_text), metr, name, sane, of=3)


def test_metr_la_with_a_time_column(metr, tmp_path):
    path = tmp_path / "los_speed.csv"
    stamped = metr.speeds.set_axis(pd.date_range("2012-03-01", periods=8, freq="5min"))
    fuzz(file_of(path, stamped.to_csv().encode(), struck_text), metr, path.name, sane, of=3)


def test_metr_la_as_hdf(metr, tmp_path):
    import h5py

    (tmp_path / "los_speed.csv").unlink()
    path = tmp_path / "metr-la.h5"
    with h5py.File(path, "w") as file:  # the layout that pandas writes
        group = file.create_group("df")
        group["axis0"] = group["block0_items"] = np.array(SENSORS, dtype="S")
        stamps = pd.date_range("2012-03-01", periods=8, freq="5min").to_numpy("datetime64[ns]")
        group["axis1"] = stamps.astype(np.int64)
        group["block0_values"] = metr.speeds.to_numpy()
    fuzz_apart(file_of(path, path.read_bytes(), struck_bytes), metr, path.name, sane)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickled_adjacency(tmp_path, protocol):
    path = tmp_path / "adj_mx.pkl"
    content = [SENSORS, {name: i for i, name in enumerate(SENSORS)}, WEIGHT.astype(np.float32)]
    plain = pickle.dumps(content, protocol=protocol)

    def fits(found):
        names, weight = found
        assert weight.shape == (len(names),) * 2 and np.isfinite(weight).all() and (weight >= 0).all()

    fuzz_apart(file_of(path, plain, struck_bytes), lambda: pickles.adjacency(path), path.name, fits, of=6)
    fuzz(
        lambda blows: path.write_bytes(pickle.dumps(struck_value(content, blows), protocol=protocol)),
        lambda: pickles.adjacency(path),
        path.name,
        fits,
        of=6,
    )


@pytest.mark.parametrize("name", ["pm25_ground.txt", "pm25_missing.txt", "pm25_latlng.txt"])
def test_aqi36(tmp_path, name):
    rng = np.random.default_rng(0)
    stations = [f"{i:06d}" for i in range(1001, 1005)]
    frame = pd.DataFrame(rng.integers(5, 300, (6, 4)).astype(float), columns=stations)
    frame.index = pd.Index([f"2014/05/01 {h:02d}:00:00" for h in range(6)], name="datetime")
    frame.to_csv(tmp_path / "pm25_ground.txt")
    frame.mask(rng.random(frame.shape) < 0.3).to_csv(tmp_path / "pm25_missing.txt")
    places = pd.DataFrame({"sensor_id": stations, "latitude": 39.9 + 0.1 * np.arange(4), "longitude": 116.4})
    places.to_csv(tmp_path / "pm25_latlng.txt", index=False)
    files, path = sorted(tmp_path.iterdir()), tmp_path / name
    fuzz(file_of(path, path.read_bytes(), struck_text), lambda: aqi36(files, {}, Graph(), None), "pm25_", sane, of=3)


def test_pems_lanes(tmp_path):
    rows = []
    for minute in range(0, 20, 5):
        for station in STATIONS["order"]:
            row = {"Timestamp": f"10/04/2022 00:{minute:02d}:00", "Station": station, "Lane Type": "ML"}
            row |= {"Station Length": 0.5}
            for lane in (1, 2):
                row |= {f"Lane {lane} Flow": 10 + lane, f"Lane {lane} Avg Occ": 0.01, f"Lane {lane} Avg Speed": 65.5}
                row |= {f"Lane {lane} Observed": 1}
            rows.append(row)
    path = tmp_path / "d04_text_station_5min_2022_10_04.csv"
    content = pd.DataFrame(rows).to_csv(index=False).encode()
    fuzz(file_of(path, content, struck_text), lambda: pems_lanes([path], STATIONS, Graph(), None), path.name, sane)


# ---- own tables


def own_frame(rows=10):
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(np.round(rng.normal(50, 5, (rows, 3)), 2), columns=["a", "b", "c"])
    frame.insert(0, "time", pd.date_range("2024-01-01", periods=rows, freq="5min").strftime("%Y-%m-%d %H:%M:%S"))
    return frame


def long_frame():
    long = own_frame().melt("time", var_name="node", value_name="speed")
    return long.assign(flow=lambda f: f["speed"].round())


EDGES = b"source,target,weight,type\na,b,0.5,road\nb,c,1.0,road\nc,a,0.25,back\n"


@pytest.mark.parametrize("frame", [own_frame(), long_frame()], ids=["wide", "long"])
def test_own_csv(tmp_path, frame):
    path, graph = tmp_path / "mine.csv", tmp_path / "edges.csv"
    graph.write_bytes(EDGES)
    fuzz(
        file_of(path, frame.to_csv(index=False).encode(), struck_text), lambda: read_own(path, graph), None, sane, of=3
    )


def test_own_lanes_in_seconds(tmp_path):
    path = tmp_path / "lanes.csv"
    rows = [(lane, 10.0 * k, 3.0 * lane + k + 1, 5) for lane in (0, 1, 2) for k in range(6)]
    frame = pd.DataFrame(rows, columns=["lane_id", "start_frame", "avg_speed", "total_vehicles"])
    fuzz(file_of(path, frame.to_csv(index=False).encode(), struck_text), lambda: read_own(path), "lanes", sane, of=3)


def test_own_parquet(tmp_path):
    path = tmp_path / "mine.parquet"
    own_frame().to_parquet(path)
    fuzz_apart(file_of(path, path.read_bytes(), struck_bytes), lambda: read_own(path), path.name, sane)


def test_own_netcdf(tmp_path):
    import xarray as xr

    path = tmp_path / "mine.nc"
    time = pd.date_range("2024-01-01", periods=6, freq="1h")
    speed, flow = np.random.default_rng(1).normal(size=(2, 6, 3))
    data = xr.Dataset({"speed": (("time", "node"), speed), "flow": (("node", "time"), flow.T)},
                      coords={"time": time, "node": ["x", "y", "z"]})  # fmt: skip
    data.to_netcdf(path)
    fuzz_apart(file_of(path, path.read_bytes(), struck_bytes), lambda: read_own(path), path.name, sane, of=2)
    fuzz_apart(lambda blows: written(struck_dataset(data, blows), path), lambda: read_own(path), path.name, sane, of=2)


# ---- own graphs


@pytest.mark.parametrize(
    "content", [EDGES, b"node,lat,lon\na,50.0,8.0\nb,50.1,8.1\nc,50.3,8.0\n", b"node,x,y\na,0,0\nb,1,2\nc,5,1\n"]
)
def test_own_graph_as_csv(tmp_path, content):
    path, graph = tmp_path / "mine.csv", tmp_path / "graph.csv"
    own_frame(4).to_csv(path, index=False)
    fuzz(file_of(graph, content, struck_text), lambda: read_own(path, graph), graph.name, sane, of=3)


ROAD = {
    "nodes": [
        {"lane_id": "a", "node_connections": {"direct": ["b"], "near": [["c", 0.3]]}},
        {"lane_id": "b", "node_connections": {"crossing": ["c"]}},
        {"lane_id": "c", "node_connections": {}},
    ]
}


def test_own_graph_as_json(tmp_path):
    path, graph = tmp_path / "mine.csv", tmp_path / "road.json"
    own_frame(4).to_csv(path, index=False)
    fuzz(
        lambda blows: graph.write_text(json.dumps(struck_value(ROAD, blows), default=str)),
        lambda: read_own(path, graph),
        graph.name,
        sane,
        of=2,
    )
    fuzz(file_of(graph, json.dumps(ROAD).encode(), struck_bytes), lambda: read_own(path, graph), graph.name, sane, of=2)


# ---- what was learnt from them


def test_a_saved_model(tmp_path):
    path = tmp_path / "model.safetensors"
    data, weights = cube(times=12, nodes=3, channels=1, masks=1), {"a": torch.arange(6.0), "b": torch.ones(2, 3)}
    table = np.arange(15.0).reshape(1, 3, 5)
    own_model.save(path, own_model.Fitted(data, Settings(), weights, Intervals(table, (0.1, 0.3, 0.5, 0.7, 0.9))))

    def same(found):
        assert torch.equal(found.weights["a"], weights["a"]) and torch.equal(found.weights["b"], weights["b"])
        assert np.array_equal(found.cube.value, data.value, equal_nan=True) and (found.cube.time == data.time).all()
        assert np.array_equal(found.intervals.table, table) and found.settings == Settings()
        assert found.cube.nodes == data.nodes and found.level == 0.9

    fuzz(file_of(path, path.read_bytes(), struck_bytes), lambda: own_model.load(path), str(path), same)
