"""Whitening: visible cells that are hidden again in training, so that their truth can be asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .cube import Cube
from .masks import rehide
from .settings import Whitening

RATE = 0.12  # of the visible cells, where the pattern hides single cells: more would make gaps longer than they are
RENEW = 20  # batches for which one draw over the whole series serves


class Whitener:
    """Draws what is hidden again.

    ``iid`` is the published way: for each window a share out of ``rates``, cells independently. ``matched`` hides by
    the pattern that made the scenario's masks, so that training asks what testing will ask.
    """

    def __init__(self, whitening: Whitening, cube: Cube, visible: Tensor):
        self.whitening, self.cube, self.visible = whitening, cube, visible
        self._inputs = np.where(visible.cpu().numpy(), cube.value, np.nan)
        self._drawn: Tensor | None = None
        self.used = 0

    def whole(self, rng: np.random.Generator) -> np.ndarray:
        """[T, N, C] visible cells hidden at once, all over the series."""
        if self.whitening.kind == "iid":
            return (rng.random(self._inputs.shape) < rng.choice(self.whitening.rates)) & ~np.isnan(self._inputs)
        pattern: dict[str, Any] = self.cube.attrs["pattern"]
        return rehide(pattern, self._inputs, self.cube.segment, self.cube.edge_index, rng, rate=RATE)

    def __call__(self, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
        """[B, T, N, C] bool, cells of the windows ``rows`` [B, T] that are hidden again (visible ones only)."""
        index = torch.as_tensor(rows, device=self.visible.device)
        visible = self.visible[index] & (index >= 0)[..., None, None]
        if self.whitening.kind == "matched":
            if self._drawn is None or self.used % RENEW == 0:
                self._drawn = torch.as_tensor(self.whole(rng), device=self.visible.device)
            self.used += 1
            return self._drawn[index] & visible
        share = rng.choice(self.whitening.rates, size=(len(rows), 1, 1, 1))
        drawn = rng.random(visible.shape, dtype=np.float32) < share
        return torch.as_tensor(drawn, device=self.visible.device) & visible
