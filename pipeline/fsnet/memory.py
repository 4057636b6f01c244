"""FSNet's associative memory: what a fired layer reads, writes and blends, in the published and in mended forms.

A layer's adapters give a vector u of calibration coefficients; its average over time is the query q.  When a layer
fires (its short and long gradient averages point in opposite directions) it reads from M slots, writes to them and
blends what it read into u for the next step.  `slots` is [F, D, M]: F events (a fired layer of one replica, or one
head of it), D coefficients, M slots.

=========== ==========================================================================================================
upstream    the published code (salesforce/fsnet): slot NUMBERS weight the read, the write stores the read again
seed_fix    the seed's three fixes: attention weights the read, q is written to the chosen slots, blended twice
paper       FSNet, arXiv 2202.11672, eq. 5-8: one blend, outer-product write; its read is tiny (||slots|| <= 1)
working     slots hold real settled coefficients, compared by cosine about a slow mean; renormalised top-k
=========== ==========================================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipeline.core.errors import ConfigError

VARIANTS = ("none", "upstream", "seed_fix", "paper", "working")


@dataclass(frozen=True)
class MemorySettings:
    """Published code uses one number, tau = .75, three times; here the trigger, blend and write each have their own.

    tau_trigger: a layer fires when cos(short, long gradient average) < -tau_trigger.
    tau_blend: weight of the present coefficients against what was read.  tau_write: weight of a slot's old content.
    temperature: of the softmax over slots (.5 upstream; about .1 suits the cosines of `working`).
    heads: independent memories, each over an equal share of a layer's chunks.
    Only `working`: match = least cosine for a read, merge = least cosine at which a write joins a slot instead of
    taking another, hold = learning steps for which a read stays blended in unless the loss without it is lower,
    forget = factor on every slot's use at a write (1: never; a slot whose use falls below .05 is free again).
    """

    variant: str = "none"
    slots: int = 32
    top_k: int = 2
    temperature: float = 0.5
    tau_trigger: float = 0.75
    tau_blend: float = 0.75
    tau_write: float = 0.75
    heads: int = 1
    match: float = 0.5
    merge: float = 0.9
    hold: int = 24
    forget: float = 1.0

    def __post_init__(self) -> None:
        def require(ok: bool, what: str) -> None:
            if not ok:
                raise ConfigError(f"fsnet memory: {what}")

        require(self.variant in VARIANTS, f"variant is {self.variant!r}; allowed are {', '.join(VARIANTS)}")
        require(1 <= self.top_k <= self.slots, f"top_k is {self.top_k}; it must lie in 1..slots ({self.slots})")
        require(self.temperature > 0, f"temperature is {self.temperature}; it must be positive")
        require(self.heads >= 1, f"heads is {self.heads}; it must be at least 1")
        require(self.hold >= 1, f"hold is {self.hold}; it must be at least 1 learning step")
        for name in ("tau_blend", "tau_write", "forget"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{name} is {value}; it must lie in [0, 1]")


def limit_norm(x: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
    """x / max(1, its norm over `dims`)."""
    return x / torch.linalg.vector_norm(x, dim=dims, keepdim=True).clamp_min(1.0)


def initial_slots(draw: torch.Tensor) -> torch.Tensor:
    """Published start [.., D, M]: Xavier-uniform from `draw` in (-1, 1), Frobenius norm at most 1."""
    d, m = draw.shape[-2:]
    return limit_norm(draw * (6 / (d + m)) ** 0.5, (-2, -1))


def attention(query: torch.Tensor, slots: torch.Tensor, settings: MemorySettings):
    """Top-k of softmax(q . slot / temperature): values and slot numbers [F, k]; the rest's weight is simply dropped."""
    scores = torch.einsum("fd,fdm->fm", query, slots) / settings.temperature
    return torch.topk(torch.softmax(scores, -1), settings.top_k, dim=-1)


