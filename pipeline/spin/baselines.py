"""Baselines: what every table of imputations is measured against.

name         what it is                                                                     transductive
mean         mean of the node's visible training cells                                      no
time_of_day  their mean by half hour of the day                                             no
linear       straight line across the gap, within the segment                               no
knn          weighted mean of the graph's neighbours at the same time                       no
mf           low-rank matrix factorisation (soft-impute)                                    yes
mice         chained equations (scikit-learn's IterativeImputer with Bayesian ridge)        yes
boosting     gradient boosting on leave-one-out gap features                                two of its features
boosting_bag   mean of several such models                                                  two of its features
boosting_long  of so many that they cost as much as a network and boosting_bag together      two of its features

A transductive method is fitted to all visible cells of the rows that it imputes, those of the test period too (of
boosting's features the low-rank and the ridge estimate are, and so are the residual arm's, which has the same); the
others learn from training rows alone (and read the visible cells around a gap). No method reads a hidden cell. Where a
method has variants, the one with the least error on the validation cells of the named mask is taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from . import matrix
from .cube import VAL, Cube
from .data_settings import Baselines
from .features import FeatureSpace
from .gaps import dense, line

if TYPE_CHECKING:
    from .boosting import Booster

TRANSDUCTIVE = {
    "mean": "no",
    "time_of_day": "no",
    "linear": "no",
    "knn": "no",
    "mf": "yes",
    "mice": "yes",
    "boosting": "in its low-rank and ridge features",
    "boosting_bag": "in its low-rank and ridge features",
    "boosting_long": "in its low-rank and ridge features",
}
PENALTIES = (3.0, 10.0, 30.0, 100.0, 300.0)  # of the singular values of standardised series
NEAREST = 20  # columns of a chained equation
CENTRES = ("nothing", "level", "profile")


@dataclass
class Scene:
    """A cube under one mask, scaled; the visible cells alone.

    Attributes
    ----------
    shown, z: [S, T] visible or not; scaled values, NaN elsewhere.
    level: [S]; profile: [S, T], of the training rows.
    """

    cube: Cube
    mask: int
    space: FeatureSpace
    shown: np.ndarray
    z: np.ndarray
    level: np.ndarray
    profile: np.ndarray

    @classmethod
    def of(cls, cube: Cube, mask: int, neighbours: int) -> Scene:
        space = FeatureSpace.fit(cube, mask, neighbours)
        z = space.scaled(cube.inputs(mask))
        return cls(cube, mask, space, ~np.isnan(z), z, space.level, space.profile)

    def physical(self, flat: np.ndarray) -> np.ndarray:
        """[T, N, C] physical values of scaled ones [S, T]."""
        return dense(flat, self.cube.shape) * self.space.sd + self.space.mean

    def error(self, flat: np.ndarray) -> float:
        """Mean absolute error of scaled estimates on the validation cells, in standard deviations of the channel."""
        target = self.cube.targets(self.mask, VAL)
        if not len(target):
            return 0.0
        error = np.abs(target.pick(self.physical(flat)) - target.truth) / self.space.sd[target.channel]
        return float(error.mean())


def mean(scene: Scene) -> np.ndarray:
    return np.repeat(scene.level[:, None], scene.z.shape[1], axis=1)


def time_of_day(scene: Scene) -> np.ndarray:
    return scene.profile


def linear(scene: Scene) -> np.ndarray:
    return line(np.nan_to_num(scene.z), scene.shown, scene.space.run, scene.level)


def centre(scene: Scene, kind: str) -> np.ndarray:
    """[S, T] what is taken off before a method and put back after it."""
    return {"nothing": np.zeros_like(scene.z), "level": mean(scene), "profile": scene.profile}[kind]


def knn(scene: Scene, kind: str) -> np.ndarray:
    """Mean of the sources of a node's incoming edges, weighted by the edges, at the same time and channel.

    ``kind`` says what is averaged: the values, or their departures from the neighbours' levels or profiles. Where no
    neighbour is visible the level or the profile stands (for values, the level).
    """
    rows, nodes, channels = scene.cube.shape
    weight = np.zeros((nodes, nodes))
    np.maximum.at(weight, (scene.cube.edge_index[1], scene.cube.edge_index[0]), scene.cube.edge_weight)
    taken = centre(scene, kind)
    known = np.where(scene.shown, scene.z - taken, 0).reshape(nodes, channels * rows)  # [S, T] -> [N, C T]
    seen = scene.shown.reshape(nodes, channels * rows).astype(np.float64)
    total, near = weight @ known, weight @ seen
    rest = mean(scene) if kind == "nothing" else taken
    found = np.where(near > 0, total / np.maximum(near, 1e-12), 0).reshape(scene.z.shape)
    return np.where(near.reshape(scene.z.shape) > 0, found + taken, rest)


def mf_path(scene: Scene) -> Iterator[tuple[str, np.ndarray]]:
    """Low-rank estimates for every penalty, strongest first; each begins with the one before."""
    x, centred, spread = matrix.standardised(scene.z.T)
    for penalty, estimate in matrix.soft_impute_path(x, list(PENALTIES)).items():
        yield f"{penalty:g}", (estimate * spread + centred).T


def mf(scene: Scene, penalty: str) -> np.ndarray:
    x, centred, spread = matrix.standardised(scene.z.T)
    path = matrix.soft_impute_path(x, [p for p in PENALTIES if p >= float(penalty)])
    return (path[float(penalty)] * spread + centred).T


def mice(scene: Scene, kind: str) -> np.ndarray:
    return chained(scene.z, centre(scene, kind))


def chained(z: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """[S, T] scaled values ``z`` with their gaps (NaN) filled by MICE, after ``taken`` [S, T] is taken off."""
    return matrix.mice((z - taken).T, NEAREST).T + taken


Method = Callable[..., np.ndarray]
PLAIN: dict[str, Method] = {"mean": mean, "time_of_day": time_of_day, "linear": linear}
VARIED: dict[str, tuple[Method, tuple[str, ...]]] = {
    "knn": (knn, CENTRES),
    "mf": (mf, tuple(f"{p:g}" for p in PENALTIES)),
    "mice": (mice, ("nothing", "profile")),
}


def choose(name: str, scene: Scene) -> tuple[str, np.ndarray, dict[str, float]]:
    """The variant with the least validation error: its name, its estimate [S, T], and all errors."""
    method, variants = VARIED[name]
    tried = mf_path(scene) if name == "mf" else ((v, method(scene, v)) for v in variants)
    errors, best = {}, None
    for variant, estimate in tried:
        errors[variant] = scene.error(estimate)
        if best is None or errors[variant] < errors[best[0]]:
            best = (variant, estimate)
    assert best is not None
    return best[0], best[1], errors


def boosters(name: str, settings: Baselines) -> int:
    """Number of boosted models that a baseline averages; 0: it is no boosting."""
    many = {"boosting_bag": settings.boosting_bag.models, "boosting_long": settings.boosting_long.models}
    return {"boosting": 1, **many}.get(name, 0)


class Plan:
    """One baseline through all masks: fitted or chosen on the named mask, applied to every mask.

    Parameters
    ----------
    name: of the baseline.
    settings: of boosting, one model and many.
    seed: of the boosting's hidden training cells.
    short: a plan of fewer models with these settings, already fitted: they are this one's first.

    Attributes
    ----------
    fitting_s: CPU seconds that its models took to fit. taken_s: those of the models that it took over.
    """

    def __init__(self, name: str, settings: Baselines, seed: int = 0, short: Plan | None = None):
        self.name, self.boosting, self.seed, self.short = name, settings.boosting, seed, short
        self.models = boosters(name, settings)
        self.variant: str | None = None
        self.errors: dict[str, float] = {}
        self.fitting_s, self.taken_s = 0.0, 0.0
        self._boosters: list[Booster] = []

    def _boosted(self, scene: Scene) -> list[Booster]:
        """The models, fitted on the first mask that is asked for."""
        if not self._boosters:
            from .boosting import fit_many

            first: list[Booster] = []
            if self.short is not None:
                first, self.taken_s = self.short._boosted(scene), self.short.fitting_s + self.short.taken_s
            clock = time.process_time()
            self._boosters = fit_many(scene.cube, self.boosting, self.models, self.seed, scene.mask, first)
            self.fitting_s = time.process_time() - clock
        return self._boosters

    def values(self, scene: Scene, cells: np.ndarray) -> np.ndarray:
        """Imputed values [cell] in physical units, cells as flat indices into [T, N, C]."""
        if self.models:
            from .boosting import mean_of

            inputs = scene.cube.inputs(scene.mask)
            return mean_of(self._boosted(scene), inputs, ~np.isnan(inputs), cells)
        if self.name in PLAIN:
            found = PLAIN[self.name](scene)
        elif self.variant is None:
            self.variant, found, self.errors = choose(self.name, scene)
        else:
            found = VARIED[self.name][0](scene, self.variant)
        return scene.physical(found).ravel()[cells]
