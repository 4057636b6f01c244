"""The tracker against real Snakemake processes on the toy workflow: kills, outages, races, reruns."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
TOY = Path(__file__).parent / "toy" / "Snakefile"
PATIENCE_S = 90  # until a state is reached; a loaded machine may need long


class Toy:
    """The toy workflow in a folder of its own, and what MLflow's database says about it."""

    def __init__(self, folder: Path):
        self.folder, self.database = folder, folder / "results" / "mlflow.db"
        self.started: list[subprocess.Popen] = []

    def configure(self, **arms: dict) -> None:
        filled = {name: {"steps": 3, "pause": 0, "how": "well"} | arm for name, arm in arms.items()}
        (self.folder / "config.json").write_text(json.dumps({"arms": filled}))

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(TOY), "--configfile", "config.json"]
        command += ["--cores", "6", "--logger", "mlflow", "--logger-mlflow-interval", "0.3", *arguments]
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # a process group of its own, as a terminal gives: Ctrl-C reaches all of it
        )
        self.started.append(process)
        return process

    def call(self, *arguments: str, **environment: str) -> tuple[int, str]:
        process = self.start(*arguments, **environment)
        output = process.communicate(timeout=PATIENCE_S)[0]
        return process.returncode, output

    def environment(self, **more: str) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        return clean | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1"} | more

    def python(self, code: str, **environment: str) -> str:
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment(**environment), capture_output=True, text=True, check=True
        )
        return done.stdout

    def pid(self, arm: str) -> int:
        path = self.folder / "results" / "toy" / arm / "table.pid"
        wait_until(lambda: path.exists() and path.read_text(), f"{arm} has written its process id")
        return int(path.read_text())

    def rows(self, query: str, database: Path | None = None) -> list[tuple]:
        path = database or self.database
        if not path.exists():
            return []
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            return connection.execute(query).fetchall()

    def states(self, database: Path | None = None) -> dict[str, list[str]]:
        """Run name -> states of the runs of that name that are not deleted."""
        found: dict[str, list[str]] = {}
        query = "SELECT name, status FROM runs WHERE lifecycle_stage = 'active' ORDER BY start_time"
        for name, status in self.rows(query, database):
            found.setdefault(name, []).append(status)
        return found

    def points(self, name: str, metric: str = "loss") -> int:
        query = f"""SELECT count(*) FROM metrics JOIN runs USING (run_uuid)
                    WHERE lifecycle_stage = 'active' AND name = '{name}' AND key = '{metric}'"""
        return self.rows(query)[0][0] if self.database.exists() else 0

    def tag(self, name: str, key: str) -> list[str]:
        query = f"""SELECT value FROM tags JOIN runs USING (run_uuid)
                    WHERE lifecycle_stage = 'active' AND name = '{name}' AND key = '{key}'"""
        return [row[0] for row in self.rows(query)]


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s in vain until {what}"
        time.sleep(0.1)


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Toy]:
    toy = Toy(tmp_path)
    yield toy
    for process in toy.started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def silent_server() -> Iterator[str]:
    """A tracker that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_jobs_at_once_end_with_their_own_status_and_curves_grow_live(toy: Toy) -> None:
    long = {"steps": 3000, "pause": 0.1}
    toy.configure(
        good={"steps": 5}, broken={"how": "raise"}, early={"how": "exit"}, terminated=long, killed=long, also={}
    )
    assert not toy.database.exists()
    process = toy.start("--keep-going")

    wait_until(lambda: toy.points("train/killed") > 2, "the curve of a running job has points")
    assert toy.states()["train/killed"] == ["RUNNING"]
    before = toy.points("train/killed")
    wait_until(lambda: toy.points("train/killed") > before, "the curve grows while the job runs")

    os.kill(toy.pid("terminated"), signal.SIGTERM)
    os.kill(toy.pid("killed"), signal.SIGKILL)
    output = process.communicate(timeout=PATIENCE_S)[0]

    assert process.returncode == 1
    assert toy.states() == {
        "data/numbers": ["FINISHED"],
        "train/good": ["FINISHED"],
        "train/also": ["FINISHED"],
        "train/broken": ["FAILED"],
        "train/early": ["FAILED"],  # died before it could say anything
        "train/terminated": ["KILLED"],
        "train/killed": ["KILLED"],
        "fast": ["FAILED"],
        "shared": ["FAILED"],
    }
    # A step of the history is one point; the final value is one more, at the last step.
    assert toy.points("train/good") == 5 + 1
    assert toy.tag("train/broken", "error.message") == ["this arm diverges"]
    assert toy.tag("train/terminated", "error.type") == ["Terminated"]
    parent = toy.rows("SELECT run_uuid FROM runs WHERE name = 'fast'")[0][0]
    assert toy.tag("train/good", "mlflow.parentRunId") == [parent]
    assert "Finished jobid" in output and "1 of 8 steps" in output  # the console is Snakemake's as ever
    artefacts = {path.name for path in (toy.folder / "results" / "mlartifacts").rglob("*") if path.is_file()}
    assert {"table.csv", "train.run.json", "train.failed.json", "train.history.jsonl"} <= artefacts


def test_interrupt_leaves_nothing_running_and_a_killed_snakemake_is_swept(toy: Toy) -> None:
    toy.configure(long={"steps": 3000, "pause": 0.1})
    process = toy.start()
    wait_until(lambda: toy.states().get("train/long") == ["RUNNING"], "the job shows as running")
    os.killpg(process.pid, signal.SIGINT)  # Ctrl-C
    process.communicate(timeout=PATIENCE_S)
    assert toy.states() == {
        "data/numbers": ["FINISHED"],
        "train/long": ["KILLED"],
        "fast": ["KILLED"],
        "shared": ["FINISHED"],
    }
    assert toy.tag("train/long", "error.type") == ["KeyboardInterrupt"]

    process = toy.start("--rerun-incomplete")
    wait_until(lambda: toy.states().get("train/long") == ["RUNNING"], "the second attempt takes the run's place")
    job = toy.pid("long")
    process.kill()
    process.wait()
    os.kill(job, signal.SIGKILL)
    assert toy.states()["train/long"] == ["RUNNING"]  # nobody was left to close it

    # A start that has nothing to do closes it all the same.
    code, output = toy.call("--nolock", "results/toy/data.run.json")
    assert code == 0 and "Nothing to be done" in output
    assert toy.states()["train/long"] == ["KILLED"] and toy.states()["fast"] == ["KILLED"]

    runs = "SELECT name, run_uuid FROM runs WHERE lifecycle_stage = 'active' AND name != 'fast'"
    before = dict(toy.rows(runs))
    toy.configure(long={"steps": 4})
    code, _ = toy.call("--nolock", "--rerun-incomplete", "--forcerun", "data")
    assert code == 0
    # The same question again replaces its run and keeps its parent; other settings are another run, and the
    # interrupted one says that it is not the current one.
    assert toy.states() == {
        "data/numbers": ["FINISHED"],
        "train/long": ["KILLED", "FINISHED"],
        "fast": ["FINISHED"],
        "shared": ["FINISHED"],
    }
    after = dict(toy.rows(runs))
    assert after["data/numbers"] != before["data/numbers"] and after["shared"] == before["shared"]
    assert sorted(toy.tag("train/long", "current")) == ["false", "true"]


def test_outage_is_survived_and_two_calls_at_once_make_up_for_it_once(toy: Toy) -> None:
    toy.configure(lost={}, one={})
    with silent_server() as uri:
        code, output = toy.call(
            "results/toy/lost/train.run.json", MLFLOW_TRACKING_URI=uri, MLFLOW_HTTP_REQUEST_TIMEOUT="2"
        )
    assert code == 0 and not toy.database.exists()
    assert output.count("MLflow can't be reached") == 1 and "runs not logged yet: 2" in output

    # Both find no database and two runs to make up for, one of which the second call is just doing again.
    one = toy.start("--nolock", "results/toy/one/train.run.json")
    again = toy.start("--nolock", "results/toy/lost/train.run.json", "--forcerun", "train")
    for process in (one, again):
        output = process.communicate(timeout=PATIENCE_S)[0]
        said = re.findall(r"tracking: (.*)", output)  # of two at once the second says so, and how to avoid it
        assert process.returncode == 0 and all("take turns" in one and "MLFLOW_TRACKING_URI" in one for one in said)
    everything = {
        "data/numbers": ["FINISHED"],
        "train/lost": ["FINISHED"],
        "train/one": ["FINISHED"],
        "fast": ["FINISHED"],
        "shared": ["FINISHED"],
    }
    assert toy.states() == everything

    code = "from snakemake_logger_plugin_mlflow.sync import sync; r = sync(); print(len(r.logged), r.present)"
    other = toy.folder / "other.db"
    assert toy.python(code + "; r = sync(uri='sqlite:///other.db'); print(len(r.logged), r.present)").split() == [
        "0",  # the default store has all of them
        "3",
        "3",  # a store that was never there has none
        "0",
    ]
    assert toy.states(other) == everything


def test_dry_run_and_closed_port_import_no_mlflow(toy: Toy) -> None:
    toy.configure(one={})
    code, output = toy.call("--dry-run")
    assert code == 0 and not (toy.folder / "results").exists()
    look = """
