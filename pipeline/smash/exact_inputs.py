"""What the exact-likelihood model reads of a window: features of its events and of their pairs, in ragged batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import etas_fit
from .etas_fit import Events
from .events import FLOOR, Catalogue
from .kde import Background

PAIR_FEATURES = 4


@dataclass
class Windows:
    """Some windows: the events and pairs of :class:`Events`, and what the network reads beside them.

    Attributes
    ----------
    events: ragged events and pairs, see ``etas_fit``.
    node: [n, F] what an event tells once it has happened. when: [n, E] what is known of an event when its time is
        known, but neither place nor mark.
    pair: [P, PAIR_FEATURES + K] what is known of a parent when its child's time is known.
    tied: [n] whether an event follows the one before it at once; there: [n] whether it has the place of that one.
    before: [n] place of the event before (an event's own place for the first of a window).
    slot: [n] place of each event in the padded batch [W, L] laid flat. shape: (W, L).
    weight: [W, 3] weight of each window in the loss of times, places and marks.
    sequences: [W] numbers of the windows in the catalogue.
    """

    events: Events
    node: Tensor
    when: Tensor
    pair: Tensor
    tied: Tensor
    there: Tensor
    before: Tensor
    slot: Tensor
    shape: tuple[int, int]
    weight: Tensor
    sequences: np.ndarray

    @property
    def scored(self) -> Tensor:
        return self.events.scored

    @property
    def last(self) -> Tensor:
        return self.events.last


class Reader:
    """Makes batches of windows of one catalogue.

    Parameters
    ----------
    catalogue: all windows.
    background: its kernel densities; ``features`` [events of the catalogue, C, K] their logs at every event.
    max_lag: events further apart in a window are no pair.

    Attributes
    ----------
    clock: recency memory of the law of times where it is a clock's (``clock.MinuteHazard``), as ETAS has it.
    """

    clock: float | None = None

    def __init__(self, catalogue: Catalogue, background: Background, features: np.ndarray, max_lag: int | None):
        self.catalogue, self.background, self.features, self.max_lag = catalogue, background, features, max_lag
        scaler = catalogue.meta["scaler"]
        log_gap = self._log_gap(catalogue.dt)
        phase = catalogue.t / np.repeat(catalogue.window, catalogue.lengths)  # share of the window that has passed
        place = (catalogue.xy - scaler["xy"]["mean"]) / scaler["xy"]["sd"]
        wide = features[:, -1 - len(background.widths) : -1].mean(axis=2)  # [n, widths] of all marks together
        train = wide[catalogue.split[catalogue.sequence] == 0]  # later windows must not move what is read of any
        centred = (wide - train.mean(axis=0)) / np.maximum(train.std(axis=0), 1e-6)
        index = np.arange(len(catalogue.t)) - np.repeat(catalogue.offsets[:-1], catalogue.lengths)
        count = np.log1p(index)
        rate = count - np.log(np.maximum(catalogue.t, 0.01 * catalogue.window[catalogue.sequence]))
        marks = catalogue.labels[:, None] == np.arange(catalogue.marks)
        previous = np.diff(place, axis=0, prepend=place[:1])
        step = np.log(np.hypot(*previous.T) + 1e-3)
        step[catalogue.offsets[:-1][catalogue.lengths > 0]] = 0
        spread = np.sqrt(np.prod(np.array(scaler["xy"]["sd"]) * background.scale))
        self.near = 0.1 * spread  # distance at which the neighbours of an event are counted
        columns = [log_gap, phase, place, centred[:, [0, -1]], count - 3, rate, marks, step]
        self.node = np.column_stack(columns).astype(np.float32)
        self.when = np.column_stack([log_gap, phase, count - 3]).astype(np.float32)

    def _log_gap(self, dt: np.ndarray) -> np.ndarray:
        fitted = self.catalogue.meta["scaler"]["log_dt"]
        return (np.log(np.maximum(dt, FLOOR)) - fitted["mean"]) / max(fitted["sd"], 1e-6)

    def at(self, windows: Windows, gap: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Times [n], known features [n, E], pair features [P, G], ties [n] if the events came after other gaps [n]."""
        events = windows.events
        before = events.t[windows.before].double().numpy()
        now, count = before + gap, windows.when[:, 2].numpy()
        length = events.end[events.window].numpy()
        when = np.column_stack([self._log_gap(gap), now / length, count]).astype(np.float32)
        pair = windows.pair.clone()
        lag = now[events.target.numpy()] - events.t[events.parent].double().numpy()
        pair[:, 0] = torch.as_tensor(log_lag(lag), dtype=pair.dtype)
        tied = torch.as_tensor((gap == 0) & (events.scored.numpy()))
        return torch.as_tensor(now, dtype=events.t.dtype), torch.as_tensor(when), pair, tied

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Features of a node (with the nearest earlier distance), of a known time, and of a pair."""
        return self.node.shape[1] + 1, self.when.shape[1], PAIR_FEATURES + self.catalogue.marks

    def windows(self, sequences: np.ndarray, weight: np.ndarray | None = None) -> Windows:
        """A batch of these windows, each of at least one event."""
        catalogue = self.catalogue
        events = Events.of(catalogue, sequences, self.features, self.background.scale, self.max_lag)
        lengths, n = catalogue.lengths[sequences], len(events.row)
        start = np.repeat(np.cumsum(lengths) - lengths, lengths)
        index = np.arange(n) - start
        slot = np.repeat(np.arange(len(lengths)), lengths) * lengths.max() + index
        nearest, crowd, own = self._neighbours(sequences)
        target, parent = events.target.numpy(), events.parent.numpy()
        where = (target - start[target], parent - start[parent], np.repeat(np.arange(len(lengths)), lengths)[target])
        pair = np.empty((len(target), PAIR_FEATURES + catalogue.marks), np.float32)
        t = events.t.numpy()
        pair[:, 0] = log_lag(t[target] - t[parent])
        pair[:, 1] = np.log(target - parent) - 2
        bounds = np.searchsorted(where[2], np.arange(len(lengths) + 1))
        for w in range(len(lengths)):
            part = slice(bounds[w], bounds[w + 1])
            pair[part, 2] = nearest[w][where[0][part], where[1][part]]
            pair[part, 3] = crowd[w][where[0][part], where[1][part]]
        pair[:, PAIR_FEATURES:] = events.mark.numpy()[parent][:, None] == np.arange(catalogue.marks)
        row = events.row.numpy()
        return Windows(
            events,
            torch.as_tensor(np.column_stack([self.node[row], np.concatenate(own)])),
            torch.as_tensor(self.when[row]),
            torch.as_tensor(pair),
            torch.as_tensor((catalogue.dt[row] == 0) & (index > 0)),
            torch.as_tensor((catalogue.xy[row] == catalogue.xy[row - 1]).all(axis=1) & (index > 0)),
            torch.as_tensor(np.maximum(np.arange(n) - 1, start)),
            torch.as_tensor(slot),
            (len(lengths), int(lengths.max())),
            torch.as_tensor(np.ones((len(lengths), 3)) if weight is None else weight, dtype=torch.float32),
            np.asarray(sequences),
        )

    def _neighbours(self, sequences: np.ndarray) -> tuple[list, list, list]:
        """For each window and child i: log distance of parent j to the nearest other event before i, log number of
        events near j before i, both [L, L]; and each event's own log distance to the nearest event before it [L].
        """
        nearest, crowd, own = [], [], []
        for s in sequences:
            place = self.catalogue.xy[self.catalogue.rows(s)] * self.background.scale
            r2 = np.subtract.outer(place[:, 0], place[:, 0]) ** 2 + np.subtract.outer(place[:, 1], place[:, 1]) ** 2
            r2 = r2.astype(np.float32) / np.float32(self.near**2)
            np.fill_diagonal(r2, np.inf)
            least = np.minimum.accumulate(r2, axis=0)  # [l, j] nearest to j among events 0 … l
            near = np.cumsum(1 / (1 + r2), axis=0)
            shift = lambda a, first: np.vstack([np.full_like(a[:1], first), a[:-1]])  # noqa: E731 (before i, not at i)
            nearest.append(0.5 * np.log(np.clip(shift(least, np.inf), 1e-4, 1e4)) / 2)
            crowd.append(np.log1p(shift(near, 0.0)) - 1)
            before = np.where(np.tri(len(place), k=-1, dtype=bool), r2, np.inf).min(axis=1)
            own.append(0.5 * np.log(np.clip(before, 1e-4, 1e4)) / 2)
        return nearest, crowd, own

    def pieces(self, sequences: np.ndarray, pairs: int) -> list[np.ndarray]:
        """Windows of similar length, at most so many pairs together (or one window)."""
        lengths = self.catalogue.lengths
        sequences = sequences[lengths[sequences] > 1]
        order = sequences[np.argsort(lengths[sequences], kind="stable")]
        lag = self.max_lag or np.inf
        cost = np.minimum(lengths[order] * (lengths[order] - 1) / 2, lag * lengths[order])
        found, start, total = [], 0, 0.0
        for stop, one in enumerate(cost):
            if stop > start and total + one > pairs:
                found.append(order[start:stop])
                start, total = stop, 0.0
            total += one
        return [*found, order[start:]] if start < len(order) else found


def log_lag(lag: np.ndarray) -> np.ndarray:
    """First feature of a pair: the log of its lag, to about unit size."""
    return np.log(np.maximum(lag, FLOOR)) / 3


def recency(catalogue: Catalogue, memories: tuple[float | None, ...]) -> np.ndarray:
    """Weights [S, factors] of the windows; those of the training windows fall with age and have mean 1."""
    weight = np.ones((len(catalogue.split), len(memories)))
    train = catalogue.sequences("train")
    for factor, memory in enumerate(memories):
        weight[train, factor] = etas_fit.recency(catalogue, train, memory)
    return weight
