"""Losses of the point network: the seed's physics terms, and their repaired forms."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def derivatives(field: Tensor, coords: Tensor, second: bool = True) -> tuple[Tensor, Tensor | None]:
    """First derivatives of field [B] with respect to coords [B, 4], and the second one in altitude [B].

    One shared first pass, kept in the graph so that losses on derivatives can be learnt from.
    """
    (first,) = torch.autograd.grad(field.sum(), coords, create_graph=True)  # [B, 4]
    if not second:
        return first, None
    (again,) = torch.autograd.grad(first[:, 2].sum(), coords, create_graph=True)
    return first, again[:, 2]


def chapman_seed(second: Tensor) -> Tensor:
    """Mean square of d2 log10 Ne / dh2 in km^-2, of the whole field (seed 5.1).

    Over a true profile it is about 2e-8 at the peak: with the seed's weight it does nothing.
    """
    return second.square().mean()


def curvature(second: Tensor, scale_height_km: float = 50.0) -> Tensor:
    """Mean square of the RESIDUAL's second derivative per squared scale height: smooth corrections, free profile."""
    return (second * scale_height_km**2).square().mean()


def data_loss(residual: Tensor, target: Tensor, weight: Tensor | None = None, delta: float | None = None) -> Tensor:
    """Squared error (the seed's), weighted where given; Huber with threshold ``delta`` in dex."""
    if delta is None:
        error = (residual - target).square()
    else:
        error = 2 * functional.huber_loss(residual, target, reduction="none", delta=delta)
    return error.mean() if weight is None else (weight * error).sum() / weight.sum()
