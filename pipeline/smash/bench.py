"""Speed of SMASH's training, sampling and scoring beside their plain forms in tests/reference: same run, one thread."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from pipeline.core.bench import record
from pipeline.core.environment import peak_rss_mb
from pipeline.core.errors import PipelineError
from pipeline.core.stages import Job, Result
from pipeline.smash import langevin, ode
from pipeline.smash.batches import Batch, Frames, Scale, buckets
from pipeline.smash.corrected import Corrected, Standard
from pipeline.smash.denoise import Loss, Smash
from pipeline.smash.events import Catalogue
from pipeline.smash.settings import Corrected as CorrectedSettings
from pipeline.smash.settings import Denoise, Sampler, Train

PLAIN = Path(__file__).parents[2] / "tests" / "reference" / "smash_plain.py"
# Published code on one thread of a quiet core: seconds an epoch (at least), microseconds an event, sample and step.
UPSTREAM_EPOCH_S = 150.0
UPSTREAM_STEP_US = 7.11
BATCH = 32  # windows in a published batch


def plain_module() -> ModuleType:
    """The plain form, which lives with the tests."""
    if not PLAIN.is_file():
        raise PipelineError(f"{PLAIN} is missing: the benchmark compares with it, so run it from a full checkout")
    spec = importlib.util.spec_from_file_location("smash_plain", PLAIN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def quake_like(windows: int = 128, seed: int = 0) -> Catalogue:
    """Windows with Earthquake's spread of lengths (19 to 545, median 64), three marks, 28° by 24° places."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(np.exp(rng.normal(np.log(64), 0.42, windows)), 19, 400).astype(int)
    lengths[rng.integers(windows)] = 545  # the longest window sets the memory of a padded batch
    t = np.concatenate([np.sort(rng.uniform(0, 30, n)) for n in lengths])
    xy = np.column_stack([rng.normal(140, 5, len(t)), rng.normal(36, 4, len(t))])
    split = np.zeros(windows, np.int8)
    split[-2:] = 1, 2
    catalogue = Catalogue(
        np.concatenate([[0], np.cumsum(lengths)]),
        t,
        rng.choice(3, len(t), p=[0.15, 0.74, 0.11]),
        xy,
        split,
        np.full(windows, 30.0),
        30.0 * np.arange(windows),
        np.zeros(windows, np.int64),
        meta={"marks": 3, "lattice": {"time": None, "place": None}},
    )
    log = np.log(np.maximum(catalogue.dt, 1e-4))

    def range_of(v: np.ndarray) -> dict:
        return {name: getattr(v, name)(axis=0).tolist() for name in ("mean", "min", "max")} | {"sd": v.std(0).tolist()}

    catalogue.meta["scaler"] = {"dt": range_of(catalogue.dt), "log_dt": range_of(log), "xy": range_of(xy)}
    return catalogue


def _cpu(function) -> float:
    begun = time.process_time()
    function()
    return time.process_time() - begun


