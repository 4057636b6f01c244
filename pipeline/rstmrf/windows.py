"""The seed's SlidingWindowBatchProcessor: windows of drivers and TEC maps for a batch, each time window once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..core.errors import DataError


class Batch(NamedTuple):
    """What the network sees of one batch of observations.

    coords: [B, 4] lat, lon in degrees, altitude in km, time in hours. target: [B] log10 Ne or None.
    sw_seq: [N, S, D] scaled drivers and maps: [N, S, 1, lat, lon] scaled TEC of each unique window.
    index: [B] window of each observation. following: [N, lat, lon] the map after each window.
    """

    coords: Tensor
    target: Tensor | None
    sw_seq: Tensor
    maps: Tensor
    index: Tensor
    following: Tensor


def seed_grid(factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes and longitudes of the seed's maps: every ``factor``-th node of a 1-degree grid, +-180 both kept.

    4 gives 46 x 91, 6 gives 31 x 61.
    """
    return np.linspace(-90, 90, 180 // factor + 1), np.linspace(-180, 180, 360 // factor + 1)


def sphere_grid(step: float) -> tuple[np.ndarray, np.ndarray]:
    """Cell centres without poles or a doubled column: what ``pad_sphere`` continues."""
    return np.arange(-90 + step / 2, 90, step), np.arange(-180, 180, step)


def resample(maps: np.ndarray, lat: np.ndarray, lon: np.ndarray, to_lat: np.ndarray, to_lon: np.ndarray) -> np.ndarray:
    """Bilinear values of maps [..., lat, lon] at other nodes, periodic in longitude, held at the last latitude."""
    longitudes = np.concatenate([lon, [lon[0] + 360]])
    maps = np.concatenate([maps, maps[..., :1]], -1)

    def weights(nodes: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low = np.clip(np.searchsorted(nodes, at, side="right") - 1, 0, len(nodes) - 2)
        return low, np.clip((at - nodes[low]) / (nodes[low + 1] - nodes[low]), 0, 1)

    y, fy = weights(lat, to_lat)
    x, fx = weights(longitudes, (to_lon - lon[0]) % 360 + lon[0])
    rows = maps[..., y, :] * (1 - fy)[:, None] + maps[..., y + 1, :] * fy[:, None]
    return rows[..., x] * (1 - fx) + rows[..., x + 1] * fx


class SlidingWindowBatchProcessor:
    """Finds the unique hourly windows of a batch and looks up what belongs to them.

    Maps are gathered once a unique window (``maps``, ``index``), never once an observation. Drivers have real history:
    they begin before the period. Maps before the first one are the first one.

    Parameters
    ----------
    maps: [T, lat, lon] scaled hourly TEC.
    drivers: [K, D] scaled hourly drivers, whose row ``origin`` is the period's first hour.
    length: S, hours in a window, the present one included.

    map_length: hours of TEC in a window, where it is not the same.

    Raises
    ------
    DataError
        Drivers that don't cover every window.
    """

    def __init__(self, maps: Tensor, drivers: Tensor, origin: int, length: int, map_length: int | None = None):
        self.map_length = map_length or length
        if origin < length - 1 or len(drivers) < origin + len(maps):
            raise DataError(
                f"windows of {length} hours over {len(maps)} hours need space weather from {length - 1} hours before "
                f"the period to its end, there are {origin} hours before it and {len(drivers) - origin} in it; "
                "shorten network.history or give more of the record"
            )
        self.maps, self.drivers, self.origin, self.length = maps, drivers, origin, length
        self.back = torch.arange(1 - length, 1, device=maps.device)
        self.map_back = torch.arange(1 - self.map_length, 1, device=maps.device)

    def windows(self, coords: Tensor) -> tuple[Tensor, Tensor]:
        """Unique hours [N] of coords [B, 4], and the place of each observation among them [B]."""
        hours = coords[:, 3].detach().floor().long().clamp(0, len(self.maps) - 1)
        return torch.unique(hours, return_inverse=True)

    def __call__(self, coords: Tensor, target: Tensor | None = None) -> Batch:
        unique, index = self.windows(coords)
        rows = (unique[:, None] + self.map_back).clamp(min=0)  # [N, S]
        following = self.maps[(unique + 1).clamp(max=len(self.maps) - 1)]  # [N, lat, lon]
        maps = self.maps[rows].unsqueeze(2)  # [N, S, 1, lat, lon]
        return Batch(coords, target, self.drivers[unique[:, None] + self.origin + self.back], maps, index, following)


def sample(fields: Tensor, index: Tensor, lat: Tensor, lon: Tensor, edges: tuple[float, float, float, float]) -> Tensor:
    """Bilinear values of fields [N, C, lat, lon] at B points, each in its own window, without a copy a point.

    All windows are one volume whose depth is the window: a whole depth index reads exactly one window, so one
    ``grid_sample`` of [1, C, N, lat, lon] answers all points.

    Parameters
    ----------
    index: [B] window of each point; lat, lon: [B] degrees; edges: south, north, west, east of the outer nodes. Where
        the columns go once round without a doubled one, the first is read again behind the last.

    Returns
    -------
    [B, C].
    """
    south, north, west, east = edges
    count, columns = fields.shape[0], fields.shape[3]
    if abs((east - west) * columns / (columns - 1) - 360) < 1e-6:
        fields, east = torch.cat([fields, fields[..., :1]], 3), west + 360
    x = 2 * (lon - west) / (east - west) - 1
    y = 2 * (lat - south) / (north - south) - 1
    z = 2 * index.to(x.dtype) / max(count - 1, 1) - 1 if count > 1 else torch.zeros_like(x)
    grid = torch.stack([x, y, z], -1)[None, :, None, None]  # [1, B, 1, 1, 3]
    volume = fields.transpose(0, 1)[None]  # [1, C, N, lat, lon]
    values = functional.grid_sample(volume, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return values[0, :, :, 0, 0].T  # [C, B, 1, 1] -> [B, C]
