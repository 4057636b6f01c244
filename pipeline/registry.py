"""Which systems there are, and where their settings and stages stand."""

import importlib
from typing import Any

SYSTEMS = {
    "fsnet": "pipeline.fsnet.settings",
    "spin": "pipeline.spin.settings",
    "smash": "pipeline.smash.settings",
    "rstmrf": "pipeline.rstmrf.settings",
}


def system(name: str) -> Any:
    """The settings module of a system: ``Settings`` (of one arm) and ``STAGES`` (name -> Stage)."""
    return importlib.import_module(SYSTEMS[name])
