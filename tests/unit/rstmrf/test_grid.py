"""Interpolation on periodic grids, coordinates and harmonics, against closed forms."""

from datetime import datetime

import numpy as np
import pytest
import torch

from pipeline.rstmrf import coordinates
from pipeline.rstmrf.grid import Axes, interpolate, interpolate_torch

TIME, LAT, LON = np.arange(4.0), np.arange(-90, 91, 10.0), np.arange(-180, 180, 20.0)
AXES = Axes.of(TIME, LAT, LON)


def linear(t, lat, lon):
    return 2 * t - 0.3 * lat + 5


def test_what_is_linear_is_exact_and_nodes_are_themselves():
    smooth = linear(TIME[:, None, None], LAT[:, None], LON) + np.zeros((4, 19, 18))
    maps = np.stack([smooth, np.random.default_rng(0).normal(size=(4, 19, 18))])
    rng = np.random.default_rng(1)
    t, lat, lon = rng.uniform(0, 3, 50), rng.uniform(-90, 90, 50), rng.uniform(-180, 180, 50)
    assert np.allclose(interpolate(maps, AXES, t, lat, lon)[:, 0], linear(t, lat, lon))
    assert np.allclose(interpolate(maps, AXES, TIME[2], LAT[4], LON[7]), maps[:, 2, 4, 7])


def test_the_date_line_is_no_seam():
    maps = np.cos(np.deg2rad(LON))[None, None, None] * np.ones((1, 4, 19, 1))
    inside, outside = (interpolate(maps, AXES, 0.0, 10.0, lon) for lon in (170.0, -190.0))
    assert np.allclose(inside, outside)
    assert np.allclose(interpolate(maps, AXES, 0.0, 10.0, 170.0), 0.5 * (np.cos(np.deg2rad(160)) - 1))


def test_torch_takes_the_same_way_and_has_derivatives():
    rng = np.random.default_rng(2)
    maps = rng.normal(size=(3, 4, 19, 18))
    t, lat, lon = rng.uniform(-1, 4, 40), rng.uniform(-90, 90, 40), rng.uniform(-400, 400, 40)
    both = torch.tensor(maps, requires_grad=True)
    found = interpolate_torch(both, AXES, *(torch.tensor(part) for part in (t, lat, lon)))
    assert np.allclose(found.detach().numpy(), interpolate(maps, AXES, t, lat, lon), atol=1e-12)
    found.sum().backward()
    assert np.isclose(float(both.grad.sum()), 3 * 40)  # weights sum to one


def test_harmonics_are_orthonormal_over_the_sphere():
    x, weight = np.polynomial.legendre.leggauss(24)
    lat, lon = np.rad2deg(np.arcsin(x)), np.arange(0, 360, 10.0)
    functions = coordinates.harmonics(lat[:, None], lon[None], 10)
    gram = np.einsum("ijk,ijl,i->kl", functions, functions, weight) / 2 / len(lon)
    assert np.allclose(gram, np.eye(121), atol=1e-12)


def test_the_first_harmonics_are_the_known_ones():
    lat, lon = np.array([30.0]), np.array([40.0])
    sin, cos = np.sin(np.deg2rad(30)), np.cos(np.deg2rad(30))
    found = coordinates.harmonics(lat, lon, 2)[0]
    assert found[:2] == pytest.approx([1, np.sqrt(3) * sin])
    assert found[2:4] == pytest.approx(np.sqrt(3) * cos * np.array([np.cos(np.deg2rad(40)), np.sin(np.deg2rad(40))]))
    assert found[4] == pytest.approx(np.sqrt(5) * (1.5 * sin**2 - 0.5))
    assert found[7] == pytest.approx(np.sqrt(15) / 2 * cos**2 * np.cos(np.deg2rad(80)))


def test_magnetic_latitude_is_that_of_pyiri():
    import PyIRI.sh_library as sh

    lat, lon = np.array([0.0, 45.0, -60.0, 78.0]), np.array([-75.0, 10.0, 170.0, 100.0])
    theirs, _ = sh.Apex(lat, lon, datetime(2024, 7, 1), "GEO_2_QD")
    assert np.allclose(coordinates.qd_latitude(lat, lon, datetime(2024, 9, 12)), theirs, atol=0.15)


def test_local_time_goes_with_longitude():
    assert coordinates.local_time(23.0, 30.0) == pytest.approx(1.0)
    assert coordinates.local_time(0.0, -15.0) == pytest.approx(23.0)
