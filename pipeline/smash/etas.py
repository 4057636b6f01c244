"""ETAS with marks: a self-exciting process whose past events add to the rate near them (Ogata 1988, 1998).

Rate of mark k at time t of a window and place x, given the window's own past:

    lambda_k(t, x) = mu(t) f_bg(x, k) + sum_{j<i} sum_r a_r(t; t_j, m_j) s_r(x - x_j; m_j) M_r[m_j, k]

``fast``   Omori's law A (dt + c)^-p, places by a power law (Ogata 1998)
``slow``   A exp(-dt / tau) / tau: activity that lasts for weeks, near the same places
``level``  A / (b + t): every event so far raises the level for the rest of the window. With the background's
           mu_1 b / (b + t) this is the posterior mean of a window's own Poisson rate under a Gamma prior

A window begins without its past, which is why the background has a part that falls with the time in the window.
All methods work elementwise on tensors of any leading shape [...], so that ragged pairs and padded batches both serve.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PARTS = ("fast", "slow", "level")


class Etas(nn.Module):
    """The rate's parts.

    Parameters
    ----------
    marks, components: K and the number C of background densities.
    parts: which of ``fast``, ``slow``, ``level`` there are: R of them.
    scale: factors of the two coordinates before distances are taken.
    window: length of a window, for starting values [time].
    distance: typical distance between neighbours in scaled coordinates, for starting values.
    rate: mean events per unit of time, for starting values.
    lattice: (cells across, cells up, size) where places are lattice points, else None.
    falling: whether the background has the part that falls with the time in the window.
    narrowest: floor of the places' scale d: where addresses come back exactly, a density has no other bound.
    """

    def __init__(
        self,
        marks: int,
        components: int,
        parts: tuple[str, ...] = PARTS,
        scale: tuple[float, float] = (1.0, 1.0),
        window: float = 30.0,
        distance: float = 1.0,
        rate: float = 1.0,
        lattice: tuple[int, int, float] | None = None,
        falling: bool = True,
        narrowest: float = 0.0,
    ):
        super().__init__()
        self.given = {
            "marks": marks,
            "components": components,
            "parts": list(parts),
            "scale": list(scale),
            "window": window,
            "distance": distance,
            "rate": rate,
            "lattice": lattice,
            "falling": falling,
            "narrowest": narrowest,
        }
        self.narrowest = narrowest
        self.parts, self.falling, self.lattice = tuple(parts), falling, lattice
        r = len(parts)
        self.register_buffer("log_jacobian", torch.tensor(float(scale[0] * scale[1])).log(), persistent=False)
        self.register_buffer("scale", torch.tensor(scale), persistent=False)
        log = lambda value: torch.tensor(float(value)).log()  # noqa: E731
        self.log_mu = nn.Parameter(log(0.5 * rate))
        if falling:
            self.log_mu_falling = nn.Parameter(log(0.1 * rate))
        if falling or "level" in parts:
            self.log_b = nn.Parameter(log(0.2 * window))
        productivity = {"fast": 0.02, "slow": 0.1, "level": 0.1}
        self.log_a = nn.Parameter(torch.stack([log(productivity[part]).expand(marks) for part in parts]))
        if "fast" in parts:
            self.log_c = nn.Parameter(log(3e-3 * window))
            self.log_p = nn.Parameter(log(1.1))
        if "slow" in parts:
            self.log_tau = nn.Parameter(log(0.3 * window))
        starts = {"fast": 0.1, "slow": 0.2, "level": 0.3}
        self.log_d = nn.Parameter(torch.stack([log(starts[part] * distance).expand(marks) for part in parts]))
        self.log_q = nn.Parameter(log(0.5).expand(r).clone())  # q - 1
        self.mark_logits = nn.Parameter(torch.zeros(r, marks, marks))
        self.background_mark = nn.Parameter(torch.zeros(marks))
        self.background_mix = nn.Parameter(torch.zeros(marks, components))

    def background_rate(self, t: Tensor) -> Tensor:
        """mu(t) [...] at times in the window."""
        rate = self.log_mu.exp().expand_as(t)
        if self.falling:
            b = self.log_b.exp()
            rate = rate + self.log_mu_falling.exp() * b / (b + t)
        return rate

    def background_integral(self, t0: Tensor, t1: Tensor) -> Tensor:
        """Events expected of the background between two times of the window [...]."""
        total = self.log_mu.exp() * (t1 - t0)
        if self.falling:
            b = self.log_b.exp()
            total = total + self.log_mu_falling.exp() * b * torch.log((b + t1) / (b + t0))
        return total

    def trigger(self, t: Tensor, parent: Tensor, mark: Tensor) -> Tensor:
        """Rate at times t [...] that events at ``parent`` (times) with ``mark`` add, by part [..., R]."""
        found = []
        for r, part in enumerate(self.parts):
            log_a = self.log_a[r][mark]
            if part == "fast":
                found.append(torch.exp(log_a - self.log_p.exp() * torch.log(t - parent + self.log_c.exp())))
            elif part == "slow":
                tau = self.log_tau.exp()
                found.append(torch.exp(log_a - (t - parent) / tau) / tau)
            else:
                found.append(log_a.exp() / (self.log_b.exp() + t))
        return torch.stack(found, dim=-1)

    def trigger_integral(self, t0: Tensor, t1: Tensor, parent: Tensor, mark: Tensor) -> Tensor:
        """Events that one parent is expected to add between t0 and t1 (both at or after it), by part [..., R]."""
        found = []
        for r, part in enumerate(self.parts):
            a = self.log_a[r][mark].exp()
            if part == "fast":
                c, p = self.log_c.exp(), self.log_p.exp()
                # ((t1 + c)^(1-p) - (t0 + c)^(1-p)) / (1-p), written so that p = 1 is no special case
                first, ratio = torch.log(t0 - parent + c), torch.log((t1 - parent + c) / (t0 - parent + c))
                found.append(a * torch.exp((1 - p) * first) * ratio * _relative((1 - p) * ratio))
            elif part == "slow":
                tau = self.log_tau.exp()
                found.append(a * torch.exp(-(t0 - parent) / tau) * -torch.expm1(-(t1 - t0) / tau))
            else:
                b = self.log_b.exp()
                found.append(a * torch.log((b + t1) / (b + t0)))
        return torch.stack(found, dim=-1)

    def scales(self) -> Tensor:
        """d [R, K] of the places, in scaled coordinates."""
        return torch.sqrt((2 * self.log_d).exp() + self.narrowest**2)

    def decays(self) -> Tensor:
        """q - 1 [R]; at most 1 where d has a floor, so that half of the children lie beyond d: steep is narrow, too."""
        return (self.log_q.clamp(max=0.0) if self.narrowest else self.log_q).exp()

    def log_space(self, r2: Tensor, mark: Tensor) -> Tensor:
        """Log density of a child's place at squared (scaled) distance r2 [...] from its parent [..., R].

        The power law (q - 1) / pi d^(2q - 2) (r^2 + d^2)^-q, in catalogue units; on a lattice the same law normalised
        over the lattice's displacements.
        """
        found = []
        for r in range(len(self.parts)):
            d2, q = self.scales()[r] ** 2, 1 + self.decays()[r]
            if self.lattice is None:
                top = torch.log((q - 1) / torch.pi) + (q - 1) * d2.log() + self.log_jacobian
            else:
                top = -self._lattice_sum(d2, q)
            found.append(top[mark] - q * torch.log(r2 + d2[mark]))
        return torch.stack(found, dim=-1)

    def _lattice_sum(self, d2: Tensor, q: Tensor) -> Tensor:
        """log of the sum of (r^2 + d^2)^-q times the cell's area over all displacements [K]."""
        across, up, size = self.lattice
        x = torch.arange(int(across), dtype=d2.dtype) * size
        y = torch.arange(int(up), dtype=d2.dtype) * size
        times = torch.outer(1 + (x > 0).to(d2.dtype), 1 + (y > 0).to(d2.dtype))  # a displacement and its mirror
        r2 = (x[:, None] ** 2 + y**2)[..., None] + d2  # [X, Y, K]
        return torch.log((times[..., None] * r2**-q).sum(dim=(0, 1)) * size**2)

    def log_mark(self) -> Tensor:
        """log M [R, parent's mark, child's mark]."""
        return F.log_softmax(self.mark_logits, dim=-1)

    def log_background(self, features: Tensor) -> Tensor:
        """log f_bg(x, k) [..., K] from the background's densities [..., C, K]."""
        mix = F.log_softmax(self.background_mix, dim=-1).T  # [C, K]
        return F.log_softmax(self.background_mark, dim=-1) + torch.logsumexp(features + mix, dim=-2)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that :meth:`from_dict` makes the same model of."""
        return {"given": self.given, "parameters": {name: p.tolist() for name, p in self.named_parameters()}}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Etas:
        given = dict(data["given"])
        given["parts"], given["scale"] = tuple(given["parts"]), tuple(given["scale"])
        given["lattice"] = tuple(given["lattice"]) if given["lattice"] else None
        model = cls(**given)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(torch.tensor(data["parameters"][name]))
        return model


def _relative(x: Tensor) -> Tensor:
    """(exp(x) - 1) / x, with its limit 1 at 0 and gradients that stay finite there."""
    small = x.abs() < 1e-3
    safe = torch.where(small, torch.ones_like(x), x)
    return torch.where(small, 1 + x / 2 + x * x / 6, torch.expm1(safe) / safe)
