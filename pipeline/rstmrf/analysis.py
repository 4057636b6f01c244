"""A short report of a results table, in Markdown: what won, by how much, and what each change was worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..core.stages import Job, Result
from ..core.store import read_json

SHOWN = ("skill", "skill_sampled", "skill_unsampled", "rmse", "rmse_withheld", "rmse_hmf2_km", "rmse_tec", "coverage90")


def cell(found: Mapping[str, Any] | None) -> str:
    """Mean and standard deviation of a metric."""
    if found is None:
        return "–"
    return f"{found['mean']:.3f}" + (f" ± {found['sd']:.3f}" if found["sd"] is not None else "")


def table(block: Mapping[str, Any]) -> Iterator[str]:
    """All methods, the best first."""
    primary = block["primary"]["metric"]
    methods = {**block["arms"], **block["baselines"]}
    sign = -1 if block["primary"]["better"] == "higher" else 1
    present = [m for m in SHOWN if any(m in entry["metrics"] for entry in methods.values())]
    present = [primary, *(m for m in present if m != primary)]
    worst = "skill_worst" if any("skill_worst" in entry["vectors"] for entry in methods.values()) else None
    yield "| method | " + " | ".join(present) + (" | worst world |" if worst else " |")
    yield "|---" * (len(present) + 1 + bool(worst)) + "|"
    ranked = sorted(methods, key=lambda n: sign * methods[n]["metrics"].get(primary, {"mean": sign * 9e9})["mean"])
    for name in ranked:
        entry = methods[name]
        row = [cell(entry["metrics"].get(metric)) for metric in present]
        if worst:
            value = entry["vectors"].get(worst)
            row.append("–" if value is None else f"{value:.3f}")
        yield f"| {name} | " + " | ".join(row) + " |"


def comparisons(block: Mapping[str, Any]) -> Iterator[str]:
    for one in block["comparisons"]:
        interval = "" if one["ci95"] is None else f", 95 % interval {one['ci95'][0]:+.3f} to {one['ci95'][1]:+.3f}"
        worlds = one.get("by_world") or []
        signs = f"; {sum(v > 0 for v in worlds)} of {len(worlds)} worlds for {one['a']}" if len(worlds) > 1 else ""
        yield f"- {one['a']} against {one['b']}: skill {one['difference']:+.3f}{interval}{signs}"


def report(content: Mapping[str, Any]) -> str:
    """The whole report."""
    lines = ["# R-STMRF", ""]
    for name, block in content["scenarios"].items():
        lines += [f"## {name}", "", f"{block['description']}. Values: {block['values_of']}.", "", *table(block), ""]
        lines += [*comparisons(block), ""] if block["comparisons"] else []
        if any("rmse_withheld" in entry["metrics"] for entry in block["arms"].values()):
            lines += [block["notes"]["withheld"], ""]
    for name, reason in content["unavailable"].items():
        lines += [f"## {name}", "", f"Left out: {reason}", ""]
    return "\n".join(lines)


def analyse(job: Job, settings: Any, log: Any) -> Result:
    """Stage ``analyse``: output ``report`` (Markdown) of the input ``table``."""
    Path(job.outputs["report"]).write_text(report(read_json(job.inputs["table"])), encoding="utf-8")
    return Result(tables=("report",))
