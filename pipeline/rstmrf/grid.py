"""Maps on a regular grid of time, latitude and longitude, and their values at points.

A map stack is ``[P, T, LAT, LON]``: P quantities, latitude from south to north with both poles, longitude periodic
without a doubled column. Interpolation is trilinear; numpy and torch follow the same formula, the latter is
differentiable in the maps (and, piecewise, in the position).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Axes:
    """First value and step of each axis: hours, degrees north, degrees east; the longitudes go once round."""

    t0: float
    dt: float
    lat0: float
    dlat: float
    lon0: float
    dlon: float

    @classmethod
    def of(cls, time: np.ndarray, lat: np.ndarray, lon: np.ndarray) -> Axes:
        """Axes of evenly spaced coordinates (one time: a step of one hour)."""
        dt = float(time[1] - time[0]) if len(time) > 1 else 1.0
        return cls(float(time[0]), dt, float(lat[0]), float(lat[1] - lat[0]), float(lon[0]), float(lon[1] - lon[0]))


def corners(
    shape: tuple[int, int, int], axes: Axes, time: np.ndarray, lat: np.ndarray, lon: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Flat indices [8, N] of the eight nodes around each point and their weights [8, N].

    Times and latitudes outside the axes take the nearest node's value; ``shape`` is (T, LAT, LON).
    """
    steps, rows, columns = shape
    t = np.clip((np.asarray(time, float) - axes.t0) / axes.dt, 0, steps - 1)
    y = np.clip((np.asarray(lat, float) - axes.lat0) / axes.dlat, 0, rows - 1)
    x = ((np.asarray(lon, float) - axes.lon0) / axes.dlon) % columns
    t, y, x = (part.ravel() for part in np.broadcast_arrays(t, y, x))
    it = np.minimum(t.astype(np.int64), max(steps - 2, 0))
    iy = np.minimum(y.astype(np.int64), max(rows - 2, 0))
    ix = x.astype(np.int64) % columns
    ft, fy, fx = t - it, y - iy, x - np.floor(x)
    index, weight = [], []
    for a, wt in ((it, 1 - ft), (np.minimum(it + 1, steps - 1), ft)):
        for b, wy in ((iy, 1 - fy), (np.minimum(iy + 1, rows - 1), fy)):
            for c, wx in ((ix, 1 - fx), ((ix + 1) % columns, fx)):
                index.append((a * rows + b) * columns + c)
                weight.append(wt * wy * wx)
    return np.stack(index), np.stack(weight)


def interpolate(maps: np.ndarray, axes: Axes, time: np.ndarray, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """Values [..., P] of a map stack [P, T, LAT, LON] at points; time, lat and lon broadcast to the leading shape."""
    shape = np.broadcast_shapes(np.shape(time), np.shape(lat), np.shape(lon))
    index, weight = corners(maps.shape[1:], axes, time, lat, lon)
    table = np.ascontiguousarray(np.moveaxis(maps, 0, -1)).reshape(-1, maps.shape[0])  # [T * LAT * LON, P]
    total = weight[0][:, None] * table[index[0]]
    for i, w in zip(index[1:], weight[1:], strict=True):
        total += w[:, None] * table[i]
    return total.reshape(*shape, maps.shape[0])


def interpolate_torch(
    maps: torch.Tensor, axes: Axes, time: torch.Tensor, lat: torch.Tensor, lon: torch.Tensor
) -> torch.Tensor:
    """As :func:`interpolate`, differentiable in ``maps`` and in the position."""
    import torch

    steps, rows, columns = maps.shape[1:]
    t = torch.clamp((time - axes.t0) / axes.dt, 0, steps - 1)
    y = torch.clamp((lat - axes.lat0) / axes.dlat, 0, rows - 1)
    x = torch.remainder((lon - axes.lon0) / axes.dlon, columns)
    t, y, x = torch.broadcast_tensors(t, y, x)
    it = t.detach().long().clamp(max=max(steps - 2, 0))
    iy = y.detach().long().clamp(max=max(rows - 2, 0))
    ix = x.detach().long() % columns
    ft, fy, fx = t - it, y - iy, x - torch.floor(x.detach())
    table = torch.movedim(maps, 0, -1).reshape(-1, maps.shape[0])  # [T * LAT * LON, P]
    total = 0
    for a, wt in ((it, 1 - ft), ((it + 1).clamp(max=steps - 1), ft)):
        for b, wy in ((iy, 1 - fy), ((iy + 1).clamp(max=rows - 1), fy)):
            for c, wx in ((ix, 1 - fx), ((ix + 1) % columns, fx)):
                total = total + (wt * wy * wx).unsqueeze(-1) * table[(a * rows + b) * columns + c]
    return total  # [..., P]
