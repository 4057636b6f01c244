"""From time-stamped rows to a regular grid: order, duplicates, gaps and missing values.

A series that is forecast online may use nothing later than its row, so a missing value takes the last one seen before
it (interpolation would let the next observation leak into the past). What was filled is flagged. Everything that can't
be treated like this is one clear error that names the row.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ..core.errors import DataError

DAY_S = 86400.0


@dataclass(frozen=True)
class Table:
    """A regular multivariate series.

    Attributes
    ----------
    frame: values [N, C], float64, on a DatetimeIndex without time zone (UTC where the file states a zone).
    filled: [N, C] bool, True where the value was missing.
    step: pandas offset between rows.
    nominal: the time stamps were put on by the reader, the file has none.
    report: what was treated, for people.
    """

    frame: pd.DataFrame
    filled: np.ndarray
    step: str
    nominal: bool = False
    report: list[str] = field(default_factory=list)

    @property
    def step_seconds(self) -> float:
        """Seconds between rows; a business day counts as a day."""
        offset = pd.tseries.frequencies.to_offset(self.step)
        return DAY_S if self.step == "B" else pd.Timedelta(offset).total_seconds()

    @property
    def season(self) -> int:
        """Rows in a day; in a week where a row is a day (5 business days); 1 where rows divide neither."""
        if self.step == "B":
            return 5
        per_day = DAY_S / self.step_seconds
        if per_day == 1:
            return 7
        return int(per_day) if per_day.is_integer() else 1


def _ordered(times: pd.DatetimeIndex, where: str, first_line: int) -> None:
    gaps = np.diff(times.asi8)
    bad = np.flatnonzero(gaps <= 0)
    if not len(bad):
        return
    row = int(bad[0]) + 1
    if gaps[bad[0]] == 0:
        count = int((gaps == 0).sum())
        raise DataError(
            f"{where}: line {row + first_line} has the same time stamp as the line before it ({times[row]}); {count} "
            "such pairs in all. Keep one row for each time (of a table with several places, one place)."
        )
    raise DataError(
        f"{where}: the rows are not in order of time: line {row + first_line} ({times[row]}) comes after "
        f"{times[row - 1]}. Sort the file by time; if the clock was set back there (daylight saving), use UTC."
    )


def _step(times: pd.DatetimeIndex, step: str | None, where: str) -> str:
    """The step as a pandas offset: B, or a fixed time; where none is stated the commonest one."""
    if step is None:
        values, counts = np.unique(np.diff(times.asi8), return_counts=True)
        common = pd.Timedelta(int(values[counts.argmax()]), unit=times.unit)
        return pd.tseries.frequencies.to_offset(common).freqstr
    try:
        if step != "B":
            pd.Timedelta(pd.tseries.frequencies.to_offset(step))
    except ValueError:
        raise DataError(f"{where}: step {step!r} is not a fixed time such as 15min, 1h, 1D or 7D, nor B") from None
    return step


def _grid(times: pd.DatetimeIndex, step: str, where: str, first_line: int) -> pd.DatetimeIndex:
    """The whole grid; an error where a stamp lies between two of its points."""
    if step == "B":
        rows = np.busday_count(times[0].date(), times[-1].date()) + 1
        off = np.flatnonzero((times.day_of_week > 4) | (times - times[0] != (times - times[0]).floor("D")))
    else:
        delta = pd.Timedelta(pd.tseries.frequencies.to_offset(step))
        rows = (times[-1] - times[0]) // delta + 1
        off = np.flatnonzero((times - times[0]) % delta != pd.Timedelta(0))
    if len(off):
        row = int(off[0])
        after = f"{times[row] - times[row - 1]} after the line before it" if row else "the first row"
        raise DataError(
            f"{where}: the time stamps are irregular: line {row + first_line} ({times[row]}) is {after}, which is off "
            f"the grid of step {step} that starts at {times[0]}, as are {len(off):,} of {len(times):,} rows. Resample "
            "the data to one step, or state the right one."
        )
    if rows > 2 * len(times):
        raise DataError(
            f"{where}: a grid of step {step} from {times[0]} to {times[-1]} has {rows:,} rows, the file "
            f"{len(times):,}; more are missing than there. State the right step, or cut the file to "
            "a part without large gaps."
        )
    return pd.date_range(times[0], times[-1], freq=step)


def _runs(missing: np.ndarray) -> list[tuple[int, int]]:
    """Start and length of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], missing.astype(np.int8), [0]])))
    return [(int(a), int(b - a)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def regular(
    times: pd.DatetimeIndex, values: pd.DataFrame, *, step: str | None, max_gap: int, where: str, first_line: int = 1
) -> Table:
    """Put rows on a regular grid and fill short runs of missing values with the last one seen.

    Parameters
    ----------
    times: stamps of the rows [n].
    values: numeric columns [n, C]; NaN is missing.
    step: time between rows as a pandas offset; None: the commonest one.
    max_gap: longest run of rows that may be missing; 0: none.
    where: the file, for messages.
    first_line: line number of the first row, for messages.

    Raises
    ------
    DataError
        Fewer than three rows, stamps out of order, duplicate or off the grid, infinite values, a run of missing values
        that is longer than ``max_gap``, a column that starts with a missing value.
    """
    if len(times) < (3 if step is None else 1):
        raise DataError(f"{where}: {len(times)} rows are too few for a series")
    _ordered(times, where, first_line)
    step = _step(times, step, where)
    grid = _grid(times, step, where, first_line)
    infinite = np.argwhere(np.isinf(values.to_numpy(float)))
    if len(infinite):
        row, column = infinite[0]
        raise DataError(f"{where}: line {row + first_line}, column {values.columns[column]!r} is infinite")

    frame = values.set_axis(times, axis=0).astype(float).reindex(grid)
    absent = ~grid.isin(times)  # [N] rows that the file doesn't have
    missing = frame.isna().to_numpy()  # [N, C]
    for column, name in enumerate(frame.columns):
        for start, length in _runs(missing[:, column]):
            last = grid[start + length - 1]
            if start == 0:
                raise DataError(
                    f"{where}: column {name!r} starts with {length} missing values (until {last}); nothing earlier can "
                    "stand for them. Cut the rows before its first value, or leave the column out."
                )
            if length > max_gap:
                what = "rows" if absent[start : start + length].all() else f"values of column {name!r}"
                raise DataError(
                    f"{where}: {length} {what} are missing from {grid[start]} to {last}; allowed are runs of at most "
                    f"{max_gap} (setting max_gap: such runs take the last value seen before them, and are flagged)."
                )
    report = []
    if absent.any():
        longest = max(length for _, length in _runs(absent))
        report.append(
            f"{int(absent.sum())} of {len(grid):,} rows were missing (first {grid[absent][0]}, longest run {longest}); "
            "each takes the last values before it"
        )
    for column, name in enumerate(frame.columns):
        if count := int((missing[:, column] & ~absent).sum()):
            report.append(f"{count} missing values of {name!r} take the last value before them")
    return Table(frame.ffill(), missing, step, report=report)
