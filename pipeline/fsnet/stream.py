"""The aggregate as an object that lives with a growing series: new rows in, forecasts and intervals out.

A whole file at once, or tomorrow's rows added to a saved state: the numbers are the same to the last bit, because every
part recurses over rows and none looks at how the stream was cut.
"""

import numpy as np

from pipeline.core.errors import DataError
from pipeline.fsnet.aggregate import OnlineAggregator
from pipeline.fsnet.conformal import ConformalTracker
from pipeline.fsnet.experts import AGGREGATE, AGGREGATE_EXOG, LinearPool
from pipeline.fsnet.nonlinear import AnalogueExpert, ForestExpert

PIECE = 4096  # rows worked on at a time: bounds the memory of a long file
MEMBERS = ("linear", "all")


class AggregateStream:
    """Linear experts (and, with ``members="all"``, analogues and forests), their aggregation, and intervals.

    Parameters
    ----------
    season, horizon, n_exog : int
        Rows in a season, H, and the number of other channels.
    level : float
        Coverage of the intervals.
    members : "linear" or "all"
        With ``"all"`` the aggregate of the linear experts becomes the base to which the others are added.

    Raises
    ------
    DataError
        From ``update``, if the number of other channels is not the declared one.  Values must be finite: that is the
        reader's to check, a NaN would poison all that follows.
    """

    def __init__(self, season, horizon, n_exog=0, level=0.9, members="linear"):
        if members not in MEMBERS:
            raise ValueError(f"members must be one of {MEMBERS}, got {members!r}")
        self.settings = (int(season), int(horizon), int(n_exog), float(level), members)
        self.pool = LinearPool(AGGREGATE_EXOG if n_exog else AGGREGATE, season, horizon, n_exog)
        self.parts = {
            "pool": self.pool,
            "linear": OnlineAggregator(len(self.pool.experts), horizon),
            "conformal": ConformalTracker(horizon, level),
        }
        self.extra = {}
        if members == "all":
            bank = self.pool.bank
            self.extra = {
                "analogues": AnalogueExpert(bank),
                "forest": ForestExpert(bank, exog=bool(n_exog)),
                "forest_residual": ForestExpert(bank, residual=True, exog=bool(n_exog)),
            }
            self.parts |= self.extra
            self.parts["full"] = OnlineAggregator(1 + len(self.extra), horizon, with_base=True)

    def update(self, y, exog=None):
        """Take in m >= 1 new rows.

        Parameters
        ----------
        y : array [m]
            Target, z-scored.
        exog : array [m, C] or None
            Other channels, z-scored.

        Returns
        -------
        dict of arrays [m, H]
            ``forecast``, ``lower``, ``upper`` from each new origin (bounds are NaN at the start of a stream).
        """
        y = np.ascontiguousarray(y, float)
        n_exog = self.settings[2]
        if n_exog and exog is None:
            raise DataError(f"this stream was started with {n_exog} other channels: none were given")
        exog = np.ascontiguousarray(exog, float).reshape(len(y), -1) if n_exog else None
        if n_exog and exog.shape[1] != n_exog:
            raise DataError(f"this stream was started with {n_exog} other channels, {exog.shape[1]} were given")
        pieces = [
            self._piece(y[a : a + PIECE], None if exog is None else exog[a : a + PIECE])
            for a in range(0, len(y), PIECE)
        ]
        return {name: np.concatenate([p[i] for p in pieces]) for i, name in enumerate(("forecast", "lower", "upper"))}

    def _piece(self, y, exog):
        first_row = self.pool.bank.seen
        labels = np.concatenate([self.pool.labels, y])  # [H + m]
        experts = self.pool.update(y, exog)
        forecast = self.parts["linear"].update(experts, y)
        if self.extra:
            # summed expert by expert: numpy's own mean changes its order of summation with the shape
            mean = sum(experts[1:], start=experts[0].copy()) / len(experts)
            blocks = self.pool.blocks | {"linear": mean - y[:, None]}
            more = [expert.push(blocks, labels, first_row) for expert in self.extra.values()]
            forecast = self.parts["full"].update(np.stack([forecast, *more]), y)
        return forecast, *self.parts["conformal"].update(forecast, y)

    def state(self):
        """Flat dict of arrays (for ``numpy.savez``) from which ``from_state`` continues bit-equal."""
        season, horizon, n_exog, level, members = self.settings
        flat = {"settings": np.array([season, horizon, n_exog, level, MEMBERS.index(members)], float)}
        for name, part in self.parts.items():
            flat |= {f"{name}:{key}": value for key, value in part.state().items()}
        return flat

    @classmethod
    def from_state(cls, state):
        """The stream that ``state`` was taken from."""
        season, horizon, n_exog, level, members = np.asarray(state["settings"], float)
        stream = cls(int(season), int(horizon), int(n_exog), float(level), MEMBERS[int(members)])
        for name, part in stream.parts.items():
            cut = f"{name}:"
            part.restore({key.removeprefix(cut): state[key] for key in state if key.startswith(cut)})
        return stream
