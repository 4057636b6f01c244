"""SPIN written plainly: every message of every edge, one by one (small graphs), or gathered and scattered (for timing).

Both read the weights of ``pipeline.spin.model.SPIN``; nothing else is shared with it.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F


def per_edge_layer(layer, h, graph, mask):
    """One layer, message by message. h [B, N, T, H], mask [B, N, T] -> [B, N, T, H]."""
    batch, nodes, steps, _ = h.shape
    rows = []
    for b in range(batch):
        for i in range(nodes):
            for t in range(steps):
                total = layer.skip(h[b, i, t])
                for e in range(len(graph.source)):
                    if graph.target[e] != i:
                        continue
                    j = int(graph.source[e])
                    seen = [
                        s for s in range(steps) if (mask[b, j, s] or not layer.mask_cross) and in_reach(layer, t, s)
                    ]
                    kind = None if graph.type is None else graph.type[e]
                    weight = 1.0 if graph.weight is None else graph.weight[e]
                    if layer.degree_norm:
                        into = graph.target == i
                        weight = weight / (into.sum() if graph.weight is None else graph.weight[into].sum())
                    total = total + weight * summed(layer.cross, [h[b, j, s] for s in seen], h[b, i, t], kind)
                if layer.self is not None:
                    seen = [s for s in range(steps) if s != t and mask[b, i, s] and in_reach(layer, t, s)]
                    total = total + summed(layer.self, [h[b, i, s] for s in seen], h[b, i, t], None)
                rows.append(layer.norm(total))
    return torch.stack(rows).view(batch, nodes, steps, -1)


def in_reach(layer, t, s):
    return (not layer.causal or s <= t) and (layer.distance is None or abs(t - s) <= layer.distance)


def message(attention, source, target, kind):
    hidden = attention.source(source) + attention.target(target)
    if attention.kind is not None and kind is not None:
        hidden = hidden + attention.kind(kind)
    hidden = F.prelu(hidden, attention.slope[0])
    for linear, slope in zip(attention.message, list(attention.slope)[1:], strict=True):
        hidden = F.prelu(linear(hidden), slope)
    return attention.out(hidden)


def summed(attention, sources, target, kind):
    """Softmax-weighted sum over the sources that may be seen; nothing where there are none."""
    if not sources:
        return torch.zeros_like(target)
    messages = torch.stack([message(attention, source, target, kind) for source in sources])
    return torch.softmax(attention.gate(messages)[:, 0], 0) @ messages


def forward(model, x, u, mask, graph, layer=per_edge_layer):
    """The whole network with a plain layer; x, mask [B, T, N, C], u [B, T, 4] -> one [B, T, N, C] a read-out."""
    mask = mask.transpose(1, 2)
    x = torch.where(mask, x.transpose(1, 2), 0)
    seen = mask.any(3)  # [B, N, T]
    query = model.position(u, model.nodes(None))
    h = model.norm(torch.where(seen[..., None], model.encode(x) + query, query))
    answers = []
    for index in range(len(model.layers)):
        if index == model.eta:
            valid, masked = model.tokens.valid(None), model.tokens.masked(None)
            h = h + torch.where(seen[..., None], valid[:, None], masked[:, None])
        h = layer(model.layers[index], h + model.skip[index](x) * seen[..., None], graph, seen)
        answers.append(model.readout[index](h).transpose(1, 2))
    return answers


def scattered_layer(layer, h, graph, mask):
    """One layer as the published code computes it: gather, message, softmax by scatter, scatter; all pairs at once.

    h [B, N, T, H], mask [B, N, T] -> [B, N, T, H].
    """
    batch, nodes, steps, size = h.shape
    x = h.transpose(1, 2)  # [B, T, N, H]
    seen = mask.transpose(1, 2)[..., None]  # [B, T, N, 1]
    pair_s, pair_t = torch.cartesian_prod(torch.arange(steps), torch.arange(steps)).T
    crossed = scattered_attention(
        layer.cross,
        x[:, :, graph.source],
        x[:, :, graph.target],
        pair_s,
        pair_t,
        seen[:, :, graph.source] if layer.mask_cross else None,
    )  # [B, T, E, H]
    out = torch.zeros_like(x).index_add(2, graph.target, crossed)
    if layer.self is not None:
        other = pair_s != pair_t
        out = out + scattered_attention(layer.self, x, x, pair_s[other], pair_t[other], seen)
    return layer.norm(out + layer.skip(x)).transpose(1, 2)


def scattered_attention(attention, source, target, pair_s, pair_t, seen):
    """source, target [B, T, E, H], seen [B, T, E, 1] -> [B, T, E, H]; pairs are the second dimension of all tensors."""
    hidden = attention.source(source)[:, pair_s] + attention.target(target)[:, pair_t]  # [B, P, E, H]
    hidden = F.prelu(hidden, attention.slope[0])
    for linear, slope in zip(attention.message, list(attention.slope)[1:], strict=True):
        hidden = F.prelu(linear(hidden), slope)
    messages = attention.out(hidden)
    score = attention.gate(messages)
    if seen is not None:
        score = score.masked_fill(~seen[:, pair_s], -torch.inf)
    place = pair_t[None, :, None, None].expand_as(score)
    steps = target.shape[1]
    shape = (len(score), steps, *score.shape[2:])
    top = torch.full(shape, -torch.inf, dtype=score.dtype).scatter_reduce(1, place, score, "amax")
    top = top.masked_fill(top == -torch.inf, 0).detach()  # nothing seen: every weight becomes 0
    weight = (score - top[:, pair_t]).exp()
    total = torch.zeros(shape, dtype=score.dtype).scatter_add(1, place, weight)
    alpha = weight / (total[:, pair_t] + 1e-16)
    return torch.zeros_like(target).index_add(1, pair_t, alpha * messages)
