"""The published model: sizes, equality with its plain form, and what it may look at."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.smash import encoder as enc
from pipeline.smash import score_net
from pipeline.smash.batches import Frames, Scale, buckets
from pipeline.smash.bench import plain_module
from pipeline.smash.denoise import Loss, Smash
from pipeline.smash.encoder import Encoder, EncoderSpec
from pipeline.smash.score_net import ScoreNet
from pipeline.smash.settings import Denoise, Train

plain = plain_module()


def model_of(marks=3, **settings):
    torch.manual_seed(0)
    return Smash.of(Train.model_validate(settings), marks).eval()


def condition(n=5, width=64, seed=0):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


# Published counts: the whole, the encoder, the score network (Earthquake; crime and football: the whole).
@pytest.mark.parametrize(
    ("marks", "cond_dim", "total", "parts"),
    [(3, 16, 255_227, (173_874, 81_353)), (4, 64, 2_064_140, None), (7, 32, 650_671, None)],
)
def test_parameter_counts_are_the_published_ones(marks, cond_dim, total, parts):
    counts = model_of(marks, encoder={"cond_dim": cond_dim}).parameter_counts()
    assert counts["published"] == total
    if parts:
        assert counts["encoder"] + enc.unused_when_published(cond_dim) == parts[0]
        assert counts["score"] + score_net.unused_when_published() == parts[1]
        assert counts["published"] - counts["trainable"] == 9_170  # tensors that never get a gradient


def test_scores_and_mark_probabilities_equal_the_plain_ones():
    net = model_of().net
    cond, generator = condition(), torch.Generator().manual_seed(1)
    x = torch.randn(5, 7, 3, generator=generator)
    mark = torch.randint(3, (5, 7), generator=generator)
    found, probability = net(x, mark, net.conditions(cond))
    expected, p = plain.score(net, cond, x, mark)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(probability, p, atol=1e-6, rtol=1e-6)


def test_the_intensitys_derivative_is_that_of_finite_differences():
    net = model_of().net.double()
    given = net.conditions(condition().double())
    t = torch.linspace(-1, 1, 9, dtype=torch.float64).expand(5, 9)
    rate, slope = net.intensity(*net.temporal(t, given))
    up, down = (net.intensity(*net.temporal(t + h, given))[0] for h in (1e-6, -1e-6))
    torch.testing.assert_close(slope, (up - down) / 2e-6, atol=1e-6, rtol=1e-5)


def test_training_gradients_equal_those_of_double_backward():
    net = model_of().net
    settings = Denoise(noises=6, smooth=0.1, location_weight=2.0)
    generator = torch.Generator().manual_seed(2)
    cond, truth = condition().requires_grad_(), torch.rand(5, 3, generator=generator)
    mark = torch.randint(3, (5,), generator=generator)
    noise = Loss(settings).noise(5, generator)
    value = Loss(settings).total(net, cond, truth, mark, noise) / 5
    gradients = torch.autograd.grad(value, [cond, *net.parameters()])
    expected = plain.loss(net, cond, truth, mark, noise, settings)
    for mine, theirs in zip(gradients, torch.autograd.grad(expected, [cond, *net.parameters()]), strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=1e-3)
    torch.testing.assert_close(value, expected)


def test_a_batch_in_pieces_gives_the_gradients_of_the_whole(catalogue, monkeypatch):
    model = model_of()
    batch = Frames(catalogue, Scale.of(catalogue, True)).batch(catalogue.sequences("train")[:3])
    gradients = []
    for size in (2, 10_000):
        monkeypatch.setattr("pipeline.smash.denoise.EVENTS", size)
        model.zero_grad()
        Loss(Denoise()).backward(model, batch, torch.Generator().manual_seed(0))
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-3)


def test_the_stacked_encoder_equals_one_branch_after_the_other():
    torch.manual_seed(0)
    encoder = Encoder(EncoderSpec(3, 8, layers=2)).eval()
    t, place, mark = torch.rand(2, 6).cumsum(1), torch.rand(2, 6, 2), torch.randint(3, (2, 6))
    torch.testing.assert_close(encoder(t, place, mark), plain.encode(encoder, t, place, mark), atol=1e-5, rtol=1e-4)


def test_later_events_never_change_an_earlier_condition_whatever_their_values():
    """Also where the first event is at the least longitude, which the published masks took for padding."""
    torch.manual_seed(0)
    encoder = Encoder(EncoderSpec(3, 8, layers=2)).eval()
    t, place, mark = torch.rand(1, 10).cumsum(1), torch.rand(1, 10, 2), torch.randint(3, (1, 10))
    place[0, 0, 0] = 0.0
    before = encoder(t, place, mark)[:, :5]
    place[:, 5:], mark[:, 5:] = torch.rand(1, 5, 2), 0
    assert torch.equal(encoder(t, place, mark)[:, :5], before)


def test_an_event_at_time_zero_is_an_event(catalogue):
    catalogue = replace(catalogue, t=catalogue.t.copy())
    catalogue.t[catalogue.offsets[0]] = 0.0
    batch = Frames(catalogue, Scale.of(catalogue, True)).batch(np.array([0]))
    assert int(batch.length) == catalogue.lengths[0]
    assert int(batch.target.sum()) == catalogue.lengths[0] - 1


def test_padding_changes_nothing(catalogue):
    model = model_of()
    frames = Frames(catalogue, Scale.of(catalogue, True))
    train = catalogue.sequences("train")[:4]
    together = model.condition(frames.batch(train))
    alone = torch.cat([model.condition(frames.batch(train[i : i + 1])) for i in range(4)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("branches", [["joint"], ["time", "location"], ["time", "location", "joint"]])
def test_fewer_branches_leave_out_their_parameters_and_still_forecast(branches):
    model = model_of(encoder={"branches": branches})
    cond = condition(4, 16 * len(branches))
    found, probability = model.net(
        torch.zeros(4, 2, 3), torch.zeros(4, 2, dtype=torch.int64), model.net.conditions(cond)
    )
    assert model.parameter_counts()["trainable"] < model_of().parameter_counts()["trainable"]
    assert torch.isfinite(found).all() and torch.allclose(probability.sum(-1), torch.ones(4, 2))


def test_unmarked_data_train_without_marks(catalogue):
    catalogue = replace(catalogue, mark=None)
    model = model_of(marks=1)
    assert "mark" not in model.encoder.spec.branches
    batch = Frames(catalogue, Scale.of(catalogue, True)).batch(catalogue.sequences("train")[:3])
    value = Loss(Denoise()).backward(model, batch, torch.Generator().manual_seed(0))
    assert torch.isfinite(value)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.net.parameters() if p.requires_grad)


@pytest.mark.parametrize("log_time", [True, False])
def test_scaling_is_undone_and_is_that_of_the_training_windows(catalogue, log_time):
    scale = Scale.of(catalogue, log_time)
    there = scale.forward(catalogue.dt, catalogue.xy)
    back = scale.backward(there)
    np.testing.assert_allclose(back[:, 0], np.maximum(catalogue.dt, 1e-4 if log_time else 0), atol=1e-9)
    np.testing.assert_allclose(back[:, 1:], catalogue.xy, atol=1e-9)
    train = catalogue.events(catalogue.sequences("train", 0))
    assert there[train, 1:].min() == pytest.approx(-1) and there[train, 1:].max() == pytest.approx(1)


def test_buckets_hold_every_window_once_and_no_more_events_than_allowed():
    lengths = np.array([5, 1, 9, 2, 40, 3, 8, 7])
    for rng in (None, np.random.default_rng(0)):
        found = list(buckets(lengths, np.arange(8), 20, rng))
        assert sorted(np.concatenate(found).tolist()) == [
            0,
            2,
            3,
            4,
            5,
            6,
            7,
        ]  # a window of one event forecasts nothing
        assert all(len(part) == 1 or lengths[part].max() * len(part) <= 20 for part in found)


def test_antithetic_noise_comes_in_pairs():
    noise = Loss(Denoise(noises=8)).noise(3, torch.Generator().manual_seed(0))
    assert torch.equal(noise[:, :4], -noise[:, 4:])


def test_without_gates_both_paths_count_alike():
    torch.manual_seed(0)
    net = ScoreNet(3, 16, ("time", "location", "joint", "mark"), gates=False)
    given = net.conditions(condition())
    assert torch.equal(given.mix_time, given.mix_time[:1].expand_as(given.mix_time))


def test_encoder_and_losses_make_no_tensor_on_another_device_than_their_inputs():
    """The device ``meta`` has shapes alone: an operation that mixes it with the CPU is an error, as on a GPU."""
    from pipeline.smash.corrected import Corrected, MultiNoise
    from pipeline.smash.settings import Corrected as CorrectedSettings

    model, denoise = model_of().to("meta"), Denoise(noises=4, smooth=0.1)
    t, place, mark = torch.zeros(2, 7), torch.zeros(2, 7, 2), torch.zeros(2, 7, dtype=torch.int64)
    read = model.encoder(t.to("meta"), place.to("meta"), mark.to("meta"))
    assert read.device.type == "meta" and read.shape == (2, 7, 64)
    truth, kinds = torch.zeros(5, 3, device="meta"), torch.zeros(5, dtype=torch.int64, device="meta")
    generator = torch.Generator().manual_seed(0)  # noise comes from the CPU's generator on every device
    loss = Loss(denoise)
    total = loss.total(model.net, condition().to("meta"), truth, kinds, loss.noise(5, generator).to(truth))
    assert total.device.type == "meta" and total.shape == ()
    corrected = Corrected(3, CorrectedSettings()).to("meta")
    total = MultiNoise(denoise, CorrectedSettings()).total(corrected, condition().to("meta"), truth, kinds, generator)
    assert total.device.type == "meta" and total.shape == ()
