"""SPIN's layers: additive attention between time steps of neighbouring nodes and of a node with itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .kernel import Pairs, attend, attention


@dataclass(frozen=True)
class Graph:
    """A directed graph; an edge carries what its source has to its target.

    Attributes
    ----------
    source, target: [E] int64 node indices.
    weight: [E] factor of an edge's messages, or None: one.
    type: [E] int64, or None: all edges are alike.
    """

    source: Tensor
    target: Tensor
    weight: Tensor | None = None
    type: Tensor | None = None

    def rows(self, batch: int, nodes: int) -> tuple[Tensor, Tensor]:
        """[B*E] rows of the edges' ends in a batch of B graphs, whose nodes are B*N rows."""
        offset = (torch.arange(batch, device=self.source.device) * nodes)[:, None]
        return (self.source + offset).view(-1), (self.target + offset).view(-1)  # [B, E] -> [B*E]


def reach(steps: int, causal: bool, distance: int | None, own: bool, device: torch.device) -> Tensor | None:
    """[T, S] which source steps a target step may see, None where all.

    Parameters
    ----------
    causal: only steps that are not later.
    distance: at most so many steps away; None: any.
    own: whether a step sees itself.
    """
    if not causal and distance is None and own:
        return None
    step = torch.arange(steps, device=device)
    ahead = step[None] - step[:, None]  # [T, S]
    seen = torch.ones(steps, steps, dtype=torch.bool, device=device)
    if causal:
        seen &= ahead <= 0
    if distance is not None:
        seen &= ahead.abs() <= distance
    return seen if own else seen & (ahead != 0)


