"""Forecasts from a model of one's own catalogue: the next event and the number to come, as tables and a map."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError, PipelineError
from ..core.store import digest, read_json, write_json
from . import csep, etas_fit, events, next_event, own, readers, windows
from .events import Catalogue
from .exact_inputs import Reader
from .kde import Background
from .settings import Exact

CELLS = 140  # of the map, along its longer side
FEWEST = 2  # events in the window before the forecast
SEED = 0


@dataclass(frozen=True)
class Request:
    """What ``forecast`` is asked for. ``span`` [unit of time]: how far ahead events are counted (a day by default)."""

    model: Path
    out: Path
    path: Path | None = None
    at: str | None = None
    span: float | None = None
    catalogues: int = 1000


@dataclass
class Model:
    """A fitted model's folder."""

    folder: Path
    content: dict[str, Any]
    catalogue: Catalogue

    @property
    def unit(self) -> str:
        return self.catalogue.meta["units"]["time"]

    def stamp(self, t: float) -> str:
        """An absolute time as the user's table writes it."""
        if not self.content["stamps"]:
            return f"{t:.10g}"
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=t * readers.SECONDS[self.unit])
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def load(folder: Path) -> Model:
    """Open a folder that ``fit`` wrote.

    Raises
    ------
    DataError
        No such folder, one of another kind, or files in it that are not what was written.
    """
    path = Path(folder) / "model.json"
    if not path.is_file():
        raise DataError(
            f"{folder} holds no model.json; make the model: python -m pipeline smash fit FILE --out {folder}"
        )
    content = read_json(path)
    if not isinstance(content, dict) or content.get("schema") != own.SCHEMA:
        raise DataError(f"{path} is no model of schema {own.SCHEMA}; fit it anew")
    told = content.pop("content_sha256", None)
    wrong = [] if told == own.digest_of(content) else ["model.json"]
    for name, written in ({} if wrong else content["files"]).items():
        file = Path(folder) / name
        if not file.is_file() or digest(file) != written:
            wrong.append(name)
    if wrong:
        raise DataError(f"{folder}: {', '.join(wrong)} is not what `smash fit` wrote (damaged, or changed); fit anew")
    return Model(Path(folder), content, events.load(Path(folder) / "prepared.pkl"))


