"""Linear experts: recursive least squares on named feature blocks, and pools of them over one stream.

An expert forecasts differences, ``y[t+h] - y[t] = W x[t]`` for h = 1 … H, so that an untrained one is persistence.
Feedback is delayed: before it forecasts from origin t it has learnt from the windows whose last label is row t or
earlier, i.e. from origins up to t - H, each once.

The penalty of a lag grows with the lag (what happened long ago should matter little unless the data insist) and that
of a harmonic with the square of its number (a coefficient should vary smoothly over the day).
"""

from dataclasses import dataclass

import numpy as np

from pipeline.fsnet.features import RAW_LAGS, FeatureBank
from pipeline.fsnet.rls import RecursiveLeastSquares

SCALE_RATE = 0.01  # memory of the error scale that Huber's clip is measured in
WARM_ROWS = RAW_LAGS - 1  # the first origin that is learnt from: the short lags are complete


@dataclass(frozen=True)
class LinearSpec:
    """What one expert looks at and how it learns.

    blocks : names of feature blocks
    reach : longest lag used of block ``lags``, in seasons (None: all)
    ridge : penalty of a unit feature
    lag_penalty : the ridge of lag i is ``ridge (1 + lag_penalty i / season)``
    factors : multiplies the ridge of whole blocks
    forgetting : lambda of the recursion
    noise_floor : window weight = (1 + f) / (volatility + f); None: all weigh the same
    huber : clip of errors in standard deviations, or None
    """

    blocks: tuple[str, ...]
    reach: float | None = None
    ridge: float = 100.0
    lag_penalty: float = 10.0
    factors: tuple[tuple[str, float], ...] = (("profile", 0.3),)
    forgetting: float = 1.0
    noise_floor: float | None = 1.0
    huber: float | None = None


class LinearExpert:
    """One expert over a stream; ``push`` takes the bank's blocks of m new rows and returns [m, H] forecasts."""

    def __init__(self, spec, bank):
        self.spec, self.horizon = spec, bank.horizon
        season = bank.season
        reach = np.inf if spec.reach is None else max(spec.reach * season, RAW_LAGS) - 1
        self.kept_lags = bank.lags <= reach
        ridge = []
        for name, width in bank.widths().items():
            if name not in spec.blocks:
                continue
            one = np.full(width, spec.ridge * dict(spec.factors).get(name, 1.0))
            if name == "lags":
                one = (one * (1.0 + spec.lag_penalty * bank.lags / season))[self.kept_lags]
            if name == "periodic" and width:
                harmonic = 1 + np.arange(width) // (2 * (len(bank.short) + 1))
                one = one * harmonic**2
            ridge.append(one)
        self.order = [name for name in bank.widths() if name in spec.blocks]
        ridge = np.concatenate(ridge)
        self.rls = RecursiveLeastSquares(len(ridge), self.horizon, ridge, spec.forgetting)
        self.queue = np.zeros((self.horizon, len(ridge)))  # features of the last H origins
        self.queue_weights = np.zeros(self.horizon)
        self.scale = np.zeros(self.horizon)  # squared error scale by horizon; 0: none yet

    def push(self, blocks, labels, first_row):
        """Learn what became known and forecast, row by row.

        Parameters
        ----------
        blocks : dict of arrays [m, *]
        labels : array [H + m]
            The last H rows before the new ones, then the new ones.
        first_row : int
            Number of the first new row in the stream.
        """
        h, spec = self.horizon, self.spec
        x = [blocks[name][:, self.kept_lags] if name == "lags" else blocks[name] for name in self.order]
        x = np.concatenate([self.queue, np.concatenate(x, axis=1)])  # [H + m, D]; row i is origin i - H of the new
        m = len(x) - h
        weights = np.ones(m)
        if spec.noise_floor is not None:
            weights = (1.0 + spec.noise_floor) / (blocks["volatility"][:, 0] + spec.noise_floor)
        weights = np.concatenate([self.queue_weights, weights])
        out = np.empty((m, h))
        for i in range(m):
            if first_row + i - h >= WARM_ROWS:
                self._learn(x[i], labels[i + 1 : i + 1 + h] - labels[i], weights[i])
            out[i] = labels[i + h] + self.rls.predict(x[i + h])
        self.queue, self.queue_weights = x[m:].copy(), weights[m:].copy()
        return out

    def _learn(self, x, y, weight):
        huber = self.spec.huber
        if huber is None:
            self.rls.learn(x, y, weight)
            return
        first = not self.scale.any()
        clip = None if first else huber * np.sqrt(self.scale)
        error = self.rls.learn(x, y, weight, clip)
        used = error**2 if first else np.minimum(error**2, clip**2)
        self.scale += (1.0 if first else SCALE_RATE) * (used - self.scale)

    def state(self):
        own = {"queue": self.queue, "queue_weights": self.queue_weights, "scale": self.scale}
        return {name: value.copy() for name, value in own.items()} | {
            f"rls.{name}": value for name, value in self.rls.state().items()
        }

    def restore(self, state):
        for name in ("queue", "queue_weights", "scale"):
            setattr(self, name, np.array(state[name], float))
        self.rls.restore({k.removeprefix("rls."): v for k, v in state.items() if k.startswith("rls.")})


