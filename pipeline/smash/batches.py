"""Windows of events as padded tensors: scaled on the training windows, bucketed by length, masked by length alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .events import FLOOR, Catalogue


@dataclass(frozen=True)
class Scale:
    """Gap and place to [-1, 1] on the training windows' range, and back. Test events may lie outside.

    low, high: [3] of (gap or log gap, x, y). log_time: gaps on the log scale, not below ``FLOOR``.
    """

    low: np.ndarray
    high: np.ndarray
    log_time: bool

    @classmethod
    def of(cls, catalogue: Catalogue, log_time: bool) -> Scale:
        fitted = catalogue.meta["scaler"]
        gap = fitted["log_dt" if log_time else "dt"]
        low = np.array([gap["min"], *fitted["xy"]["min"]])
        high = np.array([gap["max"], *fitted["xy"]["max"]])
        return cls(low, np.where(high > low, high, low + 1), log_time)

    def forward(self, dt: np.ndarray, xy: np.ndarray) -> np.ndarray:
        """[n] gaps and [n, 2] places to [n, 3]."""
        gap = np.log(np.maximum(dt, FLOOR)) if self.log_time else dt
        raw = np.concatenate([gap[..., None], xy], axis=-1)
        return 2 * (raw - self.low) / (self.high - self.low) - 1

    def backward(self, value: np.ndarray) -> np.ndarray:
        """[..., 3] to (gap, x, y) in the data's units; gaps are not negative."""
        raw = (value + 1) / 2 * (self.high - self.low) + self.low
        gap = np.exp(raw[..., :1]) if self.log_time else np.maximum(raw[..., :1], 0)
        return np.concatenate([gap, raw[..., 1:]], axis=-1)


@dataclass(frozen=True)
class Batch:
    """B windows padded behind their last event to L events.

    Attributes
    ----------
    row: [B, L] row in the catalogue; padding repeats the window's last event.
    t: [B, L] time since the window's start. value: [B, L, 3] scaled gap and place. mark: [B, L].
    length: [B] events in each window. valid: [B, L] true for events.
    """

    row: Tensor
    t: Tensor
    value: Tensor
    mark: Tensor
    length: Tensor
    valid: Tensor

    @property
    def target(self) -> Tensor:
        """[B, L - 1] true where event l + 1 exists: position l holds its history."""
        return self.valid[:, 1:]


class Frames:
    """All windows of a catalogue on a device, handed out in batches."""

    def __init__(self, catalogue: Catalogue, scale: Scale, device: str = "cpu", dtype: torch.dtype = torch.float32):
        self.catalogue, self.scale, self.device = catalogue, scale, device
        self.t = torch.as_tensor(catalogue.t, dtype=dtype, device=device)
        self.value = torch.as_tensor(scale.forward(catalogue.dt, catalogue.xy), dtype=dtype, device=device)
        self.mark = torch.as_tensor(catalogue.labels, dtype=torch.int64, device=device)

    def batch(self, sequences: np.ndarray) -> Batch:
        """The windows with these numbers."""
        length = self.catalogue.lengths[sequences]
        place = np.minimum(np.arange(length.max()), length[:, None] - 1)  # [B, L]
        row = torch.as_tensor(self.catalogue.offsets[:-1][sequences][:, None] + place, device=self.device)
        valid = torch.as_tensor(np.arange(length.max()) < length[:, None], device=self.device)
        lengths = torch.as_tensor(length, device=self.device)
        return Batch(row, self.t[row], self.value[row], self.mark[row], lengths, valid)


def buckets(
    lengths: np.ndarray, sequences: np.ndarray, tokens: int, rng: np.random.Generator | None
) -> Iterator[np.ndarray]:
    """Numbers of windows of similar length, at most ``tokens`` events a batch with its padding (or one window).

    With a generator the lengths are jittered before they are sorted and the batches come in random order, so that
    epochs differ. Windows of fewer than two events forecast nothing and are left out.
    """
    sequences = sequences[lengths[sequences] > 1]
    key = lengths[sequences].astype(float)
    if rng is not None:
        key *= rng.uniform(0.9, 1.1, len(key))
    order = sequences[np.argsort(key, kind="stable")]
    parts, start = [], 0
    while start < len(order):
        stop, longest = start, 0
        while stop < len(order):
            longest = max(longest, int(lengths[order[stop]]))
            if stop > start and longest * (stop + 1 - start) > tokens:
                break
            stop += 1
        parts.append(order[start:stop])
        start = stop
    yield from parts if rng is None else (parts[i] for i in rng.permutation(len(parts)))
