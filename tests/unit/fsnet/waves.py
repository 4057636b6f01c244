"""A made-up series, as the table that a user has, and forecasts of it in one piece or many."""

import numpy as np
import pandas as pd

from pipeline.fsnet.forecast import Forecaster, Setup

START = "2024-01-01"
HORIZON = 6


def wave(n, seed=0):
    """Hourly rows [n, 2]: a day's wave with noise in the target and a correlated second column."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n, 2)).cumsum(axis=0) * 0.1 + rng.normal(size=(n, 2)) * 0.2
    day = np.sin(2 * np.pi * np.arange(n) / 24)
    return np.stack([20 + 5 * day, 3 - day], axis=1) + noise


def frame(values, start=START, freq="h"):
    times = pd.date_range(start, periods=len(values), freq=freq)
    return pd.DataFrame({"date": times, "load": values[:, 0], "wind": values[:, 1]})


def setup(**changes):
    fields = {"target": "load", "others": (), "horizon": HORIZON, "level": 0.8, "step_s": 3600.0, "season": 24}
    return Setup(**{**fields, "warmup": 100, **changes})


def stream(values, cuts, one=None, **changes):
    """A forecaster fed in pieces; everything it returned, joined."""
    one = one or Forecaster(setup(**changes), np.datetime64(START))
    columns = len(one.setup.columns)
    parts = []
    for piece in np.split(values[:, :columns], cuts):
        parts.append(one.update(piece, np.zeros(piece.shape, bool)))
    return one, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
