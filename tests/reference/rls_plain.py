"""Plain counterparts of the linear kernels: the definitions, solved anew at every row."""

import numpy as np


def weighted_ridge(x, y, ridge, forgetting=1.0, weights=None):
    """The exact minimiser that the recursion tracks, by the normal equations.

    x: [n, D], y: [n, H], ridge: scalar or [D]; returns W [H, D] and the inverse of the normal matrix [D, D].
    """
    n, d = x.shape
    age = forgetting ** np.arange(n - 1, -1, -1.0)
    if weights is not None:
        age = age * weights
    normal = x.T @ (age[:, None] * x) + forgetting**n * np.diag(np.broadcast_to(ridge, (d,)))
    return np.linalg.solve(normal, x.T @ (age[:, None] * y)).T, np.linalg.inv(normal)


def delayed_forecasts(x, y, horizon, ridge, first):
    """[n, H]: forecasts of y[t+h] from inputs x [n, D], refitted at every row on windows complete by then."""
    n = len(y)
    out = np.zeros((n, horizon))
    for t in range(n):
        origins = np.arange(first, t - horizon + 1)
        if len(origins) == 0:
            continue
        w, _ = weighted_ridge(x[origins], y[origins[:, None] + np.arange(1, 1 + horizon)], ridge)
        out[t] = w @ x[t]
    return out
