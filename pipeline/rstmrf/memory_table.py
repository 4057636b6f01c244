"""The seed's tables of memory, disk and trade-offs: its estimates beside what was measured."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core.environment import versions
from ..core.errors import DataError
from ..core.stages import Job, Result
from ..core.store import read_json, write_json
from .memory import MB, grid_nodes, tensor_table, windows_of
from .seed_net import SEED_TABLE, SEED_TOTAL
from .settings import Learn

SCHEMA = "memory/1"
REFERENCE = "default"
# What the seed's text states, in its own units.
SEED_FORWARD_MB = {
    "coords": 32 / 1024,
    "sw_seq_copied": 192 / 1024,
    "unique_tec_map_seq": 10.0,
    "F_tec_unique": 27.0,
    "direction_copied": 69.0,
    "h_spatial": 0.5,
    "h_temporal": 0.5,
}
SEED_TRADEOFFS = {  # memory in MB, speed, skill relative to the default
    "default": (500.0, 1.0, 1.0),
    "batch_1024": (250.0, 0.8, 0.98),
    "small_net": (150.0, 1.2, 0.93),
    "tec_factor_6": (300.0, 1.1, 0.95),
    "combined": (120.0, 0.9, 0.88),
    "cpu_8gb": (250.0, None, None),
    "gpu_4gb": (250.0, None, None),
}
# Of arms that save in the same way: weights alone, or with moments; ten files, or the best.
SEED_CHECKPOINTS_MB = {"default": 0.7, "saving_every_5": 28.0, "saving_weights": 7.0}
SEED_DISK_MB = {  # its disk table; 50 epochs, a file every five
    "weights": 712 / 1024,
    "moments": 2.1,
    "checkpoint": 2.8,
    "checkpoints_of_a_run": 28.0,
    "cache_tec": 12.0,
    "cache_space_weather": 5.7 / 1024,
    "logs": 1.0,
    "total": 41.0,
}
SEED_PRESETS_DISK_MB = {"cpu_8gb": 5.0, "gpu_4gb": 15.0}
SEED_HOURS = 720  # of TEC maps and space weather in its cache
CLAIMS = {
    "tec_factor_6": "Coarser TEC maps would lose the direction of the gradient: not recommended.",
    "no_conv_lstm": "Without the ConvLSTM the model of time would be lost: not recommended.",
}
LOGS = ("train.log", "train.history.jsonl", "train.run.json")
SEED_WINDOWS = 100  # N_unique of the seed's table


def rows(block: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A row a trade-off arm: memory estimated and measured, speed, skill, disk; and the seed's figures."""
    if REFERENCE not in block["arms"]:
        raise DataError(f"the trade-offs need the arm {REFERENCE!r} to be measured against; add it to the scenario")
    base = block["arms"][REFERENCE]
    found = {}
    for name, arm in block["arms"].items():
        if "estimated_step_mb" not in arm:
            continue  # no point network: nothing of the seed's to trade off
        memory, speed, skill = SEED_TRADEOFFS.get(name, (None, None, None))
        ms, rmse = arm["cost"]["ms_per_step"], arm["metrics"]["rmse"]["mean"]
        found[name] = {
            "parameters": arm["parameters"],
            "estimated_mb": arm["estimated_step_mb"],
            "saved_tensors_mb": arm["saved_mb"],
            "peak_rss_mb": arm["peak_mb"],
            "ms_per_step": ms,
            "speed": base["cost"]["ms_per_step"] / ms,
            "skill": arm["metrics"]["skill"]["mean"],
            "rmse": rmse,
            "rmse_relative": base["metrics"]["rmse"]["mean"] / rmse,
            "checkpoints_mb": arm["checkpoint_bytes"] / MB,
            "seed_mb": memory,
            "seed_speed": speed,
            "seed_performance": skill,
            "seed_checkpoints_mb": SEED_CHECKPOINTS_MB.get(name),
        }
    return found


