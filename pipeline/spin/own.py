"""Filling the gaps of a user's own data: train once, fill with intervals, and say what is to be expected.

Rows are dealt to training, validation and test in short blocks, so that all of the period is learnt from; in the
validation and test blocks known cells are hidden, by the data's own gaps moved in time where there are enough of them.
Errors and coverage that are reported come from the hidden test cells, intervals from the hidden validation cells.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError, PipelineError
from ..core.store import digest
from .cube import TEST, TRAIN, VAL, Cube
from .data import build
from .data_settings import Baselines, Boosting, Data, Missing
from .masks import rehide
from .readers_own import BY_CORRELATION, read_own

BLOCKS = (TRAIN, VAL, TRAIN, TEST, TRAIN, TRAIN, VAL, TRAIN, TEST, TRAIN)
LONGEST_BLOCK = 96  # rows
LEAST_ROWS = 40
LEAST_HELD = 30  # held-out cells of validation and of test
ENOUGH_GAPS = 0.02  # share of missing cells from which on the data's own gaps are imitated
SHOWN = ("mean", "time_of_day", "linear", "knn", "mf", "boosting")
KINDS = (".csv", ".parquet", ".nc")


@dataclass(frozen=True)
class Request:
    """What ``spin impute`` is asked for.

    Attributes
    ----------
    path, graph, out: files. model: kept there, and used from there if it stands.
    places: coordinates of all sensors, for a network that takes sensors which it has not seen; virtual: those of them
    that have no values.
    method: ``residual`` (corrects ``base``) or ``spin`` (the published network); None: residual, or spin with places.
    base: linear, kriging, mice or boosting (None: boosting, or kriging where the model is kept).
    seconds: CPU seconds of training. level: of the intervals. hide: pattern of the held-out cells, or ``auto``.
    """

    path: Path
    out: Path
    graph: Path | None = None
    model: Path | None = None
    places: Path | None = None
    virtual: tuple[str, ...] = ()
    method: str | None = None
    base: str | None = None
    seconds: float = 60.0
    level: float = 0.9
    hide: str = "auto"
    channels: tuple[str, ...] = ()
    zero_missing: bool = False
    seed: int = 0


@dataclass
class Outcome:
    """What was done.

    Attributes
    ----------
    fitted: the model. cube: the user's rows. filled: [n] flat indices of the filled cells; value [n], band [n, 2].
    notes: sentences on how the file was read. trained: whether it was trained now. files: written.
    """

    fitted: Any
    cube: Cube
    filled: np.ndarray
    value: np.ndarray
    band: np.ndarray
    gap: np.ndarray
    notes: list[str]
    trained: bool
    files: list[Path]


def check(request: Request) -> None:
    """Refuse what can't work before anything is read."""
    out = request.out
    inputs = [path for path in (request.path, request.graph, request.places) if path]
    if out.suffix.lower() not in KINDS:
        raise PipelineError(f"--out {out}: files of the kind {out.suffix!r} are not written; use {', '.join(KINDS)}")
    for path in filter(None, (out, request.model)):
        if not path.absolute().parent.is_dir():
            raise PipelineError(f"the folder of {path} doesn't exist; make it first")
        if path.exists() and any(path.samefile(p) for p in inputs if p.exists()):
            raise PipelineError(f"{path} is an input; name another file for the output")
    for path in inputs:
        if not path.is_file():
            raise DataError(f"{path} doesn't exist")
    if not 0.5 <= request.level < 1:
        raise PipelineError(f"--level {request.level}: a share from 0.5 to below 1, e.g. 0.9")
    if request.seconds <= 0:
        raise PipelineError(f"--seconds {request.seconds}: must be above 0")
    if request.virtual and not request.places:
        raise PipelineError(
            "--virtual needs coordinates: give --places, a file with node and lat, lon (or x, y) of the sensors with "
            "values and of the virtual ones"
        )
    if request.places and request.method == "residual":
        raise PipelineError(
            "--places goes with --method spin (or none): residual knows a sensor by its own values, not by its place"
        )
    if request.model and request.base == "boosting" and request.method != "spin" and not request.places:
        raise PipelineError(
            "--base boosting can't be kept in a model file (trees); use linear, mice or kriging with --model"
        )


