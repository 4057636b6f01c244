"""Content of the highest-density region through the true place: uniform where the places' law is right."""

from __future__ import annotations

import numpy as np

EVENTS = 300  # whose regions are computed
SAMPLES = 50  # draws of an event that are ranked by their density


def chosen(count: int) -> np.ndarray:
    """Places [m] of the events whose regions are computed, evenly spread among so many."""
    return np.unique(np.linspace(0, count - 1, min(count, EVENTS)).astype(int))


def content(dense: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Share [m] of draws whose log density [m, S] is above that of the true place [m]; equal ones by chance."""
    above = (dense > truth[:, None] + 1e-5).mean(axis=1)
    same = (np.abs(dense - truth[:, None]) <= 1e-5).mean(axis=1)
    return above + rng.random(len(truth)) * same
