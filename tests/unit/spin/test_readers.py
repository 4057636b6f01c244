"""Readers on real files: METR-LA, AQI-36 and PeMS lanes; pickles that ask for more than arrays."""

import pickle

import numpy as np
import pandas as pd
import pytest

from pipeline.core.errors import DataError
from pipeline.spin import pickles, readers
from pipeline.spin.cube import TEST, VAL
from pipeline.spin.data import build, split_rows
from pipeline.spin.data_settings import Data, Graph, Missing, Split
from pipeline.spin.raw import on_line
from pipeline.spin.readers import aqi36, metr_la, pems_lanes

SOURCE = {"name": "x", "requested": "x", "source": "folder", "sha256": None, "licence": "-"}
ORDER = {"order": ["404531", "404532", "401833", "401834"]}


@pytest.fixture(scope="module")
def metr(data_dir):
    return metr_la(sorted((data_dir / "traffic/metr_la_week").iterdir()), {"filled": True}, Graph(), None)


@pytest.fixture(scope="module")
def pems(data_dir):
    return pems_lanes(sorted((data_dir / "traffic/pems_d4_lanes").iterdir()), ORDER, Graph(), None)


def test_metr_la_has_its_published_size_graph_and_filled_cells(metr):
    assert metr.value.shape == (2016, 207, 1) and metr.edges.index.shape == (2, 2626)
    assert on_line(metr.value, metr.segment)[1:-1].mean() == pytest.approx(0.045, abs=0.001)
    assert metr.nodes[0] == "773869" and metr.place[0] == pytest.approx([34.15497, -118.31829])
    kinds = np.array(metr.edges.types)[metr.edges.type]
    assert (kinds == "road").sum() == 1515 and (kinds == "reverse").sum() == 2626 - 1515
    ends = set(zip(*metr.edges.index, strict=True))
    assert all((t, s) in ends for s, t in ends)


def test_without_symmetry_the_road_s_direction_stays(data_dir):
    folder = data_dir / "traffic/metr_la_week"
    raw = metr_la(sorted(folder.iterdir()), {}, Graph(symmetric=False), None)
    assert raw.edges.index.shape == (2, 1515) and raw.edges.types == ("road",)
    _, weight = pickles.adjacency(folder / "adj_mx.pkl")
    np.testing.assert_allclose(raw.edges.weight, weight[tuple(raw.edges.index)], rtol=1e-6)


def test_metr_la_as_hdf_and_zeros_as_missing(data_dir, tmp_path, metr):
    h5py = pytest.importorskip("h5py")
    folder = data_dir / "traffic/metr_la_week"
    values = metr.value[:50, :, 0].copy()
    values[3, 5] = 0
    stamps = pd.date_range("2012-03-01", periods=50, freq="5min").to_numpy("datetime64[ns]").astype(np.int64)
    with h5py.File(tmp_path / "metr-la.h5", "w") as file:  # the layout that pandas writes
        group = file.create_group("df")
        group["axis0"] = group["block0_items"] = np.array(metr.nodes, dtype="S")
        group["axis1"] = stamps
        group["block0_values"] = values
    files = [tmp_path / "metr-la.h5", folder / "adj_mx.pkl", folder / "graph_sensor_locations.csv"]
    raw = metr_la(files, {"zero_missing": True}, Graph(), None)
    np.testing.assert_array_equal(raw.time.astype("datetime64[ns]").astype(np.int64), stamps)
    assert (
        np.isnan(raw.value[3, 5, 0]) and np.isnan(raw.value).sum() == 1 and raw.report == ["1 zeros taken as missing"]
    )
    assert not np.isnan(metr_la(files, {"zero_missing": True}, Graph(), False).value).any()  # the setting rules


def test_metr_la_with_a_time_column_and_its_mistakes(data_dir, tmp_path, metr):
    folder = data_dir / "traffic/metr_la_week"
    frame = pd.DataFrame(metr.value[:20, :, 0], pd.date_range("2012-04-01", periods=20, freq="5min"), metr.nodes)
    files = [tmp_path / "METR-LA.csv", folder / "adj_mx.pkl", folder / "graph_sensor_locations.csv"]
    frame.to_csv(files[0])
    raw = metr_la(files, {}, Graph(), None)
    assert str(raw.time[0])[:16] == "2012-04-01T00:00" and raw.value.shape == (20, 207, 1)
    frame.drop(index=frame.index[4]).to_csv(files[0])
    with pytest.raises(DataError, match="rows must be 5min apart"):
        metr_la(files, {}, Graph(), None)
    frame.rename(columns={metr.nodes[3]: "1"}).to_csv(files[0])
    with pytest.raises(DataError, match=f"name different sensors: 1, {metr.nodes[3]}"):
        metr_la(files, {}, Graph(), None)


def test_aqi36_has_the_published_mask(data_dir):
    raw = aqi36(sorted((data_dir / "air/aqi36").iterdir()), {}, Graph(), None)
    assert raw.value.shape == (8759, 36, 1) and raw.official.sum() == 35737
    cube = build(raw, Data(missing=Missing(kind="official")), SOURCE, "months")
    assert len(cube.targets(0, TEST)) == 20434 and len(cube.targets(0, VAL)) == 2327
    month = cube.time.astype("datetime64[M]").astype(int) % 12 + 1
    assert set(month[cube.split == TEST]) == {3, 6, 9, 12} and set(month[cube.split == VAL]) == {2, 5, 8, 11}
    per_month = [int((cube.targets(0, TEST).time[:, None] == np.flatnonzero(month == m)).sum()) for m in (3, 6, 9, 12)]
    assert per_month == [3835, 3414, 9752, 3433]


