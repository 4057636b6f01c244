"""Stage ``sampling``: seconds against quality of four ways to draw from a forecast; the seed's sampling-time test."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.runlog import read_run
from ..core.stages import Job, Result
from ..core.store import write_json
from . import events, langevin, ode, scores, weights
from .batches import Frames, Scale, buckets
from .corrected import Corrected, Standard
from .denoise import Smash
from .evaluate import chosen
from .events import Catalogue, Targets
from .score_net import ScoreNet
from .settings import Evaluate, Sampler, Study

EVENTS = 100  # test events that are drawn for
SAMPLES = (10, 30, 100)
LANGEVIN_STEPS = (50, 100, 200, 500, 2000)
UNCACHED_STEPS = (50, 200)  # the same chains: their quality is that of the cached ones
ODE_STEPS = (4, 8, 16, 24, 48)
EXTRAPOLATED = 11_102, 300  # events of the whole Earthquake test, samples as published


class Uncached(langevin.Cached):
    """Scores that project the conditions anew at every evaluation, as the published sampler does."""

    def __init__(self, net: ScoreNet, cond: torch.Tensor):
        super().__init__(net, cond)
        self.net, self.cond = net, cond

    def temporal(self, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.net.temporal(t, self.net.conditions(self.cond))

    def intensity(self, h: torch.Tensor, dh: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.net.intensity(h, dh)

    def place_score(self, h: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        return self.net.place_score(h, place, self.net.conditions(self.cond))


def quality(
    catalogue: Catalogue, targets: Targets, value: np.ndarray, probability: np.ndarray | None
) -> dict[str, float]:
    """Mean scores of samples [n, M, 3] in the data's units."""
    marks = probability if catalogue.marked and probability is not None else None
    found = scores.score_samples(
        catalogue, targets, scores.Samples(value[..., 0], value[..., 1:], marks), np.random.default_rng(0)
    )
    pit = np.sort(found["pit_time"])
    n = len(pit)
    names = ("crps_time", "crps_log_time", "energy_location", "energy_joint", "log_mark_given_t")
    result = {name: float(found[name].mean()) for name in names if name in found}
    return result | {"pit_ks": float(np.maximum(np.arange(1, n + 1) / n - pit, pit - np.arange(n) / n).max())}


