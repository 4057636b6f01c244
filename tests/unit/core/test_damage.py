"""Inputs that are not what was written, and places that can't be written to."""

import errno
import json
import re

import pytest

from pipeline.core.damage import checked, unwritable
from pipeline.core.errors import DataError
from pipeline.core.store import digest


def recorded(folder, *paths):
    """A record of the stage that has written these."""
    digests = {path.name: digest(path) for path in paths} | {"../own.csv": "0" * 64}
    (folder / "prepare.run.json").write_text(json.dumps({"schema": "run/1", "digests": digests}))


def store(folder):
    path = folder / "data.zarr"
    (path / "c").mkdir(parents=True)
    (path / "zarr.json").write_text("{}")
    (path / "c" / "0").write_bytes(bytes(range(200)))
    return path


def test_what_its_stage_wrote_is_taken_and_what_nobody_tells_of_too(tmp_path):
    path = store(tmp_path)
    assert checked(path) == digest(path)
    recorded(tmp_path, path)
    (path / ".snakemake_timestamp").touch()  # Snakemake's own, and no damage
    assert checked(path) == digest(path)
    (tmp_path / "other.run.json").write_text("cut off {")
    (tmp_path / "own.csv").write_text("a,b\n")
    assert checked(tmp_path / "own.csv") == digest(tmp_path / "own.csv")


@pytest.mark.parametrize("damage", ["bit", "cut", "chunk gone", "another file"])
def test_damage_is_set_aside_with_one_message(tmp_path, damage):
    path = store(tmp_path)
    recorded(tmp_path, path)
    chunk = path / "c" / "0"
    content = bytearray(chunk.read_bytes())
    if damage == "bit":
        content[100] ^= 1
        chunk.write_bytes(content)
    elif damage == "cut":
        chunk.write_bytes(content[:-1])
    elif damage == "chunk gone":
        chunk.unlink()
    else:
        (path / "c" / "1").write_bytes(b"x")
    with pytest.raises(DataError, match=r"data\.zarr is not what its stage wrote .*\.damaged-data\.zarr.*made anew"):
        checked(path)
    assert not path.exists() and (tmp_path / ".damaged-data.zarr").is_dir()
    store(tmp_path)  # made anew, and damaged again: the older one goes
    (path / "zarr.json").write_text("{ }")
    with pytest.raises(DataError, match="set aside"):
        checked(path)
    assert (tmp_path / ".damaged-data.zarr" / "zarr.json").read_text() == "{ }"


def test_an_input_that_is_gone(tmp_path):
    with pytest.raises(DataError, match=r"x\.npy is gone since the workflow began; run the same command again"):
        checked(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            OSError(errno.ENOSPC, "", "/a/b"),
            r"/a/b can't be written: No space left on device\. [\d,]+ MB are free there",
        ),
        (OSError(errno.EFBIG, ""), r"can't be written: File too large\. "),
        (OSError(errno.EROFS, "", "/a/b"), r"/a/b can't be written: Read-only file system\. Make the folder writable"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), r"No space left on device"),
        (OSError("23448 requested and 17984 written"), r"No space left on device"),  # numpy's
        (OSError(errno.ENOENT, "", "/a/b"), None),
        (ValueError("28"), None),
    ],
)
def test_a_full_or_shut_place_is_told_whoever_found_out(tmp_path, error, told):
    for one in (error, wrapped(error)):
        found = unwritable(one, tmp_path / "not" / "yet")
        assert found is None if told is None else re.search(told, str(found)), found


def wrapped(error):
    try:
        try:
            raise error
        except Exception as inner:
            raise RuntimeError("the store could not be saved") from inner
    except RuntimeError as outer:
        return outer
