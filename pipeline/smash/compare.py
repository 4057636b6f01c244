"""One scenario's block of the results table: all methods on the same events, compared in pairs by blocks of windows.

Windows that overlap share events, and neighbouring windows share a drifting level, so the bootstrap resamples runs of
consecutive windows that are longer than the overlap.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.runlog import read_run
from ..core.stages import Job, Result
from ..core.statistics import summary
from ..core.store import write_json
from . import calibration, clock, scores
from .data import info
from .events import SPLITS, Catalogue, load
from .settings import RunBaselines

DRAWS, KOLMOGOROV_DRAWS = 2000, 500
# what is compared in pairs: name of the metric -> how one window's sum is made of the events' values
PAIRED = {
    "log_likelihood": ("log_time", "log_location", "log_mark_given_tx", "log_survival"),
    "log_likelihood_time": ("log_time", "log_survival"),
    "log_likelihood_location": ("log_location",),
    "log_likelihood_mark": ("log_mark_given_tx",),
    "crps_time": ("crps_time",),
    "energy_location": ("energy_location",),
    "energy_location_drawn": ("energy_location_drawn",),
    "energy_joint": ("energy_joint",),
    "log_score_mark": ("log_mark_given_t",),
    "brier": ("brier",),
}
KOLMOGOROV = {"pit_ks": "pit_time"}  # distances of all values together: no sum over events
NEGATIVE = ("log_score_mark",)  # scores that are minus the stored value


def block_of(cat: Catalogue) -> int:
    """Windows in a bootstrap block: enough that blocks share no event, and at least 2."""
    window, stride = cat.meta["window"], cat.meta["stride"]
    return max(2, math.ceil(window / stride)) if stride else 2


def by_window(found: scores.Scores, member: int, metric: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Sums [W] and counts [W] of one metric over the test events of each window; None where it isn't there."""
    names = PAIRED[metric]
    if any(name not in found.values for name in names):
        return None
    sequence = found.sequence[found.split == 2]
    windows = found.window[found.window_split == 2]
    place = np.searchsorted(windows, sequence)
    total, count = np.zeros(len(windows)), np.zeros(len(windows))
    for name in names:
        values = found.of(name, member)
        if name == "log_survival":
            if not np.isfinite(values).any():
                return None
            total += np.where(np.isfinite(values), values, 0)
            continue
        used = np.isfinite(values)
        if not used.any():
            return None
        total += np.bincount(place[used], values[used], len(windows))
        count = np.bincount(place[used], minlength=len(windows)).astype(float)
    return (-total if metric in NEGATIVE else total), count


