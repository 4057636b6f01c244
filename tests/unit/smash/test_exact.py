"""The exact-likelihood model: it starts at ETAS, its densities integrate to one, and it reads no later event."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.smash import calibration, etas_fit, exact_base, exact_fit, exact_forecast, regions
from pipeline.smash.etas import Etas
from pipeline.smash.etas_predict import Forecaster
from pipeline.smash.events import finished
from pipeline.smash.exact import Corrected, objective
from pipeline.smash.settings import Exact
from pipeline.smash.ties import Ties
from pipeline.smash.waiting import TimeLaw


@pytest.fixture(scope="module")
def reader(catalogue):
    return exact_base.reader_of(catalogue)


def bases(catalogue, reader, narrowest=0.0):
    torch.manual_seed(1)
    found = []
    for _ in range(2):
        etas = Etas(
            catalogue.marks,
            reader.background.components,
            scale=tuple(float(s) for s in reader.background.scale),
            window=float(catalogue.window[0]),
            lattice=exact_base.lattice_of(reader.background),
            narrowest=narrowest,
        )
        with torch.no_grad():
            for parameter in etas.parameters():
                parameter += 0.2 * torch.randn_like(parameter)
        etas.excites = True
        found.append(etas)
    return found


def model_of(catalogue, reader, moved=False, waiting=None, **settings):
    ties, area = Ties.fit(catalogue), (catalogue.meta["lattice"]["place"] or 0.0) ** 2
    given = Exact(tilt=True, **settings)
    model = Corrected(*bases(catalogue, reader), reader.sizes, given, ties, area, waiting).eval()
    if moved:
        torch.manual_seed(2)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    return model


def test_it_starts_exactly_at_the_fitted_etas(catalogue, reader):
    model = model_of(catalogue, reader)
    windows = reader.windows(catalogue.sequences("val"))
    one = torch.ones(len(windows.events.end))
    with torch.no_grad():
        time, place, survival = model.log_likelihood(windows)
        scored = windows.scored
        assert float(time[scored].sum() + survival.sum()) == pytest.approx(
            float(etas_fit.log_likelihood(model.time, windows.events, one, ("time",))), rel=1e-5, abs=1e-3
        )
        label = windows.events.mark[:, None]
        assert float(place.gather(1, label)[scored].sum()) == pytest.approx(
            float(etas_fit.log_likelihood(model.place, windows.events, one, ("place",))), rel=1e-5, abs=1e-3
        )


def test_it_starts_at_etas_also_where_the_floor_of_the_places_binds(catalogue, reader):
    """Scales far below the floor and a decay above its bound: both are the base's own, event by event."""
    floor = 0.05
    found = bases(catalogue, reader, floor)
    with torch.no_grad():
        for etas in found:
            etas.log_d -= 5.0
            etas.log_q += 2.0
    model = Corrected(*found, reader.sizes, Exact(tilt=True)).eval()
    windows = reader.windows(catalogue.sequences("val"))
    events = windows.events
    with torch.no_grad():
        assert float(found[1].scales().min()) < 1.01 * floor and float(found[1].decays().max()) == 1.0
        _, place, _ = model.log_likelihood(windows)
        rate, share = etas_fit.rates(found[1], events)
        expected = etas_fit.places(found[1], events, rate, share)
        scored = windows.scored
        torch.testing.assert_close(place[scored], expected[scored], rtol=1e-6, atol=1e-6)
        # the network cannot undo the floor: the density at a distance of zero stays below that of the narrowest law
        zero, mark = torch.zeros(2), torch.tensor([0, 1])
        narrow = model.log_space(zero, mark, torch.full((2, 3), -4.0))
        bound = np.log(found[1].decays().numpy() / np.pi / floor**2) + float(found[1].log_jacobian)
        assert (narrow.numpy() <= bound + 1e-5).all()


