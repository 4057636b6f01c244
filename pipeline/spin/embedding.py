"""Vectors of nodes and of time: learnt tables, or derived from coordinates so that new nodes have them too."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NodeTable(nn.Module):
    """A learnt vector a node, [N, H]; uniform in +-1/sqrt(H) at the start, as published."""

    def __init__(self, nodes: int, size: int):
        super().__init__()
        self.table = nn.Parameter(torch.empty(nodes, size))
        bound = 1 / math.sqrt(size)
        nn.init.uniform_(self.table, -bound, bound)

    def forward(self, places: Tensor | None = None) -> Tensor:
        return self.table


class PlaceEmbedding(nn.Module):
    """[N, H] vectors computed from places, so that a trained model knows nodes that it has never seen.

    Parameters
    ----------
    size: H.
    waves: number of Fourier frequencies a coordinate.
    dimensions: coordinates a node, scaled to about unit variance.
    """

    def __init__(self, size: int, waves: int = 4, dimensions: int = 2):
        super().__init__()
        self.register_buffer("frequency", 2.0 ** torch.arange(waves))
        self.encode = nn.Linear(dimensions * (1 + 2 * waves), size)
        self.out = nn.Linear(size, size)

    def forward(self, places: Tensor) -> Tensor:
        """places [N, D] -> [N, H]"""
        angle = (places[..., None] * self.frequency).flatten(-2)  # [N, D, waves] -> [N, D*waves]
        return self.out(F.relu(self.encode(torch.cat([places, angle.sin(), angle.cos()], -1))))


def node_embedding(kind: str, nodes: int, size: int) -> nn.Module:
    """``table`` or ``places``."""
    return PlaceEmbedding(size) if kind == "places" else NodeTable(nodes, size)


def mlp(inputs: int, hidden: int, layers: int, outputs: int | None = None) -> nn.Sequential:
    """``layers`` hidden layers with ReLU, then a linear map where ``outputs`` is given."""
    parts: list[nn.Module] = []
    for layer in range(layers):
        parts += [nn.Linear(inputs if layer == 0 else hidden, hidden), nn.ReLU()]
    if outputs is not None:
        parts.append(nn.Linear(hidden if layers else inputs, outputs))
    return nn.Sequential(*parts)


def sinusoids(steps: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[T, H] sinusoidal encoding of the place in the window (Vaswani et al. 2017); H is even."""
    step = torch.arange(steps, dtype=dtype, device=device)[:, None]
    rate = torch.exp(torch.arange(0, size, 2, dtype=dtype, device=device) * (-math.log(10_000.0) / size))
    return torch.stack([(step * rate).sin(), (step * rate).cos()], 2).flatten(1)  # [T, H/2, 2] -> [T, H]


class PositionalEncoder(nn.Module):
    """Query of every cell out of its node and its time (paper, section 4.2): [B, N, T, H].

    Parameters
    ----------
    inputs: width of the time encoding u.
    size: H.
    layers: hidden layers (one linear map follows).
    """

    def __init__(self, inputs: int, size: int, layers: int = 2):
        super().__init__()
        self.time = nn.Linear(inputs, size)
        self.net = mlp(size, size, layers, size)

    def forward(self, u: Tensor, nodes: Tensor) -> Tensor:
        """u [B, T, U], nodes [N, H] -> [B, N, T, H]"""
        query = F.leaky_relu(self.time(u)[:, None] + nodes[:, None])  # [B, 1, T, H] + [N, 1, H]
        return self.net(query) + sinusoids(u.shape[1], nodes.shape[-1], u.dtype, u.device)
