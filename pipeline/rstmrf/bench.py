"""Speed of R-STMRF's kernels beside their plain counterparts of tests/reference: same run, thread and values."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from ..core.bench import record
from ..core.errors import PipelineError
from ..core.stages import Job, Result
from .jets import altitude_jet
from .losses import chapman_seed, data_loss, derivatives
from .seed_net import ResidualNet
from .settings import Network
from .windows import SlidingWindowBatchProcessor, sample

PLAIN = Path(__file__).parents[2] / "tests" / "reference" / "rstmrf_plain.py"
EDGES = (-90.0, 90.0, -180.0, 180.0)
BATCH, WINDOWS, VOLUME = 2048, 8, 512


def plain_module() -> ModuleType:
    """The plain counterparts, which live with the tests."""
    if not PLAIN.is_file():
        raise PipelineError(f"{PLAIN} is missing: the benchmark compares with it, so run it from a full checkout")
    spec = importlib.util.spec_from_file_location("rstmrf_plain", PLAIN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def best_ms(step: Callable[[], Any], repeats: int = 7, inner: int = 1) -> float:
    """CPU milliseconds of a call: the best of several rounds, so that other load on the machine counts least."""
    step()
    rounds = []
    for _ in range(repeats):
        start = time.process_time()
        for _ in range(inner):
            step()
        rounds.append((time.process_time() - start) * 1e3 / inner)
    return min(rounds)


def positions(count: int) -> torch.Tensor:
    """[count, 4] lat, lon, km, h."""
    u = torch.rand(count, 4)
    return torch.stack([180 * u[:, 0] - 90, 360 * u[:, 1] - 180, 120 + 380 * u[:, 2], WINDOWS * u[:, 3]], 1)


def sampling(plain: ModuleType) -> dict[str, float]:
    """The direction target of a batch: one indexed look-up against a copy of the maps a point."""
    fields, coords = torch.randn(WINDOWS, 2, 46, 91), positions(BATCH)
    index, lat, lon = torch.randint(WINDOWS, (BATCH,)), coords[:, 0], coords[:, 1]
    fast = sample(fields, index, lat, lon, EDGES)
    difference = float((fast - plain.sample_copied(fields, index, lat, lon, EDGES)).abs().max())
    fast_ms = best_ms(lambda: sample(fields, index, lat, lon, EDGES), inner=50)
    plain_ms = best_ms(lambda: plain.sample_copied(fields, index, lat, lon, EDGES), repeats=5)
    return {
        "fast_ms": fast_ms,
        "plain_ms": plain_ms,
        "ratio": plain_ms / fast_ms,
        "difference": difference,
        "bar": 100.0,
    }


def altitude(plain: ModuleType, count: int = 1024) -> dict[str, float]:
    """Value and second altitude derivative of the residual at points of the volume, their gradient included."""
    model, batch = network(), processor()(positions(count))
    names = list(model.parameters())

    def nested_values() -> tuple[torch.Tensor, torch.Tensor]:
        def field(coords: torch.Tensor) -> torch.Tensor:
            return model.of_batch(batch._replace(coords=coords), None, EDGES)

        return plain.nested_second(field, batch.coords.clone(), 2)

    def jet_values() -> tuple[torch.Tensor, torch.Tensor]:
        return altitude_jet(model, batch, None, EDGES)

    def trained(function: Callable[[], tuple[torch.Tensor, torch.Tensor]]) -> Callable[[], None]:
        def step() -> None:
            value, second = function()
            torch.autograd.grad(value.square().mean() + 1e6 * second.square().mean(), names, allow_unused=True)

        return step

    def answered() -> None:
        with torch.no_grad():
            jet_values()

    fast, slow = jet_values(), nested_values()
    difference = max(float(((a - b).abs().max() / b.abs().max()).detach()) for a, b in zip(fast, slow, strict=True))
    fast_ms, plain_ms = best_ms(trained(jet_values)), best_ms(trained(nested_values))
    return {
        "fast_ms": fast_ms,
        "plain_ms": plain_ms,
        "ratio": plain_ms / fast_ms,
        "ratio_without_gradient": best_ms(nested_values) / best_ms(answered),
        "difference": difference,
        "bar": 2.0,
    }


def network() -> ResidualNet:
    """The seed's network without its ConvLSTM, which takes no part in derivatives."""
    return ResidualNet(Network(conv_layers=0), 2, float(WINDOWS))


def processor() -> SlidingWindowBatchProcessor:
    return SlidingWindowBatchProcessor(torch.zeros(WINDOWS, 46, 91), torch.randn(WINDOWS + 6, 2), 6, 6)


def physics() -> dict[str, float]:
    """A training step with physics losses on 512 points of the volume, against the data alone.

    The bar is read as the mean step of a training, which takes these losses every third step (``losses.every: 3``, as
    the arm `corrected` does): ``ratio_every_third``. ``ratio_every_step`` is one step that takes them.
    """
    model, window = network(), processor()
    coords, target = positions(BATCH), torch.randn(BATCH)

    def data() -> torch.Tensor:
        return data_loss(model.of_batch(window(coords), None, EDGES), target)

    def volume() -> torch.Tensor:
        batch = window(positions(VOLUME).requires_grad_())
        first, second = derivatives(model.of_batch(batch, None, EDGES), batch.coords)
        return chapman_seed(second) + first[:, :2].square().mean()

    data_ms = best_ms(lambda: data().backward())
    volume_ms = best_ms(lambda: volume().backward())
    return {
        "data_ms": data_ms,
        "volume_ms": volume_ms,
        "ratio_every_third": (data_ms + volume_ms / 3) / data_ms,
        "ratio_every_step": (data_ms + volume_ms) / data_ms,
        "bar_at_most_every_third": 1.5,
    }


def measure() -> dict[str, Any]:
    """Everything that `make bench` shows of R-STMRF; runs on one thread."""
    from . import bench_data

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)
    try:
        plain = plain_module()
        return {
            "direction target": sampling(plain),
            "second derivative": altitude(plain),
            "physics step": physics(),
            **bench_data.measure(),
            "threads": 1,
        }
    finally:
        torch.set_num_threads(threads)


def bench(job: Job, settings: Any, log: Any) -> Result:
    """Stage ``bench``: what ``measure`` returns as the file ``report``."""
    return record(measure, job)
