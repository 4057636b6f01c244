"""The arm that corrects a cheap imputer: where it starts, what it reads, what it adds up to."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.core.config import merge
from pipeline.spin.baselines import Scene as BaselineScene
from pipeline.spin.baselines import mice
from pipeline.spin.boosted import OutOfFold
from pipeline.spin.cells import SOURCE, Scene, sources
from pipeline.spin.cube import TEST, TRAIN
from pipeline.spin.intervals import LEVELS
from pipeline.spin.residual import Residual, flat, quantiles
from pipeline.spin.settings import Train

from .made_up import cube

SMALL = {
    "network": {"kind": "residual", "hidden": 8, "layers": 2},
    "base": {"masks": 2, "neighbours": 3, "reach": 2, "folds": 3},
    "fit": {"batch": 1, "whitening": {"kind": "matched"}},
    "boosting": {"trees": 15, "masks": 2, "least": 5},
}


def arm(made=None, **over):
    return Residual(made or cube(times=300, nodes=5), Train.model_validate(merge(SMALL, over)))


@pytest.fixture(scope="module")
def trained():
    """An arm, its training cells, and a network with every weight shaken."""
    one = arm()
    scene, cells = one.training(0, None)
    model = one.build(cells.x.shape[1], 0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return one, scene, cells, model.eval()


def test_training_starts_at_the_straight_line():
    one = arm()
    made = one.cube
    targets = made.targets(0, TEST)
    cells = one.cells(made.visible(0), flat(made, targets), 0, None)
    scene = Scene.of(one.describer.space, made.value, made.visible(0))
    value = one.predict(one.build(cells.x.shape[1], 0), cells, scene)[:, 0].numpy()
    sd, mean = one.describer.space.sd[targets.channel], one.describer.space.mean[targets.channel]
    checked = 0
    for place in range(0, len(targets), 17):
        t, n, c = targets.time[place], targets.node[place], targets.channel[place]
        seen = np.flatnonzero(made.visible(0)[:, n, c])
        if not seen[0] < t < seen[-1]:
            continue
        expected = np.interp(t, seen, made.value[seen, n, c])
        assert value[place] * sd[place] + mean[place] == pytest.approx(expected, rel=1e-4, abs=1e-3)
        checked += 1
    assert checked > 5


def test_kriging_as_a_base_is_what_training_starts_at():
    one = arm(base={"imputer": "kriging"})
    visible, cells = one.cube.visible(0), np.flatnonzero(one.cube.hidden[0].ravel())[:50]
    found = one.cells(visible, cells, 0, None)
    mean, _ = one.describer.kriging.predict(one.cube.value, visible, cells)
    np.testing.assert_allclose(found.base, mean, atol=1e-4)


def test_mice_as_a_base_is_the_baseline_of_that_name():
    """A network whose read-out is still zero says what the baseline says, in the unit of the data."""
    one = arm(base={"imputer": "mice"})
    made, targets = one.cube, one.cube.targets(1, TEST)
    cells = one.cells(made.visible(1), flat(made, targets), 0, None)
    scene = Scene.of(one.describer.space, made.value, made.visible(1))
    value = one.predict(one.build(cells.x.shape[1], 0), cells, scene)[:, 0].numpy()
    sd, mean = one.describer.space.sd[targets.channel], one.describer.space.mean[targets.channel]
    baseline = BaselineScene.of(made, 0, 3)
    baseline.z = baseline.space.scaled(made.inputs(1))
    expected = targets.pick(baseline.physical(mice(baseline, "profile")))
    np.testing.assert_allclose(value * sd + mean, expected, rtol=1e-4)
    assert np.abs(value - arm().cells(made.visible(1), flat(made, targets), 0, None).base.numpy()).max() > 0.1


def test_training_cells_are_visible_training_cells_hidden_again(trained):
    one, _, cells, _ = trained
    made = one.cube
    time, node, channel = cells.time.numpy(), cells.home.numpy() // 2, cells.home.numpy() % 2
    assert (made.split[time] == TRAIN).all() and made.visible(0)[time, node, channel].all()
    truth = (made.value[time, node, channel] - one.describer.space.mean[channel]) / one.describer.space.sd[channel]
    np.testing.assert_allclose(cells.y, truth, atol=1e-4)
    assert set(cells.scene.tolist()) == {0, 1}


def test_sources_are_neighbours_steps_and_only_visible_ones(trained):
    one, scene, cells, _ = trained
    few = cells[torch.arange(0, len(cells), 41)]
    numbers, seen = sources(few, scene, one.near, one.sign, one.level, one.run, 2)
    assert numbers.shape == (len(few), one.near.shape[1], 5, SOURCE)
    assert (numbers[~seen] == 0).all()
    assert not seen[:, 0, 2].any()  # the cell itself is hidden
    cell, k, step = (int(v) for v in seen.nonzero()[7])
    home, row = int(one.near[few.home[cell], k]), int(few.time[cell]) + step - 2
    z = scene.z[few.scene[cell], home, row]
    assert scene.shown[few.scene[cell], home, row]
    assert numbers[cell, k, step, 2] == pytest.approx(float((z - one.level[home]) * one.sign[few.home[cell], k]))


def test_what_is_hidden_is_never_read(trained):
    """The truth of every hidden cell replaced by nonsense: not one imputation changes."""
    one, _, cells, model = trained
    made = one.cube
    nonsense = np.where(made.hidden[0], np.float32(1e4), made.value)
    other = arm(replace(made, value=np.where(np.isnan(made.value), np.float32(np.nan), nonsense)))
    answers = []
    for each in (one, other):
        targets = made.targets(0, TEST)
        visible = each.cube.visible(0)
        found = each.cells(visible, flat(made, targets), 0, None)
        answers.append(each.predict(model, found, Scene.of(each.describer.space, each.cube.value, visible)))
    torch.testing.assert_close(*answers, atol=1e-5, rtol=0)


def test_a_cell_is_imputed_alike_alone_and_among_others(trained):
    one, scene, cells, model = trained
    together = one.predict(model, cells[torch.arange(40)], scene)
    alone = torch.cat([one.predict(model, cells[torch.tensor([i])], scene) for i in range(40)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_attention_sums_to_one_where_a_neighbour_shows_anything(trained):
    one, scene, cells, model = trained
    few = cells[torch.arange(30)]
    numbers, seen = sources(few, scene, one.near, one.sign, one.level, one.run, 2)
    _, found = model(few.x, few.home, one.near[few.home], numbers, seen, return_attention=True)
    assert len(found) == 2
    for alpha in found:
        torch.testing.assert_close(alpha.sum(2), seen.any(2).float(), atol=1e-5, rtol=0)
        assert (alpha[~seen] == 0).all()


def test_quantiles_are_in_order_and_a_single_value_stays():
    raw = 5 * torch.randn(100, len(LEVELS))
    assert (quantiles(raw).diff(dim=1) >= 0).all()
    assert torch.equal(quantiles(raw)[:, 2], raw[:, 0])
    assert torch.equal(quantiles(raw[:, :1]), raw[:, :1])


def test_the_quantile_loss_is_smallest_at_the_quantiles():
    """Five free numbers fitted to normal noise end at its quantiles."""
    one = arm(uncertainty={"head": "quantile"}, fit={"batch": 32})
    scene, cells = one.training(0, None)
    error = torch.randn(2048, generator=torch.Generator().manual_seed(0))
    cells = cells[torch.zeros(2048, dtype=torch.long)]
    cells.y = cells.base + error
    free = torch.tensor([0.0, 0.5, 0.5, 0.5, 0.5], requires_grad=True)
    one.correct = lambda model, chosen, scene: chosen.base[:, None] + quantiles(free[None])
    loss, optimizer = one.loss(None, cells, scene), torch.optim.Adam([free], lr=0.1)
    rng = np.random.default_rng(0)
    for _ in range(120):
        optimizer.zero_grad()
        loss(rng).backward()
        optimizer.step()
    expected = torch.quantile(error, torch.tensor(LEVELS))
    torch.testing.assert_close(quantiles(free.detach()[None])[0], expected, atol=0.06, rtol=0)


def test_a_training_cell_gets_its_base_from_the_model_that_has_not_seen_its_stretch():
    one = arm(base={"imputer": "boosting"})
    boost = OutOfFold.fit(one.cube, one.describer, one.settings, 0)
    train = np.flatnonzero(one.cube.split == TRAIN)
    assert set(boost.fold[train]) == {0, 1, 2} and (boost.fold[one.cube.split != TRAIN] == -1).all()
    made = one.cube
    rows = np.r_[np.flatnonzero(boost.fold == 1)[:5], np.flatnonzero(boost.fold < 0)[:5]]
    cells, _ = one.describer.describe(made.visible(0), (rows[:, None] * 10 + np.arange(10)).ravel(), 0)
    channel = cells.home.numpy() % 2
    each = np.stack(
        [[m[c].predict(x[None])[0] for x, c in zip(cells.x.numpy(), channel, strict=True)] for m in boost.models]
    )
    correction = (boost(cells) - cells.base).numpy()
    np.testing.assert_allclose(correction[:50], each[1, :50], atol=1e-5)
    np.testing.assert_allclose(correction[50:], each.mean(0)[50:], atol=1e-5)
    given = one.cells(made.visible(0), (rows[:, None] * 10 + np.arange(10)).ravel(), 0, boost)
    torch.testing.assert_close(given.base, boost(cells))
