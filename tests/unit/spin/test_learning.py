"""Schedules by closed form, early stopping, budgets, and checkpoints that resume to the same weights."""

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.spin import learning
from pipeline.spin.learning import Keeper, factor, learn, magic
from pipeline.spin.settings import Fit


class Log:
    def __init__(self):
        self.lines, self.entries = [], []

    def info(self, text):
        self.lines.append(text)

    def history(self, step, total, **metrics):
        self.entries.append((step, metrics))

    def progress(self, total, what):
        return self

    def update(self, done):
        pass


def test_magic_is_the_published_schedule():
    """300 epochs: 12 of warm-up, then 3 cosines over 288 epochs of 96 each, times 1 - 0.67 progress, at least 0.1."""
    assert magic(0, 300, 12) == 0.1 and magic(6, 300, 12) == 0.5
    assert magic(12, 300, 12) == 1.0
    assert magic(12 + 48, 300, 12) == pytest.approx(0.5 * (1 - 0.67 / 6))
    assert magic(12 + 96, 300, 12) == pytest.approx(1 - 0.67 / 3)  # restarted
    assert magic(300, 300, 12) == 0
    assert magic(11 + 96, 300, 12) == 0.1  # the end of a cosine, held up


def test_magic_of_a_short_training_has_no_cosine():
    """Fewer than 100 epochs: no cycle, the linear decay alone."""
    assert magic(30, 48, 12) == pytest.approx(1 - 0.67 * 0.5)


def test_rates_follow_steps_or_seconds_whichever_is_used_up_first():
    fit = Fit(steps=100, seconds=10.0, schedule="linear", warmup=0)
    assert factor(fit, 50, 0.0) == 0.5 and factor(fit, 50, 8.0) == pytest.approx(0.2)
    cosine = fit.model_copy(update={"schedule": "cosine"})
    assert factor(cosine, 50, 0.0) == pytest.approx(0.5) and factor(cosine, 100, 0.0) == pytest.approx(0)
    rising = fit.model_copy(update={"schedule": "constant", "warmup": 2, "batches_epoch": 10})
    assert factor(rising, 9, 0.0) == 0.5 and factor(rising, 40, 0.0) == 1


class Line(nn.Module):
    """Fits y = 2 x."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(()))

    def loss(self, rng):
        x = torch.as_tensor(rng.standard_normal(8), dtype=torch.float32)
        noise = torch.randn(8)  # dropout, say: the other generator
        return ((self.slope - 2) * x + 0.01 * noise).abs().mean()

    def validate(self):
        return float((self.slope.detach() - 2).abs())


def run(tmp_path, fit, name="k", seed=0, fingerprint="a"):
    model, log = Line(), Log()
    keeper = Keeper.open(tmp_path / name, fingerprint, log)
    return learn(model, model.loss, model.validate, fit, seed, keeper, log), log, model


FIT = Fit(steps=60, batches_epoch=10, lr=0.1, schedule="linear", warmup=0, checkpoint=1000.0)


def test_learning_keeps_the_best_state_and_says_how_it_ended(tmp_path):
    trained, log, model = run(tmp_path, FIT)
    assert trained.info["steps"] == 60 and trained.info["validation_mae"] < 0.2
    assert trained.info["validation_mae"] == min(e["validation_mae"] for _, e in log.entries)
    assert float((model.slope.detach() - 2).abs()) == pytest.approx(trained.info["validation_mae"])
    assert "ended by steps" in log.lines[-1] and not model.training


def test_patience_stops_and_small_gains_do_not_count(tmp_path):
    trained, log, _ = run(tmp_path, FIT.model_copy(update={"steps": 600, "patience": 2, "min_delta": 0.99}))
    assert trained.info["steps"] == 20 and "patience" in log.lines[-1]
    assert trained.info["validation_mae"] == 2  # where it started


def test_a_budget_of_seconds_ends_training(tmp_path, monkeypatch):
    clock = iter(np.arange(0, 1000, 0.5))
    monkeypatch.setattr(learning.time, "process_time", lambda: float(next(clock)))
    trained, log, _ = run(tmp_path, FIT.model_copy(update={"steps": 10_000, "seconds": 20.0}))
    assert "seconds" in log.lines[-1] and 10 <= trained.info["steps"] <= 40


def test_an_interrupted_training_resumes_to_the_same_weights(tmp_path, monkeypatch):
    whole, *_ = run(tmp_path, FIT, "whole")
    fit = FIT.model_copy(update={"checkpoint": 1e-9})  # after every step
    steps, save = [], Keeper.save

    def stop(keeper, current):
        save(keeper, current)
        steps.append(current)
        if len(steps) == 37:
            raise KeyboardInterrupt

    monkeypatch.setattr(Keeper, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, fit, "cut")
    monkeypatch.setattr(Keeper, "save", save)
    resumed, log, _ = run(tmp_path, fit, "cut")
    assert "from step 37" in log.lines[0]
    assert torch.equal(resumed.state["slope"], whole.state["slope"])
    assert resumed.info["validation_mae"] == whole.info["validation_mae"]
    other, log, _ = run(tmp_path, fit, "cut", fingerprint="b")  # other settings or code: from the start
    assert not any("goes on" in line for line in log.lines)


@pytest.mark.parametrize("damage", ["empty", "cut", "one bit"])
def test_a_damaged_checkpoint_is_told_and_the_training_starts_anew(damage, tmp_path, monkeypatch):
    whole, *_ = run(tmp_path, FIT, "whole")
    save = Keeper.save

    def stop(keeper, current):
        save(keeper, current)
        raise KeyboardInterrupt

    monkeypatch.setattr(Keeper, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, FIT.model_copy(update={"checkpoint": 1e-9}), "cut")
    monkeypatch.setattr(Keeper, "save", save)
    content = bytearray((tmp_path / "cut").read_bytes())
    if damage == "one bit":
        content[len(content) // 2] ^= 1
    else:
        del content[0 if damage == "empty" else len(content) // 2 :]
    (tmp_path / "cut").write_bytes(content)
    again, log, _ = run(tmp_path, FIT, "cut")
    assert "the checkpoint cut is damaged" in log.lines[0] and not any("goes on" in line for line in log.lines)
    assert torch.equal(again.state["slope"], whole.state["slope"])


def test_a_batch_without_targets_does_no_harm(tmp_path):
    model, log = Line(), Log()

    def nothing(rng):
        return model.slope * torch.nan

    fit = FIT.model_copy(update={"steps": 5})
    learn(model, nothing, model.validate, fit, 0, Keeper.open(tmp_path / "k", "a", log), log)
    assert float(model.slope) == 0
