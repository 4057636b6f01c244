"""Sensors of a user's data by their coordinates: those with values, and those without (virtual ones).

A virtual sensor is a place without a column. A cube with both is read here (the virtual ones hold no value), and cut
down to those with values or widened to all of another cube. Edges that are made from coordinates lead from sensors with
values only, so that what a virtual sensor is told does not depend on which others are asked for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import DataError
from . import readers_own
from .cube import Cube
from .graph import Edges, distances, from_places
from .raw import Raw

if TYPE_CHECKING:
    from .own import Request

THRESHOLD = 0.1  # least weight of an edge that is made from coordinates
LEAST = 5  # sensors with values
ALL = "all"  # as the only name: every place without values
PER_NODE = {"value": 1, "hidden": 2, "on_line": 1, "place": 0}  # arrays of a cube and their axis of nodes


def placed(known: Cube, request: Request) -> Cube:
    """The sensors of a file and the virtual ones after them (without values), with coordinates and graph.

    Parameters
    ----------
    known: sensors with values. request: ``places``, ``graph`` (None: edges from the coordinates) and ``virtual``.

    Raises
    ------
    DataError
        A virtual sensor that has values, no place or no neighbour with values; a place or an edge of a sensor that is
        neither in the data nor virtual.
    """
    where = request.places.name
    frame = readers_own.table(request.places).rename(columns=lambda name: str(name).lower())
    key = next((name for name in frame if name in readers_own.NODES), None)
    if key is None:
        raise DataError(f"{where} has no column of sensors; it must have node with lat and lon, or with x and y")
    further = [name for name in dict.fromkeys(frame[key].astype(str)) if name not in known.nodes]
    virtual = further if request.virtual == (ALL,) else list(dict.fromkeys(request.virtual))
    _refuse(virtual, further, known, request)
    nodes = (*known.nodes, *virtual)
    bare = Raw(
        np.empty((0, len(nodes), 0)), known.time, known.segment, nodes, known.channels, known.units, Edges.of([]),
        *readers_own.nowhere(len(nodes)).values(), known.step_seconds,
    )  # fmt: skip
    readers_own.join(bare, request.places, THRESHOLD, readers_own.LINKED)
    place, kind = bare.place, bare.place_kind
    if kind == "none":
        raise DataError(f"{where} has no coordinates; it must have node with lat and lon, or with x and y")
    bare.place_kind = "none"
    if request.graph is not None:
        readers_own.join(bare, request.graph, THRESHOLD, readers_own.LINKED)
    if request.graph is None or bare.place_kind != "none":
        bare.edges = _near(place, kind, len(known.nodes), where)
    cube = replace(
        widen(known, nodes),
        edge_index=bare.edges.index,
        edge_weight=bare.edges.weight,
        edge_type=bare.edges.type,
        edge_types=bare.edges.types,
        place=place,
        attrs=known.attrs | {"place": kind},
    )
    refuse_alone(cube, request.graph.name if request.graph else where)
    return cube


def _refuse(virtual: list[str], further: list[str], known: Cube, request: Request) -> None:
    """Names that can't be virtual, and places that belong to nobody."""
    where, data = request.places.name, known.info["name"]
    for what, names, hint in (
        (f"--virtual names {{}} with values in {data}", [n for n in virtual if n in known.nodes],
         "virtual are sensors without a column; leave them out of --virtual, or take their column out"),
        (f"--virtual names {{}} without a place in {where}", [n for n in virtual if n not in [*further, *known.nodes]],
         "give their coordinates there"),
        (f"{where} names {{}} without values in {data}", [n for n in further if n not in virtual],
         "name them with --virtual to have them imputed (--virtual all: every one), or remove those rows"),
    ):  # fmt: skip
        if names:
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            count = f"{len(names)} sensor{'s' if len(names) > 1 else ''}"
            raise DataError(f"{what.format(count)}: {shown}; {hint}")


def seen(cube: Cube) -> Cube:
    """The sensors with values alone.

    Raises
    ------
    DataError
        Too few to hold some out.
    """
    found = np.flatnonzero(cube.observed.any(axis=(0, 2)))
    if len(found) < LEAST:
        raise DataError(
            f"{cube.info['name']} has {len(found)} sensors with values; --places needs at least {LEAST}, since "
            "some are held out to tell the error at places without a sensor. Leave out --places and --virtual"
        )
    return take(cube, found)


