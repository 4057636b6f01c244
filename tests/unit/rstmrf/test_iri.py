"""The analytic profile: PyIRI's own values, exact derivatives, contents by brute force."""

import warnings
from datetime import date

import numpy as np
import pytest
import torch

from pipeline.core.errors import DataError
from pipeline.rstmrf import iri, iri_day

DAY, STEP, HOURS, F107 = date(2024, 9, 12), 30.0, np.array([0.0, 9.0, 17.0]), 203.7


@pytest.fixture(scope="module")
def theirs():
    """PyIRI's own profiles [T, A, G] with their altitudes, and peak heights [T, G]."""
    import PyIRI.sh_library as sh

    lat, lon = iri_day.grid(STEP)
    lats, lons = (axis.ravel() for axis in np.meshgrid(lat, lon, indexing="ij"))
    alt = np.arange(90, 1000, 7.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        f2, *_, density = sh.IRI_density_1day(2024, 9, 12, HOURS, lons, lats, alt, F107, old_output=True)
    return lats, lons, alt, f2["hm"], np.log10(density)


@pytest.fixture(scope="module")
def params(theirs):
    lats, lons, *_ = theirs
    flat = iri_day.parameters(DAY, HOURS, lats, lons, [F107, 150.0])
    return np.moveaxis(flat, 1, -1)  # [L, T, G, 8]


def test_the_profile_is_that_of_pyiri_at_every_height(theirs, params):
    *_, alt, hm, density = theirs
    mine = iri.log10_density(params[0][:, None], alt[:, None], floor=1.0)
    difference = np.abs(mine - density)
    assert difference[alt[:, None] >= hm[:, None, :]].max() < 1e-12
    assert difference[density > 6].max() < 1e-8  # where it counts; PyIRI cuts its smallest terms
    assert difference.max() < 1e-4


def test_in_single_precision_torch_agrees_to_two_millionths_above_the_peak(theirs, params):
    *_, alt, hm, density = theirs
    at = torch.tensor(params[0][:, None], dtype=torch.float32)
    mine = iri.log10_density_torch(at, torch.tensor(alt[:, None], dtype=torch.float32), floor=1.0).numpy()
    assert np.abs(mine - density)[alt[:, None] >= hm[:, None, :]].max() < 2e-6


def test_two_activities_cost_one_call_and_equal_two(theirs, params):
    lats, lons, *_ = theirs
    alone = iri_day.parameters(DAY, HOURS, lats, lons, [150.0])
    assert np.array_equal(np.moveaxis(alone[0], 0, -1), params[1])


def test_the_floor_is_smooth_and_leaves_what_is_dense(params):
    low, high = iri.log10_density(params[0], 115.0 + 0 * params[0][..., 0]), None
    high = iri.log10_density(params[0], params[0][..., 1])
    assert low.min() >= np.log10(iri.FLOOR)
    assert np.allclose(high, params[0][..., 0] / np.log(10), atol=1e-4)  # the peak is NmF2


def test_derivatives_are_those_of_finite_differences(params):
    rng = np.random.default_rng(0)
    at = params[0].reshape(-1, 8)[::3]
    alt = rng.uniform(115, 700, len(at))
    p = torch.tensor(at, requires_grad=True)
    h = torch.tensor(alt, requires_grad=True)
    slopes = torch.autograd.grad(iri.log10_density_torch(p, h).sum(), (p, h))
    assert all(torch.isfinite(part).all() for part in slopes)
    for index in range(8):
        step = np.zeros(8)
        step[index] = 1e-5
        wanted = (iri.log10_density(at + step, alt) - iri.log10_density(at - step, alt)) / 2e-5
        close = np.isclose(slopes[0][:, index].numpy(), wanted, rtol=1e-3, atol=1e-5)
        assert close.mean() > 0.98, iri.PARAMS[index]  # but for the kink at the lowest F1 height
    wanted = (iri.log10_density(at, alt + 1e-4) - iri.log10_density(at, alt - 1e-4)) / 2e-4
    assert np.allclose(slopes[1].numpy(), wanted, rtol=1e-4, atol=1e-7)


def test_points_and_grids_take_the_same_way(params):
    at, alt = params[0].reshape(-1, 8), np.linspace(100, 600, params[0][..., 0].size)
    assert np.allclose(iri.log10_density(at, alt), iri.log10_density(at[None], alt[None])[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("bounds", [(90.0, 2000.0), (120.0, 500.0)])
def test_contents_are_integrals(params, bounds):
    at = params[0].reshape(-1, 8)[::11]
    fine = np.arange(*bounds, 0.25)
    density = 10 ** iri.log10_density(at[:, None], fine[None])
    wanted = np.trapezoid(density, fine, axis=1) * 1e3 / 1e16
    assert np.allclose(iri.vtec(at, low=bounds[0], high=bounds[1]), wanted, rtol=3e-3)
    rng = np.random.default_rng(1)
    more = 0.1 * rng.standard_normal((len(at), 13)) * np.array([1, 100, *np.ones(11)])
    wanted = np.trapezoid(10 ** iri.corrected(at[:, None], more[:, None], fine[None]), fine, axis=1) * 1e3 / 1e16
    found = iri.vtec(at, more, *bounds)
    assert np.allclose(found, wanted, rtol=4e-3)
    both = iri.vtec_torch(torch.tensor(at), torch.tensor(more), *bounds)
    assert np.allclose(both.numpy(), found, rtol=1e-10)


def test_corrections_add_to_parameters_and_bumps(params):
    at, alt = params[0].reshape(-1, 8)[:5], np.full(5, iri.BUMP_CENTRE_KM[3])
    increments = np.zeros((5, 13))
    increments[:, 0], increments[:, 10] = 0.2, 0.05
    raised = at.copy()
    raised[:, 0] += 0.2
    wanted = iri.log10_density(raised, alt) + 0.05  # at its centre a bump is one
    assert np.allclose(iri.corrected(at, increments, alt), wanted, atol=1e-12)
    both = iri.corrected_torch(torch.tensor(at), torch.tensor(increments), torch.tensor(alt))
    assert np.allclose(both.numpy(), wanted, atol=1e-12)


def test_a_pole_is_one_place(theirs, params):
    lats, *_ = theirs
    for end in (-90, 90):
        assert np.ptp(params[:, :, lats == end], axis=2).max() < 1e-6


def test_a_very_active_day_has_a_profile_everywhere():
    """3 October 2024: PyIRI's own line takes B1 below zero at a tenth of the globe."""
    lat, lon = iri_day.grid(15.0)
    lats, lons = (axis.ravel() for axis in np.meshgrid(lat, lon, indexing="ij"))
    calm, active = iri_day.parameters(date(2024, 10, 3), np.array([0.0, 12.0]), lats, lons, [227.4, 312.1])
    assert np.isfinite(active).all()
    assert np.exp(active[3]).min() == pytest.approx(iri_day.LEAST_B1)
    assert np.exp(calm[3]).min() > iri_day.LEAST_B1
    assert np.exp(active[2]).min() > iri_day.LEAST_B0_KM


def test_a_days_maps_survive_the_store(tmp_path, monkeypatch):
    made = np.random.default_rng(0).normal(size=(2, 8, 24, 84))
    monkeypatch.setattr(iri_day, "parameters", lambda day, hours, lat, lon, f107: made)
    iri_day.write(tmp_path / "day.zarr", DAY, (203.7, 228.0), step=30.0)
    maps, lat, lon = iri_day.read([tmp_path / "day.zarr"], [DAY])
    assert np.allclose(maps, made.reshape(2, 8, 24, 7, 12), atol=1e-6)
    assert lat[0] == -90 and lon[0] == -180 and lon[-1] == 150
    with pytest.raises(DataError, match="no IRI maps of 2024-09-13"):
        iri_day.read([tmp_path / "day.zarr"], [date(2024, 9, 13)])