def read(request: Request) -> tuple[Cube, list[str]]:
    """The user's rows as a cube without hidden cells; virtual sensors come last and hold no value."""
    graph = None if request.places else request.graph
    raw = read_own(request.path, graph, channels=list(request.channels) or None, zero_missing=request.zero_missing)
    source = {
        "name": request.path.name,
        "requested": request.path.name,
        "source": "own",
        "sha256": digest(request.path),
        "licence": None,
        "title": request.path.name,
    }
    if len(raw.time) < 10:  # build deals rows to three splits
        raise DataError(f"{request.path.name} has {len(raw.time)} rows; at least 10 are needed")
    cube = build(raw, Data(missing=Missing(kind="none")), source, "ratio")
    if request.places:
        from .own_places import placed

        return placed(cube, request), [line for line in raw.report if line != BY_CORRELATION]
    return cube, raw.report


def hold_out(cube: Cube, hide: str, seed: int) -> tuple[Cube, str]:
    """Two masks: some known cells of the validation and test blocks hidden, and none; and a sentence on the first.

    Raises
    ------
    DataError
        Too few rows or known cells to hold any out.
    """
    rows = len(cube.time)
    if rows < LEAST_ROWS:
        raise DataError(f"{cube.info['name']} has {rows} rows; at least {LEAST_ROWS} are needed to train on")
    block = int(np.clip(rows // (2 * len(BLOCKS)), 1, LONGEST_BLOCK))
    split = np.array(BLOCKS, np.int8)[np.arange(rows) // block % len(BLOCKS)]
    gaps = float(np.isnan(cube.value).mean())
    kind = ("replay" if gaps >= ENOUGH_GAPS else "point") if hide == "auto" else hide
    tried = dict.fromkeys([kind, "point"] if hide == "auto" else [kind])  # gaps of few sensors may fall on none
    for kind in tried:
        pattern = Missing(kind=kind, more=0)
        if kind in ("outage", "block", "spatial"):
            pattern = pattern.model_copy(
                update={"fault": 0.01, "shortest": max(2, block // 4), "longest": max(4, block)}
            )
        rng = np.random.default_rng(seed)
        hidden = rehide(pattern, cube.value, cube.segment, cube.edge_index, rng)
        hidden &= (split != TRAIN)[:, None, None]
        if all(hidden[split == part].sum() >= LEAST_HELD * cube.shape[2] for part in (VAL, TEST)):
            said = {
                "replay": "held-out cells: your data's own gaps, moved in time",
                "point": "held-out cells: single cells, drawn at random (long gaps are harder than what they tell)",
            }.get(kind, f"held-out cells: {kind}")
            facts = cube.attrs | {"pattern": pattern.model_dump(mode="json")}
            both = np.stack([hidden, np.zeros_like(hidden)])
            return replace(cube, hidden=both, split=split, masks=("held out", "none"), attrs=facts), said
    raise DataError(
        f"{cube.info['name']}: no {LEAST_HELD} known cells could be held out for validation and test; give more rows"
        + ("" if hide == "auto" else ", or another --hide")
    )


class _Log:
    """What training reports, passed on as sentences."""

    def __init__(self, say: Callable[[str], None]):
        self.info = say

    def history(self, *args: Any, **kwargs: Any) -> None:
        """Curves are not kept."""

    def progress(self, total: int, what: str) -> Any:
        from types import SimpleNamespace

        return SimpleNamespace(update=lambda done: None)


def arm_settings(request: Request, cube: Cube) -> Any:
    """Settings of the arm, as the ablation has them."""
    from .settings import Settings

    few = cube.value.size < 200_000
    common = {"boosting": {"leaves": 15} if few else {}}
    if request.places:
        from .virtual import settings

        found = settings(*cube.shape)
        fit = {"steps": 100_000, "seconds": request.seconds, "batches_epoch": 50, "lr": 3e-3, "schedule": "linear"}
        return Settings.model_validate(common | found | {"fit": fit | {"warmup": 0, "patience": 40} | found["fit"]})
    if request.method == "spin":
        window = int(min(24, max(4, len(cube.time) // 8)))
        fit = {"steps": 100_000, "seconds": request.seconds, "batch": 2, "batches_epoch": 50, "lr": 3e-3}
        network = {"kind": "spin", "window": window, "channel_tokens": len(cube.channels) > 1}
        return Settings.model_validate(
            common | {"network": network, "fit": fit | {"schedule": "linear", "warmup": 0, "patience": 40}}
        )
    fit = {"steps": 100_000, "seconds": request.seconds, "batch": 16, "batches_epoch": 100, "lr": 2e-3}
    fit |= {"schedule": "cosine", "warmup": 0, "patience": 1000, "whitening": {"kind": "matched"}}
    neighbours = max(1, min(8, len(cube.nodes) - 1))
    base = {"imputer": request.base, "masks": 6, "reach": 3, "folds": 3, "neighbours": neighbours}
    return Settings.model_validate(common | {"network": {"kind": "residual", "layers": 1}, "base": base, "fit": fit})


def train(cube: Cube, request: Request, say: Callable[[str], None]) -> Any:
    """Fit the arm to a cube with held-out cells, within the CPU budget."""
    import time

    from . import boosting, published, virtual
    from .boosted import OutOfFold
    from .learning import Keeper, learn
    from .own_model import Fitted, calibrate, weigh
    from .residual import Residual
    from .run_baselines import impute as impute_baselines
    from .windows import Windows

    settings, clock = arm_settings(request, cube), time.process_time()
    boost = None
    with tempfile.TemporaryDirectory() as folder:
        keeper = Keeper(Path(folder) / "checkpoint.pt", "own")
        if request.places:
            model = published.for_cube(settings.network, cube, "cpu", request.seed)
            loss, validate = virtual.training(model, cube, settings, request.seed)
        elif request.method == "spin":
            windows = Windows(cube, 0, settings.network, "cpu")
            model = published.for_cube(settings.network, cube, "cpu", request.seed)
            loss = published.loss_function(model, windows, settings, cube, None)
            validate = published.validation(model, windows, cube)
        else:
            arm = Residual(cube, settings)
            if request.base == "boosting":
                boost = OutOfFold.fit(cube, arm.describer, settings, request.seed)
            scene, cells = arm.training(request.seed, boost)
            if len(cells) == 0:
                raise DataError(f"{cube.info['name']}: no known cell is left to train on; give more rows")
            val_scene, val_cells = arm.validation_cells(boost)
            model = arm.build(cells.x.shape[1], request.seed)
            loss, validate = arm.loss(model, cells, scene), arm.validation(model, val_cells, val_scene)
        left = max(1.0, request.seconds - (time.process_time() - clock))  # features are of the budget, too
        fit = settings.fit.model_copy(update={"seconds": left, "checkpoint": 1e9})
        state = learn(model, loss, validate, fit, request.seed, keeper, _Log(say)).state
    fitted = Fitted(cube, settings, state, level=request.level, boost=boost)
    if request.places:
        say("error at held-out sensors")
        fitted.virtual = virtual.judge(fitted)
    if request.method == "residual" or request.places:
        if not request.model:  # trees can't be kept in the model's file
            fitted.booster = boosting.fit(cube, settings.boosting, request.seed)
        weigh(fitted)
    calibrate(fitted)
    say("baselines on the same held-out cells")
    named = replace(cube, hidden=cube.hidden[:1], masks=cube.masks[:1])
    found, _ = impute_baselines(named, list(SHOWN), Baselines(boosting=Boosting(**settings.boosting.model_dump())))
    layout = named.layout()
    part = layout.slice(0, TEST)
    for member, name in enumerate(found.members):
        error = np.abs(found.at(layout, member, 0, TEST) - layout.truth[part])
        fitted.scores[name] = {
            channel: float(error[layout.channel[part] == c].mean()) for c, channel in enumerate(cube.channels)
        }
    return fitted


def run(request: Request, say: Callable[[str], None] = lambda text: None) -> Outcome:
    """Fill a user's file.

    Raises
    ------
    DataError
        Files that can't be read as rows of sensors, or don't go together.
    PipelineError
        Options that are impossible.
    """
    from . import own_files, own_model, own_places

    check(request)
    if request.base is None:
        request = replace(request, base="kriging" if request.model else "boosting")
    if request.method is None:
        request = replace(request, method="spin" if request.places else "residual")
    cube, notes = read(request)
    if not np.isnan(cube.value).any():
        raise DataError(f"{request.path.name} has no missing cell: there is nothing to fill")
    trained = not (request.model and request.model.exists())
    if trained:
        seen = own_places.seen(cube) if request.places else cube
        held, said = hold_out(seen, request.hide, request.seed)
        fitted = train(held, request, say)
        whole = own_places.over(held, cube)[0] if request.places else held
        first = 0
        notes = [*notes, said]
    else:
        fitted = own_model.load(request.model)
        first = len(fitted.cube.time)
        if not request.places:
            whole = own_model.join(fitted, cube)
        elif fitted.virtual is None:
            raise PipelineError(
                f"{request.model} was trained without coordinates: it takes no sensors but its own. Leave out "
                "--places, or train another model with it (another --model)"
            )
        else:
            old, cube = own_places.over(fitted.cube, cube)
            whole = own_model.join(replace(fitted, cube=old), cube)
    parts = {n: getattr(whole, n)[first:] for n in ("value", "on_line", "time", "segment", "split")}
    cube = replace(whole, **parts, hidden=whole.hidden[:, first:])
    missing, value, band, gap = fill(fitted, whole, first)
    if not np.isfinite(value).all():
        raise PipelineError("some cells got no finite value; nothing was written (please report the data)")
    outcome = Outcome(fitted, cube, missing, value, band, gap, notes, trained, [])
    outcome.files = own_files.write(outcome, request.out)
    if trained and request.model:
        own_model.save(request.model, fitted)
        outcome.files.append(request.model)
    return outcome


def fill(fitted: Any, whole: Cube, first: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Missing cells of the rows from ``first`` on, as flat indices into these rows; values, intervals, gap lengths.

    ``whole`` begins with the rows that the model was trained on, and its sensors with those that it knows.
    """
    from . import own_model, virtual
    from .own_places import take

    rows, nodes, channels = whole.shape
    known = len(fitted.cube.nodes)
    missing = np.flatnonzero(np.isnan(whole.value[first:]))
    row, node, channel = np.unravel_index(missing, (rows - first, nodes, channels))
    value, band = np.empty(len(missing), np.float32), np.empty((len(missing), 2))
    old = node < known
    cells = ((row[old] + first) * known + node[old]) * channels + channel[old]
    seen = take(whole, np.arange(known)) if known < nodes else whole
    value[old] = fitted.values(seen, 1, cells)
    band[old] = fitted.intervals.around(value[old], own_model.gap_lengths(seen, 1, cells), channel[old])
    if known < nodes:
        found = virtual.fill(fitted, whole, np.arange(nodes) >= known, first)
        value[~old], band[~old] = (part[row[~old], node[~old] - known, channel[~old]] for part in found)
    return missing, value, band, own_model.gap_lengths(whole, 1, missing + first * nodes * channels)
