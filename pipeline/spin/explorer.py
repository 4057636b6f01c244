"""One HTML file to explore attention with: it holds its data, opens from disk and needs no network."""

from __future__ import annotations

import base64
import gzip
import html
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from .attention_store import Store
from .explorer_page import PAGE

MOST = 40_000_000  # bytes of maps in a page


def places(store: Store) -> np.ndarray:
    """[N, 2] positions in the unit square, y upwards; on a circle where the data have no coordinates."""
    place = store.place.astype(float).copy()
    kind = store.attrs.get("place", "none")
    if kind == "none" or not np.isfinite(place).all():
        angle = 2 * np.pi * np.arange(len(store.nodes)) / len(store.nodes)
        place = np.stack([np.cos(angle), np.sin(angle)], 1)
    elif kind == "latlon":
        place = np.stack([place[:, 1] * np.cos(np.radians(place[:, 0].mean())), place[:, 0]], 1)
    size = max(np.ptp(place, axis=0).max(), 1e-12)
    middle = (place.max(axis=0) + place.min(axis=0)) / 2
    return (place - middle) / size + 0.5


def bytes_of(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def content(store: Store, sample: int) -> dict[str, Any]:
    """What the page shows, as plain data; arrays are bytes in base64.

    ``alpha`` [L, P, T, S] counts 1/255 of the largest value of the pair (``top`` [L, P]), ``share`` [L, P, T] 1/65535,
    ``norm`` [L, P, T] 1/255 of the largest of the layer.
    """
    alpha = store.alpha[sample].astype(np.float32)
    layers, pairs, steps, _ = alpha.shape
    top = alpha.max(axis=(2, 3))
    small = np.round(255 * alpha / np.maximum(top, 1e-9)[..., None, None]).astype(np.uint8)
    if small.nbytes > MOST:  # the pairs that add most keep their maps
        kept = np.argsort(-store.norm[sample].sum(axis=(0, 2)), kind="stable")[: MOST // (layers * steps * steps)]
    else:
        kept = np.arange(pairs)
    slot = np.full(pairs, -1)
    slot[kept] = np.arange(len(kept))
    norm = store.norm[sample]
    scaled = norm / np.maximum(norm.max(axis=(1, 2), keepdims=True), 1e-12)
    value = np.where(np.isnan(store.value[sample]), store.filled[sample], store.value[sample])
    return {
        "about": {key: store.attrs.get(key) for key in ("data", "scenario", "arm", "channel", "unit")},
        "nodes": list(store.nodes),
        "place": places(store).round(5).ravel().tolist(),
        "located": store.attrs.get("place", "none") != "none",
        "time": [str(t)[:16].replace("T", " ") for t in store.time[sample].astype("datetime64[m]")],
        "layers": layers,
        "source": store.source.tolist(),
        "target": store.target.tolist(),
        "kind": store.kind.tolist(),
        "slot": slot.tolist(),
        "top": top[:, kept].round(5).ravel().tolist(),
        "alpha": bytes_of(small[:, kept]),
        "share": bytes_of(np.round(65535 * store.share[sample]).astype("<u2")),
        "norm": bytes_of(np.round(255 * scaled).astype(np.uint8)),
        "seen": bytes_of(store.seen[sample].astype(np.uint8)),
        "value": np.round(value.astype(float), 3).ravel().tolist(),
    }


def page(store: Store, sample: int = 0, node: int | None = None) -> str:
    """The page's text. ``node``: chosen when it opens (None: the one with most incoming edges)."""
    found = content(store, sample)
    found["start"] = int(np.bincount(store.target[store.kind == 0], minlength=1).argmax()) if node is None else node
    packed = base64.b64encode(gzip.compress(json.dumps(found).encode(), 6, mtime=0)).decode()
    title = html.escape(" · ".join(str(v) for v in (store.attrs.get("data"), store.attrs.get("arm")) if v))
    return PAGE.replace("{{TITLE}}", title).replace("{{DATA}}", packed)


def write(store: Store, path: Path | str, sample: int = 0, node: int | None = None) -> None:
    """Write the page."""
    path = Path(path)
    part = path.with_name(f".part-{path.name}")
    part.write_text(page(store, sample, node), encoding="utf-8")
    os.replace(part, path)
