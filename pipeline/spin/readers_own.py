"""The user's own data: a table of sensors (CSV, Parquet, NetCDF) and their graph, read strictly.

Values may stand in one of three layouts, told apart by their columns:

wide   a time column and one column a sensor (one channel)
long   a time column, a sensor column (node, sensor, sensor_id, station, lane_id, id) and one column a channel; the lane
       layout ``lane_id, start_frame, avg_speed, avg_occupancy, total_vehicles, …`` is one of these
cube   NetCDF variables over (time, node)

The graph is a table of edges (source, target, optional weight and type), a table of places (node with lat and lon, or x
and y), a JSON file of lanes (direct, near, crossing), or a pickled adjacency. Without one, each sensor is linked with
the eight that it is most correlated with. Nothing is sorted, dropped or renamed silently.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import DataError, PipelineError, first_line
from ..core.tabular import read_csv, read_parquet
from . import pickles
from .columns import dates, numbers, places
from .features import correlated
from .graph import Edges, from_lanes, from_list, from_matrix, from_places, refuse_unknown
from .raw import Raw, nowhere, refuse_empty, zeros_to_missing

TIMES = ("time", "timestamp", "datetime", "date", "start_frame")
NODES = ("node", "node_id", "sensor", "sensor_id", "station", "lane_id", "id")
PLACES = {"latlon": (("lat", "lon"), ("latitude", "longitude")), "xy": (("x", "y"),)}
NOT_APPLICABLE = -1.0  # what the lane layout writes where a field means nothing
LINKED = 8  # neighbours of a sensor where no graph is given
BY_CORRELATION = f"no graph given: each sensor is linked with the {LINKED} that it is most correlated with"
LONGEST = 288  # rows of a gap in time that are filled with missing values; after a longer one a new segment begins


def read_own(
    path: Path | str,
    graph: Path | str | None = None,
    *,
    channels: list[str] | None = None,
    zero_missing: bool = False,
    threshold: float = 0.1,
    neighbours: int = LINKED,
) -> Raw:
    """Read a user's data.

    Parameters
    ----------
    path: CSV, Parquet or NetCDF.
    graph: edges, places, lanes or adjacency; None: links by correlation.
    channels: columns to keep; None: every numeric one.
    zero_missing: zeros stand for missing values.
    threshold, neighbours: of edges made from places.

    Raises
    ------
    DataError
        Infinite values, times that are not in order or given twice, a step that changes, sensors without any value, a
        graph that names sensors which the data don't have (or places that lack some), text where numbers belong.
    """
    path = Path(path)
    value, time, nodes, names = _values(path, channels)
    if (large := int((np.abs(value) > np.finfo(np.float32).max).sum())) > 0:
        raise DataError(f"{path.name} holds {large:,} infinite values; leave missing ones empty, or as NaN")
    if not nodes:
        raise DataError(f"{path.name} has no sensor: a column, or a node, each is needed beside the time")
    value, time, segment, step, report = _regular(value, time, path.name)
    if zero_missing:
        value, zeros = zeros_to_missing(value)
        report.append(f"{zeros:,} zeros taken as missing")
    raw = Raw(
        value=value,
        time=time,
        segment=segment,
        nodes=nodes,
        channels=names,
        units=tuple("1" for _ in names),
        edges=Edges.of([]),
        step_seconds=step,
        report=report,
        **nowhere(len(nodes)),
    )
    refuse_empty(raw, path.name)
    if graph is None:
        raw.edges = _by_correlation(raw)
        report.append(BY_CORRELATION)
    else:
        join(raw, Path(graph), threshold, neighbours)
    alone = sorted(set(range(len(nodes))) - set(raw.edges.index.ravel().tolist()))
    if alone:
        report.append(f"{len(alone)} sensors have no edge: {', '.join(nodes[i] for i in alone[:5])}")
    return raw


def table(path: Path) -> pd.DataFrame:
    """The rows of a CSV or Parquet file; names of sensors are text."""
    kind = path.suffix.lower()
    if kind in (".csv", ".txt"):
        return read_csv(path, dtype={name: str for name in (*NODES, "source", "target")})
    if kind in (".parquet", ".pq"):
        frame = read_parquet(path)
        named = frame.index.name or ("time" if isinstance(frame.index, pd.DatetimeIndex) else None)
        return frame.rename_axis(named).reset_index() if named else frame
    raise DataError(f"{path}: files of the kind {kind or 'without suffix'!r} are not read; use CSV, Parquet or NetCDF")


def _values(path: Path, channels: list[str] | None) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Values [T, N, C] as they stand in the file, its times [T], sensors and channels."""
    if path.suffix.lower() in (".nc", ".nc4"):
        return _netcdf(path, channels)
    frame = table(path)
    if frame.empty:
        raise DataError(f"{path.name} has no rows; at least three are needed")
    time = next((name for name in frame if str(name).lower() in TIMES), None)
    if time is None:
        raise DataError(f"{path.name} has no time column; name one {' or '.join(TIMES[:3])} (it has {_some(frame)})")
    node = next((name for name in frame if str(name).lower() in NODES), None)
    stamps = dates(frame[time], path.name)
    if node is not None and frame[node].isna().any():
        raise DataError(f"{path.name}: {node!r} is empty in row {int(frame[node].isna().to_numpy().argmax()) + 1}")
    if node is None:
        return _wide(frame.drop(columns=time), stamps, path.name, channels)
    return _long(frame.drop(columns=[time, node]), stamps, frame[node].astype(str), path.name, channels, node)


