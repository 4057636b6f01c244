"""The printed analysis of a results table, as Markdown. All numbers and every verdict are computed from the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.board import Method
from ..core.errors import DataError
from ..core.figures import number
from ..core.stages import Job, Result
from ..core.store import read_json
from . import labels, study_shown
from .figures import COLUMNS


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    line = lambda cells: "| " + " | ".join(cells) + " |"  # noqa: E731
    return [line(heads), line(["---", *["---:"] * (len(heads) - 1)]), *[line(row) for row in rows]]


def _value(method: Method, metric: str, digits: int = 4) -> str:
    mean = method.mean(metric)
    if mean is None:
        return "–"
    sd = ((method.entry.get("metrics") or {}).get(metric) or {}).get("sd")
    text = f"{mean:.{digits}f}" + (f" ± {sd:.{digits}f}" if sd is not None else "")
    return text.replace("-", "−")


def methods(block: Mapping[str, Any]) -> list[Method]:
    """Arms and baselines, best joint likelihood first, those without one last."""
    entries = {**block["arms"], **block["baselines"]}
    found = [Method(name, labels.kind(name, entry), entry) for name, entry in entries.items()]
    return sorted(found, key=lambda m: -(m.mean("log_likelihood") if m.mean("log_likelihood") is not None else -1e9))


def heading(name: str, block: Mapping[str, Any]) -> list[str]:
    """What was run: data set, windows, units, and how far windows repeat each other."""
    data = block["dataset"]
    asked = data.get("requested")
    shown = data["name"] + (
        f" (asked for: {asked}, which could not be had)" if asked not in (None, data["name"]) else ""
    )
    density = data["log_density"]
    lines = [
        f"## Scenario {name}",
        "",
        f"{block['description']}.".replace("..", "."),
        "",
        f"Data: {shown}, {data['period']} (train / validation / test), {data['targets']['test']:,} test events. "
        f"Log densities in {density['time_unit']} and {density['place_unit']}, survival of the windows' ends included.",
    ]
    if data["distinct"]["test"] < 0.9 * data["n"] and data.get("stride"):
        lines.append(
            f"Windows overlap: the test events are {data['distinct']['test']:,} distinct ones, so intervals are "
            f"those of blocks of {data['block_windows']} windows."
        )
    return [*lines, ""]


def verdict(entry: Mapping[str, Any]) -> str:
    """One paired comparison in words."""
    low, high = entry["ci95"]
    better_up = entry["metric"].startswith("log_likelihood")
    if low <= 0 <= high:
        said = "no clear difference"
    else:
        said = f"`{entry['a'] if (low > 0) == better_up else entry['b']}` is better"
    text = f"{entry['difference']:+.4f} [{low:+.4f}, {high:+.4f}]".replace("-", "−")
    return f"`{entry['a']}` against `{entry['b']}`, {entry['metric']}: {text} ({entry['n']:,} events): {said}"


def calibration(found: Sequence[Method]) -> list[str]:
    """Coverage of the central 90 % interval of the gap, and the warning about CS time."""
    lines = []
    for method in found:
        curve = (method.entry.get("vectors") or {}).get("coverage_time")
        if curve:
            lines.append(
                f"- `{method.name}`: the central 90 % interval of the gap holds {100 * curve['share'][-1]:.1f} %"
            )
    if any(method.mean("cs_time") is not None for method in found):
        lines.append(
            "- CS time is kept for comparison with the paper only: it rewards forecasts that are too narrow (a "
            "calibrated log-normal scores about 0.2)."
        )
    return ["### Calibration", "", *lines, ""] if lines else []


def recovery(block: Mapping[str, Any]) -> list[str]:
    """Simulated data: the truth's likelihood and the fitted parameters beside the true ones."""
    found = block.get("recovery")
    if not found:
        return []
    lines = ["### Recovery of the simulator's parameters", ""]
    if of := (block.get("etas") or {}).get("parameters_of"):
        lines += [f"Estimates and errors are those of {of}.", ""]
    truth = found["log_likelihood_truth"]
    etas = block["baselines"].get("etas")
    if etas:
        own = etas["metrics"]["log_likelihood"]["mean"]
        lines += [f"The truth scores {truth:.4f} nats an event, the fitted ETAS {own:.4f}.".replace("-", "−"), ""]
    rows = []
    for name, one in (found.get("parameters") or {}).items():
        for place, (true, estimate, error, z) in enumerate(
            zip(*(_flat(one[key]) for key in ("truth", "estimate", "error", "z")), strict=True)
        ):
            label = name if len(_flat(one["truth"])) == 1 else f"{name}[{place}]"
            rows.append([f"`{label}`", *(f"{v:.3f}".replace("-", "−") for v in (true, estimate, error, z))])
    return [*lines, *_table(["Parameter", "truth", "estimate", "error", "z"], rows), ""]


