"""An online linear learner with a change detector, with and without a memory of past regimes.

Features of row t: x = [y[t-1] .. y[t-p], one-hot hour of t], D = p + S of them; horizon one.

Learner.  Recursive least squares (Haykin, Adaptive Filter Theory, ch. 10) read as Bayesian regression: weights
N(w, s2 P), innovations N(0, s2).  With q = 1 + x'Px and e = y - x'w,

    log-likelihood      l = -(e^2 / (s2 q) + log q) / 2                                                   (1)
    update              w += Px e / c,   P <- (P - Px (Px)' / c) / f,   c = q - 1 + f                     (2)

f is the forgetting factor; it is held at one while forgetting would make trace P larger than in the prior, so that
P can't wind up where nothing is excited.  The update keeps P symmetric to the last bit.  The prior is w = 0,
P = (v / s2) I.  s2 is unknown: a running mean of min(e^2 / q, k s2), which a switch can't blow up.

Detector.  Beside the LIVE learner runs a CHALLENGER that starts from the prior.  Its evidence is a CUSUM of
log-likelihood ratios (Page, 1954),

    g <- max(0, g + l_challenger - l_live),                                                               (3)

and it starts anew from the prior whenever g returns to zero: the last such row estimates the onset of the change.
g > `alarm` says that a model learnt since the onset alone forecasts better than everything learnt before.  The
challenger, which has read the rows since the onset, then becomes the live learner.

Memory.  On an alarm the live learner's (w, P), copied at least `write_delay` rows before the onset, is written to a
bank of slots: after the onset the weights are already spoilt.  Every slot is a frozen expert.  Each has its own CUSUM
(3) against the live learner: a slot whose evidence exceeds `recall` AND that holds more than half of the mixture's
weight is read, the live learner continuing from a copy.  A slot is never changed by being read, only by a write;
snapshots merge only where the weights themselves agree, in the metric of their own covariances (`SlotBank.distance`).

Forecast.  A mixture over live, challenger and slots with a fixed share (Herbster and Warmuth, 1998):

    forecast = sum_i a_i x'w_i;    a_i <- (1 - share) a_i exp(l_i) / sum_j a_j exp(l_j) + share u_i       (4)

with u one half on the challenger and one half spread over the live learner and the slots.  Since l contains log q,
an ignorant expert states its ignorance, and a slot that fits by chance doesn't outweigh the challenger for long.

Without memory nothing is written, and everything else is the same code.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from pipeline.core.errors import PipelineError

from .settings import RegimeLearner as Settings

LIVE, CHALLENGER, FIRST_SLOT = 0, 1, 2  # places in the expert arrays
CLIP = 6.0  # k of the noise estimate
# E[min(z^2, k)] for standard normal z: the clipped mean divided by this is unbiased.
CLIPPED_MEAN = (
    math.erf(math.sqrt(CLIP / 2))
    - math.sqrt(2 * CLIP / math.pi) * math.exp(-CLIP / 2)
    + CLIP * math.erfc(math.sqrt(CLIP / 2))
)
SNAPSHOTS_KEPT = 64
NOISE_FLOOR = 1e-8  # a series without noise would end in divisions by zero
LARGEST = 1e6  # of a series of about unit scale; what is larger is no measurement


def update_rls(
    weights: np.ndarray,
    covariance: np.ndarray,
    features: np.ndarray,
    error: float,
    forgetting: float = 1.0,
    ceiling: float = math.inf,
) -> tuple[np.ndarray, np.ndarray]:
    """One step of recursive least squares, equation (2); new arrays are returned.

    Shapes: weights [D], covariance [D, D] symmetric, features [D].  `error` is y - x'w before the step.  No
    forgetting takes place where it would lift the trace of the covariance above `ceiling`.
    """
    gain = covariance @ features  # [D]
    spread = max(float(gain @ features), 0.0)  # below zero by rounding only, where features are huge
    # The downdate can only shrink the trace, so the old trace bounds the new one.
    if covariance.trace() > forgetting * ceiling:
        forgetting = 1.0
    scale = spread + forgetting
    # outer(g, g) is symmetric bit by bit, while outer(P x, x) P isn't: with forgetting the asymmetry would grow
    # like forgetting^-n.
    return weights + gain * (error / scale), (covariance - np.outer(gain, gain) / scale) / forgetting


class SlotBank:
    """Up to K snapshots (w, P) of learners, each written at the end of a regime.

    `weights` [K, D], `covariances` [K, D, D]; `filled` [K] says which are in use, `used` [K] when each was last
    written or read.
    """

    def __init__(self, slots: int, features: int, agree: float):
        self.weights = np.zeros((slots, features))
        self.covariances = np.zeros((slots, features, features))
        self.filled = np.zeros(slots, dtype=bool)
        self.used = np.full(slots, -1)
        self.agree = agree

    def read(self, slot: int) -> tuple[np.ndarray, np.ndarray]:
        """Copies of a slot's (w [D], P [D, D])."""
        return self.weights[slot].copy(), self.covariances[slot].copy()

    def distance(self, weights: np.ndarray, covariance: np.ndarray, noise: float) -> np.ndarray:
        """(w - w_k)' (P + P_k)^-1 (w - w_k) / (s2 D), [K]; infinite for empty slots.

        For two learners of one and the same regime this is chi-squared by its degrees of freedom, about one; for
        different regimes it grows with the rows that they have read.  What neither could know doesn't part them.
        """
        difference = self.weights - weights  # [K, D]
        solved = np.linalg.solve(self.covariances + covariance, difference[:, :, None])[:, :, 0]  # [K, D]
        squared = (difference * solved).sum(axis=1) / (noise * weights.size)
        return np.where(self.filled, squared, np.inf)

    def write(
        self,
        weights: np.ndarray,
        covariance: np.ndarray,
        noise: float,
        row: int,
        origin: int | None,
    ) -> int:
        """Store a snapshot and return its slot.

        A snapshot that agrees with a slot joins it: it replaces the slot from which it was itself recalled
        (`origin`), whose information it already has; two learnt independently are fused by precision,
        P = (P_1^-1 + P_2^-1)^-1, w = P (P_1^-1 w_1 + P_2^-1 w_2).  Any other goes to an empty slot or, if there is
        none, to the one longest not used: never over the slot that was merely recalled, for the recall may have
        been wrong.
        """
        apart = self.distance(weights, covariance, noise)  # [K]
        slot = int(np.argmin(apart))
        if apart[slot] < self.agree:
            if slot != origin:
                ours, theirs = np.linalg.inv(covariance), np.linalg.inv(self.covariances[slot])  # [D, D]
                fused = np.linalg.inv(ours + theirs)
                fused = (fused + fused.T) / 2
                weights, covariance = fused @ (ours @ weights + theirs @ self.weights[slot]), fused
        else:
            slot = int(np.argmin(np.where(self.filled, self.used, -2)))
        self.weights[slot], self.covariances[slot] = weights, covariance
        self.filled[slot], self.used[slot] = True, row
        return slot


