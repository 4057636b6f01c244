"""The residual network: the seed's branches, and the same branches with what the review of the seed puts right."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .conv_lstm import ConvLSTM, direction_head, next_map_head
from .inputs import seed_inputs, sphere_inputs
from .settings import Network
from .siren import Siren
from .windows import Batch, sample

SEED_TABLE = {"spatial": 50_000, "temporal": 50_000, "conv_lstm": 12_000, "lstm": 50_000, "decoder": 16_000}
SEED_TOTAL = 178_000
INPUTS = {"seed": 5, "sphere": 10}


class Decoder(nn.Sequential):
    """[B, 2 basis] -> [B, 1], widths 128-128-64-1 in the seed; smooth, because it is differentiated twice."""

    def __init__(self, inputs: int):
        super().__init__(
            nn.Linear(inputs, 128), nn.SiLU(), nn.Linear(128, 64), nn.SiLU(), nn.Linear(64, 1)
        )  # fmt: skip


class ResidualNet(nn.Module):
    """log10 Ne = background + residual(space, time, space weather) (seed, "modules").

    Spatial SIREN and temporal SIREN give basis functions, an LSTM over space weather shifts the temporal ones, a
    decoder joins them. The ConvLSTM sees TEC maps and yields only the direction that the field's gradient is asked to
    take (or, with FiLM, the seed's former version, modulates the spatial functions).

    Parameters
    ----------
    network: widths and variants.
    drivers: D, number of space-weather series.
    hours: length of the period; the temporal SIREN sees it as -1..1 and is an analysis inside it, no forecast.
    start_hour: universal time at which the period begins.
    qd_latitude: (lat, lon) -> quasi-dipole latitude in degrees, differentiable; needed by ``inputs: sphere``.
    """

    def __init__(
        self,
        network: Network,
        drivers: int,
        hours: float,
        start_hour: float = 0.0,
        qd_latitude: Callable[[Tensor, Tensor], Tensor] | None = None,
    ):
        super().__init__()
        self.network, self.hours, self.start_hour, self.qd_latitude = network, hours, start_hour, qd_latitude
        basis, hidden, layers = network.basis, network.hidden, network.layers
        self.spatial = Siren(INPUTS[network.inputs], hidden, layers, basis, network.omega, network.hidden_omega)
        self.temporal = Siren(1, hidden, layers, basis, network.omega_time, network.hidden_omega)
        self.lstm = nn.LSTM(drivers, network.lstm, num_layers=2, batch_first=True)
        self.beta = nn.Linear(network.lstm, basis)
        self.decoder = Decoder(2 * basis)
        if network.zero_start:
            nn.init.zeros_(self.decoder[-1].weight)
            nn.init.zeros_(self.decoder[-1].bias)
        channels = network.tec_features
        if network.conv_layers:
            self.conv_lstm = ConvLSTM(channels, network.conv_layers, network.padding, network.checkpointing)
            self.direction = direction_head(channels, network.padding)
            if network.supervised:
                self.next_map = next_map_head(channels, network.padding)
        if network.film:
            self.film = nn.Linear(channels, 2 * basis)
            nn.init.zeros_(self.film.weight)
            nn.init.zeros_(self.film.bias)

    def inputs(self, coords: Tensor) -> Tensor:
        """coords [B, 4] (lat, lon, km, h) -> inputs of the spatial SIREN."""
        if self.network.inputs == "seed":
            return seed_inputs(coords, self.start_hour)
        return sphere_inputs(coords, self.qd_latitude(coords[:, 0], coords[:, 1]), self.start_hour)

    def features(self, maps: Tensor) -> Tensor | None:
        """TEC features of the unique windows, [N, channels, lat, lon]; None without a ConvLSTM."""
        return self.conv_lstm(maps) if self.network.conv_layers else None

    def directions(self, features: Tensor) -> Tensor:
        """[N, 2, lat, lon] learned direction (north, east) of the TEC gradient."""
        return self.direction(features)

    def time_functions(self, time_h: Tensor, sw_seq: Tensor, index: Tensor) -> Tensor:
        """[B, basis]: temporal functions shifted by space weather (seed B1-B3), encoded once a window."""
        state = self.lstm(sw_seq)[0][:, -1]  # [N, S, D] -> [N, lstm]
        scaled = 2 * time_h[:, None] / self.hours - 1  # [B, 1]
        return self.temporal(scaled) + self.beta(state)[index]

    def forward(
        self,
        coords: Tensor,
        sw_seq: Tensor,
        index: Tensor,
        features: Tensor | None = None,
        edges: tuple[float, float, float, float] | None = None,
    ) -> Tensor:
        """Residual log10 Ne [B] at coords [B, 4].

        sw_seq: [N, S, D] of the unique windows; index: [B] each point's window; features, edges: TEC features of the
        windows and the maps' outer nodes, read with FiLM alone.
        """
        space = self.spatial(self.inputs(coords))  # [B, basis]
        if self.network.film:
            scale, shift = self.film(sample(features, index, coords[:, 0], coords[:, 1], edges)).chunk(2, 1)
            space = space * (1 + scale) + shift
        time = self.time_functions(coords[:, 3], sw_seq, index)  # [B, basis]
        return self.decoder(torch.cat([space, time], 1))[:, 0]

    def of_batch(self, batch: Batch, features: Tensor | None, edges: tuple[float, float, float, float]) -> Tensor:
        """Residual of a batch of the window processor."""
        return self(batch.coords, batch.sw_seq, batch.index, features, edges)


def parameter_counts(model: ResidualNet) -> dict[str, int]:
    """Parameters by module, with the total."""
    counts = {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}
    return {**counts, "total": sum(counts.values())}
