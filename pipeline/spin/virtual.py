"""Virtual sensors: series of places that no model has seen, by a network whose node vectors come from coordinates.

A share of the sensors with values is held out: training never sees them, neither as input nor as target. In training
further sensors are hidden for whole stretches, so that the network learns to do without a sensor's own past. What is
written is an average of network and two means of the other sensors; its weights, the intervals and the error that is to
be expected come from the held-out sensors. For the error and the coverage of one of them only the others are used.

Shapes: T rows, N sensors, K of them asked for, C channels, V voices (network and means), W mixtures that are tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from . import published
from .conformal import growth
from .cube import TEST, Cube
from .data_settings import Missing
from .graph import distances
from .intervals import Intervals
from .means import inverse_squares, weighted_mean
from .own_model import NOWHERE, mixtures
from .settings import Settings
from .windows import Windows

if TYPE_CHECKING:
    from .own_model import Fitted

SHARE = 0.2  # of the sensors, held out; as in the workflow's arm `virtual`
ENOUGH = 4  # held-out sensors from which on there are intervals
HIDDEN = 0.3  # of the sensors, hidden at a time in training
VOICES = ("network", "inverse distances", "neighbours on the graph")


@dataclass(frozen=True)
class Virtual:
    """What the held-out sensors say.

    Attributes
    ----------
    weight: [C][V] of the voices. table: [C][2] quantiles of the errors; None: too few held-out sensors.
    held: names of the held-out sensors. scores: method -> channel -> mean absolute error at them, NaN where they have
    no value. coverage: share of their values inside the intervals; None: no intervals.
    """

    weight: list[list[float]]
    table: list[list[float]] | None
    held: list[str]
    scores: dict[str, dict[str, float]]
    coverage: float | None

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def settings(rows: int, nodes: int, channels: int) -> dict[str, Any]:
    """Network, training and held-out share, as the workflow's arm `virtual` has them, for a cube of this shape."""
    window = int(min(12, max(4, rows // 8)))
    return {
        "network": {
            "kind": "spin", "layers": 3, "eta": 2, "window": window, "embedding": "places",
            "channel_tokens": channels > 1,
        },
        "unseen": {"share": max(SHARE, max(2, min(ENOUGH, nodes // 3)) / nodes)},
        "fit": {"batch": 8, "whitening": {"kind": "matched"}},
    }  # fmt: skip


def training(
    model: nn.Module, cube: Cube, settings: Settings, seed: int
) -> tuple[Callable[[np.random.Generator], torch.Tensor], Callable[[], float]]:
    """Loss and validation error: sensors that are hidden wholly, for whole windows, from what the others show.

    Those that validate are hidden in all rows; they are asked for in the validation rows alone. Held-out sensors are
    never shown.
    """
    unseen = published.unseen_nodes(settings.unseen.share, cube)
    window = settings.network.window
    outage = Missing(kind="outage", fault=HIDDEN / (4 * window), shortest=2 * window, longest=6 * window)
    rng = np.random.default_rng(seed)
    others = np.flatnonzero(~unseen)
    validating = np.isin(np.arange(len(unseen)), rng.permutation(others)[: max(1, round(HIDDEN * len(others)))])
    whole = np.broadcast_to(validating[None, :, None], cube.shape)
    cube = replace(
        cube,
        hidden=np.stack([cube.hidden[0], whole]),
        attrs=cube.attrs | {"pattern": outage.model_dump(mode="json")},
    )
    shown, asked = (Windows(cube, mask, settings.network, "cpu", unseen) for mask in (0, 1))
    loss = published.loss_function(model, shown, settings, cube, None)
    return loss, published.validation(model, asked, replace(cube, hidden=cube.hidden[1:]))


def voices(fitted: Fitted, cube: Cube, asked: np.ndarray, rows: np.ndarray, apart: np.ndarray | None) -> np.ndarray:
    """What the network and the two means say, [R, K, C, V] in physical units.

    Parameters
    ----------
    cube: with the training's rows first. asked: [N] bool, the K sensors. rows: [T] bool, the R rows.
    apart: [N] bool, sensors that aren't shown; None: all are.
    """
    trained = fitted.cube.place
    windows = Windows(cube, 1, fitted.settings.network, "cpu", apart)
    scaled = (cube.place - trained.mean(axis=0)) / np.where(trained.std(axis=0) > 0, trained.std(axis=0), 1)
    windows.places = torch.as_tensor(scaled.astype(np.float32))  # as in training, whatever sensors have come since
    model = published.for_cube(fitted.settings.network, cube, "cpu")
    model.load_state_dict(fitted.weights)
    network = published.impute(model.eval(), windows, rows, True)[rows][:, asked]  # [R, K, C]
    value, shown = cube.value[rows], windows.visible.numpy()[rows]  # [R, N, C]
    near = inverse_squares(distances(cube.place, cube.attrs["place"])[:, asked])  # [N, K]
    near[np.flatnonzero(asked), np.arange(asked.sum())] = 0  # never a sensor's own value
    linked = np.zeros((len(asked), len(asked)))
    np.maximum.at(linked, tuple(cube.edge_index), cube.edge_weight)
    mean = np.broadcast_to(windows.mean, network.shape)
    inverse = weighted_mean(value, shown, near, mean)
    return np.stack([network, inverse, weighted_mean(value, shown, linked[:, asked], inverse)], axis=-1)


def judge(fitted: Fitted) -> Virtual:
    """Weights, intervals and expected error from the held-out sensors in the test rows."""
    cube = fitted.cube
    unseen = published.unseen_nodes(fitted.settings.unseen.share, cube)
    rows, held = cube.split == TEST, np.flatnonzero(unseen)
    said = voices(fitted, cube, unseen, rows, unseen)
    row, sensor, channel = np.nonzero(cube.observed[rows][:, unseen])  # [n]
    truth = cube.value[rows][:, unseen][row, sensor, channel].astype(np.float64)
    said = said[row, sensor, channel]  # [n, V]
    channels, tried = cube.shape[2], mixtures(True)
    cell = sensor * channels + channel
    bins = len(held) * channels
    error = np.stack([np.bincount(cell, np.abs(said @ w - truth), bins) for w in tried])
    error = error.reshape(len(tried), len(held), channels)  # sums, [W, K, C]
    best = tried[error.sum(axis=1).argmin(axis=0)]  # [C, V]
    others = tried[(error.sum(axis=1, keepdims=True) - error).argmin(axis=0)]  # [K, C, V], the sensor itself left out
    value = (said * others[sensor, channel]).sum(axis=1)
    names = {"this model": value} | dict(zip(VOICES, said.T, strict=True))
    scores = {
        name: {
            of: float(np.abs(guess - truth)[channel == c].mean()) if (channel == c).any() else float("nan")
            for c, of in enumerate(cube.channels)
        }
        for name, guess in names.items()
    }
    table = coverage = None
    if len(held) >= ENOUGH:
        table, coverage = intervals(truth - value, sensor, channel, channels, fitted.level)
    return Virtual(best.tolist(), table, [cube.nodes[k] for k in held], scores, coverage)


def intervals(
    missed: np.ndarray, sensor: np.ndarray, channel: np.ndarray, channels: int, level: float
) -> tuple[list[list[float]], float]:
    """Quantiles of the errors at held-out sensors, widened to hold another one's, and the coverage to be expected.

    The errors of one sensor are alike, so that the quantiles of some sensors are too narrow for another. It is measured
    how far each sensor's errors lie outside the quantiles of the others, in their width; by the ``level`` quantile of
    that all are widened. The coverage of a sensor is that of quantiles and widening which the others give.

    Parameters
    ----------
    missed: [n] truth - imputed. sensor, channel: [n] numbers.

    Returns
    -------
    [C][2] lower and upper, and the share of the errors inside.
    """
    tail = (1 - level) / 2

    def quantiles(of: np.ndarray) -> np.ndarray:
        gap = np.full(of.sum(), NOWHERE)
        return Intervals.fit(missed[of], gap, channel[of], channels, (tail, 1 - tail)).table[:, -1]

    score = np.zeros(len(missed))
    for k in np.unique(sensor):
        here = sensor == k
        low, high = quantiles(~here)[channel[here]].T
        score[here] = np.where(
            missed[here] > 0, missed[here] / np.maximum(high, 1e-12), missed[here] / np.minimum(low, -1e-12)
        )
    inside = [score[sensor == k] <= max(1.0, growth(score[sensor != k], level)) for k in np.unique(sensor)]
    table = quantiles(np.ones(len(missed), bool)) * max(1.0, growth(score, level))
    return table.tolist(), float(np.concatenate(inside).mean())


def fill(fitted: Fitted, whole: Cube, new: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Values [R, K, C] and intervals [R, K, C, 2] (NaN: not available) of sensors that the model hasn't seen.

    Parameters
    ----------
    whole: the rows of the training and, from ``first`` on, those to fill; over all sensors.
    new: [N] bool, the K sensors.
    """
    rows = np.arange(len(whole.time)) >= first
    weight = np.array(fitted.virtual.weight)
    value = (voices(fitted, whole, new, rows, None) * weight).sum(axis=-1).astype(np.float32)
    if fitted.virtual.table is None:
        return value, np.full((*value.shape, 2), np.nan)
    return value, value[..., None] + np.array(fitted.virtual.table)