def study(job: Job, settings: Study, log: Any) -> Result:
    """Time every sampler at several numbers of steps and samples, on the same test events and one thread.

    Inputs: ``data``; weights and training records of ``smash`` and ``corrected``.
    """
    catalogue = events.load(job.inputs["data"])
    every = catalogue.targets("test")
    at = chosen(every, EVENTS)
    targets = Targets(every.row[at], every.sequence[at], every.index[at], every.windows)
    rows: list[dict[str, Any]] = []
    smash, cond, scale, given = _load(job, "smash", catalogue, every, at)
    sigma = given.denoise.sigma_time, given.denoise.sigma_location
    plan = [("langevin_cached", steps, m) for m in SAMPLES for steps in LANGEVIN_STEPS]
    plan += [("langevin", steps, m) for m in SAMPLES for steps in UNCACHED_STEPS]
    progress = log.progress(len(plan) + len(SAMPLES) * (len(ODE_STEPS) + 1), "sampling-time study")
    for done, (kind, steps, m) in enumerate(plan):
        field = langevin.Cached if kind == "langevin_cached" else Uncached
        sampler = Sampler(steps=steps, samples=m, step_size=given.sampler.step_size)
        generator = torch.Generator().manual_seed(0)
        (x, p), seconds = _timed(langevin.sample, smash.net, cond, sampler, sigma, generator, lambda steps: None, field)
        rows.append(_row(kind, steps, m, seconds, catalogue, targets, scale.backward(x.double().numpy()), p))
        progress.update(done + 1)
    model, cond, scale, _ = _load(job, "corrected", catalogue, every, at)
    bounds, done = (scale.least, scale.most), len(plan)
    for m in SAMPLES:
        for steps in ODE_STEPS:
            (x, p), seconds = _timed(ode.sample, model, cond, m, steps, 512, bounds, torch.Generator().manual_seed(0))
            rows.append(_row("ode", steps, m, seconds, catalogue, targets, scale.backward(x.double().numpy()), p))
            progress.update(done := done + 1)
        seconds = _exact_draws(model, cond, m, bounds)
        rows.append({"sampler": "exact_time_and_mark", "steps": 0, "samples": m} | _cost(seconds, m))
        progress.update(done := done + 1)
    table = {
        "schema": "sampling/1",
        "system": "smash",
        "dataset": catalogue.meta.get("name"),
        "events": EVENTS,
        "threads": torch.get_num_threads(),
        "note": "CPU seconds of one thread; whole_test_s is the same cost for "
        f"{EXTRAPOLATED[0]:,} events with {EXTRAPOLATED[1]} samples each (the published sampler: 52,200 s)",
        "units": {"time": catalogue.meta["units"]["time"], "place": catalogue.meta["units"]["place"]},
        "rows": rows,
        "produced": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(job.outputs["table"], table)
    best = {f"s_{r['sampler']}_{r['steps']}_{r['samples']}": r["seconds"] for r in rows}
    return Result(best, tables=("table",), dataset=catalogue.meta.get("info"))


def _load(job: Job, name: str, catalogue: Catalogue, every: Targets, at: np.ndarray):
    """Model, conditions [n, C] of the events, scale and settings of an arm."""
    settings = Evaluate.model_validate(read_run(Path(job.inputs[f"{name}_run"]))["settings"])
    states, _ = weights.load(job.inputs[name])
    state = states[min(states)]
    if name == "smash":
        model, scale = Smash.of(settings, catalogue.marks), Scale.of(catalogue, settings.denoise.log_time)
    else:
        model = Corrected(catalogue.marks, settings.corrected)
        scale = Standard.of(catalogue, settings.denoise.log_time)
    model.load_state_dict(state)
    model.eval()
    frames, found, rows = Frames(catalogue, scale), [], []
    with torch.no_grad():
        for one in buckets(catalogue.lengths, catalogue.sequences("test"), 4000, None):
            batch = frames.batch(one)
            found.append(model.condition(batch))
            rows.append(batch.row[:, 1:][batch.target])
    cond = torch.cat(found)[torch.cat(rows).argsort()][at]
    return model, cond, scale, settings


def _timed(function: Any, *args: Any) -> tuple[Any, float]:
    begun = time.process_time()
    with torch.no_grad():
        found = function(*args)
    return found, time.process_time() - begun


def _exact_draws(model: Corrected, cond: torch.Tensor, m: int, bounds: tuple[float, float]) -> float:
    """Seconds for gaps and marks alone, from the table of the intensity."""

    def draw() -> None:
        given = model.given(cond)
        grid = torch.linspace(bounds[0] - ode.BEYOND, bounds[1] + ode.BEYOND, 512)
        least = torch.full((len(cond), 512), model.least_time)
        rate, _ = model.intensity(grid.expand(len(cond), -1), least, given, slope=False)
        t = ode.draw_from_table(rate.sum(-1), grid, torch.rand(len(cond), m))
        rate, _ = model.intensity(t, least[:, :1].expand(-1, m), given, slope=False)
        torch.multinomial(rate.flatten(0, 1) + 1e-12, 1)

    return _timed(draw)[1]


def _cost(seconds: float, m: int) -> dict[str, float]:
    whole, published = EXTRAPOLATED
    return {"seconds": seconds, "whole_test_s": seconds / (EVENTS * m) * whole * published}


def _row(kind, steps, m, seconds, catalogue, targets, value, probability) -> dict[str, Any]:
    marks = probability.double().numpy() if probability.shape[-1] == catalogue.marks else None
    found = {} if kind == "langevin" else quality(catalogue, targets, value, marks)
    return {"sampler": kind, "steps": steps, "samples": m} | _cost(seconds, m) | {"quality": found}
