"""Pickles are looked at before they are loaded."""

import pickle

import numpy as np
import pytest

from pipeline.core.unpickling import check

PLAIN = [1, -1, 2.5, None, True, 2**100, 70_000, "x", "é" * 300, b"y", bytearray(b"z"), {"a": (1, [2])}, {3}]


@pytest.mark.parametrize("protocol", range(6))
def test_honest_pickles_pass(protocol):
    check(pickle.dumps(PLAIN, protocol=protocol))
    check(pickle.dumps([PLAIN] * 300, protocol=protocol))
    check(pickle.dumps({i: str(i) for i in range(2000)}, protocol=protocol))  # places beyond one byte
    check(pickle.dumps(np.arange(1000.0), protocol=protocol))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x80\x02]r\xff\xff\xff\x7f.", "asks for more memory"),  # nine bytes that would take 32 GB
        (b"(lp2147483647\n.", "asks for more memory"),
        (b"\x80\x04\x8e\x00\x00\x00\x00\x00\x01\x00\x00abc.", "truncated"),
        (b"\x80\x04]", "truncated"),
        (b"I12", "truncated"),
        (b"\xff.", "no instruction"),
        (b"", "truncated"),
    ],
)
def test_others_are_refused(content, said):
    with pytest.raises(pickle.UnpicklingError, match=said):
        check(content)