def test_it_starts_at_what_etas_says_of_ties_and_of_waiting_times(make):
    """Event by event: probability, place and mark of ties on a lattice of places, and a fitted law of waiting times."""
    catalogue = make(ties=0.3, lattice={"time": None, "place": 1.0})
    catalogue.xy[:] = np.clip(np.rint(catalogue.xy), -9, 9)
    tied = np.flatnonzero(catalogue.dt == 0)
    catalogue.xy[tied[::2]] = catalogue.xy[tied[::2] - 1]
    catalogue = finished(catalogue)
    reader = exact_base.reader_of(catalogue)
    waiting = [[0.3, -0.2, 0.1], [0.5, 0.0, -0.4], [0.2, -0.3, 0.6]]
    model = model_of(catalogue, reader, waiting=waiting, components=4)
    fitted = etas_fit.Fitted(model.time, model.place, {"max_lag": exact_base.MAX_LAG, "waiting": waiting})
    targets = catalogue.targets("test")
    with torch.no_grad():
        etas = Forecaster(fitted, reader.background, reader.features).exact(
            catalogue, targets, np.random.default_rng(0), full=False
        )
    found = exact_forecast.forecast(model, reader, targets.windows, 200, 4, np.random.default_rng(0))
    exact = exact_forecast.as_exact(found, catalogue, targets, 50)
    for name in ("log_time", "cdf_time", "cdf_time_left", "log_location", "mark_given_tx", "mark_given_t"):
        np.testing.assert_allclose(getattr(exact, name), getattr(etas, name), atol=2e-4, err_msg=name)
    np.testing.assert_allclose(exact.log_survival, etas.log_survival, atol=1e-4)
    at = catalogue.dt[targets.row] == 0
    stay = (found.places[at] == catalogue.xy[targets.row[at] - 1][:, None]).all(axis=2).mean()
    assert Ties.fit(catalogue).same < stay < Ties.fit(catalogue).same + 0.25  # others fall there by chance


def test_densities_at_chosen_places_are_those_of_the_likelihood(catalogue, reader):
    """At the true places; and the truth's rank among draws of the density itself is uniform."""
    model = model_of(catalogue, reader, moved=True)
    windows = reader.windows(catalogue.sequences("test"))
    with torch.no_grad():
        law = model.place_law(windows, model.states(windows))
        events = np.flatnonzero(windows.scored.numpy())
        expected = torch.logsumexp(model.log_place(law, windows), dim=1).numpy()[events]
        where = catalogue.xy[windows.events.row.numpy()[events]][:, None]
        found = exact_forecast.density(model, reader, windows, law, events, where)
        np.testing.assert_allclose(found[:, 0], expected, atol=1e-4)
        drawn = exact_forecast.draw_places(model, reader, windows, law, 41, np.random.default_rng(0))[events]
        dense = exact_forecast.density(model, reader, windows, law, events, drawn)
    level = regions.content(dense[:, 1:], dense[:, 0], np.random.default_rng(0))
    assert calibration.kolmogorov(level) < 1.6 / np.sqrt(len(level))


def test_what_is_read_of_an_event_does_not_depend_on_later_windows(catalogue, reader):
    moved = reader.features.copy()
    late = catalogue.split[catalogue.sequence] > 0
    moved[late] += 3.0
    other = exact_base.Reader(catalogue, reader.background, moved, exact_base.MAX_LAG)
    np.testing.assert_array_equal(other.node[~late], reader.node[~late])


def test_drawn_places_keep_to_the_floor_and_the_bounded_decay(catalogue, reader):
    """Half of the children of a law with q - 1 = 1 lie beyond d: the median distance of draws is the floor."""
    floor = 0.5
    found = bases(catalogue, reader, floor)
    with torch.no_grad():
        for etas in found:
            etas.log_d -= 8.0
            etas.log_q += 5.0
            etas.log_mu -= 30.0
            etas.log_mu_falling -= 30.0
    model = Corrected(*found, reader.sizes, Exact(tilt=True)).eval()
    windows = reader.windows(catalogue.sequences("val")[:1])
    with torch.no_grad():
        law = model.place_law(windows, model.states(windows))
        drawn = exact_forecast.draw_places(model, reader, windows, law, 4000, np.random.default_rng(0))
    centre = catalogue.xy[windows.events.row[0]]  # the only parent of the window's second event
    away = np.hypot(*((drawn[1] - centre) * reader.background.scale).T)
    assert np.median(away) == pytest.approx(floor, rel=0.06)


