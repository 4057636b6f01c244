"""The user's own data as an entry of the configuration: read, split and hidden by the stage prepare."""

import json

import numpy as np
import pandas as pd
import pytest

from pipeline.core.config import validated
from pipeline.core.errors import ConfigError, DataError
from pipeline.core.stages import Job, run
from pipeline.spin.cube import TEST, TRAIN, VAL, load
from pipeline.spin.settings import OWN_DATA, STAGES, Settings

LANES = "lane_id,start_frame,avg_speed,avg_occupancy,total_vehicles"


def prepare(folder, paths, options=None, units=None, reader="table", **data):
    source = {"name": "mine", "requested": "mine", "source": "config", "sha256": None, "licence": "-",
              "reader": reader, "options": options or {}, "units": units or {}}  # fmt: skip
    settings = Settings.model_validate({"data": data}).model_dump(mode="json")
    outputs = {"data": folder / "data.zarr", "run": folder / "prepare.run.json"}
    leaf = {group: settings[group] for group in STAGES["prepare"].groups}
    job = Job("spin", "prepare", {"raw": paths}, outputs, leaf, facts={"scenario": "s", "source": source})
    run(job, STAGES["prepare"])
    return load(outputs["data"])


@pytest.fixture
def speeds(tmp_path):
    frame = pd.DataFrame({"time": pd.date_range("2024-01-01", periods=50, freq="5min")})
    for place, name in enumerate("abc"):
        frame[name] = 50 + 10 * place + np.arange(50.0)
    frame.loc[7, "b"] = 0
    frame.to_csv(tmp_path / "speeds.csv", index=False)
    (tmp_path / "edges.csv").write_text("source,target,weight\na,b,0.5\nb,c,1.0\n")
    return [tmp_path / "speeds.csv", tmp_path / "edges.csv"]


def test_a_table_and_its_edges_become_a_cube(speeds, tmp_path):
    cube = prepare(tmp_path, speeds, {"zero_missing": True}, {"value": "km/h"}, missing={"rate": 0.5})
    assert cube.nodes == ("a", "b", "c") and cube.units == ("km/h",) and cube.shape == (50, 3, 1)
    assert cube.edge_index.tolist() == [[0, 1], [1, 2]] and cube.edge_weight.tolist() == [0.5, 1.0]
    assert np.isnan(cube.value[7, 1, 0]) and cube.value[49, 2, 0] == 119
    assert [(cube.split == part).sum() for part in (TRAIN, VAL, TEST)] == [35, 5, 10]
    assert 45 < cube.hidden[0].sum() < 105


def test_a_table_without_a_graph_is_linked_by_correlation(speeds, tmp_path):
    cube = prepare(tmp_path, speeds[:1])
    assert cube.edge_types == ("correlation",) and cube.edge_index.shape == (2, 6)


def test_lanes_and_their_json_graph_become_a_cube_of_three_channels(tmp_path):
    rows = [f"{lane},{10 * t},{t + lane},{0.1 * lane},{t}" for t in range(40) for lane in (0, 1)]
    (tmp_path / "lanes.csv").write_text("\n".join([LANES, *rows]))
    graph = {"nodes": [{"lane_id": 0, "node_connections": {"direct": [1]}},
                       {"lane_id": 1, "node_connections": {"near": [[0, 0.3]]}}]}  # fmt: skip
    (tmp_path / "road.json").write_text(json.dumps(graph))
    cube = prepare(tmp_path, [tmp_path / "lanes.csv", tmp_path / "road.json"])
    assert cube.channels == ("avg_speed", "avg_occupancy", "total_vehicles") and cube.step_seconds == 10
    assert cube.value[5, 1].tolist() == [6.0, pytest.approx(0.1), 5.0]
    found = {
        (s, t, cube.edge_types[k]): w
        for s, t, k, w in zip(*cube.edge_index, cube.edge_type, cube.edge_weight, strict=True)
    }
    assert found == {(0, 1, "direct"): 1, (1, 0, "near"): pytest.approx(0.3)}
    graph["nodes"][1]["node_connections"]["near"] = [[0, -2]]
    (tmp_path / "road.json").write_text(json.dumps(graph))
    with pytest.raises(DataError, match=r"connection 1 -> 0 \(near\) has the weight -2; weights must lie in \(0, 1\]"):
        prepare(tmp_path, [tmp_path / "lanes.csv", tmp_path / "road.json"])


def test_wrong_entries_have_one_clear_error(speeds, tmp_path):
    with pytest.raises(DataError, match="mine is read by 'sequences', which is none of SPIN's readers: metr_la"):
        prepare(tmp_path, speeds, reader="sequences")
    with pytest.raises(DataError, match="at most one of their graph, got 3"):
        prepare(tmp_path, [*speeds, speeds[1]])
    with pytest.raises(DataError, match="fold 1 leaves a segment out, but the split is of the kind 'ratio'"):
        prepare(tmp_path, speeds, split={"fold": 1})
    with pytest.raises(ConfigError, match="max_gap"):
        validated(OWN_DATA["traffic"]["table"], {"max_gap": 3}, "data.mine.options")


def test_the_simulated_city_s_intervals_fill_its_warm_up():
    for every in (420, 7):
        with pytest.raises(ConfigError, match="every"):
            validated(Settings, {"simulation": {"every": every}}, "spin.settings")
    with pytest.raises(ConfigError, match=r"must divide the 900 s .* 60, 75, 90, 100, 150, 180, 225, 300, 450, 900"):
        validated(Settings, {"simulation": {"every": 600}}, "spin.settings")
