"""A catalogue of marked events in space and time: ragged windows, their split, and the prepared file on disk.

The prepared file is a pickle of builtins only (arrays as bytes with their type and shape), so that the unpickler that
refuses every class reads it back exactly; a Zarr store beside it holds the same arrays for xarray.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError
from . import unpickle

SCHEMA = "stpp-ragged/1"
SPLITS = ("train", "val", "test")
TRAIN, VAL, TEST = range(3)
FLOOR = 1e-4  # shortest gap before the logarithm [time units], as published
ARRAYS = {
    "offsets": ("window_end", np.int64),
    "t": ("event", np.float64),
    "mark": ("event", np.int64),
    "xy": ("event", np.float64),
    "magnitude": ("event", np.float64),
    "split": ("window", np.int8),
    "window": ("window", np.float64),
    "start": ("window", np.float64),
    "phase": ("window", np.int64),
}


@dataclass(frozen=True)
class Targets:
    """Events that are forecast (every event of a window but its first), in the order of window and time.

    Attributes
    ----------
    row: [n] place in the catalogue's flat arrays; the event before it in the same window is ``row - 1``.
    sequence, index: [n] number of the window and of the event in it (1, 2, …).
    windows: [W] windows that have at least one event: the survival from the last event to the end is scored once each.
    """

    row: np.ndarray
    sequence: np.ndarray
    index: np.ndarray
    windows: np.ndarray


@dataclass(frozen=True)
class Catalogue:
    """Windows of events.

    Attributes
    ----------
    offsets: [S + 1] first row of each window in the flat arrays.
    t: [n] time since the window's start, not decreasing inside a window.
    mark: [n] 0 … K - 1, or None where events have none.
    xy: [n, 2] places in ``meta["units"]["place"]``.
    magnitude: [n] or None; kept where the marks were made from magnitudes.
    split: [S] 0 train, 1 validation, 2 test.
    window: [S] each window is observed on [0, window].
    start: [S] absolute start in the unit of time (from ``meta["epoch"]`` where that is known).
    phase: [S] windows that overlap are thinned by taking one phase.
    meta: plain data: name, units, marks, bbox, window, stride, lattice, scaler (of the training windows), digests, …
    """

    offsets: np.ndarray
    t: np.ndarray
    mark: np.ndarray | None
    xy: np.ndarray
    split: np.ndarray
    window: np.ndarray
    start: np.ndarray
    phase: np.ndarray
    magnitude: np.ndarray | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def marked(self) -> bool:
        return self.mark is not None

    @property
    def marks(self) -> int:
        """K, the number of marks (1 where events have none)."""
        return int(self.meta["marks"]) if self.marked else 1

    @property
    def lengths(self) -> np.ndarray:
        """[S] events in each window."""
        return np.diff(self.offsets)

    @property
    def sequence(self) -> np.ndarray:
        """[n] window of each event."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def labels(self) -> np.ndarray:
        """[n] marks, zeros where events have none."""
        return self.mark if self.mark is not None else np.zeros(len(self.t), np.int64)

    @property
    def dt(self) -> np.ndarray:
        """[n] gap to the previous event of the window; of the first event, to the window's start."""
        gaps = np.diff(self.t, prepend=0.0)
        first = self.offsets[:-1][self.lengths > 0]
        gaps[first] = self.t[first]
        return gaps

    def rows(self, sequence: int) -> slice:
        return slice(int(self.offsets[sequence]), int(self.offsets[sequence + 1]))

    def sequences(self, split: str, phase: int | None = None) -> np.ndarray:
        """Numbers of a split's windows. ``phase`` thins overlapping training windows; the others are always all."""
        chosen = self.split == SPLITS.index(split)
        if phase is not None and split == "train":
            chosen = chosen & (self.phase == phase)
        return np.flatnonzero(chosen)

    def events(self, sequences: np.ndarray) -> np.ndarray:
        """Rows of all events of some windows, window by window."""
        parts = [np.arange(self.offsets[s], self.offsets[s + 1]) for s in sequences]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def targets(self, split: str, phase: int | None = None) -> Targets:
        """Events 2 … n of the windows of a split."""
        sequences = self.sequences(split, phase)
        sequences = sequences[self.lengths[sequences] > 0]
        row = self.events(sequences)
        index = row - self.offsets[self.sequence[row]]
        row, index = row[index > 0], index[index > 0]
        return Targets(row, self.sequence[row], index, sequences)

    def distinct(self, split: str = "train") -> tuple[np.ndarray, np.ndarray]:
        """Rows of a split's events without the repetitions of overlapping windows, and their absolute times."""
        row = self.events(self.sequences(split))
        time = self.start[self.sequence[row]] + self.t[row]
        key = np.column_stack([np.round(time, 6), self.xy[row], self.labels[row]])
        if (self.phase[self.sequences(split)] == 0).all():
            return row, time  # windows that don't overlap may repeat an event in truth
        _, first = np.unique(key, axis=0, return_index=True)
        order = first[np.argsort(time[first], kind="stable")]
        return row[order], time[order]

    def digest(self) -> str:
        """SHA-256 of the arrays."""
        total = hashlib.sha256()
        for name in ARRAYS:
            value = getattr(self, name)
            total.update(name.encode() + (b"-" if value is None else np.ascontiguousarray(value).tobytes()))
        return total.hexdigest()

    def save(self, path: Path | str) -> None:
        """Write the prepared pickle: builtins only."""
        arrays = {}
        for name, (_, kind) in ARRAYS.items():
            value = getattr(self, name)
            if value is not None:
                value = np.ascontiguousarray(value, kind)
                stated = value.dtype.newbyteorder("<")
                arrays[name] = {
                    "dtype": stated.str,
                    "shape": list(value.shape),
                    "bytes": value.astype(stated, copy=False).tobytes(),
                }
        unpickle.dump({"schema": SCHEMA, "meta": self.meta, "arrays": arrays}, path)

    def to_zarr(self, path: Path | str) -> None:
        """Write the Zarr twin (contiguous ragged arrays of the CF conventions)."""
        import xarray as xr

        variables = {}
        for name, (dim, kind) in ARRAYS.items():
            value = getattr(self, name)
            if value is not None:
                dims = (dim, "axis") if name == "xy" else (dim,)
                variables[name] = (dims, np.asarray(value, kind))
        for name in ("t", "window", "start"):
            variables[name] += ({"units": self.meta["units"]["time"]},)
        variables["xy"] += ({"units": self.meta["units"]["place"]},)
        attrs = {"schema": SCHEMA, "meta": json.dumps(self.meta)}
        xr.Dataset(variables, attrs=attrs).to_zarr(path, mode="w", zarr_format=3, consolidated=False)


