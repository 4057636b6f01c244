"""All figures of a results table: PNG files `<scenario>_<figure>.png` in one folder, and a contact sheet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import charts
from ..core.charts import Board, Method
from ..core.errors import DataError
from ..core.figures import SHEET_DPI, Words, contact_sheet, save, style, translator
from ..core.stages import Job, Result
from ..core.store import read_json
from . import labels, panels
from .events import Catalogue, load

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BARS = ("log_likelihood", "crps_time", "energy_location", "log_score_mark")
COLUMNS = (
    "log_likelihood",
    "log_likelihood_time",
    "log_likelihood_location",
    "log_likelihood_mark",
    "crps_time",
    "energy_location",
    "brier",
    "pit_ks",
    "ece",
)
MOST_DRAWN = 8  # methods in a chart of curves: the best by the primary metric
CELLS = 110  # of the density map, along each side


def board(name: str, block: Mapping[str, Any], words: Words) -> Board:
    """One scenario in the form that charts read."""
    methods = [Method(arm, labels.kind(arm, entry), entry) for arm, entry in block["arms"].items()]
    methods += [Method(one, labels.kind(one, entry), entry) for one, entry in block["baselines"].items()]
    data = block["dataset"]
    seeds = max((len(entry.get("seeds") or [0]) for entry in block["arms"].values()), default=1)
    density = data["log_density"]
    subtitle = (
        f"{data['name']}, {data['period']}, {data['targets']['test']:,} test events ({data['distinct']['test']:,} "
        f"distinct) · {density['time_unit']}, {density['place_unit']} · {seeds} seed{'s' if seeds > 1 else ''}"
    )
    title = name + (" (leaky)" if block["leaky"] else "")
    return Board(title, subtitle, methods, labels.KINDS, labels.METRICS, words, seeds, labels.HIGHER, labels.UNRANKED)


def few(whole: Board, metric: str) -> Board:
    """The best methods of a board: more curves than eight can't be told apart."""
    used = [method for method in whole.ranked(metric) if method.mean(metric) is not None]
    rest = [method for method in whole.methods if method not in used]  # sampled arms have no likelihood
    wanted = [*used, *rest]
    if len(wanted) > MOST_DRAWN:
        wanted = [*used[: MOST_DRAWN - min(3, len(rest))], *rest[: min(3, len(rest))]]
    return replace(whole, methods=[method for method in whole.methods if method in wanted])


def draw(
    name: str, block: Mapping[str, Any], cat: Catalogue, folder: Path, words: Words
) -> Iterator[tuple[str, Figure]]:
    """Figures of one scenario: name and figure."""
    whole = board(name, block, words)
    present = {metric for method in whole.methods for metric in (method.entry.get("metrics") or {})}
    short = replace(whole, labels={**labels.METRICS, **labels.SHORT})
    bars = [metric for metric in BARS if metric in present]
    yield "scores", charts.metric_bars(short, bars)
    yield "table", charts.table(short, [metric for metric in COLUMNS if metric in present])
    yield "time", charts.cost(whole, labels.COSTS)
    likelihoods = [entry for entry in block["comparisons"] if entry["metric"] in dict(panels.FACTORS)]
    if likelihoods:
        yield "gains", panels.gains(whole, likelihoods)
    drawn = few(whole, "log_likelihood")
    yield "calibration", panels.calibration(drawn)
    found = panels.rescaled(drawn)
    if found is not None:
        yield "rescaled", found
    if block.get("csep"):
        yield "numbers", panels.numbers(whole, block["csep"])
    if (folder / "etas.json").exists() and cat.meta.get("places", True):
        yield from _fitted(whole, cat, folder)


def _fitted(whole: Board, cat: Catalogue, folder: Path) -> Iterator[tuple[str, Figure]]:
    """What the fitted ETAS says of one test window: the predicted place of an event, and the rate."""
    import torch

    from . import etas_fit
    from .etas_predict import Forecaster
    from .kde import Background

    fitted, background = etas_fit.load(folder / "etas.json"), Background.fit(cat)
    windows = cat.sequences("test")
    sequence = int(windows[np.argsort(cat.lengths[windows])[len(windows) // 2]])  # one of median length
    rows = cat.rows(sequence)
    own = np.arange(rows.start, rows.stop)
    features = np.zeros((len(cat.t), background.components, cat.marks), np.float32)
    features[own] = background.catalogue_features(cat, own)
    made = Forecaster(fitted, background, features)
    events = made.events(cat, np.array([sequence]))
    unit = cat.meta["units"]["time"]
    with torch.no_grad():
        row = len(own) // 2
        if background.lattice is None:
            low, high = np.array(cat.meta["bbox"])
            x, y = (np.linspace(low[a], high[a], CELLS) for a in (0, 1))
        else:
            x, y = background.lattice
        grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(1, -1, 2)
        log_density = made.density(cat, events, np.array([row]), grid)[0].reshape(len(y), len(x))
        place = cat.meta["units"]["place"]
        yield (
            "density",
            panels.density_map(whole, (x, y), log_density, cat.xy[own[:row]], cat.xy[own[row]], place, "ETAS"),
        )
        if cat.meta["lattice"]["time"]:
            return
        found = etas_fit.trace(fitted, events)
        t = cat.t[own]
        times = np.sort(np.concatenate([np.linspace(0, cat.window[sequence], 400), t + 1e-6 * cat.window[sequence]]))
        values = [_rate(fitted.time, t, cat.labels[own], float(at)) for at in times]
        expected = np.cumsum(found["compensator"]) + 1  # the first event is given
        yield "rate", panels.rate(whole, times, np.array(values), t, expected, unit)


def _rate(etas: Any, t: np.ndarray, mark: np.ndarray, at: float) -> float:
    import torch

    past = t < at
    now = torch.tensor(at, dtype=torch.float32)
    total = float(etas.background_rate(now))
    if past.any():
        parent = torch.as_tensor(t[past], dtype=torch.float32)
        total += float(etas.trigger(now.expand(len(parent)), parent, torch.as_tensor(mark[past])).sum())
    return total


def plot(job: Job, settings: Any, log: Any) -> Result:
    """Stage ``plot``: all figures of a table into the folder ``figures``.

    Inputs: ``table`` (``ablation/1``) and ``data`` (the scenarios' prepared files; stores lie beside them).

    Raises
    ------
    DataError
        A table of another form.
    """
    table = read_json(job.inputs["table"])
    if table.get("schema") != "ablation/1" or table.get("system") != "smash":
        raise DataError(f"{job.inputs['table']} is no results table of SMASH; make it by the stage ablation")
    words = translator(settings.language, labels.ZH)
    given = job.inputs["data"]
    paths = [Path(path) for path in ([given] if isinstance(given, str | Path) else given)]
    by_scenario = {path.parent.name: path for path in paths}
    folder = Path(job.outputs["figures"])
    pictures: list[Path] = []
    with style(settings.language):
        folder.mkdir(parents=True, exist_ok=True)
        for name, block in log.progress(list(table["scenarios"].items()), "figures"):
            path = by_scenario[name]
            for what, figure in draw(name, block, load(path), path.parent, words):
                pictures.append(save(figure, folder / f"{name}_{what}.png"))
        sheet = contact_sheet(pictures[:36], words("All figures"), ", ".join(table["scenarios"]))
        save(sheet, folder / "contact_sheet.png", SHEET_DPI)
    return Result({"pictures": float(len(pictures) + 1)}, figures=("figures",))