def _some(frame: Any) -> str:
    names = [str(name) for name in frame]
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def _numbers(frame: pd.DataFrame, wanted: list[str] | None, where: str) -> pd.DataFrame:
    """The numeric columns asked for, or all columns, which must then be numeric."""
    if wanted is not None:
        lacking = [name for name in wanted if name not in frame]
        if lacking:
            raise DataError(f"{where} has no column {lacking[0]!r}; it has {_some(frame)}")
        frame = frame[wanted]
    return pd.DataFrame(numbers(frame, where), columns=frame.columns)


def _ordered(stamps: np.ndarray, where: str, of: str = "") -> None:
    steps = np.diff(stamps)
    if (steps > np.timedelta64(0)).all():
        return
    row = int(np.flatnonzero(steps <= np.timedelta64(0))[0]) + 1
    twice = stamps[row] in stamps[:row]
    stamp = str(stamps[row].astype("datetime64[s]")).replace("T", " ")
    raise DataError(
        f"{where}: the time {stamp}{of} {'is given twice' if twice else 'comes after a later one'} (row {row + 1}); "
        f"{'keep one row a time' if twice else 'sort the rows by time'}"
    )


def _wide(frame: pd.DataFrame, stamps: np.ndarray, where: str, channels: list[str] | None):
    _ordered(stamps, where)
    frame = _numbers(frame, None, where)
    name = channels[0] if channels else "value"
    nodes = tuple(str(column) for column in frame)
    return frame.to_numpy(np.float64)[:, :, None], stamps, nodes, (name,)


def _long(frame: pd.DataFrame, stamps: np.ndarray, node: pd.Series, where: str, channels: list[str] | None, key: str):
    frame = _numbers(frame, channels, where)
    if not len(frame.columns):
        raise DataError(f"{where} has no column of measurements beside the time and {key!r}")
    nodes = tuple(dict.fromkeys(node))
    for name in nodes:
        _ordered(stamps[(node == name).to_numpy()], where, f" of {key} {name}")
    times = np.unique(stamps)
    value = np.full((len(times), len(nodes), len(frame.columns)), np.nan)
    index = {name: i for i, name in enumerate(nodes)}
    value[np.searchsorted(times, stamps), node.map(index).to_numpy()] = frame.to_numpy(np.float64)
    if key == "lane_id":
        value[value == NOT_APPLICABLE] = np.nan
    return value, times, nodes, tuple(str(column) for column in frame)


def _netcdf(path: Path, channels: list[str] | None):
    import xarray as xr

    try:
        with xr.open_dataset(path) as data:
            node = next((name for name in data.dims if str(name).lower() in NODES), None)
            if "time" not in data.dims or node is None:
                raise DataError(f"{path.name} must have the dimensions time and node; it has {_some(data.dims)}")
            fit = [str(name) for name in data.data_vars if set(data[name].dims) == {"time", node}]
            names = fit if channels is None else channels
            lacking = [name for name in names if name not in fit]
            if lacking or not names:
                raise DataError(f"{path.name} has no variable {(lacking or ['at all'])[0]} over time and {node}")
            value = np.stack([data[name].transpose("time", node).values.astype(np.float64) for name in names], axis=2)
            nodes = [str(v) for v in (data[node].values if node in data.coords else range(data.sizes[node]))]
            stamps = data["time"].values.astype("datetime64[ns]")
    except PipelineError:
        raise
    except Exception as error:  # the libraries below xarray raise errors of many kinds
        raise DataError(f"{path} can't be read as NetCDF: {first_line(error)}") from None
    _ordered(stamps, path.name)
    return value, stamps, tuple(nodes), tuple(names)


