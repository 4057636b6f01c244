"""Missingness: the published masks to the cell, and what each pattern promises."""

import numpy as np
import pytest

from pipeline.core.errors import DataError
from pipeline.spin.data_settings import Missing
from pipeline.spin.masks import around, draw, rehide

NO_EDGES = np.zeros((2, 0), int)
RING = np.array([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 0]])
KINDS = ("point", "block", "block_upstream", "outage", "spatial", "patrol", "value", "replay")


def made(rows=600, nodes=6, channels=2, missing=0.1, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, nodes, channels))
    return np.where(rng.random(values.shape) < missing, np.nan, values), np.arange(rows) * 3 // rows


@pytest.mark.parametrize(
    ("kind", "test", "val", "rate"), [("point", 20938, 10365, 0.2504), ("block_upstream", 7380, 3605, 0.0891)]
)
def test_the_masks_of_metr_la_are_the_published_ones_to_the_cell(kind, test, val, rate):
    hidden = draw(Missing(kind=kind), 9101112, np.zeros((2016, 207, 1)), np.zeros(2016, int), NO_EDGES)
    assert hidden[1612:].sum() == test
    assert hidden[1411:1612].sum() == val
    assert hidden.mean() == pytest.approx(rate, abs=1e-4)


def test_the_upstream_block_is_as_its_definition_says():
    """Written out anew from the definition: one length a column with a fault, the last row filled by what runs over."""
    rng = np.random.default_rng(5)
    expected = rng.random((300, 9)) < 0.004
    for column in range(9):
        rows = np.flatnonzero(expected[:, column])
        if len(rows):
            length = 12 + int(rng.integers(36))
            for row in rows:
                for r in range(row, row + length):
                    expected[min(r, 299), column] = True
    expected |= rng.random((300, 9)) < 0.05
    found = draw(Missing(kind="block_upstream", fault=0.004), 5, np.zeros((300, 9, 1)), np.zeros(300, int), NO_EDGES)
    np.testing.assert_array_equal(found[:, :, 0], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_mask_and_another_seed_another(kind):
    values, segment = made()
    missing = Missing(kind=kind, fault=0.01, shortest=4, longest=9)
    first, again, other = (draw(missing, seed, values, segment, RING) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and first.shape == values.shape


def test_faults_have_lengths_of_their_own_within_bounds_and_end_with_the_segment():
    values, segment = made(rows=3000, nodes=40, channels=1)
    hidden = draw(Missing(kind="block", fault=0.0005, noise=0, shortest=5, longest=9), 3, values, segment, NO_EDGES)
    lengths = []
    for column in hidden[:, :, 0].T:
        edges = np.flatnonzero(np.diff(np.r_[0, column.astype(int), 0]))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            borders = set(np.flatnonzero(np.diff(segment)) + 1) | {len(segment)}
            if end not in borders:
                lengths.append(end - start)
    assert {5, 6, 7, 8} <= set(lengths) <= set(range(5, 30))  # longer only where two faults meet
    assert np.mean(np.array(lengths) > 8) < 0.05


def test_an_outage_hides_all_channels_of_a_node_and_a_spatial_one_its_neighbours_too():
    values, segment = made()
    outage = draw(Missing(kind="outage", fault=0.01), 1, values, segment, RING)
    np.testing.assert_array_equal(outage[..., 0], outage[..., 1])
    near = around(RING, 6, 3)
    assert [set(row) for row in near] == [{0, 1, 5}, {0, 1, 2}, {1, 2, 3}, {2, 3, 4}, {3, 4, 5}, {0, 4, 5}]
    wide = draw(Missing(kind="spatial", fault=0.002, reach=3), 2, values, segment, RING)[..., 0]
    assert wide.any()
    for row in wide:  # who is down has a neighbour that is down
        assert all(row[(i - 1) % 6] or row[(i + 1) % 6] for i in np.flatnonzero(row))


def test_a_patrol_stays_and_walks_along_edges_until_enough_is_seen():
    values, segment = made(rows=900)
    hidden = draw(Missing(kind="patrol", rate=0.6, shortest=5), 4, values, segment, RING)
    assert 0.3 < hidden.mean() <= 0.6
    one = draw(Missing(kind="patrol", rate=0.95, shortest=5), 4, values, segment, RING)[..., 0]
    at = [set(np.flatnonzero(~row)) for row in one]
    for row in range(1, len(at)):
        if segment[row] == segment[row - 1] and len(at[row]) == len(at[row - 1]) == 1:
            (here,), (there,) = at[row], at[row - 1]
            assert (here - there) % 6 in (0, 1, 5)


def test_low_values_are_hidden_more_often_at_the_asked_rate():
    values, segment = made(rows=4000, missing=0)
    hidden = draw(Missing(kind="value", rate=0.2), 6, values, segment, NO_EDGES)
    assert hidden.mean() == pytest.approx(0.2, abs=0.01)
    assert values[hidden].mean() < -0.4 < 0.05 < values[~hidden].mean()


def test_replay_moves_the_real_gaps_in_time_all_sensors_together():
    values, segment = made()
    hidden = draw(Missing(kind="replay"), 7, values, segment, NO_EDGES)
    gaps = np.isnan(values)
    assert any(np.array_equal(hidden, np.roll(gaps, k, axis=0)) for k in range(1, len(gaps)))


def test_what_can_t_be_drawn_is_said():
    values, segment = made(missing=0)
    with pytest.raises(DataError, match="needs data with real gaps"):
        draw(Missing(kind="replay"), 1, values, segment, NO_EDGES)
    with pytest.raises(DataError, match="needs a data set with its own mask"):
        draw(Missing(kind="official"), 1, values, segment, NO_EDGES)


@pytest.mark.parametrize("kind", [*KINDS, "official", "none"])
def test_hiding_again_takes_visible_cells_alone(kind):
    values, segment = made()
    again = rehide({"kind": kind, "fault": 0.01}, values, segment, RING, np.random.default_rng(0), rate=0.3)
    assert again.any() and not (again & np.isnan(values)).any()
