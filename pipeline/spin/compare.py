"""One scenario's block of the results table: every arm and baseline scored alike, and paired comparisons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError
from ..core.runlog import read_run
from ..core.stages import Job, Result
from ..core.statistics import summary
from ..core.store import write_json
from .cube import TEST, Imputations, load, read_imputations
from .intervals import target_gaps
from .scoring import Scorer

COPIED = ("parameters_", "stack_weight", "steps", "validation_mae")
UNSEEN = ("mae_unseen_nodes", "mae_unseen_nodes_idw")  # of an arm that leaves nodes out, by seed


def score(scorer: Scorer, saved: Imputations, members: list[int]) -> dict[str, Any]:
    """Metrics (one value a member) and mean vectors of some members of a store."""
    parts = []
    for m in members:
        quantile = None if saved.quantile is None else saved.quantile[m]
        parts.append(scorer.metrics(saved.value[m], quantile, saved.levels))
    names = [name for name in parts[0] if all(name in part for part in parts)]
    vectors = [scorer.vectors(saved.value[m]) for m in members]
    return {
        "metrics": {name: summary([part[name] for part in parts]) for name in names},
        "vectors": {
            name: [
                None if column[0] is None else float(np.mean(column))
                for column in zip(*(vector[name] for vector in vectors), strict=True)
            ]  # fmt: skip
            for name in vectors[0]
        },
    }


def checked(saved: Imputations, scorer: Scorer, path: Any) -> Imputations:
    """Refuse a store that was made for other targets, or that leaves some out."""
    if saved.value.shape[1] != scorer.layout.size:
        raise DataError(
            f"{path} holds {saved.value.shape[1]:,} targets, but the data have {scorer.layout.size:,}: it was made "
            "from other data or masks; delete it, and the next run makes it anew"
        )
    for member, value in zip(saved.members, saved.value, strict=True):
        if not np.isfinite(value).all():
            raise DataError(f"{path}: {member} leaves {int((~np.isfinite(value)).sum()):,} targets without a value")
    return saved


def arm_facts(run: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """What an arm's evaluation states of itself, its own costs, and the arms and baselines that it needs.

    Training is told by the run beside the weights.
    """
    weights = run["inputs"].get("weights")
    weights = weights[0] if isinstance(weights, list) else weights
    train = Path(weights["path"]).with_name("train.run.json") if weights else None
    trained = read_run(train) if train is not None and train.exists() else None
    metrics = run["metrics"]
    facts = {
        "status": "done",
        "settings": run["settings"],
        "seeds": run["seeds"],
        "parameters": int(metrics.get("parameters_total", 0)) or None,  # None: no network of its own
        **{key: value for key, value in metrics.items() if key.startswith(COPIED)},
    }
    spent = run["cost"]["cpu_s"] + (trained["cost"]["cpu_s"] if trained else 0)
    cost = {
        "cpu_s": spent / len(run["seeds"]),  # of one seed, with training and all masks, as the baselines' is
        "train_s": trained["cost"]["cpu_s"] if trained else None,
        "evaluate_s": run["cost"]["cpu_s"],
        "latency_ms": metrics.get("latency_ms"),
        "peak_rss_mb": max(run["cost"]["peak_rss_mb"], trained["cost"]["peak_rss_mb"] if trained else 0),
    }
    taken = (trained or run)["inputs"]
    needs = [Path(taken[name]["path"]).parent.name for name in taken if name.split(".")[0] == "needs"]
    if "baselines" in run["inputs"]:  # a stack's
        needs.append("boosting_bag")
    return facts, cost, needs


def unseen(run: dict[str, Any]) -> dict[str, Any]:
    """The errors at nodes that training has never seen; empty for an arm that sees all."""
    found = {name: [run["metrics"].get(f"{name}_seed{seed}") for seed in run["seeds"]] for name in UNSEEN}
    return {name: summary(values) for name, values in found.items() if None not in values}


def whole_cost(name: str, own: dict[str, float], needs: dict[str, list[str]]) -> float:
    """CPU seconds of an arm and of all that it needs, directly or not, each once.

    own: CPU seconds of arms and baselines by themselves. needs: what each arm needs directly.
    """
    met: set[str] = set()
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one not in met:
            met.add(one)
            waiting += needs.get(one, [])
    return sum(own[one] for one in met)


def compare(job: Job, settings: Any, log: Any) -> Result:
    """Stage ``compare``: write ``scenario.json`` (the scenario's block of the schema ``ablation/1``).

    Inputs: ``data``, ``baselines``, ``arms`` (imputation stores in the scenario's order) and their ``runs``.

    Raises
    ------
    DataError
        A store that was made for other targets, or that leaves some without a value.
    """
    entry = job.facts["entry"]
    cube = load(job.inputs["data"])
    scorer = Scorer(cube, target_gaps(cube, cube.layout()))
    saved = checked(read_imputations(job.inputs["baselines"]), scorer, job.inputs["baselines"])
    about = saved.attrs["methods"]
    values, baselines, arms = {}, {}, {}
    for name in entry["baselines"]:
        member = saved.members.index(name)
        values[name] = saved.value[[member]]
        told = about[name]
        baselines[name] = {
            **score(scorer, saved, [member]),
            **{key: told[key] for key in ("transductive", "variant", "validation")},
            "cost": {"cpu_s": told["cpu_s"]},
        }
    own, needs = {name: told["cpu_s"] for name, told in about.items()}, {}
    for path, run_path in zip(job.inputs.get("arms", []), job.inputs.get("runs", []), strict=True):
        name, run = Path(path).parent.name, read_run(run_path)
        store = checked(read_imputations(path), scorer, path)
        facts, cost, needs[name] = arm_facts(run)
        own[name], values[name] = cost["cpu_s"], store.value
        found = score(scorer, store, list(range(len(store.members))))
        found["metrics"] |= unseen(run)
        arms[name] = {**facts, **found, "cost": cost}
    for name, arm in arms.items():  # a stack, a student and a grown arm have spent what they are made of, too
        arm["cost"]["cpu_s"] = whole_cost(name, own, needs)
    comparisons = [
        {"a": a, "b": b, **found} for a, b in entry["compare"] for found in scorer.compare(values[a], values[b])
    ]
    record = {
        **{key: entry[key] for key in ("description", "leaky", "primary")},
        "dataset": cube.info,
        "masks": {"pattern": cube.attrs.get("pattern"), "sha256": cube.attrs.get("masks_sha256")},
        "targets": {"named": len(cube.targets(0, TEST)), "all_masks": int((cube.layout().split == TEST).sum())},
        "channels": dict(zip(cube.channels, cube.units, strict=True)),
        "axes": scorer.axes(),
        "arms": {name: arms[name] for name in entry["arms"]},
        "baselines": baselines,
        "comparisons": comparisons,
    }
    write_json(job.outputs["scenario"], record)
    metric = entry["primary"]["metric"]
    primary = {f"{metric}/{name}": found["metrics"][metric]["mean"] for name, found in {**baselines, **arms}.items()}
    for name, value in sorted(primary.items(), key=lambda pair: pair[1]):
        log.info(f"{name}: {value:.4g}")
    return Result(primary, tables=("scenario",), dataset=cube.info)
