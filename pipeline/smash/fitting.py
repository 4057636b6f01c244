"""The training loop of the score-matching arms: schedule, validation, early stopping, resumable checkpoints."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..core import checkpoints
from ..core.precision import mixed
from .batches import Batch, Frames, buckets
from .settings import Training


class Objective(Protocol):
    """What is minimised."""

    def backward(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor: ...

    def evaluate(self, model: nn.Module, batches: list[Batch], seed: int) -> float: ...


@dataclass(frozen=True)
class Fit:
    """Outcome: the best state by validation, its loss, and the gradient steps that were made."""

    state: dict[str, Tensor]
    validation_loss: float
    steps: int


def learning_rate(progress: float, training: Training) -> float:
    """The published schedule at a share of the training: linear warm-up, then linear from ``lr`` towards ``lr_end``.

    It changes once an epoch of the schedule, whatever the number of steps that it is laid over.
    """
    epoch = int(progress * training.epochs)
    if epoch < training.warmup:
        return training.lr * (epoch + 1) / training.warmup
    return training.lr - (training.lr - training.lr_end) * (epoch - training.warmup) / training.epochs


class Averaged:
    """Exponential average of a model's weights; with ``keep`` 0 the weights themselves."""

    def __init__(self, model: nn.Module, keep: float):
        self.model, self.keep = model, keep
        self.state = {name: value.clone() for name, value in model.state_dict().items()} if keep else None

    def update(self, step: int) -> None:
        if self.state is not None:
            keep = min(self.keep, (1 + step) / (10 + step))  # the start is forgotten quickly
            for name, value in self.model.state_dict().items():
                self.state[name].lerp_(value, 1 - keep) if value.is_floating_point() else None

    def get(self) -> dict[str, Tensor]:
        return self.state if self.state is not None else self.model.state_dict()


def fit(
    model: nn.Module,
    objective: Objective,
    frames: Frames,
    training: Training,
    seed: int,
    log: Any,
    checkpoint: Path,
    fingerprint: str,
    average: float = 0.0,
) -> Fit:
    """Train on the training windows (one phase of overlapping ones an epoch, in turn) and keep the best state.

    Validation is on the validation windows with fixed noise, every ``save_every`` epochs and at the end; no better
    loss in ``patience`` epochs ends the training. An interrupted training goes on from its last checkpoint.
    """
    catalogue = frames.catalogue
    phases = int(catalogue.phase[catalogue.sequences("train")].max()) + 1
    windows = [catalogue.sequences("train", phase) for phase in range(phases)]
    tokens = max(1, int(training.batch * catalogue.lengths[catalogue.sequences("train")].mean()))
    held_out = [
        frames.batch(chosen) for chosen in buckets(catalogue.lengths, catalogue.sequences("val"), 2 * tokens, None)
    ]
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=training.lr, betas=(0.9, 0.99), weight_decay=training.weight_decay
    )
    averaged = Averaged(model, average)
    device = next(model.parameters()).device.type
    per_epoch = sum(1 for _ in buckets(catalogue.lengths, windows[0], tokens, np.random.default_rng(seed)))
    total = training.steps or training.epochs * per_epoch
    step = epoch = since = 0
    best = Fit(copy.deepcopy(averaged.get()), float("inf"), 0)
    saved = checkpoints.load(checkpoint, fingerprint, log)
    if saved is not None:
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        averaged.state = saved["average"]
        generator.set_state(saved["generator"])
        torch.set_rng_state(saved["global"])
        step, epoch, since = saved["step"], saved["epoch"], saved["since"]
        best = Fit(saved["best"], saved["best_loss"], saved["best_step"])
        log.info(f"seed {seed}: going on from epoch {epoch}, step {step}")
    progress = log.progress(total, f"training, seed {seed}", initial=step)
    while step < total:
        shuffle = np.random.default_rng([seed, 1, epoch])  # an epoch's order depends on nothing before it
        model.train()
        for chosen in buckets(catalogue.lengths, windows[epoch % phases], tokens, shuffle):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step / total, training)
            optimiser.zero_grad(set_to_none=True)
            with mixed(training.precision, device):
                loss = objective.backward(model, frames.batch(chosen), generator)
            nn.utils.clip_grad_norm_(model.parameters(), training.clip)
            optimiser.step()
            averaged.update(step)
            step += 1
            progress.update(step)
            if step % 20 == 0:
                log.history(step, total, loss=float(loss))
            if step == total:
                break
        epoch, since = epoch + 1, since + 1
        if epoch % training.save_every and step < total:
            continue
        model.eval()
        kept = copy.deepcopy(model.state_dict())
        model.load_state_dict(averaged.get())
        found = objective.evaluate(model, held_out, seed=0)
        if found < best.validation_loss:
            best, since = Fit(copy.deepcopy(averaged.get()), found, step), 0
        model.load_state_dict(kept)
        log.history(step, total, validation_loss=found)
        if since >= training.patience:
            log.info(f"seed {seed}: stopped after epoch {epoch}, no better validation loss in {since} epochs")
            break
        if step < total:
            _save(checkpoint, fingerprint, model, optimiser, averaged, generator, step, epoch, since, best)
    checkpoint.unlink(missing_ok=True)
    return Fit(best.state, best.validation_loss, step)


def _save(checkpoint, fingerprint, model, optimiser, averaged, generator, step, epoch, since, best) -> None:
    content = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "average": averaged.state,
        "generator": generator.get_state(),
        "global": torch.get_rng_state(),
        "step": step,
        "epoch": epoch,
        "since": since,
        "best": best.state,
        "best_loss": best.validation_loss,
        "best_step": best.steps,
    }
    checkpoints.save(checkpoint, fingerprint, content)
