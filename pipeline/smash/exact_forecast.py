"""Forecasts of the exact-likelihood model: densities, distribution functions, quantiles and draws of every event."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import clock, regions
from .events import Catalogue, Targets
from .exact import Corrected, PlaceLaw
from .exact_inputs import Reader, Windows
from .scores import Exact, Samples

PAIRS = 20_000  # in a batch: each meets every point of the table of gaps
TABLE = 160  # gaps at which operational time is tabulated
SHORTEST, LONGEST = 1e-6, 6.0  # of them, in windows


@dataclass
class Forecast:
    """Forecasts of n events (in the catalogue's order of rows) by one model, or by several that are averaged.

    Attributes
    ----------
    row: [n] rows in the catalogue. log_time, cdf_time: [n]. table: [n, G] gaps, cdf_table: [n, G].
    log_place: [n, K] log f(x, k | t). log_mark: [n, K] log p(k | t). log_survival: [W], of the windows ``window``.
    places: [n, M, 2] drawn given the true time. joint_gap [n, J], joint_place [n, J, 2]: drawn together.
    tie: [n] probability of a gap of length zero, 0 without ties.
    hpd: [n] content of the highest-density region through the true place; NaN but for evenly spread events.
    """

    row: np.ndarray
    log_time: np.ndarray
    cdf_time: np.ndarray
    table: np.ndarray
    cdf_table: np.ndarray
    log_place: np.ndarray
    log_mark: np.ndarray
    log_survival: np.ndarray
    window: np.ndarray
    places: np.ndarray
    joint_gap: np.ndarray
    joint_place: np.ndarray
    tie: np.ndarray
    hpd: np.ndarray

    def quantiles(self, count: int) -> np.ndarray:
        """[n, count] gaps at levels (q + 1/2) / count, interpolated in the table."""
        level = (np.arange(count) + 0.5) / count
        return np.stack([np.interp(level, cdf, gap) for cdf, gap in zip(self.cdf_table, self.table, strict=True)])


def average(parts: list[Forecast]) -> Forecast:
    """Equal-weight mixture of several models: the gap by itself, place and mark together given it.

    Each model contributes its share of the draws.
    """
    if len(parts) == 1:
        return parts[0]

    def mean(name: str) -> np.ndarray:
        return np.logaddexp.reduce([getattr(p, name) for p in parts], axis=0) - np.log(len(parts))

    first = parts[0]
    return Forecast(
        first.row,
        mean("log_time"),
        np.mean([p.cdf_time for p in parts], axis=0),
        first.table,
        np.mean([p.cdf_table for p in parts], axis=0),
        mean("log_place"),
        mean("log_mark"),
        mean("log_survival"),
        first.window,
        *(np.concatenate([getattr(p, name) for p in parts], axis=1) for name in ("places", "joint_gap", "joint_place")),
        np.mean([p.tie for p in parts], axis=0),
        np.full(len(first.row), np.nan),  # a mixture's regions are not those of its members
    )


@torch.no_grad()
def forecast(
    model: Corrected,
    reader: Reader,
    sequences: np.ndarray,
    draws: int,
    joint: int,
    rng: np.random.Generator,
    gaps: np.ndarray | None = None,
) -> Forecast:
    """Forecast events 2 … n of these windows with one model.

    Parameters
    ----------
    draws: places drawn for every event, given its true time. joint: draws of gap and place together.
    gaps: [events of the catalogue, joint] gaps drawn elsewhere, where the model has no law of times.
    """
    model.eval()
    parts = []
    ranked = reader.catalogue.events(sequences[reader.catalogue.lengths[sequences] > 1])
    first = reader.catalogue.offsets[:-1]
    ranked = np.setdiff1d(ranked, first)
    ranked = ranked[regions.chosen(len(ranked))]
    for chosen in reader.pieces(sequences, PAIRS):
        parts.append(_batch(model, reader, reader.windows(np.sort(chosen)), draws, joint, rng, gaps, ranked))
    alone = sequences[reader.catalogue.lengths[sequences] == 1]  # one event: nothing to forecast but the survival
    if len(alone):
        parts.append(_batch(model, reader, reader.windows(alone), draws, joint, rng, gaps, ranked))
    joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in Forecast.__dataclass_fields__}
    order, windows = np.argsort(joined["row"]), np.argsort(joined["window"])
    by_window = ("log_survival", "window")
    return Forecast(**{name: v[windows if name in by_window else order] for name, v in joined.items()})


def _batch(
    model: Corrected,
    reader: Reader,
    windows: Windows,
    draws: int,
    joint: int,
    rng: np.random.Generator,
    gaps: np.ndarray | None,
    ranked: np.ndarray,
) -> Forecast:
    events, scored = windows.events, windows.scored
    state = model.states(windows)
    rate, since, tail = model.operational(events, windows.before)
    law = model.time_law(state, events.mark)
    ahead = law[windows.before]
    steps, z = _table(model, windows, float(events.end.max()))
    table = np.broadcast_to(steps.numpy(), (len(events.t), len(steps)))
    cdf = -torch.expm1(ahead.columns().log_survival(z)).numpy()  # [n, G]
    place = model.place_law(windows, state)
    row = events.row.numpy()
    if gaps is None:
        drawn = _invert(cdf, steps.numpy(), rng.random((len(row), joint)))
        if ahead.tie is not None:
            drawn[drawn <= steps[0].item()] = 0.0
    else:
        drawn = gaps[row]
    together = np.empty((len(row), joint, 2))
    for number in range(joint):
        then = model.place_law(windows, state, *reader.at(windows, drawn[:, number]))
        together[:, number] = draw_places(model, reader, windows, then, 1, rng)[:, 0]
    keep = scored.numpy()
    tie = torch.zeros(len(row)) if ahead.tie is None else ahead.tie.sigmoid()
    log_place = model.log_place(place, windows)
    places = draw_places(model, reader, windows, place, draws, rng)
    hpd, at = np.full(len(row), np.nan), np.flatnonzero(np.isin(row, ranked))
    if place.stay is None and draws and len(at):  # an atom has no region of highest density
        dense = density(model, reader, windows, place, at, places[at][:, : regions.SAMPLES])
        hpd[at] = regions.content(dense, torch.logsumexp(log_place, 1)[at].double().numpy(), rng)
    return Forecast(
        row[keep],
        model.log_gap(ahead, since, rate, windows.tied)[scored].numpy(),
        -torch.expm1(ahead.log_survival(since))[scored].numpy(),
        table[keep],
        cdf[keep],
        log_place[scored].numpy(),
        model.log_mark(place, events)[scored].numpy(),
        model.log_ending(law, events, tail).numpy(),
        windows.sequences,
        places[keep],
        drawn[keep],
        together[keep],
        tie.numpy()[keep],
        hpd[keep],
    )


def _invert(cdf: np.ndarray, gap: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Gaps [n, J] at levels u [n, J], between the points of the table [n, G]; 0 below the first."""
    found = np.empty(u.shape)
    for i in range(len(u)):
        found[i] = np.interp(u[i], cdf[i], gap, left=0.0)
    return found


def as_exact(
    found: Forecast, catalogue: Catalogue, targets: Targets, quantiles: int, memory: float | None = None
) -> Exact:
    """The forecast in the form that is scored. On a lattice of times the gap's law is that of ``clock``.

    memory: recency of that clock (``Reader.clock``).
    """
    joint = found.log_place
    total = np.logaddexp.reduce(joint, axis=1)
    result = Exact(
        log_location=total,
        mark_given_tx=np.exp(joint - total[:, None]),
        mark_given_t=np.exp(found.log_mark),
        samples_location=found.places if found.places.shape[1] else None,
        hpd_location=found.hpd if np.isfinite(found.hpd).any() else None,
        joint=Samples(found.joint_gap, found.joint_place) if found.joint_gap.shape[1] else None,
    )
    if catalogue.meta["lattice"]["time"]:
        for name, value in (
            clock.MinuteHazard.fit(catalogue, memory=memory).predict(catalogue, targets, quantiles).items()
        ):
            setattr(result, name, value)
        return result
    tied = catalogue.dt[targets.row] == 0
    result.log_time, result.log_survival = found.log_time, found.log_survival
    result.cdf_time = np.where(tied & (found.tie > 0), found.tie, found.cdf_time)
    result.cdf_time_left = np.where(tied & (found.tie > 0), 0.0, found.cdf_time)
    result.quantiles_time = found.quantiles(quantiles)
    if (found.tie > 0).any():
        level = (np.arange(quantiles) + 0.5) / quantiles
        result.quantiles_time[level < found.tie[:, None]] = 0.0
    if not catalogue.marked:
        result.mark_given_tx = result.mark_given_t = None
    return result


def clock_gaps(
    catalogue: Catalogue, targets: Targets, count: int, rng: np.random.Generator, memory: float | None = None
) -> np.ndarray | None:
    """Gaps drawn from the clock's law [events of the catalogue, count] at the targets; None where the model has one."""
    if not catalogue.meta["lattice"]["time"]:
        return None
    if not count:
        return np.zeros((len(catalogue.t), 0))
    quantiles = clock.MinuteHazard.fit(catalogue, memory=memory).predict(catalogue, targets, 10 * count)[
        "quantiles_time"
    ]
    gaps = np.zeros((len(catalogue.t), count))
    gaps[targets.row] = rng.permuted(quantiles, axis=1)[:, :count]
    return gaps


def _table(model: Corrected, windows: Windows, window: float) -> tuple[Tensor, Tensor]:
    """Gaps [G] and operational time [n, G] that they take from the event before each event."""
    events, base = windows.events, model.time
    gaps = window * torch.logspace(np.log10(SHORTEST), np.log10(LONGEST), TABLE)
    start = events.t[windows.before][:, None]  # [n, 1]
    z = base.background_integral(start, start + gaps)
    if base.excites:
        for part in torch.arange(len(events.target)).split(2000):  # [2000, G, R] at once
            target, parent = events.target[part], events.parent[part]
            t0 = start[target]
            added = base.trigger_integral(t0, t0 + gaps, events.t[parent][:, None], events.mark[parent][:, None])
            z.index_add_(0, target, added.sum(-1))
    return gaps, z


def draw_places(
    model: Corrected, reader: Reader, windows: Windows, law: PlaceLaw, draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Places [n, draws, 2] drawn from f(x | t)."""
    events, base, n = windows.events, model.place, len(windows.events.t)
    background = law.background.double().numpy()
    share = law.share.double().numpy()  # [P, R]
    parts = share.shape[1]
    up = np.concatenate([[0.0], np.cumsum(share.ravel())])
    first = np.searchsorted(events.target.numpy(), np.arange(n + 1)) * parts  # [n + 1] places in the flat shares
    excited = up[first[1:]] - up[first[:-1]]
    u = rng.random((n, draws)) * (background + excited)[:, None]
    out = np.empty((n, draws, 2))
    quiet = (u < background[:, None]) | (first[1:] == first[:-1])[:, None]
    event, draw = np.nonzero(~quiet)
    goal = up[first[event]] + u[event, draw] - background[event]
    flat = np.clip(np.searchsorted(up, goal, side="right") - 1, first[event], first[event + 1] - 1)
    pair, part = np.divmod(flat, parts)
    parent = events.parent.numpy()[pair]
    row = events.row.numpy()
    widths = model.squared_widths(events.mark[events.parent], law.widen).double().numpy()  # [P, R]
    d2, q1 = widths[pair, part], base.decays().double().numpy()[part]
    radius = np.sqrt(d2 * (np.maximum(rng.random(len(pair)), 1e-12) ** (-1 / q1) - 1))
    angle = rng.random(len(pair)) * 2 * np.pi
    offset = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)]) / reader.background.scale
    out[event, draw] = reader.catalogue.xy[row[parent]] + offset
    if reader.background.lattice is not None:  # to the nearest cell
        for axis, cells in enumerate(reader.background.lattice):
            size = cells[1] - cells[0]
            place = np.clip(np.rint((out[event, draw, axis] - cells[0]) / size), 0, len(cells) - 1)
            out[event, draw, axis] = cells[0] + size * place
    event, draw = np.nonzero(quiet)
    mark = _categorical(law.background_mark.exp().double().numpy()[event], rng)
    component = _categorical(law.mix.exp().double().numpy()[event, :, mark], rng)
    out[event, draw] = reader.background.sample(component, mark, rng)
    if law.stay is not None:  # at the place of the event before it
        stay = law.tied[:, None].numpy() & (rng.random((n, draws)) < law.stay.sigmoid().numpy()[:, None])
        out = np.where(stay[..., None], reader.catalogue.xy[row[windows.before.numpy()]][:, None], out)
    return out


def _categorical(probability: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One class a row of [n, C]."""
    up = np.cumsum(probability, axis=1)
    return np.minimum((rng.random((len(up), 1)) * up[:, -1:] > up).sum(axis=1), up.shape[1] - 1)


def density(
    model: Corrected, reader: Reader, windows: Windows, law: PlaceLaw, events: np.ndarray, where: np.ndarray
) -> np.ndarray:
    """log f(x | t) [m, S] of the exact-likelihood model at places [m, S, 2] for these events of its windows."""
    own, scale = windows.events, reader.background.scale
    ends = np.searchsorted(own.target.numpy(), np.arange(len(own.t) + 1))
    place = reader.catalogue.xy[own.row.numpy()] * scale
    features = torch.as_tensor(reader.background.features(where.reshape(-1, 2)))
    features = features.unflatten(0, where.shape[:2])  # [m, S, C, K]
    out = np.empty(where.shape[:2])
    for i, event in enumerate(events):
        pairs = slice(int(ends[event]), int(ends[event + 1]))
        parent = own.parent[pairs]
        gap = (where[i] * scale)[:, None] - place[parent.numpy()]  # [S, p, 2]
        r2 = torch.as_tensor((gap**2).sum(-1), dtype=own.t.dtype)
        kin = own.mark[parent].expand(len(r2), -1)
        widen = None if law.widen is None else law.widen[pairs].expand(len(r2), -1, -1)
        excited = (law.share[pairs] * model.log_space(r2, kin, widen).exp()).sum(dim=(1, 2))
        quiet = torch.logsumexp(law.background_mark[event] + torch.logsumexp(features[i] + law.mix[event], 1), 1)
        total = (law.background[event] * quiet.exp() + excited).clamp_min(1e-30)
        out[i] = torch.log(total / law.total[event]).double().numpy()
    return out
