"""Stages train and evaluate on a small catalogue: what they write, resume and score."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.core.stages import Job, run
from pipeline.smash import compare, fitting, samples, scores
from pipeline.smash.events import Catalogue
from pipeline.smash.settings import STAGES, Evaluate, Train, Training

SMALL = {
    "encoder": {"cond_dim": 8, "layers": 1},
    "denoise": {"noises": 2},
    "training": {"steps": 4, "batch": 2, "save_every": 1},
    "exact": {"base": "free", "epochs": 1, "validate_every": 1, "hidden": 8},
    "sampler": {"steps": 6, "samples": 8, "events": 10, "table": 64},
    "baselines": {"samples": 8, "quantiles": 20},
}


@pytest.fixture(scope="module")
def prepared(catalogue: Catalogue, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "prepared.pkl"
    catalogue.save(path)
    return path


def settings_of(model, kind):
    chosen = model.model_validate(
        {k: v for k, v in SMALL.items() if k in model.model_fields} | {"model": {"kind": kind}}
    )
    return chosen.model_dump(mode="json")


def forecast(folder: Path, prepared: Path, kind: str, seeds=(0, 1)) -> Path:
    def job(stage, model, inputs, outputs):
        paths = {name: str(folder / path) for name, path in outputs.items()}
        run(
            Job("smash", stage, {"data": str(prepared), **inputs}, paths, settings_of(model, kind), list(seeds)),
            STAGES[stage],
        )

    job("train", Train, {}, {"weights": "weights.safetensors", "run": "train.run.json"})
    outputs = {"scores": "scores.zarr", "samples": "samples.zarr", "run": "evaluate.run.json"}
    job("evaluate", Evaluate, {"weights": str(folder / "weights.safetensors")}, outputs)
    return folder


@pytest.mark.parametrize("kind", ["smash", "corrected", "exact"])
def test_an_arm_is_trained_and_scored_for_every_seed_and_again_the_same(kind, prepared, catalogue, tmp_path):
    first = forecast(tmp_path / "a", prepared, kind)
    stored = scores.read(first / "scores.zarr")
    assert stored.members == ["0", "1"]
    targets = catalogue.targets("test")
    crps = stored.of("crps_time", 0)
    assert len(crps) == len(targets.row)
    assert np.isfinite(crps).sum() == (len(targets.row) if kind == "exact" else 10)
    assert ("log_time" in stored.values) == (kind == "exact")
    drawn = samples.read(first / "samples.zarr")
    assert drawn.sample.shape[1:] == (8, 3) and (drawn.sample[..., 0] >= 0).all()
    record = json.loads((first / "evaluate.run.json").read_text())
    assert record["metrics"]["parameters_trainable"] > 0
    again = scores.read(forecast(tmp_path / "b", prepared, kind) / "scores.zarr")
    np.testing.assert_array_equal(again.values["crps_time"], stored.values["crps_time"])


@pytest.mark.parametrize("kind", ["smash", "corrected"])
def test_mixed_precision_trains_other_weights_to_nearly_the_same_loss(kind, prepared, tmp_path):
    found, saved = {}, {}
    for precision in ("float32", "bfloat16"):
        leaf = settings_of(Train, kind)
        leaf["training"]["precision"] = precision
        outputs = {
            "weights": str(tmp_path / f"{precision}.safetensors"),
            "run": str(tmp_path / f"{precision}.run.json"),
        }
        metrics = run(Job("smash", "train", {"data": str(prepared)}, outputs, leaf, [0]), STAGES["train"]).metrics
        found[precision], saved[precision] = metrics["validation_loss"], load_file(outputs["weights"])
    assert all(tensor.dtype == torch.float32 for tensor in saved["bfloat16"].values())
    assert any((saved["float32"][name] != tensor).any() for name, tensor in saved["bfloat16"].items())
    assert found["bfloat16"] == pytest.approx(found["float32"], rel=0.02)


def test_the_published_schedule_warms_up_and_falls_whatever_the_number_of_steps():
    """Published: 2e-4 to 1e-3 in five epochs, then linear; 8.8e-5 at epoch 149 of 150."""
    training = Training()
    rate = [fitting.learning_rate(epoch / 150, training) for epoch in range(150)]
    np.testing.assert_allclose(rate[:5], [2e-4, 4e-4, 6e-4, 8e-4, 1e-3])
    assert rate[5] == pytest.approx(1e-3) and rate[149] == pytest.approx(8.8e-5, rel=1e-3)


class Stuck:
    """An objective that gets no better."""

    def backward(self, model, batch, generator):
        loss = sum((p**2).sum() for p in model.parameters()) * 0
        loss.backward()
        return loss.detach()

    def evaluate(self, model, batches, seed):
        return 1.0


class Log:
    def __init__(self):
        self.lines = []

    def progress(self, total, what, initial=0):
        return self

    def update(self, step):
        pass

    def history(self, step, total=None, **metrics):
        pass

    def info(self, text):
        self.lines.append(text)


def test_training_ends_early_after_so_many_epochs_without_a_better_validation_loss(catalogue, tmp_path):
    from pipeline.smash.batches import Frames, Scale

    log, model = Log(), torch.nn.Linear(1, 1)
    training = Training(epochs=100, batch=2, patience=6, save_every=2)
    found = fitting.fit(
        model, Stuck(), Frames(catalogue, Scale.of(catalogue, True)), training, 0, log, tmp_path / "checkpoint", "key"
    )
    assert "no better validation loss in 6 epochs" in log.lines[-1]
    per_epoch = found.steps / 8  # better at epoch 2, then six epochs
    assert per_epoch == int(per_epoch) and not (tmp_path / "checkpoint").exists()


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("damage", [None, "empty", "cut", "one bit"])
def test_an_interrupted_training_ends_as_an_uninterrupted_one_and_a_damaged_one_starts_anew(
    damage, catalogue, tmp_path
):
    from pipeline.smash.batches import Frames, Scale
    from pipeline.smash.denoise import Loss, Smash
    from pipeline.smash.settings import Denoise

    class Breaks(Loss):
        left = 10**9

        def backward(self, model, batch, generator):
            Breaks.left -= 1
            if Breaks.left < 0:
                raise Interrupted
            return super().backward(model, batch, generator)

    frames, training = Frames(catalogue, Scale.of(catalogue, True)), Training(steps=20, batch=2, save_every=1)

    def train(place, log):
        torch.manual_seed(0)
        model = Smash.of(Train.model_validate({"encoder": SMALL["encoder"]}), 3)
        loss = Breaks(Denoise(noises=2))
        return fitting.fit(model, loss, frames, training, 0, log, tmp_path / place, "key", average=0.9)

    whole, log = train("a", Log()), Log()
    Breaks.left = 13
    with pytest.raises(Interrupted):
        train("b", Log())
    content = bytearray((tmp_path / "b").read_bytes())
    if damage == "one bit":
        content[len(content) // 2] ^= 1
    elif damage:
        del content[0 if damage == "empty" else len(content) // 2 :]
    (tmp_path / "b").write_bytes(content)
    Breaks.left = 10**9
    again = train("b", log)
    assert ("the checkpoint b is damaged" if damage else "going on from epoch") in log.lines[0]
    assert not damage or not any("going on" in line for line in log.lines)
    assert again.validation_loss == whole.validation_loss
    for name, value in whole.state.items():
        assert torch.equal(again.state[name], value), name


@pytest.mark.parametrize("kind", ["smash", "corrected", "exact"])
def test_events_without_marks_are_drawn_and_scored(kind, make, tmp_path):
    """There is no score of marks; the joint log-likelihood of densities is that of time and place."""
    catalogue = make(sequences=(6, 2, 2), rate=1.0, unmarked=True)
    catalogue.save(tmp_path / "prepared.pkl")
    folder = forecast(tmp_path / kind, tmp_path / "prepared.pkl", kind, seeds=(0,))
    stored, drawn = scores.read(folder / "scores.zarr"), samples.read(folder / "samples.zarr")
    n = len(catalogue.targets("test").row)
    assert np.isfinite(stored.of("crps_time", 0)).sum() == (n if kind == "exact" else min(n, 10))
    assert np.isfinite(drawn.sample).all() and drawn.sample.shape[1:] == (8, 3) and drawn.mark_probability is None
    found = scores.metrics(compare.with_certain_mark(stored, catalogue), 0)
    assert not {"brier", "ece", "log_score_mark"} & set(found) and np.isfinite(found["energy_joint"])
    if kind == "exact":
        assert found["log_likelihood_mark"] == 0.0
        assert found["log_likelihood"] == found["log_likelihood_time"] + found["log_likelihood_location"]