@pytest.mark.parametrize("tie", [None, -1.0])
def test_the_waiting_times_law_is_a_law(tie):
    """The density's integral and the atom are what the survival says is gone; at shape and scale one: exponential."""
    law = TimeLaw(
        torch.log(torch.tensor([[0.3, 0.7]], dtype=torch.float64)),
        torch.tensor([[0.8, 1.7]], dtype=torch.float64),
        torch.tensor([[0.2, -0.4]], dtype=torch.float64),
        None if tie is None else torch.tensor([tie], dtype=torch.float64),
    )
    z = torch.linspace(1e-6, 3, 200_001, dtype=torch.float64)
    density = law.columns().log_density(z[None], torch.zeros(1, len(z), dtype=torch.bool)).exp()[0]
    gone = float(torch.trapezoid(density, z)) + (0 if tie is None else 1 / (1 + np.exp(1.0)))
    assert float(1 - law.log_survival(z[-1:]).exp()) == pytest.approx(gone, abs=2e-4)
    unit = TimeLaw(torch.zeros(1, 1), torch.ones(1, 1), torch.zeros(1, 1))
    assert float(unit.log_survival(torch.tensor([0.7]))) == pytest.approx(-0.7)
    assert float(unit.log_density(torch.tensor([0.7]))) == pytest.approx(-0.7)


def test_places_and_marks_sum_to_one(catalogue, reader):
    """Integral over places of the density of an event whose four parents are at one place, all marks together."""
    sequence = catalogue.sequences("val")[:1]
    first = int(catalogue.offsets[sequence[0]])
    alike = replace(catalogue, xy=catalogue.xy.copy())
    alike.xy[first : first + 4] = centre = catalogue.xy[first]
    reader = exact_base.Reader(alike, reader.background, reader.features, exact_base.MAX_LAG)
    model = model_of(catalogue, reader, moved=True)
    # Fine near the parents, out to where the power law's tail is nothing.
    side = np.sinh(np.linspace(-10, 10, 161)) / 10
    weight = np.gradient(side)
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    with torch.no_grad():
        windows = reader.windows(sequence)
        law = model.place_law(windows, model.states(windows))
        marks = model.log_mark(law, windows.events).exp().sum(1)
        torch.testing.assert_close(marks, torch.ones_like(marks))
        pairs = windows.events.target == 4
        kinds, widen = windows.events.mark[windows.events.parent[pairs]], law.widen[pairs]
        r2 = torch.as_tensor(((grid * reader.background.scale) ** 2).sum(1), dtype=torch.float32)
        dense = sum(
            law.share[pairs][i] @ model.log_space(r2, kinds[i].expand(len(r2)), widen[i].expand(len(r2), -1)).exp().T
            for i in range(4)
        )
        features = torch.as_tensor(reader.background.features(grid + centre))
        quiet = (law.background_mark[4] + torch.logsumexp(features + law.mix[4], dim=1)).exp().sum(1)
        density = ((dense + law.background[4] * quiet) / law.total[4]).double().numpy().reshape(161, 161)
    assert (density * weight[:, None] * weight).sum() == pytest.approx(1, abs=0.02)


def test_editing_later_events_changes_nothing_earlier(catalogue, reader):
    model = model_of(catalogue, reader, moved=True)
    sequence = catalogue.sequences("val")[:1]
    part = catalogue.rows(int(sequence[0]))
    later = np.arange(part.start + 6, part.stop)
    edited = replace(catalogue, xy=catalogue.xy.copy(), mark=catalogue.mark.copy())
    edited.xy[later] += 0.5
    edited.mark[later] = 0
    other = exact_base.Reader(edited, reader.background, reader.features, exact_base.MAX_LAG)
    with torch.no_grad():
        before, after = (model.log_likelihood(r.windows(sequence)) for r in (reader, other))
    for a, b in zip(before[:2], after[:2], strict=True):
        torch.testing.assert_close(a[1:6], b[1:6], atol=1e-5, rtol=1e-5)


