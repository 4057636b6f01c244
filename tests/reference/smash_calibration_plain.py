"""The published calibration scores event by event with scipy's kernel density."""

import numpy as np
from scipy.stats import gaussian_kde

LEVELS = np.linspace(0.5, 0.9, 5)


def inside_time(samples, truth):
    density = gaussian_kde(samples)
    grid = np.linspace(samples.min(), samples.max(), 100)
    total = np.cumsum(density(grid)) * (grid[1] - grid[0])
    return [truth <= grid[np.argmax(total >= min(level, total.max()))] for level in LEVELS]


def inside_location(samples, truth):
    density = gaussian_kde(samples.T)
    axes = [np.linspace(samples[:, a].min(), samples[:, a].max(), 100) for a in (0, 1)]
    grid = np.sort(density(np.stack([m.ravel() for m in np.meshgrid(*axes)])))
    total = np.cumsum(grid)
    return [density(truth)[0] >= grid[np.argmax(total >= (1 - level) * total[-1])] for level in LEVELS]
