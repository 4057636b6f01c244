"""An event catalogue of one's own: windows, baselines, ETAS, on request the network, and how well they did later."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError, PipelineError
from ..core.store import digest, write_json
from . import compare, data, exact_fit, readers, run_baselines, scores, weights, windows
from .baselines import Baselines
from .events import Catalogue
from .exact_base import build
from .exact_inputs import Reader
from .kde import Background
from .options import DEGREES, Options
from .settings import Baselines as BaselineSettings
from .settings import Exact

SCHEMA = "smash-model/2"
FEWEST = 200  # events below which nothing can be both fitted and tested
TYPICAL = 60  # events that a window holds where its length isn't stated
LEAST_WINDOWS = 20
REFERENCES = ("poisson_kde", "renewal_kde", "history_kde", "hawkes", "etas")
SEED = 0


@dataclass(frozen=True)
class Request:
    """What ``fit`` is asked for: columns of the table, units, windows, shares held out, and the network.

    ``budget`` is the CPU time of the network's training [s]; ``window``, ``stride`` in ``unit``.
    """

    path: Path
    out: Path
    time: str = "time"
    x: str = "longitude"
    y: str = "latitude"
    mark: str | None = None
    mark_bins: tuple[float, ...] = ()
    unit: str = "day"
    place: str | None = None
    window: float | None = None
    stride: float | None = None
    min_magnitude: str | None = None
    time_zone: str = "UTC"
    val_share: float = 0.15
    test_share: float = 0.15
    sort: bool = False
    exact: bool = False
    budget: float = 120.0


class Console:
    """The log of the stages, told to a function that takes lines."""

    def __init__(self, say: Callable[[str], None]):
        self.say = say

    def info(self, text: str) -> None:
        self.say(text)

    def history(self, step: int, total: int | None = None, **metrics: float) -> None:
        """Curves are for the workflow's tracker."""

    def progress(self, total: int, what: str, initial: int = 0) -> Any:
        from ..core.progress import Progress

        return Progress(total, what, write=self.say, initial=initial)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder that appears under its name only when everything in it is written.

    Raises
    ------
    PipelineError
        There is something of that name already.
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise PipelineError(f"{path} exists already and is kept as it is; give --out another name, or remove it first")
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    part.mkdir(parents=True)
    try:
        yield part
        if path.exists():
            path.rmdir()  # empty
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def options_of(request: Request) -> Options:
    """The table's description in the form of the catalogue of data sets."""
    geographic = request.x.lower().startswith("lon") and request.y.lower().startswith("lat")
    place = request.place or (DEGREES if geographic else "unit")
    bins = sorted(request.mark_bins)
    if bins and not request.mark:
        raise PipelineError("--mark-bins needs --mark, the column whose values it cuts into classes")
    if request.min_magnitude is not None and not bins:
        raise PipelineError("--min-mark needs --mark-bins: without them the column --mark holds labels, not sizes")
    lowest: float | str | None = request.min_magnitude
    if lowest not in (None, "auto"):
        try:
            lowest = float(lowest)
        except ValueError:
            raise PipelineError(f"--min-mark {lowest}: a number, or auto (completeness is estimated)") from None
    return Options(
        unit=request.unit,
        place=place,
        time=request.time,
        x=request.x,
        y=request.y,
        mark=None if bins else request.mark,
        magnitude=request.mark if bins else None,
        mark_bins=bins,
        min_magnitude=lowest,
        time_zone=request.time_zone,
        projection="km" if place == DEGREES else "none",
        ordered=not request.sort,
    )


def _length(t: np.ndarray, asked: float | None) -> float:
    """Length of a window: as asked, else one that holds some sixty events, and of which there are at least twenty."""
    if asked is not None:
        return asked
    span = float(t[-1] - t[0])
    return float(f"{min(TYPICAL * span / len(t), span / LEAST_WINDOWS):.2g}")


def catalogue_of(request: Request) -> tuple[Catalogue, Options, readers.Raw]:
    """Windows of the table, their description, and its events.

    Raises
    ------
    DataError
        Too few events, and whatever the reader finds wrong with the table.
    """
    options = options_of(request)
    raw = readers.table(request.path, options.model_dump())
    if len(raw.t) < FEWEST:
        raise DataError(
            f"{request.path} has {len(raw.t)} events; at least {FEWEST} are needed to fit on the earlier ones and to "
            "test on the later ones"
        )
    if raw.t[-1] <= raw.t[0]:
        raise DataError(f"{request.path}: all events have the time {raw.t[0]:g}; is {request.time!r} the right column?")
    if not (raw.xy != raw.xy[0]).any():
        raise DataError(f"{request.path}: all events lie at {raw.xy[0].tolist()}; are these the right columns?")
    choice = data.Choice(
        window=_length(raw.t, request.window),
        stride=request.stride,
        val_share=request.val_share,
        test_share=request.test_share,
    )
    return data.from_table(raw, request.path.name, options, choice), options, raw


