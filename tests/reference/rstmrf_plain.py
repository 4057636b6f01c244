"""Plain counterparts of R-STMRF's fast kernels, and the published initialisation that is a dead network."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class DeadSiren(nn.Module):
    """Hidden layers initialised for a factor of 30 that their forward pass leaves out, as in the published code."""

    def __init__(self, inputs: int, hidden: int, layers: int, outputs: int, omega: float = 30.0):
        super().__init__()
        widths = [inputs] + [hidden] * (layers + 1) + [outputs]
        self.omega = omega
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
        for place, linear in enumerate(self.linears):
            bound = 1 / linear.in_features if place == 0 else math.sqrt(6 / linear.in_features) / omega
            nn.init.uniform_(linear.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sin(self.omega * self.linears[0](x))
        for linear in self.linears[1:]:
            x = torch.sin(linear(x))
        return x


def sample_copied(fields: Tensor, index: Tensor, lat: Tensor, lon: Tensor, edges: tuple) -> Tensor:
    """A copy of the fields for every point, then one bilinear look-up a point: [B, C]."""
    south, north, west, east = edges
    x, y = 2 * (lon - west) / (east - west) - 1, 2 * (lat - south) / (north - south) - 1
    grid = torch.stack([x, y], -1)[:, None, None]  # [B, 1, 1, 2]
    copied = fields[index]  # [B, C, lat, lon]
    values = functional.grid_sample(copied, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return values[:, :, 0, 0]


def nested_second(function, x: Tensor, place: int) -> tuple[Tensor, Tensor]:
    """Value [B] and second derivative [B] with respect to input ``place`` by two passes of autograd."""
    x = x.requires_grad_()
    value = function(x)
    (first,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first[:, place].sum(), x, create_graph=True)
    return value, second[:, place]


def conv_lstm_cell(weight: Tensor, bias: Tensor, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """One step by Shi et al.'s equations, gate by gate (order i, f, o, g), zero-padded."""
    both = torch.cat([x, hidden], 1)
    wi, wf, wo, wg = weight.chunk(4)
    bi, bf, bo, bg = bias.chunk(4)
    i = torch.sigmoid(functional.conv2d(both, wi, bi, padding=1))
    f = torch.sigmoid(functional.conv2d(both, wf, bf, padding=1))
    o = torch.sigmoid(functional.conv2d(both, wo, bo, padding=1))
    g = torch.tanh(functional.conv2d(both, wg, bg, padding=1))
    cell = f * cell + i * g
    return o * torch.tanh(cell), cell
