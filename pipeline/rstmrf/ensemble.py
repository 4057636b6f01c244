"""An ensemble of parameter networks fitted to one world: Jo with profile-correlated errors, Jb and TEC."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from . import iri
from .parameter_net import ParameterNet, inputs
from .settings import Nets
from .variational import Data, profile_blocks, tensor
from .world import Points, World


class Members:
    """Networks of one world that differ by their first weights and the order of the data.

    Parameters
    ----------
    maps: [8, T, lat, lon] background that is corrected; tec: thinned TEC data of the analysis, None to leave TEC out.
    """

    def __init__(self, world: World, settings: Nets, maps: np.ndarray, tec: Data | None, tec_at: Points | None):
        self.world, self.settings, self.maps, self.tec, self.tec_at = world, settings, maps, tec, tec_at
        self.nets = [ParameterNet(settings.hidden, settings.omega) for _ in range(settings.members)]

    def features(self, time_h: np.ndarray, lat: np.ndarray, lon: np.ndarray) -> Tensor:
        qd = self.world.qd(lat, lon)
        values = (tensor(np.asarray(part, float)) for part in (lat, lon, time_h, qd))
        return inputs(*values, max(self.world.hours, 1.0), self.settings.time_stretch)

    def fit(self, seed: int, report: Callable[[int, dict[str, float]], None] = lambda step, parts: None) -> Members:
        """Train all networks one after the other."""
        used = self.world.used
        obs = self.world.obs.take(used)
        blocks, factors = profile_blocks(self.world, used, self.settings.representativeness)
        x = self.features(obs.time_h, obs.lat, obs.lon)
        params = tensor(self.world_params(obs))
        value, alt = tensor(self.world.obs_log10_ne[used]), tensor(obs.alt_km)
        if self.tec is not None:
            x_tec = self.features(self.tec_at.time_h, self.tec_at.lat, self.tec_at.lon)
        for number, net in enumerate(self.nets):
            generator = torch.Generator().manual_seed(1000 * seed + number)
            torch.manual_seed(1000 * seed + number)
            net.__init__(self.settings.hidden, self.settings.omega)
            optimizer = torch.optim.Adam(net.parameters(), lr=self.settings.lr)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.settings.steps)
            per_step = max(1, self.settings.batch // blocks.shape[1])
            for step in range(self.settings.steps):
                chosen = torch.randint(len(blocks), (min(per_step, len(blocks)),), generator=generator)
                rows = blocks[chosen]  # [P, L]
                real = rows < len(value)
                at = rows.clamp(max=len(value) - 1)
                increments, unit = net(x[at.flatten()])
                model = iri.corrected_torch(params[at.flatten()], increments, alt[at.flatten()]).view(rows.shape)
                misfit = torch.where(real, value[at] - model, 0.0)
                white = torch.bmm(factors[chosen], misfit[:, :, None])[:, :, 0]
                size = (white.square().sum(1) / real.sum(1)).clamp(min=1e-12).sqrt()
                loss = torch.nn.functional.huber_loss(size, torch.zeros_like(size), delta=self.settings.huber)
                loss = loss + 0.5 * self.settings.background * self._everywhere(net, generator)
                if self.tec is not None and step % 2 == 0:
                    part = torch.randint(len(x_tec), (self.settings.tec_points,), generator=generator)
                    content = iri.vtec_torch(self.tec.params[part], net(x_tec[part])[0]).clamp(min=0.1).log()
                    misfit = (content - self.tec.value[part]) * self.tec.scale[part]
                    loss = loss + self.settings.tec * torch.nn.functional.huber_loss(
                        misfit, torch.zeros_like(misfit), delta=self.settings.huber
                    )
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
                if (step + 1) % 100 == 0:
                    report(step + 1, {"loss": float(loss.detach()), "net": float(number)})
        return self

    def world_params(self, points: Points) -> np.ndarray:
        from .grid import interpolate

        return interpolate(self.maps, self.world.axes, points.time_h, points.lat, points.lon)

    def _everywhere(self, net: ParameterNet, generator: torch.Generator, count: int = 512) -> Tensor:
        """Jb: mean squared correction, in units of its scale, at random places all over the globe and the period."""
        u = torch.rand(3, count, generator=generator).numpy()
        lat, lon = np.degrees(np.arcsin(2 * u[0] - 1)), 360 * u[1] - 180
        return net(self.features(u[2] * self.world.hours, lat, lon))[1].square().mean()

    @torch.no_grad()
    def increments(self, time_h: np.ndarray, lat: np.ndarray, lon: np.ndarray) -> Tensor:
        """[n, 13, members]."""
        x = self.features(time_h, lat, lon)
        return torch.stack([net(x)[0] for net in self.nets], 2)
