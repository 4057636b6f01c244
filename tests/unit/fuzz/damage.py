"""What strikes a valid file, and what its reader may answer: the values, or one of the documented errors.

A strike is three numbers that hypothesis draws; what is struck follows from them and from the file, so that a failing
example shrinks. `make test` tries 200 damaged files a reader, always the same; with TEST_FAULTS 2,000 new ones.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import shutil
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipeline.core.errors import PipelineError

LONG = bool(os.environ.get("TEST_FAULTS"))
EXAMPLES = 2000 if LONG else int(os.environ.get("FUZZ_N", "200"))
LARGEST_MB = 1024  # memory that a reader may add; the files have some kB
LONGEST_S = 5  # CPU seconds of a reader that hangs
LONGEST_MESSAGE = 1500
Strike = tuple[int, int, int]
strikes = st.lists(st.tuples(*3 * [st.integers(0, 2**16 - 1)]), min_size=1, max_size=4)

WORDS = (
    *("", "nan", "NaN", "NaT", "inf", "-inf", "1e400", "99999999999999999999", "-1", "0", "-0.0", "word", "é", "1,5"),
    *("0x10", "true", "None", '"', "2016-02-30", "2016-07-01 00:00:00", "2016-07-01T00:00:00+02:00", "9999-12-31"),
    *("1700-01-01", "12:00", "1e-320", "-273.15e3", "3.5", "[1]", "{}", "\x00", "9" * 400, "2**8", "-", "+", "ß" * 50),
)
VALUES = (None, True, -1, 0, 2**70, 1.5, float("nan"), float("inf"), "", "word", "é", b"\xff", [], {}, [[]], (1,), "3")
BYTES = (
    b"\x00",
    b"\xff\xfe",
    b",",
    b"\n",
    b'"',
    b"\r",
    b"nan",
    b"\xc3",
    b"\x80",
    b"\xff" * 8,
    b"\x7f" * 4,
    b"\x00" * 9,
)


# ---- strikes


def struck_bytes(content: bytes, blows: list[Strike]) -> bytes:
    """Bytes flipped, deleted, put in, cut off or repeated."""
    for how, place, more in blows:
        at = place * (len(content) + 1) >> 16
        size = 1 + more % 16
        kind = how % 6
        if kind == 0:
            content = content[:at] + bytes([content[at] ^ (1 + more % 255)]) + content[at + 1 :] if at < len(content) else content  # fmt: skip  # noqa: E501
        elif kind == 1:
            content = content[:at] + content[at + size :]
        elif kind == 2:
            content = content[:at] + BYTES[more % len(BYTES)] + content[at:]
        elif kind == 3:
            content = content[:at]
        elif kind == 4:
            content = content[: at + 8 * size] + content[at : at + 8 * size] * (1 + more % 3) + content[at + 8 * size :]
        else:
            over = BYTES[more % len(BYTES)]
            content = content[:at] + over + content[at + len(over) :]
    return content


TOKEN = re.compile(r"[^\s,;:<>\"'|/]+")


def struck_text(content: bytes, blows: list[Strike]) -> bytes:
    """Lines and words swapped, dropped, doubled, replaced; whole columns, too; now and then plain bytes."""
    for how, place, more in blows:
        kind = how % 12
        if kind == 11:
            content = struck_bytes(content, [(how // 12, place, more)])
            continue
        text = content.decode("utf-8", "surrogateescape")
        lines = text.split("\n")
        at, other = place * len(lines) >> 16, more % len(lines)
        word = WORDS[more % len(WORDS)]
        if kind <= 2 and (found := list(TOKEN.finditer(text))):
            token = found[place * len(found) >> 16]
            text = text[: token.start()] + word + text[token.end() :]
        elif kind == 3:
            lines[at], lines[other] = lines[other], lines[at]
            text = "\n".join(lines)
        elif kind == 4:
            text = "\n".join(lines[:at] + lines[at + 1 + more % 3 :])
        elif kind == 5:
            text = "\n".join(lines[:at] + [lines[at]] * (1 + more % 3) + lines[at:])
        elif kind == 6:
            text = "\n".join([lines[0], *lines[:0:-1]])
        elif kind == 7:
            text = "\n".join(["", *lines[1:]] if more % 2 else lines[1:])
        elif kind == 8:
            lines[at] += word if more % 2 else "," + word
            text = "\n".join(lines)
        else:  # a column of all rows but the first, or of the first, too
            rows = [line.split(",") for line in lines]
            column = place * len(rows[0]) >> 16
            for row in rows[(kind == 9) * (1 - more // 64 % 2) :]:
                if column < len(row):
                    row[column : column + 1] = [] if kind == 10 else [word]
            text = "\n".join(",".join(row) for row in rows)
        content = text.encode("utf-8", "surrogateescape")
    return content


def struck_value(value: Any, blows: list[Strike]) -> Any:
    """Nested lists and dicts in which an element is replaced, dropped, doubled, renamed or put elsewhere."""
    for how, place, more in blows:
        value = _struck(value, how, place, more)
    return value


def _struck(value: Any, how: int, place: int, more: int) -> Any:
    inner = isinstance(value, list | tuple | dict) and len(value) > 0
    if not inner or how % 8 == 7:
        return VALUES[more % len(VALUES)]
    kind, deeper = how % 8, how // 8 + 3  # nested ones are struck by the other digits
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    at = keys[place % len(keys)]
    made = dict(value) if isinstance(value, dict) else list(value)
    if kind <= 3:
        made[at] = _struck(made[at], deeper, place // len(keys) + 7 * more % 11, more)
    elif kind == 4:
        del made[at]
    elif kind == 5 and isinstance(made, list):
        made.insert(at, made[more % len(made)])
    elif kind == 5:
        made[("word", 3, None, "seeds")[more % 4]] = made[at]
    else:
        made[at], made[keys[more % len(keys)]] = made[keys[more % len(keys)]], made[at]
    return tuple(made) if isinstance(value, tuple) else made


# ---- answers


@contextmanager
def bounded() -> Iterator[None]:
    """More memory than a small file can need is a MemoryError, more time an AssertionError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (LARGEST_MB << 20)
    before = resource.getrlimit(resource.RLIMIT_AS)

    def stop(number: int, frame: Any) -> None:
        raise AssertionError(f"the reader hangs: more than {LONGEST_S} s of CPU time")

    old = signal.signal(signal.SIGVTALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, old)
        resource.setrlimit(resource.RLIMIT_AS, before)


