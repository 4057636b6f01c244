"""The Slurm cluster that the tests of this folder share; run by `make test-slurm`, left out of `make test`."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[2] / ".slurm"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """These tests run when this folder is asked for by name, not among all others: they want the machine alone."""
    asked = [Path(str(one).split("::")[0]).resolve() for one in config.args]
    return None if any(one.is_relative_to(HERE) for one in asked) else True


def load_box():
    spec = importlib.util.spec_from_file_location("slurm_box", HERE / "box.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["slurm_box"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """A running cluster of one node with two cores; the test fails with the reason where Slurm can't run."""
    module = load_box()
    one = module.Box(tmp_path_factory.mktemp("slurm"), CACHE)
    try:
        one.start()
    except module.CannotRun as reason:
        pytest.fail(f"no Slurm here: {reason}", pytrace=False)
    yield one
    one.stop()