@dataclass(frozen=True)
class Prediction:
    """What every expert says of one row: `means` [E], `spreads` q [E], and the mixture's forecast."""

    features: np.ndarray
    means: np.ndarray
    spreads: np.ndarray
    forecast: float


class RegimeLearner:
    """The learner of the module's docstring: `predict` has no side effects, `learn` takes one label."""

    def __init__(self, settings: Settings, memory: bool):
        self.settings = settings
        self.memory = memory
        size = settings.lags + settings.day  # D
        experts = FIRST_SLOT + settings.slots  # E
        self.noise = settings.noise_guess
        self.bank = SlotBank(settings.slots, size, settings.agree)
        self.live = self._prior()
        self.challenger = self._prior()
        self.mixture = np.zeros(experts)
        self.mixture[LIVE] = 1.0
        self.evidence = np.zeros(experts)
        self.onsets = np.zeros(experts, dtype=np.int64)  # first row of each expert's present evidence
        self.rows = 0  # rows learnt: the clock of onsets, births and snapshots
        self.born = 0  # first row that the live learner has read since it took over
        self.origin: int | None = None  # the slot that the live learner was recalled from
        self.snapshots: deque[tuple[int, np.ndarray, np.ndarray]] = deque(maxlen=SNAPSHOTS_KEPT)
        self.alarms: list[int] = []
        self.recalls: list[tuple[int, int]] = []
        self.writes: list[tuple[int, int]] = []

    def predict(self, features: np.ndarray) -> Prediction:
        """Forecast of the row with these features [D]."""
        bank = self.bank
        weights = np.concatenate([self.live[0][None], self.challenger[0][None], bank.weights])  # [E, D]
        means = weights @ features  # [E]
        # P x of all experts, [E, D]
        gains = np.stack([self.live[1] @ features, self.challenger[1] @ features, *(bank.covariances @ features)])
        spreads = 1 + np.maximum(gains @ features, 0.0)  # [E]; below one by rounding only
        return Prediction(features, means, spreads, float(self.mixture @ means))

    def learn(self, prediction: Prediction, value: float, row: int) -> None:
        """Learn the label of the row that `prediction` was made for; `row` only dates what is reported."""
        settings = self.settings
        errors = value - prediction.means  # [E]
        self._update_noise(errors[LIVE] ** 2 / prediction.spreads[LIVE])
        likelihoods = -0.5 * (errors**2 / (self.noise * prediction.spreads) + np.log(prediction.spreads))  # [E]
        self._update_mixture(likelihoods)

        x = prediction.features
        ceiling = x.size * settings.prior_variance / self.noise
        self.live = update_rls(*self.live, x, errors[LIVE], settings.forgetting, ceiling)
        self.challenger = update_rls(*self.challenger, x, errors[CHALLENGER])
        self.rows += 1

        self.evidence = np.maximum(0.0, self.evidence + likelihoods - likelihoods[LIVE])
        if self.rows <= settings.warm_up:
            self.evidence[:] = 0.0
        self.onsets[self.evidence == 0] = self.rows
        if self.evidence[CHALLENGER] == 0:
            self.challenger = self._prior()
        elif self.evidence[CHALLENGER] > settings.alarm:
            self._change(row)
        if self.memory:
            self._recall(row)
            if self.rows % settings.snapshot_every == 0:
                self.snapshots.append((self.rows, *self.live))

    def _prior(self) -> tuple[np.ndarray, np.ndarray]:
        size = self.settings.lags + self.settings.day
        return np.zeros(size), np.eye(size) * (self.settings.prior_variance / self.noise)

    def _update_noise(self, square: float) -> None:
        clipped = min(square, CLIP * self.noise) / CLIPPED_MEAN
        # A plain mean at first, so that the guess is soon forgotten.
        rate = max(self.settings.noise_rate, 1 / (self.rows + 2))
        self.noise = max(self.noise + rate * (clipped - self.noise), NOISE_FLOOR)

    def _update_mixture(self, likelihoods: np.ndarray) -> None:
        """Equation (4)."""
        others = np.r_[True, False, self.bank.filled]  # [E], the live learner and the slots
        likely = likelihoods - likelihoods[self.mixture > 0].max()
        # Empty places have no weight, whatever they say: cut, lest exp overflow.
        posterior = self.mixture * np.exp(np.minimum(likely, 0.0))
        posterior /= posterior.sum()
        shared = 0.5 * others / others.sum()
        shared[CHALLENGER] = 0.5
        self.mixture = (1 - self.settings.share) * posterior + self.settings.share * shared

    def _change(self, row: int) -> None:
        """An alarm: keep what the live learner knew, go on with the challenger."""
        self.alarms.append(row)
        onset = int(self.onsets[CHALLENGER])
        self._write(row, onset)
        # What a slot had over the live learner becomes what it has over the new one.
        lead = self.evidence - self.evidence[CHALLENGER]
        self._take_over(self.challenger, CHALLENGER, onset, None)
        self.evidence[FIRST_SLOT:] = np.maximum(0.0, lead[FIRST_SLOT:])

    def _recall(self, row: int) -> None:
        slot = int(np.argmax(self.evidence[FIRST_SLOT:]))
        place = FIRST_SLOT + slot
        if self.evidence[place] <= self.settings.recall or self.mixture[place] <= 0.5:
            return
        self.recalls.append((row, slot))
        copy = self.bank.read(slot)
        self._write(row, int(self.onsets[place]))
        self._take_over(copy, place, self.rows, slot)
        self.bank.used[slot] = row

    def _take_over(self, model: tuple[np.ndarray, np.ndarray], place: int, born: int, origin: int | None) -> None:
        self.live, self.challenger = model, self._prior()
        self.mixture[LIVE], self.mixture[place] = self.mixture[place], 0.0
        self.mixture /= self.mixture.sum()
        self.evidence[:], self.onsets[:] = 0.0, self.rows
        self.born, self.origin = born, origin
        self.snapshots.clear()

    def _write(self, row: int, onset: int) -> None:
        """Write the youngest snapshot of the live learner that the change can't have touched, if it is mature."""
        if not self.memory:
            return
        for taken, weights, covariance in reversed(self.snapshots):
            if taken <= onset - self.settings.write_delay:
                if taken - self.born < self.settings.mature:
                    return
                slot = self.bank.write(weights, covariance, self.noise, row, self.origin)
                self.writes.append((row, slot))
                self.evidence[FIRST_SLOT + slot] = 0.0  # it was of what the slot held before
                return