def test_pems_keeps_observed_lanes_alone_one_segment_a_day(pems):
    assert pems.value.shape == (3744, 18, 3) and pems.channels == ("speed", "occupancy", "flow")
    assert "404531-4" not in pems.nodes and pems.report == ["lane 404531-4 was never observed and is left out"]
    assert np.isnan(pems.value).mean() == pytest.approx(0.1406, abs=1e-4)
    np.testing.assert_array_equal(np.bincount(pems.segment), np.full(13, 288))
    lane = pems.nodes.index("401833-1")  # read off the first file by eye
    assert pems.value[0, lane].tolist() == pytest.approx([np.nan] * 3, nan_ok=True)
    assert pems.value[0, pems.nodes.index("401833-2")].tolist() == pytest.approx([74.0, 0.0019, 3.0])


def test_the_lane_graph_runs_along_the_road_and_across(pems):
    edges = {
        (pems.nodes[s], pems.nodes[t], pems.edges.types[k])
        for s, t, k in zip(*pems.edges.index, pems.edges.type, strict=True)
    }
    assert {("404531-1", "404531-2", "beside"), ("404531-2", "404531-1", "beside")} <= edges
    assert ("404531-2", "404532-2", "downstream") in edges and ("404532-2", "404531-2", "upstream") in edges
    assert not any(s[:6] == "404531" and t[:6] == "401833" for s, t, _ in edges)  # two stations on


def test_a_folder_with_a_day_left_out_or_another_station_is_refused(data_dir, tmp_path):
    files = sorted((data_dir / "traffic/pems_d4_lanes").glob("d04*.csv"))[:1]
    with pytest.raises(DataError, match="but the option `order` names 404531, 404532"):
        pems_lanes(files, {"order": ["404531", "404532"]}, Graph(), None)
    (tmp_path / "z.csv").write_text("Timestamp,Station\n")
    with pytest.raises(DataError, match="has no column 'Lane Type'"):
        pems_lanes([tmp_path / "z.csv"], ORDER, Graph(), None)
    with pytest.raises(DataError, match="overlap in time"):
        copy = tmp_path / "d04_text_station_5min_2022_10_05.csv"
        copy.write_bytes(files[0].read_bytes())
        pems_lanes([files[0], copy], ORDER, Graph(), None)


@pytest.mark.parametrize("fold", range(0, 13, 4))
def test_folds_leave_one_day_out(pems, fold):
    found = split_rows(Split(fold=fold), "segments", pems.time, pems.segment)
    assert set(pems.segment[found == TEST]) == {fold} and set(pems.segment[found == VAL]) == {(fold - 1) % 13}


def test_splits_in_time_are_the_documented_rows(metr):
    found = split_rows(Split(), "ratio", metr.time, metr.segment)
    assert np.flatnonzero(found == VAL)[0] == 1411 and np.flatnonzero(found == TEST)[0] == 1612
    with pytest.raises(DataError, match="leave nothing to test"):
        split_rows(Split(train=0.9, val=0.1), "ratio", metr.time, metr.segment)
    with pytest.raises(DataError, match="leaves no row for train"):
        split_rows(Split(kind="months"), "ratio", metr.time, metr.segment)


class Evil:
    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_would_run_something_is_refused_and_nothing_is_run(tmp_path, protocol):
    import os

    touched = tmp_path / "touched"
    for call in ((os.system, (f"touch {touched}",)), (eval, (f"open({str(touched)!r}, 'w')",)), (np.load, ("x",))):
        path = tmp_path / "adj.pkl"
        path.write_bytes(pickle.dumps([["a"], {"a": 0}, Evil(call)], protocol=protocol))
        with pytest.raises(DataError, match="is not a plain pickle .* asks for .*Nothing in it was run"):
            pickles.adjacency(path)
    assert not touched.exists()


def test_arrays_of_objects_and_subclasses_are_refused(tmp_path):
    path = tmp_path / "adj.pkl"
    path.write_bytes(pickle.dumps([["a"], {"a": 0}, np.array([[Evil((print, ("x",)))]], dtype=object)]))
    with pytest.raises(DataError, match="is not a plain pickle"):
        pickles.load(path)
    path.write_bytes(pickle.dumps([["a", "b"], {"a": 0, "b": 1}, np.eye(2)[:, :1]]))
    with pytest.raises(DataError, match="must hold .sensor ids"):
        pickles.adjacency(path)
    path.write_bytes(b"\x80\x04garbage")
    with pytest.raises(DataError, match="is not a plain pickle"):
        pickles.load(path)


def test_python_3_pickles_of_arrays_are_read(tmp_path):
    for protocol in (2, 4, 5):
        path = tmp_path / "adj.pkl"
        matrix = np.array([[1.0, 0.5], [0.0, 1.0]])
        path.write_bytes(pickle.dumps([["a", "b"], {"a": 0, "b": 1}, matrix], protocol=protocol))
        names, found = pickles.adjacency(path)
        assert names == ["a", "b"]
        np.testing.assert_array_equal(found, matrix)


def test_lanes_of_a_station_without_a_number_are_told(tmp_path):
    path = tmp_path / "day.csv"
    rows = ["Timestamp,Station,Lane Type,Station Length", "2024-01-01 00:00,,ML,.5", "2024-01-01 00:00,4001,ML,.5"]
    path.write_text("\n".join(rows))
    with pytest.raises(DataError, match=r"day\.csv has the main-line stations 4001\.0, nan, but the option `order`"):
        readers._day(path, ["4001"])
