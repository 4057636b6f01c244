"""The sampling-time study as a chart and as a table: what a sampler costs, and what its samples are worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..core.figures import BLUE, GREY, INK, VERMILION, Words, canvas, number, plain_log

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PUBLISHED_S = 52_200  # CPU seconds of the published sampler for the whole test, extrapolated from 7.11 us a step
QUALITY = (
    ("crps_time", "CRPS of the gap [{time}]"),
    ("energy_location", "Energy score of the place [{place}]"),
    ("pit_ks", "Kolmogorov distance of the PIT [1]"),
)
SAMPLERS = {
    "langevin_cached": ("Langevin, conditions cached", BLUE, "o"),
    "ode": ("exact gap and mark, place by ODE", VERMILION, "s"),
}


def chart(study: Mapping[str, Any], words: Words) -> Figure:
    """Quality over CPU seconds for the whole test, by sampler; numbers are steps."""
    rows, most = study["rows"], max(row["samples"] for row in study["rows"])
    units = study["units"]
    unit = {"time": units["time"], "place": "°" if units["place"] == "deg" else units["place"]}
    note = (
        "{} events, {} samples each; lower is better. Numbers: steps. Dashed: the published sampler, 2,000 steps, "
        "extrapolated. The Langevin arm and the ODE arm are different networks."
    )
    colours = {words(label): colour for label, colour, _ in SAMPLERS.values()}
    figure = canvas(
        2.5,
        words("Seconds and quality of the samplers"),
        f"{study['dataset']}, {study['threads']} thread",
        words(note).format(study["events"], most),
        colours,
    )
    panels = figure.subplots(1, len(QUALITY))
    for axes, (metric, label) in zip(panels, QUALITY, strict=True):
        for kind, (_, colour, marker) in SAMPLERS.items():
            found = [row for row in rows if row["sampler"] == kind and row["samples"] == most]
            seconds, values = [row["whole_test_s"] for row in found], [row["quality"][metric] for row in found]
            axes.plot(seconds, values, marker=marker, color=colour, markersize=5, linewidth=1.4)
            for at, value, row in zip(seconds, values, found, strict=True):
                axes.annotate(
                    str(row["steps"]), (at, value), (0, 5), textcoords="offset points", fontsize=7, ha="center"
                )
        axes.axvline(PUBLISHED_S, color=GREY, linestyle=(0, (4, 2)), linewidth=1)
        axes.set_xscale("log")
        axes.margins(x=0.1, y=0.16)
        plain_log(axes.xaxis, 4)
        axes.set_ylabel(words(label).format(**unit))
        axes.grid(axis="y")
        axes.tick_params(labelcolor=INK)
    panels[1].set_xlabel(words("CPU seconds for 11,102 events × 300 samples"))
    return figure


def lines(study: Mapping[str, Any]) -> list[str]:
    """The study as Markdown: a row a sampler and number of steps, at the largest number of samples."""
    most = max(row["samples"] for row in study["rows"])
    heads = ["Sampler", "steps", "CPU s", "whole test [s]", "CRPS", "energy", "PIT KS"]
    found = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for row in study["rows"]:
        if row["samples"] != most:
            continue
        quality = row.get("quality") or {}
        cells = [f"`{row['sampler']}`", str(row["steps"] or "–"), number(row["seconds"]), f"{row['whole_test_s']:,.0f}"]
        cells += [f"{quality[name]:.4f}" if name in quality else "–" for name, _ in QUALITY]
        found.append("| " + " | ".join(cells) + " |")
    events = f"{study['events']} test events × {most} samples of {study['dataset']}; {study['note']}."
    return ["## Sampling time", "", events, "", *found, ""]
