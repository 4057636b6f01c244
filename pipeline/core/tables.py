"""The product: scenarios of a system put together into ``results/<system>_<table>.json``."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .stages import Job, Result
from .store import read_json, write_json

SOFTWARE = ("torch", "numpy", "xarray", "zarr", "snakemake", "mlflow")


def assembled(job: Job) -> dict[str, Any]:
    """A table of schema ``ablation/1`` out of the scenarios' blocks.

    A scenario whose data can't be had stands in ``unavailable`` with the reason; an arm whose jobs have failed stands
    in its place among the arms with ``"status": "failed"`` and its message.
    """
    scenarios = {Path(path).parent.name: read_json(path) for path in job.inputs["scenarios"]}
    for name, lost in (job.facts.get("failed") or {}).items():
        arms = {**scenarios[name]["arms"], **lost["arms"]}
        scenarios[name]["arms"] = {arm: arms[arm] for arm in lost["order"] if arm in arms}
    return {
        "schema": "ablation/1",
        "system": job.system,
        "scenarios": scenarios,
        "unavailable": dict(job.facts.get("unavailable") or {}),
        "software": {"python": platform.python_version(), **{name: version(name) for name in SOFTWARE}},
        "produced": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def metrics_of(table: Mapping[str, Any]) -> dict[str, float]:
    """Primary metrics of a table, as the tracker shows them: ``<metric>/<scenario>/<method>`` -> mean."""
    return {
        f"{block['primary']['metric']}/{scenario}/{name}": member["metrics"][block["primary"]["metric"]]["mean"]
        for scenario, block in table["scenarios"].items()
        for name, member in {**block["baselines"], **block["arms"]}.items()
        if block["primary"]["metric"] in member.get("metrics", {})
    }


def assemble(job: Job, settings: Any, log: Any) -> Result:
    """Stage ``ablation``: the table of :func:`assembled` as one JSON file."""
    table = assembled(job)
    write_json(job.outputs["table"], table)
    return Result(metrics_of(table), tables=("table",))
