"""What every reader returns: values on a regular grid of time, nodes and channels, and their graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.errors import DataError
from .graph import Edges

LINE = 1e-6  # a cell this near to the line between its neighbours was put there


@dataclass
class Raw:
    """A data set as read; T rows, N nodes, C channels.

    Attributes
    ----------
    value: [T, N, C] float64, NaN where missing.
    time: [T] datetime64[ns], ascending, one step apart within a segment.
    segment: [T] int.
    nodes, channels, units: names.
    edges: graph.
    place: [N, 2]; ``place_kind``: latlon, xy or none.
    official: [T, N, C] bool, the data set's own hidden cells; None: it has none.
    filled: True where the publisher may have filled gaps by straight lines, so that such cells are looked for.
    step_seconds: between rows.
    report: what was dropped or inserted, one sentence each.
    """

    value: np.ndarray
    time: np.ndarray
    segment: np.ndarray
    nodes: tuple[str, ...]
    channels: tuple[str, ...]
    units: tuple[str, ...]
    edges: Edges
    place: np.ndarray
    place_kind: str
    step_seconds: float
    official: np.ndarray | None = None
    filled: bool = False
    report: list[str] = field(default_factory=list)

    def take(self, rows: int | None) -> Raw:
        """The first rows alone (None: all)."""
        if rows is None or rows >= len(self.time):
            return self
        for name in ("value", "time", "segment", "official"):
            if getattr(self, name) is not None:
                setattr(self, name, getattr(self, name)[:rows])
        return self


def zeros_to_missing(value: np.ndarray) -> tuple[np.ndarray, int]:
    """Zeros made NaN, and how many there were (loop detectors write 0 where they had nothing to say)."""
    zero = value == 0
    return np.where(zero, np.nan, value), int(zero.sum())


def on_line(value: np.ndarray, segment: np.ndarray) -> np.ndarray:
    """[T, N, C] cells on a sloped line between their two neighbours in time, to 1e-6: filled by interpolation.

    Level stretches are left out: a detector may well read the same value three times.
    """
    found = np.zeros(value.shape, bool)
    middle = value[1:-1]
    with np.errstate(invalid="ignore"):
        straight = np.abs(middle - (value[:-2] + value[2:]) / 2) < LINE
        sloped = np.abs(value[2:] - value[:-2]) > LINE
    inside = (segment[1:-1] == segment[:-2]) & (segment[1:-1] == segment[2:])
    found[1:-1] = straight & sloped & inside[:, None, None]
    return found


def refuse_empty(raw: Raw, name: str) -> None:
    """An error for nodes that have no value at all in some channel.

    Raises
    ------
    DataError
    """
    empty = np.isnan(raw.value).all(axis=0)  # [N, C]
    if empty.any():
        pairs = [f"{raw.nodes[n]} ({raw.channels[c]})" for n, c in zip(*np.nonzero(empty), strict=True)]
        shown = ", ".join(pairs[:5]) + (f" and {len(pairs) - 5} more" if len(pairs) > 5 else "")
        raise DataError(
            f"{name}: {len(pairs)} sensor{'s have' if len(pairs) > 1 else ' has'} no value at all: {shown}. There is "
            "nothing to learn them from; remove their columns"
        )


def select(raw: Raw, keep: np.ndarray) -> Raw:
    """The nodes of a bool mask [N] alone, with the edges between them."""
    new = np.cumsum(keep) - 1
    edges = raw.edges
    inside = keep[edges.index].all(axis=0)
    return Raw(
        **{
            **raw.__dict__,
            "value": raw.value[:, keep],
            "official": None if raw.official is None else raw.official[:, keep],
            "nodes": tuple(n for n, k in zip(raw.nodes, keep, strict=True) if k),
            "place": raw.place[keep],
            "edges": Edges(new[edges.index[:, inside]], edges.weight[inside], edges.type[inside], edges.types),
        }
    )


def nowhere(nodes: int) -> dict[str, Any]:
    """Fields of a data set without coordinates."""
    return {"place": np.full((nodes, 2), np.nan), "place_kind": "none"}
