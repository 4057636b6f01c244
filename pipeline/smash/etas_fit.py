"""Fitting ETAS by likelihood, and what the fitted model says of every event.

Events 2 … n of each window are scored given the first one, and the survival from the last event to the window's end.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import DataError
from ..core.store import read_json, write_json
from . import waiting, windows
from .etas import Etas
from .events import Catalogue
from .ties import Ties

FACTORS = ("time", "place")
ALIKE = "the fit to all training windows alike, each seen once; where a memory was chosen, forecasts are another fit's"


@dataclass
class Events:
    """Windows of a catalogue as tensors, with every pair of events inside a window.

    Attributes
    ----------
    row: [n] catalogue rows, window by window; t, mark: [n]; place: [n, 2] scaled; features: [n, C, K].
    window: [n] number (0 … W - 1) of each event's window; end: [W] its length; last: [W] place of its last event.
    target, parent: [P] pairs; r2: [P] squared scaled distances. scored: [n] whether an event is a target; timed: [n]
        whether its gap is no tie that has a probability of its own (see :mod:`pipeline.smash.ties`).
    until: [n] end of the time in which an event adds to the rate (the window's, or when ``max_lag`` drops it).
    """

    row: Tensor
    t: Tensor
    mark: Tensor
    features: Tensor
    window: Tensor
    end: Tensor
    last: Tensor
    target: Tensor
    parent: Tensor
    r2: Tensor
    scored: Tensor
    timed: Tensor
    until: Tensor
    marks: int

    @classmethod
    def of(
        cls,
        catalogue: Catalogue,
        sequences: np.ndarray,
        features: np.ndarray,
        scale: np.ndarray,
        max_lag: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Events:
        """``features`` [events of the whole catalogue, C, K] or [n, C, K] of just these windows' events."""
        sequences = sequences[catalogue.lengths[sequences] > 0]
        found = windows.of(catalogue, sequences, max_lag)
        row, lengths = found.row, catalogue.lengths[sequences]
        t, place = catalogue.t[row], catalogue.xy[row] * scale
        gap = place[found.target] - place[found.parent]
        number = np.repeat(np.arange(len(sequences)), lengths)
        index = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        until = catalogue.window[sequences][number].astype(float)
        if max_lag is not None:
            later = np.arange(len(row)) + max_lag
            inside = (later < len(row)) & (np.append(number, -1)[np.minimum(later, len(row))] == number)
            until[inside] = t[later[inside]]
        atoms = Ties.fit(catalogue).probability is not None
        picked = features[row] if len(features) == len(catalogue.t) else features
        real = lambda a: torch.as_tensor(np.asarray(a), dtype=dtype)  # noqa: E731
        whole = lambda a: torch.as_tensor(np.asarray(a), dtype=torch.int64)  # noqa: E731
        return cls(
            whole(row),
            real(t),
            whole(catalogue.labels[row]),
            real(picked),
            whole(number),
            real(catalogue.window[sequences]),
            whole(np.cumsum(lengths) - 1),
            whole(found.target),
            whole(found.parent),
            real((gap**2).sum(axis=1)),
            torch.as_tensor(index > 0),
            torch.as_tensor((index > 0) & ~(atoms & (catalogue.dt[row] == 0))),
            real(until),
            catalogue.marks,
        )


def rates(etas: Etas, events: Events) -> tuple[Tensor, Tensor]:
    """Rate [n] at each event given its past, and the pairs' shares [P, R] of it."""
    share = etas.trigger(events.t[events.target], events.t[events.parent], events.mark[events.parent])
    total = etas.background_rate(events.t)
    return total.index_add(0, events.target, share.sum(dim=-1)), share


def expected(etas: Etas, events: Events) -> Tensor:
    """[W] events expected in each window after its first event."""
    first = torch.cat([events.last.new_zeros(1), events.last[:-1] + 1])
    total = etas.background_integral(events.t[first], events.end)
    added = etas.trigger_integral(events.t, events.until, events.t, events.mark).sum(dim=-1)
    return total.index_add(0, events.window, added)


def places(etas: Etas, events: Events, rate: Tensor, share: Tensor) -> Tensor:
    """log f(x, k | t) [n, K] of each event's place for every mark."""
    n, k, parts = len(events.t), events.marks, len(etas.parts)
    parents = events.mark[events.parent]
    dense = share * torch.exp(etas.log_space(events.r2, parents))  # [P, R]
    by_mark = dense.new_zeros(n * k, parts).index_add(0, events.target * k + parents, dense)
    excited = torch.einsum("nmr,rmk->nk", by_mark.view(n, k, parts), etas.log_mark().exp())
    background = etas.background_rate(events.t)[:, None] * torch.exp(etas.log_background(events.features))
    return torch.log((background + excited).clamp_min(1e-30)) - torch.log(rate)[:, None]


def log_likelihood(etas: Etas, events: Events, weight: Tensor, factors: tuple[str, ...]) -> Tensor:
    """Sum over windows of weight [W] times their log-likelihood: time, place with mark, or both."""
    rate, share = rates(etas, events)
    each = weight[events.window] * events.timed  # a tie has laws of its own for time, place and mark
    total = rate.new_zeros(())
    if "time" in factors:
        total = total + (each * torch.log(rate)).sum() - (weight * expected(etas, events)).sum()
    if "place" in factors:
        found = places(etas, events, rate, share)
        total = total + (each * found.gather(1, events.mark[:, None])[:, 0]).sum()
    return total


def recency(catalogue: Catalogue, sequences: np.ndarray, memory: float | None) -> np.ndarray:
    """Weights [W] of training windows that fall with their age; mean 1. ``memory`` is a share of the period."""
    start = catalogue.start[sequences]
    if memory is None or not np.isfinite(memory):
        return np.ones(len(start))
    weight = np.exp(-(start.max() - start) / (memory * max(start.max() - start.min(), 1e-9)))
    return weight / weight.mean()


MOST_PAIRS = 2_000_000  # of events and their predecessors in a fit: what a gigabyte holds
PENALTY = 1e-3  # of squared logits: marks that a part never sees keep finite numbers


def fit(
    etas: Etas,
    events: Events,
    weight: np.ndarray,
    factors: tuple[str, ...] = FACTORS,
    steps: int = 150,
    fixed: tuple[str, ...] = (),
    tolerance: float = 1e-7,
    towards: Etas | None = None,
    pull: float = 0.0,
) -> dict[str, Any]:
    """Maximise the weighted likelihood in place by L-BFGS; parameters whose name is in ``fixed`` stay.

    With ``towards`` the parameters have a Gaussian prior around that model's, of precision ``pull`` (in events): a
    fit that forgets old windows has few events left, and keeps to the whole period where they say little.

    Returns the likelihood per (weighted) scored event and the number of iterations.
    """
    from scipy.optimize import minimize

    chosen = [p for name, p in etas.named_parameters() if name not in fixed]
    centre = None
    if towards is not None:
        centre = [p.detach().clone() for name, p in towards.named_parameters() if name not in fixed]
    weights = torch.as_tensor(weight, dtype=events.t.dtype)
    count = float((weights[events.window] * events.scored).sum())
    effective = count * float(weights.sum() ** 2 / (weights**2).sum()) / len(weights)  # Kish (1965)
    soft = [etas.mark_logits, etas.background_mix, etas.background_mark]

    def value(vector: np.ndarray) -> tuple[float, np.ndarray]:
        set_parameters(chosen, vector)
        loss = -log_likelihood(etas, events, weights, factors) / count
        loss = loss + PENALTY * sum((p**2).mean() for p in soft) + PENALTY * 0.01 * sum((p**2).mean() for p in chosen)
        if centre is not None:
            away = sum(((p - c) ** 2).sum() for p, c in zip(chosen, centre, strict=True))
            loss = loss + 0.5 * pull / effective * away
        found = torch.autograd.grad(loss, chosen, allow_unused=True)
        gradient = [torch.zeros_like(p) if g is None else g for g, p in zip(found, chosen, strict=True)]
        flat = np.concatenate([g.detach().double().numpy().ravel() for g in gradient])
        return loss.item(), np.nan_to_num(flat)

    start = np.concatenate([p.detach().double().numpy().ravel() for p in chosen])
    found = minimize(
        value, start, jac=True, method="L-BFGS-B", bounds=[(-25, 25)] * len(start),
        options={"maxiter": steps, "maxfun": 2 * steps, "ftol": tolerance, "maxcor": 20},
    )  # fmt: skip
    if not np.isfinite(found.fun):
        raise DataError("the likelihood of ETAS is not finite on these data; look for repeated or distant events")
    set_parameters(chosen, found.x)
    return {"log_likelihood": -float(found.fun), "iterations": int(found.nit), "evaluations": int(found.nfev)}


def set_parameters(parameters: list[Tensor], vector: np.ndarray) -> None:
    """Write a flat vector into parameters, one after the other."""
    place = 0
    with torch.no_grad():
        for p in parameters:
            p.copy_(torch.as_tensor(vector[place : place + p.numel()], dtype=p.dtype).view_as(p))
            place += p.numel()


@dataclass
class Fitted:
    """A fitted ETAS, one model a factor: recency pays differently for times and for places with marks.

    Attributes
    ----------
    time, place: the model whose rate gives the times, and the one whose shares give p(x, k | t).
    attrs: memories chosen, validation table, parameters with standard errors, background's settings; plain data.
        ``waiting``: rows of the law of operational time where it isn't the unit exponential (:mod:`.waiting`).
    """

    time: Etas
    place: Etas
    attrs: dict[str, Any]

    @property
    def waiting(self) -> list[list[float]]:
        return self.attrs.get("waiting") or waiting.unit()

    @property
    def law(self) -> waiting.TimeLaw:
        """Law of operational time [Q], in double precision."""
        return waiting.law_of(torch.tensor(self.waiting, dtype=torch.float64))

    def save(self, path: Path | str) -> None:
        write_json(path, {"time": self.time.to_dict(), "place": self.place.to_dict(), "attrs": self.attrs})


def load(path: Path | str) -> Fitted:
    """Read a fitted ETAS.

    Raises
    ------
    DataError
        A missing or damaged file.
    """
    data = read_json(path)
    try:
        return Fitted(Etas.from_dict(data["time"]), Etas.from_dict(data["place"]), data["attrs"])
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise DataError(f"{path} is no fitted ETAS ({error}); run the stage baselines anew") from None


def scores(etas: Etas, events: Events) -> dict[str, float]:
    """Mean log likelihood of a scored event: of its time (with survival) and of its place and mark given the time."""
    with torch.no_grad():
        rate, share = rates(etas, events)
        found = places(etas, events, rate, share).gather(1, events.mark[:, None])[:, 0]
        count = float(events.scored.sum())
        time = float((torch.log(rate) * events.timed).sum() - expected(etas, events).sum()) / count
        return {"time": time, "place": float((found * events.timed).sum()) / count}


def estimate(
    catalogue: Catalogue,
    features: np.ndarray,
    scale: np.ndarray,
    memories: tuple[float | None, ...] = (None, 0.1, 0.03),
    parts: tuple[str, ...] = ("fast", "slow", "level"),
    falling: bool = True,
    max_lag: int | None = 400,
    errors: bool = True,
    steps: int = 60,
    pull: float = 100.0,
    factors: tuple[str, ...] = FACTORS,
    log: Any = None,
) -> Fitted:
    """Fit on the training windows; the recency memory of each factor is chosen on validation.

    The first fit sees every training window once (one phase) and alike. Each memory then starts from it, with windows
    weighted by age, all phases of the recent ones, and a prior around the first fit (``pull`` events strong).

    Parameters
    ----------
    features: [events of the catalogue, C, K] of :meth:`pipeline.smash.kde.Background.catalogue_features`.
    scale: [2] of the same background.
    factors: ``("place",)`` where the times have a model of their own (lattice times).
    errors: parameters with standard errors go to ``attrs``. They are those of the first fit, not of the ones that
        recency weights and a prior have moved, for which the curvature gives no standard errors.
    """
    every = catalogue.sequences("train")
    most = windows.reach(catalogue.lengths[catalogue.sequences("train", phase=0)], MOST_PAIRS)
    max_lag = most if max_lag is None else min(max_lag, most)
    once = Events.of(catalogue, catalogue.sequences("train", phase=0), features, scale, max_lag)
    val = Events.of(catalogue, catalogue.sequences("val"), features, scale, max_lag)
    near = np.sqrt(np.median(once.r2[once.target - once.parent == 1].numpy())) if len(once.r2) else 1.0
    lattice = None
    if catalogue.meta["lattice"]["place"]:
        step = float(catalogue.meta["lattice"]["place"])
        span = (np.array(catalogue.meta["bbox"][1]) - np.array(catalogue.meta["bbox"][0])) / step
        lattice = (int(span[0]) + 1, int(span[1]) + 1, step)
    window = float(catalogue.meta["window"] or np.median(once.end.numpy()))
    base = Etas(
        catalogue.marks,
        features.shape[1],
        parts,
        tuple(float(s) for s in scale),
        window,
        float(max(near, 1e-3)),
        float(len(once.t) / once.end.sum()),
        lattice,
        falling,
        0.5 * float(catalogue.meta.get("narrowest") or 0.0),
    )
    report = fit(base, once, np.ones(len(once.end)), factors, steps)
    models, table = {"none": base}, {"none": scores(base, val) | {"iterations": report["iterations"]}}
    for memory in memories:
        if memory is None or not np.isfinite(memory):
            continue
        weight = recency(catalogue, every, memory)
        keep = weight > 0.05 * weight.max()
        model = Etas.from_dict(base.to_dict())
        recent = Events.of(catalogue, every[keep], features, scale, max_lag)
        report = fit(model, recent, weight[keep], factors, steps // 2, towards=base, pull=pull)
        models[f"{memory:g}"] = model
        table[f"{memory:g}"] = scores(model, val) | {"iterations": report["iterations"]}
    best = {factor: max(table, key=lambda name: table[name][factor]) for factor in factors}
    best = {factor: best.get(factor, best["place"]) for factor in FACTORS}  # a rate of its own where times need none
    table = {name: {key: row[key] for key in (*factors, "iterations")} for name, row in table.items()}
    if log:
        for name, row in table.items():
            found = ", ".join(f"{factor} {row[factor]:.4f}" for factor in factors)
            log.info(f"etas, memory {name}: validation {found}")
    attrs = {"memory": best, "validation": table, "parts": list(parts), "max_lag": max_lag, "pull": pull}
    if errors:
        from .etas_errors import standard_errors

        attrs["parameters"] = standard_errors(base, once, factors)
        attrs["parameters_of"] = ALIKE
    return Fitted(models[best["time"]], models[best["place"]], attrs)


def trace(fitted: Fitted, events: Events) -> dict[str, np.ndarray]:
    """What the fitted model says of every event of some windows.

    Returns
    -------
    rate [n] at the event, compensator [n] (events expected since the one before it; 0 for a window's first), tail [W]
    (expected from the last event to the window's end), log_place [n], log_mark_tx [n, K] and log_mark_t [n, K].
    """
    with torch.no_grad():
        rate, _ = rates(fitted.time, events)
        before = torch.where(events.scored, events.t.roll(1), events.t)
        kin = events.mark[events.parent]
        added = fitted.time.trigger_integral(
            before[events.target], events.t[events.target], events.t[events.parent], kin
        ).sum(dim=-1)
        compensator = fitted.time.background_integral(before, events.t).index_add(0, events.target, added)
        last = events.t[events.last]
        alive = events.until >= events.end[events.window] - 1e-6  # not dropped by max_lag
        rest = fitted.time.trigger_integral(last[events.window], events.end[events.window], events.t, events.mark).sum(
            dim=-1
        )
        tail = fitted.time.background_integral(last, events.end).index_add(0, events.window, rest * alive)
        rate_place, share = rates(fitted.place, events)
        both = places(fitted.place, events, rate_place, share)
        place = torch.logsumexp(both, dim=1)
        marks = marks_given_time(fitted.place, events, rate_place, share)
    found = {
        "rate": rate,
        "compensator": compensator,
        "tail": tail,
        "log_place": place,
        "log_mark_tx": both - place[:, None],
        "log_mark_t": marks,
    }
    return {name: value.double().numpy() for name, value in found.items()}


def marks_given_time(etas: Etas, events: Events, rate: Tensor, share: Tensor) -> Tensor:
    """log p(k | t) [n, K]: the place is integrated out, so only the parts' shares and their marks remain."""
    n, k, parts = len(events.t), events.marks, len(etas.parts)
    key = events.target * k + events.mark[events.parent]
    by_mark = share.new_zeros(n * k, parts).index_add(0, key, share).view(n, k, parts)
    excited = torch.einsum("nmr,rmk->nk", by_mark, etas.log_mark().exp())
    own = torch.softmax(etas.background_mark, dim=-1)
    return torch.log(etas.background_rate(events.t)[:, None] * own + excited) - torch.log(rate)[:, None]
