"""Reservoir replay: what is kept, what is drawn, and on what both depend."""

import pytest
import torch

from pipeline.core.errors import ConfigError
from pipeline.fsnet.replay import Replay


def numbered(k, replicas=1):
    """Window, label and forecast that carry the number k."""
    return torch.full((replicas, 2, 1), float(k)), torch.full((replicas, 3), float(k)), torch.full((replicas, 3), -k)


def filled(seeds, capacity, n):
    replay = Replay(seeds, window=2, inputs=1, outputs=3, capacity=capacity)
    for k in range(n):
        replay.add(*numbered(k, len(seeds)))
    return replay


def test_it_fills_in_order_and_windows_labels_and_forecasts_stay_together():
    replay = filled([0, 1], capacity=5, n=4)
    assert replay.filled == 4
    assert replay.tensors["windows"][1, :4, 0, 0].tolist() == [0, 1, 2, 3]
    x, y, y_hat, real = replay.sample(8)
    assert real == 4 and x.shape == (2, 8, 2, 1)
    assert torch.equal(x[..., 0, 0], y[..., 0]) and torch.equal(y, -y_hat)
    assert sorted(x[0, :4, 0, 0].tolist()) == [0, 1, 2, 3]  # without replacement
    assert x[:, 4:].abs().max() == 0


def test_an_empty_reservoir_draws_nothing():
    x, _, _, real = Replay([0], window=2, inputs=1, outputs=3).sample(8)
    assert real == 0 and x.abs().max() == 0


def test_every_window_is_kept_with_the_same_probability():
    """Capacity 10 of 40 windows, 300 seeds: each is kept by 300/4 = 75 of them, sd sqrt(300 * 3/16) = 7.5."""
    replay = filled(list(range(300)), capacity=10, n=40)
    kept = replay.tensors["labels"][:, :, 0].long()
    counts = torch.bincount(kept.flatten(), minlength=40)
    assert counts.sum() == 3000
    assert (counts - 75).abs().max() < 4 * 7.5
    # Chi-square with 39 degrees of freedom (cells weakly dependent): mean 39 * 30/40, far below 75 (p = .0005 at 74.7)
    assert float(((counts - 75.0) ** 2 / 75).sum()) < 75
    assert all(len(set(row.tolist())) == 10 for row in kept)


def test_draws_depend_on_the_seed_and_the_count_alone():
    together, alone = filled([3, 4], 6, 20), filled([4], 6, 20)
    other = filled([5], 6, 20)
    draws = []
    for _ in range(5):
        a, b, c = (r.sample(4)[1] for r in (together, alone, other))
        assert torch.equal(a[1], b[0])
        draws.append(torch.equal(b, c))
    assert not all(draws)
    assert torch.equal(alone.clone().sample(4)[1], alone.sample(4)[1])


def test_capacity_must_be_positive():
    with pytest.raises(ConfigError, match="capacity"):
        Replay([0], window=2, inputs=1, outputs=3, capacity=0)
