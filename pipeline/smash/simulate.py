"""Simulating ETAS: a catalogue with known parameters, and many windows forward from a fitted model at once.

Both go by branching (Hawkes and Oakes 1974): background events first, then the children of each generation together,
which needs no thinning and is exact.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import events as ev
from . import windows

if TYPE_CHECKING:
    from .etas import Etas
    from .kde import Background


@dataclass(frozen=True)
class Truth:
    """Parameters of the simulated catalogue: days and kilometres, marks by magnitude class.

    Attributes
    ----------
    windows, window: number and length [days] of windows; each begins without a past, so the model is complete.
    mu: background events a day. productivity: children that a parent of each mark has over infinite time if p > 1.
    c, p: Omori's law (dt + c)^-p. d: [km] by the parent's mark; q: decay of the distance.
    marks: probabilities of the marks in the background; child_marks: of children, by the parent's mark.
    centres, weights, spreads: Gaussians of the background's places [km].
    """

    windows: int = 400
    window: float = 30.0
    mu: float = 1.6
    productivity: tuple[float, ...] = (0.15, 0.5, 1.6)
    c: float = 0.02
    p: float = 1.25
    d: tuple[float, ...] = (4.0, 7.0, 14.0)
    q: float = 1.8
    marks: tuple[float, ...] = (0.7, 0.25, 0.05)
    child_marks: tuple[tuple[float, ...], ...] = ((0.75, 0.21, 0.04), (0.7, 0.25, 0.05), (0.65, 0.27, 0.08))
    centres: tuple[tuple[float, float], ...] = ((-120.0, -80.0), (60.0, 40.0), (150.0, 160.0))
    weights: tuple[float, ...] = (0.4, 0.4, 0.2)
    spreads: tuple[float, ...] = (50.0, 80.0, 40.0)

    @property
    def branching(self) -> float:
        """Mean number of children of an event (over infinite time): the largest eigenvalue of the mean matrix."""
        mean = np.array(self.productivity)[:, None] * np.array(self.child_marks)
        return float(np.abs(np.linalg.eigvals(mean)).max())

    @property
    def scaled(self) -> np.ndarray:
        """A of each mark in A (dt + c)^-p, from the number of children."""
        return np.array(self.productivity) * (self.p - 1) * self.c ** (self.p - 1)

    def background_density(self, xy: np.ndarray) -> np.ndarray:
        """f_bg(x) [n] of places [n, 2] in 1/km²."""
        gap = xy[:, None] - np.array(self.centres)  # [n, 3, 2]
        variance = np.array(self.spreads) ** 2
        log = np.exp(-0.5 * (gap**2).sum(-1) / variance) / (2 * np.pi * variance)
        return log @ np.array(self.weights)


def _categories(rng: np.random.Generator, probabilities: np.ndarray) -> np.ndarray:
    """One category [n] of each row of probabilities [n, K]."""
    steps = np.cumsum(probabilities, axis=1)
    return np.minimum((rng.random((len(steps), 1)) * steps[:, -1:] > steps).sum(axis=1), probabilities.shape[1] - 1)


def one_window(truth: Truth, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """t [n], mark [n], xy [n, 2] of one window, sorted by time."""
    n = rng.poisson(truth.mu * truth.window)
    t = rng.random(n) * truth.window
    mark = rng.choice(len(truth.marks), n, p=np.array(truth.marks))
    centre = rng.choice(len(truth.weights), n, p=np.array(truth.weights))
    xy = np.array(truth.centres)[centre] + rng.normal(size=(n, 2)) * np.array(truth.spreads)[centre][:, None]
    generation, found = (t, mark, xy), [(t, mark, xy)]
    while len(generation[0]):
        t, mark, xy = generation
        parent = np.repeat(np.arange(len(t)), rng.poisson(np.array(truth.productivity)[mark]))
        u = rng.random(len(parent))
        child = t[parent] + truth.c * (u ** (-1 / (truth.p - 1)) - 1)  # inverse of Omori's law
        parent, child = parent[child < truth.window], child[child < truth.window]
        d = np.array(truth.d)[mark[parent]]
        r = d * np.sqrt(rng.random(len(parent)) ** (-1 / (truth.q - 1)) - 1)
        angle = rng.random(len(parent)) * 2 * np.pi
        place = xy[parent] + np.column_stack([np.cos(angle), np.sin(angle)]) * r[:, None]
        generation = (child, _categories(rng, np.array(truth.child_marks)[mark[parent]]), place)
        found.append(generation)
    t, mark, xy = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.argsort(t, kind="stable")
    return t[order], mark[order].astype(np.int64), xy[order]


def catalogue(truth: Truth, seed: int, source: dict[str, Any] | None = None) -> ev.Catalogue:
    """A simulated catalogue; windows with fewer than two events are drawn again. The truth is in its meta."""
    rng = np.random.default_rng(seed)
    found = []
    while len(found) < truth.windows:
        one = one_window(truth, rng)
        if len(one[0]) >= 2:
            found.append(one)
    lengths = [len(t) for t, _, _ in found]
    meta = {
        "name": "etas",
        "units": {"time": "day", "place": "km"},
        "marks": len(truth.marks),
        "mark_names": [f"class {k}" for k in range(len(truth.marks))],
        "window": truth.window,
        "stride": None,
        "split_rule": "by time: the last tenth is test, the tenth before it validation",
        "projection": None,
        "lattice": {"time": None, "place": None},
        "log_density": {"time": 0.0, "time_unit": "1/day", "place": 0.0, "place_unit": "1/km2"},
        "period_of_clock": None,
        "places": True,
        "truth": {**asdict(truth), "seed": seed},
        **(source or {}),
    }
    t, mark, xy = (np.concatenate(part) for part in zip(*found, strict=True))
    return ev.finished(
        ev.Catalogue(
            np.concatenate([[0], np.cumsum(lengths)]),
            t,
            mark,
            xy,
            windows.by_time(truth.windows, 0.1, 0.1),
            np.full(truth.windows, truth.window),
            np.arange(truth.windows) * truth.window,
            np.zeros(truth.windows, np.int64),
            meta=meta,
        )
    )


def true_log_likelihood(truth: Truth, cat: ev.Catalogue, split: str) -> dict[str, np.ndarray]:
    """What the truth says of a split's targets: log_time, log_location, log_mark_given_tx [n], log_survival [W]."""
    targets = cat.targets(split)
    pairs = windows.of(cat, targets.windows)
    t, mark, xy, row = cat.t[pairs.row], cat.labels[pairs.row], cat.xy[pairs.row], pairs.row
    lag = t[pairs.target] - t[pairs.parent]
    a, c, p, q = truth.scaled, truth.c, truth.p, truth.q
    kin = mark[pairs.parent]
    rate = a[kin] * (lag + c) ** -p
    d2 = np.array(truth.d)[kin] ** 2
    r2 = ((xy[pairs.target] - xy[pairs.parent]) ** 2).sum(axis=1)
    dense = rate * (q - 1) / np.pi * d2 ** (q - 1) * (r2 + d2) ** -q
    n = len(row)
    total = truth.mu + np.bincount(pairs.target, rate, n)
    parts = np.stack([np.bincount(pairs.target[kin == m], dense[kin == m], n) for m in range(len(truth.marks))], 1)
    both = parts @ np.array(truth.child_marks)  # [n, K]
    both += truth.mu * truth.background_density(xy)[:, None] * np.array(truth.marks)
    place = both.sum(axis=1)

    def integral(t0: np.ndarray, t1: np.ndarray, parent: np.ndarray, m: np.ndarray) -> np.ndarray:
        return a[m] / (1 - p) * ((t1 - parent + c) ** (1 - p) - (t0 - parent + c) ** (1 - p))

    before = t[np.maximum(pairs.target - 1, 0)]
    between = truth.mu * np.diff(t, prepend=0.0)
    between = between + np.bincount(pairs.target, integral(before, t[pairs.target], t[pairs.parent], kin)[0:], n) \
        if len(pairs.target) else between  # fmt: skip
    number = np.repeat(np.arange(len(targets.windows)), cat.lengths[targets.windows])
    last = np.cumsum(cat.lengths[targets.windows]) - 1
    end = cat.window[targets.windows]
    tail = truth.mu * (end - t[last])
    tail = tail + np.bincount(number, integral(t[last][number], end[number], t, mark), len(end))
    scored = np.isin(row, targets.row)
    chosen = both[np.arange(n), mark]
    return {
        "log_time": (np.log(total) - between)[scored],
        "log_location": np.log(place / total)[scored],
        "log_mark_given_tx": np.log(chosen / place)[scored],
        "log_survival": -tail,
    }


