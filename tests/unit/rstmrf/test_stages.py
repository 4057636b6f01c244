"""Stages on a toy world: train, evaluate and compare end to end, and what they refuse."""

import json
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.core.stages import Job, Stage, run
from pipeline.rstmrf import estimates, scoring
from pipeline.rstmrf import world as worlds
from pipeline.rstmrf.analysis import report
from pipeline.rstmrf.baseline_arm import kalman
from pipeline.rstmrf.baselines import Baselines
from pipeline.rstmrf.kalman import Kalman
from pipeline.rstmrf.memory_table import disk, logs_of, parameters, rows
from pipeline.rstmrf.prepare import info
from pipeline.rstmrf.settings import STAGES, Learn, Nothing, Settings, Smoother

TINY = {
    "network": {"hidden": 8, "basis": 8, "lstm": 8, "tec_factor": 30, "tec_features": 4},
    "train": {"steps": 4, "batch": 128},
    "saving": {"interval": 2},
}


@pytest.fixture(scope="module")
def stores(toy_world, toy_truth, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenario")
    source = {"name": "storms", "requested": "storms", "source": "simulation", "licence": "MIT"}
    known = replace(toy_world, attrs=toy_world.attrs | {"dataset": info(source, [toy_world])})
    worlds.save(folder / "worlds.zarr", known)
    worlds.save_truth(folder / "truth.zarr", toy_world.name, toy_truth)
    iri = estimates.estimate("iri", toy_world, 0, lambda points: (scoring.background(toy_world, points), None))
    estimates.write(folder / "baselines.zarr", [iri])
    return folder


def stage(name, folder, arm, inputs, outputs, settings, **facts):
    where = folder / arm if arm else folder
    job = Job(
        "rstmrf",
        name,
        inputs,
        {**{key: where / value for key, value in outputs.items()}, "run": where / f"{name}.run.json"},
        settings,
        seeds=[0, 1],
        facts={"arm": arm, **facts},
    )
    return run(job, STAGES[name])


@pytest.fixture(scope="module")
def scenario(stores):
    settings = Learn.model_validate(TINY).model_dump(mode="json")
    inputs = {"worlds": stores / "worlds.zarr"}
    stage("train", stores, "seed", inputs, {"models": "models", "summary": "training.json"}, settings)
    trained = {"models": stores / "seed" / "models", "summary": stores / "seed" / "training.json"}
    stage("evaluate", stores, "seed", {**inputs, **trained}, {"estimates": "estimates.zarr"}, settings)
    entry = {
        "description": "toy",
        "leaky": False,
        "primary": {"metric": "skill", "unit": "1", "better": "higher"},
        "arms": ["seed"],
        "baselines": ["iri", "kf"],
        "compare": [("seed", "iri"), ("seed", "kf")],
    }
    more = {
        "truth": stores / "truth.zarr",
        "baselines": stores / "baselines.zarr",
        "arms": [stores / "seed" / "estimates.zarr"],
        "runs": [stores / "seed" / "evaluate.run.json"],
        "trainings": [stores / "seed" / "train.run.json"],
    }
    stage("compare", stores, "", {**inputs, **more}, {"scenario": "scenario.json"}, {}, entry=entry)
    return json.loads((stores / "scenario.json").read_text())


def test_the_block_has_the_shape_of_the_table(scenario):
    seed = scenario["arms"]["seed"]
    assert seed["status"] == "done" and seed["seeds"] == [0, 1]
    assert len(seed["metrics"]["skill"]["values"]) == 2 and scenario["values_of"] == "seeds"
    assert scenario["baselines"]["iri"]["metrics"]["skill"]["mean"] == pytest.approx(0.0, abs=1e-6)
    assert "kf" not in scenario["baselines"]  # it has no estimate: left out, and said in the log
    assert [(c["a"], c["b"]) for c in scenario["comparisons"]] == [("seed", "iri")]
    assert scenario["comparisons"][0]["difference"] == pytest.approx(seed["metrics"]["skill"]["mean"], abs=1e-4)
    assert set(scenario["worlds"]) == {"a3"} and scenario["dataset"]["name"] == "storms"
    assert scenario["dataset"]["period"].startswith("2024-09-11 00:00 to 2024-09-")


def test_the_memory_of_a_training_stands_in_its_history(stores, scenario):
    lines = [json.loads(line) for line in (stores / "seed" / "train.history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6, 8]
    assert all(line["metrics"]["rss_mb"] > 50 for line in lines)


def test_the_memory_table_sets_counted_beside_stated(scenario):
    block = {**scenario, "arms": {"default": scenario["arms"]["seed"]}}
    row = rows(block)["default"]
    assert row["speed"] == row["rmse_relative"] == 1.0
    assert row["seed_mb"] == 500.0 and row["saved_tensors_mb"] > 0 and row["estimated_mb"] > 0
    table = parameters(scenario["arms"]["seed"])
    assert table["total"]["counted"] == sum(v["counted"] for k, v in table.items() if k != "total")


def test_the_seeds_disk_table_is_counted_as_the_seed_counts(tmp_path):
    """173,411 weights of 4 bytes, twice as much in moments, ten files; 720 maps of 46 x 91."""
    settings = Learn().model_dump(mode="json")
    small = {**settings, "network": {**settings["network"], "tec_factor": 6}}
    arm = {"parameters": 173_411, "settings": settings, "checkpoint_bytes": 0.66 * 2**20}
    arms = {
        "default": arm,
        "saving_every_5": {**arm, "checkpoint_bytes": 21.9 * 2**20},
        "cpu_8gb": {**arm, "parameters": 104_300, "settings": small, "checkpoint_bytes": 0.42 * 2**20},
    }
    (tmp_path / "default").mkdir()
    (tmp_path / "default" / "train.log").write_bytes(b"x" * 2**20)
    logs = logs_of(tmp_path, arms)
    assert logs == {"default": 2**20}
    table = disk({"arms": arms}, logs)
    assert {name: row["seed_mb"] for name, row in table.items() if name in ("checkpoint", "logs", "total")} == {
        "checkpoint": 2.8,
        "logs": 1.0,
        "total": 41.0,
    }
    assert table["weights"]["counted_mb"] == pytest.approx(0.6615, abs=1e-4)
    assert table["checkpoint"]["counted_mb"] == pytest.approx(1.9845, abs=1e-4)
    assert table["checkpoints_of_a_run"]["counted_mb"] == pytest.approx(19.845, abs=1e-3)
    assert table["cache_tec"]["counted_mb"] == pytest.approx(720 * 46 * 91 * 4 / 2**20)  # 11.5
    assert table["cache_space_weather"]["counted_mb"] == 5760 / 2**20
    assert table["total"]["counted_mb"] == pytest.approx(19.845 + 11.497 + 0.0055, abs=2e-3)
    assert table["checkpoints_of_a_run"]["measured_mb"] == 21.9 and table["logs"]["measured_mb"] == 1.0
    assert table["presets"].keys() == {"cpu_8gb"}
    assert table["presets"]["cpu_8gb"]["counted_mb"] == pytest.approx(1.1936 + 5.1937 + 0.0055, abs=2e-3)


def test_a_baseline_as_an_arm_is_the_baseline_until_its_settings_change(stores, toy_world, tmp_path):
    inputs, method = {"worlds": stores / "worlds.zarr"}, {"kind": "baseline", "baseline": "oi_iri_tec"}
    found = []
    for number, change in enumerate(({}, {"interpolation": {"time_h": 2.0}})):
        settings = Learn.model_validate({"method": method, **change}).model_dump(mode="json")
        folder = tmp_path / str(number)
        stage("train", folder, "tried", inputs, {"models": "models", "summary": "training.json"}, settings)
        trained = {"models": folder / "tried" / "models", "summary": folder / "tried" / "training.json"}
        stage("evaluate", folder, "tried", {**inputs, **trained}, {"estimates": "estimates.zarr"}, settings)
        found.append(estimates.read(folder / "tried" / "estimates.zarr")[0].dense)
    wanted = Baselines(toy_world).estimate("oi_iri_tec").dense
    assert np.allclose(found[0], wanted, atol=2e-6) and not np.allclose(found[1], wanted, atol=1e-2)


def test_the_smoother_of_an_arm_is_the_baselines_until_a_setting_changes():
    assert kalman(Smoother()) == Kalman()
    for name in Smoother.model_fields:
        assert kalman(Smoother(**{name: 7.0})) != Kalman()


def test_a_baseline_is_named_with_its_kind_alone():
    for wrong in ({"kind": "baseline"}, {"kind": "point", "baseline": "kf"}):
        with pytest.raises(ValidationError, match="names the baseline of kind: baseline"):
            Learn.model_validate({"method": wrong})


def test_same_seed_same_weights(stores, scenario, tmp_path):
    settings = Learn.model_validate(TINY).model_dump(mode="json")
    outputs = {"models": "models", "summary": "training.json"}
    stage("train", tmp_path, "seed", {"worlds": stores / "worlds.zarr"}, outputs, settings)
    for name in ("a3_0", "a3_1"):
        first, again = (folder / "seed" / "models" / f"{name}.safetensors" for folder in (stores, tmp_path))
        assert first.read_bytes() == again.read_bytes()
    assert (tmp_path / "seed" / "models" / "a3_0.safetensors").read_bytes() != again.read_bytes()


def test_every_stage_has_a_function_that_can_be_loaded():
    for one in STAGES.values():
        assert isinstance(one, Stage) and callable(one.load())
    assert STAGES["compare"].model is Nothing
    assert set(Settings.TRAINED) == set(Learn.model_fields)


def test_the_report_ranks_by_the_primary_metric(scenario):
    text = report({"scenarios": {"toy": scenario}, "unavailable": {"cosmic": "no files"}})
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    better = "seed" if scenario["arms"]["seed"]["metrics"]["skill"]["mean"] > 0 else "iri"
    assert lines[0].startswith("| method | skill |") and lines[1].startswith(f"| {better} |")
    assert "reward memorising the two sampled local times" in text and "Left out: no files" in text


def test_figures_have_labels_with_units(scenario, stores):
    from pipeline.core import figures
    from pipeline.rstmrf.figures import drawn

    with figures.style():
        found = dict(drawn("toy", scenario, stores, figures.translator("en")))
    assert set(found) == {"metrics", "table", "local_time", "cells", "tec", "slices", "coverage", "peaks"}
    (axes,) = found["local_time"].axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("local time [h]", "RMSE [dex]")
    assert len(axes.lines) == 2 and len(axes.lines[0].get_ydata()) == 24
    assert found["tec"].axes[1].get_ylabel() == "TEC [TECU]"
    assert found["cells"].axes[0].get_ylabel() == "altitude [km]"
