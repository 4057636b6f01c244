"""All baselines of a scenario in one job: per-event scores, and the fitted ETAS for others to start from."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.stages import Job, Result
from . import csep, etas_fit, scores, waiting
from .baselines import Baselines
from .etas_predict import Forecaster
from .events import Catalogue, load
from .kde import Background
from .readers import SECONDS
from .settings import RunBaselines

MARGIN = 0.05  # nats an event on validation, below which ETAS keeps the unit exponential law of operational time


def fit_etas(cat: Catalogue, baselines: Baselines, settings: Any, log: Any) -> Forecaster:
    """Fit ETAS; where times lie on a lattice of minutes, the clock is the law of the time."""
    synthetic = "truth" in cat.meta  # windows without a past: nothing falls, nothing is slow
    started = time.process_time()
    fitted = etas_fit.estimate(
        cat,
        baselines.features,
        baselines.background.scale,
        memories=tuple(settings.memories),
        parts=("fast",) if synthetic else ("fast", "slow", "level"),
        falling=not synthetic,
        max_lag=settings.max_lag,
        errors=settings.errors,
        factors=("place",) if baselines.clock is not None else etas_fit.FACTORS,
        log=log,
    )
    if baselines.clock is None:
        choose_waiting(cat, Forecaster(fitted, baselines.background, baselines.features), log)
    fitted.attrs["cpu_s"] = time.process_time() - started
    fitted.attrs["clock"] = baselines.chosen.get("clock_memory") if baselines.clock is not None else None
    return Forecaster(fitted, baselines.background, baselines.features, baselines.clock)


def choose_waiting(cat: Catalogue, forecaster: Forecaster, log: Any) -> None:
    """Give ETAS a law of operational time of its own where validation gains ``MARGIN`` by it.

    A law other than the unit exponential costs what makes ETAS ETAS: clusters that don't wait for each other, by which
    catalogues are simulated forward.
    """
    fitted = forecaster.fitted

    def gaps(split: str) -> tuple[np.ndarray, ...]:
        sequences = cat.sequences(split, phase=0)
        sequences = sequences[cat.lengths[sequences] > 0]
        events = forecaster.events(cat, sequences)
        memory = fitted.attrs["memory"]["time"]
        recent = split == "train" and memory != "none"
        weight = etas_fit.recency(cat, sequences, float(memory)) if recent else np.ones(len(sequences))
        found, used = etas_fit.trace(fitted, events), events.timed.numpy()
        tail = np.where(cat.window[sequences] > cat.t[cat.offsets[sequences + 1] - 1], found["tail"], 0.0)
        return found["compensator"][used], weight[events.window.numpy()][used], tail, weight

    def value(rows: list[list[float]]) -> float:
        law, (z, _, tail, _) = waiting.law_of(torch.tensor(rows, dtype=torch.float64)), gaps("val")
        total = law.log_density(torch.as_tensor(z)).sum() + law.log_survival(torch.as_tensor(tail)).sum()
        return float(total) / max(len(z), 1)

    rows = waiting.fit(*gaps("train"))
    gain = value(rows) - value(waiting.unit())
    fitted.attrs["waiting_gain"] = gain
    if gain > MARGIN:
        fitted.attrs["waiting"] = rows
    log.info(f"etas, waiting times of their own law: validation {gain:+.4f}, {'kept' if gain > MARGIN else 'not kept'}")


def consistency(cat: Catalogue, forecaster: Forecaster, count: int, seed: int, folder: Path) -> dict[str, Any]:
    """CSEP-style tests of ETAS for the next day and week, where windows are long enough and times continuous.

    The last test window's forecasts go to ``folder`` in CSEP's format.
    """
    unit = SECONDS[cat.meta["units"]["time"]]
    if count == 0 or forecaster.clock is not None or cat.meta["window"] is None or not cat.meta.get("places", True):
        return {}
    spans = {name: days * SECONDS["day"] / unit for name, days in (("next_day", 1), ("next_week", 7))}
    return csep.evaluate(forecaster.fitted.time, forecaster.background, cat, spans, count, seed, folder=folder)


def run(job: Job, settings: RunBaselines, log: Any) -> Result:
    """Stage ``baselines``: ``scores`` (a store, one member a baseline), ``fitted`` (JSON of the ETAS), ``csep``.

    ``csep`` is a folder with ETAS's simulated catalogues for the next day and week, empty where they aren't simulated.

    ETAS is fitted whether or not it is named among the baselines, because arms start from it.
    """
    cat, chosen = load(job.inputs["data"]), settings.baselines
    started = time.process_time()
    background = Background.fit(cat)
    features = background.catalogue_features(cat)
    seconds = time.process_time() - started
    baselines = Baselines(cat, background, features, chosen.max_lag)
    names = list(job.facts["baselines"])
    forecaster = fit_etas(cat, baselines, chosen, log)
    folder = Path(job.outputs["csep"])
    folder.mkdir()
    tests = consistency(cat, forecaster, chosen.catalogues, job.seeds[0], folder)
    costs = {"features_cpu_s": seconds, "etas_cpu_s": forecaster.fitted.attrs["cpu_s"] + seconds}
    by_split: dict[str, list[dict]] = {"val": [], "test": []}
    for name in names:
        started = time.process_time()
        for split, found in by_split.items():
            rng = np.random.default_rng([job.seeds[0], split == "test"])
            full = split == "test"  # validation needs likelihoods alone
            targets = cat.targets(split)
            if name == "etas":
                exact = forecaster.exact(cat, targets, rng, chosen.samples, chosen.quantiles, full)
            else:
                exact = baselines.exact(name, split, rng, chosen.samples, chosen.quantiles if full else None)
            found.append(scores.score_exact(cat, targets, exact, rng))
        costs[f"evaluate_s_{name}"] = time.process_time() - started
        log.info(f"{name}: {costs[f'evaluate_s_{name}']:.1f} CPU s")
    attrs = {
        "location_given": "time",
        "chosen": baselines.chosen,
        "etas": forecaster.fitted.attrs,
        "csep": tests,
        **costs,
    }
    scores.write(job.outputs["scores"], names, by_split, cat, attrs)
    forecaster.fitted.save(job.outputs["fitted"])
    found = scores.read(job.outputs["scores"])
    metrics = dict(costs)
    for place, name in enumerate(names):
        metrics |= {f"{key}/{name}": value for key, value in scores.metrics(found, place).items() if key in REPORTED}
    from .data import info

    return Result(metrics, dataset=info(cat))


REPORTED = ("log_likelihood", "log_likelihood_time", "log_likelihood_location", "log_likelihood_mark", "crps_time")
