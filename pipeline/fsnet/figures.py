"""All figures of a results table: PNG files `<scenario>_<figure>.png` in one folder, and a contact sheet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..core import charts
from ..core.board import Board, Method
from ..core.errors import DataError
from ..core.figures import SHEET_DPI, Words, contact_sheet, number, save, style, translator
from ..core.stages import Job, Result
from ..core.store import read_json
from . import forecasts as store
from . import labels, scoring, stream_charts
from .series import Series, load_realizations

REFERENCE = "rls"  # what skill is measured against
REFERENCES = ("regime_nomem", "nomem", "persistence", "rls")  # improvement is shown over the first and the last
SPOKES = ("mse", "mae", "rmse", "mape", "smape", "wape")
REGIME_SPOKES = ("mse", "mse_first50", "mse_first100", "mse_new100", "mae")
COLUMNS = ("mse", "mae", "rmse", "mape", "mape_z", "skill", "coverage90")
REGIME_COLUMNS = ("mse", "mse_first50", "mse_first100", "mse_new100", "mae", "skill", "coverage90")
RECURRENCE_STEPS = 100


@dataclass
class Scene:
    """One scenario of the table with what lies beside its data on disk.

    Attributes
    ----------
    name: scenario; block: its entry in the table (schema ``ablation/1``); folder: where its arms' stores lie.
    series: one, or one a seed where the data are simulated.
    """

    name: str
    block: Mapping[str, Any]
    folder: Path
    series: list[Series]
    words: Words
    _read: dict[str, store.Forecasts] = field(default_factory=dict)

    @cached_property
    def task(self) -> Mapping[str, Any]:
        return _task(self.block)

    @cached_property
    def step(self) -> str:
        return step_name(self.series[0].step_seconds)

    @property
    def arms(self) -> Mapping[str, Any]:
        return self.block["arms"]

    @property
    def first_row(self) -> int:
        """The row that the first test forecast begins with."""
        return self.series[0].val_end

    def forecasts(self, arm: str) -> store.Forecasts | None:
        """The arm's forecasts and tracks; None where the arm failed and left none."""
        path = self.folder / arm / "forecasts.zarr"
        if arm not in self._read and path.exists():
            self._read[arm] = store.read(path)
        return self._read.get(arm)

    def tested(self, forecasts: store.Forecasts) -> np.ndarray:
        """[origin] which forecasts are scored: the same rule as the table's."""
        origins, series = forecasts.origins, self.series[0]
        return (origins >= series.val_end - 1) & (origins + self.task["horizon"] < series.test_end)

    def tracks(self, name: str) -> dict[str, np.ndarray]:
        """A track of every arm with a memory on the test origins: arm -> [seed, n, …]."""
        found = {}
        for arm, entry in self.arms.items():
            if labels.kind(entry) == "arm with memory" and (saved := self.forecasts(arm)) and name in saved.tracks:
                found[arm] = saved.tracks[name][:, self.tested(saved)]
        return found

    def recurrences(self) -> dict[str, dict[str, np.ndarray]]:
        """Error after a recurrence by learner: heading -> arm -> [seed, step]; empty without simulated regimes."""
        panels: dict[str, dict[str, np.ndarray]] = {}
        if self.series[0].switches is None:
            return panels
        for arm, entry in self.arms.items():
            saved = self.forecasts(arm)
            if saved is None:
                continue
            linear = (entry["settings"].get("regime") or {}).get("kind", "none") != "none"
            curves = []
            for index, values in enumerate(saved.values):
                series, test = self.series[index % len(self.series)], self.tested(saved)
                truth = scoring.truth(series.labels, saved.origins[test], self.task["horizon"])
                losses = scoring.losses(values[test], truth)
                curves.append(stream_charts.recurrence_curve(losses, series.switches, self.first_row, RECURRENCE_STEPS))
            curves = [curve for curve in curves if np.isfinite(curve).all()]
            if curves:
                panels.setdefault("linear learner" if linear else "deep arms", {})[arm] = np.stack(curves)
        return panels

    @cached_property
    def board(self) -> Board:
        """The block in the form that charts read."""
        methods = [Method(name, labels.kind(entry), entry) for name, entry in self.arms.items()]
        methods += [Method(name, "baseline", entry) for name, entry in self.block["baselines"].items()]
        title = self.words("scenario {}").format(self.name)
        if self.block["leaky"]:
            title += " · " + self.words("leaky: has learnt labels that it is scored on")
        return Board(
            title=title,
            subtitle=self._subtitle(),
            methods=methods,
            kinds=labels.KINDS,
            labels=labels.METRICS,
            words=self.words,
            seeds=self._seeds(),
            higher=labels.HIGHER,
            unranked=labels.UNRANKED,
        )

    def _seeds(self) -> int:
        return max((len(entry.get("seeds", [])) for entry in self.arms.values()), default=1)

    def _subtitle(self) -> str:
        words, series, info = self.words, self.series[0], self.block["dataset"]
        data = info["name"] + (f" ({words('simulated')})" if info["source"] == "simulation" else "")
        if info.get("requested") and info["requested"] != info["name"]:
            data += f" ({words('asked for: {}').format(info['requested'])})"
        if len(series.outputs) == 1:
            unit = labels.UNITS.get(series.units[series.target], series.units[series.target])
            data += f", {series.channels[series.target]} [{words(unit)}]"
            suffix = "" if unit == "no unit" else f" {unit}"
            scale = words("SD = {}, of the training rows").format(number(float(series.sd[series.target])) + suffix)
        else:
            data += ", " + words("{} channels").format(len(series.outputs))
            scale = words("SD: standard deviation of the training rows")
        if len(self.series) > 1:
            scale = words("SD: standard deviation of the training rows")
        seeds = self._seeds()
        vectors = [
            entry["vectors"] for entry in [*self.arms.values(), *self.block["baselines"].values()] if "vectors" in entry
        ]
        parts = [words("Data: {}").format(data), info["period"].replace(" to ", " – ")]
        parts.append(words("window {}, horizon {}").format(self.task["window"], self.task["horizon"]))
        if vectors:
            parts.append(words("{} forecasts").format(f"{int(vectors[0]['cumulative_step'][-1]):,}"))
        parts.append(words("1 seed") if seeds == 1 else words("{} seeds").format(seeds))
        return " · ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in [*parts, scale])


