"""A baseline as an arm: its settings are tried on development worlds like those of any other arm."""

from __future__ import annotations

from .baselines import Baselines
from .estimates import Predict
from .interpolation import Lengths
from .kalman import Kalman
from .observing import Errors, Prior
from .settings import Learn, Smoother
from .world import World


def predict_of(world: World, settings: Learn) -> Predict:
    """The baseline that ``method.baseline`` names, with the arm's lengths and errors; there is nothing to train."""
    lengths = Lengths(**settings.interpolation.model_dump())
    return Baselines(world, lengths, kalman(settings.smoother)).named(settings.method.baseline)


def kalman(smoother: Smoother) -> Kalman:
    """The analysis that an arm's settings ask for."""
    prior = Prior(slope=smoother.slope, memory_h=smoother.memory_h)
    return Kalman(prior, Errors(white=smoother.white, tec_factor=smoother.tec_factor))
