"""Stage ``evaluate``: what each trained member says of the points that its world asks for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ..core.stages import Job, Result
from ..core.store import read_json
from . import assimilate, baseline_arm, estimates
from . import world as worlds
from .checkpoints import load
from .point import build, predictor
from .problem import make_problem
from .settings import Learn
from .train import member_name


def predict_of(world: worlds.World, settings: Learn, folder: Path, seed: int, device: str = "cpu") -> estimates.Predict:
    """The function points -> (log10 Ne, sd or None) of a trained member."""
    stem = member_name(world.name, seed)
    if settings.method.kind == "assimilate":
        return assimilate.load(world, settings, folder / f"{stem}.safetensors").predict
    if settings.method.kind == "baseline":
        return baseline_arm.predict_of(world, settings)
    problem = make_problem(world, settings.network, device)
    model = build(problem, settings)
    model.load_state_dict(load(folder, stem))
    return predictor(problem, model.eval())


def evaluate(job: Job, settings: Learn, log: Any) -> Result:
    """Inputs ``worlds``, ``models`` and ``summary``; output ``estimates``: one store, a member a world and seed."""
    folder = Path(job.inputs["models"])
    summary = read_json(job.inputs["summary"])
    found, info = [], {}
    names = worlds.names(job.inputs["worlds"])
    progress = log.progress(len(names) * len(job.seeds), "members")
    for name in names:
        world = worlds.load(job.inputs["worlds"], name)
        info = world.attrs
        for seed in job.seeds:
            begin = time.process_time()
            predict = predict_of(world, settings, folder, seed, job.device)
            one = estimates.estimate(job.facts.get("arm") or "arm", world, seed, predict)
            one.attrs = {"evaluate_s": time.process_time() - begin, **summary[member_name(name, seed)]}
            found.append(one)
            progress.update(len(found))
    estimates.write(job.outputs["estimates"], found)
    return Result({"evaluate_s": sum(one.attrs["evaluate_s"] for one in found)}, dataset=info)
