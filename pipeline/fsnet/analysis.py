"""The printed analysis of a results table, as Markdown: what won, by how much, why, and the seed's numbers beside ours.

All numbers, and every verdict, are computed from the table; why a memory reads what it reads follows from its equations
(``pipeline/fsnet/memory.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.board import Method
from ..core.errors import DataError
from ..core.figures import number
from ..core.stages import Job, Result
from ..core.store import read_json
from . import published
from .block import Block, markdown, signed, spread, verdict
from .labels import METRICS

REFERENCES = ("persistence", "rls", "nomem", "regime_nomem")
COLUMNS = ("mse", "mae", "rmse", "mape", "mape_z", "skill", "coverage90")
REGIME_COLUMNS = ("mse", "mse_first50", "mse_first100", "mse_new100", "skill")


def heading(block: Block) -> list[str]:
    """What was run: data set, period, task, seeds."""
    info, task = block.block["dataset"], block.task
    name = info["name"]
    if info.get("requested") and info["requested"] != name:
        name += f" (asked for: {info['requested']}, which could not be had)"
    seeds = max((len(entry.get("seeds", [])) for entry in block.block["arms"].values()), default=0)
    lines = [f"## Scenario {block.title}", "", f"{block.block['description']}.", ""]
    if block.leaky:
        lines += [
            "**Leaky**: arms have learnt labels that they are scored on; these errors are no forecast errors.",
            "",
        ]
    lines.append(
        f"Data: {name}, {info['period']}, source: {info['source']}, licence: {info['licence']}. "
        f"Window {task.get('window')}, horizon {task.get('horizon')}, {seeds} seed{'s' if seeds != 1 else ''}. "
        "SD is the standard deviation of the target's training rows; mean ± standard deviation over seeds."
    )
    return [*lines, ""]


def results(block: Block) -> list[str]:
    """Arms and baselines by metric, best MSE first."""
    regimes = any(m.mean("mse_first50") is not None for m in block.methods.values())
    metrics = [
        metric
        for metric in (REGIME_COLUMNS if regimes else COLUMNS)
        if any(method.mean(metric) is not None for method in block.methods.values())
    ]
    rows = []
    for method in block.ranked():
        cost = (method.entry.get("cost") or {}).get("ms_per_step")
        rows.append([f"`{method.name}`", method.kind, *[spread(method, m) for m in metrics], number(cost, 2)])
    failed = [n for n, m in block.methods.items() if m.mean("mse") is None]
    lines = markdown(["Method", "kind", *[METRICS[m] for m in metrics], "ms/step"], rows)
    if failed:
        lines += ["", f"Without result: {', '.join(f'`{name}`' for name in failed)}."]
    return [*lines, ""]


def improvements(block: Block) -> list[str]:
    """Improvement of each arm's MSE over the references, then the paired comparisons of the table."""
    references = [name for name in REFERENCES if block.mean(name) is not None]
    rows = []
    for method in block.ranked(arms_only=True):
        cells = []
        for reference in references:
            gain = block.gain(method.name, reference)
            cell = "–" if method.name == reference else signed(gain["mean"])
            if gain["ci95"] and method.name != reference:
                cell += f" ({gain['ci95'][0]:+.1f} … {gain['ci95'][1]:+.1f})".replace("-", "−")
            cells.append(cell)
        rows.append([f"`{method.name}`", *cells])
    lines = ["### Improvement", "", "MSE saved against a reference; in brackets the 95 % interval over seeds.", ""]
    lines += [*markdown(["Arm", *[f"over `{name}`" for name in references]], rows), ""]
    entries = block.block["comparisons"]
    if entries:
        lines += [f"Paired comparisons ({entries[0]['test']}):", ""]
        lines += [f"- {verdict(block, entry)}" for entry in entries]
        lines.append("")
    return lines


def memory(block: Block) -> list[str]:
    """Why the published memory does nothing: how often it fires, and how large what it reads is beside the query."""
    arms = [
        m for m in block.methods.values() if m.kind == "arm with memory" and m.entry.get("memory_firings") is not None
    ]
    if not arms:
        return []
    rows = []
    for method in arms:
        ratio = method.entry.get("memory_read_ratio")
        without = block.without_memory(method)
        gain = block.gain(method.name, without) if without else None
        rows.append(
            [
                f"`{method.name}`",
                f"{method.entry['memory_firings']:,.0f}",
                "–" if ratio is None else number(ratio, 2),
                "–" if gain is None else f"{signed(gain['mean'])} (`{without}`)",
            ]
        )
    lines = ["### What the memory does", ""]
    lines += markdown(
        ["Arm", "firings a stream", "‖read‖ / ‖query‖", "MSE saved against the same arm without memory"], rows
    )
    lines += ["", *[f"- {sentence}" for method in arms if (sentence := reading(method))], ""]
    return lines


def reading(method: Method) -> str:
    """What the size of a read means for an arm."""
    ratio, firings = method.entry.get("memory_read_ratio"), method.entry["memory_firings"]
    settings = (method.entry.get("settings") or {}).get("memory") or {}
    variant, name = settings.get("kind", "none"), f"`{method.name}`"
    if variant == "none":
        return ""
    if firings == 0:
        return f"{name} never fired in this stream: it is its arm without memory."
    if ratio is None:
        return f"{name} fired {firings:,.0f} times and never found a slot to read."
    size = f"{name} reads {number(100 * ratio, 2)} % of the query's length"
    if variant == "upstream":
        return (
            f"{size}: a sum of slots weighted by their slot NUMBERS, which it then writes back. No calibration vector "
            "ever enters a slot, so all that can be read is the memory's random start, mixed anew."
        )
    if variant in ("paper", "seed_fix"):
        tau = settings["tau_blend"]
        keep, weight = f"{100 * tau:.3g} % of the present coefficients", 1 - tau
        if variant == "seed_fix":
            keep, weight = f"{keep} and {100 * tau * (1 - tau):.3g} % of their average", weight**2
        return (
            f"{size}: slots of norm at most 1 give a softmax that is almost flat over {settings['slots']} slots, and "
            f"its {settings['top_k']} largest weights are not renormalised. A firing leaves {keep}, "
            f"and adds {number(100 * weight * ratio, 2)} % of the query's length from the memory."
        )
    return f"{size}."


