"""Matrix methods over [time, series]: soft-impute factorisation, scikit-learn's MICE, and quick chained ridge."""

from __future__ import annotations

import warnings

import numpy as np


def standardised(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns of [T, S] centred and scaled by what is there; mean and standard deviation [S] (0 and 1 of nothing)."""
    seen = ~np.isnan(x)
    count = np.maximum(seen.sum(axis=0), 1)
    mean = np.where(seen, x, 0).sum(axis=0) / count
    sd = np.sqrt((np.where(seen, x - mean, 0) ** 2).sum(axis=0) / count)
    sd = np.where(sd > 0, sd, 1.0)
    return (x - mean) / sd, mean, sd


def soft_impute(
    x: np.ndarray, penalty: float, *, sweeps: int = 100, tolerance: float = 1e-4, start: np.ndarray | None = None
) -> np.ndarray:
    """Matrix completion with a nuclear-norm penalty by iterated soft-thresholding of singular values.

    Mazumder, Hastie and Tibshirani (2010), Spectral regularization algorithms for learning large incomplete matrices,
    algorithm 1: Z <- S_penalty(P(X) + P_complement(Z)).

    Parameters
    ----------
    x: [T, S] with NaN.
    penalty: what is taken off every singular value.
    sweeps: at most.
    tolerance: stop where the estimate changes by less than this share of its norm.
    start: [T, S] first estimate (of a greater penalty); None: zeros.

    Returns
    -------
    [T, S] the low-rank estimate, also where x is known.
    """
    seen = ~np.isnan(x)
    known = np.where(seen, x, 0.0)
    z = np.zeros_like(known) if start is None else start
    for _ in range(sweeps):
        filled = np.where(seen, known, z)
        # singular vectors on the short side: S x S is far smaller than T x S
        values, right = np.linalg.eigh(filled.T @ filled)
        singular = np.sqrt(np.maximum(values, 0))
        keep = singular > penalty
        shrink = right[:, keep] * (1 - penalty / singular[keep])
        new = filled @ shrink @ right[:, keep].T
        change = np.linalg.norm(new - z) / max(np.linalg.norm(z), 1e-9)
        z = new
        if change < tolerance:
            break
    return z


def soft_impute_path(x: np.ndarray, penalties: list[float]) -> dict[float, np.ndarray]:
    """Estimates for falling penalties, each begun from the one before."""
    found: dict[float, np.ndarray] = {}
    z = None
    for penalty in sorted(penalties, reverse=True):
        z = found[penalty] = soft_impute(x, penalty, start=z)
    return found


def mice(x: np.ndarray, nearest: int, sweeps: int = 4, seed: int = 0) -> np.ndarray:
    """Multiple imputation by chained equations: scikit-learn's IterativeImputer with Bayesian ridge regressions.

    Parameters
    ----------
    x: [T, S] with NaN; no column empty.
    nearest: columns that each regression reads.
    sweeps: rounds over all columns.

    Returns
    -------
    [T, S] x with its gaps filled.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer
    from sklearn.linear_model import BayesianRidge

    nearest = nearest if nearest < x.shape[1] - 1 else None
    imputer = IterativeImputer(BayesianRidge(), n_nearest_features=nearest, max_iter=sweeps, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ConvergenceWarning)  # four sweeps, as in the reference runs
        return imputer.fit_transform(x)


def chained_ridge(
    x: np.ndarray,
    start: np.ndarray,
    neighbours: np.ndarray,
    *,
    lags: tuple[int, ...] = (0,),
    ridge: float = 10.0,
    sweeps: int = 3,
) -> np.ndarray:
    """Ridge regression of every column on its neighbours' present estimates, several rounds over all columns.

    What MICE does, with a fixed ridge, chosen neighbours and optional lags: a round is one small solve a column.

    Parameters
    ----------
    x: [T, S] with NaN.
    start: [T, S] first estimate of the gaps.
    neighbours: [S, K] columns that each column is regressed on.
    lags: rows by which the neighbours are shifted.
    ridge: penalty on the squared weights, for columns of about unit variance.

    Returns
    -------
    [T, S] the regression's estimate of every cell, visible ones too (they enter their own regression as targets only).
    """
    seen = ~np.isnan(x)
    filled = np.where(seen, x, start)
    estimate = filled.copy()
    for _ in range(sweeps):
        for column in range(x.shape[1]):
            rows = seen[:, column]
            if not rows.any():
                continue
            near = filled[:, neighbours[column]]
            design = np.concatenate([np.roll(near, lag, axis=0) for lag in lags] + [np.ones((len(x), 1))], axis=1)
            inside = design[rows]
            weights = np.linalg.solve(
                inside.T @ inside + ridge * np.diag([*[1.0] * (design.shape[1] - 1), 0.0]), inside.T @ x[rows, column]
            )
            estimate[:, column] = design @ weights
            filled[:, column] = np.where(rows, x[:, column], estimate[:, column])
    return estimate
