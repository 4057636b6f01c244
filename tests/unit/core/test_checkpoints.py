"""Checkpoints are taken whole and by their own job, or not at all."""

import pytest
import torch

from pipeline.core import checkpoints

CONTENT = {"model": {"weight": torch.arange(300.0)}, "step": 7, "best": float("inf"), "finished": {3: "x"}}


class Log:
    def __init__(self):
        self.lines = []

    def info(self, text):
        self.lines.append(text)


@pytest.fixture
def saved(tmp_path):
    checkpoints.save(tmp_path / "train.checkpoint.pt", "key", CONTENT)
    return tmp_path / "train.checkpoint.pt"


def test_what_was_saved_comes_back_and_nothing_else_is_left(saved):
    log = Log()
    found = checkpoints.load(saved, "key", log)
    assert torch.equal(found.pop("model")["weight"], CONTENT["model"]["weight"])
    assert found == {"step": 7, "best": float("inf"), "finished": {3: "x"}} and not log.lines
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_none_is_taken_where_there_is_none_or_another_jobs(saved):
    log = Log()
    assert checkpoints.load(saved, "other", log) is None
    assert checkpoints.load(saved.with_name("nothing"), "key", log) is None
    assert not log.lines  # neither is damage


@pytest.mark.parametrize("share", [0, 0.03, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("how", ["bit", "cut"])
def test_damage_anywhere_is_told_and_the_next_checkpoint_takes_the_place(how, share, saved):
    content, log = bytearray(saved.read_bytes()), Log()
    place = int(share * len(content))
    if how == "cut":
        del content[place:]
    else:
        content[place] ^= 1
    saved.write_bytes(content)
    assert checkpoints.load(saved, "key", log) is None
    (line,) = log.lines
    assert line.startswith("the checkpoint train.checkpoint.pt is damaged (") and line.endswith("starting anew")
    checkpoints.save(saved, "key", CONTENT)
    assert checkpoints.load(saved, "key", log)["step"] == 7


def test_a_checkpoint_without_a_digest_is_not_taken(saved):
    log = Log()
    torch.save({"fingerprint": "key", "content": CONTENT}, saved)
    assert checkpoints.load(saved, "key", log) is None and "not what was saved" in log.lines[0]


class Code:
    def __reduce__(self):
        return print, ("run",)


def test_no_code_of_a_checkpoint_is_run(saved, capsys):
    log = Log()
    checkpoints.save(saved, "key", {"step": Code()})
    assert checkpoints.load(saved, "key", log) is None
    assert len(log.lines) == 1 and capsys.readouterr().out == ""
