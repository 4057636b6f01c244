"""Charts that every system draws from its results table: bars, improvement, radar, cost, table, comparisons.

They take a :class:`Board` and return a figure. Methods keep the order of the board; each chart shows all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .board import Board, Method, gains
from .figures import FAINT, GREY, INK, number, plain_log
from .figures import columns as columns_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW = 0.235  # inches a method takes in a chart with one row a method


def _rows(axes: Axes, methods: Sequence[Method]) -> np.ndarray:
    """One row a method, first on top."""
    rows = np.arange(len(methods))
    axes.set_yticks(rows, [method.name for method in methods])
    axes.set_ylim(len(methods) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    return rows


def _column(axes: Axes, rows: Sequence[float], cells: Sequence[str]) -> None:
    """Numbers in a column at the right edge, where no bar reaches."""
    for row, cell in zip(rows, cells, strict=True):
        axes.text(0.995, row, cell, ha="right", va="center", fontsize=7.5, transform=axes.get_yaxis_transform())


def _bars(axes: Axes, board: Board, methods: Sequence[Method], metric: str) -> None:
    rows = _rows(axes, methods)
    means = np.array([np.nan if (value := method.mean(metric)) is None else value for method in methods])
    known = means[np.isfinite(means)]
    if len(known) and known.min() < 0:
        _points(axes, board, methods, metric, means)
        return
    # One diverged method must not squeeze all others into nothing: its bar is cut, its number stands.
    limit = min(known.max(), 4 * np.median(known)) if len(known) and known.max() > 0 else 1.0
    axes.barh(rows, np.minimum(np.nan_to_num(means), limit), color=[board.kinds[m.kind] for m in methods], height=0.72)
    for row, method in zip(rows, methods, strict=True):
        interval = method.interval(metric)
        if interval is not None:
            ends = np.clip(interval, 0, 1.04 * limit)
            axes.plot(ends, [row, row], color=INK, linewidth=1.1, solid_capstyle="butt")
    _column(axes, rows, [number(method.mean(metric)) if method.mean(metric) is not None else "–" for method in methods])
    axes.set_xlim(0, 1.42 * limit)
    axes.set_xlabel(board.words(board.labels[metric]))
    axes.locator_params(axis="x", nbins=3)


def _points(axes: Axes, board: Board, methods: Sequence[Method], metric: str, means: np.ndarray) -> None:
    """Dots for a metric with values below zero, such as a log-likelihood: no bar from a zero that means nothing."""
    rows, known = np.arange(len(methods)), means[np.isfinite(means)]
    sign = 1 if metric in board.higher else -1
    best = known.max() if sign > 0 else known.min()
    away = np.abs(known - best)
    # One diverged method must not squeeze all others into nothing: it is cut, its number stands.
    reach = max(min(away.max(), 4 * np.median(away)), 1e-9)
    cut = np.abs(means - best) > 1.02 * reach
    shown = np.where(cut, best - sign * 1.02 * reach, means)
    axes.hlines(rows, best - sign * 1.1 * reach, shown, color=FAINT, linewidth=2.2, zorder=1)
    for row, method, at, off in zip(rows, methods, shown, cut, strict=True):
        if not np.isfinite(at):
            continue
        interval = method.interval(metric)
        if interval is not None and not off:
            axes.plot(interval, [row, row], color=INK, linewidth=1.1, solid_capstyle="butt")
        marker = ("<" if sign > 0 else ">") if off else "o"
        axes.plot(at, row, marker=marker, markersize=6, color=board.kinds[method.kind], zorder=3)
    _column(axes, rows, [number(method.mean(metric)) if method.mean(metric) is not None else "–" for method in methods])
    low, high = sorted((best - sign * 1.15 * reach, best + sign * 0.08 * reach))
    axes.set_xlim(low, high)
    axes.locator_params(axis="x", nbins=3)
    axes.set_xticks([tick for tick in axes.get_xticks() if low <= tick <= high])  # none below the column of numbers
    axes.set_xlim(low, high + 0.45 * (high - low))
    axes.set_xlabel(board.words(board.labels[metric]))


def metric_bars(board: Board, metrics: Sequence[str]) -> Figure:
    """Horizontal bars of up to four metrics, methods ranked by the first."""
    methods = board.ranked(metrics[0])
    note = "Ranked by the first column, best on top."
    figure = board.figure(ROW * len(methods) + 0.6, "Errors", note, board.whiskers, methods=methods)
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        _bars(axes, board, methods, metric)
    return figure


def improvement(board: Board, metric: str, references: Sequence[str]) -> Figure:
    """Percent by which each method beats each reference: bars to the right are better."""
    methods = board.ranked(metric)
    label = board.words(board.labels[metric])
    note = board.words("Right of zero is better than the reference; {}. Triangles: bars that are cut.").format(label)
    figure = board.figure(ROW * len(methods) + 0.6, "Improvement", note, board.whiskers, methods=methods)
    panels = figure.subplots(1, len(references), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, references, strict=True):
        rows = _rows(axes, methods)
        found = [gains(method, board.method(name), metric, metric in board.higher) for method in methods]
        means = np.array([gain["mean"] if gain else 0.0 for gain in found])
        low, high = max(min(means.min(), -5.0), -120.0), max(means.max(), 5.0)
        span = high - low
        axes.barh(rows, np.clip(means, low, high), color=[board.kinds[m.kind] for m in methods], height=0.72)
        for row, gain in zip(rows, found, strict=True):
            if gain and gain["ci95"]:
                ends = np.clip(gain["ci95"], low - 0.02 * span, high + 0.02 * span)
                axes.plot(ends, [row, row], color=INK, linewidth=1.1, solid_capstyle="butt")
        cut = rows[means < low]
        axes.plot(np.full(len(cut), low + 0.015 * span), cut, "<", color="white", markersize=4)
        axes.axvline(0, color=INK, linewidth=0.9)
        _column(axes, rows, [f"{gain['mean']:+.1f}".replace("-", "−") if gain else "–" for gain in found])
        axes.set_xlim(low - 0.04 * span, high + 0.2 * span)
        axes.set_xlabel(board.words("Improvement over {} [%]").format(name))
        axes.locator_params(axis="x", nbins=6)
    return figure


def radar(board: Board, metrics: Sequence[str], reference: str, kinds: Sequence[str] | None = None) -> Figure:
    """One small radar a method: reference error / error on each spoke, so that outside the ring is better.

    Parameters
    ----------
    kinds: only methods of these kinds (null: all).
    """
    methods = [
        method for method in board.methods if (kinds is None or method.kind in kinds) and method.name != reference
    ]
    base = board.method(reference)
    across = min((4, 5, 6), key=lambda n: (-len(methods) % n, n)) if len(methods) > 5 else len(methods)
    down = -(-len(methods) // across)
    spokes = [metric for metric in metrics if base.mean(metric)]
    ratios = {
        method.name: np.array([base.mean(m) / method.mean(m) if method.mean(m) else 0.0 for m in spokes])
        for method in methods
    }
    limit = min(max(1.2, 1.05 * max(ratio.max() for ratio in ratios.values())), 4.0)
    note = board.words("Spokes: error of {} / error of the method; a point outside the dashed ring is better.")
    figure = board.figure(min(2.35, 9.5 / across) * down, "Radar", note.format(reference), methods=methods)
    figure.get_layout_engine().set(hspace=0.14)  # titles are placed above the top spoke's label after the layout
    panels = figure.subplots(down, across, subplot_kw={"projection": "polar"}, squeeze=False).ravel()
    angles = np.linspace(0, 2 * np.pi, len(spokes), endpoint=False)
    round_ = np.append(angles, angles[0])
    circle = np.linspace(0, 2 * np.pi, 100)
    for axes, method in zip(panels, methods, strict=False):
        ratio, colour = np.minimum(ratios[method.name], limit), board.kinds[method.kind]
        axes.set_theta_offset(np.pi / 2)
        axes.set_theta_direction(-1)
        axes.plot(circle, np.ones(100), color=INK, linewidth=0.9, linestyle=(0, (4, 2)))
        axes.plot(round_, np.append(ratio, ratio[0]), color=colour, linewidth=1.8)
        axes.fill(round_, np.append(ratio, ratio[0]), color=colour, alpha=0.25, linewidth=0)
        axes.set_xticks(angles, [board.words(board.labels[m]).split(" [")[0] for m in spokes], fontsize=7)
        axes.tick_params(axis="x", pad=-1)
        axes.set_ylim(0, limit)
        axes.set_yticks([0.5, 1.0], [])
        axes.grid(color=FAINT)
        axes.spines["polar"].set(visible=False)
        axes.set_title(method.name, loc="center", fontsize=8.5, pad=7)
    for axes in panels[len(methods) :]:
        axes.remove()
    return figure


def cost(board: Board, entries: Mapping[str, str], missing: str = "–") -> Figure:
    """What each method costs, on logarithmic axes.

    Parameters
    ----------
    entries: key of ``cost`` -> label with unit.
    missing: what stands where a cost is not stated.
    """
    entries = {
        key: label for key, label in entries.items() if any((m.entry.get("cost") or {}).get(key) for m in board.methods)
    }
    figure = board.figure(
        ROW * len(board.methods) + 0.6,
        "Time and memory",
        "Seconds and milliseconds of CPU on one thread; logarithmic axes.",
        "A method without training of its own starts from another arm's, or needs none.",
        methods=board.methods,
    )
    panels = figure.subplots(1, len(entries), sharey=True, squeeze=False)[0]
    for axes, (key, label) in zip(panels, entries.items(), strict=True):
        rows = _rows(axes, board.methods)
        found = [(method.entry.get("cost") or {}).get(key) for method in board.methods]
        known = [value for value in found if value]
        low = 10 ** np.floor(np.log10(min(known)) - 0.3)
        high = max(max(known), 20 * low)
        widths = [max(value, low) if value else low for value in found]
        axes.barh(rows, widths, color=[board.kinds[m.kind] for m in board.methods], height=0.72)
        axes.set_xscale("log")
        axes.set_xlim(low, high * (high / low) ** 0.38)
        plain_log(axes.xaxis)
        _column(axes, rows, [number(value, 2) if value else missing for value in found])
        axes.set_xlabel(board.words(label))
    return figure


def _cells(board: Board, metric: str) -> list[str]:
    """A column of the table, all with the decimals that the smallest error (the best skill) needs for three digits."""
    means = [method.mean(metric) for method in board.methods]
    sizes = [abs(mean) for mean in means if mean]
    best = board.ranked(metric)[0].mean(metric) if metric in board.higher else None
    size = abs(best) if best else min(sizes, default=1.0)
    decimals = int(np.clip(2 - np.floor(np.log10(size)), 0, 6))
    cells = []
    for method, mean in zip(board.methods, means, strict=True):
        cell = "–" if mean is None else f"{mean:z,.{decimals}f}".replace("-", "−")
        spread_ = ((method.entry.get("metrics") or {}).get(metric) or {}).get("sd")
        cells.append(cell + (f" ± {spread_:.{decimals}f}" if mean is not None and spread_ is not None else ""))
    return cells


def table(board: Board, metrics: Sequence[str], extra: Mapping[str, str] | None = None) -> Figure:
    """The table as a picture: mean ± standard deviation over seeds, the best of each column in bold.

    Parameters
    ----------
    extra: key of ``cost`` -> label of further columns.
    """
    extra = extra or {}
    words, methods = board.words, board.methods
    note = "Mean ± standard deviation over seeds; bold: best of the column."
    figure = board.figure(0.2 * (len(methods) + 2.2), "Table", note, methods=methods)
    axes = figure.subplots()
    axes.set_axis_off()
    heads = [words(board.labels[metric]) for metric in metrics] + [words(label) for label in extra.values()]
    columns = [_cells(board, metric) for metric in metrics]
    columns += [[number((m.entry.get("cost") or {}).get(key), 2) for m in methods] for key in extra]
    # Columns as wide as their widest cell (a head counts with its longer line, in bold).
    wide = [
        1.15 * max(columns_of(part) for part in [*cells, *head.split(" [")]) + 1.5
        for cells, head in zip(columns, heads, strict=True)
    ]
    name = max(len(method.name) for method in methods) + 3
    edges = (name + np.cumsum(wide)) / (name + sum(wide)) * 0.995
    size = min(8.0, 8.0 * 122 / (name + sum(wide)))
    axes.set(xlim=(0, 1), ylim=(len(methods) - 0.4, -2.1))
    for edge, head in zip(edges, heads, strict=True):
        axes.text(edge, -0.8, head.replace(" [", "\n["), ha="right", va="bottom", weight="bold", fontsize=size)
    axes.text(0.012, -0.8, words("Method"), va="bottom", weight="bold", fontsize=size)
    axes.axhline(-0.6, color=INK, linewidth=1)
    best = {place: board.ranked(metric)[0].name for place, metric in enumerate(metrics) if metric not in board.unranked}
    for row, method in enumerate(methods):
        if row % 2:
            axes.axhspan(row - 0.5, row + 0.5, color="#F4F4F4", linewidth=0)
        if row and (method.kind == "baseline") != (methods[row - 1].kind == "baseline"):
            axes.axhline(row - 0.5, color=GREY, linewidth=0.8)
        axes.plot(0.004, row, marker="s", markersize=5, color=board.kinds[method.kind], clip_on=False)
        axes.text(0.012, row, method.name, va="center", fontsize=size)
        for place, (edge, cells) in enumerate(zip(edges, columns, strict=True)):
            weight = "bold" if best.get(place) == method.name else "normal"
            axes.text(edge, row, cells[row], ha="right", va="center", fontsize=size, weight=weight)
    return figure


def _percent_axis(axes: Axes, low: float, high: float) -> None:
    """Percent changes from tenths to hundreds on one axis: linear up to ±10, logarithmic beyond."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("symlog", linthresh=10, linscale=1.5)
    axes.set_xlim(1.15 * low, 1.15 * high)
    ticks = [-500, -200, -100, -50, -20, -10, -5, 0, 5, 10, 20, 50, 100, 200, 500]
    if max(-low, high) < 5:
        ticks += [-4, -3, -2, -1, 1, 2, 3, 4]
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if 1.15 * low <= tick <= 1.15 * high]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}".replace("-", "−").replace("+0", "0")))


