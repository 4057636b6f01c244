"""The residual and its second altitude derivative in one forward pass, without differentiating twice."""

from __future__ import annotations

import torch
from torch import Tensor

from .inputs import ALTITUDE_HALF_KM
from .seed_net import ResidualNet
from .siren import jet
from .windows import Batch, sample

ALTITUDE_PLACE = {"seed": 2, "sphere": 9}  # of altitude among the spatial inputs


def altitude_jet(
    model: ResidualNet, batch: Batch, features: Tensor | None, edges: tuple[float, float, float, float]
) -> tuple[Tensor, Tensor]:
    """Residual [B] and d2 residual / dh2 [B] in km^-2.

    Altitude enters the spatial branch alone, as one linear input: time functions, space weather and FiLM's factors
    are constants along it, and only the spatial branch and the decoder carry derivatives.
    """
    coords, basis = batch.coords, model.network.basis
    inputs = model.inputs(coords)
    along = inputs.new_zeros(inputs.shape[1])
    along[ALTITUDE_PLACE[model.network.inputs]] = 1 / ALTITUDE_HALF_KM
    value, first, second = jet(model.spatial, inputs, along)  # each [B, basis]
    if model.network.film:
        factor, shift = model.film(sample(features, batch.index, coords[:, 0], coords[:, 1], edges)).chunk(2, 1)
        value, first, second = value * (1 + factor) + shift, first * (1 + factor), second * (1 + factor)
    time = model.time_functions(coords[:, 3], batch.sw_seq, batch.index)  # [B, basis]
    into, _, middle, _, out = model.decoder
    rows = torch.cat([value, first, second]) @ into.weight[:, :basis].T  # [3 B, 128]
    value, first, second = rows.chunk(3)
    value = value + time @ into.weight[:, basis:].T + into.bias
    rows = torch.cat(_silu(value, first, second)) @ middle.weight.T  # [3 B, 64]
    value, first, second = rows.chunk(3)
    value, _, second = _silu(value + middle.bias, first, second)
    return value @ out.weight[0] + out.bias, second @ out.weight[0]


def _silu(u: Tensor, du: Tensor, ddu: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """u s(u) with the logistic s, and its first and second derivative along the line."""
    s = torch.sigmoid(u)
    rest = s * (1 - s)
    slope, bend = s + u * rest, rest * (2 + u * (1 - 2 * s))
    return u * s, slope * du, bend * du.square() + slope * ddu
