"""A SPIN layer that corrects a cheap imputer, cell by cell: the arm that is meant to win on a small budget.

The published network imputes all cells of a window from nothing, and most of its work goes into pairs of steps that no
target looks at. Here a cell that is asked for is a token: features of its own gap (``features``, ``spacetime``); it
attends, with SPIN's own additive attention, to the visible steps of its node and of its K most correlated neighbours
around it; what the neighbours say is averaged, not summed; and the read-out, zero at the start, is added to the cheap
imputer's value, so that training begins at that imputer's error.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import AdditiveAttention
from .baselines import chained as around_profile
from .cells import BOUND, SOURCE, Cells, Describer, Scene, sources
from .cube import TRAIN, VAL, Cube
from .intervals import LEVELS
from .settings import Train
from .whiten import Whitener

VECTOR = 16  # width of a series' vector
PORTION = 64  # cells that count as one window in ``fit.batch``
SIDE_LOSS = 0.25  # weight of the other quantiles' losses beside the median's
NARROW = -2.0  # softplus of it: how far quantiles are apart at the start [standard deviations]


class ResidualSPIN(nn.Module):
    """Corrections of cells.

    Parameters
    ----------
    features: F. series: S. sources: K, series that a cell looks at. steps: W, steps around it.
    hidden: H. layers: attentions one after the other, the cell's state being the query. message_layers: of each.
    quantiles: also give the other quantiles.
    """

    def __init__(
        self,
        features: int,
        series: int,
        sources: int,
        steps: int,
        hidden: int = 32,
        layers: int = 2,
        message_layers: int = 1,
        dropout: float = 0.0,
        quantiles: bool = False,
    ):
        super().__init__()
        self.nodes = nn.Embedding(series, VECTOR)
        nn.init.normal_(self.nodes.weight, std=0.1)
        self.encode = nn.Sequential(nn.Linear(features + VECTOR, 2 * hidden), nn.ReLU(), nn.Linear(2 * hidden, hidden))
        self.norm = nn.LayerNorm(hidden)
        self.source = nn.Linear(SOURCE, hidden)
        self.place = nn.Parameter(0.1 * torch.randn(sources, steps, hidden))
        self.layers = nn.ModuleList(
            [AdditiveAttention(hidden, hidden, hidden, message_layers=message_layers) for _ in range(layers)]
        )
        self.update = nn.ModuleList(
            [nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden)) for _ in range(layers)]
        )
        self.dropout = nn.Dropout(dropout)
        self.readout = nn.Sequential(
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, len(LEVELS) if quantiles else 1)
        )
        with torch.no_grad():
            self.readout[-1].weight.zero_()
            self.readout[-1].bias.zero_()
            if quantiles:
                self.readout[-1].bias[1:] = NARROW

    def forward(
        self, x: Tensor, home: Tensor, near: Tensor, numbers: Tensor, seen: Tensor, return_attention: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """Corrections [n, 1] or quantiles of them [n, 5], and attention [n, K, W] a layer if asked for.

        x [n, F], home [n], near [n, K] series looked at, numbers [n, K, W, SOURCE], seen [n, K, W] bool.
        """
        n, k, w = seen.shape
        h = self.norm(self.encode(torch.cat([x, self.nodes(home)], 1)))  # [n, H]
        told = F.relu(self.source(numbers) + self.place).view(n * k, w, -1)  # [n, K, W, H] -> [n*K, W, H]
        cell = torch.arange(n, device=x.device).repeat_interleave(k)
        ends = (torch.arange(n * k, device=x.device), cell)
        heard = seen.any(2)  # [n, K]
        weight = (heard / heard.sum(1, keepdim=True).clamp(min=1)).view(-1).to(h.dtype)
        found = []
        for attention, update in zip(self.layers, self.update, strict=True):
            out, alpha = attention(
                told, h[:, None], ends, seen.view(n * k, w), None, weight, return_attention=return_attention
            )
            h = h + update(self.dropout(torch.cat([h, out[:, 0]], 1)))
            if return_attention:
                found.append(alpha.view(n, k, w))
        return quantiles(self.readout(h)), found


def quantiles(raw: Tensor) -> Tensor:
    """[n, 5] ordered quantiles out of a median and four distances; [n, 1] stays."""
    if raw.shape[1] == 1:
        return raw
    median, below, far_below, above, far_above = raw[:, 0], *F.softplus(raw[:, 1:]).unbind(1)
    return torch.stack(
        [median - below - far_below, median - below, median, median + above, median + above + far_above], 1
    )


class Residual:
    """An arm of kind ``residual`` on a cube.

    Parameters
    ----------
    cube: the data. settings: of the arm.
    """

    def __init__(self, cube: Cube, settings: Train):
        self.cube, self.settings = cube, settings
        self.describer = Describer.fit(cube, settings.boosting, settings.base.neighbours)
        space = self.describer.space
        _, nodes, channels = cube.shape
        own = np.arange(nodes * channels)
        siblings = [own - own % channels + (own + step) % channels for step in range(1, channels)]
        k = settings.base.neighbours
        near = np.stack([own, *siblings, *space.neighbours[:, :k].T], 1)  # [S, K]
        rho = np.concatenate([np.ones((len(own), channels)), space.correlation[:, :k]], 1)
        self.near = torch.from_numpy(near)
        self.sign = torch.from_numpy(np.where(rho < 0, -1.0, 1.0).astype(np.float32))
        self.level = torch.from_numpy(space.level.astype(np.float32))
        self.run = torch.from_numpy(np.asarray(cube.segment, np.int64))
        self.names: tuple[str, ...] = ()

    def training(self, seed: int, boost: Callable[[Cells], Tensor] | None) -> tuple[Scene, Cells]:
        """Training cells hidden again ``base.masks`` times, as they look then.

        ``boost(cells)`` gives the base [n], scaled, where that is boosting.
        """
        cube, rng = self.cube, np.random.default_rng([seed, 3])
        shown = cube.visible(0)
        whitener = Whitener(self.settings.fit.whitening, cube, torch.from_numpy(shown))
        wanted = (cube.split == TRAIN)[:, None, None]
        scenes, parts = [], []
        for scene in range(self.settings.base.masks):
            hide = whitener.whole(rng)
            visible = shown & ~hide
            scenes.append(Scene.of(self.describer.space, cube.value, visible))
            parts.append(self.cells(visible, np.flatnonzero((hide & wanted).ravel()), scene, boost))
        return Scene.join(scenes), Cells.join(parts)

    def cells(
        self, visible: np.ndarray, cells: np.ndarray, scene: int, boost: Callable[[Cells], Tensor] | None
    ) -> Cells:
        """Cells with the base that the arm corrects; what the other bases say becomes a feature."""
        found, self.names = self.describer.describe(visible, cells, scene)
        kind = self.settings.base.imputer
        if kind == "linear":
            return found
        if kind == "kriging":
            offset = found.x[:, self.names.index("kriging")]
        else:
            offset = (self.chained(visible, found) if kind == "mice" else boost(found)) - found.base
            found.x = torch.cat([found.x, offset[:, None].clamp(-BOUND, BOUND)], 1)
        found.base = found.base + offset
        return found

    def chained(self, visible: np.ndarray, cells: Cells) -> Tensor:
        """[n] what the baseline MICE says of cells, by departures from the daily profile; scaled."""
        space = self.describer.space
        z = space.scaled(np.where(visible, self.cube.value, np.nan))
        filled = around_profile(z, space.profile)  # [S, T]
        return torch.from_numpy(filled[cells.home.numpy(), cells.time.numpy()].astype(np.float32))

    def build(self, features: int, seed: int) -> ResidualSPIN:
        torch.manual_seed(seed)
        network, base = self.settings.network, self.settings.base
        return ResidualSPIN(
            features,
            len(self.near),
            self.near.shape[1],
            2 * base.reach + 1,
            network.hidden,
            network.layers,
            network.message_layers,
            network.dropout,
            self.settings.uncertainty.head == "quantile",
        )

    def correct(self, model: ResidualSPIN, cells: Cells, scene: Scene) -> Tensor:
        """[n, 1 or 5] scaled values: the base plus what the network adds."""
        numbers, seen = sources(cells, scene, self.near, self.sign, self.level, self.run, self.settings.base.reach)
        out, _ = model(cells.x, cells.home, self.near[cells.home], numbers, seen)
        return cells.base[:, None] + out

    def predict(self, model: ResidualSPIN, cells: Cells, scene: Scene, batch: int = 4096) -> Tensor:
        """``correct`` without gradient, in parts."""
        with torch.no_grad():
            parts = [self.correct(model, cells[i : i + batch], scene) for i in range(0, len(cells), batch)]
        return torch.cat(parts)

    def loss(self, model: ResidualSPIN, cells: Cells, scene: Scene) -> Callable[[np.random.Generator], Tensor]:
        """Mean absolute error of the median, and the other quantiles' losses at a quarter of the weight."""
        size = self.settings.fit.batch * PORTION
        order: list[np.ndarray] = []

        def loss(rng: np.random.Generator) -> Tensor:
            if not order:  # every cell once before any comes again
                whole = rng.permutation(len(cells))
                order.extend(np.array_split(whole, max(1, len(whole) // size)))
            chosen = cells[torch.from_numpy(order.pop())]
            error = chosen.y[:, None] - self.correct(model, chosen, scene)  # [n, 1 or 5]
            if error.shape[1] == 1:
                return error.abs().mean()
            level = torch.tensor(LEVELS)
            pinball = 2 * torch.maximum(level * error, (level - 1) * error).mean(0)
            middle = LEVELS.index(0.5)
            return pinball[middle] + SIDE_LOSS * (pinball.sum() - pinball[middle])

        return loss

    def validation_cells(self, boost: Callable[[Cells], Tensor] | None) -> tuple[Scene, Cells]:
        """The hidden validation cells of mask 0."""
        targets = self.cube.targets(0, VAL)
        visible = self.cube.visible(0)
        scene = Scene.of(self.describer.space, self.cube.value, visible)
        return scene, self.cells(visible, flat(self.cube, targets), 0, boost)

    def validation(self, model: ResidualSPIN, cells: Cells, scene: Scene) -> Callable[[], float]:
        """Mean absolute error, scaled."""

        def validate() -> float:
            value = self.predict(model, cells, scene)
            return float((value[:, value.shape[1] // 2] - cells.y).abs().mean())

        return validate


def flat(cube: Cube, targets) -> np.ndarray:
    """Flat indices of targets into [T, N, C]."""
    _, nodes, channels = cube.shape
    return (targets.time * nodes + targets.node) * channels + targets.channel
