"""Projects that workflow tests start from: untouched, with a run that never was, or with a finished table."""

import fcntl
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from pipeline.core.catalog import load_catalog
from pipeline.core.fetch import package_file

from .project import ROOT, Planned, Project, copy_project, jobs, until


@pytest.fixture(scope="session", autouse=True)
def heed_ctrl_c() -> None:
    """Where the tests run in the background of a shell, what they start would inherit that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