def as_catalogue(raw: readers.Raw, cat: Catalogue, where: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times [n], marks [n] and places [n, 2] of a table's events in the form of a catalogue that was made before.

    Raises
    ------
    DataError
        A mark that the catalogue hasn't.
    """
    meta = cat.meta
    keep = np.ones(len(raw.t), bool)
    if meta["min_magnitude"] is not None and raw.magnitude is not None:
        keep = raw.magnitude >= meta["min_magnitude"] - 1e-9
    mark = np.zeros(len(raw.t), np.int64)
    if meta["mark_bins"]:
        mark = np.searchsorted(np.array(meta["mark_bins"]) - 1e-9, raw.magnitude, side="right")
    elif raw.mark is not None:
        mark = raw.mark.astype(np.int64)
    if cat.marked and len(mark) and mark[keep].max(initial=0) >= cat.marks:
        row = int(np.argmax(np.where(keep, mark, -1)))
        raise DataError(f"{where}: event {row} has the mark {mark[row]}; the model knows 0 to {cat.marks - 1}")
    place = meta["projection"]
    xy = windows.to_km(raw.xy, place["lon0"], place["lat0"]) if place else raw.xy
    return raw.t[keep], mark[keep], xy[keep]


def epochs_within(cat: Catalogue, fitted: Path, reader: Reader, settings: Exact, budget: float) -> tuple[int, float]:
    """Epochs of the network that a CPU budget [s] pays for, and what one of them costs [s].

    A batch is timed, after one that warms up; a fifth of the budget is left to validation. At most three times the
    default: the best state by validation is kept, and more has not helped.
    """
    model, _ = build(cat, fitted, settings, reader)
    pieces = reader.pieces(cat.sequences("train", 0), settings.pairs)
    begun = time.process_time()
    for number, one in enumerate(pieces[:2]):
        if number < 2:
            begun = time.process_time()
        loss, count = exact_fit.objective(model, reader.windows(one))
        (loss / count).sum().backward()
    each = (time.process_time() - begun) * len(pieces)
    return int(np.clip(0.8 * budget / max(each, 1e-6), 1, 3 * settings.epochs)), each


@dataclass
class Outcome:
    """What ``fit`` found: the catalogue's facts, metrics by method, the chosen method and its gain over the others."""

    facts: dict[str, Any]
    metrics: dict[str, dict[str, float]]
    chosen: str
    gains: dict[str, dict[str, Any]]
    notes: list[str]


def fit(request: Request, say: Callable[[str], None] = lambda line: None) -> Outcome:
    """Fit on the earlier windows, choose by the windows after them, test on the last; write the model's folder.

    The folder holds ``prepared.pkl`` (windows), ``etas.json``, ``weights.safetensors`` (with ``exact``),
    ``recent.json`` (events since a window before the table's end), ``scores.zarr`` and ``model.json``.

    Raises
    ------
    PipelineError
        Wrong options, a table that can't be used, an output that exists.
    """
    log = Console(say)
    with new_folder(request.out) as folder:
        cat, options, raw = catalogue_of(request)
        facts, notes = data.info(cat), []
        say(
            f"{sum(facts['distinct'].values()):,} events in {facts['period']} (fit, choice, test) of "
            f"{cat.meta['window']:g} {request.unit}"
        )
        cat.save(folder / "prepared.pkl")
        background = Background.fit(cat)
        features = background.catalogue_features(cat)
        baselines = Baselines(cat, background, features)
        chosen = BaselineSettings(memories=[None, 0.25, 0.1], samples=50, quantiles=100, errors=False, catalogues=0)
        forecaster = run_baselines.fit_etas(cat, baselines, chosen, log)
        forecaster.fitted.save(folder / "etas.json")
        names, by_split = list(REFERENCES), {"val": [], "test": []}
        for name in names:
            for split, found in by_split.items():
                rng, targets = np.random.default_rng([SEED, split == "test"]), cat.targets(split)
                full = split == "test"
                if name == "etas":
                    exact = forecaster.exact(cat, targets, rng, chosen.samples, chosen.quantiles, full)
                else:
                    exact = baselines.exact(name, split, rng, chosen.samples, chosen.quantiles if full else None)
                found.append(scores.score_exact(cat, targets, exact, rng))
            say(f"{name}: scored")
        if request.exact:
            settings, note = _network(cat, background, features, forecaster, folder, request, by_split, log)
            names.append("smash_exact")
            notes.append(note)
        scores.write(folder / "scores.zarr", names, by_split, cat, {})
        found = scores.read(folder / "scores.zarr")
        by_name = {name: scores.metrics(found, place) for place, name in enumerate(names)}
        on_val = {name: scores.metrics(found, place, "val")["log_likelihood"] for place, name in enumerate(names)}
        best = max(("etas", *names[len(REFERENCES) :]), key=on_val.__getitem__)
        gains = {}
        for name in names:
            if name != best:
                pair = (found, [names.index(best)]), (found, [names.index(name)])
                gains[name] = compare.contrast(*pair, "log_likelihood", compare.block_of(cat))
        write_json(folder / "recent.json", _recent(raw, cat, str(request.path)))
        content = {
            "schema": SCHEMA,
            "method": best,
            "options": options.model_dump(),
            "stamps": _stamps(request),
            "exact": settings.model_dump() if request.exact else None,
            "request": {key: str(v) if isinstance(v, Path) else v for key, v in asdict(request).items()},
            "sha256": digest(request.path),
            "dataset": facts,
            "metrics": by_name,
            "validation": on_val,
            "gains": gains,
            "notes": notes,
        }
        seal(folder, content)
    return Outcome(facts, by_name, best, gains, notes)


def seal(folder: Path, content: dict[str, Any]) -> None:
    """Write ``model.json``, the last file of a model: its content, and the digests of all that is read with it."""
    content = json.loads(json.dumps(content))
    content["files"] = {path.name: digest(path) for path in sorted(folder.iterdir()) if path.is_file()}
    write_json(folder / "model.json", content | {"content_sha256": digest_of(content)})


def digest_of(content: dict[str, Any]) -> str:
    """SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _network(cat, background, features, forecaster, folder, request, by_split, log):  # noqa: ANN001, ANN202
    """Train the network from ETAS within the budget, score it, keep its weights; settings and a note of the cost."""
    import torch

    from . import exact_forecast

    reader = Reader(cat, background, features, forecaster.fitted.attrs["max_lag"])
    settings = Exact()
    torch.manual_seed(SEED)
    epochs, each = epochs_within(cat, folder / "etas.json", reader, settings, request.budget)
    settings = settings.model_copy(update={"epochs": epochs, "validate_every": max(1, min(2, epochs // 2))})
    torch.manual_seed(SEED)
    model, _ = build(cat, folder / "etas.json", settings, reader)
    begun = time.process_time()
    found = exact_fit.fit(model, reader, settings, SEED, log)
    model.load_state_dict(found.state)
    weights.save(folder / "weights.safetensors", {SEED: found.state}, {"kind": "exact"})
    note = f"network: {epochs} epochs of about {each:.2g} CPU s, {time.process_time() - begun:.0f} CPU s in all"
    for split, done in by_split.items():
        targets = cat.targets(split)
        rng = np.random.default_rng([SEED, 4, split == "test"])
        law = exact_forecast.forecast(model, reader, targets.windows, 50, 8, rng)
        done.append(scores.score_exact(cat, targets, exact_forecast.as_exact(law, cat, targets, 100), rng))
    return settings, note


def _recent(raw: readers.Raw, cat: Catalogue, where: str) -> dict[str, Any]:
    """Events of the last window's length of the table, for forecasts from its end."""
    t, mark, xy = as_catalogue(raw, cat, where)
    keep = t >= raw.t[-1] - cat.meta["window"]
    return {"end": float(raw.t[-1]), "t": t[keep].tolist(), "mark": mark[keep].tolist(), "xy": xy[keep].tolist()}


def _stamps(request: Request) -> bool:
    """Whether the table's times are time stamps (else plain numbers)."""
    import pandas as pd

    if request.path.suffix in (".parquet", ".pq"):
        return not pd.api.types.is_numeric_dtype(pd.read_parquet(request.path, columns=[request.time])[request.time])
    return not pd.api.types.is_numeric_dtype(pd.read_csv(request.path, usecols=[request.time], nrows=50)[request.time])
