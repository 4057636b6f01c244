"""Times on a lattice of minutes with a weekly profile, and weeks whose clock has lost AM and PM.

An hourly file of reports has most of its structure inside the hour: people write :00 and :30. The hazard of a minute is
a window's rate × the profile of its hour of the week × the profile of its minute of the hour; events of one minute are
ties with a probability of their own. Some windows know hours 1 to 12 only (a 12-hour clock without AM and PM): their
profile is the true one folded, and which clock a window has is inferred from its events so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .events import Catalogue, Targets

HOURS = 24
CLASSES = ((0,), (30,), (15, 45), tuple(range(5, 60, 10)) + (10, 20, 40, 50))  # minutes that people round to
STRAYS = 0.05  # share of events in hours that a 12-hour clock doesn't have, below which a window has lost AM and PM
DAY_SHRINK = 300  # events a cell with which an hour's profile keeps to that of all days
PATIENCE = 4  # times as slowly as the level of the rate does its profile forget: it has many cells to fill
HORIZON_DAYS = 14  # quantiles beyond this are cut


def minute_class(minute: np.ndarray) -> np.ndarray:
    """Class of a minute of the hour: on the hour, half past, quarters, other fives, the rest."""
    found = np.full(60, len(CLASSES))
    for number, minutes in enumerate(CLASSES):
        found[list(minutes)] = number
    return found[minute % 60]


def fold(profile: np.ndarray) -> np.ndarray:
    """Weekly profile [7, 24, 60] as a clock without AM and PM shows it: hours 13 to 23 fall on 1 to 11, 0 on 12."""
    out = np.zeros_like(profile)
    out[:, 1:12] = profile[:, 1:12] + profile[:, 13:]
    out[:, 12] = profile[:, 12] + profile[:, 0]
    return out


def folded(cat: Catalogue, sequences: np.ndarray) -> np.ndarray:
    """[W] whether a window has lost AM and PM: next to none of its events lie in the hours 13 to 23 and 0.

    A sound week has about six tenths of its events there. Windows start at midnight. This describes what came, for
    reports: no forecast sees it.
    """
    step = float(cat.meta["lattice"]["time"])
    out = np.empty(len(sequences), bool)
    for place, sequence in enumerate(sequences):
        hour = np.rint(cat.t[cat.rows(sequence)] / step).astype(int) // 60 % HOURS
        out[place] = ((hour == 0) | (hour > 12)).mean() < STRAYS
    return out


@dataclass
class MinuteHazard:
    """The fitted hazard.

    Attributes
    ----------
    profile: [2, M] expected events a minute of the period (mean over windows) for the true and the folded clock.
    tie: [classes] probability that the next event falls in the same minute, by the class of that minute.
    shape: of the Gamma prior of a window's rate (infinite: all windows alike); level: its mean, of recent windows over
        that of the profile's. prior: probability of the folded clock.
    step: length of a minute in the catalogue's unit.
    """

    profile: np.ndarray
    tie: np.ndarray
    shape: float
    level: float
    prior: float
    step: float

    @classmethod
    def fit(
        cls, cat: Catalogue, prior: float = 0.5, memory: float | None = None, smooth: float = 1000.0
    ) -> MinuteHazard:
        """From the training windows, whose clock is sound.

        ``memory`` (share of the training period) weights windows by age for the level of the rate, and more gently
        for its profile. The Gamma shape is by moments of the counts. ``smooth`` is the weight, in
        events, with which an hour's minute profile keeps to that of all hours.
        """
        from .etas_fit import recency

        step = float(cat.meta["lattice"]["time"])
        period = round(cat.meta["period_of_clock"] / step)
        sequences = cat.sequences("train", phase=0)
        recent = recency(cat, sequences, memory)
        weight = recency(cat, sequences, memory and PATIENCE * memory)
        row = cat.events(sequences)
        each = np.repeat(weight, cat.lengths[sequences])
        minute = np.rint(cat.t[row] / step).astype(int) % period
        tied = np.rint(cat.dt[row] / step).astype(int) == 0
        first = np.isin(row, cat.offsets[sequences])
        tied &= ~first
        days, hour, inside = period // 1440, minute // 60 % HOURS, minute % 60
        day = minute // 1440
        fresh = ~tied
        counts = np.zeros((days, HOURS, 60))
        np.add.at(counts, (day[fresh], hour[fresh], inside[fresh]), each[fresh])
        by_hour = counts.sum(axis=2)  # [day, hour]
        rows, columns = by_hour.sum(axis=1, keepdims=True), by_hour.sum(axis=0, keepdims=True)
        independent = rows * columns / by_hour.sum()
        pooled = by_hour + DAY_SHRINK * independent / independent.mean()
        by_hour = pooled * by_hour.sum() / pooled.sum()
        overall = (counts.sum(axis=(0, 1)) + 0.5) / (counts.sum() + 30)
        minutes = counts.sum(axis=0) + smooth * overall  # [hour, 60]
        profile = by_hour[:, :, None] * (minutes / minutes.sum(axis=1, keepdims=True))[None] / weight.sum()
        total = np.bincount(cat.sequence[row][fresh], minlength=len(cat.split))[sequences]
        mean = np.average(total, weights=recent)
        spread = np.average((total - mean) ** 2, weights=recent)
        shape = float(mean**2 / (spread - mean)) if spread > mean * 1.001 else float("inf")
        kind = minute_class(inside)
        at, again = kind[:-1], tied[1:]
        same = ~first[1:]
        tie = np.array(
            [
                (again[same & (at == c)].sum() + 1) / (max((same & (at == c)).sum(), 0) + 20)
                for c in range(len(CLASSES) + 1)
            ]
        )
        both = np.stack([profile, fold(profile)]).reshape(2, -1)
        return cls(np.maximum(both, 1e-9), tie, shape, float(mean / np.average(total, weights=weight)), prior, step)

    def minutes(self, t: np.ndarray) -> np.ndarray:
        return np.rint(np.asarray(t) / self.step).astype(int)

    def _total(self, minute: np.ndarray, clock: int) -> np.ndarray:
        """Expected events before the start of a minute counted from the window's start, at rate 1."""
        steps = np.concatenate([[0.0], np.cumsum(self.profile[clock])])
        period = self.profile.shape[1]
        return steps[minute % period] + (minute // period) * steps[-1]

    def walk(self, cat: Catalogue, sequence: int) -> dict[str, np.ndarray]:
        """Everything of one window, for each clock and mixed.

        Returns
        -------
        minute [n]; rate [2, n] of the window before the event that follows event i; posterior [n] of the folded clock
        after event i; log_mass [2, n] of event i's minute (of the first event: given the window's start); total
        [2, n], expected events at rate 1 before the minute after event i.
        """
        minute = self.minutes(cat.t[cat.rows(sequence)])
        n = len(minute)
        gap = np.diff(minute, prepend=-1)
        fresh = np.cumsum(np.concatenate([[1], gap[1:] > 0]))  # minutes with events so far
        log_mass, rate, after = np.zeros((2, n)), np.zeros((2, n)), np.zeros((2, n))
        tie = self.tie[minute_class(minute % 60)]
        for clock in range(2):
            total = self._total(minute + 1, clock)
            after[clock] = total
            if np.isfinite(self.shape):
                rate[clock] = (self.shape + fresh) / (self.shape / self.level + total)
            else:
                rate[clock] = self.level
            own = self.profile[clock][minute % self.profile.shape[1]]
            before = self._total(minute, clock)
            past = np.concatenate([[0.0], total[:-1]])
            r = np.concatenate([[self.level], rate[clock][:-1]])
            stay = np.concatenate([[0.0], tie[:-1]])
            log_mass[clock] = np.where(
                np.concatenate([[False], gap[1:] == 0]),
                np.log(np.maximum(stay, 1e-12)),
                np.log1p(-stay) - r * (before - past) + np.log(-np.expm1(-r * own)),
            )
        odds = np.cumsum(log_mass[1] - log_mass[0]) + np.log(self.prior) - np.log1p(-self.prior)
        posterior = 1 / (1 + np.exp(-np.clip(odds, -50, 50)))
        return {
            "minute": minute,
            "rate": rate,
            "posterior": posterior,
            "log_mass": log_mass,
            "total": after,
            "tie": tie,
        }

    def predict(
        self, cat: Catalogue, targets: Targets, quantiles: int = 200, two_clocks: bool = True
    ) -> dict[str, Any]:
        """Arguments of :class:`pipeline.smash.scores.Exact` for the time of the targets."""
        log_time, survival, upper, lower, tables = [], [], [], [], []
        level = (np.arange(quantiles) + 0.5) / quantiles
        ahead = np.arange(HORIZON_DAYS * 1440)
        for sequence in targets.windows:
            found = self.walk(cat, int(sequence))
            n = len(found["minute"])
            weight = found["posterior"] if two_clocks and self.prior > 0 else np.zeros(n)
            end = self.minutes(cat.window[[sequence]])[0]
            left = np.zeros(2)
            for clock in range(2):
                rest = self._total(np.array([max(end, found["minute"][-1] + 1)]), clock)[0] - found["total"][clock][-1]
                left[clock] = (1 - found["tie"][-1]) * np.exp(-found["rate"][clock][-1] * rest)
            survival.append(np.log((1 - weight[-1]) * left[0] + weight[-1] * left[1]))
            if n < 2:
                continue
            w = weight[:-1]
            mixed = np.logaddexp(
                np.log(np.maximum(1 - w, 1e-300)) + found["log_mass"][0][1:],
                np.log(np.maximum(w, 1e-300)) + found["log_mass"][1][1:],
            )
            log_time.append(mixed - np.log(self.step))
            gap = np.diff(found["minute"])
            for i in range(n - 1):
                reach = min(len(ahead), max(int(gap[i]) + 2, 4 * 1440))
                steps = found["minute"][i] + 1 + ahead[:reach]
                cdf = np.zeros(reach + 1)
                for clock, share in ((0, 1 - w[i]), (1, w[i])):
                    if share < 1e-9:
                        continue
                    gone = self._total(steps, clock) - found["total"][clock][i]
                    cdf[:-1] += share * (1 - (1 - found["tie"][i]) * np.exp(-found["rate"][clock][i] * gone))
                cdf = cdf[:-1]  # P(gap <= 0), P(gap <= 1 minute), …
                upper.append(cdf[gap[i]])
                lower.append(cdf[gap[i] - 1] if gap[i] else 0.0)
                tables.append(np.searchsorted(cdf, level, side="left") * self.step)
        return {
            "log_time": np.concatenate(log_time),
            "log_survival": np.array(survival),
            "cdf_time": np.array(upper),
            "cdf_time_left": np.array(lower),
            "quantiles_time": np.array(tables, float),
        }
