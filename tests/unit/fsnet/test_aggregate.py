"""Aggregation: convexity, the best expert, regret, sleeping experts, causality, resumption."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.fsnet.aggregate import BURN_IN, OnlineAggregator, aggregate, combine_with_extra

H = 3


def labels_of(y, horizon=H):
    origins = np.arange(len(y) - horizon)
    return origins, y[origins[:, None] + np.arange(1, 1 + horizon)]


def made(seed, n=1500, k=4):
    """Experts = truth + own noise (sd .2, .4, …) + a noise that all share (sd .3)."""
    rng = np.random.default_rng(seed)
    y = np.cumsum(rng.normal(size=n)) * 0.1
    truth = np.stack([np.concatenate([y[h:], np.zeros(h)]) for h in range(1, 1 + H)], axis=1)
    shared = 0.3 * rng.normal(size=(n, H))
    own = rng.normal(size=(k, n, H)) * (0.2 * np.arange(1, 1 + k))[:, None, None]
    return y, truth + shared + own


def mse(forecast, y, start=0):
    origins, labels = labels_of(y)
    return ((forecast[origins] - labels)[start:] ** 2).mean()


def test_equal_experts_come_back_unchanged():
    y, experts = made(0)
    same = np.repeat(experts[:1], 5, axis=0)
    np.testing.assert_allclose(aggregate(same, y), experts[0], rtol=0, atol=1e-12)


def test_uniform_mean_before_anything_is_learnt():
    y, experts = made(1)
    first = BURN_IN + H  # the first origin that has scored a window
    np.testing.assert_allclose(aggregate(experts, y)[:first], experts.mean(axis=0)[:first])


def test_weights_approach_the_best_convex_combination():
    """Noises of variance v_k: the best weights are proportional to 1/v_k, with risk 1/sum(1/v_k) + .09."""
    y, experts = made(2, n=6000)
    best = 1 / np.sum(1 / (0.2 * np.arange(1, 5)) ** 2) + 0.09
    uniform = np.sum((0.2 * np.arange(1, 5)) ** 2) / 16 + 0.09
    reached = mse(aggregate(experts, y), y, start=2000)
    assert 0.97 * best < reached < best + 0.25 * (uniform - best)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6), bias=st.floats(-3, 3), size=st.floats(0.1, 5))
def test_poor_extra_experts_cost_little(seed, bias, size):
    """Two of them, up to sixteen times as wrong as the base, over a short stream."""
    y, experts = made(seed, n=2000)
    rng = np.random.default_rng(seed + 1)
    base = experts[0]
    poor = rng.normal(size=(2, *base.shape)) * size + bias
    assert mse(combine_with_extra(y, base, poor), y) < 1.05 * mse(base, y)


def test_a_good_extra_expert_helps():
    y, experts = made(3, n=3000)
    base, extra = experts[1], experts[:1]
    both = 1 / (1 / 0.04 + 1 / 0.16) + 0.09  # risk of the best mixture; the base alone has .16 + .09
    assert mse(combine_with_extra(y, base, extra), y, start=1500) < both + 0.2 * (0.25 - both)


def test_sleeping_experts():
    y, experts = made(4)
    asleep = experts.copy()
    asleep[2, :900] = np.nan  # online from origin 900 on
    out = aggregate(asleep, y)
    assert np.isfinite(out).all()
    awake_only = aggregate(np.delete(experts, 2, axis=0), y)
    # while asleep it changes nothing but the ridge's share of the mean (its direction is empty)
    np.testing.assert_allclose(out[:900], awake_only[:900], atol=1e-9)
    never = np.full((1, len(y), H), np.nan)
    base = combine_with_extra(y, experts[0], never)
    np.testing.assert_allclose(base, experts[0], atol=1e-12)


@pytest.mark.parametrize("poison", [np.nan, 1e30, "noise"])
def test_the_future_changes_no_bit(poison):
    y, experts = made(5, n=900)
    t = 700
    clean = aggregate(experts, y)
    dirty, dirty_y = experts.copy(), y.copy()
    bad = np.random.default_rng(0).normal(size=len(y)) * 100 if poison == "noise" else np.full(len(y), poison)
    dirty_y[t + 1 :] = bad[t + 1 :]
    dirty[:, t + 1 :] = bad[t + 1 :, None]
    with np.errstate(all="ignore"):
        assert np.array_equal(aggregate(dirty, dirty_y)[: t + 1], clean[: t + 1])


@pytest.mark.parametrize("poison", [np.nan, 1e30, "noise"])
def test_the_future_changes_no_bit_of_networks_added_to_a_base(poison):
    """As above for fsnet_aggregate; its base is finite by contract, so NaN stands for rows and networks alone."""
    y, experts = made(5, n=900)
    t = 700
    clean = combine_with_extra(y, experts[0], experts[1:])
    dirty, dirty_y = experts.copy(), y.copy()
    bad = np.random.default_rng(0).normal(size=len(y)) * 100 if poison == "noise" else np.full(len(y), poison)
    dirty_y[t + 1 :] = bad[t + 1 :]
    dirty[1:, t + 1 :] = bad[t + 1 :, None]
    dirty[0, t + 1 :] = np.nan_to_num(bad[t + 1 :, None], nan=1e30)
    with np.errstate(all="ignore"):
        assert np.array_equal(combine_with_extra(dirty_y, dirty[0], dirty[1:])[: t + 1], clean[: t + 1])
    assert not np.array_equal(clean[: t + 1], experts[0, : t + 1])  # the networks do have weight


def test_labels_are_learnt_from_late_enough():
    """Row 800 alone is changed: forecasts from origins < 800 stay, that from origin 800 uses it."""
    y, experts = made(6, n=900)
    changed = y.copy()
    changed[800] += 5.0
    a, b = aggregate(experts, y), aggregate(experts, changed)
    assert np.array_equal(a[:800], b[:800])
    assert not np.array_equal(a[800:], b[800:])


@settings(max_examples=5, deadline=None)
@given(st.lists(st.integers(1, 698), min_size=1, max_size=4, unique=True))
def test_pieces_and_saved_states_give_the_same_bits(cuts):
    y, experts = made(7, n=700)
    whole, one, out = aggregate(experts, y), OnlineAggregator(4, H), []
    edges = [0, *sorted(cuts), 700]
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        out.append(one.update(experts[:, a:b], y[a:b]))
        saved, one = one.state(), OnlineAggregator(4, H)
        one.restore(saved)
    assert np.array_equal(np.concatenate(out), whole)


def test_shapes_that_do_not_belong_together():
    y, experts = made(8)
    with pytest.raises(ValueError, match="K, n, H"):
        aggregate(experts[0], y)
    with pytest.raises(ValueError, match="K, n, H"):
        aggregate(experts[:, :-1], y)
    with pytest.raises(ValueError, match="base must be finite"):
        combine_with_extra(y, np.full_like(experts[0], np.nan), experts)
