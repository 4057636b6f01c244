"""Edges between nodes: from a matrix of weights, from coordinates, from a list of edges or from lanes along a road."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.errors import DataError
from .columns import numbers

EARTH_KM = 6371.0088


@dataclass(frozen=True)
class Edges:
    """Directed, weighted, typed edges; at most one of a type between two nodes, none from a node to itself.

    Attributes
    ----------
    index: [2, E] int64, source and target.
    weight: [E] float32 in (0, 1].
    type: [E] int8, index into ``types``.
    types: names.
    """

    index: np.ndarray
    weight: np.ndarray
    type: np.ndarray
    types: tuple[str, ...]

    @classmethod
    def of(cls, rows: Iterable[tuple[int, int, float, str]]) -> Edges:
        """Edges from (source, target, weight, type), sorted by target, source and type; the last of doubles counts."""
        found = {(t, s, kind): w for s, t, w, kind in rows if s != t and w > 0}
        order = sorted(found)
        types = tuple(dict.fromkeys(kind for *_, kind in order)) or ("edge",)
        return cls(
            np.array([[s for _, s, _ in order], [t for t, _, _ in order]], np.int64).reshape(2, -1),
            np.array([found[key] for key in order], np.float32),
            np.array([types.index(kind) for *_, kind in order], np.int8),
            types,
        )


def from_matrix(weight: np.ndarray, threshold: float, symmetric: bool, kinds: tuple[str, str]) -> Edges:
    """Edges of a weight matrix ``weight[source, target]``; no loops.

    Parameters
    ----------
    weight: [N, N].
    threshold: edges of at most this weight are dropped (published: 0.1).
    symmetric: add the reverse of each edge where there is none, with the same weight.
    kinds: name of an edge of the matrix, and of an added reverse.
    """
    weight = np.where(np.eye(len(weight), dtype=bool), 0, weight)
    kept = weight > threshold
    rows = [(s, t, weight[s, t], kinds[0]) for s, t in zip(*np.nonzero(kept), strict=True)]
    if symmetric:
        # the published graph is max(A, A^T): a stronger weight of the other direction is taken over
        both = np.maximum(weight, weight.T)
        rows = [(s, t, both[s, t], kind) for s, t, _, kind in rows]
        rows += [(t, s, both[s, t], kinds[1]) for s, t, _, _ in rows if not kept[t, s]]
    return Edges.of(rows)


def distances(place: np.ndarray, kind: str) -> np.ndarray:
    """[N, N] great-circle distances in km for ``latlon``, Euclidean ones for ``xy``."""
    if kind == "xy":
        return np.sqrt(((place[:, None] - place[None]) ** 2).sum(axis=-1))
    lat, lon = np.radians(place[:, 0]), np.radians(place[:, 1])
    half = (
        np.sin((lat[:, None] - lat) / 2) ** 2
        + np.cos(lat[:, None]) * np.cos(lat) * np.sin((lon[:, None] - lon) / 2) ** 2
    )
    return EARTH_KM * 2 * np.arcsin(np.sqrt(np.clip(half, 0, 1)))


def from_places(place: np.ndarray, kind: str, where: str, threshold: float, neighbours: int | None = None) -> Edges:
    """Gaussian kernel of distances: weight exp(-(d/s)^2) with s the standard deviation of all distances.

    Parameters
    ----------
    place: [N, 2] (lat, lon) or (x, y).
    kind: ``latlon`` or ``xy``.
    where: name of the file that the places come from, for messages.
    threshold: least weight (published: 0.1).
    neighbours: at most so many incoming edges a node, the heaviest; None: all.

    Raises
    ------
    DataError
        Two nodes or fewer with different places: no scale.
    """
    away = distances(place, kind)
    scale = away.std()
    if not scale > 0:
        raise DataError(
            f"{where}: coordinates: all nodes have the same place, so that no distance tells neighbours from others"
        )
    weight = np.exp(-((away / scale) ** 2))
    np.fill_diagonal(weight, 0)
    if neighbours is not None and neighbours < len(weight) - 1:
        bar = -np.partition(-weight, neighbours - 1, axis=0)[neighbours - 1]  # [N] by target
        weight = np.where(weight >= bar, weight, 0)
    return from_matrix(weight, threshold, False, ("distance", "distance"))


def from_list(frame: Any, nodes: Sequence[str], where: str, columns: tuple[str, str] = ("source", "target")) -> Edges:
    """Edges of a table with the columns source, target and, if there are, weight and type.

    Parameters
    ----------
    frame: pandas DataFrame.
    nodes: names in the data, as strings.
    where: file name for messages.

    Raises
    ------
    DataError
        A node that the data don't have; a weight that is not in (0, 1]; an edge given twice.
    """
    index = {name: i for i, name in enumerate(nodes)}
    ends = [frame[name].astype(str) for name in columns]
    refuse_unknown([*ends[0], *ends[1]], nodes, where)
    weight = numbers(frame[["weight"]], where)[:, 0] if "weight" in frame else np.ones(len(frame))
    for row, one in enumerate(weight):
        refuse_weight(one, f"{where}: row {row + 1}")
    kind = frame["type"].astype(str) if "type" in frame else ["edge"] * len(frame)
    triples = list(zip(*ends, kind, strict=True))
    if len(set(triples)) < len(triples):
        double = next(t for t in triples if triples.count(t) > 1)
        raise DataError(f"{where}: the edge {double[0]} -> {double[1]} of type {double[2]} is given twice; keep one")
    return Edges.of((index[s], index[t], w, k) for s, t, w, k in zip(*ends, weight, kind, strict=True))


def refuse_weight(weight: float, of: str) -> None:
    """One error for a weight that is not in (0, 1]."""
    if not 0 < weight <= 1:
        raise DataError(
            f"{of} has the weight {weight:g}; weights must lie in (0, 1], where 1 is the closest link (turn a distance "
            "d into exp(-(d/s)^2))"
        )


def refuse_unknown(named: Iterable[str], nodes: Sequence[str], where: str) -> None:
    """One error for all node names that the data don't have."""
    there = set(nodes)
    unknown = [name for name in dict.fromkeys(named) if name not in there]
    if unknown:
        shown = ", ".join(str(name)[:50] for name in unknown[:5]) + (
            f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        )
        raise DataError(
            f"{where} names {len(unknown)} node{'s' if len(unknown) > 1 else ''} that the data don't have: {shown}. "
            f"The data have {len(nodes)} nodes: {', '.join(list(nodes)[:5])}{', …' if len(nodes) > 5 else ''}. Remove "
            "those rows, or give the data of these nodes"
        )


