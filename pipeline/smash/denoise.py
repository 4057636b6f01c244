"""Denoising score matching at one noise level, with marks: the published loss, in pieces that stay in the cache.

Li et al. (ICML 2024), equations 13 and 14: half the squared distance of sigma times the score from the noise, averaged
over noises and coordinates, plus lambda times the cross entropy of the mark at the noisy time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .batches import Batch
from .encoder import Encoder, EncoderSpec
from .encoder import unused_when_published as encoder_unused
from .score_net import ScoreNet
from .score_net import unused_when_published as score_unused
from .settings import Denoise, Train

EVENTS = 128  # that are denoised at once: with 50 noises 1.6 MB a hidden layer


class Smash(nn.Module):
    """Encoder and score network of an arm."""

    def __init__(self, spec: EncoderSpec, units: int = 64, gates: bool = True):
        super().__init__()
        self.encoder = Encoder(spec)
        self.net = ScoreNet(spec.marks, spec.cond_dim, spec.branches, units, gates)

    @classmethod
    def of(cls, settings: Train, marks: int) -> Smash:
        """The model of an arm over data with so many marks (1: unmarked)."""
        given = settings.encoder
        spec = EncoderSpec(
            marks=marks if settings.score.marks == "joint" else 1,
            cond_dim=given.cond_dim,
            branches=tuple(given.branches),
            layers=given.layers,
            heads=given.heads,
            head_dim=given.head_dim,
            dropout=given.dropout,
            attention_dropout=given.attention_dropout,
        )
        return cls(spec, settings.score.units, settings.score.gates)

    def parameter_counts(self) -> dict[str, int]:
        """Trained parameters, and the published count, which includes tensors that never get a gradient."""
        encoder, net = (sum(p.numel() for p in part.parameters()) for part in (self.encoder, self.net))
        unused = encoder_unused(self.encoder.spec.cond_dim) + score_unused()
        return {"trainable": encoder + net, "published": encoder + net + unused, "encoder": encoder, "score": net}

    def condition(self, batch: Batch) -> Tensor:
        """[n, branches x d] condition of every forecast event of the batch, in (window, event) order."""
        place = (batch.value[..., 1:] + 1) / 2  # the encoder was published with places in [0, 1]
        mark = batch.mark if self.encoder.spec.marks > 1 else None
        return self.encoder(batch.t, place, mark)[:, :-1][batch.target]


@dataclass(frozen=True)
class Loss:
    """Loss of one arm; ``draw`` makes the noise so that a validation can fix it."""

    settings: Denoise

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """[n, noises, 3] standard normal; antithetic draws are pairs e, -e."""
        count = self.settings.noises
        if not self.settings.antithetic:
            return torch.randn(n, count, 3, generator=generator)
        half = torch.randn(n, count // 2, 3, generator=generator)
        return torch.cat([half, -half], dim=1)

    def total(self, net: ScoreNet, cond: Tensor, truth: Tensor, mark: Tensor, noise: Tensor) -> Tensor:
        """Sum over n events of the loss, given conditions [n, C], truth [n, 3], marks [n] and noise [n, M, 3]."""
        s = self.settings
        sigma = truth.new_tensor([s.sigma_time, s.sigma_location, s.sigma_location])
        weight = truth.new_tensor([1.0, s.location_weight, s.location_weight])
        marks = mark.unsqueeze(1).expand(-1, noise.shape[1]) if net.marks > 1 else None  # [n, M]
        score, probability = net(truth.unsqueeze(1) + sigma * noise, marks, net.conditions(cond))
        # sigma^2 / 2 (s - (x0 - x) / sigma^2)^2 = (sigma s + e)^2 / 2, as x0 - x = -sigma e.
        loss = (0.5 * (sigma * score + noise).square() * weight).mean((1, 2)).sum()
        if net.marks > 1:
            log = (probability + 1e-10).log()
            hit = log.gather(-1, marks.unsqueeze(-1)).squeeze(-1)
            entropy = -((1 - s.smooth) * hit + s.smooth / net.marks * (log.sum(-1) - hit))
            loss = loss + s.mark_weight * entropy.mean(1).sum()
        return loss

    def backward(self, model: Smash, batch: Batch, generator: torch.Generator) -> Tensor:
        """Mean loss of a batch; gradients are added to the parameters.

        The network is run a few events at a time, so that what it keeps for the backward pass fits the cache and
        memory does not grow with the number of noises; the gradients of the conditions then go through the encoder
        once.
        """
        cond = model.condition(batch)
        truth, mark = batch.value[:, 1:][batch.target], batch.mark[:, 1:][batch.target]
        leaf, n, total = cond.detach().requires_grad_(), len(cond), 0.0
        noise = self.noise(n, generator).to(cond)
        for start in range(0, n, EVENTS):
            part = slice(start, start + EVENTS)
            loss = self.total(model.net, leaf[part], truth[part], mark[part], noise[part]) / n
            loss.backward()
            total = total + loss.detach()
        cond.backward(leaf.grad)
        return total

    @torch.no_grad()
    def evaluate(self, model: Smash, batches: list[Batch], seed: int) -> float:
        """Mean loss over batches with the same noise at every call."""
        generator = torch.Generator().manual_seed(seed)
        total, count = 0.0, 0
        for batch in batches:
            cond = model.condition(batch)
            truth, mark = batch.value[:, 1:][batch.target], batch.mark[:, 1:][batch.target]
            noise = self.noise(len(cond), generator).to(cond)
            for start in range(0, len(cond), EVENTS):
                part = slice(start, start + EVENTS)
                total += float(self.total(model.net, cond[part], truth[part], mark[part], noise[part]))
            count += len(cond)
        return total / count
