"""The most probable fields given profiles and TEC, and samples around them: J = Jo + Jb + Jtec by Gauss-Newton.

Every pass linearises log10 Ne and ln TEC in the thirteen fields at the observations (exact derivatives of the analytic
profile) and minimises the quadratic cost by conjugate gradients in the control vector, whose prior is standard normal.
Spread: the same system is solved for a prior draw and perturbed observations, which is a draw of the linearised
posterior (randomised maximum likelihood; Bardsley et al. 2014). Point errors of a profile are correlated in the
vertical and by a common offset.
Errors of TEC maps are correlated in space and time: they are a further field, estimated together with the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from . import iri
from .fields import FIELD_COUNT, Component, Prior, Sites
from .grid import interpolate
from .world import Points, World


@dataclass(frozen=True)
class Setup:
    """Statistics and sizes of the analysis.

    components: of the thirteen fields and, as fourteenth, the error of TEC in TECU. use_tec: fit TEC; scaled: start
    from the background scaled by TEC. representativeness: dex, what the fields can't follow at a level. tec_white:
    TECU; tec_step: degrees of latitude and longitude between TEC data that are used; tec_every: hours between them.
    """

    components: tuple[Component, ...]
    knots_h: float = 3.0
    passes: int = 3
    iterations: int = 60
    samples: int = 16
    use_tec: bool = True
    scaled: bool = True
    representativeness: float = 0.08
    tec_white: float = 1.0
    tec_relative: float = 0.1
    tec_step: tuple[float, float] = (10.0, 15.0)
    tec_every: int = 1
    huber: float | None = 3.0
    tolerance: float = 1e-7  # of the squared residual of the linear system
    seed: int = 0


@dataclass
class Data:
    """Observations of one kind as the inner problem sees them: sites, values, whitening.

    value [n]; params [n, 8] of the background; alt [n] (profiles). whiten: data-space misfit -> unit variance.
    """

    sites: Sites
    value: Tensor
    params: Tensor
    alt: Tensor | None
    scale: Tensor
    blocks: Tensor | None = None  # [P, L, n-index] padded rows of profiles
    factors: Tensor | None = None  # [P, L, L] whitening of profiles
    jacobian: Tensor = field(default_factory=lambda: torch.empty(0))
    robust: Tensor = field(default_factory=lambda: torch.empty(0))

    def whiten(self, misfit: Tensor) -> Tensor:
        """[n, S] -> unit-variance misfits, [n, S] or padded [P L, S]."""
        if self.blocks is None:
            return misfit * (self.scale * self.robust)[:, None]
        padded = torch.cat([misfit, torch.zeros(1, misfit.shape[1])])[self.blocks]  # [P, L, S]
        return (torch.bmm(self.factors, padded) * self.robust[:, None, None]).flatten(0, 1)

    def whiten_adjoint(self, white: Tensor) -> Tensor:
        if self.blocks is None:
            return white * (self.scale * self.robust)[:, None]
        profiles, levels = self.blocks.shape
        padded = white.view(profiles, levels, -1) * self.robust[:, None, None]
        padded = torch.bmm(self.factors.transpose(1, 2), padded)
        result = torch.zeros(len(self.value) + 1, padded.shape[2])
        return result.index_put_((self.blocks.flatten(),), padded.flatten(0, 1), accumulate=True)[:-1]

    def apply(self, coefficients: list[Tensor], samples: int) -> Tensor:
        values = self.sites.field(coefficients).view(self.sites.count, -1, samples)  # [n, F, S]
        return self.whiten((self.jacobian[:, :, None] * values).sum(1))

    def adjoint(self, white: Tensor, knots: int) -> list[Tensor]:
        misfit = self.whiten_adjoint(white)  # [n, S]
        values = self.jacobian[:, :, None] * misfit[:, None, :]  # [n, F, S]
        return self.sites.adjoint(values.flatten(1), knots)


def profile_blocks(world: World, used: np.ndarray, representativeness: float) -> tuple[Tensor, Tensor]:
    """Padded rows [P, L] of each profile (the last index stands for padding) and its whitening factors [P, L, L]."""
    profile = world.obs_profile[used]
    order = np.argsort(profile, kind="stable")
    _, start, counts = np.unique(profile[order], return_index=True, return_counts=True)
    longest = counts.max()
    blocks = np.full((len(start), longest), len(used))
    factors = np.tile(np.eye(longest), (len(start), 1, 1))
    for row, (first, count) in enumerate(zip(start, counts, strict=True)):
        index = order[first : first + count]
        blocks[row, :count] = index
        at = used[index]
        alt = world.obs.alt_km[at]
        vertical = world.obs_sigma_vertical[at]
        lag = np.abs(alt[:, None] - alt[None, :])
        covariance = np.exp(-lag / world.obs_vertical_km) * vertical[:, None] * vertical[None, :]
        covariance += world.obs_sigma_profile**2
        covariance += representativeness**2 * np.exp(-lag / 30.0)
        covariance[np.diag_indices(count)] += world.obs_sigma_white[at] ** 2
        factors[row, :count, :count] = np.linalg.inv(np.linalg.cholesky(covariance))
    return torch.as_tensor(blocks), torch.as_tensor(factors, dtype=torch.float32)


def tensor(values: np.ndarray) -> Tensor:
    return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32)


class Analysis:
    """Fields of one world, fitted; ``predict`` answers points.

    Parameters
    ----------
    world: observations, TEC maps and background; withheld profiles are not read.
    """

    def __init__(self, world: World, setup: Setup):
        self.world, self.setup = world, setup
        last = max(float(world.param_time_h[-1]), setup.knots_h)
        self.knots_h = np.arange(0, last + setup.knots_h, setup.knots_h)
        self.prior = Prior(list(setup.components), self.knots_h)
        self.maps = world.tec_scaled if setup.scaled and setup.use_tec else world.param
        self.data: list[Data] = []
        self.tec_points: Points | None = None
        if len(world.used):
            self.data.append(self._profiles())
        self.tec = self._tec() if setup.use_tec and world.has_tec else None
        if self.tec is not None:
            self.data.append(self.tec)
        self.control = torch.zeros(self.prior.shape())
        self.draws: Tensor | None = None

    def _sites(self, time_h, lat, lon) -> Sites:
        return Sites(self.world, list(self.setup.components), self.knots_h, time_h, lat, lon)

    def _params(self, time_h, lat, lon) -> Tensor:
        return tensor(interpolate(self.maps, self.world.axes, time_h, lat, lon))

    def _profiles(self) -> Data:
        used = self.world.used
        obs = self.world.obs.take(used)
        blocks, factors = profile_blocks(self.world, used, self.setup.representativeness)
        value = tensor(self.world.obs_log10_ne[used])
        params = self._params(obs.time_h, obs.lat, obs.lon)
        sites = self._sites(obs.time_h, obs.lat, obs.lon)
        return Data(sites, value, params, tensor(obs.alt_km), torch.ones(1), blocks, factors)

    def _tec(self) -> Data:
        """TEC on a thinned grid, in ln TECU."""
        world, (dlat, dlon) = self.world, self.setup.tec_step
        lat = np.arange(-90 + dlat / 2, 90, dlat)
        hours = world.param_time_h[:: self.setup.tec_every]
        time_h, lats, places = [], [], []
        for k, hour in enumerate(hours):
            for row, phi in enumerate(lat):  # fewer places near the poles, shifted from hour to hour
                count = max(4, int(round(360 / dlon * np.cos(np.radians(phi)))))
                places.append(-180 + (np.arange(count) + ((k + row) % 3) / 3) * 360 / count)
                time_h.append(np.full(count, hour))
                lats.append(np.full(count, phi))
        t, y, x = np.concatenate(time_h), np.concatenate(lats), np.concatenate(places)
        observed = interpolate(world.observed_tec[None], world.axes, t, y, x)[:, 0]
        good = np.isfinite(observed)
        t, y, x, observed = t[good], y[good], x[good], np.maximum(observed[good], 0.5)
        sd = np.sqrt((self.setup.tec_white / observed) ** 2 + self.setup.tec_relative**2)
        data = Data(self._sites(t, y, x), tensor(np.log(observed)), self._params(t, y, x), None, tensor(1 / sd))
        self.observed_tec = tensor(observed)
        self.tec_points = Points(t, y, x, np.zeros_like(t))
        return data

    def _linearise(self, data: Data, increments: Tensor) -> Tensor:
        """Sets the Jacobian [n, F] and returns the model's value [n] at increments [n, 14]."""
        with torch.enable_grad():
            inputs = increments[:, :FIELD_COUNT].clone().requires_grad_()
            if data.alt is not None:
                value = iri.corrected_torch(data.params, inputs, data.alt)
            else:
                value = iri.vtec_torch(data.params, inputs).clamp(min=0.1).log()
            (jacobian,) = torch.autograd.grad(value.sum(), inputs)
        value = value.detach()
        error = torch.zeros(len(value), increments.shape[1] - FIELD_COUNT)
        if data.alt is None and error.shape[1]:
            error[:, 0] = 1 / self.observed_tec
            value = value + increments[:, FIELD_COUNT] / self.observed_tec
        data.jacobian = torch.cat([jacobian, error], 1)
        return value

    def solve(self) -> Analysis:
        """Gauss-Newton passes, then the draws."""
        knots, fields = len(self.knots_h), self.prior.shape()[2]
        for number in range(self.setup.passes):
            coefficients = self.prior.coefficients(self.control)
            gradient = torch.zeros_like(self.control)
            for data in self.data:
                increments = data.sites.field(coefficients).view(-1, fields)
                misfit = (data.value - self._linearise(data, increments))[:, None]
                self._weigh(data, misfit)
                # the quadratic problem is posed around the prior mean: add what the present fields explain
                misfit = misfit + (data.jacobian * increments).sum(1, keepdim=True)
                gradient += self.prior.adjoint(data.adjoint(data.whiten(misfit), knots), 1)
            start = self.control if number else None
            self.control = self._conjugate(gradient, start)
        if self.setup.samples:
            self.draws = self._draw()
        return self

    def _weigh(self, data: Data, misfit: Tensor) -> None:
        """Huber weights: a profile (or a TEC value) far outside its errors counts less."""
        profiles = data.blocks is not None
        data.robust = torch.ones(len(data.blocks) if profiles else len(misfit))
        if self.setup.huber:
            white = data.whiten(misfit)
            if profiles:
                levels = (data.blocks < len(data.value)).sum(1)
                size = (white.view(len(data.blocks), -1).square().sum(1) / levels).sqrt()
            else:
                size = white[:, 0].abs()
            data.robust = (self.setup.huber / size.clamp(min=self.setup.huber)).sqrt()

    def _hessian(self, control: Tensor) -> Tensor:
        samples = control.shape[3]
        coefficients = self.prior.coefficients(control)
        result = control.clone()
        for data in self.data:
            white = data.apply(coefficients, samples)
            result += self.prior.adjoint(data.adjoint(white, len(self.knots_h)), samples)
        return result

    def _conjugate(self, right: Tensor, start: Tensor | None = None) -> Tensor:
        """Conjugate gradients for (I + A'A) x = right, each sample with its own step."""

        def dot(a: Tensor, b: Tensor) -> Tensor:
            return (a * b).sum((0, 1, 2))  # [S]

        x = torch.zeros_like(right) if start is None else start.clone()
        residual = right - (self._hessian(x) if start is not None else 0)
        direction, size = residual.clone(), dot(residual, residual)
        goal = self.setup.tolerance * dot(right, right)
        for _ in range(self.setup.iterations):
            turned = self._hessian(direction)
            step = size / dot(direction, turned).clamp(min=1e-30)
            x += step * direction
            residual -= step * turned
            fresh = dot(residual, residual)
            if (fresh < goal).all():
                break
            direction = residual + fresh / size.clamp(min=1e-30) * direction
            size = fresh
        return x

    def _draw(self) -> Tensor:
        """[sum L, K, F, S] deviations from the analysis, drawn from the linearised posterior."""
        generator = torch.Generator().manual_seed(self.setup.seed)
        samples, knots = self.setup.samples, len(self.knots_h)
        right = torch.randn(self.prior.shape(samples), generator=generator)
        for data in self.data:
            rows = data.blocks.numel() if data.blocks is not None else len(data.value)
            noise = torch.randn(rows, samples, generator=generator)
            right += self.prior.adjoint(data.adjoint(noise, knots), samples)
        return self._conjugate(right)

    def increments(self, time_h, lat, lon) -> tuple[Tensor, Tensor | None]:
        """Fields [n, 13] at places, and draws around them [n, 13, S]."""
        sites, fields = self._sites(time_h, lat, lon), self.prior.shape()[2]
        mean = sites.field(self.prior.coefficients(self.control)).view(-1, fields)[:, :FIELD_COUNT]
        if self.draws is None:
            return mean, None
        samples = self.draws.shape[3]
        values = sites.field(self.prior.coefficients(self.draws)).view(-1, fields, samples)
        return mean, values[:, :FIELD_COUNT]

    def params_at(self, points: Points) -> Tensor:
        """Background parameters [n, 8] that the increments are added to."""
        return self._params(points.time_h, points.lat, points.lon)
