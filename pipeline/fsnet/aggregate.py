"""Online aggregation of experts under delayed feedback.

Two combinations that need no tuning by data set are computed side by side and averaged:

* ML-Poly with the gradient trick (Gaillard, Stoltz & van Erven, COLT 2014, "A second-order bound with excess losses"):
  weights proportional to the positive part of the regret over the sum of its squares, one set a horizon.  It has no
  learning rate, and its loss approaches that of the best fixed convex combination of the experts.
* Stacking around a centre: ridge regression of ``y - centre`` on ``expert - centre``, one a horizon, with slow
  forgetting and a strong penalty (in units of the centre's own error), so that weights may be negative and errors
  common to all experts can be corrected, but only on evidence.

The centre is the mean of the experts, or a trusted ``base``.  With a base ML-Poly, too, starts from it and leaves it
only for regrets that stand out from their own noise: adding poor experts then costs next to nothing.

Feedback is delayed as for every learner here: before origin t is forecast, the last forecast that has been scored is
the one from origin t - H, whose last label is row t.  An expert without a (finite) forecast is asleep: it gets no
weight and learns nothing from that window (specialists; Freund, Schapire, Singer & Warmuth 1997).
"""

import numpy as np

BURN_IN = 400  # the first origins teach nothing: the experts are still wild
RIDGE = 200.0  # windows' worth of evidence that a stacking weight must overcome
FORGETTING = 0.9995  # of the stacking regression, per row
SOLVE_EVERY = 6  # rows between two solutions of it
PRIOR = 30.0  # of a base in ML-Poly: regret in standard errors at which an expert weighs as much as the base; at 1
# (and 3, 10) weak experts cost up to 2 % on rows 2400-3599 of the ETTh1 channels, at 30 they never do
TINY = 1e-300