def tensors(settings: Learn) -> dict[str, dict[str, Any]]:
    """The seed's forward table: its megabytes beside the exact ones, for its 100 windows and for this arm's."""
    wide, here = tensor_table(settings, SEED_WINDOWS), tensor_table(settings, windows_of(settings))
    return {
        name: {
            "shape": wide[name]["shape"],
            "seed_mb": SEED_FORWARD_MB.get(name),
            "exact_mb": wide[name]["bytes"] / MB,
            "here_mb": here[name]["bytes"] / MB,
            "made_here": not name.endswith("_copied") and name != "direction_copied",
        }
        for name in wide
    }


def cache_mb(settings: Learn, hours: int = SEED_HOURS) -> dict[str, float]:
    """Hourly TEC maps as the network sees them, and its drivers, in single precision."""
    rows, columns = grid_nodes(settings)
    return {
        "cache_tec": hours * rows * columns * 4 / MB,
        "cache_space_weather": hours * len(settings.network.drivers) * 4 / MB,
    }


def disk(block: dict[str, Any], logs: dict[str, int]) -> dict[str, dict[str, Any]]:
    """The seed's disk table: its megabytes, what its own counting gives (weights of this network, 720 hours of maps),
    and what was measured here, where an arm saves in that way.

    Parameters
    ----------
    block: of the trade-offs. logs: bytes of log and history by arm, where they lie beside the block.

    Returns
    -------
    Rows of the seed's table, and ``presets``: one checkpoint with moments, the cache and the logs of each preset.
    """
    arms = block["arms"]
    reference = arms[REFERENCE]
    weights = 4 * reference["parameters"] / MB
    counted = {
        "weights": weights,
        "moments": 2 * weights,
        "checkpoint": 3 * weights,
        "checkpoints_of_a_run": 30 * weights,
    }
    counted |= cache_mb(learn_of(reference)) | {"logs": None}
    counted["total"] = sum(counted[name] or 0 for name in ("checkpoints_of_a_run", "cache_tec", "cache_space_weather"))
    measured = {"weights": reference["checkpoint_bytes"] / MB}
    if "saving_every_5" in arms:
        measured["checkpoints_of_a_run"] = arms["saving_every_5"]["checkpoint_bytes"] / MB
    if REFERENCE in logs:
        measured["logs"] = logs[REFERENCE] / MB
    table = {
        name: {"seed_mb": stated, "counted_mb": counted[name], "measured_mb": measured.get(name)}
        for name, stated in SEED_DISK_MB.items()
    }
    presets = {}
    for name, stated in SEED_PRESETS_DISK_MB.items():
        if name in arms:
            whole = 12 * arms[name]["parameters"] / MB + sum(cache_mb(learn_of(arms[name])).values())
            kept = arms[name]["checkpoint_bytes"] / MB
            presets[name] = {"seed_mb": stated, "counted_mb": whole, "measured_checkpoints_mb": kept}
    return {**table, "presets": presets}


def learn_of(arm: dict[str, Any]) -> Learn:
    """The settings that an arm of a block was trained with."""
    return Learn.model_validate({key: value for key, value in arm["settings"].items() if key in Learn.model_fields})


def logs_of(folder: Path, arms: Iterable[str]) -> dict[str, int]:
    """Bytes of the training's log and history by arm, where they lie in ``folder``."""
    found = {arm: [path for name in LOGS if (path := folder / arm / name).is_file()] for arm in arms}
    return {arm: sum(path.stat().st_size for path in paths) for arm, paths in found.items() if paths}


