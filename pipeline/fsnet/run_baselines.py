"""All baselines of a scenario in one job: they are cheap, and the ensembles take them as inputs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from ..core.stages import Job, Result
from . import forecasts as store
from .baselines import BASELINES
from .series import Series, load_realizations
from .settings import Forecast


def run(job: Job, settings: Forecast, log: Any) -> Result:
    """Stage ``baselines``: forecasts of every named baseline from every validation and test origin.

    A baseline is warm from the first row and learns from a label when its row has been seen. Members are named after
    the baselines, ``name@index`` where the data have several realizations.
    """
    features = "MS" if settings.task.features == "S" else settings.task.features  # others may serve as inputs
    series = load_realizations(Path(job.inputs["data"]), features)
    horizon = settings.task.horizon
    origins = series[0].origins("stream", settings.task.window, horizon)
    names, values, costs = [], [], {}
    for name in job.facts["baselines"]:
        clock = time.process_time()
        for index, one in enumerate(series):
            names.append(name if len(series) == 1 else f"{name}@{index}")
            values.append(_forecast(name, one, horizon)[origins])
        costs[f"ms_{name}"] = 1000 * (time.process_time() - clock) / (len(series) * len(series[0].labels))
        log.info(f"{name}: {costs[f'ms_{name}']:.3f} ms a step")
    store.write(job.outputs["forecasts"], store.Forecasts(np.stack(values), origins, names, attrs=costs))
    return Result(costs, dataset=series[0].info)


def _forecast(name: str, series: Series, horizon: int) -> np.ndarray:
    """[N, H, O] forecasts of one baseline, output by output; the other channels are its exogenous inputs."""
    columns = []
    for output in series.outputs:
        others = np.delete(series.z, output, axis=1) if series.z.shape[1] > 1 else None
        columns.append(BASELINES[name](series.z[:, output], series.season, horizon, others))
    return np.stack(columns, axis=2)