def step_name(seconds: float) -> str:
    """A row's step as people say it: 1 h, 15 min, 1 d."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:g} s"


def _task(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """Window, horizon and features: the same for all arms of a scenario."""
    for entry in block["arms"].values():
        if entry.get("settings"):
            return entry["settings"]["task"]
    raise DataError("a scenario of the results table has no arm whose settings tell window and horizon")


def scenes(job: Job, words: Words) -> list[Scene]:
    """Scenarios of the table, each with its prepared data.

    Raises
    ------
    DataError
        A table of another schema; a scenario whose data is not among the inputs.
    """
    path = Path(job.inputs["table"])
    table = read_json(path)
    if table.get("schema") != "ablation/1":
        raise DataError(f"{path}: schema is {table.get('schema')!r}, expected 'ablation/1'; build the table again")
    stores = job.inputs["data"]
    stores = [Path(item) for item in ([stores] if isinstance(stores, str | Path) else stores)]
    by_scenario = {item.parent.name: item for item in stores}
    found = []
    for name, block in table["scenarios"].items():
        if name not in by_scenario:
            raise DataError(f"{path}: the data of scenario {name!r} is not among the inputs {list(by_scenario)}")
        data = by_scenario[name]
        series = load_realizations(data, _task(block)["features"])
        found.append(Scene(name, block, data.parent, series, words))
    return found


def draw(scene: Scene) -> Iterator[tuple[str, Any]]:
    """Name and figure, one after another; what a scenario has no data for is left out."""
    board = scene.board
    regimes = any(method.mean("mse_first50") is not None for method in board.methods)
    short = Board(**{**board.__dict__, "labels": {**board.labels, **labels.SHORT}})
    present = {metric for method in board.methods for metric in (method.entry.get("metrics") or {})}

    def known(metrics: tuple[str, ...]) -> list[str]:
        return [metric for metric in metrics if metric in present]

    bars = known(("mse_first50", "mse_first100", "mse_new100", "mse") if regimes else SPOKES[:4])
    yield "metrics", charts.metric_bars(short, bars)
    names = [name for name in REFERENCES if board.method(name) and board.method(name).mean(bars[0]) is not None]
    if names:
        yield "improvement", charts.improvement(board, bars[0], list(dict.fromkeys([names[0], names[-1]])))
        spokes = known(REGIME_SPOKES if regimes else SPOKES)
        kinds = [kind for kind in labels.KINDS if kind != "baseline"]
        yield "radar", charts.radar(short, spokes, names[-1], kinds)
    yield "time", charts.cost(board, labels.COSTS)
    yield (
        "table",
        charts.table(short, known(REGIME_COLUMNS if regimes else COLUMNS), {"ms_per_step": "Online [ms/step]"}),
    )
    if scene.block["comparisons"]:
        yield "comparisons", charts.comparisons(board, scene.block["comparisons"])
    if scene.task["horizon"] > 1 and board.method(REFERENCE):
        yield "horizons", stream_charts.horizons(board, REFERENCE, scene.step)
    switches, first = scene.series[0].switches, scene.first_row
    yield "cumulative", stream_charts.cumulative(board, scene.tracks("fired"), switches, first, scene.step)
    slots = {arm: track[0] for arm, track in scene.tracks("slots").items()}
    if slots:
        yield "slots", stream_charts.slots(board, slots, switches, first, scene.step)
    curves = scene.recurrences()
    if curves:
        yield "recurrence", stream_charts.recurrences(board, curves, scene.step)


def _overview(found: list[Scene], words: Words) -> Any:
    """Skill in all scenarios, where the table has several."""
    skills = {}
    for scene in found:
        leaky = " (leaky)" if scene.block["leaky"] else ""
        label = f"{scene.name}{leaky}\n{scene.block['dataset']['name']}, H {scene.task['horizon']}"
        rows = {m.name: 100 * m.mean("skill") for m in scene.board.methods if m.mean("skill") is not None}
        if rows:
            skills[label] = rows
    if len(skills) < 2:
        return None
    board = found[0].board
    leaky = [scene.name for scene in found if scene.block["leaky"]]
    title = words("Skill in all scenarios") if not leaky else ", ".join(leaky) + ": leaky"
    board = Board(**{**board.__dict__, "title": title, "subtitle": _datasets(found, words)})
    rows = [method for scene in found for method in scene.board.methods]
    rows.sort(key=lambda method: method.kind == "baseline")  # stable: arms keep their order, baselines theirs
    return stream_charts.overview(board, skills, list(dict.fromkeys(method.name for method in rows)))


def _datasets(found: list[Scene], words: Words) -> str:
    """Data sets and seeds of all scenarios, for figures that show more than one."""
    names = dict.fromkeys(scene.block["dataset"]["name"] for scene in found)
    seeds = sorted({scene.board.seeds for scene in found})
    count = "–".join(str(seed) for seed in (seeds if len(seeds) < 2 else (seeds[0], seeds[-1])))
    return words("Data: {}").format(", ".join(names)) + " · " + words("{} seeds").format(count)


def plot(job: Job, settings: Any, log: Any) -> Result:
    """Stage ``plot``: all figures of a table into the folder ``figures``.

    Inputs: ``table`` (``ablation/1``), ``data`` (the scenarios' prepared stores) and the arms' forecast stores, which
    lie beside the data. Files: ``<scenario>_<figure>.png``; with several scenarios ``overview.png``; and
    ``contact_sheet.png`` with all of them.

    Raises
    ------
    DataError
        A table or store of another form.
    PipelineError
        ``language: zh`` where no Chinese font can be found.
    """
    words = translator(settings.language, labels.ZH)
    folder = Path(job.outputs["figures"])
    pictures: list[Path] = []
    with style(settings.language):
        found = scenes(job, words)
        folder.mkdir(parents=True, exist_ok=True)
        for scene in log.progress(found, "figures"):
            for name, figure in draw(scene):
                pictures.append(save(figure, folder / f"{scene.name}_{name}.png"))
        sheet = list(pictures)
        whole = _overview(found, words)
        if whole is not None:
            sheet.insert(0, save(whole, folder / "overview.png"))
        leaky = ", ".join(scene.name for scene in found if scene.block["leaky"])
        title = words("All figures") + (f" · {leaky}: leaky" if leaky else "")
        # A sheet of hundreds of pictures shows none of them: a large table gets its overview and first scenarios.
        save(contact_sheet(sheet[:36], title, _datasets(found, words)), folder / "contact_sheet.png", SHEET_DPI)
    return Result({"pictures": float(len(sheet) + 1)}, figures=("figures",))
