"""The catalogue: what it holds, what it hands out, and that writing and reading it is exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.core.errors import DataError
from pipeline.smash import events as ev
from pipeline.smash import unpickle

numbers = st.floats(-1e9, 1e9, allow_nan=False)


@st.composite
def catalogues(draw):
    """Any arrays that fit together; at least one training event."""
    lengths = draw(st.lists(st.integers(0, 5), min_size=3, max_size=6))
    lengths[0] = max(lengths[0], 1)
    n, windows = sum(lengths), len(lengths)
    t = draw(hnp.arrays(np.float64, n, elements=st.floats(0, 100)))
    whole = hnp.arrays(np.int64, n, elements=st.integers(0, 9))
    split = np.zeros(windows, np.int8)
    split[-2:] = [1, 2]
    return ev.Catalogue(
        np.concatenate([[0], np.cumsum(lengths)]),
        t,
        draw(st.one_of(st.none(), whole)),
        draw(hnp.arrays(np.float64, (n, 2), elements=numbers)),
        split,
        np.full(windows, 100.0),
        draw(hnp.arrays(np.float64, windows, elements=numbers)),
        np.zeros(windows, np.int64),
        draw(st.one_of(st.none(), hnp.arrays(np.float64, n, elements=st.floats(0, 9)))),
        {"marks": 10, "units": {"time": "day", "place": "km"}, "name": draw(st.text(max_size=8))},
    )


@settings(max_examples=40, deadline=None)
@given(catalogues())
def test_writing_and_reading_is_exact(tmp_path_factory, found):
    path = tmp_path_factory.mktemp("cat") / "prepared.pkl"
    found.save(path)
    back = ev.load(path)
    assert back.meta == found.meta and back.digest() == found.digest()
    for name, (_, kind) in ev.ARRAYS.items():
        a, b = getattr(found, name), getattr(back, name)
        assert (a is None) == (b is None)
        if a is not None:
            assert b.dtype == kind and np.array_equal(a, b)


def test_the_zarr_twin_holds_the_same(tmp_path, catalogue):
    catalogue.to_zarr(tmp_path / "data.zarr")
    back = ev.from_zarr(tmp_path / "data.zarr")
    assert back.digest() == catalogue.digest() and back.meta == catalogue.meta


def test_the_prepared_file_is_builtins_only(tmp_path, catalogue):
    import pickletools

    catalogue.save(tmp_path / "prepared.pkl")
    names = {op.name for op, _, _ in pickletools.genops((tmp_path / "prepared.pkl").read_bytes())}
    assert not names & {"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "REDUCE", "BUILD"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": "other/1"}, "no prepared catalogue"),
        ({"meta": None}, "damaged"),
        ({"arrays": {}}, "damaged"),
    ],
)
def test_other_content_is_refused(tmp_path, catalogue, change, words):
    catalogue.save(tmp_path / "a.pkl")
    unpickle.dump({**unpickle.load(tmp_path / "a.pkl"), **change}, tmp_path / "a.pkl")
    with pytest.raises(DataError, match=words):
        ev.load(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    ("array", "change", "words"),
    [
        ("t", {"dtype": "|O"}, "not allowed"),
        ("t", {"bytes": b"123"}, "truncated"),
        ("split", {"shape": [2], "bytes": b"\0\0"}, "shape"),
        ("xy", {"dtype": "<U4"}, "not allowed"),
    ],
)
def test_damaged_arrays_are_refused(tmp_path, catalogue, array, change, words):
    catalogue.save(tmp_path / "a.pkl")
    data = unpickle.load(tmp_path / "a.pkl")
    data["arrays"][array] |= change
    unpickle.dump(data, tmp_path / "a.pkl")
    with pytest.raises(DataError, match=words):
        ev.load(tmp_path / "a.pkl")


def test_targets_are_events_two_to_n_in_order(catalogue):
    targets = catalogue.targets("test")
    expected = [(s, i) for s in catalogue.sequences("test") for i in range(1, catalogue.lengths[s])]
    assert list(zip(targets.sequence, targets.index, strict=True)) == expected
    gap = catalogue.t[targets.row] - catalogue.t[targets.row - 1]
    assert np.array_equal(catalogue.dt[targets.row], gap)
    first = catalogue.offsets[:-1]
    assert np.array_equal(catalogue.dt[first], catalogue.t[first])


def test_the_scaler_knows_the_training_windows_alone(make):
    from dataclasses import replace

    found = make()
    late = found.split[found.sequence] > 0
    changed = ev.finished(
        replace(found, xy=np.where(late[:, None], 1e6, found.xy), t=np.where(late, found.t / 2, found.t))
    )
    for key in ("scaler", "bbox"):
        assert changed.meta[key] == found.meta[key]
    row = found.events(found.sequences("train"))
    assert found.meta["scaler"]["xy"]["mean"] == pytest.approx(found.xy[row].mean(axis=0))
    assert found.meta["scaler"]["log_dt"]["min"] >= np.log(ev.FLOOR)


def test_a_zero_time_and_the_smallest_place_are_events_like_any_other(make):
    """The published masks take a time of 0 and the lowest longitude for padding; here lengths are explicit."""
    found = make()
    found.t[found.offsets[0]] = 0.0
    found.xy[found.offsets[0] + 1] = found.xy.min(axis=0)
    assert len(found.targets("train").row) == (found.lengths[found.sequences("train")] - 1).sum()


def test_no_training_event_is_an_error(make):
    from dataclasses import replace

    with pytest.raises(DataError, match="no event in the training"):
        ev.finished(replace(make(), split=np.full(14, 2, np.int8)))
