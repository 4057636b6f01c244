"""The cube: which cells are targets, what a method may read, scaling, and the round trip through Zarr."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.core.errors import DataError
from pipeline.core.store import digest
from pipeline.spin.cube import (
    TEST,
    TRAIN,
    VAL,
    Imputations,
    load,
    read_imputations,
    save,
    write_imputations,
)

from .made_up import cube


def test_targets_are_hidden_observed_cells_of_the_split_each_once_in_order():
    data = cube()
    for mask in range(2):
        for split in (TRAIN, VAL, TEST):
            found = data.targets(mask, split)
            expected = [
                (t, n, c)
                for t in range(240)
                for n in range(6)
                for c in range(2)
                if data.split[t] == split and data.hidden[mask, t, n, c] and not np.isnan(data.value[t, n, c])
            ]
            assert list(zip(found.time, found.node, found.channel, strict=True)) == expected
            np.testing.assert_array_equal(found.truth, [data.value[cell] for cell in expected])


def test_the_layout_is_the_named_mask_s_validation_targets_and_every_mask_s_test_targets():
    data = cube(masks=3)
    layout = data.layout()
    assert [part[:2] for part in layout.parts()] == [(0, VAL), (0, TEST), (1, TEST), (2, TEST)]
    position = 0
    for mask, split, part in layout.parts():
        target = data.targets(mask, split)
        assert part == slice(position, position + len(target)) == layout.slice(mask, split)
        np.testing.assert_array_equal(layout.time[part], target.time)
        np.testing.assert_array_equal(layout.truth[part], target.truth)
        position = part.stop
    assert position == layout.size


def test_inputs_show_neither_hidden_nor_missing_cells():
    data = cube()
    for mask in range(2):
        shown = ~np.isnan(data.inputs(mask))
        assert not (shown & data.hidden[mask]).any()
        np.testing.assert_array_equal(shown, data.visible(mask))


def test_the_scaler_reads_visible_training_cells_alone():
    data = cube()
    train = data.split == TRAIN
    mean, sd = data.scaler(1)
    for c in range(2):
        cells = data.value[train][..., c][~data.hidden[1][train][..., c] & data.observed[train][..., c]].astype(float)
        assert mean[c] == pytest.approx(cells.mean(), rel=1e-6)
        assert sd[c] == pytest.approx(cells.std(), rel=1e-5)
    other = data.value.copy()
    other[data.hidden[1] | ~train[:, None, None]] += 1000
    changed = replace(data, value=other)
    np.testing.assert_array_equal(changed.scaler(1)[0], mean)


def test_a_channel_that_can_t_be_scaled_is_named():
    data = cube()
    value = data.value.copy()
    value[..., 1] = 3.0
    with pytest.raises(DataError, match="'c1' has a single value in the training period"):
        replace(data, value=value).scaler()


def test_calendar_of_known_dates():
    data = cube()
    assert data.weekday[0] == 0 and data.daytime[0] == 0  # 2024-01-01 was a Monday
    assert data.daytime[72] == pytest.approx(0.25)


def test_round_trip_and_equal_bytes(tmp_path):
    data = cube()
    save(data, tmp_path / "a.zarr")
    save(data, tmp_path / "b.zarr")
    assert digest(tmp_path / "a.zarr") == digest(tmp_path / "b.zarr")
    again = load(tmp_path / "a.zarr")
    for name in data.__dataclass_fields__:
        first, second = getattr(data, name), getattr(again, name)
        if isinstance(first, np.ndarray):
            np.testing.assert_array_equal(first, second)
            assert first.dtype == second.dtype, name
        else:
            assert first == second, name


def test_imputations_round_trip_with_and_without_quantiles(tmp_path):
    data = cube()
    size = data.layout().size
    value = np.random.default_rng(0).normal(size=(2, size)).astype(np.float32)
    quantile = np.stack([value - 1, value + 1], axis=2)
    write_imputations(tmp_path / "a", Imputations(["mean", "linear"], value, attrs={"cpu_s": 1.5}))
    write_imputations(tmp_path / "b", Imputations([3, 4], value, quantile, (0.05, 0.95)))
    a, b = read_imputations(tmp_path / "a"), read_imputations(tmp_path / "b")
    assert a.members == ["mean", "linear"] and a.quantile is None and a.attrs["cpu_s"] == 1.5
    assert b.members == [3, 4] and b.levels == (0.05, 0.95)
    np.testing.assert_array_equal(b.quantile, quantile)
    layout = data.layout()
    np.testing.assert_array_equal(b.at(layout, 1, 1, TEST), value[1, layout.slice(1, TEST)])
    with pytest.raises(DataError, match="member, target"):
        write_imputations(tmp_path / "c", Imputations([1], value))
    assert not (tmp_path / "c").exists()
