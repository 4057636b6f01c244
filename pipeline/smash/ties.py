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
    """Probability [K] that the next gap is zero, by the mark of the event before it; None where ties are no atom."""

    probability: np.ndarray | None

    @classmethod
    def fit(cls, cat: Catalogue) -> Ties:
        """Shares in the training windows, by the mark before, shrunk to the common share by 20 events."""
        if cat.meta["lattice"]["time"]:
            return cls(None)  # a lattice's cell of gap zero is a cell like any other
        targets = cat.targets("train", phase=0)
        tied = cat.dt[targets.row] == 0
        if tied.mean() < RARE:
            return cls(None)
        before = cat.labels[targets.row - 1]
        count = np.bincount(before, minlength=cat.marks)
        return cls((np.bincount(before, tied, cat.marks) + 20 * tied.mean()) / (count + 20))

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