def answer(read: Callable[[], Any], names: str | None, sane: Callable[[Any], None]) -> str:
    """Read, and say ``read`` or the documented error's message; everything else is raised."""
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_S)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = read()
            sane(found)
    except PipelineError as error:
        message = str(error)
        assert message.strip() and "Traceback" not in message, f"no message: {message!r}"
        assert len(message) <= LONGEST_MESSAGE, f"a message of {len(message)} characters: {message[:500]}"
        assert names is None or names in message, f"the message doesn't name {names}: {message}"
        return message
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return "read"


def _fuzz(damage: Callable[[list[Strike]], Any], tell: Callable[[], str], of: int) -> None:
    damage([])
    whole = tell()
    assert whole == "read", f"the undamaged file is refused: {whole}"
    refused = 0

    @settings(
        max_examples=EXAMPLES // of,
        derandomize=not LONG,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(strikes)
    def try_one(blows: list[Strike]) -> None:
        nonlocal refused
        damage(blows)
        refused += tell() != "read"

    try_one()
    assert refused or EXAMPLES // of < 30, "no damage was ever noticed"


def fuzz(
    damage: Callable[[list[Strike]], Any],
    read: Callable[[], Any],
    names: str | None = None,
    sane: Callable[[Any], None] = lambda found: None,
    of: int = 1,
) -> None:
    """Whatever ``damage`` makes of the strikes, ``read`` gives a ``sane`` value or a documented error.

    Parameters
    ----------
    damage: writes the file with these strikes (none: undamaged).
    names: what every message must contain.
    of: forms of the same reader, which share the number of files.
    """
    with bounded():
        _fuzz(damage, lambda: answer(read, names, sane), of)


class Crash(AssertionError):
    """A library in C ended the process."""


def fuzz_apart(
    damage: Callable[[list[Strike]], Any],
    read: Callable[[], Any],
    names: str | None = None,
    sane: Callable[[Any], None] = lambda found: None,
    of: int = 1,
) -> None:
    """The same in another process, for formats that a library in C reads: a crash of it is a failure like others.

    Not so an endless loop of libhdf5 on a damaged NetCDF file, which no reader can prevent short of another process.
    """
    fork = multiprocessing.get_context("fork")
    held: list[Any] = []

    def serve(pipe: Any) -> None:
        os.setsid()
        with bounded():
            signal.signal(signal.SIGVTALRM, signal.SIG_DFL)  # ends loops of a library in C, too
            while pipe.recv():
                try:
                    told = answer(read, names, sane)
                except BaseException:
                    told = "leaked:" + traceback.format_exc()
                pipe.send(told)
        os._exit(0)

    def tell() -> str:
        if not held:
            here, there = fork.Pipe()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                process = fork.Process(target=serve, args=(there,), daemon=True)
                process.start()
            there.close()
            held[:] = [process, here]
        process, here = held
        here.send(True)
        try:
            if not here.poll(120 * LONGEST_S):
                process.kill()
                held.clear()
                raise AssertionError("the reader hangs in a library")
            told = here.recv()
        except (EOFError, ConnectionResetError):
            process.join()
            held.clear()
            if process.exitcode == -signal.SIGVTALRM and str(names).endswith(".nc"):
                return "HDF5 hangs"  # known: libhdf5 loops for ever on a damaged global heap (H5HG deserialize)
            raise Crash(f"the process ended with {process.exitcode}") from None
        assert not told.startswith("leaked:"), told
        return told

    try:
        _fuzz(damage, tell, of)
    finally:
        if held:
            with suppress(OSError):
                held[1].send(False)
            held[0].join(5)
            held[0].kill()


def file_of(
    path: Path, content: bytes, strike: Callable[[bytes, list[Strike]], bytes]
) -> Callable[[list[Strike]], None]:
    """Damage of one file whose undamaged bytes are known; each time a new file, for libraries keep what they opened."""

    def write(blows: list[Strike]) -> None:
        path.unlink(missing_ok=True)
        path.write_bytes(strike(content, blows))

    return write


def struck_dataset(data: Any, blows: list[Strike]) -> Any:
    """An xarray Dataset with variables, dimensions, coordinates, types, attributes or values other than they should be.

    A strike that xarray itself refuses does nothing.
    """
    for blow in blows:
        with suppress(Exception):
            data = _struck_dataset(data, *blow)
    return data


def _struck_dataset(data: Any, how: int, place: int, more: int) -> Any:
    names, dims, kind = list(map(str, data.variables)), list(map(str, data.dims)), how % 12
    name, dim = names[place % len(names)], dims[more % len(dims)]
    found = data.variables[name]
    if kind == 0:
        return data.drop_vars(name)
    if kind == 1:
        return data.rename({name: ("value", "x", "Time")[more % 3] + name[:1]})
    if kind in (2, 3, 4):
        part = {2: slice(0, place % 3), 3: slice(None, None, -1), 4: place % max(1, data.sizes[dim])}[kind]
        return data.isel({dim: part})
    if kind == 5:
        return data.expand_dims({"extra": 1 + more % 3})
    if kind == 6:
        return data.transpose(*dims[::-1])
    if kind == 7:
        wanted = ("str", "bool", "i1", "f4", "M8[ns]", "m8[ns]", "u8")[more % 7]
        return data.assign({name: (found.dims, found.values.astype(wanted), found.attrs)})
    data = data.copy()
    if kind == 8:
        data[name].attrs = {} if more % 2 else {"units": WORDS[more % len(WORDS)].replace("\x00", "")}
    elif kind == 9:
        key = list(data.attrs)[place % len(data.attrs)]
        data.attrs[key] = ("word", -1, 1e300, "", float("nan"), 99, [1, 2])[more % 7]
        if more % 3 == 0:
            del data.attrs[key]
    else:
        values = found.values.copy().ravel()
        word = VALUES[more % len(VALUES)] if values.dtype.kind in "fiub" else values[place % values.size]
        values[slice(None) if kind == 10 else more % values.size] = word
        data = data.assign({name: (found.dims, values.reshape(found.shape), found.attrs)})
    return data


def written(data: Any, path: Path) -> None:
    """As NetCDF, where it can be; else what was there stays."""
    part = path.with_suffix(".part")
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        data.to_netcdf(part, engine="netcdf4")
        part.replace(path)


def stored(data: Any, path: Path) -> None:
    """As Zarr, where it can be; else what was there stays."""
    part = path.with_suffix(".part")
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        shutil.rmtree(part, ignore_errors=True)
        data.to_zarr(part, mode="w", zarr_format=3, consolidated=False)
        shutil.rmtree(path, ignore_errors=True)
        part.replace(path)


def store_of(path: Path) -> Callable[[list[Strike]], None]:
    """Damage of a Zarr store as it stands: bytes of one of its files, or the whole file gone."""
    content = {file.relative_to(path): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}

    def write(blows: list[Strike]) -> None:
        chosen = sorted(content)[blows[0][2] % len(content)] if blows else None
        shutil.rmtree(path)
        for name, held in content.items():
            if name == chosen and blows[0][0] % 8 == 7:
                continue
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(struck_bytes(held, blows) if name == chosen else held)

    return write
