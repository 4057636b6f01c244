"""Calibration of the convolutions: coefficients, their gradients, and the gradient averages that drive them.

FSNet (arXiv 2202.11672, eq. 1-4): each convolution keeps an average of its own normalised weight gradient; a small
controller maps it, chunk by chunk, to coefficients that scale the convolution's weights, bias and output.
The coefficients are computed once after every learning step and kept, so forecasting and the next learning step read
the same ones and forecasting changes nothing.
"""

from __future__ import annotations

import torch

from pipeline.fsnet.model import KERNEL, ConvGroup, NetworkSpec
from pipeline.fsnet.tcn import Passes

_silu = torch.ops.aten.silu.out
_silu_backward = torch.ops.aten.silu_backward.grad_input


class PlainCalibration:
    """No coefficients: the plain TCN, whose biases enter as they are."""

    def __init__(self, spec: NetworkSpec, parameters, gradients, tensors) -> None:
        self.spec, self.p, self.g = spec, parameters, gradients

    def layers(self) -> list[tuple]:
        """(weight, gradient, coefficients in use) of every convolution, in order."""
        return [
            (
                self.p[f"{g.name}_w"][i],
                self.g[f"{g.name}_w"][i],
                {"scale": None, "f": None, "fb": self.p[f"{g.name}_b"][i]},
            )
            for g in self.spec.groups
            for i in range(g.n)
        ]

    def refresh(self) -> None:
        """Recompute what the passes read from the coefficients in use."""

    def restore(self) -> None:
        """Recompute whatever is derived from the state's tensors, after they were set."""
        self.refresh()

    def update(self, first: bool = False) -> None:
        """Recompute the coefficients after a learning step."""

    def backward(self, passes: Passes) -> None:
        """From the row sums of a backward pass to the gradients of all that calibrates."""
        for name, (dz, _, _) in passes.row_sums.items():
            self.g[f"{name}_b"].copy_(dz.flatten(2))


class NaiveCalibration(PlainCalibration):
    """Coefficients are parameters: weight scales [out, 1, in] and output scales 1 + f (upstream's `ncca`)."""

    def __init__(self, spec: NetworkSpec, parameters, gradients, tensors) -> None:
        super().__init__(spec, parameters, gradients, tensors)
        self.weights = {g.name: torch.empty_like(parameters[f"{g.name}_w"]) for g in spec.groups}
        self.f = {g.name: torch.empty_like(parameters[f"{g.name}_f"]) for g in spec.groups}

    def layers(self) -> list[tuple]:
        found = []
        for g in self.spec.groups:
            zero = torch.zeros_like(self.f[g.name])
            for i in range(g.n):
                coefs = {"scale": None, "f": self.f[g.name][i], "fb": zero[i]}
                found.append((self.weights[g.name][i], self.g[f"{g.name}_w"][i], coefs))
        return found

    def refresh(self) -> None:
        for name, weights in self.weights.items():
            torch.mul(self.p[f"{name}_w"], self.p[f"{name}_scale"], out=weights)
            torch.add(self.p[f"{name}_f"], 1.0, out=self.f[name])

    def backward(self, passes: Passes) -> None:
        for name, (_, dzo, _) in passes.row_sums.items():
            self.g[f"{name}_f"].copy_(dzo.flatten(2))
            weight = self.g[f"{name}_w"]  # so far the gradient of the scaled weights
            torch.sum(weight * self.p[f"{name}_w"], 3, keepdim=True, out=self.g[f"{name}_scale"])
            weight.mul_(self.p[f"{name}_scale"])


