"""Small files that must never be half written, and digests of what a job read."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from .errors import DataError


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON under a temporary name and move it into place. NaN and infinity are refused (``ValueError``)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        part.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_json(path: Path | str) -> Any:
    """Read JSON; a damaged file is a ``DataError`` that names it."""
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read as JSON ({error}); delete it, and the next run writes it anew") from None


def open_zarr(path: Path | str, group: str | None = None) -> Any:
    """Open a Zarr store as a lazy xarray Dataset; Snakemake's time stamp inside it is passed over in silence."""
    import warnings

    import xarray as xr

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*snakemake_timestamp.*")
        return xr.open_zarr(path, group=group, consolidated=False, chunks=None)


def digest(path: Path | str) -> str:
    """SHA-256 of a file, or of a folder's relative names and contents in sorted order (a Zarr store)."""
    path = Path(path)
    total = hashlib.sha256()
    inside = (p for p in path.rglob("*") if p.is_file() and p.name != ".snakemake_timestamp")
    for file in sorted(inside) if path.is_dir() else [path]:
        if file is not path:
            total.update(f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                total.update(chunk)
    return total.hexdigest()
