"""The direction of TEC: metric, gate, and that a learned target without an anchor collapses."""

import numpy as np
import pytest
import torch

from pipeline.rstmrf import point
from pipeline.rstmrf.direction import direction_loss, gate, per_km
from pipeline.rstmrf.problem import make_problem
from pipeline.rstmrf.settings import Learn
from pipeline.rstmrf.tec import EARTH_KM


def test_derivatives_per_degree_become_per_km_of_arc():
    got = per_km(torch.tensor([[1.0, 1.0], [1.0, 1.0]]), torch.tensor([0.0, 60.0]))
    degree = EARTH_KM * np.pi / 180
    assert got.tolist() == pytest.approx(np.array([[1 / degree, 1 / degree], [1 / degree, 2 / degree]]), rel=1e-5)


def test_one_field_seen_per_pixel_and_per_km_differs_by_an_angle():
    """The published comparison of d/d(degree) with differences per 2.5 x 5 degree pixel is wrong for the SAME field."""
    per_degree = torch.tensor([[1.0, 1.0]])
    per_pixel = torch.tensor([[2.5, 5.0]])
    angle = torch.rad2deg(torch.arccos(1 - direction_loss(per_degree, per_pixel)))
    assert float(angle) == pytest.approx(np.degrees(np.arctan(2) - np.pi / 4), abs=1e-3)


def test_directions_lose_one_minus_the_cosine():
    gradient = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
    target = torch.tensor([[5.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    assert float(direction_loss(gradient, target)) == pytest.approx((0 + 1 + 2) / 3)
    assert float(direction_loss(gradient, target, torch.tensor([1.0, 1.0, 0.0]))) == pytest.approx(0.5)


def test_the_gate_is_open_at_the_peak_and_shut_below():
    size = torch.tensor([1e-3, 1e-3, 0.0])
    got = gate(torch.tensor([300.0, 120.0, 300.0]), torch.tensor(300.0), size)
    assert got.tolist() == pytest.approx([1.0, np.exp(-9.0), 0.0])


@pytest.mark.parametrize("target", ["anchored", "learned"])
def test_the_gate_is_that_of_tec_whatever_the_target(toy_world, monkeypatch, target):
    """Learned and anchored directions differ in the target alone: both count where TEC has a slope."""
    settings = Learn.model_validate(
        {
            "network": {"hidden": 8, "basis": 8, "lstm": 8, "tec_factor": 30, "tec_features": 4},
            "losses": {"direction": 0.1, "direction_target": target, "direction_gate": True, "volume_points": 64},
        }
    )
    problem = make_problem(toy_world, settings.network)
    sizes = []
    monkeypatch.setattr(point, "gate", lambda alt, height, size: sizes.append(size) or torch.ones_like(size))
    seen = []
    slope = type(problem).slope_of_tec
    monkeypatch.setattr(type(problem), "slope_of_tec", lambda self, c: seen.append(c.detach()) or slope(self, c))
    objective = point.Objective(problem, point.build(problem, settings), settings.losses, torch.Generator())
    objective(0, torch.arange(100), (0.0, 8.0))
    assert torch.equal(sizes[0], slope(problem, seen[0]).norm(dim=1)) and sizes[0].shape == (64,)


def test_the_slope_of_tec_at_a_point_is_that_of_its_hour(toy_world):
    problem = make_problem(toy_world, Learn.model_validate({"network": {"tec_factor": 30, "conv_layers": 0}}).network)
    at = torch.tensor([[10.0, -180.0, 300.0, 5.5], [10.0, 179.9999, 300.0, 5.5], [-30.0, 20.0, 150.0, 17.2]])
    found = problem.slope_of_tec(at)
    assert torch.allclose(found[0], problem.anchor[5, :, 100, 0], atol=1e-9)
    assert torch.allclose(found[1], found[0], atol=1e-7)  # no seam
    assert torch.allclose(found[2], problem.anchor[17, :, 60, 200], atol=1e-8)


def collapse(anchored: bool):
    """A field that follows data with no horizontal slope to the north, and a direction target at its side.

    Returns the direction loss that training ends with and the cosine between target and the true TEC gradient.
    """
    torch.manual_seed(0)
    points = 2 * torch.rand(256, 2) - 1
    truth = torch.tensor([0.0, 1.0]).expand(256, 2)  # TEC rises to the east
    data = points[:, 0]  # the densities at these points rise to the north
    field = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
    head = torch.nn.Linear(2, 2)  # the learned direction, a function of place
    optimizer = torch.optim.Adam([*field.parameters(), *head.parameters()], lr=1e-2)
    for _ in range(200):
        at = points.clone().requires_grad_()
        value = field(at)[:, 0]
        (gradient,) = torch.autograd.grad(value.sum(), at, create_graph=True)
        target = truth if anchored else head(points)
        loss_direction = direction_loss(gradient, target)
        loss = (value - data).square().mean() + 0.1 * loss_direction
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    cosine = torch.nn.functional.cosine_similarity(target.detach(), truth).mean()
    return float(loss_direction.detach()), float(cosine)


def test_a_learned_target_collapses_onto_the_field_and_an_anchored_one_does_not():
    loss, cosine = collapse(anchored=False)
    assert loss < 0.05  # looks perfect
    assert abs(cosine) < 0.3  # and says nothing of TEC
    loss, cosine = collapse(anchored=True)
    assert cosine == pytest.approx(1.0)
    assert loss > 0.3  # the disagreement with the data stays visible
