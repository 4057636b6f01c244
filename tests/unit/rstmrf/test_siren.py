"""Sine networks: the initialisation that lives, and derivatives carried forward."""

import math

import pytest
import torch

from pipeline.rstmrf.siren import Siren, jet


def slope(network, inputs=5):
    """Root mean square of |d y_0 / d x| over inputs drawn uniformly from the cube."""
    x = (2 * torch.rand(4096, inputs) - 1).requires_grad_()
    (gradient,) = torch.autograd.grad(network(x)[:, 0].sum(), x)
    return float(gradient.square().mean().sqrt())


def test_gradients_are_of_order_three_and_the_published_initialisation_is_dead(plain):
    torch.manual_seed(0)
    alive = [slope(Siren(5, 128, 3, 64, 30.0)) for _ in range(5)]
    dead = [slope(plain.DeadSiren(5, 128, 3, 64)) for _ in range(5)]
    assert sum(alive) / 5 == pytest.approx(3.0, rel=0.3)
    assert sum(dead) / 5 == pytest.approx(1.2e-5, rel=0.5)


def test_every_layer_has_the_arcsine_spread_of_a_sine_of_a_wide_normal():
    torch.manual_seed(0)
    network = Siren(5, 256, 3, 256, 30.0)
    x = 2 * torch.rand(2048, 5) - 1
    for sine in network.sines:
        x = sine(x)
        assert float(x.detach().square().mean()) == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize("omega", [1.0, 7.0])
def test_the_first_layer_carries_the_band_limit(omega):
    network = Siren(1, 8, 0, 1, omega)
    assert float(network.sines[0].linear.weight.detach().abs().max()) <= 1.0
    for sine in network.sines[1:]:
        bound = math.sqrt(6 / sine.linear.in_features) / sine.omega
        assert float(sine.linear.weight.detach().abs().max()) <= bound


def test_jets_equal_two_passes_of_autograd(plain):
    torch.manual_seed(1)
    network = Siren(5, 32, 2, 3, 4.0, hidden_omega=5.0).double()
    x, direction = torch.rand(40, 5, dtype=torch.double), torch.zeros(5, dtype=torch.double)
    direction[2] = 1.0
    value, first, second = jet(network, x, direction)
    for output in range(3):
        alone, curvature = plain.nested_second(lambda z, k=output: network(z)[:, k], x.clone(), 2)
        assert torch.allclose(value[:, output], alone, atol=1e-12)
        assert torch.allclose(second[:, output], curvature, rtol=1e-9, atol=1e-10)
    shifted = network(x + 1e-6 * direction) - network(x - 1e-6 * direction)
    assert torch.allclose(first, shifted / 2e-6, atol=1e-6)


def test_jets_of_one_sine_layer_are_the_closed_form():
    network = Siren(1, 4, 0, 2, 3.0, hidden_omega=2.0).double()
    with torch.no_grad():
        for sine in network.sines:
            sine.linear.bias.zero_()
    value, _, second = jet(network, torch.zeros(1, 1, dtype=torch.double), torch.ones(1, dtype=torch.double))
    assert torch.allclose(value, torch.zeros(1, 2, dtype=torch.double))  # odd at the origin
    assert torch.allclose(second, torch.zeros(1, 2, dtype=torch.double))
