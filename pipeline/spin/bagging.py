"""Boosted models on cells hidden anew for each, and the mean of their answers: what more computing buys boosting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .boosting import Booster, estimates, fit
from .cube import Cube
from .data_settings import Boosting
from .features import gap_features


@dataclass
class Bagged:
    """Boosters on the same features.

    Attributes
    ----------
    members: at least one; all share the first one's feature space.
    """

    members: list[Booster]

    @classmethod
    def fit(
        cls, cube: Cube, settings: Boosting, models: int, seed: int = 0, mask: int = 0, first: Sequence[Booster] = ()
    ) -> Bagged:
        """One booster for each of the seeds ``seed``, ``seed + 1``, … (of the cells hidden in training).

        ``first``: the boosters of the first seeds, where they are there already.
        """
        members = list(first) or [fit(cube, settings, seed, mask)]
        space = members[0].space
        members += [fit(cube, settings, seed + n, mask, space=space) for n in range(len(members), models)]
        return cls(members)

    def predict(self, value: np.ndarray, visible: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Imputed values [cell] in physical units; arguments as of ``Booster.predict``, features are made once."""
        space, settings = self.members[0].space, self.members[0].settings
        found = gap_features(space, value, visible, cells, estimates(space, value, visible, settings))
        channel = cells % space.shape[2]
        imputed = found.base.astype(np.float64)
        for member in self.members:
            for c, fitted in enumerate(member.models):
                here = channel == c
                if fitted is not None and here.any():
                    columns, model = fitted
                    imputed[here] += space.sd[c] * model.predict(found.x[here][:, columns]) / len(self.members)
        return imputed.astype(np.float32)