def comparisons(board: Board, entries: Sequence[Mapping[str, Any]]) -> Figure:
    """Paired comparisons as a forest plot: change of the first method's loss against the second, with its interval.

    Parameters
    ----------
    entries: ``comparisons`` of the block.
    """
    figure = board.figure(
        0.34 * len(entries) + 0.75,
        "Paired comparisons",
        "Lines: 95 % interval of a paired block bootstrap over time. Left of zero, the first of the two is better.",
    )
    axes = figure.subplots()
    rows = np.arange(len(entries))
    low_high = [-1.0, 1.0]
    for row, entry in zip(rows, entries, strict=True):
        base = board.method(entry["b"]).mean(entry["metric"])
        middle, low, high = (100 * v / base for v in (entry["difference"], *entry["ci95"]))
        low_high += [low, high]
        sure = low > 0 or high < 0
        colour = board.kinds[board.method(entry["a"]).kind]
        axes.plot([low, high], [row, row], color=colour, linewidth=2.2, solid_capstyle="butt")
        axes.plot(middle, row, marker="o", markersize=6.5, color=colour, markerfacecolor=colour if sure else "white")
        known = entry["p"] is not None  # a test may have too few clusters to give one
        p = "no p" if not known else "p ≤ 0.001" if entry["p"] <= 0.001 else f"p = {entry['p']:.2g}"
        cell = f"{middle:+.1f} % ({low:+.1f} … {high:+.1f}), {p}".replace("-", "−")
        axes.text(1.01, row, cell, va="center", fontsize=8, transform=axes.get_yaxis_transform())
    versus = board.words("against")
    first = entries[0]["metric"]
    extra = ["" if entry["metric"] == first else f"\n{board.words(board.labels[entry['metric']])}" for entry in entries]
    names = [f"{entry['a']} {versus} {entry['b']}" for entry in entries]
    axes.set_yticks(rows, [name + more for name, more in zip(names, extra, strict=True)])
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    _percent_axis(axes, min(low_high), max(low_high))
    axes.axvline(0, color=INK, linewidth=0.9)
    axes.grid(axis="x")
    axes.set_xlabel(board.words("Change of the error [% of the second method's]"))
    return figure
