"""Reading raw events: published pickles, CSV tables and QuakeML, each checked and refused with its place named."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ..core.errors import DataError
from ..core.tabular import read_csv, read_parquet, to_numbers
from . import unpickle
from .events import SPLITS

GATECH = ("time_since_start", "type_event")
EPOCH = "1970-01-01T00:00:00Z"
SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "day": 86400.0}
LARGEST_MARK = 10_000


@dataclass
class Raw:
    """One sequence or catalogue as read: t [n], mark [n] or None, xy [n, 2], magnitude [n] or None."""

    t: np.ndarray
    mark: np.ndarray | None
    xy: np.ndarray
    magnitude: np.ndarray | None = None


def _row(event: Any, where: str) -> list[float]:
    """Numbers of one event; a Gatech dict has no place unless it names x and y."""
    if isinstance(event, dict):
        missing = [key for key in GATECH if key not in event]
        if missing:
            raise DataError(f"{where}: an event as a dict needs {', '.join(GATECH)}; {', '.join(missing)} is missing")
        event = [event["time_since_start"], event["type_event"], event.get("x", 0.0), event.get("y", 0.0)]
    if not isinstance(event, list | tuple):
        raise DataError(f"{where} is {type(event).__name__}, not an event [t, mark, x, y] or [t, x, y]")
    for value in event:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DataError(f"{where}: {reprlib.repr(value)} is not a number")
    return list(event)


def check(raw: Raw, where: str) -> Raw:
    """Refuse what no method can use: not finite, times that go back or are negative, marks that are no labels."""
    for name, values in (("time", raw.t), ("place", raw.xy), ("mark", raw.mark)):
        if values is None:
            continue
        finite = np.isfinite(values).reshape(len(raw.t), -1).all(axis=1)
        if not finite.all():
            place = int(np.argmin(finite))
            raise DataError(
                f"{where}, event {place}: its {name} is {np.asarray(values)[place]}; every event needs finite numbers. "
                "Leave the event out, or mend it."
            )
    if len(raw.t) and raw.t[0] < 0:
        raise DataError(f"{where}, event 0: its time is {raw.t[0]:g}; times count from the window's start, 0 or later")
    back = np.flatnonzero(np.diff(raw.t) < 0)
    if len(back):
        place = int(back[0]) + 1
        raise DataError(
            f"{where}, event {place}: its time {raw.t[place]:.10g} is before that of the event before it "
            f"({raw.t[place - 1]:.10g}); sort the events of each sequence by time"
        )
    if raw.mark is not None:
        wrong = (raw.mark < 0) | (raw.mark != np.rint(raw.mark)) | (raw.mark > LARGEST_MARK)
        if wrong.any():
            place = int(np.argmax(wrong))
            raise DataError(
                f"{where}, event {place}: its mark is {raw.mark[place]:g}; marks are whole numbers 0, 1, 2, … "
                f"(at most {LARGEST_MARK:,}). Bin a magnitude first (mark_bins)."
            )
    return raw


def _sequence(events: Any, where: str) -> Raw:
    if not isinstance(events, list | tuple):
        raise DataError(f"{where} is {type(events).__name__}, not a list of events")
    if len(events) < 2:
        raise DataError(
            f"{where} has {len(events)} event(s); a sequence needs at least 2, one to know and one to forecast. Leave "
            "it out, or take longer windows."
        )
    rows = [_row(event, f"{where}, event {i}") for i, event in enumerate(events)]
    sizes = sorted({len(row) for row in rows})
    if sizes not in ([3], [4]):
        odd = next(i for i, row in enumerate(rows) if len(row) not in (3, 4) or len(row) != len(rows[0]))
        raise DataError(
            f"{where}, event {odd} has {len(rows[odd])} numbers; every event has 4, [t, mark, x, y], or every event "
            "has 3, [t, x, y] without marks"
        )
    table = np.asarray(rows, float)
    mark = table[:, 1] if sizes == [4] else None
    return check(Raw(table[:, 0], mark, table[:, -2:]), where)


def _of_split(found: Any, split: str) -> Any:
    """The sequences of a split: a list, or a dict of the Gatech form that names them."""
    if isinstance(found, dict):
        for key in (split, {"val": "dev"}.get(split, split), "devtest" if split == "val" else split):
            if key in found:
                return found[key]
        raise DataError(f"a dict with the keys {', '.join(map(str, list(found)[:8]))} has no sequences for {split!r}")
    return found


def pickles(paths: Sequence[Path]) -> dict[str, list[Raw]]:
    """Three pickles of sequences (train, validation, test) -> split -> sequences.

    An event is ``[t, mark, x, y]``, ``[t, x, y]``, or a dict ``time_since_start``, ``type_event`` (and ``x``, ``y``).

    Raises
    ------
    DataError
        Whatever is wrong, with file, sequence and event.
    """
    if len(paths) != 3:
        raise DataError(f"three files are needed, train, validation and test; got {len(paths)}")
    by_split, marked = {}, {}
    for split, path in zip(SPLITS, _ordered(paths), strict=True):
        try:
            sequences = _of_split(unpickle.load(path), split)
        except DataError as error:
            raise DataError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from None
        if not isinstance(sequences, list | tuple) or not sequences:
            raise DataError(f"{path} holds {type(sequences).__name__}, not a list of sequences with at least one")
        by_split[split] = [_sequence(events, f"{path}: sequence {i}") for i, events in enumerate(sequences)]
        for i, raw in enumerate(by_split[split]):
            marked.setdefault(raw.mark is not None, f"{path}: sequence {i}")
    if len(marked) > 1:
        raise DataError(f"{marked[True]} has marks, {marked[False]} has none; give all events a mark, or none")
    return by_split


def _ordered(paths: Sequence[Path]) -> list[Path]:
    """Files by the split that their names end in; in the order given where they don't say."""
    paths = [Path(path) for path in paths]
    found = {split: [p for p in paths if p.stem.lower().endswith(split)] for split in SPLITS}
    return [found[split][0] for split in SPLITS] if all(len(v) == 1 for v in found.values()) else paths


