"""FSNet as published, one layer at a time with autograd: what the fast engine is compared with.

Full convolutions with every tap and time step, one adapter a convolution, no pruning, no replicas.  The memory's
variants are written out for a single layer with explicit slots.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class PlainConv(nn.Module):
    def __init__(self, spec, inn: int, out: int, dilation: int) -> None:
        super().__init__()
        self.spec, self.inn, self.out, self.dilation = spec, inn, out, dilation
        self.weight = nn.Parameter(torch.empty(out, inn, 3))
        self.bias = nn.Parameter(torch.empty(out))
        if spec.kind == "naive":
            self.scale = nn.Parameter(torch.ones(out, inn, 1))
            self.b = nn.Parameter(torch.zeros(out))
            self.f = nn.Parameter(torch.ones(out))
        if spec.kind == "adapter":
            self.chunks = inn if spec.chunks == "upstream" else out
            self.each = out // self.chunks
            nh = spec.controller_width
            self.controller = nn.Linear(out * inn * 3 // self.chunks, nh)
            self.heads = nn.Linear(nh, 3 + 2 * self.each + spec.gate)
            self.register_buffer("long", torch.zeros(out, inn, 3))
            self.register_buffer("short", torch.zeros(out, inn, 3))
            self.register_buffer("q_ema", torch.zeros(self.chunks, 3 + 2 * self.each))
            self.register_buffer("slots", torch.zeros(self.q_ema.numel(), spec.memory.slots))
        self.seen = self.trigger = False
        self.fired = 0

    def coefficients(self) -> torch.Tensor:
        """[chunks, 3 weight scales, then bias scales, then output scales]."""
        spec = self.spec
        q = self.heads(F.silu(self.controller(self.long.reshape(self.chunks, -1))))
        if spec.gate:
            q = torch.sigmoid(q[:, -1:]) * q[:, :-1]
        if self.seen:
            self.q_ema = spec.gamma_short * self.q_ema + (1 - spec.gamma_short) * q.detach()
        self.seen = True
        if self.trigger:
            self.trigger = False
            self.fired += 1
            tau = spec.memory.tau_blend
            q = tau * q + (1 - tau) * self.remember(self.q_ema.reshape(-1)).view_as(q)
        return q + 1 if spec.identity else q

    @torch.no_grad()
    def remember(self, q: torch.Tensor) -> torch.Tensor:
        m, slots = self.spec.memory, self.slots
        weight, index = torch.topk(torch.softmax(q @ slots / m.temperature, 0), m.top_k)
        if m.variant == "upstream":
            read = blend = slots[:, index] @ index.to(q)
            for v, j in zip(weight, index, strict=True):
                slots[:, j] = m.tau_write * slots[:, j] + (1 - m.tau_write) * v * read
            slots /= slots.norm().clamp_min(1)
        elif m.variant == "seed_fix":
            read = (slots[:, index] * weight).sum(1)
            blend = m.tau_blend * q + (1 - m.tau_blend) * read
            for j in index:
                new = m.tau_write * slots[:, j] + (1 - m.tau_write) * q
                slots[:, j] = new / new.norm().clamp_min(1)
        elif m.variant == "paper":
            r = torch.zeros(m.slots, dtype=q.dtype)
            r[index] = weight
            read = blend = slots @ r
            slots.mul_(m.tau_write).add_((1 - m.tau_write) * torch.outer(q, r))
            slots /= slots.norm().clamp_min(1)
        self.read_ratio = float(read.norm() / q.norm())
        return blend

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, in, T] -> [B, out, T]."""
        weight, bias, f = self.weight, self.bias, None
        if self.spec.kind == "naive":
            weight, bias, f = weight * self.scale, bias * self.b, 1 + self.f
        if self.spec.kind == "adapter":
            q = self.coefficients()
            w, b, f = q[:, :3], q[:, 3 : 3 + self.each].reshape(-1), q[:, 3 + self.each :].reshape(-1)
            weight = weight * (w[None] if self.spec.chunks == "upstream" else w[:, None])
            bias = bias * b
        out = F.conv1d(x, weight, bias, padding=self.dilation, dilation=self.dilation)
        return out if f is None else out * f[:, None]

    @torch.no_grad()
    def store_gradient(self) -> None:
        grad = F.normalize(self.weight.grad, dim=1)
        self.short = self.spec.gamma_short * self.short + (1 - self.spec.gamma_short) * grad
        if not self.training and self.spec.memory.variant != "none":
            cosine = F.cosine_similarity(self.short.flatten(), self.long.flatten(), dim=0, eps=1e-6)
            self.trigger = bool(cosine < -self.spec.memory.tau_trigger)
        self.long = self.spec.gamma * self.long + (1 - self.spec.gamma) * grad


