"""Baselines of every FSNet table, one function each: ``f(y, season, horizon, exog=None) -> [n, H]``.

Row t of the answer is the forecast from origin t of rows t+1 … t+H, for all origins 0 … n-1 (the last H have no labels
yet).  Everything streams warm from row 0 and is causal: the forecast from origin t is a function of rows <= t, and
what learns has learnt from windows whose last label is row t or earlier.  Values are z-scored (the ridges are in
those units) and free of gaps; ``season`` is a number of rows, see ``features.season_length``.

Scores on ETTh1 OT (H = 12) and how the settings of the learners were chosen: see the documentation of the system.
"""

import numpy as np

from pipeline.core.errors import DataError
from pipeline.fsnet.experts import AGGREGATE, AGGREGATE_EXOG, RICH, LinearPool
from pipeline.fsnet.features import RAW_LAGS, FeatureBank, season_length
from pipeline.fsnet.rls import RecursiveLeastSquares
from pipeline.fsnet.stream import AggregateStream

__all__ = ["BASELINES", "AggregateStream", "linear_pool", "season_length"]

RLS_RIDGE = 10.0
REFIT_RIDGE = 100.0


def _checked(y, season, horizon, exog=None):
    y = np.ascontiguousarray(y, float)
    if y.ndim != 1 or len(y) == 0:
        raise DataError(f"the target must be one series of at least one row, got shape {y.shape}")
    if int(season) < 1 or int(horizon) < 1:
        raise DataError(f"season and horizon must be at least 1 row, got {season} and {horizon}")
    if exog is not None:
        exog = np.ascontiguousarray(exog, float)
        if exog.ndim != 2 or len(exog) != len(y):
            raise DataError(f"other channels must be [n, C] with n = {len(y)} rows, got shape {exog.shape}")
    return y, int(season), int(horizon), exog


def _one_season_ago(y, season, horizon):
    """The last known value at the phase of t+h (the present one before a season has passed): [n, H]."""
    n = len(y)
    h = np.arange(1, 1 + horizon)
    row = np.arange(n)[:, None] + h - season * -(-h // season)
    return np.where(row >= 0, y[np.maximum(row, 0)], y[:, None])


def persistence(y, season, horizon, exog=None):
    """y[t] for every horizon."""
    y, season, horizon, _ = _checked(y, season, horizon)
    return np.repeat(y[:, None], horizon, axis=1)


def seasonal_naive(y, season, horizon, exog=None):
    """The last known value at the same phase of the season."""
    y, season, horizon, _ = _checked(y, season, horizon)
    return _one_season_ago(y, season, horizon)


def half_drift(y, season, horizon, exog=None):
    """y[t] plus half of what the series did over the same hours one season ago."""
    y, season, horizon, _ = _checked(y, season, horizon)
    before = np.concatenate([np.full(min(season, len(y)), np.nan), y[:-season]])
    drift = _one_season_ago(y, season, horizon) - before[:, None]
    drift[:season] = 0.0  # no season has passed yet: persistence
    return y[:, None] + 0.5 * drift


def rls(y, season, horizon, exog=None):
    """Recursive least squares on the last 48 values: no forgetting, ridge 10, nothing else."""
    y, season, horizon, _ = _checked(y, season, horizon)
    x = FeatureBank(season, horizon).push(y)["raw"]
    model = RecursiveLeastSquares(RAW_LAGS, horizon, RLS_RIDGE)
    out = np.empty((len(y), horizon))
    for t in range(len(y)):
        origin = t - horizon  # the window whose last label is row t
        if origin >= RAW_LAGS - 1:
            model.learn(x[origin], y[origin + 1 : t + 1])
        out[t] = model.predict(x[t]) if origin >= RAW_LAGS - 1 else y[t]
    return out


def rls_rich(y, season, horizon, exog=None):
    """One recursive least squares on everything: lags of a week, level, harmonics, profiles, periodic AR."""
    y, season, horizon, _ = _checked(y, season, horizon)
    return LinearPool({"rls_rich": RICH}, season, horizon).update(y)[0]


def weekly_refit(y, season, horizon, exog=None):
    """Batch ridge regression (scikit-learn), fitted anew every seven seasons (at least 168 rows) on all known."""
    from sklearn.linear_model import Ridge

    y, season, horizon, _ = _checked(y, season, horizon)
    blocks = FeatureBank(season, horizon).push(y)
    x = np.concatenate([blocks["lags"], blocks["level"][:, 1:], blocks["harmonics"]], axis=1)
    out = np.repeat(y[:, None], horizon, axis=1)
    every = max(7 * season, 168)
    for start in range(every, len(y), every):
        rows = np.arange(RAW_LAGS - 1, start - horizon + 1)  # the last label of the last one is row `start`
        if len(rows) == 0:
            continue
        target = y[rows[:, None] + np.arange(1, 1 + horizon)] - y[rows][:, None]
        model = Ridge(alpha=REFIT_RIDGE).fit(x[rows], target)
        stop = min(start + every, len(y))
        moves = x[start:stop] @ model.coef_.reshape(horizon, -1).T + model.intercept_
        out[start:stop] += moves
    return out


def linear_pool(y, season, horizon, exog=None):
    """The linear experts behind ``aggregate`` (those with other channels too where ``exog`` is given).

    Returns
    -------
    names : list of str
    experts : array [K, n, H]
    """
    y, season, horizon, exog = _checked(y, season, horizon, exog)
    specs = AGGREGATE if exog is None else AGGREGATE_EXOG
    pool = LinearPool(specs, season, horizon, 0 if exog is None else exog.shape[1])
    return list(specs), pool.update(y, exog)


def _stream(y, season, horizon, exog, members):
    y, season, horizon, exog = _checked(y, season, horizon, exog)
    return AggregateStream(season, horizon, 0 if exog is None else exog.shape[1], members=members).update(y, exog)[
        "forecast"
    ]


def _needs_exog(name, exog):
    if exog is None:
        raise DataError(f"baseline `{name}` needs other channels; use `{name.removesuffix('_exog')}` without them")


def aggregate(y, season, horizon, exog=None):
    """Online aggregation of linear experts on the target alone."""
    return _stream(y, season, horizon, None, "linear")


def aggregate_exog(y, season, horizon, exog=None):
    """Online aggregation of linear experts, some with the other channels as inputs."""
    _needs_exog("aggregate_exog", exog)
    return _stream(y, season, horizon, exog, "linear")


def aggregate_full(y, season, horizon, exog=None):
    """``aggregate`` with analogues and weekly renewed forests as further experts."""
    return _stream(y, season, horizon, None, "all")


def aggregate_full_exog(y, season, horizon, exog=None):
    """``aggregate_exog`` with analogues and weekly renewed forests as further experts."""
    _needs_exog("aggregate_full_exog", exog)
    return _stream(y, season, horizon, exog, "all")


BASELINES = {
    f.__name__: f
    for f in (
        persistence,
        seasonal_naive,
        half_drift,
        weekly_refit,
        rls,
        rls_rich,
        aggregate,
        aggregate_exog,
        aggregate_full,
        aggregate_full_exog,
    )  # fmt: skip
}
