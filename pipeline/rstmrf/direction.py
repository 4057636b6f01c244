"""The horizontal direction that TEC gives to the electron density: targets, metric and gate."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .inputs import DEGREE, EARTH_KM


def tec_gradient(tec: np.ndarray, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """Finite-difference gradient of ln TEC per km of arc, [2 (north, east), T, lat, lon].

    Central differences in longitude are periodic; at the outermost rows latitude differences are one-sided. East
    differences are divided by cos(lat), which a comparison per pixel leaves out.

    Parameters
    ----------
    tec: [T, lat, lon] TECU on equally spaced nodes, longitudes round the whole circle without a doubled column.
    """
    log = np.log(np.maximum(tec, 0.1))
    arc = EARTH_KM * np.pi / 180
    north = np.gradient(log, lat * arc, axis=1)
    step = float(lon[1] - lon[0]) * arc
    cosine = np.maximum(np.cos(np.radians(lat)), np.cos(np.radians(89.0)))[None, :, None]
    east = (np.roll(log, -1, 2) - np.roll(log, 1, 2)) / (2 * step * cosine)
    return np.stack([north, east]).astype(np.float32)


def per_km(gradient: Tensor, lat: Tensor) -> Tensor:
    """Derivatives per degree of (lat, lon) [B, 2] as derivatives per km of arc (north, east)."""
    cosine = (lat * DEGREE).cos().clamp(min=0.017)
    arc = EARTH_KM * DEGREE
    return torch.stack([gradient[:, 0] / arc, gradient[:, 1] / (arc * cosine)], 1)


def gate(alt_km: Tensor, hmf2_km: Tensor, size: Tensor, width_km: float = 60.0, typical: float = 3e-4) -> Tensor:
    """Weight of the direction at a point: near the peak, where densities follow TEC, and where TEC has a slope.

    Over simulated truth the cosine between the two gradients is .98 at the peak and .30 at 120 km.

    Parameters
    ----------
    size: |grad ln TEC| per km; ``typical``: where the weight reaches one.
    """
    return torch.exp(-(((alt_km - hmf2_km) / width_km) ** 2)) * (size / typical).clamp(max=1)


def direction_loss(gradient: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean of 1 - cos(angle) between gradients [B, 2] and targets [B, 2], optionally weighted (seed 5.2)."""
    distance = 1 - functional.cosine_similarity(gradient, target, dim=1, eps=1e-12)
    if weight is None:
        return distance.mean()
    return (weight * distance).sum() / weight.sum().clamp(min=1e-6)
