"""Copies of the project in which workflow tests run Snakemake, edit modules and change the configuration."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from pipeline.core.catalog import load_catalog
from pipeline.core.fetch import package_file

ROOT = Path(__file__).resolve().parents[2]
PARTS = (
    *("Snakefile", "config.yaml", "config", "workflow", "pipeline", "profiles", "envs"),
    "snakemake_logger_plugin_mlflow",
)
FAULTS = Path(__file__).parent / "faults"
PATIENCE_S = 150  # until a state is reached; a loaded machine may need long
NOWHERE = "http://127.0.0.1:9"  # a proxy that nobody serves: no test depends on a network connection


@pytest.fixture(scope="session", autouse=True)
def heed_ctrl_c() -> None:
    """Where the tests run in the background of a shell, what they start would inherit that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Planned(NamedTuple):
    """A job of a dry run."""

    rule: str
    scenario: str | None
    arm: str | None


class Done(NamedTuple):
    """A Snakemake call that has ended."""

    code: int
    text: str


@dataclass
class Project:
    """A copy of the project, and Snakemake in it: the copy's own `pipeline` comes first on the path."""

    folder: Path
    started: list[subprocess.Popen] = field(default_factory=list)

    def __truediv__(self, path: str | Path) -> Path:
        return self.folder / path

    def start(self, *arguments: str, limit_bytes: int | None = None, **environment: str) -> subprocess.Popen:
        """Snakemake in a process group of its own, as a terminal gives: Ctrl-C reaches all of it.

        limit_bytes: of every file that it or its jobs write.
        """
        limited = ["prlimit", f"--fsize={limit_bytes}"] if limit_bytes else []
        hidden = ("MLFLOW_", "PIPELINE_", "NO_PROXY", "no_proxy")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        clean |= {"PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1"}
        clean |= {name: NOWHERE for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")}
        process = subprocess.Popen(
            [*limited, sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
            cwd=self.folder,
            env=clean | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def repaired(self, *arguments: str) -> None:
        """The same call again, which must do what was left."""
        code, text = self.call(*arguments)
        assert code == 0, text

    def call(self, *arguments: str, limit_bytes: int | None = None, **environment: str) -> Done:
        process = self.start(*arguments, limit_bytes=limit_bytes, **environment)
        text = process.communicate(timeout=2 * PATIENCE_S)[0]
        return Done(process.returncode, text)

    def faults(self, **struck: str) -> dict[str, str]:
        """Environment in which jobs are struck; see faults/sitecustomize.py. `train__ogd="kill"`: that job, so."""
        path = self / "faults.json"
        path.write_text(json.dumps({name.replace("__", "/"): how for name, how in struck.items()}))
        return {"FAULTS": str(path), "PYTHONPATH": f"{self.folder}{os.pathsep}{FAULTS}"}

    def plan(self, *arguments: str) -> set[Planned]:
        """What a dry run would do."""
        code, text = self.call("-n", *arguments)
        assert code == 0, text
        return jobs(text)

    def edit(self, path: str, before: str, after: str) -> None:
        """Replace text that stands in a file exactly once."""
        text = (self / path).read_text()
        assert text.count(before) == 1, f"{path} has {before!r} {text.count(before)} times"
        (self / path).write_text(text.replace(before, after))

    def configure(self, system: str = "fsnet", **sections: dict) -> None:
        """Lay sections over the light configuration of a system; arms, scenarios and tables join by name."""
        path = self / "config/light.yaml"
        content = yaml.safe_load(path.read_text())
        for part, entries in sections.items():
            for name, entry in entries.items():
                held = content[system].setdefault(part, {})
                held[name] = held.get(name, {}) | entry if isinstance(entry, dict) else entry
        path.write_text(yaml.safe_dump(content))

    def clone(self, folder: Path) -> "Project":
        """A copy with results, records and times of change: what is finished here is finished there."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def end(self) -> None:
        """Kill what is left of the calls."""
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def jobs(text: str) -> set[Planned]:
    """The jobs that Snakemake's output announces, but target rules, and the report, which follows any table."""
    found = set()
    for rule, block in re.findall(r"^(?:local)?rule (\w+):\n((?: {4}.*\n)+)", text, re.M):
        line = re.search(r"^ {4}wildcards: (.*)$", block, re.M)
        wildcards = dict(part.split("=", 1) for part in line.group(1).split(", ")) if line else {}
        if rule not in ("all", "light", "graph", "report") and not rule.endswith("_page"):
            found.add(Planned(rule, wildcards.get("scenario"), wildcards.get("arm")))
    return found


def copy_project(folder: Path, tracked: bool) -> Project:
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, folder / name)
    project = Project(folder)
    if not tracked:
        project.edit("profiles/default/config.yaml", "logger: [mlflow]\n", "")
    return project


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a state that has to come."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s in vain until {what}"
        time.sleep(0.005)


def once(base: Path, name: str, build: Callable[[Path], None]) -> Path:
    """A folder that is built by the first of the test processes that asks for it; the others wait."""
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        finished, part = shared / name, shared / f"{name}.part"
        if not finished.exists():
            assert not part.exists(), f"{name} has failed to be built in another test process"
            part.mkdir()
            build(part)
            # Renamed at the end: Snakemake's records hold relative paths only.
            part.rename(finished)
        return finished


@pytest.fixture
def new_project(tmp_path: Path) -> Iterator[Callable[..., Project]]:
    """Makes untouched copies of the project, or clones of a prepared one."""
    made: list[Project] = []

    def make(prepared: Path | None = None, tracked: bool = False) -> Project:
        folder = tmp_path / f"project{len(made)}"
        if prepared is None:
            folder.mkdir()
        made.append(copy_project(folder, tracked) if prepared is None else Project(prepared).clone(folder))
        return made[-1]

    yield make
    for project in made:
        project.end()


def pretend(project: Project, *targets: str) -> None:
    """A run that never was: outputs are empty, Snakemake's records are as after a run."""
    code, text = project.call("-n", *targets)
    assert code == 0, text
    weather = load_catalog()["nyc_weather"]
    for output in re.findall(r"^ {4}output: (.*)$", text, re.M):
        for path in (project / name for name in output.split(", ")):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.name == weather.files[0].name:
                shutil.copy(package_file(weather, weather.files[0]), path)
            elif path.suffix in (".zarr", ""):
                path.mkdir()
            else:
                path.write_text("{}")
    code, text = project.call("--touch", "--forceall", *targets)
    assert code == 0, text


@pytest.fixture(scope="session")
def pretended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after a light run that never was."""
    base = tmp_path_factory.getbasetemp()
    return once(base, "pretended", lambda folder: pretend(copy_project(folder, tracked=False), "light"))


@pytest.fixture(scope="session")
def pretended_with(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """As `pretended`, of other targets in a project that is first made ready for them."""

    def prepared(name: str, make_ready: Callable[[Project], None], *targets: str) -> Path:
        def build(folder: Path) -> None:
            project = copy_project(folder, tracked=False)
            make_ready(project)
            pretend(project, *targets)

        return once(tmp_path_factory.getbasetemp(), name, build)

    return prepared


@pytest.fixture(scope="session")
def wait_until() -> Callable[[Callable[[], object], str], None]:
    return until


@pytest.fixture(scope="session")
def jobs_of() -> Callable[[str], set[Planned]]:
    return jobs


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Builds a project once in a whole test session, however many test processes there are."""

    def build(name: str, make: Callable[[Project], None], tracked: bool = True) -> Path:
        return once(tmp_path_factory.getbasetemp(), name, lambda folder: make(copy_project(folder, tracked)))

    return build


@pytest.fixture(scope="session")
def finished(built_once) -> Path:
    """The project after a run of two scenarios; a third one's data can't be had, and etth1 neither."""

    def run(project):
        project.configure(
            settings={
                "data": {"test_rows": 200},
                "network": {"hidden": 8, "depth": 6, "representation": 16, "controller": 8},
                "pretrain": {"epochs": 1},
            },
            scenarios={
                "delayed": {
                    "datasets": ["etth1", "nyc_weather"],
                    "seeds": [0, 1],
                    "arms": ["nomem", "fsnet_memory"],
                    "baselines": ["persistence", "seasonal_naive", "rls"],
                    "compare": [["nomem", "fsnet_memory"], ["nomem", "persistence"]],
                },
                "immediate": {
                    "seeds": [0],
                    "arms": ["nomem"],
                    "baselines": ["persistence"],
                    "compare": [["nomem", "persistence"]],
                },
            },
            tables={"ablation": ["delayed", "immediate", "delayed_ecl_h12"]},
        )
        every = re.search(r"^CHECKPOINT_EVERY = .*$", (project / "pipeline/fsnet/online.py").read_text(), re.M)
        project.edit("pipeline/fsnet/online.py", every.group(), "CHECKPOINT_EVERY = 50")
        code, text = project.call("results/light/fsnet_ablation.json")
        assert code == 0, text
        (project / "output.txt").write_text(text)

    return built_once("finished", run)


SMALL_CITY = {
    "settings": {
        "simulation": {"days": 3, "hours": 2.0, "grid": 3, "trips": 300.0},
        "network": {"window": 6, "hidden": 4, "layers": 1, "eta": 1},
        "base": {"masks": 1, "neighbours": 2, "reach": 1},
        "fit": {"steps": 6, "seconds": None, "batches_epoch": 3},
        "boosting": {"masks": 1, "trees": 5},
    },
    "scenarios": {"sumo": {"seeds": [0], "arms": ["spin"], "baselines": ["linear"], "compare": [["spin", "linear"]]}},
    "tables": {"ablation": ["sumo"]},
}


@pytest.fixture(scope="session")
def small_city() -> dict[str, dict]:
    """Sections that make SPIN's light table one scenario with one arm."""
    return SMALL_CITY


@pytest.fixture(scope="session")
def simulated(built_once) -> Path:
    """The project after SPIN's table on a small simulated city."""

    def run(project):
        project.configure("spin", **SMALL_CITY)
        code, text = project.call("results/light/spin_ablation.json")
        assert code == 0, text

    return built_once("simulated", run, tracked=False)


@pytest.fixture(scope="session")
def storm(built_once) -> Path:
    """The project after R-STMRF's table of one small world, whose background has maps of 15 degrees."""

    def run(project):
        project.configure(
            "rstmrf",
            settings={
                "iri": {"step": 15.0},
                "worlds": {"hours": 3, "profiles": 600, "dense_points": 200, "columns": 10},
                "network": {"hidden": 8, "basis": 8, "lstm": 8, "tec_factor": 30, "tec_features": 4},
                "train": {"steps": 4, "batch": 128},
                "saving": {"interval": 2},
            },
            scenarios={
                "osse": {
                    "seeds": [0],
                    "arms": ["corrected"],
                    "baselines": ["iri"],
                    "compare": [["corrected", "iri"]],
                    "settings": {"worlds": {"names": ["a90"]}},
                }
            },
            tables={"ablation": ["osse"]},
        )
        code, text = project.call("results/light/rstmrf_ablation.json")
        assert code == 0, text

    return built_once("storm", run, tracked=False)


def shown_files() -> dict[str, str]:
    """File of the project -> what the page says stands in it."""
    found = {}
    for path, block in re.findall(
        r"^`([\w./]+)`[^\n]*(?:\n[^`\n#][^\n]*)*\n+```\w+\n(.*?)^```$",
        (ROOT / "docs/extending.md").read_text(),
        re.M | re.S,
    ):
        found[path] = block
    return found


@pytest.fixture(scope="session")
def seasonal(built_once):
    """The project with the fifth system, its table, its sweep and a report of it alone."""

    def build(project):
        written = shown_files()
        for path in ("settings.py", "forecast.py", "compare.py"):
            file = project / f"pipeline/seasonal/{path}"
            file.parent.mkdir(exist_ok=True)
            file.write_text(written.pop(f"pipeline/seasonal/{path}"))
        (project / "pipeline/seasonal/__init__.py").touch()
        (project / "workflow/rules/seasonal.smk").write_text(written.pop("workflow/rules/seasonal.smk"))
        line = "SYSTEMS = {\n"
        project.edit("pipeline/registry.py", line, line + written.pop("pipeline/registry.py"))
        with (project / "config.yaml").open("a") as config:
            config.write("\n" + written.pop("config.yaml"))
        assert not written, f"the page shows {list(written)}, which this test doesn't write"
        code, text = project.call("results/light/seasonal_ablation.json", "results/light/seasonal_sweep_days.json")
        assert code == 0, text

    return built_once("seasonal", build)


@pytest.fixture(scope="session")
def tiny_smash(built_once) -> Path:
    """The project with SMASH's table of a dozen simulated windows and one arm of two steps."""

    def build(project):
        path = project / "config/light.yaml"
        content = yaml.safe_load(path.read_text())
        content["smash"]["settings"] = {
            "simulation": {"windows": 20},
            "baselines": {"samples": 4, "quantiles": 10, "errors": False, "memories": [None], "catalogues": 0},
            "training": {"steps": 2},
            "sampler": {"steps": 2, "samples": 4, "events": 10},
        }
        content["smash"]["scenarios"] = {
            "etas": {"arms": ["smash"], "baselines": ["poisson_kde", "etas"], "compare": [["smash", "etas"]]}
        }
        path.write_text(yaml.safe_dump(content))
        code, text = project.call("results/light/smash_ablation.json")
        assert code == 0, text

    return built_once("tiny_smash", build, tracked=False)
