"""What the FSNet networks are made of: layers, shapes, initial values and parameter counts.

The backbone is the dilated TCN of FSNet (arXiv 2202.11672, section 3; `depth` residual blocks of two convolutions
of kernel 3 with dilation 2^i, then a wider last block).  Only the last time step of its output is read, so only what
reaches that step is kept here:

* block i works on the positions T-1, T-1-2^i, T-1-2*2^i, ... (its second convolution on every other one of them);
* a convolution with dilation >= T sees nothing but padding through its outer taps, so it keeps the middle tap only.

What is left out gets zero gradient for ever in the published network and never changes an output.  Tensors with one
shape are stacked: every parameter is stored as [n, R, *shape], n layers and R replicas, all in one flat buffer.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import asdict, dataclass, field
from functools import cached_property

import numpy as np
import torch

from pipeline.core.errors import ConfigError
from pipeline.fsnet.memory import MemorySettings

KERNEL = 3
KINDS = ("tcn", "adapter", "naive")
CHUNKS = ("upstream", "output")


@dataclass(frozen=True)
class ConvGroup:
    """Equal-shaped convolutions: weights [n, R, out, taps, in], gradients cut into `chunks` for the controller."""

    name: str
    n: int
    out: int
    inn: int
    taps: int  # live taps: 3, or 1 (the middle one) where the outer taps only see padding
    chunks: int

    @property
    def per_chunk(self) -> int:
        """Output channels that one chunk calibrates (biases and output scales)."""
        return self.out // self.chunks

    @property
    def chunk_size(self) -> int:
        """Live gradient entries of one chunk."""
        return self.out * self.taps * self.inn // self.chunks

    @property
    def coefficients(self) -> int:
        """Coefficients of one chunk: a weight scale for each tap, then bias and output scales.

        The scales of dead taps are kept: they reach no output by themselves but are entries of the memory's query.
        """
        return KERNEL + 2 * self.per_chunk


@dataclass(frozen=True)
class Slab:
    """One stacked parameter: shape [n, R, *shape]; initial values uniform in +-bound, or the constant `fill`."""

    name: str
    n: int
    shape: tuple[int, ...]
    bound: float = 0.0
    fill: float = 0.0

    @property
    def numel(self) -> int:
        return self.n * math.prod(self.shape)


@dataclass(frozen=True)
class NetworkSpec:
    """One network: `tcn` (no adapters), `adapter` (FSNet), or `naive` (coefficients trained directly).

    inputs is the number of series channels plus time stamps, outputs is H * C_out, window is T in steps.
    chunks "upstream": as many gradient chunks as input channels, whose weight scales act on input channels;
    "output": one chunk an output channel, whose scales all act on that output channel.
    identity: coefficients are 1 + head with heads that start at zero, so the network starts as the plain TCN.
    zero_head: the regression head starts at zero.  gate: a learnt sigmoid gate on each chunk's coefficients.
    gamma and gamma_short are the decays of the long and short gradient averages (and of the query's average).
    """

    kind: str
    inputs: int
    outputs: int
    window: int
    hidden: int = 64
    representation: int = 320
    depth: int = 10
    dropout: float = 0.1
    chunks: str = "upstream"
    controller_width: int = 64
    identity: bool = False
    zero_head: bool = False
    gate: bool = False
    gamma: float = 0.9
    gamma_short: float = 0.3
    memory: MemorySettings = field(default_factory=MemorySettings)

    def __post_init__(self) -> None:
        def require(ok: bool, what: str) -> None:
            if not ok:
                raise ConfigError(f"fsnet network: {what}")

        require(self.kind in KINDS, f"kind is {self.kind!r}; allowed are {', '.join(KINDS)}")
        require(self.chunks in CHUNKS, f"chunks is {self.chunks!r}; allowed are {', '.join(CHUNKS)}")
        require(
            2 <= self.window <= 2**self.depth,
            f"window is {self.window} steps; it must lie in 2..{2**self.depth} (2^depth), "
            "beyond which the network cannot see",
        )
        require(min(self.inputs, self.outputs, self.hidden) >= 1, "inputs, outputs and hidden must be at least 1")
        require(0 <= self.dropout < 1, f"dropout is {self.dropout}; it must lie in [0, 1)")
        for name in ("gamma", "gamma_short"):
            require(0 <= getattr(self, name) < 1, f"{name} is {getattr(self, name)}; it must lie in [0, 1)")
        if self.kind == "adapter":
            require(
                self.representation % self.hidden == 0,
                f"adapters share the {self.representation} output channels among chunks, so representation must be "
                f"a multiple of hidden ({self.hidden})",
            )
            for group in self.groups:
                require(
                    group.chunks % self.memory.heads == 0,
                    f"memory.heads is {self.memory.heads}; it must divide the chunks of a layer ({group.chunks})",
                )
        else:
            require(self.memory.variant == "none", f"kind {self.kind!r} has no memory; use kind 'adapter'")
            require(not (self.identity or self.gate), "identity and gate need kind 'adapter'")

    # -- structure -------------------------------------------------------------------------------------------------

    @property
    def has_memory(self) -> bool:
        return self.memory.variant != "none"

    @property
    def wide_blocks(self) -> int:
        """Blocks before the last whose outer taps see data: dilation 2^i < T."""
        return sum(2**i < self.window for i in range(self.depth))

    @property
    def grid(self) -> list[int]:
        """Positions that block i reads: T for block 0, then every 2^i-th, one for the pointwise blocks."""
        return [-(-self.window // 2**i) if 2**i < self.window else 1 for i in range(self.depth + 1)]

    @cached_property
    def groups(self) -> tuple[ConvGroup, ...]:
        h, d, wide = self.hidden, self.representation, self.wide_blocks

        def group(name: str, n: int, out: int, inn: int, taps: int) -> ConvGroup:
            by_input = self.kind == "adapter" and self.chunks == "upstream"
            return ConvGroup(name, n, out, inn, taps, inn if by_input else out)

        every = (
            group("wide", 2 * wide, h, h, KERNEL),
            group("narrow", 2 * (self.depth - wide), h, h, 1),
            group("last1", 1, d, h, 1),
            group("last2", 1, d, d, 1),
        )
        return tuple(g for g in every if g.n)

    @cached_property
    def slabs(self) -> tuple[Slab, ...]:
        """Every live trainable parameter; the convolution weights come first and in one piece."""
        h, d, c, o, nh = self.hidden, self.representation, self.inputs, self.outputs, self.controller_width
        slabs = [Slab(f"{g.name}_w", g.n, (g.out, g.taps, g.inn), bound=(g.inn * KERNEL) ** -0.5) for g in self.groups]
        slabs += [
            Slab("input_w", 1, (h, c), bound=c**-0.5),
            Slab("input_b", 1, (h,), bound=c**-0.5),
            Slab("projector_w", 1, (d, h), bound=h**-0.5),
            Slab("projector_b", 1, (d,), bound=h**-0.5),
            Slab("head_w", 1, (o, d), bound=0.0 if self.zero_head else d**-0.5),
            Slab("head_b", 1, (o,), bound=0.0 if self.zero_head else d**-0.5),
        ]
        # The published adapters start with zero biases; the plain TCN (and so the identity start) does not.
        # The naive network multiplies a zero bias by a zero scale: both stay zero for ever and are left out.
        if self.kind != "naive":
            plain = self.kind == "tcn" or self.identity
            slabs += [
                Slab(f"{g.name}_b", g.n, (g.out,), bound=(g.inn * KERNEL) ** -0.5 if plain else 0.0)
                for g in self.groups
            ]
        if self.kind == "naive":
            slabs += [Slab(f"{g.name}_scale", g.n, (g.out, 1, g.inn), fill=1.0) for g in self.groups]
            slabs += [Slab(f"{g.name}_f", g.n, (g.out,), fill=1.0) for g in self.groups]
        if self.kind == "adapter":
            for g in self.groups:
                fan_in = g.out * KERNEL * g.inn // g.chunks  # of the published, unpruned controller
                rows = g.coefficients + self.gate
                head = 0.0 if self.identity else nh**-0.5
                slabs += [
                    Slab(f"{g.name}_controller_w", g.n, (nh, g.chunk_size), bound=fan_in**-0.5),
                    Slab(f"{g.name}_controller_b", g.n, (nh,), bound=fan_in**-0.5),
                    Slab(f"{g.name}_heads_w", g.n, (rows, nh), bound=head),
                    Slab(f"{g.name}_heads_b", g.n, (rows,), bound=head),
                ]
        return tuple(slabs)

    @cached_property
    def size(self) -> int:
        """Live parameters of one replica."""
        return sum(slab.numel for slab in self.slabs)

    def parameter_counts(self) -> dict[str, int]:
        """Numbers of one replica: published totals (`trainable`, `memory`) and the part that can matter (`live`)."""
        h, d, c, o, nh = self.hidden, self.representation, self.inputs, self.outputs, self.controller_width
        total = c * h + h + h * d + d + d * o + o
        memory = 0
        for inn, out, n in ((h, h, 2 * self.depth), (h, d, 1), (d, d, 1)):
            total += n * (out * inn * KERNEL + out)
            if self.kind == "naive":
                total += n * (out * inn + 2 * out)
            if self.kind == "adapter":
                chunks = inn if self.chunks == "upstream" else out
                rows = KERNEL + 2 * (out // chunks)
                total += n * ((out * inn * KERNEL // chunks + 1) * nh + (nh + 1) * (rows + self.gate))
                memory += n * chunks * rows * self.memory.slots if self.has_memory else 0
        return {"trainable": total, "memory": memory, "live": self.size}

    def to_dict(self) -> dict:
        return asdict(self)

    @staticmethod
    def from_dict(values: dict) -> NetworkSpec:
        return NetworkSpec(**{**values, "memory": MemorySettings(**values["memory"])})


def random_stream(seed: int, purpose: str, step: int = 0) -> np.random.Generator:
    """Counter-based random numbers: a function of (seed, purpose, step) alone, so nothing has to be stored."""
    return np.random.Generator(np.random.Philox(key=[seed, zlib.crc32(purpose.encode())], counter=[0, 0, 0, step]))


def flat_views(spec: NetworkSpec, flat: torch.Tensor, replicas: int) -> dict[str, torch.Tensor]:
    """Views [n, R, *shape] of a flat buffer of spec.size * R entries, by parameter name."""
    views, start = {}, 0
    for slab in spec.slabs:
        stop = start + slab.numel * replicas
        views[slab.name] = flat[start:stop].view(slab.n, replicas, *slab.shape)
        start = stop
    return views


def flat_slice(spec: NetworkSpec, names: tuple[str, ...], replicas: int) -> slice:
    """Where neighbouring parameters stand in a flat buffer."""
    start = stop = position = 0
    for slab in spec.slabs:
        if slab.name == names[0]:
            start = position
        position += slab.numel * replicas
        if slab.name == names[-1]:
            stop = position
    return slice(start, stop)


def initial_parameters(spec: NetworkSpec, seeds: list[int], device, dtype: torch.dtype) -> torch.Tensor:
    """Flat parameters of every replica; replica r depends on seeds[r] alone.

    A parameter's numbers depend on (seed, name), so networks that share a layer start it alike.
    """
    flat = torch.zeros(spec.size * len(seeds), dtype=dtype, device=device)
    views = flat_views(spec, flat, len(seeds))
    for slab in spec.slabs:
        if slab.fill:
            views[slab.name].fill_(slab.fill)
        if slab.bound:
            for r, seed in enumerate(seeds):
                draw = random_stream(seed, slab.name).uniform(-slab.bound, slab.bound, (slab.n, *slab.shape))
                views[slab.name][:, r] = torch.from_numpy(draw).to(device=device, dtype=dtype)
    return flat
