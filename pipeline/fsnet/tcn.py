"""Forward and hand-written backward pass of the pruned TCN, all replicas at once.

No autograd: every intermediate lives in a buffer that is allocated once for a batch size, so a learning step is a
fixed list of in-place operations.  Notation of one convolution (rows = B * positions, R replicas in front):

    u    = unfolded gelu(input)            [R, rows, taps*in]
    o    = (u * scale) W^T                 [R, rows, out]      scale [taps*in] and W [out, taps*in]
    z    = f * (o + bias * b)              [R, rows, out]      f, b [out]

so scaling a few columns replaces scaling the weights.  Where scales act on weights (naive network, chunks aligned with
output channels) the caller hands over scaled weights and gets gradients of those.
"""

from __future__ import annotations

import functools

import torch

from pipeline.fsnet.model import KERNEL, NetworkSpec

_gelu = torch._C._nn.gelu  # the public functional has no out=
_gelu_backward = torch.ops.aten.gelu_backward.grad_input


def without_onednn(function):
    """Run with PyTorch's own CPU kernels.

    oneDNN's GELU ignores the strides of `out=` (wrong numbers in float32), and its set-up costs ten times the work
    at these sizes.
    """

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        before = torch._C._get_mkldnn_enabled()
        torch._C._set_mkldnn_enabled(False)
        try:
            return function(*args, **kwargs)
        finally:
            torch._C._set_mkldnn_enabled(before)

    return wrapped