def refuse_alone(cube: Cube, where: str) -> None:
    """An error for sensors without values to which no edge leads from a sensor with values.

    Raises
    ------
    DataError
    """
    silent = ~cube.observed.any(axis=(0, 2))  # [N]
    source, target = cube.edge_index
    told = np.isin(np.arange(len(cube.nodes)), target[~silent[source]])
    alone = [cube.nodes[i] for i in np.flatnonzero(silent & ~told)]
    if alone:
        raise DataError(
            f"{where}: no edge leads from a sensor with values to {len(alone)} virtual sensor"
            f"{'s' if len(alone) > 1 else ''}: {', '.join(alone[:5])}{', …' if len(alone) > 5 else ''}. A sensor "
            "without a neighbour can't be imputed; add an edge (source: the sensor with values) or, without --graph, "
            "a sensor with values that is nearer, or leave them out of --virtual"
        )


def _near(place: np.ndarray, kind: str, known: int, where: str) -> Edges:
    """Edges among the first ``known`` places, and from them to the others: exp(-(d/s)^2), s as among the known."""
    among = from_places(place[:known], kind, where, THRESHOLD, readers_own.LINKED)
    away = distances(place, kind)[:known]  # [known, N]
    weight = np.exp(-((away / away[:, :known].std()) ** 2))
    rows = [(int(s), int(t), float(w), "distance") for (s, t), w in zip(among.index.T, among.weight, strict=True)]
    for target in range(known, len(place)):
        nearest = np.argsort(-weight[:, target], kind="stable")[: readers_own.LINKED]
        rows += [(int(s), target, weight[s, target], "distance") for s in nearest if weight[s, target] > THRESHOLD]
    return Edges.of(rows)


def take(cube: Cube, order: np.ndarray) -> Cube:
    """The nodes of a list of indices alone, in that order, with the edges between them."""
    new = np.full(len(cube.nodes), -1)
    new[order] = np.arange(len(order))
    inside = (new[cube.edge_index] >= 0).all(axis=0)
    return replace(
        cube,
        **{name: np.take(getattr(cube, name), order, axis=axis) for name, axis in PER_NODE.items()},
        nodes=tuple(cube.nodes[i] for i in order),
        edge_index=new[cube.edge_index[:, inside]],
        edge_weight=cube.edge_weight[inside],
        edge_type=cube.edge_type[inside],
    )


def widen(cube: Cube, nodes: tuple[str, ...]) -> Cube:
    """The cube over ``nodes``, which hold all of its own; new ones have no values, no place and no edges."""
    at = np.array([nodes.index(name) for name in cube.nodes])
    arrays = {}
    for name, axis in PER_NODE.items():
        old = getattr(cube, name)
        shape = (*old.shape[:axis], len(nodes), *old.shape[axis + 1 :])
        arrays[name] = np.full(shape, False if old.dtype == bool else np.nan, old.dtype)
        arrays[name][(slice(None),) * axis + (at,)] = old
    return replace(cube, **arrays, nodes=nodes, edge_index=at[cube.edge_index])


def over(cube: Cube, whole: Cube) -> tuple[Cube, Cube]:
    """The rows of the training over all sensors of a file, and the file with the training's sensors first.

    Parameters
    ----------
    cube: of the training. whole: the file, with the places and the graph of all sensors.

    Raises
    ------
    DataError
        A sensor of the training that the file lacks, or that stands elsewhere there.
    """
    lacking = [name for name in cube.nodes if name not in whole.nodes]
    if lacking:
        raise DataError(
            f"the model was trained on sensors that {whole.info['name']} lacks: {', '.join(lacking[:5])}. Give their "
            "columns, or name them with --virtual where they have no values, or train another one (another --model)"
        )
    first = [whole.nodes.index(name) for name in cube.nodes]
    whole = take(whole, np.array([*first, *np.setdiff1d(np.arange(len(whole.nodes)), first)]))
    there = whole.place[: len(cube.nodes)]
    moved = ~np.isclose(there, cube.place, rtol=0, atol=1e-6).all(axis=1)
    if whole.attrs["place"] != cube.attrs["place"] or moved.any():
        raise DataError(
            f"the model knows other places ({cube.attrs['place']}) of the sensors "
            f"{', '.join(np.array(cube.nodes)[moved][:5])}. Give the coordinates that it was trained with, or train "
            "another one (another --model)"
        )
    graph = ("edge_index", "edge_weight", "edge_type", "edge_types", "place")
    return replace(widen(cube, whole.nodes), **{name: getattr(whole, name) for name in graph}), whole
