"""The table and the picture of a sweep: every metric for every combination of values, and how they depend on them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import DataError
from .figures import BLUE, FAINT, GREY, INK, PALETTE, Words, canvas, number, save, spread, style, translator
from .runlog import read_run
from .stages import Job, Result, Shown
from .store import write_json
from .tables import assembled, metrics_of

LOG_FROM = 10.0  # ratio of the largest to the smallest value from which an axis is logarithmic
NOTE = (
    "Dots: seeds; bars: 95 % intervals over seeds; dashed: baselines. Choose values on validation data, never on test."
)
ZH = {
    "Sweep of {} over {}": "{}：{} 的扫描",
    "Data: {}": "数据：{}",
    "scenario {}": "场景 {}",
    "{} is better": "{}为佳",
    "lower": "低",
    "higher": "高",
    "{} seeds": "{} 个随机种子",
    "1 seed": "1 个随机种子",
    "test": "测试",
    "validation": "验证",
    NOTE: "点：随机种子；竖线：跨种子 95 % 区间；虚线：基线。取值应按验证集选择，不可按测试集选择。",
    "no arm has finished": "没有完成的实验臂",
}


def summarise(job: Job, settings: Shown, log: Any) -> Result:
    """Stage ``sweep``: ``table`` (schema ``ablation/1`` and what was swept), ``csv`` and ``figure``.

    The JSON file has one more entry, ``sweep``: its arm, its scenario, the settings ``over`` which it goes, and
    ``points``, one an arm with ``values``, ``status``, the primary metric, and ``validation``, the same metric on
    validation data, where the arm has recorded it.
    """
    table, sweep = assembled(job), job.facts["sweep"]
    (name,) = table["scenarios"]
    block, folder = table["scenarios"][name], Path(job.inputs["scenarios"][0]).parent
    metric = block["primary"]["metric"]
    rows = []
    for arm, values in sweep["arms"].items():
        entry = block["arms"][arm]
        scores = entry.get("metrics") or {}
        rows.append(
            {
                "arm": arm,
                "values": values,
                "status": entry["status"],
                "seeds": len(entry["seeds"]),
                metric: scores.get(metric),
                "validation": _validation(folder / arm / "evaluate.run.json", metric),
            }
        )
    table["sweep"] = {key: sweep[key] for key in ("name", "arm", "scenario", "over")} | {"points": rows}
    write_json(job.outputs["table"], table)
    _write_csv(Path(job.outputs["csv"]), sweep, block, rows)
    words = translator(settings.language, ZH)
    with style(settings.language):
        save(draw(table, words), job.outputs["figure"])
    return Result(metrics_of(table), figures=("figure",), tables=("table", "csv"))


def _validation(path: Path, metric: str) -> float | None:
    """The metric on validation data as the arm's evaluation has recorded it; None where it hasn't."""
    try:
        return read_run(path)["metrics"].get(f"validation_{metric}")
    except (DataError, KeyError):
        return None


def _write_csv(path: Path, sweep: Mapping[str, Any], block: Mapping[str, Any], rows: Sequence[Mapping]) -> None:
    """One row an arm: the swept values, then mean, sd and 95 % interval of every metric."""
    metrics = dict.fromkeys(m for row in rows for m in block["arms"][row["arm"]].get("metrics") or {})
    columns = ("mean", "sd", "low", "high")
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        validation = f"validation_{block['primary']['metric']}"
        header = [*sweep["over"], "arm", "status", "seeds", validation]
        writer.writerow([*header, *(f"{metric}_{column}" for metric in metrics for column in columns)])
        for row in rows:
            cells = [row["values"][key] for key in sweep["over"]]
            cells += [row["arm"], row["status"], row["seeds"], row["validation"]]
            for metric in metrics:
                score = (block["arms"][row["arm"]].get("metrics") or {}).get(metric) or {}
                cells += [score.get("mean"), score.get("sd"), *(score.get("ci95") or (None, None))]
            writer.writerow(["" if cell is None else cell for cell in cells])


def draw(table: Mapping[str, Any], words: Words) -> Any:
    """The primary metric against the swept setting with the most values; a line for each combination of the others.

    Parameters
    ----------
    table: as :func:`summarise` writes it.
    """
    sweep = table["sweep"]
    (block,) = table["scenarios"].values()
    metric, over, rows = block["primary"]["metric"], list(sweep["over"]), sweep["points"]
    axis = max(over, key=lambda key: len({str(row["values"][key]) for row in rows}))
    others = [key for key in over if key != axis]
    ticks = list({str(row["values"][axis]): row["values"][axis] for row in rows}.values())
    place, logarithmic = _places(ticks)
    lines: dict[str, list[Mapping]] = {}
    for row in rows:
        if row[metric]:
            label = ", ".join(f"{key.split('.')[-1]} {_value(row['values'][key])}" for key in others)
            lines.setdefault(label, []).append(row)

    better = words("{} is better").format(words(block["primary"].get("better", "lower")))
    seeds = max((row["seeds"] for row in rows), default=1)
    subtitle = [
        words("Data: {}").format(block["dataset"]["name"]),
        words("scenario {}").format(sweep["scenario"]),
        words("1 seed") if seeds == 1 else words("{} seeds").format(seeds),
        better,
    ]
    figure = canvas(
        3.4,
        words("Sweep of {} over {}").format(sweep["arm"], ", ".join(over)),
        " · ".join(subtitle),
        words(NOTE),
    )
    axes = figure.subplots()
    if logarithmic:
        axes.set_xscale("log")
    axes.grid(axis="y")
    for index, (label, points) in enumerate(lines.items()):
        colour = PALETTE[index % len(PALETTE)] if others else BLUE
        points = sorted(points, key=lambda row: place[str(row["values"][axis])])
        x = [place[str(row["values"][axis])] for row in points]
        axes.plot(
            x,
            [row[metric]["mean"] for row in points],
            color=colour,
            marker="o",
            markersize=4,
            label=label or words("test"),
        )
        for at, row in zip(x, points, strict=True):
            if row[metric].get("ci95"):
                axes.plot([at, at], row[metric]["ci95"], color=colour, linewidth=1)
            values = row[metric].get("values") or []
            axes.plot([at] * len(values), values, ".", color=colour, markersize=3, alpha=0.5)
        held_out = [(at, row["validation"]) for at, row in zip(x, points, strict=True) if row["validation"] is not None]
        if held_out and not others:
            axes.plot(
                *zip(*held_out, strict=True),
                color=GREY,
                marker="o",
                markersize=4,
                mfc="white",
                label=words("validation"),
            )
    if not lines:
        axes.text(0.5, 0.5, words("no arm has finished"), transform=axes.transAxes, ha="center")
    elif others or len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(loc="best")
    _zoom(axes, rows, metric)
    _baselines(axes, block, metric)
    axes.set_xticks([place[str(tick)] for tick in ticks], [_value(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(axis)
    axes.set_ylabel(f"{metric} [{block['primary']['unit']}]")
    return figure


def _places(ticks: Sequence[Any]) -> tuple[dict[str, float], bool]:
    """Where values stand on the axis, and whether it is logarithmic; what is no number stands in its order."""
    if all(isinstance(tick, int | float) and not isinstance(tick, bool) for tick in ticks):
        positive = min(ticks) > 0 and max(ticks) / min(ticks) >= LOG_FROM
        return {str(tick): float(tick) for tick in ticks}, positive
    return {str(tick): float(index) for index, tick in enumerate(ticks)}, False


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _zoom(axes: Any, rows: Sequence[Mapping], metric: str) -> None:
    """Limits that show the arms, with room beside them; an interval of a few seeds may be wider than the picture."""
    values = [value for row in rows if row[metric] for value in (row[metric].get("values") or [row[metric]["mean"]])]
    values += [row["validation"] for row in rows if row[metric] and row["validation"] is not None]
    if values:
        room = 0.25 * (max(values) - min(values)) or 0.1 * abs(values[0]) or 1.0
        axes.set_ylim(min(values) - room, max(values) + room)


def _baselines(axes: Any, block: Mapping[str, Any], metric: str) -> None:
    """Baselines as dashed lines, named at the right; those outside the picture are named with their value."""
    scores = {name: (entry.get("metrics") or {}).get(metric) for name, entry in block["baselines"].items()}
    scores = {name: score["mean"] for name, score in scores.items() if score and score.get("mean") is not None}
    low, high = axes.get_ylim()
    inside = {name: mean for name, mean in scores.items() if low <= mean <= high}
    levels = spread(list(inside.values()), 0.06 * (high - low), low, high) if inside else []
    for (name, mean), level in zip(inside.items(), levels, strict=True):
        axes.axhline(mean, color=GREY, linestyle="--", linewidth=0.8, zorder=0)
        axes.annotate(
            f"{name} {number(mean)}",
            (1.01, level),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=7.5,
            color=INK,
        )
    outside = [f"{name} {number(mean)}" for name, mean in scores.items() if name not in inside]
    if outside:
        text = "\n".join(["off the axis:"] + outside[:8] + ["…"] * (len(outside) > 8))
        box = {"boxstyle": "round", "facecolor": "white", "edgecolor": FAINT, "alpha": 0.9}
        axes.annotate(text, (1.01, 0.0), xycoords="axes fraction", va="bottom", fontsize=7, color=GREY, bbox=box)