class Conv:
    """Buffers and views of one convolution for a fixed batch size."""

    def __init__(self, replicas: int, batch: int, positions: int, stride: int, weight, gradient, coefs, like):
        # weight, gradient: [R, out, taps, in];  coefs: dict with scale [R, taps, in] or None, f and fb [R, out]
        r, out, taps, inn = weight.shape
        self.taps, self.stride = taps, stride
        self.first = (positions - 1) % stride  # the outputs end at the last position
        self.positions = positions
        self.out_positions = m = -(-positions // stride)
        side = taps // 2
        pad = like.new_zeros(r, batch, positions + 2 * side, inn)
        self.inside = pad[:, :, side : side + positions]  # [R, B, n, in]
        s = pad.stride()
        # Overlapping view [R, B, m, taps, in]: the taps of every output position.
        self.unfold = pad.as_strided(
            (r, batch, m, taps, inn), (s[0], s[1], stride * s[2], s[2], 1), self.first * s[2] if taps > 1 else 0
        )
        self.columns = like.new_empty(r, batch, m, taps, inn)
        self.columns2d = self.columns.view(r, batch * m, taps * inn)  # [R, rows, taps*in]
        self.weight = weight.view(r, out, taps * inn)
        self.weight_t = self.weight.transpose(1, 2)
        self.gradient = gradient.view(r, out, taps * inn)
        self.o = like.new_empty(r, batch * m, out)
        self.z = like.new_empty(r, batch, m, out)
        self.z2d = self.z.view(r, batch * m, out)
        self.dcolumns = like.new_empty(r, batch, m, taps, inn)
        self.dcolumns2d = self.dcolumns.view(r, batch * m, taps * inn)
        self.dg = like.new_empty(r, batch, positions, inn)
        self.scale = self.f = None
        self.bias = coefs["fb"][:, None, :]  # [R, 1, out]: f * bias * b (plain network: the bias)
        if coefs["f"] is not None:
            self.f = coefs["f"][:, None, :]  # [R, 1, out]
            self.do = like.new_empty(r, batch * m, out)
            self.do_t = self.do.transpose(1, 2)
        if coefs["scale"] is not None:
            self.scale = coefs["scale"][:, None, None]  # [R, 1, 1, taps, in]
        self._fold_views()

    def _fold_views(self) -> None:
        """Pairs (target, tap gradient, scale) whose sum is the gradient of gelu(input)."""
        taps = [self.dcolumns[:, :, :, k] for k in range(self.taps)]  # [R, B, m, in]
        scales = [None if self.scale is None else self.scale[:, :, :, k] for k in range(self.taps)]
        if self.taps == 1:
            self.fold_set, self.fold_add = [(self.dg, taps[0], scales[0])], []
            return
        n, m, s, first = self.positions, self.out_positions, self.stride, self.first
        # Output j reads positions first + s*j + (-1, 0, 1), those inside 0..n-1.
        middle = (self.dg[:, :, first::s], taps[1], scales[1])
        skip = 1 if first == 0 else 0  # the first output's left tap is padding
        left = (self.dg[:, :, first - 1 + s * skip :: s][:, :, : m - skip], taps[0][:, :, skip:], scales[0])
        right = (self.dg[:, :, first + 1 :: s], taps[2][:, :, : m - 1], scales[2])  # the last right tap is padding
        if s == 1:
            self.fold_set, self.fold_add = [middle], [left, right]
            return
        # Stride 2: middles and the others never meet; left taps cover every other position before the last one.
        self.fold_set, self.fold_add = [middle, left], [right]
        assert n == first + 2 * (m - 1) + 1

    def forward(self, x: torch.Tensor) -> None:
        """x [R, B, n, in] -> self.z [R, B, m, out]."""
        _gelu(x, out=self.inside)
        if self.scale is None:
            self.columns.copy_(self.unfold)
        else:
            torch.mul(self.unfold, self.scale, out=self.columns)
        if self.f is None:
            torch.baddbmm(self.bias, self.columns2d, self.weight_t, out=self.z2d)
        else:
            torch.bmm(self.columns2d, self.weight_t, out=self.o)
            torch.addcmul(self.bias, self.o, self.f, out=self.z2d)

    def backward(self, x: torch.Tensor, dz, dzo, dscale, target: torch.Tensor) -> None:
        """From dz [R, rows, out]: weight gradient, terms of the coefficients' gradients, and target = dL/dx.

        dzo [R, rows, out] gets dz * o and dscale [R, rows, taps, in] the products whose sums over rows are the
        gradients of f and of the column scales.
        """
        if self.f is not None:
            torch.mul(dz, self.f, out=self.do)
            torch.mul(dz, self.o, out=dzo)
            do, do_t = self.do, self.do_t
        else:
            do, do_t = dz, dz.transpose(1, 2)
        torch.bmm(do_t, self.columns2d, out=self.gradient)
        torch.bmm(do, self.weight, out=self.dcolumns2d)
        if self.scale is None:
            for where, tap, _ in self.fold_set:
                where.copy_(tap)
            for where, tap, _ in self.fold_add:
                where.add_(tap)
        else:
            torch.mul(self.dcolumns, self.unfold, out=dscale)
            for where, tap, scale in self.fold_set:
                torch.mul(tap, scale, out=where)
            for where, tap, scale in self.fold_add:
                where.addcmul_(tap, scale)
        _gelu_backward(self.dg, x, grad_input=target)


class Passes:
    """Forward and backward pass for one state and one batch size.

    parameters, gradients: name -> [n, R, *shape] views of the flat buffers.
    layers: for each convolution the weights in use, where their gradient goes, and the calibration in use.
    After `backward`, row_sums[group] holds sums over rows (batch and positions): of dz and of dz * o, both
    [n, R, chunks, out / chunks], and of the scale terms, [n, R, taps, in] (None where there is nothing to scale).
    """

    def __init__(self, spec: NetworkSpec, replicas: int, batch: int, parameters, gradients, layers, like):
        self.spec, self.batch, self.replicas = spec, batch, replicas
        r, b, h, d = replicas, batch, spec.hidden, spec.representation

        def first(tensors, name):
            return tensors[name][0]  # these layers stand alone: [1, R, ...] -> [R, ...]

        self.input_t = first(parameters, "input_w").transpose(1, 2)
        self.projector = first(parameters, "projector_w")
        self.head = first(parameters, "head_w")
        self.projector_t, self.head_t = self.projector.transpose(1, 2), self.head.transpose(1, 2)
        self.input_b, self.projector_b, self.head_b = (
            first(parameters, f"{name}_b")[:, None] for name in ("input", "projector", "head")
        )
        names = [f"{layer}_{kind}" for layer in ("input", "projector", "head") for kind in "wb"]
        self.g = {name: first(gradients, name) for name in names}
        self.x = like.new_zeros(r, b, spec.window, spec.inputs)
        self.x2d = self.x.view(r, b * spec.window, spec.inputs)
        # inputs[i]: input of block i, [R, B, grid[i], hidden]
        self.inputs = [like.new_empty(r, b, n, h) for n in spec.grid]
        self.input_rows = self.inputs[0].view(r, b * spec.window, h)
        self.last_rows = self.inputs[-1][:, :, 0]  # [R, B, hidden]
        self.rep = like.new_empty(r, b, d)
        self.kept = like.new_empty(r, b, d)  # after dropout
        self.y = like.new_empty(r, b, spec.outputs)
        self.drep = like.new_empty(r, b, d)
        self.drep_t = self.drep.transpose(1, 2)
        self.dresidual = like.new_empty(r, b, h)
        self.dinput = like.new_empty(r, b, spec.window, h)
        self.dinput_t = self.dinput.view(r, b * spec.window, h).transpose(1, 2)
        self.convs = []
        for i, n in enumerate(spec.grid):
            wide = 2**i < spec.window
            self.convs.append(Conv(r, b, n, 1, *layers[2 * i], like))
            self.convs.append(Conv(r, b, n, 2 if wide else 1, *layers[2 * i + 1], like))
        self.blocks = [(self.convs[2 * i], self.convs[2 * i + 1]) for i in range(spec.depth + 1)]
        self.rep_rows = self.blocks[-1][1].z2d
        self.residuals = [  # what of a block's input its output is added to
            h[:, :, two.first :: two.stride] for h, (_, two) in zip(self.inputs, self.blocks, strict=True)
        ]
        self._row_buffers(like)
        self._targets()

    def _row_buffers(self, like) -> None:
        """Rows of all hidden layers side by side, so that one product with `sums` adds up each layer's rows."""
        spec, r, hidden = self.spec, self.replicas, self.spec.hidden
        small = self.convs[: 2 * spec.depth]
        scaled, biased = small[0].scale is not None, small[0].f is not None
        rows = [self.batch * conv.out_positions for conv in small]
        total = sum(rows)
        self.dz = like.new_zeros(r, total, hidden)
        self.dzo = like.new_zeros(r, total, hidden) if biased else None
        self.dscale = like.new_zeros(r, total, KERNEL, hidden) if scaled else None
        sums = like.new_zeros(1, len(small), total)
        self.rows = []  # per layer: dz [R, rows, out], dzo, dscale [R, B, m, taps, in]
        start = 0
        for layer, (conv, count) in enumerate(zip(small, rows, strict=True)):
            stop = start + count
            sums[:, layer, start:stop] = 1
            middle = slice(0, KERNEL) if conv.taps > 1 else slice(1, 2)
            dscale = self.dscale[:, start:stop, middle].unflatten(1, (self.batch, -1)) if scaled else None
            dzo = self.dzo[:, start:stop] if biased else None
            self.rows.append((self.dz[:, start:stop], dzo, dscale))
            start = stop
        # (sums [R, L, rows], rows' terms, their sums by layer [R, L, ...])
        terms = [self.dz, self.dzo, None if self.dscale is None else self.dscale.flatten(2)]
        products = [None if t is None else like.new_empty(r, len(small), t.shape[2]) for t in terms]
        sums = sums.expand(r, -1, -1)
        self.products = [(sums, t, p) for t, p in zip(terms, products, strict=True) if t is not None]

        self.row_sums, start = {}, 0
        self.last_sums = []
        for g in spec.groups:
            layers, shape = slice(start, start + g.n), (g.chunks, g.per_chunk)
            if g.name.startswith("last"):  # B rows each, in buffers of their own
                found = [like.new_empty(1, r, g.out), None, None]
                dz = like.new_empty(r, self.batch, g.out)
                dzo, dscale = None, None
                if biased:
                    dzo, found[1] = torch.empty_like(dz), torch.empty_like(found[0])
                if scaled:
                    dscale = like.new_empty(r, self.batch, 1, 1, g.inn)
                    found[2] = like.new_empty(1, r, 1, g.inn)
                self.rows.append((dz, dzo, dscale))
                self.last_sums += [
                    (term.flatten(1, -2), into[0] if into.dim() == 3 else into[0, :, 0])
                    for term, into in zip((dz, dzo, dscale), found, strict=True)
                    if into is not None
                ]
            else:
                found = [None if p is None else p[:, layers].transpose(0, 1) for p in products]
                if scaled:
                    found[2] = found[2].unflatten(2, (KERNEL, g.inn))
                    found[2] = found[2] if g.taps == KERNEL else found[2][:, :, 1:2]
            found[:2] = [None if f is None else f.unflatten(2, shape) for f in found[:2]]
            self.row_sums[g.name] = tuple(found)
            start += g.n

    def _targets(self) -> None:
        """Where the gradient of each layer's input goes: the rows of the layer before it."""

        def as_input(layer: int) -> torch.Tensor:
            """[R, rows, out] of a layer's output gradient as [R, B, m, out]."""
            return self.rows[layer][0].unflatten(1, (self.batch, -1))

        self.middle_targets = [as_input(2 * i) for i in range(len(self.blocks))]
        self.block_targets = [self.dinput] + [as_input(2 * i - 1) for i in range(1, len(self.blocks))]
        self.block_outputs = [as_input(2 * i + 1) for i in range(len(self.blocks))]
        self.residual_targets = [
            target[:, :, two.first :: two.stride]
            for target, (_, two) in zip(self.block_targets, self.blocks, strict=True)
        ]

    @without_onednn
    def forward(self, x: torch.Tensor, dropout: torch.Tensor | None = None) -> torch.Tensor:
        """x [R or 1, B, T, C] -> self.y [R, B, HC] (a buffer: copy it to keep it)."""
        self.x.copy_(x)
        torch.baddbmm(self.input_b, self.x2d, self.input_t, out=self.input_rows)
        for i, (one, two) in enumerate(self.blocks[:-1]):
            one.forward(self.inputs[i])
            two.forward(one.z)
            torch.add(two.z, self.residuals[i], out=self.inputs[i + 1])
        one, two = self.blocks[-1]
        one.forward(self.inputs[-1])
        two.forward(one.z)
        torch.baddbmm(self.projector_b, self.last_rows, self.projector_t, out=self.rep)
        rep = self.rep.add_(self.rep_rows)  # [R, B, D]
        if dropout is not None:
            rep = torch.mul(rep, dropout, out=self.kept)
        return torch.baddbmm(self.head_b, rep, self.head_t, out=self.y)

    @without_onednn
    def backward(self, dy: torch.Tensor, dropout: torch.Tensor | None = None) -> None:
        """dy [R, B, HC] -> gradients of backbone and head, and row_sums for the calibration."""
        g = self.g
        torch.bmm(dy.transpose(1, 2), self.rep if dropout is None else self.kept, out=g["head_w"])
        torch.sum(dy, 1, out=g["head_b"])
        torch.bmm(dy, self.head, out=self.drep)
        if dropout is not None:
            self.drep.mul_(dropout)
        torch.bmm(self.drep_t, self.last_rows, out=g["projector_w"])
        torch.sum(self.drep, 1, out=g["projector_b"])
        torch.bmm(self.drep, self.projector, out=self.dresidual)
        self.rows[-1][0].copy_(self.drep)
        for i in reversed(range(len(self.blocks))):
            one, two = self.blocks[i]
            two.backward(one.z, *self.rows[2 * i + 1], self.middle_targets[i])
            one.backward(self.inputs[i], *self.rows[2 * i], self.block_targets[i])
            if i == self.spec.depth:
                self.residual_targets[i].add_(self.dresidual[:, :, None])
            else:
                self.residual_targets[i].add_(self.block_outputs[i])
        torch.bmm(self.dinput_t, self.x2d, out=g["input_w"])
        torch.sum(self.dinput, (1, 2), out=g["input_b"])
        for sums, terms, into in self.products:
            torch.bmm(sums, terms, out=into)
        for terms, into in self.last_sums:
            torch.sum(terms, 1, out=into)
