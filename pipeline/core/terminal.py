"""Tables for people to read in a terminal: aligned text, and the summary of a results file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

WIDTH = 120  # columns of a results table; what doesn't fit is named below it


def number(value: Any, digits: int = 4) -> str:
    """A value as it is shown: four significant digits (trailing zeros too), "" for nothing, text as it is."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:#.{digits}g}".rstrip(".") if abs(value) < 10**digits else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _numeric(text: str) -> bool:
    return not text or text.lstrip("+-−~").replace(",", "")[:1].isdigit()


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under a header with aligned columns; a column that holds numbers alone is set flush right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(name), *(len(row[i]) for row in cells), 0) for i, name in enumerate(header)]
    right = [bool(cells) and all(_numeric(row[i]) for row in cells) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)).rstrip()

    return "\n".join([line(header), "  ".join("-" * width for width in widths), *map(line, cells)])


def _spread(metric: Mapping[str, Any] | None) -> str:
    """A metric as mean ± sd; the mean alone where there is one value."""
    if not metric or metric.get("mean") is None:
        return ""
    if len(metric.get("values") or []) < 2 or metric.get("sd") is None:
        return number(metric["mean"])
    return f"{number(metric['mean'])} ± {number(metric['sd'], 2)}"


def _members(block: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Arms and baselines of a scenario as (name, kind, record), best first; failed ones last."""
    members = [(name, "arm", record) for name, record in block["arms"].items()]
    members += [(name, "baseline", record) for name, record in block["baselines"].items()]
    metric, sign = block["primary"]["metric"], 1 if block["primary"].get("better", "lower") == "lower" else -1

    def place(member: tuple[str, str, Mapping[str, Any]]) -> tuple[bool, float]:
        mean = (member[2].get("metrics") or {}).get(metric, {}).get("mean")
        return (mean is None, 0.0 if mean is None else sign * mean)

    return sorted(members, key=place)


def _metrics(block: Mapping[str, Any], order: Sequence[str]) -> list[str]:
    """Metrics of a scenario: the primary one, then those of ``order``, then the rest as they stand."""
    present = dict.fromkeys(m for _, _, record in _members(block) for m in record.get("metrics") or {})
    return list(dict.fromkeys([block["primary"]["metric"], *(m for m in order if m in present), *present]))


def scenario(name: str, block: Mapping[str, Any], order: Sequence[str] = (), width: int = WIDTH) -> str:
    """One scenario of a results file: a table of arms and baselines, then the paired comparisons.

    Parameters
    ----------
    name, block: the scenario's name and its entry in a file of schema ``ablation/1``.
    order: metrics to show right after the primary one.
    width: columns of the terminal; metrics that don't fit are named below the table.
    """
    dataset, primary = block["dataset"], block["primary"]
    title = f"{name}: {block['description']}"
    if block["leaky"]:
        title += "  [LEAKY: learns from labels that it should not know yet]"
    used = f"data: {dataset['name']}"
    if dataset.get("requested") not in (None, dataset["name"]):
        used += f" IN PLACE OF {dataset['requested']}"
    facts = [used, f"source {dataset['source']}"] + [str(dataset[k]) for k in ("period", "licence") if dataset.get(k)]
    better = primary.get("better", "lower")
    lines = [title, "; ".join(facts), f"primary: {primary['metric']} [{primary['unit']}], {better} is better", ""]

    members = _members(block)
    columns = {
        "": [name + " (leaky)" * (block["leaky"] and kind == "arm") for name, kind, _ in members],
        "kind": [kind for _, kind, _ in members],
        "seeds": [str(len(record["seeds"])) if "seeds" in record else "" for _, _, record in members],
    }
    room = width - sum(2 + max(map(len, [name, *cells])) for name, cells in columns.items())
    left_out = []
    for metric in _metrics(block, order):
        cells = [_spread((record.get("metrics") or {}).get(metric)) for _, _, record in members]
        if metric == primary["metric"]:
            cells = [
                "failed" if r.get("status") == "failed" else c for c, (_, _, r) in zip(cells, members, strict=True)
            ]
        room -= 2 + max(map(len, [metric, *cells]))
        if left_out or (room < 0 and metric != primary["metric"]):
            left_out.append(metric)
        else:
            columns[metric] = cells
    lines.append(grid(list(columns), list(zip(*columns.values(), strict=True))))
    if left_out:
        lines.append(f"also in the file (--metrics): {', '.join(left_out)}")
    told = {name: record.get("message") for name, record in block["arms"].items() if record.get("status") == "failed"}
    lines += [""] * any(told.values()) + [f"{name} has failed: {message}" for name, message in told.items() if message]
    if block.get("comparisons"):
        lines += ["", comparisons(block["comparisons"])]
    return "\n".join(lines)


def comparisons(pairs: Sequence[Mapping[str, Any]]) -> str:
    """Paired comparisons: a minus b with its interval and p; below, how they were tested."""
    rows = [
        (
            f"{pair['a']} − {pair['b']}",
            pair["metric"],
            number(pair.get("difference")),
            " … ".join(number(v) for v in pair.get("ci95") or []),
            number(pair.get("p"), 2),
            number(pair.get("n")),
        )
        for pair in pairs
    ]
    tests = dict.fromkeys(str(pair["test"]) for pair in pairs if pair.get("test"))
    return "\n".join([grid(("comparison", "metric", "difference", "95 % interval", "p", "n"), rows), *tests])


def results(table: Mapping[str, Any], order: Sequence[str] = (), width: int = WIDTH) -> str:
    """All scenarios of a results file of schema ``ablation/1``, and those whose data could not be had."""
    parts = [scenario(name, block, order, width) for name, block in table["scenarios"].items()]
    parts += [f"{name}: not computed. {reason}" for name, reason in (table.get("unavailable") or {}).items()]
    return "\n\n\n".join(parts)