def recurrence(block: Block) -> list[str]:
    """What a memory of regimes is worth, paired by seed, and its price in regimes never seen."""
    lines = []
    for with_memory, without in (("regime_memory", "regime_nomem"), ("fsnet_memory", "nomem")):
        saved = block.gain(with_memory, without, "mse_first50")
        if saved is None:
            continue
        price = block.gain(with_memory, without, "mse_new100")
        whole = block.gain(with_memory, without)
        lines.append(
            f"- `{with_memory}` against `{without}`: {signed(saved['mean'])} saved in the first 50 steps after a "
            f"recurrence{_interval(saved)}, "
            + (
                f"price in the first 100 steps of a new regime {signed(-price['mean'])}{_interval(price, -1)}, "
                if price
                else ""
            )
            + f"{signed(whole['mean'])} over the whole stream{_interval(whole)}; {len(saved['values'])} streams."
        )
    return lines


def _interval(gain: Mapping[str, Any], sign: int = 1) -> str:
    if not gain["ci95"]:
        return ""
    low, high = sorted(sign * end for end in gain["ci95"])
    return f" (95 % over streams {low:+.1f} … {high:+.1f})".replace("-", "−")


def leak(blocks: Sequence[Block]) -> list[str]:
    """How much of the published accuracy is the leak: the same arms under honest feedback."""
    lines = []
    honest = [block for block in blocks if not block.leaky]
    for leaky in (block for block in blocks if block.leaky):
        for block in honest:
            same = block.block["dataset"]["sha256"] == leaky.block["dataset"]["sha256"] and block.task == leaky.task
            pairs = [(n, block.mean(n), leaky.mean(n)) for n in ("ogd", "er", "nomem", "fsnet_upstream")]
            pairs = [(n, a, b) for n, a, b in pairs if a and b]
            if same and pairs:
                told = ", ".join(f"`{n}` {number(b)} → {number(a)} ({a / b:.1f} times)" for n, a, b in pairs)
                lines.append(f"- The leak, MSE in {leaky.title} → {block.title} on the same rows: {told}.")
    return lines


def findings(blocks: Sequence[Block]) -> list[str]:
    """The main points, all of them computed."""
    lines = []
    for block in blocks:
        if block.leaky or not block.ranked():
            continue
        best, arms = block.ranked()[0], block.ranked(arms_only=True)
        told = f"best MSE {number(best.mean('mse'))} by `{best.name}`"
        if arms and arms[0].name != best.name:
            told += f", best arm `{arms[0].name}` {number(arms[0].mean('mse'))}"
        alone = [method for method in arms if method.kind != "aggregate of arms"]
        if alone and arms[0].kind == "aggregate of arms":
            told += f", best lone arm `{alone[0].name}` {number(alone[0].mean('mse'))}"
        bar = block.mean("persistence")
        if bar is not None and arms:
            worse = [f"`{method.name}`" for method in arms if method.mean("mse") > bar]
            told += f"; persistence {number(bar)}"
            told += f" is NOT beaten by {', '.join(worse)}" if worse else " is beaten by every arm"
        lines.append(f"- {block.title}, {block.block['dataset']['name']}: {told}.")
        lines += recurrence(block)
    return [*lines, *leak(blocks)]


def report(table: Mapping[str, Any], title: str) -> str:
    """The whole analysis.

    Parameters
    ----------
    table: schema ``ablation/1``.
    """
    blocks = [Block(name, block) for name, block in table["scenarios"].items()]
    lines = [f"# {title}", "", "## In short", "", *findings(blocks), ""]
    for block in blocks:
        lines += heading(block) + results(block) + improvements(block) + memory(block)
        if recurrence(block):
            lines += ["### After a regime has come back", "", *recurrence(block), ""]
        lines += published.beside(block)
    for name, reason in (table.get("unavailable") or {}).items():
        lines += [f"## Scenario `{name}`: not run", "", reason, ""]
    return "\n".join(lines).rstrip() + "\n"


def analyse(job: Job, settings: Any, log: Any) -> Result:
    """Stage ``analyse``: write the analysis to ``report`` (Markdown) and print it.

    Inputs: ``table`` (``ablation/1``). Metrics: for every leaky scenario the MSE of the seed's methods over the seed's.

    Raises
    ------
    DataError
        A table of another schema.
    """
    path = Path(job.inputs["table"])
    table = read_json(path)
    if table.get("schema") != "ablation/1":
        raise DataError(f"{path}: schema is {table.get('schema')!r}, expected 'ablation/1'; build the table again")
    text = report(table, f"FSNet: analysis of {path.name}")
    Path(job.outputs["report"]).write_text(text)
    print(text, flush=True)
    ratios = {
        f"mse_over_seed/{name}/{row.arm}": block.mean(row.arm) / row.mse
        for name, entry in table["scenarios"].items()
        if (block := Block(name, entry)).leaky
        for row in published.SEED
        if block.mean(row.arm) is not None
    }
    return Result(ratios, tables=("report",))
