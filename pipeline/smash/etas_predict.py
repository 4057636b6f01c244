"""What a fitted ETAS forecasts for every target: exact densities, quantiles of the gap, draws of places and of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from . import regions, ties
from .clock import MinuteHazard
from .etas import Etas
from .etas_fit import Events, Fitted, rates, trace
from .events import Catalogue, Targets
from .kde import Background
from .scores import Exact, Samples

GRID = 140  # points of an event's table of expected events


@dataclass
class Forecaster:
    """A fitted ETAS on a catalogue.

    Attributes
    ----------
    background: the kernel densities that the model was fitted with; features: [events of the catalogue, C, K].
    clock: the law of the times where they lie on a lattice of minutes, else None.
    """

    fitted: Fitted
    background: Background
    features: np.ndarray
    clock: MinuteHazard | None = None

    def events(self, cat: Catalogue, sequences: np.ndarray) -> Events:
        return Events.of(cat, sequences, self.features, self.background.scale, self.fitted.attrs["max_lag"])

    def exact(
        self,
        cat: Catalogue,
        targets: Targets,
        rng: np.random.Generator,
        samples: int = 100,
        quantiles: int = 200,
        full: bool = True,
    ) -> Exact:
        """Exact distributions of the targets of a split; with ``full`` quantiles and draws, too."""
        events = self.events(cat, targets.windows)
        found = trace(self.fitted, events)
        scored = events.scored.numpy()
        out = Exact(
            log_location=found["log_place"][scored] if cat.meta.get("places", True) else None,
            mark_given_tx=np.exp(found["log_mark_tx"][scored]),
            mark_given_t=np.exp(found["log_mark_t"][scored]),
        )
        hurdle = ties.Ties.fit(cat)
        out.mark_given_t = hurdle.given_tie(cat, targets, out.mark_given_t)
        out.mark_given_tx = hurdle.given_tie(cat, targets, out.mark_given_tx)
        with torch.no_grad():
            # the clock's quantiles come with its masses; a rate's come from a table of its integral
            dt = self._times(out, cat, targets, events, found, scored, quantiles, rng if full else None)
            if full and out.log_location is not None:
                time = events.t.double().numpy()[scored]
                out.samples_location = self._places(cat, events, time, samples, rng)
                drawn = rng.permuted(dt, axis=1)[:, :samples] if dt is not None else None
                before = time - cat.dt[targets.row]
                if drawn is not None:
                    columns = [self._places(cat, events, before + drawn[:, m], 1, rng) for m in range(drawn.shape[1])]
                    out.joint = Samples(drawn, np.concatenate(columns, axis=1))
                if hurdle.same is None:  # an atom has no region of highest density
                    out.hpd_location = self._regions(cat, events, out, rng)
        if out.log_location is not None:
            out.log_location = hurdle.places(cat, targets, out.log_location)
        if out.samples_location is not None:
            tied = hurdle.tied(cat, targets)
            out.samples_location = hurdle.stay(cat, targets, out.samples_location, tied, rng)
        if out.joint is not None:
            out.joint.xy = hurdle.stay(cat, targets, out.joint.xy, out.joint.dt == 0, rng)
        return out

    def _times(self, out, cat, targets, events, found, scored, quantiles, rng):  # noqa: ANN001, ANN202
        """Fill in the law of the gap; returns quantiles [n, Q] (None without ``rng``)."""
        if self.clock is not None:
            law = self.clock.predict(cat, targets, quantiles)
            for name, value in law.items():
                setattr(out, name, value)
            return out.quantiles_time
        hurdle, law = ties.Ties.fit(cat), self.fitted.law
        rate, gone = found["rate"][scored], torch.as_tensor(found["compensator"][scored])
        density, survival = law.log_density(gone).numpy(), law.log_survival(gone).numpy()
        log_time, cdf, left = hurdle.mixed(cat, targets, np.log(rate) + density, -np.expm1(survival))
        out.log_time, out.cdf_time, out.cdf_time_left = log_time, cdf, left
        out.log_survival = hurdle.survival(cat, targets, law.log_survival(torch.as_tensor(found["tail"])).numpy())
        if rng is None:
            return None
        table, grid = self._integral(events, scored)
        level = (np.arange(quantiles) + 0.5) / quantiles
        out.quantiles_time = hurdle.quantiles(cat, targets, level, lambda u: _invert(table, grid, law.quantile(u)))
        return out.quantiles_time

    def _integral(self, events: Events, scored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Expected events from the event before each target on, as [n, G] over gaps [G] that are alike for all."""
        etas = self.fitted.time
        slowest = float(etas.log_mu.exp())
        grid = np.concatenate([[0.0], np.geomspace(1e-5 / slowest, 30 / slowest, GRID - 1)])
        steps = torch.as_tensor(grid, dtype=events.t.dtype)
        n = len(events.t)
        before = torch.where(events.scored, events.t.roll(1), events.t)
        table = np.empty((n, len(grid)), np.float64)
        bounds = np.searchsorted(events.target.numpy(), np.arange(n + 1))
        for start in range(0, n, 2048):
            stop = min(start + 2048, n)
            pair = slice(int(bounds[start]), int(bounds[stop]))
            own = events.target[pair]
            first = before[own][:, None]  # [p, 1]
            added = etas.trigger_integral(
                first.expand(-1, len(grid)),
                first + steps,
                events.t[events.parent[pair]][:, None].expand(-1, len(grid)),
                events.mark[events.parent[pair]][:, None].expand(-1, len(grid)),
            ).sum(dim=-1)  # [p, G]
            here = before[start:stop][:, None].expand(-1, len(grid))
            total = etas.background_integral(here, here + steps)
            table[start:stop] = total.index_add(0, own - start, added).double().numpy()
        return table[scored], grid

    def _places(
        self, cat: Catalogue, events: Events, time: np.ndarray, samples: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Places [n, M, 2] of the targets at times [n] in their windows, given the past."""
        etas: Etas = self.fitted.place
        scored = events.scored.numpy()
        at = events.t.clone()
        at[events.scored] = torch.as_tensor(time, dtype=at.dtype)
        parent, target = events.parent, events.target
        share = etas.trigger(at[target], events.t[parent], events.mark[parent]).double().numpy()  # [P, R]
        own = etas.background_rate(at).double().numpy()
        n, parts = len(own), share.shape[1]
        ends = np.searchsorted(target.numpy(), np.arange(n + 1))
        steps = np.concatenate([[0.0], np.cumsum(share.reshape(-1))])  # pairs × parts, in order of the target
        low, high = steps[ends[:-1] * parts], steps[ends[1:] * parts]
        rows = np.flatnonzero(scored)
        u = rng.random((len(rows), samples)) * (own + high - low)[rows, None]
        excited = u >= own[rows, None]
        out = np.empty((len(rows), samples, 2))
        mix = torch.softmax(etas.background_mix, dim=-1).double().numpy()
        marks = torch.softmax(etas.background_mark, dim=-1).double().numpy()
        joint = (marks[:, None] * mix).reshape(-1)
        free = int((~excited).sum())
        drawn = rng.choice(joint.size, free, p=joint / joint.sum())
        out[~excited] = self.background.sample(drawn % mix.shape[1], drawn // mix.shape[1], rng)
        i, _ = np.nonzero(excited)
        place = np.searchsorted(steps, low[rows][i] + u[excited] - own[rows][i], side="right") - 1
        place = np.clip(place, ends[rows][i] * parts, ends[rows + 1][i] * parts - 1)
        pair, r = place // parts, place % parts
        kin = events.mark[parent].numpy()[pair]
        d, q = etas.scales().double().numpy()[r, kin], 1 + etas.decays().double().numpy()[r]
        source = cat.xy[events.row.numpy()[parent.numpy()[pair]]]
        out[excited] = source + _jump(d, q, rng) / self.background.scale
        if self.background.lattice is not None:
            a, b = self.background.cells(out.reshape(-1, 2))
            out = np.column_stack([self.background.lattice[0][a], self.background.lattice[1][b]]).reshape(out.shape)
        return out

    def _regions(self, cat: Catalogue, events: Events, out: Exact, rng: np.random.Generator) -> np.ndarray:
        """Content of the highest-density region through the truth [n], NaN but for some events."""
        rows = np.flatnonzero(events.scored.numpy())
        chosen, level = regions.chosen(len(rows)), np.full(len(rows), np.nan)
        where = out.samples_location[chosen][:, : regions.SAMPLES]  # [m, S, 2]
        dense = self.density(cat, events, rows[chosen], where)
        level[chosen] = regions.content(dense, out.log_location[chosen], rng)
        return level

    def density(self, cat: Catalogue, events: Events, rows: np.ndarray, where: np.ndarray) -> np.ndarray:
        """log f(x | t) [m, S] at places [m, S, 2] for events ``rows`` (indices in ``events``), at their true times."""
        etas, scale = self.fitted.place, self.background.scale
        rate, share = rates(etas, events)
        ends = np.searchsorted(events.target.numpy(), np.arange(len(events.t) + 1))
        features = self.background.features(where.reshape(-1, 2))
        own = torch.logsumexp(etas.log_background(torch.as_tensor(features)), dim=-1).view(where.shape[:2])
        out = np.empty(where.shape[:2])
        place = cat.xy[events.row.numpy()] * scale
        for i, row in enumerate(rows):
            pair = slice(int(ends[row]), int(ends[row + 1]))
            parent = events.parent[pair]
            gap = (where[i] * scale)[:, None] - place[parent.numpy()]  # [S, p, 2]
            r2 = torch.as_tensor((gap**2).sum(-1), dtype=events.t.dtype)
            kin = events.mark[parent][None].expand(len(r2), -1)
            excited = (share[pair] * torch.exp(etas.log_space(r2, kin))).sum(dim=(1, 2))
            total = etas.background_rate(events.t[row]) * torch.exp(own[i]) + excited
            out[i] = torch.log(total.clamp_min(1e-30) / rate[row]).double().numpy()
        return out


def _jump(d: np.ndarray, q: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Displacements [n, 2] of the power law with scales d [n] and decays q [n] (scaled coordinates)."""
    radius = d * np.sqrt(np.maximum(rng.random(len(d)), 1e-300) ** (-1 / (q - 1)) - 1)
    angle = rng.random(len(d)) * 2 * np.pi
    return np.column_stack([np.cos(angle), np.sin(angle)]) * np.minimum(radius, 1e6)[:, None]


def _invert(table: np.ndarray, grid: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Gaps [n, Q] at which the expected events of tables [n, G] reach levels [n, Q] or [Q]."""
    level = np.broadcast_to(level, (len(table), np.shape(level)[-1]))
    return np.stack([np.interp(want, row, grid) for want, row in zip(level, table, strict=True)])
