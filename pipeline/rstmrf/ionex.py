"""Maps of total electron content from IONEX files (Schaer et al. 1998, version 1.0 and 1.1), plain, .gz or .Z.

The format runs from north to south, holds both ends of the longitudes (-180 and 180 are one meridian), marks missing
cells by 9999 and scales values by a power of ten that may change from map to map. Here maps ascend in latitude, go
once round in longitude from -180 on, are NaN where missing, and keep their root-mean-square maps.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError, first_line

MISSING = 9999
LABEL = 60  # column at which a record's label begins
WIDTH = 5  # of a value
LARGEST = 1 << 28  # bytes of a file once decompressed
FINEST = 0.01  # degrees between cells
COMPRESS = b"\x1f\x9d"
GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class TecMaps:
    """TEC maps [T, LAT, LON] in TECU: ``time`` (datetime64[s]), ``lat`` ascending, ``lon`` in [-180, 180) without a
    doubled column; ``rms`` NaN where a file has none. ``notes`` say what was put right."""

    time: np.ndarray
    lat: np.ndarray
    lon: np.ndarray
    tec: np.ndarray
    rms: np.ndarray
    height_km: float
    notes: tuple[str, ...] = ()


def text(path: Path | str) -> str:
    """Content of a plain, gzip or Unix-compress file.

    Raises
    ------
    DataError
        A file that is missing, empty or damaged.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}") from None
    if not raw:
        raise DataError(f"{path} is empty")
    try:
        if raw.startswith(COMPRESS):
            import unlzw3

            raw = unlzw3.unlzw(raw)
        elif raw.startswith(GZIP):
            with gzip.open(path) as stream:
                raw = stream.read(LARGEST + 1)
    except Exception as error:  # the two libraries raise errors of many kinds for damaged input
        raise DataError(f"{path} is damaged: it can't be decompressed ({first_line(error)})") from None
    if len(raw) > LARGEST:
        raise DataError(f"{path} holds more than {LARGEST:,} bytes, which no IONEX file does")
    return raw.decode("ascii", errors="replace")


def read(path: Path | str) -> TecMaps:
    """Read one file.

    Raises
    ------
    DataError
        No IONEX, a map that is cut short or on another grid than the header says, heights in more than one layer, or
        longitudes that don't go round the Earth.
    """
    lines = text(path).splitlines()
    header, body, lat, lon, height = _grid(path, lines)
    (exponent,) = header.get("EXPONENT", [-1.0])
    power = _told(_power, f"{exponent:.0f}", path, body)
    maps = _maps(path, lines[body:], body, power, lat, lon)
    if not maps["TEC"]:
        raise DataError(f"{path} holds no TEC map")
    times = sorted(maps["TEC"])
    tec = np.stack([maps["TEC"][time] for time in times])
    empty = np.full(tec.shape[1:], np.nan)
    rms = np.stack([maps["RMS"].get(time, empty) for time in times])
    return arranged(np.array(times), lat, lon, tec, rms, height, str(path))


def outline(path: Path | str) -> TecMaps:
    """Epochs, axes and notes of a file as :func:`read` gives them, with ``tec`` and ``rms`` of no map: what is needed
    to plan a series of many files before their values are read. Raises what :func:`read` raises for headers."""
    lines = text(path).splitlines()
    _, body, lat, lon, height = _grid(path, lines)
    times, inside = set(), False
    for number, line in enumerate(lines[body:], body + 1):
        label = line[LABEL:].strip()
        if label.startswith("START OF"):
            inside = label == "START OF TEC MAP"
        elif inside and label == "EPOCH OF CURRENT MAP":
            times.add(_told(_epoch, line[:36], path, number))
    if not times:
        raise DataError(f"{path} holds no TEC map")
    none = np.empty((0, len(lat), len(lon)))
    return arranged(np.array(sorted(times)), lat, lon, none, none, height, str(path))


