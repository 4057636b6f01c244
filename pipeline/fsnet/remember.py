"""When layers fire: the memory's part of a learning step, on the tensors of a state.

The published variants read, write and blend for one step.  The working variant

* stores, for the regime that ends, the layer's settled coefficients (their average over the steps before);
* recalls by cosine what resembles the present query, blends it in for up to `hold` learning steps, and
* checks it: once the windows learnt since then would have been forecast better without, the recall is dropped;
* lets a layer fire again only after `hold` learning steps: one change of regime is one event.
"""

from __future__ import annotations

import torch

from pipeline.fsnet import memory

CENTRE_RATE = 0.01  # of the slow mean of coefficients about which the working memory compares


def remember(state) -> tuple[torch.Tensor, torch.Tensor]:
    """Memory of every fired layer.  Returns how many fired [R] and the mean ||read|| / ||query|| of those [R]."""
    spec, settings, t = state.spec, state.spec.memory, state.t
    working = settings.variant == "working"
    fired = t["fired"]
    if working:
        fired &= t["held"] == 0
    t["fire_counts"] += fired
    total = torch.zeros(state.replicas, dtype=state.dtype, device=state.device)
    reads = torch.zeros_like(total)
    layer, replica = fired.nonzero(as_tuple=True)
    event = _working_event if working else _published_event
    start = 0
    for g in spec.groups if len(layer) else ():  # most steps fire nothing
        here = (layer >= start) & (layer < start + g.n)
        if here.any():
            ratio, read = event(state, g, start, layer[here], replica[here])
            total.index_add_(0, replica[here], ratio * read)
            reads.index_add_(0, replica[here], read)
        start += g.n
    if working:
        _hold(state, fired)
    elif len(layer):
        t["through"][fired] = settings.tau_blend
    return fired.sum(0), total / torch.where(reads > 0, reads, torch.nan)


def _ratio(read: torch.Tensor, query: torch.Tensor, events: int) -> torch.Tensor:
    norms = [torch.linalg.vector_norm(v.reshape(events, -1), dim=1) for v in (read, query)]
    return norms[0] / norms[1].clamp_min(1e-12)


def _published_event(state, g, start: int, layer, replica):
    settings, t = state.spec.memory, state.t
    coefs, slots = t[f"coefs/{g.name}"], t[f"slots/{g.name}"]
    events, layer = len(layer), layer - start
    query = t[f"q_ema/{g.name}"][layer, replica].view(events * settings.heads, -1)
    old = slots[layer, replica].flatten(0, 1)  # [events * heads, D, M]
    read, blended, new = memory.READ_WRITE[settings.variant](query, old, settings)
    slots[layer, replica] = new.unflatten(0, (events, settings.heads))
    present = coefs[layer, replica]
    coefs[layer, replica] = settings.tau_blend * present + (1 - settings.tau_blend) * blended.view_as(present)
    ratio = _ratio(read, query, events)
    return ratio, torch.ones_like(ratio)


def _working_event(state, g, start: int, layer, replica):
    settings, t = state.spec.memory, state.t
    events, inside = len(layer), layer - start
    slots, use = t[f"slots/{g.name}"], t[f"use/{g.name}"]

    def by_head(name: str) -> torch.Tensor:
        return t[f"{name}/{g.name}"][inside, replica].view(events * settings.heads, -1)

    query, centre, settled = by_head("q_ema"), by_head("centre"), by_head("settled")
    old, old_use = slots[inside, replica].flatten(0, 1), use[inside, replica].flatten(0, 1)
    read, found, weights = memory.recall(query, old, centre, old_use, settings)
    read = torch.where(found[:, None], read, query)  # a head without a match keeps what it has
    # What helped is worth keeping: a recalled slot counts as used.
    new, new_use = memory.store(settled, old, centre, old_use + weights, settings)
    slots[inside, replica] = new.unflatten(0, (events, settings.heads))
    use[inside, replica] = new_use.unflatten(0, (events, settings.heads))
    recalled = t[f"recalled/{g.name}"]
    recalled[inside, replica] = read.view(events, *recalled.shape[2:])
    found = found.view(events, settings.heads).any(1)
    t["active"][layer, replica] = found
    return _ratio(read, query, events), found.to(read.dtype)


def _hold(state, fired: torch.Tensor) -> None:
    """Blend what is being held, count down, and move the slow means."""
    spec, settings, t = state.spec, state.spec.memory, state.t
    t["held"].sub_(1).clamp_min_(0).masked_fill_(fired, settings.hold)
    t["active"] &= t["held"] > 0
    t["advantage"].masked_fill_(fired.any(0), 0.0)
    t["through"].masked_fill_(t["active"], settings.tau_blend)
    start = 0
    for g in spec.groups:
        active = t["active"][start : start + g.n]
        if active.any():
            coefs, recalled = t[f"coefs/{g.name}"], t[f"recalled/{g.name}"]
            blended = settings.tau_blend * coefs + (1 - settings.tau_blend) * recalled
            torch.where(active[:, :, None, None], blended, coefs, out=coefs)
        start += g.n
    follow(state)


def follow(state) -> None:
    """Move the working memory's slow means towards the query's average."""
    spec, t = state.spec, state.t
    # A mean of all steps at first, so that it doesn't start at zero.
    rate = max(CENTRE_RATE, 1.0 / max(state.steps, 1))
    for g in spec.groups:
        query = t[f"q_ema/{g.name}"]
        t[f"centre/{g.name}"].lerp_(query, rate)
        t[f"settled/{g.name}"].lerp_(query, max(1 - spec.gamma, 1.0 / max(state.steps, 1)))


def verify_recall(state, losses) -> None:
    """Drop recalls that don't pay.  losses() -> [R] of the windows about to be learnt, with the coefficients in use.

    The advantage of a recall is summed over the steps since it began; one below zero ends it.
    """
    t, calibration = state.t, state.calibration
    if not t["active"].any():
        return
    with_recall = losses()
    kept = {}
    for g in state.spec.groups:
        kept[g.name] = t[f"coefs/{g.name}"].clone()
        t[f"coefs/{g.name}"].copy_(calibration.raw(g))
    calibration.refresh()
    without = losses()
    for name, coefs in kept.items():
        t[f"coefs/{name}"].copy_(coefs)
    calibration.refresh()
    t["advantage"] += without - with_recall
    t["active"] &= t["advantage"] >= 0
