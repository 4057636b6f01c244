"""Checkpoints that an interrupted job goes on from: whole and its own, or not taken at all.

One file: the SHA-256 of what follows in 64 hexadecimal digits, a line feed, then what ``torch.save`` writes. The digest
tells a file cut short and a single flipped bit, which PyTorch would read as other weights without a word.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

_MARK = 64  # digits of the digest


def save(path: Path, fingerprint: str, content: dict[str, Any]) -> None:
    """Write a checkpoint under a temporary name and move it into place.

    Parameters
    ----------
    fingerprint: of settings, data and code, so that no other job goes on from it.
    content: tensors, numbers, strings, and lists and dictionaries of them.
    """
    import torch

    buffer = io.BytesIO()
    torch.save({"fingerprint": fingerprint, "content": content}, buffer)
    path = Path(path)
    part = path.with_name(f"{path.name}.part")  # begins as the checkpoint does: what a kill leaves is removed with it
    with part.open("wb") as file:
        file.write(hashlib.sha256(buffer.getbuffer()).hexdigest().encode() + b"\n")
        file.write(buffer.getbuffer())
    part.replace(path)


def load(path: Path, fingerprint: str, log: Any) -> dict[str, Any] | None:
    """What was saved under this fingerprint; None where there is nothing to go on from.

    A damaged checkpoint is told in the log and not taken: the job starts anew, and its next checkpoint takes the place.
    """
    import torch

    try:
        whole = Path(path).read_bytes()
        mark, rest = whole[:_MARK], memoryview(whole)[_MARK + 1 :]
        if hashlib.sha256(rest).hexdigest().encode() != mark:
            raise ValueError("it is not what was saved")
        saved = torch.load(io.BytesIO(rest), weights_only=True)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        log.info(f"the checkpoint {Path(path).name} is damaged ({error}): starting anew")
        return None
    return saved["content"] if saved["fingerprint"] == fingerprint else None