class LinearPool:
    """Several experts on one stream, sharing one feature bank.

    ``update(y, exog)`` takes m new rows and returns [K, m, H]; the numbers don't depend on how a stream is cut.
    """

    def __init__(self, specs, season, horizon, n_exog=0):
        self.specs = dict(specs)
        self.bank = FeatureBank(season, horizon, n_exog)
        self.experts = {name: LinearExpert(spec, self.bank) for name, spec in self.specs.items()}
        self.labels = np.zeros(horizon)  # the last H rows
        self.blocks = {}  # of the rows last taken in

    def update(self, y, exog=None):
        y = np.asarray(y, float)
        first_row = self.bank.seen
        labels = np.concatenate([self.labels, y])
        self.blocks = blocks = self.bank.push(y, exog)
        out = np.stack([e.push(blocks, labels, first_row) for e in self.experts.values()])
        self.labels = labels[len(y) :].copy()
        return out

    def state(self):
        flat = {"labels": self.labels.copy()}
        for prefix, part in [("bank", self.bank), *self.experts.items()]:
            flat |= {f"{prefix}/{name}": value for name, value in part.state().items()}
        return flat

    def restore(self, state):
        self.labels = np.array(state["labels"], float)
        for prefix, part in [("bank", self.bank), *self.experts.items()]:
            cut = f"{prefix}/"
            part.restore({k.removeprefix(cut): v for k, v in state.items() if k.startswith(cut)})


_PLAIN = ("lags", "level", "harmonics")
_RICH = (*_PLAIN, "profile", "periodic")
_EXOG = ("exog",)
_WITH_EXOG = (("profile", 0.3), ("exog", 10.0))

RICH = LinearSpec(_RICH)

# Chosen on the training and validation rows of ETTh1 (all seven channels) and on air quality: diverse in what they
# look at, in memory and in penalty, none far worse than the best.
AGGREGATE = {
    "plain_2d": LinearSpec(_PLAIN, reach=2),
    "plain_2d_999": LinearSpec(_PLAIN, reach=2, forgetting=0.999),
    "plain_2d_998": LinearSpec(_PLAIN, reach=2, forgetting=0.998, ridge=30.0),
    "profile_1d_9995": LinearSpec((*_PLAIN, "profile"), reach=1, forgetting=0.9995),
    "rich": RICH,
    "rich_30": LinearSpec(_RICH, ridge=30.0),
    "rich_300": LinearSpec(_RICH, ridge=300.0),
    "rich_1000": LinearSpec(_RICH, ridge=1000.0),
    "rich_2d": LinearSpec(_RICH, reach=2),
    "rich_2d_300": LinearSpec(_RICH, reach=2, ridge=300.0),
    "rich_9998": LinearSpec(_RICH, forgetting=0.9998),
    "rich_300_9995": LinearSpec(_RICH, ridge=300.0, forgetting=0.9995),
    "rich_2d_300_999": LinearSpec(_RICH, reach=2, ridge=300.0, forgetting=0.999),
    "rich_huber": LinearSpec(_RICH, huber=2.5),
    "rich_huber_flat": LinearSpec(_RICH, huber=1.5, noise_floor=None),
    "rich_flat": LinearSpec(_RICH, noise_floor=None),
    "rich_noise": LinearSpec(_RICH, noise_floor=0.3),
    "rich_near": LinearSpec(_RICH, lag_penalty=30.0),
}

AGGREGATE_EXOG = AGGREGATE | {
    "exog_plain_2d": LinearSpec(_PLAIN + _EXOG, reach=2, factors=_WITH_EXOG),
    "exog_rich": LinearSpec(_RICH + _EXOG, factors=_WITH_EXOG),
    "exog_rich_300": LinearSpec(_RICH + _EXOG, ridge=300.0, factors=_WITH_EXOG),
    "exog_rich_weak": LinearSpec(_RICH + _EXOG, factors=(("profile", 0.3), ("exog", 100.0))),
    "exog_rich_2d": LinearSpec(_RICH + _EXOG, reach=2, factors=_WITH_EXOG),
    "exog_rich_9998": LinearSpec(_RICH + _EXOG, forgetting=0.9998, factors=_WITH_EXOG),
    "exog_rich_2d_300_999": LinearSpec(_RICH + _EXOG, reach=2, ridge=300.0, forgetting=0.999, factors=_WITH_EXOG),
    "exog_rich_huber": LinearSpec(_RICH + _EXOG, huber=2.5, factors=_WITH_EXOG),
}
