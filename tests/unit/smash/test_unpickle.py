"""No pickle runs code, and a damaged one is one clear error."""

import os
import pickle

import numpy as np
import pytest

from pipeline.core.errors import DataError
from pipeline.smash import unpickle


class Evil:
    def __reduce__(self):
        return os.mkdir, ("/tmp/never_made_by_a_pickle",)


class Outside(pickle.Pickler):
    def persistent_id(self, obj):
        return "somewhere" if obj == "x" else None


def test_plain_values_come_back(tmp_path):
    value = {"a": [1, 2.5, "x", None, True], "b": (b"1", {3})}
    unpickle.dump(value, tmp_path / "plain.pkl")
    assert unpickle.load(tmp_path / "plain.pkl") == value


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(tmp_path, protocol):
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps([[0.1, 1.0, Evil()]], protocol))
    with pytest.raises(DataError, match="mkdir.*refused"):
        unpickle.load(path)
    assert not os.path.exists("/tmp/never_made_by_a_pickle")


@pytest.mark.parametrize("value", [np.zeros(3), np.float64(1.0), Exception("x"), int])
def test_every_class_is_refused_even_harmless_ones(tmp_path, value):
    path = tmp_path / "array.pkl"
    path.write_bytes(pickle.dumps([value]))
    with pytest.raises(DataError, match="refused.*tolist"):
        unpickle.load(path)


def test_objects_outside_the_file_are_refused(tmp_path):
    path = tmp_path / "outside.pkl"
    with path.open("wb") as stream:
        Outside(stream).dump(["x"])
    with pytest.raises(DataError, match="outside"):
        unpickle.load(path)


@pytest.mark.parametrize("cut", [0, 1, 5, -1, -7])
def test_a_truncated_pickle_is_named(tmp_path, cut):
    path = tmp_path / "cut.pkl"
    path.write_bytes(pickle.dumps([[float(i), 0.0, 1.0, 2.0] for i in range(20)])[:cut])
    with pytest.raises(DataError, match=r"cut\.pkl can't be read as a pickle"):
        unpickle.load(path)


def test_other_files_and_missing_ones_are_named(tmp_path):
    (tmp_path / "text.pkl").write_text("time,mark\n1,2\n")
    with pytest.raises(DataError, match=r"text\.pkl"):
        unpickle.load(tmp_path / "text.pkl")
    with pytest.raises(DataError, match="does not exist"):
        unpickle.load(tmp_path / "missing.pkl")


def test_a_huge_file_is_not_read(tmp_path, monkeypatch):
    unpickle.dump([1] * 100, tmp_path / "big.pkl")
    monkeypatch.setattr(unpickle, "LARGEST", 50)
    with pytest.raises(DataError, match="at most 50"):
        unpickle.load(tmp_path / "big.pkl")
