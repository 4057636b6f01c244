"""Reading a pickled adjacency without running anything that the file asks for.

A pickle may name any function and have it called on loading. This reader knows plain containers and numbers, and of
numpy exactly what rebuilds an array of numbers; every other name is refused before anything of it is imported.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ..core import unpickling
from ..core.errors import DataError, first_line

MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")


def _reconstruct(kind: Any, shape: Any, code: Any) -> np.ndarray:
    """The empty array that a pickled state is then put into; of numpy's own arrays only."""
    if kind is not np.ndarray:
        raise pickle.UnpicklingError("it rebuilds something else than a numpy array")
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _dtype(*arguments: Any) -> np.dtype:
    """A dtype of numbers; object arrays could hold anything."""
    found = np.dtype(*arguments)
    if found.kind not in "biuf":
        raise pickle.UnpicklingError(f"it holds an array of dtype {found}")
    return found


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How Python 3 writes bytes into old protocols."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("it encodes something else than text")
    return text.encode("latin1")


def _frombuffer(content: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    """How protocol 5 writes an array."""
    return np.frombuffer(content, dtype=dtype).reshape(shape, order=order)


ALLOWED: dict[tuple[str, str], Any] = {(module, "_reconstruct"): _reconstruct for module in MODULES} | {
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
}


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def load(path: Path | str) -> Any:
    """What a pickle of plain containers and numeric numpy arrays holds (Python 2 pickles too: latin-1 strings).

    Raises
    ------
    DataError
        A file that can't be read, or that asks for anything else.
    """
    try:
        content = Path(path).read_bytes()
        unpickling.check(content)
        return _Plain(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise DataError(
            f"{path} is not a plain pickle of containers and numeric arrays: {first_line(error)}. Nothing in it was "
            "run; give the graph as a CSV of edges (source,target,weight) instead"
        ) from None


def adjacency(path: Path | str) -> tuple[list[str], np.ndarray]:
    """Sensor names [N] and weights [N, N] of a pickle ``[ids, id -> index, matrix]`` (the form of DCRNN's adj_mx.pkl).

    Raises
    ------
    DataError
        Another content.
    """
    content = load(path)
    try:
        names, index, matrix = content
        names = [str(name) for name in names]
        square = matrix.ndim == 2 and matrix.shape == (len(names),) * 2
        fits = square and {str(k): int(v) for k, v in index.items()} == {n: i for i, n in enumerate(names)}
    except (TypeError, ValueError, AttributeError, OverflowError):
        fits = False
    if not fits:
        raise DataError(f"{path} must hold [sensor ids, id -> index, square matrix of weights]")
    matrix = np.asarray(matrix, np.float64)
    if not np.isfinite(matrix).all() or (matrix < 0).any():
        raise DataError(f"{path}: weights must be finite and not negative")
    return names, matrix
