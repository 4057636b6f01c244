"""The training loop: a budget of steps and of CPU seconds, early stopping, checkpoints that resume bit-equal."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core import checkpoints
from ..core.precision import mixed
from .settings import Fit

LEAST = 0.1  # of the rate, in schedule "magic"
DECAY = 0.67  # linear decay of schedule "magic" over the whole training


def magic(epoch: int, epochs: int, warmup: int) -> float:
    """Factor on the rate as published: warm-up, then a cosine restarted every 100 epochs times a linear decay.

    With fewer than 100 epochs there is no cycle and the cosine stays 1 (as in the published code).
    """
    if epoch < warmup:
        return max(LEAST, epoch / max(1, warmup))
    progress = (epoch - warmup) / max(1, epochs - warmup)
    if progress >= 1:
        return 0.0
    phase = (epochs // 100 * progress) % 1.0
    return max(LEAST, 0.5 * (1 + math.cos(math.pi * phase)) * (1 - DECAY * progress))


def factor(fit: Fit, step: int, elapsed: float) -> float:
    """Factor on the rate. ``elapsed``: CPU seconds; where they are limited, what is used up first counts."""
    if fit.schedule == "magic":
        return magic(step // fit.batches_epoch, math.ceil(fit.steps / fit.batches_epoch), fit.warmup)
    progress = max(step / max(fit.steps, 1), elapsed / fit.seconds if fit.seconds else 0.0)
    rising = min(1.0, (step + 1) / (fit.warmup * fit.batches_epoch)) if fit.warmup else 1.0
    if fit.schedule == "linear":
        return rising * max(0.0, 1 - progress)
    if fit.schedule == "cosine":
        return rising * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return rising


@dataclass
class Keeper:
    """Checkpoints of a stage that trains one seed after the other.

    Attributes
    ----------
    path: of the checkpoint. fingerprint: of settings, data and code; another one is not resumed.
    """

    path: Path
    fingerprint: str
    finished: dict[int, Any] = field(default_factory=dict)
    current: dict[str, Any] | None = None

    @classmethod
    def open(cls, path: Path, fingerprint: str, log: Any) -> Keeper:
        saved = checkpoints.load(path, fingerprint, log) or {}
        return cls(path, fingerprint, **saved)

    def save(self, current: dict[str, Any] | None) -> None:
        self.current = current
        checkpoints.save(self.path, self.fingerprint, {"finished": self.finished, "current": current})


@dataclass
class Trained:
    """Best state by validation and how training went."""

    state: dict[str, Tensor]
    info: dict[str, float]


def learn(
    model: nn.Module,
    loss: Callable[[np.random.Generator], Tensor],
    validate: Callable[[], float],
    fit: Fit,
    seed: int,
    keeper: Keeper,
    log: Any,
    place: int = 0,
) -> Trained:
    """Train a model and keep its best state.

    Parameters
    ----------
    loss: draws a batch and gives its loss. validate: error, lower is better (model is in eval mode, without gradient).
    place: number of this seed among the stage's, for the history.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=fit.lr, weight_decay=fit.l2)
    device = next(model.parameters()).device.type
    rng = np.random.default_rng([seed, 2])
    torch.manual_seed(seed)
    step, spent, since = 0, 0.0, 0
    best, best_error = copy.deepcopy(model.state_dict()), math.inf
    if keeper.current is not None and keeper.current["seed"] == seed:
        saved = keeper.current
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        rng.bit_generator.state = saved["numpy"]
        torch.set_rng_state(saved["torch"])
        best, best_error = saved["best"], saved["best_error"]
        step, spent, since = saved["step"], saved["spent"], saved["since"]
        log.info(f"seed {seed}: goes on from step {step}")
    started, kept = time.process_time() - spent, spent

    def check() -> float:
        model.eval()
        with torch.no_grad():
            error = validate()
        model.train()
        return error

    if step == 0:  # where it starts counts too: a network that corrects an imputer must not end behind it
        best_error = check()
    total = int(fit.seconds) if fit.seconds else fit.steps
    progress = log.progress(total, f"seed {seed}")
    model.train()
    stopped, losses, checked = "steps", [], -1
    while step < fit.steps:
        elapsed = time.process_time() - started
        if fit.seconds and elapsed >= fit.seconds:
            stopped = "seconds"
            break
        for group in optimizer.param_groups:
            group["lr"] = fit.lr * factor(fit, step, elapsed)
        with mixed(fit.precision, device):
            value = loss(rng)
        optimizer.zero_grad()
        value.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), fit.clip)
        if torch.isfinite(norm):  # a batch without targets has no gradient, one that overflows must do no harm
            optimizer.step()
        losses.append(float(value.detach()))
        step += 1
        progress.update(min(total, int(elapsed) if fit.seconds else step))
        if step % fit.batches_epoch == 0:
            error, checked = check(), step
            log.history(
                place * fit.steps + step, None, loss=float(np.mean(losses)), validation_mae=error, lr=group["lr"]
            )
            losses = []
            if error < best_error * (1 - fit.min_delta):
                best, best_error, since = copy.deepcopy(model.state_dict()), error, 0
            else:
                since += 1
                if since >= fit.patience:
                    stopped = "patience"
                    break
        elapsed = time.process_time() - started
        if elapsed - kept >= fit.checkpoint:
            kept = elapsed
            keeper.save(
                {
                    "seed": seed,
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "numpy": rng.bit_generator.state,
                    "torch": torch.get_rng_state(),
                    "best": best,
                    "best_error": best_error,
                    "step": step,
                    "spent": elapsed,
                    "since": since,
                }
            )
    if checked != step:
        error = check()
        if error < best_error:
            best, best_error = copy.deepcopy(model.state_dict()), error
    spent = time.process_time() - started
    model.load_state_dict(best)
    model.eval()
    log.info(f"seed {seed}: {step} steps in {spent:.0f} CPU s (ended by {stopped}), validation MAE {best_error:.4f}")
    trained = Trained(best, {"steps": float(step), "train_s": spent, "validation_mae": best_error})
    keeper.finished[seed] = {"state": trained.state, "info": trained.info}
    keeper.save(None)
    return trained
