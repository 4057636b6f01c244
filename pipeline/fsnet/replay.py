"""Experience replay: a reservoir of past windows for every replica (Chaudhry et al. 2019; DER++: Buzzega et al. 2020).

Reservoir sampling keeps each of the n windows seen so far with the same probability capacity / n.  Each replica
draws from its own counter-based stream, so what it keeps and draws depends on its seed and the counts alone, and the
counts are the only random state there is to store.
"""

from __future__ import annotations

import torch

from pipeline.core.errors import ConfigError
from pipeline.fsnet.model import random_stream


class Replay:
    """windows [R, capacity, T, C], labels and outputs [R, capacity, HC], counts seen and drawn.

    `outputs` holds the forecasts made when a window was added (DER++), zeros where none were given.
    """

    def __init__(
        self,
        seeds: list[int],
        window: int,
        inputs: int,
        outputs: int,
        capacity: int = 500,
        device="cpu",
        dtype=torch.float32,
    ) -> None:
        if capacity < 1:
            raise ConfigError(f"fsnet replay: capacity is {capacity}; it must be at least 1 window")
        self.seeds, self.capacity = list(seeds), capacity
        self.shape = {"window": window, "inputs": inputs, "outputs": outputs, "capacity": capacity}
        r, options = len(seeds), {"device": device, "dtype": dtype}
        self.tensors = {
            "windows": torch.zeros(r, capacity, window, inputs, **options),
            "labels": torch.zeros(r, capacity, outputs, **options),
            "outputs": torch.zeros(r, capacity, outputs, **options),
            "seen": torch.zeros(1, dtype=torch.int64),
            "drawn": torch.zeros(1, dtype=torch.int64),
        }

    @property
    def seen(self) -> int:
        """Windows offered so far."""
        return int(self.tensors["seen"])

    @property
    def filled(self) -> int:
        """Windows held now."""
        return min(self.seen, self.capacity)

    def add(self, x: torch.Tensor, y: torch.Tensor, y_hat: torch.Tensor | None = None) -> None:
        """Offer one window to every replica: x [R or 1, T, C], y and y_hat [R or 1, HC]."""
        seen, t, r = self.seen, self.tensors, len(self.seeds)
        x, y = x.expand(r, -1, -1), y.expand(r, -1)
        for replica, seed in enumerate(self.seeds):
            slot = seen
            if seen >= self.capacity:
                slot = int(random_stream(seed, "reservoir", seen).integers(0, seen + 1))
            if slot < self.capacity:
                t["windows"][replica, slot] = x[replica]
                t["labels"][replica, slot] = y[replica]
                if y_hat is not None:
                    t["outputs"][replica, slot] = y_hat.expand(r, -1)[replica]
        t["seen"] += 1

    def sample(self, size: int):
        """Draw without replacement: windows [R, size, T, C], labels, outputs [R, size, HC] and how many are real.

        While fewer than `size` windows are held, the rows beyond the real ones are zeros: give them weight 0.
        """
        real = min(size, self.filled)
        t, r = self.tensors, len(self.seeds)
        step = int(t["drawn"])
        t["drawn"] += 1
        found = [self.tensors[k].new_zeros(r, size, *t[k].shape[2:]) for k in ("windows", "labels", "outputs")]
        if real:
            for replica, seed in enumerate(self.seeds):
                stream = random_stream(seed, "replay", step)
                index = torch.from_numpy(stream.choice(self.filled, real, replace=False)).to(t["windows"].device)
                for into, name in zip(found, ("windows", "labels", "outputs"), strict=True):
                    torch.index_select(t[name][replica], 0, index, out=into[replica, :real])
        return (*found, real)

    def clone(self) -> Replay:
        device, dtype = self.tensors["windows"].device, self.tensors["windows"].dtype
        other = Replay(self.seeds, device=device, dtype=dtype, **self.shape)
        for name, tensor in other.tensors.items():
            tensor.copy_(self.tensors[name])
        return other
