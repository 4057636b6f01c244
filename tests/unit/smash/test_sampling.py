"""Samplers: exact draws from a table, the ODE, Langevin chains, and the samples on disk."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import DataError
from pipeline.smash import langevin, ode, samples, weights
from pipeline.smash.batches import Frames
from pipeline.smash.bench import plain_module
from pipeline.smash.corrected import Corrected, MultiNoise, Standard
from pipeline.smash.corrected import Corrected as Network
from pipeline.smash.denoise import Smash
from pipeline.smash.settings import Corrected as CorrectedSettings
from pipeline.smash.settings import Denoise, Sampler, Train

plain = plain_module()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_draws_from_the_table_follow_the_law_that_the_intensity_defines():
    """Unit exponential: intensity one. Levels of the draws are the uniform numbers themselves."""
    grid = torch.linspace(0, 12, 4000, dtype=torch.float64)
    u = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)[None]
    t = ode.draw_from_table(torch.ones(1, 4000, dtype=torch.float64), grid, u)
    torch.testing.assert_close(1 - torch.exp(-t), u, atol=2e-5, rtol=0)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 5.0))
def test_all_intensities_with_the_same_score_give_the_same_draws(extra):
    """lambda = p / (c - F) has the same score for every c > 1; the normal law, tabulated."""
    grid = torch.linspace(-5, 5, 3000, dtype=torch.float64)
    density = torch.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi)
    below = torch.special.ndtr(grid)
    u = torch.linspace(0.02, 0.98, 49, dtype=torch.float64)[None]
    t = ode.draw_from_table((density / (1 + extra - below))[None], grid, u)
    torch.testing.assert_close(t, torch.special.ndtri(u), atol=3e-3, rtol=0)


def test_the_ode_carries_noise_to_the_law_of_the_clean_data():
    """Clean data N(2, 0.5^2): the denoiser is known, and the flow's end is an affine image of its start."""
    mean, variance = 2.0, 0.25
    denoised = lambda x, s: (variance * x + s**2 * mean) / (variance + s**2)  # noqa: E731
    levels = ode.schedule(0.01, 20.0, 60)
    start = levels[0] * torch.tensor([-1.0, 0.0, 1.0])
    end = ode.heun(denoised, start, levels)
    spread = np.sqrt(variance / (variance + 400))  # x - mean shrinks by this along the exact flow
    torch.testing.assert_close(end, mean + (start - mean) * spread, atol=2e-3, rtol=0)


def test_the_schedule_falls_from_most_to_least_to_zero():
    levels = ode.schedule(0.02, 3.0, 24)
    assert levels[0] == pytest.approx(3.0) and levels[-2] == pytest.approx(0.02, rel=1e-4) and levels[-1] == 0
    assert (levels.diff() < 0).all()


class Gaussian:
    """Scores of independent normals with these standard deviations; one mark."""

    marks, n, dtype = 1, 1, torch.float32

    def __init__(self, sd):
        self.sd = sd

    def temporal(self, t):
        return t.unsqueeze(-1), None

    def intensity(self, h, dh):
        """A rate of about nothing whose log has the slope -t / sd^2, so that the score is that of the normal law."""
        rate = torch.full_like(h, 1e-6)
        return rate, -h / self.sd[0] ** 2 * (rate + 1e-10)

    def place_score(self, h, place):
        return -place / self.sd[1] ** 2


def drawn(sd, settings, sigma):
    return langevin.sample(None, None, settings, sigma, seeded(), field=lambda net, cond: Gaussian(sd))[0][0]


def test_chains_reach_the_law_whose_score_they_follow():
    settings = Sampler(steps=300, samples=2000, step_size=0.004, step_scale="sigma", denoise="none")
    x = drawn((0.2, 0.1), settings, (0.2, 0.1))
    # Euler's step inflates the variance by 1 / (1 - e / (4 sd^2)): 1.026 here for all coordinates.
    np.testing.assert_allclose(x.std(0), np.array([0.2, 0.1, 0.1]) * 1.013, rtol=0.06)


def test_steps_in_proportion_to_the_noise_are_stable_where_one_size_is_not():
    """Crime's published step .01 is 11 times the place's noise variance .03^2: the chain runs into the clamp."""
    spread = {}
    for scale in ("one", "sigma"):
        settings = Sampler(steps=200, samples=300, step_size=0.01, step_scale=scale, denoise="none")
        spread[scale] = float(drawn((0.3, 0.03), settings, (0.3, 0.03))[:, 1].std())
    assert spread["sigma"] == pytest.approx(0.03, rel=0.15)
    assert spread["one"] > 0.9


def test_tweedies_formula_contracts_and_the_published_sampler_leaves_the_place_noisy():
    sd = 0.3
    common = dict(steps=200, samples=3000, step_size=0.005)
    found = {}
    for denoise in ("none", "all", "upstream"):
        settings = Sampler(denoise=denoise, step_scale="one", **common)
        found[denoise] = drawn((sd, sd), settings, (0.2, 0.2)).std(0).numpy()
    keep = 1 - 0.2**2 / sd**2
    np.testing.assert_allclose(found["all"], keep * found["none"], rtol=0.05)
    assert found["upstream"][0] == pytest.approx(keep * sd, rel=0.1)  # gap: contracted
    np.testing.assert_allclose(found["upstream"][1:], sd, rtol=0.1)  # place: noisy again


