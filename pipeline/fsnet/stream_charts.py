"""Charts of the stream: skill by horizon, error as it accumulates, the memory at work, regimes that come back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..core.board import Board, Method
from ..core.charts import ROW
from ..core.figures import DIVERGING, FAINT, GREY, INK, PALETTE, SEQUENTIAL, plain_log, spread
from ..core.statistics import summary
from .regimes import Switch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STROKES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
FEW = 150  # firings that can be told apart as single ticks


def heat(figure: Figure, board: Board, values: np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> Axes:
    """Skill in percent as colours and, where there is room, numbers.

    Parameters
    ----------
    values: [rows, columns] percent; NaN where there is none.
    """
    axes = figure.subplots()
    # ±50 %: beyond it everything is simply far better or far worse.
    image = axes.imshow(np.clip(values, -50, 50), cmap=DIVERGING, vmin=-50, vmax=50, aspect="auto")
    axes.set_yticks(range(len(rows)), rows)
    every = max(1, len(columns) // 24)
    axes.set_xticks(range(0, len(columns), every), columns[::every])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if len(columns) <= 24:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                text = f"{value:+.0f}".replace("-", "−") if round(value) else "0"
                colour = "white" if abs(value) > 32 else INK
                axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=colour)
    wide = len(rows) < 12
    bar = figure.colorbar(
        image, ax=axes, extend="both", location="bottom" if wide else "right", shrink=0.5 if wide else 0.8, pad=0.01,
        aspect=30,
    )  # fmt: skip
    bar.set_label(board.words("Skill against rls [%]"))
    bar.outline.set_visible(False)
    return axes


def horizons(board: Board, reference: str, step: str) -> Figure:
    """Skill against ``reference`` at each horizon, 1 - MSE / MSE of the reference."""
    base = np.array(board.method(reference).entry["vectors"]["mse_by_horizon"])
    methods = [method for method in board.methods if (method.entry.get("vectors") or {}).get("mse_by_horizon")]
    values = np.array([100 * (1 - np.array(m.entry["vectors"]["mse_by_horizon"]) / base) for m in methods])
    note = "Percent of the error of rls that a method saves at each horizon; negative: worse than rls."
    figure = board.figure(ROW * len(methods) + 0.6, "Skill by horizon", note)
    names = [method.name for method in methods]
    axes = heat(figure, board, values, names, [str(h + 1) for h in range(len(base))])
    axes.set_xlabel(board.words("Horizon [steps of {}]").format(step))
    return figure


def overview(board: Board, skills: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> Figure:
    """Skill of every method in every scenario.

    Parameters
    ----------
    skills: scenario's label -> method -> skill in percent; names: of the methods, from left to right.
    """
    values = np.array([[skill.get(name, np.nan) for name in names] for skill in skills.values()])
    note = "Percent of the error of rls that a method saves; negative: worse than rls."
    figure = board.figure(1.5 * ROW * len(skills) + 2.2, "Skill in all scenarios", note)
    axes = heat(figure, board, values, list(skills), names)
    axes.xaxis.tick_top()
    axes.tick_params(axis="x", length=0, labelrotation=90)
    return figure


def _names(axes: Axes, methods: Sequence[Method], ends: Sequence[float], colours: Sequence[str], right: float) -> None:
    """Names of the curves beside their ends, moved apart, with leaders (vertical axis logarithmic)."""
    low, high = np.log10(axes.get_ylim())
    height = axes.get_figure().get_figheight() * 0.62
    gap = 0.128 / height * (high - low)
    wanted = np.clip(np.log10(ends), low, high)
    places = spread(wanted.tolist(), gap, low, high)
    to_axes = (np.array(places) - low) / (high - low)
    start = (wanted - low) / (high - low)
    for method, colour, place, end in zip(methods, colours, to_axes, start, strict=True):
        line = dict(color=colour, linewidth=0.7, transform=axes.transAxes, clip_on=False)
        axes.plot([1.0, 1.012, 1.03, 1.036], [end, end, place, place], **line)
        axes.text(1.04, place, method.name, color=colour, fontsize=7.8, va="center", transform=axes.transAxes)


def _switches(axes: Axes, switches: Sequence[Switch], first: int, last: int) -> None:
    for switch in switches:
        if first <= switch.row < last:
            stroke = (0, (4, 2)) if switch.kind == "recurrence" else (0, (1, 1.5))
            axes.axvline(switch.row - first, color=GREY, linewidth=0.7, linestyle=stroke, zorder=0)


def cumulative(
    board: Board, fired: Mapping[str, np.ndarray], switches: Sequence[Switch] | None, first: int, step: str
) -> Figure:
    """Running mean of the squared error over the test period, with the firings of the memories below.

    Parameters
    ----------
    fired: arm -> [seed, n] layers that fired at each test step.
    switches: of the first seed's stream, where it is simulated; first: first row that is forecast.
    """
    methods = [method for method in board.methods if (method.entry.get("vectors") or {}).get("cumulative_mse")]
    total = max(method.entry["vectors"]["cumulative_step"][-1] for method in methods)
    few = {name: (track[0] > 0).sum() <= FEW for name, track in fired.items()}
    note = "Means over seeds." if not fired else "Means over seeds. Strips: how often the memory fired."
    if switches or any(few.values()):
        note = "Ticks: firings of the first seed. Dashed lines: regimes that come back; dotted: new ones (first seed)."
    strip = 0.24 * len(fired) + (0.55 if fired else 0)
    figure = board.figure(4.4 + strip, "Cumulative error", note)
    heights = [4.4, *[0.24] * len(fired)]
    figure.get_layout_engine().set(hspace=0.01, h_pad=0.02)
    panels = figure.subplots(1 + len(fired), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes in panels[:-1]:
        axes.tick_params(axis="x", length=0)
    axes = panels[0]
    ends, colours, settled = [], [], []
    counts: dict[str, int] = {}
    for method in methods:
        x = np.array(method.entry["vectors"]["cumulative_step"])
        y = np.maximum(method.entry["vectors"]["cumulative_mse"], 1e-12)
        used = x >= 0.01 * total  # before, a mean of a few steps jumps over the whole range
        stroke = STROKES[counts.setdefault(method.kind, 0) % len(STROKES)]
        counts[method.kind] += 1
        axes.plot(x[used], y[used], color=board.kinds[method.kind], linestyle=stroke, linewidth=1.4)
        ends.append(y[-1])
        colours.append(board.kinds[method.kind])
        settled.append(y[x >= 0.08 * total])
    seen = np.concatenate(settled)
    axes.set_yscale("log")
    axes.set_ylim(seen.min() * 0.93, min(seen.max(), 30 * np.median(seen)) * 1.07)
    plain_log(axes.yaxis, room=9)
    axes.set_xlim(0, total)
    axes.grid(axis="y")
    axes.set_ylabel(board.words("Running mean of the squared error [SD²]"))
    _names(axes, methods, ends, colours, total)
    edges = np.unique(np.linspace(0, total, 181).astype(int))
    shares = {
        name: 100 * np.add.reduceat((track > 0).mean(axis=0), edges[:-1]) / np.diff(edges)
        for name, track in fired.items()
        if not few[name]
    }
    top = max([10.0, *(share.max() for share in shares.values())])
    image = None
    for axes, (name, track) in zip(panels[1:], fired.items(), strict=True):
        axes.set_yticks([0.5], [name])
        axes.set_ylim(0, 1)
        axes.tick_params(axis="y", length=0, labelsize=7.5)
        if few[name]:
            axes.vlines(np.flatnonzero(track[0] > 0), 0.08, 0.92, color=board.kinds["arm with memory"], linewidth=1)
            axes.plot([], [])
        else:
            image = axes.pcolormesh(edges, [0, 1], shares[name][None], cmap=SEQUENTIAL, vmin=0, vmax=top)
    if image is not None:
        bar = figure.colorbar(image, ax=panels, location="bottom", shrink=0.35, aspect=40, pad=0.01)
        bar.set_label(board.words("Steps with a firing [%]"))
        bar.outline.set_visible(False)
    for axes in panels:
        _switches(axes, switches or (), first, first + total)
    panels[-1].set_xlabel(board.words("Time in the test period [steps of {}]").format(step))
    return figure


def _regime_rows(switches: Sequence[Switch], first: int, count: int) -> np.ndarray:
    """[count] true regime of the rows from ``first``."""
    rows = np.full(count, switches[0].previous if switches else 0)
    for switch in switches:
        rows[max(0, switch.row - first) :] = switch.regime
    return rows


def slots(board: Board, tracks: Mapping[str, np.ndarray], switches: Sequence[Switch] | None, first: int, step: str):
    """What each slot of a memory was worth over time (first seed).

    Parameters
    ----------
    tracks: arm -> [n, slot]: weight of a slot's model (regime learner) or use of a slot (deep arms).
    """
    used = {  # up to the last slot that ever mattered
        name: 1 + int(np.max(np.flatnonzero(track.max(axis=0) > 1e-3), initial=0)) for name, track in tracks.items()
    }
    told = board.words("{}: {} of {} slots used")
    titles = {name: told.format(name, used[name], track.shape[1]) for name, track in tracks.items()}
    tracks = {name: track[:, : used[name]] for name, track in tracks.items()}
    heights = [0.22] * bool(switches) + [max(1.2, min(1.8, 0.14 * track.shape[1])) for track in tracks.values()]
    note = "First seed. Strip on top: the true regime." if switches else "First seed."
    figure = board.figure(sum(heights) + 0.45 * len(tracks) + 0.5, "Memory slots", note)
    figure.get_layout_engine().set(hspace=0.01)
    panels = list(figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])
    for axes in panels[:-1]:
        axes.tick_params(axis="x", length=0)
    total = max(len(track) for track in tracks.values())
    if switches:
        from matplotlib.colors import ListedColormap

        axes = panels.pop(0)
        regime = _regime_rows(switches, first, total)
        count = int(regime.max()) + 1
        colours = ListedColormap([PALETTE[k % len(PALETTE)] for k in range(count)])
        axes.pcolormesh(np.arange(total + 1), [0, 1], regime[None], cmap=colours, vmin=-0.5, vmax=count - 0.5)
        axes.set_yticks([0.5], [board.words("regime")])
        axes.tick_params(axis="y", length=0)
        changes = np.flatnonzero(np.diff(regime)) + 1
        for start, end in zip([0, *changes], [*changes, total], strict=True):
            if end - start > 0.025 * total:
                white = PALETTE[regime[start] % len(PALETTE)] not in ("#F0E442", "#56B4E9", "#E69F00")
                axes.text(
                    (start + end) / 2, 0.48, str(regime[start] + 1), ha="center", va="center", fontsize=7.5,
                    color="white" if white else INK,
                )  # fmt: skip
    for axes, (name, track) in zip(panels, tracks.items(), strict=True):
        edges = np.unique(np.linspace(0, len(track), 701).astype(int))
        means = np.add.reduceat(track, edges[:-1], axis=0) / np.diff(edges)[:, None]
        image = axes.pcolormesh(edges, np.arange(track.shape[1] + 1) + 0.5, means.T, cmap=SEQUENTIAL, vmin=0)
        axes.set_title(titles[name])
        axes.set_ylabel(board.words("Slot"))
        axes.locator_params(axis="y", integer=True, nbins=5)
        bar = figure.colorbar(image, ax=axes, pad=0.01, aspect=12)
        weights = means.max() <= 1.0001
        bar.set_label(board.words("weight of the slot [1]" if weights else "use of the slot [1]"))
        bar.outline.set_visible(False)
        _switches(axes, switches or (), first, first + total)
    panels[-1].set_xlim(0, total)
    panels[-1].set_xlabel(board.words("Time in the test period [steps of {}]").format(step))
    return figure


def recurrence_curve(losses: np.ndarray, switches: Sequence[Switch], first: int, steps: int = 100) -> np.ndarray:
    """Mean loss at each step since a regime came back.

    Parameters
    ----------
    losses: [n] of the forecasts of rows ``first`` and later (a forecast's row: the first that it forecasts).
    switches: regime changes; only recurrences with all ``steps`` rows in the period count.

    Returns
    -------
    [steps]; NaN where there is no recurrence.
    """
    starts = [
        s.row - first
        for s in switches
        if s.kind == "recurrence" and first <= s.row and s.row - first + steps <= len(losses)
    ]
    if not starts:
        return np.full(steps, np.nan)
    return losses[np.array(starts)[:, None] + np.arange(steps)].mean(axis=0)


def recurrences(board: Board, panels: Mapping[str, Mapping[str, np.ndarray]], step: str, width: int = 5) -> Figure:
    """Squared error after a regime has come back, with and without memory.

    Parameters
    ----------
    panels: heading -> arm -> [seed, steps] curves of :func:`recurrence_curve`.
    width: steps averaged into one point.
    """
    figure = board.figure(
        3.3,
        "After a recurrence",
        "Means over all recurrences in the test period, five steps each; bands: 95 % interval over seeds.",
    )
    drawn = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    lowest, highest = np.inf, 0.0
    for axes, (heading, arms) in zip(drawn, panels.items(), strict=True):
        for index, (name, curves) in enumerate(arms.items()):
            points = curves.reshape(len(curves), -1, width).mean(axis=2)  # [seed, steps / width]
            spans = [summary(column.tolist()) for column in points.T]
            x = np.arange(points.shape[1]) * width + width / 2
            y = np.array([span["mean"] for span in spans])
            lowest, highest = min(lowest, y.min()), max(highest, y.max())
            colour = board.kinds[board.method(name).kind]
            axes.plot(x, y, color=colour, marker="os^D"[index % 4], markersize=4, linewidth=1.6, label=name)
            if spans[0]["ci95"]:
                low, high = np.array([span["ci95"] for span in spans]).T
                axes.fill_between(x, np.maximum(low, 1e-9), high, color=colour, alpha=0.18, linewidth=0)
        axes.set_yscale("log")
        axes.set_xlim(0, points.shape[1] * width)
        axes.set_title(board.words(heading))
        axes.set_xlabel(board.words("Time since the regime came back [steps of {}]").format(step))
        axes.grid(which="major", color=FAINT)
        axes.legend(loc="upper right")
    drawn[0].set_ylabel(board.words("Squared error [SD²]"))
    drawn[0].set_ylim(0.5 * lowest, 2.5 * highest)  # an interval may reach below zero: it leaves the picture there
    plain_log(drawn[0].yaxis, room=8)
    for axes in drawn[1:]:
        axes.tick_params(axis="y", length=0)
    return figure
