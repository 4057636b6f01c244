"""Fixtures of R-STMRF's tests."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def plain() -> ModuleType:
    """The plain counterparts of the fast kernels."""
    path = Path(__file__).parents[2] / "reference" / "rstmrf_plain.py"
    spec = importlib.util.spec_from_file_location("rstmrf_plain", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def toy_pair():
    """A small simulated world of one day on 15-degree maps, and its truth."""
    from datetime import date

    from pipeline.rstmrf import iri_day, simulation, weather

    day, step = date(2024, 9, 11), 15.0
    maps = iri_day.day_maps(day, weather.flux(day), step=step)
    size = simulation.Size(hours=23, profiles=60, dense=500, columns=20)
    return simulation.simulate("a3", maps[0], maps[1], *iri_day.grid(step), size)


@pytest.fixture(scope="session")
def toy_world(toy_pair):
    return toy_pair[0]


@pytest.fixture(scope="session")
def toy_truth(toy_pair):
    return toy_pair[1]
