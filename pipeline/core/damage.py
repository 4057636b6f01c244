"""Files that are not what they were, and folders that take no more: found early, and told as one clear message."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

from .errors import DataError, PipelineError
from .store import digest, read_json

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SHUT = {errno.EROFS, errno.EACCES, errno.EPERM}


def checked(path: Path) -> str:
    """The digest of a job's input, which is what the stage that made it has recorded.

    A file that differs (a chunk gone bad, a copy cut short, an edit by hand) is set aside as ``.damaged-<name>``: the
    next call of the workflow misses it and makes it anew. Files that no record beside them tells of are taken as they
    are.

    Raises
    ------
    DataError
        The input is gone, can't be read, or isn't what its stage wrote.
    """
    path = Path(path)
    try:
        found = digest(path)
    except FileNotFoundError:
        raise DataError(
            f"{path} is gone since the workflow began; run the same command again, and it is made anew"
        ) from None
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}") from None
    written = _recorded(path)
    if written is None or written == found:
        return found
    aside = path.with_name(f".damaged-{path.name}")
    if aside.is_dir():
        shutil.rmtree(aside)
    os.replace(path, aside)
    raise DataError(
        f"{path} is not what its stage wrote (damaged, or changed by hand); it is set aside as {aside.name}. "
        "Run the same command again, and it is made anew"
    )


def _recorded(path: Path) -> str | None:
    """The digest that a record beside a file has of it; None where there is none."""
    for record in sorted(path.parent.glob("*.run.json")):
        try:
            digests = read_json(record).get("digests") or {}
        except DataError:
            continue
        for output, written in digests.items():
            if os.path.normpath(record.parent / output) == os.path.normpath(path):
                return written
    return None


def unwritable(error: BaseException, folder: Path) -> PipelineError | None:
    """What to tell where the disk is full or the folder can't be written to; None where the error is another one."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    again = "then run the same command again: it goes on where it stopped"
    for one in chain:
        # Libraries in other languages pass the system's error on as text, and numpy says how much it could write.
        code = getattr(one, "errno", None) or int((re.findall(r"os error (\d+)", str(one)) or [0])[0])
        if isinstance(one, OSError) and re.search(r"\d+ requested and \d+ written", str(one)):
            code = errno.ENOSPC
        where = getattr(one, "filename", None) or folder
        if code in _FULL:
            return PipelineError(
                f"{where} can't be written: {os.strerror(code)}. {_room(folder)}Free some space, {again}"
            )
        if code in _SHUT and (not isinstance(one, OSError) or not os.access(folder, os.W_OK) or code == errno.EROFS):
            return PipelineError(f"{where} can't be written: {os.strerror(code)}. Make the folder writable, {again}")
    return None


def _room(folder: Path) -> str:
    """How much is free where a folder is, or would be."""
    while not folder.exists():
        folder = folder.parent
    return f"{shutil.disk_usage(folder).free / 2**20:,.0f} MB are free there. "
