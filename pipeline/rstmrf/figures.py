"""All figures of a results table: PNG files `<scenario>_<figure>.png` in one folder, and a contact sheet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import charts, figures
from ..core.board import Board, Method
from ..core.stages import Job, Result
from ..core.store import read_json
from . import estimates, pictures
from . import world as worlds
from .grid import interpolate
from .scoring import ALTITUDES_KM, LOCAL_TIMES_H

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = {
    "skill": "skill (1 - MSE / MSE of IRI)",
    "skill_sampled": "skill, sampled local times",
    "skill_unsampled": "skill, other local times",
    "rmse": "RMSE [dex]",
    "rmse_withheld": "RMSE, withheld profiles [dex]",
    "rmse_fof2_mhz": "foF2 RMSE [MHz]",
    "rmse_hmf2_km": "hmF2 RMSE [km]",
    "rmse_tec": "TEC RMSE [TECU]",
    "crps": "CRPS [dex]",
    "coverage90": "coverage of 90 % intervals",
}
HIGHER = frozenset({"skill", "skill_sampled", "skill_unsampled"})
UNRANKED = frozenset({"coverage90"})
NOTHING = 1e-6
SHOWN = ("iri", "iri_tec", "kf", "seed", "corrected", "assimilate")  # in slices and scatters
KINDS = {"arm": figures.BLUE, "baseline": figures.GREY}
BARS = ("skill", "skill_sampled", "skill_unsampled", "rmse_hmf2_km")
CHINESE = {
    "Errors": "误差",
    "Table": "结果表",
    "arm": "模型",
    "baseline": "基线",
    "Error by local time": "按地方时的误差",
    "local time [h]": "地方时 [h]",
    "Skill by altitude and local time": "按高度与地方时的技巧评分",
    "spread [dex]": "离散度 [dex]",
    "Spread and error": "离散度与误差",
} | pictures.CHINESE


def board(name: str, block: Mapping[str, Any], words: Any) -> Board:
    """One scenario, ready to be drawn."""
    methods = [Method(key, kind, _rounded(entry)) for kind in KINDS for key, entry in block[f"{kind}s"].items()]
    info = block["dataset"]
    subtitle = f"{info.get('name', '')} · {', '.join(block['worlds'])} · values: {block['values_of']}"
    seeds = max((len(m.values(block["primary"]["metric"])) for m in methods), default=1)
    return Board(name, subtitle, methods, KINDS, METRICS, words, seeds, HIGHER, UNRANKED)


def _rounded(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry whose metrics are zero where they are what single precision leaves of a zero (IRI's own skill)."""

    def clean(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [clean(part) for part in value]
        return 0.0 if isinstance(value, float) and abs(value) < NOTHING else value

    metrics = {name: {key: clean(part) for key, part in found.items()} for name, found in entry["metrics"].items()}
    return {**entry, "metrics": metrics}


def by_local_time(one: Board) -> Figure | None:
    """RMSE by hour of local time of the five best arms and the best baselines, sampled sectors shaded."""
    known = [m for m in one.ranked("skill") if "rmse_by_local_time" in m.entry["vectors"]]
    arms = [m for m in known if m.kind == "arm"][:5]
    shown = arms + [m for m in known if m.kind != "arm"][: 8 - len(arms)]
    if not shown:
        return None
    figure = one.figure(3.4, "Error by local time", "Shaded: local times that the satellite passes.")
    axes = figure.add_subplot()
    for centre in worlds.SAMPLED_LOCAL_TIMES:
        axes.axvspan(centre - 2.5, centre + 2.5, color=figures.FAINT, lw=0)
    for method, colour in zip(shown, figures.PALETTE, strict=False):
        values = np.array(method.entry["vectors"]["rmse_by_local_time"], float)
        axes.plot(
            np.arange(24) + 0.5, values, color=colour, label=method.name, ls="--" if method.kind != "arm" else "-"
        )
    axes.set_xlim(0, 24)
    axes.set_xlabel(one.words("local time [h]"))
    axes.set_ylabel(METRICS["rmse"])
    axes.legend(ncols=2)
    return figure


def cells(one: Board) -> Figure | None:
    """Skill by altitude and local time of up to four methods."""
    key = "skill_by_altitude_local_time_latitude"
    ranked = [m for m in one.ranked("skill") if m.kind == "arm" and key in m.entry["vectors"]]
    ranked += [m for m in one.methods if m.name == "kf" and key in m.entry["vectors"]]
    if not ranked:
        return None
    ranked = ranked[:4]
    figure = one.figure(2.6, "Skill by altitude and local time", "Mean over magnetic latitude. Zero: as good as IRI.")
    panels = figure.subplots(1, len(ranked), sharey=True, squeeze=False)[0]
    for axes, method in zip(panels, ranked, strict=True):
        values = _mean(np.array(method.entry["vectors"][key], float))  # [altitude, local time]
        picture = axes.pcolormesh(LOCAL_TIMES_H, ALTITUDES_KM, values, cmap=figures.DIVERGING, vmin=-1, vmax=1)
        for row, low in enumerate(ALTITUDES_KM[:-1]):
            for column, first in enumerate(LOCAL_TIMES_H[:-1]):
                middle = (low + ALTITUDES_KM[row + 1]) / 2
                text = figures.number(values[row, column], 2) if np.isfinite(values[row, column]) else ""
                axes.text(first + 3, middle, text, ha="center", va="center", fontsize=8)
        axes.set_title(method.name)
        axes.set_xlabel(one.words("local time [h]"))
        axes.set_xticks(LOCAL_TIMES_H)
    panels[0].set_ylabel("altitude [km]")
    figure.colorbar(picture, ax=panels, label="skill")
    return figure


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is there; NaN where nothing is."""
    there = np.isfinite(values)
    return np.where(there.any(2), np.nansum(values, 2) / np.maximum(there.sum(2), 1), np.nan)


def spread(one: Board) -> Figure | None:
    """RMSE against spread: on the diagonal the spread tells the truth."""
    shown = [m for m in one.methods if "spread" in m.entry["vectors"]]
    if not shown:
        return None
    figure = one.figure(3.6, "Spread and error", "Each point an eighth of the dense truth, sorted by spread.")
    axes = figure.add_subplot()
    for method, colour in zip(shown, figures.PALETTE, strict=False):
        vectors = method.entry["vectors"]
        axes.plot(vectors["spread"], vectors["rmse_at_spread"], "o-", color=colour, ms=4, label=method.name)
    top = max(axes.get_xlim()[1], axes.get_ylim()[1])
    axes.plot([0, top], [0, top], color=figures.GREY, lw=0.8)
    axes.set_xlabel(one.words("spread [dex]"))
    axes.set_ylabel(METRICS["rmse"])
    axes.legend()
    return figure


def tec_map(one: Board, world: worlds.World) -> Figure:
    """TEC at one hour with the direction of its gradient, north up."""
    from .tec import gradient

    hour = len(world.tec_time_h) // 2
    figure = one.figure(3.6, "TEC and the direction of its gradient", f"World {world.name}, hour {hour}.")
    axes = figure.add_subplot()
    mesh = axes.pcolormesh(world.tec_lon, world.tec_lat, world.tec[hour], cmap=figures.SEQUENTIAL, shading="nearest")
    lat, lon = np.arange(-75, 76, 15.0), np.arange(-172.5, 180, 15.0)
    slopes = gradient(world.tec[hour : hour + 1], world.tec_lat, world.tec_lon)
    north, east = interpolate(slopes, world.tec_axes, 0 * lat[:, None], lat[:, None], lon[None, :]).transpose(2, 0, 1)
    size = np.hypot(north, east) + 1e-12
    axes.quiver(lon, lat, east / size, north / size, color="white", scale=45, width=0.0018)
    axes.set_xlabel("longitude [degrees east]")
    axes.set_ylabel("latitude [degrees north]")
    figure.colorbar(mesh, label="TEC [TECU]")
    return figure


def drawn(name: str, block: Mapping[str, Any], folder: Path, words: Any) -> Iterator[tuple[str, Figure]]:
    """The figures of one scenario; ``folder`` holds its worlds, truths and estimates."""
    one = board(name, block, words)
    present = {metric for method in one.methods for metric in method.entry["metrics"]}
    bars = [metric for metric in BARS if metric in present] or [block["primary"]["metric"]]
    yield "metrics", charts.metric_bars(one, bars)
    yield "table", charts.table(one, [metric for metric in METRICS if metric in present])
    for kind, figure in (("local_time", by_local_time(one)), ("cells", cells(one)), ("spread", spread(one))):
        if figure is not None:
            yield kind, figure
    first = next(iter(block["worlds"]))
    world = worlds.load(folder / "worlds.zarr", first)
    if world.has_tec:
        yield "tec", tec_map(one, world)
    memory = pictures.front(one)
    if memory is not None:
        yield "front", memory
    truth = worlds.load_truth(folder / "truth.zarr", first)
    found = members(folder, block, first)
    if found and truth.dense.size:
        yield "slices", pictures.slices(one, world, truth, found)
        yield "coverage", pictures.coverage(one, world, truth, found)
    if np.isfinite(truth.hmf2).any():
        yield "peaks", pictures.peaks(one, truth, found)


def members(folder: Path, block: Mapping[str, Any], world: str) -> dict[str, estimates.Estimate]:
    """First seed of the methods that are drawn, of one world."""
    stores = [folder / "baselines.zarr", *(folder / arm / "estimates.zarr" for arm in block["arms"] if arm in SHOWN)]
    found: dict[str, estimates.Estimate] = {}
    for store in stores:
        for value in estimates.read(store):
            if value.world == world and value.method in SHOWN:
                found.setdefault(value.method, value)
    return {name: found[name] for name in SHOWN if name in found}


def plot(job: Job, settings: Any, log: Any) -> Result:
    """Stage ``plot``: output ``figures``, a folder; inputs ``table`` and the scenarios' ``worlds`` (their folders)."""
    table, folder = read_json(job.inputs["table"]), Path(job.outputs["figures"])
    words = figures.translator(settings.language, CHINESE)
    folders = {Path(path).parent.name: Path(path).parent for path in job.inputs["worlds"]}
    sheet = []
    with figures.style(settings.language):
        for name, block in table["scenarios"].items():
            for kind, figure in drawn(name, block, folders[name], words):
                sheet.append(figures.save(figure, folder / f"{name}_{kind}.png"))
        whole = figures.contact_sheet(sheet[:36], "R-STMRF", ", ".join(table["scenarios"]))
        figures.save(whole, folder / "contact_sheet.png", figures.SHEET_DPI)
    return Result({"pictures": float(len(sheet) + 1)}, figures=("figures",))
