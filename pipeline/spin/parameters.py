"""The seed's parameter estimates beside true counts, and its predicted losses of accuracy beside measured ones.

Seed: analysis of SPIN's parameters, sections 1.2 (components), 2 (levers) and 3 (three lightweight configurations), for
C = 3 channels and N = 100 nodes, H = 32, L = 3, eta = 2.
"""

from __future__ import annotations

from typing import Any

from ..core.stages import Job, Result
from ..core.store import read_json, write_json
from .model import SPIN, parameter_counts

BASE = {"channels": 3, "nodes": 100, "hidden": 32, "layers": 3, "eta": 2}
LIGHT = {"hidden": 16, "layers": 2, "eta": 1}

# component: parameters by the seed (section 1.2), and the components here that it covers
COMPONENTS = {
    "positional encoder and node embedding": (5280, ("positional encoder", "node embedding")),
    "input encoder and norm": (1120, ("input encoder", "input norm")),
    "valid and mask embeddings": (6400, ("valid and mask embeddings",)),
    "input skips": (384, ("input skips",)),
    "attention layers": (34374, ("attention layers",)),
    "read-outs": (3360, ("read-outs",)),
}
# configuration: change to the base, what the seed says of it as [lowest, highest], and where
VARIANTS: dict[str, tuple[dict[str, Any], list[int] | None, str]] = {
    "base": ({}, [50918, 50918], "1.2.5"),
    "base, 50 nodes": ({"nodes": 50}, [45000, 45000], "1.2.5"),
    "base, 200 nodes": ({"nodes": 200}, [58000, 58000], "1.2.5"),
    "hidden 16": ({"hidden": 16}, [15000, 20000], "1.3"),
    "hidden 8": ({"hidden": 8}, [7638, 7638], "2.1 (-85 %)"),
    "2 layers": ({"layers": 2}, [39460, 39460], "2.2 (-11,458)"),
    "no temporal self-attention": ({"self_attention": False}, [35363, 35363], "2.3 (-5,185 a layer)"),
    "2 message layers": ({"message_layers": 2}, [57062, 57062], "2.4 (+2,048 a layer)"),
    "shared embedding": ({"tokens": "shared"}, [47718, 47718], "2.5 (-3,200)"),
    "1 positional layer": ({"positional_layers": 1}, [49918, 49918], "2.6 (-1,000)"),
    "read-out of 1 layer": ({"readout_layers": 1}, [47918, 47918], "2.8 (-3,000)"),
    "linear read-out": ({"readout_layers": 0}, [47918, 47918], "2.8 (-3,000)"),
    "mild": (LIGHT, [15000, 20000], "3.1"),
    "medium": (LIGHT | {"hidden": 12, "self_attention": False}, [10000, 12000], "3.2"),
    "extreme": (LIGHT | {"hidden": 8, "self_attention": False}, [5000, 8000], "3.3"),
}
# arm: loss of accuracy that the seed predicts against the base [%]
PREDICTED = {"mild": [5, 10], "medium": [10, 15], "extreme": [15, 25]}


def components() -> dict[str, dict[str, float]]:
    """Parameters and share of each component of the base, by the seed and counted."""
    counts = parameter_counts(SPIN(**BASE))
    total, estimated = counts["total"], sum(seed for seed, _ in COMPONENTS.values())
    rows = {}
    for name, (seed, parts) in COMPONENTS.items():
        count = sum(counts[part] for part in parts)
        rows[name] = {
            "seed": seed,
            "counted": count,
            "error_percent": 100 * (seed / count - 1),
            "seed_share": seed / estimated,
            "share": count / total,
        }
    rows["total"] = {
        "seed": estimated,
        "counted": total,
        "error_percent": 100 * (estimated / total - 1),
        "seed_share": 1.0,
        "share": 1.0,
    }
    return rows


def variants() -> dict[str, dict[str, Any]]:
    """Parameters of the seed's configurations, as it says and as counted."""
    base = parameter_counts(SPIN(**BASE))["total"]
    rows = {}
    for name, (change, seed, section) in VARIANTS.items():
        count = parameter_counts(SPIN(**BASE | change))["total"]
        rows[name] = {
            "seed": seed,
            "seed_section": section,
            "counted": count,
            "within_seed": seed[0] <= count <= seed[1],
            "change_percent": 100 * (count / base - 1),
        }
    return rows


def losses(table: dict[str, Any]) -> dict[str, Any]:
    """Loss of accuracy of the lightweight arms against the base, predicted and measured, by scenario."""
    rows: dict[str, Any] = {}
    for scenario, block in table["scenarios"].items():
        arms, metric = block["arms"], block["primary"]["metric"]
        if "base" not in arms:
            continue
        base = arms["base"]["metrics"][metric]["mean"]
        for name, predicted in PREDICTED.items():
            if name in arms:
                found = arms[name]["metrics"][metric]["mean"]
                rows.setdefault(scenario, {})[name] = {
                    "metric": metric,
                    "base": base,
                    "measured": found,
                    "loss_percent": 100 * (found / base - 1),
                    "predicted_percent": predicted,
                    "parameters": arms[name].get("parameters"),
                }
    return rows


def table(job: Job, settings: Any, log: Any) -> Result:
    """Stage ``parameters``. Input: ``table``, the ablation; output: ``parameters.json``."""
    found = {
        "schema": "parameters/1",
        "configuration": BASE,
        "components": components(),
        "variants": variants(),
        "accuracy": losses(read_json(job.inputs["table"])),
    }
    write_json(job.outputs["parameters"], found)
    whole = found["components"]["total"]
    return Result({"seed": float(whole["seed"]), "counted": float(whole["counted"])}, tables=("parameters",))
