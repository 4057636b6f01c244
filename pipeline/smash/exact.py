"""Exact-likelihood model: a recurrent network that corrects a point process with closed-form rate and places.

It starts at the fitted ETAS (every output of the network is zero at first, and the parameters of ETAS go on learning):

time    z = Lambda(t_{i-1}, t) of ETAS has the unit exponential law under ETAS (or the law that was fitted to it, see
        :mod:`pipeline.smash.waiting`); here a mixture of Weibull laws whose shapes, scales and weights the state moves.
        Density, survival and distribution function are closed forms.
place   ETAS's mixture over past events and background, given the time: the network moves the weights of past events
        (bilinear attention on their states, and what is known of the pair), their widths, and the background's mixture.
mark    each part's mark probabilities tilted by the state; f(x, k | t) for all k, so that both orders of
        factorisation come out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .etas_fit import Events
from .exact_inputs import Windows
from .exact_ties import AtTies, zero
from .settings import Exact
from .ties import Ties
from .waiting import TimeLaw, spread, unit

LIMIT = 4.0  # of corrections to log weights and widths


@dataclass
class PlaceLaw:
    """Place and mark of n events given their times.

    Attributes
    ----------
    share: [P, R] weights of past events, background: [n] weight of the background (together not normalised).
    widen: [P, R] additions to the log widths, None for the base's own.
    mark: [n, R, K, K] log mark probabilities by part and parent's mark; background_mark: [n, K].
    mix: [n, C, K] log mixture of the background's densities, a distribution over C for every mark.
    tied: [n] which events are ties with laws of their own; stay, tie_mark: these laws (``AtTies.of_place``).
    """

    share: Tensor
    background: Tensor
    widen: Tensor | None
    mark: Tensor
    background_mark: Tensor
    mix: Tensor
    total: Tensor
    tied: Tensor | None = None
    stay: Tensor | None = None
    tie_mark: Tensor | None = None


class Corrected(nn.Module):
    """The network and its base.

    Parameters
    ----------
    time, place: fitted models of the rate and of places and marks; their parameters go on learning.
    sizes: features of a node, of a known time, of a pair (``Reader.sizes``).
    ties: laws of gaps of length zero, where they are an atom. area: of a cell, where places lie on a lattice.
    waiting: rows of the law of operational time under the base (``waiting.unit``: ETAS proper).
    timed: false where the times' law comes from elsewhere (lattices of minutes): only places and marks are learnt.
    """

    def __init__(
        self,
        time: nn.Module,
        place: nn.Module,
        sizes: tuple[int, int, int],
        settings: Exact,
        ties: Ties | None = None,
        area: float | None = None,
        waiting: list[list[float]] | None = None,
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
        self.time_head = zero(h, 3 * settings.components)
        self.register_buffer("waiting", spread(waiting or unit(), settings.components), persistent=False)
        # Unequal gains, so that components which start equal don't stay equal.
        gains = torch.linspace(0.4, 1.6, settings.components)
        self.register_buffer("gains", gains, persistent=False)
        known = h + when
        self.key, self.query = nn.Linear(h, settings.attention, bias=False), zero(known, settings.attention)
        self.part_weight, self.mix = zero(known, parts), zero(known, components)
        self.child_width, self.parent_width = zero(known, parts), zero(h, parts)
        atoms = ties is not None and ties.probability is not None
        self.ties = AtTies(ties, h, known, settings.tilt, area) if atoms else None
        self.tilt = zero(known, (parts + 1) * marks) if settings.tilt else None
        self.pair = nn.Sequential(nn.Linear(pair, 16), nn.Tanh())
        self.pair_out = zero(16, 2 * parts)

    def states(self, windows: Windows) -> Tensor:
        """[n, h] state after each event of its window."""
        w, length = windows.shape
        padded = windows.node.new_zeros(w * length, windows.node.shape[1])
        padded[windows.slot] = windows.node
        out, _ = self.gru(padded.view(w, length, -1))
        return out.reshape(w * length, -1)[windows.slot]

    def time_law(self, state: Tensor, mark: Tensor) -> TimeLaw:
        """Law of operational time after events of these states [n, h] and marks [n]; the base's at first."""
        state = self.dropout(state)
        raw = self.time_head(state).unflatten(-1, (3, -1))  # [n, 3, Q]
        weight, shape, scale = raw.unbind(-2)
        shape = ((self.gains * shape).clamp(-2, 2) + self.waiting[1]).exp()
        scale = (self.gains * scale).clamp(-LIMIT, LIMIT) + self.waiting[2]
        tie = None if self.ties is None else self.ties.of_time(state, mark)
        return TimeLaw(F.log_softmax(weight + self.waiting[0], dim=-1), shape, scale, tie)

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
        tied: Tensor | None = None,
    ) -> PlaceLaw:
        """Place and mark of every event given the state before it and its time.

        ``now`` [n], ``when``, ``pair`` and ``tied`` stand for the events' own times and what is read of them.
        """
        events, base = windows.events, self.place
        now, tied = (events.t, windows.tied) if now is None else (now, tied)
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
        stay = tie_mark = None
        if self.ties is not None:
            stay, tie_mark = self.ties.of_place(known, events.mark[windows.before])
        return PlaceLaw(
            share,
            background,
            widen,
            marks,
            F.log_softmax(base.background_mark + tilt[:, -1], dim=-1),
            mix,
            background.index_add(0, target, share.sum(-1)),
            None if self.ties is None else tied,
            stay,
            tie_mark,
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

    def log_place(self, law: PlaceLaw, windows: Windows) -> Tensor:
        """log f(x, k | t) [n, K] at the events' places for every mark."""
        events = windows.events
        n, k, parts = len(events.t), self.marks, self.parts
        mark = events.mark[events.parent]
        dense = law.share * self.log_space(events.r2, mark, law.widen).exp()  # [P, R]
        by_mark = dense.new_zeros(n * k, parts).index_add(0, events.target * k + mark, dense)
        excited = torch.einsum("nmr,nrmk->nk", by_mark.view(n, k, parts), law.mark.exp())
        quiet = law.background_mark + torch.logsumexp(events.features + law.mix, dim=1)  # [n, K]
        dense = law.background[:, None] * quiet.exp() + excited
        found = torch.log(dense.clamp_min(1e-30)) - law.total.log()[:, None]
        if self.ties is None:
            return found
        return self.ties.mixed(found, law.tied, law.stay, law.tie_mark, windows.there)

    def log_mark(self, law: PlaceLaw, events: Events) -> Tensor:
        """log p(k | t) [n, K], the place summed out."""
        n, k, parts = len(events.t), self.marks, self.parts
        where = events.target * k + events.mark[events.parent]
        by_mark = law.share.new_zeros(n * k, parts).index_add(0, where, law.share)
        excited = torch.einsum("nmr,nrmk->nk", by_mark.view(n, k, parts), law.mark.exp())
        found = law.background[:, None] * law.background_mark.exp() + excited
        found = torch.log(found / law.total[:, None])
        return found if self.ties is None else torch.where(law.tied[:, None], law.tie_mark, found)

    def log_likelihood(self, windows: Windows) -> tuple[Tensor, Tensor, Tensor]:
        """log density of the gap [n], of the place for every mark [n, K] (at the first events of windows they mean
        nothing), and log survival [W].
        """
        events = windows.events
        state = self.states(windows)
        found = self.log_place(self.place_law(windows, state), windows)
        if not self.timed:
            return torch.zeros_like(found[:, 0]), found, torch.zeros_like(events.end)
        rate, since, tail = self.operational(events, windows.before)
        law = self.time_law(state, events.mark)
        return self.log_gap(law[windows.before], since, rate, windows.tied), found, self.log_ending(law, events, tail)

    @staticmethod
    def log_ending(law: TimeLaw, events: Events, tail: Tensor) -> Tensor:
        """log P(no further event) [W]; nothing is learnt of a window that ends with its last event."""
        found = law[events.last].log_survival(tail)
        return torch.where(events.end <= events.t[events.last], torch.zeros_like(found), found)

    @staticmethod
    def log_gap(ahead: TimeLaw, since: Tensor, rate: Tensor, tied: Tensor) -> Tensor:
        """Log density [n] of the gaps in the data's unit; at ties the log probability of the atom."""
        jacobian = rate.log() if ahead.tie is None else torch.where(tied, 0.0, rate.log())
        return ahead.log_density(since, tied) + jacobian


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
