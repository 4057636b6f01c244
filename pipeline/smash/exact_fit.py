"""Training of the exact-likelihood model: one phase of windows an epoch, averaged weights, choice by validation."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from torch import nn

from .exact import Corrected, objective
from .exact_inputs import Reader, Windows, recency
from .fitting import Averaged, Fit
from .settings import Exact


def optimiser_of(model: Corrected, settings: Exact) -> torch.optim.AdamW:
    """AdamW; the base's parameters are neither decayed nor moved as fast as the network's."""
    base = [*model.time.parameters(), *model.place.parameters()]
    known = {id(p) for p in base}
    network = [p for p in model.parameters() if id(p) not in known]
    groups = [
        {"params": network, "lr": settings.lr, "weight_decay": settings.weight_decay},
        {"params": base, "lr": settings.lr * settings.base_lr, "weight_decay": 0.0},
    ]
    for group in groups:
        group["full"] = group["lr"]
    return torch.optim.AdamW(groups, betas=(0.9, 0.99))


@torch.no_grad()
def score(model: Corrected, batches: list[Windows]) -> float:
    """Mean log-likelihood per scored event, survival included."""
    model.eval()
    found = [objective(model, batch) for batch in batches]
    return -float(sum(loss.sum() for loss, _ in found)) / float(sum(count[0] for _, count in found))


def fit(model: Corrected, reader: Reader, settings: Exact, seed: int, log: Any) -> Fit:
    """Maximise the likelihood of the training windows; the state with the best validation likelihood is kept.

    One epoch passes over one phase of overlapping training windows. Step 0, the base itself, is among the candidates.
    """
    catalogue = reader.catalogue
    phases = int(catalogue.phase[catalogue.sequences("train")].max()) + 1
    weight = recency(catalogue, (settings.memory_time, settings.memory_place, settings.memory_mark))
    cached: dict[int, list[Windows]] = {}

    def phase(number: int) -> list[Windows]:
        if number not in cached:
            pieces = reader.pieces(catalogue.sequences("train", number), settings.pairs)
            cached[number] = [reader.windows(one, weight[one]) for one in pieces]
        return cached[number]

    held_out = [reader.windows(one) for one in reader.pieces(catalogue.sequences("val"), 4 * settings.pairs)]
    optimiser, averaged = optimiser_of(model, settings), Averaged(model, settings.average)
    order = np.random.default_rng([seed, 2])
    best = Fit(copy.deepcopy(model.state_dict()), score(model, held_out), 0)
    log.history(0, validation_log_likelihood=best.validation_loss)
    log.info(f"seed {seed}: validation log-likelihood {best.validation_loss:.4f} at the start")
    total = settings.epochs * len(phase(0))
    progress = log.progress(settings.epochs, f"exact likelihood, seed {seed}")
    step = 0
    for epoch in range(settings.epochs):
        model.train()
        batches = phase(epoch % phases)
        for number in order.permutation(len(batches)):
            share = min(step / total, 1.0)
            for group in optimiser.param_groups:
                group["lr"] = group["full"] * 0.5 * (1 + math.cos(math.pi * share))
            optimiser.zero_grad(set_to_none=True)
            loss, count = objective(model, batches[number])
            (loss / count).sum().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            averaged.update(step)
            step += 1
            if step % 10 == 0:
                log.history(step, total, loss=float((loss.detach() / count).sum()))
        progress.update(epoch + 1)
        if (epoch + 1) % settings.validate_every and epoch + 1 < settings.epochs:
            continue
        kept = copy.deepcopy(model.state_dict())
        model.load_state_dict(averaged.get())
        found = score(model, held_out)
        log.history(step, total, validation_log_likelihood=found)
        log.info(f"seed {seed}: epoch {epoch + 1}, validation log-likelihood {found:.4f}")
        if found > best.validation_loss:
            best = Fit(copy.deepcopy(model.state_dict()), found, step)
        model.load_state_dict(kept)
    return Fit(best.state, best.validation_loss, step)
