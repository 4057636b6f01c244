"""The benchmark report: what each system measured on this machine, in a file and as a table beside published figures.

A system reports single values and rows ``name -> {column: value}``, also in named groups; each is shown as it is named
there, so published figures and the plain counterpart, timed in the same run, are columns beside the measured ones.
"""

from __future__ import annotations

import html
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .environment import versions
from .errors import PipelineError
from .home import HOME
from .pages import page
from .stages import Job, Result
from .store import read_json, write_json
from .terminal import grid, number

SCHEMA = "bench/1"
PLAIN = HOME / "tests" / "reference"  # the plain forms, which only a checkout has
Report = Mapping[str, Any]


def processor() -> str:
    """The processor's name as the system states it, "" where it doesn't."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def run(measures: Mapping[str, Callable[[], Report]], path: Path, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Measure every system in turn and write the report, and beside it a page of the same name with the same numbers.

    Parameters
    ----------
    measures: system name -> function that measures and returns its report.
    path: the report, JSON of schema ``bench/1``; systems that it has and that are not measured now are kept.
    say: gets one line a system and its table.

    Raises
    ------
    DataError
        A report at ``path`` that can't be read.
    """
    systems = dict(read_json(path).get("systems", {})) if Path(path).exists() else {}
    report: dict[str, Any] = {}
    for name, measure in measures.items():
        say(f"{name}: measuring; leave the machine alone meanwhile")
        systems[name] = measure()
        report = {
            "schema": SCHEMA,
            "systems": systems,
            "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.platform()},
            "software": versions(),
            "produced": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_json(path, report)
        Path(path).with_suffix(".html").write_text(_page(report), encoding="utf-8")
        say(table(systems[name]))
    return report


def record(measure: Callable[[], Report], job: Job) -> Result:
    """Stage ``bench`` of a system: what ``measure`` returns as the JSON file ``report``, its numbers as metrics."""
    measured = measure()
    write_json(job.outputs["report"], measured)
    return Result(dict(_numbers(measured, "")), tables=("report",))


def _numbers(report: Report, prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in report.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)


def start(systems: Sequence[str]) -> Report:
    """CPU seconds that a start of the workflow takes before any job, beside an empty workflow's, one row a target.

    The targets are the systems' default tables at both sizes, and everything.

    Dry runs in this folder, imports and the whole DAG included: what a call with nothing to do costs where the target
    is finished (``jobs`` is 0), and a little less than its start where it isn't. The aim is 5 s.
    """
    rows: dict[str, Any] = {}
    targets = [f"{root}/{name}_ablation.json" for root in ("results/light", "results") for name in systems] + ["all"]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "Snakefile").write_text("rule all:\n    input: []\n")
        empty = min(_dry_run([], folder)[0] for _ in range(2))
    for target in targets:
        seconds, text = min(_dry_run([target], ".") for _ in range(2))
        jobs = re.search(r"^total +(\d+)$", text, re.M)
        row = {"cpu_s": seconds, "empty_workflow_s": empty, "ratio": seconds / empty}
        rows[target] = row | {"jobs": int(jobs.group(1)) if jobs else 0}
    return rows


def _dry_run(targets: Sequence[str], folder: str) -> tuple[float, str]:
    """CPU seconds and output of Snakemake's dry run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", *targets]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise PipelineError(f"`{' '.join(command[1:])}` fails:\n{(done.stderr or done.stdout)[-2000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout + done.stderr


def table(report: Report) -> str:
    """A system's report as text: rows as a table with a column for every key, in order of appearance; then the rest."""
    rows = {name: value for name, value in report.items() if _is_row(value)}
    parts = []
    for name, value in report.items():
        if isinstance(value, Mapping) and name not in rows:
            parts.append(f"{name}\n{table(value)}")
    if rows:
        columns = list(dict.fromkeys(key for row in rows.values() for key in row))
        body = [[name, *(_cell(row.get(column)) for column in columns)] for name, row in rows.items()]
        parts.append(grid(["", *columns], body))
    parts += [f"{name}: {_cell(value)}" for name, value in report.items() if not isinstance(value, Mapping)]
    return "\n".join(parts)


def _page(report: Report) -> str:
    """The report as a page that opens from disk."""
    told = [report["produced"], *map(str, report["machine"].values())]
    parts = [f'<p class="note">{html.escape(", ".join(told))}</p>']
    for name, measured in report["systems"].items():
        parts.append(f"<h2>{html.escape(name)}</h2><pre>{html.escape(table(measured))}</pre>")
    return page("Benchmarks", "\n".join(parts))


def _is_row(value: Any) -> bool:
    return isinstance(value, Mapping) and not any(isinstance(item, Mapping) for item in value.values())


def _cell(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    return number(value)
