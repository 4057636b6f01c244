"""Cells to be imputed as a network sees them: features of their gap, and their neighbours' steps around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .boosting import estimates
from .cube import Cube
from .data_settings import Boosting
from .features import FeatureSpace, gap_features
from .gaps import Gaps, line, series
from .spacetime import SpaceTimeKriging

BOUND = 8.0  # standard deviations; features beyond say no more than "far"
SOURCE = 5  # numbers that a source step brings


@dataclass
class Scene:
    """What the neighbours show under one mask, or under M of them.

    Attributes
    ----------
    z, lined: [M, S, T] scaled values (0 where not visible) and leave-one-out lines. shown: [M, S, T] bool.
    """

    z: Tensor
    lined: Tensor
    shown: Tensor

    @classmethod
    def of(cls, space: FeatureSpace, value: np.ndarray, visible: np.ndarray) -> Scene:
        shown = series(visible)
        z = np.where(shown, space.scaled(np.where(visible, value, 0.0)), 0.0).astype(np.float32)
        lined = line(z, shown, space.run, space.level).astype(np.float32)
        return cls(*(torch.from_numpy(values)[None] for values in (z, lined, shown)))

    @classmethod
    def join(cls, parts: list[Scene]) -> Scene:
        return cls(**{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])})


@dataclass
class Cells:
    """Cells of one mask, or of several one after the other.

    Attributes
    ----------
    scene: [n] number of the scene. home, time: [n] series and row. x: [n, F] features, NaN replaced, bounded.
    base: [n] what the network corrects, scaled. gap: [n] rows from visible to visible cell.
    left, right: [n] weights of the ends of the own gap; before, after: [n] their rows. y: [n] truth, scaled.
    """

    scene: Tensor
    home: Tensor
    time: Tensor
    x: Tensor
    base: Tensor
    gap: Tensor
    left: Tensor
    right: Tensor
    before: Tensor
    after: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.home)

    def __getitem__(self, rows) -> Cells:
        return Cells(**{name: tensor[rows] for name, tensor in vars(self).items()})

    @classmethod
    def join(cls, parts: list[Cells]) -> Cells:
        return cls(**{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])})


@dataclass(frozen=True)
class Describer:
    """Makes ``Cells`` of a cube; what it has learnt comes from visible training cells of mask 0."""

    cube: Cube
    space: FeatureSpace
    kriging: SpaceTimeKriging
    boosting: Boosting

    @classmethod
    def fit(cls, cube: Cube, boosting: Boosting, neighbours: int) -> Describer:
        """``boosting`` says which matrix estimates are features, as they are the boosting baseline's."""
        space = FeatureSpace.fit(cube, 0, max(neighbours, boosting.neighbours))
        return cls(cube, space, SpaceTimeKriging.fit(cube, space), boosting)

    def describe(self, visible: np.ndarray, cells: np.ndarray, scene: int) -> tuple[Cells, tuple[str, ...]]:
        """Cells (flat indices into [T, N, C]) as seen when only ``visible`` [T, N, C] is shown, from the line on.

        Returns the cells and the names of their features.
        """
        space, (_, nodes, channels) = self.space, self.space.shape
        guesses = estimates(space, self.cube.value, visible, self.boosting)
        found = gap_features(space, self.cube.value, visible, cells, guesses)
        home, time = cells % (nodes * channels), cells // (nodes * channels)
        channel = space.channel[home]
        base = (found.base - space.mean[channel]) / space.sd[channel]
        mean, sd = self.kriging.predict(self.cube.value, visible, cells)
        x = np.column_stack([found.x, mean - base, np.log(sd)])
        unknown = np.isnan(x)
        x = np.clip(np.nan_to_num(x), -BOUND, BOUND)
        rows = visible.shape[0]
        gaps = Gaps.find(series(visible), space.run, home * rows + time, reach=1)
        left, right = gaps.weights(home * rows + time)
        truth = (self.cube.value.ravel()[cells] - space.mean[channel]) / space.sd[channel]
        numbers = {
            "scene": np.full(len(cells), scene),
            "home": home,
            "time": time,
            "before": np.maximum(gaps.before[0], 0) % rows,
            "after": np.maximum(gaps.after[0], 0) % rows,
        }
        floats = {
            "x": np.column_stack([x, unknown]),
            "base": base,
            "gap": found.gap,
            "left": left,
            "right": right,
            "y": truth,
        }
        names = (*found.names, "kriging", "kriging_log_sd")
        return (
            Cells(
                **{name: torch.from_numpy(np.asarray(values, np.int64)) for name, values in numbers.items()},
                **{name: torch.from_numpy(np.asarray(values, np.float32)) for name, values in floats.items()},
            ),
            (*names, *(f"no_{name}" for name in names)),
        )


def sources(
    cells: Cells, scene: Scene, near: Tensor, sign: Tensor, level: Tensor, run: Tensor, reach: int
) -> tuple[Tensor, Tensor]:
    """What the neighbours' steps around each cell show.

    Parameters
    ----------
    cells: [n]. scene: of all their masks.
    near: [S, K] series that each series looks at; sign: [S, K] of their correlation. level: [S]. run: [T] segment.
    reach: steps before and after.

    Returns
    -------
    [n, K, W, SOURCE] and whether each is visible [n, K, W], W = 2 reach + 1.
    """
    rows = run.shape[0]
    at = cells.time[:, None] + torch.arange(-reach, reach + 1)  # [n, W]
    inside = at.clamp(0, rows - 1)
    same = (at == inside) & (run[inside] == run[cells.time][:, None])
    who, which = near[cells.home], cells.scene[:, None, None]  # [n, K], [n, 1, 1]
    place = (which, who[:, :, None], inside[:, None])  # [n, K, W]
    seen = scene.shown[place] & same[:, None]
    z, lined = scene.z[place], scene.lined[place]

    def end(row: Tensor) -> Tensor:  # a neighbour's value, or its line, at an end of the cell's own gap: [n, K]
        spot = (cells.scene[:, None], who, row[:, None])
        return torch.where(scene.shown[spot], scene.z[spot], scene.lined[spot])

    across = cells.left[:, None] * end(cells.before) + cells.right[:, None] * end(cells.after)
    across = torch.where((cells.left + cells.right > 0)[:, None], across, level[who])
    turn = sign[cells.home][:, :, None]  # [n, K, 1]
    numbers = [
        (z - across[:, :, None]) * turn,
        (z - lined) * turn,
        (z - level[who][:, :, None]) * turn,
        (z - cells.base[:, None, None]) * (turn > 0),
        torch.ones_like(z),
    ]
    found = torch.stack(numbers, -1).clamp(-BOUND, BOUND) * seen[..., None]
    return found, seen
