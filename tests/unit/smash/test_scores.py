"""Scores against closed forms and other people's formulae, and the store."""

import numpy as np
import pytest
from scipy.stats import norm

from pipeline.core.errors import DataError
from pipeline.smash import scores
from pipeline.smash.scores import Exact, Samples

LEVEL = (np.arange(2000) + 0.5) / 2000


def normal_crps(y):
    """Gneiting et al. (2005), eq. 5, of a standard normal forecast."""
    return y * (2 * norm.cdf(y) - 1) + 2 * norm.pdf(y) - 1 / np.sqrt(np.pi)


def test_crps_of_quantiles_and_of_samples_is_the_closed_form():
    y = np.array([-1.5, 0.0, 0.3, 2.0])
    quantiles = np.tile(norm.ppf(LEVEL), (4, 1))
    assert scores.crps_quantiles(quantiles, y) == pytest.approx(normal_crps(y), abs=1e-3)
    drawn = np.random.default_rng(0).normal(size=(4, 4000))
    assert scores.crps_samples(drawn, y) == pytest.approx(normal_crps(y), abs=0.03)
    exponential = -np.log1p(-np.tile(LEVEL, (4, 1)))
    y = np.array([0.0, 0.5, 1.0, 4.0])
    closed = y + 2 * np.exp(-y) - 1.5  # of the exponential law with mean 1
    assert scores.crps_quantiles(exponential, y) == pytest.approx(closed, abs=2e-3)


def test_crps_of_samples_agrees_with_scoringrules():
    sr = pytest.importorskip("scoringrules")
    rng = np.random.default_rng(0)
    x, y = rng.lognormal(size=(6, 30)), rng.lognormal(size=6)
    assert scores.crps_samples(x, y) == pytest.approx(sr.crps_ensemble(y, x, estimator="fair"))


def test_the_energy_score_is_fair_and_is_the_crps_in_one_dimension():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 41)), rng.normal(size=5)
    assert scores.energy(x[:, :, None], y[:, None]) == pytest.approx(scores.crps_samples(x, y), abs=1e-5)
    x, y = rng.normal(size=(4, 12, 2)), rng.normal(size=(4, 2))
    for i in range(4):
        far = np.mean([np.linalg.norm(a - y[i]) for a in x[i]])
        spread = np.mean([np.linalg.norm(x[i, a] - x[i, b]) for a in range(12) for b in range(12) if a != b])
        assert scores.energy(x, y)[i] == pytest.approx(far - spread / 2, abs=1e-5)
    few = scores.energy(rng.normal(size=(4000, 5, 2)), np.zeros((4000, 2))).mean()
    many = scores.energy(rng.normal(size=(4000, 80, 2)), np.zeros((4000, 2))).mean()
    assert few == pytest.approx(many, abs=0.03)  # the number of samples changes nothing on average


@pytest.fixture(scope="module")
def exponential(make):
    """An exponential gap of rate 2, places of a standard normal around 0, fixed marks."""
    cat = make(rate=2.0)
    targets = cat.targets("test")
    dt, xy, n = cat.dt[targets.row], cat.xy[targets.row], len(targets.row)
    marks = np.tile([0.5, 0.3, 0.2], (n, 1))
    drawn = np.random.default_rng(0).normal(size=(n, 400, 2))
    exact = Exact(
        log_time=np.log(2) - 2 * dt,
        log_survival=np.full(len(targets.windows), -0.5),
        cdf_time=1 - np.exp(-2 * dt),
        quantiles_time=np.tile(-np.log1p(-(np.arange(200) + 0.5) / 200) / 2, (n, 1)),
        log_location=-0.5 * (xy**2).sum(axis=1) - np.log(2 * np.pi),
        mark_given_tx=marks,
        mark_given_t=marks,
        samples_location=drawn,
    )
    return cat, targets, exact


