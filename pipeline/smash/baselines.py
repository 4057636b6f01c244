"""Trivial and classical forecasts of the next event: each is a law of the gap, one of the place and one of the mark.

poisson_kde   constant rate × kernel density × mark frequencies
clock_kde     where times are whole minutes: hour of the week × minute of the hour × kernel density × mark frequencies
renewal_kde   log-normal mixture of the gap × kernel density × marks by the mark before (first-order Markov)
history_kde   the same gaps and marks × kernel density of the window's own past events, which fade
hawkes        multivariate Hawkes process in time and marks × kernel density

What has to be chosen (memories, widths) is chosen by the likelihood of the validation windows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from . import gaps, windows
from .clock import MinuteHazard
from .etas_fit import recency
from .events import Catalogue, Targets
from .hawkes import Hawkes
from .kde import Background
from .scores import Exact, Samples
from .ties import Ties

FLOOR_SHARE = 0.01  # of the broad floor in a kernel density
NORMALS = 3  # components of the log-normal mixture
MEMORIES = (None, 0.25, 0.1, 0.05, 0.03)


def best(options: Iterable[Any], value: Callable[[Any], float]) -> tuple[Any, float]:
    """The option of highest value, and the value."""
    found = [(value(option), place, option) for place, option in enumerate(options)]
    top = max(found, key=lambda one: (one[0], -one[1]))
    return top[2], top[0]


@dataclass
class Baselines:
    """All of them on one catalogue; laws that several share are fitted once.

    Parameters
    ----------
    features: [events of the catalogue, C, K] of the background.
    max_lag: past events of the window that a place's law may remember.
    """

    cat: Catalogue
    background: Background
    features: np.ndarray
    max_lag: int = 400
    chosen: dict[str, Any] = field(default_factory=dict)

    def exact(self, name: str, split: str, rng: np.random.Generator, samples: int, quantiles: int | None) -> Exact:
        """Forecasts of every target of a split by one baseline; quantiles of None leave out quantiles and draws."""
        targets = self.cat.targets(split)
        if name == "hawkes":
            law, marks = self.hawkes.predict(self.cat, targets, quantiles)
        else:
            laws = {"poisson_kde": self._poisson, "clock_kde": self._clock}
            law = laws.get(name, self._renewal)(targets, quantiles)
            marks = self._frequencies(len(targets.row)) if name in laws else self._markov(targets)
        if name not in ("poisson_kde", "clock_kde", "hawkes"):
            marks = self.ties.given_tie(self.cat, targets, marks)
        out = Exact(**law, mark_given_t=marks, mark_given_tx=marks)
        if not self.cat.meta.get("places", True):
            return out
        history = name == "history_kde"
        out.log_location = self._near(targets, *self.history) if history else self._kde(targets, self.width)
        if history:
            out.log_location = self.ties.places(self.cat, targets, out.log_location)
        if quantiles:
            drawn = self._draw(targets, samples, history, rng)
            dt = rng.permuted(out.quantiles_time, axis=1)[:, :samples]
            # but for ties the place doesn't depend on the gap (history_kde: hardly): draws of each are draws of both
            both = drawn[:, rng.permutation(samples)][:, : dt.shape[1]]
            if history:
                both = self.ties.stay(self.cat, targets, both, dt == 0, rng)
                drawn = self.ties.stay(self.cat, targets, drawn, self.ties.tied(self.cat, targets), rng)
            out.samples_location, out.joint = drawn, Samples(dt, both)
        return out

    @cached_property
    def ties(self) -> Ties:
        return Ties.fit(self.cat)

    # the gap

    @cached_property
    def rate(self) -> float:
        """Events per unit of time, recent windows weighing more as validation has it."""
        sequences = self.cat.sequences("train", phase=0)

        def of(memory: float | None) -> float:
            weight = recency(self.cat, sequences, memory)
            first = self.cat.t[self.cat.offsets[sequences]]
            exposure = (weight * (self.cat.window[sequences] - first)).sum()
            return float((weight * (self.cat.lengths[sequences] - 1)).sum() / exposure)

        val = self.cat.sequences("val")
        count = (self.cat.lengths[val] - 1).sum()
        exposure = (self.cat.window[val] - self.cat.t[self.cat.offsets[val]]).sum()
        memory, _ = best(MEMORIES, lambda m: count * math.log(of(m)) - of(m) * exposure)
        self.chosen["rate_memory"] = memory
        return of(memory)

    @cached_property
    def clock(self) -> MinuteHazard | None:
        """The weekly profile by minutes, where times lie on such a lattice."""
        if not (self.cat.meta["lattice"]["time"] and self.cat.meta["period_of_clock"]):
            return None
        val = self.cat.targets("val")

        def value(memory: float | None) -> float:
            law = MinuteHazard.fit(self.cat, memory=memory).predict(self.cat, val, quantiles=1)
            return float(law["log_time"].sum() + law["log_survival"].sum())

        memory, _ = best((None, 0.25), value)
        self.chosen["clock_memory"] = memory
        return MinuteHazard.fit(self.cat, memory=memory)

    def _clock(self, targets: Targets, quantiles: int | None) -> dict[str, Any]:
        found = self.clock.predict(self.cat, targets, quantiles or 1)
        return found if quantiles else found | {"quantiles_time": None}

    def _poisson(self, targets: Targets, quantiles: int | None) -> dict[str, Any]:
        left, rate = self._left(targets), self.rate
        log = np.full(len(targets.row), math.log(rate))
        return gaps.law(self.cat, targets, log, lambda gap: rate * gap, rate * left, 12 / rate, quantiles)

    def _left(self, targets: Targets) -> np.ndarray:
        """[W] time from the last event to the window's end."""
        last = self.cat.offsets[targets.windows + 1] - 1
        return np.maximum(self.cat.window[targets.windows] - self.cat.t[last], 0)

    @cached_property
    def normals(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights, means and standard deviations [3] of the log gap (EM; zero gaps are left to the tie probability)."""
        gap = self.cat.dt[self.cat.targets("train", phase=0).row]
        step = self.cat.meta["lattice"]["time"]
        if step:
            gap = gap + 0.5 * step  # the middle of the cell
        y = np.log(gap[gap > 0])
        mean = np.quantile(y, (np.arange(NORMALS) + 0.5) / NORMALS)
        sd, weight = np.full(NORMALS, y.std()), np.full(NORMALS, 1 / NORMALS)
        for _ in range(200):
            log = np.log(weight) - np.log(sd) - 0.5 * ((y[:, None] - mean) / sd) ** 2
            share = np.exp(log - log.max(axis=1, keepdims=True))
            share /= share.sum(axis=1, keepdims=True)
            total = share.sum(axis=0)
            weight, mean = total / total.sum(), (share * y[:, None]).sum(axis=0) / total
            sd = np.maximum(np.sqrt((share * (y[:, None] - mean) ** 2).sum(axis=0) / total), 0.05)
        return weight, mean, sd

    def _renewal(self, targets: Targets, quantiles: int | None) -> dict[str, Any]:
        from scipy.special import log_ndtr

        weight, mean, sd = self.normals

        def integral(gap: np.ndarray) -> np.ndarray:
            with np.errstate(divide="ignore"):
                z = (np.log(gap)[..., None] - mean) / sd
            survival = log_ndtr(-z) + np.log(weight)  # log P(gap longer), by component
            return -np.logaddexp.reduce(survival, axis=-1)

        gap = np.maximum(self.cat.dt[targets.row], 1e-12)
        z = (np.log(gap)[:, None] - mean) / sd
        density = np.log(weight) - np.log(sd) - 0.5 * np.log(2 * np.pi) - 0.5 * z**2
        log_rate = np.logaddexp.reduce(density, axis=1) - np.log(gap) + integral(gap)
        tail = integral(np.maximum(self._left(targets), 1e-12))
        longest = math.exp(float((mean + 3.2 * sd).max()))
        return gaps.law(self.cat, targets, log_rate, integral, tail, longest, quantiles)

    @cached_property
    def hawkes(self) -> Hawkes:
        """The Hawkes process whose memory does best on validation."""
        sequences, val = self.cat.sequences("train", phase=0), self.cat.targets("val")
        mark = self.cat.labels[val.row]

        def fitted(memory: float | None) -> tuple[Hawkes, float]:
            model = Hawkes.fit(self.cat, recency(self.cat, sequences, memory))
            law, marks = model.predict(self.cat, val, None)
            value = law["log_time"].sum() + law["log_survival"].sum()
            return model, float(value + np.log(np.maximum(marks[np.arange(len(mark)), mark], 1e-12)).sum())

        memory, (model, _) = max(((m, fitted(m)) for m in (None, 0.1)), key=lambda one: one[1][1])
        self.chosen["hawkes_memory"] = memory
        return model

    # the place

    def _floored(self, log: np.ndarray, floor: np.ndarray) -> np.ndarray:
        return np.logaddexp(math.log(1 - FLOOR_SHARE) + log, math.log(FLOOR_SHARE) + floor)

    def _kde(self, targets: Targets, width: int) -> np.ndarray:
        """log density [n] of all training events at one width, with the broad floor."""
        first = len(self.background.widths) * len(self.background.recencies)
        found = self.features[targets.row].astype(float)
        return self._floored(found[:, first + width, 0], found[:, -1, 0])

    @cached_property
    def width(self) -> int:
        """Which of the background's widths does best on validation."""
        val = self.cat.targets("val")
        place, _ = best(range(len(self.background.widths)), lambda w: float(self._kde(val, w).mean()))
        self.chosen["width"] = float(self.background.widths[place])
        return place

    def _pairs(self, targets: Targets) -> tuple[windows.Pairs, np.ndarray, np.ndarray]:
        pairs = windows.of(self.cat, targets.windows, self.max_lag)
        t, u = self.cat.t[pairs.row], self.cat.xy[pairs.row] * self.background.scale
        r2 = ((u[pairs.target] - u[pairs.parent]) ** 2).sum(axis=1)
        return pairs, t[pairs.target] - t[pairs.parent], r2

    def _kernel(self, r2: np.ndarray, width: float) -> np.ndarray:
        """Density of a past event's kernel, in catalogue units (on a lattice: mass of the cell over its area)."""
        step = self.cat.meta["lattice"]["place"]
        if step:
            line = np.exp(-0.5 * (np.arange(-200, 201) * step / width) ** 2).sum() * step
            return np.exp(-0.5 * r2 / width**2) / line**2
        return np.exp(-0.5 * r2 / width**2) / (2 * np.pi * width**2) * np.prod(self.background.scale)

    def _near(self, targets: Targets, share: float, width: float, memory: float) -> np.ndarray:
        """log density [n]: the window's past events, fading with their age, and the kernel density of training."""
        pairs, lag, r2 = self._pairs(targets)
        n = len(pairs.row)
        fade = np.exp(-lag / memory)
        total = np.bincount(pairs.target, fade, n)
        dense = np.bincount(pairs.target, fade * self._kernel(r2, width), n)
        scored = np.isin(pairs.row, targets.row)
        near = np.log(np.maximum(dense, 1e-300) / np.maximum(total, 1e-300))[scored]
        return np.logaddexp(math.log(share) + near, math.log1p(-share) + self._kde(targets, self.width))

    @cached_property
    def history(self) -> tuple[float, float, float]:
        """Share, width and memory of the past events' kernels, one after the other by validation, twice round."""
        val = self.cat.targets("val")
        span = float(np.median(self.cat.window))
        grid = {
            "width": [float(width) for width in self.background.widths[:4]],
            "memory": [share * span for share in (0.003, 0.01, 0.03, 0.1, 0.3, 10)],
            "share": [0.1, 0.2, 0.3, 0.5, 0.7],
        }
        found = {"share": 0.3, "width": grid["width"][1], "memory": 0.1 * span}

        def value(trial: dict[str, float]) -> float:
            return float(self._near(val, **trial).mean())

        for _ in range(2):
            for name, options in grid.items():
                found, reached = best([{**found, name: option} for option in options], value)
        self.chosen["history"] = {**found, "validation": reached}
        return found["share"], found["width"], found["memory"]

    def _draw(self, targets: Targets, samples: int, history: bool, rng: np.random.Generator) -> np.ndarray:
        """Places [n, M, 2]."""
        n, count = len(targets.row), len(self.background.widths) * len(self.background.recencies)
        flat = n * samples
        component = np.where(rng.random(flat) < FLOOR_SHARE, self.background.components - 1, count + self.width)
        out = self.background.sample(component, np.zeros(flat, int), rng).reshape(n, samples, 2)
        if not history:
            return out
        share, width, memory = self.history
        pairs, lag, _ = self._pairs(targets)
        ends = np.searchsorted(pairs.target, np.arange(len(pairs.row) + 1))
        steps = np.concatenate([[0.0], np.cumsum(np.maximum(np.exp(-lag / memory), 1e-12))])
        rows = np.flatnonzero(np.isin(pairs.row, targets.row))
        near = rng.random((n, samples)) < share
        i, _ = np.nonzero(near)
        low, high = steps[ends[rows]][i], steps[ends[rows + 1]][i]
        pair = np.searchsorted(steps, low + rng.random(len(i)) * (high - low), side="right") - 1
        pair = np.clip(pair, ends[rows][i], ends[rows + 1][i] - 1)
        source = self.cat.xy[pairs.row[pairs.parent[pair]]]
        out[near] = source + rng.normal(size=(len(i), 2)) * width / self.background.scale
        if self.background.lattice is not None:
            a, b = self.background.cells(out.reshape(-1, 2))
            out = np.column_stack([self.background.lattice[0][a], self.background.lattice[1][b]]).reshape(out.shape)
        return out

    # the mark

    def _weights(self, memory: float | None) -> tuple[np.ndarray, np.ndarray]:
        """Training targets (rows) and their weights."""
        sequences = self.cat.sequences("train", phase=0)
        targets = self.cat.targets("train", phase=0)
        weight = np.zeros(len(self.cat.split))
        weight[sequences] = recency(self.cat, sequences, memory)
        return targets.row, weight[targets.sequence]

    def _table(self, memory: float | None, markov: bool) -> np.ndarray:
        """p(k | mark before) [K, K], rows alike without ``markov``; shrunk to the frequencies by 20 events."""
        row, weight = self._weights(memory)
        marks, mark = self.cat.marks, self.cat.labels
        frequency = np.bincount(mark[row], weight, marks) + 0.5 * weight.sum() / len(weight)
        frequency /= frequency.sum()
        if not markov:
            return np.tile(frequency, (marks, 1))
        count = np.zeros((marks, marks))
        np.add.at(count, (mark[row - 1], mark[row]), weight)
        return (count + 20 * frequency) / (count.sum(axis=1, keepdims=True) + 20)

    def _by_mark(self, markov: bool) -> np.ndarray:
        val, mark = self.cat.targets("val"), self.cat.labels
        memory, _ = best(
            MEMORIES, lambda m: float(np.log(self._table(m, markov)[mark[val.row - 1], mark[val.row]]).mean())
        )
        self.chosen["markov_memory" if markov else "frequency_memory"] = memory
        return self._table(memory, markov)

    @cached_property
    def frequencies(self) -> np.ndarray:
        return self._by_mark(markov=False)[0]

    @cached_property
    def transitions(self) -> np.ndarray:
        return self._by_mark(markov=True)

    def _frequencies(self, n: int) -> np.ndarray:
        return np.tile(self.frequencies, (n, 1))

    def _markov(self, targets: Targets) -> np.ndarray:
        return self.transitions[self.cat.labels[targets.row - 1]]
