"""Mixed precision, in one place: products in bfloat16 where a setting asks for it, weights in single precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16"]


def mixed(precision: Precision, device: str) -> torch.autocast:
    """A context for a forward pass: PyTorch's autocast to bfloat16 on the device, or nothing for ``float32``."""
    import torch

    return torch.autocast(device.split(":")[0], torch.bfloat16, enabled=precision == "bfloat16")
