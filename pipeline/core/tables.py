"""The product: scenarios of a system put together into ``results/<system>_<table>.json``."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .stages import Job, Result
from .store import read_json, write_json

SOFTWARE = ("torch", "numpy", "xarray", "zarr", "snakemake", "mlflow")


def assemble(job: Job, settings: Any, log: Any) -> Result:
    """Stage ``ablation``: one JSON file of schema ``ablation/1`` out of the scenarios' blocks.

    A scenario whose data can't be had stands in ``unavailable`` with the reason; an arm whose jobs have failed stands
    in its place among the arms with ``"status": "failed"`` and its message.
    """
    scenarios = {Path(path).parent.name: read_json(path) for path in job.inputs["scenarios"]}
    for name, lost in (job.facts.get("failed") or {}).items():
        arms = {**scenarios[name]["arms"], **lost["arms"]}
        scenarios[name]["arms"] = {arm: arms[arm] for arm in lost["order"] if arm in arms}
    table = {
        "schema": "ablation/1",
        "system": job.system,
        "scenarios": scenarios,
        "unavailable": dict(job.facts.get("unavailable") or {}),
        "software": {"python": platform.python_version(), **{name: version(name) for name in SOFTWARE}},
        "produced": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(job.outputs["table"], table)
    metrics = {
        f"{block['primary']['metric']}/{scenario}/{name}": member["metrics"][block["primary"]["metric"]]["mean"]
        for scenario, block in scenarios.items()
        for name, member in {**block["baselines"], **block["arms"]}.items()
        if block["primary"]["metric"] in member.get("metrics", {})
    }
    return Result(metrics, tables=("table",))
