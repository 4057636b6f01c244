"""The horizontal direction that TEC gives to the electron density: metric, gate and loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .inputs import DEGREE
from .tec import KM_PER_DEGREE


def per_km(gradient: Tensor, lat: Tensor) -> Tensor:
    """Derivatives per degree of (lat, lon) [B, 2] as derivatives per km of arc (north, east)."""
    cosine = (lat * DEGREE).cos().clamp(min=0.017)
    return torch.stack([gradient[:, 0] / KM_PER_DEGREE, gradient[:, 1] / (KM_PER_DEGREE * cosine)], 1)


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