def _grid(path: Path | str, lines: list[str]) -> tuple[dict[str, list[float]], int, np.ndarray, np.ndarray, float]:
    """Header, the number of its lines, latitudes and longitudes as the file has them, and the height of the layer."""
    header, body = _header(path, lines)
    lon = _axis(path, header, "LON1 / LON2 / DLON", 360)
    lat = _axis(path, header, "LAT1 / LAT2 / DLAT", 90)
    bottom, top, _ = header["HGT1 / HGT2 / DHGT"]
    if bottom != top:
        raise DataError(f"{path} has layers from {bottom:g} to {top:g} km; maps of one layer are read")
    return header, body, lat, lon, bottom


def _header(path: Path | str, lines: list[str]) -> tuple[dict[str, list[float]], int]:
    if not lines or "IONEX VERSION" not in lines[0][LABEL:]:
        raise DataError(f"{path} is no IONEX file: its first line has no label 'IONEX VERSION / TYPE'")
    wanted = ("LAT1 / LAT2 / DLAT", "LON1 / LON2 / DLON", "HGT1 / HGT2 / DHGT", "EXPONENT")
    found: dict[str, list[float]] = {}
    for number, line in enumerate(lines):
        label = line[LABEL:].strip()
        if label in wanted:
            try:
                found[label] = [float(part) for part in line[:LABEL].split()]
            except ValueError:
                raise DataError(f"{path}, line {number + 1}: {line[:LABEL].strip()!r} is no {label}") from None
        if label == "END OF HEADER":
            missing = [name for name in wanted[:3] if len(found.get(name, ())) != 3]
            if missing or len(found.get(wanted[3], [0.0])) != 1 or not np.isfinite(sum(found.values(), [])).all():
                raise DataError(f"{path}: its header lacks {', '.join(missing) or 'numbers'}")
            return found, number + 1
    raise DataError(f"{path} has no END OF HEADER: it is cut short")


def _axis(path: Path | str, header: dict[str, list[float]], label: str, most: float) -> np.ndarray:
    """Degrees of the cells along an axis, first to last as the header has them."""
    low, high, step = header[label]
    if abs(step) < FINEST or (high - low) * step <= 0 or max(abs(low), abs(high)) > most:
        raise DataError(
            f"{path}: {label} {low:g} {high:g} {step:g} is no axis; it must go from one end to another within "
            f"{most:g} degrees by steps of at least {FINEST:g}"
        )
    return low + step * np.arange(round((high - low) / step) + 1)


def _power(text: str) -> int:
    """The exponent of ten that values are multiplied with."""
    power = int(text)
    if abs(power) > 9:
        raise ValueError(f"an exponent of {power} can't be")
    return power


def _maps(
    path: Path | str, lines: list[str], before: int, exponent: int, lat: np.ndarray, lon: np.ndarray
) -> dict[str, dict[np.datetime64, np.ndarray]]:
    """Maps by kind (TEC, RMS) and epoch, rows and columns as in the header; ``before`` lines stand above."""
    found: dict[str, dict[np.datetime64, np.ndarray]] = {"TEC": {}, "RMS": {}}
    kind, epoch, power, values, row = "", None, exponent, np.empty(0), -1
    pieces: list[str] = []

    def close_row() -> None:
        nonlocal pieces
        if row < 0:
            return
        whole = "".join(pieces)
        numbers = [whole[at : at + WIDTH] for at in range(0, WIDTH * len(lon), WIDTH)]
        pieces = []
        try:
            values[row] = [int(number) for number in numbers]
        except ValueError:
            raise DataError(
                f"{path}: the {kind} map of {epoch} has {sum(bool(n.strip()) for n in numbers)} readable values at "
                f"latitude {lat[row]:g}, not {len(lon)}; the file is damaged or cut short"
            ) from None

    for number, line in enumerate(lines, before + 1):
        label = line[LABEL:].strip()
        if label.startswith("START OF") and label.endswith("MAP"):
            kind, row, epoch, power = label[8:].split()[0], -1, None, exponent
            values = np.full((len(lat), len(lon)), np.nan)
        elif not kind:
            continue
        elif label == "EPOCH OF CURRENT MAP":
            epoch = _told(_epoch, line[:36], path, number)
        elif label == "EXPONENT":
            power = _told(_power, line[:LABEL], path, number)
        elif label == "LAT/LON1/LON2/DLON/H":
            close_row()
            row = int(np.abs(lat - _told(float, line[2:8], path, number)).argmin())
        elif label.startswith("END OF") and label.endswith("MAP"):
            close_row()
            if kind in found:
                if epoch is None or np.isnan(values).any():
                    raise DataError(f"{path}: the {kind} map of {epoch} lacks rows or its epoch; it is cut short")
                found[kind][epoch] = np.where(values == MISSING, np.nan, values * 10.0**power)
            kind, row = "", -1
        elif row >= 0:
            pieces.append(line.rstrip("\n").ljust(16 * WIDTH))
    if kind:
        raise DataError(f"{path} ends within a {kind} map: it is cut short")
    return found


