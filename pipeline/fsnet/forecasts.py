"""Forecasts on disk: one Zarr store an arm (or one for all baselines), the truth derivable from the data store."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core.store import open_zarr


@dataclass
class Forecasts:
    """Forecasts of one arm or of several baselines.

    Attributes
    ----------
    values: [member, origin, horizon, output] z-scored; a member is a seed of an arm, or a baseline.
    origins: [origin] row last seen by each forecast; validation first, then test, without a gap.
    members: seeds (int) or baseline names (str).
    tracks: name -> [member, origin] series to be drawn beside the errors (memory firings, …), and ``slots``
        [member, origin, slot], the weight of each memory slot.
    attrs: plain data: cost and whatever describes the run.
    """

    values: np.ndarray
    origins: np.ndarray
    members: list[Any]
    tracks: dict[str, np.ndarray] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, member: Any) -> np.ndarray:
        return self.values[self.members.index(member)]


def write(path: Path, forecasts: Forecasts) -> None:
    """Write a Zarr store of float32 forecasts, chunked along the origins."""
    import xarray as xr

    dims = ("member", "origin", "horizon", "output")
    members = np.asarray(forecasts.members)
    if members.dtype.kind == "U":  # fixed-width strings have no Zarr 3 specification
        members = members.astype(object)
    variables = {
        "forecast": (dims, forecasts.values.astype(np.float32), {"units": "1", "long_name": "z-scored forecast"})
    }
    for name, track in forecasts.tracks.items():
        variables[name] = (("member", "origin", "slot")[: track.ndim], track)
    data = xr.Dataset(
        variables,
        coords={
            "member": ("member", members),
            "origin": ("origin", forecasts.origins.astype(np.int64), {"long_name": "row last seen"}),
            "horizon": ("horizon", np.arange(1, forecasts.values.shape[2] + 1), {"long_name": "rows ahead"}),
        },
        attrs=forecasts.attrs,
    )
    data.to_zarr(path, mode="w", zarr_format=3, consolidated=False)


def read(path: Path) -> Forecasts:
    """Read what ``write`` wrote."""
    with open_zarr(path) as data:
        tracks = {str(name): data[name].values for name in data.data_vars if name != "forecast"}
        return Forecasts(
            data["forecast"].values.astype(np.float64),
            data["origin"].values,
            data["member"].values.tolist(),
            tracks,
            dict(data.attrs),
        )
