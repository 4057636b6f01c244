"""Convolutional LSTM over TEC maps (Shi et al. 2015, eq. 3 without peepholes) and padding on the sphere."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

Padding = Literal["zeros", "sphere"]


def pad_sphere(maps: Tensor, width: int = 1) -> Tensor:
    """Continue maps beyond their edges as a sphere does: round in longitude, over the poles half a turn away.

    Parameters
    ----------
    maps: [..., lat, lon]; longitudes even in number, equally spaced, without a doubled column; latitudes without rows
        at the poles (cell centres).

    Returns
    -------
    [..., lat + 2 width, lon + 2 width].
    """
    if maps.shape[-1] % 2:
        raise ValueError(f"half a turn needs an even number of longitudes, got {maps.shape[-1]}")
    opposite = maps.roll(maps.shape[-1] // 2, -1)  # what lies beyond the pole
    south, north = opposite[..., :width, :].flip(-2), opposite[..., -width:, :].flip(-2)
    maps = torch.cat([south, maps, north], -2)
    return torch.cat([maps[..., -width:], maps, maps[..., :width]], -1)


class SphereConv(nn.Conv2d):
    """3 x 3 convolution, zero-padded (the seed's) or continued as on a sphere."""

    def __init__(self, inputs: int, outputs: int, padding: Padding):
        super().__init__(inputs, outputs, 3, padding=1 if padding == "zeros" else 0)
        self.sphere = padding == "sphere"

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(pad_sphere(maps) if self.sphere else maps)


class ConvLSTMCell(nn.Module):
    """One layer: gates from one convolution over [input, hidden]."""

    def __init__(self, inputs: int, channels: int, padding: Padding):
        super().__init__()
        self.channels = channels
        self.gates = SphereConv(inputs + channels, 4 * channels, padding)

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        # x: [N, inputs, lat, lon], hidden, cell: [N, channels, lat, lon]
        i, f, o, g = self.gates(torch.cat([x, hidden], 1)).chunk(4, 1)  # each [N, channels, lat, lon]
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(cell), cell


class ConvLSTM(nn.Module):
    """Layers of cells over a sequence of maps; the last hidden maps of the last layer are the features.

    ``checkpointed`` recomputes each step in the backward pass instead of keeping its gates.
    """

    def __init__(
        self, channels: int = 16, layers: int = 1, padding: Padding = "zeros", checkpointed: bool = False
    ) -> None:
        super().__init__()
        self.checkpointed = checkpointed
        self.cells = nn.ModuleList(ConvLSTMCell(1 if k == 0 else channels, channels, padding) for k in range(layers))

    def forward(self, maps: Tensor) -> Tensor:
        # maps: [N, S, 1, lat, lon] -> features [N, channels, lat, lon]
        steps = maps.unbind(1)
        for cell in self.cells:
            shape = (maps.shape[0], cell.channels, *maps.shape[-2:])
            hidden = state = maps.new_zeros(shape)
            outputs = []
            for x in steps:
                if self.checkpointed and torch.is_grad_enabled():
                    hidden, state = checkpoint(cell, x, hidden, state, use_reentrant=False)
                else:
                    hidden, state = cell(x, hidden, state)
                outputs.append(hidden)
            steps = outputs
        return steps[-1]


def direction_head(channels: int, padding: Padding) -> nn.Module:
    """[N, channels, lat, lon] -> [N, 2, lat, lon]: (dTEC/dlat, dTEC/dlon) up to its length (the seed's A3)."""
    return SphereConv(channels, 2, padding)


def next_map_head(channels: int, padding: Padding) -> nn.Module:
    """[N, channels, lat, lon] -> [N, 1, lat, lon]: the next map, the ConvLSTM's own supervised task."""
    return SphereConv(channels, 1, padding)


def next_map_loss(head: nn.Module, features: Tensor, following: Tensor) -> Tensor:
    """Mean squared error of the next map [N, lat, lon], in the maps' scaled units."""
    return functional.mse_loss(head(features)[:, 0], following)
