"""All figures of a results table: PNG files `<scenario>_<figure>.png`, a slider page each, and a contact sheet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import charts
from ..core.board import Board, Method
from ..core.errors import DataError
from ..core.figures import SHEET_DPI, Words, contact_sheet, save, style, translator
from ..core.stages import Job, Result
from ..core.store import read_json
from . import labels, panels, score_field, slider, study_shown
from .events import Catalogue, load
from .settings import FIELDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BARS = ("log_likelihood", "crps_time", "energy_location_drawn", "pit_ks")  # what sampled and exact methods share
COLUMNS = (
    "log_likelihood",
    "log_likelihood_time",
    "log_likelihood_location",
    "log_likelihood_mark",
    "crps_time",
    "energy_location_drawn",
    "brier",
    "pit_ks",
    "ece",
)
MOST_DRAWN = 8  # methods in a chart of curves: the best by the primary metric
CELLS = 110  # of the density map, along each side
SLIDER_CELLS, SLIDER_FRAMES = 80, 60  # of the slider page: cells along each side, events


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
        yield "consistency", panels.consistency(whole, block["csep"])
    if (folder / "etas.json").exists() and cat.meta.get("places", True):
        yield from _fitted(whole, cat, folder)
        yield from _scores(whole, block, cat, folder)


class Still:
    """A background whose densities are wanted on one grid again and again: computed once."""

    def __init__(self, background: Any):
        self.background, self.scale, self.found = background, background.scale, None

    def features(self, where: np.ndarray) -> np.ndarray:
        if self.found is None:
            self.found = self.background.features(where)
        return self.found


@dataclass
class Shown:
    """One test window of median length, and the fitted ETAS on it."""

    fitted: Any
    made: Any
    events: Any
    rows: np.ndarray
    sequence: int
    axes: tuple[np.ndarray, np.ndarray]

    def density(self, cat: Catalogue, number: int) -> np.ndarray:
        """Natural log of the predicted density [Y, X] of the window's event ``number``, given its time."""
        import torch

        grid = np.stack(np.meshgrid(*self.axes), axis=-1).reshape(1, -1, 2)
        with torch.no_grad():
            found = self.made.density(cat, self.events, np.array([number]), grid)
        return found[0].reshape(len(self.axes[1]), len(self.axes[0]))


def shown_window(cat: Catalogue, folder: Path, cells: int = CELLS) -> Shown:
    """The window that density, rate and slider are drawn of."""
    from . import etas_fit
    from .etas_predict import Forecaster
    from .kde import Background

    fitted, background = etas_fit.load(folder / "etas.json"), Background.fit(cat)
    windows = cat.sequences("test")
    sequence = int(windows[np.argsort(cat.lengths[windows])[len(windows) // 2]])
    rows = np.arange(cat.offsets[sequence], cat.offsets[sequence + 1])
    features = np.zeros((len(cat.t), background.components, cat.marks), np.float32)
    features[rows] = background.catalogue_features(cat, rows)
    made = Forecaster(fitted, Still(background), features)
    axes = background.lattice
    if axes is None:
        low, high = np.array(cat.meta["bbox"])
        axes = tuple(np.linspace(low[a], high[a], cells) for a in (0, 1))
    return Shown(fitted, made, made.events(cat, np.array([sequence])), rows, sequence, axes)


def _fitted(whole: Board, cat: Catalogue, folder: Path) -> Iterator[tuple[str, Figure]]:
    """What the fitted ETAS says of one test window: the predicted place of an event, and the rate."""
    from . import etas_fit

    one = shown_window(cat, folder)
    row, place = len(one.rows) // 2, cat.meta["units"]["place"]
    past, truth = cat.xy[one.rows[:row]], cat.xy[one.rows[row]]
    yield "density", panels.density_map(whole, one.axes, one.density(cat, row), past, truth, place, "ETAS")
    if cat.meta["lattice"]["time"]:
        return
    found = etas_fit.trace(one.fitted, one.events)
    t, window = cat.t[one.rows], cat.window[one.sequence]
    times = np.sort(np.concatenate([np.linspace(0, window, 400), t + 1e-6 * window]))
    values = [_rate(one.fitted.time, t, cat.labels[one.rows], float(at)) for at in times]
    expected = np.cumsum(found["compensator"]) + 1  # the first event is given
    yield "rate", panels.rate(whole, times, np.array(values), t, expected, cat.meta["units"]["time"])


def page(name: str, block: Mapping[str, Any], cat: Catalogue, folder: Path, path: Path, words: Words) -> Path:
    """Slider page of the density that the fitted ETAS predicts through one window."""
    whole, one = board(name, block, words), shown_window(cat, folder, SLIDER_CELLS)
    used = one.rows[: SLIDER_FRAMES + 1]
    densities = [one.density(cat, number) for number in range(1, len(used))]
    units = cat.meta["units"]
    degrees = units["place"] == "deg"
    x, y = ("longitude [°]", "latitude [°]") if degrees else (f"x [{units['place']}]", f"y [{units['place']}]")
    names = cat.meta["mark_names"] or [str(k) for k in range(cat.marks)]
    marks = [names[k] for k in cat.mark[used]] if cat.marked else []
    title = f"{words('Predicted density through one window')} · ETAS · {whole.title}"
    known = {**units, "x": x, "y": y}
    return slider.write(
        path, title, whole.subtitle, one.axes, densities, cat.t[used], cat.xy[used], marks, known, words
    )


def _scores(whole: Board, block: Mapping[str, Any], cat: Catalogue, folder: Path) -> Iterator[tuple[str, Figure]]:
    """Score fields of the arms that learn one, from the weights beside their samples."""
    fields = []
    for arm in FIELDS:
        own = folder / arm
        if arm in block["arms"] and (own / "weights.safetensors").exists() and (own / "samples.zarr").exists():
            fields.append(score_field.field(arm, block["arms"][arm]["settings"], cat, own))
    if fields:
        yield "score", panels.score_field(whole, fields, cat.meta["units"]["place"])


def _rate(etas: Any, t: np.ndarray, mark: np.ndarray, at: float) -> float:
    import torch

    past = t < at
    now = torch.tensor(at, dtype=torch.float32)
    total = float(etas.background_rate(now).detach())
    if past.any():
        parent = torch.as_tensor(t[past], dtype=torch.float32)
        total += float(etas.trigger(now.expand(len(parent)), parent, torch.as_tensor(mark[past])).sum().detach())
    return total


def plot(job: Job, settings: Any, log: Any) -> Result:
    """Stage ``plot``: all figures of a table into the folder ``figures``.

    Inputs: ``table`` (``ablation/1``) and ``data`` (the scenarios' prepared files; beside them lie ``fitted``,
    ``samples`` and ``weights``, which the rule declares); ``sampling``: the sampling-time study, if any.

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
            cat = load(path)
            if (path.parent / "etas.json").exists() and cat.meta.get("places", True):
                page(name, block, cat, path.parent, folder / f"{name}_slider.html", words)
        if job.inputs.get("sampling"):
            figure = study_shown.chart(read_json(job.inputs["sampling"]), words)
            pictures.insert(0, save(figure, folder / "sampling.png"))
        sheet = contact_sheet(pictures[:36], words("All figures"), ", ".join(table["scenarios"]))
        save(sheet, folder / "contact_sheet.png", SHEET_DPI)
    return Result({"pictures": float(len(pictures) + 1)}, figures=("figures",))