def history(model: Model, path: Path | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Times [n], marks, places of the latest events, and the time up to which they are known.

    Events of ``path`` follow those that the model remembers, and take the place of those from its first event on.

    Raises
    ------
    DataError
        A table that can't be used.
    """
    kept = read_json(model.folder / "recent.json")
    t, mark = np.array(kept["t"], float), np.array(kept["mark"], np.int64)
    xy, end = np.array(kept["xy"], float).reshape(-1, 2), float(kept["end"])
    if path is None:
        return t, mark, xy, end
    raw = readers.table(path, model.content["options"])
    if not len(raw.t):
        raise DataError(f"{path} has no events; leave it out to forecast from the end of the model's own events")
    if raw.t[-1] < end - model.catalogue.meta["window"]:
        raise DataError(
            f"{path} ends at {model.stamp(float(raw.t[-1]))}, long before the model's own events "
            f"({model.stamp(end)}); is the unit of time the same?"
        )
    new = own.as_catalogue(raw, model.catalogue, str(path))
    old = t < raw.t[0]
    joined = [np.concatenate([a[old], b]) for a, b in zip((t, mark, xy), new, strict=True)]
    return *joined, float(raw.t[-1])


def _moment(text: str, model: Model) -> float:
    """``--at`` in the catalogue's time."""
    import pandas as pd

    if not model.content["stamps"]:
        try:
            return float(text)
        except ValueError:
            raise PipelineError(f"--at {text}: the model's times are numbers [{model.unit}], so is this one") from None
    try:
        moment = pd.Timestamp(text)
    except ValueError:
        raise PipelineError(f"--at {text} can't be read as a time; write 2011-03-11T05:46:24Z") from None
    zone = model.content["options"]["time_zone"]
    moment = moment.tz_localize(zone) if moment.tzinfo is None else moment
    return moment.timestamp() / readers.SECONDS[model.unit]


@dataclass
class Outcome:
    """A forecast: time of issue, the law of the next event, simulated numbers, and what was written."""

    now: str
    known: int
    wait: list[tuple[float, float, str]]
    marks: dict[str, float]
    numbers: dict[str, Any]
    places: list[dict[str, float]]
    unit: str
    method: str
    notes: list[str]


def forecast(request: Request, say: Callable[[str], None] = lambda line: None) -> Outcome:
    """Forecast from the latest events and write ``next_event.csv``, ``density.csv``, ``map.png``, ``numbers.csv``,
    ``catalogues.csv`` (as CSEP reads it) and ``forecast.json`` into a new folder.

    The window that is looked at reaches back from now as far as it can while the span ahead stays inside it.

    Raises
    ------
    PipelineError
        Wrong options, no model, a table that can't be used, an output that exists.
    """
    model = load(request.model)
    cat = model.catalogue
    window = float(cat.meta["window"])
    span = request.span or readers.SECONDS["day"] / readers.SECONDS[model.unit]
    if not 0 < span <= 0.5 * window:
        raise PipelineError(
            f"a span of {span:g} {model.unit} is not possible: it must be above 0 and at most half of the model's "
            f"window ({window:g} {model.unit}); give --span"
        )
    t, mark, xy, end = history(model, request.path)
    now = end if request.at is None else _moment(request.at, model)
    before = t <= now
    start = now - (window - span)
    used = before & (t >= start)
    if used.sum() < FEWEST:
        raise DataError(
            f"{int(used.sum())} events are known between {model.stamp(start)} and {model.stamp(now)}; at least "
            f"{FEWEST} are needed. Give the latest events (FILE), or an earlier --at."
        )
    notes = []
    if now > end + 1e-9:
        notes.append(f"no event is known after {model.stamp(end)}: the forecast takes it that none came until now")
    t, mark, xy = t[used], mark[used], xy[used]
    with own.new_folder(request.out) as folder:
        grown = next_event.with_window(cat, start, t, mark, xy, now)
        background = Background.fit(cat)
        fitted = etas_fit.load(model.folder / "etas.json")
        notes += _not_simulated(fitted)
        law = _law(model, grown, background, fitted)
        axes, places, area = _grid(cat, xy)
        found = next_event.forecast(law, background, places, now - float(t[-1]))
        say("density of the next event: done")
        rng = np.random.default_rng(SEED)
        sequence = len(grown.split) - 1
        made = csep.forecast(
            fitted.time, background, _without_stand_in(grown), sequence, now - start, span, request.catalogues, rng
        )
        say(f"{request.catalogues:,} catalogues simulated")
        numbers = _numbers(made, cat)
        _write(folder, model, found, axes, places, area, xy, made, grown, now, span, numbers)
        wait = [(float(p), float(w), model.stamp(now + float(w))) for p, w in zip(found.level, found.wait, strict=True)]
        names = cat.meta["mark_names"] or ["event"]
        top = np.argsort(-found.density.sum(1))[:5]
        shown = _degrees(cat, places)
        outcome = Outcome(
            model.stamp(now),
            int(used.sum()),
            wait,
            dict(zip(names, found.marks.tolist(), strict=True)),
            numbers | {"span": span},
            [{"x": float(shown[i, 0]), "y": float(shown[i, 1]), "density": float(found.density[i].sum())} for i in top],
            model.unit,
            model.content["method"],
            notes,
        )
        write_json(
            folder / "forecast.json",
            {
                "schema": "smash-forecast/1",
                **{key: value for key, value in outcome.__dict__.items() if key != "wait"},
                "waiting_time": [{"level": a, "wait": b, "time": c} for a, b, c in wait],
                "probability_on_the_map": float(found.density.sum() * area),
                "model": model.content["sha256"],
            },
        )
    return outcome


def _law(model: Model, grown: Catalogue, background: Background, fitted: etas_fit.Fitted) -> next_event.EtasLaw:
    """The law of the model's chosen method after the last window."""
    sequence = np.array([len(grown.split) - 1])
    lag, network = fitted.attrs["max_lag"], model.content["method"] == "smash_exact"
    rows = np.arange(grown.offsets[-2], grown.offsets[-1])
    if network:  # its inputs are standardised on the training events
        rows = np.concatenate([grown.events(grown.sequences("train")), rows])
    features = np.zeros((len(grown.t), background.components, grown.marks), np.float32)
    features[rows] = background.catalogue_features(grown, rows)
    import torch

    from . import weights
    from .exact_base import build

    with torch.no_grad():
        if not network:
            own_events = etas_fit.Events.of(grown, sequence, features, background.scale, lag)
            return next_event.EtasLaw(fitted, own_events, grown.xy[own_events.row.numpy()])
        reader = Reader(grown, background, features, lag)
        made, _ = build(grown, model.folder / "etas.json", Exact(**model.content["exact"]), reader)
        states, _ = weights.load(model.folder / "weights.safetensors")
        made.load_state_dict(states[own.SEED])
        return next_event.ExactLaw(made.eval(), reader, reader.windows(sequence))


def _without_stand_in(grown: Catalogue) -> Catalogue:
    """The catalogue without its last event, which stands for one that hasn't come."""
    from dataclasses import replace

    offsets = grown.offsets.copy()
    offsets[-1] -= 1
    mark = None if grown.mark is None else grown.mark[:-1]
    size = None if grown.magnitude is None else grown.magnitude[:-1]
    return replace(grown, offsets=offsets, t=grown.t[:-1], mark=mark, xy=grown.xy[:-1], magnitude=size)


def _grid(cat: Catalogue, xy: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray, float]:
    """Cell centres along both axes, all of them [S, 2] (rows of y), and a cell's area; box of training and history."""
    low = np.minimum(np.array(cat.meta["bbox"][0]), xy.min(axis=0))
    high = np.maximum(np.array(cat.meta["bbox"][1]), xy.max(axis=0))
    margin = 0.03 * (high - low)
    low, high = low - margin, high + margin
    size = float((high - low).max()) / CELLS
    counts = np.maximum(np.ceil((high - low) / size).astype(int), 2)
    axes = tuple(low[a] + (np.arange(counts[a]) + 0.5) * (high - low)[a] / counts[a] for a in (0, 1))
    places = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    return axes, places, float(np.prod((high - low) / counts))


def _degrees(cat: Catalogue, places: np.ndarray) -> np.ndarray:
    projection = cat.meta["projection"]
    return windows.to_degrees(places, projection["lon0"], projection["lat0"]) if projection else places


def _not_simulated(fitted: etas_fit.Fitted) -> list[str]:
    """What the user must know where ETAS has waiting times of its own: simulated clusters don't wait for each other."""
    if not fitted.attrs.get("waiting"):
        return []
    return [
        "waiting times have a law of their own in these data: the next event's time follows it, the simulated "
        "catalogues and the numbers of events do not (their mean is ETAS's, their spread that of independent clusters)"
    ]


def _numbers(made: csep.Forecast, cat: Catalogue) -> dict[str, Any]:
    """Law of the number of events, and how likely at least one of each mark is."""
    sizes = made.sizes
    by_mark = {}
    for k, name in enumerate(cat.meta["mark_names"] or []):
        some = np.unique(made.number[made.mark == k])
        by_mark[name] = {"expected": float((made.mark == k).sum() / made.count), "at_least_one": len(some) / made.count}
    low, middle, high = np.quantile(sizes, [0.025, 0.5, 0.975])
    return {
        "mean": float(sizes.mean()),
        "median": float(middle),
        "interval95": [float(low), float(high)],
        "none": float((sizes == 0).mean()),
        "by_mark": by_mark,
        "catalogues": made.count,
    }


def _write(folder, model, found, axes, places, area, xy, made, grown, now, span, numbers):  # noqa: ANN001, ANN202
    """All files of a forecast but its summary."""
    cat = model.catalogue
    with (folder / "next_event.csv").open("w", newline="") as stream:
        out = csv.writer(stream)
        out.writerow(["probability_before", f"wait_{model.unit}", "time"])
        for level, wait in zip(found.level, found.wait, strict=True):
            out.writerow([f"{level:g}", f"{wait:.6g}", model.stamp(now + float(wait))])
    names = cat.meta["mark_names"] or []
    shown, total = _degrees(cat, places), found.density.sum(1)
    unit = cat.meta["units"]["place"]
    with (folder / "density.csv").open("w", newline="") as stream:
        out = csv.writer(stream)
        request = model.content["request"]
        out.writerow(
            [request["x"], request["y"], f"density_per_{unit}2", "probability", *(f"p({name})" for name in names)]
        )
        share = found.density / total[:, None]
        for place, dense, marks in zip(shown, total, share, strict=True):
            row = [f"{place[0]:.5f}", f"{place[1]:.5f}", f"{dense:.6g}", f"{dense * area:.6g}"]
            out.writerow(row + ([f"{p:.4f}" for p in marks] if names else []))
    sizes = made.sizes
    with (folder / "numbers.csv").open("w", newline="") as stream:
        out = csv.writer(stream)
        out.writerow(["n", "probability", "probability_at_least_n"])
        for n in range(int(sizes.max()) + 1):
            out.writerow([n, f"{(sizes == n).mean():.4f}", f"{(sizes >= n).mean():.4f}"])
    csep.write_csv(made, grown, folder / "catalogues.csv")
    _map(folder / "map.png", model, axes, shown, total, xy, now, span, numbers)


def _map(path, model, axes, shown, total, xy, now, span, numbers):  # noqa: ANN001, ANN202
    from ..core.figures import canvas, save, style
    from . import panels

    cat, shape = model.catalogue, (len(axes[1]), len(axes[0]))
    degrees = bool(cat.meta["projection"]) or cat.meta["units"]["place"] == "deg"
    with style("en"):
        figure = canvas(
            5.4,
            f"Where the next event is expected · {model.content['dataset']['name']}",
            f"from {model.stamp(now)} · {len(xy)} events known in the window · next {span:g} {model.unit}: "
            f"{numbers['mean']:.2f} events expected (95 %: {numbers['interval95'][0]:.0f} to "
            f"{numbers['interval95'][1]:.0f}) · {model.content['method']}",
            "Contours hold 50, 80 and 95 % of the probability on the map; the density is averaged over the time of "
            "the next event.",
        )
        where = figure.subplots()
        grid = (shown[:, 0].reshape(shape), shown[:, 1].reshape(shape))
        past = _degrees(cat, xy)
        log = np.log(np.maximum(total, 1e-30)).reshape(shape)
        panels.draw_density(where, grid, log, past, None, cat.meta["units"]["place"], degrees, lambda text: text)
        save(figure, path)
