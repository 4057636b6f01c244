"""Simultaneous events: where many gaps are exactly zero, a tie has a probability of its own (a hurdle).

The law of the gap is then p_0 at zero and (1 - p_0) times a density beyond it. A tie is scored by the log of its
probability, another gap by its log density: the same for every method, so that differences mean the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .events import Catalogue, Targets

RARE = 0.005  # share of zero gaps below which there is no atom


@dataclass
class Ties:
    """What a tie is like; all None where ties are no atom.

    Attributes
    ----------
    probability: [K] that the next gap is zero, by the mark of the event before it.
    marks: [K, K] p(mark | mark before, tie).
    same: probability that a tied event has the place of the one before it (on a lattice of places, else None).
    """

    probability: np.ndarray | None
    marks: np.ndarray | None = None
    same: float | None = None

    @classmethod
    def fit(cls, cat: Catalogue) -> Ties:
        """Shares in the training windows, by the mark before, shrunk to the common share by 20 events."""
        if cat.meta["lattice"]["time"]:
            return cls(None)  # a lattice's cell of gap zero is a cell like any other
        targets = cat.targets("train", phase=0)
        tied = cat.dt[targets.row] == 0
        if tied.mean() < RARE:
            return cls(None)
        before, mark = cat.labels[targets.row - 1], cat.labels[targets.row]
        count = np.bincount(before, minlength=cat.marks)
        probability = (np.bincount(before, tied, cat.marks) + 20 * tied.mean()) / (count + 20)
        table = np.zeros((cat.marks, cat.marks))
        np.add.at(table, (before[tied], mark[tied]), 1)
        own = (table.sum(axis=0) + 0.5) / (table.sum() + 0.5 * cat.marks)
        table = (table + 20 * own) / (table.sum(axis=1, keepdims=True) + 20)
        row = targets.row[tied]
        there = (cat.xy[row] == cat.xy[row - 1]).all(axis=1)
        same = float((there.sum() + 1) / (len(row) + 2)) if cat.meta["lattice"]["place"] else None
        return cls(probability, table, same)

    def tied(self, cat: Catalogue, targets: Targets) -> np.ndarray:
        """Whether each target [n] is a tie that has a law of its own."""
        if self.probability is None:
            return np.zeros(len(targets.row), bool)
        return cat.dt[targets.row] == 0

    def given_tie(self, cat: Catalogue, targets: Targets, marks: np.ndarray) -> np.ndarray:
        """Probabilities [n, K] of the marks with those of ties put in where the gap is zero."""
        tied = self.tied(cat, targets)
        if not tied.any():
            return marks
        out = marks.copy()
        out[tied] = self.marks[cat.labels[targets.row[tied] - 1]]
        return out

    def places(self, cat: Catalogue, targets: Targets, log_place: np.ndarray) -> np.ndarray:
        """Log masses [n] of places with the atom of a tie: the place of the event before it."""
        tied = self.tied(cat, targets)
        if self.same is None or not tied.any():
            return log_place
        area = cat.meta["lattice"]["place"] ** 2
        there = (cat.xy[targets.row] == cat.xy[targets.row - 1]).all(axis=1)
        atom = np.where(there, np.log(self.same / area), -np.inf)
        return np.where(tied, np.logaddexp(atom, np.log1p(-self.same) + log_place), log_place)

    def stay(
        self, cat: Catalogue, targets: Targets, drawn: np.ndarray, tied: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Draws [n, M, 2] of places, moved to the place of the event before where the gap is a tie ([n] or [n, M])."""
        if self.same is None:
            return drawn
        tied = tied if tied.ndim == 2 else tied[:, None]
        stay = tied & (rng.random(drawn.shape[:2]) < self.same)
        return np.where(stay[..., None], cat.xy[targets.row - 1][:, None], drawn)

    def of(self, cat: Catalogue, row: np.ndarray) -> np.ndarray:
        """p_0 [n] of the gap that ends at each event ``row``."""
        if self.probability is None:
            return np.zeros(len(row))
        return self.probability[cat.labels[row - 1]]

    def mixed(
        self, cat: Catalogue, targets: Targets, log_density: np.ndarray, cdf: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """log density or mass, P(gap <= truth) and P(gap < truth) [n] from those of the part beyond zero."""
        if self.probability is None:
            return log_density, cdf, None
        p, tied = self.of(cat, targets.row), cat.dt[targets.row] == 0
        log = np.where(tied, np.log(p), np.log1p(-p) + log_density)
        upper = np.where(tied, p, p + (1 - p) * cdf)
        return log, upper, np.where(tied, 0.0, upper)

    def survival(self, cat: Catalogue, targets: Targets, log_survival: np.ndarray) -> np.ndarray:
        """log P(no further event) [W]: no tie with the last one either, unless the window ends with its last event."""
        if self.probability is None:
            return log_survival
        last = cat.offsets[targets.windows + 1] - 1
        closed = cat.window[targets.windows] <= cat.t[last]
        return np.where(closed, 0.0, np.log1p(-self.probability[cat.labels[last]]) + log_survival)

    def quantiles(
        self, cat: Catalogue, targets: Targets, level: np.ndarray, inverse: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Gaps [n, Q] at levels [Q]; ``inverse`` takes levels [n, Q] of the part beyond zero to gaps."""
        p = self.of(cat, targets.row)[:, None]
        beyond = np.clip((level[None] - p) / (1 - p), 0, 1 - 1e-12)
        return np.where(level[None] < p, 0.0, inverse(beyond))
