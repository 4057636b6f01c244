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
    y'' = cos(u) u'' - sin(u) u'^2. The three streams share one product a layer, and the gradient of the bend is written
    out, so nothing is differentiated twice.

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
        streams = _Bend.apply(streams @ (layer.omega * layer.linear.weight).T, layer.omega * layer.linear.bias)
    return streams.chunk(3)


class _Bend(torch.autograd.Function):
    """Sine of a second-order jet [3 B, H] (u without bias, u', u''), with its gradient in closed form."""

    @staticmethod
    def forward(ctx, streams: Tensor, bias: Tensor) -> Tensor:
        count = len(streams) // 3
        u, du, ddu = streams[:count] + bias, streams[count : 2 * count], streams[2 * count :]
        result = torch.empty_like(streams)
        sine, cosine = torch.sin(u, out=result[:count]), torch.cos(u)
        torch.mul(cosine, du, out=result[count : 2 * count])
        bend = torch.mul(du, du).mul_(sine)
        torch.addcmul(-bend, cosine, ddu, out=result[2 * count :])
        ctx.save_for_backward(streams, result, cosine)
        return result

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        streams, result, cosine = ctx.saved_tensors
        count = len(cosine)
        sine, du, ddu = result[:count], streams[count : 2 * count], streams[2 * count :]
        g, g1, g2 = gradient[:count], gradient[count : 2 * count], gradient[2 * count :]
        out = torch.empty_like(gradient)
        to_u = torch.mul(g, cosine, out=out[:count])
        turned = torch.mul(sine, du)  # s u'
        to_u.addcmul_(g1, turned, value=-1)
        inner = torch.mul(sine, ddu).addcmul_(cosine * du, du)  # s u'' + c u'^2
        to_u.addcmul_(g2, inner, value=-1)
        torch.mul(g1, cosine, out=out[count : 2 * count]).addcmul_(g2, turned, value=-2)
        torch.mul(g2, cosine, out=out[2 * count :])
        return out, to_u.sum(0)
