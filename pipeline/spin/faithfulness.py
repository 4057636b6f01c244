"""Does attention tell what the network uses? Errors after the top-k sources are deleted, against k random ones.

For a hidden target cell (node, step) the candidates are the visible cells of its node and of its in-neighbours in the
window. They are ranked by alpha times the share of their pair in what the target is told, averaged over the layers
(both sum to one over the candidates of a layer). The first k are hidden and the network answers again; so it does with
k candidates drawn at random. Differences are paired by target and bootstrapped by window.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .attention_store import KINDS, contributions, listening, require_spin, window_rows
from .cube import Cube
from .windows import Windows

COUNTS = (5, 20)
WINDOWS, TARGETS, DRAWS = 10, 6, 2
ROUNDS = 2000
BATCH = 4


def importance(model: Any, heard: list, attention: list, node: int, step: int, nodes: int) -> np.ndarray:
    """[N, S] what each source cell has to say to (node, step): mean over layers of alpha times the pair's share."""
    total = None
    for layer, calls, alpha in zip(model.layers, heard, attention, strict=True):
        parts, lengths, sources = [], [], []
        for kind in KINDS:
            if kind not in calls:
                continue
            args = calls[kind][0]
            start, end = args[2]
            pairs = torch.nonzero(end == node)[:, 0]
            if len(pairs) == 0:
                continue
            weights = alpha[kind][0]
            said = contributions(getattr(layer, kind), args, weights, pairs)[:, step]  # [e, H]
            parts.append(weights[pairs, step].numpy())
            lengths.append(said.norm(dim=1).numpy())
            sources.append(start[pairs].numpy())
        weights, length, source = (np.concatenate(part) for part in (parts, lengths, sources))  # [e, S], [e], [e]
        found = np.zeros((nodes, weights.shape[1]))
        np.add.at(found, source, weights * (length / max(length.sum(), 1e-12))[:, None])
        total = found if total is None else total + found
    return total / len(model.layers)


def bootstrap(difference: np.ndarray, cluster: np.ndarray, rng: np.random.Generator) -> list[float]:
    """95 % interval of the mean, clusters drawn with replacement."""
    names = np.unique(cluster)
    sums = np.array([difference[cluster == name].sum() for name in names])
    sizes = np.array([np.count_nonzero(cluster == name) for name in names])
    drawn = rng.integers(len(names), size=(ROUNDS, len(names)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return [float(v) for v in np.quantile(means, (0.025, 0.975))]


def measure(
    model: Any,
    windows: Windows,
    cube: Cube,
    seed: int = 0,
    count_windows: int = WINDOWS,
    targets: int = TARGETS,
    counts: tuple[int, ...] = COUNTS,
) -> dict[str, Any]:
    """The comparison, in physical units of the first channel.

    Returns
    -------
    ``targets``, ``windows``, ``unit``, ``mae`` (nothing deleted) and for each k: ``mae_top``, ``mae_random``,
    ``difference`` (top minus random) with ``ci95``, and ``moved_top``, ``moved_random``, ``moved_difference`` with
    ``moved_ci95``: by how far the answer moves, whatever the truth.
    """
    require_spin(model)
    rng = np.random.default_rng(seed)
    rows = window_rows(cube, windows.window, count_windows)
    answers: dict[str, list[float]] = {}
    cluster, truth = [], []
    told_by: dict[int, list[int]] = {k: [] for k in counts}  # numbers of the targets that k sources were taken from
    graph, places, nodes = windows.graph, windows.places, len(cube.nodes)
    sd, mean = float(windows.sd[0]), float(windows.mean[0])
    start, end = graph.source.numpy(), graph.target.numpy()

    def put(name: str, value: float) -> None:
        answers.setdefault(name, []).append(value * sd + mean)

    for number, row in enumerate(rows):
        asked = np.argwhere(cube.hidden[0][row][..., 0] & cube.observed[row][..., 0])  # (step, node)
        asked = rng.permutation(asked)[:targets]
        x, u, mask = windows.batch(row[None])
        with torch.no_grad(), listening(model) as heard:
            out = model(x, u, mask, graph, places, return_attention=True)
        visible = mask[0].any(dim=2).numpy().T  # [T, N] -> [N, T]
        jobs: list[tuple[str, int, int, np.ndarray]] = []
        for step, node in asked:
            near = np.zeros(nodes, bool)
            near[start[end == node]] = True
            near[node] = True
            candidates = np.argwhere(visible & near[:, None])
            possible = [k for k in counts if len(candidates) >= 2 * k]  # fewer: chance takes mostly the same
            if not possible:
                continue
            rank = importance(model, heard, out.attention, node, step, nodes)
            order = np.argsort(-rank[tuple(candidates.T)], kind="stable")
            put("whole", float(out.imputations[-1][0, step, node, 0]))
            truth.append(float(cube.value[row[step], node, 0]))
            cluster.append(number)
            for k in possible:
                told_by[k].append(len(truth) - 1)
                jobs.append((f"top{k}", step, node, candidates[order[:k]]))
                for draw in range(DRAWS):
                    chosen = rng.choice(len(candidates), k, replace=False)
                    jobs.append((f"random{k}.{draw}", step, node, candidates[chosen]))
        for first in range(0, len(jobs), BATCH):
            part = jobs[first : first + BATCH]
            hidden = mask.repeat(len(part), 1, 1, 1)
            for b, (_, _, _, gone) in enumerate(part):
                hidden[b, gone[:, 1], gone[:, 0]] = False
            with torch.no_grad():
                again = model(x.expand(len(part), -1, -1, -1), u.expand(len(part), -1, -1), hidden, graph, places)
            for b, (name, step, node, _) in enumerate(part):
                put(name, float(again.imputations[-1][b, step, node, 0]))
    found: dict[str, Any] = {"targets": len(truth), "windows": len(set(cluster)), "unit": cube.units[0], "seed": seed}
    if not truth:
        return found | {"mae": None, "by_k": {}}
    found |= {"mae": float(np.abs(np.array(answers["whole"]) - truth).mean()), "by_k": {}}
    for k in (k for k in counts if told_by[k]):
        told, owner, whole = (np.array(values)[told_by[k]] for values in (truth, cluster, answers["whole"]))
        top = np.array(answers[f"top{k}"])
        chance = np.stack([answers[f"random{k}.{draw}"] for draw in range(DRAWS)])
        error, error_chance = np.abs(top - told), np.abs(chance - told).mean(axis=0)
        moved, moved_chance = np.abs(top - whole), np.abs(chance - whole).mean(axis=0)
        found["by_k"][str(k)] = {
            "targets": len(told),
            "mae_top": float(error.mean()),
            "mae_random": float(error_chance.mean()),
            "difference": float((error - error_chance).mean()),
            "ci95": bootstrap(error - error_chance, owner, rng),
            "moved_top": float(moved.mean()),
            "moved_random": float(moved_chance.mean()),
            "moved_difference": float((moved - moved_chance).mean()),
            "moved_ci95": bootstrap(moved - moved_chance, owner, rng),
        }
    return found