def parameters(arm: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Parameters by module beside the seed's table."""
    counted = {
        key.removeprefix("parameters_"): int(value) for key, value in arm.items() if key.startswith("parameters_")
    }
    table = {name: {"counted": counted.get(name), "seed": SEED_TABLE.get(name)} for name in counted if name != "total"}
    return {**table, "total": {"counted": counted.get("total"), "seed": SEED_TOTAL}}


def write(job: Job, settings: Any, log: Any) -> Result:
    """Stage ``memory``: outputs ``table`` (JSON, schema ``memory/1``) and ``figure``; input: the scenarios' blocks."""
    blocks = {Path(path).parent.name: read_json(path) for path in job.inputs["scenarios"]}
    name, block = next(iter(blocks.items()))
    table = rows(block)
    default = block["arms"][REFERENCE]
    record = {
        "schema": SCHEMA,
        "scenario": name,
        "dataset": block["dataset"],
        "parameters": parameters(default),
        "tensors": tensors(learn_of(default)),
        "disk": disk(block, logs_of(Path(job.inputs["scenarios"][0]).parent, block["arms"])),
        "tradeoffs": table,
        "claims": {
            arm: {"seed": text, "rmse": table[arm]["rmse"], "rmse_default": table[REFERENCE]["rmse"]}
            for arm, text in CLAIMS.items()
            if arm in table
        },
        "notes": {
            "estimated_mb": "expected before the start: weights with moments, and what the backward pass keeps",
            "saved_tensors_mb": "counted: every tensor that autograd keeps in one step, once each",
            "peak_rss_mb": "measured: the process' resident memory at its highest, the program itself included",
            "checkpoints_mb": "measured: files of one training; the seed's figure where it saves in the same way",
            "disk": "counted_mb: the seed's formula with exact sizes (720 hours of maps, ten files with moments)",
            "rmse_relative": "the default's RMSE over this one's: above 1 is better than the default",
        },
        "software": versions(),
        "produced": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(job.outputs["table"], record)
    draw(table, Path(job.outputs["figure"]), block["description"], settings.language)
    return Result({f"saved_mb/{arm}": row["saved_tensors_mb"] for arm, row in table.items()}, ("figure",), ("table",))


WORDS = {
    "en": (
        "Memory of one training step [MB]",
        "RMSE on dense truth [dex]",
        "estimated before the start",
        "counted (saved tensors)",
        "Memory and error of the seed's trade-offs",
    ),
    "zh": (
        "单步训练内存 [MB]",
        "稠密真值均方根误差 [dex]",
        "训练前估计",
        "实测（保存的张量）",
        "各权衡方案的内存与误差",
    ),
}


def draw(table: dict[str, dict[str, Any]], path: Path, subtitle: str, language: str = "en") -> None:
    """Memory against error: a point an arm, its estimate joined to what was counted."""
    from ..core import figures

    x_label, y_label, first, second, title = WORDS[language]
    shown = {name: row for name, row in table.items() if not name.startswith("saving")}
    with figures.style(language):
        figure = figures.canvas(4.6, title, subtitle)
        axes = figure.add_subplot()
        for row in shown.values():
            axes.plot([row["estimated_mb"], row["saved_tensors_mb"]], [row["rmse"]] * 2, color=figures.FAINT, zorder=1)
        rmse = [row["rmse"] for row in shown.values()]
        axes.scatter(
            [row["estimated_mb"] for row in shown.values()], rmse, marker="|", s=70, color=figures.GREY, label=first
        )
        axes.scatter([row["saved_tensors_mb"] for row in shown.values()], rmse, s=40, color=figures.BLUE, label=second)
        heights = figures.spread(rmse, (max(rmse) - min(rmse)) / 18 or 1e-3, min(rmse), max(rmse))
        right = 1.12 * max(max(row["saved_tensors_mb"], row["estimated_mb"]) for row in shown.values())
        for (name, row), height in zip(shown.items(), heights, strict=True):
            axes.annotate(
                name,
                (row["saved_tensors_mb"], row["rmse"]),
                (right, height),
                fontsize=8,
                va="center",
                arrowprops={"arrowstyle": "-", "color": figures.FAINT, "lw": 0.6},
            )
        axes.set_xlim(0, 1.35 * right)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid(True)
        axes.legend(loc="lower right")
        figures.save(figure, path)
