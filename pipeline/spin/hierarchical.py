"""SPIN-H: attention by way of a few hubs a node, so that cost grows with edges x T x hubs (paper, section 4.3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .attention import AdditiveAttention, Graph
from .embedding import PositionalEncoder, mlp, node_embedding
from .model import TIME_FEATURES, Output, Tokens


def softmax_by_target(score: Tensor, target: Tensor, nodes: int) -> Tensor:
    """[B, E, T, 1] softmax over the edges that share a target, step by step."""
    place = target[None, :, None, None].expand_as(score)
    top = score.new_full((len(score), nodes, *score.shape[2:]), -torch.inf).scatter_reduce(1, place, score, "amax")
    weight = (score - top.detach().gather(1, place)).exp()
    total = torch.zeros_like(top).scatter_add(1, place, weight)
    return weight / total.gather(1, place)


class HubAttention(nn.Module):
    """One layer of SPIN-H: a node's steps -> its hubs -> its steps; neighbours' hubs -> its steps.

    As in the authors' published configuration: hubs don't read neighbours, a sigmoid gate from hubs to steps, and a
    softmax over the neighbours.

    Parameters
    ----------
    size, hub_size: widths H and Z. message_layers: of the message networks.
    """

    def __init__(self, size: int, hub_size: int, message_layers: int = 1, types: int = 0, dropout: float = 0.0):
        super().__init__()
        common = {"message_size": size, "message_layers": message_layers, "skip": True}
        self.gather = AdditiveAttention(size, hub_size, hub_size, **common)
        self.gather_norm = nn.LayerNorm(hub_size)
        self.spread = AdditiveAttention(hub_size, size, size, **common)
        self.cross = AdditiveAttention(hub_size, size, size, softmax=False, types=types, **common)
        self.weigh_cross = nn.Linear(size, 1, bias=False)
        self.weigh_hub = nn.Linear(hub_size, 1, bias=False)  # of the unused way back; kept so that counts agree
        self.skip, self.hub_skip = nn.Linear(size, size), nn.Linear(hub_size, hub_size)
        self.norm, self.hub_norm = nn.LayerNorm(size), nn.LayerNorm(hub_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, z: Tensor, graph: Graph, mask: Tensor, return_attention: bool = False):
        """h [B, N, T, H], z [B, N, K, Z], mask [B, N, T] bool -> the same and attention

        ``gather`` [B, N, K, T], ``spread`` [B, N, T, K], ``cross`` [B, E, T, K], ``edge`` [B, E, T].
        """
        batch, nodes, steps, size = h.shape
        rows, hubs = h.reshape(-1, steps, size), z.reshape(-1, *z.shape[2:])  # [B*N, T, H], [B*N, K, Z]
        own = torch.arange(len(rows), device=h.device)
        read, to_hub = self.gather(rows, hubs, (own, own), mask.reshape(-1, steps), return_attention=return_attention)
        read = self.gather_norm(read)
        told, to_step = self.spread(read, rows, (own, own), return_attention=return_attention)
        source, target = graph.rows(batch, nodes)
        each = torch.arange(len(source), device=h.device)
        heard, across = self.cross(  # one target row an edge, since the softmax over the neighbours comes after
            read,
            told[target],
            (source, each),
            types=None if graph.type is None else graph.type.repeat(batch),
            return_attention=return_attention,
        )
        heard = heard.view(batch, -1, steps, size)  # [B, E, T, H]
        share = softmax_by_target(self.weigh_cross(heard), graph.target, nodes)  # [B, E, T, 1]
        if graph.weight is not None:
            heard = heard * graph.weight[:, None, None]
        out = h.new_zeros(batch, nodes, steps, size).index_add(1, graph.target, share * heard)
        h = self.norm(self.dropout(out) + self.skip(h))
        z = self.hub_norm(read.view_as(z) + self.hub_skip(z))
        if not return_attention:
            return h, z, {}
        found = {
            "gather": to_hub.view(batch, nodes, -1, steps),
            "spread": to_step.view(batch, nodes, steps, -1),
            "cross": across.view(batch, -1, steps, z.shape[2]),
            "edge": share[..., 0].detach(),
        }
        return h, z, found


class SPINH(nn.Module):
    """The published hierarchical network.

    Parameters
    ----------
    channels: C. nodes: N. hidden: H. hub_size: Z. hubs: K of each node.
    layers, eta, message_layers, embedding, positional_layers, readout_layers, edge_types, dropout: as ``SPIN``.
    """

    def __init__(
        self,
        channels: int,
        nodes: int,
        hidden: int = 32,
        hub_size: int = 128,
        hubs: int = 4,
        layers: int = 5,
        eta: int = 3,
        message_layers: int = 1,
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
        self.nodes = node_embedding(embedding, nodes, hidden)
        self.hubs = nn.ParameterDict({"start": nn.Parameter(torch.empty(hubs, nodes, hub_size))})
        nn.init.uniform_(self.hubs["start"], -1 / math.sqrt(hub_size), 1 / math.sqrt(hub_size))
        self.hub_nodes = nn.Linear(hidden, hub_size, bias=False)
        self.hub_norm = nn.LayerNorm(hub_size)
        self.position = PositionalEncoder(TIME_FEATURES, hidden, positional_layers)
        self.encode = mlp(channels, hidden, 2)
        self.missing = node_embedding("table", channels, hidden) if channel_tokens else None
        self.norm = nn.LayerNorm(hidden)
        self.first_tokens = Tokens(tokens, nodes, hidden, embedding)
        self.tokens = Tokens(tokens, nodes, hidden, embedding)
        self.skip = nn.ModuleList([nn.Linear(channels, hidden) for _ in range(layers)])
        self.layers = nn.ModuleList(
            [HubAttention(hidden, hub_size, message_layers, edge_types, dropout) for _ in range(layers)]
        )
        self.readout = nn.ModuleList([mlp(hidden, hub_size, readout_layers, channels) for _ in range(layers)])

    def forward(
        self,
        x: Tensor,
        u: Tensor,
        mask: Tensor,
        graph: Graph,
        places: Tensor | None = None,
        return_attention: bool = False,
    ) -> Output:
        """As ``SPIN.forward``. What the mask hides is never read (the published code relies on zeros there)."""
        mask = mask.permute(0, 2, 1, 3)  # [B, N, T, C]
        x = torch.where(mask, x.permute(0, 2, 1, 3), 0)
        seen = mask.any(3, keepdim=True)  # [B, N, T, 1]
        nodes = self.nodes(places)  # [N, H]
        z = self.hubs["start"].transpose(0, 1) + self.hub_nodes(nodes)[:, None]  # [N, K, Z]
        z = self.hub_norm(z).expand(len(x), -1, -1, -1)  # [B, N, K, Z]
        query = self.position(u, nodes)
        value = self.encode(x) + query
        if self.missing is not None:
            value = value + (~mask).to(x.dtype) @ self.missing()
        h = self.norm(torch.where(seen, value, query) + self.first_tokens(seen, places))
        imputations, found = [], []
        for index, layer in enumerate(self.layers):
            if index == self.eta:
                h = h + self.tokens(seen, places)
            h = h + self.skip[index](x) * seen
            h, z, alpha = layer(h, z, graph, seen[..., 0], return_attention)
            imputations.append(self.readout[index](h).permute(0, 2, 1, 3))  # [B, N, T, C] -> [B, T, N, C]
            found.append(alpha)
        return Output(imputations, found if return_attention else [])
