"""Pictures of stored attention: maps of a node, strongest edges, samples side by side, change over time, statistics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.figures import BLUE, GREY, INK, PALETTE, SEQUENTIAL, VERMILION, canvas, number, save, style
from . import attention_statistics as numbers
from .attention_store import Store

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = 6  # sources that get a line of their own
COLOURS = {0: VERMILION, 1: BLUE}
NAMES = ("neighbours", "self")


def busiest(store: Store) -> int:
    """The node with most incoming edges (the first of them)."""
    return int(np.bincount(store.target[store.kind == 0], minlength=len(store.nodes)).argmax())


def clock(store: Store, sample: int) -> list[str]:
    """[T] time of day of each step."""
    return [str(t)[11:16] for t in store.time[sample].astype("datetime64[m]")]


def _subtitle(store: Store, sample: int | None = None) -> str:
    parts = [str(store.attrs.get(key)) for key in ("data", "scenario", "arm") if store.attrs.get(key)]
    if sample is not None:
        first, last = (str(t.astype("datetime64[m]")).replace("T", " ") for t in store.time[sample][[0, -1]])
        parts.append(f"sample {sample + 1}: {first} to {last[11:]}")
    return ", ".join(parts)


def _ticks(axes: Axes, labels: list[str], which: str = "xy") -> None:
    every = max(1, len(labels) // 4)
    places = np.arange(0, len(labels), every)
    if "x" in which:
        axes.set_xticks(places, [labels[i] for i in places])
    if "y" in which:
        axes.set_yticks(places, [labels[i] for i in places])


def heat(axes: Axes, alpha: np.ndarray, labels: list[str], title: str, top: float | None = None) -> Any:
    """One map [T, S]."""
    image = axes.imshow(alpha.astype(float), cmap=SEQUENTIAL, vmin=0, vmax=top, origin="upper", aspect="equal")
    _ticks(axes, labels)
    axes.tick_params(labelsize=7)
    axes.grid(False)
    axes.set_title(title, fontsize=8.5)
    return image


def maps(store: Store, node: int, sample: int, layers: list[int], edge: int | None = None) -> Figure:
    """Temporal heat maps of a node, a column a layer: self-attention, and its edge (or that of most weight)."""
    own = [i for i in np.flatnonzero((store.kind == 1) & (store.source == node))]
    incoming = np.flatnonzero((store.kind == 0) & (store.target == node))
    if edge is None and len(incoming):
        edge = int(incoming[store.norm[sample][:, incoming].sum(axis=(0, 2)).argmax()])
    rows = [*((i, "itself") for i in own), *([(edge, "edge")] if edge is not None else [])]
    figure = canvas(
        2.35 * len(rows) + 0.3,
        f"Attention between steps: {store.nodes[node]}",
        _subtitle(store, sample),
        "Rows: step that is imputed; columns: step that is looked at. Every row sums to one, or to zero where nothing "
        "could be seen. Columns that are dark throughout: cells that were missing or hidden.",
    )
    grid = figure.subplots(len(rows), len(layers), squeeze=False)
    for line, (pair, what) in zip(grid, rows, strict=True):
        top = float(store.alpha[sample][layers, pair].max())
        for axes, layer in zip(line, layers, strict=True):
            who = (
                "itself"
                if what == "itself"
                else f"{store.nodes[store.source[pair]]} → {store.nodes[store.target[pair]]}"
            )
            image = heat(axes, store.alpha[sample, layer, pair], clock(store, sample), f"layer {layer + 1}: {who}", top)
            if axes is not line[0]:
                axes.set_yticklabels([])
            if line is not grid[-1]:
                axes.set_xticklabels([])
        line[0].set_ylabel("imputed step")
        figure.colorbar(image, ax=list(line), shrink=0.8, label="alpha", aspect=15, pad=0.01)
    for axes in grid[-1]:
        axes.set_xlabel("step looked at")
    return figure


def top_edges(store: Store, sample: int, layer: int, step: int, count: int) -> Figure:
    """Edges by what they add to their target at one step."""
    share = store.share[sample, layer, :, step]
    cross = np.flatnonzero(store.kind == 0)
    order = cross[np.argsort(-store.norm[sample, layer, cross, step], kind="stable")][:count]
    figure = canvas(
        0.19 * len(order) + 0.7,
        f"The {len(order)} edges that add most, layer {layer + 1}, {clock(store, sample)[step]}",
        _subtitle(store, sample),
        "Length of what the edge adds to its target, ‖w Σ alpha msg‖; beside the bar: its share in all that the "
        "target is told in this layer.",
    )
    axes = figure.subplots()
    length = store.norm[sample, layer, order, step]
    place = np.arange(len(order))
    axes.barh(place, length, color=VERMILION, height=0.7)
    for at, (value, part) in enumerate(zip(length, share[order], strict=True)):
        axes.text(value, at, f" {part:.0%}", va="center", fontsize=7.5, color=INK)
    names = [f"{store.nodes[store.source[i]]} → {store.nodes[store.target[i]]}" for i in order]
    axes.set_yticks(place, names, fontsize=7.5)
    axes.invert_yaxis()
    axes.set_xlabel("length of the contribution")
    axes.set_xlim(0, length.max() * 1.08 if len(length) else 1)
    axes.grid(axis="x")
    return figure


def samples(store: Store, node: int, layer: int) -> Figure:
    """The node's map in every sample."""
    pair = np.flatnonzero((store.source == node) & (store.target == node) & (store.kind == 1))
    if len(pair) == 0:
        incoming = np.flatnonzero((store.kind == 0) & (store.target == node))
        pair = incoming[[store.norm[:, layer, incoming].sum(axis=(0, 2)).argmax()]]
    pair = int(pair[0])
    shown = range(min(store.alpha.shape[0], 4))
    who = "itself" if store.kind[pair] else f"{store.nodes[store.source[pair]]} → {store.nodes[node]}"
    figure = canvas(
        2.6,
        f"{store.nodes[node]} ({who}), layer {layer + 1}, in every sample",
        _subtitle(store),
        "The same pair in windows at different times of the test period.",
    )
    grid = figure.subplots(1, len(shown), squeeze=False)[0]
    top = float(store.alpha[: len(shown), layer, pair].max())
    for axes, sample in zip(grid, shown, strict=True):
        day = str(store.time[sample, 0].astype("datetime64[D]"))
        image = heat(axes, store.alpha[sample, layer, pair], clock(store, sample), f"sample {sample + 1}: {day}", top)
        axes.set_xlabel("step looked at")
    grid[0].set_ylabel("imputed step")
    figure.colorbar(image, ax=list(grid), shrink=0.8, label="alpha", aspect=15, pad=0.01)
    return figure


