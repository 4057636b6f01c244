"""Windows: cutting a long catalogue, finding how published windows overlap, and pairs of events inside windows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..core.errors import DataError
from .events import Catalogue


@dataclass(frozen=True)
class Pairs:
    """Every event of some windows with each of its predecessors in the same window, flat.

    Attributes
    ----------
    row: [n] catalogue rows of the events, window by window.
    target: [P] place in ``row`` of the later event of a pair, ascending.
    parent: [P] place in ``row`` of the earlier one.
    """

    row: np.ndarray
    target: np.ndarray
    parent: np.ndarray


def pairs(lengths: np.ndarray, max_lag: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Targets and parents [P] of all pairs inside windows of these lengths, at most ``max_lag`` events apart."""
    index = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)  # place in its window
    count = index if max_lag is None else np.minimum(index, max_lag)
    target = np.repeat(np.arange(len(index)), count)
    back = np.arange(len(target)) - np.repeat(np.cumsum(count) - count, count)  # 0 … count - 1
    return target, target - 1 - back


def reach(lengths: np.ndarray, most: int) -> int:
    """The largest lag at which windows of these lengths have at most ``most`` pairs (at least 1)."""
    index = np.concatenate([np.arange(n) for n in lengths]) if len(lengths) else np.zeros(1, int)
    count = np.bincount(index)
    beyond = count[::-1].cumsum()[::-1][1:]  # events with at least 1, 2, … predecessors: pairs that each lag adds
    return max(1, int(np.searchsorted(np.cumsum(beyond), most, side="right")))


def of(catalogue: Catalogue, sequences: np.ndarray, max_lag: int | None = None) -> Pairs:
    """All pairs inside some windows of a catalogue."""
    return Pairs(catalogue.events(sequences), *pairs(catalogue.lengths[sequences], max_lag))


def overlaps(windows: list[tuple[np.ndarray, np.ndarray]], fewest: int = 5) -> np.ndarray:
    """By how much each window starts after the one before it, found from the events that they share.

    Parameters
    ----------
    windows: times [n] and whatever identifies an event [n, d], one pair a window, in order of time.
    fewest: shared events below which two windows are held to be apart.

    Returns
    -------
    [S - 1] shifts in the unit of time; NaN where two windows share fewer events than ``fewest``.
    """
    shifts = np.full(max(len(windows) - 1, 0), np.nan)
    known = [dict(zip(map(tuple, what.tolist()), time.tolist(), strict=True)) for time, what in windows]
    for place, (before, after) in enumerate(zip(known[:-1], known[1:], strict=True)):
        shared = [before[event] - time for event, time in after.items() if event in before]
        if len(shared) >= fewest:
            middle = float(np.median(shared))
            if np.mean(np.abs(np.array(shared) - middle) < 1e-3) > 0.8 and middle > 0:
                shifts[place] = middle
    return shifts


def timeline(shifts: np.ndarray, window: float) -> tuple[np.ndarray, np.ndarray, float | None]:
    """Absolute starts [S], phases [S] and the stride (None: no overlap) of windows with these shifts.

    Where two windows share nothing their true distance is unknown: the later one is put right behind the earlier one.
    """
    known = shifts[np.isfinite(shifts)]
    overlapping = len(known) > 0.5 * len(shifts)
    stride = float(np.median(known)) if overlapping else None
    starts = np.concatenate([[0.0], np.cumsum(np.where(np.isfinite(shifts), shifts, window))])
    cycle = math.ceil(window / stride - 1e-9) - 1 if stride else 1  # every fourth of 30-day windows at 7 days
    return starts, np.arange(len(starts)) % max(cycle, 1), stride


def cut(time: np.ndarray, window: float, stride: float | None, first: float, last: float) -> list[tuple[float, slice]]:
    """Windows [start, start + window) over a sorted catalogue: starts and slices of rows; a cut-off rest is dropped."""
    step = stride or window
    if not (window > 0 and step > 0):
        raise DataError(f"a window of {window} at a stride of {step} is not possible; both must be above 0")
    count = int(math.floor((last - first - window) / step + 1e-9)) + 1
    if count < 3:
        raise DataError(
            f"a catalogue of {last - first:.6g} time units gives {max(count, 0)} windows of {window:g}; at least 3 are "
            "needed (train, validation, test): take shorter windows"
        )
    starts = first + step * np.arange(count)
    ends = np.searchsorted(time, [starts, starts + window], side="left")
    return [(float(start), slice(int(a), int(b))) for start, a, b in zip(starts, *ends, strict=True)]


def by_time(count: int, val: float, test: float, reach: int = 0) -> np.ndarray:
    """Split [S] of windows in order of time: the last shares are validation and test.

    ``reach`` windows before each border would share events with the other side and get split -1 (dropped).
    """
    n_test, n_val = max(1, round(test * count)), max(1, round(val * count))
    n_train = count - n_val - n_test - 2 * reach
    if n_train < 1:
        raise DataError(f"{count} windows are too few for shares of {val} validation and {test} test")
    parts = [(0, n_train), (-1, reach), (1, n_val), (-1, reach), (2, n_test)]
    return np.concatenate([np.full(size, label, np.int8) for label, size in parts])


def completeness(magnitude: np.ndarray, width: float = 0.1, correction: float = 0.2) -> float:
    """Magnitude of completeness by maximum curvature: the fullest bin of width 0.1, plus 0.2.

    Source: Wiemer and Wyss (2000), BSSA 90, 859; the correction is that of Woessner and Wiemer (2005), BSSA 95, 684.
    """
    found = np.asarray(magnitude, float)
    found = found[np.isfinite(found)]
    if len(found) < 50:
        raise DataError(f"{len(found)} magnitudes are too few to estimate their completeness (50); state min_magnitude")
    bins = np.round(found / width).astype(int)
    count = np.bincount(bins - bins.min())
    return round(float((bins.min() + np.argmax(count)) * width + correction), 6)


def b_value(magnitude: np.ndarray, lowest: float, width: float = 0.1) -> tuple[float, float]:
    """Gutenberg-Richter b of magnitudes rounded to ``width``, at or above ``lowest``, and its standard error.

    Source: Aki (1965) with the bin correction of Utsu; error by Shi and Bolt (1982), BSSA 72, 1677.
    """
    above = magnitude[magnitude >= lowest - width / 2]
    mean = above.mean()
    b = math.log10(math.e) / (mean - (lowest - width / 2))
    error = 2.3 * b**2 * math.sqrt(((above - mean) ** 2).sum() / (len(above) * (len(above) - 1)))
    return float(b), float(error)


KM_PER_DEGREE = 6371.0088 * math.pi / 180


def to_km(lonlat: np.ndarray, lon0: float, lat0: float) -> np.ndarray:
    """Longitude and latitude [n, 2] to kilometres east and north by the sinusoidal projection, which keeps areas.

    Densities per square kilometre are therefore true everywhere; distances are true near the central meridian.
    """
    lon, lat = lonlat[:, 0], lonlat[:, 1]
    east = (lon - lon0) * np.cos(np.radians(lat)) * KM_PER_DEGREE
    return np.column_stack([east, (lat - lat0) * KM_PER_DEGREE])


def to_degrees(km: np.ndarray, lon0: float, lat0: float) -> np.ndarray:
    """The inverse of :func:`to_km`."""
    lat = km[..., 1] / KM_PER_DEGREE + lat0
    lon = km[..., 0] / (KM_PER_DEGREE * np.cos(np.radians(lat))) + lon0
    return np.stack([lon, lat], axis=-1)
