"""A plain Kalman filter and Rauch-Tung-Striebel smoother with covariances, one hour after the other.

State x_0 ~ N(0, 1), x_t = keep x_{t-1} + sqrt(1 - keep^2) w; observations y_t = H_t x_t + v, v ~ N(0, 1).
"""

import numpy as np


def smoother(jacobians, values, keep):
    """Filter means [T, S], smoother means [T, S] and smoother covariances [T, S, S]."""
    size, steps = len(keep), len(values)
    mean, cov = np.zeros(size), np.eye(size)
    ahead, behind = [], []
    for step in range(steps):
        if step:
            mean, cov = keep * mean, keep[:, None] * cov * keep + np.diag(1 - keep**2)
        ahead.append((mean, cov))
        h, y = jacobians[step], values[step]
        gain = cov @ h.T @ np.linalg.inv(h @ cov @ h.T + np.eye(len(y)))
        mean, cov = mean + gain @ (y - h @ mean), cov - gain @ h @ cov
        behind.append((mean, cov))
    means, covs = [behind[-1][0]], [behind[-1][1]]
    for step in reversed(range(steps - 1)):
        mean, cov = behind[step]
        next_mean, next_cov = ahead[step + 1]
        gain = cov * keep @ np.linalg.inv(next_cov)
        means.append(mean + gain @ (means[-1] - next_mean))
        covs.append(cov + gain @ (covs[-1] - next_cov) @ gain.T)
    return np.array([m for m, _ in behind]), np.array(means[::-1]), np.array(covs[::-1])
