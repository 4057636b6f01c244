"""Windows and pairs: brute force, overlaps, borders in time, completeness, projection."""

import numpy as np
import pytest

from pipeline.core.errors import DataError
from pipeline.smash import windows


@pytest.mark.parametrize("lag", [None, 1, 3])
def test_pairs_are_all_predecessors_in_the_same_window(lag):
    lengths = np.array([4, 1, 0, 3])
    target, parent = windows.pairs(lengths, lag)
    expected, start = set(), 0
    for n in lengths:
        expected |= {(start + i, start + j) for i in range(n) for j in range(i) if lag is None or i - j <= lag}
        start += n
    assert set(zip(target.tolist(), parent.tolist(), strict=True)) == expected
    assert (np.diff(target) >= 0).all()


def test_the_lag_keeps_pairs_below_a_bound():
    lengths = np.array([5, 1, 3])
    for most in (1, 6, 8, 11, 12, 13, 100):
        lag = windows.reach(lengths, most)
        assert len(windows.pairs(lengths, lag)[0]) <= max(most, 6)  # a lag of 1 has 6 pairs
        assert len(windows.pairs(lengths, lag + 1)[0]) > most or lag >= 4


def sliding(stride, window, count, seed=0, drop=None):
    """A long catalogue seen through sliding windows; ``drop`` leaves a gap before that window."""
    rng = np.random.default_rng(seed)
    starts = np.arange(count) * stride + np.where(np.arange(count) >= (drop or count), 100.0, 0.0)
    time = np.sort(rng.random(4000) * (starts[-1] + window))
    place = rng.normal(size=(4000, 2))
    return starts, [(time[rows] - s, place[rows]) for s in starts for rows in [(time >= s) & (time < s + window)]]


def test_the_stride_of_published_windows_is_found_from_their_events():
    starts, parts = sliding(7.0, 30.0, 12, drop=8)
    shifts = windows.overlaps(parts)
    assert np.isnan(shifts[7]) and shifts[np.isfinite(shifts)] == pytest.approx(7.0)
    found, phase, stride = windows.timeline(shifts, 30.0)
    assert stride == pytest.approx(7.0)
    assert phase.tolist() == [0, 1, 2, 3] * 3  # every fourth: 28 days apart
    assert np.diff(found)[7] == 30.0  # an unknown distance is taken as one window


def test_windows_that_do_not_overlap_have_no_stride():
    _, parts = sliding(30.0, 30.0, 6)
    _, phase, stride = windows.timeline(windows.overlaps(parts), 30.0)
    assert stride is None and set(phase) == {0}


def test_cutting_is_half_open_and_drops_the_rest():
    time = np.array([0.0, 9.999, 10.0, 25.0, 39.0, 41.0])
    parts = windows.cut(time, 10.0, None, 0.0, 41.0)
    assert [(start, rows.start, rows.stop) for start, rows in parts] == [(0, 0, 2), (10, 2, 3), (20, 3, 4), (30, 4, 5)]
    with pytest.raises(DataError, match="shorter windows"):
        windows.cut(time, 20.0, None, 0.0, 41.0)


def test_splits_go_by_time_and_leave_out_what_would_overlap():
    assert windows.by_time(20, 0.1, 0.2).tolist() == [0] * 14 + [1] * 2 + [2] * 4
    split = windows.by_time(40, 0.1, 0.1, reach=3)
    assert split.tolist() == [0] * 26 + [-1] * 3 + [1] * 4 + [-1] * 3 + [2] * 4
    with pytest.raises(DataError, match="too few"):
        windows.by_time(5, 0.4, 0.4, reach=1)


def test_completeness_and_b_value_of_a_catalogue_with_known_ones():
    rng = np.random.default_rng(0)
    magnitude = np.round(1.95 + rng.exponential(1 / np.log(10), 60000), 1)  # b = 1 above 2.0, bins of 0.1
    seen = rng.random(60000) < 1 / (1 + np.exp(-(magnitude - 3.0) / 0.08))  # half of magnitude 3.0 is detected
    found = windows.completeness(magnitude[seen])
    assert 3.2 <= found <= 3.5
    b, error = windows.b_value(magnitude[seen], found)
    assert b == pytest.approx(1.0, abs=3 * error) and 0.005 < error < 0.03


def test_the_projection_keeps_areas_and_comes_back():
    place = np.array([[140.0, 30.0], [145.0, 44.0], [141.3, 36.2]])
    km = windows.to_km(place, 141.0, 36.0)
    assert windows.to_degrees(km, 141.0, 36.0) == pytest.approx(place)
    assert windows.to_km(np.array([[141.0, 37.0]]), 141.0, 36.0) == pytest.approx(np.array([[0.0, 111.195]]), abs=1e-3)
    for lat in (25.0, 45.0):  # a small square has the area of the sphere's
        corner = np.array([[146.0, lat], [146.01, lat], [146.0, lat + 0.01]])
        a, b, c = windows.to_km(corner, 141.0, 36.0)
        area = abs(np.linalg.det(np.stack([b - a, c - a])))
        assert area == pytest.approx((6371.0088 * np.pi / 180 * 0.01) ** 2 * np.cos(np.radians(lat)), rel=1e-3)
