"""Small made-up catalogues."""

import numpy as np
import pytest

from pipeline.smash import events as ev


def made_up(sequences=(8, 3, 3), rate=2.0, window=10.0, marks=3, seed=0, unmarked=False, ties=0.0, **meta):
    """Windows of Poisson events in a unit-less square with one cluster each; the last mark is rare."""
    rng = np.random.default_rng(seed)
    t, xy, mark, lengths = [], [], [], []
    for _ in range(sum(sequences)):
        n = 2 + rng.poisson(rate * window)
        one = np.sort(rng.random(n) * window)
        tied = rng.random(n) < ties
        for i in np.flatnonzero(tied)[1:]:
            one[i] = one[i - 1]
        t.append(np.sort(one))
        centre = rng.normal(size=2) * 3
        xy.append(
            np.where(rng.random((n, 1)) < 0.4, centre + 0.2 * rng.normal(size=(n, 2)), rng.normal(size=(n, 2)) * 4)
        )
        mark.append(rng.choice(marks, n, p=np.r_[np.full(marks - 1, 0.95 / (marks - 1)), 0.05] if marks > 1 else [1.0]))
        lengths.append(n)
    count = sum(sequences)
    facts = {
        "name": "made_up",
        "units": {"time": "day", "place": "km"},
        "marks": 1 if unmarked else marks,
        "mark_names": [],
        "window": window,
        "stride": None,
        "lattice": {"time": None, "place": None},
        "log_density": {"time": 0.0, "time_unit": "1/day", "place": 0.0, "place_unit": "1/km2"},
        "period_of_clock": None,
        "places": True,
        **meta,
    }
    return ev.finished(
        ev.Catalogue(
            np.concatenate([[0], np.cumsum(lengths)]),
            np.concatenate(t),
            None if unmarked else np.concatenate(mark),
            np.concatenate(xy),
            np.repeat(np.arange(3), sequences).astype(np.int8),
            np.full(count, window),
            np.arange(count) * window,
            np.zeros(count, np.int64),
            meta=facts,
        )
    )


@pytest.fixture(scope="session")
def catalogue():
    return made_up()


@pytest.fixture(scope="session")
def make():
    return made_up
