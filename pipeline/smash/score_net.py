"""The published score network: an intensity by mark, whose derivative is the time's score, and a free location score.

Li et al. (ICML 2024), equations 9 to 12, and the published `ScoreMatch_module`. What depends on the history alone is
computed once an event (:class:`Conditions`), however many noises or chains there are. The derivative of the log
intensity with respect to time is carried forward beside the value, so that training needs no second derivatives by
reverse mode and sampling needs no graph at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TINY = 1e-10


@dataclass
class Conditions:
    """What the history contributes: n events, U units.

    temporal, spatial: three tensors [n, 1, U] each, added before the first three activations of the two paths.
    mix_time, mix_place, mix_shift: [n, U, U], [n, U, U], [n, 1, U]: the gates, the last layers of both paths and the
        first of the place's head are linear one after the other, so they are one matrix an event for each path.
    """

    temporal: list[Tensor]
    spatial: list[Tensor]
    mix_time: Tensor
    mix_place: Tensor
    mix_shift: Tensor

    def __getitem__(self, rows: slice | Tensor) -> Conditions:
        return Conditions(
            [c[rows] for c in self.temporal],
            [c[rows] for c in self.spatial],
            self.mix_time[rows],
            self.mix_place[rows],
            self.mix_shift[rows],
        )


class ScoreNet(nn.Module):
    """Scores of (time, x, y) in [-1, 1] given the history.

    Parameters
    ----------
    marks: K; 1 for unmarked data.
    cond_dim: width of a branch of the condition.
    branches: which branches the condition holds, in its order.
    gates: learned mixing of the two paths; without, half and half.
    """

    def __init__(self, marks: int, cond_dim: int, branches: tuple[str, ...], units: int = 64, gates: bool = True):
        super().__init__()
        self.marks, self.cond_dim, self.branches = marks, cond_dim, tuple(branches)

        def path(inputs: int) -> nn.ModuleList:
            return nn.ModuleList([nn.Linear(inputs, units), *(nn.Linear(units, units) for _ in range(3))])

        def projections() -> nn.ModuleList:
            return nn.ModuleList(nn.Linear(cond_dim, units) for _ in range(3))

        self.time_path, self.place_path = path(1), path(2)
        self.intensity_head = nn.ModuleList([nn.Linear(units, units), nn.Linear(units, marks)])
        self.place_head = nn.ModuleList([nn.Linear(2 * units, units), nn.Linear(units, 2)])
        self.from_time = projections() if {"time", "mark"} & set(branches) else None
        self.from_place = projections() if "location" in branches else None
        self.from_joint = projections() if "joint" in branches else None
        self.gates = gates
        if gates:
            self.all = nn.Sequential(nn.Linear(cond_dim * len(branches), units), nn.ReLU(), nn.Linear(units, units))
            self.gate_time, self.gate_place = _gate(units), _gate(units)

    def conditions(self, cond: Tensor) -> Conditions:
        """What the condition [n, branches x d] contributes to every evaluation."""
        part = dict(zip(self.branches, cond.split(self.cond_dim, dim=-1), strict=True))
        zero = cond.new_zeros(len(cond), self.place_head[0].out_features)
        temporal, spatial = [zero] * 3, [zero] * 3
        if self.from_joint is not None:
            temporal = spatial = [layer(part["joint"]) for layer in self.from_joint]
        if self.from_time is not None:
            own = part["time"] if "time" in part else torch.zeros_like(part["mark"])
            own = own + part["mark"] if "mark" in part else own
            temporal = [c + layer(own) for c, layer in zip(temporal, self.from_time, strict=True)]
        if self.from_place is not None:
            spatial = [c + layer(part["location"]) for c, layer in zip(spatial, self.from_place, strict=True)]
        if self.gates:
            together = self.all(cond)
            gate_time, gate_place = (gate(together).softmax(-1) for gate in (self.gate_time, self.gate_place))
        else:
            gate_time = gate_place = cond.new_full((len(cond), 2), 0.5)
        return Conditions(
            [c.unsqueeze(1) for c in temporal], [c.unsqueeze(1) for c in spatial], *self._mix(gate_time, gate_place)
        )

    def _mix(self, gate_time: Tensor, gate_place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Both gates [n, 2] and the linear layers around them as one matrix [n, U, U] a path, and one shift."""
        first, second = self.place_head[0].weight.chunk(2, dim=1)  # of the two mixtures
        matrices, shift = [], self.place_head[0].bias
        for path, layer in enumerate((self.time_path[3], self.place_path[3])):
            a, b = gate_time[:, path, None], gate_place[:, path, None]  # [n, 1]
            both = torch.stack([(first @ layer.weight).T, (second @ layer.weight).T])  # [2, U, U], input first
            matrices.append((torch.cat([a, b], 1) @ both.flatten(1)).view(-1, *both.shape[1:]))  # [n, U, U]
            shift = shift + a * (first @ layer.bias) + b * (second @ layer.bias)
        return *matrices, shift.unsqueeze(1)

    def temporal(self, t: Tensor, given: Conditions, slope: bool = True) -> tuple[Tensor, Tensor | None]:
        """Last activations [n, m, U] of the time path at t [n, m], and their derivative with respect to t."""
        first = self.time_path[0]
        pre = t.unsqueeze(-1) * first.weight[:, 0] + (first.bias + given.temporal[0])
        h = pre.relu()
        dh = (pre > 0) * first.weight[:, 0] if slope else None
        for layer, added in zip(self.time_path[1:3], given.temporal[1:], strict=True):
            pre = layer(h) + added
            h = pre.relu()
            dh = F.linear(dh, layer.weight) * (pre > 0) if slope else None
        return h, dh

    def intensity(self, h: Tensor, dh: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Intensity by mark [n, m, K] from the time path's activations, and its derivative with respect to t."""
        last, (inner, out) = self.time_path[3], self.intensity_head
        weight = inner.weight @ last.weight  # two linear layers in one
        pre = F.linear(h, weight, inner.weight @ last.bias + inner.bias)
        a = out(pre.relu())
        rate = F.softplus(a)
        if dh is None:
            return rate, None
        return rate, a.sigmoid() * F.linear(F.linear(dh, weight) * (pre > 0), out.weight)

    def place_score(self, h: Tensor, place: Tensor, given: Conditions) -> Tensor:
        """Score [n, m, 2] of the place [n, m, 2] given the time path's activations h."""
        first = self.place_path[0]
        g = (first(place) + given.spatial[0]).relu()
        for layer, added in zip(self.place_path[1:3], given.spatial[1:], strict=True):
            g = (layer(g) + added).relu()
        mixed = torch.baddbmm(torch.baddbmm(given.mix_shift, h, given.mix_time), g, given.mix_place)
        return self.place_head[1](mixed.relu())

    def forward(self, x: Tensor, mark: Tensor | None, given: Conditions) -> tuple[Tensor, Tensor]:
        """Scores [n, m, 3] of x [n, m, 3] whose marks are mark [n, m], and mark probabilities [n, m, K]."""
        h, dh = self.temporal(x[..., 0], given)
        rate, slope = self.intensity(h, dh)
        total = rate.sum(-1)
        if mark is None or self.marks == 1:
            one, d_one = rate[..., 0], slope[..., 0]
        else:
            one = rate.gather(-1, mark.unsqueeze(-1)).squeeze(-1)
            d_one = slope.gather(-1, mark.unsqueeze(-1)).squeeze(-1)
        time = d_one / (one + TINY) - total
        place = self.place_score(h, x[..., 1:], given)
        return torch.cat([time.unsqueeze(-1), place], dim=-1), rate / (total + TINY).unsqueeze(-1)


def unused_when_published(units: int = 64) -> int:
    """Parameters of the published network that never get a gradient: an embedding of the noise level."""
    return 2 * (units * units + units)


def _gate(units: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(units, units), nn.ReLU(), nn.Linear(units, units), nn.ReLU(), nn.Linear(units, 2))
