"""The background's densities against sums written out, their integrals, and what they leave out."""

import numpy as np
import pytest

from pipeline.smash import kde
from pipeline.smash.kde import Background


@pytest.fixture(scope="module")
def fitted(make):
    cat = make(sequences=(12, 2, 2))
    return cat, Background.fit(cat, recencies=(np.inf, 0.2), count=3)


def plain(cat, back, xy, width, recency, mark, skip=()):
    """Sum of Gaussians over the training events of a mark (None: of all)."""
    row = cat.events(cat.sequences("train"))
    time = cat.start[cat.sequence[row]] + cat.t[row]
    age = (time.max() - time) / (time.max() - time.min())
    weight = np.ones(len(row)) if np.isinf(recency) else np.exp(-age / recency)
    used = np.ones(len(row), bool) if mark is None else cat.labels[row] == mark
    used &= ~np.isin(cat.sequence[row], skip)
    r2 = ((cat.xy[row][used] - xy) ** 2).sum(axis=1)
    dense = np.exp(-0.5 * r2 / width**2) / (2 * np.pi * width**2)
    return max(np.log((weight[used] * dense).sum() / weight[used].sum()), np.log(kde.TINY))


def test_every_component_is_the_sum_it_says(fitted):
    cat, back = fitted
    place = np.array([[0.5, -1.0], [2.0, 3.0]])
    found = back.features(place)
    assert found.shape == (2, 3 * 3 + 1, 3)
    for i, xy in enumerate(place):
        for w, width in enumerate(back.widths):
            for r, recency in enumerate(back.recencies):
                for k in range(3):
                    assert found[i, w * 2 + r, k] == pytest.approx(plain(cat, back, xy, width, recency, k), abs=2e-3)
            assert found[i, 6 + w, 0] == pytest.approx(plain(cat, back, xy, width, np.inf, None), abs=2e-3)


def test_training_events_leave_out_their_own_time(fitted):
    """An event of window 5 must not see windows 4 to 6, which lie within one window of it."""
    cat, back = fitted
    row = cat.events(np.array([5]))[3:5]
    found = back.catalogue_features(cat, row)
    near = [s for s in range(12) if s in (4, 5, 6)]
    time = cat.start[cat.sequence[row]] + cat.t[row]
    every = cat.events(cat.sequences("train"))
    other = cat.start[cat.sequence[every]] + cat.t[every]
    for i in range(2):
        skipped = np.abs(other - time[i]) <= back.gap
        assert set(cat.sequence[every][skipped]) == set(near)
        r2 = ((cat.xy[every][~skipped] - cat.xy[row[i]]) ** 2).sum(axis=1)
        dense = np.exp(-0.5 * r2 / back.widths[-1] ** 2) / (2 * np.pi * back.widths[-1] ** 2)
        assert found[i, 8, 0] == pytest.approx(np.log(dense.mean()), abs=2e-3)


def test_densities_integrate_to_one(fitted):
    cat, back = fitted
    axis = np.linspace(-40, 40, 401)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    total = np.exp(back.features(grid).astype(float)).sum(axis=0) * 0.2**2
    wide = [4, 5, 8, 9]  # the narrow ones need a finer grid
    assert total[wide] == pytest.approx(np.ones((4, 3)), abs=0.02)


def test_degrees_are_scaled_and_the_jacobian_is_kept(make):
    cat = make(units={"time": "day", "place": "deg"})
    cat.meta["scaler"]["xy"]["mean"] = [0.0, 60.0]
    back = Background.fit(cat)
    assert back.scale == pytest.approx([0.5, 1.0])
    axis = np.linspace(-60, 60, 401)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    total = np.exp(back.features(grid).astype(float)[:, -1, 0]).sum() * 0.3**2
    assert total == pytest.approx(1.0, abs=0.01)


def test_widths_keep_to_the_stated_floor(make):
    cat = make(narrowest=0.5)
    found = kde.widths(cat)
    assert found[0] == 0.5 and found[1:] / found[:-1] == pytest.approx(3.0)


@pytest.fixture(scope="module")
def lattice(make):
    cat = make(sequences=(6, 2, 2), lattice={"time": None, "place": 1.0})
    cat.xy[:] = np.clip(np.rint(cat.xy), -9, 9)
    from pipeline.smash.events import finished

    return finished(cat)


def test_on_a_lattice_masses_sum_to_one(lattice):
    back = Background.fit(lattice)
    total = np.exp(back.tables().astype(float)).sum(axis=(2, 3))
    assert total == pytest.approx(np.ones_like(total), abs=1e-5)
    own = np.exp(back.tables(leave=2).astype(float)).sum(axis=(2, 3))
    assert own == pytest.approx(np.ones_like(own), abs=1e-5)


def test_on_a_lattice_training_windows_leave_themselves_out(lattice):
    back = Background.fit(lattice)
    row = lattice.events(np.array([2]))[:1]
    a, b = back.cells(lattice.xy[row])
    found = back.catalogue_features(lattice, row)[0]
    assert found == pytest.approx(back.tables(leave=2)[:, :, a[0], b[0]])
    assert not np.allclose(found, back.features(lattice.xy[row])[0])


def test_draws_follow_the_density(fitted):
    cat, back = fitted
    rng = np.random.default_rng(0)
    widest = back.components - 2  # all events at the widest kernel
    drawn = back.sample(np.full(20000, widest), np.zeros(20000, int), rng)
    row = cat.events(cat.sequences("train"))
    assert drawn.mean(axis=0) == pytest.approx(cat.xy[row].mean(axis=0), abs=0.15)
    assert drawn.var(axis=0) == pytest.approx(cat.xy[row].var(axis=0) + back.widths[-1] ** 2, rel=0.05)
