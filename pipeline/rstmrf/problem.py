"""A world as tensors: what the point network trains on and is asked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..core.errors import DataError
from . import iri
from .grid import Axes, interpolate_torch
from .inputs import bilinear
from .settings import Network
from .splits import kept_back
from .tec import gradient
from .windows import SlidingWindowBatchProcessor, resample, sample, seed_grid, sphere_grid
from .world import Points, World

ALTITUDES_KM = (120.0, 500.0)
SCALES = {"kp": (4.0, 2.5), "ap": (40.0, 60.0), "f107": (150.0, 60.0), "f107_81": (150.0, 60.0)}  # about zero and one
VALIDATION_SHARE = 0.08


@dataclass
class Problem:
    """Tensors of one world.

    Attributes
    ----------
    coords: [n, 4] lat, lon, km, h of the observations to learn from; residual: [n] log10 Ne minus background.
    weight: [n] one over the number of points of the profile. slope: [n, 3] background's d/dlat, d/dlon per degree
        and d2/dh2 per km^2. check: the same triple (coords, residual) of the profiles kept back to choose checkpoints.
    params, axes: background parameter maps. processor: windows. edges: outer nodes of its maps.
    anchor: [T, 2, lat, lon] finite-difference slope of ln TEC per km; anchor_edges: its outer nodes.
    """

    world: World
    network: Network
    coords: Tensor
    residual: Tensor
    weight: Tensor
    slope: Tensor
    check: tuple[Tensor, Tensor]
    params: Tensor
    axes: Axes
    processor: SlidingWindowBatchProcessor
    edges: tuple[float, float, float, float]
    anchor: Tensor
    anchor_edges: tuple[float, float, float, float]
    start_hour: float
    device: str = "cpu"

    def background(self, coords: Tensor) -> tuple[Tensor, Tensor]:
        """log10 Ne [B] of the background at coords [B, 4], and its peak height [B] in km."""
        lat, lon, alt, time = coords.unbind(1)
        params = interpolate_torch(self.params, self.axes, time, lat, lon)  # [B, P]
        return iri.log10_density_torch(params, alt), params[:, 1]

    def slopes(self, coords: Tensor) -> Tensor:
        """[B, 3] horizontal derivatives (per degree) and curvature (per km^2) of the background, as constants."""
        coords = coords.detach().requires_grad_()
        value, _ = self.background(coords)
        (first,) = torch.autograd.grad(value.sum(), coords, create_graph=True)
        (second,) = torch.autograd.grad(first[:, 2].sum(), coords)
        return torch.cat([first[:, :2], second[:, 2:3]], 1).detach()

    def slope_of_tec(self, coords: Tensor) -> Tensor:
        """[B, 2] slope of ln TEC per km (north, east) at coords [B, 4], in the map of each point's hour."""
        lat, lon, _, time = coords.detach().unbind(1)
        hours, index = torch.unique(time.floor().long().clamp(0, len(self.anchor) - 1), return_inverse=True)
        return sample(self.anchor[hours], index, lat, lon, self.anchor_edges)

    def qd(self) -> object:
        """Differentiable quasi-dipole latitude."""
        lat, lon = np.arange(-90, 91, 2.0), np.arange(-180, 180, 2.0)
        table = self.world.qd(*np.meshgrid(lat, lon, indexing="ij"))
        return bilinear(torch.as_tensor(table, dtype=torch.float32, device=self.device), -90.0, -180.0, 2.0)

    def volume(self, count: int, low_h: float, high_h: float, generator: torch.Generator) -> Tensor:
        """[count, 4] area-uniform random points between 120 and 500 km, in a span of hours."""
        u = torch.rand(4, count, generator=generator)
        lat = torch.rad2deg(torch.asin(2 * u[0] - 1))
        alt = ALTITUDES_KM[0] + (ALTITUDES_KM[1] - ALTITUDES_KM[0]) * u[2]
        return torch.stack([lat, 360 * u[1] - 180, alt, low_h + (high_h - low_h) * u[3]], 1).to(self.device)


def tensor_of(points: Points, device: str = "cpu") -> Tensor:
    """[n, 4] lat, lon, km, h in single precision."""
    values = np.stack([points.lat, points.lon, points.alt_km, points.time_h], 1)
    return torch.as_tensor(values, dtype=torch.float32, device=device)


