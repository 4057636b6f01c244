"""Small simulated catalogues."""

import pytest

from pipeline.smash import simulate


@pytest.fixture(scope="session")
def catalogue():
    """Twenty short windows of a simulated self-exciting catalogue with three marks: 16 train, 2 validate, 2 test."""
    return simulate.catalogue(simulate.Truth(windows=20, window=10.0), seed=0)
