"""Gap features: equal to plain loops, blind to the cell itself and to what is hidden; the published lines."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.spin.cube import TEST
from pipeline.spin.data import build
from pipeline.spin.data_settings import Data, Graph, Missing
from pipeline.spin.features import FeatureSpace, correlated, day_profile, gap_features
from pipeline.spin.gaps import Gaps, dense, kernel_means, line, series
from pipeline.spin.kriging import LENGTHS, Kriging, contrasts
from pipeline.spin.readers import aqi36, metr_la
from pipeline.spin.traffic import implied

from .made_up import cube

spec = importlib.util.spec_from_file_location("spin_gaps", Path(__file__).parents[2] / "reference" / "spin_gaps.py")
plain = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plain)

RNG = np.random.default_rng(0)
TRAFFIC = ("speed", "occupancy", "flow")


@pytest.fixture(scope="module")
def data():
    return cube(times=150, nodes=5, channels=2, segments=3)


@pytest.fixture(scope="module")
def space(data):
    return FeatureSpace.fit(data, 0, 3)


def test_gaps_lines_and_kernel_means_equal_plain_loops(data, space):
    shown = series(data.visible(0))
    shown[2, :40] = False  # a stretch with nothing before
    shown[3] = False  # nothing at all
    z = np.where(shown, series(np.nan_to_num(data.value)), 9e9)
    level = np.arange(len(z), dtype=float)
    cells = np.arange(z.size)
    gaps = Gaps.find(shown, data.segment, cells)
    straight = line(z, shown, data.segment, level)
    kernel = kernel_means(z, shown, data.segment, 1.5)
    for s in range(len(z)):
        for t in range(0, 150, 7):
            before, after = plain.around(shown[s], data.segment, t)
            at = s * 150 + t
            assert [g - s * 150 for g in gaps.before[:, at] if g >= 0] == before
            assert [g - s * 150 for g in gaps.after[:, at] if g >= 0] == after
            assert straight[s, t] == pytest.approx(plain.line_at(z[s], shown[s], data.segment, t, level[s]))
            expected = plain.kernel_at(z[s], shown[s], data.segment, t, 1.5)
            assert kernel[s, t] == pytest.approx(expected, rel=1e-4, nan_ok=True)


def test_contrasts_equal_plain_loops(data, space):
    found = gap_features(space, data.value, data.visible(0))
    shown, z = series(data.visible(0)), np.nan_to_num(space.scaled(data.inputs(0)))
    for s in (0, 3, 9):
        for t in range(1, 150, 11):
            row = (t * 5 + s // 2) * 2 + s % 2
            for k in range(3):
                j = space.neighbours[s, k]
                expected = plain.contrast_at(shown[s], z[j], shown[j], data.segment, t, space.level[j])
                expected *= np.sign(space.correlation[s, k])
                value = found.x[row, found.names.index(f"contrast_{k + 1}")]
                assert value == pytest.approx(expected, abs=2e-4, nan_ok=True)


def test_no_feature_reads_the_cell_itself_or_a_hidden_cell(data):
    traffic = _three(data)
    space = FeatureSpace.fit(traffic, 0, 3)
    visible = traffic.visible(0)
    before = gap_features(space, traffic.value, visible)
    assert "implied_near" in before.names
    changed = traffic.value.copy()
    changed[~visible] = 1e6
    np.testing.assert_array_equal(gap_features(space, changed, visible).x, before.x)
    for cell in RNG.choice(np.flatnonzero(visible), 25, replace=False):
        changed = traffic.value.copy()
        changed.ravel()[cell] += 1000
        after = gap_features(space, changed, visible, np.array([cell]))
        np.testing.assert_allclose(after.x[0], before.x[cell], rtol=1e-4, atol=2e-4)
        assert after.base[0] == pytest.approx(before.base[cell], rel=1e-5)


def _three(data):
    """The made-up cube with the three channels of a loop detector, all positive."""

    def wider(a):
        return np.concatenate([a, a[..., :1]], axis=-1)

    return replace(
        data,
        value=np.abs(wider(data.value)),
        hidden=wider(data.hidden),
        on_line=wider(data.on_line),
        channels=TRAFFIC,
        units=("mph", "1", "1"),
    )


def test_some_cells_get_what_all_cells_get(data, space):
    cells = np.sort(RNG.choice(data.value.size, 200, replace=False))
    whole, some = (gap_features(space, data.value, data.visible(0), c) for c in (None, cells))
    np.testing.assert_allclose(some.x, whole.x[cells], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(some.base, whole.base[cells], rtol=1e-6)
    np.testing.assert_array_equal(some.gap, whole.gap[cells])


def test_nothing_crosses_from_one_segment_to_the_next(data, space):
    """Values of the other segments don't touch the features of the first."""
    first = np.flatnonzero(np.repeat(data.segment == 0, 10))
    changed = np.where((data.segment == 0)[:, None, None], data.value, data.value + 50)
    a, b = (gap_features(space, value, data.visible(0), first) for value in (data.value, changed))
    np.testing.assert_array_equal(a.x, b.x)


def test_shapes_turn_round():
    cells = RNG.normal(size=(7, 3, 2))
    flat = series(cells)
    assert flat.shape == (6, 7) and flat[3, 5] == cells[5, 1, 1]
    np.testing.assert_array_equal(dense(flat, cells.shape), cells)


def test_the_profile_is_the_mean_of_the_half_hour_or_the_level():
    daytime = np.arange(0, 1, 1 / 288)
    z = np.vstack([np.sin(2 * np.pi * daytime), np.full(288, np.nan)])
    found = day_profile(z, daytime, 300, np.array([0.0, 7.0]))
    np.testing.assert_allclose(found[0, :6], z[0, :6].mean())
    np.testing.assert_allclose(found[1], 7.0)


