"""Forecasting a user's series row by row: scaling, the aggregated linear experts, running errors, a state.

The forecaster is the baseline ``aggregate`` (``aggregate_exog`` where other columns are inputs) with online conformal
intervals. Feedback is delayed: before it forecasts from a row it has learnt from that row and those before it. However
a series is cut into updates, the numbers are the same bits. Files are the business of :mod:`pipeline.fsnet.own`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..core.errors import DataError
from .baselines import BASELINES, RLS_RIDGE, AggregateStream
from .features import RAW_LAGS, FeatureBank
from .rls import RecursiveLeastSquares

SCHEMA = "fsnet-forecast/1"
CHUNK = 200  # rows between two looks at the progress
SIMPLE = ("persistence", "seasonal_naive")
METHODS = ("forecast", *SIMPLE, "rls")


@dataclass(frozen=True)
class Setup:
    """What is forecast from what; fixed for the life of a state.

    Attributes
    ----------
    target: column that is forecast.
    others: columns that are further inputs.
    horizon: rows ahead, H.
    level: of the intervals, 0.9 for 90 %.
    step_s: seconds between rows.
    season: rows of a day (of a week for daily rows, 1 where there is none).
    warmup: first rows, whose mean and standard deviation scale everything; no forecast is given before their last.
    time, time_format, gap: how files are read, kept so that the next one is read alike.
    """

    target: str
    others: tuple[str, ...]
    horizon: int
    level: float
    step_s: float
    season: int
    warmup: int
    time: str | None = None
    time_format: str | None = None
    gap: int = 0

    @property
    def columns(self) -> list[str]:
        return [self.target, *self.others]


def default_warmup(season: int, horizon: int) -> int:
    """Rows of the warm-up: two weeks of hourly or quarter-hourly rows, at least 200 and four horizons."""
    return max(14 * season, 200, 4 * horizon)


class RunningErrors:
    """Sums of squared and absolute errors of every forecast whose rows have all been seen, by method.

    Sums run row after row, so that they don't depend on how the series is cut.
    """

    def __init__(self, horizon: int):
        self.horizon = horizon
        self.pending = {name: np.empty((0, horizon)) for name in (*METHODS, "lower", "upper")}  # the last H origins
        self.sums = {name: np.zeros(2) for name in METHODS}  # squared, absolute; means over the horizon
        self.coverage = np.zeros(3)  # covered and known entries, summed widths
        self.count = 0  # complete forecasts

    def update(self, new: Mapping[str, np.ndarray], y: np.ndarray, first_scored: int) -> None:
        """Take in the forecasts [m, H] of m new rows.

        Parameters
        ----------
        new: by method, with ``lower`` and ``upper``.
        y: [p + m] rows of the ``p`` pending origins and the new ones.
        first_scored: forecasts of this array's earlier origins are left out (warm-up).
        """
        h = self.horizon
        every = {name: np.concatenate([self.pending[name], new[name]]) for name in self.pending}
        complete = np.arange(max(first_scored, 0), max(len(y) - h, 0))  # origins whose last row has been seen
        truth = y[complete[:, None] + np.arange(1, h + 1)]  # [n, H]
        for name in METHODS:
            error = every[name][complete] - truth
            losses = np.stack([(error**2).mean(axis=1), np.abs(error).mean(axis=1)], axis=1)  # [n, 2]
            self.sums[name] = _added(self.sums[name], losses)
        lower, upper = every["lower"][complete], every["upper"][complete]
        known = np.isfinite(lower) & np.isfinite(upper)
        covered = known & (lower <= truth) & (truth <= upper)
        widths = np.where(known, upper - lower, 0.0)
        parts = [part.sum(axis=1).astype(float) for part in (covered, known, widths)]
        self.coverage = _added(self.coverage, np.stack(parts, axis=1))
        self.count += len(complete)
        self.pending = {name: values[max(len(y) - h, 0) :].copy() for name, values in every.items()}

    def state(self) -> dict[str, np.ndarray]:
        flat = {f"pending/{name}": values for name, values in self.pending.items()}
        flat |= {f"sums/{name}": values for name, values in self.sums.items()}
        return flat | {"coverage": self.coverage, "count": np.array(self.count)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.pending = {name: np.array(state[f"pending/{name}"], float) for name in self.pending}
        self.sums = {name: np.array(state[f"sums/{name}"], float) for name in METHODS}
        self.coverage, self.count = np.array(state["coverage"], float), int(state["count"])


def _added(total: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """``total`` [k] plus ``rows`` [n, k], one after the other (a pairwise sum would depend on n)."""
    return np.cumsum(np.concatenate([total[None], rows]), axis=0)[-1]


class RlsStream:
    """The baseline ``rls`` of :mod:`pipeline.fsnet.baselines` in pieces: ``update`` takes m rows, returns [m, H]."""

    def __init__(self, season: int, horizon: int):
        self.bank, self.horizon = FeatureBank(season, horizon), horizon
        self.model = RecursiveLeastSquares(RAW_LAGS, horizon, RLS_RIDGE)
        self.inputs = np.zeros((horizon, RAW_LAGS))  # of the last H origins
        self.labels = np.zeros(horizon)  # the last H rows

    def update(self, y: np.ndarray) -> np.ndarray:
        h, first = self.horizon, self.bank.seen
        x = np.concatenate([self.inputs, self.bank.push(y)["raw"]])  # [H + m, 48]; row i is origin first - H + i
        labels = np.concatenate([self.labels, y])
        out = np.repeat(np.asarray(y, float)[:, None], h, axis=1)
        for i in range(len(y)):
            if first + i - h >= RAW_LAGS - 1:
                self.model.learn(x[i], labels[i + 1 : i + 1 + h])
                out[i] = self.model.predict(x[i + h])
        self.inputs, self.labels = x[len(y) :].copy(), labels[len(y) :].copy()
        return out

    def state(self) -> dict[str, np.ndarray]:
        flat = {"inputs": self.inputs, "labels": self.labels}
        flat |= {f"bank/{name}": value for name, value in self.bank.state().items()}
        return flat | {f"model/{name}": value for name, value in self.model.state().items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.inputs, self.labels = np.array(state["inputs"], float), np.array(state["labels"], float)
        self.bank.restore(_cut(state, "bank"))
        self.model.restore(_cut(state, "model"))


def _cut(state: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The entries of one part of a flat state."""
    return {k.removeprefix(f"{prefix}/"): v for k, v in state.items() if k.startswith(f"{prefix}/")}


