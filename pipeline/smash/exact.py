"""Exact-likelihood model: a recurrent network that corrects a point process with closed-form rate and places.

It starts at the fitted ETAS (every output of the network is zero at first, and the parameters of ETAS go on learning):

time    z = Lambda(t_{i-1}, t) of ETAS has the unit exponential law under ETAS; here a mixture of Weibull laws whose
        shapes, scales and weights the state sets. Density, survival and distribution function are closed forms.
place   ETAS's mixture over past events and background, given the time: the network moves the weights of past events
        (bilinear attention on their states, and what is known of the pair), their widths, and the background's mixture.
mark    each part's mark probabilities tilted by the state; f(x, k | t) for all k, so that both orders of
        factorisation come out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .etas_fit import Events
from .exact_inputs import Windows
from .settings import Exact

LEAST_Z = 1e-7  # operational time below which gaps are not told apart
LIMIT = 4.0  # of corrections to log weights and widths


@dataclass
class TimeLaw:
    """Mixture of Weibull laws of operational time z, with an atom at 0 where the data have ties.

    log_weight, shape, log_scale: [..., Q]. tie: [...] logit of the atom's probability, None without ties.
    """

    log_weight: Tensor
    shape: Tensor
    log_scale: Tensor
    tie: Tensor | None = None

    def __getitem__(self, rows: Tensor | slice) -> TimeLaw:
        tie = None if self.tie is None else self.tie[rows]
        return TimeLaw(self.log_weight[rows], self.shape[rows], self.log_scale[rows], tie)

    def columns(self) -> TimeLaw:
        """The same laws [n, 1, Q], to meet operational times [n, G]."""
        tie = None if self.tie is None else self.tie[:, None]
        return TimeLaw(self.log_weight[:, None], self.shape[:, None], self.log_scale[:, None], tie)

    def _power(self, z: Tensor) -> tuple[Tensor, Tensor]:
        ratio = z.clamp_min(LEAST_Z).log().unsqueeze(-1) - self.log_scale
        return ratio, torch.exp(self.shape * ratio)

    def log_density(self, z: Tensor, tied: Tensor | None = None) -> Tensor:
        """[...] with respect to z; the log probability of the atom at events that are ``tied``."""
        ratio, power = self._power(z)
        each = self.shape.log() - self.log_scale + (self.shape - 1) * ratio - power
        found = torch.logsumexp(self.log_weight + each, dim=-1)
        if self.tie is None:
            return found
        return torch.where(tied, F.logsigmoid(self.tie), F.logsigmoid(-self.tie) + found)

    def log_survival(self, z: Tensor) -> Tensor:
        """[...] log P(Z > z), so that at 0 the atom is gone."""
        found = torch.logsumexp(self.log_weight - self._power(z)[1], dim=-1)
        return found if self.tie is None else found + F.logsigmoid(-self.tie)


@dataclass
class PlaceLaw:
    """Place and mark of n events given their times.

    Attributes
    ----------
    share: [P, R] weights of past events, background: [n] weight of the background (together not normalised).
    widen: [P, R] additions to the log widths, None for the base's own.
    mark: [n, R, K, K] log mark probabilities by part and parent's mark; background_mark: [n, K].
    mix: [n, C, K] log mixture of the background's densities, a distribution over C for every mark.
    """

    share: Tensor
    background: Tensor
    widen: Tensor | None
    mark: Tensor
    background_mark: Tensor
    mix: Tensor
    total: Tensor


class Corrected(nn.Module):
    """The network and its base.

    Parameters
    ----------
    time, place: fitted models of the rate and of places and marks; their parameters go on learning.
    sizes: features of a node, of a known time, of a pair (``Reader.sizes``).
    tie: share of gaps of length zero, 0 where they are no atom.
    timed: false where the times' law comes from elsewhere (lattices of minutes): only places and marks are learnt.
    """

    def __init__(
        self,
        time: nn.Module,
        place: nn.Module,
        sizes: tuple[int, int, int],
        settings: Exact,
        tie: float = 0.0,
        timed: bool = True,
    ):
        super().__init__()
        node, when, pair = sizes
        h, parts, marks = settings.hidden, len(place.parts), place.given["marks"]
        components = place.given["components"]
        self.time, self.place, self.parts, self.marks = time, place, parts, marks
        self.gru = nn.GRU(node, h, batch_first=True)
        self.dropout = nn.Dropout(settings.dropout)
        self.timed = timed
        self.time_head = _zero(h, 3 * settings.components)
        self.tie_head = _zero(h, 1) if tie else None
        if tie:
            nn.init.constant_(self.tie_head.bias, math.log(tie / (1 - tie)))
        # Unequal gains, so that components which start equal don't stay equal.
        gains = torch.linspace(0.4, 1.6, settings.components)
        self.register_buffer("gains", gains, persistent=False)
        known = h + when
        self.key, self.query = nn.Linear(h, settings.attention, bias=False), _zero(known, settings.attention)
        self.part_weight, self.mix = _zero(known, parts), _zero(known, components)
        self.child_width, self.parent_width = _zero(known, parts), _zero(h, parts)
        self.tilt = _zero(known, (parts + 1) * marks) if settings.tilt else None
        self.pair = nn.Sequential(nn.Linear(pair, 16), nn.Tanh())
        self.pair_out = _zero(16, 2 * parts)

    def states(self, windows: Windows) -> Tensor:
        """[n, h] state after each event of its window."""
        w, length = windows.shape
        padded = windows.node.new_zeros(w * length, windows.node.shape[1])
        padded[windows.slot] = windows.node
        out, _ = self.gru(padded.view(w, length, -1))
        return out.reshape(w * length, -1)[windows.slot]

    def time_law(self, state: Tensor) -> TimeLaw:
        """Law of operational time after each state [n, h]; the unit exponential at the start of training."""
        state = self.dropout(state)
        raw = self.time_head(state).unflatten(-1, (3, -1))  # [n, 3, Q]
        weight, shape, scale = raw.unbind(-2)
        shape = (self.gains * shape).clamp(-2, 2).exp()
        scale = (self.gains * scale).clamp(-LIMIT, LIMIT)
        tie = None if self.tie_head is None else self.tie_head(state).squeeze(-1)
        return TimeLaw(F.log_softmax(weight, dim=-1), shape, scale, tie)

    def operational(self, events: Events, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rate of ETAS [n] at each event, Lambda [n] since the event before it, and Lambda [W] from the last event."""
        base = self.time
        rate = base.background_rate(events.t)
        since = base.background_integral(events.t[before], events.t)
        tail = base.background_integral(events.t[events.last], events.end)
        if base.excites:
            parent = events.t[events.parent], events.mark[events.parent]
            added = base.trigger(events.t[events.target], *parent).sum(-1)
            rate = rate.index_add(0, events.target, added)
            start = events.t[before[events.target]]
            gone = base.trigger_integral(start, events.t[events.target], *parent).sum(-1)
            since = since.index_add(0, events.target, gone)
            end = events.until  # after ``max_lag`` events a parent adds no more
            last = events.t[events.last][events.window]
            later = base.trigger_integral(last, torch.maximum(end, last), events.t, events.mark).sum(-1)
            tail = tail.index_add(0, events.window, later)
        return rate, since, tail

    def place_law(
        self,
        windows: Windows,
        state: Tensor,
        now: Tensor | None = None,
        when: Tensor | None = None,
        pair: Tensor | None = None,
    ) -> PlaceLaw:
        """Place and mark of every event given the state before it and its time.

        ``now`` [n], ``when`` and ``pair`` stand for the events' own times and what is read of them.
        """
        events, base = windows.events, self.place
        now = events.t if now is None else now
        known = torch.cat([self.dropout(state[windows.before]), windows.when if when is None else when], dim=-1)
        pair, state = windows.pair if pair is None else pair, self.dropout(state)
        target, parent = events.target, events.parent
        mark = events.mark[parent]
        share = base.trigger(now[target], events.t[parent], mark)  # [P, R]
        attention = (self.query(known)[target] * self.key(state)[parent]).sum(-1, keepdim=True)  # [P, 1]
        weight, width = self.pair_out(self.pair(pair)).chunk(2, dim=-1)  # [P, R] each
        share = share * (attention + weight + self.part_weight(known)[target]).clamp(-LIMIT, LIMIT).exp()
        widen = None
        if base.lattice is None:  # on a lattice the law is normalised once for all pairs
            widen = width + self.child_width(known)[target] + self.parent_width(state)[parent]
            widen = widen.clamp(-LIMIT, LIMIT)
        size = len(known), self.parts + 1, self.marks
        tilt = known.new_zeros(size) if self.tilt is None else self.tilt(known).view(size)  # [n, R + 1, K]
        marks = F.log_softmax(base.mark_logits + tilt[:, :-1].unsqueeze(2), dim=-1)  # [n, R, K, K]
        mix = F.log_softmax(base.background_mix + self.mix(known).unsqueeze(1), dim=-1).transpose(1, 2)  # [n, C, K]
        background = base.background_rate(now)
        return PlaceLaw(
            share,
            background,
            widen,
            marks,
            F.log_softmax(base.background_mark + tilt[:, -1], dim=-1),
            mix,
            background.index_add(0, target, share.sum(-1)),
        )

    def log_space(self, r2: Tensor, mark: Tensor, widen: Tensor | None) -> Tensor:
        """Log density of the base's power laws [P, R] with widened widths."""
        base = self.place
        if widen is None:
            return base.log_space(r2, mark)
        q1, d2 = base.decays(), self.squared_widths(mark, widen)
        top = torch.log(q1 / torch.pi) + q1 * d2.log() + base.log_jacobian
        return top - (1 + q1) * torch.log(r2.unsqueeze(-1) + d2)

    def squared_widths(self, mark: Tensor, widen: Tensor | None) -> Tensor:
        """d^2 [P, R] of parents with these marks. The base's floor holds after the network has moved the widths: where
        addresses come back exactly, a narrower law would have no bounded density.
        """
        base = self.place
        log_d = base.log_d.T[mark] if widen is None else base.log_d.T[mark] + widen
        return torch.exp(2 * log_d) + base.narrowest**2

    def log_place(self, law: PlaceLaw, events: Events) -> Tensor:
        """log f(x, k | t) [n, K] at the events' places for every mark."""
        n, k, parts = len(events.t), self.marks, self.parts
        mark = events.mark[events.parent]
        dense = law.share * self.log_space(events.r2, mark, law.widen).exp()  # [P, R]
        by_mark = dense.new_zeros(n * k, parts).index_add(0, events.target * k + mark, dense)
        excited = torch.einsum("nmr,nrmk->nk", by_mark.view(n, k, parts), law.mark.exp())
        quiet = law.background_mark + torch.logsumexp(events.features + law.mix, dim=1)  # [n, K]
        return torch.log((law.background[:, None] * quiet.exp() + excited).clamp_min(1e-30)) - law.total.log()[:, None]

    def log_mark(self, law: PlaceLaw, events: Events) -> Tensor:
        """log p(k | t) [n, K], the place summed out."""
        n, k, parts = len(events.t), self.marks, self.parts
        where = events.target * k + events.mark[events.parent]
        by_mark = law.share.new_zeros(n * k, parts).index_add(0, where, law.share)
        excited = torch.einsum("nmr,nrmk->nk", by_mark.view(n, k, parts), law.mark.exp())
        found = law.background[:, None] * law.background_mark.exp() + excited
        return torch.log(found / law.total[:, None])

    def log_likelihood(self, windows: Windows) -> tuple[Tensor, Tensor, Tensor]:
        """log density of the gap [n], of the place for every mark [n, K] (at the first events of windows they mean
        nothing), and log survival [W].
        """
        events = windows.events
        state = self.states(windows)
        found = self.log_place(self.place_law(windows, state), events)
        if not self.timed:
            return torch.zeros_like(found[:, 0]), found, torch.zeros_like(events.end)
        rate, since, tail = self.operational(events, windows.before)
        law = self.time_law(state)
        return self.log_gap(law[windows.before], since, rate, windows.tied), found, law[events.last].log_survival(tail)

    @staticmethod
    def log_gap(ahead: TimeLaw, since: Tensor, rate: Tensor, tied: Tensor) -> Tensor:
        """Log density [n] of the gaps in the data's unit; at ties the log probability of the atom."""
        jacobian = rate.log() if ahead.tie is None else torch.where(tied, 0.0, rate.log())
        return ahead.log_density(since, tied) + jacobian


def _zero(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def objective(model: Corrected, windows: Windows) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of a batch by factor (time with survival, place, mark given both), and the number of
    scored events, both [3] sums weighted by the windows' weights of the factor.
    """
    time, found, survival = model.log_likelihood(windows)
    events = windows.events
    place = torch.logsumexp(found, dim=1)
    mark = found.gather(1, events.mark[:, None])[:, 0] - place
    each = windows.weight[events.window] * windows.scored[:, None]  # [n, 3]
    total = (each * torch.stack([time, place, mark], dim=1)).sum(0)
    ends = (windows.weight[:, 0] * survival).sum()
    return -(total + torch.stack([ends, torch.zeros_like(ends), torch.zeros_like(ends)])), each.sum(0)
