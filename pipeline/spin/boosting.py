"""Gradient boosting on leave-one-out gap features: the baseline to beat.

Visible training cells are hidden again by the pattern that made the masks, their features are computed without them,
and trees learn by how far the straight line across the gap misses (absolute error). Nothing hidden is ever read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import matrix
from .cube import TRAIN, Cube
from .data_settings import Boosting
from .features import FeatureSpace, gap_features
from .gaps import dense, line, series
from .masks import rehide

FEW = 50  # training cells of a channel below which the line stands as it is


@dataclass
class Booster:
    """Fitted trees, one model a channel.

    Attributes
    ----------
    space: neighbours and scales.
    settings: as fitted.
    models: by channel: the columns that the model reads and the model, or None (too few training cells).
    rows: training cells used.
    """

    space: FeatureSpace
    settings: Boosting
    models: list[tuple[np.ndarray, Any] | None]
    rows: int

    def predict(self, value: np.ndarray, visible: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Imputed values [cell] in physical units.

        Parameters
        ----------
        value, visible: [T, N, C]; cells outside ``visible`` are never read. T may differ from the training's only if
            the space was fitted to these rows.
        cells: flat indices into [T, N, C].
        """
        return mean_of([self], value, visible, cells)


def mean_of(boosters: Sequence[Booster], value: np.ndarray, visible: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Mean of the boosters' imputed values [cell]; all share one feature space. Arguments as of ``Booster.predict``."""
    space, settings = boosters[0].space, boosters[0].settings
    found = gap_features(space, value, visible, cells, estimates(space, value, visible, settings))
    imputed = found.base.astype(np.float64)
    channel = cells % space.shape[2]
    for booster in boosters:
        for c, fitted in enumerate(booster.models):
            here = channel == c
            if fitted is not None and here.any():
                columns, model = fitted
                imputed[here] += space.sd[c] * model.predict(found.x[here][:, columns]) / len(boosters)
    return imputed.astype(np.float32)


def estimates(space: FeatureSpace, value: np.ndarray, visible: np.ndarray, settings: Boosting) -> dict[str, np.ndarray]:
    """Matrix estimates [T, N, C] that serve as features: low rank, and chained ridge on departures from the profile.

    Both are transductive: they are computed anew from all visible cells of the rows at hand.
    """
    shown = series(visible)
    z = np.where(shown, space.scaled(np.where(visible, value, 0.0)), 0.0)
    straight = line(z, shown, space.run, space.level)
    known = np.where(shown, z, np.nan)
    found = {}
    if settings.penalty:
        centre = np.where(shown.any(axis=1), np.nansum(known, axis=1) / np.maximum(shown.sum(axis=1), 1), 0)
        # started at the lines and stopped early: the lines' short-term detail stays where the low rank has no say
        low = matrix.soft_impute(
            (known - centre[:, None]).T, settings.penalty, sweeps=settings.sweeps, start=(straight - centre[:, None]).T
        )
        found["low_rank"] = low + centre
    if settings.chain:
        near = space.partners[:, : settings.chain]
        profile = space.profile
        found["ridge"] = (
            matrix.chained_ridge((known - profile).T, (straight - profile).T, near, lags=tuple(settings.lags), sweeps=2)
            + profile.T
        )
    return {name: dense(flat.T, space.shape) * space.sd + space.mean for name, flat in found.items()}


def training_cells(
    cube: Cube,
    space: FeatureSpace,
    settings: Boosting,
    seed: int,
    mask: int = 0,
    rows: np.ndarray | None = None,
    log: Callable[[str], None] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, channel and scaled residual of re-hidden training cells.

    Returns
    -------
    x [cell, F], channel [cell], target [cell] (value minus line, in standard deviations of the channel).
    """
    rng = np.random.default_rng(seed)
    inputs, visible = cube.inputs(mask), cube.visible(mask)
    inside = (cube.split == TRAIN) if rows is None else rows
    parts = []
    for _ in range(settings.masks):
        again = rehide(cube.attrs["pattern"], inputs, cube.segment, cube.edge_index, rng, rate=settings.rate)
        cells = np.flatnonzero(again & inside[:, None, None])
        limit = settings.rows // settings.masks
        if len(cells) > limit:
            cells = np.sort(rng.choice(cells, limit, replace=False))
        left = visible & ~again
        found = gap_features(space, inputs, left, cells, estimates(space, inputs, left, settings))
        channel = cells % cube.shape[2]
        parts.append((found.x, channel, (inputs.ravel()[cells] - found.base) / space.sd[channel]))
    x, channel, target = (np.concatenate([part[i] for part in parts]) for i in range(3))
    return x, channel, target


def fit(
    cube: Cube,
    settings: Boosting,
    seed: int = 0,
    mask: int = 0,
    rows: np.ndarray | None = None,
    space: FeatureSpace | None = None,
) -> Booster:
    """Fit one model a channel.

    Parameters
    ----------
    cube: visible training cells of ``mask`` alone are read as targets, all visible cells as inputs.
    rows: [T] bool, rows whose cells are targets; None: the training rows.
    space: None: fitted here.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    space = FeatureSpace.fit(cube, mask, settings.neighbours) if space is None else space
    x, channel, target = training_cells(cube, space, settings, seed, mask, rows)
    models: list[tuple[np.ndarray, Any] | None] = []
    for c in range(cube.shape[2]):
        here = channel == c
        if here.sum() < FEW:
            models.append(None)
            continue
        # scikit-learn's binning fails on columns without two different values
        table = x[here]
        low, high = (np.where(np.isnan(table), fill, table) for fill in (np.inf, -np.inf))
        columns = np.flatnonzero(low.min(axis=0) < high.max(axis=0))
        model = HistGradientBoostingRegressor(
            loss="absolute_error",
            max_iter=settings.trees,
            learning_rate=settings.lr,
            max_leaf_nodes=settings.leaves,
            min_samples_leaf=settings.least,
            early_stopping=False,
            random_state=seed,
        )
        models.append((columns, model.fit(table[:, columns], target[here])))
    return Booster(space, settings, models, len(x))


def fit_many(
    cube: Cube, settings: Boosting, models: int, seed: int = 0, mask: int = 0, first: Sequence[Booster] = ()
) -> list[Booster]:
    """One booster for each of the seeds ``seed``, ``seed + 1``, … (of the cells hidden in training).

    ``first``: the boosters of the first seeds, where they are there already.
    """
    found = list(first) or [fit(cube, settings, seed, mask)]
    found += [fit(cube, settings, seed + n, mask, space=found[0].space) for n in range(len(found), models)]
    return found
