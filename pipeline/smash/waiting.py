"""The law of operational time: mixtures of Weibull laws, and the one that ETAS's own waiting times follow.

Between two events an ETAS expects z = Lambda(t_{i-1}, t_i) events. If it is right, z has the unit exponential law.
Where it isn't (a ball is passed every other second, hardly ever sooner), a law of z fitted to training windows makes
it a modulated renewal process (Cox 1972; Lindqvist, Elvebakk and Heggland 2003): density f(z) lambda(t).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_Z = 1e-7  # operational time below which gaps are not told apart
COMPONENTS = 3
PULL = 1e-3  # of squared logits and logs of the shapes and scales, per event: no component degenerates


@dataclass
class TimeLaw:
    """Mixture of Weibull laws of operational time z, with an atom at 0 where the data have ties.

    log_weight, shape, log_scale: [..., Q]. tie: [...] logit of the atom's probability, None without ties.
    """

    log_weight: Tensor
    shape: Tensor
    log_scale: Tensor
    tie: Tensor | None = None

    def __getitem__(self, rows: Tensor | slice) -> TimeLaw:
        tie = None if self.tie is None else self.tie[rows]
        return TimeLaw(self.log_weight[rows], self.shape[rows], self.log_scale[rows], tie)

    def columns(self) -> TimeLaw:
        """The same laws [n, 1, Q], to meet operational times [n, G]."""
        tie = None if self.tie is None else self.tie[:, None]
        return TimeLaw(self.log_weight[:, None], self.shape[:, None], self.log_scale[:, None], tie)

    def _power(self, z: Tensor) -> tuple[Tensor, Tensor]:
        ratio = z.clamp_min(LEAST_Z).log().unsqueeze(-1) - self.log_scale
        return ratio, torch.exp(self.shape * ratio)

    def log_density(self, z: Tensor, tied: Tensor | None = None) -> Tensor:
        """[...] with respect to z; the log probability of the atom at events that are ``tied``."""
        ratio, power = self._power(z)
        each = self.shape.log() - self.log_scale + (self.shape - 1) * ratio - power
        found = torch.logsumexp(self.log_weight + each, dim=-1)
        if self.tie is None:
            return found
        return torch.where(tied, F.logsigmoid(self.tie), F.logsigmoid(-self.tie) + found)

    def log_survival(self, z: Tensor) -> Tensor:
        """[...] log P(Z > z), so that at 0 the atom is gone."""
        found = torch.logsumexp(self.log_weight - self._power(z)[1], dim=-1)
        return found if self.tie is None else found + F.logsigmoid(-self.tie)

    def quantile(self, u: np.ndarray) -> np.ndarray:
        """Operational time at levels u [...] of one law [Q]: between the points of a table from 1e-7 to 1e3."""
        z = np.geomspace(LEAST_Z, 1e3, 4000)
        cdf = -np.expm1(self.log_survival(torch.as_tensor(z)).double().numpy())
        return np.interp(u, cdf, z)


def unit(components: int = COMPONENTS) -> list[list[float]]:
    """The unit exponential law as a mixture: rows of logits of the weights, log shapes and log scales."""
    return [[0.0] * components] * 3


def law_of(rows: Tensor) -> TimeLaw:
    """The law of rows [3, Q]: logits of the weights, log shapes, log scales."""
    return TimeLaw(F.log_softmax(rows[0], dim=-1), rows[1].exp(), rows[2])


def spread(rows: list[list[float]], components: int) -> Tensor:
    """The same law with more components [3, components]: each is repeated, and its weight shared among its copies."""
    found = torch.tensor(rows)[:, torch.arange(components) % len(rows[0])]
    copies = torch.bincount(torch.arange(components) % len(rows[0]))
    found[0] -= copies[torch.arange(components) % len(rows[0])].log()
    return found


def fit(z: np.ndarray, weight: np.ndarray, tail: np.ndarray, tail_weight: np.ndarray) -> list[list[float]]:
    """Rows of the law that waiting times z [n] follow, of which those of the windows' ends [W] are cut short.

    Maximum likelihood by L-BFGS from three laws around the unit exponential.
    """
    from scipy.optimize import minimize

    z, weight, tail, tail_weight = (torch.as_tensor(np.asarray(a, float)) for a in (z, weight, tail, tail_weight))
    start = np.array([np.zeros(COMPONENTS), np.linspace(0.5, -0.5, COMPONENTS), np.linspace(-0.5, 0.5, COMPONENTS)])

    def value(vector: np.ndarray) -> tuple[float, np.ndarray]:
        rows = torch.tensor(vector.reshape(start.shape), requires_grad=True)
        law = law_of(rows)
        total = (weight * law.log_density(z)).sum() + (tail_weight * law.log_survival(tail)).sum()
        loss = -total / weight.sum() + PULL * (rows**2).mean()
        (slope,) = torch.autograd.grad(loss, rows)
        return loss.item(), slope.numpy().ravel()

    found = minimize(value, start.ravel(), jac=True, method="L-BFGS-B", bounds=[(-4, 4)] * start.size)
    return found.x.reshape(start.shape).tolist()
