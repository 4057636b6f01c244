"""Fixtures shared by all tests."""

import os
from pathlib import Path

# Before numpy and torch are imported: the tests run side by side, one thread each.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

import pytest  # noqa: E402


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The first folder of PIPELINE_DATA_DIRS; tests on real data are skipped where none is named."""
    named = os.environ.get("PIPELINE_DATA_DIRS", "")
    if not named:
        pytest.skip("PIPELINE_DATA_DIRS is not set: no real data at hand")
    return Path(named.split(os.pathsep)[0]).resolve()
