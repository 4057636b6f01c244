"""Langevin chains of gap, place and mark given the history; everything that the history alone fixes is computed once.

x <- x + e/2 score(x) + sqrt(e) z  (Li et al., ICML 2024, section 3.3). ``denoise`` says what follows the last step:
``all`` takes the mean of the clean value given the noisy one (Tweedie's formula) for gap and place; ``upstream`` goes
on as the published sampler does, with clamping at every step, marks that lag one step behind, and 200 more noisy steps
of the place after Tweedie's formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .score_net import TINY, ScoreNet
from .settings import Sampler

FURTHER_STEPS = 200  # of the place, in the published sampler
REACH = 3.0  # chains stay within, so that steps which are too long for the noise overflow nothing

LARGEST = (32 << 20) - (64 << 10)  # bytes, just below the largest block whose release teaches glibc anything

# A linear layer by oneDNN's kernels: twice as fast as torch.mm where that is MKL, which keeps to AVX2 on processors of
# other makers. None where torch is built without them.
_fused = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None
_gate = torch.ops.aten.threshold_backward.grad_input  # its first argument where the second is above zero, else 0


def keep_memory() -> None:
    """Have glibc keep freed blocks of up to 32 MB: releasing one such block raises its threshold for the process.

    A step's temporaries are about a megabyte each. Handed back to the system and faulted in again at every product,
    they may take a third of the time. Nothing is held, and no other allocator minds.
    """
    torch.empty(LARGEST, dtype=torch.uint8)


class Cached:
    """The score network at n histories, for many evaluations without gradients.

    Conditions, biases and chains of linear layers are folded together once; what is left of an evaluation is ten
    products with U x U matrices and updates in place.
    """

    def __init__(self, net: ScoreNet, cond: Tensor):
        given = net.conditions(cond)
        self.marks, self.n, self.dtype = net.marks, len(cond), cond.dtype
        first, *layers, last = net.time_path
        inner, out = net.intensity_head
        self.time_first = first.weight[:, 0].contiguous()
        self.time_layers = [layer.weight for layer in layers]
        biases = [first.bias, *(layer.bias for layer in layers)]
        self.time_added = [added + bias for added, bias in zip(given.temporal, biases, strict=True)]
        self.rate_inner = inner.weight @ last.weight
        self.rate_inner_bias = inner.weight @ last.bias + inner.bias
        self.rate_out, self.rate_bias = out.weight, out.bias
        first, *layers, _ = net.place_path
        biases = [first.bias, *(layer.bias for layer in layers)]
        self.place_layers = [layer.weight for layer in (first, *layers)]
        self.place_added = [added + bias for added, bias in zip(given.spatial, biases, strict=True)]
        self.mix_time, self.mix_place, self.mix_shift = given.mix_time, given.mix_place, given.mix_shift
        self.place_out, self.place_bias = net.place_head[1].weight, net.place_head[1].bias

    def temporal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Activations [n, m, U] of the time path at t [n, m], and their derivatives."""
        h = torch.addcmul(self.time_added[0], t.unsqueeze(-1), self.time_first).relu_()
        dh = _gated(self.time_first.expand(h.shape), h, torch.empty_like(h))
        for weight, added in zip(self.time_layers, self.time_added[1:], strict=True):
            h = _times(h, weight).add_(added).relu_()
            dh = _gated(_times(dh, weight), h)
        return h, dh

    def intensity(self, h: Tensor, dh: Tensor) -> tuple[Tensor, Tensor]:
        """Intensity by mark [n, m, K] and its derivative."""
        a = _times(h, self.rate_inner, self.rate_inner_bias, relu=True)
        da = _gated(_times(dh, self.rate_inner), a)
        raw = _times(a, self.rate_out, self.rate_bias)
        return F.softplus(raw), _times(da, self.rate_out).mul_(raw.sigmoid_())

    def place_score(self, h: Tensor, place: Tensor) -> Tensor:
        """Score [n, m, 2] of the place given the time path's activations."""
        g = place
        for weight, added in zip(self.place_layers, self.place_added, strict=True):
            g = _times(g, weight).add_(added).relu_()
        mixed = torch.bmm(h, self.mix_time).baddbmm_(g, self.mix_place).add_(self.mix_shift).relu_()
        return _times(mixed, self.place_out, self.place_bias)