def test_correlations_are_numpy_s_and_leave_the_own_node_out():
    z = RNG.normal(size=(6, 300)) + RNG.normal(size=300)
    z[RNG.random(z.shape) < 0.2] = np.nan
    near, rho = correlated(z, np.array([0, 0, 1, 1, 2, 2]), 3)
    for s in range(6):
        both = {}
        for j in range(6):
            if j // 2 != s // 2:
                rows = ~np.isnan(z[s]) & ~np.isnan(z[j])
                both[j] = np.corrcoef(z[s, rows], z[j, rows])[0, 1]
        best = sorted(both, key=lambda j: -abs(both[j]))[:3]
        assert near[s].tolist() == best
        np.testing.assert_allclose(rho[s], [both[j] for j in best], atol=0.01)  # means over own, not common cells


@pytest.mark.parametrize("channels", [TRAFFIC, ("avg_speed", "avg_occupancy", "total_vehicles")])
def test_implied_values_are_exact_where_the_law_holds(channels):
    """speed x occupancy = g x flow with g by lane: each of the three follows from the other two."""
    rng = np.random.default_rng(3)
    shape = (60, 2)
    speed, occupancy, g = rng.uniform(20, 70, shape), rng.uniform(0.02, 0.3, shape), np.array([0.05, 0.08])
    value = np.stack([speed, occupancy, speed * occupancy / g], axis=2)
    hidden = rng.random(value.shape) < 0.2
    base = cube(times=60, nodes=2, channels=1)
    data = replace(base, value=value.astype(np.float32), hidden=hidden[None], on_line=np.zeros(value.shape, bool),
                   channels=channels, units=("mph", "1", "veh"), masks=("a",))  # fmt: skip
    space = FeatureSpace.fit(data)
    visible = data.visible(0)
    for found in implied(np.nan_to_num(space.scaled(data.inputs(0))), series(visible), space):
        guess = dense(found, data.shape) * space.sd + space.mean
        known = np.isfinite(guess)
        assert known.any()
        np.testing.assert_allclose(guess[known], value[known], rtol=1e-3)


def test_kriging_is_the_conditional_mean_of_a_normal_vector():
    series_, rows, size = 5, 400, 2
    z = RNG.normal(size=(series_, rows)).cumsum(axis=1)
    near = np.array([[j for j in range(series_) if j != s][:size] for s in range(series_)])
    fitted = Kriging.fit(z, np.zeros(rows, int), near, np.zeros(series_))
    home, length = np.array([0, 3, 3]), np.array([2.0, 13.0, np.inf])
    contrast = np.array([[1.0, np.nan, 0.5], [-0.5, 2.0, 0.25]])
    mean, deviation = fitted.predict(home, length, contrast)
    for i, (s, kind) in enumerate(zip(home, [0, LENGTHS.index(13), len(LENGTHS)], strict=True)):
        there = ~np.isnan(contrast[:, i])
        within = fitted.within[kind, s][np.ix_(there, there)].astype(float)
        across = fitted.across[kind, s][there]
        weights = np.linalg.solve(within, across)
        assert mean[i] == pytest.approx(weights @ contrast[there, i], rel=1e-3)
        assert deviation[i] ** 2 == pytest.approx(fitted.own[kind, s] - weights @ across, rel=1e-2)
    assert fitted.predict(home, length, np.full((2, 3), np.nan))[0].tolist() == [0, 0, 0]


def test_contrasts_are_values_minus_lines_within_segments():
    z = np.array([[0.0, 1, 4, 9, 16, 25]])
    found = contrasts(z, np.array([0, 0, 0, 1, 1, 1]), 1, 1)
    np.testing.assert_allclose(found, [[np.nan, -1, np.nan, np.nan, -1, np.nan]])
    assert contrasts(z, np.zeros(6, int), 1, 3)[0, 2] == pytest.approx(4 - (0.75 * 1 + 0.25 * 25))


@pytest.mark.parametrize(("kind", "mae"), [("point", 2.270), ("block_upstream", 3.505)])
def test_the_line_on_metr_la_is_as_published(data_dir, kind, mae):
    raw = metr_la(sorted((data_dir / "traffic/metr_la_week").iterdir()), {"filled": True}, Graph(), None)
    found = build(raw, Data(missing=Missing(kind=kind, more=0)), {"name": "metr_la_week"}, "ratio")
    target = found.targets(0, TEST)
    straight = line(np.nan_to_num(series(found.inputs(0))), series(found.visible(0)), found.segment, np.zeros(207))
    error = np.abs(target.pick(dense(straight, found.shape)) - target.truth)
    assert error.mean() == pytest.approx(mae, abs=5e-4)
    if kind == "point":
        off = ~found.on_line[target.time, target.node, target.channel]
        assert error[off].mean() == pytest.approx(2.449, abs=5e-4)
        assert 1 - off.mean() == pytest.approx(0.081, abs=1e-3)


def test_the_line_on_aqi36_is_as_measured_before(data_dir):
    raw = aqi36(sorted((data_dir / "air/aqi36").iterdir()), {}, Graph(), None)
    found = build(raw, Data(missing=Missing(kind="official")), {"name": "aqi36"}, "months")
    target = found.targets(0, TEST)
    straight = line(np.nan_to_num(series(found.inputs(0))), series(found.visible(0)), found.segment, np.zeros(36))
    assert np.abs(target.pick(dense(straight, found.shape)) - target.truth).mean() == pytest.approx(14.68, abs=0.01)
