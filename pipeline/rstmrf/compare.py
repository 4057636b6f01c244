"""One scenario's block of the table: every arm and baseline scored on the same truth, and paired comparisons."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from ..core.runlog import read_run
from ..core.stages import Job, Result
from ..core.statistics import summary
from ..core.store import write_json
from . import estimates, scoring
from . import world as worlds
from .estimates import Estimate
from .scoring import Reference

NOTE = (
    "Withheld profiles lie where the satellite has been: they reward memorising the two sampled local times, and "
    "rank methods otherwise than the dense truth does."
)


class Scorer:
    """Scores of all members of a scenario; truth is opened here and nowhere else."""

    def __init__(self, store: Path, truth: Path):
        self.names = worlds.names(store)
        self.references = {
            name: Reference.of(worlds.load(store, name), worlds.load_truth(truth, name)) for name in self.names
        }

    def method(self, members: list[Estimate]) -> dict[str, Any]:
        """Metrics by world and by seed, splits and blocks of losses of one method."""
        metrics: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))  # metric -> world -> seeds
        blocks: dict[str, list[np.ndarray]] = defaultdict(list)
        profiles: dict[str, list[np.ndarray]] = defaultdict(list)
        splits = []
        for one in members:
            reference = self.references[one.world]
            scores = scoring.score(one, reference)
            if "skill" not in scores and one.tec.size and np.isfinite(reference.truth.tec).any():
                scores["skill"] = scoring.tec_skill(one, reference)
            for name, value in scores.items():
                metrics[name][one.world].append(value)
            splits.append(scoring.vectors(one, reference))
            blocks[one.world].append(scoring.losses(one, reference))
            profiles[one.world].append(scoring.profile_losses(one, reference))
        return {
            "metrics": {name: dict(by_world) for name, by_world in metrics.items()},
            "vectors": _mean_vectors([one for one in splits if one]),
            "blocks": [np.mean(blocks[name], axis=0) for name in self.names if name in blocks],
            "profiles": [np.mean(profiles[name], axis=0) for name in self.names if name in profiles],
        }


def _mean_vectors(splits: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean over members, null where no member has a value."""
    if not splits:
        return {}
    found = {}
    for name in splits[0]:
        stacked = np.array([one[name] for one in splits], float)  # None becomes NaN
        some = np.isfinite(stacked).any(0)
        mean = np.where(some, np.nansum(stacked, 0) / np.maximum(np.isfinite(stacked).sum(0), 1), np.nan)
        found[name] = np.where(np.isfinite(mean), mean.astype(object), None).tolist()
    return found


