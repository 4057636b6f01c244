"""Attention of a trained SPIN arm as a tensor with coordinates, and what each source contributes.

``alpha[sample, layer, pair, target, source]``: a pair is an edge (kind ``cross``) or a node with itself (kind
``self``); rows over the source steps sum to one, or to zero where nothing could be seen. Because what neighbours say is
summed, not averaged, alpha alone does not tell which neighbour matters: ``norm[sample, layer, pair, target]`` is the
length of what a pair adds to its target, ‖w Σ_s alpha msg‖ (paper, eq. 5-8), whose shares the pictures show.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import PipelineError
from .cube import TEST, Cube
from .model import SPIN
from .windows import Windows, runs, tiles

EDGES = 128  # whose messages are computed at a time
KINDS = ("cross", "self")


@dataclass
class Store:
    """Attention of K windows, L layers, P pairs (E edges, then N nodes unless there is no self-attention).

    Attributes
    ----------
    alpha: [K, L, P, T, S] float16. norm: [K, L, P, T] float32.
    kind: [P] index into ``KINDS``. source, target: [P] node indices.
    time: [K, T] datetime64[ns]. seen: [K, T, N] bool, whether a cell was visible. value: [K, T, N] first channel,
    physical units, NaN where not visible. filled: [K, T, N] the network's answer, first channel.
    nodes: names. place: [N, 2]. attrs: plain data (data set, arm, distances).
    """

    alpha: np.ndarray
    norm: np.ndarray
    kind: np.ndarray
    source: np.ndarray
    target: np.ndarray
    time: np.ndarray
    seen: np.ndarray
    value: np.ndarray
    filled: np.ndarray
    nodes: tuple[str, ...]
    place: np.ndarray
    attrs: dict[str, Any] = field(default_factory=dict)

    @property
    def share(self) -> np.ndarray:
        """[K, L, P, T] share of a pair in all that its target node is told, by length; 0 where it is told nothing."""
        total = np.zeros((*self.norm.shape[:2], len(self.nodes), self.norm.shape[3]))
        np.add.at(total, (slice(None), slice(None), self.target), self.norm)
        whole = total[:, :, self.target]
        return np.divide(self.norm, whole, out=np.zeros_like(whole), where=whole > 0)

    def pair(self, source: int, target: int, kind: str = "cross") -> int:
        """Index of a pair.

        Raises
        ------
        PipelineError
            There is none.
        """
        found = np.flatnonzero((self.source == source) & (self.target == target) & (self.kind == KINDS.index(kind)))
        if len(found) == 0:
            a, b = self.nodes[source], self.nodes[target]
            near = [self.nodes[i] for i in self.source[(self.target == target) & (self.kind == 0)][:5]]
            raise PipelineError(
                f"there is no edge from {a} to {b}" + (f"; {b} hears {', '.join(near)}" if near else "")
                if kind == "cross"
                else f"{a} has no self-attention in this arm"
            )
        return int(found[0])


@contextmanager
def listening(model: SPIN):
    """Collects (module, arguments, output) of every attention of a forward pass: a list of (cross, self or None)."""
    heard: list[dict[str, tuple[Any, Tensor]]] = [{} for _ in model.layers]
    handles = []
    for layer, calls in zip(model.layers, heard, strict=True):
        for kind in KINDS:
            module = getattr(layer, kind)
            if module is not None:

                def keep(module, args, output, calls=calls, kind=kind):
                    calls[kind] = (args, output[0].detach())

                handles.append(module.register_forward_hook(keep))
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def contributions(module: Any, args: Sequence[Any], alpha: Tensor, pairs: Tensor | None = None) -> Tensor:
    """What pairs add to their targets, w Σ_s alpha msg: [pair, T, H].

    Parameters
    ----------
    module, args: an ``AdditiveAttention`` and what it was called with. alpha: [E, T, S]. pairs: some of them.
    """
    source, target, (start, end), *rest = args
    weight, types = (rest[2] if len(rest) > 2 else None), (rest[3] if len(rest) > 3 else None)
    pairs = torch.arange(len(start)) if pairs is None else pairs
    parts = []
    with torch.no_grad():
        for part in pairs.split(EDGES):
            kinds = None if types is None else types[part]
            message = module.messages(source, target, (start[part], end[part]), kinds)  # [e, T, S, H]
            said = (alpha[part, :, None].to(message.dtype) @ message)[:, :, 0]  # [e, T, 1, S] @ [e, T, S, H]
            parts.append(said if weight is None else said * weight[part, None, None])
    return torch.cat(parts)


def require_spin(model: Any) -> None:
    """Refuse networks whose attention is not over edges and steps."""
    if not isinstance(model, SPIN):
        raise PipelineError("attention is stored for arms of network.kind spin; spin_h and residual look elsewhere")


def window_rows(cube: Cube, window: int, samples: int) -> np.ndarray:
    """[K, T] rows of full windows, evenly over the test rows.

    Raises
    ------
    PipelineError
        No stretch of test rows is as long as a window.
    """
    found = [tiles(*run, window, window) for run in runs(cube.split == TEST, cube.segment)]
    whole = np.concatenate(found) if found else np.empty((0, window), int)
    whole = whole[(whole >= 0).all(axis=1)]
    if len(whole) == 0:
        raise PipelineError(f"no stretch of test rows has the {window} rows of a window")
    return whole[np.unique(np.linspace(0, len(whole) - 1, min(samples, len(whole))).round().astype(int))]


def record(model: SPIN, windows: Windows, rows: np.ndarray) -> Store:
    """Attention, contributions and answers in windows ``rows`` [K, T].

    Raises
    ------
    PipelineError
        Another kind of network; contributions that don't add up to the layers' outputs (``reproduction_error`` in the
        store's attributes is the largest difference, relative to the largest output).
    """
    require_spin(model)
    cube, graph = windows.cube, windows.graph
    nodes, edges = len(cube.nodes), len(graph.source)
    alphas, norms, answers, off = [], [], [], 0.0
    for row in rows:
        with torch.no_grad(), listening(model) as heard:
            out = model(*windows.batch(row[None]), graph, windows.places, return_attention=True)
        answers.append(out.imputations[-1][0].numpy())
        by_layer = []
        for layer, calls, alpha in zip(model.layers, heard, out.attention, strict=True):
            found = []
            for kind, (args, output) in calls.items():
                weights = alpha[kind][0]
                said = contributions(getattr(layer, kind), args, weights)
                summed = torch.zeros_like(output).index_add_(0, args[2][1], said)
                off = max(off, float((summed - output).abs().max() / output.abs().max().clamp(min=1e-12)))
                found.append((weights.numpy(), said.norm(dim=2).numpy()))
            by_layer.append([np.concatenate(part) for part in zip(*found, strict=True)])
        alphas.append(np.stack([a for a, _ in by_layer]).astype(np.float16))
        norms.append(np.stack([n for _, n in by_layer]))
    if off > 1e-3:
        raise PipelineError(f"what the pairs contribute misses the layers' outputs by {off:.1e}; nothing was written")
    own = np.arange(nodes if alphas[0].shape[1] > edges else 0)
    filled = np.stack(answers)[..., 0] * windows.sd[0] + windows.mean[0]
    seen = windows.visible.numpy()[rows]
    source, target = graph.source.numpy(), graph.target.numpy()
    return Store(
        alpha=np.stack(alphas),
        norm=np.stack(norms),
        kind=np.r_[np.zeros(edges, np.int8), np.ones(len(own), np.int8)],
        source=np.r_[source, own],
        target=np.r_[target, own],
        time=cube.time[rows],
        seen=seen.any(axis=3),
        value=np.where(seen[..., 0], cube.value[rows][..., 0], np.nan).astype(np.float32),
        filled=filled.astype(np.float32),
        nodes=cube.nodes,
        place=cube.place,
        attrs={
            "data": cube.info.get("name"),
            "place": cube.attrs.get("place", "none"),
            "channel": cube.channels[0],
            "unit": cube.units[0],
            "step_seconds": cube.step_seconds,
            "reproduction_error": off,
        },
    )


def save(store: Store, path: Path | str) -> None:
    """Write the Zarr store (format 3)."""
    import xarray as xr

    k, layers, _, steps, _ = store.alpha.shape
    names = np.array(store.nodes, dtype=object)
    cells = ("sample", "step", "node")
    data = xr.Dataset(
        {
            "alpha": (("sample", "layer", "pair", "target_step", "source_step"), store.alpha),
            "norm": (("sample", "layer", "pair", "target_step"), store.norm),
            "seen": (cells, store.seen),
            "value": (cells, store.value),
            "filled": (cells, store.filled),
            "place": (("node", "axis"), store.place),
        },
        coords={
            "layer": np.arange(1, layers + 1),
            "time": (("sample", "step"), store.time.astype("datetime64[s]").astype(np.int64)),
            "target_step": np.arange(steps),
            "source_step": np.arange(steps),
            "node": ("node", names),
            "kind": ("pair", np.array(KINDS, dtype=object)[store.kind]),
            "source_node": ("pair", names[store.source]),
            "target_node": ("pair", names[store.target]),
            "source_index": ("pair", store.source),
            "target_index": ("pair", store.target),
        },
        attrs={"Conventions": "CF-1.11", "facts": json.dumps(store.attrs)},
    )
    data["time"].attrs = {"long_name": "seconds since 1970-01-01 UTC of each step of each sample"}
    data["alpha"].attrs = {"long_name": "attention over source steps; sums to 1 or 0"}
    data["norm"].attrs = {"long_name": "length of what a pair adds to its target"}
    encoding: dict[str, dict] = {name: {"dtype": object} for name in ("node", "kind", "source_node", "target_node")}
    encoding["alpha"] = {"chunks": (1, 1, *store.alpha.shape[2:])}
    data.to_zarr(path, mode="w", encoding=encoding, zarr_format=3, consolidated=False)


def load(path: Path | str) -> Store:
    """Read what :func:`save` wrote."""
    from ..core.store import open_zarr

    with open_zarr(path) as data:
        arrays = {name: data[name].values for name in ("alpha", "norm", "seen", "value", "filled", "place")}
        return Store(
            **arrays,
            kind=(data["kind"].values == "self").astype(np.int8),
            source=data["source_index"].values,
            target=data["target_index"].values,
            time=data["time"].values.astype("datetime64[s]").astype("datetime64[ns]"),
            nodes=tuple(map(str, data["node"].values)),
            attrs=json.loads(data.attrs["facts"]),
        )
