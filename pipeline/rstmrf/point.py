"""Training and answers of the point network (arms `seed`, `corrected` and their variants)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.precision import mixed
from . import losses as terms
from .checkpoints import Keeper
from .conv_lstm import next_map_loss
from .direction import direction_loss, gate, per_km
from .jets import altitude_jet
from .memory import Monitor
from .problem import Problem, tensor_of
from .seed_net import ResidualNet
from .settings import Learn, Losses
from .tec import KM_PER_DEGREE
from .windows import Batch, sample
from .world import Points


@dataclass
class Trained:
    """A trained network with what its training was like: losses by name at each look, seconds, peak memory."""

    model: ResidualNet
    history: list[dict[str, float]] = field(default_factory=list)
    seconds_per_step: float = 0.0
    peak_mb: float = 0.0
    best: float = float("nan")
    checkpoint_bytes: int = 0


class Objective:
    """The weighted sum of an arm's losses on one batch.

    Terms of weight zero are not computed; derivatives are taken only on steps that use them.
    """

    def __init__(self, problem: Problem, model: ResidualNet, settings: Losses, generator: torch.Generator):
        self.problem, self.model, self.settings, self.generator = problem, model, settings, generator

    def __call__(self, step: int, rows: Tensor, hours: tuple[float, float]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss on observations ``rows`` of a span of hours; and its parts by name."""
        problem, settings, model = self.problem, self.settings, self.model
        physics = step % settings.every == 0 and (settings.chapman > 0 or settings.direction > 0)
        at_observations = physics and settings.volume_points == 0
        coords = problem.coords[rows].requires_grad_(at_observations)
        batch = problem.processor(coords, problem.residual[rows])
        features = self._features(batch, physics)
        residual, second = self._field(batch, features, at_observations)
        weight = problem.weight[rows] if settings.by_profile else None
        parts = {"data": terms.data_loss(residual, batch.target, weight, settings.huber)}
        if physics and not at_observations:
            where = problem.volume(settings.volume_points, *hours, self.generator)
            extra = problem.processor(where.requires_grad_())
            extra_features = self._features(extra, True)
            value, second = self._field(extra, extra_features, True)
            parts |= self._physics(value, second, extra, extra_features, problem.slopes(where))
            if settings.background:
                parts["background"] = value.square().mean()
        elif physics:
            parts |= self._physics(residual, second, batch, features, problem.slope[rows])
        if settings.background and "background" not in parts:
            where = problem.processor(problem.volume(max(settings.volume_points, 512), *hours, self.generator))
            value = model.of_batch(where, self._features(where, False), problem.edges)
            parts["background"] = value.square().mean()
        if hasattr(model, "next_map") and settings.next_map:
            parts["next_map"] = next_map_loss(model.next_map, features, batch.following)
        return sum(getattr(settings, name) * value for name, value in parts.items()), parts

    def _features(self, batch: Batch, physics: bool) -> Tensor | None:
        """TEC features where something reads them."""
        network, settings = self.model.network, self.settings
        learned = physics and settings.direction > 0 and settings.direction_target == "learned"
        return self.model.features(batch.maps) if network.film or network.supervised or learned else None

    def _field(self, batch: Batch, features: Tensor | None, physics: bool) -> tuple[Tensor, Tensor | None]:
        """Residual, and its second altitude derivative where that alone is asked for (then it comes by itself)."""
        mixed = torch.is_autocast_enabled(self.problem.device.split(":")[0])
        if physics and not self.settings.direction and not mixed:
            return altitude_jet(self.model, batch, features, self.problem.edges)
        return self.model.of_batch(batch, features, self.problem.edges), None

    def _physics(
        self, residual: Tensor, second: Tensor | None, batch: Batch, features: Tensor | None, slope: Tensor
    ) -> dict[str, Tensor]:
        settings, problem = self.settings, self.problem
        if second is None:
            first, second = terms.derivatives(residual, batch.coords, second=settings.chapman > 0)
        parts = {}
        if settings.chapman > 0:
            of_field = settings.chapman_of == "field"
            parts["chapman"] = terms.chapman_seed(second + slope[:, 2]) if of_field else terms.curvature(second)
        if settings.direction > 0:
            lat, lon, alt, _ = batch.coords.detach().unbind(1)
            gradient = first[:, :2] + slope[:, :2]
            anchored = settings.direction_target == "anchored"
            slope_of_tec = problem.slope_of_tec(batch.coords) if anchored or settings.direction_gate else None
            target = slope_of_tec
            if not anchored:
                features = features.detach() if self.model.network.supervised else features
                target = sample(self.model.directions(features), batch.index, lat, lon, problem.edges)
            if settings.direction_metric == "km":
                gradient = per_km(gradient, lat) * KM_PER_DEGREE
            weight = None
            if settings.direction_gate:
                weight = gate(alt, problem.background(batch.coords.detach())[1], slope_of_tec.norm(dim=1))
            parts["direction"] = direction_loss(gradient, target, weight)
        return parts


