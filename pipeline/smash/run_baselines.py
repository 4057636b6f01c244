"""All baselines of a scenario in one job: per-event scores, and the fitted ETAS for others to start from."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from ..core.stages import Job, Result
from . import csep, etas_fit, scores
from .baselines import Baselines
from .etas_predict import Forecaster
from .events import Catalogue, load
from .kde import Background
from .readers import SECONDS
from .settings import RunBaselines


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
    fitted.attrs["cpu_s"] = time.process_time() - started
    fitted.attrs["clock"] = baselines.chosen.get("clock_memory") if baselines.clock is not None else None
    return Forecaster(fitted, baselines.background, baselines.features, baselines.clock)


def consistency(cat: Catalogue, forecaster: Forecaster, count: int, seed: int) -> dict[str, Any]:
    """CSEP-style tests of ETAS for the next day and week, where windows are long enough and times continuous."""
    unit = SECONDS[cat.meta["units"]["time"]]
    if count == 0 or forecaster.clock is not None or cat.meta["window"] is None or not cat.meta.get("places", True):
        return {}
    spans = {name: days * SECONDS["day"] / unit for name, days in (("next_day", 1), ("next_week", 7))}
    return csep.evaluate(forecaster.fitted.time, forecaster.background, cat, spans, count, seed)


def run(job: Job, settings: RunBaselines, log: Any) -> Result:
    """Stage ``baselines``: ``scores`` (a store, one member a baseline) and ``fitted`` (JSON of the fitted ETAS).

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
    tests = consistency(cat, forecaster, chosen.catalogues, job.seeds[0])
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
