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
from torch import Tensor

from .score_net import TINY, Conditions, ScoreNet
from .settings import Sampler

FURTHER_STEPS = 200  # of the place, in the published sampler
REACH = 3.0  # chains stay within, so that steps which are too long for the noise overflow nothing


class Chains:
    """n x m chains in [-1, 1].

    Parameters
    ----------
    net: score network, without gradients.
    given: conditions of n events.
    m: chains an event.
    """

    def __init__(self, net: ScoreNet, given: Conditions, m: int, generator: torch.Generator):
        self.net, self.given, self.generator = net, given, generator
        like = given.mix_shift
        n = len(like)
        self.x = 0.5 * torch.randn(n, m, 3, generator=generator, dtype=like.dtype)
        self.mark = torch.randint(net.marks, (n, m), generator=generator)
        self.rate: Tensor | None = None  # [n, m, K] intensity at the gap where it was last evaluated

    def score(self, draw_mark: bool) -> Tensor:
        """Score [n, m, 3] at the present state; with ``draw_mark`` given a fresh mark from p(k | gap)."""
        net = self.net
        h, dh = net.temporal(self.x[..., 0], self.given)
        self.rate, slope = net.intensity(h, dh)
        if draw_mark:
            self.draw_mark()
        if net.marks > 1:
            pick = self.mark.unsqueeze(-1)
            one, slope = self.rate.gather(-1, pick).squeeze(-1), slope.gather(-1, pick).squeeze(-1)
        else:
            one, slope = self.rate[..., 0], slope[..., 0]
        score = torch.empty_like(self.x)
        score[..., 0] = slope / (one + TINY) - self.rate.sum(-1)
        score[..., 1:] = net.place_score(h, self.x[..., 1:], self.given)
        return score

    def draw_mark(self) -> None:
        """A mark from lambda_k / sum lambda at the last evaluated gap, by its inverse distribution function."""
        if self.net.marks > 1:
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
) -> tuple[Tensor, Tensor]:
    """Draw from the forecast of n events.

    Parameters
    ----------
    cond: [n, C] conditions.
    sigma: noise of gap and place that the network was trained at.
    advance: called with the number of steps done since the last call.

    Returns
    -------
    x [n, m, 3] in [-1, 1], the range of the training data, and mark probabilities [n, m, K] at the drawn gaps.
    """
    chains = Chains(net, net.conditions(cond), settings.samples, generator)
    noise = torch.tensor([sigma[0], sigma[1], sigma[1]], dtype=cond.dtype)
    upstream = settings.denoise == "upstream"
    step = torch.full((3,), settings.step_size, dtype=cond.dtype)
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
    h, _ = net.temporal(chains.x[..., 0], chains.given, slope=False)
    if upstream:
        root = math.sqrt(settings.step_size)
        for _ in range(FURTHER_STEPS):  # the gap stands still, so its path does too
            place = chains.x[..., 1:]
            kick = torch.randn(place.shape, generator=generator, dtype=place.dtype)
            place += 0.5 * settings.step_size * net.place_score(h, place, chains.given) + root * kick
            place.clamp_(-REACH, REACH)
    chains.x.clamp_(-1, 1)
    rate, _ = net.intensity(h, None)
    return chains.x, rate / (rate.sum(-1, keepdim=True) + TINY)