def _told(read: Callable[[str], Any], text: str, path: Path | str, number: int) -> Any:
    """What a piece of a line says."""
    try:
        return read(text)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{path}, line {number}: {text.strip()!r} can't be read ({first_line(error)})") from None


def _epoch(text: str) -> np.datetime64:
    year, month, day, hour, minute, second = (int(part) for part in text.split())
    start = np.datetime64(f"{year:04d}-{month:02d}-{day:02d}T00:00:00", "s")
    return start + np.timedelta64(3600 * hour + 60 * minute + second, "s")  # some write 22:59:60


def arranged(
    time: np.ndarray, lat: np.ndarray, lon: np.ndarray, tec: np.ndarray, rms: np.ndarray, height_km: float, where: str
) -> TecMaps:
    """Maps put in order: latitudes ascending, longitudes from -180 once round, the doubled meridian dropped.

    Where the two columns of the doubled meridian differ, the present one or the mean of both is kept.
    """
    notes = []
    if lat[0] > lat[-1]:
        lat, tec, rms = lat[::-1], tec[:, ::-1], rms[:, ::-1]
        notes.append("turned round to ascend in latitude")
    step = lon[1] - lon[0]
    if step < 0:
        lon, tec, rms, step = lon[::-1], tec[..., ::-1], rms[..., ::-1], -step
    if np.isclose(lon[-1] - lon[0], 360):
        tec, rms = (_merged(maps) for maps in (tec, rms))
        lon = lon[:-1]
        notes.append("dropped the doubled meridian")
    if not np.isclose(step * len(lon), 360):
        raise DataError(
            f"{where}: longitudes from {lon[0]:g} to {lon[-1]:g} by {step:g} don't go once round the Earth; "
            "global maps are needed"
        )
    wrapped = (np.round(lon, 6) + 180) % 360 - 180
    order = np.argsort(wrapped)
    if not np.array_equal(order, np.arange(len(lon))):
        notes.append("longitudes brought to -180..180")
    return TecMaps(
        np.asarray(time),
        np.ascontiguousarray(lat),
        wrapped[order],
        np.ascontiguousarray(tec[..., order]),
        np.ascontiguousarray(rms[..., order]),
        height_km,
        tuple(notes),
    )


def _merged(maps: np.ndarray) -> np.ndarray:
    """Maps without their last column, whose values join those of the first."""
    first, last = maps[..., 0], maps[..., -1]
    both = np.where(np.isnan(first), last, np.where(np.isnan(last), first, 0.5 * (first + last)))
    return np.concatenate([both[..., None], maps[..., 1:-1]], axis=-1)


def joined(parts: list[TecMaps]) -> TecMaps:
    """Several files as one series in time; where two hold the same epoch (midnight), that of the later file stays.

    Raises
    ------
    DataError
        Files on different grids.
    """
    first = parts[0]
    for part in parts[1:]:
        if part.tec.shape[1:] != first.tec.shape[1:] or not np.allclose(part.lat, first.lat):
            raise DataError(f"TEC files on different grids ({first.tec.shape[1:]} and {part.tec.shape[1:]}) don't join")
    parts = sorted(parts, key=lambda part: part.time[0])
    chosen = {time: (index, row) for index, part in enumerate(parts) for row, time in enumerate(part.time)}
    times = sorted(chosen)
    tec, rms = (np.stack([getattr(parts[chosen[t][0]], name)[chosen[t][1]] for t in times]) for name in ("tec", "rms"))
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    return TecMaps(np.array(times), first.lat, first.lon, tec, rms, first.height_km, notes)
