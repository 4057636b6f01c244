"""SMASH's own charts: gains with intervals, calibration, rescaled gaps, a predicted density, the rate over a window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.board import Board
from ..core.figures import FAINT, GREY, INK, PALETTE, SEQUENTIAL, SKY, VERMILION, Words, plain_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .score_field import Field

FACTORS = (
    ("log_likelihood", "joint"),
    ("log_likelihood_time", "time"),
    ("log_likelihood_location", "place"),
    ("log_likelihood_mark", "mark"),
)
MARKERS = "os^Dv*PX"
LEVELS = (0.5, 0.8, 0.95)  # of the contours of the predicted density


def gains(board: Board, entries: Sequence[Mapping[str, Any]]) -> Figure:
    """Paired differences of the log-likelihood, a panel a factor: dots with 95 % intervals, right of zero is better."""
    pairs = list(dict.fromkeys((entry["a"], entry["b"]) for entry in entries))
    by = {(entry["a"], entry["b"], entry["metric"]): entry for entry in entries}
    figure = board.figure(
        0.3 * len(pairs) + 0.9,
        "Gains in log-likelihood",
        "First method minus second, per event; lines: 95 % interval, bootstrap of blocks of windows; filled: beyond 0.",
    )
    axes = figure.subplots(1, len(FACTORS), sharey=True)
    for panel, (metric, title) in zip(axes, FACTORS, strict=True):
        panel.axvline(0, color=INK, linewidth=0.9)
        for row, (a, b) in enumerate(pairs):
            entry = by.get((a, b, metric))
            if entry is None:
                continue
            low, high = entry["ci95"]
            method = board.method(a)
            colour = board.kinds[method.kind] if method else GREY
            panel.plot([low, high], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
            face = colour if low > 0 or high < 0 else "white"
            panel.plot(entry["difference"], row, "o", color=colour, markerfacecolor=face, markersize=5)
        panel.set_title(board.words(title))
        panel.grid(axis="x")
        panel.set_xlabel(board.words("difference [nats/event]"))
        panel.margins(x=0.12)
        panel.locator_params(axis="x", nbins=4)
    against = "–"
    axes[0].set_yticks(range(len(pairs)), [f"{a} {against} {b}" for a, b in pairs])
    axes[0].set_ylim(len(pairs) - 0.4, -0.6)
    return figure


def _lines(board: Board, key: str) -> list[tuple[str, Mapping[str, Any], str, str]]:
    """Name, curve, colour and marker of every method that has one."""
    found = []
    for place, method in enumerate(board.methods):
        curve = (method.entry.get("vectors") or {}).get(key)
        if curve is not None:
            found.append((method.name, curve, PALETTE[place % len(PALETTE)], MARKERS[place % len(MARKERS)]))
    return found


def calibration(board: Board) -> Figure:
    """Coverage of central intervals and of highest-density regions, PIT histograms, reliability of the mark."""
    figure = board.figure(
        5.4,
        "Calibration",
        "Grey: what a calibrated forecast of independent events keeps to (95 %; wider where windows overlap). Coverage "
        "is drawn less its level. PIT above 1 in the middle: too wide; above 1 at the edges: too narrow.",
    )
    (time, place), (pit, marks) = figure.subplots(2, 2)
    for axes, key, title in ((time, "coverage_time", "time"), (place, "coverage_location", "place")):
        lines = _lines(board, key)
        if not lines:
            axes.text(0.5, 0.5, "–", ha="center", transform=axes.transAxes)
            continue
        levels = np.array(lines[0][1]["levels"])
        low, high = (np.array(lines[0][1][edge]) - levels for edge in ("low", "high"))
        axes.fill_between(levels, low, high, color=FAINT, linewidth=0)
        axes.axhline(0, color=INK, linewidth=0.8)
        for name, curve, colour, marker in lines:
            share = np.array(curve["share"]) - levels
            axes.plot(levels, share, color=colour, marker=marker, markersize=4, linewidth=1.2, label=name)
        axes.set(title=board.words(title), xlabel=board.words("nominal level"), xlim=(0.05, 0.95))
        axes.set_ylabel(f"{board.words('share inside')} − {board.words('nominal level')}")
        bottom, top = axes.get_ylim()
        axes.set_ylim(bottom - 0.1 * (top - bottom) * -(-len(lines) // 2), top)  # room for the legend below the curves
        axes.legend(fontsize=7, ncols=2, loc="lower left")
    for name, curve, colour, marker in _lines(board, "pit_time"):
        edges = (np.arange(len(curve)) + 0.5) / len(curve)
        pit.plot(edges, curve, color=colour, marker=marker, markersize=3, linewidth=1, label=name)
    pit.axhline(1, color=INK, linewidth=0.8)
    pit.set(title=board.words("PIT of the gap"), xlabel=board.words("PIT of the gap"), ylabel=board.words("density"))
    pit.set_ylim(bottom=0)
    marks.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
    for name, curve, colour, marker in _lines(board, "reliability"):
        used = np.array(curve["count"]) >= 20
        confidence, accuracy = np.array(curve["confidence"])[used], np.array(curve["accuracy"])[used]
        marks.plot(confidence, accuracy, color=colour, marker=marker, markersize=4, linewidth=1, label=name)
    marks.set(
        title=board.words("mark"),
        xlabel=board.words("confidence"),
        ylabel=board.words("accuracy"),
        xlim=(0, 1),
        ylim=(0, 1),
    )
    return figure


def rescaled(board: Board) -> Figure | None:
    """Quantiles of the rescaled gaps (events expected in each) beside those of the exponential law."""
    lines = _lines(board, "rescaled")
    if not lines:
        return None
    figure = board.figure(
        3.6, "Rescaled gaps", "If a model is right, the events expected in each gap follow Exp(1): the diagonal."
    )
    axes = figure.subplots()
    top = 0.0
    for name, curve, colour, marker in lines:
        axes.plot(
            curve["exponential"], curve["found"], color=colour, marker=marker, markersize=3, linewidth=1, label=name
        )
        top = max(top, curve["exponential"][-1])
    axes.plot([0, top], [0, top], color=INK, linewidth=0.9)
    axes.set(xlabel=board.words("quantile of Exp(1)"), ylabel=board.words("quantile of the rescaled gaps"))
    axes.grid()
    axes.legend(ncols=2)
    return figure


def density_map(
    board: Board,
    axes_xy: tuple[np.ndarray, np.ndarray],
    log_density: np.ndarray,
    past: np.ndarray,
    truth: np.ndarray,
    unit: str,
    method: str,
) -> Figure:
    """Predicted density of the next place with the contours that hold half, 80 and 95 % of it.

    Parameters
    ----------
    axes_xy: [X], [Y] of the grid; log_density: [Y, X]; past: [n, 2] the window's events so far; truth: [2].
    """
    figure = board.figure(
        5.2,
        "Predicted density of the next place",
        f"{method}, given the time of the next event. Contours hold 50, 80 and 95 % of the probability.",
    )
    axes = figure.subplots()
    draw_density(axes, axes_xy, log_density, past, truth, unit, unit == "deg", board.words)
    return figure


def draw_density(
    axes: Axes,
    axes_xy: tuple[np.ndarray, np.ndarray],
    log_density: np.ndarray,
    past: np.ndarray,
    truth: np.ndarray | None,
    unit: str,
    degrees: bool,
    words: Words,
) -> None:
    """A density [Y, X] (natural logs, per ``unit`` squared) with its highest-density contours and past events.

    ``axes_xy`` are [X] and [Y], or [Y, X] each; ``degrees``: they are longitude and latitude, whatever the unit.
    """
    x, y = axes_xy
    base = np.log10(np.e) * log_density
    picture = axes.pcolormesh(x, y, base, cmap=SEQUENTIAL, vmin=base.max() - 5, rasterized=True)
    mass = np.exp(log_density - log_density.max()).ravel()
    order = np.sort(mass)[::-1]
    total = np.cumsum(order) / order.sum()
    cuts = [np.log10(order[np.searchsorted(total, level)]) + base.max() for level in LEVELS]
    axes.contour(x, y, base, levels=sorted(set(cuts)), colors="white", linewidths=0.9, linestyles="solid")
    axes.plot(*past.T, "o", markersize=3, markerfacecolor="none", color="white", label=words("past events"))
    if truth is not None:
        axes.plot(*truth, "*", markersize=15, color=VERMILION, markeredgecolor="white", label=words("next event"))
    axes.figure.colorbar(picture, ax=axes, label=f"log10 {words('density')} [1/{unit}²]")
    names = ("longitude [°]", "latitude [°]") if degrees else (f"x [{unit}]", f"y [{unit}]")
    axes.set(xlabel=names[0], ylabel=names[1])
    legend = axes.legend(loc="upper left", facecolor=GREY, framealpha=0.8, frameon=True)
    for text in legend.get_texts():
        text.set_color("white")


def rate(board: Board, grid: np.ndarray, values: np.ndarray, t: np.ndarray, expected: np.ndarray, unit: str) -> Figure:
    """The rate over one window with its events, and their number beside the expected one.

    Parameters
    ----------
    grid, values: [G] times and rates; t: [n] events; expected: [n] events expected up to each of them.
    """
    figure = board.figure(3.8, "Rate over one window", "ETAS, given the window's own events before each time.")
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.plot(grid, values, color=INK, linewidth=1)
    upper.plot(t, np.full(len(t), values.min()), "|", color=VERMILION, markersize=9)
    upper.set(ylabel=f"[1/{unit}]", yscale="log")
    upper.set_title("λ(t)")
    plain_log(upper.yaxis)
    lower.step(t, np.arange(1, len(t) + 1), where="post", color=VERMILION, label=board.words("observed"))
    lower.plot(t, expected, color=INK, label=board.words("expected"))
    lower.set(xlabel=f"{board.words('time')} [{unit}]", ylabel=board.words("events so far"))
    lower.legend()
    for axes in (upper, lower):
        axes.grid()
    return figure


# CSEP's tests in the words of the other figures
CONSISTENCY = {"number": "number", "spatial": "place", "magnitude": "mark"}


def consistency(board: Board, tests: Mapping[str, Any]) -> Figure:
    """CSEP's number, spatial and magnitude tests: quantiles of what was observed among the simulated catalogues."""
    shown = [test for test in CONSISTENCY if any(found.get(f"quantiles_{test}") for found in tests.values())]
    figure = board.figure(
        3.2,
        "Consistency of next-day and next-week forecasts",
        "ETAS. Grey: 95 % of calibrated forecasts stay inside. Numbers heaped at 1: more events came than forecast.",
    )
    line = np.linspace(0, 1, 50)
    for axes, test in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        fewest = min(len(found[f"quantiles_{test}"]) for found in tests.values() if found.get(f"quantiles_{test}"))
        limit = 1.36 / np.sqrt(fewest)
        axes.fill_between(line, line - limit, line + limit, color=FAINT, linewidth=0)
        for place, (name, found) in enumerate(tests.items()):
            values = np.sort(found.get(f"quantiles_{test}", []))
            share = (np.arange(len(values)) + 0.5) / max(len(values), 1)
            label = f"{name}: {found['observed_mean']:.1f} / {found['forecast_mean']:.1f}"
            axes.plot(values, share, marker=MARKERS[place], markersize=4, color=PALETTE[place], label=label)
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.9)
        axes.set(xlim=(0, 1), ylim=(0, 1), title=board.words(CONSISTENCY[test]))
        axes.set_xlabel(board.words("quantile of what was observed"))
        if test == shown[0]:
            axes.set_ylabel(board.words("share of windows"))
            axes.legend(title=f"{board.words('observed')} / {board.words('expected')}")
    return figure


