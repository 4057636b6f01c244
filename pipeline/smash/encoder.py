"""The published encoder of the history, its attention stacks run side by side as one batched stack.

Li et al. (ICML 2024), section 3.4, and the code published with it (`Encoder_ST`, `RNN_layers`): one post-norm
transformer and one LSTM for each of time, location, joint and mark. Here every sequence carries its length: padding
stands behind the events and attention is causal, so no event is ever taken for padding because of its value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-6


@dataclass(frozen=True)
class EncoderSpec:
    """Sizes of the encoder.

    Attributes
    ----------
    marks: number of marks K; 1 means unmarked data, which have no mark branch.
    cond_dim: width d of a branch.
    branches: which of time, location, joint, mark there are; the output holds them in this order of names.
    dropout: of what the layers add. attention_dropout: of the attention weights, whose matrices must then be made.
    """

    marks: int
    cond_dim: int = 16
    branches: tuple[str, ...] = ("time", "location", "joint", "mark")
    layers: int = 4
    heads: int = 4
    head_dim: int = 16
    dropout: float = 0.1
    attention_dropout: float = 0.0

    def __post_init__(self) -> None:
        known = [name for name in ("time", "location", "joint", "mark") if name in self.branches]
        if self.marks == 1:
            known = [name for name in known if name != "mark"]
        object.__setattr__(self, "branches", tuple(known))

    @property
    def width(self) -> int:
        """Width of the output, one ``cond_dim`` a branch."""
        return self.cond_dim * len(self.branches)


class Stacks(nn.Module):
    """R transformers of equal size over the same positions, in batched matrix products [R, B L, d]."""

    def __init__(self, spec: EncoderSpec):
        super().__init__()
        self.spec = spec
        n, r, d, inner = spec.layers, len(spec.branches), spec.cond_dim, spec.heads * spec.head_dim
        self.qkv = nn.Parameter(torch.empty(n, r, 3, d, inner))
        self.out = nn.Parameter(torch.empty(n, r, inner, d))
        for weight in (self.qkv, self.out):
            bound = math.sqrt(6 / (d + inner))  # Xavier
            nn.init.uniform_(weight, -bound, bound)
        self.out_bias = nn.Parameter(_uniform((n, r, 1, d), inner))
        self.up = nn.Parameter(_uniform((n, r, d, 2 * d), d))
        self.up_bias = nn.Parameter(_uniform((n, r, 1, 2 * d), d))
        self.down = nn.Parameter(_uniform((n, r, 2 * d, d), 2 * d))
        self.down_bias = nn.Parameter(_uniform((n, r, 1, d), 2 * d))
        self.gain = nn.Parameter(torch.ones(n, 2, r, 1, d))
        self.shift = nn.Parameter(torch.zeros(n, 2, r, 1, d))

    def forward(self, h: Tensor) -> Tensor:
        """[R, B, L, d] to the same shape; position l sees positions up to l."""
        r, b, length, d = h.shape
        spec, p = self.spec, self.spec.dropout if self.training else 0.0
        dropped = spec.attention_dropout if self.training else 0.0
        h = h.reshape(r, b * length, d)  # [R, B L, d]
        for n in range(spec.layers):
            weight = self.qkv[n].transpose(1, 2).reshape(r, d, -1)  # [R, d, 3 H k]
            qkv = torch.bmm(h, weight).view(r, b, length, 3, spec.heads, spec.head_dim)
            q, k, v = qkv.permute(3, 0, 1, 4, 2, 5).flatten(1, 2)  # each [R B, H, L, k]
            found = F.scaled_dot_product_attention(q, k, v, dropout_p=dropped, is_causal=True)
            found = found.transpose(1, 2).reshape(r, b * length, -1)  # [R, B L, H k]
            found = F.dropout(torch.bmm(found, self.out[n]) + self.out_bias[n], p)
            h = self._norm(h + found, n, 0)
            inner = F.dropout(F.gelu(torch.bmm(h, self.up[n]) + self.up_bias[n]), p)
            h = self._norm(h + F.dropout(torch.bmm(inner, self.down[n]) + self.down_bias[n], p), n, 1)
        return h.view(r, b, length, d)

    def _norm(self, h: Tensor, layer: int, place: int) -> Tensor:
        return F.layer_norm(h, h.shape[-1:], eps=EPS) * self.gain[layer, place] + self.shift[layer, place]


class Encoder(nn.Module):
    """History to condition: forward(t [B, L], place [B, L, 2] in [0, 1], mark [B, L]) -> [B, L, branches x d].

    The condition at position l has read events 0 to l and serves the forecast of event l + 1. Padding may hold
    anything finite: it stands behind the events and nothing looks ahead.
    """

    def __init__(self, spec: EncoderSpec):
        super().__init__()
        self.spec, d = spec, spec.cond_dim
        self.place = nn.Sequential(
            nn.Linear(2, d), nn.ReLU(), nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d)
        )
        if spec.marks > 1:
            self.mark = nn.Embedding(spec.marks + 1, d, padding_idx=0)  # row 0: no event, as published
        self.stacks = Stacks(spec)
        self.lstm = nn.ModuleList(nn.LSTM(d, 4 * d, batch_first=True) for _ in spec.branches)
        self.project = nn.ModuleList(nn.Linear(4 * d, d) for _ in spec.branches)
        period = torch.pow(10_000.0, 2.0 * torch.div(torch.arange(d), 2, rounding_mode="floor") / d)
        self.register_buffer("period", period, persistent=False)

    def embed(self, t: Tensor, place: Tensor, mark: Tensor | None) -> Tensor:
        """[R, B, L, d] inputs of the branches."""
        angle = t.unsqueeze(-1) / self.period  # [B, L, d]
        even = torch.arange(self.spec.cond_dim, device=t.device) % 2 == 0
        parts = {"time": torch.where(even, angle.sin(), angle.cos())}
        parts["location"] = self.place(place)
        parts["joint"] = parts["time"] + parts["location"]
        if self.spec.marks > 1:
            parts["mark"] = self.mark(mark + 1)
            parts["joint"] = parts["joint"] + parts["mark"]
        return torch.stack([parts[name] for name in self.spec.branches])

    def forward(self, t: Tensor, place: Tensor, mark: Tensor | None) -> Tensor:
        hidden = self.stacks(self.embed(t, place, mark))  # [R, B, L, d]
        read = [
            project(lstm(one)[0])  # [B, L, 4 d] -> [B, L, d]
            for one, lstm, project in zip(hidden, self.lstm, self.project, strict=True)
        ]
        return torch.cat(read, dim=-1)


def unused_when_published(d: int) -> int:
    """Parameters of the published encoder that never get a gradient: a second time embedding, alpha and beta."""
    return (d + d) + 3 * (d * d + d) + 2


def _uniform(shape: tuple[int, ...], inputs: int) -> Tensor:
    """As torch's Linear starts: uniform within one over the root of the number of inputs."""
    bound = 1 / math.sqrt(inputs)
    return torch.empty(shape).uniform_(-bound, bound)
