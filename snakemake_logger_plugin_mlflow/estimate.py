"""What a run of the workflow will cost, said before it starts, what is left of it, and where the time went at its end.

The first is `workflow/estimates.yaml` (CPU seconds of one job of each rule) times the number of jobs.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core.progress import duration
from pipeline.core.terminal import grid

FILE = Path("workflow/estimates.yaml")


def load(path: Path, light: bool) -> dict[str, float]:
    """CPU seconds of one job of each rule: {rule: s, …, light: {rule: s, …}}, where `light` holds those of a light run.

    Empty when the file is missing or isn't of this form: an estimate is no reason to stop.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
        small = content.pop("light", {})
        return {str(rule): float(seconds) for rule, seconds in (small if light else content).items()}
    except (OSError, TypeError, ValueError, AttributeError, yaml.YAMLError):
        return {}


def is_light(command: str) -> bool:
    """Whether everything that was asked for lies below results/light, or is the target `light`."""
    words = command.split()
    targets = [word for word in words if word.startswith("results/") or word in ("all", "light")]
    return bool(targets) and all(word == "light" or word.startswith("results/light") for word in targets)


def sentence(jobs: Mapping[str, int], seconds: Mapping[str, float], cores: int | None) -> str | None:
    """One line, or None where nothing is known of these rules.

    jobs: rule -> number of jobs (Snakemake's statistics, with their "total").
    """
    known = {rule: count * seconds[rule] for rule, count in jobs.items() if rule in seconds and rule != "total"}
    work = sum(known.values())
    if work <= 0:
        return None
    wall = shortest(known, seconds, cores)
    largest = max(known, key=known.__getitem__)
    on = f", at least {duration(wall)} on {_unit(cores)}" if cores else ""
    return f"Estimate: {duration(work)} of computing{on} (most of it: {largest}, {duration(known[largest])})."


def shortest(work: Mapping[str, float], seconds: Mapping[str, float], cores: int | None) -> float:
    """Seconds of the work on so many cores, never less than one job of its slowest rule: jobs are not divided."""
    return max(sum(work.values()) / max(cores or 1, 1), max(seconds[rule] for rule in work))


def _unit(cores: int) -> str:
    return "1 core" if cores == 1 else f"{cores} cores"


@dataclass
class Rest:
    """What is left of a run, at the pace that it has had.

    jobs: rule -> number of jobs to finish. seconds: as :func:`load` gives them.
    """

    jobs: dict[str, int]
    seconds: Mapping[str, float]
    cores: int | None
    estimated: float = 0.0  # seconds, of the finished jobs
    measured: float = 0.0

    def finished(self, rule: str, wall: float) -> str | None:
        """Count a job that has taken ``wall`` seconds; a line on the rest, None where nothing can be said of it.

        The estimate of the rest is scaled by how long the finished jobs took against theirs; running jobs count whole.
        """
        self.jobs[rule] = max(self.jobs.get(rule, 0) - 1, 0)
        if rule in self.seconds:
            self.estimated, self.measured = self.estimated + self.seconds[rule], self.measured + wall
        work = {one: count * self.seconds[one] for one, count in self.jobs.items() if count and one in self.seconds}
        if not work or self.estimated <= 0:
            return None
        pace = self.measured / self.estimated
        if self.cores:
            rest = f"about {duration(pace * shortest(work, self.seconds, self.cores))} on {_unit(self.cores)}"
        else:
            rest = f"about {duration(pace * sum(work.values()))} of computing"
        count = sum(self.jobs.values())
        return f"Left: {count} job{'s' * (count > 1)}, {rest} ({pace:.2g} times the estimate so far)."


@dataclass
class Spent:
    """What the jobs of one rule have taken."""

    walls: list[float] = field(default_factory=list)  # seconds
    cpu: float = 0.0  # seconds, of the jobs with a benchmark
    peak_mb: float = 0.0  # the largest resident memory of a job with a benchmark
    measured: int = 0

    def add(self, wall: float, benchmark: Path | None) -> None:
        self.walls.append(wall)
        try:
            rows = list(csv.DictReader(benchmark.open(), delimiter="\t")) if benchmark else []
            cpu, peak = sum(float(row["cpu_time"]) for row in rows), max(float(row["max_rss"]) for row in rows)
        except (OSError, ValueError, KeyError):  # none, or of a job that was too short to be measured
            return
        self.cpu, self.peak_mb, self.measured = self.cpu + cpu, max(self.peak_mb, peak), self.measured + 1


def summary(spent: Mapping[str, Spent], least: float = 60.0, shown: int = 5) -> str | None:
    """A short table of the rules that took most; None where all took less than `least` seconds together."""
    total = {rule: sum(one.walls) for rule, one in spent.items()}
    if sum(total.values()) < least:
        return None
    rows = []
    for rule in sorted(total, key=total.__getitem__, reverse=True)[:shown]:
        one = spent[rule]
        measured = (duration(one.cpu), f"{one.peak_mb:,.0f} MB") if one.measured else ("", "")
        rows.append((rule, str(len(one.walls)), duration(total[rule]), duration(max(one.walls)), *measured))
    header = ("slowest rules", "jobs", "wall, summed", "longest job", "CPU", "peak memory of a job")
    return grid(header, rows)