def driver_table(world: World, names: list[str]) -> tuple[np.ndarray, int]:
    """Scaled hourly drivers [K, D] and the row of the period's first hour."""
    columns = np.stack([getattr(world.drivers, name) for name in names], 1)
    unknown = [name for name, column in zip(names, columns.T, strict=True) if not np.isfinite(column).all()]
    if unknown:
        raise DataError(
            f"world {world.name}: the space-weather record has no {', '.join(unknown)} for some of its hours (days not "
            "yet observed); take an earlier period or other network.drivers"
        )
    shift, size = np.array([SCALES[name] for name in names]).T
    return (columns - shift) / size, int(np.argmin(np.abs(world.drivers.time)))


def scaled_maps(world: World, network: Network) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """TEC maps as the ConvLSTM sees them, in standard units [T, lat, lon], and their outer nodes."""
    factor = network.tec_factor
    lat, lon = seed_grid(factor) if network.padding == "zeros" else sphere_grid(float(factor))
    maps = resample(world.tec, world.tec_lat, world.tec_lon, lat, lon)
    hours = np.arange(int(world.hours) + 1)
    nearest = np.abs(world.tec_time_h[None, :] - hours[:, None]).argmin(1)
    maps = (maps - maps.mean()) / maps.std()
    return maps[nearest], (lat[0], lat[-1], lon[0], lon[-1])


def begins(world: World) -> np.ndarray:
    """Day [n] of each observation, datetime64[D]."""
    stamps = np.datetime64(world.start, "s") + np.round(3600 * world.obs.time_h).astype("timedelta64[s]")
    return stamps.astype("datetime64[D]")


def make_problem(
    world: World, network: Network, device: str = "cpu", validation: Literal["profiles", "days"] = "profiles"
) -> Problem:
    """Tensors of a world for a network; observations of withheld profiles are never read.

    Parameters
    ----------
    validation: what is kept back as a whole to choose checkpoints, see :func:`.splits.kept_back`.

    Raises
    ------
    DataError
        A world without observations to learn from, with drivers that are too short or unknown.
    ConfigError
        Whole days are to be kept back of fewer than three.
    """
    start_hour = world.start.hour + world.start.minute / 60
    used = ~world.obs_withheld
    if not used.any():
        raise DataError(f"world {world.name} holds no profile to learn from")

    def tensor(values: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32, device=device)

    drivers, origin = driver_table(world, network.drivers)
    maps, edges = scaled_maps(world, network)
    processor = SlidingWindowBatchProcessor(tensor(maps), tensor(drivers), origin, network.history, network.map_history)
    slopes = gradient(world.tec, world.tec_lat, world.tec_lon)  # [2, T, lat, lon]
    hours = np.arange(len(maps))
    nearest = np.abs(world.tec_time_h[None, :] - hours[:, None]).argmin(1)
    wrapped = np.concatenate([slopes, slopes[..., :1]], -1)[:, nearest].transpose(1, 0, 2, 3)
    last = world.tec_lon[0] + 360
    coords = tensor_of(world.obs, device)
    empty = torch.empty(0, device=device)
    problem = Problem(
        world, network, coords, empty, empty, empty, (empty, empty), tensor(world.param), world.axes, processor, edges,
        tensor(wrapped), (world.tec_lat[0], world.tec_lat[-1], world.tec_lon[0], last), start_hour, device,
    )  # fmt: skip
    with torch.no_grad():
        residual = tensor(world.obs_log10_ne) - problem.background(coords)[0]
    checked = np.zeros(len(used), bool)
    days = begins(world)[used] if validation == "days" else None
    checked[used] = kept_back(world.obs_profile[used], VALIDATION_SHARE, days)
    learn = torch.as_tensor(used & ~checked)
    check = torch.as_tensor(checked)
    counts = np.bincount(np.unique(world.obs_profile, return_inverse=True)[1])
    weight = 1 / counts[np.unique(world.obs_profile, return_inverse=True)[1]]
    problem.check = (coords[check], residual[check])
    problem.coords, problem.residual = coords[learn], residual[learn]
    problem.weight = tensor(weight / weight.mean())[learn]
    problem.slope = torch.cat([problem.slopes(part) for part in problem.coords.split(8192)])
    return problem