def by_clock(block: Mapping[str, Any]) -> list[str]:
    """Clean test windows and those that have lost AM and PM, apart."""
    parts = block.get("by_clock") or {}
    stated = {metric for part in parts.values() for found in part["methods"].values() for metric in found}
    shown = [metric for metric in labels.METRICS if metric in stated]
    if not shown:
        return []
    rows = []
    for name, part in parts.items():
        for method, found in part["methods"].items():
            cells = [f"{found[metric]:.4f}".replace("-", "−") if metric in found else "–" for metric in shown]
            rows.append([f"{name} ({part['windows']}; {part.get('events', 0):,})", f"`{method}`", *cells])
    heads = ["Windows (number; events)", "method", *[labels.METRICS[metric] for metric in shown]]
    return ["### Weeks with a sound clock, and those that lost AM and PM", "", *_table(heads, rows), ""]


def consistency(block: Mapping[str, Any]) -> list[str]:
    """CSEP's tests of simulated catalogues: how far quantiles over the windows are from uniform, and the limit."""
    tests = block.get("csep")
    if not tests:
        return []
    rows, notes = [], []
    for span, found in tests.items():
        for test in ("number", "spatial", "magnitude"):
            values = found.get(f"quantiles_{test}") or []
            if not values or f"ks_{test}" not in found:
                continue
            away, limit = found[f"ks_{test}"], 1.36 / len(values) ** 0.5
            said = "consistent" if away <= limit else "not consistent"
            rows.append([span.replace("_", " "), test, str(len(values)), f"{away:.3f}", f"{limit:.3f}", said])
        notes.append(
            f"- {span.replace('_', ' ')}: {number(found['observed_mean'])} events observed, "
            f"{number(found['forecast_mean'])} forecast on average over {found['windows']} windows; the central 95 % "
            f"of the number holds {100 * found['coverage95_number']:.0f} %"
        )
    heads = ["Span", "test", "windows", "KS from uniform", "95 % limit", "ETAS is"]
    return ["### CSEP-style tests of simulated catalogues", "", *_table(heads, rows), "", *notes, ""]


def _flat(value: Any) -> list[float]:
    return [item for part in value for item in _flat(part)] if isinstance(value, list) else [float(value)]


def report(table: Mapping[str, Any], study: Mapping[str, Any] | None = None) -> str:
    """The whole report, with the sampling-time study where there is one."""
    lines = ["# SMASH: analysis", ""]
    for name, block in table["scenarios"].items():
        found = methods(block)
        shown = [metric for metric in COLUMNS if any(method.mean(metric) is not None for method in found)]
        lines += heading(name, block)
        rows = [[f"`{m.name}`", m.kind, *[_value(m, metric) for metric in shown]] for m in found]
        lines += [*_table(["Method", "kind", *[labels.METRICS[metric] for metric in shown]], rows), ""]
        if block["comparisons"]:
            lines += [f"### Paired comparisons ({block['comparisons'][0]['test']})", ""]
            lines += [*[f"- {verdict(entry)}" for entry in block["comparisons"]], ""]
        lines += calibration(found) + by_clock(block) + recovery(block) + consistency(block)
    if study:
        lines += study_shown.lines(study)
    if table.get("unavailable"):
        lines += ["## Not run", "", *[f"- {name}: {why}" for name, why in table["unavailable"].items()], ""]
    return "\n".join(lines).rstrip() + "\n"


def analyse(job: Job, settings: Any, log: Any) -> Result:
    """Stage ``analyse``: the report of a table (``table``) as Markdown (``report``); ``sampling``: the study, if any.

    Raises
    ------
    DataError
        A table of another form.
    """
    table = read_json(job.inputs["table"])
    if table.get("schema") != "ablation/1" or table.get("system") != "smash":
        raise DataError(f"{job.inputs['table']} is no results table of SMASH; make it by the stage ablation")
    study = job.inputs.get("sampling")
    Path(job.outputs["report"]).write_text(report(table, read_json(study) if study else None))
    return Result(tables=("report",))