def score_field(board: Board, fields: Sequence[Field], unit: str) -> Figure:
    """Learned scores of the next place: arrows of equal length, their strength as colour, and what was drawn."""
    figure = board.figure(
        4.4,
        "Score field",
        "Gradient of the log density of the noisy place at one test event, given its past and its time. "
        "Cross: the noise, one standard deviation each way. Dots: the arm's samples.",
    )
    names = ("longitude [°]", "latitude [°]") if unit == "deg" else (f"x [{unit}]", f"y [{unit}]")
    for axes, one in zip(figure.subplots(1, len(fields), squeeze=False)[0], fields, strict=True):
        size = np.hypot(one.score[..., 0], one.score[..., 1])
        way = one.score / np.maximum(size, 1e-12)[..., None]
        arrows = axes.quiver(
            *np.meshgrid(one.x, one.y), way[..., 0], way[..., 1], np.log10(np.maximum(size, 1e-9)), cmap=SEQUENTIAL,
            pivot="mid", scale=30, width=0.004,
        )  # fmt: skip
        inside = (one.drawn >= [one.x[0], one.y[0]]).all(1) & (one.drawn <= [one.x[-1], one.y[-1]]).all(1)
        axes.plot(*one.drawn[inside].T, ".", color=SKY, markersize=4, label=board.words("samples"))
        axes.plot(*one.past.T, "o", color=INK, markersize=4, markerfacecolor="none", label=board.words("past events"))
        star = dict(markersize=14, color=VERMILION, markeredgecolor="white")
        axes.plot(*one.truth, "*", label=board.words("next event"), **star)
        corner = one.x[0] + 0.12 * np.ptp(one.x), one.y[0] + 0.12 * np.ptp(one.y)
        axes.errorbar(*corner, *one.sigma[::-1], color=INK, linewidth=1.2, capsize=2)
        axes.set_title(one.arm)
        axes.set(xlabel=names[0], ylabel=names[1])
        margin = 0.03 * np.array([np.ptp(one.x), np.ptp(one.y)])
        axes.set_xlim(one.x[0] - margin[0], one.x[-1] + margin[0])
        axes.set_ylim(one.y[0] - margin[1], one.y[-1] + margin[1])
        figure.colorbar(arrows, ax=axes, label=f"log10 |{board.words('score')}| [1/{unit}]")
        axes.legend(loc="upper left", frameon=True, framealpha=0.85)
    return figure