class GroupAdapter:
    """Adapters of one group of equal-shaped convolutions: fixed views and buffers.

    State tensors (in front [n, R]): long gradient averages [out, taps, in], hidden [chunks, nh] controller
    pre-activations, heads [chunks, K (+ gate)] raw head outputs, coefs [chunks, K] in use (identity not added),
    q_ema [chunks, K].  Calibration vectors are [n, R, chunks, out / chunks].
    """

    def __init__(self, spec: NetworkSpec, g: ConvGroup, parameters, gradients, tensors, through) -> None:
        self.spec, self.group, self.through = spec, g, through[:, :, None, None]
        self.weight_scaling = spec.chunks == "output"
        p = {k: parameters[f"{g.name}_{k}"] for k in ("w", "b", "controller_w", "controller_b", "heads_w", "heads_b")}
        d = {k: gradients[f"{g.name}_{k}"] for k in p}
        t = {k: tensors[f"{k}/{g.name}"] for k in ("long", "hidden", "heads", "coefs", "q_ema")}
        self.p, self.d, self.t = p, d, t
        n, r = p["w"].shape[:2]
        by_chunk = (n, r, g.chunks, g.per_chunk)
        k, middle = g.per_chunk, slice(0, KERNEL) if g.taps == KERNEL else slice(1, 2)

        def split(coefs):
            """Views: weight scales [.., chunks, taps], bias scales and output scales [.., chunks, out / chunks]."""
            return coefs[..., middle], coefs[..., KERNEL : KERNEL + k], coefs[..., KERNEL + k : KERNEL + 2 * k]

        # What the passes read
        self.f, self.b, self.fb = (p["b"].new_empty(n, r, g.out) for _ in range(3))
        self.vectors = [v.view(by_chunk) for v in (self.f, self.b, self.fb)]
        self.taps = p["w"].new_empty(n, r, g.chunks, g.taps)
        self.weight = torch.empty_like(p["w"]) if self.weight_scaling else None
        self.scale = None if self.weight_scaling else p["w"].new_empty(n, r, g.taps, g.inn)
        self.in_use = split(t["coefs"])
        self.bias, self.dbias = p["b"].view(by_chunk), d["b"].view(by_chunk)
        # Heads and controller, layers and replicas in one axis
        flat = {name: v.flatten(0, 1) for name, v in p.items()}
        self.averages = t["long"].view(n * r, g.chunks, g.chunk_size)
        self.hidden, self.heads = t["hidden"].flatten(0, 1), t["heads"].flatten(0, 1)
        self.rep = torch.empty_like(self.hidden)
        self.controller_b, self.heads_b = flat["controller_b"][:, None], flat["heads_b"][:, None]
        self.controller_t, self.heads_t = flat["controller_w"].transpose(1, 2), flat["heads_w"].transpose(1, 2)
        self.heads_w = flat["heads_w"]
        self.gradients = {name: v.flatten(0, 1) for name, v in d.items()}
        self.dheads = torch.zeros_like(t["heads"])
        self.dheads_flat = self.dheads.flatten(0, 1)
        self.dheads_t = self.dheads_flat.transpose(1, 2)
        self.dcoefs = self.dheads[..., : g.coefficients]
        self.dsplit = split(self.dheads)
        self.dhidden = torch.empty_like(self.hidden)
        self.dhidden_t = self.dhidden.transpose(1, 2)
        self.fdz = torch.empty_like(self.vectors[0])
        self.b_bias = torch.empty_like(self.vectors[0])

    def raw(self) -> torch.Tensor:
        """Coefficients before memory and identity, [n, R, chunks, K]."""
        heads = self.t["heads"]
        return torch.sigmoid(heads[..., -1:]) * heads[..., :-1] if self.spec.gate else heads

    def refresh(self) -> None:
        offset = float(self.spec.identity)
        (f, b, fb), (taps, in_use_b, in_use_f) = self.vectors, self.in_use
        torch.add(in_use_f, offset, out=f)
        torch.add(in_use_b, offset, out=b)
        torch.mul(b, self.bias, out=self.b_bias)
        torch.mul(f, self.b_bias, out=fb)
        if self.weight_scaling:
            torch.add(taps, offset, out=self.taps)
            torch.mul(self.p["w"], self.taps[..., None], out=self.weight)
        else:
            torch.add(taps.transpose(2, 3), offset, out=self.scale)

    def update(self, first: bool) -> None:
        torch.baddbmm(self.controller_b, self.averages, self.controller_t, out=self.hidden)
        _silu(self.hidden, out=self.rep)
        torch.baddbmm(self.heads_b, self.rep, self.heads_t, out=self.heads)
        raw = self.raw()
        self.t["coefs"].copy_(raw)
        if not first:
            self.t["q_ema"].lerp_(raw, 1 - self.spec.gamma_short)

    def backward(self, dz, dzo, dscale) -> None:
        dtaps, db, df = self.dsplit
        if self.weight_scaling:
            weight = self.d["w"]  # so far the gradient of the scaled weights
            torch.sum(weight * self.p["w"], -1, out=dtaps)
            weight.mul_(self.taps[..., None])
        else:
            dtaps.copy_(dscale.transpose(2, 3))
        torch.mul(self.vectors[0], dz, out=self.fdz)
        torch.mul(self.fdz, self.bias, out=db)
        torch.mul(self.fdz, self.vectors[1], out=self.dbias)
        torch.addcmul(dzo, self.b_bias, dz, out=df)
        # From the coefficients in use to those before the memory's blend
        self.dcoefs.mul_(self.through)
        if self.spec.gate:
            heads = self.t["heads"]
            gate = torch.sigmoid(heads[..., -1:])
            self.dheads[..., -1:] = (self.dcoefs * heads[..., :-1]).sum(-1, keepdim=True) * gate * (1 - gate)
            self.dcoefs.mul_(gate)
        torch.bmm(self.dheads_t, self.rep, out=self.gradients["heads_w"])
        torch.sum(self.dheads_flat, 1, out=self.gradients["heads_b"])
        torch.bmm(self.dheads_flat, self.heads_w, out=self.dhidden)
        _silu_backward(self.dhidden, self.hidden, grad_input=self.dhidden)
        torch.bmm(self.dhidden_t, self.averages, out=self.gradients["controller_w"])
        torch.sum(self.dhidden, 1, out=self.gradients["controller_b"])