class OnlineAggregator:
    """Aggregates K experts over a stream; the numbers don't depend on how the stream is cut.

    Parameters
    ----------
    n_experts, horizon : int
        K and H.
    with_base : bool
        Expert 0 is a trusted base: centre of the stacking and fallback of ML-Poly.  It must never be asleep.
    """

    def __init__(self, n_experts, horizon, with_base=False):
        k, h = int(n_experts), int(horizon)
        self.n_experts, self.horizon, self.with_base = k, h, bool(with_base)
        self.seen = 0
        self.queue = np.full((h, k, h), np.nan)  # forecasts of the last H origins: [origin, K, H]
        self.queue_poly = np.zeros((h, h))  # what ML-Poly made of them
        self.labels = np.zeros(h)  # the last H rows
        self.regret = np.zeros((k, h))
        self.square = np.zeros((k, h))
        self.gram = np.repeat(RIDGE * np.eye(k)[None], h, axis=0)  # [H, K, K]
        self.moment = np.zeros((h, k))
        self.stack = np.zeros((h, k))
        self.scale = np.zeros(h)  # mean squared error of the centre
        self.scored = 0

    def update(self, forecasts, y):
        """Take in m new rows.

        Parameters
        ----------
        forecasts : array [K, m, H]
            From the m new origins; NaN where an expert has none.
        y : array [m]
            The new rows themselves: origin i has seen y[i].

        Returns
        -------
        array [m, H]
        """
        h, m = self.horizon, len(y)
        rows = np.concatenate([self.queue, np.asarray(forecasts, float).transpose(1, 0, 2)])  # [H + m, K, H]
        labels = np.concatenate([self.labels, np.asarray(y, float)])
        poly = np.concatenate([self.queue_poly, np.empty((m, h))])
        out = np.empty((m, h))
        for i in range(m):
            if self.seen - h >= BURN_IN:
                self._learn(rows[i], poly[i], labels[i + 1 : i + 1 + h])
            if self.scored and self.seen % SOLVE_EVERY == 0:
                self._solve()
            filled, awake, centre = self._fill(rows[i + h])
            poly[i + h] = self._poly(filled, awake, centre)
            stacked = centre + np.einsum("kh,hk->h", filled - centre, self.stack)
            out[i] = 0.5 * (poly[i + h] + stacked)
            self.seen += 1
        self.queue, self.queue_poly, self.labels = rows[m:].copy(), poly[m:].copy(), labels[m:].copy()
        return out

    def _solve(self):
        try:
            self.stack = np.linalg.solve(self.gram, self.moment[:, :, None])[:, :, 0]
        except np.linalg.LinAlgError:  # one absurd value can make it singular: keep the weights that were
            return

    def _fill(self, forecasts):
        """Experts with the sleeping ones at the centre, who is awake, and the centre: [K, H], [K, H], [H]."""
        awake = np.isfinite(forecasts)
        if awake.all():
            return forecasts, awake, forecasts[0] if self.with_base else forecasts.mean(axis=0)
        zeroed = np.where(awake, forecasts, 0.0)
        centre = zeroed[0] if self.with_base else zeroed.sum(axis=0) / np.maximum(awake.sum(axis=0), 1)
        return np.where(awake, forecasts, centre), awake, centre

    def _poly(self, filled, awake, centre):
        weight = np.maximum(self.regret, 0.0) / (self.square + TINY) * awake
        if self.with_base:
            weight[0] += PRIOR / np.sqrt(self.square.max(axis=0) + TINY)
        total = weight.sum(axis=0)
        mixed = (weight * filled).sum(axis=0) / np.where(total > 0, total, 1.0)
        return np.where(total > 0, mixed, centre)

    def _learn(self, forecasts, poly, y):
        """One complete window: forecasts [K, H], what ML-Poly said [H], what came [H]."""
        filled, awake, centre = self._fill(forecasts)
        # ML-Poly on the gradient of the square loss at the mixture
        regret = 2.0 * (poly - y) * (poly - filled) * awake
        self.regret += regret
        self.square += regret**2
        # stacking, in units of the centre's error
        self.scored += 1
        self.scale += ((y - centre) ** 2 - self.scale) / self.scored
        unit = 1.0 / np.sqrt(self.scale + TINY)
        d = ((filled - centre) * unit).T  # [H, K]
        self.gram *= FORGETTING
        self.gram += d[:, :, None] * d[:, None, :]
        diagonal = np.arange(self.n_experts)
        self.gram[:, diagonal, diagonal] += (1.0 - FORGETTING) * RIDGE  # the ridge itself is not forgotten
        self.moment *= FORGETTING
        self.moment += d * ((y - centre) * unit)[:, None]

    _ARRAYS = (
        "queue", "queue_poly", "labels", "regret", "square", "gram", "moment", "stack", "scale",
    )  # fmt: skip

    def state(self):
        """Dict of arrays from which ``restore`` continues bit-equal."""
        counters = {"seen": np.array(self.seen), "scored": np.array(self.scored)}
        return {name: getattr(self, name).copy() for name in self._ARRAYS} | counters

    def restore(self, state):
        """Continue where ``state`` was taken."""
        for name in self._ARRAYS:
            setattr(self, name, np.array(state[name], float))
        self.seen, self.scored = int(state["seen"]), int(state["scored"])


def aggregate(experts, y):
    """Aggregate any experts over a whole stream.

    Parameters
    ----------
    experts : array [K, n, H]
        Row t: forecast from origin t of rows t+1 … t+H; NaN where an expert has none.
    y : array [n]
        The target, in the experts' units.

    Returns
    -------
    array [n, H]
        The forecast from origin t uses ``experts[:, :t+1]`` and ``y[:t+1]`` alone.

    Raises
    ------
    ValueError
        If the shapes don't belong together.
    """
    experts = _checked(experts, y)
    return OnlineAggregator(len(experts), experts.shape[2]).update(experts, y)


def combine_with_extra(y, base, extra):
    """Add experts (deep arms, say) to a forecast that is already good.

    Parameters
    ----------
    y : array [n]
    base : array [n, H]
        The forecast that is trusted, finite everywhere.
    extra : array [K', n, H]
        NaN where an expert has no forecast (before a deep arm went online).

    Returns
    -------
    array [n, H]
    """
    base = np.asarray(base, float)
    if not np.isfinite(base).all():
        raise ValueError("base must be finite at every origin: only the extra experts may be asleep")
    experts = _checked(np.concatenate([base[None], np.asarray(extra, float)]), y)
    return OnlineAggregator(len(experts), experts.shape[2], with_base=True).update(experts, y)


def _checked(experts, y):
    experts = np.asarray(experts, float)
    if experts.ndim != 3 or np.ndim(y) != 1 or experts.shape[1] != len(y):
        raise ValueError(f"experts must be [K, n, H] and y [n]; got {experts.shape} and {np.shape(y)}")
    return experts