def test_exact_distributions_are_scored_as_their_formulae_say(exponential):
    cat, targets, exact = exponential
    found = scores.score_exact(cat, targets, exact, np.random.default_rng(0))
    dt, mark = cat.dt[targets.row], cat.labels[targets.row]
    assert found["pit_time"] == pytest.approx(1 - np.exp(-2 * dt))
    assert found["residual_time"] == pytest.approx(2 * dt)
    assert found["crps_time"] == pytest.approx(dt + np.exp(-2 * dt) - 0.75, abs=5e-3)
    assert found["median_time"] == pytest.approx(np.full(len(dt), np.log(2) / 2), abs=3e-3)
    p = np.array([0.5, 0.3, 0.2])
    assert found["brier"] == pytest.approx(((p - np.eye(3)[mark]) ** 2).sum(axis=1))
    assert found["log_mark_given_t"] == pytest.approx(np.log(p[mark]))
    assert found["location_error"] == pytest.approx(np.linalg.norm(cat.xy[targets.row], axis=1), abs=0.25)


def test_units_shift_densities_once(exponential):
    from dataclasses import replace

    cat, targets, exact = exponential
    shifted = replace(cat, meta={**cat.meta, "log_density": {"time": np.log(24), "place": 1.5}})
    plain, other = (scores.score_exact(c, targets, exact, np.random.default_rng(0)) for c in (cat, shifted))
    assert other["log_time"] - plain["log_time"] == pytest.approx(np.log(24))
    assert other["log_location"] - plain["log_location"] == pytest.approx(1.5)
    assert other["log_survival"] == pytest.approx(plain["log_survival"])


def test_the_pit_is_randomised_over_an_atom(make):
    cat = make()
    targets = cat.targets("test")
    n = len(targets.row)
    exact = Exact(log_time=np.zeros(n), cdf_time=np.full(n, 0.6), cdf_time_left=np.full(n, 0.2))
    pit = scores.score_exact(cat, targets, exact, np.random.default_rng(0))["pit_time"]
    assert pit.min() >= 0.2 and pit.max() <= 0.6 and pit.mean() == pytest.approx(0.4, abs=0.05)


def test_samples_are_scored_like_the_law_they_come_from(exponential):
    cat, targets, exact = exponential
    rng = np.random.default_rng(1)
    n = len(targets.row)
    mark = rng.choice(3, (n, 500), p=[0.5, 0.3, 0.2])
    drawn = Samples(rng.exponential(0.5, (n, 500)), rng.normal(size=(n, 500, 2)), mark)
    sampled = scores.score_samples(cat, targets, drawn, rng)
    found = scores.score_exact(cat, targets, exact, rng)
    for name, tolerance in (("crps_time", 0.02), ("crps_log_time", 0.06), ("energy_location", 0.03), ("brier", 0.02)):
        assert sampled[name].mean() == pytest.approx(found[name].mean(), abs=tolerance), name
    assert np.abs(sampled["pit_time"] - found["pit_time"]).max() < 0.08
    assert "log_time" not in sampled  # no density is made up from samples


def test_the_store_and_the_metrics(tmp_path, exponential):
    cat, targets, exact = exponential
    found = scores.score_exact(cat, targets, exact, np.random.default_rng(0))
    del found["log_mark_given_tx"]
    val = cat.targets("val")
    other = {"log_time": np.zeros(len(val.row)), "log_survival": np.zeros(len(val.windows))}
    path = tmp_path / "scores.zarr"
    scores.write(path, ["a", "b"], {"val": [other, {}], "test": [found, {"brier": found["brier"]}]}, cat, {"x": 1})
    back = scores.read(path)
    assert back.members == ["a", "b"] and back.attrs["x"] == 1
    assert back.of("log_time", 0) == pytest.approx(found["log_time"], rel=1e-5)
    assert back.of("log_time", 0, "val").shape == (len(val.row),) and np.isnan(back.of("log_time", 1)).all()
    table = scores.metrics(back, 0)
    n = len(targets.row)
    assert table["log_likelihood_time"] == pytest.approx(
        (found["log_time"].sum() + found["log_survival"].sum()) / n, rel=1e-5
    )
    assert "log_likelihood" not in table  # a part is missing, so there is no joint
    assert table["log_score_mark"] == pytest.approx(-np.mean(found["log_mark_given_t"]), rel=1e-5)
    assert table["mae_time"] == pytest.approx(np.abs(np.log(2) / 2 - cat.dt[targets.row]).mean(), abs=0.01)
    assert table["mae_time_mean"] == pytest.approx(np.abs(0.5 - cat.dt[targets.row]).mean(), abs=0.01)
    assert set(scores.metrics(back, 1)) == {"brier"}
    with pytest.raises(DataError, match="no store of scores"):
        scores.read(tmp_path / "none.zarr")
