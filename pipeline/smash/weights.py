"""Trained models on disk: one safetensors file an arm, tensors named ``<seed>/<parameter>``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from ..core.errors import DataError


def save(path: Path, states: dict[int, dict[str, Tensor]], attrs: dict[str, Any]) -> None:
    """Write the states of all seeds, and plain data that describe them."""
    from safetensors.torch import save_file

    tensors = {f"{seed}/{name}": t.detach().contiguous() for seed, one in states.items() for name, t in one.items()}
    save_file(tensors, str(path), metadata={"attrs": json.dumps(attrs)})


def load(path: Path) -> tuple[dict[int, dict[str, Tensor]], dict[str, Any]]:
    """States by seed, on the CPU, and what was stored with them.

    Raises
    ------
    DataError
        A file that is missing, damaged or not written by :func:`save`.
    """
    from safetensors import SafetensorError, safe_open

    states: dict[int, dict[str, Tensor]] = {}
    try:
        with safe_open(str(path), framework="pt") as file:
            attrs = json.loads((file.metadata() or {})["attrs"])
            for name in file.keys():  # noqa: SIM118 (no mapping)
                seed, parameter = name.split("/", 1)
                states.setdefault(int(seed), {})[parameter] = file.get_tensor(name)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise DataError(f"{path} holds no trained model of SMASH ({error}); train the arm again") from None
    return states, attrs