class AdapterCalibration(PlainCalibration):
    """FSNet's adapters.  `through` [L, R] is the factor of the raw coefficients in those in use (memory's blend)."""

    def __init__(self, spec: NetworkSpec, parameters, gradients, tensors) -> None:
        super().__init__(spec, parameters, gradients, tensors)
        self.through = tensors["through"]
        self.adapters, start = {}, 0
        for g in spec.groups:
            through = self.through[start : start + g.n]
            self.adapters[g.name] = GroupAdapter(spec, g, parameters, gradients, tensors, through)
            start += g.n

    def layers(self) -> list[tuple]:
        found = []
        for name, a in self.adapters.items():
            for i in range(a.group.n):
                scale = None if a.weight_scaling else a.scale[i]
                weight = a.weight[i] if a.weight_scaling else a.p["w"][i]
                found.append((weight, self.g[f"{name}_w"][i], {"scale": scale, "f": a.f[i], "fb": a.fb[i]}))
        return found

    def raw(self, g: ConvGroup) -> torch.Tensor:
        """Coefficients of a group before memory and identity, [n, R, chunks, K]."""
        return self.adapters[g.name].raw()

    def refresh(self) -> None:
        for adapter in self.adapters.values():
            adapter.refresh()

    def restore(self) -> None:
        for adapter in self.adapters.values():
            _silu(adapter.hidden, out=adapter.rep)
        self.refresh()

    def update(self, first: bool = False) -> None:
        """New coefficients from the gradient averages; the query's average moves (not at the very start)."""
        for adapter in self.adapters.values():
            adapter.update(first)
        self.through.fill_(1.0)

    def backward(self, passes: Passes) -> None:
        for name, sums in passes.row_sums.items():
            self.adapters[name].backward(*sums)


CALIBRATIONS = {"tcn": PlainCalibration, "naive": NaiveCalibration, "adapter": AdapterCalibration}


class GradientAverages:
    """Averages of the normalised convolution gradients, and which layers fire.

    Normalised: unit norm over the input channels of each (output channel, tap); entries of dead taps would be zero.
    Published order: the short average takes the new gradient, is compared with the long average that has not taken
    it yet, then the long one does.
    """

    BLOCK = 150_000  # entries: gradient and two averages of one block stay in a second-level cache

    def __init__(self, spec: NetworkSpec, gradients, tensors) -> None:
        self.spec, self.fired = spec, tensors.get("fired")
        self.blocks, self.cosines, start = [], [], 0
        for g in spec.groups:
            gradient, long = gradients[f"{g.name}_w"], tensors[f"long/{g.name}"]  # [n, R, out, taps, in]
            short = tensors.get(f"short/{g.name}")
            r = gradient.shape[1]
            step = max(1, min(r, self.BLOCK // (g.out * g.taps * g.inn)))
            for i in range(g.n):
                for a in range(0, r, step):
                    b = min(r, a + step)
                    fired = None if self.fired is None else self.fired[start + i, a:b]
                    block = [gradient[i, a:b], long[i, a:b], None if short is None else short[i, a:b]]
                    flat = [None if v is None else v.flatten(1) for v in block[1:]]
                    self.blocks.append((*block, *flat, fired))
            start += g.n

    def take(self, watch: bool) -> None:
        """Normalise the gradients IN PLACE and move their averages.  watch=False (pre-training): nothing fires."""
        spec = self.spec
        threshold = -spec.memory.tau_trigger
        for gradient, long, short, long_rows, short_rows, fired in self.blocks:
            norm = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True)
            gradient.mul_(norm.clamp_min_(1e-12).reciprocal_())
            if short is not None:
                short.lerp_(gradient, 1 - spec.gamma_short)
                if watch:
                    dot = torch.linalg.vecdot(short_rows, long_rows)  # [replicas of the block]
                    size = torch.linalg.vector_norm(short_rows, dim=1).clamp_min_(1e-6)
                    size.mul_(torch.linalg.vector_norm(long_rows, dim=1).clamp_min_(1e-6))
                    torch.lt(dot.div_(size), threshold, out=fired)
            long.lerp_(gradient, 1 - spec.gamma)
