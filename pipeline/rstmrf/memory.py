"""How much memory a training needs: estimated before it starts, watched while it runs, measured tensor by tensor."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..core.errors import PipelineError
from .settings import Learn

MB = 2**20
# Measured: 314 MB after the imports, peaks of 450 and 712 MB when the problem of 24 and 72 h of 1-degree maps is made.
BASE_MB = 325.0  # interpreter, torch and the libraries that read a world
PROBLEM_MB_AN_HOUR = 5.5  # 1-degree maps, their slopes, and both in double precision while they are taken
WORLD_MB_AN_HOUR = 0.6  # the maps and their errors alone
PASSING_MB = 130.0  # at most, of a ConvLSTM: buffers of convolutions and of the backward pass; measured: 34 to 113
LEVEL_KB, DRAW_KB = 10.0, 0.5  # of an observation in the analysis of fields, and each draw's; measured with 16 draws
TEC_VALUES_AN_HOUR = 280  # of maps thinned to 10 x 15 degrees
ADVICE = "train.batch 512, network.history 4, network.tec_factor 6, network.checkpointing true, train.time_bin 1"
ADVICE_ANALYSIS = "fields.draws 8, assimilation.tec false, a shorter period"


def resident_mb() -> float:
    """Memory that the process holds now."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / MB
    except OSError:
        import psutil

        return psutil.Process().memory_info().rss / MB


class Monitor:
    """Memory of a training: ``now`` for the run's history, ``peak`` since it was made.

    On CUDA it is what torch has allocated; else the resident set, sampled by a thread, because the peak lies inside
    a step.
    """

    def __init__(self, device: str = "cpu", every_s: float = 0.02):
        self.cuda = device.startswith("cuda")
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            return
        self._peak, self._stop = resident_mb(), threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(every_s,), daemon=True)
        self._thread.start()

    def _watch(self, every_s: float) -> None:
        while not self._stop.wait(every_s):
            self._peak = max(self._peak, resident_mb())

    def now(self) -> float:
        return torch.cuda.memory_allocated() / MB if self.cuda else resident_mb()

    def peak(self) -> float:
        """Highest value in MB; ends the watch."""
        if self.cuda:
            return torch.cuda.max_memory_allocated() / MB
        self._stop.set()
        self._thread.join()
        return max(self._peak, resident_mb())


def grid_nodes(settings: Learn) -> tuple[int, int]:
    """Rows and columns of the ConvLSTM's maps."""
    network = settings.network
    extra = 1 if network.padding == "zeros" else 0
    return 180 // network.tec_factor + extra, 360 // network.tec_factor + extra


def tensor_table(settings: Learn, windows: int) -> dict[str, dict[str, Any]]:
    """The seed's memory table, tensor by tensor: name -> shape and bytes, for a batch with ``windows`` time windows.

    ``direction_copied`` is what a copy a point would take; it is never made here.
    """
    network, batch = settings.network, settings.train.batch
    rows, columns = grid_nodes(settings)
    steps, channels = network.map_history, network.tec_features
    small = 2 if settings.train.precision == "bfloat16" else 4
    shapes: dict[str, tuple[tuple[int, ...], int]] = {
        "coords": ((batch, 4), 4),
        "sw_seq": ((windows, network.history, len(network.drivers)), 4),
        "sw_seq_copied": ((batch, network.history, len(network.drivers)), 4),
        "unique_tec_map_seq": ((windows, steps, 1, rows, columns), 4),
        "F_tec_unique": ((windows, channels, rows, columns), small),
        "tec_grad_direction": ((windows, 2, rows, columns), small),
        "direction_copied": ((batch, 2, rows, columns), 4),
        "h_spatial": ((batch, network.basis), small),
        "h_temporal": ((batch, network.basis), small),
    }
    return {name: {"shape": list(shape), "bytes": _count(shape) * size} for name, (shape, size) in shapes.items()}


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def windows_of(settings: Learn, hours: float = 72.0) -> int:
    """Hourly windows that a batch meets: as many as its span of hours touches."""
    return int(min(settings.train.time_bin, hours)) + 1