class Sampler:
    """Rows of observations from a random span of hours, so that few time windows meet in a batch."""

    def __init__(self, time_h: Tensor, hours: float, span: float, batch: int, seed: int):
        self.order = time_h.argsort()
        self.sorted = time_h[self.order].cpu().numpy()
        self.hours, self.span, self.batch = hours, min(span, hours), batch
        self.random = np.random.default_rng([seed, 7])

    def draw(self) -> tuple[Tensor, tuple[float, float]]:
        while True:
            low = self.random.uniform(0, max(self.hours - self.span, 1e-9))
            a, b = np.searchsorted(self.sorted, [low, low + self.span])
            if b > a:
                break
        rows = self.random.choice(np.arange(a, b), min(self.batch, b - a), replace=False)
        return self.order[torch.as_tensor(rows, device=self.order.device)], (low, low + self.span)


def check_loss(problem: Problem, model: ResidualNet) -> float:
    """Mean squared error on the profiles that were kept back to choose checkpoints."""
    coords, target = problem.check
    if not len(target):
        return float("nan")
    return float((residual_at(problem, model, coords) - target).square().mean())


@torch.no_grad()
def residual_at(problem: Problem, model: ResidualNet, coords: Tensor, chunk: int = 8192) -> Tensor:
    """Residual log10 Ne at coords [n, 4], in the order of time so that each chunk meets few windows."""
    order = coords[:, 3].argsort()
    result = torch.empty(len(coords), device=coords.device)
    for rows in order.split(chunk):
        batch = problem.processor(coords[rows])
        features = model.features(batch.maps) if model.network.film else None
        result[rows] = model.of_batch(batch, features, problem.edges)
    return result


def build(problem: Problem, settings: Learn) -> ResidualNet:
    """A fresh network for a problem, on its device."""
    network = settings.network
    model = ResidualNet(network, len(network.drivers), problem.world.hours, problem.start_hour, problem.qd())
    return model.to(problem.device)


def fit(
    problem: Problem,
    settings: Learn,
    seed: int,
    keeper: Keeper,
    report: Callable[[int, dict[str, float]], None] = lambda step, parts: None,
) -> Trained:
    """Train one network on one world; the best state on the kept-back profiles is left in ``keeper`` and returned."""
    torch.manual_seed(seed)
    plan, generator = settings.train, torch.Generator().manual_seed(seed)
    model = build(problem, settings)
    objective = Objective(problem, model, settings.losses, generator)
    sampler = Sampler(problem.coords[:, 3], problem.world.hours, plan.time_bin, plan.batch, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.lr, weight_decay=plan.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, plan.steps, eta_min=plan.lr / 20)
    monitor, trained = Monitor(problem.device), Trained(model)
    clock = 0.0
    for step in range(plan.steps):
        begin = time.perf_counter()
        rows, hours = sampler.draw()
        with mixed(plan.precision, problem.device):
            loss, parts = objective(step, rows, hours)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        clock += time.perf_counter() - begin
        if (step + 1) % settings.saving.interval == 0 or step + 1 == plan.steps:
            values: dict[str, Any] = {name: float(value.detach()) for name, value in parts.items()}
            values |= {"check_mse": check_loss(problem, model), "rss_mb": monitor.now()}
            keeper.offer(step + 1, values["check_mse"], model, optimizer)
            trained.history.append({"step": step + 1, **values})
            report(step + 1, values)
    trained.seconds_per_step, trained.peak_mb = clock / plan.steps, monitor.peak()
    trained.best, trained.checkpoint_bytes = keeper.best, keeper.bytes()
    model.load_state_dict(keeper.best_state())
    return trained


def predictor(problem: Problem, model: ResidualNet) -> Callable[[Points], tuple[np.ndarray, None]]:
    """points -> (log10 Ne, no spread) of a trained network on its world."""

    def predict(points: Points) -> tuple[np.ndarray, None]:
        coords = tensor_of(points, problem.device)
        with torch.no_grad():
            background = torch.cat([problem.background(part)[0] for part in coords.split(16384)])
        return (background + residual_at(problem, model, coords)).cpu().numpy().astype(float), None

    return predict
