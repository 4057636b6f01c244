"""Which cells are hidden: patterns of missingness, drawn from a seed, the same for every method.

point           each cell on its own (25 % in the published evaluation)
block           sensor faults with a length drawn for each fault, and single cells besides
block_upstream  the same as published code draws it: ONE length for all faults of a sensor, the last rows filled up
outage          a node loses all its channels for a while; lengths drawn for each fault, ending with the segment
spatial         so do the ``reach`` nodes nearest to a faulty one
patrol          a node is seen only while a patrol that walks along the edges is at it
value           not at random: low values are hidden more often, by a logistic function of the node's standard score
replay          the real gaps of the data, moved in time by a random number of rows
official        the data set's own mask (given by its reader)
none            nothing is hidden

Published: Marisca et al. (2022), Learning to Reconstruct Missing Data from Spatiotemporal Graphs with Sparse
Observations, section 5, and the sampling code of its authors' library; patrols: the seed's visibility table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import DataError

if TYPE_CHECKING:
    from .data_settings import Missing

SLOPE = 1.5  # of the logistic function of "value", per standard deviation
AGAIN = {"official": "replay"}  # how a pattern that can't be drawn is imitated for training


def upstream(shape: tuple[int, int], rng: np.random.Generator, missing: Missing, fault: float, noise: float):
    """The published draw over [T, series]: faults first, one length a series with any fault, then single cells.

    The order of the draws is part of the definition: it fixes the published masks to the cell.
    """
    hidden = rng.random(shape) < fault
    for column in np.flatnonzero(hidden.any(axis=0)):
        length = missing.shortest + int(rng.integers(missing.longest - missing.shortest))
        rows = np.flatnonzero(hidden[:, column])[:, None] + np.arange(length)
        hidden[np.minimum(rows, shape[0] - 1), column] = True
    return hidden | (rng.random(shape) < noise)


def runs(starts: np.ndarray, lengths: np.ndarray, segment: np.ndarray) -> np.ndarray:
    """[T, series] True from each start for its length, at most to the end of the start's segment.

    Parameters
    ----------
    starts: [T, series] bool.
    lengths: [number of starts] rows, in the order of ``np.nonzero(starts)``.
    segment: [T].
    """
    rows, columns = np.nonzero(starts)
    last = np.searchsorted(segment, segment, side="right")  # [T] first row after the row's segment
    steps = np.zeros((len(starts) + 1, starts.shape[1]), np.int32)
    np.add.at(steps, (rows, columns), 1)
    np.add.at(steps, (np.minimum(rows + lengths, last[rows]), columns), -1)
    return np.cumsum(steps, axis=0)[:-1] > 0


def faults(shape: tuple[int, int], segment: np.ndarray, rng: np.random.Generator, missing: Missing) -> np.ndarray:
    """[T, series] faults with a length each in [shortest, longest)."""
    starts = rng.random(shape) < missing.fault
    return runs(starts, rng.integers(missing.shortest, missing.longest, int(starts.sum())), segment)


def around(edge_index: np.ndarray, nodes: int, reach: int) -> np.ndarray:
    """[N, reach] for each node the ``reach`` nodes that are fewest edges away, itself first (by number where equal)."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import shortest_path

    links = csr_array((np.ones(edge_index.shape[1]), tuple(edge_index)), shape=(nodes, nodes))
    hops = shortest_path(links, directed=False, unweighted=True)
    np.fill_diagonal(hops, -1)
    return np.argsort(hops, axis=1, kind="stable")[:, : min(reach, nodes)]


def spatial(shape, segment, edge_index, rng: np.random.Generator, missing: Missing) -> np.ndarray:
    """[T, N] outages that take a node's nearest nodes along."""
    down = faults(shape, segment, rng, missing)
    hidden = np.zeros(shape, bool)
    for node, members in enumerate(around(edge_index, shape[1], missing.reach)):
        hidden[:, members] |= down[:, [node]]
    return hidden


def patrol(shape, segment, edge_index, rng: np.random.Generator, missing: Missing) -> np.ndarray:
    """[T, N] hidden but while a patrol is at the node; patrols are added until at most ``rate`` is hidden.

    A patrol stays ``shortest`` rows at a node and goes on along an edge in either direction; every segment begins anew.
    """
    rows, nodes = shape
    ways = [np.unique(np.concatenate([edge_index[1][edge_index[0] == n], edge_index[0][edge_index[1] == n], [n]]))
            for n in range(nodes)]  # fmt: skip
    begins = np.r_[True, np.diff(segment) != 0]
    seen = np.zeros(shape, bool)
    for _ in range(50 * nodes):
        if 1 - seen.mean() <= missing.rate:
            break
        at = int(rng.integers(nodes))
        since = 0
        for row in range(rows):
            if begins[row]:
                at, since = int(rng.integers(nodes)), 0
            elif since >= missing.shortest:
                at, since = int(rng.choice(ways[at])), 0
            seen[row, at] = True
            since += 1
    return ~seen


