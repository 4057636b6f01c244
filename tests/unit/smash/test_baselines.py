"""Baselines: their laws are laws, and each is what its name says."""

import numpy as np
import pytest

from pipeline.smash import gaps, scores, ties
from pipeline.smash.baselines import Baselines
from pipeline.smash.hawkes import Hawkes, carried
from pipeline.smash.kde import Background

NAMES = ("poisson_kde", "renewal_kde", "history_kde", "hawkes")


@pytest.fixture(scope="module")
def fitted(make):
    cat = make(sequences=(30, 6, 6), rate=2.0)
    back = Background.fit(cat, count=3)
    return Baselines(cat, back, back.catalogue_features(cat))


@pytest.mark.parametrize("name", NAMES)
def test_every_law_is_consistent_with_itself(fitted, name):
    """Marks sum to one; the CDF at the truth agrees with the quantiles; draws are finite."""
    cat = fitted.cat
    targets = cat.targets("test")
    exact = fitted.exact(name, "test", np.random.default_rng(0), 30, 400)
    assert exact.mark_given_t.sum(axis=1) == pytest.approx(np.ones(len(targets.row)))
    dt, level = cat.dt[targets.row], (np.arange(400) + 0.5) / 400
    for i in range(0, len(dt), 7):
        assert np.interp(dt[i], exact.quantiles_time[i], level) == pytest.approx(exact.cdf_time[i], abs=0.01)
    assert np.isfinite(exact.samples_location).all() and exact.samples_location.shape == (len(dt), 30, 2)
    assert (exact.log_survival <= 0).all()


def test_poisson_is_the_constant_rate(fitted):
    cat = fitted.cat
    exact = fitted.exact("poisson_kde", "test", np.random.default_rng(0), 10, None)
    dt = cat.dt[cat.targets("test").row]
    assert exact.log_time == pytest.approx(np.log(fitted.rate) - fitted.rate * dt)
    row = cat.events(cat.sequences("train"))
    if fitted.chosen["rate_memory"] is None:
        first = cat.t[cat.offsets[cat.sequences("train")]]
        assert fitted.rate == pytest.approx((len(row) - 30) / (10 * 30 - first.sum()))
    assert fitted.rate == pytest.approx(2.0, rel=0.25)


def test_the_renewal_density_is_the_slope_of_its_cdf(fitted):
    cat = fitted.cat
    targets = cat.targets("test")
    law = fitted._renewal(targets, None)
    dt = cat.dt[targets.row]
    from scipy.special import ndtr

    weight, mean, sd = fitted.normals
    cdf = lambda t: (weight * ndtr((np.log(t)[:, None] - mean) / sd)).sum(axis=1)  # noqa: E731
    step = 1e-5 * np.maximum(dt, 1e-6)
    assert law["cdf_time"] == pytest.approx(cdf(dt), abs=1e-9)
    slope = (cdf(dt + step) - cdf(dt - step)) / (2 * step)
    assert np.exp(law["log_time"]) == pytest.approx(slope, rel=1e-3)


def test_the_history_density_integrates_to_one(fitted):
    """On a grid, for one event: the window's past and the background together."""
    cat = fitted.cat
    share, width, memory = 0.4, 1.0, 2.0
    targets = cat.targets("test")
    i = 9
    row = int(targets.row[i])
    rows = cat.rows(int(targets.sequence[i]))
    axis = np.arange(-30, 30, 0.25)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    past = slice(rows.start, row)
    fade = np.exp(-(cat.t[row] - cat.t[past]) / memory)
    r2 = ((grid[:, None] - cat.xy[past]) ** 2).sum(-1)
    near = (fitted._kernel(r2, width) * fade).sum(axis=1) / fade.sum()
    assert near.sum() * 0.25**2 == pytest.approx(1.0, abs=1e-3)
    own = fitted._near(targets, share, width, memory)[i]
    at = ((cat.xy[row] - cat.xy[past]) ** 2).sum(-1)
    by_hand = share * (fitted._kernel(at, width) * fade).sum() / fade.sum()
    by_hand += (1 - share) * np.exp(fitted._kde(targets, fitted.width)[i])
    assert own == pytest.approx(np.log(by_hand))