@pytest.mark.parametrize("fused", [True, False])
def test_chains_score_as_the_plain_form_does(fused, monkeypatch):
    """With oneDNN's layers, and as where torch is built without them."""
    if not fused:
        monkeypatch.setattr(langevin, "_fused", None)
    torch.manual_seed(0)
    net = Smash.of(Train(), 3).eval().net
    cond = torch.randn(4, 64)
    with torch.no_grad():
        chains = langevin.Chains(langevin.Cached(net, cond), 5, seeded())
        found = chains.score(draw_mark=False)
    expected, _ = plain.score(net, cond, chains.x, chains.mark)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_draws_with_and_without_fused_layers_are_the_same_but_for_rounding(monkeypatch):
    torch.manual_seed(0)
    net, cond = Smash.of(Train(), 3).eval().net, torch.randn(4, 64)
    settings, found = Sampler(steps=50, samples=20), []
    for fused in (langevin._fused, None):
        monkeypatch.setattr(langevin, "_fused", fused)
        found.append(langevin.sample(net, cond, settings, (0.2, 0.25), seeded()))
    torch.testing.assert_close(*(torch.cat(pair, -1) for pair in found), atol=1e-5, rtol=1e-5)


def test_marks_are_drawn_in_proportion_to_their_intensities():
    torch.manual_seed(0)
    net = Smash.of(Train(), 3).eval().net
    with torch.no_grad():
        chains = langevin.Chains(langevin.Cached(net, torch.randn(1, 64)), 40_000, seeded())
    chains.rate = torch.tensor([1.0, 2.0, 5.0]).expand(1, 40_000, 3)
    chains.draw_mark()
    share = torch.bincount(chains.mark.flatten(), minlength=3) / 40_000
    np.testing.assert_allclose(share, [0.125, 0.25, 0.625], atol=0.01)


def test_the_corrected_intensitys_derivative_is_that_of_finite_differences():
    torch.manual_seed(0)
    model = Network(3, CorrectedSettings()).double()
    given = model.given(torch.randn(2, 64, dtype=torch.float64))
    t, sigma = torch.linspace(-2, 2, 7, dtype=torch.float64).expand(2, 7), torch.full((2, 7), 0.3, dtype=torch.float64)
    _, slope = model.intensity(t, sigma, given)
    up, down = (model.intensity(t + h, sigma, given, slope=False)[0] for h in (1e-6, -1e-6))
    torch.testing.assert_close(slope, (up - down) / 2e-6, atol=1e-6, rtol=1e-5)


def test_the_corrected_model_reads_no_later_event_and_draws_in_the_datas_units(catalogue):
    torch.manual_seed(0)
    scale = Standard.of(catalogue, True)
    model = Corrected(catalogue.marks, CorrectedSettings()).eval()
    batch = Frames(catalogue, scale).batch(catalogue.sequences("train")[:2])
    with torch.no_grad():
        cond = model.condition(batch)
        batch.value[:, 6:] += 1.0
        assert torch.equal(model.condition(batch)[:5], cond[:5])
    value = MultiNoise(Denoise(), CorrectedSettings()).backward(model, batch, seeded())
    assert torch.isfinite(value)
    x, probability = ode.sample(model, cond[:3], 20, 4, 128, (scale.least, scale.most), seeded())
    drawn = scale.backward(x.numpy())
    assert drawn.shape == (3, 20, 3) and (drawn[..., 0] > 0).all() and np.isfinite(drawn).all()
    torch.testing.assert_close(probability.sum(-1), torch.ones(3, 20))


def test_samples_come_back_from_disk(tmp_path):
    rng = np.random.default_rng(0)
    one = samples.Drawn(
        np.arange(4), np.zeros(4, int), np.arange(1, 5), rng.random((4, 6, 3)), rng.random((4, 2)), {"a": 1}
    )
    samples.write(tmp_path / "s.zarr", one)
    back = samples.read(tmp_path / "s.zarr")
    np.testing.assert_allclose(back.sample, one.sample, rtol=1e-6)
    np.testing.assert_allclose(back.mark_probability, one.mark_probability, rtol=1e-6)
    assert back.attrs["a"] == 1 and (back.index == one.index).all()
    with pytest.raises(DataError, match="no store of samples"):
        samples.read(tmp_path / "nothing.zarr")


def test_weights_come_back_and_a_damaged_file_is_named(tmp_path):
    states = {0: {"a.b": torch.arange(3.0)}, 7: {"a.b": torch.ones(3)}}
    weights.save(tmp_path / "w.safetensors", states, {"kind": "smash"})
    back, attrs = weights.load(tmp_path / "w.safetensors")
    assert set(back) == {0, 7} and torch.equal(back[0]["a.b"], states[0]["a.b"]) and attrs == {"kind": "smash"}
    (tmp_path / "w.safetensors").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="w.safetensors"):
        weights.load(tmp_path / "w.safetensors")
