"""What is left of a run in which jobs failed: which arms and scenarios can't be shown, and why.

A table without one arm is worth more than none. When jobs have failed, the workflow is called again for the tables
alone, with the arms and scenarios that this module names left out; the table states them with their reasons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .errors import DataError
from .runlog import read_run, run_sibling

LENGTH = 400  # letters of a message; the whole of it stands in the failed.json
KILLED = "killed without a word (kill -9, out of memory, power)"


@dataclass(frozen=True)
class Work:
    """A job that was to run.

    Attributes
    ----------
    stage: name of what it does.
    needs: places, in the list of all jobs, of those whose outputs it reads.
    root, system, scenario, arm: where it belongs; None where it serves several of them.
    run, log: its record and its log file, where it has them.
    """

    stage: str
    finished: bool
    needs: tuple[int, ...] = ()
    root: str | None = None
    system: str | None = None
    scenario: str | None = None
    arm: str | None = None
    run: Path | None = None
    log: Path | None = None


@dataclass
class Losses:
    """What can't be shown: ``<root> <system> <scenario>`` -> arm -> reason, and -> reason where it is the whole of it.

    ``tables`` are the places of jobs above the scenarios that wait for nothing else.
    """

    arms: dict[str, dict[str, str]] = field(default_factory=dict)
    scenarios: dict[str, str] = field(default_factory=dict)
    tables: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.arms or self.scenarios)

    def plain(self) -> dict[str, Any]:
        """As the second call's configuration takes it; ``of`` reads it."""
        return {name: value for name, value in asdict(self).items() if name != "tables"}

    @classmethod
    def of(cls, value: Mapping[str, Any] | None) -> Losses:
        return cls(**(value or {}))


def place(root: str, system: str, scenario: str) -> str:
    """Key of a scenario in ``Losses``."""
    return f"{root} {system} {scenario}"


def losses(works: Sequence[Work], since: float) -> Losses:
    """Arms and scenarios that jobs without success have cost.

    A job is the cause where it has not finished although all that it needs has. An arm is lost by a cause of its own
    or of an arm that it needs; a scenario by a cause that is no arm's (its data, its baselines, its comparison). What
    no comparison waits for, a look at the attention of a trained arm, costs neither, but what reads it.

    Parameters
    ----------
    works: all jobs that were to run, each after those that it needs or before, in any order.
    since: time at which the run began [s since the epoch]; older records tell of another attempt.
    """
    causes: dict[int, tuple[int, ...]] = {}

    def sought(index: int) -> tuple[int, ...]:
        """Causes for which a job has not finished; none where it has."""
        if index not in causes:
            causes[index] = ()
            if not works[index].finished:
                behind = dict.fromkeys(cause for need in works[index].needs for cause in sought(need))
                causes[index] = tuple(behind) or (index,)
        return causes[index]

    compared: set[int] = set()  # what the comparisons wait for
    queue = [index for index, work in enumerate(works) if work.scenario and not work.arm]
    while queue:
        index = queue.pop()
        if index not in compared:
            compared.add(index)
            queue += works[index].needs

    found = Losses()
    for index, work in enumerate(works):
        behind = sought(index)
        if not behind:
            continue
        aside = any(works[cause].arm and cause not in compared for cause in behind)
        guilty = [works[cause] for cause in behind]
        common = next((cause for cause in guilty if not cause.arm), None)
        if not work.scenario:
            if work.system and not aside and all(cause.scenario or not cause.system for cause in guilty):
                found.tables.append(index)
        elif common:
            found.scenarios.setdefault(
                place(work.root, work.system, work.scenario), f"{common.stage}: {reason(common, since)}"
            )
        elif work.arm and index in compared:
            cause = next((one for one in guilty if one.arm == work.arm), guilty[0])
            told = f"{cause.stage}: {reason(cause, since)}"
            if cause.arm != work.arm:
                told = f"needs {cause.arm}, which failed ({told})"
            found.arms.setdefault(place(work.root, work.system, work.scenario), {}).setdefault(work.arm, told)
    return found


def reason(work: Work, since: float) -> str:
    """Why a job has failed, by the record that it left in this run; else where to look."""
    see = f"see {work.log}" if work.log else "see the output of the workflow"
    if work.run is None:
        return see
    for kind in ("failed.json", "running.json"):
        path = run_sibling(work.run, kind)
        try:
            if path.stat().st_mtime < since:
                continue
            error = read_run(path).get("error")
        except (OSError, DataError):
            continue
        if error is None:
            return KILLED
        said = " ".join(error["message"].split())
        if error["type"] not in ("PipelineError", "DataError", "ConfigError"):
            said = f"{error['type']}: {said}" if said else error["type"]
        return said if len(said) <= LENGTH else said[: LENGTH - 1] + "…"
    return see
