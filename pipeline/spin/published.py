"""The published networks as arms: built, trained on whitened windows, and read back to cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .cube import VAL, Cube
from .graph import distances
from .hierarchical import SPINH
from .means import inverse_squares, weighted_mean
from .model import SPIN, parameter_counts
from .settings import Network, Train
from .whiten import Whitener
from .windows import Windows


def build(network: Network, channels: int, nodes: int, edge_types: int, seed: int = 0) -> nn.Module:
    """The network of an arm, its weights drawn from ``seed``."""
    torch.manual_seed(seed)
    common = {
        "channels": channels,
        "nodes": nodes,
        "hidden": network.hidden,
        "layers": network.layers,
        "eta": network.eta,
        "message_layers": network.message_layers,
        "dropout": network.dropout,
        "tokens": network.tokens,
        "embedding": network.embedding,
        "positional_layers": network.positional_layers,
        "readout_layers": network.readout_layers,
        "edge_types": edge_types if network.edge_types else 0,
        "channel_tokens": network.channel_tokens,
    }
    if network.kind == "spin_h":
        return SPINH(hub_size=network.hub_size, hubs=network.hubs, **common)
    return SPIN(
        self_attention=network.self_attention,
        causal=network.causal,
        distance=network.max_temporal_distance,
        degree_norm=network.degree_norm,
        **common,
    )


def for_cube(network: Network, cube: Cube, device: str, seed: int = 0) -> nn.Module:
    """``build`` for a cube."""
    _, nodes, channels = cube.shape
    return build(network, channels, nodes, len(cube.edge_types), seed).to(device)


def unseen_nodes(share: float, cube: Cube) -> np.ndarray | None:
    """[N] bool, the nodes that training never sees: the same ones for every arm and seed."""
    if share == 0:
        return None
    count = max(1, round(share * cube.shape[1]))
    return np.isin(np.arange(cube.shape[1]), np.random.default_rng(0).permutation(cube.shape[1])[:count])


def grow(small: dict[str, Tensor], model: nn.Module) -> int:
    """Copy a smaller model's weights into the corner of a larger one's.

    What is new beside copied weights starts at a tenth of its drawn size, so that the larger model starts near the
    smaller one. Returns how many tensors took weights over.
    """
    taken = 0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            old = small.get(name)
            if old is None or old.dim() != parameter.dim():
                continue
            corner = tuple(slice(0, min(a, b)) for a, b in zip(old.shape, parameter.shape, strict=True))
            if parameter.dim() > 1 and old.shape != parameter.shape:
                parameter.mul_(0.1)
            parameter[corner] = old[corner]
            taken += 1
    return taken


def loss_function(
    model: nn.Module, windows: Windows, settings: Train, cube: Cube, teacher: nn.Module | None
) -> Callable[[np.random.Generator], Tensor]:
    """Draws whitened windows and gives the L1 loss on what was hidden again, summed over read-outs (as published)."""
    fit, rows = settings.fit, windows.training(settings.fit.augment.slide)
    whitener = Whitener(fit.whitening, cube, windows.visible)
    whole = windows.graph

    def loss(rng: np.random.Generator) -> Tensor:
        chosen = rows[rng.integers(len(rows), size=fit.batch)]  # [B, T]
        hide = whitener(chosen, rng)  # [B, T, N, C]
        x, u, mask = windows.batch(chosen, hide)
        truth = x
        if fit.augment.noise:
            noise = torch.as_tensor(rng.standard_normal(x.shape, dtype=np.float32), device=x.device)
            x = x + fit.augment.noise * noise
        graph = whole
        if fit.augment.drop_edges:
            keep = torch.as_tensor(rng.random(len(whole.source)) >= fit.augment.drop_edges, device=x.device)
            graph = type(whole)(
                whole.source[keep],
                whole.target[keep],
                None if whole.weight is None else whole.weight[keep],
                None if whole.type is None else whole.type[keep],
            )
        answers = model(x, u, mask, graph, windows.places).imputations
        answers = answers if fit.readouts == "all" else answers[-1:]
        count = hide.sum().clamp(min=1)
        hard = sum(((answer - truth).abs() * hide).sum() for answer in answers) / count
        if teacher is None or not fit.distil:
            return hard
        with torch.no_grad():
            soft_labels = teacher(x, u, mask, whole, windows.places).imputations[-1]
        unknown = ~mask  # soft labels say something about every cell that the student doesn't see
        soft = sum(((answer - soft_labels).abs() * unknown).sum() for answer in answers) / unknown.sum().clamp(min=1)
        return (1 - fit.distil) * hard + fit.distil * soft

    return loss


def forward(model: nn.Module, windows: Windows) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The last read-out, [B, T, N, C]."""
    return lambda x, u, mask: model(x, u, mask, windows.graph, windows.places).imputations[-1]


