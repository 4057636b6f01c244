"""SMASH as it is written down: one module a branch, padded random batches, derivatives by double backward.

Same weights, same numbers as ``pipeline.smash.encoder``, ``score_net``, ``denoise`` and ``langevin``, nothing shared or
cached between evaluations. Like the published code it evaluates the time path twice, projects the condition at every
call and keeps the graph of second derivatives.
"""

import math

import torch
import torch.nn.functional as F


def attention(h, qkv, out, out_bias, heads, head_dim):
    """Post-norm block's attention [B, L, d], the causal mask written out."""
    b, length, d = h.shape
    q, k, v = ((h @ w).view(b, length, heads, head_dim).transpose(1, 2) for w in qkv)
    score = q @ k.transpose(2, 3) / math.sqrt(head_dim)
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    weight = score.masked_fill(future, float("-inf")).softmax(-1)
    return (weight @ v).transpose(1, 2).reshape(b, length, -1) @ out + out_bias


def encode(encoder, t, place, mark):
    """What ``Encoder.forward`` gives without dropout, branch by branch and layer by layer."""
    spec, s = encoder.spec, encoder.stacks
    read = []
    for r, h in enumerate(encoder.embed(t, place, mark)):
        for n in range(spec.layers):
            h = h + attention(h, s.qkv[n, r], s.out[n, r], s.out_bias[n, r], spec.heads, spec.head_dim)
            h = F.layer_norm(h, h.shape[-1:], s.gain[n, 0, r, 0], s.shift[n, 0, r, 0], 1e-6)
            inner = F.gelu(h @ s.up[n, r] + s.up_bias[n, r])
            h = h + inner @ s.down[n, r] + s.down_bias[n, r]
            h = F.layer_norm(h, h.shape[-1:], s.gain[n, 1, r, 0], s.shift[n, 1, r, 0], 1e-6)
        read.append(encoder.project[r](encoder.lstm[r](h)[0]))
    return torch.cat(read, -1)


def paths(net, cond, t):
    """Time path [n, m, U] and what the condition adds to the place path."""
    part = dict(zip(net.branches, cond.split(net.cond_dim, -1), strict=True))
    h, added = t, []
    for i in range(3):
        joint = net.from_joint[i](part["joint"])
        own = part["time"] + part["mark"] if "mark" in part else part["time"]
        h = (net.time_path[i](h) + (joint + net.from_time[i](own)).unsqueeze(1)).relu()
        added.append((joint + net.from_place[i](part["location"])).unsqueeze(1))
    return net.time_path[3](h), added


def intensity(net, cond, t):
    """lambda_k [n, m, K] at t [n, m, 1]."""
    h, _ = paths(net, cond, t)
    inner, out = net.intensity_head
    return F.softplus(out(inner(h).relu()))


def score(net, cond, x, mark, create_graph=False):
    """Scores [n, m, 3] and mark probabilities [n, m, K]; the time's by differentiating the log intensity."""
    t = x[..., :1].detach().requires_grad_()
    rate = intensity(net, cond, t)
    one = rate.gather(-1, mark.unsqueeze(-1)).squeeze(-1)
    slope = torch.autograd.grad((one + 1e-10).log().sum(), t, create_graph=create_graph, retain_graph=True)[0]
    time = slope - rate.sum(-1, keepdim=True)
    h, added = paths(net, cond, x[..., :1])  # a second time
    g = x[..., 1:]
    for layer, extra in zip(net.place_path[:3], added, strict=True):
        g = (layer(g) + extra).relu()
    g = net.place_path[3](g)
    together = net.all(cond)
    a, b = (gate(together).softmax(-1).unsqueeze(1) for gate in (net.gate_time, net.gate_place))
    mixed = torch.cat([h * a[..., :1] + g * a[..., 1:], h * b[..., :1] + g * b[..., 1:]], -1)
    inner, out = net.place_head
    place = out(inner(mixed).relu())
    return torch.cat([time, place], -1), rate / (rate.sum(-1, keepdim=True) + 1e-10)


def loss(net, cond, truth, mark, noise, settings):
    """Mean denoising loss of n events with noise [n, M, 3]."""
    sigma = torch.tensor([settings.sigma_time, settings.sigma_location, settings.sigma_location])
    x = truth.unsqueeze(1) + sigma * noise
    marks = mark.unsqueeze(1).expand(-1, noise.shape[1])
    found, probability = score(net, cond, x, marks, create_graph=True)
    goal = (truth.unsqueeze(1) - x) / sigma**2
    weight = torch.tensor([1.0, settings.location_weight, settings.location_weight])
    denoising = (0.5 * (found - goal) ** 2 * sigma**2 * weight).mean()
    hot = F.one_hot(marks, net.marks).float()
    hot = hot * (1 - settings.smooth) + (1 - hot) * settings.smooth / net.marks
    return denoising + settings.mark_weight * -(hot * (probability + 1e-10).log()).sum(-1).mean()


def train_step(model, batch, noises, settings, generator):
    """Loss of a padded batch, gradients added: everything at once, as published."""
    mark = batch.mark
    cond = encode(model.encoder, batch.t, (batch.value[..., 1:] + 1) / 2, mark)
    found, truth, kinds = [], [], []
    for i, length in enumerate(batch.length.tolist()):  # events one window after the other
        found.append(cond[i, : length - 1])
        truth.append(batch.value[i, 1:length])
        kinds.append(mark[i, 1:length])
    cond, truth, kinds = torch.cat(found), torch.cat(truth), torch.cat(kinds)
    noise = torch.randn(len(cond), noises, 3, generator=generator)
    total = loss(model.net, cond, truth, kinds, noise, settings)
    total.backward()
    return total.detach()


def langevin_step(net, cond, x, mark, step, generator):
    """One published step: score with the old mark, move, clamp, mark from the old gap's intensity."""
    found, probability = score(net, cond, x, mark)
    kick = torch.randn(x.shape, generator=generator)
    x = (x + 0.5 * step * found.detach() + math.sqrt(step) * kick).clamp(-1, 1)
    drawn = torch.multinomial(probability.detach().flatten(0, 1) + 1e-10, 1, generator=generator)
    return x, drawn.view(mark.shape)
