"""Speed of the fast engine beside the plain network of tests/reference: same run, same thread, same stream."""

from __future__ import annotations

import gc
import importlib.util
import resource
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from pipeline.core.bench import record
from pipeline.core.errors import PipelineError
from pipeline.core.stages import Job, Result
from pipeline.fsnet.engine import LearnSettings, init_state, learn_, predict
from pipeline.fsnet.memory import MemorySettings
from pipeline.fsnet.model import NetworkSpec

PLAIN = Path(__file__).parents[2] / "tests" / "reference" / "fsnet_plain.py"
# Published code, milliseconds a step on a quiet core, one thread, T = 48, H = 12.
UPSTREAM_MS = {"ogd": 13.8, "nomem": 35.6, "fsnet": 39.2}
ARMS = {
    "ogd": NetworkSpec("tcn", inputs=8, outputs=12, window=48),
    "nomem": NetworkSpec("adapter", inputs=8, outputs=12, window=48),
    "fsnet": NetworkSpec("adapter", inputs=8, outputs=12, window=48, memory=MemorySettings("upstream")),
}


def plain_module() -> ModuleType:
    """The plain network, which lives with the tests."""
    if not PLAIN.is_file():
        raise PipelineError(f"{PLAIN} is missing: the benchmark compares with it, so run it from a full checkout")
    spec = importlib.util.spec_from_file_location("fsnet_plain", PLAIN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stream(spec: NetworkSpec, steps: int):
    """Windows [steps, 1, 1, T, C] and labels [steps, 1, 1, HC] of a random walk: persistent, as real series are."""
    generator = torch.Generator().manual_seed(0)
    walk = torch.randn(steps + spec.window + spec.outputs, spec.inputs, generator=generator).cumsum(0) / 30
    x = walk.unfold(0, spec.window, 1).transpose(1, 2)[:steps]
    y = walk[spec.window :, 0].unfold(0, spec.outputs, 1)[:steps]
    return x[:, None, None], y[:, None, None]


def _best_ms(step, steps: int, repeats: int = 5) -> float:
    """CPU milliseconds of one step: the best of several rounds, so that other load on the machine counts least."""
    for k in range(3):
        step(k)
    rounds = []
    for _ in range(repeats):
        start = time.process_time()
        for k in range(steps):
            step(k)
        rounds.append((time.process_time() - start) * 1e3 / steps)
    return min(rounds)


def fast_ms(spec: NetworkSpec, replicas: int, steps: int) -> float:
    """Milliseconds of a step (one forecast, one update) and replica."""
    state = init_state(spec, list(range(replicas)))
    x, y = stream(spec, steps)
    settings = LearnSettings(lr=5e-5)

    def step(k: int) -> None:
        predict(state, x[k])
        learn_(state, x[k], y[k], settings)

    return _best_ms(step, steps) / replicas


def plain_ms(spec: NetworkSpec, steps: int) -> float:
    """Milliseconds of a step of the plain network, whose one forward pass both forecasts and trains."""
    plain = plain_module()
    learner = plain.PlainLearner(plain.plain_from_state(init_state(spec, [0])), lr=5e-5)
    x, y = stream(spec, steps)
    return _best_ms(lambda k: learner.step(x[k, 0], y[k, 0]), steps)


def resident_mb() -> float:
    """Memory that the process holds now (peak where the system doesn't say)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory_growth_mb(steps: int, warm: int = 200) -> float:
    """Growth of the resident memory over so many steps of a narrow FSNet with its memory firing at most steps.

    What leaks, leaks by the step (a graph kept alive, a list that grows), whatever the width.
    """
    firing = MemorySettings("upstream", tau_trigger=0.2)
    narrow = {"hidden": 8, "representation": 16, "controller_width": 8}
    spec = NetworkSpec("adapter", inputs=8, outputs=12, window=48, memory=firing, **narrow)
    state = init_state(spec, [0])
    x, y = stream(spec, 500)
    settings = LearnSettings(lr=5e-5)

    def run(count: int) -> None:
        for k in range(count):
            predict(state, x[k % 500])
            learn_(state, x[k % 500], y[k % 500], settings)

    run(warm)
    gc.collect()
    before = resident_mb()
    run(steps)
    gc.collect()
    return resident_mb() - before


def measure(steps: int = 60, replicas: tuple[int, ...] = (1, 3, 4), growth_steps: int = 100_000) -> dict:
    """Everything that `make bench` shows of FSNet; runs on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        arms = {}
        for name, spec in ARMS.items():
            plain = plain_ms(spec, max(10, steps // 3))
            fast = {f"fast_r{r}_ms": fast_ms(spec, r, steps) for r in replicas}
            ratios = {key.replace("fast", "ratio").removesuffix("_ms"): plain / ms for key, ms in fast.items()}
            arms[name] = {"plain_ms": plain, "upstream_ms": UPSTREAM_MS[name], **fast, **ratios}
        growth = memory_growth_mb(growth_steps)
        return {"arms": arms, "rss_growth_mb": growth, "rss_growth_steps": growth_steps, "threads": 1}
    finally:
        torch.set_num_threads(threads)


def bench(job: Job, settings: Any, log: Any) -> Result:
    """Stage ``bench``: what ``measure`` returns as the file ``report``."""
    return record(measure, job)
