"""Columns of a user's or publisher's table as times, numbers and places; one error that names what can't be."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import DataError, first_line
from ..core.tabular import to_numbers

YEARS = (1678, 2261)  # what nanoseconds since 1970 can tell
LATEST_S = 9.2e9  # the same in seconds


def dates(column: pd.Series, where: str, form: str | None = None) -> np.ndarray:
    """Times [rows] as datetime64[ns] (UTC where they state a zone); bare numbers are seconds since 1970.

    Raises
    ------
    DataError
        What is no time, and a time that is missing or too far away, with its row.
    """
    column = column.reset_index(drop=True)
    if pd.api.types.is_numeric_dtype(column) and form is None:
        seconds = numbers(column.to_frame(), where)[:, 0]
        wrong = ~(np.abs(seconds) < LATEST_S)
        found = (np.where(wrong, 0, seconds) * 1e9).astype("int64").astype("datetime64[ns]")
    else:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Could not infer format")  # what can't be read is an error
                parsed = pd.to_datetime(column, format=form)
                wrong = ~parsed.dt.year.between(*YEARS).to_numpy()
                found = parsed.where(~wrong).to_numpy("datetime64[ns]")
        except Exception as error:  # pandas' parser raises errors of many kinds
            raise DataError(
                f"{where}: the time column {column.name!r} can't be read as dates: {first_line(error)}"
            ) from None
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"{where}: the time column {column.name!r} holds {str(column[row])!r} in row {row + 1}; every row needs a "
            f"time between the years {YEARS[0]} and {YEARS[1]}"
        )
    return found


def numbers(frame: pd.DataFrame, where: str) -> np.ndarray:
    """[rows, columns] float64, NaN where the table is empty.

    Raises
    ------
    DataError
        Words, and numbers that are infinite, with their column and row.
    """
    found = np.empty(frame.shape)
    for place, name in enumerate(frame.columns):
        column = frame.iloc[:, place].reset_index(drop=True)
        value = to_numbers(column)
        bad = (np.isnan(value) & column.notna().to_numpy()) | np.isinf(value)
        if bad.any():
            row = int(np.argmax(bad))
            what = "is infinite" if np.isinf(value[row]) else f"holds {str(column[row])[:50]!r}"
            raise DataError(
                f"{where}: column {name!r} {what} in row {row + 1}; leave missing values empty, and remove columns "
                "that are no measurements"
            )
        found[:, place] = value
    return found


def places(frame: pd.DataFrame, key: str, pair: Sequence[str], nodes: Sequence[str], where: str) -> np.ndarray:
    """[N, 2] coordinates of the nodes, from a table with one row a node (its name in the column ``key``).

    Raises
    ------
    DataError
        A column or a node that is missing, a node that is given twice, coordinates that are no numbers.
    """
    lacking = [name for name in (key, *pair) if name not in frame]
    if lacking:
        raise DataError(f"{where} has no column {lacking[0]!r}; places need {key}, {', '.join(pair)}")
    named = list(frame[key].astype(str))
    rows = {name: row for row, name in enumerate(named)}
    absent = [name for name in nodes if name not in rows]
    if absent:
        raise DataError(f"{where} gives no place for {len(absent)} sensors: {', '.join(absent[:5])}")
    if len(rows) < len(named):
        twice = next(name for row, name in enumerate(named) if rows[name] != row)
        raise DataError(f"{where} gives the place of {twice} twice; keep one row a sensor")
    found = numbers(frame[list(pair)], where)[[rows[name] for name in nodes]]
    if np.isnan(found).any():
        raise DataError(f"{where} gives no place for {nodes[int(np.isnan(found).any(axis=1).argmax())]}: it is empty")
    return found


def refuse_lacking(frame: Any, wanted: Sequence[str], where: str, should: str) -> None:
    """One error for the first column that a table lacks."""
    lacking = [name for name in wanted if name not in frame]
    if lacking:
        raise DataError(f"{where} has no column {lacking[0]!r}; it must be {should}")