def from_lanes(content: Any, nodes: Sequence[str], where: str) -> Edges:
    """Edges of the lane layout ``{"nodes": [{"lane_id": 0, "node_connections": {"direct": [1], "near": [3], …}}]}``.

    Types are ``direct`` (same lane, weight 1), ``near`` (neighbouring lane) and ``crossing`` (across a signal). A
    connection may be a lane or a pair of lane and weight; ``crossing`` and ``near`` without one weigh 0.5, half of the
    time the signal is red.

    Raises
    ------
    DataError
        Another form, an unknown type, a weight that is not in (0, 1] or a lane that the data don't have.
    """
    plain = {"direct": 1.0, "near": 0.5, "crossing": 0.5}
    index = {name: i for i, name in enumerate(nodes)}
    rows = []
    try:
        for node in content["nodes"]:
            lane = str(node["lane_id"])
            for kind, ends in (node.get("node_connections") or {}).items():
                if kind not in plain:
                    raise DataError(f"{where}: lane {lane} has connections of type {kind!r}; "
                                    f"known are {', '.join(plain)}")  # fmt: skip
                for end in ends:
                    target, weight = end if isinstance(end, list | tuple) else (end, plain[kind])
                    refuse_weight(float(weight), f"{where}: the connection {lane} -> {target} ({kind})")
                    rows.append((lane, str(target), float(weight), kind))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f'{where} must be {{"nodes": [{{"lane_id": …, "node_connections": {{"direct": [...], "near": [...], '
            f'"crossing": [...]}}}}]}} ({type(error).__name__}: {error})'
        ) from None
    refuse_unknown([name for s, t, *_ in rows for name in (s, t)], nodes, where)
    return Edges.of((index[s], index[t], w, kind) for s, t, w, kind in rows)


def along_road(lanes: Sequence[tuple[str, int]], order: Sequence[str], miles: Sequence[float]) -> Edges:
    """Lanes of detector stations along one road: the same lane downstream and upstream, and the lane beside.

    Parameters
    ----------
    lanes: [N] (station, lane number).
    order: stations in the direction of travel.
    miles: [N] place of each lane's station along the road; a link of d miles weighs exp(-d).
    """
    position = {station: i for i, station in enumerate(order)}
    rows = []
    for i, (station, lane) in enumerate(lanes):
        for j, (other, beside) in enumerate(lanes):
            step = position[other] - position[station]
            weight = float(np.exp(-abs(miles[j] - miles[i])))
            if step == 0 and abs(beside - lane) == 1:
                rows.append((i, j, 1.0, "beside"))
            elif step == 1 and abs(beside - lane) <= 1:
                rows.append((i, j, weight if beside == lane else weight / 2, "downstream"))
                rows.append((j, i, weight if beside == lane else weight / 2, "upstream"))
    return Edges.of(rows)
