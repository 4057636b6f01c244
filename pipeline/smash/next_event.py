"""The law of the next event after the last known one: how long until it, where, and of which mark.

Time follows from operational time (events expected since the last event); place and mark are the mixture of the past
events' power laws and the background, averaged over the law of the waiting time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .etas import Etas
from .etas_fit import Events, Fitted
from .events import TEST, Catalogue
from .exact import Corrected
from .exact_inputs import Reader, Windows
from .kde import Background

GRID = 600  # gaps at which the waiting time is tabulated
TIMES = 12  # of them over which places are averaged
BLOCK = 4000  # places at once


def with_window(cat: Catalogue, start: float, t: np.ndarray, mark: np.ndarray, xy: np.ndarray, now: float) -> Catalogue:
    """The catalogue with one more window: these events (absolute times), and a stand-in for the next one at its end.

    The stand-in's place and mark are never read: only what comes before an event is.
    """
    n = len(t) + 1
    grown = {
        "offsets": np.append(cat.offsets, cat.offsets[-1] + n),
        "t": np.concatenate([cat.t, t - start, [now - start]]),
        "mark": None if cat.mark is None else np.concatenate([cat.mark, mark, [0]]),
        "xy": np.concatenate([cat.xy, xy, xy[-1:]]),
        "split": np.append(cat.split, np.int8(TEST)),
        "window": np.append(cat.window, float(cat.meta["window"])),
        "start": np.append(cat.start, start),
        "phase": np.append(cat.phase, 0),
        "magnitude": None if cat.magnitude is None else np.concatenate([cat.magnitude, np.full(n, np.nan)]),
    }
    return replace(cat, **grown)


@dataclass
class Mixture:
    """Place and mark of the next event at one time.

    share, d2: [p, R] weights and squared widths of past events. q1: [R]. quiet: weight of the background. mark:
    [p, R, K] log mark probabilities of the children. background: [C, K] log weights of its densities with the mark.
    """

    share: Tensor
    d2: Tensor
    q1: Tensor
    quiet: Tensor
    mark: Tensor
    background: Tensor

    def marks(self) -> Tensor:
        """p(k | t) [K]."""
        excited = torch.einsum("pr,prk->k", self.share, self.mark.exp())
        found = self.quiet * self.background.exp().sum(0) + excited
        return found / found.sum()

    def density(self, r2: Tensor, features: Tensor, log_jacobian: Tensor) -> Tensor:
        """f(x, k | t) [S, K] at places whose squared scaled distances from the past events are r2 [S, p]."""
        top = torch.log(self.q1 / torch.pi) + self.q1 * self.d2.log() + log_jacobian  # [p, R]
        power = torch.exp(top - (1 + self.q1) * torch.log(r2[..., None] + self.d2))  # [S, p, R]
        excited = torch.einsum("spr,prk->sk", power * self.share, self.mark.exp())
        quiet = torch.logsumexp(features + self.background, dim=1).exp()  # [S, K]
        return (self.quiet * quiet + excited) / (self.quiet + self.share.sum())


class EtasLaw:
    """ETAS after the events of one window, the last of which (``n - 1``) is the stand-in for the next one."""

    def __init__(self, fitted: Fitted, events: Events, xy: np.ndarray):
        """``xy``: [n, 2] places of the window's events in the catalogue's units."""
        self.time, self.place, self.waiting = fitted.time, fitted.place, fitted.law
        self.pair = events.target == len(events.t) - 1
        self.parent = events.parent[self.pair]
        self.past, self.kin = events.t[self.parent], events.mark[self.parent]
        self.last = events.t[-2]
        self.origin = xy[self.parent.numpy()]  # [p, 2]

    def operational(self, gap: Tensor) -> Tensor:
        """Events expected [G] within gaps [G] after the last event."""
        total = self.time.background_integral(self.last, self.last + gap)
        if getattr(self.time, "excites", True):
            until = (self.last + gap)[:, None]
            added = self.time.trigger_integral(self.last.expand_as(until), until, self.past, self.kin)  # [G, p, R]
            total = total + added.sum(dim=(1, 2))
        return total

    def survival(self, gap: Tensor) -> Tensor:
        """P(no event within gaps) [G]."""
        return torch.exp(self.waiting.log_survival(self.operational(gap).double()))

    def mixture(self, gap: float) -> Mixture:
        etas: Etas = self.place
        now = self.last + gap
        return Mixture(
            etas.trigger(now.expand_as(self.past), self.past, self.kin),
            etas.scales().T[self.kin] ** 2,
            etas.decays(),
            etas.background_rate(now),
            etas.log_mark()[:, self.kin].transpose(0, 1),  # [R, p, K] -> [p, R, K]
            torch.log_softmax(etas.background_mix, -1).T + torch.log_softmax(etas.background_mark, -1),
        )


class ExactLaw(EtasLaw):
    """The same of the exact-likelihood model."""

    def __init__(self, model: Corrected, reader: Reader, windows: Windows):
        xy = reader.catalogue.xy[windows.events.row.numpy()]
        super().__init__(Fitted(model.time, model.place, {}), windows.events, xy)
        self.model, self.reader, self.windows = model.eval(), reader, windows
        self.state = model.states(windows)
        self.law = model.time_law(self.state, windows.events.mark)[windows.before[-1:]]

    def survival(self, gap: Tensor) -> Tensor:
        free = replace(self.law, tie=None)  # the next event is not at the last one's very moment
        return free.columns().log_survival(self.operational(gap)[None])[0].exp()

    def mixture(self, gap: float) -> Mixture:
        own = self.windows.events
        gaps = (own.t - own.t[self.windows.before]).double().numpy()
        gaps[-1] = gap
        law = self.model.place_law(self.windows, self.state, *self.reader.at(self.windows, gaps))
        widen = None if law.widen is None else law.widen[self.pair]
        return Mixture(
            law.share[self.pair],
            self.model.squared_widths(self.kin, widen),
            self.place.decays(),
            law.background[-1],
            law.mark[-1][:, self.kin].transpose(0, 1),
            law.mix[-1] + law.background_mark[-1],
        )


@dataclass
class Next:
    """The next event, given that none has come until now.

    level, wait: [Q] quantiles of the time from now. density: [S, K] of place and mark at the grid's places. marks: [K].
    """

    level: np.ndarray
    wait: np.ndarray
    density: np.ndarray
    marks: np.ndarray


@torch.no_grad()
def forecast(law: EtasLaw, background: Background, places: np.ndarray, since: float) -> Next:
    """Tabulate the law of the next event.

    Parameters
    ----------
    places: [S, 2] where the density is wanted, in the catalogue's units. since: time from the last event until now.
    """
    slowest = float(law.time.log_mu.exp())
    rest = np.concatenate([[0.0], np.geomspace(1e-6 / slowest, 12 / slowest, GRID)])
    gone = law.survival(torch.as_tensor(since + rest, dtype=torch.float32)).double().numpy()
    cdf = 1 - gone / max(gone[0], 1e-30)
    level = np.array([0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975])
    middle = (np.arange(TIMES) + 0.5) / TIMES
    invert = lambda u: np.interp(u, cdf, rest)  # noqa: E731
    features = torch.as_tensor(background.features(places))  # [S, C, K]
    scaled, own = places * background.scale, law.origin * background.scale
    mixtures = [law.mixture(since + float(gap)) for gap in invert(middle)]
    marks = torch.stack([one.marks() for one in mixtures]).mean(0)
    density = np.zeros((len(places), features.shape[-1]))
    for start in range(0, len(places), BLOCK):
        part = slice(start, start + BLOCK)
        r2 = torch.as_tensor(((scaled[part, None] - own) ** 2).sum(-1), dtype=torch.float32)  # [s, p]
        for one in mixtures:
            density[part] += one.density(r2, features[part], law.place.log_jacobian).double().numpy() / TIMES
    return Next(level, invert(level), density, marks.double().numpy())
