"""The data stage: raw events -> windows, split by time, with scaling constants of the training windows alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.config import validated
from ..core.errors import DataError
from ..core.stages import Job, Result
from ..core.store import digest
from . import readers, simulate, windows
from .events import SPLITS, Catalogue, finished
from .options import DEGREES, READERS, CatalogueOptions, SequenceOptions
from .readers import Raw
from .settings import Prepare


@dataclass(frozen=True)
class Choice:
    """Settings that override a data set's options, and how one file is split."""

    window: float | None = None
    stride: float | None = None
    mark_bins: tuple[float, ...] = ()
    min_magnitude: float | str | None = "auto"
    projection: str = "auto"
    val_share: float = 0.1
    test_share: float = 0.1
    thin: bool = True


def _meta(name: str, options: SequenceOptions) -> dict[str, Any]:
    reported = options.density_time or options.unit
    shift = float(np.log(readers.SECONDS[reported] / readers.SECONDS[options.unit]))
    place = {"deg": "1/deg2", "km": "1/km2"}.get(options.place, "cell" if options.lattice_place else "1/unit2")
    return {
        "name": name,
        "units": {"time": options.unit, "place": options.place},
        "lattice": {"time": options.lattice_time, "place": options.lattice_place},
        "log_density": {"time": shift, "time_unit": f"1/{reported}", "place": 0.0, "place_unit": place},
        "period_of_clock": options.clock,
        "narrowest": options.narrowest,
        "projection": None,
    }


def _marks(found: np.ndarray | None, train: np.ndarray, names: list[str], where: str) -> tuple[int, list[str]]:
    """K and the names of the marks; a mark that training never shows could not be forecast."""
    if found is None:
        return 1, []
    known = int(found[train].max()) + 1
    if found.max() >= known:
        raise DataError(
            f"{where}: mark {int(found.max())} appears after the training period, which has the marks 0 to "
            f"{known - 1}; join rare marks, or take a longer training period"
        )
    return known, names if len(names) == known else [str(k) for k in range(known)]


def from_sequences(by_split: dict[str, list[Raw]], name: str, options: SequenceOptions, choice: Choice) -> Catalogue:
    """Published windows, three lists of them, on one timeline as far as their overlaps tell it."""
    flat = [raw for split in SPLITS for raw in by_split[split]]
    window = choice.window or options.window
    latest = max(float(raw.t[-1]) for raw in flat)
    if window is not None and latest > window:
        raise DataError(f"{name}: an event lies at {latest:.6g}, beyond the window of {window:g}; state a longer one")
    starts, phases, strides, offset = [], [], [], 0.0
    for split in SPLITS:
        parts = by_split[split]
        span = window if window is not None else max(float(raw.t[-1]) for raw in parts)
        marks = [raw.xy if raw.mark is None else np.column_stack([raw.mark, raw.xy]) for raw in parts]
        shifts = windows.overlaps([(raw.t, what) for raw, what in zip(parts, marks, strict=True)])
        start, phase, stride = windows.timeline(shifts, span)
        starts.append(offset + start)
        phases.append(phase if choice.thin else np.zeros_like(phase))
        strides.append(stride)
        offset += start[-1] + span
    lengths = np.array([len(raw.t) for raw in flat])
    mark = None if flat[0].mark is None else np.concatenate([raw.mark for raw in flat]).astype(np.int64)
    train = np.arange(lengths.sum()) < lengths[: len(by_split["train"])].sum()
    count, names = _marks(mark, train, options.mark_names, name)
    xy = np.concatenate([raw.xy for raw in flat])
    meta = {
        **_meta(name, options),
        "marks": count,
        "mark_names": names,
        "window": window,
        "stride": strides[0],
        "split_rule": "as published, three files",
        "places": bool((xy != xy[0]).any()),
    }
    return finished(
        Catalogue(
            np.concatenate([[0], np.cumsum(lengths)]),
            np.concatenate([raw.t for raw in flat]),
            mark,
            xy,
            np.repeat(np.arange(3), [len(by_split[split]) for split in SPLITS]).astype(np.int8),
            np.array([window or raw.t[-1] for raw in flat], float),
            np.concatenate(starts),
            np.concatenate(phases),
            meta=meta,
        )
    )


def _reach(window: float, stride: float | None) -> int:
    """How many of the windows before a window share time with it."""
    return int(np.ceil(window / (stride or window) - 1e-9)) - 1


def _borders(t: np.ndarray, window: float, stride: float | None, choice: Choice) -> tuple[np.ndarray, np.ndarray]:
    """Starts [S] of the windows and their split [S] (-1: dropped, because it would reach into another split)."""
    starts = np.array([start for start, _ in windows.cut(t, window, stride, float(t[0]), float(t[-1]))])
    return starts, windows.by_time(len(starts), choice.val_share, choice.test_share, _reach(window, stride))


