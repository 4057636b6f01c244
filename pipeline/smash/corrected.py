"""Score matching put right: several noise levels, places given time and mark, and a scale fitted on training data.

The published method learns the score at one noise level only, so that its samples are either as wide as the noisy data
or, after Tweedie's formula, too narrow. Here the time's intensity and the place's denoiser are told the noise level
(Karras et al., NeurIPS 2022, "EDM", for the place's preconditioning and weights), samples come from the least noise,
and the place is p(x | t, k) as the paper has it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .batches import Batch
from .events import FLOOR, Catalogue
from .score_net import TINY
from .settings import Corrected as Settings
from .settings import Denoise


@dataclass(frozen=True)
class Standard:
    """Gap (or log gap) and place in standard deviations of the training data; the interface of ``batches.Scale``."""

    mean: np.ndarray
    sd: np.ndarray
    log_time: bool
    least: float
    most: float

    @classmethod
    def of(cls, catalogue: Catalogue, log_time: bool) -> Standard:
        fitted = catalogue.meta["scaler"]
        gap = fitted["log_dt" if log_time else "dt"]
        mean, sd = np.array([gap["mean"], *fitted["xy"]["mean"]]), np.array([gap["sd"], *fitted["xy"]["sd"]])
        sd = np.where(sd > 0, sd, 1.0)
        return cls(mean, sd, log_time, (gap["min"] - mean[0]) / sd[0], (gap["max"] - mean[0]) / sd[0])

    def forward(self, dt: np.ndarray, xy: np.ndarray) -> np.ndarray:
        gap = np.log(np.maximum(dt, FLOOR)) if self.log_time else dt
        return (np.concatenate([gap[..., None], xy], axis=-1) - self.mean) / self.sd

    def backward(self, value: np.ndarray) -> np.ndarray:
        raw = value * self.sd + self.mean
        gap = np.exp(raw[..., :1]) if self.log_time else np.maximum(raw[..., :1], 0)
        return np.concatenate([gap, raw[..., 1:]], axis=-1)


class Corrected(nn.Module):
    """Recurrent encoder, intensity by mark told the noise level, and denoiser of the place given time and mark."""

    def __init__(self, marks: int, settings: Settings):
        super().__init__()
        h = settings.hidden
        self.marks, self.hidden = marks, h
        self.least_time, self.place_noise = settings.sigma_time[0], tuple(settings.sigma_location)
        self.gru = nn.GRU(3 + marks, h, batch_first=True)
        self.time_in, self.time_given = nn.Linear(2, h), nn.Linear(h, h)
        self.time_mid, self.time_mid_given = nn.Linear(h, h), nn.Linear(h, h)
        self.time_out = nn.Linear(h, marks)
        self.place_in, self.place_given = nn.Linear(4 + marks, 2 * h), nn.Linear(h, 2 * h)
        self.place_mid, self.place_mid_given = nn.Linear(2 * h, 2 * h), nn.Linear(h, 2 * h)
        self.place_out = nn.Linear(2 * h, 2)
        nn.init.zeros_(self.place_out.weight)
        nn.init.zeros_(self.place_out.bias)

    def condition(self, batch: Batch) -> Tensor:
        """[n, h] state before every forecast event of the batch, in (window, event) order."""
        read = torch.cat([batch.value.clamp(-6, 6), F.one_hot(batch.mark, self.marks).to(batch.value.dtype)], dim=-1)
        return self.gru(read)[0][:, :-1][batch.target]

    def given(self, cond: Tensor) -> tuple[Tensor, ...]:
        """What the condition [n, h] adds to the hidden layers, [n, 1, width] each."""
        layers = self.time_given, self.time_mid_given, self.place_given, self.place_mid_given
        return tuple(layer(cond).unsqueeze(1) for layer in layers)

    def intensity(self, t: Tensor, sigma: Tensor, given: tuple[Tensor, ...], slope: bool = True):
        """Intensity by mark [n, m, K] at noisy times t [n, m] of noise sigma [n, m], and its derivative in t."""
        shrink = 1 / (1 + sigma**2).sqrt()
        x = torch.stack([shrink * t, sigma.log() / 2], dim=-1)
        a = (self.time_in(x) + given[0]).tanh()
        b = (self.time_mid(a) + given[1]).tanh()
        raw = self.time_out(b)
        if not slope:
            return F.softplus(raw), None
        da = (1 - a**2) * (shrink.unsqueeze(-1) * self.time_in.weight[:, 0])
        db = (1 - b**2) * F.linear(da, self.time_mid.weight)
        return F.softplus(raw), raw.sigmoid() * F.linear(db, self.time_out.weight)

    def denoised(self, x: Tensor, sigma: Tensor, t: Tensor, mark: Tensor, given: tuple[Tensor, ...]) -> Tensor:
        """Mean of the clean place [n, m, 2] given noisy x [n, m, 2], noise sigma [n, m], time and mark [n, m]."""
        s2 = (sigma**2).unsqueeze(-1)
        level = (sigma.log() / 4).unsqueeze(-1)
        kind = F.one_hot(mark, self.marks).to(x.dtype)
        read = torch.cat([x / (1 + s2).sqrt(), level, t.clamp(-6, 6).unsqueeze(-1), kind], dim=-1)
        a = F.silu(self.place_in(read) + given[2])
        b = F.silu(self.place_mid(a) + given[3])
        return x / (1 + s2) + sigma.unsqueeze(-1) / (1 + s2).sqrt() * self.place_out(b)


@dataclass(frozen=True)
class MultiNoise:
    """Loss over noise levels drawn log-uniformly: time by its score, place by its denoiser, mark by cross entropy."""

    denoise: Denoise
    settings: Settings

    def total(self, model: Corrected, cond: Tensor, truth: Tensor, mark: Tensor, generator: torch.Generator) -> Tensor:
        """Sum over n events given conditions [n, h], truth [n, 3] and marks [n]."""
        n, m = len(cond), self.denoise.noises
        given = model.given(cond)
        sigma, noise = [], []
        for (least, most), width in ((self.settings.sigma_time, 1), (self.settings.sigma_location, 2)):
            pairs = m // 2 if self.denoise.antithetic else m
            u = torch.rand(n, pairs, generator=generator).to(truth)
            e = torch.randn(n, pairs, width, generator=generator).to(truth)
            s = torch.exp(math.log(least) + u * math.log(most / least))
            sigma.append(torch.cat([s, s], 1) if self.denoise.antithetic else s)  # [n, m]
            noise.append(torch.cat([e, -e], 1) if self.denoise.antithetic else e)  # [n, m, width]
        t = truth[:, :1].expand(-1, m)
        marks = mark.unsqueeze(1).expand(-1, m)
        rate, slope = model.intensity(t + sigma[0] * noise[0][..., 0], sigma[0], given)
        one, d_one = (v.gather(-1, marks.unsqueeze(-1)).squeeze(-1) for v in (rate, slope))
        score = d_one / (one + TINY) - rate.sum(-1)
        loss = 0.5 * (sigma[0] * score + noise[0][..., 0]).square().mean(1).sum()
        place = truth[:, None, 1:]
        found = model.denoised(place + sigma[1].unsqueeze(-1) * noise[1], sigma[1], t, marks, given)
        weight = (1 + sigma[1] ** 2) / sigma[1] ** 2  # so that the network's own output has weight one
        away = (weight.unsqueeze(-1) * (found - place).square()).mean((1, 2)).sum()
        loss = loss + self.denoise.location_weight * 0.5 * away
        if model.marks > 1:
            log = (one / rate.sum(-1).clamp_min(TINY)).clamp_min(TINY).log()
            loss = loss - self.denoise.mark_weight * log.mean(1).sum()
        return loss

    def backward(self, model: Corrected, batch: Batch, generator: torch.Generator) -> Tensor:
        """Mean loss of a batch; gradients are added to the parameters."""
        cond = model.condition(batch)
        loss = self.total(model, cond, batch.value[:, 1:][batch.target], batch.mark[:, 1:][batch.target], generator)
        loss = loss / len(cond)
        loss.backward()
        return loss.detach()

    @torch.no_grad()
    def evaluate(self, model: Corrected, batches: list[Batch], seed: int) -> float:
        """Mean loss over batches with the same noise at every call."""
        generator = torch.Generator().manual_seed(seed)
        total, count = 0.0, 0
        for batch in batches:
            cond = model.condition(batch)
            truth, mark = batch.value[:, 1:][batch.target], batch.mark[:, 1:][batch.target]
            total += float(self.total(model, cond, truth, mark, generator))
            count += len(cond)
        return total / count
