"""Writing a filled file: the values in a plain layout, and a list of the filled cells with their intervals."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from .own import Outcome


def cells_path(out: Path) -> Path:
    """Where the list of filled cells stands: ``filled.csv`` -> ``filled.cells.csv``."""
    return out.with_name(f"{out.stem}.cells{out.suffix}")


def filled_values(outcome: Outcome) -> np.ndarray:
    """[T, N, C] known values as they were, and what was filled."""
    value = outcome.cube.value.copy()
    value.ravel()[outcome.filled] = outcome.value
    return value


def filled_table(outcome: Outcome) -> pd.DataFrame:
    """One channel: a time column and one column a sensor. Several: time, node, the channels, and which were filled."""
    cube, value = outcome.cube, filled_values(outcome)
    time = pd.Index(cube.time, name="time")
    if len(cube.channels) == 1:
        return pd.DataFrame(value[:, :, 0], index=time, columns=list(cube.nodes)).reset_index()
    rows, nodes, channels = value.shape
    was = np.zeros(value.shape, bool)
    was.ravel()[outcome.filled] = True
    table = pd.DataFrame({"time": np.repeat(cube.time, nodes), "node": np.tile(cube.nodes, rows)})
    for c, name in enumerate(cube.channels):
        table[name] = value[:, :, c].ravel()  # [T, N] -> [T*N]
        table[f"{name}_filled"] = was[:, :, c].ravel()
    return table


def cells_table(outcome: Outcome) -> pd.DataFrame:
    """One row a filled cell: time, node, channel, value, lower, upper, gap (missing rows in a run; empty: no end)."""
    cube = outcome.cube
    time, node, channel = np.unravel_index(outcome.filled, cube.value.shape)
    length = pd.array(np.where(outcome.gap < 10_000, outcome.gap - 1, -1), dtype="Int64")
    length[length == -1] = pd.NA
    return pd.DataFrame(
        {
            "time": cube.time[time],
            "node": np.array(cube.nodes, dtype=object)[node],
            "channel": np.array(cube.channels, dtype=object)[channel],
            "value": outcome.value,
            "lower": outcome.band[:, 0].astype(np.float32),
            "upper": outcome.band[:, 1].astype(np.float32),
            "gap": length,
        }
    )


def dataset(outcome: Outcome) -> Any:
    """NetCDF: each channel over (time, node), its ``_lower`` and ``_upper``, and ``_filled``."""
    import xarray as xr

    cube, value = outcome.cube, filled_values(outcome)
    low, high, was = (
        np.full(value.shape, np.nan, np.float32),
        np.full(value.shape, np.nan, np.float32),
        np.zeros(value.shape, np.int8),
    )
    low.ravel()[outcome.filled], high.ravel()[outcome.filled] = outcome.band.T
    was.ravel()[outcome.filled] = 1
    variables = {}
    for c, name in enumerate(cube.channels):
        for suffix, array in (("", value), ("_lower", low), ("_upper", high), ("_filled", was)):
            variables[f"{name}{suffix}"] = (("time", "node"), array[:, :, c])
    attrs = {"interval_level": outcome.fitted.level}
    return xr.Dataset(variables, coords={"time": cube.time, "node": np.array(cube.nodes, dtype=object)}, attrs=attrs)


def write(outcome: Outcome, out: Path) -> list[Path]:
    """Write the filled file and the list of cells; both or none.

    Returns
    -------
    The files written.
    """
    kind = out.suffix.lower()
    if kind == ".nc":
        jobs: list[tuple[Path, Callable[[Path], Any]]] = [(out, dataset(outcome).to_netcdf)]
    else:
        jobs = [
            (path, partial(table.to_parquet if kind == ".parquet" else table.to_csv, index=False))
            for path, table in ((out, filled_table(outcome)), (cells_path(out), cells_table(outcome)))
        ]
    parts = [(path.with_name(f".part-{path.name}"), path, save) for path, save in jobs]
    try:
        for part, _, save in parts:
            save(part)
        for part, path, _ in parts:
            os.replace(part, path)
    finally:
        for part, *_ in parts:
            part.unlink(missing_ok=True)
    return [path for _, path, _ in parts]
