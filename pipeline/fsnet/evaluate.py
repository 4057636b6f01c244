"""The stream of one arm: from its starting point to forecasts of validation and test rows."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.stages import Job, Result
from ..core.store import digest
from . import forecasts as store
from . import scoring
from .aggregate import combine_with_extra
from .engine import fork_state, load_state
from .memory import MemorySettings
from .online import Learner, Trace, stream
from .regime_learner import run_stream
from .series import Series, load_realizations
from .settings import Evaluate, Memory
from .streaming import Windows


def memory_settings(memory: Memory) -> MemorySettings:
    """The engine's memory of an arm."""
    values = memory.model_dump()
    return MemorySettings(variant=values.pop("kind"), **values)


def deep(
    job: Job, settings: Evaluate, series: list[Series], origins: np.ndarray, log: Any
) -> tuple[Trace, dict[str, int]]:
    """An arm with a network: goes on from the pre-trained state with its own memory and learning rule.

    Returns the trace, and the parameter counts of what was pre-trained.
    """
    windows = Windows(series, settings.task.window, settings.task.horizon, settings.network, job.device)
    state = load_state(Path(job.inputs["weights"]), job.device)
    counts = state.spec.parameter_counts()
    state = fork_state(state, replace(state.spec, memory=memory_settings(settings.memory)))
    code = "".join(digest(path) for path in job.inputs.get("code", []))
    fingerprint = hashlib.sha256(f"{log.key} {code}".encode()).hexdigest()
    learner = Learner(state, windows, settings.online)
    return stream(learner, origins, log, log.checkpoint_path(), fingerprint), counts


def ensemble(job: Job, settings: Evaluate, series: list[Series], origins: np.ndarray) -> Trace:
    """Online aggregation of the needed arms' forecasts, seed by seed, with the linear experts' aggregate."""
    linear = store.read(job.inputs["baselines"])
    base = linear[settings.ensemble.base]  # [n, H, O]
    arms = [store.read(path) for path in job.inputs["needs"]]
    clock = time.process_time()
    result = np.empty((len(job.seeds), *base.shape), np.float32)
    rows = slice(int(origins[0]), int(origins[-1]) + 1)
    for index in range(len(job.seeds)):
        labels = series[index % len(series)].labels[rows]
        for output in range(base.shape[2]):
            extra = np.stack([arm.values[index, :, :, output] for arm in arms])  # [K, n, H]
            result[index, :, :, output] = combine_with_extra(labels[:, output], base[:, :, output], extra)
    return Trace(result, {}, time.process_time() - clock)


def regime(settings: Evaluate, series: list[Series], origins: np.ndarray) -> Trace:
    """The linear learner of the regime stream, one stream a seed."""
    clock = time.process_time()
    forecasts = np.empty((len(series), len(origins), 1, 1), np.float32)
    fired = np.zeros((len(series), len(origins)), np.float32)
    slots = []
    for index, one in enumerate(series):
        forecast, info = run_stream(one.labels[:, 0], settings.regime.learner, settings.regime.memory)
        forecasts[index, :, 0, 0] = forecast[origins + 1]  # forecast[t] is of row t, made at t - 1
        marks = np.zeros(len(one.labels), bool)
        marks[info["firing"]] = True
        fired[index] = marks[origins]
        slots.append(info["slot_scores"][origins])
    tracks = {"fired": fired} | ({"slots": np.stack(slots).astype(np.float32)} if settings.regime.memory else {})
    return Trace(forecasts, tracks, time.process_time() - clock)


def evaluate(job: Job, settings: Evaluate, log: Any) -> Result:
    """Stage ``evaluate``: stream validation and test rows and keep every forecast.

    Inputs: ``data``; ``weights`` (deep arms), ``needs`` and ``baselines`` (ensembles).
    """
    series = load_realizations(Path(job.inputs["data"]), settings.task.features)
    origins = series[0].origins("stream", settings.task.window, settings.task.horizon)
    if settings.online.feedback == "immediate":  # as published: the stream begins with the test period
        origins = series[0].origins("test", settings.task.window, settings.task.horizon)
    counts: dict[str, int] = {}
    if settings.ensemble.kind != "none":
        trace = ensemble(job, settings, series, origins)
    elif settings.regime.kind != "none":
        trace = regime(settings, series, origins)
    else:
        trace, counts = deep(job, settings, series, origins, log)
    store.write(job.outputs["forecasts"], store.Forecasts(trace.forecasts, origins, job.seeds, trace.tracks))
    metrics = {"ms_per_step": 1000 * trace.seconds / trace.forecasts[..., 0, 0].size}
    if "fired" in trace.tracks:
        ratio = trace.tracks.get("read_ratio", np.full((1, 1), np.nan))
        metrics["memory_firings"] = float(np.nansum(trace.tracks["fired"], axis=1).mean())
        if np.isfinite(ratio).any():
            metrics["memory_read_ratio"] = float(np.nanmean(ratio))
    metrics |= {f"parameters_{name}": float(value) for name, value in counts.items()}
    return Result(metrics | _scores(trace, series, origins, settings.task.horizon), dataset=series[0].info)


def _scores(trace: Trace, series: list[Series], origins: np.ndarray, horizon: int) -> dict[str, float]:
    """Mean metrics over seeds on the validation and on the test rows."""
    result: dict[str, list[float]] = {}
    for index, forecast in enumerate(trace.forecasts):
        one = series[index % len(series)]
        outputs = list(one.outputs)
        for part in ("val", "test"):
            used = np.isin(origins, one.origins(part, 1, horizon))
            if used.any():
                target = scoring.truth(one.labels, origins[used], horizon)
                scored = scoring.scores(forecast[used], target, one.mean[outputs], one.sd[outputs])
                for name, value in scored.items():
                    result.setdefault(name if part == "test" else f"validation_{name}", []).append(value)
    return {name: float(np.mean(values)) for name, values in result.items()}
