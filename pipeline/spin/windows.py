"""Windows over a cube: scaled tensors, which rows go together, and the way back from windows to cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from .attention import Graph
from .cube import TRAIN, Cube
from .settings import Network


def runs(keep: np.ndarray, segment: np.ndarray) -> Iterator[tuple[int, int]]:
    """(first, past the last) row of every stretch of kept rows within a segment."""
    inside = np.flatnonzero(keep)
    if len(inside) == 0:
        return
    breaks = np.flatnonzero((np.diff(inside) > 1) | (np.diff(segment[inside]) != 0)) + 1
    for part in np.split(inside, breaks):
        yield int(part[0]), int(part[-1]) + 1


def tiles(first: int, past: int, window: int, stride: int) -> np.ndarray:
    """[W, T] rows of windows that cover a stretch; the last one ends with it, a short stretch is padded with -1."""
    starts = np.unique(np.r_[np.arange(first, max(past - window, first) + 1, stride), max(past - window, first)])
    rows = starts[:, None] + np.arange(window)
    return np.where(rows < past, rows, -1)


def calendar(cube: Cube) -> np.ndarray:
    """[T, 4] sine and cosine of the time of day and of the week."""
    day, week = 2 * np.pi * cube.daytime, 2 * np.pi * (cube.weekday + cube.daytime) / 7
    return np.stack([np.sin(day), np.cos(day), np.sin(week), np.cos(week)], 1).astype(np.float32)


def graph_of(cube: Cube, network: Network, device: str) -> Graph:
    """The cube's graph as the arm uses it."""
    keep = np.ones(cube.edge_index.shape[1], bool)
    if network.direction == "forward":
        against = [i for i, name in enumerate(cube.edge_types) if name in ("reverse", "upstream")]
        keep = ~np.isin(cube.edge_type, against)
    source, target = torch.as_tensor(cube.edge_index[:, keep], device=device)
    weight = torch.as_tensor(cube.edge_weight[keep], device=device) if network.edge_weights else None
    kind = torch.as_tensor(cube.edge_type[keep].astype(np.int64), device=device) if network.edge_types else None
    return Graph(source, target, weight, kind)


class Windows:
    """A cube under one mask as tensors.

    Attributes
    ----------
    x: [T, N, C] scaled values, 0 where not visible. visible: [T, N, C] bool. u: [T, 4].
    graph, places [N, 2]. unseen: [N] bool or None.
    """

    def __init__(self, cube: Cube, mask: int, network: Network, device: str, unseen: np.ndarray | None = None):
        """``unseen``: [N] bool, nodes that are never shown."""
        self.cube, self.window, self.device, self.unseen = cube, network.window, device, unseen
        self.mean, self.sd = cube.scaler(0)
        visible = cube.visible(mask)
        if unseen is not None:
            visible = visible & ~unseen[None, :, None]
        scaled = np.where(visible, (np.nan_to_num(cube.value) - self.mean) / self.sd, 0)
        self.x = torch.as_tensor(scaled.astype(np.float32), device=device)
        self.visible = torch.as_tensor(visible, device=device)
        self.u = torch.as_tensor(calendar(cube), device=device)
        self.graph = graph_of(cube, network, device)
        place = cube.place - np.nanmean(cube.place, axis=0) if np.isfinite(cube.place).any() else cube.place
        spread = np.nanstd(place, axis=0) if np.isfinite(place).any() else np.ones(2)
        self.places = torch.as_tensor(np.nan_to_num(place / spread).astype(np.float32), device=device)

    def training(self, slide: bool) -> np.ndarray:
        """[W, T] rows of the training windows; none crosses a segment or leaves the training rows."""
        keep = self.cube.split == TRAIN
        stride = 1 if slide else self.window
        return np.concatenate([tiles(*run, self.window, stride) for run in runs(keep, self.cube.segment)])

    def covering(self, rows: np.ndarray, overlap: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Windows that cover rows, each row in the one that it is most central in.

        Parameters
        ----------
        rows: [T] bool.
        overlap: windows overlap by half; otherwise they lie side by side.

        Returns
        -------
        [W, T] rows of the windows; for every wanted row (ascending) its window and its place in it.
        """
        whole = np.ones(len(rows), bool)
        stride = max(1, self.window // 2) if overlap else self.window
        found = np.concatenate([tiles(*run, self.window, stride) for run in runs(whole, self.cube.segment)])
        place = np.broadcast_to(np.arange(self.window), found.shape)
        off = np.abs(place - (self.window - 1) / 2)
        flat, inside = found.ravel(), found.ravel() >= 0
        order = np.lexsort((off.ravel()[inside], flat[inside]))  # by row, the most central first
        row, first = np.unique(flat[inside][order], return_index=True)
        chosen = np.flatnonzero(inside)[order][first]
        keep = rows[row]
        window, position = chosen[keep] // self.window, chosen[keep] % self.window
        used, window = np.unique(window, return_inverse=True)
        return found[used], window, position

    def batch(self, rows: np.ndarray, hide: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, T, N, C], u [B, T, 4] and mask [B, T, N, C] of windows ``rows`` [B, T], cells ``hide`` hidden too."""
        index = torch.as_tensor(rows, device=self.device)
        mask = self.visible[index] & (index >= 0)[..., None, None]
        if hide is not None:
            mask = mask & ~hide
        return self.x[index], self.u[index], mask

    def filled(
        self, rows: np.ndarray, overlap: bool, forward: Callable[[Tensor, Tensor, Tensor], Tensor], batch: int = 4
    ) -> np.ndarray:
        """[R, N, C] imputations in physical units of the rows marked in ``rows`` [T], ascending."""
        windows, window, position = self.covering(rows, overlap)
        parts = []
        with torch.no_grad():
            for start in range(0, len(windows), batch):
                parts.append(forward(*self.batch(windows[start : start + batch])).cpu().numpy())
        return np.concatenate(parts)[window, position] * self.sd + self.mean
