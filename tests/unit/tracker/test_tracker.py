"""What the tracker shows of a record, which records it finds, and what it says of the work ahead. No MLflow."""

import json
import os
from pathlib import Path

import pytest

from pipeline.core import environment
from pipeline.core.runlog import RunFacts, RunLog, run_sibling
from snakemake_logger_plugin_mlflow import content, estimate, records
from snakemake_logger_plugin_mlflow.ledger import Ledger
from snakemake_logger_plugin_mlflow.session import TrackedJob, _telling


def job(folder: Path, name: str = "train", **changes) -> RunLog:
    base = {
        "system": "toy",
        "stage": name,
        "root": "results",
        "scenario": "s",
        "settings": {"a": {"b": 1}},
        "seeds": [0],
    }
    return RunLog(folder / f"{name}.run.json", RunFacts(**(base | changes)), log_path=folder / "log")


def done(folder: Path, name: str = "train", metrics: dict | None = None, **changes) -> RunLog:
    log = job(folder, name)
    log.start()
    log.finish(metrics or {}, **changes)
    return log


def killed(folder: Path, name: str) -> Path:
    """What a SIGKILL leaves: a running.json of a process that is no more."""
    log = job(folder, name)
    log.start()
    path = run_sibling(log.run_path, "running.json")
    path.write_text(path.read_text().replace(f'"pid": {os.getpid()}', '"pid": 4194999'))  # above any pid_max
    return log.run_path


def test_settings_become_dotted_params_and_long_or_odd_names_fit() -> None:
    facts = {"settings": {"a": {"b": 1, "c": {}}, "list": [1, 2], "näme (x)": "y", "on": True}, "seeds": [0, 1]}
    expected = {"a.b": "1", "a.c": "{}", "list": "[1, 2]", "näme _x_": "y", "on": "true", "seeds": "[0, 1]"}
    assert content.params(facts) == expected
    assert len(content.name_of("x" * 999)) == 250
    assert content.params({"settings": {}}) == {}


def test_settled_metrics_skip_what_was_not_finite(tmp_path: Path) -> None:
    log = done(tmp_path, metrics={"mse": 0.5, "ratio": float("nan")})
    shown = content.final_metrics(records.settled(log.run_path, log.run_path).facts)
    assert shown["mse"] == 0.5 and "ratio" not in shown and "cost.wall_s" in shown


def test_pickled_weights_and_vanished_files_are_refused_with_a_reason(tmp_path: Path) -> None:
    good, bad, figure = tmp_path / "w.safetensors", tmp_path / "w.pt", tmp_path / "gone.png"
    good.write_text("w")
    bad.write_text("w")
    log = done(tmp_path, weights=[good, bad], figures=[figure])
    chosen, refused = content.artifacts(log.run_path, records.settled(log.run_path, log.run_path).facts)
    assert chosen == [(good, "weights"), (log.run_path, "record")]
    assert [reason.split(":")[0] for reason in refused] == [str(figure), str(bad)]


def test_tail_gives_whole_lines_once_and_starts_again_in_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "train.history.jsonl"
    tail = content.HistoryTail(tmp_path / "train.run.json")
    assert tail.read() == []
    line = json.dumps({"step": 1, "time": 0.0, "total": None, "metrics": {"mse": 1.0}}) + "\n"
    path.write_text(line + line.replace("1,", "2,", 1)[:10])
    assert [entry["step"] for entry in tail.read()] == [1]
    path.write_text(line + line.replace("1,", "2,", 1))
    assert [entry["step"] for entry in tail.read()] == [2]
    assert tail.read() == []
    fresh = tmp_path / "fresh"
    fresh.write_text(line)
    os.replace(fresh, path)
    assert [entry["step"] for entry in tail.read()] == [1]


def test_long_curves_are_thinned_evenly_and_keep_their_ends(tmp_path: Path) -> None:
    with (tmp_path / "train.history.jsonl").open("w") as stream:
        for step in range(1, 10_790):
            stream.write(json.dumps({"step": step, "time": 0.0, "total": 10_789, "metrics": {}}) + "\n")
    steps = [entry["step"] for entry in content.HistoryTail(tmp_path / "train.run.json").read()]
    assert steps[:3] == [1, 6, 11] and steps[-1] == 10_789  # 10,789 // 2,000 = 5
    assert len(steps) == 2159


def test_scan_finds_the_newest_word_on_each_run_and_spares_the_living(tmp_path: Path) -> None:
    deep = tmp_path / "toy" / "arm"
    deep.mkdir(parents=True)
    done(deep, "prepare")
    failed = job(deep, "train")
    failed.start()
    failed.fail(ValueError("no"))
    dead = killed(deep, "evaluate")
    job(deep, "plot").start()  # this very process: alive
    (deep / "broken.run.json").write_text("{")
    copies = tmp_path / "mlartifacts"
    copies.mkdir()
    (copies / "prepare.run.json").write_text((deep / "prepare.run.json").read_text())
    found = {record.run_path.name: record.facts["status"] for record in records.all_settled(tmp_path)}
    assert found == {"prepare.run.json": "done", "train.run.json": "failed", "evaluate.run.json": "killed"}
    assert records.interrupted(dead).facts["error"]["type"] == "Killed"


def test_an_earlier_attempts_files_are_not_taken_for_this_ones(tmp_path: Path) -> None:
    killed(tmp_path, "train")
    tracked = TrackedJob(1, "toy_train", {}, tmp_path / "train.run.json")
    assert tracked.facts() is None
    assert tracked.outcome(failed=False) is None  # it never began
    assert tracked.outcome(failed=True).facts["error"]["type"] == "Unknown"
    log = job(tmp_path)
    log.start()
    assert tracked.facts()["pid"] == os.getpid()
    log.fail(ValueError("no"))
    assert tracked.outcome(failed=True).facts["status"] == "failed"


