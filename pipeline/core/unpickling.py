"""A look at a pickle's instructions before it is loaded: a few bytes must not take gigabytes.

Python's unpickler makes room for the highest place that the file *names* in its memo, so that nine bytes can ask for 32
GB. An honest pickle names places in order, each for an object of at least one byte: none lies beyond the file's size.
"""

from __future__ import annotations

import pickle
import pickletools

UP_TO_NEWLINE = pickletools.UP_TO_NEWLINE
COUNTED = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
# Bytes of each instruction and its argument: positive; 0: up to the end of the line; negative: behind a count so long.
LENGTHS: list[int | None] = [None] * 256
for _one in pickletools.opcodes:
    _n = _one.arg.n if _one.arg else 0
    LENGTHS[ord(_one.code)] = 0 if _n == UP_TO_NEWLINE else -COUNTED[_n] if _n in COUNTED else 1 + _n
TWO_LINES = (pickle.GLOBAL[0], pickle.INST[0])
STOP, PUT, LONG_PUT = pickle.STOP[0], pickle.PUT[0], pickle.LONG_BINPUT[0]


def check(content: bytes) -> None:
    """Refuse a pickle whose memo would be larger than the file.

    Raises
    ------
    pickle.UnpicklingError
        Such a place, an unknown instruction, or an end before the last one.
    """
    at, size = 0, len(content)
    while at < size:
        code = content[at]
        length = LENGTHS[code]
        if length is None:
            raise pickle.UnpicklingError(f"byte {at:,} is no instruction of a pickle")
        if code == STOP:
            return
        if code == LONG_PUT and int.from_bytes(content[at + 1 : at + 5], "little") > size:
            raise pickle.UnpicklingError(f"byte {at:,} asks for more memory than the file can need")
        if length > 0:
            at += length
        elif length < 0:
            at += 1 - length + int.from_bytes(content[at + 1 : at + 1 - length], "little")
        else:
            end = content.find(b"\n", at)
            if code == PUT and int(content[at + 1 : end] or b"0") > size:
                raise pickle.UnpicklingError(f"byte {at:,} asks for more memory than the file can need")
            if code in TWO_LINES:
                end = content.find(b"\n", end + 1) if end >= 0 else end
            if end < 0:
                break
            at = end + 1
    raise pickle.UnpicklingError("pickle data was truncated")
