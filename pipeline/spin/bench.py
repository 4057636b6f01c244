"""Speed and memory of the kernel beside a plain gather/scatter version: same weights, thread, batch, one run."""

from __future__ import annotations

import gc
import importlib.util
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ..core.bench import record
from ..core.errors import PipelineError
from ..core.stages import Job, Result
from .attention import Graph
from .model import SPIN

PLAIN = Path(__file__).parents[2] / "tests" / "reference" / "spin_plain.py"
# Published code (scatter in pure torch), one thread, T = 24, H = 32, L = 4, eta = 3, METR-LA's own graph, one window.
UPSTREAM = {"upstream_s": 13.3, "upstream_mb": 5100.0}
NODES, EDGES = 207, 2626  # as many as METR-LA has (symmetric, weights of 0.1 and more); which ones is drawn
PAPER = {"hidden": 32, "layers": 4, "eta": 3}


def plain_module() -> ModuleType:
    """The plain network, which lives with the tests."""
    if not PLAIN.is_file():
        raise PipelineError(f"{PLAIN} is missing: the benchmark compares with it, so run it from a full checkout")
    spec = importlib.util.spec_from_file_location("spin_plain", PLAIN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def problem(nodes: int, edges: int, steps: int, **network) -> tuple[SPIN, tuple[Tensor, Tensor, Tensor], Graph]:
    """A network, one window with half of the cells observed, and a random graph of so many edges."""
    torch.manual_seed(0)
    source = torch.randint(nodes, (edges,))
    target = (source + torch.randint(1, nodes, (edges,))) % nodes
    model = SPIN(1, nodes, **network)
    x, u = torch.randn(1, steps, nodes, 1), torch.randn(1, steps, 4)
    return model, (x, u, torch.rand(1, steps, nodes, 1) < 0.5), Graph(source, target)


def resident_mb() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError as error:
        raise PipelineError(f"the benchmark reads memory from /proc, which this system lacks ({error})") from None
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak_mb(run: Callable[[], object]) -> float:
    """Growth of the resident memory while ``run`` runs, at its highest; a thread looks every few milliseconds."""
    gc.collect()
    before, highest, done = resident_mb(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            highest[0] = max(highest[0], resident_mb() - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        run()
    finally:
        done.set()
        thread.join()
    return highest[0]


def step(model: SPIN, batch: tuple[Tensor, Tensor, Tensor], graph: Graph, forward=None) -> Callable[[], float]:
    """A forward and backward pass over all read-outs; gives the loss."""

    def run() -> float:
        x, u, mask = batch
        answers = forward(model, x, u, mask, graph) if forward else model(x, u, mask, graph).imputations
        loss = sum((answer - x)[~mask].square().mean() for answer in answers)  # smooth: gradients are compared
        model.zero_grad()
        loss.backward()
        return float(loss.detach())

    return run


def cpu_seconds(run: Callable[[], object], rounds: int) -> float:
    """The best of several rounds, so that other load on the machine counts least."""
    found = []
    for _ in range(rounds):
        clock = time.process_time()
        run()
        found.append(time.process_time() - clock)
    return min(found)


def against_plain(steps: int = 24, rounds: int = 3, **network) -> dict[str, float]:
    """Seconds and megabytes of a training step, and how far the two losses and gradients are apart."""
    plain = plain_module()
    model, batch, graph = problem(NODES, EDGES, steps, **{**PAPER, **network})

    def scattered(model, x, u, mask, graph):
        return plain.forward(model, x, u, mask, graph, plain.scattered_layer)

    fast, slow = step(model, batch, graph), step(model, batch, graph, scattered)
    fast_mb = peak_mb(fast)  # first: freed memory of the other would hide its growth
    gradient = torch.cat([p.grad.view(-1) for p in model.parameters() if p.grad is not None])
    fast_s = cpu_seconds(fast, rounds)
    slow_mb = peak_mb(slow)
    reference = torch.cat([p.grad.view(-1) for p in model.parameters() if p.grad is not None])
    slow_s = cpu_seconds(slow, max(1, rounds - 1))
    return {
        "fast_s": fast_s,
        "plain_s": slow_s,
        "ratio": slow_s / fast_s,
        "fast_mb": fast_mb,
        "plain_mb": slow_mb,
        "memory_ratio": slow_mb / max(fast_mb, 1e-9),
        "gradient_difference": float((gradient - reference).abs().max() / reference.abs().max()),
    }


def scaling(rounds: int = 2) -> dict[str, dict[str, float]]:
    """Seconds of a training step at three sizes of T, of N (edges fixed) and of E (nodes fixed)."""
    sizes = {
        "T": [(NODES, EDGES, steps) for steps in (12, 24, 48)],
        "N": [(nodes, EDGES, 24) for nodes in (100, 200, 400)],
        "E": [(NODES, edges, 24) for edges in (1000, 2000, 4000)],
    }
    found = {}
    for name, cases in sizes.items():
        for nodes, edges, steps in cases:
            run = step(*problem(nodes, edges, steps, hidden=32, layers=2, eta=2))
            run()
            key = {"T": steps, "N": nodes, "E": edges}[name]
            found[f"{name} = {key}"] = {
                "nodes": nodes,
                "edges": edges,
                "steps": steps,
                "fast_s": cpu_seconds(run, rounds),
            }
    return found


def large(nodes: int = 10_000, edges: int = 100_000, steps: int = 24) -> dict[str, float]:
    """One training step on a large graph: its time and the memory that it adds."""
    run = step(*problem(nodes, edges, steps, hidden=32, layers=2, eta=1))
    clock = time.process_time()
    added = peak_mb(run)
    return {"nodes": nodes, "edges": edges, "steps": steps, "fast_s": time.process_time() - clock, "fast_mb": added,
            "resident_mb": resident_mb()}  # fmt: skip


def measure(rounds: int = 3) -> dict:
    """Everything that `make bench` shows of SPIN; runs on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {
            "training step": {
                "paper (T24 H32 L4 eta3, random graph of METR-LA's size)": {**against_plain(rounds=rounds), **UPSTREAM},
                "mild (T12 H16 L2 eta1)": against_plain(12, rounds, hidden=16, layers=2, eta=1),
            },
            "large graph": {"10,000 nodes": large()},
            "cost against T, N, E": scaling(),
            "threads": 1,
        }
    finally:
        torch.set_num_threads(threads)


def bench(job: Job, settings: Any, log: Any) -> Result:
    """Stage ``bench``: what ``measure`` returns as the file ``report``."""
    return record(measure, job)