class AdditiveAttention(nn.Module):
    """Additive attention from the steps of a source row to the steps of a target row (paper, eq. 5-8).

    Parameters
    ----------
    source_size, target_size, size: widths H of the sources, of the targets and of the output.
    message_size: width inside the message network.
    message_layers: hidden layers of the message network (one linear map follows).
    softmax: weights normalised over the source steps of an edge; otherwise an independent sigmoid gate for each.
    skip: add a linear map of the target to the output.
    types: number of edge types that have a vector of their own, 0: none.
    """

    def __init__(
        self,
        source_size: int,
        target_size: int,
        size: int,
        message_size: int | None = None,
        message_layers: int = 1,
        softmax: bool = True,
        skip: bool = False,
        types: int = 0,
    ):
        super().__init__()
        message_size = message_size or size
        self.softmax = softmax
        self.source = nn.Linear(source_size, size)
        self.target = nn.Linear(target_size, size, bias=False)
        for linear in (self.source, self.target):
            nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(self.source.bias)
        self.skip = nn.Linear(target_size, size, bias=False) if skip else None
        self.slope = nn.ParameterList([nn.Parameter(torch.full((1,), 0.2))])  # the first as published
        self.slope.extend([nn.Parameter(torch.full((1,), 0.25)) for _ in range(message_layers)])
        self.message = nn.ModuleList(
            [nn.Linear(size if m == 0 else message_size, message_size) for m in range(message_layers)]
        )
        self.out = nn.Linear(message_size if message_layers else size, size)
        self.gate = nn.Linear(size, 1, bias=not softmax)
        self.kind = nn.Embedding(types, size) if types else None
        if self.kind is not None:
            nn.init.zeros_(self.kind.weight)

    def _kernel(self, source: Tensor, target: Tensor, types: Tensor | None) -> dict:
        """Arguments of the kernel: projected rows, and the gate as the last activation sees it."""
        gate = self.gate.weight[0] @ self.out.weight  # (W_out' w), [H]
        shift = self.out.bias @ self.gate.weight[0]
        if self.gate.bias is not None:
            shift = shift + self.gate.bias[0]
        bias = self.kind(types) if self.kind is not None and types is not None else None
        return {
            "source": self.source(source),
            "target": self.target(target),
            "gate": gate,
            "shift": shift,
            "slopes": torch.cat(list(self.slope)),
            "linear": [tensor for linear in self.message for tensor in (linear.weight, linear.bias)],
            "bias": bias,
            "softmax": self.softmax,
        }

    def forward(
        self,
        source: Tensor,
        target: Tensor,
        ends: tuple[Tensor, Tensor],
        mask: Tensor | None = None,
        reach: Tensor | None = None,
        weight: Tensor | None = None,
        types: Tensor | None = None,
        return_attention: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Messages summed over edges.

        Parameters
        ----------
        source, target: [R, S, H], [R', T, H'] rows (a node of one graph of the batch each).
        ends: [E] source rows, [E] target rows.
        mask: [R, S] bool, source cells that may be seen; None: all.
        reach: [T, S] bool; None: all.
        weight: [E]; None: one. types: [E]; None: alike.
        return_attention: also give [E, T, S] alpha, without gradient.

        Returns
        -------
        [R', T, H] output and alpha (or None).
        """
        pairs = Pairs.of(*ends, source.shape[1], mask, reach, weight)
        arguments = self._kernel(source, target, types)
        summed, mass = attend(pairs=pairs, **arguments)
        out = F.linear(summed, self.out.weight) + mass * self.out.bias
        if self.skip is not None:
            out = out + self.skip(target)
        return out, attention(pairs=pairs, **arguments) if return_attention else None

    def messages(self, source: Tensor, target: Tensor, ends: tuple[Tensor, Tensor], types: Tensor | None = None):
        """[E, T, S, H] every message, for checks on small graphs: the sum of alpha times it is the output."""
        hidden = self.source(source)[ends[0]][:, None] + self.target(target)[ends[1]][:, :, None]  # [E, T, S, H]
        if self.kind is not None and types is not None:
            hidden = hidden + self.kind(types)[:, None, None]
        hidden = F.prelu(hidden, self.slope[0])
        for linear, slope in zip(self.message, list(self.slope)[1:], strict=True):
            hidden = F.prelu(linear(hidden), slope)
        return self.out(hidden)


class GraphAttention(nn.Module):
    """One layer of SPIN: cross-attention to the neighbours, self-attention in time, skip, norm.

    Parameters
    ----------
    size: H.
    message_layers: of the message networks.
    self_attention: whether a node attends to its own other steps.
    mask_cross: whether neighbours' unobserved cells are hidden (the first eta layers).
    types: number of edge types that are told apart.
    causal, distance: what of time may be seen, by both attentions.
    degree_norm: divide the sum over the neighbours by their number (published: a plain sum).
    dropout: on what the attentions give.
    """

    def __init__(
        self,
        size: int,
        message_layers: int = 1,
        self_attention: bool = True,
        mask_cross: bool = True,
        types: int = 0,
        causal: bool = False,
        distance: int | None = None,
        degree_norm: bool = False,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.mask_cross, self.causal, self.distance, self.degree_norm = mask_cross, causal, distance, degree_norm
        self.cross = AdditiveAttention(size, size, size, message_layers=message_layers, types=types)
        self.self = AdditiveAttention(size, size, size, message_layers=message_layers) if self_attention else None
        self.skip = nn.Linear(size, size)
        nn.init.zeros_(self.skip.bias)
        self.norm = nn.LayerNorm(size)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, h: Tensor, graph: Graph, mask: Tensor, return_attention: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """h [B, N, T, H], mask [B, N, T] bool -> h [B, N, T, H] and, if asked for, attention

        ``cross`` [B, E, T, S] and ``self`` [B, N, T, S] (target step, source step).
        """
        batch, nodes, steps, size = h.shape
        rows, seen = h.reshape(-1, steps, size), mask.reshape(-1, steps)  # [B*N, T, H], [B*N, T]
        ends = graph.rows(batch, nodes)
        weight = graph.weight
        if self.degree_norm:
            degree = torch.zeros(nodes, dtype=h.dtype, device=h.device).index_add_(
                0, graph.target, torch.ones_like(graph.target, dtype=h.dtype) if weight is None else weight
            )
            inverse = 1 / degree.clamp(min=torch.finfo(h.dtype).tiny)[graph.target]
            weight = inverse if weight is None else weight * inverse
        out, alpha = self.cross(
            rows,
            rows,
            ends,
            seen if self.mask_cross else None,
            reach(steps, self.causal, self.distance, True, h.device),
            None if weight is None else weight.repeat(batch),
            None if graph.type is None else graph.type.repeat(batch),
            return_attention,
        )
        found = {"cross": alpha.view(batch, -1, steps, steps)} if return_attention else {}
        if self.self is not None:
            own = torch.arange(len(rows), device=h.device)
            near = reach(steps, self.causal, self.distance, False, h.device)
            more, alpha = self.self(rows, rows, (own, own), seen, near, return_attention=return_attention)
            out = out + more
            if return_attention:
                found["self"] = alpha.view(batch, nodes, steps, steps)
        out = self.dropout(out) + self.skip(rows)
        return self.norm(out).view(batch, nodes, steps, size), found