def impute(model: nn.Module, windows: Windows, rows: np.ndarray, overlap: bool) -> np.ndarray:
    """[T, N, C] imputations in physical units, NaN in rows not marked in ``rows`` [T]."""
    filled = np.full(windows.cube.shape, np.nan, np.float32)
    filled[rows] = windows.filled(rows, overlap, forward(model, windows))
    return filled


def validation(model: nn.Module, windows: Windows, cube: Cube) -> Callable[[], float]:
    """Mean absolute error on the hidden validation cells, in training standard deviations (channels count alike)."""
    targets = cube.targets(0, VAL)
    rows = np.zeros(len(cube.time), bool)
    rows[targets.time] = True
    weight = 1 / windows.sd[targets.channel]
    if windows.unseen is not None:  # what is asked for later must not choose the model
        weight = weight * ~windows.unseen[targets.node]

    def validate() -> float:
        filled = impute(model, windows, rows, overlap=False)
        return float(np.sum(np.abs(targets.pick(filled) - targets.truth) * weight) / np.count_nonzero(weight))

    return validate


def unseen_errors(
    model: nn.Module, windows: Windows, cube: Cube, unseen: np.ndarray, rows: np.ndarray, overlap: bool
) -> dict[str, float]:
    """Mean absolute error at nodes that were never seen, and that of the seen nodes' mean by inverse squared distance.

    Every visible test value of an unseen node counts; first channel.
    """
    filled = impute(model, windows, rows, overlap)
    asked = cube.visible(0) & unseen[None, :, None] & rows[:, None, None]
    asked[..., 1:] = False
    truth = cube.value[asked]
    weight = inverse_squares(distances(cube.place, cube.attrs["place"])) * ~unseen[:, None]  # [N, N]
    near = weighted_mean(cube.value, cube.visible(0), weight, np.zeros(cube.shape))
    return {
        "mae_unseen_nodes": float(np.mean(np.abs(filled[asked] - truth))),
        "mae_unseen_nodes_idw": float(np.mean(np.abs(near[asked] - truth))),
    }


def counts(model: nn.Module) -> dict[str, float]:
    """``parameters_total`` and one number a component."""
    return {
        f"parameters_{name.replace(' ', '_').replace('-', '_')}": float(n)
        for name, n in parameter_counts(model).items()
    }


def load_into(model: nn.Module, tensors: dict[str, Tensor], seed: int) -> nn.Module:
    """Weights of one seed, named ``<seed>.<parameter>`` in the file."""
    prefix = f"{seed}."
    model.load_state_dict(
        {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    )
    return model.eval()


def teacher_of(run: dict[str, Any], weights: dict[str, Tensor], seed: int, cube: Cube, device: str) -> nn.Module:
    """The trained model of another arm, built from its run's settings; its first seed where it lacks this one."""
    network = Network.model_validate(run["settings"]["network"])
    seeds = sorted({int(name.split(".")[0]) for name in weights})
    return load_into(for_cube(network, cube, device), weights, seed if seed in seeds else seeds[0])