import sys
from snakemake_logger_plugin_mlflow import LogHandler
from snakemake_logger_plugin_mlflow.writer import Writer
try:
    Writer("results", "http://127.0.0.1:1")
except Exception as error:
    print(type(error).__name__)
print(any(name.split(".")[0] in ("mlflow", "torch", "pandas", "numpy") for name in sys.modules))
"""
    assert toy.python(look).split() == ["TrackerUnavailable", "False"]


class Server:
    """A real tracking server on a database of its own, which can be stopped and started again."""

    def __init__(self, folder: Path):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.folder, self.uri, self.database = folder, f"http://127.0.0.1:{self.port}", folder / "server.db"
        self.process: subprocess.Popen | None = None
        folder.mkdir()

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.database}"]
        command += ["--artifacts-destination", str(self.folder / "kept")]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=clean, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self.answers, "the server answers")

    def answers(self) -> bool:  # a query, not a sign of life: the first one makes the database
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(f"{self.uri}/api/2.0/mlflow/experiments/search?max_results=1", timeout=30):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "server")
    try:
        server.start()
        yield server
    finally:
        server.stop()


def test_a_server_gets_runs_curves_and_artefacts_and_no_local_database_appears(toy: Toy, server: Server) -> None:
    toy.configure(one={"steps": 5}, broken={"how": "raise"})
    code, output = toy.call("--keep-going", MLFLOW_TRACKING_URI=server.uri, MLFLOW_HTTP_REQUEST_TIMEOUT="60")
    assert code == 1 and "tracking:" not in output
    assert not toy.database.exists()
    assert toy.states(server.database) == {
        "data/numbers": ["FINISHED"],
        "train/one": ["FINISHED"],
        "train/broken": ["FAILED"],
        "fast": ["FAILED"],
        "shared": ["FINISHED"],
    }
    points = """SELECT count(*) FROM metrics JOIN runs USING (run_uuid) WHERE name = 'train/one' AND key = 'loss'"""
    assert toy.rows(points, server.database) == [(5 + 1,)]  # as in the local database: the final value is one more
    kept = {path.name for path in (server.folder / "kept").rglob("*") if path.is_file()}
    assert {"table.csv", "train.run.json", "train.failed.json", "train.history.jsonl"} <= kept


def test_a_server_that_goes_down_while_a_run_is_open_is_made_up_for_by_sync(toy: Toy, server: Server) -> None:
    toy.configure(one={"steps": 5, "how": "wait"})
    tracker = {"MLFLOW_TRACKING_URI": server.uri, "MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}
    process = toy.start(**tracker)
    wait_until(lambda: toy.states(server.database).get("train/one") == ["RUNNING"], "the job shows as running")
    server.stop()
    (toy.folder / "go").touch()
    output = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 0 and (toy.folder / "results/toy/one/table.csv").exists(), output
    assert "runs not logged yet: " in output and "python -m pipeline sync" in output
    assert toy.states(server.database)["train/one"] == ["RUNNING"]  # nobody could close it

    def sync() -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "pipeline", "sync"]
        return subprocess.run(
            command, cwd=toy.folder, env=toy.environment(**tracker), capture_output=True, text=True, timeout=PATIENCE_S
        )

    down = sync()
    assert down.returncode != 0 and "can't be reached" in down.stderr and "Nothing is lost" in down.stderr
    server.start()
    done = sync()
    assert done.returncode == 0 and " runs logged, " in done.stdout, done.stderr
    assert toy.states(server.database) == {
        "data/numbers": ["FINISHED"],
        "train/one": ["FINISHED"],
        "fast": ["FINISHED"],
        "shared": ["FINISHED"],
    }
    points = """SELECT count(*) FROM metrics JOIN runs USING (run_uuid)
                WHERE lifecycle_stage = 'active' AND name = 'train/one' AND key = 'loss'"""
    assert toy.rows(points, server.database) == [(5 + 1,)]
    assert not toy.database.exists() and sync().stdout.count(": 0 runs logged, 2 were there already") == 1
