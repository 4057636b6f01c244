"""Additive attention over edges x time, exact, without ever holding the whole pair tensor.

One call computes, for every edge j -> i and target step t of a graph of time series (SPIN, arXiv 2205.13479, eq. 5-8),

    msg(t, s) = W_out a_M + b_out,   a_m = PReLU(W_m a_(m-1) + b_m),   a_0 = PReLU(source_j,s + target_i,t + bias_ij)
    alpha(t, s) = softmax over the observed s within reach, or a sigmoid gate,
    out_i,t = sum over edges of weight_ij * sum over s of alpha(t, s) msg(t, s)

What makes it fast, all of it exact:

- ``source`` and ``target`` are projected once a node, not once an edge (by the caller);
- the last linear map stands outside both sums: sum of alpha msg = W_out (sum of alpha a_M) + b_out (sum of alpha), and
  the gate w . msg = (W_out' w) . a_M + const, so a pair costs one matrix product less;
- unobserved sources are dropped before pairing; edges are sorted by how many sources they have left, so that chunks
  pad little;
- pairs are made, used and forgotten in chunks that stay in the processor's cache; the backward pass is written out and
  makes them again, so memory doesn't grow with edges x T x T.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK_BYTES = {"cpu": 1 << 19, "cuda": 64 << 20}  # of one pair tensor; measured: best within a core's second cache


@dataclass(frozen=True)
class Pairs:
    """Which pairs there are, in the order of the chunks.

    Attributes
    ----------
    source, target: [E] rows of the source and target tensors, sorted by ``length``.
    weight: [E] factor of each edge's contribution, or None.
    order: [E] place of each sorted edge among the edges as given.
    step: [R, K] source steps that are left in each source row, padded with step 0.
    valid: [R, K] which of them are real, or None where all are.
    length: list of E source counts.
    edges: number of edges as given, those without any observed source included.
    reach: [T, S] which source steps a target step may see, or None.
    """

    source: Tensor
    target: Tensor
    weight: Tensor | None
    order: Tensor
    step: Tensor | None
    valid: Tensor | None
    length: list[int]
    edges: int
    reach: Tensor | None

    @classmethod
    def of(
        cls,
        source: Tensor,
        target: Tensor,
        steps: int,
        mask: Tensor | None = None,
        reach: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Pairs:
        """Plan the pairs of a call.

        Parameters
        ----------
        source, target: [E] rows.
        steps: S, source steps.
        mask: [R, S] bool, observed source cells; None: all.
        reach: [T, S] bool; None: all.
        weight: [E]; None: one.
        """
        edges = torch.arange(len(source), device=source.device)
        if mask is None:
            return cls(source, target, weight, edges, None, None, [steps] * len(source), len(source), reach)
        count = mask.sum(1)  # [R]
        widest = max(int(count.max()), 1)
        step = torch.argsort(~mask, dim=1, stable=True)[:, :widest]  # observed steps first, in time order
        valid = torch.arange(widest, device=mask.device) < count[:, None]  # [R, K]
        length = count[source]
        order = torch.argsort(length, stable=True)
        order = order[length[order] > 0]  # an edge whose source has nothing observed adds nothing
        step = step.masked_fill(~valid, 0)
        weight = weight if weight is None else weight[order]
        return cls(source[order], target[order], weight, order, step, valid, length[order].tolist(), len(edges), reach)

    def chunks(self, steps: int, hidden: int, itemsize: int, device: str):
        """Slices of the sorted edges with the number K of source slots that each needs."""
        budget = max(1, CHUNK_BYTES.get(device, CHUNK_BYTES["cpu"]) // (steps * hidden * itemsize))
        start, total = 0, len(self.length)
        while start < total:
            stop = min(total, start + max(1, budget // self.length[start]))
            while stop - start > 1 and (stop - start) * self.length[stop - 1] > 1.25 * budget:
                stop -= max(1, (stop - start) // 8)
            yield slice(start, stop), self.length[stop - 1]
            start = stop


def _allowed(pairs: Pairs, rows: Tensor, slots: int) -> Tensor | None:
    """[e, 1 or T, K] pairs that may be seen, None where all may."""
    if pairs.step is None:
        return None if pairs.reach is None else pairs.reach[None]
    valid = pairs.valid[rows, :slots]  # [e, K]
    if pairs.reach is None:
        return None if bool(valid.all()) else valid[:, None]
    reach = pairs.reach.t()[pairs.step[rows, :slots]].transpose(1, 2)  # [e, K, T] -> [e, T, K]
    return valid[:, None] & reach


def _gather(values: Tensor, pairs: Pairs, rows: Tensor, slots: int) -> Tensor:
    """[e, K, H] the observed steps of source rows ``rows`` of ``values`` [R, S, H]."""
    if pairs.step is None:
        return values[rows]
    return values[rows[:, None], pairs.step[rows, :slots]]


def _chunk(source, target, layers, gate, shift, allowed, softmax):
    """Forward pass of a chunk.

    source [e, K, H], target [e, T, H] (edge bias included); layers: [(weight, bias)], slopes apart; gate [H].
    Returns the pre-activations, the last activation, each [e*T*K, H], and alpha [e, T, K].
    """
    e, k, hidden = source.shape
    steps = target.shape[1]
    linear, slopes = layers
    pre = [(source[:, None] + target[:, :, None]).view(-1, hidden)]  # [e, T, K, H] -> [e*T*K, H]
    active = [F.leaky_relu(pre[0], slopes[0])]
    for (weight, bias), slope in zip(linear, slopes[1:], strict=True):
        pre.append(torch.addmm(bias, active[-1], weight.t()))
        active.append(F.leaky_relu(pre[-1], slope))
    score = (active[-1] @ gate).view(e, steps, k)
    if not softmax:
        alpha = torch.sigmoid_(score.add_(shift))
        return pre, active, alpha if allowed is None else alpha.mul_(allowed)
    if allowed is None:
        return pre, active, torch.softmax(score, 2)
    score = score.masked_fill_(~allowed, -torch.inf)
    top = score.amax(2, keepdim=True).clamp_(min=torch.finfo(score.dtype).min)  # finite where nothing may be seen
    alpha = score.sub_(top).exp_()
    return pre, active, alpha.div_(alpha.sum(2, keepdim=True).clamp_(min=torch.finfo(score.dtype).tiny))


class _Attend(torch.autograd.Function):
    """[R', T, H + 1]: weighted sums of the last activation and, in the last column, of alpha."""

    @staticmethod
    def forward(ctx, source, target, bias, gate, shift, slopes, pairs, softmax, *linear):
        values = [float(slope) for slope in slopes]
        layers = (list(zip(linear[::2], linear[1::2], strict=True)), values)
        steps, hidden, last = *target.shape[1:], len(gate)
        out = target.new_zeros(target.shape[0], steps, last + 1)
        for part, slots in pairs.chunks(steps, hidden, target.element_size(), target.device.type):
            rows = pairs.source[part]
            goal = target[pairs.target[part]]  # [e, T, H]
            if bias is not None:
                goal = goal + bias[pairs.order[part]][:, None]
            _, active, alpha = _chunk(
                _gather(source, pairs, rows, slots),
                goal,
                layers,
                gate,
                shift,
                _allowed(pairs, rows, slots),
                softmax,
            )
            if pairs.weight is not None:
                alpha = alpha * pairs.weight[part][:, None, None]
            summed = torch.bmm(alpha.view(-1, 1, slots), active[-1].view(-1, slots, last))  # [e*T, 1, H]
            summed = torch.cat([summed.view(-1, steps, last), alpha.sum(2, keepdim=True)], 2)  # [e, T, H+1]
            out.index_add_(0, pairs.target[part], summed)
        ctx.save_for_backward(source, target, gate, shift, slopes, *([] if bias is None else [bias]), *linear)
        ctx.pairs, ctx.softmax, ctx.biased = pairs, softmax, bias is not None
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        source, target, gate, shift, slopes, *rest = ctx.saved_tensors
        bias = rest.pop(0) if ctx.biased else None
        pairs, linear = ctx.pairs, list(zip(rest[::2], rest[1::2], strict=True))
        values = [float(slope) for slope in slopes]
        steps, hidden, last = *target.shape[1:], len(gate)
        d_source, d_target = torch.zeros_like(source), torch.zeros_like(target)
        d_bias = None if bias is None else torch.zeros_like(bias)
        d_gate, d_shift, d_slopes = torch.zeros_like(gate), torch.zeros_like(shift), [0.0] * len(values)
        d_linear = [(torch.zeros_like(weight), torch.zeros_like(shifted)) for weight, shifted in linear]
        for part, slots in pairs.chunks(steps, hidden, target.element_size(), target.device.type):
            rows, goals = pairs.source[part], pairs.target[part]
            goal = target[goals]
            if bias is not None:
                goal = goal + bias[pairs.order[part]][:, None]
            pre, active, alpha = _chunk(
                _gather(source, pairs, rows, slots),
                goal,
                (linear, values),
                gate,
                shift,
                _allowed(pairs, rows, slots),
                ctx.softmax,
            )
            above = grad[goals]  # [e, T, H+1]
            if pairs.weight is not None:
                above = above * pairs.weight[part][:, None, None]
            d_sum = above[..., :last].reshape(-1, last, 1)  # [e*T, H, 1]
            d_alpha = torch.bmm(active[-1].view(-1, slots, last), d_sum).view_as(alpha) + above[..., last:]
            if ctx.softmax:
                d_score = alpha * (d_alpha - (alpha * d_alpha).sum(2, keepdim=True))
            else:
                d_score = d_alpha * alpha * (1 - alpha)
                d_shift += d_score.sum()
            d_gate.addmv_(active[-1].t(), d_score.view(-1))
            left = torch.stack([alpha, d_score], 3).view(-1, slots, 2)  # [e*T, K, 2]
            right = torch.cat([d_sum.transpose(1, 2), gate.expand(len(d_sum), 1, last)], 1)  # [e*T, 2, H]
            d_active = torch.bmm(left, right).view(-1, last)  # of the last activation, [e*T*K, H]
            for m in range(len(linear), -1, -1):
                d_slopes[m] += torch.dot(d_active.view(-1), pre[m].clamp(max=0).view(-1))
                d_pre = torch.ops.aten.leaky_relu_backward(d_active, pre[m], values[m], False)
                if m:
                    d_linear[m - 1][0].addmm_(d_pre.t(), active[m - 1])
                    d_linear[m - 1][1].add_(d_pre.sum(0))
                    d_active = d_pre @ linear[m - 1][0]
            d_pre = d_pre.view(-1, steps, slots, hidden)
            d_goal = d_pre.sum(2)  # [e, T, H]
            d_target.index_add_(0, goals, d_goal)
            if bias is not None:
                d_bias[pairs.order[part]] = d_goal.sum(1)
            if pairs.step is None:
                d_source.index_add_(0, rows, d_pre.sum(1))
            else:
                place = (rows[:, None] * source.shape[1] + pairs.step[rows, :slots]).view(-1)  # [e*K]
                d_source.view(-1, hidden).index_add_(0, place, d_pre.sum(1).view(-1, hidden))
        d_slopes = torch.stack([torch.as_tensor(d, dtype=slopes.dtype, device=slopes.device) for d in d_slopes])
        flat = [d for pair in d_linear for d in pair]
        return d_source, d_target, d_bias, d_gate, d_shift, d_slopes, None, None, *flat


def attend(
    source: Tensor,
    target: Tensor,
    pairs: Pairs,
    gate: Tensor,
    shift: Tensor,
    slopes: Tensor,
    linear: list[Tensor],
    bias: Tensor | None = None,
    softmax: bool = True,
) -> tuple[Tensor, Tensor]:
    """Weighted sums over edges and source steps.

    Parameters
    ----------
    source: [R, S, H] projected sources. target: [R', T, H] projected targets.
    pairs: which of them meet.
    gate: [H], the gate seen from the last activation. shift: [], added to the score of a sigmoid gate.
    slopes: [M + 1] of the PReLUs. linear: [weight_1, bias_1, ...] of the M message layers.
    bias: [E, H] added to every pair of an edge (its type, say).
    softmax: over the source steps of each edge; otherwise a sigmoid gate.

    Returns
    -------
    [R', T, H] sums of alpha times the last activation, [R', T, 1] sums of alpha; both times the edges' weights.
    """
    whole = slopes.dtype  # in mixed precision what was computed comes in another type than parameters
    source, target, gate, shift, *linear = (one.to(whole) for one in (source, target, gate, shift, *linear))
    bias = None if bias is None else bias.to(whole)
    with torch.autocast(source.device.type, enabled=False):
        out = _Attend.apply(source, target, bias, gate, shift, slopes, pairs, softmax, *linear)
    return out[..., :-1], out[..., -1:]


@torch.no_grad()
def attention(
    source: Tensor,
    target: Tensor,
    pairs: Pairs,
    gate: Tensor,
    shift: Tensor,
    slopes: Tensor,
    linear: list[Tensor],
    bias: Tensor | None = None,
    softmax: bool = True,
) -> Tensor:
    """[E, T, S] the attention that ``attend`` uses, edges in the order given; zero where nothing may be seen."""
    layers = (list(zip(linear[::2], linear[1::2], strict=True)), [float(slope) for slope in slopes])
    steps, hidden = target.shape[1:]
    found = source.new_zeros(pairs.edges, steps, source.shape[1])
    for part, slots in pairs.chunks(steps, hidden, target.element_size(), target.device.type):
        rows, order = pairs.source[part], pairs.order[part]
        goal = target[pairs.target[part]]
        if bias is not None:
            goal = goal + bias[order][:, None]
        near = _gather(source, pairs, rows, slots)
        _, _, alpha = _chunk(near, goal, layers, gate, shift, _allowed(pairs, rows, slots), softmax)
        if pairs.step is None:
            found[order] = alpha
        else:
            place = pairs.step[rows, :slots][:, None].expand_as(alpha)  # padding adds zeros to step 0
            found[order] = torch.zeros_like(found[order]).scatter_add_(2, place, alpha)
    return found
