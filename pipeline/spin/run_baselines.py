"""All baselines of a scenario in one job, under every mask: one store of imputations."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from ..core.stages import Job, Result
from .baselines import TRANSDUCTIVE, Plan, Scene, boosters
from .cube import Cube, Imputations, load, write_imputations
from .data_settings import Baselines
from .intervals import LEVELS, target_gaps, with_intervals


def impute(cube: Cube, names: list[str], settings: Baselines, log: Any = None) -> tuple[Imputations, dict[str, float]]:
    """Every named baseline under every mask.

    Returns
    -------
    imputations (members are the names) with intervals, and CPU seconds by name. ``attrs`` of the imputations hold the
    chosen variant, its validation errors, CPU seconds and whether the method is transductive, by name.
    """
    layout = cube.layout()
    _, nodes, channels = cube.shape
    cells = (layout.time * nodes + layout.node) * channels + layout.channel
    scenes = [Scene.of(cube, mask, settings.boosting.neighbours) for mask in range(len(cube.masks))]
    value = np.full((len(names), layout.size), np.nan)
    costs, facts = {}, {}
    plans: dict[str, Plan] = {}
    for member, name in enumerate(names):
        clock = time.process_time()
        fewer = [one for one in plans.values() if 0 < one.models <= boosters(name, settings)]
        plan = plans[name] = Plan(name, settings, short=max(fewer, key=lambda one: one.models, default=None))
        for mask, scene in enumerate(scenes):  # the named mask first: there variants are chosen and trees are grown
            here = layout.mask == mask
            value[member, here] = plan.values(scene, cells[here])
        costs[name] = time.process_time() - clock + plan.taken_s  # as if it had fitted all of its models
        facts[name] = {
            "cpu_s": costs[name],
            "transductive": TRANSDUCTIVE[name],
            "variant": plan.variant,
            "validation": plan.errors,
        }
        if log is not None:
            chosen = f", variant {plan.variant}" if plan.variant else ""
            log.info(f"{name}: {costs[name]:.1f} CPU s{chosen}")
    quantile = with_intervals(cube, layout, value, target_gaps(cube, layout))
    return Imputations(list(names), value, quantile, LEVELS, {"methods": facts}), costs


def run(job: Job, settings: Baselines, log: Any) -> Result:
    """Stage ``baselines``: ``data`` -> ``imputations``, one member a baseline named in ``job.facts["baselines"]``."""
    cube = load(job.inputs["data"])
    found, costs = impute(cube, list(job.facts["baselines"]), settings, log)
    write_imputations(job.outputs["imputations"], found)
    return Result({f"cpu_s/{name}": cost for name, cost in costs.items()}, dataset=cube.info)
