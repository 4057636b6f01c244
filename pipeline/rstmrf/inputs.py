"""Where an observation is, as the point network sees it: the seed's plain angles, or coordinates without seams."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

ALTITUDE_MID_KM, ALTITUDE_HALF_KM = 310.0, 190.0  # 120-500 km onto -1..1
DEGREE = torch.pi / 180


def scaled_altitude(alt_km: Tensor) -> Tensor:
    return (alt_km - ALTITUDE_MID_KM) / ALTITUDE_HALF_KM


def local_time_angle(time_h: Tensor, lon: Tensor, start_hour: float = 0.0) -> Tensor:
    """Local solar time as an angle, 2 pi a day; ``start_hour``: universal time at time_h = 0."""
    return (time_h + start_hour) * (2 * torch.pi / 24) + lon * DEGREE


def seed_inputs(coords: Tensor, start_hour: float = 0.0) -> Tensor:
    """The seed's [lat_n, lon_n, alt_n, sin lt, cos lt] of coords [B, 4] (lat, lon, km, h) -> [B, 5].

    It has a seam at +-180 degrees, and each pole is a whole line of different points.
    """
    lat, lon, alt, time = coords.unbind(1)
    angle = local_time_angle(time, lon, start_hour)
    return torch.stack([lat / 90, lon / 180, scaled_altitude(alt), angle.sin(), angle.cos()], 1)


def sphere_inputs(coords: Tensor, qd: Tensor, start_hour: float = 0.0) -> Tensor:
    """Unit vector, two local-time harmonics, magnetic latitude and altitude -> [B, 10].

    Harmonics of order m carry cos(lat)^m, so that they are one value at the poles as every smooth field is.

    Parameters
    ----------
    qd: [B] quasi-dipole latitude, degrees.
    """
    lat, lon, alt, time = coords.unbind(1)
    angle = local_time_angle(time, lon, start_hour)
    sin_lat, cos_lat = (lat * DEGREE).sin(), (lat * DEGREE).cos()
    x, y = cos_lat * (lon * DEGREE).cos(), cos_lat * (lon * DEGREE).sin()
    harmonics = [f for m in (1, 2) for f in (cos_lat**m * (m * angle).sin(), cos_lat**m * (m * angle).cos())]
    magnetic = [(qd * DEGREE).sin(), (2 * qd * DEGREE).sin()]
    return torch.stack([x, y, sin_lat, *harmonics, *magnetic, scaled_altitude(alt)], 1)


def bilinear(table: Tensor, south: float, west: float, step: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Differentiable look-up in a table [lat, lon] that starts at (south, west), periodic in longitude."""
    rows, columns = table.shape

    def at(lat: Tensor, lon: Tensor) -> Tensor:
        y, x = ((lat - south) / step).clamp(0, rows - 1), ((lon - west) % 360) / step
        j, i = y.detach().floor().long().clamp(max=rows - 2), x.detach().floor().long()
        fy, fx = y - j, x - i
        i, following = i % columns, (i + 1) % columns
        lower = table[j, i] * (1 - fx) + table[j, following] * fx
        upper = table[j + 1, i] * (1 - fx) + table[j + 1, following] * fx
        return lower * (1 - fy) + upper * fy

    return at
