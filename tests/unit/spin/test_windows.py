"""Windows never cross segments, every row is read once, whitening hides only what it may."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.spin.settings import Network, Whitening
from pipeline.spin.whiten import Whitener
from pipeline.spin.windows import Windows, calendar, runs, tiles

from .made_up import cube


def windows(made, window=12, **network):
    return Windows(made, 0, Network(window=window, hidden=8, **network), "cpu")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 50), st.integers(1, 60), st.integers(1, 20), st.integers(1, 20))
def test_tiles_cover_a_stretch_and_nothing_else(first, length, window, stride):
    rows = tiles(first, first + length, window, min(stride, window))
    inside = rows[rows >= 0]
    assert set(inside) == set(range(first, first + length))
    if length >= window:
        assert (rows >= 0).all() and (np.diff(rows, axis=1) == 1).all()


def test_runs_break_at_gaps_and_segments():
    keep = np.array([1, 1, 0, 1, 1, 1, 0, 1], bool)
    segment = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    assert list(runs(keep, segment)) == [(0, 2), (3, 4), (4, 6), (7, 8)]
    assert list(runs(np.zeros(3, bool), segment[:3])) == []


@pytest.mark.parametrize("slide", [True, False])
def test_training_windows_stay_in_one_segment_of_the_training_rows(slide):
    made = cube(times=200, segments=4)
    rows = windows(made).training(slide)
    assert (made.split[rows[rows >= 0]] == 0).all()
    for window in rows:
        assert len(set(made.segment[window[window >= 0]])) == 1
    assert set(rows[rows >= 0]) == set(np.flatnonzero(made.split == 0))


@pytest.mark.parametrize("overlap", [True, False])
def test_every_wanted_row_comes_from_the_window_it_is_most_central_in(overlap):
    made = cube(times=100, segments=2)
    wanted = np.zeros(100, bool)
    wanted[[3, 40, 49, 50, 51, 99]] = True
    rows, window, place = windows(made, 10).covering(wanted, overlap)
    np.testing.assert_array_equal(rows[window, place], np.flatnonzero(wanted))
    if overlap:  # a middle row is never read from the outer quarter of a window
        assert 2 <= place[1] <= 7


def test_filling_reads_each_row_where_it_stands():
    """A network that gives back the row's number fills every row with its own number."""
    made = cube(times=97, channels=1, segments=2)
    w = windows(made, 8)
    w.x = torch.arange(97.0)[:, None, None].expand(97, 6, 1)
    found = w.filled(np.ones(97, bool), True, lambda x, u, mask: x)
    np.testing.assert_allclose(found[:, 0, 0], np.arange(97) * w.sd[0] + w.mean[0], rtol=1e-5)


def test_calendar_is_the_hour_on_the_circle():
    made = cube(times=300)  # from a Monday's midnight, 5 minutes a row
    u = calendar(made)
    np.testing.assert_allclose(u[72], [1, 0, np.sin(2 * np.pi * 0.25 / 7), np.cos(2 * np.pi * 0.25 / 7)], atol=1e-6)


def test_the_graph_is_used_as_the_arm_says():
    made = cube(times=50)
    plain = windows(made).graph
    assert plain.weight is None and plain.type is None and len(plain.source) == 12
    rich = windows(made, edge_weights=True, edge_types=True, direction="forward").graph
    assert len(rich.source) == 6 and (rich.type == 0).all()  # "upstream" edges run against the road
    np.testing.assert_allclose(rich.weight, 0.8)


def test_unseen_nodes_are_never_shown():
    made = cube(times=60)
    unseen = np.arange(6) == 2
    w = Windows(made, 0, Network(window=8, hidden=8), "cpu", unseen)
    assert not w.visible[:, 2].any() and w.visible[:, 1].any() and (w.x[:, 2] == 0).all()


def test_padding_is_never_visible():
    w = windows(cube(times=50), 12)
    *_, mask = w.batch(np.array([[*range(10), -1, -1]]))
    assert not mask[0, 10:].any()


@pytest.mark.parametrize("kind", ["iid", "matched"])
def test_whitening_hides_visible_cells_only_and_as_many_as_asked(kind):
    made = cube(times=2000, channels=1)
    visible = torch.from_numpy(made.visible(0))
    whitener, rng = Whitener(Whitening(kind=kind, rates=[0.5]), made, visible), np.random.default_rng(0)
    rows = np.arange(1000).reshape(10, 100)
    hide = whitener(rows, rng)
    assert not (hide & ~visible[rows]).any()
    share = float(hide.sum() / visible[rows].sum())
    assert share == pytest.approx({"iid": 0.5, "matched": 0.12}[kind], abs=0.03)


def test_iid_rates_are_drawn_window_by_window():
    made = cube(times=2000, channels=1, missing=0)
    whitener = Whitener(Whitening(rates=[0.2, 0.8]), made, torch.ones(2000, 6, 1, dtype=torch.bool))
    hide = whitener(np.arange(2000).reshape(20, 100), np.random.default_rng(1)).float().mean((1, 2, 3))
    assert (((hide - 0.2).abs() < 0.1) | ((hide - 0.8).abs() < 0.1)).all()
    assert hide.min() < 0.3 and hide.max() > 0.7