def from_table(raw: Raw, name: str, options: CatalogueOptions, choice: Choice) -> Catalogue:
    """One long catalogue cut into windows, the last shares of which are validation and test.

    Magnitudes below completeness are dropped (estimated on the training period only); marks are magnitude classes
    where ``mark_bins`` says so. Windows that share events with another split are dropped.
    """
    window, stride = choice.window or options.window, choice.stride or options.stride
    if window is None:
        raise DataError(
            f"{name}: one file needs the length of a window [{options.unit}]: the option `window`, or the setting "
            "data.window"
        )
    starts_at, split = _borders(raw.t, window, stride, choice)
    early = raw.t < starts_at[split == 0].max() + window  # all that training may see
    keep, lowest = np.ones(len(raw.t), bool), None
    asked = options.min_magnitude if choice.min_magnitude == "auto" else choice.min_magnitude
    if raw.magnitude is not None and asked is not None:
        lowest = windows.completeness(raw.magnitude[early]) if asked == "auto" else float(asked)
        keep = raw.magnitude >= lowest - 1e-9
    bins = list(choice.mark_bins or options.mark_bins)
    mark = raw.mark
    if bins:
        if raw.magnitude is None:
            raise DataError(f"{name}: mark_bins {bins} need magnitudes; name their column (magnitude)")
        mark = np.searchsorted(np.array(sorted(bins)) - 1e-9, raw.magnitude, side="right")
    t, xy = raw.t[keep], raw.xy[keep]
    mark = None if mark is None else mark[keep].astype(np.int64)
    magnitude = None if raw.magnitude is None else raw.magnitude[keep]
    meta = _meta(name, options)
    asked_km = (options.projection if choice.projection == "auto" else choice.projection) == "km"
    if asked_km and options.place == DEGREES:
        wrong = (np.abs(xy[:, 0]) > 360) | (np.abs(xy[:, 1]) > 90)
        if wrong.any():
            place = xy[int(np.argmax(wrong))]
            raise DataError(f"{name}: {place.tolist()} is no longitude and latitude; swap x and y, or set place")
        lon0, lat0 = np.median(xy[early[keep]], axis=0)
        xy = windows.to_km(xy, lon0, lat0)
        meta["projection"] = {"kind": "sinusoidal", "lon0": float(lon0), "lat0": float(lat0), "unit": "km"}
        meta["units"] = {**meta["units"], "place": "km"}
        meta["log_density"] = {**meta["log_density"], "place_unit": "1/km2"}
    ends = np.searchsorted(t, [starts_at, starts_at + window], side="left")
    used = [
        (float(x), slice(int(a), int(b)), int(s)) for x, a, b, s in zip(starts_at, *ends, split, strict=True) if s >= 0
    ]
    used = [one for one in used if one[1].stop - one[1].start >= 2]
    if {s for _, _, s in used} != {0, 1, 2}:
        raise DataError(f"{name}: windows of {window:g} {options.unit} leave a split without events; take longer ones")
    starts = np.array([start for start, _, _ in used])
    lengths = np.array([rows.stop - rows.start for _, rows, _ in used])
    row = np.concatenate([np.arange(rows.start, rows.stop) for _, rows, _ in used])
    part = np.array([s for _, _, s in used], np.int8)
    reach = _reach(window, stride)
    cycle = max(reach, 1) if choice.thin else 1
    count, names = _marks(
        None if mark is None else mark[row], np.repeat(part, lengths) == 0, options.mark_names or _names(bins), name
    )
    meta |= {
        "marks": count,
        "mark_names": names,
        "window": window,
        "stride": stride if reach else None,
        "split_rule": f"by time: the last {choice.test_share:g} of the windows is test, {choice.val_share:g} before it "
        "validation",
        "min_magnitude": lowest,
        "mark_bins": bins,
        "epoch": readers.EPOCH,
        "places": True,
    }
    if magnitude is not None:
        known = magnitude[row][np.repeat(part, lengths) == 0]
        b, error = windows.b_value(known, lowest if lowest is not None else float(known.min()))
        meta["b_value"] = [b, error]
    return finished(
        Catalogue(
            np.concatenate([[0], np.cumsum(lengths)]),
            t[row] - np.repeat(starts, lengths),
            None if mark is None else mark[row],
            xy[row],
            part,
            np.full(len(starts), float(window)),
            starts,
            np.arange(len(starts)) % cycle,
            None if magnitude is None else magnitude[row],
            meta,
        )
    )