def _gather(slots: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Slots [F, D, M] at index [F, k] -> [F, D, k]."""
    return slots.gather(2, index[:, None, :].expand(-1, slots.shape[1], -1))


def upstream(query: torch.Tensor, slots: torch.Tensor, settings: MemorySettings):
    """Read sum_i i * slot_i (i: slot number!), write the very same vector back, times its attention."""
    weight, index = attention(query, slots, settings)
    chosen = _gather(slots, index)
    read = (chosen * index[:, None, :].to(slots.dtype)).sum(-1)  # [F, D]
    tau = settings.tau_write
    written = tau * chosen + (1 - tau) * read[:, :, None] * weight[:, None, :]
    slots = slots.scatter(2, index[:, None, :].expand_as(written), written)
    return read, read, limit_norm(slots, (1, 2))


def seed_fix(query: torch.Tensor, slots: torch.Tensor, settings: MemorySettings):
    """Attention-weighted read; q goes to each chosen slot, slot norms at most 1; q is blended before u is."""
    weight, index = attention(query, slots, settings)
    chosen = _gather(slots, index)
    read = (chosen * weight[:, None, :]).sum(-1)
    tau = settings.tau_write
    written = limit_norm(tau * chosen + (1 - tau) * query[:, :, None], (1,))
    slots = slots.scatter(2, index[:, None, :].expand_as(written), written)
    return read, settings.tau_blend * query + (1 - settings.tau_blend) * read, slots


def paper(query: torch.Tensor, slots: torch.Tensor, settings: MemorySettings):
    """r = top-k of softmax; read M r; M <- tau M + (1 - tau) q r^T, then norm at most 1."""
    weight, index = attention(query, slots, settings)
    sparse = torch.zeros_like(slots[:, 0]).scatter(1, index, weight)  # [F, M]
    read = torch.einsum("fdm,fm->fd", slots, sparse)
    tau = settings.tau_write
    slots = tau * slots + (1 - tau) * query[:, :, None] * sparse[:, None, :]
    return read, read, limit_norm(slots, (1, 2))


READ_WRITE = {"upstream": upstream, "seed_fix": seed_fix, "paper": paper}


def cosines(vector: torch.Tensor, slots: torch.Tensor, centre: torch.Tensor, use: torch.Tensor) -> torch.Tensor:
    """Cosine [F, M] of vector [F, D] and slots [F, D, M] about centre [F, D]; -2 for free slots (use [F, M] = 0).

    Coefficients of one layer share a large constant part: without the centre all cosines are near 1.
    """
    v = vector - centre
    s = slots - centre[:, :, None]
    dot = torch.einsum("fd,fdm->fm", v, s)
    norm = torch.linalg.vector_norm(v, dim=1, keepdim=True) * torch.linalg.vector_norm(s, dim=1)
    return torch.where(use > 0, dot / norm.clamp_min(1e-12), -2.0)


def recall(query, slots, centre, use, settings: MemorySettings):
    """Working read: (what was read [F, D], whether any slot matched [F], weights [F, M] that sum to 1)."""
    similarity = cosines(query, slots, centre, use)
    value, index = torch.topk(similarity, settings.top_k, dim=-1)
    # Renormalised over the slots that match, so that a lone good match is returned whole.
    value = torch.where(value >= settings.match, value, -torch.inf)
    found = value[:, 0] >= settings.match
    weight = torch.softmax(torch.where(found[:, None], value, 0.0) / settings.temperature, -1)
    weights = torch.zeros_like(similarity).scatter(1, index, weight * found[:, None])
    return torch.einsum("fdm,fm->fd", slots, weights), found, weights


def store(value, slots, centre, use, settings: MemorySettings):
    """Working write of value [F, D]: joins the slot that resembles it, else takes the least used one.

    Returns the new slots and their use; the value itself is stored, with no norm imposed on it.
    """
    use = use * settings.forget
    use = torch.where(use < 0.05, 0.0, use)
    similarity = cosines(value, slots, centre, use)
    best, near = similarity.max(1)
    join = best >= settings.merge
    target = torch.where(join, near, use.argmin(1))[:, None]  # [F, 1]
    keep = torch.where(join, settings.tau_write, 0.0)[:, None].to(value.dtype)
    old = _gather(slots, target[:, :])[:, :, 0]
    new = keep * old + (1 - keep) * value
    slots = slots.scatter(2, target[:, None, :].expand(-1, slots.shape[1], -1), new[:, :, None])
    # A slot that was written lately or often is the last to be given away.
    return slots, use.scatter(1, target, use.gather(1, target) + 1)
