"""Attention of an arm: store, pictures, page, statistics and the test of faithfulness; by rule and by hand."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from ..core.errors import PipelineError
from ..core.runlog import read_run
from ..core.stages import Job, Result
from ..core.store import write_json
from . import attention_store, explorer, faithfulness, published
from .attention_figures import busiest, draw
from .attention_report import sentences
from .attention_statistics import statistics
from .cube import Cube, load
from .settings import Network, Train
from .windows import Windows

SAMPLES = 4


def attend(job: Job, settings: Train, log: Any) -> Result:
    """Stage ``attention``. Inputs: ``data``, ``weights``; outputs: ``store``, ``report`` (JSON), ``page``, ``figures``.

    Raises
    ------
    PipelineError
        An arm of another kind than ``spin``.
    """
    if settings.network.kind != "spin":
        raise PipelineError(f"attention is stored for arms of network.kind spin, not {settings.network.kind}")
    cube, weights = load(job.inputs["data"]), load_file(job.inputs["weights"])
    facts = {name: job.facts.get(name) for name in ("scenario", "arm")} | {"seed": job.seeds[0]}
    store, report = look(cube, weights, settings.network, facts, SAMPLES)
    attention_store.save(store, job.outputs["store"])
    write_json(job.outputs["report"], report)
    explorer.write(store, job.outputs["page"])
    draw(store, Path(job.outputs["figures"]), found=report["faithfulness"])
    by_k = report["faithfulness"]["by_k"]
    metrics = {f"faithfulness_{k}": entry["difference"] for k, entry in by_k.items()}
    metrics |= {f"moved_{k}": entry["moved_difference"] for k, entry in by_k.items()}
    log.info("\n".join(sentences(report)))
    metrics["reproduction_error"] = store.attrs["reproduction_error"]
    return Result(metrics, figures=("figures",), tables=("report",), dataset=cube.info)


def look(
    cube: Cube, weights: dict[str, Any], network: Network, facts: dict[str, Any], samples: int
) -> tuple[attention_store.Store, dict[str, Any]]:
    """The store of some test windows, and the report: statistics and faithfulness."""
    model = published.load_into(published.for_cube(network, cube, "cpu"), weights, facts["seed"])
    windows = Windows(cube, 0, network, "cpu")
    store = attention_store.record(model, windows, attention_store.window_rows(cube, network.window, samples))
    store.attrs |= facts
    report = {
        **{key: store.attrs[key] for key in ("data", "scenario", "arm", "seed", "reproduction_error")},
        "statistics": statistics(store),
        "faithfulness": faithfulness.measure(model, windows, cube, seed=facts["seed"]),
    }
    return store, report


def _number(given: int | None, count: int, name: str) -> int | None:
    """An index from a number counted from 1."""
    if given is None:
        return None
    if not 1 <= given <= count:
        raise PipelineError(f"--{name} {given}: from 1 to {count}")
    return given - 1


def _node(name: str, store: attention_store.Store) -> int:
    if name not in store.nodes:
        raise PipelineError(f"there is no sensor {name!r}; the data have {', '.join(store.nodes[:5])}, …")
    return store.nodes.index(name)


def by_hand(args: argparse.Namespace, say: Callable[[str], None]) -> list[Path]:
    """``spin attention``: everything into a folder; returns the files."""
    weights_path, run_path = args.arm / "weights.safetensors", args.arm / "train.run.json"
    data = args.data or args.arm.parent / "data.zarr"
    for path in (weights_path, run_path, data):
        if not path.exists():
            raise PipelineError(f"{path} doesn't exist; give the folder of an arm that has been trained")
    run, cube, weights = read_run(run_path), load(data), load_file(weights_path)
    network = Network.model_validate(run["settings"]["network"])
    if network.kind != "spin":
        raise PipelineError(f"attention is stored for arms of network.kind spin, not {network.kind}")
    seeds = sorted({int(name.split(".")[0]) for name in weights})
    seed = seeds[0] if args.seed is None else args.seed
    if seed not in seeds:
        raise PipelineError(f"--seed {seed}: the arm was trained with {', '.join(map(str, seeds))}")
    for name in filter(None, (args.node, *(args.edge or "").split(","))):
        if name not in cube.nodes:
            raise PipelineError(f"there is no sensor {name!r}; the data have {', '.join(cube.nodes[:5])}, …")
    layer, step = _number(args.layer, network.layers, "layer"), _number(args.step, network.window, "step")
    facts = {"scenario": run.get("scenario"), "arm": run.get("arm") or args.arm.name, "seed": seed}
    say("attention, contributions and faithfulness")
    store, report = look(cube, weights, network, facts, max(args.samples or SAMPLES, args.sample))
    sample = _number(args.sample, len(store.alpha), "sample")
    node = None if args.node is None else _node(args.node, store)
    edge = None
    if args.edge:
        ends = args.edge.split(",")
        if len(ends) != 2:
            raise PipelineError(f"--edge {args.edge}: two sensors, SOURCE,TARGET")
        edge = store.pair(*(_node(end, store) for end in ends))
        node = int(store.target[edge]) if node is None else node
    node = busiest(store) if node is None else node
    out = args.out
    part = out.with_name(f".part-{out.name}")
    if out.exists() and any(out.iterdir()) and not (out / "attention.zarr").exists():
        raise PipelineError(f"{out} holds other files; name a new folder")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        attention_store.save(store, part / "attention.zarr")
        write_json(part / "attention.json", report)
        explorer.write(store, part / "attention.html", sample, node)
        draw(
            store, part, node=node, edge=edge, layer=layer, sample=sample, step=step, top=args.top,
            found=report["faithfulness"],
        )  # fmt: skip
        shutil.rmtree(out, ignore_errors=True)
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    for line in sentences(report):
        say(line)
    return sorted(out.iterdir())
