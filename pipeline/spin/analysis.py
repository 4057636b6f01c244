"""The printed analysis of SPIN's results table, as Markdown; every number is computed from the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.figures import number
from ..core.stages import Job, Result
from ..core.store import read_json
from .attention_report import attention_section

COLUMNS = ("mae", "mae_no_line", "mse", "mre", "crps", "coverage90")


def markdown(header: list[str], rows: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def cell(entry: dict[str, Any], metric: str) -> str:
    found = (entry.get("metrics") or {}).get(metric)
    if not found or found.get("mean") is None:
        return "–"
    text = number(found["mean"])
    return f"{text} ± {number(found['sd'], 2)}" if found.get("sd") else text


def scenario(name: str, block: dict[str, Any]) -> list[str]:
    """Results, best first, and the paired comparisons."""
    primary = block["primary"]
    methods = {**block["arms"], **block["baselines"]}
    own = sorted({m for entry in methods.values() for m in (entry.get("metrics") or {}) if m.startswith("mae_")})
    columns = [
        c for c in (*COLUMNS, *(m for m in own if m not in COLUMNS)) if any(cell(e, c) != "–" for e in methods.values())
    ]

    def key(item: tuple[str, dict[str, Any]]) -> float:
        found = (item[1].get("metrics") or {}).get(primary["metric"]) or {}
        return found["mean"] if found.get("mean") is not None else float("inf")

    rows = []
    for method, entry in sorted(methods.items(), key=key):
        cost = entry.get("cost") or {}
        rows.append(
            [f"`{method}`", "arm" if method in block["arms"] else "baseline", entry.get("transductive", "–"),
             *(cell(entry, c) for c in columns),
             f"{entry['parameters']:,}" if entry.get("parameters") else "–",
             number(cost["cpu_s"], 3) if cost.get("cpu_s") is not None else "–"]
        )  # fmt: skip
    lines = [
        f"## {name}",
        "",
        f"{block['description']}. Data: {block['dataset']['name']}; unit: {primary['unit']}.",
        "",
    ]
    lines += markdown(["method", "", "transductive", *columns, "parameters", "CPU s a seed"], rows)
    pairs = []
    for pair in (p for p in block["comparisons"] if p["metric"] == primary["metric"]):
        low, high = pair.get("ci95") or (None, None)
        better = low is not None and high is not None and (high < 0 or low > 0)
        verdict = "undecided" if not better else f"`{pair['a']}` is {'better' if high < 0 else 'worse'}"
        pairs.append(
            [f"`{pair['a']}` − `{pair['b']}`", pair["metric"], number(pair["difference"]),
             f"{number(low)} … {number(high)}", str(pair.get("resampled", "")), verdict]
        )  # fmt: skip
    if pairs:
        lines += markdown(["pair", "metric", "difference", "95 % interval", "resampled by", "verdict"], pairs)
    return lines


def seed_tables(found: dict[str, Any]) -> list[str]:
    """The seed's estimates beside the counts, and its predicted losses beside the measured ones."""
    lines = ["## The seed's parameter estimates beside true counts", ""]
    rows = [
        [name, str(row["seed"]), str(row["counted"]), f"{row['error_percent']:+.1f} %",
         f"{100 * row['seed_share']:.1f} %",
         f"{100 * row['share']:.1f} %"]
        for name, row in found["components"].items()
    ]  # fmt: skip
    lines += markdown(["component", "seed", "counted", "error", "share by the seed", "share"], rows)
    rows = [
        [name, "–".join(str(v) for v in sorted(set(row["seed"]))), row["seed_section"], str(row["counted"]),
         f"{row['change_percent']:+.1f} %"]
        for name, row in found["variants"].items()
    ]  # fmt: skip
    lines += markdown(["configuration", "seed", "section", "counted", "against the base"], rows)
    rows = [
        [where, arm, f"{row['predicted_percent'][0]}–{row['predicted_percent'][1]} %", f"{row['loss_percent']:+.1f} %"]
        for where, arms in found["accuracy"].items()
        for arm, row in arms.items()
    ]
    if rows:
        lines += [
            "Loss of accuracy against the base, as the seed predicts and as measured at the same training time:",
            "",
        ]
        lines += markdown(["scenario", "arm", "predicted", "measured"], rows)
    return lines


def analyse(job: Job, settings: Any, log: Any) -> Result:
    """Stage ``analyse``. Inputs: ``table``, ``parameters``, ``attention`` (may be left out); output: ``report``."""
    table = read_json(job.inputs["table"])
    lines = ["# SPIN: what was measured", ""]
    for name, block in table["scenarios"].items():
        lines += scenario(name, block)
    for name, reason in table.get("unavailable", {}).items():
        lines += [f"## {name}", "", f"Not run: {reason}", ""]
    attention = job.inputs.get("attention") or []
    for path in [attention] if isinstance(attention, str | Path) else attention:
        lines += attention_section(read_json(path))
    lines += seed_tables(read_json(job.inputs["parameters"]))
    Path(job.outputs["report"]).write_text("\n".join(lines))
    return Result({"scenarios": float(len(table["scenarios"]))}, tables=("report",))
