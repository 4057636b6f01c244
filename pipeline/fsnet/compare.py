"""One scenario's block of the results table: every arm and baseline scored alike, and paired comparisons."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.runlog import read_run
from ..core.stages import Job, Result
from ..core.statistics import paired, paired_seeds, summary
from ..core.store import write_json
from . import forecasts as store
from . import scoring
from .regime_scores import recurrence_scores
from .series import Series, load_realizations
from .settings import Forecast

REFERENCE = "rls"  # skill is measured against this baseline


class Scorer:
    """Scores forecasts of one scenario on its test rows.

    Parameters
    ----------
    series: one, or one a seed where the data are simulated.
    horizon: H.
    """

    def __init__(self, series: list[Series], horizon: int):
        self.series, self.horizon = series, horizon
        self.outputs = list(series[0].outputs)

    def member(self, values: np.ndarray, origins: np.ndarray, index: int) -> dict[str, Any]:
        """Metrics, vectors and losses of one seed's (or baseline's) forecasts [n, H, O] on realization ``index``."""
        series = self.series[index % len(self.series)]
        test = (origins >= series.val_end - 1) & (origins + self.horizon < series.test_end)
        target = scoring.truth(series.labels, origins[test], self.horizon)
        forecast = values[test]
        metrics = scoring.scores(forecast, target, series.mean[self.outputs], series.sd[self.outputs])
        metrics |= scoring.intervals(values, series.labels, origins, test)
        losses = scoring.losses(forecast, target)
        if series.switches is not None:
            first = int(origins[test][0]) + 1  # the row of the first scored forecast
            scored = range(first, first + len(losses))
            switches = [replace(s, row=s.row - first) for s in series.switches if s.row in scored]
            found = recurrence_scores((forecast - target)[:, 0, 0] * series.sd[self.outputs[0]], switches)
            metrics |= {name: value for name, value in found.items() if name != "mse" and np.isfinite(value)}
        return {"metrics": metrics, "vectors": scoring.vectors(forecast, target), "losses": losses}

    def all(self, forecasts: store.Forecasts, members: list[int]) -> dict[str, Any]:
        """Scores over members: metrics by name with one value a member, mean vectors, losses [member, n]."""
        parts = [self.member(forecasts.values[m], forecasts.origins, index) for index, m in enumerate(members)]
        names = [name for name in parts[0]["metrics"] if all(name in part["metrics"] for part in parts)]
        return {
            "metrics": {name: [part["metrics"][name] for part in parts] for name in names},
            "vectors": {
                name: np.mean([part["vectors"][name] for part in parts], axis=0).tolist()
                for name in parts[0]["vectors"]
            },
            "losses": np.stack([part["losses"] for part in parts]),
        }


def compare(job: Job, settings: Forecast, log: Any) -> Result:
    """Stage ``compare``: write ``scenario.json`` (the scenario's block of the schema ``ablation/1``).

    Inputs: ``data``, ``baselines``, ``arms`` (forecast stores in the scenario's order) and their ``runs``.
    """
    entry = job.facts["entry"]
    series = load_realizations(Path(job.inputs["data"]), settings.task.features)
    scorer = Scorer(series, settings.task.horizon)
    baselines = store.read(job.inputs["baselines"])
    methods = {name: scorer.all(baselines, _members(baselines, name)) for name in entry["baselines"]}
    costs = {name: {"ms_per_step": baselines.attrs.get(f"ms_{name}")} for name in methods}
    arms = {}
    for path, run_path in zip(job.inputs["arms"], job.inputs["runs"], strict=True):
        name, saved, run = Path(path).parent.name, store.read(path), read_run(run_path)
        methods[name] = scorer.all(saved, list(range(len(saved.members))))
        weights = run["inputs"].get("weights")  # of this arm, or of the one that it started from
        train = Path(weights["path"]).with_name("train.run.json") if weights else None
        costs[name] = {
            "train_s": read_run(train)["cost"]["cpu_s"] if train else None,
            "evaluate_s": run["cost"]["cpu_s"],
            "ms_per_step": run["metrics"].get("ms_per_step"),
            "peak_rss_mb": run["cost"]["peak_rss_mb"],
        }
        arms[name] = {
            "status": "done",
            "settings": run["settings"],
            "seeds": run["seeds"],
            "parameters": int(run["metrics"].get("parameters_trainable", 0)) or None,  # None: no network of its own
            **{key: run["metrics"][key] for key in run["metrics"] if key.startswith(("parameters", "memory_"))},
        }
    if REFERENCE in methods:
        bars = methods[REFERENCE]["metrics"]["mse"]  # one a stream; seeds that share a stream share its one
        for method in methods.values():
            values = method["metrics"]["mse"]
            beside = bars if len(bars) == len(values) else len(values) * [np.mean(bars)]
            method["metrics"]["skill"] = [1 - value / bar for value, bar in zip(values, beside, strict=True)]

    def block(name: str) -> dict[str, Any]:
        method = methods[name]
        metrics = {metric: summary(values) for metric, values in method["metrics"].items()}
        return {"metrics": metrics, "vectors": method["vectors"], "cost": costs[name]}

    record = {
        **{key: entry[key] for key in ("description", "leaky", "primary")},
        "dataset": series[0].info,
        "arms": {name: {**arms[name], **block(name)} for name in entry["arms"]},
        "baselines": {name: block(name) for name in entry["baselines"]},
        "comparisons": [
            {"a": a, "b": b, "metric": "mse"}
            | paired(methods[a]["losses"], methods[b]["losses"], block=max(series[0].season * 7, 4 * scorer.horizon))
            for a, b in entry["compare"]
        ],
    }
    metric = entry["primary"]["metric"]
    if series[0].switches is not None and len(series) > 1:  # scores around switches are one a stream
        record["comparisons"] += [
            {"a": a, "b": b, "metric": name} | paired_seeds(methods[a]["metrics"][name], methods[b]["metrics"][name])
            for a, b in entry["compare"]
            for name in (metric, "mse_new100")
            if name in methods[a]["metrics"] and name in methods[b]["metrics"]
        ]
    write_json(job.outputs["scenario"], record)
    primary = {name: method["metrics"].get(metric) for name, method in methods.items()}
    flat = {f"{metric}/{name}": float(np.mean(values)) for name, values in primary.items() if values}
    return Result(flat, tables=("scenario",), dataset=series[0].info)


def _members(saved: store.Forecasts, name: str) -> list[int]:
    """Places of a baseline: one, or one a realization (named ``name`` or ``name@index``)."""
    return [i for i, member in enumerate(saved.members) if member.split("@")[0] == name]
