"""Running a stage: validate, seed, run on temporary paths, move into place, record.

This is the only place where outputs become visible, so that a kill never leaves a half-written file that looks whole.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from .config import Model, validated
from .errors import PipelineError

PACKAGE = Path(__file__).resolve().parent.parent
IMPORT = re.compile(r"^[ \t]*((?:from[ \t]+[.\w]+[ \t]+import[ \t]+(?:\([^)]*\)|[\w*])|import[ \t]+\w)[^\n;#]*)", re.M)


@dataclass(frozen=True)
class Job:
    """One job of the workflow, free of Snakemake.

    Attributes
    ----------
    system, stage: which stage function runs.
    inputs, outputs: name -> path (or list of paths); inside a stage function outputs are temporary paths.
    settings: plain data, the leaf of the configuration that the stage reads.
    seeds: one run each.
    facts: root, scenario, dataset, arm and whatever else identifies the job; goes into ``run.json``.
    """

    system: str
    stage: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    settings: dict[str, Any]
    seeds: list[int] = field(default_factory=lambda: [0])
    threads: int = 1
    device: str = "auto"
    facts: dict[str, Any] = field(default_factory=dict)
    log: Path | None = None


@dataclass(frozen=True)
class Result:
    """What a stage function reports: scalars, and the names of the outputs that are pictures, tables or weights."""

    metrics: dict[str, float] = field(default_factory=dict)
    figures: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    dataset: dict[str, Any] | None = None


@dataclass(frozen=True)
class Stage:
    """A stage of a system: ``function`` as ``module:name`` (imported by the job only) and its settings model."""

    function: str
    model: type[Model]
    torch: bool = False

    @property
    def groups(self) -> list[str]:
        """Top-level settings that the stage reads."""
        return list(self.model.model_fields)

    def load(self) -> Callable[..., Result]:
        module, name = self.function.split(":")
        return getattr(importlib.import_module(module), name)


class Shown(Model):
    """Settings of stages that draw."""

    language: Literal["en", "zh"] = "en"


# Stages that every system has without a line of its own.
COMMON = {
    "sweep": Stage("pipeline.core.sweep_table:summarise", Shown),
    "page": Stage("pipeline.core.pages:render", Model),
}


@cache
def _imports(module: Path) -> tuple[Path, ...]:
    """Files of this package that a module's source imports anywhere, lazily or not."""
    found = set()
    parts = [PACKAGE.name, *module.relative_to(PACKAGE).with_suffix("").parts]
    package = parts[:-1]
    # Only the import statements are parsed: every start of the workflow does this for every module.
    for node in (ast.parse(found.group(1)).body[0] for found in IMPORT.finditer(module.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names = [stem, *(f"{stem}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            steps = name.split(".")
            if steps[0] != PACKAGE.name:
                continue
            path = PACKAGE.parent.joinpath(*steps)
            for candidate in (path.with_suffix(".py"), path / "__init__.py"):
                if candidate.is_file():
                    found.add(candidate)
    return tuple(sorted(found))


@cache
def code(function: str) -> tuple[str, ...]:
    """Source files that a stage function's module imports, itself included: the rule's ``code=`` inputs."""
    first = PACKAGE.parent.joinpath(*function.split(":")[0].split(".")).with_suffix(".py")
    seen, queue = set(), [first]
    while queue:
        module = queue.pop()
        if module not in seen:
            seen.add(module)
            queue += _imports(module)
    return tuple(str(path) for path in sorted(seen) if path.stat().st_size)


def set_up(seeds: Iterable[int], threads: int, device: str, torch_used: bool) -> str:
    """Seed every generator, bound the threads and resolve ``auto`` to a device name."""
    import random

    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)  # read when numpy is loaded
    import numpy as np

    first = next(iter(seeds), 0)
    random.seed(first)
    np.random.seed(first)
    if not torch_used:
        return "cpu"
    import torch

    torch.manual_seed(first)
    torch.set_num_threads(threads)
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise PipelineError("device: cuda was asked for, but no CUDA device is visible; use auto or cpu")
    return "cuda" if device != "cpu" and available else "cpu"


def _temporary(path: Path) -> Path:
    return path.with_name(f".part-{path.name}")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def run(job: Job, stage: Stage) -> Result:
    """Run one stage.

    Outputs are written under temporary names in their own folders and moved into place together after the stage
    function has returned; ``run`` (the run's record) comes last, so it exists only beside complete outputs.

    Raises
    ------
    ConfigError
        Settings that the stage's model does not allow.
    PipelineError
        From the stage, for bad input; recorded in ``<stem>.failed.json``.
    """
    from .damage import unwritable
    from .runlog import RunFacts, RunLog
    from .store import digest

    record = Path(job.outputs["run"])
    final = {name: Path(path) for name, path in job.outputs.items() if name != "run"}
    parts = {name: _temporary(path) for name, path in final.items()}
    settings = validated(stage.model, job.settings, f"{job.system}.{job.stage}")
    device = set_up(job.seeds, job.threads, job.device, stage.torch)
    known = {name: job.facts.get(name) for name in ("scenario", "dataset", "arm", "rule")}
    facts = RunFacts(
        system=job.system,
        stage=job.stage,
        root=job.facts.get("root", "results"),
        settings=settings.model_dump(mode="json"),
        seeds=job.seeds,
        inputs={name: value for name, value in job.inputs.items() if name != "code" and value},
        outputs=final,
        threads=job.threads,
        device=device,
        wildcards=job.facts.get("wildcards", {}),
        **known,
    )
    log = RunLog(record, facts, log_path=job.log)
    try:
        log.start()
        for path in parts.values():
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove(path)
        result = stage.load()(replace(job, outputs={**parts, "run": record}, device=device), settings, log)
        missing = [str(final[name]) for name, path in parts.items() if not path.exists()]
        if missing:
            raise PipelineError(f"{job.system}.{job.stage} did not write {', '.join(missing)}")
        digests = {os.path.relpath(final[name], record.parent): digest(path) for name, path in parts.items()}
        for name, path in parts.items():
            _remove(final[name])
            os.replace(path, final[name])
        log.finish(
            result.metrics,
            dataset_info=result.dataset,
            digests=digests,
            **{kind: _files(final, getattr(result, kind)) for kind in ("figures", "tables", "weights")},
        )
        return result
    except BaseException as error:
        told = unwritable(error, record.parent)
        with suppress(OSError):  # what can't be written can't be tidied up or recorded either: the message must do
            for path in parts.values():
                _remove(path)
            log.fail(told or error)
        if told:
            raise told from error
        raise


def _files(outputs: dict[str, Path], names: tuple[str, ...]) -> list[Path]:
    """The files behind output names; a folder stands for all files in it."""
    paths = [outputs[name] for name in names]
    return [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
