"""The law of the next event agrees, event by event, with the likelihoods that were scored."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.smash import etas_fit, exact_base, next_event
from pipeline.smash.etas import Etas
from pipeline.smash.events import Catalogue
from pipeline.smash.exact import Corrected
from pipeline.smash.settings import Exact


def shaken(module, size):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += size * torch.randn_like(parameter)
    return module


def bases(catalogue, reader):
    torch.manual_seed(1)
    scale = tuple(float(s) for s in reader.background.scale)
    given = dict(scale=scale, window=float(catalogue.window[0]), narrowest=0.05)
    found = [shaken(Etas(catalogue.marks, reader.background.components, **given), 0.2) for _ in range(2)]
    for base in found:
        base.excites = True
    return found


def model_of(catalogue, reader):
    return shaken(Corrected(*bases(catalogue, reader), reader.sizes, Exact(tilt=True)).eval(), 0.1)


@pytest.fixture(scope="module")
def cut(catalogue):
    """The catalogue, a test window, and the number of its event that is taken for the next one."""
    return catalogue, int(catalogue.sequences("test")[0]), 9


def grown(catalogue: Catalogue, sequence: int, count: int) -> Catalogue:
    """One more window: the first ``count`` events of a window, and a stand-in at the next one's time."""
    rows = catalogue.rows(sequence)
    past = slice(rows.start, rows.start + count)
    start = float(catalogue.start[sequence])
    now = start + float(catalogue.t[rows.start + count])
    return next_event.with_window(
        catalogue, start, start + catalogue.t[past], catalogue.mark[past], catalogue.xy[past], now
    )


def density(law, background, places, gap):
    r2 = (((places[:, None] - law.origin) * background.scale) ** 2).sum(-1)
    with torch.no_grad():
        found = law.mixture(gap).density(
            torch.as_tensor(r2, dtype=torch.float32),
            torch.as_tensor(background.features(places)),
            law.place.log_jacobian,
        )
    return found.numpy()


def test_etas_next_event_is_what_the_trace_scores(cut):
    catalogue, sequence, count = cut
    reader = exact_base.reader_of(catalogue)
    time, place = bases(catalogue, reader)
    fitted = etas_fit.Fitted(time, place, {"max_lag": None})
    more = grown(catalogue, sequence, count)
    features = np.zeros((len(more.t), *reader.features.shape[1:]), np.float32)
    background = reader.background
    events = etas_fit.Events.of(more, np.array([len(more.split) - 1]), features, background.scale)
    law = next_event.EtasLaw(fitted, events, more.xy[events.row.numpy()])
    whole = etas_fit.Events.of(catalogue, np.array([sequence]), reader.features, background.scale)
    scored = etas_fit.trace(fitted, whole)
    row = catalogue.rows(sequence).start + count
    gap = float(catalogue.dt[row])
    with torch.no_grad():
        left = float(law.survival(torch.tensor([gap])))
    assert left == pytest.approx(float(np.exp(-scored["compensator"][count])), rel=1e-5)
    found = density(law, background, catalogue.xy[row : row + 1], gap)[0]
    assert np.log(found.sum()) == pytest.approx(scored["log_place"][count], abs=1e-4)
    np.testing.assert_allclose(np.log(found / found.sum()), scored["log_mark_tx"][count], atol=1e-4)
    with torch.no_grad():
        np.testing.assert_allclose(law.mixture(gap).marks().log(), scored["log_mark_t"][count], atol=1e-4)


def test_the_networks_next_event_is_what_it_scores(cut):
    catalogue, sequence, count = cut
    reader = exact_base.reader_of(catalogue)
    model = model_of(catalogue, reader)
    whole = reader.windows(np.array([sequence]))
    row = catalogue.rows(sequence).start + count
    gap = float(catalogue.dt[row])
    with torch.no_grad():
        state = model.states(whole)
        _, since, _ = model.operational(whole.events, whole.before)
        left = model.time_law(state, whole.events.mark)[whole.before].log_survival(since)[count]
        expected = model.log_place(model.place_law(whole, state), whole)[count]
    more = grown(catalogue, sequence, count)
    features = reader.background.catalogue_features(more)
    own = exact_base.Reader(more, reader.background, features, exact_base.MAX_LAG)
    with torch.no_grad():
        law = next_event.ExactLaw(model, own, own.windows(np.array([len(more.split) - 1])))
        assert float(law.survival(torch.tensor([gap]))) == pytest.approx(float(left.exp()), rel=1e-4)
    found = density(law, reader.background, catalogue.xy[row : row + 1], gap)[0]
    np.testing.assert_allclose(np.log(found), expected, atol=1e-3)


def test_waiting_times_are_conditional_on_the_silence_so_far(cut):
    """A constant rate has no memory; a density over a wide grid holds all probability."""
    catalogue, sequence, count = cut
    reader = exact_base.reader_of(catalogue)
    base = exact_base.free(catalogue, reader.background, None)
    with torch.no_grad():  # laws that a grid of this width and fineness holds: wide, quick decay, the broad floor alone
        base.log_d += 2.0
        base.log_q += np.log(8.0)
        base.background_mix[:, -1] += 50.0
    more = grown(catalogue, sequence, count)
    features = np.zeros((len(more.t), *reader.features.shape[1:]), np.float32)
    events = etas_fit.Events.of(more, np.array([len(more.split) - 1]), features, reader.background.scale)
    law = next_event.EtasLaw(etas_fit.Fitted(base, base, {}), events, more.xy[events.row.numpy()])
    line = np.linspace(-40, 40, 81)
    places = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    rate = float(base.log_mu.detach().exp())
    for since in (0.0, 2.0):
        found = next_event.forecast(law, reader.background, places, since)
        np.testing.assert_allclose(found.wait, -np.log1p(-found.level) / rate, rtol=2e-3)
        assert found.marks.sum() == pytest.approx(1, abs=1e-5)
    assert found.density.sum() == pytest.approx(1, abs=0.02)


def test_the_stand_in_is_never_read(cut):
    catalogue, sequence, count = cut
    reader = exact_base.reader_of(catalogue)
    model = model_of(catalogue, reader)
    more = grown(catalogue, sequence, count)
    features = reader.background.catalogue_features(more)
    moved = replace(more, xy=more.xy.copy(), mark=more.mark.copy())
    moved.xy[-1] += 50.0
    moved.mark[-1] = 2
    found = []
    for one in (more, moved):
        own = exact_base.Reader(one, reader.background, features, exact_base.MAX_LAG)
        with torch.no_grad():
            law = next_event.ExactLaw(model, own, own.windows(np.array([len(one.split) - 1])))
            mixture = law.mixture(0.3)
            found.append((law.survival(torch.tensor([0.5])), mixture.share, mixture.d2, mixture.mark, mixture.quiet))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
