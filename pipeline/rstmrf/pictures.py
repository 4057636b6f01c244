"""Pictures of one world: slices of density, peaks, where data lie and whether intervals hold; and the memory front."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..core import figures
from ..core.board import Board
from .estimates import Estimate
from .world import SAMPLED_LOCAL_TIMES, SAMPLED_WITHIN_H, Truth, World

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SECTOR_H = (10.0, 18.0)  # local times of the slices: day and the crests of the anomaly
LATITUDES = np.arange(-80, 81, 10.0)
ALTITUDES_KM = np.arange(120, 501, 38.0)
LEAST = 3  # points in a cell of a slice
LEVELS = np.arange(0.1, 0.96, 0.05)  # of central intervals
CHINESE = {
    "Slices": "剖面",
    "F2 peak": "F2 层峰值",
    "Data and intervals": "数据分布与区间覆盖",
    "Memory and skill": "内存与技巧评分",
    "magnetic latitude [degrees]": "磁纬 [度]",
    "altitude [km]": "高度 [km]",
    "truth": "真值",
    "true": "真实",
    "estimated": "估计",
    "local time [h]": "地方时 [h]",
    "share of truth inside": "真值落入比例",
    "central interval": "中心区间",
    "saved tensors [MB]": "保存的张量 [MB]",
}


def binned(x: np.ndarray, y: np.ndarray, values: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Mean [len(ys) - 1, len(xs) - 1] of values in cells; NaN with fewer than :data:`LEAST`."""
    total, *_ = np.histogram2d(y, x, (ys, xs), weights=values)
    count, *_ = np.histogram2d(y, x, (ys, xs))
    return np.where(count >= LEAST, total / np.maximum(count, 1), np.nan)


