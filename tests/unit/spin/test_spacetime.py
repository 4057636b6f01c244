"""Space-time kriging against a direct conditional normal, and what it must not read."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.spin.features import FeatureSpace
from pipeline.spin.gaps import line
from pipeline.spin.spacetime import NUGGET, SpaceTimeKriging, _standard

from .made_up import cube


@pytest.fixture(scope="module")
def fitted():
    made = cube(times=300, nodes=5, channels=2, segments=2)
    space = FeatureSpace.fit(made, 0, neighbours=3)
    return made, space, SpaceTimeKriging.fit(made, space)


def test_covariances_are_lagged_products_over_training_rows_of_one_segment(fitted):
    made, space, kriging = fitted
    z, shown = _standard(space, made.value, made.visible(0))
    z = np.where(shown, z, line(z, shown, space.run, np.zeros(len(z))))
    a, b = kriging.home[3, 14], kriging.home[3, 20]
    lag = int(kriging.lag[20] - kriging.lag[14])
    rows = [t for t in range(300 - abs(lag)) if made.split[t] == 0 == made.split[t + abs(lag)]
            and made.segment[t] == made.segment[t + abs(lag)]]  # fmt: skip
    first, second = (a, b) if lag >= 0 else (b, a)
    expected = np.sum([z[first, t] * z[second, t + abs(lag)] for t in rows]) / (made.split == 0).sum()
    assert kriging.within[3, 14, 20] == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(kriging.within, kriging.within.transpose(0, 2, 1), atol=1e-5)
    assert np.linalg.eigvalsh(kriging.within.astype(float)).min() > -1e-4  # a covariance


def test_a_cell_is_the_conditional_mean_given_its_visible_variables(fitted):
    """Solved with the visible ones alone, one cell at a time."""
    made, space, kriging = fitted
    visible = made.visible(0)
    cells = np.flatnonzero(made.hidden[0].ravel())[40:60]
    mean, sd = kriging.predict(made.value, visible, cells)
    z, shown = _standard(space, made.value, visible)
    for place, cell in enumerate(cells):
        time, home = cell // 10, cell % 10
        at = time + kriging.lag
        known = [
            p for p, row in enumerate(at)
            if 0 <= row < 300 and space.run[row] == space.run[time] and shown[kriging.home[home, p], row]
        ]  # fmt: skip
        x = np.array([z[kriging.home[home, p], at[p]] for p in known])
        matrix = kriging.within[home][np.ix_(known, known)].astype(float) + NUGGET * np.eye(len(known))
        right = kriging.across[home][known].astype(float)
        weight = np.linalg.solve(matrix, right)
        assert mean[place] == pytest.approx(weight @ x * space.spread[home] + space.level[home], abs=2e-3)
        assert sd[place] == pytest.approx(
            np.sqrt(max(kriging.own[home] - weight @ right, 1e-4)) * space.spread[home], abs=2e-3
        )


def test_nothing_hidden_and_not_even_the_cell_itself_is_read(fitted):
    made, _, kriging = fitted
    visible = made.visible(0)
    cells = np.flatnonzero(visible.ravel())[[5, 50, 500]]
    mean, _ = kriging.predict(made.value, visible, cells)
    poisoned = np.where(visible, made.value, np.nan)
    poisoned.ravel()[cells] += 1000  # leave-one-out
    one = [kriging.predict(poisoned, visible, cells[[i]])[0][0] for i in range(3)]
    np.testing.assert_allclose(one, mean, atol=1e-4)


def test_it_beats_the_line_where_neighbours_share_what_happens():
    """Neighbours see the same random walk, so a long gap is no loss to them."""
    rng = np.random.default_rng(0)
    made = cube(times=600, nodes=6, channels=1, missing=0)
    walk = np.cumsum(rng.normal(size=600)) * 0.3
    value = (walk[:, None, None] + 0.05 * rng.normal(size=made.shape)).astype(np.float32)
    hidden = np.zeros((1, *made.shape), bool)
    hidden[0, 500:540, 2] = True
    made = replace(made, value=value, hidden=hidden)
    space = FeatureSpace.fit(made, 0, neighbours=5)
    mean, _ = SpaceTimeKriging.fit(made, space).predict(made.value, made.visible(0), np.arange(500, 540) * 6 + 2)
    guess = mean * space.sd[0] + space.mean[0]
    straight = np.linspace(value[499, 2, 0], value[540, 2, 0], 42)[1:-1]
    truth = value[500:540, 2, 0]
    assert np.abs(guess - truth).mean() < 0.3 * np.abs(straight - truth).mean()