def epochs(catalogue: Catalogue) -> dict[str, dict[str, float]]:
    """CPU seconds and peak memory of one epoch, the plain padded form beside the fast ones; same events.

    The plain form draws no dropout, which favours it.
    """
    torch.manual_seed(0)
    model = Smash.of(Train(), catalogue.marks).train()
    frames, lengths = Frames(catalogue, Scale.of(catalogue, True)), catalogue.lengths
    train = catalogue.sequences("train")
    tokens = int(BATCH * lengths[train].mean())
    plain = plain_module()
    generator = torch.Generator().manual_seed(0)

    def fast(noises: int, antithetic: bool) -> None:
        loss = Loss(Denoise(noises=noises, antithetic=antithetic))
        for one in buckets(lengths, train, tokens, np.random.default_rng(0)):
            loss.backward(model, frames.batch(one), generator)

    def padded() -> None:
        order = np.random.default_rng(0).permutation(train)
        for start in range(0, len(order), BATCH):
            plain.train_step(model, frames.batch(order[start : start + BATCH]), 50, Denoise(), generator)

    targets = int((lengths[train] - 1).sum())
    rows: dict[str, dict[str, float]] = {}
    runs = {
        "fast_50": lambda: fast(50, False),
        "fast_8_antithetic": lambda: fast(8, True),
        "plain_50": padded,  # last: memory is the process's peak so far
    }
    fast(8, True)  # warm
    for name, run in runs.items():
        seconds = _cpu(run)
        rows[name] = {
            "cpu_s": seconds,
            "us_per_event": 1e6 * seconds / targets,
            "peak_rss_mb": peak_rss_mb(),
        }
    for name in ("fast_50", "fast_8_antithetic"):
        rows[name]["ratio"] = rows["plain_50"]["cpu_s"] / rows[name]["cpu_s"]
    # De-overlapped windows of Earthquake are a quarter of the published epoch's events (300 of 1,200 windows).
    rows["fast_8_antithetic"]["earthquake_epoch_s"] = rows["fast_8_antithetic"]["us_per_event"] * 21_716e-6
    rows["fast_50"]["earthquake_epoch_s"] = rows["fast_50"]["us_per_event"] * 86_864e-6
    rows["plain_50"]["earthquake_epoch_s"] = rows["plain_50"]["us_per_event"] * 86_864e-6
    rows["published"] = {"earthquake_epoch_s": UPSTREAM_EPOCH_S}
    return rows


def steps(batch: Batch, n: int = 100, m: int = 60, count: int = 8) -> dict[str, dict[str, float]]:
    """Microseconds of a Langevin step an event and sample: plain, and with cached conditions.

    Both with memory kept from one step to the next, without which the plain form takes up to twice as long.
    """
    langevin.keep_memory()
    torch.manual_seed(0)
    model, plain = Smash.of(Train(), 3).eval(), plain_module()
    with torch.no_grad():
        cond = model.condition(batch)[:n]
    n = len(cond)
    generator = torch.Generator().manual_seed(0)
    x, mark = 0.5 * torch.randn(n, m, 3, generator=generator), torch.randint(3, (n, m), generator=generator)

    def slow() -> None:
        state = x, mark
        for _ in range(count):
            state = plain.langevin_step(model.net, cond, *state, 0.005, generator)

    settings = Sampler(steps=count, samples=m, step_scale="one", denoise="none")
    scale = 1e6 / (n * m * count)
    slow()
    plain_us = scale * min(_cpu(slow) for _ in range(3))
    cached_us = scale * min(
        _cpu(lambda: langevin.sample(model.net, cond, settings, (0.2, 0.25), generator)) for _ in range(3)
    )
    return {
        "plain": {"us": plain_us, "upstream_us": UPSTREAM_STEP_US},
        "cached": {"us": cached_us, "ratio": plain_us / cached_us},
    }


def tabulated(catalogue: Catalogue, samples: int = 300, ode_steps: int = 24) -> dict[str, float]:
    """Exact draws of gap and mark and the place by the ODE, and what the whole Earthquake test would take."""
    torch.manual_seed(0)
    model = Corrected(3, CorrectedSettings()).eval()
    scale = Standard.of(catalogue, True)
    with torch.no_grad():
        cond = model.condition(Frames(catalogue, scale).batch(catalogue.sequences("train")[:1]))[:16]
    generator = torch.Generator().manual_seed(0)
    run = lambda: ode.sample(model, cond, samples, ode_steps, 512, (scale.least, scale.most), generator)  # noqa: E731
    run()
    seconds = min(_cpu(run) for _ in range(3))
    return {"s_per_event": seconds / len(cond), "earthquake_test_s": seconds / len(cond) * 11_102}


def measure() -> dict:
    """Everything that `make bench` shows of SMASH; runs on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        catalogue = quake_like()
        frames = Frames(catalogue, Scale.of(catalogue, True))
        batch = frames.batch(catalogue.sequences("train")[:4])
        return {
            "langevin_step": steps(batch),
            "ode_24_steps_300_samples": tabulated(catalogue),
            "epoch": epochs(catalogue),
            "threads": 1,
        }
    finally:
        torch.set_num_threads(threads)


def bench(job: Job, settings: Any, log: Any) -> Result:
    """Stage ``bench``: what ``measure`` returns as the file ``report``."""
    return record(measure, job)
