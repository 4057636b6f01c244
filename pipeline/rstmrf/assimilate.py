"""The arm `assimilate`: random fields and an ensemble of networks of parameter corrections, blended, with a spread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from . import iri
from .checkpoints import load as load_tensors
from .checkpoints import save as save_tensors
from .ensemble import Members
from .fields import FIELD_COUNT, Component
from .memory import check_analysis_fits
from .settings import Fields, Learn
from .variational import Analysis, Setup, tensor
from .world import Points, World

TEC_ERROR_DEGREE, TEC_ERROR_MEMORY_H = 5, 30.0
INCREMENT_CHUNK = 16384


def setup(settings: Learn, seed: int) -> Setup:
    """The analysis that an arm's settings ask for."""
    fields = settings.fields
    return Setup(
        components(fields),
        knots_h=fields.knots,
        passes=fields.passes,
        iterations=fields.iterations,
        samples=fields.draws,
        use_tec=settings.assimilation.tec,
        scaled=settings.assimilation.tec,
        representativeness=fields.representativeness,
        tec_white=fields.tec_white,
        tec_relative=fields.tec_relative,
        huber=fields.huber,
        seed=seed,
    )


def components(fields: Fields) -> tuple[Component, ...]:
    """Sun-fixed and Earth-fixed parts of the thirteen fields, and the error of TEC as a fourteenth."""
    sd = np.array(fields.sd)
    parts = [("sun", (1 - fields.earth_share) ** 0.5), ("earth", fields.earth_share**0.5)]
    found = [
        Component(frame, fields.degree, (*(sd * factor), 0.0), fields.slope, fields.memory)
        for frame, factor in parts
        if factor
    ]
    none = (0.0,) * FIELD_COUNT
    found.append(Component("earth", TEC_ERROR_DEGREE, (*none, fields.tec_error), 1.0, TEC_ERROR_MEMORY_H))
    return tuple(found)


class Assimilated:
    """Fields and networks of one world; ``predict`` answers points with a spread."""

    def __init__(self, world: World, settings: Learn, seed: int = 0):
        self.world, self.settings, self.how = world, settings, settings.assimilation
        self.analysis = Analysis(world, setup(settings, seed))
        self.members = None
        if self.how.parts != "fields" and len(world.used):
            tec = self.analysis.tec
            self.members = Members(world, settings.nets, self.analysis.maps, tec, self.analysis.tec_points)

    def fit(self, seed: int, report: Callable[[int, dict[str, float]], None]) -> Assimilated:
        """Solve; a ``PipelineError`` before the start where it would not fit into memory."""
        world = self.world
        check_analysis_fits(self.settings, len(world.used), len(world.param_time_h), world.has_tec)
        self.analysis.solve()
        if self.members is not None:
            self.members.fit(seed, report)
        return self

    def state(self) -> dict[str, torch.Tensor]:
        """Tensors to be saved."""
        found = {"control": self.analysis.control, "draws": self.analysis.draws}
        if self.members is not None:
            for number, net in enumerate(self.members.nets):
                found |= {f"net{number}.{name}": value for name, value in net.state_dict().items()}
        return {name: value.contiguous() for name, value in found.items()}

    def restore(self, state: dict[str, torch.Tensor]) -> Assimilated:
        self.analysis.control, self.analysis.draws = state["control"], state["draws"]
        if self.members is not None:
            for number, net in enumerate(self.members.nets):
                mark = f"net{number}."
                net.load_state_dict({k.removeprefix(mark): v for k, v in state.items() if k.startswith(mark)})
        return self

    def increments(self, points: Points) -> tuple[torch.Tensor, torch.Tensor]:
        """Blended increments [n, 13] and draws around them [n, 13, S].

        A draw is the analysis' draw, to which a network's departure from the networks' mean is added in turn.
        """
        mean, draws = self.analysis.increments(points.time_h, points.lat, points.lon)
        if self.members is None:
            return mean, draws
        nets = self.members.increments(points.time_h, points.lat, points.lon)  # [n, 13, M]
        share = 1.0 if self.how.parts == "nets" else self.how.nets_share
        away = nets - nets.mean(2, keepdim=True)
        turns = torch.arange(draws.shape[2]) % nets.shape[2]
        return (1 - share) * mean + share * nets.mean(2), draws + share * away[:, :, turns]

    @torch.no_grad()
    def predict(self, points: Points) -> tuple[np.ndarray, np.ndarray]:
        """log10 Ne [n] and its standard deviation [n]."""
        values, spreads = [], []
        for start in range(0, len(points), INCREMENT_CHUNK):
            part = points.take(slice(start, start + INCREMENT_CHUNK))
            params, alt = self.analysis.params_at(part), tensor(part.alt_km)
            mean, draws = self.increments(part)
            value = iri.corrected_torch(params, mean, alt)
            square = (
                sum((iri.corrected_torch(params, mean + draw, alt) - value).square() for draw in draws.unbind(2))
                / draws.shape[2]
            )
            values.append(value.numpy())
            spreads.append((square + self.how.floor**2).sqrt().numpy())
        if not values:
            return np.empty(0), np.empty(0)
        return np.concatenate(values).astype(float), np.concatenate(spreads).astype(float)


def fit(
    world: World,
    settings: Learn,
    seed: int,
    path: Path,
    report: Callable[[int, dict[str, float]], None] = lambda step, parts: None,
) -> dict[str, float]:
    """Fit one member, save it, and return scalars about it."""
    found = Assimilated(world, settings, seed).fit(seed, report)
    state = found.state()
    save_tensors(path, state)
    nets = found.members.nets if found.members is not None else []
    trained = sum(p.numel() for net in nets for p in net.parameters())
    return {
        "parameters_total": float(found.analysis.control.numel() + trained),
        "parameters_nets": float(trained),
        "checkpoint_bytes": float(path.stat().st_size),
        "jb": float(found.analysis.control.square().sum()),
    }


def load(world: World, settings: Learn, path: Path) -> Assimilated:
    """A saved member of a world."""
    return Assimilated(world, settings).restore(load_tensors(path.parent, path.stem))