def by_value(values: np.ndarray, rng: np.random.Generator, missing: Missing) -> np.ndarray:
    """[T, N, C] hidden with a probability that falls with the value; on average ``rate`` of the observed cells."""
    with np.errstate(invalid="ignore", divide="ignore"):
        z = (values - np.nanmean(values, axis=0)) / np.nanstd(values, axis=0)
        chance = 1 / (1 + np.exp(SLOPE * np.where(np.isfinite(z), z, 0)))
    seen = ~np.isnan(values)
    chance *= missing.rate / max(chance[seen].mean(), 1e-9) if seen.any() else 0
    return rng.random(values.shape) < chance


def replay(gaps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[T, N, C] the gaps moved in time, all nodes together, by a random number of rows (around the end)."""
    return np.roll(gaps, int(rng.integers(1, len(gaps))), axis=0)


def draw(
    missing: Missing,
    seed: int | np.random.Generator,
    values: np.ndarray,
    segment: np.ndarray,
    edge_index: np.ndarray,
    official: np.ndarray | None = None,
) -> np.ndarray:
    """One hidden mask.

    Parameters
    ----------
    missing: the pattern.
    seed: or a generator.
    values: [T, N, C], NaN where there is no value (only ``value`` looks at more than that).
    segment: [T].
    edge_index: [2, E].
    official: [T, N, C] the data set's own mask, for ``official``.

    Returns
    -------
    [T, N, C] bool; may include cells that have no value.

    Raises
    ------
    DataError
        ``official`` for a data set without one; ``replay`` for data without any gap.
    """
    rng = np.random.default_rng(seed)
    rows, nodes, channels = values.shape
    flat = (rows, nodes * channels)
    if missing.kind == "none":
        return np.zeros(values.shape, bool)
    if missing.kind == "point":
        return upstream(flat, rng, missing, 0.0, missing.rate).reshape(values.shape)
    if missing.kind == "block_upstream":
        return upstream(flat, rng, missing, missing.fault, missing.noise).reshape(values.shape)
    if missing.kind == "block":
        hidden = faults(flat, segment, rng, missing) | (rng.random(flat) < missing.noise)
        return hidden.reshape(values.shape)
    if missing.kind == "value":
        return by_value(values, rng, missing)
    if missing.kind == "official":
        if official is None:
            raise DataError("missing.kind: official needs a data set with its own mask (aqi36); take another kind")
        return official.copy()
    if missing.kind == "replay":
        gaps = np.isnan(values)
        if not gaps.any():
            raise DataError("missing.kind: replay needs data with real gaps, and these have none; take another kind")
        return replay(gaps, rng)
    shape = (rows, nodes)
    whole = {
        "outage": lambda: faults(shape, segment, rng, missing),
        "spatial": lambda: spatial(shape, segment, edge_index, rng, missing),
        "patrol": lambda: patrol(shape, segment, edge_index, rng, missing),
    }[missing.kind]()
    return np.repeat(whole[:, :, None], channels, axis=2)  # [T, N] -> [T, N, C]


def rehide(
    pattern: Mapping[str, Any] | Missing,
    inputs: np.ndarray,
    segment: np.ndarray,
    edge_index: np.ndarray,
    rng: np.random.Generator,
    *,
    rate: float | None = None,
) -> np.ndarray:
    """Visible cells hidden once more by the pattern that made the masks: what a model is trained to impute.

    Parameters
    ----------
    pattern: the settings ``missing`` of the data (``cube.attrs["pattern"]``).
    inputs: [T, N, C] visible values, NaN elsewhere.
    segment: [T].
    edge_index: [2, E].
    rate: another share of cells for ``point``.

    Returns
    -------
    [T, N, C] bool, a subset of the visible cells. For a mask that can't be drawn (``official``) the present gaps are
    replayed at another time.
    """
    from .data_settings import Missing

    missing = pattern if isinstance(pattern, Missing) else Missing.model_validate(dict(pattern))
    kind = AGAIN.get(missing.kind, missing.kind)
    if kind == "none" or (kind == "replay" and not np.isnan(inputs).any()):
        kind = "point"  # nothing to imitate
    missing = missing.model_copy(update={"kind": kind} | ({"rate": rate} if rate and kind == "point" else {}))
    return draw(missing, rng, inputs, segment, edge_index) & ~np.isnan(inputs)
