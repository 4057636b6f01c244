"""The ConvLSTM against its equations, padding on the sphere, checkpointing."""

import pytest
import torch

from pipeline.rstmrf.conv_lstm import ConvLSTM, ConvLSTMCell, pad_sphere


def test_a_cell_follows_the_equations_gate_by_gate(plain):
    torch.manual_seed(0)
    cell = ConvLSTMCell(1, 3, "zeros")
    x, hidden, state = torch.randn(2, 1, 5, 7), torch.randn(2, 3, 5, 7), torch.randn(2, 3, 5, 7)
    got = cell(x, hidden, state)
    wanted = plain.conv_lstm_cell(cell.gates.weight, cell.gates.bias, x, hidden, state)
    for a, b in zip(got, wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_sequence_starts_from_zero_and_ends_at_the_last_map():
    torch.manual_seed(0)
    net = ConvLSTM(4, layers=2)
    maps = torch.randn(2, 3, 1, 6, 8)
    zero = torch.zeros(2, 4, 6, 8)
    states = [(zero, zero), (zero, zero)]
    for x in maps.unbind(1):
        states[0] = net.cells[0](x, *states[0])
        states[1] = net.cells[1](states[0][0], *states[1])
    assert torch.allclose(net(maps), states[1][0], atol=1e-6)


def test_checkpointing_changes_neither_values_nor_gradients():
    torch.manual_seed(0)
    maps = torch.randn(2, 4, 1, 6, 8)
    plain, frugal = ConvLSTM(4), ConvLSTM(4, checkpointed=True)
    frugal.load_state_dict(plain.state_dict())
    gradients = []
    for net in (plain, frugal):
        net(maps).square().sum().backward()
        gradients.append([p.grad for p in net.parameters()])
    assert torch.equal(plain(maps), frugal(maps))
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


def test_padding_continues_a_smooth_field_over_the_edges():
    """x, y and z of the unit vector are smooth on the sphere: beyond an edge they are what they are there."""
    step = 5.0
    lat, lon = torch.arange(-90 + step / 2, 90, step), torch.arange(-180, 180, step)
    beyond_lat = torch.arange(-90 - step / 2, 90 + step, step)
    beyond_lon = torch.arange(-180 - step, 180 + step, step)

    def vector(lat, lon):
        phi, lam = torch.deg2rad(lat)[:, None], torch.deg2rad(lon)[None]
        return torch.stack([phi.cos() * lam.cos(), phi.cos() * lam.sin(), phi.sin() + 0 * lam])

    assert torch.allclose(pad_sphere(vector(lat, lon)), vector(beyond_lat, beyond_lon), atol=1e-6)


def test_padding_on_the_sphere_turns_with_the_maps_and_zero_padding_does_not():
    torch.manual_seed(0)
    maps = torch.randn(1, 3, 1, 6, 12)
    round_, flat = ConvLSTM(4, padding="sphere"), ConvLSTM(4, padding="zeros")
    turned = maps.roll(5, -1)
    assert torch.allclose(round_(turned), round_(maps).roll(5, -1), atol=1e-6)
    assert not torch.allclose(flat(turned), flat(maps).roll(5, -1), atol=1e-3)


def test_half_a_turn_needs_an_even_number_of_longitudes():
    with pytest.raises(ValueError, match="even number of longitudes, got 7"):
        pad_sphere(torch.zeros(4, 7))
