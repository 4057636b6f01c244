"""What a run of the workflow will cost, said before it starts, and where the time went, said at its end.

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
    # Never shorter than one job of the slowest rule: jobs are not divided among cores.
    wall = max(work / max(cores or 1, 1), max(seconds[rule] for rule in known))
    largest = max(known, key=known.__getitem__)
    unit = "1 core" if cores == 1 else f"{cores} cores"
    on = f", at least {duration(wall)} on {unit}" if cores else ""
    return f"Estimate: {duration(work)} of computing{on} (most of it: {largest}, {duration(known[largest])})."


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


def summary(spent: Mapping[str, Spent], shortest: float = 60.0, shown: int = 5) -> str | None:
    """A short table of the rules that took most; None where all took less than `shortest` seconds together."""
    total = {rule: sum(one.walls) for rule, one in spent.items()}
    if sum(total.values()) < shortest:
        return None
    rows = []
    for rule in sorted(total, key=total.__getitem__, reverse=True)[:shown]:
        one = spent[rule]
        measured = (duration(one.cpu), f"{one.peak_mb:,.0f} MB") if one.measured else ("", "")
        rows.append((rule, str(len(one.walls)), duration(total[rule]), duration(max(one.walls)), *measured))
    header = ("slowest rules", "jobs", "wall, summed", "longest job", "CPU", "peak memory of a job")
    return grid(header, rows)
