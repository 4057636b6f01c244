"""Fixtures of FSNet's tests."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def made_up(tmp_path_factory) -> SimpleNamespace:
    """Made-up results on disk: its path `table`, the scenarios' data `stores`, and the `module` that made it."""
    spec = importlib.util.spec_from_file_location("made_up", Path(__file__).with_name("made_up.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    table, stores = module.results(tmp_path_factory.mktemp("made_up"))
    return SimpleNamespace(table=table, stores=stores, module=module)