def _names(bins: list[float]) -> list[str]:
    if not bins:
        return []
    bounds = sorted(bins)
    inner = [f"{a:g} <= M < {b:g}" for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    return [f"M < {bounds[0]:g}", *inner, f"M >= {bounds[-1]:g}"]


def read(paths: Sequence[Path], reader: str, options: dict[str, Any], name: str, choice: Choice) -> Catalogue:
    """Read an event data set.

    Parameters
    ----------
    paths: three pickles or a folder that holds them (reader ``sequences``), or one file (``table``, ``quakeml``).
    reader, options: as the catalogue of data sets has them, see :mod:`pipeline.smash.options`.
    choice: settings that override them.

    Raises
    ------
    ConfigError
        Options that the reader doesn't have.
    DataError
        Whatever is wrong with the files, with its place.
    """
    if reader not in READERS:
        raise DataError(f"{name}: event data have no reader {reader!r}; there are {', '.join(READERS)}")
    chosen = validated(READERS[reader], options, f"reader {reader}: options")
    if reader == "sequences":
        if len(paths) == 1 and Path(paths[0]).is_dir():  # the user's own: a folder with one file a split
            paths = sorted(path for path in Path(paths[0]).iterdir() if path.suffix in (".pkl", ".pickle"))
        return from_sequences(readers.pickles(paths), name, chosen, choice)
    if len(paths) != 1:
        raise DataError(f"{name}: the reader {reader!r} takes one file, got {len(paths)}")
    one = {"table": readers.table, "quakeml": readers.quakeml}[reader]
    return from_table(one(Path(paths[0]), chosen.model_dump()), name, chosen, choice)


def info(catalogue: Catalogue) -> dict[str, Any]:
    """What tables say of the data."""
    meta = catalogue.meta
    count = {split: int(len(catalogue.sequences(split))) for split in SPLITS}
    keys = ("requested", "source", "sha256", "licence", "units", "mark_names", "window", "stride", "min_magnitude")
    return {
        "name": meta["name"],
        **{key: meta[key] for key in keys if key in meta},
        "period": f"{count['train']} / {count['val']} / {count['test']} windows",
        "n": int(len(catalogue.t)),
        "targets": {split: int(len(catalogue.targets(split).row)) for split in SPLITS},
        "distinct": {split: int(len(catalogue.distinct(split)[0])) for split in SPLITS},
    }


def prepare(job: Job, settings: Prepare, log: Any) -> Result:
    """Stage ``prepare``: raw files -> ``data`` (a pickle of builtins) and ``zarr`` (the same arrays).

    ``job.facts["source"]`` is what :meth:`pipeline.core.catalog.Catalog.describe` says; ``job.inputs["raw"]`` are its
    files.

    Raises
    ------
    DataError
        Files that have changed since the data set was chosen, or whose content is not as documented.
    """
    source = dict(job.facts["source"])
    stated = {key: source.get(key) for key in ("title", "licence", "citation", "requested", "source", "sha256")}
    if source["reader"] == "simulation":
        truth = replace(simulate.Truth(), **settings.simulation.model_dump())
        found = simulate.catalogue(truth, seed=job.seeds[0])
        stated["sha256"] = found.meta["content_sha256"]
    else:
        raw = job.inputs["raw"]
        paths = [Path(path) for path in ([raw] if isinstance(raw, str | Path) else raw)]
        digests = [(path.name, digest(path)) for path in paths]
        lines = "".join(f"{name} {value}\n" for name, value in digests)
        whole = digests[0][1] if len(digests) == 1 else hashlib.sha256(lines.encode()).hexdigest()
        if source["sha256"] not in (None, whole):
            raise DataError(
                f"the files of {source['name']} have changed since it was chosen (SHA-256 {whole}, was "
                f"{source['sha256']}); run `python -m pipeline data --refresh` to decide anew"
            )
        stated["sha256"] = whole
        names = ("window", "stride", "min_magnitude", "projection", "val_share", "test_share", "thin")
        choice = Choice(
            **{name: getattr(settings.data, name) for name in names}, mark_bins=tuple(settings.data.mark_bins)
        )
        found = read(paths, source["reader"], source["options"], source["name"], choice)
    found = replace(found, meta={**found.meta, **stated, "name": source["name"]})
    found.save(job.outputs["data"])
    found.to_zarr(job.outputs["zarr"])
    facts = info(found)
    log.info(
        f"{source['name']}: {facts['n']:,} events in {facts['period']}"
        + (f", stride {found.meta['stride']:g} {found.meta['units']['time']}" if found.meta["stride"] else "")
    )
    metrics = {
        "events": len(found.t),
        "windows": len(found.split),
        "marks": found.marks,
        **{f"targets_{split}": count for split, count in facts["targets"].items()},
    }
    return Result(metrics=metrics, dataset=facts)