def evolution(store: Store, node: int, sample: int, layer: int) -> Figure:
    """Shares of the node's sources over the window, above what was seen of it."""
    incoming = np.flatnonzero(store.target == node)
    share = store.share[sample, layer, incoming]  # [pairs, T]
    order = np.argsort(-share.mean(axis=1), kind="stable")
    figure = canvas(
        3.4,
        f"Who tells {store.nodes[node]} something, layer {layer + 1}",
        _subtitle(store, sample),
        "Share of each source in what the node is told at a step. Below: the node's values; open: what the "
        "network says where the cell was not visible.",
    )
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    steps = np.arange(share.shape[1])
    for rank, at in enumerate(order[:LINES]):
        pair = incoming[at]
        name = "itself" if store.kind[pair] else store.nodes[store.source[pair]]
        upper.plot(steps, share[at], color=PALETTE[rank], label=name, lw=1.6)
    if len(order) > LINES:
        rest = share[order[LINES:]].sum(axis=0)
        upper.plot(steps, rest, color=GREY, ls="--", label=f"{len(order) - LINES} others, together", lw=1.3)
    upper.set_ylim(0)
    upper.set_ylabel("share")
    upper.grid(axis="y")
    upper.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    value, filled = store.value[sample, :, node], store.filled[sample, :, node]
    gone = np.isnan(value)
    lower.plot(steps, np.where(gone, filled, value), color=GREY, lw=0.8)
    lower.plot(steps[~gone], value[~gone], "o", color=BLUE, ms=4)
    lower.plot(steps[gone], filled[gone], "o", mfc="white", mec=VERMILION, ms=4.5)
    lower.set_ylabel(f"{store.attrs['channel']} [{store.attrs['unit']}]")
    _ticks(lower, clock(store, sample), "x")
    return figure


