"""The files that a job leaves: what they say, when they appear, and what a kill or a resume makes of them."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import environment, progress
from pipeline.core.errors import PipelineError
from pipeline.core.runlog import (
    RunFacts,
    RunLog,
    Terminated,
    idempotency_key,
    read_history,
    read_run,
    run_sibling,
)
from pipeline.core.store import digest

FACTS = {"system": "fsnet", "stage": "train", "root": "results", "settings": {"eta": 0.003}, "scenario": "delayed"}


def facts(**changes) -> RunFacts:
    return RunFacts(**(FACTS | changes))


def begun(folder: Path, **changes) -> RunLog:
    log = RunLog(folder / "train.run.json", facts(**changes), log_path=folder / "train.log")
    log.start()
    return log


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_run_json_holds_the_contract_and_replaces_the_running_file(tmp_path: Path) -> None:
    data = tmp_path / "series.csv"
    data.write_bytes(b"abc")
    log = begun(tmp_path, inputs={"series": data}, outputs={"forecast": Path("f.zarr")}, seeds=[0, 1], arm="nomem")
    running = read_run(tmp_path / "train.running.json")
    assert (running["status"], running["pid"]) == ("running", os.getpid())
    assert not (tmp_path / "train.run.json").exists()

    log.checkpoint_path(".safetensors").write_text("state")
    log.history(1, total=2, mse=0.5)
    written = log.finish({"mse": 0.25, "ratio": float("nan")}, figures=[Path("a.png")], dataset_info={"name": "etth1"})

    run = read_run(tmp_path / "train.run.json")
    assert run == json.loads(json.dumps(written))
    # SHA-256 of "abc": FIPS 180-2, appendix B.1
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert run["inputs"] == {"series": {"path": str(data), "sha256": abc}}
    expected = {
        "schema": "run/1",
        "status": "done",
        "system": "fsnet",
        "stage": "train",
        "root": "results",
        "scenario": "delayed",
        "dataset": None,
        "arm": "nomem",
        "settings": {"eta": 0.003},
        "seeds": [0, 1],
        "outputs": {"forecast": "f.zarr"},
        "metrics": {"mse": 0.25, "ratio": None},  # JSON has no NaN
        "figures": ["a.png"],
        "tables": [],
        "weights": [],
        "dataset_info": {"name": "etth1"},
        "threads": 1,
        "device": "cpu",
    }
    assert expected.items() <= run.items()
    assert set(run["cost"]) == {"wall_s", "cpu_s", "peak_rss_mb"} and run["started"] <= run["ended"]
    assert set(run["git"]) == {"commit", "dirty"} and run["versions"]["python"] == sys.version.split()[0]
    assert names(tmp_path) == {"series.csv", "train.run.json", "train.history.jsonl"}  # no checkpoint, no leftovers


def test_failure_is_recorded_until_the_next_start(tmp_path: Path) -> None:
    log = begun(tmp_path)
    log.checkpoint_path().write_text("state")
    try:
        raise ValueError("loss is not finite")
    except ValueError as error:
        log.fail(error)
    failed = read_run(tmp_path / "train.failed.json")
    assert failed["status"] == "failed" and failed["error"]["message"] == "loss is not finite"
    assert "test_failure_is_recorded" in failed["error"]["traceback"]
    assert names(tmp_path) == {"train.failed.json", "train.checkpoint"}  # what a next attempt needs stays
    begun(tmp_path).finish({})
    assert names(tmp_path) == {"train.run.json"}


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyboardInterrupt(), "killed"), (Terminated(), "killed"), (SystemExit(1), "failed"), (MemoryError(), "failed")],
)
def test_interruptions_are_kills_not_failures(tmp_path: Path, error: BaseException, status: str) -> None:
    begun(tmp_path).fail(error)
    assert read_run(tmp_path / "train.failed.json")["status"] == status


def test_sigterm_becomes_an_exception_between_start_and_end_only(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    log = begun(tmp_path)
    with pytest.raises(Terminated) as caught:
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.code == 143  # 128 + 15, what a shell reports
    log.fail(caught.value)
    assert signal.getsignal(signal.SIGTERM) == before


def test_start_in_another_thread_leaves_signals_alone(tmp_path: Path) -> None:
    thread = threading.Thread(target=lambda: begun(tmp_path).finish({}))
    thread.start()
    thread.join()
    assert read_run(tmp_path / "train.run.json")["status"] == "done"


def test_kill_leaves_a_whole_running_file_and_history(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from pipeline.core.runlog import RunFacts, RunLog
log = RunLog(Path({str(tmp_path)!r}) / "train.run.json", RunFacts(**{FACTS!r}))
log.start()
for step in range(100):
    log.history(step, mse=1 / (step + 1))
import os, signal
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3])
    assert done.returncode == -signal.SIGKILL
    running = read_run(tmp_path / "train.running.json")
    assert environment.process_start(running["pid"]) != running["process_start"]  # known to be dead
    assert [entry["step"] for entry in read_history(tmp_path / "train.run.json")] == list(range(100))


@given(done=st.integers(0, 30), checkpoint=st.integers(0, 30), torn=st.booleans())
def test_resumed_history_is_that_of_an_unbroken_run(tmp_path_factory, done: int, checkpoint: int, torn: bool) -> None:
    folder = tmp_path_factory.mktemp("resume")
    checkpoint = min(checkpoint, done)
    first = begun(folder)
    for step in range(1, done + 1):
        first.history(step, total=31, mse=1 / step)
    if torn:  # a kill in the middle of a line
        with run_sibling(first.run_path, "history.jsonl").open("a") as stream:
            stream.write('{"step": 99, "ti')
    begun(folder)  # an attempt that is killed before it has loaded its checkpoint
    second = begun(folder)
    second.resume(checkpoint)
    for step in range(checkpoint + 1, 32):
        second.history(step, total=31, mse=1 / step)
    run = second.finish({})
    history = read_history(second.run_path)
    assert [entry["step"] for entry in history] == list(range(1, 32))
    assert [entry["metrics"]["mse"] for entry in history] == [1 / step for step in range(1, 32)]
    assert run["resumed"] == checkpoint


def test_history_without_resume_starts_empty(tmp_path: Path) -> None:
    begun(tmp_path).history(1, mse=1.0)
    log = begun(tmp_path)
    assert read_history(log.run_path) == []
    log.history(7, mse=float("inf"))
    entry = read_history(log.run_path)[0]
    assert (entry["step"], entry["total"], entry["metrics"]) == (7, None, {"mse": None})
    with pytest.raises(RuntimeError, match="before the first history"):
        log.resume(3)


def test_history_line_is_on_disk_when_the_call_returns(tmp_path: Path) -> None:
    log = begun(tmp_path)
    for step in range(3):
        log.history(step, mse=0.0)
        assert len((tmp_path / "train.history.jsonl").read_text().splitlines()) == step + 1


def test_key_is_the_documented_hash_and_depends_on_what_it_names() -> None:
    question = {
        "root": "results",
        "system": "fsnet",
        "stage": "train",
        "scenario": "delayed",
        "dataset": None,
        "arm": None,
        "settings": {"eta": 0.003},
        "seeds": [],
        "inputs": {"series": "00"},
    }
    text = json.dumps(question, sort_keys=True, separators=(",", ":"))
    key = idempotency_key(facts(), {"series": "00"})
    assert key == hashlib.sha256(text.encode()).hexdigest()[:16]
    changes = [
        {"settings": {"eta": 0.004}},
        {"seeds": [1]},
        {"arm": "er"},
        {"root": "results/light"},
        {"stage": "plot"},
        {"wildcards": {"root": "results", "day": "20240510"}},
        {"wildcards": {"root": "results", "day": "20240511"}},
    ]
    others = {idempotency_key(facts(**change), {"series": "00"}) for change in changes}
    others.add(idempotency_key(facts(), {"series": "01"}))
    assert key not in others and len(others) == len(changes) + 1
    same = facts(threads=4, device="cuda", rule="fsnet_train", wildcards={"root": "results"}, outputs={"a": Path("b")})
    assert idempotency_key(same, {"series": "00"}) == key


def test_key_ignores_times_in_json_inputs_but_not_their_numbers(tmp_path: Path) -> None:
    table, upstream = tmp_path / "ablation.json", tmp_path / "up.run.json"

    def key(cost: float, mse: float, started: str, upstream_key: str = "k") -> str:
        arm = {"metrics": {"mse": mse}, "cost": {"train_s": cost}}
        table.write_text(json.dumps({"produced": started, "arms": {"nomem": arm}}))
        upstream.write_text(json.dumps({"schema": "run/1", "key": upstream_key, "started": started, "cost": cost}))
        log = begun(tmp_path, inputs={"table": table, "upstream": upstream})
        log.fail(KeyboardInterrupt())
        return log.key

    first = key(1.0, 0.05, "2026-01-01")
    assert key(2.0, 0.05, "2026-01-02") == first
    assert key(1.0, 0.06, "2026-01-01") != first
    assert key(1.0, 0.05, "2026-01-01", "other") != first


def test_directory_digest_sees_names_and_contents_not_order_or_place(tmp_path: Path) -> None:
    def tree(name: str, files: dict[str, str]) -> Path:
        for relative, text in files.items():
            path = tmp_path / name / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / name

    one = digest(tree("one", {"a/0": "x", "b": "y"}))
    assert digest(tree("two", {"b": "y", "a/0": "x"})) == one
    assert digest(tree("three", {"a/1": "x", "b": "y"})) != one
    assert digest(tree("four", {"a/0": "x", "b": "z"})) != one


def test_lists_of_paths_get_numbered_names(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    log = begun(tmp_path, inputs={"parts": [tmp_path / "a", tmp_path / "b"]})
    assert list(log.finish({})["inputs"]) == ["parts.0", "parts.1"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [(None, "can't be read"), ("{", "isn't JSON"), ("[]", "schema is 'list'"), ('{"schema": "run/0"}', "'run/0'")],
)
def test_unreadable_run_files_are_named(tmp_path: Path, text: str | None, complaint: str) -> None:
    path = tmp_path / "x.run.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PipelineError, match=complaint) as caught:
        read_run(path)
    assert str(path) in str(caught.value)


def test_progress_lines_fall_due_at_growing_gaps_and_tell_rate_and_rest() -> None:
    now, lines, states = [0.0], [], []
    bar = progress.Progress(
        1000, "stream", write=lambda text: lines.append((now[0], text)), report=states.append, clock=lambda: now[0]
    )
    for step in range(1, 1001):  # one step a second
        now[0] = float(step)
        bar.update(step)
    bar.close()
    bar.close()
    # 5 s, then gaps of 10, 20, 40, 60, 60, …
    due = [5, 15, 35, 75] + list(range(135, 1000, 60))
    assert [when for when, _ in lines] == [*map(float, due), 1000.0]
    assert lines[3][1] == "stream: 75/1000 (8%), 1/s, 15 min 25 s left"
    assert lines[-1][1] == "stream: 1000/1000 in 16 min 40 s"
    assert states[0]["step"] == 2 and len(states) == 500  # every 2 s


def test_resumed_progress_counts_its_rate_from_where_it_began() -> None:
    now, lines = [0.0], []
    bar = progress.Progress(100, "stream", write=lines.append, initial=50, clock=lambda: now[0])
    now[0] = 10.0
    bar.update(60)  # 10 steps in 10 s, not 60
    assert lines == ["stream: 60/100 (60%), 1/s, 40 s left"]


def test_progress_iterates_and_reaches_the_running_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "REPORT_GAP_S", 0.0)
    log = begun(tmp_path)
    assert list(log.progress("abc", "letters")) == ["a", "b", "c"]
    state = read_run(tmp_path / "train.running.json")["progress"]
    assert (state["what"], state["step"], state["total"]) == ("letters", 3, 3)
    log.info("done with letters")
    text = (tmp_path / "train.log").read_text()
    assert "letters: 3/3" in text and "done with letters" in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")]
)
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert progress.duration(seconds) == text


def test_peak_memory_sees_an_allocation() -> None:
    code = (
        "from pipeline.core.environment import peak_rss_mb\n"
        "before = peak_rss_mb(); block = bytearray(200 * 2**20); del block\n"
        "print(before, peak_rss_mb())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True, check=True)
    before, after = map(float, done.stdout.split())
    assert before < 100 and 195 < after - before < 215