def test_markov_marks_learn_a_transition(make):
    cat = make(sequences=(30, 6, 6), marks=3)
    cat.mark[:] = np.arange(len(cat.mark)) % 3  # each mark is followed by the next
    back = Background.fit(cat, count=2)
    found = Baselines(cat, back, back.catalogue_features(cat))
    assert found.transitions[0, 1] > 0.9 and found.transitions[2, 0] > 0.9
    assert found.transitions.sum(axis=1) == pytest.approx(np.ones(3))
    assert found.frequencies == pytest.approx(np.full(3, 1 / 3), abs=0.02)


def test_carried_counts_are_the_sums_over_the_past(make):
    cat = make(sequences=(2, 1, 1))
    decay = np.array([0.5, 3.0])
    found = carried(cat, cat.sequences("train"), decay)
    row = cat.events(cat.sequences("train"))
    for i in range(0, len(row), 5):
        past = [r for r in row[:i] if cat.sequence[r] == cat.sequence[row[i]]]
        for b in range(2):
            for k in range(3):
                expected = sum(np.exp(-decay[b] * (cat.t[row[i]] - cat.t[r])) for r in past if cat.labels[r] == k)
                assert found[i, b, k] == pytest.approx(expected)


def test_hawkes_recovers_a_self_exciting_process(make):
    """Simulated with one kernel of its own scales: the rate, the children and the likelihood come back."""
    from dataclasses import replace

    rng = np.random.default_rng(0)
    window, mu, children, decay = 100.0, 0.5, 0.5, 1 / (0.03 * 100)
    t, lengths = [], []
    for _ in range(60):
        queue = list(rng.random(rng.poisson(mu * window)) * window)
        every = []
        while queue:
            s = queue.pop()
            every.append(s)
            queue += [u for u in s + rng.exponential(1 / decay, rng.poisson(children)) if u < window]
        t.append(np.sort(every))
        lengths.append(len(every))
    cat = make(sequences=(40, 10, 10), marks=1, window=window)
    n = sum(lengths)
    cat = replace(
        cat,
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        t=np.concatenate(t),
        mark=np.zeros(n, np.int64),
        xy=np.zeros((n, 2)),
    )
    found = Hawkes.fit(cat, np.ones(40))
    assert found.rate[0] == pytest.approx(mu, rel=0.15)
    assert found.jump.sum() == pytest.approx(children, rel=0.15)
    assert found.jump[1].sum() > 0.8 * found.jump.sum()  # on the scale that was simulated
    law, marks = found.predict(cat, cat.targets("test"), None)
    poisson = lengths[-10:]
    rate = (sum(poisson) - 10) / (10 * window)
    dt = cat.dt[cat.targets("test").row]
    assert law["log_time"].mean() > (np.log(rate) - rate * dt).mean() + 0.02
    assert (marks == 1).all()
    residual = -np.log1p(-law["cdf_time"])
    assert residual.mean() == pytest.approx(1.0, abs=0.1) and residual.std() == pytest.approx(1.0, abs=0.15)


def test_ties_have_a_probability_of_their_own(make):
    cat = make(sequences=(30, 6, 6), ties=0.3)
    hurdle = ties.Ties.fit(cat)
    targets = cat.targets("test")
    tied = cat.dt[targets.row] == 0
    assert hurdle.probability == pytest.approx(np.full(3, 0.3), abs=0.06) and tied.any()
    law = gaps.law(
        cat,
        targets,
        np.full(len(tied), np.log(2.0)),
        lambda gap: 2.0 * gap,
        np.full(len(targets.windows), 0.7),
        6.0,
        400,
    )
    p = hurdle.of(cat, targets.row)
    assert law["log_time"][tied] == pytest.approx(np.log(p[tied]))
    dt = cat.dt[targets.row]
    assert law["log_time"][~tied] == pytest.approx((np.log1p(-p) + np.log(2) - 2 * dt)[~tied])
    assert (law["cdf_time_left"][tied] == 0).all() and law["cdf_time"][tied] == pytest.approx(p[tied])
    assert (law["quantiles_time"] == 0).mean(axis=1) == pytest.approx(p, abs=0.005)
    assert ties.Ties.fit(make()).probability is None


