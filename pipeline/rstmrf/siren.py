"""Sine networks (SIREN, Sitzmann et al. 2020, eq. 3 and section 3.2) and their exact altitude derivatives."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Sine(nn.Module):
    """One layer sin(omega (W x + b)).

    The factor omega stands in the forward pass AND in the initialisation of every layer; an initialisation divided by
    omega without the factor in the forward pass is a dead network (gradients 1e-5 in place of 3).
    """

    def __init__(self, inputs: int, outputs: int, omega: float, first: bool = False):
        super().__init__()
        self.omega = omega
        self.linear = nn.Linear(inputs, outputs)
        bound = 1 / inputs if first else math.sqrt(6 / inputs) / omega
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.omega * self.linear(x))


class Siren(nn.Module):
    """Sine layers throughout: the outputs are basis functions between -1 and 1.

    Parameters
    ----------
    inputs, hidden, outputs: widths.
    layers: hidden -> hidden layers between the first layer and the last.
    omega: frequency of the first layer, the band limit of what can be represented.
    hidden_omega: frequency of the others; it cancels out of their initial values and scales their learning.
    """

    def __init__(self, inputs: int, hidden: int, layers: int, outputs: int, omega: float, hidden_omega: float = 30.0):
        super().__init__()
        widths = [hidden] * (layers + 1) + [outputs]
        self.sines = nn.ModuleList(
            [Sine(inputs, hidden, omega, first=True)]
            + [Sine(a, b, hidden_omega) for a, b in zip(widths[:-1], widths[1:], strict=True)]
        )

    def forward(self, x: Tensor) -> Tensor:
        for sine in self.sines:  # x: [B, inputs] -> [B, hidden] -> [B, outputs]
            x = sine(x)
        return x


def jet(network: Siren, x: Tensor, direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Value, first and second derivative of a sine network along straight lines, carried forward layer by layer.

    With u = omega (W x + b): u' = omega W x', u'' = omega W x'', and sin gives y' = cos(u) u',
    y'' = cos(u) u'' - sin(u) u'^2. The three streams share one product a layer, and nothing is differentiated twice.

    Parameters
    ----------
    x: [B, inputs]; direction: [inputs], the derivative of x along the line.

    Returns
    -------
    three tensors [B, outputs].
    """
    first, *others = network.sines
    u = first.omega * first.linear(x)  # [B, hidden]
    du = first.omega * (first.linear.weight @ direction)  # [hidden]: the same in every row
    sine, cosine = torch.sin(u), torch.cos(u)
    streams = torch.cat([sine, cosine * du, -sine * du.square()])  # [3 B, hidden]
    for layer in others:
        value, du, ddu = (streams @ (layer.omega * layer.linear.weight).T).chunk(3)  # each [B, hidden]
        u = value + layer.omega * layer.linear.bias
        sine, cosine = torch.sin(u), torch.cos(u)
        streams = torch.cat([sine, cosine * du, cosine * ddu - sine * du.square()])
    return streams.chunk(3)
