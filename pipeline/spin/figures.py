"""Figures of SPIN's results table: errors, what the arms cost, comparisons, and accuracy against size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core import charts
from ..core.board import Board, Method
from ..core.figures import SHEET_DPI, contact_sheet, plain_log, save, style, translator
from ..core.stages import Job, Result
from ..core.store import read_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = {"published": "#0072B2", "lightweight": "#56B4E9", "ours": "#D55E00", "baseline": "#999999"}
OURS = ("spin_residual", "spin_stack")
PUBLISHED = ("spin", "spin_h", "base", "published", "published_h")
SHOWN = ("mae", "mae_no_line", "crps", "coverage90")
LANDMARKS = {"base", "mild", "medium", "extreme", "spin", "spin_h", "spin_residual"}
AXES = {"parameters": "parameters", "latency_ms": "CPU time of one window [ms]", "peak_rss_mb": "peak memory [MB]"}
PLACES = ((True, 3), (False, 3), (True, -10), (False, -10), (True, 12), (False, 12), (True, -19), (False, -19))
ZH = {
    "published": "已发表",
    "lightweight": "轻量",
    "ours": "本文",
    "baseline": "基线",
    "Errors": "误差",
    "Time and memory": "时间与内存",
    "Accuracy against size": "精度与规模",
    "parameters": "参数量",
    "CPU time of one window [ms]": "单窗口 CPU 时间 [ms]",
    "CPU time of one seed, all masks [s]": "单种子 CPU 时间（全部掩码）[s]",
    "peak memory [MB]": "峰值内存 [MB]",
}


def kind(name: str, arm: bool) -> str:
    if not arm:
        return "baseline"
    return "ours" if name in OURS else "published" if name in PUBLISHED else "lightweight"


def boards(table: dict[str, Any], words: Any) -> Iterator[tuple[str, Board, dict[str, Any]]]:
    """The readable form of each scenario."""
    for name, block in table["scenarios"].items():
        unit, info = block["primary"]["unit"], block["dataset"]
        methods = [Method(arm, kind(arm, True), entry) for arm, entry in block["arms"].items()]
        methods += [Method(one, "baseline", entry) for one, entry in block["baselines"].items()]
        seeds = max((len(entry.get("seeds", [])) for entry in block["arms"].values()), default=1)
        labels = {"mae": f"MAE [{unit}]", "mae_no_line": f"MAE without line cells [{unit}]", "crps": f"CRPS [{unit}]"}
        labels |= {"coverage90": "coverage of the 90 % interval"}
        period = " to ".join(info["period"]) if isinstance(info.get("period"), list) else info.get("period", "")
        yield (
            name,
            Board(
                title=name,
                subtitle=f"{info['name']}, {period}, {seeds} seed{'s' if seeds != 1 else ''}",
                methods=methods,
                kinds=KINDS,
                labels=labels,
                words=words,
                seeds=seeds,
                unranked=frozenset({"coverage90"}),
            ),
            block,
        )


def size(method: Method, key: str) -> float | None:
    """Parameters, latency or memory of an arm, wherever its entry states it."""
    found = method.entry.get(key)
    return found if found is not None else (method.entry.get("cost") or {}).get(key)


def pareto(board: Board, metric: str) -> Figure | None:
    """Error against parameters, time and memory; a line joins the arms that no other beats in both."""
    arms = [m for m in board.methods if m.kind != "baseline" and m.mean(metric) is not None]
    keys = [key for key in AXES if sum(bool(size(m, key)) for m in arms) > 1]
    if len(arms) < 3 or not keys:
        return None
    note = "Nearer to the lower left is better; the line joins the arms that no other beats in both."
    figure = board.figure(3.6, "Accuracy against size", note, methods=arms)
    panels = figure.subplots(1, len(keys), sharey=True, squeeze=False)[0]
    spots = []
    for axes, key in zip(panels, keys, strict=True):
        points = sorted((size(m, key), m.mean(metric), m) for m in arms if size(m, key))
        front, best = [], float("inf")
        for x, y, method in points:
            axes.scatter(x, y, color=KINDS[method.kind], s=22, zorder=3)
            if y < best:
                best = y
                front.append((x, y, method.name))
        axes.plot([x for x, *_ in front], [y for _, y, _ in front], color="#555555", lw=0.9, drawstyle="steps-post")
        if points[-1][0] > 2 * points[0][0]:
            axes.set_xscale("log")
            plain_log(axes.xaxis)
        axes.set_xlabel(board.words(AXES[key]))
        axes.grid(True)
        axes.margins(x=0.2, y=0.12)
        named = {name for *_, name in front} | LANDMARKS
        spots.append((axes, [(x, y) for x, y, _ in points], [(x, y, m.name) for x, y, m in points if m.name in named]))
    panels[0].set_ylabel(board.labels[metric])
    figure.draw_without_rendering()  # where things are is known once they are laid out
    for axes, points, names in spots:
        name_points(axes, points, names)
    return figure


def name_points(axes: Axes, points: list[tuple[float, float]], names: list[tuple[float, float, str]]) -> None:
    """Write names beside points, each where it hides no point and no name written before."""
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in axes.transData.transform(points)]
    scale = axes.figure.dpi / 72  # pixels of a typographic point
    for x, y, name in sorted(names, key=lambda found: -found[1]):
        here = axes.transData.transform((x, y))
        wide, high = 4.3 * len(name) * scale, 8 * scale
        for right, up in PLACES:
            left = here[0] + (4 * scale if right else -4 * scale - wide)
            box = (left, here[1] + up * scale, left + wide, here[1] + up * scale + high)
            if not any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken):
                break
        taken.append(box)
        axes.annotate(name, (x, y), xytext=(4 if right else -4, up), textcoords="offset points", fontsize=7,
                      ha="left" if right else "right", va="bottom")  # fmt: skip


def draw(name: str, board: Board, block: dict[str, Any]) -> Iterator[tuple[str, Figure]]:
    shown = [metric for metric in SHOWN if any(m.mean(metric) is not None for m in board.methods)]
    yield "errors", charts.metric_bars(board, shown)
    front = pareto(board, block["primary"]["metric"])
    if front is not None:
        yield "pareto", front
    primary = block["primary"]["metric"]  # resampled by hour; by sensor as well in the analysis
    pairs = [p for p in block["comparisons"] if p["metric"] == primary and p.get("resampled", "hour") == "hour"]
    if pairs:
        yield "comparisons", charts.comparisons(board, pairs)
    entries = {"cpu_s": "CPU time of one seed, all masks [s]", "peak_rss_mb": "peak memory [MB]"}
    if any((m.entry.get("cost") or {}).get(key) for m in board.methods for key in entries):
        yield "cost", charts.cost(board, entries)


def plot(job: Job, settings: Any, log: Any) -> Result:
    """Stage ``plot``: all figures of the table into the folder ``figures``, with a contact sheet of all of them."""
    words = translator(settings.language, ZH)
    folder = Path(job.outputs["figures"])
    pictures = []
    with style(settings.language):
        folder.mkdir(parents=True, exist_ok=True)
        table = read_json(job.inputs["table"])
        for name, board, block in boards(table, words):
            pictures += [save(figure, folder / f"{name}_{what}.png") for what, figure in draw(name, board, block)]
        sheet = contact_sheet(pictures[:36], "SPIN", ", ".join(table["scenarios"]))
        save(sheet, folder / "contact_sheet.png", SHEET_DPI)
    return Result({"pictures": float(len(pictures) + 1)}, figures=("figures",))