def block_of(method: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """A method's entry of the table: one value a world (mean of its seeds), or, with one world, one a seed."""
    metrics, vectors = {}, dict(method["vectors"])
    for name, by_world in method["metrics"].items():
        if set(by_world) != set(names):
            continue
        values = [float(np.mean(by_world[w])) for w in names] if len(names) > 1 else list(by_world[names[0]])
        metrics[name] = summary(values)
        vectors[f"{name}_by_world"] = [float(np.mean(by_world[w])) for w in names]
        seeds = min(len(v) for v in by_world.values())
        vectors[f"{name}_by_seed"] = [float(np.mean([by_world[w][s] for w in names])) for s in range(seeds)]
    for key, name in (("blocks", "skill"), ("profiles", "skill_withheld")):
        usable = [one for one in method[key] if one.size]
        if usable and name in metrics:
            vectors[f"{name}_bootstrap95"] = scoring.skill_interval(usable)
            days = scoring.by_day(usable) if key == "blocks" else None
            if days:
                vectors[f"{name}_bootstrap95_by_day"] = scoring.skill_interval(days)
    if "skill" in metrics:
        vectors["skill_worst"] = min(vectors["skill_by_world"])
    return {"metrics": metrics, "vectors": vectors}


def comparison(a: str, b: str, methods: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Paired difference in skill of two methods."""
    x, y = methods[a], methods[b]
    if all(one.size for one in [*x["blocks"], *y["blocks"]]) and x["blocks"]:
        found = scoring.skill_difference(x["blocks"], y["blocks"])
    else:
        values = [np.mean(x["metrics"]["skill"][w]) - np.mean(y["metrics"]["skill"][w]) for w in names]
        found = {"difference": float(np.mean(values)), "ci95": None, "p": None, "test": "none", "n": len(values)}
    return {"a": a, "b": b, "metric": "skill", **found}


def compare(job: Job, settings: Any, log: Any) -> Result:
    """Stage ``compare``: write ``scenario.json`` (schema ``ablation/1``).

    Inputs: ``worlds``, ``truth``, ``baselines``, ``arms`` (stores of estimates in the scenario's order), their ``runs``
    and the ``trainings`` they come from.
    """
    entry = job.facts["entry"]
    scorer = Scorer(job.inputs["worlds"], job.inputs["truth"])
    methods, costs, arms = {}, {}, {}
    members: dict[str, list[Estimate]] = defaultdict(list)
    for one in estimates.read(job.inputs["baselines"]):
        members[one.method].append(one)
    for name in entry["baselines"]:
        if name not in members:
            log.info(f"baseline {name} has no estimate for these data and is left out")
            continue
        methods[name] = scorer.method(members[name])
        costs[name] = {"cpu_s": _mean(members[name], "cpu_s")}
    for path, run_path, train_path in zip(job.inputs["arms"], job.inputs["runs"], job.inputs["trainings"], strict=True):
        name, run, training = Path(path).parent.name, read_run(run_path), read_run(train_path)
        found = estimates.read(path)
        methods[name] = scorer.method(found)
        costs[name] = {
            "train_s": training["cost"]["cpu_s"],
            "evaluate_s": run["cost"]["cpu_s"],
            "ms_per_step": _scaled(training["metrics"].get("seconds_per_step"), 1000),
            "peak_rss_mb": training["cost"]["peak_rss_mb"],
            "cpu_s_per_member": _mean(found, "cpu_s"),
        }
        extra = ("parameters", "estimated", "saved_mb", "peak_mb", "checkpoint_bytes", "loss_", "weight_")
        arms[name] = {
            "status": "done",
            "settings": run["settings"],
            "seeds": run["seeds"],
            "parameters": int(training["metrics"].get("parameters_total") or 0) or None,
            **{key: value for key, value in training["metrics"].items() if key.startswith(extra)},
        }
    names = scorer.names
    blocks = {name: block_of(method, names) for name, method in methods.items()}
    record = {
        **{key: entry[key] for key in ("description", "leaky", "primary")},
        "dataset": scorer.references[names[0]].world.attrs["dataset"],
        "worlds": {
            name: {key: value for key, value in scorer.references[name].world.attrs.items() if key != "dataset"}
            for name in names
        },
        "values_of": "worlds (means of their seeds)" if len(names) > 1 else "seeds",
        "notes": {"withheld": NOTE},
        "arms": {name: {**arms[name], **blocks[name], "cost": costs[name]} for name in entry["arms"]},
        "baselines": {n: {**blocks[n], "cost": costs[n]} for n in entry["baselines"] if n in blocks},
        "comparisons": [comparison(a, b, methods, names) for a, b in entry["compare"] if a in methods and b in methods],
    }
    write_json(job.outputs["scenario"], record)
    metric = entry["primary"]["metric"]
    flat = {
        f"{metric}/{name}": block["metrics"][metric]["mean"]
        for name, block in blocks.items()
        if metric in block["metrics"]
    }
    return Result(flat, tables=("scenario",), dataset=record["dataset"])


def _mean(members: list[Estimate], key: str) -> float | None:
    values = [one.attrs[key] for one in members if key in one.attrs]
    return float(np.mean(values)) if values else None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
