"""What a run of the workflow will cost, said before it starts, and where the time went, said at its end.

The first is `workflow/estimates.yaml` (CPU seconds of one job of each rule) times the number of jobs.
"""

from collections.abc import Mapping
from pathlib import Path

from pipeline.core.progress import duration

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


def slowest(times: Mapping[str, list[float]], shortest: float = 60.0, shown: int = 5) -> str | None:
    """One line on the rules that took most; None where all took less than `shortest` seconds together.

    times: rule -> wall seconds of each of its jobs.
    """
    total = {rule: sum(seconds) for rule, seconds in times.items()}
    if sum(total.values()) < shortest:
        return None
    first = sorted(total, key=total.__getitem__, reverse=True)[:shown]
    counts = {rule: f"{len(times[rule])} job{'s' * (len(times[rule]) != 1)}" for rule in first}
    parts = (f"{rule} {duration(total[rule])} ({counts[rule]})" for rule in first if total[rule] >= 1)
    return f"Slowest rules, wall time summed over their jobs: {', '.join(parts)}."
