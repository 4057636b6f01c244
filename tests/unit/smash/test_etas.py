"""ETAS against loops written out, quadrature and its own simulator."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from pipeline.core.errors import DataError
from pipeline.smash import etas_fit, simulate
from pipeline.smash.etas import PARTS, Etas
from pipeline.smash.etas_fit import Events
from pipeline.smash.etas_predict import Forecaster
from pipeline.smash.kde import Background


def reference(name):
    path = Path(__file__).parents[2] / "reference" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


plain = reference("smash_etas_plain")


def random_etas(marks=3, components=10, seed=0, **given):
    """Every parameter moved off its start."""
    torch.manual_seed(seed)
    etas = Etas(marks, components, window=10.0, **given)
    with torch.no_grad():
        for p in etas.parameters():
            p += 0.4 * torch.randn_like(p)
    return etas.double()


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("log_p", [0.0, 0.25, -0.2])
def test_integrals_are_those_of_the_rates(part, log_p):
    etas = random_etas(parts=(part,))
    if part == "fast":
        etas.log_p.data.fill_(log_p)  # p = 1 is where the formula has 0 / 0
    t0, t1, parent, mark = 1.2, 7.5, 0.7, torch.tensor(1)
    tensor = lambda x: torch.tensor(x, dtype=torch.float64)  # noqa: E731
    found = etas.trigger_integral(tensor(t0), tensor(t1), tensor(parent), mark)
    expected, _ = quad(lambda t: float(etas.trigger(tensor(t), tensor(parent), mark).sum().detach()), t0, t1)
    assert float(found.sum()) == pytest.approx(expected, rel=1e-6)
    background, _ = quad(lambda t: float(etas.background_rate(tensor(t)).detach()), t0, t1)
    assert float(etas.background_integral(tensor(t0), tensor(t1))) == pytest.approx(background, rel=1e-6)


def test_the_gradient_is_finite_at_p_equal_one():
    etas = random_etas(parts=("fast",))
    etas.log_p.data.fill_(0.0)
    one = torch.ones(1, dtype=torch.float64)
    etas.trigger_integral(one, 3 * one, 0.5 * one, torch.zeros(1, dtype=torch.int64)).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in etas.parameters() if p.grad is not None)


def test_places_have_mass_one_in_the_plane_and_on_a_lattice():
    etas = random_etas(scale=(0.5, 1.0))
    mark = torch.tensor(2)
    for r in range(3):
        density = lambda s: float(etas.log_space(torch.tensor(s * s), mark)[r].exp().detach()) / 0.5  # noqa: E731,B023
        mass, _ = quad(lambda s: 2 * np.pi * s * density(s), 0, 2000, limit=400)  # noqa: B023
        assert mass == pytest.approx(1.0, abs=0.03)  # heavy tails lie beyond
    etas = random_etas(lattice=(11, 7, 1.0))
    x, y = np.meshgrid(np.arange(-10, 11), np.arange(-6, 7))
    r2 = torch.as_tensor((x**2 + y**2).ravel(), dtype=torch.float64)
    assert etas.log_space(r2, mark.expand(r2.shape)).exp().sum(dim=0).detach().numpy() == pytest.approx(np.ones(3))


def parameters(etas):
    """As plain data for the loops."""
    found = {name: p.detach().numpy().tolist() for name, p in etas.named_parameters()}
    for name in ("log_a", "log_d", "log_q", "mark_logits"):
        found[name] = dict(zip(etas.parts, found[name], strict=True))
    return found


@pytest.fixture(scope="module")
def small(make):
    cat = make(sequences=(3, 2, 2), rate=0.8)
    back = Background.fit(cat, recencies=(np.inf, 0.2), count=3)
    return cat, back, back.catalogue_features(cat)


def events_of(small, split, **kind):
    cat, back, features = small
    return Events.of(cat, cat.sequences(split), features, back.scale, dtype=torch.float64, **kind)


def test_the_likelihood_is_that_of_the_loops(small):
    cat, _, features = small
    etas, events = random_etas(), events_of(small, "test")
    found = etas_fit.trace(etas_fit.Fitted(etas, etas, {}), events)
    scored, place = events.scored.numpy(), 0
    p = parameters(etas)
    for number, sequence in enumerate(cat.sequences("test")):
        rows = cat.rows(sequence)
        each, survival = plain.window(
            p, cat.t[rows], cat.labels[rows], cat.xy[rows], features[rows].astype(float), cat.window[sequence]
        )
        assert -found["tail"][number] == pytest.approx(survival, abs=1e-4)
        for i, one in enumerate(each, start=place + 1):
            assert scored[i]
            assert np.log(found["rate"][i]) - found["compensator"][i] == pytest.approx(one["time"], abs=1e-4)
            assert found["log_place"][i] == pytest.approx(one["place"], abs=1e-6)
            assert found["log_mark_tx"][i, events.mark[i]] == pytest.approx(one["mark"], abs=1e-6)
        place += rows.stop - rows.start
    total = etas_fit.log_likelihood(etas, events, torch.ones(2, dtype=torch.float64), ("time",))
    parts = (np.log(found["rate"]) - found["compensator"])[scored].sum() - found["tail"].sum()
    assert float(total.detach()) == pytest.approx(parts, abs=1e-6)


def test_marks_given_time_are_the_marks_without_the_place(small):
    etas, events = random_etas(), events_of(small, "test")
    found = etas_fit.trace(etas_fit.Fitted(etas, etas, {}), events)
    for name in ("log_mark_t", "log_mark_tx"):
        assert np.exp(found[name]).sum(axis=1) == pytest.approx(np.ones(len(events.t)))


def test_an_editing_of_later_events_changes_nothing_before(small):
    from dataclasses import replace

    cat, back, features = small
    etas = random_etas()
    rows = cat.rows(cat.sequences("test")[0])
    late = np.arange(len(cat.t)) >= rows.start + 4
    late &= np.arange(len(cat.t)) < rows.stop
    other = replace(cat, xy=np.where(late[:, None], -50.0, cat.xy), mark=np.where(late, 2, cat.mark))
    found = [
        etas_fit.trace(
            etas_fit.Fitted(etas, etas, {}),
            Events.of(one, one.sequences("test")[:1], features, back.scale, dtype=torch.float64),
        )
        for one in (cat, other)
    ]
    for name in ("rate", "compensator", "log_place", "log_mark_t"):
        assert np.array_equal(found[0][name][:4], found[1][name][:4])


def test_dropped_parents_stop_adding_to_the_rate(small):
    """With max_lag = 1 only the last event counts, in the rate, the compensator and the likelihood alike."""
    etas, events = random_etas(), events_of(small, "test", max_lag=1)
    found = etas_fit.trace(etas_fit.Fitted(etas, etas, {}), events)
    assert (events.target - events.parent == 1).all()
    scored = events.scored.numpy()
    total = etas_fit.log_likelihood(etas, events, torch.ones(2, dtype=torch.float64), ("time",))
    parts = (np.log(found["rate"]) - found["compensator"])[scored].sum() - found["tail"].sum()
    assert float(total.detach()) == pytest.approx(parts, abs=1e-6)


def test_plain_data_make_the_same_model(tmp_path):
    etas = random_etas(lattice=(5, 5, 1.0)).float()
    fitted = etas_fit.Fitted(etas, etas, {"max_lag": 7})
    fitted.save(tmp_path / "etas.json")
    back = etas_fit.load(tmp_path / "etas.json")
    assert back.attrs == {"max_lag": 7} and back.time.given["lattice"] == (5, 5, 1.0)
    for (name, a), (_, b) in zip(etas.named_parameters(), back.place.named_parameters(), strict=True):
        assert torch.allclose(a, b), name
    (tmp_path / "etas.json").write_text('{"time": {}}')
    with pytest.raises(DataError, match="no fitted ETAS"):
        etas_fit.load(tmp_path / "etas.json")


TRUTH = simulate.Truth(windows=150)


def true_etas():
    """The simulator's parameters in the model's own terms."""
    etas = Etas(3, 1, ("fast",), window=30.0, falling=False)
    values = {
        "log_mu": np.log(TRUTH.mu),
        "log_a": np.log(TRUTH.scaled)[None],
        "log_c": np.log(TRUTH.c),
        "log_p": np.log(TRUTH.p),
        "log_d": np.log(TRUTH.d)[None],
        "log_q": [np.log(TRUTH.q - 1)],
        "mark_logits": np.log(TRUTH.child_marks)[None],
        "background_mark": np.log(TRUTH.marks),
    }
    with torch.no_grad():
        for name, value in values.items():
            getattr(etas, name).copy_(torch.as_tensor(np.asarray(value), dtype=torch.float32))
    return etas


@pytest.fixture(scope="module")
def simulated():
    return simulate.catalogue(TRUTH, seed=1)


def test_the_truths_own_likelihood_is_that_of_the_model_with_its_parameters(simulated):
    cat = simulated
    features = np.log(TRUTH.background_density(cat.xy))[:, None, None].repeat(3, axis=2)
    events = Events.of(cat, cat.sequences("test"), features, np.ones(2), dtype=torch.float64)
    found = etas_fit.trace(etas_fit.Fitted(true_etas().double(), true_etas().double(), {}), events)
    truth = simulate.true_log_likelihood(TRUTH, cat, "test")
    scored = events.scored.numpy()
    assert (np.log(found["rate"]) - found["compensator"])[scored] == pytest.approx(truth["log_time"], abs=1e-5)
    assert found["log_place"][scored] == pytest.approx(truth["log_location"], abs=1e-5)
    assert -found["tail"] == pytest.approx(truth["log_survival"], abs=1e-5)
    own = found["log_mark_tx"][np.arange(len(scored)), events.mark.numpy()][scored]
    assert own == pytest.approx(truth["log_mark_given_tx"], abs=1e-5)


def test_a_fit_recovers_the_simulators_parameters(simulated):
    cat = simulated
    features = np.log(TRUTH.background_density(cat.xy))[:, None, None].repeat(3, axis=2)
    fitted = etas_fit.estimate(cat, features, np.ones(2), (None,), ("fast",), falling=False, max_lag=None)
    own = dict(true_etas().named_parameters())
    for name in ("log_mu", "log_a", "log_c", "log_p", "log_d", "log_q"):
        found = fitted.attrs["parameters"][name]
        z = (np.array(found["estimate"]) - own[name].detach().numpy()) / np.array(found["error"])
        assert np.abs(z).max() < 3, (name, z)  # of ten parameters
        assert (np.array(found["error"]) > 0).all()
    truth = simulate.true_log_likelihood(TRUTH, cat, "test")
    n = len(truth["log_time"])
    scores = etas_fit.scores(fitted.time, Events.of(cat, cat.sequences("test"), features, np.ones(2)))
    best = sum(part.sum() for part in truth.values()) / n
    assert scores["time"] + scores["place"] == pytest.approx(best, abs=0.02)  # the bar of the scenario


def test_an_estimated_background_costs_less_than_the_scenarios_bar():
    """300 windows, as the scenario has them: at most .02 nats an event below the truth, and not above it."""
    truth = simulate.Truth()
    cat = simulate.catalogue(truth, seed=0)
    back = Background.fit(cat)
    features = back.catalogue_features(cat)
    fitted = etas_fit.estimate(cat, features, back.scale, (None,), ("fast",), falling=False, max_lag=None, errors=False)
    own = simulate.true_log_likelihood(truth, cat, "test")
    best = sum(part.sum() for part in own.values()) / len(own["log_time"])
    found = etas_fit.scores(fitted.time, Events.of(cat, cat.sequences("test"), features, back.scale))
    assert -0.02 < found["time"] + found["place"] - best < 0.005


def test_forward_simulation_has_the_number_of_events_of_the_branching_process(simulated):
    """Mean number over a window by the renewal equation of the mean, solved on a grid of generations."""
    cat = simulated
    etas, back = true_etas(), Background.fit(cat)
    back.widths, back.recencies = back.widths[:0], ()  # one component: the broad floor
    rng = np.random.default_rng(0)
    none = (np.zeros(0), np.zeros(0, int), np.zeros((0, 2)))
    number, t, mark, _ = simulate.forward(etas, back, none, 0.0, 30.0, 4000, rng)
    sizes = np.bincount(number, minlength=4000)
    steps = 600
    matrix = np.array(TRUTH.productivity)[:, None] * np.array(TRUTH.child_marks)  # mean children by mark
    rate = TRUTH.mu * np.array(TRUTH.marks)[None].repeat(steps, axis=0)  # [time, mark]
    edge = np.arange(steps + 1) * 30 / steps
    share = 1 - (1 + edge / TRUTH.c) ** (1 - TRUTH.p)  # of the children that come within this time
    kernel = np.diff(share)
    total = rate.copy()
    for _ in range(30):
        heard = np.stack([np.convolve(total[:, k], kernel)[:steps] for k in range(3)], axis=1)
        total = rate + heard @ matrix
    expected = total.sum() * 30 / steps
    assert sizes.mean() == pytest.approx(expected, rel=0.03)
    assert sizes.var() > 1.5 * sizes.mean()  # clusters: far from Poisson
    assert np.bincount(mark, minlength=3) / len(mark) == pytest.approx(total.sum(axis=0) / total.sum(), abs=0.01)
    assert (np.diff(number) >= 0).all() and ((t >= 0) & (t <= 30)).all()


def test_an_explosive_process_is_an_error(simulated):
    etas, back = true_etas(), Background.fit(simulated)
    etas.log_a.data += 3.0
    none = (np.zeros(0), np.zeros(0, int), np.zeros((0, 2)))
    back.widths, back.recencies = back.widths[:0], ()
    with pytest.raises(DataError, match="explodes"):
        simulate.forward(etas, back, none, 0.0, 30.0, 100, np.random.default_rng(0), limit=20000)


@pytest.fixture(scope="module")
def forecaster(small):
    cat, back, features = small
    etas = random_etas().float()
    return cat, Forecaster(etas_fit.Fitted(etas, etas, {"max_lag": None}), back, features)


def test_quantiles_are_those_of_the_cdf(forecaster):
    cat, made = forecaster
    targets = cat.targets("test")
    exact = made.exact(cat, targets, np.random.default_rng(0), samples=50)
    dt = cat.dt[targets.row]
    level = (np.arange(200) + 0.5) / 200
    for i in range(0, len(dt), 5):  # the CDF at the truth, read off the quantiles
        found = np.interp(dt[i], exact.quantiles_time[i], level)
        assert found == pytest.approx(exact.cdf_time[i], abs=0.01)


def test_draws_of_places_follow_the_density(forecaster):
    """E[f'(X) / f(X)] over draws of X is the mass of f', for a narrow Gaussian f' = 1: a check of both together."""
    cat, made = forecaster
    targets = cat.targets("test")
    events = made.events(cat, targets.windows)
    rng = np.random.default_rng(0)
    rows = np.flatnonzero(events.scored.numpy())[:6]
    with torch.no_grad():
        drawn = made._places(cat, events, events.t.double().numpy()[events.scored.numpy()], 4000, rng)[:6]
        dense = made.density(cat, events, rows, drawn)
    centre = np.median(drawn, axis=1, keepdims=True)
    width = 1.5
    own = -0.5 * ((drawn - centre) ** 2).sum(-1) / width**2 - np.log(2 * np.pi * width**2)
    assert np.exp(own - dense).mean(axis=1) == pytest.approx(np.ones(6), abs=0.15)


def test_a_floor_bounds_the_density_of_places_that_come_back():
    etas = random_etas(narrowest=0.5)
    etas.log_d.data.fill_(-20.0)
    assert etas.scales().detach().numpy() == pytest.approx(np.full((3, 3), 0.5))
    etas.log_q.data.fill_(9.0)  # a steep law is a narrow one: held, too
    q = 1 + etas.decays().detach().numpy()
    assert (q == 2).all()
    found = etas.log_space(torch.tensor(0.0, dtype=torch.float64), torch.tensor(1)).exp().detach().numpy()
    assert found == pytest.approx((q - 1) / np.pi / 0.25)
    assert Etas.from_dict(etas.to_dict()).narrowest == 0.5
