"""Causal features of a stream for linear forecasters.

``FeatureBank`` takes new rows of the target (and of other channels) and returns named blocks of features, one row for
each new row of the stream.  Every block of row t is a function of rows <= t alone, computed by elementwise arithmetic
or by a recursion that runs forward in time, so the numbers don't depend on how the stream is cut into pieces: a whole
file at once and one row a day give the same bits.

Blocks (S: season in rows, H: horizon, L: number of lags, C: other channels)

========== ============== =====================================================================================
name       columns        content
========== ============== =====================================================================================
raw        48             y[t], y[t-1], … y[t-47], not differenced (the plain ``rls`` baseline)
lags       L              y[t-i] - y[t] for the lags of ``lag_set``
level      2              1, y[t]
harmonics  2 min(4, S//2) cos and sin of 2 pi k t / S
profile    2 min(H, S)    p[phase of t+h] - y[t]; p: EW mean of each phase of the season at two rates
periodic   18 x 2 K       {17 short and seasonal lag differences, level} x K = min(3, S//2) harmonics (a periodic AR)
exog       7 C            of each other channel: level, EW mean, level x first harmonic (2), lag differences 1, 2, S
volatility 1              EW mean of squared one-step differences over its mean so far (no input: a window's noise)
========== ============== =====================================================================================

Before row 0 the series is taken to have stood still (row 0 repeated).
"""

import numpy as np
from scipy.signal import lfilter

RAW_LAGS = 48
PROFILE_RATES = (0.05, 0.2)
VOLATILITY_RATE = 0.05
PERIODIC_LAGS = (4, 5, 6, 8, 10, 12, 16, 18, 20, 22, 24, 48)
MAX_EXOG = 12  # more channels than that are averaged in as many groups of neighbours: a step costs their square
DAY_S = 86_400.0


def season_length(step_s):
    """Rows in the season that a time step calls for.

    Parameters
    ----------
    step_s : float
        Time step of the series in seconds.

    Returns
    -------
    int
        Rows per 24 h where the step is shorter than a day and divides it; 7 (a week) for daily rows; 1 (no season:
        "the same phase one season ago" is then the previous row) for anything else.

    Raises
    ------
    ValueError
        If the step is not positive.
    """
    if not step_s > 0:
        raise ValueError(f"the time step must be positive, got {step_s} s")
    per_day = DAY_S / step_s
    if per_day >= 2:
        return round(per_day) if abs(per_day - round(per_day)) < 1e-6 else 1
    return 7 if abs(per_day - 1) < 1e-6 else 1