def test_windows_are_the_same_alone_and_together(catalogue, reader):
    model = model_of(catalogue, reader, moved=True)
    every = catalogue.sequences("train")[:4]
    with torch.no_grad():
        together = objective(model, reader.windows(every))
        alone = [objective(model, reader.windows(every[i : i + 1])) for i in range(4)]
    torch.testing.assert_close(together[0], sum(loss for loss, _ in alone), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(together[1], sum(count for _, count in alone))


def test_gradients_are_finite_also_for_ties_and_events_at_one_place(make):
    catalogue = make(ties=0.3)
    catalogue.xy[catalogue.offsets[0] : catalogue.offsets[0] + 3] = 0.0
    reader = exact_base.reader_of(catalogue)
    model = model_of(catalogue, reader, moved=True)
    loss, count = objective(model, reader.windows(catalogue.sequences("train")))
    loss.sum().backward()
    assert torch.isfinite(loss).all() and float(count[0]) == len(catalogue.targets("train").row)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_forecasts_agree_with_the_likelihood_and_their_own_tables(catalogue, reader):
    model = model_of(catalogue, reader, moved=True)
    targets = catalogue.targets("test")
    found = exact_forecast.forecast(model, reader, targets.windows, 400, 4, np.random.default_rng(0))
    assert (found.row == targets.row).all()
    at = np.array(
        [np.interp(catalogue.dt[r], g, c) for r, g, c in zip(found.row, found.table, found.cdf_table, strict=True)]
    )
    np.testing.assert_allclose(at, found.cdf_time, atol=0.02)
    scored = exact_forecast.as_exact(found, catalogue, targets, 50)
    np.testing.assert_allclose(scored.mark_given_tx.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(scored.mark_given_t.sum(1), 1, atol=1e-5)
    assert (np.diff(scored.quantiles_time, axis=1) >= 0).all()
    with torch.no_grad():
        windows = reader.windows(targets.windows)
        time, place, survival = model.log_likelihood(windows)
    label = catalogue.mark[targets.row]
    found_at = place.gather(1, windows.events.mark[:, None])[:, 0]
    total = float((time + found_at)[windows.scored].sum() + survival.sum())
    mine = found.log_time.sum() + found.log_place[np.arange(len(label)), label].sum() + found.log_survival.sum()
    assert mine == pytest.approx(total, rel=1e-4)


def test_an_average_of_equal_models_is_the_model(catalogue, reader):
    model = model_of(catalogue, reader, moved=True)
    windows = catalogue.sequences("test")[:2]
    one = exact_forecast.forecast(model, reader, windows, 5, 2, np.random.default_rng(0))
    both = exact_forecast.average([one, one])
    for name in ("log_time", "log_place", "log_survival", "cdf_table"):
        np.testing.assert_allclose(getattr(both, name), getattr(one, name), atol=1e-6)
    assert both.places.shape[1] == 2 * one.places.shape[1]


class Log:
    def progress(self, total, what, initial=0):
        return self

    def update(self, step):
        pass

    def history(self, step, total=None, **metrics):
        pass

    def info(self, text):
        pass


@pytest.mark.parametrize("base", ["etas", "free"])
def test_training_never_ends_below_its_start_on_validation(catalogue, reader, base):
    settings = Exact(base=base, epochs=2, validate_every=1)
    torch.manual_seed(0)
    if base == "etas":
        model = model_of(catalogue, reader)
    else:
        model, _ = exact_base.build(catalogue, None, settings, reader)
    held_out = [reader.windows(catalogue.sequences("val"))]
    start = exact_fit.score(model, held_out)
    found = exact_fit.fit(model, reader, settings, 0, Log())
    model.load_state_dict(found.state)
    assert exact_fit.score(model, held_out) == pytest.approx(found.validation_loss, abs=1e-4)
    assert found.validation_loss >= start


def test_a_free_base_starts_at_the_frequencies_of_the_marks(catalogue, reader):
    model, _ = exact_base.build(catalogue, None, Exact(base="free", memory_mark=None), reader)
    windows = reader.windows(catalogue.sequences("val"))
    with torch.no_grad():
        found = model.eval().log_mark(model.place_law(windows, model.states(windows)), windows.events).exp()
    train = catalogue.labels[catalogue.events(catalogue.sequences("train"))]
    share = (np.bincount(train, minlength=3) + 0.5) / (len(train) + 1.5)
    np.testing.assert_allclose(found.numpy(), np.tile(share, (len(found), 1)), atol=1e-5)
