"""The minute clock: probabilities that sum to one, folding, and finding out which clock a window has."""

import numpy as np
import pytest

from pipeline.smash import clock
from pipeline.smash.clock import MinuteHazard, fold
from pipeline.smash.events import Catalogue, finished

STEP = 1 / 60


def weeks(count=(30, 4, 4), folded=(), rate=60, seed=0):
    """Weeks of events at whole minutes, many on the hour, more after noon; some weeks with a 12-hour clock."""
    rng = np.random.default_rng(seed)
    t, lengths = [], []
    for number in range(sum(count)):
        n = 2 + rng.poisson(rate)
        hour = rng.choice(24, n, p=np.r_[np.full(8, 0.02), np.full(16, 0.0525)])
        minute = np.where(rng.random(n) < 0.4, 0, rng.integers(0, 60, n))
        if number in folded:
            hour = np.where(hour == 0, 12, np.where(hour > 12, hour - 12, hour))
        t.append(np.sort(rng.integers(0, 7, n) * 24 + hour + minute / 60))
        lengths.append(n)
    meta = {
        "name": "weeks",
        "units": {"time": "h", "place": "deg"},
        "marks": 1,
        "window": 168.0,
        "stride": None,
        "lattice": {"time": STEP, "place": None},
        "log_density": {"time": np.log(24), "time_unit": "1/day", "place": 0.0, "place_unit": "1/deg2"},
        "period_of_clock": 168.0,
    }
    windows = sum(count)
    return finished(
        Catalogue(
            np.concatenate([[0], np.cumsum(lengths)]),
            np.concatenate(t),
            None,
            rng.normal(size=(sum(lengths), 2)),
            np.repeat(np.arange(3), count).astype(np.int8),
            np.full(windows, 168.0),
            np.arange(windows) * 168.0,
            np.zeros(windows, np.int64),
            meta=meta,
        )
    )


@pytest.fixture(scope="module")
def fitted():
    cat = weeks(folded=(34, 36))
    return cat, MinuteHazard.fit(cat)


def test_folding_keeps_the_sum_and_uses_twelve_hours():
    profile = np.random.default_rng(0).random((7, 24, 60))
    found = fold(profile)
    assert found.sum() == pytest.approx(profile.sum())
    assert (found[:, 13:] == 0).all() and (found[:, 0] == 0).all()
    assert found[2, 3, 15] == pytest.approx(profile[2, 3, 15] + profile[2, 15, 15])  # 3:15 a.m. and p.m.
    assert found[2, 12, 30] == pytest.approx(profile[2, 12, 30] + profile[2, 0, 30])  # noon and midnight


def test_the_profile_has_the_mean_number_of_events(fitted):
    cat, found = fitted
    sequences = cat.sequences("train")
    row = cat.events(sequences)
    fresh = np.ones(len(row), bool)
    fresh[1:] = cat.sequence[row][1:] != cat.sequence[row][:-1]
    fresh |= cat.dt[row] > 0.5 * STEP
    assert found.profile[0].sum() == pytest.approx(fresh.sum() / len(sequences), rel=1e-6)
    assert found.profile[1].sum() == pytest.approx(found.profile[0].sum(), rel=1e-6)
    by_minute = found.profile[0].reshape(-1, 60).sum(axis=0)
    assert by_minute[0] / by_minute.sum() == pytest.approx(0.41, abs=0.03)


@pytest.mark.parametrize("number", [0, 1])
def test_the_masses_of_all_next_minutes_sum_to_one(fitted, number):
    """Sum over every minute after an event, tie included, for each clock: what is left is the survival."""
    cat, found = fitted
    sequence = cat.sequences("test")[number]
    window = found.walk(cat, sequence)
    i = len(window["minute"]) // 2
    for which in (0, 1):
        rate, past = window["rate"][which][i], window["total"][which][i]
        minutes = np.arange(window["minute"][i] + 1, window["minute"][i] + 20000)
        before = found._total(minutes, which) - past
        own = found.profile[which][minutes % found.profile.shape[1]]
        mass = (1 - window["tie"][i]) * np.exp(-rate * before) * -np.expm1(-rate * own)
        left = (1 - window["tie"][i]) * np.exp(-rate * (before[-1] + own[-1]))
        assert window["tie"][i] + mass.sum() + left == pytest.approx(1.0)


def test_predictions_are_the_steps_of_their_cdf(fitted):
    cat, found = fitted
    targets = cat.targets("test")
    law = found.predict(cat, targets)
    mass = np.exp(law["log_time"]) * STEP
    assert law["cdf_time"] - law["cdf_time_left"] == pytest.approx(mass, abs=1e-9)
    assert (law["log_survival"] <= 0).all() and (np.diff(law["quantiles_time"], axis=1) >= 0).all()
    dt = cat.dt[targets.row]
    for i in range(0, len(dt), 11):  # the truth's quantile lies between the two sides of its step
        below, upto = (
            (law["quantiles_time"][i] < dt[i] - 1e-9).mean(),
            (law["quantiles_time"][i] <= dt[i] + 1e-9).mean(),
        )
        assert below <= law["cdf_time_left"][i] + 1 / 200 and upto >= law["cdf_time"][i] - 1 / 200


def test_the_clock_of_a_window_is_found_from_its_events(fitted):
    cat, found = fitted
    for sequence in cat.sequences("test"):
        window = found.walk(cat, int(sequence))
        assert (window["posterior"][-1] > 0.99) == (sequence in (34, 36))
    targets = cat.targets("test")
    two, one = (found.predict(cat, targets, two_clocks=flag)["log_time"] for flag in (True, False))
    broken = np.isin(targets.sequence, (34, 36))
    assert two[broken].mean() > one[broken].mean() + 0.2
    assert two[~broken].mean() > one[~broken].mean() - 0.05


def test_a_window_that_is_busier_gets_a_higher_rate(fitted):
    cat, found = fitted
    busy = weeks(count=(1, 1, 2), rate=120, seed=3)
    found = MinuteHazard(found.profile, found.tie, 20.0, 1.0, 0.5, STEP)
    rate = found.walk(busy, 2)["rate"][0]
    assert rate[0] < 1.3 and 1.5 < rate[-1] < 2.1  # twice the training's, shrunk by the prior


def test_crime_has_the_published_structure(data_dir):
    """The bars of the trial: two-clock mixture 3.235 nats a day over all test windows, survival included."""
    from pipeline.core.catalog import load_catalog
    from pipeline.smash import data

    entry = load_catalog()["smash_crime"]
    paths = [data_dir / f"points/crime/data_{split}.pkl" for split in ("train", "val", "test")]
    cat = data.read(paths, entry.reader, entry.options, "smash_crime", data.Choice())
    targets = cat.targets("test")
    found = MinuteHazard.fit(cat, memory=0.25).predict(cat, targets, quantiles=2)
    mean = (found["log_time"].sum() + found["log_survival"].sum()) / len(targets.row) + np.log(24)
    assert mean >= 3.235
    hour = cat.t % 24
    late = [(hour[cat.rows(s)] >= 13).mean() for s in targets.windows]
    clean = np.isin(targets.sequence, targets.windows[np.array(late) > 0.1])
    assert clean.sum() == 1587 and clock.HOURS == 24
