"""Samples on disk: a Zarr store (event, sample, coordinate), which nobody has to trust as a pickle must be."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError
from ..core.store import open_zarr

COORDINATES = ("gap", "x", "y")


@dataclass
class Drawn:
    """Samples of some events.

    Attributes
    ----------
    row, sequence, index: [n] place in the catalogue, window, number in the window.
    sample: [n, M, 3] gap and place. mark_probability: [n, K], or None.
    """

    row: np.ndarray
    sequence: np.ndarray
    index: np.ndarray
    sample: np.ndarray
    mark_probability: np.ndarray | None = None
    attrs: dict[str, Any] = field(default_factory=dict)


def write(path: Path | str, drawn: Drawn) -> None:
    """Write a store in chunks of events."""
    import xarray as xr

    variables = {"sample": (("event", "sample", "coordinate"), drawn.sample.astype(np.float32))}
    if drawn.mark_probability is not None:
        variables["mark_probability"] = (("event", "mark"), drawn.mark_probability.astype(np.float32))
    data = xr.Dataset(
        variables,
        coords={
            "row": ("event", drawn.row),
            "sequence": ("event", drawn.sequence),
            "index": ("event", drawn.index),
            "coordinate": ("coordinate", np.array(COORDINATES, dtype=object)),
        },
        attrs=drawn.attrs,
    )
    chunks = {"sample": {"chunks": (min(256, max(len(drawn.row), 1)), *drawn.sample.shape[1:])}}
    data.to_zarr(path, mode="w", zarr_format=3, consolidated=False, encoding=chunks)


def read(path: Path | str) -> Drawn:
    """Read what :func:`write` wrote.

    Raises
    ------
    DataError
        No such store, or another kind of store.
    """
    try:
        with open_zarr(path) as data:
            marks = data["mark_probability"].values if "mark_probability" in data else None
            place = (data[name].values for name in ("row", "sequence", "index"))
            return Drawn(*place, data["sample"].values, marks, dict(data.attrs))
    except (KeyError, OSError, ValueError) as error:
        raise DataError(f"{path} is no store of samples ({error}); run the stage that writes it anew") from None