def forward(
    etas: Etas,
    background: Background,
    history: tuple[np.ndarray, np.ndarray, np.ndarray],
    start: float,
    end: float,
    count: int,
    rng: np.random.Generator,
    limit: int = 200_000,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """``count`` catalogues of what comes between ``start`` and ``end`` of a window, all at once.

    Parameters
    ----------
    history: t [n], mark [n], xy [n, 2] of the events up to ``start`` in the window.
    limit: events over all catalogues beyond which growth is held to be explosive.

    Returns
    -------
    Number of the catalogue, t, mark and xy of the new events, [N], [N], [N], [N, 2], sorted by catalogue and time.

    Raises
    ------
    DataError
        More than ``limit`` events: the fitted process is supercritical over this time.
    """
    import torch

    from ..core.errors import DataError

    real = lambda a: torch.as_tensor(np.asarray(a), dtype=torch.float32)  # noqa: E731
    with torch.no_grad():
        matrix = etas.log_mark().exp().double().numpy()  # [R, K, K]
        mix = torch.log_softmax(etas.background_mix, dim=-1).exp().double().numpy()  # [K, C]
        share = torch.softmax(etas.background_mark, dim=-1).double().numpy()
        d, q = etas.scales().double().numpy(), 1 + etas.decays().double().numpy()
        expected = float(etas.background_integral(real(start), real(end)))
        n = rng.poisson(expected, count)
        number = np.repeat(np.arange(count), n)
        t = _background_times(etas, start, end, len(number), rng)
        mark = rng.choice(len(share), len(number), p=share / share.sum())
        component = _categories(rng, mix[mark]) if len(mark) else np.zeros(0, int)
        found = [(number, t, mark, background.sample(component, mark, rng))]
        old_t, old_mark, old_xy = (np.asarray(part) for part in history)
        copies = np.repeat(np.arange(count), len(old_t))
        generation = (copies, np.tile(old_t, count), np.tile(old_mark, count), np.tile(old_xy, (count, 1)))
        queue = [tuple(np.concatenate(part) for part in zip(generation, found[0], strict=True))]
        total = 0
        while queue:
            number, t, mark, xy = queue.pop()
            if not len(t):
                continue
            first = np.maximum(t, start)
            own = torch.as_tensor(np.asarray(mark, np.int64))
            mean = etas.trigger_integral(real(first), real(np.full_like(first, end)), real(t), own).double().numpy()
            for r in range(mean.shape[1]):
                parent = np.repeat(np.arange(len(t)), rng.poisson(np.maximum(mean[:, r], 0)))
                if not len(parent):
                    continue
                total += len(parent)
                if total > limit:
                    raise DataError(
                        f"simulating {count} catalogues from {start:g} to {end:g} gave more than {limit:,} events: the "
                        "fitted process explodes over this time; simulate a shorter time or fewer catalogues"
                    )
                child = _child_times(etas, r, first[parent], t[parent], end, rng)
                kin = mark[parent]
                radius = d[r][kin] * np.sqrt(rng.random(len(parent)) ** (-1 / (q[r] - 1)) - 1)
                angle = rng.random(len(parent)) * 2 * np.pi
                step = np.column_stack([np.cos(angle), np.sin(angle)]) * radius[:, None] / background.scale
                new = (number[parent], child, _categories(rng, matrix[r][kin]), xy[parent] + step)
                found.append(new)
                queue.append(new)
    number, t, mark, xy = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((t, number))
    return number[order], t[order], mark[order].astype(np.int64), xy[order]


def _background_times(etas: Etas, start: float, end: float, n: int, rng: np.random.Generator) -> np.ndarray:
    """Times of background events by the inverse of the background's integral on a fine grid."""
    import torch

    grid = torch.linspace(start, end, 2049, dtype=torch.float64)
    total = etas.background_integral(torch.full_like(grid, start), grid).double().numpy()
    return np.interp(rng.random(n) * total[-1], total, grid.numpy())


def _child_times(
    etas: Etas, r: int, first: np.ndarray, parent: np.ndarray, end: float, rng: np.random.Generator
) -> np.ndarray:
    """Times of children between ``first`` and ``end`` by the inverse of each part's integral."""
    u, part = rng.random(len(first)), etas.parts[r]
    if part == "fast":
        c, p = float(etas.log_c.exp()), float(etas.log_p.exp())
        low, high = np.log(first - parent + c), np.log(end - parent + c)
        k = 1 - p
        if abs(k) < 1e-6:
            return np.clip(parent - c + np.exp(low + u * (high - low)), first, end)
        a, b = np.exp(k * low), np.exp(k * high)
        return np.clip(parent - c + (a + u * (b - a)) ** (1 / k), first, end)
    if part == "slow":
        tau = float(etas.log_tau.exp())
        a, b = np.exp(-(first - parent) / tau), np.exp(-(end - parent) / tau)
        return np.clip(parent - tau * np.log(a + u * (b - a)), first, end)
    b = float(etas.log_b.exp())
    return np.clip((b + first) * ((b + end) / (b + first)) ** u - b, first, end)
