"""Stage ``train``: every world and seed of an arm, one after the other in one job."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from ..core.precision import mixed
from ..core.stages import Job, Result
from ..core.store import write_json
from . import assimilate
from . import world as worlds
from .checkpoints import Keeper
from .memory import check_fits, saved_bytes
from .point import Objective, Sampler, build, fit
from .problem import make_problem
from .seed_net import parameter_counts
from .settings import Learn


def member_name(world: str, seed: int) -> str:
    return f"{world}_{seed}"


def train(job: Job, settings: Learn, log: Any) -> Result:
    """Fit an arm to each world (input ``worlds``) with each seed; outputs ``models`` (safetensors) and ``summary``.

    Raises
    ------
    PipelineError
        Before the start where a training would not fit into memory.
    """
    folder = Path(job.outputs["models"])
    folder.mkdir(parents=True)
    names = worlds.names(job.inputs["worlds"])
    progress = log.progress(len(names) * len(job.seeds), "members")
    summary, info = {}, {}
    for place, name in enumerate(names):
        world = worlds.load(job.inputs["worlds"], name)
        info = world.attrs
        one = {"point": _point, "assimilate": _assimilate, "baseline": _nothing}[settings.method.kind]
        for number, seed in enumerate(job.seeds):
            done = place * len(job.seeds) + number
            total = len(names) * len(job.seeds)

            def report(step: int, parts: dict[str, float], done: int = done, total: int = total) -> None:
                whole = settings.train.steps if settings.method.kind == "point" else settings.nets.steps
                log.history(done * whole + step, total * whole, **parts)

            begin = time.process_time()
            found = one(world, settings, seed, folder, job.device, report)
            summary[member_name(name, seed)] = found | {"cpu_s": time.process_time() - begin}
            progress.update(done + 1)
    write_json(job.outputs["summary"], summary)
    metrics: dict[str, float] = {}
    for key in next(iter(summary.values())):
        values = [one[key] for one in summary.values()]
        metrics[key] = float(np.max(values) if key.startswith("peak") else np.mean(values))
    return Result(metrics, weights=("models",), dataset=info)


def _point(world: worlds.World, settings: Learn, seed: int, folder: Path, device: str, report: Any) -> dict[str, float]:
    problem = make_problem(world, settings.network, device, settings.train.validation)
    model = build(problem, settings)
    counts = parameter_counts(model)
    estimated = check_fits(settings, counts["total"], world.hours, device)
    kept = _saved(problem, model, settings)
    keeper = Keeper(folder, member_name(world.name, seed), settings.saving)
    trained = fit(problem, settings, seed, keeper, report)
    last = trained.history[-1]
    return {
        **{f"parameters_{name}": float(count) for name, count in counts.items()},
        **{f"estimated_{name}": value for name, value in estimated.items()},
        **{f"loss_{name}": last[name] for name in ("data", "chapman", "direction", "background") if name in last},
        "saved_mb": kept / 2**20,
        "peak_mb": trained.peak_mb,
        "seconds_per_step": trained.seconds_per_step,
        "check_mse": trained.best,
        "checkpoint_bytes": float(trained.checkpoint_bytes),
    }


def _saved(problem: Any, model: Any, settings: Learn) -> int:
    """Bytes that autograd keeps in one step of this arm."""
    import torch

    objective = Objective(problem, model, settings.losses, torch.Generator().manual_seed(0))
    plan = settings.train
    rows, hours = Sampler(problem.coords[:, 3], problem.world.hours, plan.time_bin, plan.batch, 0).draw()

    def step() -> torch.Tensor:
        with mixed(plan.precision, problem.device):
            return objective(0, rows, hours)[0]

    return saved_bytes(step)


def _assimilate(
    world: worlds.World, settings: Learn, seed: int, folder: Path, device: str, report: Any
) -> dict[str, float]:
    return assimilate.fit(world, settings, seed, folder / f"{member_name(world.name, seed)}.safetensors", report)


def _nothing(
    world: worlds.World, settings: Learn, seed: int, folder: Path, device: str, report: Any
) -> dict[str, float]:
    """Of a baseline: all its work is done where it is asked."""
    return {"checkpoint_bytes": 0.0}