def test_process_identity_survives_reuse_of_its_number() -> None:
    me, host = os.getpid(), environment.host()
    begun = environment.process_start(me)
    assert not records.is_dead(host, me, begun)
    assert records.is_dead(host, me, "another start") and records.is_dead(host, "4194999", begun)
    assert not records.is_dead("another machine", 4194999, begun)


def test_ledger_knows_an_outcome_not_only_a_run(tmp_path: Path) -> None:
    log = done(tmp_path, metrics={"mse": 1.0})
    ledger, record = Ledger(tmp_path), records.settled(log.run_path, log.run_path)
    assert not ledger.has("toy-1-1", record)
    ledger.logged("toy-1-1", record, "id")
    assert ledger.has("toy-1-1", record) and not ledger.has("toy-1-2", record)  # another database, another store
    done(tmp_path, metrics={"mse": 1.0})
    again = records.settled(log.run_path, log.run_path)
    assert again.key == record.key and not ledger.has("toy-1-1", again)


@pytest.mark.parametrize(
    ("command", "light"),
    [
        ("snakemake --cores 4 results/light/fsnet_ablation.json", True),
        ("snakemake --cores 4 results/fsnet_ablation.json", False),
        ("snakemake light", True),
        ("snakemake results/light/a.json results/b.json", False),
        ("snakemake --cores 2", False),
    ],
)
def test_light_runs_are_known_by_their_targets(command: str, light: bool) -> None:
    assert estimate.is_light(command) is light


def test_estimate_is_work_over_cores_but_never_below_the_longest_job(tmp_path: Path) -> None:
    path = tmp_path / "estimates.yaml"
    path.write_text("train: 600\nplot: 10\nlight:\n  train: 5\n")
    seconds = estimate.load(path, light=False)
    jobs = {"train": 5, "plot": 6, "all": 1, "total": 12}
    # 5 * 600 + 6 * 10 = 3060 s
    text = estimate.sentence(jobs, seconds, 2)
    assert (
        text == "Estimate: 51 min 00 s of computing, at least 25 min 30 s on 2 cores (most of it: train, 50 min 00 s)."
    )
    assert "at least 10 min 00 s on 64 cores" in estimate.sentence(jobs, seconds, 64)
    assert estimate.load(path, light=True) == {"train": 5.0}
    assert estimate.sentence({"other": 3}, seconds, 2) is None
    assert estimate.load(tmp_path / "none.yaml", light=False) == {}


def test_what_is_left_is_the_estimate_at_the_pace_so_far() -> None:
    rest = estimate.Rest({"train": 3, "plot": 1, "table": 1}, {"train": 100.0, "plot": 10.0}, cores=2)
    # 50 s for 100 s: half the estimate. 2 * 100 + 10 = 210 s are left, 105 s on two cores, 52.5 s at that pace.
    assert rest.finished("train", 50.0) == "Left: 4 jobs, about 52 s on 2 cores (0.5 times the estimate so far)."
    # 350 s for 200 s: 1.75. One job of 100 s can't be divided: 175 s.
    text = rest.finished("train", 300.0)
    assert text == "Left: 3 jobs, about 2 min 55 s on 2 cores (1.8 times the estimate so far)."
    assert rest.finished("table", 9.0).startswith("Left: 2 jobs, about 2 min 55 s")  # no estimate: it changes no pace
    rest.cores = None  # a cluster: how many jobs run side by side isn't known. (350 + 5) / 210 * 100 s
    assert rest.finished("plot", 5.0) == "Left: 1 job, about 2 min 49 s of computing (1.7 times the estimate so far)."
    assert rest.finished("train", 100.0) is None
    assert estimate.Rest({"other": 2}, {}, cores=2).finished("other", 1.0) is None


def test_summary_ranks_rules_by_their_summed_time_and_reads_benchmarks(tmp_path) -> None:
    header = "s\th:m:s\tmax_rss\tcpu_time\n"
    for name, peak, cpu in (("a", 512.25, 100.5), ("b", 1800, 9.5)):
        (tmp_path / f"{name}.tsv").write_text(f"{header}120.0\t0:02:00\t{peak}\t{cpu}\n")
    (tmp_path / "short.tsv").write_text(f"{header}0.1\t0:00:00\tNA\tNA\n")
    spent = {name: estimate.Spent() for name in ("plot", "train", "table")}
    spent["plot"].add(3.0, None)
    spent["plot"].add(4.0, tmp_path / "none.tsv")
    spent["train"].add(120.0, tmp_path / "a.tsv")
    spent["train"].add(10.0, tmp_path / "b.tsv")
    spent["table"].add(0.1, tmp_path / "short.tsv")
    lines = [line.split("  ") for line in estimate.summary(spent).splitlines()]
    rows = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert rows[0] == ["slowest rules", "jobs", "wall, summed", "longest job", "CPU", "peak memory of a job"]
    assert rows[2:] == [
        ["train", "2", "2 min 10 s", "2 min 00 s", "1 min 50 s", "1,800 MB"],
        ["plot", "2", "7 s", "4 s"],
        ["table", "1", "0 s", "0 s"],
    ]
    assert estimate.summary({"plot": spent["plot"]}) is None


def test_console_line_tells_the_rest_at_the_pace_since_first_seen(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    tracked = TrackedJob(1, "toy_train", {}, tmp_path / "results" / "train.run.json", first_progress=(100, 50.0))
    line = _telling(tracked, {"what": "stream", "step": 300, "total": 1000, "time": 90.0})
    assert line == "results/train: stream 300/1000 (30%), 2 min 20 s left"  # 200 steps in 40 s, 700 to go
