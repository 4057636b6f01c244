"""Checkpoints of a training: what the seed's disk table is about (best only, interval, weights alone, compressed)."""

from __future__ import annotations

import zlib
from pathlib import Path

import torch
from torch import nn

from ..core.errors import DataError
from .settings import Saving


class Keeper:
    """Keeps checkpoints of one training in a folder, and the best state in memory.

    Weights are safetensors; with the optimizer's moments they are about three times as large. Compression is zlib over
    the finished file: random-looking mantissas compress by a tenth, not by the 30-50 % that the seed hopes for.

    Parameters
    ----------
    folder, stem: files are ``<stem>.safetensors`` (the best) and ``<stem>.step<k>.safetensors``.
    """

    def __init__(self, folder: Path, stem: str, saving: Saving):
        self.folder, self.stem, self.saving = Path(folder), stem, saving
        self.folder.mkdir(parents=True, exist_ok=True)
        self.best = float("inf")
        self._best: dict[str, torch.Tensor] = {}

    def offer(self, step: int, loss: float, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """A state with its validation loss (NaN: there is none, the latest state counts as the best)."""
        if not loss >= self.best:
            self.best = loss
            self._best = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
            save(self._path(None), self._content(model, optimizer), self.saving.compressed)
        if not self.saving.best_only:
            save(self._path(step), self._content(model, optimizer), self.saving.compressed)

    def best_state(self) -> dict[str, torch.Tensor]:
        return self._best

    def bytes(self) -> int:
        """Bytes on disk of this training's checkpoints."""
        return sum(path.stat().st_size for path in self.folder.glob(f"{self.stem}.*"))

    def _path(self, step: int | None) -> Path:
        name = f"{self.stem}.safetensors" if step is None else f"{self.stem}.step{step}.safetensors"
        return self.folder / (f"{name}.z" if self.saving.compressed else name)

    def _content(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
        content = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        if not self.saving.weights_only:
            for place, state in optimizer.state_dict()["state"].items():
                for name in ("exp_avg", "exp_avg_sq"):
                    if name in state:
                        content[f"optimizer.{place}.{name}"] = state[name].detach().cpu().contiguous()
        return content


def save(path: Path, content: dict[str, torch.Tensor], compressed: bool = False) -> None:
    """Write tensors as safetensors, under a temporary name first."""
    from safetensors.torch import save as to_bytes

    raw = to_bytes(content)
    part = path.with_name(f".part-{path.name}")
    part.write_bytes(zlib.compress(raw) if compressed else raw)
    part.replace(path)


def load(folder: Path, stem: str) -> dict[str, torch.Tensor]:
    """The best weights of a training, compressed or not, without optimizer state.

    Raises
    ------
    DataError
        No such checkpoint, or a damaged one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    plain, packed = Path(folder) / f"{stem}.safetensors", Path(folder) / f"{stem}.safetensors.z"
    try:
        raw = plain.read_bytes() if plain.exists() else zlib.decompress(packed.read_bytes())
        content = from_bytes(raw)
    except (OSError, zlib.error, SafetensorError) as error:
        raise DataError(f"{plain}: no readable checkpoint ({error}); train the arm again") from None
    return {name: value for name, value in content.items() if not name.startswith("optimizer.")}