def run_stream(y: np.ndarray, settings: Settings, memory: bool) -> tuple[np.ndarray, dict]:
    """Stream a series through the learner: forecast each row, then learn it.

    Args:
        y: series [n], of about unit scale.  Rows before the first count as zero (pre-windowed RLS).  A value that
            isn't finite or exceeds 10^6 is missing: it isn't learnt, and its forecast stands in among the lags.
        memory: arm `regime_memory` if true, `regime_nomem` if false.

    Returns:
        forecast [n]: `forecast[t]` is made from rows < t (origin t - 1), so that y - forecast are honest errors.
        info: `alarms` [rows]; `firing` [rows] at which a slot was recalled and `recalled` [slots] which; `writes`
            [(row, slot)]; `slot_scores` [n, slots], the weight of each slot in the forecast of each row;
            `learner_scores` [n, 2], of live learner and challenger; `slots_filled`; `noise`, the last noise variance.

    Raises:
        PipelineError: y isn't one-dimensional.
    """
    y = np.asarray(y, dtype=np.float64)
    if y.ndim != 1:
        raise PipelineError(f"run_stream: y has shape {y.shape}; one series [n] is expected, so pass one column.")
    n, lags = y.size, settings.lags
    learner = RegimeLearner(settings, memory)
    past = np.concatenate([np.zeros(lags), y])  # past[lags + t] = y[t]
    hours = np.eye(settings.day)
    forecast = np.zeros(n)
    scores = np.zeros((n, FIRST_SLOT + settings.slots))
    for t in range(n):
        features = np.concatenate([past[t : t + lags][::-1], hours[t % settings.day]])  # [D]
        prediction = learner.predict(features)
        forecast[t] = prediction.forecast
        scores[t] = learner.mixture
        if abs(past[lags + t]) <= LARGEST:  # false for NaN, too
            learner.learn(prediction, float(past[lags + t]), t)
        else:
            past[lags + t] = prediction.forecast
    info = {
        "alarms": learner.alarms,
        "firing": [row for row, _ in learner.recalls],
        "recalled": [slot for _, slot in learner.recalls],
        "writes": learner.writes,
        "slot_scores": scores[:, FIRST_SLOT:],
        "learner_scores": scores[:, :FIRST_SLOT],
        "slots_filled": int(learner.bank.filled.sum()),
        "noise": learner.noise,
    }
    return forecast, info