def lag_set(season, horizon, length="week", budget=168):
    """Lags (>= 1) that a forecaster looks back on, ascending.

    ``"two_days"`` and ``"week"`` are 2 and 7 seasons.  Where that many lags fit into ``budget`` (hourly data) all are
    used; otherwise (15-minute data) the first ones, and before each whole number of seasons the rows that share a
    phase with the forecast rows, thinned to 12.  Without a season the answer is 1 … 48.
    """
    if season <= 1:
        return np.arange(1, RAW_LAGS)
    seasons = {"two_days": 2, "week": 7}[length]
    reach = max(seasons * season, RAW_LAGS)
    if reach <= budget:
        return np.arange(1, reach)
    near = np.arange(1, budget // 2)
    far = [k * season - np.linspace(0, min(horizon, season) - 1, 12).round() for k in range(1, seasons + 1)]
    return np.unique(np.concatenate([near, *far]).astype(int))


class FeatureBank:
    """Turns new rows into feature blocks and keeps what the next rows will need.

    Parameters
    ----------
    season, horizon, n_exog : int
        S, H and the number of other channels C.
    """

    def __init__(self, season, horizon, n_exog=0):
        self.season, self.horizon = max(int(season), 1), int(horizon)
        self.n_given = int(n_exog)
        self.n_exog = min(self.n_given, MAX_EXOG)
        edges = np.linspace(0, self.n_given, self.n_exog + 1).astype(int)
        self._groups, self._sizes = edges[:-1], np.diff(edges)
        self.lags = lag_set(self.season, self.horizon)
        s = self.season
        # a periodic AR looks at the last hours and around one and two seasons ago; given in 24ths of a season
        self.short = np.unique([1, 2, 3, *(max(1, round(f * s / 24)) for f in PERIODIC_LAGS), s - 1 or 1, s + 1])
        self.depth = int(max(self.lags.max(), self.short.max(), RAW_LAGS, s))
        self.seen = 0
        self.tail = np.zeros((self.depth, 1 + self.n_exog))  # the last `depth` rows
        self.profiles = np.zeros((len(PROFILE_RATES), s))
        self.visits = np.zeros(s)
        self.variance = np.zeros(2)
        self.slow = np.zeros(self.n_exog)
        self._slow_rate = 2.0 / (max(s, 12) + 1)

    def widths(self):
        """Number of columns of each block, by name."""
        waves = 2 * min(4, self.season // 2)
        widths = {
            "raw": RAW_LAGS,
            "lags": len(self.lags),
            "level": 2,
            "harmonics": waves,
            "profile": len(PROFILE_RATES) * min(self.horizon, self.season),
            "periodic": min(6, waves) * (len(self.short) + 1),
        }
        if self.n_exog:
            widths["exog"] = self.n_exog * (5 + min(2, waves))
        return widths

    def push(self, y, exog=None):
        """Take in m new rows.

        Parameters
        ----------
        y : array [m]
            Target, z-scored.
        exog : array [m, C] or None

        Returns
        -------
        dict of name -> array [m, columns]
        """
        m = len(y)
        rows = np.asarray(y, float)[:, None]
        if self.n_exog:
            exog = np.asarray(exog, float).reshape(m, self.n_given)
            if self.n_given > self.n_exog:
                exog = np.add.reduceat(exog, self._groups, axis=1) / self._sizes
            rows = np.concatenate([rows, exog], axis=1)
        if self.seen == 0:
            self.tail[:] = rows[0]
            self.profiles[:] = rows[0, 0]
            self.slow[:] = (1.0 - self._slow_rate) * rows[0, 1:]  # the filter's state, not the mean itself
        past = np.concatenate([self.tail, rows])  # [depth + m, 1 + C]
        here = self.depth + np.arange(m)
        steps = self.seen + np.arange(m)
        level = rows[:, :1]
        waves = self._waves(steps)
        profile, volatility = self._recursions(rows[:, 0], past[here - 1, 0], steps)
        blocks = {
            "raw": past[here[:, None] - np.arange(RAW_LAGS), 0],
            "lags": past[here[:, None] - self.lags, 0] - level,
            "level": np.concatenate([np.ones((m, 1)), level], axis=1),
            "harmonics": waves,
            "profile": profile - level,
            "volatility": volatility,
        }
        short = np.concatenate([past[here[:, None] - self.short, 0] - level, level], axis=1)
        # [m, 6, 1] x [m, 1, 18] -> [m, 108]: one harmonic after the other
        blocks["periodic"] = (waves[:, :6, None] * short[:, None, :]).reshape(m, -1)
        if self.n_exog:
            blocks["exog"] = self._exog(past, here, waves)
        self.tail = past[-self.depth :].copy()
        self.seen += m
        return blocks

    def _waves(self, steps):
        """cos and sin of harmonic k side by side: [m, 2 K]."""
        k = np.arange(1, 1 + min(4, self.season // 2))
        phase = (2 * np.pi / self.season) * (steps % self.season)[:, None] * k
        return np.stack([np.cos(phase), np.sin(phase)], axis=2).reshape(len(steps), -1)  # [m, K, 2] -> [m, 2 K]

    def _recursions(self, y, before, steps):
        """EW means by phase at the phases of rows t+1 … t+min(H, S), and the volatility: [m, 2 min(H, S)], [m, 1]."""
        s, width = self.season, min(self.horizon, self.season)
        ahead = (steps[:, None] + np.arange(1, 1 + width)) % s
        profile = np.empty((len(y), len(PROFILE_RATES), width))
        volatility = np.empty((len(y), 1))
        recent, mean = self.variance
        rates = np.array(PROFILE_RATES)
        for i, value in enumerate(y):
            phase = steps[i] % s
            self.visits[phase] += 1
            rate = np.maximum(rates, 1.0 / self.visits[phase])  # a plain mean until it is longer than the EW memory
            self.profiles[:, phase] += rate * (value - self.profiles[:, phase])
            profile[i] = self.profiles[:, ahead[i]]
            square = (value - before[i]) ** 2
            recent += max(VOLATILITY_RATE, 1.0 / (steps[i] + 1)) * (square - recent)
            mean += (recent - mean) / (steps[i] + 1)
            volatility[i] = recent / mean if mean > 0 else 1.0
        self.variance[:] = recent, mean
        return profile.reshape(len(y), -1), volatility

    def _exog(self, past, here, waves):
        now = past[here, 1:]  # [m, C]
        rate = self._slow_rate
        slow, final = lfilter([rate], [1.0, rate - 1.0], now, axis=0, zi=self.slow[None])
        self.slow = final[0]
        parts = [now, slow]
        parts += [now * waves[:, j : j + 1] for j in range(min(2, waves.shape[1]))]
        parts += [past[here - lag, 1:] - now for lag in (1, 2, self.season)]
        return np.concatenate(parts, axis=1)

    def state(self):
        """Dict of arrays from which ``restore`` continues bit-equal."""
        return {
            "tail": self.tail.copy(),
            "profiles": self.profiles.copy(),
            "visits": self.visits.copy(),
            "variance": self.variance.copy(),
            "slow": self.slow.copy(),
            "seen": np.array(self.seen),
        }

    def restore(self, state):
        """Continue where ``state`` was taken."""
        for name in ("tail", "profiles", "visits", "variance", "slow"):
            setattr(self, name, np.array(state[name], float))
        self.seen = int(state["seen"])
