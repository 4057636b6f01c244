"""The data stage: worlds and their truths, simulated or from real files."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from ..core.stages import Job, Result
from . import iri_day, periods, simulation
from .settings import Prepare
from .world import Truth, World, save, save_truth


def prepare(job: Job, settings: Prepare, log: Any) -> Result:
    """Stage ``prepare``: IRI maps by day (``days``) and raw files (``raw``) -> ``worlds`` and ``truth``, a group a
    world.

    Raises
    ------
    DataError
        Missing days, or raw files that can't be read.
    """
    source = dict(job.facts["source"])
    paths = _listed(job.inputs["days"])
    if source["reader"] == "simulation":
        made = simulated(paths, settings)
    else:
        from . import real

        raw = [Path(path) for path in _listed(job.inputs["raw"])]
        made = getattr(real, source["reader"])(raw, paths, settings.weather.beyond)
    facts_of_set = info(source, [world for world, _ in made])
    metrics = {}
    for world, truth in made:
        unobserved = int((~world.drivers.observed).sum())
        if unobserved:
            log.info(f"world {world.name}: space weather of {unobserved} hours was not observed: predictions, flagged")
        world.attrs["dataset"] = facts_of_set
        save(job.outputs["worlds"], world)
        save_truth(job.outputs["truth"], world.name, truth)
        metrics |= facts(world, truth)
        log.info(f"world {world.name}: {len(world.obs)} observations, {int(world.obs_withheld.sum())} withheld")
    return Result(metrics, dataset=facts_of_set)


def _listed(value: Any) -> list[Any]:
    return [value] if isinstance(value, str | Path) else list(value)


def simulated(paths: list[Any], settings: Prepare) -> list[tuple[World, Truth]]:
    """The simulated worlds that the settings name."""
    wanted = settings.worlds
    size = simulation.Size(wanted.hours, wanted.profiles, wanted.dense_points, wanted.columns)
    made = []
    for name in wanted.names:
        maps, lat, lon = iri_day.read(paths, periods.days(name, wanted.hours))
        made.append(simulation.simulate(name, maps[0], maps[1], lat, lon, size))
    return made


def facts(world: World, truth: Truth) -> dict[str, float]:
    """Numbers of a world for the run's record."""
    found = {"profiles": len(np.unique(world.obs_profile)), "observations": len(world.obs)}
    if world.has_tec:
        found["tec_mean"] = float(np.nanmean(world.tec))
    return {f"{key}_{world.name}": float(value) for key, value in found.items()}


def info(source: dict[str, Any], worlds: list[World]) -> dict[str, Any]:
    """Facts of the data set for the run's record and the table (design, section 3); a simulation's digest is that of
    its worlds' data."""
    spans = dict.fromkeys(
        f"{world.start:%Y-%m-%d %H:%M} to {world.start + timedelta(hours=world.hours):%Y-%m-%d %H:%M}"
        for world in worlds
    )
    keys = ("name", "requested", "source", "sha256", "licence")
    digests = "".join(world.attrs.get("data_digest", "") for world in worlds)
    digest = source.get("sha256") or (hashlib.sha256(digests.encode()).hexdigest() if digests else None)
    facts = {key: source.get(key) for key in keys} | {"sha256": digest}
    return facts | {"period": ", ".join(spans), "n": len(worlds)}