def _regular(value: np.ndarray, time: np.ndarray, where: str):
    """Rows on a regular grid: short gaps in time become missing rows, longer ones begin a new segment."""
    if len(time) < 3:
        raise DataError(f"{where} has {len(time)} rows; at least three are needed")
    steps = np.diff(time).astype(np.int64)
    sizes, counts = np.unique(steps, return_counts=True)
    step = int(sizes[counts.argmax()])
    odd = np.flatnonzero(steps % step)
    if len(odd):
        row = int(odd[0]) + 1
        raise DataError(
            f"{where}: rows are mostly {step / 1e9:g} s apart, but row {row + 1} comes {steps[row - 1] / 1e9:g} s "
            "after the one before, which is no multiple of it; resample the data to a regular step"
        )
    jumps = steps // step
    segment = np.concatenate([[0], np.cumsum(jumps > LONGEST)])
    report = []
    added = np.where(jumps > LONGEST, 1, jumps)
    place = np.concatenate([[0], np.cumsum(added)])
    full = np.full((place[-1] + 1, *value.shape[1:]), np.nan)
    full[place] = value
    new = len(full) - len(value)
    if new:
        report.append(f"{new:,} rows that the file lacks are put in as missing")
    if segment[-1]:
        report.append(f"{segment[-1]} gaps of more than {LONGEST} rows: the data fall into {segment[-1] + 1} segments")
    owner = np.searchsorted(place, np.arange(len(full)), side="right") - 1  # last row of the file at or before each
    stamps = time[owner] + ((np.arange(len(full)) - place[owner]) * step).astype("timedelta64[ns]")
    return full, stamps, segment[owner], step / 1e9, report


def _by_correlation(raw: Raw) -> Edges:
    """Links with the most correlated sensors by the first channel; weights are the correlations."""
    near, rho = correlated(raw.value[:, :, 0].T, np.arange(len(raw.nodes)), LINKED)
    return Edges.of(
        (int(source), target, float(min(abs(r), 1.0)), "correlation")
        for target, (sources, row) in enumerate(zip(near, rho, strict=True))
        for source, r in zip(sources, row, strict=True)
    )


def join(raw: Raw, path: Path, threshold: float, neighbours: int) -> None:
    """Put the graph of a file to the data."""
    kind = path.suffix.lower()
    if kind == ".json":
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{path} can't be read as JSON: {first_line(error)}") from None
        raw.edges = from_lanes(content, raw.nodes, path.name)
        return
    if kind in (".pkl", ".pickle"):
        names, weight = pickles.adjacency(path)
        refuse_unknown(names, raw.nodes, path.name)
        refuse_unknown(raw.nodes, names, "the data (beside the adjacency)")
        order = [names.index(name) for name in raw.nodes]
        raw.edges = from_matrix(weight[np.ix_(order, order)], threshold, False, ("road", "reverse"))
        return
    frame = table(path)
    frame.columns = [str(column).lower() for column in frame.columns]
    if {"source", "target"} <= set(frame.columns):
        raw.edges = from_list(frame, raw.nodes, path.name)
        return
    node = next((name for name in frame if name in NODES), None)
    for place, pairs in PLACES.items():
        for pair in pairs:
            if node is not None and set(pair) <= set(frame.columns):
                refuse_unknown(frame[node].astype(str), raw.nodes, path.name)
                raw.place = places(frame, node, pair, raw.nodes, path.name)
                raw.place_kind = place
                raw.edges = from_places(raw.place, place, path.name, threshold, neighbours)
                return
    raise DataError(
        f"{path.name} is no graph: it must have the columns source and target (weight and type if you like), or node "
        f"with lat and lon, or with x and y; it has {_some(frame)}"
    )