def _times(h: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """h [n, m, a] through a linear layer of weight [b, a] and bias [b]: [n, m, b]."""
    if _fused is not None and h.dtype == torch.float32 and h.device.type == "cpu":
        return _fused(h, weight, bias, "relu" if relu else "none", [], "")
    out = F.linear(h, weight, bias)
    return out.relu_() if relu else out


def _gated(slope: Tensor, h: Tensor, out: Tensor | None = None) -> Tensor:
    """``slope`` [n, m, U] where h [n, m, U] is above zero, else 0; into ``out``, or in place."""
    return _gate(slope, h, 0, grad_input=slope if out is None else out)


class Chains:
    """n x m chains in [-1, 1].

    Parameters
    ----------
    field: scores given n histories, see :class:`Cached`.
    m: chains an event.
    """

    def __init__(self, field: Cached, m: int, generator: torch.Generator):
        self.field, self.generator = field, generator
        self.x = 0.5 * torch.randn(field.n, m, 3, generator=generator, dtype=field.dtype)
        self.mark = torch.randint(field.marks, (field.n, m), generator=generator)
        self.rate: Tensor | None = None  # [n, m, K] intensity at the gap where it was last evaluated

    def score(self, draw_mark: bool) -> Tensor:
        """Score [n, m, 3] at the present state; with ``draw_mark`` given a fresh mark from p(k | gap)."""
        h, dh = self.field.temporal(self.x[..., 0])
        self.rate, slope = self.field.intensity(h, dh)
        if draw_mark:
            self.draw_mark()
        if self.field.marks > 1:
            pick = self.mark.unsqueeze(-1)
            one, slope = self.rate.gather(-1, pick).squeeze(-1), slope.gather(-1, pick).squeeze(-1)
        else:
            one, slope = self.rate[..., 0], slope[..., 0]
        score = torch.empty_like(self.x)
        score[..., 0] = slope / (one + TINY) - self.rate.sum(-1)
        score[..., 1:] = self.field.place_score(h, self.x[..., 1:])
        return score

    def draw_mark(self) -> None:
        """A mark from lambda_k / sum lambda at the last evaluated gap, by its inverse distribution function."""
        if self.field.marks > 1:
            up = self.rate.cumsum(-1)
            u = torch.rand(self.mark.shape, generator=self.generator, dtype=up.dtype).unsqueeze(-1) * up[..., -1:]
            self.mark = (u > up[..., :-1]).sum(-1)

    def move(self, score: Tensor, step: Tensor) -> None:
        """One Langevin step, ``step`` [3] the step size of each coordinate."""
        noise = torch.randn(self.x.shape, generator=self.generator, dtype=self.x.dtype)
        self.x.add_(0.5 * step * score).add_(step.sqrt() * noise)


@torch.no_grad()
def sample(
    net: ScoreNet,
    cond: Tensor,
    settings: Sampler,
    sigma: tuple[float, float],
    generator: torch.Generator,
    advance: Callable[[int], None] = lambda steps: None,
    field: Callable[[ScoreNet, Tensor], Cached] = Cached,
) -> tuple[Tensor, Tensor]:
    """Draw from the forecast of n events.

    Parameters
    ----------
    cond: [n, C] conditions.
    sigma: noise of gap and place that the network was trained at.
    advance: called with the number of steps done since the last call.
    field: makes what gives the scores.

    Returns
    -------
    x [n, m, 3] in [-1, 1], the range of the training data, and mark probabilities [n, m, K] at the drawn gaps.
    """
    keep_memory()
    chains = Chains(field(net, cond), settings.samples, generator)
    noise = torch.tensor([sigma[0], sigma[1], sigma[1]], dtype=chains.x.dtype)
    upstream = settings.denoise == "upstream"
    step = torch.full((3,), settings.step_size, dtype=chains.x.dtype)
    if settings.step_scale == "sigma":
        step = step * (noise / noise[0]) ** 2
    for done in range(settings.steps):
        chains.move(chains.score(draw_mark=not upstream), step)
        chains.x.clamp_(*((-1, 1) if upstream else (-REACH, REACH)))
        if upstream:
            chains.draw_mark()  # from the intensity before the move
        if (done + 1) % settings.per_step == 0 or done + 1 == settings.steps:
            advance((done % settings.per_step) + 1)
    if settings.denoise != "none":
        chains.x += noise**2 * chains.score(draw_mark=not upstream)
    if upstream:
        h, _ = chains.field.temporal(chains.x[..., 0])
        root = math.sqrt(settings.step_size)
        for _ in range(FURTHER_STEPS):  # the gap stands still, so its path does too
            place = chains.x[..., 1:]
            kick = torch.randn(place.shape, generator=generator, dtype=place.dtype)
            place += 0.5 * settings.step_size * chains.field.place_score(h, place) + root * kick
            place.clamp_(-REACH, REACH)
    chains.x.clamp_(-1, 1)
    rate, _ = chains.field.intensity(*chains.field.temporal(chains.x[..., 0]))
    return chains.x, rate / (rate.sum(-1, keepdim=True) + TINY)
