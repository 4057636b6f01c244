"""Networks of corrections in parameter space: place and time -> thirteen increments, under the analytic profile."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .fields import FIELD_COUNT
from .siren import Siren

FREQUENCIES = (1, 2)
INPUTS = 3 + 2 * len(FREQUENCIES) + 2 + 1
SCALE = (0.25, 18.0, 0.15, 0.12, 0.18, 0.25, 0.2, 0.12, 0.12, 0.10, 0.07, 0.05, 0.06)  # increments per unit output


def inputs(lat: Tensor, lon: Tensor, time_h: Tensor, qd: Tensor, hours: float, omega_time: float) -> Tensor:
    """[n, INPUTS]: unit vector, local-time harmonics that vanish at the poles, magnetic latitude, time over the period.

    ``omega_time`` stretches time against space, so that one band limit serves both.
    """
    phi, lam, magnetic = torch.deg2rad(lat), torch.deg2rad(lon), torch.deg2rad(qd)
    angle = 2 * torch.pi * time_h / 24 + lam
    cosine = phi.cos()
    parts = [cosine * lam.cos(), cosine * lam.sin(), phi.sin()]
    parts += [f for m in FREQUENCIES for f in (cosine**m * (m * angle).sin(), cosine**m * (m * angle).cos())]
    parts += [magnetic.sin(), (2 * magnetic).sin(), omega_time * (2 * time_h / hours - 1)]
    return torch.stack(parts, 1)


class ParameterNet(nn.Module):
    """A band-limited sine network that starts at no correction at all."""

    def __init__(self, hidden: int, omega: float):
        super().__init__()
        self.body = Siren(INPUTS, hidden, 1, hidden, omega, hidden_omega=1.5)
        self.head = nn.Linear(hidden, FIELD_COUNT)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("scale", torch.tensor(SCALE))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Increments [n, 13] in their units, and in units of their scale (what Jb penalises)."""
        unit = self.head(self.body(x))
        return unit * self.scale, unit
