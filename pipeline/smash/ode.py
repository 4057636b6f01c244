"""Draws without chains: time and mark from the tabulated intensity, the place by the probability-flow ODE."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .corrected import Corrected

RHO = 7.0  # of the noise schedule (Karras et al., NeurIPS 2022, equation 5)
BEYOND = 0.5  # table beyond the training range, in standard deviations


def draw_from_table(rate: Tensor, grid: Tensor, u: Tensor) -> Tensor:
    """Times [n, m] drawn exactly from the law that tabulated intensities define.

    The density is p(t) ~ rate(t) exp(-integral of rate), normalised over the table: score matching fixes the rate only
    up to a one-parameter family (rate = p / (c - F)), all of whose members give the same p.

    Parameters
    ----------
    rate: [n, G] total intensity on the ascending grid [G]. u: [n, m] uniform numbers.
    """
    width = grid.diff()
    gone = torch.cumsum((rate[:, 1:] + rate[:, :-1]) / 2 * width, dim=1)  # [n, G - 1], from the first point
    survival = torch.cat([torch.ones_like(gone[:, :1]), (-gone).exp()], dim=1)  # [n, G]
    below = 1 - survival  # rate exp(-integral) integrates to this exactly
    below = below / below[:, -1:].clamp_min(1e-30)
    place = torch.searchsorted(below.contiguous(), u.contiguous()).clamp(1, len(grid) - 1)
    low, high = below.gather(1, place - 1), below.gather(1, place)
    share = ((u - low) / (high - low).clamp_min(1e-30)).clamp(0, 1)
    return grid[place - 1] + share * (grid[place] - grid[place - 1])


def schedule(least: float, most: float, steps: int) -> Tensor:
    """[steps + 1] descending noise levels, the last one zero."""
    ramp = torch.linspace(0, 1, steps)
    levels = (most ** (1 / RHO) + ramp * (least ** (1 / RHO) - most ** (1 / RHO))) ** RHO
    return torch.cat([levels, torch.zeros(1)])


def heun(denoised: Callable[[Tensor, Tensor], Tensor], x: Tensor, levels: Tensor) -> Tensor:
    """Follow dx/dsigma = (x - D(x, sigma)) / sigma from the first level to the last (Karras et al., algorithm 1).

    ``denoised(x, sigma)`` takes a scalar noise level.
    """
    for now, then in zip(levels[:-1], levels[1:], strict=True):
        slope = (x - denoised(x, now)) / now
        ahead = x + (then - now) * slope
        if then > 0:
            slope = (slope + (ahead - denoised(ahead, then)) / then) / 2
            ahead = x + (then - now) * slope
        x = ahead
    return x


@torch.no_grad()
def sample(
    model: Corrected,
    cond: Tensor,
    samples: int,
    steps: int,
    table: int,
    bounds: tuple[float, float],
    generator: torch.Generator,
    time: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw from the forecast of n events.

    Parameters
    ----------
    cond: [n, h]. bounds: range of the standardised gap on the training data. time: [n, samples] gaps that are given.

    Returns
    -------
    x [n, samples, 3] standardised, and mark probabilities [n, samples, K] at the drawn gaps.
    """
    given, n = model.given(cond), len(cond)
    least = cond.new_tensor(model.least_time)
    if time is None:
        grid = torch.linspace(bounds[0] - BEYOND, bounds[1] + BEYOND, table, dtype=cond.dtype)
        rate, _ = model.intensity(grid.expand(n, -1), least.expand(n, table), given, slope=False)  # [n, G, K]
        time = draw_from_table(rate.sum(-1), grid, torch.rand(n, samples, generator=generator).to(cond))
    rate, _ = model.intensity(time, least.expand(n, samples), given, slope=False)
    probability = rate / rate.sum(-1, keepdim=True).clamp_min(1e-30)  # [n, m, K]
    mark = torch.multinomial(probability.flatten(0, 1) + 1e-12, 1, generator=generator).view(n, samples)
    levels = schedule(*model.place_noise, steps).to(cond)
    start = levels[0] * torch.randn(n, samples, 2, generator=generator).to(cond)
    x = heun(lambda x, s: model.denoised(x, s.expand(n, samples), time, mark, given), start, levels)
    return torch.cat([time.unsqueeze(-1), x], dim=-1), probability
