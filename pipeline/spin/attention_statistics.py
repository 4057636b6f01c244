"""What attention looks like as a whole: how local it is in time, how symmetric, and how it falls with distance."""

from __future__ import annotations

from typing import Any

import numpy as np

from .attention_store import KINDS, Store

NEAR = 3  # steps that count as local
BINS = 6  # of distance, with equal numbers of edges
EARTH = 6371.0  # km


def lag_profile(alpha: np.ndarray) -> np.ndarray:
    """[2T - 1] attention at each lag source - target from -(T-1) on, per pair of steps that lie so far apart.

    A row's weights count as they are (they sum to one), so that all lags would be equal if attention were blind.

    Parameters
    ----------
    alpha: [..., T, S], T = S.
    """
    steps = alpha.shape[-1]
    mean = alpha.reshape(-1, steps, steps).astype(np.float64).mean(axis=0)
    return np.array([np.diagonal(mean, lag).mean() for lag in range(1 - steps, steps)])


def locality(alpha: np.ndarray) -> dict[str, float]:
    """Mean distance in time of what is attended to, and the share within three steps; each beside blind attention's.

    Blind attention spreads a row evenly over the steps that have any weight at all in it.

    Parameters
    ----------
    alpha: [..., T, S]; rows without weight don't count.
    """
    steps = alpha.shape[-1]
    rows = alpha.reshape(-1, steps, steps).astype(np.float64)  # [R, T, S]
    away = np.abs(np.arange(steps)[None] - np.arange(steps)[:, None])
    seen = rows > 0
    weight = rows.sum(axis=2)
    blind = seen / np.maximum(seen.sum(axis=2, keepdims=True), 1) * weight[..., None]
    total = max(weight.sum(), 1e-12)
    return {
        "distance": float((rows * away).sum() / total),
        "distance_blind": float((blind * away).sum() / total),
        "near": float((rows * (away <= NEAR)).sum() / total),
        "near_blind": float((blind * (away <= NEAR)).sum() / total),
    }


def symmetry(alpha: np.ndarray) -> float:
    """1 where every map equals its transpose, 0 where no pair of steps attends both ways; mean over maps with weight.

    Overlap of a map and its transpose, Σ min(A, Aᵀ) / Σ A.
    """
    steps = alpha.shape[-1]
    maps = alpha.reshape(-1, steps, steps).astype(np.float64)
    total = maps.sum(axis=(1, 2))
    both = np.minimum(maps, maps.transpose(0, 2, 1)).sum(axis=(1, 2))
    return float(np.mean(both[total > 0] / total[total > 0])) if (total > 0).any() else float("nan")


def edge_distance(store: Store) -> tuple[np.ndarray | None, str]:
    """[E] distance between the ends of each edge, and its unit; None without coordinates."""
    kind = store.attrs.get("place", "none")
    cross = store.kind == 0
    a, b = store.place[store.source[cross]], store.place[store.target[cross]]
    if kind == "none" or not np.isfinite(a).all() or not np.isfinite(b).all():
        return None, ""
    if kind == "xy":
        return np.linalg.norm(a - b, axis=1), "units of x and y"
    (la, lo), (lb, mo) = np.radians(a).T, np.radians(b).T
    half = np.sin((lb - la) / 2) ** 2 + np.cos(la) * np.cos(lb) * np.sin((mo - lo) / 2) ** 2
    return 2 * EARTH * np.arcsin(np.sqrt(half)), "km"


def by_distance(share: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean distance and mean share of edges in bins of equal size: [bins], [bins]. Both inputs are [E]."""
    parts = np.array_split(np.argsort(distance, kind="stable"), min(BINS, len(distance)))
    return (np.array([values[part].mean() for part in parts]) for values in (distance, share))


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Spearman's, None where one of them doesn't vary."""
    from scipy.stats import rankdata

    ranks = rankdata(a), rankdata(b)
    return None if min(np.ptp(r) for r in ranks) == 0 else float(np.corrcoef(*ranks)[0, 1])


def statistics(store: Store) -> dict[str, Any]:
    """By layer and kind: locality, symmetry; by layer: share of self-attention and how shares go with distance."""
    share = store.share.mean(axis=(0, 3))  # [L, P]
    distance, unit = edge_distance(store)
    layers = []
    for layer in range(store.alpha.shape[1]):
        entry: dict[str, Any] = {"layer": layer + 1}
        for number, kind in enumerate(KINDS):
            pairs = store.kind == number
            if pairs.any():
                alpha = store.alpha[:, layer, pairs]
                entry[kind] = locality(alpha) | {"symmetry": symmetry(alpha)}
        own = store.kind == 1
        if own.any():
            heard = np.isin(np.arange(len(store.nodes)), store.target[store.kind == 0])
            entry["self_share"] = float(share[layer, own][heard].mean()) if heard.any() else 1.0
        if distance is not None:
            entry["rank_correlation_share_distance"] = rank_correlation(share[layer, ~own], distance)
            entry["distance_unit"] = unit
        layers.append(entry)
    return {"samples": store.alpha.shape[0], "layers": layers}
