"""Readers that the catalogue and the user's own entries name: metr_la, aqi36, pems_lanes, and table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core.config import validated
from ..core.errors import DataError, first_line
from ..core.tabular import read_csv
from . import pickles
from .columns import dates, numbers, places, refuse_lacking
from .data_settings import Graph
from .graph import along_road, from_matrix, from_places
from .options import Metr, Options, Pems, Table
from .raw import Raw, nowhere, select, zeros_to_missing
from .readers_own import read_own

PEMS_CHANNELS = {"speed": ("Avg Speed", "mph"), "occupancy": ("Avg Occ", "fraction"), "flow": ("Flow", "veh/5 min")}


def _by_suffix(paths: Sequence[Path], suffixes: tuple[str, ...], holds: str, avoid: tuple[str, ...] = ()) -> Path:
    found = [p for p in paths if p.suffix.lower() in suffixes and not any(word in p.name for word in avoid)]
    if len(found) != 1:
        raise DataError(
            f"among {', '.join(p.name for p in paths)} there must be one {' or '.join(suffixes)} file of {holds}, "
            f"found {len(found)}"
        )
    return found[0]


def hdf(path: Path) -> pd.DataFrame:
    """A table that pandas wrote as HDF5 ("fixed" format: axis0, axis1, block values), read with h5py.

    Returns
    -------
    DataFrame [T, N] with a DatetimeIndex (nanoseconds since 1970) and sensor names as strings.

    Raises
    ------
    DataError
        Another layout.
    """
    import h5py

    try:
        with h5py.File(path) as file:
            group = next(g for g in file.values() if isinstance(g, h5py.Group) and "block0_values" in g)
            if "block1_values" in group:
                raise ValueError("it holds columns of several types")
            values, names, stamps = (group[k][()] for k in ("block0_values", "block0_items", "axis1"))
            names = [n.decode() if isinstance(n, bytes) else str(n) for n in names]
            return pd.DataFrame(values, pd.to_datetime(stamps), names)
    except Exception as error:  # h5py raises errors of many kinds for damaged files
        raise DataError(
            f"{path} is not an HDF5 table as pandas writes it (format fixed): {first_line(error)}"
        ) from None


def metr_la(paths: Sequence[Path], options: dict[str, Any], graph: Graph, zero_missing: bool | None) -> Raw:
    """METR-LA: speeds (CSV without time stamps, or HDF5), ``adj_mx.pkl`` and the sensors' places.

    Raises
    ------
    DataError
        Files that don't fit together, or damaged ones.
    """
    chosen = validated(Metr, options, "metr_la options")
    speeds = _by_suffix(paths, (".csv", ".h5", ".hdf5"), "speeds", avoid=("location", "adj"))
    names, weight = pickles.adjacency(_by_suffix(paths, (".pkl", ".pickle"), "the adjacency"))
    if speeds.suffix == ".csv":
        frame = read_csv(speeds)
        if str(frame.columns[0]) in names:
            frame.index = pd.date_range(chosen.start, periods=len(frame), freq=chosen.step)
        else:  # other copies begin with the time
            frame.index = pd.DatetimeIndex(dates(frame.pop(frame.columns[0]), speeds.name))
    else:
        frame = hdf(speeds)
    if (np.diff(frame.index.to_numpy()) != pd.Timedelta(chosen.step).to_timedelta64()).any():
        raise DataError(f"{speeds}: rows must be {chosen.step} apart, in the order of time")
    frame.columns = [str(c) for c in frame.columns]
    if sorted(frame.columns) != sorted(names):
        odd = sorted(set(frame.columns) ^ set(names))
        raise DataError(f"{speeds.name} and the adjacency name different sensors: {', '.join(odd[:5])}")
    value = numbers(frame[names], speeds.name)
    report = []
    if chosen.zero_missing if zero_missing is None else zero_missing:
        value, zeros = zeros_to_missing(value)
        report.append(f"{zeros:,} zeros taken as missing")
    located = _by_suffix([p for p in paths if p != speeds], (".csv",), "sensor places", avoid=("adj",))
    return Raw(
        value=value[:, :, None],  # [T, N] -> [T, N, 1]
        time=frame.index.to_numpy("datetime64[ns]"),
        segment=np.zeros(len(frame), np.int64),
        nodes=tuple(names),
        channels=("speed",),
        units=("mph",),
        edges=from_matrix(weight, graph.threshold, graph.symmetric, ("road", "reverse")),
        place=places(read_csv(located), "sensor_id", ("latitude", "longitude"), names, located.name),
        place_kind="latlon",
        step_seconds=pd.Timedelta(chosen.step).total_seconds(),
        filled=chosen.filled,
        report=report,
    )


def aqi36(paths: Sequence[Path], options: dict[str, Any], graph: Graph, zero_missing: bool | None) -> Raw:
    """AQI-36: hourly PM2.5 of 36 stations in Beijing with the published evaluation mask (in ground, not in missing).

    Raises
    ------
    DataError
        Files that don't fit together.
    """
    chosen = validated(Options, options, "aqi36 options")
    found = {word: next((p for p in paths if word in p.name), None) for word in ("ground", "missing", "latlng")}
    lacking = [word for word, path in found.items() if path is None]
    if lacking:
        raise DataError(f"AQI-36 needs the files pm25_{', pm25_'.join(lacking)}.txt beside {paths[0].name}")
    ground, missing = (_hourly(found[word]) for word in ("ground", "missing"))
    if ground.shape != missing.shape or not (ground.index == missing.index).all():
        raise DataError(f"{found['ground']} and {found['missing']} have different rows or columns")
    value, shown = numbers(ground, found["ground"].name), ~np.isnan(numbers(missing, found["missing"].name))
    if zero_missing or (zero_missing is None and chosen.zero_missing):
        value, _ = zeros_to_missing(value)
    table = read_csv(found["latlng"], dtype={"sensor_id": str})
    where = places(table, "sensor_id", ("latitude", "longitude"), list(ground.columns), found["latlng"].name)
    return Raw(
        value=value[:, :, None],
        time=ground.index.to_numpy("datetime64[ns]"),
        segment=np.zeros(len(value), np.int64),
        nodes=tuple(ground.columns),
        channels=("pm25",),
        units=("ug/m3",),
        edges=from_places(where, "latlon", found["latlng"].name, graph.threshold, graph.neighbours),
        place=where,
        place_kind="latlon",
        step_seconds=3600.0,
        official=(~np.isnan(value) & ~shown)[:, :, None],
    )


def _hourly(path: Path) -> pd.DataFrame:
    """A file of AQI-36: a column a station, rows by hour."""
    frame = read_csv(path)
    refuse_lacking(frame, ["datetime"], str(path), "a table of AQI-36 with a header")
    time = dates(frame.pop("datetime"), path.name, "%Y/%m/%d %H:%M:%S")
    if set(np.diff(time).astype("timedelta64[s]").astype(int)) != {3600}:
        raise DataError(f"{path}: rows must be one hour apart")
    return frame.set_index(pd.DatetimeIndex(time))


def pems_lanes(paths: Sequence[Path], options: dict[str, Any], graph: Graph, zero_missing: bool | None) -> Raw:
    """PeMS five-minute station files: every observed lane of the main-line stations, one segment a file.

    Values that PeMS imputed itself (``Lane n Observed`` 0) are missing here. Lanes that were never observed are dropped
    and named. The place of a lane is (miles along the road, lane number): the files hold no coordinates, but the
    length of the stretch that each station stands for.

    Raises
    ------
    DataError
        A column or a station that is missing, files that overlap in time, rows given twice or not in order.
    """
    chosen = validated(Pems, options, "pems_lanes options")
    days = sorted((path for path in paths if "Metadata" not in path.name), key=lambda path: path.name)
    frames = [_day(path, chosen.order) for path in days]
    starts = [frame.index[0] for frame, _ in frames]
    if len(set(starts)) < len(starts) or any(
        a.index[-1] >= b.index[0] for (a, _), (b, _) in zip(frames, frames[1:], strict=False)
    ):
        raise DataError("PeMS files overlap in time or are not in the order of their names; give one file a day")
    lanes = list(frames[0][0].columns)
    both = pd.concat([frame.reindex(columns=lanes) for frame, _ in frames])
    segment = np.repeat(np.arange(len(frames)), [len(frame) for frame, _ in frames])
    nodes = list(dict.fromkeys(lane for lane, _ in lanes))
    value = np.stack([both.xs(c, axis=1, level=1)[nodes].to_numpy(np.float64) for c in PEMS_CHANNELS], axis=2)
    report = []
    if zero_missing or (zero_missing is None and chosen.zero_missing):
        value, zeros = zeros_to_missing(value)
        report.append(f"{zeros:,} zeros taken as missing")
    lengths = frames[0][1]
    ends = np.cumsum([lengths[s] for s in chosen.order])
    middle = {s: ends[i] - lengths[s] / 2 for i, s in enumerate(chosen.order)}
    pairs = [(name.split("-")[0], int(name.split("-")[1])) for name in nodes]
    miles = [middle[station] for station, _ in pairs]
    raw = Raw(
        value=value,
        time=both.index.to_numpy("datetime64[ns]"),
        segment=segment,
        nodes=tuple(nodes),
        channels=tuple(PEMS_CHANNELS),
        units=tuple(unit for _, unit in PEMS_CHANNELS.values()),
        edges=along_road(pairs, chosen.order, miles),
        step_seconds=300.0,
        report=report,
        **nowhere(len(nodes)),
    )
    raw.place, raw.place_kind = np.array([[m, lane] for m, (_, lane) in zip(miles, pairs, strict=True)]), "xy"
    keep = ~np.isnan(value).all(axis=0).any(axis=1)
    for name in np.array(nodes)[~keep]:
        raw.report.append(f"lane {name} was never observed and is left out")
    return select(raw, keep)


def _day(path: Path, order: Sequence[str]) -> tuple[pd.DataFrame, dict[str, float]]:
    """One file: rows by time, columns (station-lane, channel), NaN where PeMS did not observe; and station lengths."""
    frame = read_csv(path)
    should = "a PeMS five-minute station file with a header"
    refuse_lacking(frame, ["Timestamp", "Station", "Lane Type", "Station Length"], str(path), should)
    frame = frame[frame["Lane Type"] == "ML"].assign(Station=frame["Station"].map(str))  # also where one is missing
    if set(frame["Station"]) != set(order):
        there = ", ".join(sorted(set(frame["Station"])))
        raise DataError(f"{path} has the main-line stations {there}, but the option `order` names {', '.join(order)}")
    parts, lengths = {}, {}
    grid = None
    for station in order:
        rows = frame[frame["Station"] == station].set_index("Timestamp")
        rows.index = pd.DatetimeIndex(dates(rows.index.to_series(), path.name, "%m/%d/%Y %H:%M:%S"))
        if not rows.index.is_monotonic_increasing or rows.index.has_duplicates:
            raise DataError(f"{path}: the rows of station {station} are not in the order of time, or given twice")
        lengths[station] = float(numbers(rows[["Station Length"]], path.name)[0, 0])
        if not 0 < lengths[station] < np.inf:
            raise DataError(f"{path}: station {station} has the length {lengths[station]:g}; miles above 0 are needed")
        if grid is None:
            if rows.index[-1] - rows.index[0] > len(rows) * pd.Timedelta("10min") + pd.Timedelta("1D"):
                raise DataError(
                    f"{path}: {len(rows)} rows of station {station} from {rows.index[0]} to {rows.index[-1]}; "
                    "more of them are missing than there"
                )
            grid = pd.date_range(rows.index[0], rows.index[-1], freq="5min")
        rows = rows.reindex(grid)
        for lane in range(1, 9):
            if f"Lane {lane} Flow" not in rows or rows[f"Lane {lane} Flow"].isna().all():
                continue
            wanted = [f"Lane {lane} {name}" for name in ("Observed", *(c for c, _ in PEMS_CHANNELS.values()))]
            refuse_lacking(rows, wanted, str(path), should)
            seen, *values = numbers(rows[wanted], path.name).T
            for channel, value in zip(PEMS_CHANNELS, values, strict=True):
                parts[f"{station}-{lane}", channel] = pd.Series(np.where(seen == 1, value, np.nan), grid)
    if not parts:
        raise DataError(f"{path} has no lane with values; it must be {should}")
    return pd.DataFrame(parts), lengths


def table(paths: Sequence[Path], options: dict[str, Any], graph: Graph, zero_missing: bool | None) -> Raw:
    """The user's own data: a file of values and, if there is one, a file of their graph (see ``readers_own``).

    Raises
    ------
    DataError
        More than two files, or what :func:`pipeline.spin.readers_own.read_own` refuses.
    """
    chosen = validated(Table, options, "table options")
    if len(paths) > 2:
        raise DataError(
            f"own data are one file of values and at most one of their graph, got {len(paths)}: "
            f"{', '.join(path.name for path in paths)}"
        )
    return read_own(
        paths[0],
        *paths[1:],
        channels=chosen.channels,
        zero_missing=chosen.zero_missing if zero_missing is None else zero_missing,
        threshold=graph.threshold,
        neighbours=graph.neighbours,
    )


READERS = {"metr_la": metr_la, "aqi36": aqi36, "pems_lanes": pems_lanes, "table": table}
