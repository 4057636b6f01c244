"""Online conformal forecast intervals under delayed feedback.

Around a forecast f of row t+h the interval is ``[f - q_low s, f + q_high s]``.  The scale s is a slow mean of this
horizon's absolute errors; the two multipliers follow the tail quantiles of the scaled errors by quantile tracking
(Gibbs & Candès, NeurIPS 2021; Angelopoulos, Candès & Tibshirani, NeurIPS 2023, "Conformal PID control", eq. 4):

    q <- q + STEP (1[error beyond q] - tail),   tail = (1 - level) / 2.

Summing this recursion shows why nothing need be assumed about the data: over T scored forecasts the share beyond q
differs from the tail by exactly (q_T - q_0) / (STEP T), which vanishes as long as scaled errors stay bounded.

Feedback is delayed: the last forecast scored before origin t is the one from origin t - H.
"""

from statistics import NormalDist

import numpy as np

STEP = 0.05  # of the multipliers, in units of the error scale
SCALE_RATE = 0.01
WARM = 50  # windows scored before the first interval is given


class ConformalTracker:
    """Intervals over a stream; the numbers don't depend on how the stream is cut.

    Parameters
    ----------
    horizon : int
        H.
    level : float
        Wanted coverage, in (0, 1).

    Raises
    ------
    ValueError
        If the level is outside (0, 1).
    """

    def __init__(self, horizon, level=0.9):
        if not 0.0 < level < 1.0:
            raise ValueError(f"level must lie in (0, 1), got {level}")
        h = self.horizon = int(horizon)
        self.level = float(level)
        self.seen = self.scored = 0
        # a normal error of unit mean modulus has its quantile at z sqrt(pi / 2)
        start = NormalDist().inv_cdf((1.0 + level) / 2.0) * np.sqrt(np.pi / 2)
        self.multiplier = np.full((2, h), start)  # below, above
        self.scale = np.zeros(h)
        self.queue = np.zeros((h, h))  # forecasts of the last H origins
        self.queue_margin = np.zeros((2, h, h))  # and how far below and above them their intervals reached
        self.labels = np.zeros(h)

    def update(self, forecast, y):
        """Take in m new rows.

        Parameters
        ----------
        forecast : array [m, H]
            From the m new origins.
        y : array [m]
            The new rows; origin i has seen y[i].

        Returns
        -------
        lower, upper : arrays [m, H]
            NaN until 50 windows have been scored.
        """
        h, m = self.horizon, len(y)
        tail = (1.0 - self.level) / 2.0
        forecast = np.concatenate([self.queue, np.asarray(forecast, float)])
        labels = np.concatenate([self.labels, np.asarray(y, float)])
        margin = np.concatenate([self.queue_margin, np.empty((2, m, h))], axis=1)
        for i in range(m):
            if self.seen >= h:
                error = labels[i + 1 : i + 1 + h] - forecast[i]
                if self.scored >= h + WARM - 1:  # an interval was given for that window: judge it
                    beyond = np.stack([-error > margin[0, i], error > margin[1, i]])
                    self.multiplier += STEP * (beyond - tail)
                self.scored += 1
                self.scale += max(SCALE_RATE, 1.0 / self.scored) * (np.abs(error) - self.scale)
            margin[:, i + h] = self.multiplier * self.scale
            self.seen += 1
        scored = np.maximum(self.seen - m + np.arange(m) + 1 - h, 0)  # windows scored before each new origin
        ready = (scored >= WARM)[:, None]
        lower = np.where(ready, forecast[h:] - margin[0, h:], np.nan)
        upper = np.where(ready, forecast[h:] + margin[1, h:], np.nan)
        self.queue, self.labels, self.queue_margin = forecast[m:].copy(), labels[m:].copy(), margin[:, m:].copy()
        # a multiplier may turn negative where nearly all errors have one sign: the bounds never cross
        return np.minimum(lower, upper), np.maximum(lower, upper)

    _ARRAYS = ("multiplier", "scale", "queue", "queue_margin", "labels")

    def state(self):
        """Dict of arrays from which ``restore`` continues bit-equal."""
        counters = {"seen": np.array(self.seen), "scored": np.array(self.scored)}
        return {name: getattr(self, name).copy() for name in self._ARRAYS} | counters

    def restore(self, state):
        """Continue where ``state`` was taken."""
        for name in self._ARRAYS:
            setattr(self, name, np.array(state[name], float))
        self.seen, self.scored = int(state["seen"]), int(state["scored"])


def conformal_intervals(forecast, y, level=0.9):
    """Intervals for a whole stream of forecasts.

    Parameters
    ----------
    forecast : array [n, H]
        Row t: from origin t of rows t+1 … t+H, finite.
    y : array [n]
    level : float
        Wanted coverage of each horizon.

    Returns
    -------
    lower, upper : arrays [n, H]
        In the forecast's units; NaN at the first H + 49 origins.
    """
    forecast = np.asarray(forecast, float)
    return ConformalTracker(forecast.shape[1], level).update(forecast, y)