def estimate_mb(settings: Learn, parameters: int, hours: float = 72.0) -> dict[str, float]:
    """Expected memory of one training step in MB: weights with moments, activations kept for the backward pass, and
    the total of a process that trains on one world: that, what passes, program and data.

    The ConvLSTM keeps about 15 maps a channel and step: the convolution's input, the gates before and after their
    bends, and the products of the cell. The point branches keep about twice their widths, several times as much where
    derivatives are learnt from.
    """
    network, losses = settings.network, settings.losses
    rows, columns = grid_nodes(settings)
    steps = network.map_history
    learned = losses.direction > 0 and losses.direction_target == "learned"
    conv = 0.0
    if network.conv_layers and (network.film or network.supervised or learned):
        kept = steps if not network.checkpointing else 1
        conv = windows_of(settings, hours) * network.tec_features * rows * columns * 4 * 15.0
        conv *= network.conv_layers * (kept if not network.checkpointing else 1 + steps * 3 / 15.0)
    width = 2 * (network.layers + 2) * network.hidden + 2 * network.basis + 192
    physics = losses.chapman > 0 or losses.direction > 0
    order = (6 if losses.chapman > 0 else 4) if physics else 1
    points = settings.train.batch
    if physics and losses.volume_points:
        branches = points + order * losses.volume_points
    else:
        branches = points * order
    point = branches * width * 4 * 2.0
    state = parameters * 4 * 4.0
    whole = (conv + point + state) / MB  # autocast keeps less, and passes through as much as single precision
    passing = min(PASSING_MB, 2 * conv / MB)
    if settings.train.precision == "bfloat16":
        conv, point = 0.6 * conv, 0.7 * point
    parts = {"state_mb": state / MB, "conv_lstm_mb": conv / MB, "branches_mb": point / MB}
    base = BASE_MB + PROBLEM_MB_AN_HOUR * hours
    return {**parts, "step_mb": sum(parts.values()), "base_mb": base, "total_mb": base + whole + passing}


def estimate_analysis_mb(settings: Learn, levels: int, hours: float, tec: bool) -> dict[str, float]:
    """Expected memory of an analysis of fields in MB: what it holds of ``levels`` of profiles and of the hourly TEC
    maps, and the total of the process."""
    draws = DRAW_KB * settings.fields.draws
    parts = {"profiles_mb": levels * (LEVEL_KB + draws) / 1024}
    parts["tec_mb"] = TEC_VALUES_AN_HOUR * hours * draws / 1024 if tec and settings.assimilation.tec else 0.0
    base = BASE_MB + WORLD_MB_AN_HOUR * hours
    return {**parts, "base_mb": base, "total_mb": base + sum(parts.values())}


def available_mb(device: str = "cpu") -> float:
    """Memory that a run may use now: the GPU's free memory, or what the system and its control group leave."""
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info()[0] / MB
    import psutil

    free = psutil.virtual_memory().available / MB
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        return free if limit == "max" else min(free, (int(limit) - used) / MB)
    except (OSError, ValueError):
        return free


def check_fits(settings: Learn, parameters: int, hours: float, device: str = "cpu") -> dict[str, float]:
    """The estimate; an error before the start where it exceeds what may be used.

    Raises
    ------
    PipelineError
        Naming the need, the limit and the settings that lower the need.
    """
    found = estimate_mb(settings, parameters, hours)
    _within(
        "training", found, ("conv_lstm_mb", "branches_mb"), settings.train.memory_mb or available_mb(device), ADVICE
    )
    return found


def check_analysis_fits(settings: Learn, levels: int, hours: float, tec: bool) -> dict[str, float]:
    """As :func:`check_fits`, for an analysis of fields (``assimilate``, ``reconstruct``)."""
    found = estimate_analysis_mb(settings, levels, hours, tec)
    _within("analysis", found, ("profiles_mb", "tec_mb"), settings.train.memory_mb or available_mb(), ADVICE_ANALYSIS)
    return found


def _within(what: str, found: dict[str, float], parts: tuple[str, ...], limit: float, advice: str) -> None:
    if found["total_mb"] <= limit:
        return
    biggest = max((*parts, "base_mb"), key=lambda name: found[name])
    name = {"base_mb": "program and data"}.get(biggest, biggest.removesuffix("_mb"))
    raise PipelineError(
        f"this {what} needs about {found['total_mb']:,.0f} MB, most of it {name} ({found[biggest]:,.0f} MB), and "
        f"{limit:,.0f} MB may be used; lower it with some of: {advice}"
    )


def saved_bytes(step: Callable[[], torch.Tensor]) -> int:
    """Bytes that autograd keeps for the backward pass of ``step()``, each storage once (parameters included)."""
    seen: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = step()
    total = sum(seen.values())
    del loss
    return total
