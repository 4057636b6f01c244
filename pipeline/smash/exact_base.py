"""What the exact-likelihood model starts from: the fitted ETAS, or a base that excites nothing by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from . import etas_fit
from .etas import Etas
from .events import Catalogue
from .exact import Corrected
from .exact_inputs import Reader
from .kde import Background, scale_of
from .settings import Exact
from .ties import Ties

MAX_LAG = 100  # events further apart in a window are no pair, where no fitted ETAS says how far it looks


class Free(Etas):
    """A constant rate, and past events of equal weight whatever their age: all else is left to the network."""

    excites = False

    def background_rate(self, t: Tensor) -> Tensor:
        return self.log_mu.exp().expand_as(t)

    def background_integral(self, t0: Tensor, t1: Tensor) -> Tensor:
        return self.log_mu.exp() * (t1 - t0)

    def trigger(self, t: Tensor, parent: Tensor, mark: Tensor) -> Tensor:
        return self.log_a.T[mark].exp()


def free(catalogue: Catalogue, background: Background, memory: float | None) -> Free:
    """A free base with the data's mean rate, scale of places, and frequencies of marks (``memory``: their recency)."""
    train = catalogue.sequences("train")
    rate = float(catalogue.lengths[train].sum() / catalogue.window[train].sum())
    spread = np.sqrt(np.prod(np.array(catalogue.meta["scaler"]["xy"]["sd"]) * background.scale))
    base = Free(
        catalogue.marks,
        background.components,
        parts=("fast", "slow"),
        scale=tuple(float(s) for s in scale_of(catalogue)),
        distance=float(0.3 * spread),
        rate=rate,
        lattice=lattice_of(background),
        falling=False,
    )
    with torch.no_grad():
        base.log_mu += np.log(2.0)  # Etas starts with half of the rate
        weight = np.repeat(etas_fit.recency(catalogue, train, memory), catalogue.lengths[train])
        count = np.bincount(catalogue.labels[catalogue.events(train)], weight, catalogue.marks) + 0.5
        share = torch.as_tensor(count / count.sum(), dtype=torch.float32).log()
        base.background_mark += share
        base.mark_logits += share  # children as all events, whatever the parent
    return base


def lattice_of(background: Background) -> tuple[int, int, float] | None:
    """Cells across and up, and their size, where places are lattice points."""
    if background.lattice is None:
        return None
    x, y = background.lattice
    return len(x), len(y), float(x[1] - x[0])


def reader_of(catalogue: Catalogue, max_lag: int | None = MAX_LAG) -> Reader:
    """Background densities of a catalogue and the reader of its windows."""
    background = Background.fit(catalogue)
    return Reader(catalogue, background, background.catalogue_features(catalogue), max_lag)


def build(
    catalogue: Catalogue, fitted: Path | str | None, settings: Exact, reader: Reader | None = None
) -> tuple[Corrected, Reader]:
    """A model at its starting point, and the reader (the one that is given, if any)."""
    if settings.base == "etas":
        found = etas_fit.load(fitted)
        reader = reader or reader_of(catalogue, found.attrs["max_lag"])
        bases: list[nn.Module] = [found.time, found.place]
        waiting, reader.clock = found.waiting, found.attrs.get("clock")
        for base in bases:
            base.excites = True
    else:
        reader = reader or reader_of(catalogue)
        bases, waiting = [free(catalogue, reader.background, settings.memory_mark) for _ in range(2)], None
    lattice = catalogue.meta["lattice"]
    area = lattice["place"] ** 2 if lattice["place"] else None
    timed = not lattice["time"]
    return Corrected(*bases, reader.sizes, settings, Ties.fit(catalogue), area, waiting, timed), reader
