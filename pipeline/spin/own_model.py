"""A model fitted to a user's data, kept in one safetensors file and put before new rows without training.

The file holds the network's weights, the values that it was trained on (scales, neighbours and covariances are
computed from them anew, to the bit), the held-out cells, the graph, and the table of the intervals.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..core.errors import DataError, PipelineError, first_line
from . import published
from .boosted import OutOfFold
from .boosting import Booster
from .cells import Scene
from .cube import TEST, TRAIN, VAL, Cube
from .gaps import Gaps, dense, line, series
from .intervals import Intervals
from .residual import Residual
from .settings import Settings
from .windows import Windows

if TYPE_CHECKING:
    from .virtual import Virtual

FORMAT = "spin-own-3"
TWENTIETHS = 20  # weights that are tried: all that add up to 1
NOWHERE = 10_000  # length of a gap that has no visible cell on one side
ARRAYS = ("value", "hidden", "on_line", "segment", "split", "edge_index", "edge_weight", "edge_type", "place")
FACTS = ("nodes", "channels", "units", "masks", "edge_types", "step_seconds", "info", "attrs")


@dataclass
class Fitted:
    """What was learnt from a cube.

    Attributes
    ----------
    cube: the data it was fitted to. settings: of the arm. weights: of the network, by name.
    intervals: quantiles of its errors on held-out validation cells. scores: method -> channel -> error on held-out
    test cells. level: of the intervals. coverage: share of the held-out test cells inside.
    boost: base of the network. booster: averaged with it, where trees may be kept.
    weight: [C, 3] of the network, the straight line and boosting; None: the network alone.
    virtual: what is known of sensors that it hasn't seen; None: it knows its own sensors alone.
    """

    cube: Cube
    settings: Settings
    weights: dict[str, torch.Tensor]
    intervals: Intervals | None = None
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    level: float = 0.9
    coverage: float | None = None
    boost: OutOfFold | None = None
    booster: Booster | None = None
    weight: np.ndarray | None = None
    virtual: Virtual | None = None

    def values(self, cube: Cube, mask: int, cells: np.ndarray) -> np.ndarray:
        """Imputed values [cell], physical units, of flat indices into [T, N, C] of a cube that begins with this one."""
        if self.weight is None or len(cells) == 0:
            return self.network(cube, mask, cells)
        share = self.weight[cells % cube.shape[2]]  # [cell, 3]
        return (share * self.voices(cube, mask, cells)).sum(axis=1).astype(np.float32)

    def voices(self, cube: Cube, mask: int, cells: np.ndarray) -> np.ndarray:
        """[cell, 3] what the network, the line and boosting (the line where there are no trees) say."""
        straight = self.straight(cube, mask, cells)
        trees = straight if self.booster is None else self.boosted(cube, mask, cells)
        return np.stack([self.network(cube, mask, cells), straight, trees], axis=1)

    def straight(self, cube: Cube, mask: int, cells: np.ndarray) -> np.ndarray:
        """The straight line across the gap [cell]; the mean of the training where nothing is visible."""
        shown, train = series(cube.visible(mask)), (cube.split == TRAIN)[None]
        z = np.where(shown, series(cube.value), 0.0)
        level = (z * train).sum(axis=1) / np.maximum((shown & train).sum(axis=1), 1)
        return dense(line(z, shown, cube.segment, level), cube.shape).ravel()[cells]

    def boosted(self, cube: Cube, mask: int, cells: np.ndarray) -> np.ndarray:
        """What boosting alone says [cell]."""
        return self.booster.predict(cube.inputs(mask), cube.visible(mask), cells)

    def network(self, cube: Cube, mask: int, cells: np.ndarray) -> np.ndarray:
        """What the network alone says [cell]."""
        if len(cells) == 0:
            return np.empty(0, np.float32)
        if self.settings.network.kind != "residual":
            model = published.for_cube(self.settings.network, cube, "cpu")
            model.load_state_dict(self.weights)
            windows = Windows(cube, mask, self.settings.network, "cpu")
            rows = np.zeros(len(cube.time), bool)
            rows[cells // (cube.shape[1] * cube.shape[2])] = True
            return published.impute(model.eval(), windows, rows, True).ravel()[cells]
        arm, visible = Residual(cube, self.settings), cube.visible(mask)
        found = arm.cells(visible, cells, 0, self.boost)
        model = arm.build(found.x.shape[1], 0)
        model.load_state_dict(self.weights)
        space = arm.describer.space
        scaled = arm.predict(model.eval(), found, Scene.of(space, cube.value, visible))[:, 0].numpy()
        channel = cells % cube.shape[2]
        return (scaled * space.sd[channel] + space.mean[channel]).astype(np.float32)


def gap_lengths(cube: Cube, mask: int, cells: np.ndarray) -> np.ndarray:
    """[cell] rows from the last visible cell before each cell to the next one after it."""
    rows, nodes, channels = cube.shape
    flat = (cells % (nodes * channels)) * rows + cells // (nodes * channels)
    gaps = Gaps.find(series(cube.visible(mask)), cube.segment, flat, reach=1)
    before, after = gaps.before[0], gaps.after[0]
    return np.where((before >= 0) & (after >= 0), after - before, NOWHERE)


def flat_targets(cube: Cube, split: int) -> np.ndarray:
    """[n] flat indices of the held-out cells of a split."""
    found = cube.targets(0, split)
    return (found.time * cube.shape[1] + found.node) * cube.shape[2] + found.channel


def mixtures(third: bool) -> np.ndarray:
    """[W, 3] weights that are tried for three voices, the first voice alone first; ``third``: the last may have one."""
    trees = TWENTIETHS if third else 0
    tried = [(TWENTIETHS - a - b, a, b) for b in range(trees + 1) for a in range(TWENTIETHS + 1 - b)]
    return np.array(tried, np.float64) / TWENTIETHS


def weigh(fitted: Fitted) -> None:
    """Weights of network, line and boosting: by channel, those with the least error on held-out validation cells.

    With few rows a network may be worse than the line that it was to correct; then the line has a say.
    """
    cube, cells = fitted.cube, flat_targets(fitted.cube, VAL)
    truth, channel = cube.value.ravel()[cells], cells % cube.shape[2]
    voices = fitted.voices(cube, 0, cells)
    tried = mixtures(fitted.booster is not None)
    fitted.weight = np.tile(tried[0], (cube.shape[2], 1))
    for c in range(cube.shape[2]):
        here = channel == c
        if here.any():
            errors = [np.abs(voices[here] @ weight - truth[here]).mean() for weight in tried]
            fitted.weight[c] = tried[int(np.argmin(errors))]


def calibrate(fitted: Fitted) -> None:
    """Interval table from the held-out validation cells; error and coverage from the held-out test cells."""
    cube, tail = fitted.cube, (1 - fitted.level) / 2
    channels, truth = cube.shape[2], cube.value.ravel()
    known, asked = flat_targets(cube, VAL), flat_targets(cube, TEST)
    guess = fitted.values(cube, 0, np.concatenate([known, asked]))
    gap = gap_lengths(cube, 0, np.concatenate([known, asked]))
    first = len(known)
    fitted.intervals = Intervals.fit(
        truth[known] - guess[:first], gap[:first], known % channels, channels, (tail, 1 - tail)
    )
    band = fitted.intervals.around(guess[first:], gap[first:], asked % channels)
    fitted.coverage = float(np.mean((truth[asked] >= band[:, 0]) & (truth[asked] <= band[:, 1])))
    error = np.abs(truth[asked] - guess[first:])
    fitted.scores["this model"] = {
        name: float(error[asked % channels == c].mean()) if (asked % channels == c).any() else float("nan")
        for c, name in enumerate(cube.channels)
    }


def join(fitted: Fitted, new: Cube) -> Cube:
    """The cube of the training followed by new rows, which are for nothing but being filled.

    Raises
    ------
    DataError
        New rows of other sensors, channels or another step.
    """
    old = fitted.cube
    for what, known, given in (("sensor", old.nodes, new.nodes), ("channel", old.channels, new.channels)):
        extra, lacking = sorted(set(given) - set(known)), sorted(set(known) - set(given))
        if extra or lacking:
            raise DataError(
                f"the model was trained on other {what}s: "
                + "; ".join(
                    f"{text} {', '.join(names[:5])}{', …' if len(names) > 5 else ''}"
                    for text, names in (("it doesn't know", extra), ("the file lacks", lacking))
                    if names
                )
                + f". Give the {len(known)} {what}s that it knows, or train a model of your own (another --model"
                + ("; trained with --places it takes further sensors)" if what == "sensor" and extra else ")")
            )
    if new.step_seconds != old.step_seconds:
        raise DataError(
            f"the model was trained on rows {old.step_seconds:g} s apart, the new ones are {new.step_seconds:g} s apart"
        )
    order = [new.nodes.index(name) for name in old.nodes]
    which = [new.channels.index(name) for name in old.channels]
    value = new.value[:, order][:, :, which]
    follows = new.time[0] - old.time[-1] == np.timedelta64(int(old.step_seconds * 1e9), "ns")
    segment = new.segment - new.segment[0] + old.segment[-1] + (0 if follows else 1)
    shape = (len(old.hidden), *value.shape)
    return replace(
        old,
        value=np.concatenate([old.value, value]),
        hidden=np.concatenate([old.hidden, np.zeros(shape, bool)], axis=1),
        on_line=np.concatenate([old.on_line, np.zeros(value.shape, bool)]),
        time=np.concatenate([old.time, new.time]),
        segment=np.concatenate([old.segment, segment]).astype(np.int32),
        split=np.concatenate([old.split, np.full(len(value), TEST, np.int8)]),
    )


def save(path: Path, fitted: Fitted) -> None:
    """Write the model; a file that stands is replaced at once or not at all."""
    from safetensors.torch import save_file

    cube = fitted.cube
    tensors = {f"network.{name}": tensor.contiguous() for name, tensor in fitted.weights.items()}
    for name in ARRAYS:
        array = np.ascontiguousarray(getattr(cube, name))
        tensors[f"data.{name}"] = torch.from_numpy(array.astype(np.uint8) if array.dtype == bool else array)
    tensors["data.time"] = torch.from_numpy(cube.time.astype("datetime64[ns]").astype(np.int64))
    tensors["intervals"] = torch.from_numpy(fitted.intervals.table)
    about = {
        "format": FORMAT,
        "cube": {name: getattr(cube, name) for name in FACTS},
        "settings": fitted.settings.model_dump(mode="json"),
        "levels": fitted.intervals.levels,
        "scores": fitted.scores,
        "level": fitted.level,
        "coverage": fitted.coverage,
        "weight": None if fitted.weight is None else fitted.weight.tolist(),
        "virtual": fitted.virtual and fitted.virtual.plain(),
    }
    part = path.with_name(f".part-{path.name}")
    try:
        text = json.dumps(about)
        save_file(tensors, part, metadata={"about": text, "sha256": _digest(text, tensors)})
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _digest(about: str, tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of all that a model's file says: one bit that has flipped must not become another weight."""
    total = hashlib.sha256(about.encode())
    for name in sorted(tensors):
        array = tensors[name].cpu().numpy()
        total.update(f"\0{name} {array.dtype} {array.shape}\0".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def load(path: Path) -> Fitted:
    """Read what :func:`save` wrote.

    Raises
    ------
    PipelineError
        Another file, or one that is damaged.
    """
    from safetensors import safe_open

    from .virtual import Virtual

    try:
        with safe_open(path, "pt") as file:
            written = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except Exception as error:  # safetensors and torch raise errors of many kinds on damaged bytes
        raise PipelineError(f"{path} can't be read as a model: {first_line(error)}") from None
    text = written.get("about", "{}")
    whole = "sha256" in written and written["sha256"] == _digest(text, tensors)
    about: dict[str, Any] = json.loads(text) if whole else {}
    if about.get("format") != FORMAT:
        raise PipelineError(
            f"{path} is no model of `spin impute`, or it is damaged; name another file for --model, or delete it to "
            "train anew"
        )
    arrays = {name: tensors[f"data.{name}"].numpy() for name in ARRAYS}
    arrays |= {name: arrays[name].astype(bool) for name in ("hidden", "on_line")}
    facts = {name: tuple(v) if isinstance(v, list) else v for name, v in about["cube"].items()}
    cube = Cube(**arrays, time=tensors["data.time"].numpy().astype("datetime64[ns]"), **facts)
    weights = {name.removeprefix("network."): tensor for name, tensor in tensors.items() if name.startswith("network.")}
    return Fitted(
        cube,
        Settings.model_validate(about["settings"]),
        weights,
        Intervals(tensors["intervals"].numpy(), tuple(about["levels"])),
        about["scores"],
        about["level"],
        about["coverage"],
        weight=None if about["weight"] is None else np.array(about["weight"]),
        virtual=Virtual(**about["virtual"]) if about.get("virtual") else None,
    )
