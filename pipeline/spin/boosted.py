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

from .boosting import FEW
from .cells import Cells, Describer
from .cube import TRAIN, Cube
from .settings import Train
from .whiten import Whitener


@dataclass(frozen=True)
class OutOfFold:
    """Boosted corrections of the line.

    Attributes
    ----------
    models: [fold][channel], None for a channel without training cells. fold: [T] the fold of a training row, -1
        elsewhere. channel: [S] of each series.
    """

    models: list[list[Any]]
    fold: np.ndarray
    channel: np.ndarray

    @classmethod
    def fit(cls, cube: Cube, describer: Describer, settings: Train, seed: int) -> OutOfFold:
        """Fit on training cells hidden again ``boosting.masks`` times; the masks aren't those of the network."""
        from sklearn.ensemble import HistGradientBoostingRegressor

        boosting, folds = settings.boosting, settings.base.folds
        rng = np.random.default_rng([seed, 4])
        shown = cube.visible(0)
        whitener = Whitener(settings.fit.whitening, cube, torch.from_numpy(shown))
        wanted = (cube.split == TRAIN)[:, None, None]
        parts = []
        for scene in range(boosting.masks):
            hide = whitener.whole(rng)
            parts.append(describer.describe(shown & ~hide, np.flatnonzero((hide & wanted).ravel()), scene)[0])
        cells = Cells.join(parts)
        fold = np.full(len(cube.time), -1)
        train = np.flatnonzero(cube.split == TRAIN)
        fold[train] = np.arange(len(train)) * folds // len(train)
        channel = torch.from_numpy(describer.space.channel)[cells.home].numpy()
        models = []
        for one in range(folds):
            models.append([])
            for c in range(cube.shape[2]):
                rows = np.flatnonzero((fold[cells.time.numpy()] != one) & (channel == c))
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
                target = (cells.y - cells.base)[rows].numpy()
                models[-1].append(model.fit(cells.x[rows].numpy(), target) if len(rows) >= FEW else None)
        return cls(models, fold, describer.space.channel)

    def __call__(self, cells: Cells) -> Tensor:
        """[n] scaled values."""
        x, fold, channel = cells.x.numpy(), self.fold[cells.time.numpy()], self.channel[cells.home.numpy()]
        correction = np.zeros(len(cells), np.float32)
        for one, by_channel in enumerate(self.models):
            for c, model in enumerate(by_channel):
                rows = np.flatnonzero(((fold == one) | (fold < 0)) & (channel == c))
                if model is not None and len(rows):
                    correction[rows] += model.predict(x[rows]) / np.where(fold[rows] < 0, len(self.models), 1)
        return cells.base + torch.from_numpy(correction)
