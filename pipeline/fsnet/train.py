"""Pre-training on the first period; arms that differ only in how they learn online share it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.stages import Job, Result
from .engine import LearnSettings, State, init_state, predict, pretrain_step_
from .memory import MemorySettings
from .model import NetworkSpec
from .series import load_realizations
from .settings import Network, Train
from .streaming import Windows


def specification(network: Network, windows: Windows) -> NetworkSpec:
    """The network of an arm, with an idle published memory where it has adapters (an arm brings its own later)."""
    return NetworkSpec(
        kind=network.kind,
        inputs=windows.inputs,
        outputs=windows.outputs,
        window=windows.window,
        hidden=network.hidden,
        representation=network.representation,
        depth=network.depth,
        dropout=network.dropout,
        chunks="upstream" if network.chunks == "flat" else "output",
        controller_width=network.controller,
        identity=network.identity,
        zero_head=network.zero_head,
        gate=network.chunk_gate,
        gamma=network.gamma,
        gamma_short=network.gamma_short,
        memory=MemorySettings(variant="upstream" if network.kind == "adapter" else "none"),
    )


def validation_loss(state: State, windows: Windows, origins: np.ndarray, batch: int = 64) -> torch.Tensor:
    """[R] mean squared error of the frozen network over ``origins``."""
    total = 0.0
    for start in range(0, len(origins), batch):
        chosen = torch.as_tensor(origins[start : start + batch], device=windows.labels.device)
        chosen = chosen.expand(len(state.seeds), -1)  # [R, B]
        error = predict(state, windows.x(chosen)) - windows.y(chosen)
        total = total + error.square().mean(dim=2).sum(dim=1)
    return total / len(origins)


def keep(best: State, state: State, better: torch.Tensor) -> None:
    """Copy the seeds marked in ``better`` [R] into ``best``."""
    current = state.named()
    for name, tensor in best.named().items():
        tensor[better] = current[name][better]


def train(job: Job, settings: Train, log: Any) -> Result:
    """Stage ``train``: AdamW over shuffled training windows, halving the rate from the third epoch on.

    Each seed has its own initial weights and its own shuffle; the state with the best validation loss is kept, seed
    by seed. As published (salesforce/fsnet, exp_fsnet.py), but validation has no side effects on the state.
    """
    series = load_realizations(Path(job.inputs["data"]), settings.task.features)
    task, plan = settings.task, settings.pretrain
    windows = Windows(series, task.window, task.horizon, settings.network, job.device)
    spec = specification(settings.network, windows)
    state = init_state(spec, job.seeds, job.device)
    origins = series[0].origins("train", task.window, task.horizon)
    held_out = series[0].origins("val", task.window, task.horizon)
    shuffles = [np.random.default_rng([seed, 1]) for seed in job.seeds]
    steps = len(origins) // plan.batch
    progress = log.progress(plan.epochs * steps, "pre-training")
    best, best_loss, since = state.clone(), validation_loss(state, windows, held_out), 0
    for epoch in range(plan.epochs):
        learn = LearnSettings(lr=plan.lr * 0.5 ** max(0, epoch - 1), weight_decay=plan.weight_decay)
        order = np.stack([rng.permutation(origins)[: steps * plan.batch] for rng in shuffles])  # [R, steps*B]
        order = torch.as_tensor(order, device=job.device).unflatten(1, (steps, plan.batch))  # [R, steps, B]
        for step in range(steps):
            report = pretrain_step_(state, windows.x(order[:, step]), windows.y(order[:, step]), learn)
            done = epoch * steps + step + 1
            progress.update(done)
            if done % 50 == 0:
                log.history(done, plan.epochs * steps, loss=float(report.loss.mean()))
        loss = validation_loss(state, windows, held_out)
        better = (loss < best_loss) | (epoch == 0)
        keep(best, state, better)
        best_loss = torch.where(better, loss, best_loss)
        since = 0 if bool(better.any()) else since + 1
        log.history((epoch + 1) * steps, plan.epochs * steps, validation_mse=float(loss.mean()))
        if since >= plan.patience:
            log.info(f"stopped after epoch {epoch + 1}: no better validation loss in {plan.patience} epochs")
            break
    best.calibration.refresh()
    best.save(job.outputs["weights"])
    counts = {f"parameters_{name}": float(value) for name, value in spec.parameter_counts().items()}
    metrics = {"validation_mse": float(best_loss.mean()), **counts}
    return Result(metrics, weights=("weights",), dataset=series[0].info)