class Forecaster:
    """Forecasts of one series, in its own units.

    Parameters
    ----------
    setup: see :class:`Setup`.
    start: time stamp of the first row.
    """

    def __init__(self, setup: Setup, start: np.datetime64):
        self.setup, self.start, self.seen = setup, np.datetime64(start, "ns"), 0
        self.mean = self.sd = np.zeros(len(setup.columns))
        self.stream = AggregateStream(setup.season, setup.horizon, len(setup.others), setup.level)
        self.rls = RlsStream(setup.season, setup.horizon)
        self.errors = RunningErrors(setup.horizon)
        self.kept = max(2 * setup.season, 2 * setup.horizon, 500)  # rows to compare a later file with
        self.tail = np.empty((0, len(setup.columns)))  # [<= kept, 1 + C], in their own units
        self.filled = np.empty((0, len(setup.columns)), bool)

    def time(self, row: int | np.ndarray) -> np.ndarray:
        """Time stamp of a row, also of one to come."""
        return self.start + np.asarray(row) * np.timedelta64(round(self.setup.step_s * 1e9), "ns")

    @property
    def last(self) -> np.datetime64:
        """Time stamp of the last row seen."""
        return self.time(self.seen - 1)

    def _scale(self, values: np.ndarray) -> None:
        setup = self.setup
        if len(values) < setup.warmup + setup.horizon:
            raise DataError(
                f"The series has {len(values):,} rows; at least {setup.warmup + setup.horizon:,} are needed: "
                f"{setup.warmup:,} to scale by (--warmup) and {setup.horizon} to compare a first forecast with"
            )
        self.mean, self.sd = values[: setup.warmup].mean(axis=0), values[: setup.warmup].std(axis=0)
        for name, mean, sd in zip(setup.columns, self.mean, self.sd, strict=True):
            if not sd > 1e-12 * max(1.0, abs(mean)):
                raise DataError(
                    f"Column {name!r} is constant ({mean:g}) over the first {setup.warmup:,} rows, so nothing can be "
                    "scaled by them; choose a longer warm-up (--warmup)"
                    + (" or leave the column out (--columns)" if name != setup.target else "")
                )

    def update(
        self, values: np.ndarray, filled: np.ndarray, progress: Callable[[int], None] = lambda done: None
    ) -> dict[str, np.ndarray]:
        """Take in new rows and forecast from each.

        Parameters
        ----------
        values: [m, 1 + C], target first, in their own units; the first call must bring the warm-up.
        filled: [m, 1 + C] bool, values that were missing.
        progress: called with the number of rows done.

        Returns
        -------
        ``row`` [n]: origins, i.e. rows that were the last ones seen (from the last row of the warm-up on);
        ``forecast``, ``lower``, ``upper`` [n, H] of the rows after each; NaN bounds until there are enough errors.

        Raises
        ------
        DataError
            Too short a warm-up, or a column that doesn't change in it.
        """
        if self.seen == 0:
            self._scale(values)
        first, parts = self.seen, []
        for cut in range(0, len(values), CHUNK):
            parts.append(self._advance(values[cut : cut + CHUNK], filled[cut : cut + CHUNK]))
            progress(min(cut + CHUNK, len(values)))
        rows = np.arange(first, self.seen)
        kept = rows >= self.setup.warmup - 1
        return {
            "row": rows[kept],
            **{
                name: np.concatenate([np.empty((0, self.setup.horizon)), *(part[name] for part in parts)])[kept]
                for name in ("forecast", "lower", "upper")
            },
        }

    def _advance(self, values: np.ndarray, filled: np.ndarray) -> dict[str, np.ndarray]:
        """One chunk of rows: forecasts [m, H] in the target's units."""
        setup, first = self.setup, self.seen
        z = (values - self.mean) / self.sd  # [m, 1 + C]
        out = self.stream.update(z[:, 0], z[:, 1:] if setup.others else None)
        new = {name: self._physical(out[name]) for name in ("forecast", "lower", "upper")}
        new["rls"] = self._physical(self.rls.update(z[:, 0]))
        past = np.concatenate([self.tail[:, 0], values[:, 0]])
        for name in SIMPLE:
            new[name] = BASELINES[name](past, setup.season, setup.horizon)[len(self.tail) :]
        pending = len(self.errors.pending["forecast"])
        self.errors.update(new, past[len(self.tail) - pending :], setup.warmup - 1 - (first - pending))
        self.tail = np.concatenate([self.tail, values])[-self.kept :]
        self.filled = np.concatenate([self.filled, filled])[-self.kept :]
        self.seen += len(values)
        return new

    def _physical(self, z: np.ndarray) -> np.ndarray:
        return z * self.sd[0] + self.mean[0]

    def latest(self) -> dict[str, np.ndarray]:
        """``time``, ``forecast``, ``lower``, ``upper`` [H] of the rows after the last one seen."""
        ahead = {name: self.errors.pending[name][-1] for name in ("forecast", "lower", "upper")}
        return {"time": self.time(self.seen + np.arange(self.setup.horizon)), **ahead}

    def scores(self) -> dict[str, dict[str, float]]:
        """RMSE and MAE (target's units) and MSE over that of persistence, by method, over all complete forecasts."""
        count = self.errors.count
        reference = self.errors.sums["persistence"][0]
        return {
            name: {
                "rmse": float(np.sqrt(squared / count)),
                "mae": float(absolute / count),
                "ratio": float(squared / reference) if reference > 0 else float("nan"),
            }
            for name, (squared, absolute) in self.errors.sums.items()
            if count
        }

    def coverage(self) -> tuple[float, float] | None:
        """Share of rows inside their intervals and the intervals' mean width; None before there is one."""
        covered, known, widths = self.errors.coverage
        return (covered / known, widths / known) if known else None

    def state(self) -> dict[str, np.ndarray]:
        """Flat arrays from which :meth:`from_state` continues to the bit."""
        meta = {"schema": SCHEMA, "setup": asdict(self.setup), "start": str(self.start), "seen": self.seen}
        flat = {"meta": np.array(json.dumps(meta)), "mean": self.mean, "sd": self.sd, "tail": self.tail}
        flat["filled"] = self.filled
        for prefix, part in (("stream", self.stream), ("rls", self.rls), ("errors", self.errors)):
            flat |= {f"{prefix}/{name}": value for name, value in part.state().items()}
        return flat

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Forecaster:
        """Continue from :meth:`state`; ``KeyError`` or ``ValueError`` where it is not one."""
        meta: dict[str, Any] = json.loads(str(state["meta"]))
        if meta["schema"] != SCHEMA:
            raise ValueError(f"schema {meta['schema']!r}")
        setup = Setup(**{**meta["setup"], "others": tuple(meta["setup"]["others"])})
        one = cls(setup, np.datetime64(meta["start"]))
        one.seen = int(meta["seen"])
        one.mean, one.sd = np.array(state["mean"], float), np.array(state["sd"], float)
        one.tail, one.filled = np.array(state["tail"], float), np.array(state["filled"], bool)
        one.stream = AggregateStream.from_state(_cut(state, "stream"))
        one.rls.restore(_cut(state, "rls"))
        one.errors.restore(_cut(state, "errors"))
        return one
