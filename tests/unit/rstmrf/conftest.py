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
