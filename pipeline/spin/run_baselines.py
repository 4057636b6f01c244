"""All baselines of a scenario in one job, under every mask: one store of imputations."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from ..core.stages import Job, Result
from .baselines import TRANSDUCTIVE, Plan, Scene
from .cube import VAL, Cube, Imputations, Layout, load, write_imputations
from .data_settings import Baselines
from .gaps import Gaps, series
from .intervals import LEVELS, Intervals


def target_gaps(cube: Cube, layout: Layout) -> np.ndarray:
    """[target] rows from the last to the next visible cell around each target; 10,000 where a side has none."""
    found = np.empty(layout.size)
    rows, _, channels = cube.shape
    for mask in np.unique(layout.mask):
        here = np.flatnonzero(layout.mask == mask)
        own = (layout.node[here] * channels + layout.channel[here]) * rows + layout.time[here]
        gaps = Gaps.find(series(cube.visible(mask)), cube.segment, own, reach=1)
        before, after = gaps.before[0], gaps.after[0]
        found[here] = np.where((before >= 0) & (after >= 0), after - before, 10_000)
    return found


def with_intervals(cube: Cube, layout: Layout, value: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """[member, target, level] quantiles by gap length, calibrated on the validation cells of the named mask."""
    validation = layout.slice(0, VAL)
    found = np.empty((*value.shape, len(LEVELS)))
    for member, imputed in enumerate(value):
        error = (layout.truth - imputed)[validation]
        fitted = Intervals.fit(error, gap[validation], layout.channel[validation], cube.shape[2])
        found[member] = fitted.around(imputed, gap, layout.channel)
    return found


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
    for member, name in enumerate(names):
        clock = time.process_time()
        plan = Plan(name, settings.boosting)
        for mask, scene in enumerate(scenes):  # the named mask first: there variants are chosen and trees are grown
            here = layout.mask == mask
            value[member, here] = plan.values(scene, cells[here])
        costs[name] = time.process_time() - clock
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
