"""Physics losses: closed forms, and the sizes that make the published ones inert."""

import numpy as np
import pytest
import torch

from pipeline.rstmrf import iri
from pipeline.rstmrf.losses import chapman_seed, curvature, data_loss, derivatives


def test_derivatives_of_a_polynomial():
    coords = torch.tensor([[2.0, 3.0, 5.0, 7.0]], requires_grad=True)
    lat, lon, alt, time = coords.unbind(1)
    first, second = derivatives(lat * alt**3 + lon * time, coords)
    assert first[0].tolist() == [125.0, 7.0, 2 * 3 * 25.0, 3.0]
    assert second.tolist() == [2 * 6 * 5.0]


def test_the_published_chapman_loss_is_inert_in_kilometres_and_fights_the_truth_in_scaled_altitude():
    """Over an alpha-Chapman layer of 50 km, d2 ln N / dh2 at the peak is -1 / (2 H^2), whatever the network does."""
    second = torch.full((10,), -1 / (2 * 50.0**2) / np.log(10))
    assert 0.1 * float(chapman_seed(second)) == pytest.approx(7.5e-10, rel=0.01)  # beside a data loss of 1e-2
    in_scaled_altitude = second * 190.0**2
    assert 0.1 * float(chapman_seed(in_scaled_altitude)) == pytest.approx(0.98, rel=0.01)
    assert float(curvature(torch.zeros(10))) == 0.0  # the residual's curvature leaves the true profile alone


def test_the_background_profile_itself_would_be_penalised():
    alt = torch.linspace(250, 400, 200, dtype=torch.double).requires_grad_()
    params = torch.tensor([np.log(1e12), 300.0, np.log(80.0), np.log(2.0), np.log(40.0), 0.0, np.log(1e11), 0.0])
    value = iri.log10_density_torch(params.double().expand(200, 8), alt)
    (first,) = torch.autograd.grad(value.sum(), alt, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), alt)
    assert 1e-9 < float(chapman_seed(second)) < 1e-7


def test_weights_and_huber():
    residual, target = torch.tensor([0.0, 0.0]), torch.tensor([1.0, 3.0])
    assert float(data_loss(residual, target)) == 5.0
    assert float(data_loss(residual, target, torch.tensor([3.0, 1.0]))) == pytest.approx((3 * 1 + 9) / 4)
    assert float(data_loss(residual, target, delta=1.0)) == pytest.approx((1 + 5) / 2)  # 2 (3 - 1/2) = 5
