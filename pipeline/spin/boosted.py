"""Boosting as a base that a network may correct: on training rows it says only what it has not been fitted on.

A network that is trained on the residuals of a model fitted to the same cells learns residuals that are too small.
So the training rows are cut into stretches, one model is fitted without each of them, and a cell of a stretch gets its
base from the model that has not seen it; validation and test cells get the mean of all models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .cells import Cells, Describer
from .cube import TRAIN, Cube
from .settings import Train
from .whiten import Whitener


@dataclass(frozen=True)
class OutOfFold:
    """Boosted corrections of the line.

    Attributes
    ----------
    models: one a fold. fold: [T] the fold of a training row, -1 elsewhere.
    """

    models: list[Any]
    fold: np.ndarray

    @classmethod
    def fit(cls, cube: Cube, describer: Describer, settings: Train, seed: int) -> OutOfFold:
        """Fit on training cells hidden again ``boosting.masks`` times; the masks aren't those of the network."""
        from sklearn.ensemble import HistGradientBoostingRegressor

        boosting, folds = settings.boosting, settings.base.folds
        rng = np.random.default_rng([seed, 4])
        shown = cube.visible(0)
        whitener = Whitener(settings.fit.whitening, cube, torch.from_numpy(shown))
        wanted = (cube.split == TRAIN)[:, None, None] & ~cube.on_line
        parts = []
        for scene in range(boosting.masks):
            hide = whitener.whole(rng)
            parts.append(describer.describe(shown & ~hide, np.flatnonzero((hide & wanted).ravel()), scene)[0])
        cells = Cells.join(parts)
        fold = np.full(len(cube.time), -1)
        train = np.flatnonzero(cube.split == TRAIN)
        fold[train] = np.arange(len(train)) * folds // len(train)
        models = []
        for one in range(folds):
            rows = np.flatnonzero(fold[cells.time.numpy()] != one)
            rows = rng.permutation(rows)[: boosting.rows]
            model = HistGradientBoostingRegressor(
                loss="absolute_error",
                max_iter=boosting.trees,
                max_leaf_nodes=boosting.leaves,
                learning_rate=boosting.lr,
                min_samples_leaf=boosting.least,
                early_stopping=False,
                random_state=seed,
            )
            models.append(model.fit(cells.x[rows].numpy(), (cells.y - cells.base)[rows].numpy()))
        return cls(models, fold)

    def __call__(self, cells: Cells) -> Tensor:
        """[n] scaled values."""
        x, fold = cells.x.numpy(), self.fold[cells.time.numpy()]
        correction = np.zeros(len(cells), np.float32)
        for one, model in enumerate(self.models):
            rows = np.flatnonzero((fold == one) | (fold < 0))
            if len(rows):
                correction[rows] += model.predict(x[rows]) / np.where(fold[rows] < 0, len(self.models), 1)
        return cells.base + torch.from_numpy(correction)
