"""The stage ``evaluate``: every target of every mask imputed once, with intervals calibrated on validation cells."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from ..core.stages import Job, Result
from . import published
from .boosted import OutOfFold
from .cells import Scene
from .conformal import Calibration
from .cube import TEST, VAL, Cube, Imputations, load, read_imputations, write_imputations
from .intervals import LEVELS, target_gaps, with_intervals
from .residual import Residual
from .settings import Evaluate
from .windows import Windows

GRID = np.linspace(0, 1, 21)  # weights that are tried in a stack


def evaluate(job: Job, settings: Evaluate, log: Any) -> Result:
    """Stage ``evaluate``. Inputs: ``data``; ``weights`` (of a network); ``needs`` and ``baselines`` (of a stack)."""
    cube = load(job.inputs["data"])
    run = {"residual": _residual, "stack": _stack}.get(settings.network.kind, _published)
    guess, metrics = run(job, settings, cube, log)  # [member, target, 1 or 5]
    value = guess[:, :, guess.shape[2] // 2]
    quantile = calibrated(cube, guess) if settings.uncertainty.conformal else None
    write_imputations(
        job.outputs["imputations"],
        Imputations(list(job.seeds), value, quantile, LEVELS if quantile is not None else ()),
    )
    layout, (_, sd) = cube.layout(), cube.scaler(0)
    error = np.abs(value - layout.truth)
    if len(cube.channels) > 1:  # their units differ: in training standard deviations
        error = error / sd[layout.channel]
    for split, name in ((VAL, "validation_mae"), (TEST, "mae")):
        metrics[name] = float(np.mean(error[:, layout.slice(0, split)]))
    return Result(metrics, dataset=cube.info)


def calibrated(cube: Cube, guess: np.ndarray) -> np.ndarray:
    """[member, target, level] quantiles of values [member, target, 1] or of a head's quantiles [member, target, 5]."""
    layout = cube.layout()
    gap, known = target_gaps(cube, layout), layout.slice(0, VAL)
    if guess.shape[2] == 1:
        return with_intervals(cube, layout, guess[:, :, 0], gap)
    channel, channels = layout.channel, cube.shape[2]
    found = np.empty_like(guess)
    for member, one in enumerate(guess):
        fitted = Calibration.fit(layout.truth[known], one[known], gap[known], channel[known], channels)
        found[member] = fitted.apply(one, gap, channel)
    return found


def _published(job: Job, settings: Evaluate, cube: Cube, log: Any):
    weights = load_file(job.inputs["weights"])
    network, overlap = settings.network, settings.impute.overlap
    unseen = published.unseen_nodes(settings.unseen.share, cube)
    layout = cube.layout()
    value = np.empty((len(job.seeds), layout.size, 1), np.float32)
    models = [published.load_into(published.for_cube(network, cube, job.device), weights, seed) for seed in job.seeds]
    metrics: dict[str, float] = published.counts(models[0])
    windows = Windows(cube, 0, network, job.device, unseen)
    for mask in range(len(cube.masks)):
        windows = Windows(cube, mask, network, job.device, unseen)
        rows = np.zeros(len(cube.time), bool)
        rows[layout.time[layout.mask == mask]] = True
        for member, model in enumerate(models):
            filled = published.impute(model, windows, rows, overlap)
            for split in (VAL, TEST):
                part = layout.slice(mask, split)
                value[member, part, 0] = filled[layout.time[part], layout.node[part], layout.channel[part]]
    if unseen is not None:
        windows = Windows(cube, 0, network, job.device, unseen)
        errors = [
            published.unseen_errors(model, windows, cube, unseen, cube.split == TEST, overlap) for model in models
        ]
        for seed, found in zip(job.seeds, errors, strict=True):
            metrics |= {f"{name}_seed{seed}": value for name, value in found.items()}
    return value, metrics | {"latency_ms": latency(models[0], windows)}


def latency(model: torch.nn.Module, windows: Windows, rounds: int = 3) -> float:
    """CPU milliseconds of imputing one window of all nodes: the best of a few."""
    batch = windows.batch(windows.training(False)[:1])
    forward, best = published.forward(model, windows), float("inf")
    with torch.no_grad():
        for _ in range(rounds):
            clock = time.process_time()
            forward(*batch)
            best = min(best, 1000 * (time.process_time() - clock))
    return best


def _residual(job: Job, settings: Evaluate, cube: Cube, log: Any):
    weights = load_file(job.inputs["weights"])
    arm, layout = Residual(cube, settings), cube.layout()
    boost = OutOfFold.fit(cube, arm.describer, settings, job.seeds[0]) if settings.base.imputer == "boosting" else None
    models: list[torch.nn.Module] = []
    value: np.ndarray | None = None
    spent = 0.0
    _, nodes, channels = cube.shape
    for mask in range(len(cube.masks)):
        visible = cube.visible(mask)
        part = slice(layout.slice(mask, VAL).start, layout.slice(mask, TEST).stop)  # they lie side by side
        flat = (layout.time[part] * nodes + layout.node[part]) * channels + layout.channel[part]
        clock = time.process_time()
        cells = arm.cells(visible, flat, 0, boost)
        scene = Scene.of(arm.describer.space, cube.value, visible)
        if value is None:
            models = [published.load_into(arm.build(cells.x.shape[1], seed), weights, seed) for seed in job.seeds]
            levels = len(LEVELS) if settings.uncertainty.head == "quantile" else 1
            value = np.empty((len(models), layout.size, levels), np.float32)
        channel = layout.channel[part]
        mean, sd = (s[channel][:, None] for s in (arm.describer.space.mean, arm.describer.space.sd))
        for member, model in enumerate(models):
            value[member, part] = arm.predict(model, cells, scene).numpy() * sd + mean
        spent += time.process_time() - clock
    window = settings.network.window * nodes * channels / layout.size * 1000 * spent / len(models)
    count = float(sum(p.numel() for p in models[0].parameters()))
    return value, {"parameters_total": count, "latency_ms": window}


def _stack(job: Job, settings: Evaluate, cube: Cube, log: Any):
    """The needed arm's values averaged with ``boosting_bag``'s, by the weight that is best on the validation cells."""
    layout = cube.layout()
    baselines = read_imputations(job.inputs["baselines"])
    boosting = baselines.value[baselines.members.index("boosting_bag")]  # [target]
    needs = job.inputs["needs"]
    saved = read_imputations(Path(needs if isinstance(needs, str | Path) else needs[0]))
    members = [saved.members.index(seed) for seed in job.seeds]
    value, metrics = np.empty((len(members), layout.size, 1), np.float32), {}
    part = layout.slice(0, VAL)
    for place, member in enumerate(members):
        network = saved.value[member]
        for channel, name in enumerate(cube.channels):
            known = np.zeros(layout.size, bool)
            known[part] = layout.channel[part] == channel
            errors = [
                np.mean(np.abs(w * network[known] + (1 - w) * boosting[known] - layout.truth[known])) for w in GRID
            ]
            weight = float(GRID[int(np.argmin(errors))])
            here = layout.channel == channel
            value[place, here, 0] = weight * network[here] + (1 - weight) * boosting[here]
            metrics[f"stack_weight_{name}_seed{job.seeds[place]}"] = weight
            log.info(f"seed {job.seeds[place]}, {name}: {weight:.2f} network + {1 - weight:.2f} boosting_bag")
    return value, metrics
