"""The readable form of one scenario's block of the schema ``ablation/1``: methods, their values and their ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .figures import Words, canvas
from .statistics import summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Method:
    """An arm or a baseline: its name, its kind (which gives the colour) and its entry in the table."""

    name: str
    kind: str
    entry: Mapping[str, Any]

    def mean(self, metric: str) -> float | None:
        """Mean over seeds; None where the method failed or has no such metric."""
        found = (self.entry.get("metrics") or {}).get(metric)
        value = None if found is None else found["mean"]
        return value if value is not None and np.isfinite(value) else None

    def values(self, metric: str) -> list[float]:
        """One value a seed."""
        found = (self.entry.get("metrics") or {}).get(metric)
        return [] if found is None else list(found.get("values") or [found["mean"]])

    def interval(self, metric: str) -> tuple[float, float] | None:
        """95 % interval over seeds; None with a single seed."""
        found = ((self.entry.get("metrics") or {}).get(metric) or {}).get("ci95")
        return None if found is None else (found[0], found[1])


@dataclass(frozen=True)
class Board:
    """One scenario, ready to be drawn.

    Attributes
    ----------
    title: scenario and its warning (``leaky``), the second half of each figure's heading.
    subtitle: data set, unit, period, seeds.
    methods: arms in the order of the configuration, then baselines.
    kinds: kind -> colour, in the order of the legend.
    labels: metric -> label with unit.
    higher: metrics of which more is better; unranked: those of which neither more nor less is.
    """

    title: str
    subtitle: str
    methods: Sequence[Method]
    kinds: Mapping[str, str]
    labels: Mapping[str, str]
    words: Words
    seeds: int = 1
    higher: frozenset[str] = field(default_factory=frozenset)
    unranked: frozenset[str] = field(default_factory=frozenset)

    def figure(self, height: float, what: str, *notes: str, methods: Sequence[Method] | None = None) -> Figure:
        """An empty canvas headed with what is shown and the scenario, with a legend of the kinds of ``methods``."""
        note = " ".join(self.words(note) for note in notes if note)
        used = {method.kind for method in (methods or [])}
        colours = {self.words(kind): colour for kind, colour in self.kinds.items() if kind in used}
        return canvas(height, f"{self.words(what)} · {self.title}", self.subtitle, note, colours)

    def ranked(self, metric: str) -> list[Method]:
        """Methods from the best to the worst; those without the metric last."""

        def place(method: Method) -> float:
            value = method.mean(metric)
            if value is None:
                return np.inf
            return -value if metric in self.higher else value

        return sorted(self.methods, key=place)

    def method(self, name: str) -> Method | None:
        return next((method for method in self.methods if method.name == name), None)

    @property
    def whiskers(self) -> str:
        return (
            "Whiskers: 95 % Student interval of the mean of the values."
            if self.seeds > 1
            else "One value: no whiskers."
        )


def gains(method: Method, reference: Method, metric: str, higher: bool = False) -> dict[str, Any] | None:
    """Improvement of a method over a reference in percent of the reference, with its interval over seeds.

    Seeds are paired where both have the same number of them; a reference with one value stands for all seeds.
    """
    values, base = np.array(method.values(metric)), np.array(reference.values(metric))
    if not len(values) or not len(base):
        return None
    if len(base) != len(values):
        base = np.full(len(values), base.mean())
    sign = -1 if higher else 1
    # The mean of the ratios over seeds, so that the interval belongs to the number shown.
    return summary((sign * 100 * (1 - values / base)).tolist())