def _check(catalogue: Catalogue, where: str) -> Catalogue:
    """Refuse arrays that don't fit together."""
    n, windows = len(catalogue.t), len(catalogue.split)
    shapes = {
        "offsets": (windows + 1,),
        "t": (n,),
        "mark": (n,),
        "xy": (n, 2),
        "magnitude": (n,),
        "split": (windows,),
        "window": (windows,),
        "start": (windows,),
        "phase": (windows,),
    }
    for name, shape in shapes.items():
        value = getattr(catalogue, name)
        if value is not None and value.shape != shape:
            raise DataError(f"{where}: {name} has the shape {value.shape}, {shape} is expected; prepare the data anew")
    offsets = catalogue.offsets
    if offsets[0] != 0 or offsets[-1] != n or (np.diff(offsets) < 0).any():
        raise DataError(f"{where}: offsets do not run from 0 to {n}; prepare the data anew")
    return catalogue


def load(path: Path | str) -> Catalogue:
    """Read a prepared pickle.

    Raises
    ------
    DataError
        Not such a file, another schema, an array type other than integers or floats, or arrays that don't fit.
    """
    found = unpickle.load(path)
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise DataError(f"{path} is no prepared catalogue (schema {SCHEMA}); make it by the stage prepare")
    arrays: dict[str, Any] = {}
    try:
        for name, part in found["arrays"].items():
            kind = np.dtype(part["dtype"])
            if kind.kind not in "iuf" or name not in ARRAYS:
                raise ValueError(f"array {name!r} of type {kind} is not allowed")
            if math.prod(part["shape"]) * kind.itemsize != len(part["bytes"]):
                raise ValueError(f"array {name!r} is truncated")
            arrays[name] = np.frombuffer(part["bytes"], kind).reshape(part["shape"]).astype(ARRAYS[name][1])
        catalogue = Catalogue(**{"mark": None, **arrays}, meta=dict(found["meta"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is a damaged catalogue ({error}); prepare the data anew") from None
    return _check(catalogue, str(path))


def from_zarr(path: Path | str) -> Catalogue:
    """Read the Zarr twin."""
    from ..core.store import open_zarr

    with open_zarr(path) as data:
        arrays = {name: data[name].values.astype(ARRAYS[name][1]) for name in ARRAYS if name in data}
        meta = json.loads(data.attrs["meta"])
    return _check(Catalogue(**{"mark": None, **arrays}, meta=meta), str(path))


def scaler(catalogue: Catalogue) -> dict[str, Any]:
    """Constants of gap, log gap and place over the training windows of phase 0 (no other split is looked at)."""
    row = catalogue.events(catalogue.sequences("train", phase=0))
    gaps = catalogue.dt[row]

    def four(values: np.ndarray) -> dict[str, Any]:
        return {
            "mean": values.mean(axis=0).tolist(),
            "sd": np.where(values.std(axis=0) > 0, values.std(axis=0), 1.0).tolist(),
            "min": values.min(axis=0).tolist(),
            "max": values.max(axis=0).tolist(),
        }

    log_gaps = np.log(np.maximum(gaps, FLOOR))
    return {"floor": FLOOR, "dt": four(gaps), "log_dt": four(log_gaps), "xy": four(catalogue.xy[row])}


def finished(catalogue: Catalogue) -> Catalogue:
    """With the scaler, the training bounding box and the content's digest in its meta."""
    row = catalogue.events(catalogue.sequences("train"))
    if not len(row):
        raise DataError(f"{catalogue.meta.get('name', 'catalogue')}: there is no event in the training windows")
    box = [catalogue.xy[row].min(axis=0).tolist(), catalogue.xy[row].max(axis=0).tolist()]
    meta = {**catalogue.meta, "bbox": box, "scaler": scaler(catalogue), "content_sha256": catalogue.digest()}
    return _check(replace(catalogue, meta=meta), str(meta.get("name", "catalogue")))
