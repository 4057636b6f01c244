"""SPIN, the spatio-temporal point inference network (Marisca, Cini, Alippi 2022, arXiv 2205.13479).

Channels may be missing one by one: a cell counts as observed where any of its channels is, and only observed channels'
values go in (the published network has one mask for all channels; with one channel the two are the same).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .attention import Graph, GraphAttention
from .embedding import NodeTable, PositionalEncoder, mlp, node_embedding

TIME_FEATURES = 4  # sine and cosine of the day and of the week


@dataclass
class Output:
    """What a forward pass gives.

    Attributes
    ----------
    imputations: one [B, T, N, C] a layer, the last one is the answer.
    attention: per layer ``cross`` [B, E, T, S] and ``self`` [B, N, T, S]; empty unless asked for.
    """

    imputations: list[Tensor]
    attention: list[dict[str, Tensor]] = field(default_factory=list)


class Tokens(nn.Module):
    """What a cell is told at layer eta: whether it was observed, by node; from then on all cells are sources.

    ``separate``: two tables (published). ``shared``: one table and an offset (the seed's 2.5).
    """

    def __init__(self, kind: str, nodes: int, size: int, embedding: str = "table"):
        super().__init__()
        self.valid = node_embedding(embedding, nodes, size)
        self.masked = node_embedding(embedding, nodes, size) if kind == "separate" else None
        self.offset = nn.Parameter(torch.zeros(size)) if kind == "shared" else None

    def forward(self, mask: Tensor, places: Tensor | None) -> Tensor:
        """mask [B, N, T, 1] bool -> [B, N, T, H]"""
        valid = self.valid(places)
        masked = valid + self.offset if self.masked is None else self.masked(places)
        return torch.where(mask, valid[:, None], masked[:, None])


class SPIN(nn.Module):
    """The published network.

    Parameters
    ----------
    channels: C. nodes: N.
    hidden: H, even. layers: L. eta: layers in which neighbours' unobserved cells are hidden.
    message_layers, self_attention, causal, distance, degree_norm, dropout: of each layer, see ``GraphAttention``.
    tokens: ``separate`` or ``shared``. embedding: ``table`` or ``places``.
    positional_layers, readout_layers: hidden layers of the positional encoder and of each read-out.
    edge_types: number of edge types that are told apart; 0: none.
    channel_tokens: a learnt vector for each missing channel of a cell that is observed in part.
    """

    def __init__(
        self,
        channels: int,
        nodes: int,
        hidden: int = 32,
        layers: int = 4,
        eta: int = 3,
        message_layers: int = 1,
        self_attention: bool = True,
        causal: bool = False,
        distance: int | None = None,
        degree_norm: bool = False,
        dropout: float = 0.0,
        tokens: str = "separate",
        embedding: str = "table",
        positional_layers: int = 2,
        readout_layers: int = 2,
        edge_types: int = 0,
        channel_tokens: bool = False,
    ):
        super().__init__()
        self.eta = eta
        self.position = PositionalEncoder(TIME_FEATURES, hidden, positional_layers)
        self.nodes = node_embedding(embedding, nodes, hidden)
        self.encode = mlp(channels, hidden, 2)
        self.missing = NodeTable(channels, hidden) if channel_tokens else None
        self.norm = nn.LayerNorm(hidden)
        self.tokens = Tokens(tokens, nodes, hidden, embedding)
        self.skip = nn.ModuleList([nn.Linear(channels, hidden) for _ in range(layers)])
        self.layers = nn.ModuleList(
            [
                GraphAttention(
                    hidden,
                    message_layers,
                    self_attention,
                    mask_cross=layer < eta,
                    types=edge_types,
                    causal=causal,
                    distance=distance,
                    degree_norm=degree_norm,
                    dropout=dropout,
                )
                for layer in range(layers)
            ]
        )
        self.readout = nn.ModuleList([mlp(hidden, hidden, readout_layers, channels) for _ in range(layers)])

    def forward(
        self,
        x: Tensor,
        u: Tensor,
        mask: Tensor,
        graph: Graph,
        places: Tensor | None = None,
        return_attention: bool = False,
    ) -> Output:
        """Impute.

        Parameters
        ----------
        x: [B, T, N, C] scaled values; what the mask hides is never read (it may be NaN).
        u: [B, T, 4] time of day and week. mask: [B, T, N, C] bool, observed.
        places: [N, 2] scaled coordinates, for ``embedding: places``.
        """
        mask = mask.permute(0, 2, 1, 3)  # [B, N, T, C]
        x = torch.where(mask, x.permute(0, 2, 1, 3), 0)
        seen = mask.any(3, keepdim=True)  # [B, N, T, 1]
        query = self.position(u, self.nodes(places))  # [B, N, T, H]
        value = self.encode(x) + query
        if self.missing is not None:
            value = value + (~mask).to(x.dtype) @ self.missing()
        h = self.norm(torch.where(seen, value, query))
        imputations, found = [], []
        for index, layer in enumerate(self.layers):
            if index == self.eta:
                h = h + self.tokens(seen, places)
            h = h + self.skip[index](x) * seen
            h, alpha = layer(h, graph, seen[..., 0], return_attention)
            imputations.append(self.readout[index](h).permute(0, 2, 1, 3))  # [B, N, T, C] -> [B, T, N, C]
            found.append(alpha)
        return Output(imputations, found if return_attention else [])


PARTS = {
    "position": "positional encoder",
    "nodes": "node embedding",
    "encode": "input encoder",
    "missing": "channel tokens",
    "norm": "input norm",
    "tokens": "valid and mask embeddings",
    "skip": "input skips",
    "layers": "attention layers",
    "readout": "read-outs",
    "hubs": "hubs",
    "hub_nodes": "hubs",
    "hub_norm": "hubs",
    "first_tokens": "valid and mask embeddings",
}


def parameter_counts(model: nn.Module) -> dict[str, int]:
    """Trainable parameters by component, and their ``total``."""
    counts: dict[str, int] = defaultdict(int)
    for name, parameter in model.named_parameters():
        counts[PARTS.get(name.split(".")[0], name.split(".")[0])] += parameter.numel()
    return {**counts, "total": sum(counts.values())}
