"""The cube of a traffic (or air) data set: values, graph, splits and hidden cells, loaded from or saved to Zarr.

Shapes throughout: T time steps, N nodes, C channels, E directed edges, M masks. A cell is one (time, node, channel).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError

TRAIN, VAL, TEST = 0, 1, 2
SPLITS = ("train", "val", "test")
CHUNK = 4096  # time steps


@dataclass(frozen=True)
class Targets:
    """Cells to be imputed, in time-node-channel order, each once.

    Attributes
    ----------
    time, node, channel: [n] int64.
    truth: [n] float32, physical units.
    """

    time: np.ndarray
    node: np.ndarray
    channel: np.ndarray
    truth: np.ndarray

    def __len__(self) -> int:
        return len(self.time)

    def pick(self, dense: np.ndarray) -> np.ndarray:
        """Values [n] of an array [T, N, C, ...] at these cells."""
        return dense[self.time, self.node, self.channel]


@dataclass(frozen=True)
class Layout:
    """The target axis of imputation stores: validation and test cells of mask 0, then test cells of the other masks.

    Validation cells are those of the named mask alone: on them settings are chosen and intervals calibrated.

    Attributes
    ----------
    mask, split, time, node, channel: [target] int.
    truth: [target] float32, physical units.
    """

    mask: np.ndarray
    split: np.ndarray
    time: np.ndarray
    node: np.ndarray
    channel: np.ndarray
    truth: np.ndarray

    @property
    def size(self) -> int:
        return len(self.mask)

    def slice(self, mask: int, split: int) -> slice:
        """Where the targets of one mask and split stand."""
        key, wanted = self._key, mask * len(SPLITS) + split
        return slice(int(np.searchsorted(key, wanted, "left")), int(np.searchsorted(key, wanted, "right")))

    @cached_property
    def _key(self) -> np.ndarray:
        return self.mask.astype(np.int64) * len(SPLITS) + self.split

    def parts(self) -> Iterator[tuple[int, int, slice]]:
        """(mask, split, slice) one after the other, empty ones left out."""
        for mask in range(int(self.mask.max(initial=-1)) + 1):
            for split in (VAL, TEST):
                part = self.slice(mask, split)
                if part.stop > part.start:
                    yield mask, split, part


@dataclass(frozen=True)
class Cube:
    """A prepared data set.

    Attributes
    ----------
    value: [T, N, C] float32 in physical units, NaN where really missing. The truth of hidden cells is in here.
    hidden: [M, T, N, C] bool, cells hidden from every method; mask 0 is the named one.
    on_line: [T, N, C] bool, cells exactly on the line between their neighbours in time (filled by the publisher).
    time: [T] datetime64[ns].
    segment: [T] int32; no window and no gap crosses from one segment to the next.
    split: [T] int8, TRAIN, VAL or TEST.
    nodes, channels, units, masks: names.
    edge_index: [2, E] int64, row 0 the source and row 1 the target.
    edge_weight: [E] float32 in (0, 1].
    edge_type: [E] int8, index into ``edge_types``.
    place: [N, 2] float64, (lat, lon) or (x, y) as ``attrs["place"]`` says: latlon, xy or none (then NaN).
    step_seconds: between rows.
    info: name, requested, source, sha256, licence, period and n, as ``run.json`` states them.
    attrs: plain data; ``pattern`` is the missingness that made the masks.
    """

    value: np.ndarray
    hidden: np.ndarray
    on_line: np.ndarray
    time: np.ndarray
    segment: np.ndarray
    split: np.ndarray
    nodes: tuple[str, ...]
    channels: tuple[str, ...]
    units: tuple[str, ...]
    masks: tuple[str, ...]
    edge_index: np.ndarray
    edge_weight: np.ndarray
    edge_type: np.ndarray
    edge_types: tuple[str, ...]
    place: np.ndarray
    step_seconds: float
    info: dict[str, Any] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, N, C)."""
        return self.value.shape

    @cached_property
    def observed(self) -> np.ndarray:
        """[T, N, C] bool: the data set has a value here."""
        return ~np.isnan(self.value)

    def visible(self, mask: int = 0) -> np.ndarray:
        """[T, N, C] bool: cells that a method may read."""
        return self.observed & ~self.hidden[mask]

    def inputs(self, mask: int = 0) -> np.ndarray:
        """[T, N, C] float32: values where visible, NaN elsewhere; the only values that a method may read."""
        return np.where(self.visible(mask), self.value, np.float32(np.nan))

    def scaler(self, mask: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (ddof 0) [C] of the visible training cells, float64.

        Raises
        ------
        DataError
            A channel that has no visible training cell, or one value only.
        """
        seen = self.inputs(mask)[self.split == TRAIN].astype(np.float64)
        for channel, column in zip(self.channels, np.moveaxis(seen, 2, 0), strict=True):
            if np.isnan(column).all() or np.nanmin(column) == np.nanmax(column):
                raise DataError(
                    f"{self.info.get('name', 'data')}: channel {channel!r} has "
                    f"{'no visible value' if np.isnan(column).all() else 'a single value'} in the training period, so "
                    "that it can't be scaled; drop the channel or take a longer training period"
                )
        return np.nanmean(seen, axis=(0, 1)), np.nanstd(seen, axis=(0, 1))

    def targets(self, mask: int, split: int) -> Targets:
        """Hidden cells of a split whose truth is known."""
        wanted = self.hidden[mask] & self.observed & (self.split == split)[:, None, None]
        time, node, channel = np.nonzero(wanted)  # C order: time, node, channel
        return Targets(time, node, channel, self.value[time, node, channel])

    @cached_property
    def _layout(self) -> Layout:
        kinds = [(0, VAL), *((mask, TEST) for mask in range(len(self.hidden)))]
        parts = [(m, s, self.targets(m, s)) for m, s in kinds]
        return Layout(
            np.concatenate([np.full(len(t), m, np.int16) for m, _, t in parts]),
            np.concatenate([np.full(len(t), s, np.int8) for _, s, t in parts]),
            *(np.concatenate([getattr(t, name) for *_, t in parts]) for name in ("time", "node", "channel", "truth")),
        )

    def layout(self) -> Layout:
        """The target axis of imputation stores."""
        return self._layout

    @property
    def daytime(self) -> np.ndarray:
        """[T] share of the day that has passed, in [0, 1)."""
        return (self.time.astype("datetime64[s]").astype(np.int64) % 86400) / 86400.0

    @property
    def weekday(self) -> np.ndarray:
        """[T] Monday is 0."""
        return (self.time.astype("datetime64[D]").astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday


@dataclass
class Imputations:
    """Imputed values of one arm (a member is a seed) or of several baselines (a member is a name).

    Attributes
    ----------
    members: seeds or names.
    value: [member, target] in physical units, along :meth:`Cube.layout`.
    quantile: [member, target, level], NaN for members without intervals; None where no member has any.
    levels: probability of each quantile.
    attrs: plain data, e.g. costs.
    """

    members: list[Any]
    value: np.ndarray
    quantile: np.ndarray | None = None
    levels: tuple[float, ...] = ()
    attrs: dict[str, Any] = field(default_factory=dict)

    def at(self, layout: Layout, member: int, mask: int, split: int) -> np.ndarray:
        """[n] values of a member at the targets of one mask and split."""
        return self.value[member, layout.slice(mask, split)]


def save(cube: Cube, path: Path | str) -> None:
    """Write ``data.zarr``. The same content gives the same bytes: nothing in it states when or where."""
    import xarray as xr

    names = {"node": cube.nodes, "channel": cube.channels, "mask": cube.masks}
    cells = ("time", "node", "channel")
    about = {
        "value": "values in physical units (see unit); NaN where really missing",
        "hidden": "cells hidden from every method",
        "on_line": "cells exactly on the line between their neighbours in time",
        "segment": "number of the uninterrupted stretch",
        "split": "0 train, 1 val, 2 test",
        "edge_index": "source and target node of each directed edge",
        "edge_weight": "weight of each edge",
        "edge_type": "index into the attribute edge_types",
        "place": {"latlon": "latitude and longitude [degrees]", "xy": "x and y"}.get(
            cube.attrs.get("place"), "unknown"
        ),
    }
    dims = {
        "value": cells,
        "hidden": ("mask", *cells),
        "on_line": cells,
        "segment": ("time",),
        "split": ("time",),
        "edge_index": ("end", "edge"),
        "edge_weight": ("edge",),
        "edge_type": ("edge",),
        "place": ("node", "axis"),
    }
    data = xr.Dataset(
        {name: (dims[name], getattr(cube, name), {"long_name": about[name]}) for name in dims},
        coords={
            "time": ("time", cube.time.astype("datetime64[ns]"), {"standard_name": "time", "axis": "T"}),
            **{name: (name, np.array(values, dtype=object)) for name, values in names.items()},
            "unit": ("channel", np.array(cube.units, dtype=object), {"long_name": "unit of the channel"}),
        },
        attrs={
            "Conventions": "CF-1.11",
            "edge_types": json.dumps(list(cube.edge_types)),
            "step_seconds": float(cube.step_seconds),
            "info": json.dumps(cube.info),
            "facts": json.dumps(cube.attrs),
        },
    )
    rows = min(CHUNK, len(cube.time))
    encoding: dict[str, dict] = {
        "time": {"units": "seconds since 1970-01-01", "calendar": "standard", "dtype": "int64", "chunks": (rows,)},
        **{name: {"dtype": object} for name in (*names, "unit")},
        "value": {"chunks": (rows, *cube.shape[1:])},
        "on_line": {"chunks": (rows, *cube.shape[1:])},
        "hidden": {"chunks": (1, rows, *cube.shape[1:])},
    }
    data.to_zarr(path, mode="w", encoding=encoding, zarr_format=3, consolidated=False)


def load(path: Path | str) -> Cube:
    """Read what :func:`save` wrote."""
    from ..core.store import open_zarr

    arrays = ("value", "hidden", "on_line", "segment", "split", "edge_index", "edge_weight", "edge_type", "place")
    with open_zarr(path) as data:
        return Cube(
            **{name: data[name].values for name in arrays},
            time=data["time"].values,
            **{name + "s": tuple(map(str, data[name].values)) for name in ("node", "channel", "unit", "mask")},
            edge_types=tuple(json.loads(data.attrs["edge_types"])),
            step_seconds=data.attrs["step_seconds"],
            info=json.loads(data.attrs["info"]),
            attrs=json.loads(data.attrs["facts"]),
        )


def write_imputations(path: Path | str, imputations: Imputations) -> None:
    """Write an imputation store (Zarr format 3, float32).

    Raises
    ------
    DataError
        Values of another shape than [member, target].
    """
    import xarray as xr

    value = np.asarray(imputations.value, np.float32)
    if value.ndim != 2 or len(value) != len(imputations.members):
        raise DataError(
            f"imputations must be [member, target] for {len(imputations.members)} members, got {value.shape}"
        )
    members = np.asarray(imputations.members)
    members = members.astype(object) if members.dtype.kind == "U" else members
    variables = {"imputation": (("member", "target"), value, {"long_name": "imputed value in physical units"})}
    coords: dict[str, Any] = {"member": ("member", members)}
    if imputations.quantile is not None:
        levels = np.asarray(imputations.levels, np.float64)
        quantile = np.asarray(imputations.quantile, np.float32)
        if quantile.shape != (*value.shape, len(levels)):
            raise DataError(
                f"quantiles must be [member, target, level] {(*value.shape, len(levels))}, got {quantile.shape}"
            )
        variables["quantile"] = (("member", "target", "level"), quantile, {"long_name": "quantiles in physical units"})
        coords["level"] = ("level", levels)
    data = xr.Dataset(variables, coords=coords, attrs=imputations.attrs)
    data.to_zarr(path, mode="w", zarr_format=3, consolidated=False)


def read_imputations(path: Path | str) -> Imputations:
    """Read what :func:`write_imputations` wrote."""
    from ..core.store import open_zarr

    with open_zarr(path) as data:
        banded = "quantile" in data
        return Imputations(
            data["member"].values.tolist(),
            data["imputation"].values,
            data["quantile"].values if banded else None,
            tuple(data["level"].values.tolist()) if banded else (),
            dict(data.attrs),
        )
