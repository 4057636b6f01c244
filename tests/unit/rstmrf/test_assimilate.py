"""The arm in parameter space on a toy world: it learns, its spread is used, it comes back from disk."""

import numpy as np
import pytest
import torch

from pipeline.rstmrf import assimilate, scoring
from pipeline.rstmrf.ensemble import Members
from pipeline.rstmrf.parameter_net import INPUTS, ParameterNet, inputs
from pipeline.rstmrf.settings import Assimilation, Fields, Learn, Method, Nets

SMALL = {"degree": 3, "passes": 2, "iterations": 25, "draws": 4}


def settings(parts="blend", **more):
    return Learn(
        method=Method(kind="assimilate"),
        fields=Fields(**SMALL),
        nets=Nets(members=2, steps=20, hidden=24, batch=600, tec_points=32),
        assimilation=Assimilation(parts=parts, **more),
    )


@pytest.fixture(scope="module")
def fitted(toy_world, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "a3_0.safetensors"
    facts = assimilate.fit(toy_world, settings(), 0, path)
    return facts, path


def test_it_follows_the_profiles_and_does_no_harm_elsewhere(toy_world, toy_truth, fitted):
    predict = assimilate.load(toy_world, settings(), fitted[1]).predict
    obs, used = toy_world.obs.take(toy_world.used), toy_world.used
    before = scoring.background(toy_world, obs) - toy_world.obs_log10_ne[used]
    after = predict(obs)[0] - toy_world.obs_log10_ne[used]
    assert (after**2).mean() < 0.6 * (before**2).mean()
    value, sd = predict(toy_world.dense)
    reference = scoring.Reference.of(toy_world, toy_truth)
    assert ((value - toy_truth.dense) ** 2).mean() < reference.dense_iri.mean()
    assert (sd > 0).all() and np.isfinite(sd).all()


def test_a_member_comes_back_from_disk_as_it_was(toy_world, fitted):
    again = assimilate.Assimilated(toy_world, settings(), 0).fit(0, lambda step, parts: None)
    loaded = assimilate.load(toy_world, settings(), fitted[1])
    points = toy_world.dense.take(slice(0, 50))
    for a, b in zip(again.predict(points), loaded.predict(points), strict=True):
        assert a == pytest.approx(b, abs=1e-6)


def test_the_blend_lies_between_its_parts(toy_world, fitted):
    points = toy_world.dense.take(slice(0, 40))
    mixed = assimilate.load(toy_world, settings(nets_share=0.25), fitted[1])
    fields, _ = mixed.analysis.increments(points.time_h, points.lat, points.lon)
    nets = mixed.members.increments(points.time_h, points.lat, points.lon).mean(2)
    blended, draws = mixed.increments(points)
    assert torch.allclose(blended, 0.75 * fields + 0.25 * nets, atol=1e-5)
    assert draws.shape == (40, 13, 4)


def test_seeds_change_networks_and_draws_but_not_the_analysis(toy_world):
    one, two = (assimilate.Assimilated(toy_world, settings(), seed).fit(seed, lambda s, p: None) for seed in (0, 1))
    assert torch.equal(one.analysis.control, two.analysis.control)
    assert not torch.equal(one.analysis.draws, two.analysis.draws)
    assert not torch.equal(one.members.nets[0].head.weight, two.members.nets[0].head.weight)


def test_without_tec_the_maps_are_never_read(toy_world):
    import copy

    blind = copy.copy(toy_world)
    blind.tec = np.full_like(toy_world.tec, 7.0)
    for key in ("tec_scaled", "ln_tec_ratio", "observed_tec", "has_tec"):
        blind.__dict__.pop(key, None)
    how = settings("fields", tec=False)
    a, b = (assimilate.Assimilated(w, how).fit(0, lambda s, p: None).analysis.control for w in (toy_world, blind))
    assert torch.equal(a, b)


def test_a_fresh_parameter_network_corrects_nothing():
    increments, unit = ParameterNet(8, 2.0)(torch.randn(5, INPUTS))
    assert not increments.detach().any() and not unit.detach().any()


def test_its_inputs_have_no_seam_and_one_value_at_a_pole():
    one = torch.ones(3)
    at_pole = inputs(90 * one, torch.tensor([0.0, 100.0, -170.0]), 5 * one, 80 * one, 24.0, 2.0)
    assert float(at_pole.std(0).max()) < 1e-6
    seam = inputs(20 * one[:2], torch.tensor([180.0, -180.0]), 5 * one[:2], 10 * one[:2], 24.0, 2.0)
    assert float((seam[0] - seam[1]).abs().max()) < 1e-5


def test_networks_fit_a_planted_correction(toy_world):
    """Observations moved up by .2 dex everywhere: the networks' correction of the peak follows."""
    import copy

    from pipeline.rstmrf import iri

    world = copy.copy(toy_world)
    obs = world.obs
    exact = iri.log10_density(world.background_at(obs.time_h, obs.lat, obs.lon), obs.alt_km)
    world.obs_log10_ne = exact + 0.2
    members = Members(world, Nets(members=1, steps=120, hidden=24, batch=600, background=0.01), world.param, None, None)
    members.fit(0)
    with torch.no_grad():
        got = members.increments(obs.time_h, obs.lat, obs.lon)[:, :, 0]
        params = torch.as_tensor(world.background_at(obs.time_h, obs.lat, obs.lon), dtype=torch.float32)
        value = iri.corrected_torch(params, got, torch.as_tensor(obs.alt_km, dtype=torch.float32))
    shift = value.numpy() - exact
    assert shift[world.used].mean() == pytest.approx(0.2, abs=0.04)
