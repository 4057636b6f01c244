"""The stage ``train``: one model a seed, kept in one file."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ..core.errors import DataError, PipelineError
from ..core.runlog import read_run
from ..core.stages import Job, Result
from ..core.store import digest
from . import published
from .boosted import OutOfFold
from .cube import Cube, load
from .learning import Keeper, learn
from .residual import Residual
from .settings import Train
from .windows import Windows


def train(job: Job, settings: Train, log: Any) -> Result:
    """Stage ``train``. Inputs: ``data``; ``needs`` (weights of the teacher, or of the model that is grown).

    Raises
    ------
    DataError
        An arm on places for data without coordinates.
    PipelineError
        A distilled or grown arm that needs no other arm.
    """
    cube = load(job.inputs["data"])
    if settings.network.embedding == "places" and not np.isfinite(cube.place).all():
        raise DataError(f"{cube.info['name']} has no coordinates; take network.embedding: table for it")
    code = "".join(digest(path) for path in job.inputs.get("code", []))
    fingerprint = hashlib.sha256(f"{log.key} {code}".encode()).hexdigest()
    keeper = Keeper.open(log.checkpoint_path(".pt"), fingerprint, log)
    if keeper.current is not None:
        log.resume(int(keeper.current["step"]))
    run = _residual if settings.network.kind == "residual" else _published
    models, metrics = run(job, settings, cube, keeper, log)
    tensors = {
        f"{seed}.{name}": tensor.contiguous() for seed, model in models.items() for name, tensor in model.items()
    }
    save_file(tensors, job.outputs["weights"])
    infos = [keeper.finished[seed]["info"] for seed in job.seeds]
    metrics |= {name: float(np.mean([info[name] for info in infos])) for name in infos[0]}
    return Result(metrics, weights=("weights",), dataset=cube.info)


def other_arm(job: Job) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Weights and run record of the arm that this one needs."""
    needs = job.inputs.get("needs")
    if not needs:
        raise PipelineError("an arm that is distilled or grown needs another one: add `needs: [<arm>]` to it")
    path = Path(needs if isinstance(needs, str | Path) else needs[0])
    return load_file(path), read_run(path.with_name("train.run.json"))


def _published(job: Job, settings: Train, cube: Cube, keeper: Keeper, log: Any):
    network, fit = settings.network, settings.fit
    windows = Windows(cube, 0, network, job.device, published.unseen_nodes(settings.unseen.share, cube))
    models, metrics = {}, {}
    for place, seed in enumerate(job.seeds):
        model = published.for_cube(network, cube, job.device, seed)
        metrics = published.counts(model)
        if seed in keeper.finished:
            models[seed] = keeper.finished[seed]["state"]
            continue
        teacher: nn.Module | None = None
        if fit.distil or fit.grow:
            weights, run = other_arm(job)
            other = published.teacher_of(run, weights, seed, cube, job.device)
            if fit.grow:
                taken = published.grow(other.state_dict(), model)
                log.info(f"seed {seed}: {taken} tensors grown from a model of {len(other.state_dict())}")
            teacher = other if fit.distil else None
        loss = published.loss_function(model, windows, settings, cube, teacher)
        validate = published.validation(model, windows, cube)
        models[seed] = learn(model, loss, validate, fit, seed, keeper, log, place).state
    return models, metrics


def _residual(job: Job, settings: Train, cube: Cube, keeper: Keeper, log: Any):
    clock = time.process_time()
    arm = Residual(cube, settings)
    boost = None
    if settings.base.imputer == "boosting":
        boost = OutOfFold.fit(cube, arm.describer, settings, job.seeds[0])
        log.info(f"boosting without each of {settings.base.folds} parts: {time.process_time() - clock:.0f} CPU s")
    scene, cells = arm.training(job.seeds[0], boost)
    val_scene, val_cells = arm.validation_cells(boost)
    spent = time.process_time() - clock
    log.info(f"{len(cells):,} training cells with {cells.x.shape[1]} features: {spent:.0f} CPU s")
    fit = settings.fit
    if fit.seconds:  # what was spent on features is of the same budget
        fit = fit.model_copy(update={"seconds": max(1.0, fit.seconds - spent / len(job.seeds))})
    models, metrics = {}, {"prepare_s": spent}
    for place, seed in enumerate(job.seeds):
        model = arm.build(cells.x.shape[1], seed)
        metrics |= {"parameters_total": float(sum(p.numel() for p in model.parameters()))}
        if seed in keeper.finished:
            models[seed] = keeper.finished[seed]["state"]
            continue
        validate = arm.validation(model, val_cells, val_scene)
        start = validate()
        loss = arm.loss(model, cells, scene)
        models[seed] = learn(model, loss, validate, fit, seed, keeper, log, place).state
        metrics["validation_mae_at_start"] = start
    return models, metrics
