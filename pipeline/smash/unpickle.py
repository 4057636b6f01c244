"""Pickles of plain values only: an unpickler that refuses every class, so that a file can't run code."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, NoReturn

from ..core import unpickling
from ..core.errors import DataError, first_line

LARGEST = 2 << 30  # bytes


class Refused(pickle.UnpicklingError):
    """The pickle asks for a class, a function or an outside object."""


class Plain(pickle.Unpickler):
    """Numbers, strings, bytes, lists, tuples, dicts and sets; nothing that has to be imported."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise Refused(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise Refused("an object outside the file")


def load(path: Path | str) -> Any:
    """Read a pickle that holds plain values.

    Raises
    ------
    DataError
        The file is missing, truncated, no pickle, larger than 2 GiB, or asks for any class.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise DataError(f"{path} has {size:,} bytes; at most {LARGEST:,} are read as a pickle")
        content = path.read_bytes()
        unpickling.check(content)
        return Plain(io.BytesIO(content), encoding="latin1").load()  # pickles of Python 2 hold byte strings
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except Refused as error:
        raise DataError(
            f"{path} asks for {error}, and a pickle that imports anything could run any code, so it is refused. Only "
            "numbers, strings, lists and dicts are read: write arrays as lists (array.tolist()) and save again."
        ) from None
    except DataError:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything
        raise DataError(
            f"{path} can't be read as a pickle: truncated, damaged, or no pickle at all ({first_line(error)})"
        ) from None


def dump(value: Any, path: Path | str) -> None:
    """Write plain values (protocol 4, which every Python since 3.4 reads)."""
    with Path(path).open("wb") as stream:
        pickle.dump(value, stream, protocol=4)