def slices(one: Board, world: World, truth: Truth, found: Mapping[str, Estimate]) -> Figure:
    """Density of the day side by magnetic latitude and altitude: truth, and what each method adds to it."""
    points = world.dense
    lit = (points.local_time >= SECTOR_H[0]) & (points.local_time < SECTOR_H[1])
    at = (world.qd(points.lat, points.lon)[lit], points.alt_km[lit])
    note = (
        "Dense truth between 10 and 18 h local time, all hours, averaged in cells of 10 degrees and 38 km; then each "
        f"method minus truth. World {world.name}."
    )
    across = min(3 if len(found) < 6 else 4, 1 + len(found))
    rows = -(-(1 + len(found)) // across)
    figure = one.figure(2.1 * rows, "Slices", note)
    panels = figure.subplots(rows, across, sharex=True, sharey=True, squeeze=False)
    flat = list(panels.ravel())
    mesh = flat[0].pcolormesh(
        LATITUDES,
        ALTITUDES_KM,
        binned(*at, truth.dense[lit], LATITUDES, ALTITUDES_KM),
        cmap=figures.SEQUENTIAL,
    )
    flat[0].set_title(one.words("truth"))
    figure.colorbar(mesh, ax=flat[0], label="log10 Ne [m-3]")
    for axes, (name, value) in zip(flat[1:], found.items(), strict=False):
        error = binned(*at, (value.dense - truth.dense)[lit], LATITUDES, ALTITUDES_KM)
        mesh = axes.pcolormesh(LATITUDES, ALTITUDES_KM, error, cmap=figures.DIVERGING, vmin=-0.5, vmax=0.5)
        size = np.sqrt(np.mean((value.dense - truth.dense)[lit] ** 2))
        axes.set_title(f"{name}\nRMSE {figures.number(size)}", fontsize=8)
        figure.colorbar(mesh, ax=axes, label="dex")
    for axes in flat[1 + len(found) :]:
        axes.remove()
    for axes in flat[: 1 + len(found)][-across:]:  # the lowest of each column
        axes.set_xlabel(one.words("magnetic latitude [degrees]"))
        axes.tick_params(labelbottom=True)
    for axes in panels[:, 0]:
        axes.set_ylabel(one.words("altitude [km]"))
    return figure


def peaks(one: Board, truth: Truth, found: Mapping[str, Estimate]) -> Figure:
    """Estimated against true height and density of the F2 peak, one world's columns."""
    figure = one.figure(4.6, "F2 peak", "Columns of one world, the method's first seed.")
    panels = figure.subplots(2, len(found), sharey="row", squeeze=False)
    rows = (("hmf2", truth.hmf2, "hmF2 [km]"), ("nmf2", truth.nmf2, "log10 NmF2 [m-3]"))
    for line, (key, true, label) in zip(panels, rows, strict=True):
        low, high = np.nanpercentile(true, [0, 100])
        for axes, (name, value) in zip(line, found.items(), strict=True):
            axes.plot(true, getattr(value, key), ".", ms=2.5, color=figures.BLUE, alpha=0.4)
            axes.plot([low, high], [low, high], color=figures.INK, lw=0.8)
            size = np.sqrt(np.nanmean((getattr(value, key) - true) ** 2))
            axes.set_title(f"{name}\nRMSE {figures.number(size)}", fontsize=8)
            axes.set_xlabel(f"{one.words('true')} {label}", fontsize=7.5 if len(found) > 4 else None)
        line[0].set_ylabel(f"{one.words('estimated')} {label}")
    return figure


def inside(error: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Share of errors within the central normal intervals of :data:`LEVELS`."""
    from scipy.special import ndtri

    return (np.abs(error / sd)[None] <= ndtri(0.5 + LEVELS / 2)[:, None]).mean(1)


def coverage(one: Board, world: World, truth: Truth, found: Mapping[str, Estimate]) -> Figure:
    """Left: where profiles were taken; right: how often truth lies within the stated intervals."""
    note = f"Left: profiles of world {world.name}; shaded local times count as sampled. Right: dense truth."
    figure = one.figure(3.2, "Data and intervals", note)
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    for centre in SAMPLED_LOCAL_TIMES:
        left.axvspan(centre - SAMPLED_WITHIN_H, centre + SAMPLED_WITHIN_H, color=figures.FAINT, lw=0)
    _, first = np.unique(world.obs_profile, return_index=True)
    taken = world.obs.take(first)
    height, held = world.qd(taken.lat, taken.lon), world.obs_withheld[first]
    for kept, colour, label in ((~held, figures.BLUE, "used"), (held, figures.VERMILION, "withheld")):
        left.plot(taken.local_time[kept], height[kept], ".", ms=3, color=colour, label=label)
    left.set(xlim=(0, 24), ylim=(-90, 90), xticks=range(0, 25, 6), yticks=range(-90, 91, 30))
    left.set_xlabel(one.words("local time [h]"))
    left.set_ylabel(one.words("magnetic latitude [degrees]"))
    left.legend(loc="center", bbox_to_anchor=(8 / 24, 0.4), frameon=True)  # local times without orbits
    for (name, value), colour in zip(found.items(), figures.PALETTE, strict=False):
        if value.dense_sd is not None:
            share = inside(value.dense - truth.dense, value.dense_sd)
            right.plot(LEVELS, share, "o-", ms=3, color=colour, label=name)
    right.plot([0, 1], [0, 1], color=figures.GREY, lw=0.8)
    right.set(xlim=(0, 1), ylim=(0, 1))
    right.set_xlabel(one.words("central interval"))
    right.set_ylabel(one.words("share of truth inside"))
    right.grid(True)
    if right.get_legend_handles_labels()[0]:
        right.legend()
    return figure


def front(one: Board) -> Figure | None:
    """Skill against the memory of the tensors that a step keeps; the line joins what nothing beats in both."""
    shown = {
        method.name: (float(method.entry["saved_mb"]), method.mean("skill"))
        for method in one.methods
        if method.entry.get("saved_mb") and method.mean("skill") is not None
    }
    if len(shown) < 3:
        return None
    figure = one.figure(3.6, "Memory and skill", "Line: no arm has more skill with less memory.")
    axes = figure.add_subplot()
    best = pareto(shown)
    axes.plot(*zip(*(shown[name] for name in best), strict=True), color=figures.FAINT, lw=2, zorder=1)
    for name, place in shown.items():
        axes.plot(*place, "o", color=figures.BLUE if name in best else figures.GREY, ms=6)
    values = [place[1] for place in shown.values()]
    high, low = max(values), min(values)
    right = 1.12 * max(place[0] for place in shown.values())
    heights = figures.spread(values, (high - low) / 14 or 1e-3, low, high)
    for (name, place), height in zip(shown.items(), heights, strict=True):
        arrow = {"arrowstyle": "-", "color": figures.FAINT, "lw": 0.6}
        axes.annotate(name, place, (right, height), fontsize=8, va="center", arrowprops=arrow)
    axes.set_xlim(0, 1.35 * right)
    axes.set_xlabel(one.words("saved tensors [MB]"))
    axes.set_ylabel(one.labels["skill"])
    axes.grid(True)
    return figure


def pareto(places: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names, by rising memory, of those that none beats with less memory and at least as much skill."""
    best: list[str] = []
    for name, (_, skill) in sorted(places.items(), key=lambda item: (item[1][0], -item[1][1])):
        if not best or skill > places[best[-1]][1]:
            best.append(name)
    return best
