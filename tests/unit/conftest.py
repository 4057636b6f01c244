"""Fixtures of the unit tests."""

import pytest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory, without data folders, network or tracker."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PIPELINE_DATA_DIRS", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("pipeline.core.fetch.Reachable", lambda: lambda url: "no network connection")
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path