def overview(store: Store) -> Figure:
    """Lag profiles, symmetry and distance, all samples together."""
    layers, steps = store.alpha.shape[1], store.alpha.shape[-1]
    distance, unit = numbers.edge_distance(store)
    figure = canvas(
        2.5,
        "Locality, symmetry and distance",
        f"{_subtitle(store)}, {store.alpha.shape[0]} samples",
        "Left: attention by lag, mean over nodes or edges (dotted: a blind row, 1/T). Middle: overlap of a map with "
        "its transpose (1: symmetric). Right: mean share of an edge by its length, relative to the layer's mean.",
    )
    panels = figure.subplots(1, 4 if distance is not None else 3)
    lags = np.arange(1 - steps, steps)
    for axes, kind in zip(panels[:2], (1, 0), strict=True):
        pairs = store.kind == kind
        for layer in range(layers if pairs.any() else 0):
            profile = numbers.lag_profile(store.alpha[:, layer, pairs])
            axes.plot(lags, profile, color=PALETTE[layer % len(PALETTE)], label=f"layer {layer + 1}", lw=1.4)
        axes.axhline(1 / steps, color=GREY, ls=":", lw=1)
        axes.set_ylim(0)
        axes.set_title(NAMES[kind])
        axes.set_xlabel("lag [steps]")
    panels[0].set_ylabel("alpha")
    panels[1].legend(fontsize=7, loc="best")
    width = 0.38
    for kind in (1, 0):
        pairs = store.kind == kind
        if pairs.any():
            values = [numbers.symmetry(store.alpha[:, layer, pairs]) for layer in range(layers)]
            place = np.arange(layers) + (0.5 - kind) * width
            panels[2].bar(place, values, width, color=COLOURS[kind], label=NAMES[kind])
    panels[2].set_xticks(np.arange(layers), np.arange(1, layers + 1))
    panels[2].set_ylim(0, 1)
    panels[2].set_title("symmetry")
    panels[2].set_xlabel("layer")
    panels[2].legend(fontsize=7)
    if distance is not None:
        share = store.share.mean(axis=(0, 3))[:, store.kind == 0]
        for layer in range(layers):
            middle, mean = numbers.by_distance(share[layer] / max(share[layer].mean(), 1e-12), distance)
            panels[3].plot(middle, mean, "o-", ms=3, color=PALETTE[layer % len(PALETTE)], lw=1.4)
        panels[3].axhline(1, color=GREY, ls=":", lw=1)
        panels[3].set_ylim(0)
        panels[3].set_title("share by distance")
        panels[3].set_xlabel(f"length of the edge [{unit}]")
    return figure


def faithfulness(found: dict[str, Any], about: str) -> Figure:
    """Error after deletion: top k against k random sources."""
    figure = canvas(
        2.3,
        "Does attention tell what the network uses?",
        f"{about}, {found['targets']} hidden cells in {found['windows']} windows",
        f"Sources hidden from the network by attention times contribution, or at random. Error with all sources: "
        f"{number(found['mae'])} {found['unit']}. Differences are top minus random with 95 % intervals by window.",
    )
    for axes, (name, interval, title) in zip(
        figure.subplots(1, 2),
        (("difference", "ci95", "change of the error"), ("moved_difference", "moved_ci95", "change of the answer")),
        strict=True,
    ):
        for place, entry in enumerate(found["by_k"].values()):
            low, high = entry[interval]
            axes.plot([low, high], [place, place], color=BLUE, lw=2)
            axes.plot(entry[name], place, "o", color=BLUE)
            axes.annotate(
                f"{number(entry[name])} [{number(low)}, {number(high)}]", (entry[name], place),
                xytext=(0, 7), textcoords="offset points", ha="center", fontsize=7.5,
            )  # fmt: skip
        axes.axvline(0, color=GREY, lw=1)
        axes.set_yticks(range(len(found["by_k"])), [f"k = {k}" for k in found["by_k"]])
        axes.set_ylim(-0.5, len(found["by_k"]) - 0.3)
        axes.margins(x=0.25)
        axes.set_title(title)
        axes.set_xlabel(f"top − random [{found['unit']}]")
    return figure


def draw(
    store: Store,
    folder: Path,
    *,
    node: int | None = None,
    edge: int | None = None,
    layer: int | None = None,
    sample: int = 0,
    step: int | None = None,
    top: int = 20,
    found: dict[str, Any] | None = None,
    language: str = "en",
) -> list[Path]:
    """All pictures as PNG files. Layers, samples and steps count from 0."""
    node = busiest(store) if node is None else node
    last = store.alpha.shape[1] - 1 if layer is None else layer
    step = store.alpha.shape[3] // 2 if step is None else step
    layers = list(range(store.alpha.shape[1])) if layer is None else [layer]
    with style(language):
        figures = {
            "attention_maps": maps(store, node, sample, layers[:4], edge),
            "attention_top_edges": top_edges(store, sample, last, step, top),
            "attention_samples": samples(store, node, last),
            "attention_evolution": evolution(store, node, sample, last),
            "attention_statistics": overview(store),
        }
        if found and found["by_k"]:
            figures["attention_faithfulness"] = faithfulness(found, _subtitle(store))
        return [save(figure, folder / f"{name}.png") for name, figure in figures.items()]
