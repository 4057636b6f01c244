"""The online protocol: no forecast sees its future, no score sees its label, a killed stream goes on bit-equal."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.fsnet import online
from pipeline.fsnet.engine import fork_state, init_state
from pipeline.fsnet.memory import MemorySettings
from pipeline.fsnet.online import Learner, stream
from pipeline.fsnet.series import Series
from pipeline.fsnet.settings import Network, Online, Replay
from pipeline.fsnet.streaming import Windows, cyclic
from pipeline.fsnet.train import specification

T, H, N, TRAIN, VAL = 12, 4, 160, 40, 60
REPLAY = Replay(size=20, sample=3)
SMALL = {"hidden": 8, "depth": 4, "representation": 16, "controller": 8}
ARMS = {
    "ogd": (Network(**SMALL), Online(lr=1e-2), "none"),
    "er": (Network(**SMALL), Online(lr=1e-2, replay=REPLAY), "none"),
    "derpp": (Network(**SMALL), Online(lr=1e-2, replay=Replay(size=20, sample=3, logits=0.2)), "none"),
    "naive": (Network(kind="naive", **SMALL), Online(lr=1e-2), "none"),
    "delta": (
        Network(calendar="cyclic", subtract_last=True, zero_head=True, **SMALL),
        Online(lr=1e-2, every=2, recent=2),
        "none",
    ),
    "inner": (Network(kind="adapter", **SMALL), Online(lr=1e-2, inner_steps=3), "upstream"),
    "delta_memory": (
        Network(kind="adapter", identity=True, calendar="cyclic", subtract_last=True, zero_head=True, **SMALL),
        Online(lr=1e-2, every=2, recent=2, replay=REPLAY),
        "working",
    ),
    **{
        name: (Network(kind="adapter", **SMALL), Online(lr=1e-2), name)
        for name in ("none", "upstream", "seed_fix", "paper", "working")
    },
}


class Log:
    """A run log that keeps nothing."""

    def progress(self, total, what):
        return self

    def update(self, done):
        pass

    def history(self, step, total, **metrics):
        pass

    def info(self, text):
        pass

    def resume(self, step):
        pass


def series(values):
    values = np.asarray(values, float)[:, None]
    stamps = np.sin(np.arange(len(values))[:, None] * np.arange(1, 8) / 7)
    return Series(
        name="toy",
        requested="toy",
        time=np.arange(len(values)).astype("datetime64[s]"),
        channels=("y",),
        units=("1",),
        values=values,
        z=values,
        mean=np.zeros(1),
        sd=np.ones(1),
        stamps=stamps,
        filled=np.zeros(values.shape, bool),
        target=0,
        outputs=(0,),
        train_end=TRAIN,
        val_end=VAL,
        test_end=len(values),
        season=24,
        step_seconds=3600.0,
        info={},
        attrs={},
    )


def values(seed=0):
    rng = np.random.default_rng(seed)
    return np.sin(np.arange(N) / 3) + 0.3 * rng.normal(size=N)


def run(arm, y, tmp_path, feedback="delayed", origins=None, **changes):
    network, settings, memory = ARMS[arm]
    one = series(y)
    windows = Windows([one], T, H, network, "cpu")
    # tau near zero: layers fire often
    options = MemorySettings(variant=memory, slots=4, tau_trigger=0.05)
    spec = replace(specification(network, windows), memory=MemorySettings(variant="none"))
    state = fork_state(init_state(spec, [0, 1], "cpu"), replace(spec, memory=options))
    learner = Learner(state, windows, settings.model_copy(update={"feedback": feedback, **changes}))
    origins = one.origins("stream", T, H) if origins is None else origins
    return stream(learner, origins, Log(), tmp_path / "checkpoint", arm), learner


def kept(learner):
    replay = learner.state.replay.tensors if learner.online.replay.size else {}
    return learner.state.named() | {"gradient": learner.state.gradient} | {f"replay {k}": v for k, v in replay.items()}


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("poison", [np.nan, 1e30, "noise"])
def test_the_future_reaches_no_forecast_and_no_state(arm, poison, tmp_path):
    clean = values()
    seen = 90  # the last row that is left as it is
    dirty = clean.copy()
    dirty[seen + 1 :] = values(seed=1)[seen + 1 :] if poison == "noise" else poison
    origins = np.arange(TRAIN - 1, seen + 1)
    before, learner = run(arm, clean, tmp_path, origins=origins)
    after, other = run(arm, dirty, tmp_path, origins=origins)
    np.testing.assert_array_equal(before.forecasts, after.forecasts)
    assert np.isfinite(after.forecasts).all()
    # parameters, moments, gradient averages, memory, trigger, the last gradient, replayed windows and their labels
    for name, tensor in kept(learner).items():
        assert torch.equal(tensor, kept(other)[name]), name


def test_memory_arms_fire_in_this_test(tmp_path):
    trace, _ = run("upstream", values(), tmp_path)
    assert trace.tracks["fired"].sum() > 50


def test_no_window_begins_before_the_stream(tmp_path):
    """The first origin may leave room for one whole window only: row -1 would be the last of the stream."""
    clean = values()
    dirty = np.concatenate([clean[:-1], [1e30]])
    origins = np.arange(T + H - 1, T + H + 4)
    before, _ = run("delta", clean, tmp_path, origins=origins)
    after, _ = run("delta", dirty, tmp_path, origins=origins)
    np.testing.assert_array_equal(before.forecasts, after.forecasts)


def test_immediate_feedback_leaks_the_future(tmp_path):
    clean, seen = values(), 90
    dirty = clean.copy()
    dirty[seen + 1 :] += 10
    origins = np.arange(TRAIN - 1, seen + 1)
    before, _ = run("ogd", clean, tmp_path, "immediate", origins)
    after, _ = run("ogd", dirty, tmp_path, "immediate", origins)
    changed = np.flatnonzero((before.forecasts != after.forecasts).any(axis=(0, 2, 3)))
    # the label of origin seen-H+1 holds row seen+1, and has been learnt when origin seen-H+2 is forecast
    assert origins[changed[0]] == seen - H + 2


def test_delayed_learns_from_the_newest_complete_window_and_no_newer(tmp_path, monkeypatch):
    learnt = []
    real = Learner.learn
    monkeypatch.setattr(Learner, "learn", lambda self, newest: learnt.append(newest) or real(self, newest))
    run("ogd", values(), tmp_path, origins=np.arange(50, 60))
    assert learnt == [origin - H for origin in range(50, 60)]


@pytest.mark.parametrize("feedback", ["delayed", "immediate"])
def test_a_forecast_is_made_before_any_step_on_its_label(feedback, tmp_path):
    one, _ = run("ogd", values(), tmp_path, feedback, np.arange(50, 51), inner_steps=1)
    many, _ = run("ogd", values(), tmp_path, feedback, np.arange(50, 51), inner_steps=5)
    if feedback == "immediate":
        np.testing.assert_array_equal(one.forecasts, many.forecasts)  # no label has been learnt yet
    else:
        assert (one.forecasts != many.forecasts).any()  # five steps on the older window


def test_prediction_changes_nothing(tmp_path):
    _, learner = run("paper", values(), tmp_path)
    before = {name: tensor.clone() for name, tensor in learner.state.named().items()}
    first, second = learner.predict(100), learner.predict(100)
    assert torch.equal(first, second)
    assert all(torch.equal(tensor, before[name]) for name, tensor in learner.state.named().items())


@pytest.mark.parametrize("arm", ["derpp", "delta", "upstream", "working"])
def test_a_killed_stream_resumes_bit_equal(arm, tmp_path, monkeypatch):
    monkeypatch.setattr(online, "CHECKPOINT_EVERY", 30)
    whole, _ = run(arm, values(), tmp_path / "whole" if (tmp_path / "whole").mkdir() is None else tmp_path)

    class Killed(Exception):
        pass

    real, calls = Learner.predict, []

    def predict(self, origin):
        calls.append(origin)
        if len(calls) == 75:
            raise Killed
        return real(self, origin)

    monkeypatch.setattr(Learner, "predict", predict)
    with pytest.raises(Killed):
        run(arm, values(), tmp_path)
    done = len(calls)
    resumed, _ = run(arm, values(), tmp_path)
    assert len(calls) - done == whole.forecasts.shape[1] - 60  # steps 0..59 are not done again
    np.testing.assert_array_equal(whole.forecasts, resumed.forecasts)
    for name in whole.tracks:
        np.testing.assert_array_equal(whole.tracks[name], resumed.tracks[name])


def test_a_checkpoint_of_other_settings_is_not_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(online, "CHECKPOINT_EVERY", 30)
    run("ogd", values(), tmp_path)
    network, settings, _ = ARMS["ogd"]
    windows = Windows([series(values())], T, H, Network(), "cpu")
    state = init_state(specification(network, windows), [0, 1], "cpu")
    trace = online.Trace(np.zeros((2, 99, H, 1)), {name: np.zeros((2, 99)) for name in online.TRACKS})
    assert online._resume(Learner(state, windows, settings), trace, tmp_path / "checkpoint", "ogd", Log()) > 0
    assert online._resume(Learner(state, windows, settings), trace, tmp_path / "checkpoint", "other", Log()) == 0


@pytest.mark.parametrize("damage", ["cut", "bits of the trace", "bits of the state"])
def test_a_damaged_checkpoint_is_not_taken_and_the_stream_starts_anew(damage, tmp_path, monkeypatch):
    monkeypatch.setattr(online, "CHECKPOINT_EVERY", 30)
    whole, _ = run("ogd", values(), tmp_path)
    (state,) = tmp_path.glob("checkpoint.*.safetensors")
    saved = state if damage == "bits of the state" else tmp_path / "checkpoint.pt"
    content = bytearray(saved.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    else:
        content[len(content) // 2] ^= 1
    saved.write_bytes(content)
    again, _ = run("ogd", values(), tmp_path)
    np.testing.assert_array_equal(whole.forecasts, again.forecasts)


def test_windows_by_hand():
    y = np.arange(N, dtype=float)
    plain = Windows([series(y)], T, H, Network(), "cpu")
    rows = torch.tensor([[30], [31]])
    assert plain.x(rows).shape == (2, 1, T, 8) and plain.inputs == 8
    assert plain.x(rows)[1, 0, :, 0].tolist() == list(range(20, 32))
    assert plain.y(rows)[:, 0].tolist() == [[31, 32, 33, 34], [32, 33, 34, 35]]
    delta = Windows([series(y)], T, H, Network(subtract_last=True), "cpu")
    assert delta.x(rows).shape == (2, 1, T, 9) and delta.inputs == 9
    assert delta.x(rows)[0, 0, :, 0].tolist() == list(range(-11, 1))
    assert delta.x(rows)[0, 0, :, 1].tolist() == [30.0] * T
    assert delta.y(rows)[0, 0].tolist() == [1, 2, 3, 4]
    assert delta.values(delta.y(rows), rows)[0, 0, :, 0].tolist() == [31, 32, 33, 34]


def test_each_seed_of_a_simulation_has_its_own_rows():
    windows = Windows([series(values(0)), series(values(1))], T, H, Network(), "cpu")
    rows = torch.tensor([[50], [50]])
    x = windows.x(rows)[:, 0, :, 0].numpy()
    np.testing.assert_allclose(x[0], values(0)[39:51], rtol=1e-6)
    np.testing.assert_allclose(x[1], values(1)[39:51], rtol=1e-6)


def test_the_cyclic_calendar_comes_back():
    time = np.datetime64("2016-07-04T00:00") + np.arange(24 * 28) * np.timedelta64(1, "h")  # four weeks
    fields = cyclic(time)
    np.testing.assert_allclose(fields[:168], fields[168:336], atol=1e-12)  # a week later
    np.testing.assert_allclose(fields[:24, :2], fields[24:48, :2], atol=1e-12)  # a day later
    np.testing.assert_allclose((fields**2).sum(axis=1), 2)
    np.testing.assert_allclose(fields[[0, 6, 12], :2], [[0, 1], [1, 0], [0, -1]], atol=1e-12)
