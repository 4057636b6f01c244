"""Maps of total electron content between epochs, and their gradients.

Structures of the ionosphere stay with the sun, so between two epochs both maps are turned by the Earth's rotation
since (or until) then before they are weighted: the format's own advice (Schaer et al. 1998, IONEX, section on
interpolation).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..core.errors import DataError
from .grid import Axes, interpolate

EARTH_KM = 6371.2
KM_PER_DEGREE = EARTH_KM * np.pi / 180
DEGREES_PER_HOUR = 15.0
TURN = 360.0


def sun_fixed(
    tec: np.ndarray, time_h: np.ndarray, lat: np.ndarray, lon: np.ndarray, longest_gap_h: float = 4.0
) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """Interpolator of maps [T, LAT, LON] (latitude ascending, longitude periodic) on evenly spaced or missing epochs.

    Returns a function of times [T'], latitudes [LAT'] and longitudes [LON'] that gives maps [T', LAT', LON']. Maps
    without any value are left out; times further than ``longest_gap_h`` from a map, and cells next to missing ones,
    are NaN.
    """
    finite = np.isfinite(tec).reshape(len(tec), -1).any(axis=1) if tec.size else np.zeros(0, bool)
    epochs, maps = np.asarray(time_h, float)[finite], np.asarray(tec, float)[finite]

    def at(time: np.ndarray, to_lat: np.ndarray, to_lon: np.ndarray) -> np.ndarray:
        result = np.full((len(time), len(to_lat), len(to_lon)), np.nan)
        for row, hour in enumerate(np.asarray(time, float)):
            if not len(epochs):
                continue
            right = int(np.clip(np.searchsorted(epochs, hour), 0, len(epochs) - 1))
            left = max(right - 1, 0) if epochs[right] > hour else right
            pair = {left: 1.0, right: 1.0}
            if left != right:
                share = (hour - epochs[left]) / (epochs[right] - epochs[left])
                pair = {left: 1 - share, right: share}
                if hour < epochs[left]:  # before the first map
                    pair = {left: 1.0}
            if min(abs(hour - epochs[index]) for index in pair) > longest_gap_h:
                continue
            total = 0.0
            for index, weight in pair.items():
                turned = to_lon + DEGREES_PER_HOUR * (hour - epochs[index])
                axes = Axes(0.0, 1.0, float(lat[0]), float(lat[1] - lat[0]), float(lon[0]), float(lon[1] - lon[0]))
                values = interpolate(maps[index][None, None], axes, 0.0, to_lat[:, None], turned[None, :])
                total = total + weight * values[..., 0]
            result[row] = total
        return result

    return at


def gradient(tec: np.ndarray, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """Northward and eastward derivative of ln TEC per km of arc, [2, ..., LAT, LON], on the maps' own grid.

    Central differences; longitude is periodic, and differences in it are divided by cos(lat). At a pole both
    components are those of one vector, the first harmonic of the ring next to it; on a grid without pole rows the
    outermost rows have one-sided differences in latitude.

    Parameters
    ----------
    tec: [..., LAT, LON] TECU, latitude ascending, longitudes once round without a doubled column. Below .1 TECU
        the slope is taken for none.

    Raises
    ------
    DataError
        Longitudes that don't go once round, or a descending latitude.
    """
    step, turn = float(lat[1] - lat[0]), float(lon[1] - lon[0])
    if step <= 0:
        raise DataError("latitudes must ascend; turn the maps round before taking gradients")
    if not np.isclose(turn * len(lon), TURN):
        raise DataError(f"{len(lon)} longitudes, {turn:g} degrees apart, don't go once round: drop the doubled column")
    log = np.log(np.maximum(np.asarray(tec, float), 0.1))
    north, east = np.empty_like(log), np.empty_like(log)
    north[..., 1:-1, :] = (log[..., 2:, :] - log[..., :-2, :]) / (2 * step)
    cos = np.cos(np.deg2rad(lat))[:, None]
    east[:] = (np.roll(log, -1, axis=-1) - np.roll(log, 1, axis=-1)) / (2 * turn * np.maximum(cos, 1e-9))
    angle = np.deg2rad(lon)
    for row, ring, sign in ((0, 1, 1), (-1, -2, -1)):
        if not np.isclose(abs(lat[row]), 90):
            north[..., row, :] = sign * (log[..., ring, :] - log[..., row, :]) / step
            continue
        x, y = (
            2 * (log[..., ring, :] * part).mean(-1, keepdims=True) / step for part in (np.cos(angle), np.sin(angle))
        )
        north[..., row, :] = sign * (x * np.cos(angle) + y * np.sin(angle))
        east[..., row, :] = y * np.cos(angle) - x * np.sin(angle)
    return (np.stack([north, east]) / KM_PER_DEGREE).astype(np.float32)
