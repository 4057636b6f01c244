"""A copy of the project in which a workflow test runs Snakemake, edits modules and changes the configuration."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[2]
PARTS = (
    *("Snakefile", "config.yaml", "config", "workflow", "pipeline", "profiles", "envs"),
    "snakemake_logger_plugin_mlflow",
)
FAULTS = Path(__file__).parent / "faults"
PATIENCE_S = 150  # until a state is reached; a loaded machine may need long
HANGS_S = 1800  # a call of Snakemake; a minute's work takes many where others have the processors
NOWHERE = "http://127.0.0.1:9"  # a proxy that nobody serves: no test depends on a network connection


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

    def repaired(self, *arguments: str, **environment: str) -> None:
        """The same call again, which must do what was left."""
        code, text = self.call(*arguments, **environment)
        assert code == 0, text

    def call(self, *arguments: str, limit_bytes: int | None = None, **environment: str) -> Done:
        process = self.start(*arguments, limit_bytes=limit_bytes, **environment)
        try:
            text = process.communicate(timeout=HANGS_S)[0]
        except subprocess.TimeoutExpired:
            self.end()
            raise
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
