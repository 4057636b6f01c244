"""A multivariate Hawkes process of the marks in time (Hawkes 1971): exponential kernels at fixed decays.

With the decays fixed, the rate is linear in its parameters and the likelihood concave, so that the EM updates of Veen
and Schoenberg (2008) reach its maximum; no pair of events is ever formed, because exponentials can be carried along.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .events import Catalogue, Targets

SCALES = (0.003, 0.03, 0.3)  # time scales of the kernels, as shares of the window
ROUNDS = 150


def carried(cat: Catalogue, sequences: np.ndarray, decay: np.ndarray) -> np.ndarray:
    """Decayed counts of past events [n, B, K] just before each event of some windows."""
    row = cat.events(sequences)
    t, mark = cat.t[row], cat.labels[row]
    first = np.isin(row, cat.offsets[sequences])
    out = np.zeros((len(row), len(decay), cat.marks))
    state = np.zeros((len(decay), cat.marks))
    for i in range(len(row)):
        if first[i]:
            state = np.zeros_like(state)
        else:
            state = state.copy()
            state[:, mark[i - 1]] += 1
            state *= np.exp(-decay * (t[i] - t[i - 1]))[:, None]
        out[i] = state
    return out


@dataclass
class Hawkes:
    """lambda_k(t) = mu_k + sum_b sum_m a[b, m, k] decay_b S_bm(t), S being the decayed count of past events of mark m.

    Attributes
    ----------
    decay: [B]; rate: [K] mu; jump: [B, K, K] a, the children of mark k that an event of mark m has on scale b.
    """

    decay: np.ndarray
    rate: np.ndarray
    jump: np.ndarray

    @classmethod
    def fit(cls, cat: Catalogue, weight: np.ndarray) -> Hawkes:
        """By EM on the training windows of phase 0 with weights [W]."""
        sequences = cat.sequences("train", phase=0)
        span = cat.window[sequences]
        decay = 1 / (np.array(SCALES) * np.median(span))
        row, marks = cat.events(sequences), cat.marks
        each = np.repeat(weight, cat.lengths[sequences])
        number = np.repeat(np.arange(len(sequences)), cat.lengths[sequences])
        scored = ~np.isin(row, cat.offsets[sequences])
        state = carried(cat, sequences, decay) * decay[:, None]  # [n, B, K]
        design = np.concatenate([np.ones((len(row), 1)), state.reshape(len(row), -1)], axis=1)
        left = (span[number] - cat.t[row])[:, None] * decay  # every event's kernel runs to the window's end
        filled = -np.expm1(-left) * each[:, None]  # [n, B]
        own = cat.labels[row][:, None] == np.arange(marks)
        expected = np.einsum("nb,nm->bm", filled, own.astype(float)).reshape(-1)
        first = cat.t[cat.offsets[sequences]]
        expected = np.concatenate([[(weight * (span - first)).sum()], expected])
        theta = np.full((design.shape[1], marks), 0.1 / design.shape[1])
        theta[0] = [0.5 * each[scored & (cat.labels[row] == k)].sum() / expected[0] + 1e-9 for k in range(marks)]
        for k in range(marks):
            here = scored & (cat.labels[row] == k)
            x, w = design[here], each[here]
            for _ in range(ROUNDS):
                theta[:, k] *= (x * (w / np.maximum(x @ theta[:, k], 1e-12))[:, None]).sum(axis=0) / np.maximum(
                    expected, 1e-12
                )
        return cls(decay, theta[0], theta[1:].reshape(len(decay), marks, marks))

    def predict(self, cat: Catalogue, targets: Targets, quantiles: int | None) -> tuple[dict, np.ndarray]:
        """Time arguments of :class:`pipeline.smash.scores.Exact`, and p(k | t) [n, K]."""
        from . import gaps

        state = carried(cat, targets.windows, self.decay)
        row = cat.events(targets.windows)
        scored = ~np.isin(row, cat.offsets[targets.windows])
        after = state.copy()
        after[np.arange(len(row)), :, cat.labels[row]] += 1
        total = np.einsum("nbm,bm->nb", after, self.jump.sum(axis=2))  # children still to come of what has been
        before = np.roll(total, 1, axis=0)[scored]  # [n, B]
        rate = self.rate + np.einsum("nbm,bmk->nk", state * self.decay[:, None], self.jump)[scored]
        last = np.cumsum(cat.lengths[targets.windows]) - 1
        left = np.maximum(cat.window[targets.windows] - cat.t[row[last]], 0)
        tail = self.rate.sum() * left + (total[last] * -np.expm1(-left[:, None] * self.decay)).sum(axis=1)

        def integral(gap: np.ndarray) -> np.ndarray:
            out = self.rate.sum() * gap
            for b, decay in enumerate(self.decay):
                out = out - before[:, b : b + 1] * np.expm1(-decay * gap)
            return out

        law = gaps.law(
            cat, targets, np.log(rate.sum(axis=1)), integral, tail, 12 / max(self.rate.sum(), 1e-9), quantiles
        )
        return law, rate / rate.sum(axis=1, keepdims=True)