class PlainNetwork(nn.Module):
    def __init__(self, spec) -> None:
        super().__init__()
        self.spec = spec
        h, d = spec.hidden, spec.representation
        self.input = nn.Linear(spec.inputs, h)
        widths = [h] * (spec.depth + 1) + [d]
        self.convs = nn.ModuleList()
        for i in range(spec.depth + 1):
            self.convs.append(PlainConv(spec, widths[i], widths[i + 1], 2**i))
            self.convs.append(PlainConv(spec, widths[i + 1], widths[i + 1], 2**i))
        self.projector = nn.Conv1d(h, d, 1)
        self.head = nn.Linear(d, spec.outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, T, C] -> [B, HC]."""
        h = self.input(x).transpose(1, 2)  # [B, hidden, T]
        for i in range(self.spec.depth + 1):
            residual = h if i < self.spec.depth else self.projector(h)
            h = self.convs[2 * i](F.gelu(h))
            h = self.convs[2 * i + 1](F.gelu(h)) + residual
        h = F.dropout(h[:, :, -1], self.spec.dropout, self.training)
        return self.head(h)


class PlainLearner:
    """The published online loop: one forward pass both forecasts and trains."""

    def __init__(self, network: PlainNetwork, lr: float, weight_decay: float = 0.01) -> None:
        self.network = network
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=weight_decay)

    def step(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """x [B, T, C], y [B, HC] -> the forecast made before the update, [B, HC]."""
        y_hat = self.network(x)
        F.mse_loss(y_hat, y).backward()
        self.optimizer.step()
        if self.network.spec.kind == "adapter":
            for conv in self.network.convs:
                conv.store_gradient()
        self.optimizer.zero_grad()
        return y_hat.detach()


@torch.no_grad()
def plain_from_state(state, replica: int = 0, dead: float = 0.1) -> PlainNetwork:
    """The plain network with a replica's numbers; what the engine leaves out is filled with noise of size `dead`."""
    spec = state.spec
    named = {name: tensor[replica] for name, tensor in state.named().items()}
    network = PlainNetwork(spec).to(state.dtype)
    for parameter in network.parameters():
        parameter.normal_(std=dead)
    place = [(g, i) for g in spec.groups for i in range(g.n)]
    for conv, (g, i) in zip(network.convs, place, strict=True):
        taps = slice(0, 3) if g.taps == 3 else slice(1, 2)

        def get(name, i=i, g=g):
            return named[f"parameters/{g.name}_{name}"][i]

        conv.weight[:, :, taps] = get("w").transpose(1, 2)  # stored [out, taps, in]
        if spec.kind == "naive":
            conv.bias.zero_(), conv.b.zero_()
            conv.scale.copy_(get("scale").transpose(1, 2))
            conv.f.copy_(get("f"))
            continue
        conv.bias.copy_(get("b"))
        if spec.kind == "adapter":
            # Chunk entries: published (out, in, tap) order, stored (out, tap, in).
            full = conv.controller.weight.view(spec.controller_width, -1, g.inn, 3)
            live = get("controller_w").view(spec.controller_width, -1, g.taps, g.inn)
            full[..., taps] = live.transpose(2, 3)
            conv.controller.bias.copy_(get("controller_b"))
            conv.heads.weight.copy_(get("heads_w"))
            conv.heads.bias.copy_(get("heads_b"))
            if spec.has_memory:
                conv.slots.copy_(named[f"slots/{g.name}"][i][0])
    for module, name in ((network.input, "input"), (network.head, "head"), (network.projector, "projector")):
        module.weight.copy_(named[f"parameters/{name}_w"][0].view_as(module.weight))
        module.bias.copy_(named[f"parameters/{name}_b"][0])
    return network.eval()