def test_a_tie_has_the_place_and_the_marks_that_ties_have(make):
    """On a lattice of places: ties stay where the event before was, and their marks have a table of their own."""
    from pipeline.smash.events import finished

    cat = make(sequences=(40, 6, 6), ties=0.3, lattice={"time": None, "place": 1.0})
    cat.xy[:] = np.clip(np.rint(cat.xy), -9, 9)
    row = np.flatnonzero(cat.dt == 0)
    row = row[row > 0]
    for r in row:
        cat.xy[r] = cat.xy[r - 1]
        cat.mark[r] = (cat.mark[r - 1] + 1) % 3
    cat = finished(cat)
    hurdle = ties.Ties.fit(cat)
    targets = cat.targets("test")
    tied = hurdle.tied(cat, targets)
    assert hurdle.same > 0.95 and hurdle.marks[0, 1] > 0.8
    back = Background.fit(cat, count=2)
    found = Baselines(cat, back, back.catalogue_features(cat))
    exact = found.exact("history_kde", "test", np.random.default_rng(0), 40, 50)
    assert exact.log_location[tied] == pytest.approx(np.log(hurdle.same), abs=0.05)
    before = cat.xy[targets.row - 1]
    stay = (exact.samples_location[tied] == before[tied][:, None]).all(axis=2).mean()
    assert stay == pytest.approx(hurdle.same, abs=0.05)
    own = exact.mark_given_t[tied][np.arange(tied.sum()), cat.labels[targets.row[tied]]]
    assert own.mean() > 0.7 and exact.mark_given_t.sum(axis=1) == pytest.approx(np.ones(len(tied)))
    plain = found.exact("poisson_kde", "test", np.random.default_rng(0), 40, None)
    assert plain.log_location[tied].mean() < exact.log_location[tied].mean() - 1


def test_on_a_lattice_the_mass_of_the_cell_is_scored(make):
    cat = make(sequences=(5, 2, 2), lattice={"time": 0.5, "place": None})
    cat.t[:] = np.floor(cat.t / 0.5) * 0.5
    targets = cat.targets("test")
    law = gaps.law(cat, targets, np.zeros(len(targets.row)), lambda g: 2.0 * g, np.zeros(2), 6.0, 50)
    dt = cat.dt[targets.row]
    mass = np.exp(-2 * dt) - np.exp(-2 * (dt + 0.5))
    assert law["log_time"] == pytest.approx(np.log(mass / 0.5))
    assert law["cdf_time"] - law["cdf_time_left"] == pytest.approx(mass)
    assert (law["quantiles_time"] % 0.5).max() < 1e-9


def test_all_events_of_a_lattice_of_places_keep_to_it(make):
    from pipeline.smash.events import finished

    cat = make(sequences=(20, 4, 4), lattice={"time": None, "place": 1.0})
    cat.xy[:] = np.clip(np.rint(cat.xy), -9, 9)
    cat = finished(cat)
    back = Background.fit(cat, count=3)
    found = Baselines(cat, back, back.catalogue_features(cat))
    exact = found.exact("history_kde", "test", np.random.default_rng(0), 20, 50)
    assert np.array_equal(exact.samples_location, np.rint(exact.samples_location))
    assert (exact.log_location < 0).all()  # log of a mass
    assert scores.score_exact(cat, cat.targets("test"), exact, np.random.default_rng(0))["log_location"].max() < 0
