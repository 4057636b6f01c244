"""Scores and comparisons of streamed forecasts, against values worked out by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.core.stages import Job, Stage, run
from pipeline.core.store import read_json, write_json
from pipeline.core.tables import assemble
from pipeline.fsnet import forecasts as store
from pipeline.fsnet import scoring
from pipeline.fsnet.compare import Scorer, compare
from pipeline.fsnet.data import build, write
from pipeline.fsnet.grid import Table
from pipeline.fsnet.regimes import Switch
from pipeline.fsnet.series import load_realizations
from pipeline.fsnet.settings import STAGES, Forecast

ROWS, H = 600, 3
SOURCE = {
    "name": "demo",
    "requested": "other",
    "source": "config",
    "sha256": "0" * 64,
    "title": "Demo",
    "licence": "CC0",
    "citation": "",
    "borders": "ratio",
    "target": "y",
    "units": {"y": "degC"},
}


@pytest.fixture
def data(tmp_path):
    """A stored series of 600 hours, of which 120 train, 30 validate and 450 test."""
    index = pd.date_range("2020-01-01", periods=ROWS, freq="h")
    values = 10 + np.sin(np.arange(ROWS) / 5)[:, None] + np.random.default_rng(0).normal(0, 0.1, (ROWS, 1))
    write(
        build(Table(pd.DataFrame(values, index, ["y"]), np.zeros((ROWS, 1), bool), "h"), source=SOURCE),
        tmp_path / "d.zarr",
    )
    return tmp_path / "d.zarr"


def test_truth_and_losses_by_hand():
    labels = np.arange(10.0)[:, None]
    target = scoring.truth(labels, np.array([2, 5]), 3)
    assert target[:, :, 0].tolist() == [[3, 4, 5], [6, 7, 8]]
    assert scoring.losses(target + np.array([1.0, 2.0, 3.0])[:, None], target).tolist() == [14 / 3, 14 / 3]


def test_scores_know_both_units():
    target = np.array([[[1.0]], [[-1.0]]])
    found = scoring.scores(target + 0.5, target, mean=np.array([10.0]), sd=np.array([2.0]))
    assert found["mse"] == 0.25 and found["mae"] == 0.5 and found["rmse"] == 0.5
    assert found["mape_z"] == 50  # of z-scores
    assert found["mape"] == pytest.approx(100 * (1 / 12 + 1 / 8) / 2)  # of 12 and 8 physical units, one off
    assert found["wape"] == pytest.approx(100 * 2 / 20)


def test_vectors_end_at_the_whole():
    rng = np.random.default_rng(0)
    target, forecast = rng.normal(size=(2, 1000, 4, 1))
    found = scoring.vectors(forecast, target)
    assert found["mse_by_horizon"] == pytest.approx(((forecast - target) ** 2).mean(axis=(0, 2)))
    assert found["cumulative_step"][-1] == 1000 and len(found["cumulative_mse"]) == scoring.CURVE
    assert found["cumulative_mse"][-1] == pytest.approx(((forecast - target) ** 2).mean())


def test_intervals_reach_their_level_on_noise():
    rng = np.random.default_rng(0)
    labels = rng.normal(size=(5000, 1))
    origins = np.arange(100, 4990)
    found = scoring.intervals(np.zeros((len(origins), H, 1)), labels, origins, origins > 1000)
    assert found["coverage90"] == pytest.approx(0.9, abs=0.02)
    assert found["width90"] == pytest.approx(2 * 1.645, rel=0.05)


def test_forecasts_round_trip(tmp_path):
    saved = store.Forecasts(
        np.arange(24.0).reshape(2, 3, 4, 1),
        np.array([7, 8, 9]),
        [0, 5],
        {"slots": np.ones((2, 3, 6), np.float32)},
        {"ms_a": 1.5},
    )
    store.write(tmp_path / "f.zarr", saved)
    found = store.read(tmp_path / "f.zarr")
    np.testing.assert_array_equal(found.values, saved.values)
    np.testing.assert_array_equal(found[5], saved.values[1])
    assert found.members == [0, 5] and found.origins.tolist() == [7, 8, 9] and found.attrs == {"ms_a": 1.5}
    assert found.tracks["slots"].shape == (2, 3, 6)


def test_only_test_rows_are_scored(data):
    series = load_realizations(data)
    origins = series[0].origins("stream", 48, H)
    values = scoring.truth(series[0].labels, origins, H)
    values[origins < series[0].val_end - 1] += 100  # validation forecasts are wrong, test forecasts exact
    assert Scorer(series, H).member(values, origins, 0)["metrics"]["mse"] == 0


def test_regime_scores_are_taken_on_the_scored_rows(data):
    series = load_realizations(data)[0]
    first = series.val_end  # the row of the first scored one-step forecast
    switch = {"start": 0, "end": 0, "previous": 0, "regime": 1}
    switches = (
        Switch(row=first - 5, kind="recurrence", **switch),
        Switch(row=first + 100, kind="recurrence", **switch),
        Switch(row=first + 300, kind="first", **switch),
    )
    series = replace(series, switches=switches)
    origins = series.origins("stream", 48, 1)
    values = scoring.truth(series.labels, origins, 1)
    values[origins + 1 >= first + 300] += 2
    values[(origins + 1 >= first + 100) & (origins + 1 < first + 125)] += 1
    found = Scorer([series], 1).member(values, origins, 0)["metrics"]
    assert found["mse_first50"] == pytest.approx(0.5 * series.sd[0] ** 2)
    assert found["mse_new100"] == pytest.approx(4 * series.sd[0] ** 2)


def write_arm(folder, name, series, error, seeds):
    origins = series.origins("stream", 48, H)
    target = scoring.truth(series.labels, origins, H)
    values = np.stack([target + error * (1 + 0.1 * k) for k in range(len(seeds))])
    (folder / name).mkdir(parents=True)
    store.write(folder / name / "forecasts.zarr", store.Forecasts(values, origins, seeds))
    run = {
        "schema": "run/1",
        "status": "done",
        "inputs": {},
        "settings": {"a": 1},
        "seeds": seeds,
        "metrics": {"ms_per_step": 2.0, "parameters_live": 7.0},
    }
    write_json(folder / name / "evaluate.run.json", run | {"cost": {"cpu_s": 3.0, "wall_s": 3.0, "peak_rss_mb": 100.0}})
    return folder / name


def test_compare_writes_the_block_and_assemble_the_table(data, tmp_path):
    series = load_realizations(data)[0]
    arms = [
        write_arm(tmp_path / "s", "good", series, 0.1, [0, 1]),
        write_arm(tmp_path / "s", "bad", series, 0.5, [0, 1]),
    ]
    origins = series.origins("stream", 48, H)
    rls = scoring.truth(series.labels, origins, H)[None] + 0.2
    store.write(tmp_path / "b.zarr", store.Forecasts(rls, origins, ["rls"], attrs={"ms_rls": 0.1}))
    entry = {
        "description": "d",
        "leaky": True,
        "primary": {"metric": "mse", "unit": "SD²", "better": "lower"},
        "arms": ["good", "bad"],
        "baselines": ["rls"],
        "compare": [("good", "rls")],
    }
    inputs = {
        "data": data,
        "baselines": tmp_path / "b.zarr",
        "arms": [arm / "forecasts.zarr" for arm in arms],
        "runs": [arm / "evaluate.run.json" for arm in arms],
    }
    outputs = {"scenario": tmp_path / "s" / "scenario.json"}
    compare(Job("fsnet", "compare", inputs, outputs, {}, facts={"entry": entry}), Forecast(task={"horizon": H}), None)
    block = read_json(outputs["scenario"])
    good = block["arms"]["good"]["metrics"]["mse"]
    assert good["values"] == pytest.approx([0.01, 0.0121], rel=1e-4) and good["mean"] == pytest.approx(
        0.01105, rel=1e-4
    )
    assert block["baselines"]["rls"]["metrics"]["mse"]["mean"] == pytest.approx(0.04, rel=1e-4)
    assert block["arms"]["good"]["metrics"]["skill"]["mean"] == pytest.approx(1 - 0.01105 / 0.04, rel=1e-3)
    comparison = block["comparisons"][0]
    assert comparison["difference"] == pytest.approx(0.01105 - 0.04, rel=1e-3) and comparison["ci95"][1] < 0
    assert block["leaky"] and block["dataset"]["name"] == "demo" and block["dataset"]["requested"] == "other"
    assert block["arms"]["bad"]["status"] == "done" and block["arms"]["bad"]["cost"]["evaluate_s"] == 3.0

    job = Job(
        "fsnet",
        "ablation",
        {"scenarios": [outputs["scenario"]]},
        {"table": tmp_path / "t.json", "run": tmp_path / "t.run.json"},
        {},
        facts={"unavailable": {"ecl": "no network"}},
    )
    run(job, STAGES["ablation"])
    table = read_json(tmp_path / "t.json")
    assert table["schema"] == "ablation/1" and table["scenarios"]["s"] == block
    assert table["unavailable"] == {"ecl": "no network"} and table["software"]["torch"]
    assert Stage(f"{assemble.__module__}:assemble", STAGES["ablation"].model).load() is assemble
