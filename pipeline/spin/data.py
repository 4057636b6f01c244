"""The data stage: files or a simulation -> the cube with its graph, splits and hidden cells (``data.zarr``)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError
from ..core.stages import Job, Result
from ..core.store import digest
from . import masks
from .cube import SPLITS, TEST, TRAIN, VAL, Cube, save
from .data_settings import Data, Missing, Prepare, Split
from .raw import Raw, on_line, refuse_empty


def split_rows(split: Split, kind: str, time: np.ndarray, segment: np.ndarray) -> np.ndarray:
    """[T] int8, TRAIN, VAL or TEST.

    ``ratio``: shares in time, borders rounded down. ``months``: the calendar months ``test_months`` test, the last
    ``val_days`` days of the month before each validate. ``segments``: whole files; the last ones test, those before
    validate, or with ``fold`` that one tests and the one before it (around the end) validates.

    Raises
    ------
    DataError
        A split that leaves training, validation or test without rows.
    """
    kind = kind if split.kind == "auto" else split.kind
    rows = len(time)
    found = np.full(rows, TRAIN, np.int8)
    if split.fold is not None and kind != "segments":
        raise DataError(f"split: fold {split.fold} leaves a segment out, but the split is of the kind {kind!r}; state "
                        "split.kind segments, or no fold")  # fmt: skip
    if kind == "ratio":
        if split.train + split.val >= 1:
            raise DataError(f"split: train {split.train} and val {split.val} leave nothing to test; keep them below 1")
        found[int(rows * split.train) :] = VAL
        found[int(rows * (split.train + split.val)) :] = TEST
    elif kind == "months":
        day = time.astype("datetime64[D]")
        month = time.astype("datetime64[M]").astype(int) % 12 + 1
        left = ((time.astype("datetime64[M]") + 1).astype("datetime64[D]") - day).astype(int)  # days of the month left
        before = [(m - 2) % 12 + 1 for m in split.test_months]
        found[np.isin(month, before) & (left <= split.val_days)] = VAL
        found[np.isin(month, split.test_months)] = TEST
    else:
        names = np.unique(segment)
        if split.fold is not None:
            if split.fold >= len(names):
                raise DataError(
                    f"split: fold {split.fold} does not exist; the data have segments 0 to {len(names) - 1}"
                )
            found[segment == names[split.fold - 1]] = VAL
            found[segment == names[split.fold]] = TEST
        else:
            test, val = names[-split.test_segments :], names[: -split.test_segments][-split.val_segments :]
            found[np.isin(segment, val)] = VAL
            found[np.isin(segment, test)] = TEST
    for number, name in enumerate(SPLITS):
        if not (found == number).any():
            raise DataError(
                f"the split {kind!r} of {rows:,} rows in {len(np.unique(segment))} segments leaves no row for {name}; "
                "choose other shares, months or segments, or give more data"
            )
    return found


def draw_masks(raw: Raw, missing: Missing) -> tuple[np.ndarray, tuple[str, ...]]:
    """[M, T, N, C] hidden cells: the named seed first, then ``more`` further ones; the official mask stands alone."""
    if missing.kind in ("official", "none"):
        names = [missing.kind]
    else:
        names = [f"seed {missing.seed + i}" for i in range(1 + missing.more)]
    drawn = [
        masks.draw(missing, missing.seed + i, raw.value, raw.segment, raw.edges.index, raw.official)
        for i in range(len(names))
    ]
    return np.stack(drawn), tuple(names)


def build(raw: Raw, settings: Data, source: dict[str, Any], split: str) -> Cube:
    """The cube of a data set as read.

    Parameters
    ----------
    raw: values and graph.
    settings: missingness and split.
    source: what :meth:`pipeline.core.catalog.Catalog.describe` says of it.
    split: the catalogue's own split, for ``auto``.

    Raises
    ------
    DataError
        Sensors without any value; a split without rows.
    """
    raw = raw.take(settings.rows)
    refuse_empty(raw, source["name"])
    hidden, names = draw_masks(raw, settings.missing)
    lined = on_line(raw.value, raw.segment) if raw.filled else np.zeros(raw.value.shape, bool)
    value = raw.value.astype(np.float32)
    content = hashlib.sha256(raw.time.astype("datetime64[s]").tobytes() + value.tobytes())
    first, last = (str(t.astype("datetime64[m]")).replace("T", " ") for t in raw.time[[0, -1]])
    return Cube(
        value=value,
        hidden=hidden,
        on_line=lined,
        time=raw.time.astype("datetime64[ns]"),
        segment=raw.segment.astype(np.int32),
        split=split_rows(settings.split, split, raw.time, raw.segment),
        nodes=raw.nodes,
        channels=raw.channels,
        units=raw.units,
        masks=names,
        edge_index=raw.edges.index,
        edge_weight=raw.edges.weight,
        edge_type=raw.edges.type,
        edge_types=raw.edges.types,
        place=raw.place.astype(np.float64),
        step_seconds=raw.step_seconds,
        info={
            **{key: source.get(key) for key in ("name", "requested", "source", "sha256", "licence")},
            "period": [first, last],
            "n": len(raw.time),
            "nodes": len(raw.nodes),
            "channels": len(raw.channels),
            "edges": int(raw.edges.index.shape[1]),
        },
        attrs={
            "title": source.get("title", source["name"]),
            "place": raw.place_kind,
            "pattern": settings.missing.model_dump(mode="json"),
            "content_sha256": content.hexdigest(),
            "masks_sha256": {
                name: hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()
                for name, mask in zip(names, hidden, strict=True)
            },
            "report": raw.report,
        },
    )


def read(paths: Sequence[Path], source: dict[str, Any], settings: Data) -> Raw:
    """A data set of the catalogue, or the user's own, by the reader that its entry names.

    Raises
    ------
    DataError
        An entry of another system's data.
    """
    from .readers import READERS

    reader = READERS.get(source["reader"])
    if reader is None:
        raise DataError(
            f"{source['name']} is read by {source['reader']!r}, which is none of SPIN's readers: {', '.join(READERS)}. "
            "Own data for it are described as data: {<name>: {path: [<values>, <graph>], kind: traffic}}"
        )
    raw = reader(paths, source["options"], settings.graph, settings.zero_missing)
    units = source.get("units") or {}
    raw.units = tuple(units.get(name, unit) for name, unit in zip(raw.channels, raw.units, strict=True))
    return raw


def checked(paths: Sequence[Path], source: dict[str, Any]) -> None:
    """Refuse files that have changed since the data set was chosen."""
    digests = [digest(path) for path in paths]
    lines = "".join(f"{Path(path).name} {found}\n" for path, found in zip(paths, digests, strict=True))
    total = digests[0] if len(paths) == 1 else hashlib.sha256(lines.encode()).hexdigest()
    if source["sha256"] not in (None, total):
        raise DataError(
            f"the files of {source['name']} have changed since it was chosen (SHA-256 {total}, was "
            f"{source['sha256']}); run `python -m pipeline data --refresh` to decide anew"
        )
    source["sha256"] = total


def prepare(job: Job, settings: Prepare, log: Any) -> Result:
    """Stage ``prepare``: raw files (or the simulator) -> ``data``, the cube with graph and masks.

    ``job.facts["source"]`` is what :meth:`pipeline.core.catalog.Catalog.describe` says; ``job.inputs["raw"]`` its
    files.
    """
    source = dict(job.facts["source"])
    if source["reader"] == "sumo":
        from .sumo import simulate

        raw = simulate(settings.simulation, log)
        source["sha256"] = hashlib.sha256(np.nan_to_num(raw.value, nan=-1).tobytes()).hexdigest()
    else:
        files = job.inputs["raw"]
        paths = [Path(files)] if isinstance(files, str | Path) else [Path(path) for path in files]
        checked(paths, source)
        raw = read(paths, source, settings.data)
    cube = build(raw, settings.data, source, source["options"].get("split", "ratio"))
    for line in raw.report:
        log.info(f"{source['name']}: {line}")
    save(cube, job.outputs["data"])
    targets = [len(cube.targets(m, TEST)) for m in range(len(cube.masks))]
    log.info(f"{source['name']}: {cube.shape} cells, {cube.edge_index.shape[1]} edges, test targets by mask {targets}")
    metrics = {
        "rows": cube.shape[0],
        "nodes": cube.shape[1],
        "channels": cube.shape[2],
        "edges": cube.edge_index.shape[1],
        "missing": float(1 - cube.observed.mean()),
        "hidden": float(cube.hidden[0][cube.observed].mean()),
        "test_targets": targets[0],
    }
    return Result(metrics=metrics, dataset=cube.info)