def resampled(windows: int, block: int, draws: int, seed: int) -> np.ndarray:
    """Windows [draws, n] of a circular block bootstrap: runs of ``block`` consecutive ones."""
    block = max(1, min(block, windows))
    starts = np.random.default_rng(seed).integers(0, windows, (draws, -(-windows // block)))
    rows = (starts[:, :, None] + np.arange(block)) % windows  # [draws, blocks, block]
    return rows.reshape(draws, -1)


def paired(
    a: np.ndarray, b: np.ndarray, count: np.ndarray, block: int, draws: int = DRAWS, seed: int = 0
) -> dict[str, Any]:
    """Difference a - b per event of two methods' sums by window, with a circular block bootstrap over windows.

    Parameters
    ----------
    a, b: [W] sums of a score over the events of each window (mean over seeds), in order of time.
    count: [W] events in each window. block: consecutive windows drawn together.

    Returns
    -------
    difference (mean per event), ci95, two-sided bootstrap p, test, n (events), windows, share of windows where a is
    greater. The ratio of resampled sums and counts is taken, so windows weigh by their events.
    """
    delta, windows = a - b, len(a)
    rows = resampled(windows, block, draws, seed)
    means = delta[rows].sum(axis=1) / np.maximum(count[rows].sum(axis=1), 1)
    return {
        "difference": float(delta.sum() / count.sum()),
        **_spread(means, block),
        "n": int(count.sum()),
        "windows": windows,
        "greater": float((delta[count > 0] > 0).mean()),
    }


def _spread(means: np.ndarray, block: int) -> dict[str, Any]:
    """Interval and two-sided p of bootstrapped differences [draws]."""
    low, high = np.quantile(means, [0.025, 0.975])
    tail = min((means <= 0).mean(), (means >= 0).mean())
    return {
        "ci95": [float(low), float(high)],
        "p": float(min(1.0, 2 * max(tail, 1 / len(means)))),
        "test": f"paired circular bootstrap of blocks of {block} windows, {len(means)} draws",
    }


def distances(values: np.ndarray, window: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Kolmogorov distances [draws] from the uniform law of values [n], each counted as often as its window was drawn.

    times: [draws, W] how often; window: [n].
    """
    order = np.argsort(values)
    u, found = values[order], np.empty(len(times))
    for draw, counts in enumerate(times):
        weight = counts[window[order]]
        up = np.cumsum(weight) / max(weight.sum(), 1)
        found[draw] = max((up - u).max(), (u - up + weight / max(weight.sum(), 1)).max())
    return found


def _distances(
    a: tuple[scores.Scores, list[int]], b: tuple[scores.Scores, list[int]], source: str, block: int
) -> dict[str, Any] | None:
    """The difference of two methods' Kolmogorov distances, windows resampled together; members are averaged."""
    means = []
    for found, members in (_common(a, b, source), _common(b, a, source)):
        if source not in found.values:
            return None
        windows = found.window[found.window_split == SPLITS.index("test")]
        place = np.searchsorted(windows, found.sequence[found.split == SPLITS.index("test")])
        rows = resampled(len(windows), block, KOLMOGOROV_DRAWS, 0)
        times = np.stack([np.bincount(row, minlength=len(windows)) for row in rows])
        times = np.concatenate([np.ones((1, len(windows)), int), times])  # first all windows once
        each = []
        for member in members:
            values = found.of(source, member)
            used = np.isfinite(values)
            if not used.any():
                return None
            each.append(distances(values[used], place[used], times))
        means.append((np.mean(each, axis=0), int(used.sum()), len(windows)))
    (one, n, windows), (other, _, _) = means
    away = one - other
    return {"difference": float(away[0]), **_spread(away[1:], block), "n": n, "windows": windows, "greater": None}


def contrast(
    a: tuple[scores.Scores, list[int]], b: tuple[scores.Scores, list[int]], metric: str, block: int
) -> dict[str, Any] | None:
    """Compare two methods (store and members) on the events that both have scored; members are averaged."""
    if metric in KOLMOGOROV:
        return _distances(a, b, KOLMOGOROV[metric], block)
    parts = []
    for found, members in (_common(a, b, metric), _common(b, a, metric)):
        sums = [by_window(found, member, metric) for member in members]
        if not sums or any(one is None for one in sums):
            return None
        parts.append((np.mean([one[0] for one in sums], axis=0), sums[0][1]))
    (total_a, count_a), (total_b, count_b) = parts
    if not np.array_equal(count_a, count_b) or not count_a.sum():
        return None
    return paired(total_a, total_b, count_a, block)


def _common(
    one: tuple[scores.Scores, list[int]], other: tuple[scores.Scores, list[int]], metric: str
) -> tuple[scores.Scores, list[int]]:
    """The first store with the events blanked that either lacks: sampled arms are scored on a subset."""
    names = [name for name in PAIRED.get(metric, (metric,)) if name != "log_survival"]
    if any(name not in found.values for found, _ in (one, other) for name in names):
        return one
    used = np.ones(len(one[0].split), bool)
    for found, members in (one, other):
        for name in names:
            used &= np.isfinite(found.values[name][members]).all(axis=0)
    values = dict(one[0].values)
    for name in names:
        values[name] = np.where(used, values[name], np.nan)
    return replace(one[0], values=values), one[1]


BY_CLOCK = ("log_likelihood_time", "log_likelihood_location", "log_likelihood_mark", "log_score_mark")


def by_clock(cat: Catalogue, methods: dict[str, tuple[scores.Scores, list[int]]]) -> dict[str, Any] | None:
    """Test windows whose clock is sound (``clean``) and those that have lost AM and PM (``folded``), apart.

    Windows and events of each, and each method's mean log likelihoods (its members averaged). None where times lie on
    no lattice with a known clock. Which windows are folded is told by :func:`pipeline.smash.clock.folded`.
    """
    if not (cat.meta["period_of_clock"] and cat.meta["lattice"]["time"]):
        return None
    some = next(iter(methods.values()))[0]
    lost = clock.folded(cat, some.window[some.window_split == SPLITS.index("test")])
    out: dict[str, Any] = {}
    for name, chosen in (("clean", ~lost), ("folded", lost)):
        out[name] = {"windows": int(chosen.sum()), "methods": {}}
        for method, (found, members) in methods.items():
            means: dict[str, float] = {}
            for metric in BY_CLOCK:
                sums = [by_window(found, member, metric) for member in members]
                if all(one is not None and one[1][chosen].sum() for one in sums):
                    means[metric] = float(np.mean([a[chosen].sum() / n[chosen].sum() for a, n in sums]))
                    out[name]["events"] = int(sums[0][1][chosen].sum())
            out[name]["methods"][method] = means
    return out


def vectors(found: scores.Scores, member: int) -> dict[str, Any]:
    """Curves of calibration: coverage of intervals and regions with bands, PIT histogram, reliability of the mark."""
    out: dict[str, Any] = {}
    for name, source in (("coverage_time", "pit_time"), ("coverage_location", "hpd_location")):
        if source in found.values:
            values = found.of(source, member)
            values = values[np.isfinite(values)]
            if len(values):
                out[name] = calibration.coverage(calibration.central(values) if source == "pit_time" else values)
            if source == "pit_time" and len(values):
                out["pit_time"] = (np.histogram(values, 20, (0, 1))[0] / len(values) * 20).tolist()
    if "residual_time" in found.values:
        values = np.sort(found.of("residual_time", member))
        values = values[np.isfinite(values)]
        if len(values):  # quantiles of the rescaled gaps beside those of the exponential law
            level = (np.arange(50) + 0.5) / 50
            out["rescaled"] = {
                "exponential": (-np.log1p(-level)).tolist(),
                "found": np.quantile(values, level).tolist(),
            }
    if "probability" in found.values:
        given = found.of("probability", member)
        used = np.isfinite(given).all(axis=1)
        if used.any():
            mark = found.mark[found.split == SPLITS.index("test")][used]
            confidence, accuracy, count = calibration.reliability(given[used], mark)
            out["reliability"] = {"confidence": confidence, "accuracy": accuracy, "count": count}
    return out


def with_certain_mark(found: scores.Scores, cat: Catalogue) -> scores.Scores:
    """A store of events without marks with the log probability 0 of their only mark, where places were scored.

    The joint log-likelihood is then that of time and place.
    """
    if cat.marked or "log_location" not in found.values or "log_mark_given_tx" in found.values:
        return found
    known = np.isfinite(found.values["log_location"])
    return replace(found, values={**found.values, "log_mark_given_tx": np.where(known, 0.0, np.nan)})


def _finite(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if np.isfinite(value)}


def compare(job: Job, settings: RunBaselines, log: Any) -> Result:
    """Stage ``compare``: write ``scenario.json`` (the scenario's block of the schema ``ablation/1``).

    Inputs: ``data``, ``baselines`` (one store), ``arms`` (a store each, in the scenario's order) and their ``runs``.
    """
    entry, cat = job.facts["entry"], load(job.inputs["data"])
    saved = with_certain_mark(scores.read(job.inputs["baselines"]), cat)
    methods = {name: (saved, [saved.members.index(name)]) for name in entry["baselines"]}
    costs: dict[str, dict[str, Any]] = {
        name: {
            "train_s": saved.attrs.get("etas_cpu_s") if name == "etas" else None,
            "evaluate_s": saved.attrs.get(f"evaluate_s_{name}"),
        }
        for name in methods
    }
    arms: dict[str, dict[str, Any]] = {}
    for path, run_path in zip(job.inputs["arms"], job.inputs["runs"], strict=True):
        name, run = Path(path).parent.name, read_run(run_path)
        found = with_certain_mark(scores.read(path), cat)
        methods[name] = (found, list(range(len(found.members))))
        weights = run["inputs"].get("weights")
        train = Path(weights["path"]).with_name("train.run.json") if weights else None
        costs[name] = {
            "train_s": read_run(train)["cost"]["cpu_s"] if train else None,
            "evaluate_s": run["cost"]["cpu_s"],
            "sampling_s": run["metrics"].get("sampling_s"),
            "peak_rss_mb": run["cost"]["peak_rss_mb"],
        }
        arms[name] = {
            "status": "done",
            "settings": run["settings"],
            "seeds": [int(member) for member in found.members],
            "parameters": int(run["metrics"].get("parameters_trainable", 0)) or None,
            "location_given": found.attrs.get("location_given", "time"),
        }

    def block(name: str) -> dict[str, Any]:
        found, members = methods[name]
        parts = [_finite(scores.metrics(found, member)) for member in members]
        shared = [metric for metric in parts[0] if all(metric in part for part in parts)]
        val = [_finite(scores.metrics(found, member, "val")) for member in members]
        return {
            "metrics": {metric: summary([part[metric] for part in parts]) for metric in shared},
            "validation": {
                metric: float(np.mean([part[metric] for part in val]))
                for metric in (
                    "log_likelihood",
                    "log_likelihood_time",
                    "log_likelihood_location",
                    "log_likelihood_mark",
                )
                if all(metric in part for part in val)
            },
            "vectors": vectors(found, members[0]),
            "cost": costs[name],
        }

    size = block_of(cat)
    comparisons = []
    for a, b in entry["compare"]:
        for metric in (*PAIRED, *KOLMOGOROV):
            found = contrast(methods[a], methods[b], metric, size)
            if found is not None:
                comparisons.append({"a": a, "b": b, "metric": metric, **found})
    record = {
        **{key: entry[key] for key in ("description", "leaky", "primary")},
        "dataset": {**info(cat), "log_density": cat.meta["log_density"], "block_windows": size},
        "arms": {name: {**arms[name], **block(name)} for name in entry["arms"]},
        "baselines": {name: block(name) for name in entry["baselines"]},
        "comparisons": comparisons,
    }
    if "etas" in saved.attrs:
        keys = ("memory", "validation", "parameters_of", "parameters")
        record["etas"] = {key: saved.attrs["etas"].get(key) for key in keys}
    if weeks := by_clock(cat, methods):
        record["by_clock"] = weeks
    if saved.attrs.get("csep"):
        record["csep"] = saved.attrs["csep"]
    if "truth" in cat.meta:
        record["recovery"] = recovery(cat, saved)
    write_json(job.outputs["scenario"], record)
    metric = entry["primary"]["metric"]
    flat = {}
    for group in ("arms", "baselines"):
        for name, one in record[group].items():
            if metric in one["metrics"]:
                flat[f"{metric}/{name}"] = one["metrics"][metric]["mean"]
    return Result(flat, tables=("scenario",), dataset=info(cat))


def recovery(cat: Catalogue, saved: scores.Scores) -> dict[str, Any]:
    """For a simulated catalogue: the truth's own likelihood, and each parameter beside its estimate and error."""
    from .simulate import Truth, true_log_likelihood

    fields = Truth.__dataclass_fields__
    truth = Truth(**{k: _tuples(v) for k, v in cat.meta["truth"].items() if k in fields})
    own = true_log_likelihood(truth, cat, "test")
    n = len(own["log_time"])
    found: dict[str, Any] = {"log_likelihood_truth": float(sum(part.sum() for part in own.values()) / n)}
    parameters = (saved.attrs.get("etas") or {}).get("parameters")
    if parameters:
        true = {
            "log_mu": math.log(truth.mu),
            "log_a": [np.log(truth.scaled).tolist()],
            "log_c": math.log(truth.c),
            "log_p": math.log(truth.p),
            "log_d": [np.log(truth.d).tolist()],
            "log_q": [math.log(truth.q - 1)],
        }
        found["parameters"] = {
            name: {"truth": value, **parameters[name], "z": _z(value, parameters[name])} for name, value in true.items()
        }
    return found


def _z(truth: Any, found: dict[str, Any]) -> Any:
    return ((np.array(found["estimate"]) - np.array(truth)) / np.array(found["error"])).tolist()


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