def _column(frame: Any, name: str, path: Path, what: str) -> Any:
    if name not in frame.columns:
        import difflib

        close = difflib.get_close_matches(name, map(str, frame.columns), 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise DataError(f"{path} has no {what} column {name!r} (it has {', '.join(map(str, frame.columns))}){hint}")
    return frame[name]


def table(path: Path, options: dict[str, Any]) -> Raw:
    """A CSV or Parquet table of events, sorted by time; t in ``options["unit"]`` since 1970, or numbers as they are.

    Options: ``time``, ``x``, ``y``, ``mark`` or ``magnitude`` (names of columns), ``time_zone`` (of times without
    one; UTC by default), ``unit`` (s, min, h, day), ``ordered`` (lines that go back in time are refused).

    Raises
    ------
    DataError
        No such file, a missing column, a time or number that can't be read, times with different zones mixed with
        times without, lines out of order where they must be in order.
    """
    frame = read_parquet(path) if path.suffix in (".parquet", ".pq") else read_csv(path, low_memory=False)
    time = _column(frame, options.get("time", "time"), path, "time")
    numbers = {}
    for key, default in (("x", "longitude"), ("y", "latitude"), ("mark", None), ("magnitude", None)):
        name = options.get(key, default)
        if name is None:
            continue
        values = to_numbers(_column(frame, name, path, key))
        wrong = ~np.isfinite(values)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(
                f"{path}: line {row + 2}, column {name!r}: {str(frame[name].iloc[row])[:50]!r} is no finite number; "
                f"{int(wrong.sum()):,} such values. Leave these events out, or mend them."
            )
        numbers[key] = values
    t = _times(time, path, options.get("time_zone", "UTC"), SECONDS[options.get("unit", "day")])
    back = np.flatnonzero(np.diff(t) < 0)
    if options.get("ordered") and len(back):
        line = int(back[0]) + 3  # the first line holds the names
        raise DataError(
            f"{path}: line {line}: its time {time.iloc[line - 2]} is before that of the line above "
            f"({time.iloc[line - 3]}); {len(back):,} lines go back in time. Sort the file, or allow sorting (--sort)."
        )
    order = np.argsort(t, kind="stable")
    xy = np.column_stack([numbers["x"], numbers["y"]])[order]
    mark, magnitude = (numbers[key][order] if key in numbers else None for key in ("mark", "magnitude"))
    raw = Raw(t[order], mark, xy, magnitude)
    return check(Raw(raw.t - raw.t[0], mark, xy), str(path)) and raw


def _times(column: Any, path: Path, zone: str, unit: float) -> np.ndarray:
    """Numbers as they stand; time stamps as ``unit`` seconds since 1970, those without a zone being in ``zone``."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(float)
    text = column.astype(str)
    with_zone = text.str.contains(r"(?:Z|[+-]\d{2}:?\d{2})$", regex=True)
    if with_zone.any() and not with_zone.all():
        row = int(np.argmin(with_zone.to_numpy()))
        raise DataError(
            f"{path}: line {row + 2}: the time {text.iloc[row]!r} states no zone, while others do; state it in all, or "
            "in none (then the option time_zone says which)"
        )
    stamps = pd.to_datetime(text, errors="coerce", utc=bool(with_zone.all()), format="ISO8601")
    if stamps.isna().any():
        row = int(np.argmax(stamps.isna().to_numpy()))
        raise DataError(
            f"{path}: line {row + 2}: the time {text.iloc[row]!r} can't be read; write 2011-03-11T05:46:24Z"
        )
    if not with_zone.all():
        try:
            stamps = stamps.dt.tz_localize(zone, ambiguous="raise", nonexistent="raise").dt.tz_convert("UTC")
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: times can't be placed in the zone {zone!r}: {error}; write them in UTC") from None
    since = stamps.dt.tz_localize(None) - pd.Timestamp(EPOCH).tz_localize(None)
    return since.dt.total_seconds().to_numpy() / unit


def quakeml(path: Path, options: dict[str, Any]) -> Raw:
    """Events of a QuakeML 1.2 file: preferred (else first) origin and magnitude; t in days (``unit``) since 1970, UTC.

    Raises
    ------
    DataError
        Not well-formed XML, a document type with entities, an event without origin, a value that can't be read, or
        magnitudes of some events only (of none: allowed, and there is no magnitude).
    """
    import pandas as pd

    text = path.read_bytes()
    if b"<!ENTITY" in text or b"<!DOCTYPE" in text:
        raise DataError(f"{path} declares a document type; QuakeML needs none, and entities in it are not expanded")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DataError(f"{path} is not well-formed XML: {error}") from None
    rows = []
    for place, event in enumerate(root.iterfind(".//{*}event")):
        where = f"{path}: event {place}"
        origin = _preferred(event, "origin")
        if origin is None:
            raise DataError(f"{where} has no origin; leave it out")
        size = _preferred(event, "magnitude")
        try:
            stamp = pd.Timestamp(origin.findtext("{*}time/{*}value"))
            stamp = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
            lon, lat = (float(origin.findtext(f"{{*}}{key}/{{*}}value")) for key in ("longitude", "latitude"))
            magnitude = math.nan if size is None else float(size.findtext("{*}mag/{*}value"))
        except (TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{where}: its time, place or magnitude can't be read ({error})") from None
        since = (stamp - pd.Timestamp(EPOCH)).total_seconds() / SECONDS[options.get("unit", "day")]
        rows.append((since, lon, lat, magnitude))
    if len(rows) < 2:
        raise DataError(f"{path} has {len(rows)} event(s); at least 2 are needed")
    unknown = np.flatnonzero(~np.isfinite([row[3] for row in rows]))
    if 0 < len(unknown) < len(rows):
        raise DataError(
            f"{path}: event {unknown[0]} has no magnitude, while {len(rows) - len(unknown):,} of {len(rows):,} events "
            "have one; leave out the events without, or all magnitudes"
        )
    found = np.array(sorted(rows))
    magnitude = None if len(unknown) else found[:, 3]
    raw = Raw(found[:, 0], None, found[:, 1:3], magnitude)
    check(Raw(raw.t - raw.t[0], None, raw.xy), str(path))
    return raw


def _preferred(event: Any, kind: str) -> Any:
    stated = event.findtext(f"{{*}}preferred{kind.capitalize()}ID")
    found = event.findall(f"{{*}}{kind}")
    return next((one for one in found if stated and one.get("publicID") == stated.strip()), found[0] if found else None)
