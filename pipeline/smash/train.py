"""Stage ``train``: one arm's model for every seed."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import torch

from ..core.stages import Job, Result
from ..core.store import digest
from . import events, fitting, weights
from .batches import Frames, Scale
from .settings import Train


def train(job: Job, settings: Train, log: Any) -> Result:
    """Train on the training windows, choose by the validation windows, keep one state a seed.

    Score matching runs on the job's device. The exact model, and all sampling and scoring, run on the CPU.

    Inputs: ``data``; ``fitted`` (the fitted ETAS) where the arm starts from it.
    """
    catalogue = events.load(job.inputs["data"])
    fit = {"smash": _smash, "corrected": _corrected, "exact": _exact}[settings.model.kind]
    states, losses, steps, counts = {}, [], 0, {}
    begun = time.process_time()
    for seed in job.seeds[: settings.model.seeds]:
        torch.manual_seed(seed)
        found, counts = fit(job, settings, catalogue, seed, log)
        if isinstance(found, fitting.Fit):
            found = [found]
        for member, one in enumerate(found):
            states[1000 * member + seed] = one.state
        losses.append(sum(one.validation_loss for one in found) / len(found))
        steps = found[0].steps
    cost = (time.process_time() - begun) / len(losses)
    weights.save(job.outputs["weights"], states, {"kind": settings.model.kind, "parameters": counts, "steps": steps})
    metrics = {"validation_loss": sum(losses) / len(losses), "steps": float(steps), "train_cpu_s": cost}
    metrics |= {f"parameters_{name}": float(count) for name, count in counts.items()}
    return Result(metrics, weights=("weights",), dataset=catalogue.meta.get("info"))


def fingerprint(job: Job, log: Any, seed: int) -> str:
    """What a checkpoint must agree with to be gone on from: settings, data and code."""
    code = "".join(digest(path) for path in job.inputs.get("code", []))
    return hashlib.sha256(f"{log.key} {code} {seed}".encode()).hexdigest()


def _smash(job: Job, settings: Train, catalogue: events.Catalogue, seed: int, log: Any):
    from .denoise import Loss, Smash

    frames = Frames(catalogue, Scale.of(catalogue, settings.denoise.log_time), job.device)
    model = Smash.of(settings, catalogue.marks).to(job.device)
    place = Path(log.checkpoint_path(f".{seed}"))
    found = fitting.fit(
        model, Loss(settings.denoise), frames, settings.training, seed, log, place, fingerprint(job, log, seed)
    )
    return found, model.parameter_counts()


def _corrected(job: Job, settings: Train, catalogue: events.Catalogue, seed: int, log: Any):
    from .corrected import Corrected, MultiNoise, Standard

    frames = Frames(catalogue, Standard.of(catalogue, settings.denoise.log_time), job.device)
    model = Corrected(catalogue.marks, settings.corrected).to(job.device)
    place = Path(log.checkpoint_path(f".{seed}"))
    training = settings.training.model_copy(update={"lr": settings.corrected.lr, "lr_end": 0.0})
    loss = MultiNoise(settings.denoise, settings.corrected)
    key = fingerprint(job, log, seed)
    found = fitting.fit(model, loss, frames, training, seed, log, place, key, settings.corrected.average)
    return found, {"trainable": sum(p.numel() for p in model.parameters())}


def _exact(job: Job, settings: Train, catalogue: events.Catalogue, seed: int, log: Any):
    # on the CPU, like the fitted ETAS that it starts from: half a minute, most of it in small recurrent steps
    from . import exact_fit
    from .exact_base import build

    found, count = [], 0
    reader = None
    for member in range(settings.exact.members):
        torch.manual_seed(1000 * member + seed)
        model, reader = build(catalogue, job.inputs.get("fitted"), settings.exact, reader)
        found.append(exact_fit.fit(model, reader, settings.exact, 1000 * member + seed, log))
        count += sum(p.numel() for p in model.parameters())
    return found, {"trainable": count}
