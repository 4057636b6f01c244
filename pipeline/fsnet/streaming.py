"""Windows over a series as tensors, for all seeds at once."""

from __future__ import annotations

import numpy as np
import torch

from .series import Series
from .settings import Network


def cyclic(time: np.ndarray) -> np.ndarray:
    """Sine and cosine of the time of day and of the week [N, 4], for datetime64 ``time`` [N].

    The published fields are standardised by the training rows; day of year, month and week then leave the range that
    the network was trained on as soon as the training season ends. These never do.
    """
    minutes = time.astype("datetime64[m]").astype(np.int64)
    angles = [2 * np.pi * (minutes % period) / period for period in (1440, 7 * 1440)]
    return np.stack([wave(angle) for angle in angles for wave in (np.sin, np.cos)], axis=1)


class Windows:
    """Cuts batches of windows out of one series (shared by all seeds) or one a seed.

    Parameters
    ----------
    series: one, or R of equal length.
    window, horizon: T, H.
    network: its ``calendar``, and ``subtract_last``: inputs and labels relative to the last value seen, whose level
        becomes an input of its own.

    Notes
    -----
    A forecast from origin o sees rows o-T+1 … o and is held against rows o+1 … o+H.
    """

    def __init__(self, series: list[Series], window: int, horizon: int, network: Network, device: str):
        self.window, self.horizon, self.subtract_last = window, horizon, network.subtract_last
        stamps = [cyclic(s.time) if network.calendar == "cyclic" else s.stamps for s in series]
        rows = [np.concatenate([s.z, fields], axis=1) for s, fields in zip(series, stamps, strict=True)]
        # [R or 1, N, C + calendar fields] and [R or 1, N, O]
        self.rows = torch.tensor(np.stack(rows).astype(np.float32), device=device)
        self.labels = torch.tensor(np.stack([s.labels for s in series]).astype(np.float32), device=device)
        self.channels = series[0].z.shape[1]
        self._past = torch.arange(1 - window, 1, device=device)
        self._ahead = torch.arange(1, horizon + 1, device=device)

    @property
    def inputs(self) -> int:
        """Channels of a window."""
        return self.rows.shape[2] + (self.channels if self.subtract_last else 0)

    @property
    def outputs(self) -> int:
        """Entries of a forecast, H times O."""
        return self.horizon * self.labels.shape[2]

    def _take(self, source: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """source [R or 1, N, F], rows [R, B, L] -> [R, B, L, F]."""
        replica = torch.arange(rows.shape[0], device=rows.device) if len(source) > 1 else torch.zeros(1, dtype=int)
        return source[replica.to(rows.device)[:, None, None], rows]

    def x(self, origins: torch.Tensor) -> torch.Tensor:
        """Inputs [R, B, T, C] of the windows that end at ``origins`` [R, B]."""
        x = self._take(self.rows, origins[:, :, None] + self._past)  # [R, B, T, C + fields]
        if not self.subtract_last:
            return x
        level = x[:, :, -1:, : self.channels]  # [R, B, 1, C]
        relative = x[..., : self.channels] - level
        return torch.cat([relative, level.expand_as(relative), x[..., self.channels :]], dim=-1)

    def y(self, origins: torch.Tensor) -> torch.Tensor:
        """Labels [R, B, H*O] of the windows that end at ``origins`` [R, B], horizon-major."""
        y = self._take(self.labels, origins[:, :, None] + self._ahead)  # [R, B, H, O]
        return (y - self._last(origins) if self.subtract_last else y).flatten(2)

    def values(self, forecast: torch.Tensor, origins: torch.Tensor) -> torch.Tensor:
        """Forecasts [R, B, H*O] as z-scored values [R, B, H, O]."""
        forecast = forecast.unflatten(2, (self.horizon, -1))
        return forecast + self._last(origins) if self.subtract_last else forecast

    def _last(self, origins: torch.Tensor) -> torch.Tensor:
        return self._take(self.labels, origins[:, :, None])  # [R, B, 1, O]
