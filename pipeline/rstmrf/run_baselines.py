"""All baselines of a scenario in one job."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from ..core.stages import Job, Result
from . import estimates
from .baselines import Baselines, possible
from .settings import Nothing
from .world import load, names


def run(job: Job, settings: Nothing, log: Any) -> Result:
    """Stage ``baselines``: estimates of every named baseline in every world that has what it needs.

    ``worlds`` -> ``estimates``; members are (baseline, world). CPU seconds are a baseline's
    own: what two share (the weights of optimal interpolation) is counted for the first.
    """
    members, seconds, first = [], {}, None
    for name in names(job.inputs["worlds"]):
        world = load(job.inputs["worlds"], name)
        first = first or world
        made = Baselines(world)
        for baseline in job.facts["baselines"]:
            if not possible(baseline, world):
                log.info(f"{baseline}: left out in world {name}, which lacks what it needs")
                continue
            clock = time.process_time()
            one = made.estimate(baseline)
            one.attrs["cpu_s"] = time.process_time() - clock
            seconds.setdefault(baseline, []).append(one.attrs["cpu_s"])
            members.append(one)
            log.info(f"{baseline} in world {name}: {one.attrs['cpu_s']:.1f} s")
    estimates.write(job.outputs["estimates"], members)
    dataset = first.attrs.get("dataset") if first else None
    return Result({f"cpu_s_{name}": float(np.mean(values)) for name, values in seconds.items()}, dataset=dataset)
