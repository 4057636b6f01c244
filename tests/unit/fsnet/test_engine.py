"""The fast engine against the plain network, and the invariances that the online protocol relies on."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from pipeline.core.errors import ConfigError, DataError
from pipeline.fsnet.bench import plain_module
from pipeline.fsnet.engine import (
    LearnSettings,
    fork_state,
    init_state,
    learn,
    learn_,
    load_state,
    predict,
    pretrain_step_,
)
from pipeline.fsnet.memory import MemorySettings
from pipeline.fsnet.model import NetworkSpec
from pipeline.fsnet.replay import Replay

plain_from_state, PlainLearner = plain_module().plain_from_state, plain_module().PlainLearner

ETTH1 = dict(inputs=8, outputs=12, window=48)  # one series and seven time stamps, H = 12
SMALL = dict(inputs=3, outputs=4, window=20, hidden=8, representation=16, depth=6, controller_width=8)
FORCED = {"tau_trigger": -0.3}  # fires whenever cos < .3: nearly every layer and step on noise


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def small(kind="adapter", **changes):
    return NetworkSpec(kind, **{**SMALL, **changes})


def tensors_equal(a, b):
    a, b = a.named(), b.named()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# -- structure ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, variant, trainable, memory, live",
    [
        ("tcn", "none", 641_548, 0, 330_252),
        ("adapter", "none", 1_019_266, 0, 560_514),
        ("adapter", "upstream", 1_019_266, 282_624, 560_514),
        # 641,548 + 20 (64*64 + 2*64) + 320 (64 + 2) + 320 (320 + 2); live: no biases, which are multiplied by zero
        ("naive", "none", 850_188, 0, 535_052),
    ],
)
def test_parameter_counts_are_the_published_ones(kind, variant, trainable, memory, live):
    spec = NetworkSpec(kind, **ETTH1, memory=MemorySettings(variant))
    assert spec.parameter_counts() == {"trainable": trainable, "memory": memory, "live": live}
    if variant != "none":
        state = init_state(spec, [0])
        assert sum(state.t[f"slots/{g.name}"].numel() for g in spec.groups) == memory


def test_grid_halves_until_one_position_is_left():
    assert NetworkSpec("tcn", **ETTH1).grid == [48, 24, 12, 6, 3, 2, 1, 1, 1, 1, 1]
    assert NetworkSpec("tcn", **{**ETTH1, "window": 61}).grid == [61, 31, 16, 8, 4, 2, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"window": 65}, "window"),
        ({"kind": "lstm"}, "kind"),
        ({"chunks": "half"}, "chunks"),
        ({"gamma": 1.0}, "gamma"),
        ({"representation": 20}, "representation"),
        ({"kind": "tcn", "memory": MemorySettings("paper")}, "memory"),
        ({"memory": MemorySettings("paper", heads=3)}, "heads"),
    ],
)
def test_impossible_networks_are_refused_by_name(changes, word):
    with pytest.raises(ConfigError, match=word):
        NetworkSpec(**{"kind": "adapter", **SMALL, **changes})


# -- equality with the plain network -----------------------------------------------------------------------------------


def gradients_as_network(state, replica):
    """A plain network whose parameters are the gradients of the state's first learning step (exp_avg = .1 g)."""
    holder = state.clone()
    holder.flat["parameters"].copy_(holder.flat["exp_avg"] / 0.1)
    return plain_from_state(holder, replica, dead=0.0)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    window=st.integers(2, 64),
    batch=st.integers(1, 3),
    variety=st.sampled_from(
        [
            {"kind": "tcn"},
            {"kind": "naive"},
            {"kind": "adapter"},
            {"kind": "adapter", "identity": True},
            {"kind": "adapter", "chunks": "output"},
            {"kind": "adapter", "gate": True, "identity": True},
        ]
    ),
    extras=st.booleans(),
)
def test_hand_written_gradients_are_autograds(window, batch, variety, extras):
    spec = small(**variety, window=window)
    state = init_state(spec, [1, 2], dtype=torch.float64)
    if spec.identity:  # heads that are not at zero, so that every term counts
        for name, value in state.parameters.items():
            if "heads" in name:
                value.copy_(0.3 * noise(*value.shape, dtype=torch.float64))
    if spec.kind == "adapter":
        for g in spec.groups:
            state.t[f"long/{g.name}"].copy_(noise(*state.t[f"long/{g.name}"].shape, dtype=torch.float64))
        state.calibration.update(first=True)
        state.calibration.refresh()
    x, y = noise(2, batch, window, 3, dtype=torch.float64), noise(2, batch, 4, seed=1, dtype=torch.float64)
    options = {}
    if extras:
        options = {
            "weights": torch.arange(1.0, batch + 1),
            "soft": y + 1,
            "soft_weights": torch.full((2, batch), 0.2, dtype=torch.float64),
        }
    plains = [plain_from_state(state, r) for r in range(2)]
    place = [(g, i) for g in spec.groups for i in range(g.n)]
    report = learn_(state, x, y, LearnSettings(1e-3), **options)
    for r, plain in enumerate(plains):
        if spec.kind == "adapter":
            for conv, (g, i) in zip(plain.convs, place, strict=True):
                average = noise(g.n, 2, g.out, g.taps, g.inn, dtype=torch.float64)[i, r].transpose(1, 2)
                conv.long[:, :, slice(0, 3) if g.taps == 3 else slice(1, 2)] = average
        error = plain(x[r]) - y[r]
        if extras:
            loss = (error.pow(2).mean(1) * options["weights"]).sum() + 0.2 * (error - 1).pow(2).mean(1).sum()
        else:
            loss = error.pow(2).mean()
        loss.backward()
        torch.testing.assert_close(report.loss[r], loss.detach(), rtol=1e-10, atol=0)
        wanted = dict(plain.named_parameters())
        for name, found in gradients_as_network(state, r).named_parameters():
            gradient = wanted[name].grad
            torch.testing.assert_close(found, gradient, rtol=1e-8, atol=1e-12 * float(1 + gradient.abs().max()))


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "tcn"},
        {"kind": "tcn", "hidden": 12},
        {"kind": "naive"},
        {"kind": "adapter"},
        {"kind": "adapter", "chunks": "output"},
        *({"kind": "adapter", "memory": MemorySettings(v, **FORCED)} for v in ("upstream", "seed_fix", "paper")),
        {"kind": "adapter", "identity": True, "memory": MemorySettings("paper", tau_blend=0.5, **FORCED)},
    ],
)
def test_forty_online_steps_are_the_plain_networks(changes):
    """Each replica follows its plain twin, whose every tap, time step and dead parameter exists (filled with noise)."""
    spec = small(**changes, depth=7)
    state = init_state(spec, [3, 4])
    plains = [PlainLearner(plain_from_state(state, r), lr=3e-4) for r in range(2)]
    xs, ys = noise(40, 2, 1, 20, 3), noise(40, 2, 1, 4, seed=1)
    for x, y in zip(xs, ys, strict=True):
        wanted = torch.stack([plain.step(x[r], y[r]) for r, plain in enumerate(plains)])
        torch.testing.assert_close(predict(state, x), wanted, rtol=0, atol=1e-4)
        report = learn_(state, x, y, LearnSettings(3e-4))
    torch.testing.assert_close(report.y_hat, wanted, rtol=0, atol=1e-4)
    if spec.has_memory:
        fired = [[conv.fired + conv.trigger for conv in plain.network.convs] for plain in plains]
        assert state.fire_counts.T.tolist() == fired
        assert min(map(sum, fired)) > 100


def test_published_size_follows_the_plain_network():
    """T = 48, H = 12, 22 layers, memory firing in nearly all of them at nearly every step."""
    spec = NetworkSpec("adapter", **ETTH1, memory=MemorySettings("upstream", **FORCED))
    state = init_state(spec, [0])
    plain = PlainLearner(plain_from_state(state), lr=5e-5)
    xs, ys = noise(40, 1, 1, 48, 8), noise(40, 1, 1, 12, seed=1)
    for x, y in zip(xs, ys, strict=True):
        wanted = plain.step(x[0], y[0])
        torch.testing.assert_close(predict(state, x)[0], wanted, rtol=0, atol=1e-5)
        learn_(state, x, y, LearnSettings(5e-5))


def test_identity_adapters_start_as_the_plain_network():
    x = noise(2, 3, 20, 3)
    plain = predict(init_state(small("tcn"), [0, 7]), x)
    torch.testing.assert_close(predict(init_state(small(identity=True), [0, 7]), x), plain, rtol=0, atol=1e-6)
    assert (predict(init_state(small(), [0, 7]), x) - plain).abs().max() > 1e-2  # the published start is another


def test_zero_head_forecasts_zero_and_learns():
    state = init_state(small("tcn", zero_head=True), [0])
    x, y = noise(1, 2, 20, 3), noise(1, 2, 4)
    assert predict(state, x).abs().max() == 0
    losses = [float(learn_(state, x, y, LearnSettings(1e-2)).loss) for _ in range(30)]
    assert losses[-1] < 0.05 * losses[0]


# -- state -------------------------------------------------------------------------------------------------------------

ARMS = [
    small("tcn"),
    small("naive"),
    small(),
    small(memory=MemorySettings("upstream", **FORCED)),
    small(identity=True, memory=MemorySettings("working", tau_trigger=-0.3, match=0.0, hold=2, heads=2)),
]


@pytest.mark.parametrize("spec", ARMS, ids=lambda s: f"{s.kind}-{s.memory.variant}")
def test_predict_reads_only_and_learn_is_pure(spec):
    state = init_state(spec, [0, 1])
    xs, ys = noise(12, 2, 1, 20, 3), noise(12, 2, 1, 4, seed=1)
    for x, y in zip(xs, ys, strict=True):
        before = state.clone()
        first = predict(state, x)
        predict(state, noise(2, 3, 20, 3))
        assert torch.equal(predict(state, x), first)
        assert tensors_equal(state, before)
        after = learn(state, x, y, LearnSettings(1e-3))
        assert tensors_equal(state, before)
        learn_(state, x, y, LearnSettings(1e-3))
        assert tensors_equal(state, after)
    assert state.steps == 12


@pytest.mark.parametrize("spec", ARMS, ids=lambda s: f"{s.kind}-{s.memory.variant}")
def test_a_loaded_state_goes_on_bit_for_bit(spec, tmp_path):
    state = init_state(spec, [0, 5])
    state.replay = Replay(state.seeds, window=20, inputs=3, outputs=4, capacity=3)
    step = LearnSettings(1e-3)
    xs, ys = noise(16, 2, 1, 20, 3), noise(16, 2, 1, 4, seed=1)

    def run(s, x, y, k):
        bx, by, _, real = s.replay.sample(2)
        weights = torch.tensor([1.0] + [0.1 if i < real else 0.0 for i in range(2)])
        act = pretrain_step_ if k < 3 else learn_
        act(s, torch.cat([x, bx], 1), torch.cat([y, by], 1), step, weights=weights)
        s.replay.add(x[:, 0], y[:, 0], s.report.y_hat[:, 0])

    for k in range(8):
        run(state, xs[k], ys[k], k)
    state.save(tmp_path / "state.safetensors")
    other = load_state(tmp_path / "state.safetensors")
    assert tensors_equal(state, other)
    for k in range(8, 16):
        run(state, xs[k], ys[k], k)
        run(other, xs[k], ys[k], k)
    assert tensors_equal(state, other)
    assert all(torch.equal(state.replay.tensors[k], other.replay.tensors[k]) for k in state.replay.tensors)
    assert [p.name for p in tmp_path.iterdir()] == ["state.safetensors"]


def test_damaged_and_foreign_files_are_named(tmp_path):
    path = tmp_path / "state.safetensors"
    with pytest.raises(DataError, match="state.safetensors"):
        load_state(path)
    init_state(small("tcn"), [0]).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="not a readable FSNet state"):
        load_state(path)


def test_a_seed_does_not_depend_on_its_batch_mates():
    spec = small(memory=MemorySettings("upstream", tau_trigger=0.0))
    together, alone = init_state(spec, [11, 12, 13]), init_state(spec, [12])
    xs, ys = noise(10, 3, 4, 20, 3), noise(10, 3, 4, 4, seed=1)
    for k, (x, y) in enumerate(zip(xs, ys, strict=True)):
        act = pretrain_step_ if k < 6 else learn_
        act(together, x, y, LearnSettings(1e-4))
        act(alone, x[1:2], y[1:2], LearnSettings(1e-4))
    mine, theirs = alone.named(), together.select([1]).named()
    for name in mine:
        torch.testing.assert_close(mine[name], theirs[name], rtol=1e-3, atol=2e-5, msg=name)


def test_nothing_fires_in_pretraining_and_dropout_is_on():
    spec = small(memory=MemorySettings("upstream", tau_trigger=-0.99))
    state = init_state(spec, [0])
    x, y = noise(1, 4, 20, 3), noise(1, 4, 4)
    report = pretrain_step_(state, x, y, LearnSettings(1e-4))
    assert int(report.fired) == 0 and int(state.fire_counts.sum()) == 0
    assert (report.y_hat - predict(init_state(spec, [0]), x)).abs().max() > 1e-4
    assert int(learn_(state, x, y, LearnSettings(1e-4)).fired) > 0


def test_dropout_keeps_the_mean():
    state = init_state(small("tcn", dropout=0.3), [0])
    from pipeline.fsnet.engine import _dropout

    masks = []
    for k in range(200):
        state.t["steps"].fill_(k)
        masks.append(_dropout(state, 4))
    masks = torch.stack(masks)
    assert masks.unique().tolist() == pytest.approx([0, 1 / 0.7])
    # 12,800 Bernoulli(.7) draws: sd of the mean of mask = sqrt(.3 / .7 / 12800) = .0058
    assert abs(float(masks.mean()) - 1) < 4 * 0.0058


def test_a_fork_shares_the_past_and_takes_another_memory():
    base = init_state(small(memory=MemorySettings("upstream")), [0, 1])
    x, y = noise(2, 3, 20, 3), noise(2, 3, 4)
    for _ in range(5):
        pretrain_step_(base, x, y, LearnSettings(1e-3))
    for variant in ("none", "paper", "working"):
        arm = fork_state(base, small(memory=MemorySettings(variant)))
        assert torch.equal(predict(arm, x), predict(base, x))
        assert torch.equal(arm.flat["exp_avg_sq"], base.flat["exp_avg_sq"]) and arm.steps == 5
    direct = init_state(small(memory=MemorySettings("paper")), [0, 1])
    for _ in range(5):
        pretrain_step_(direct, x, y, LearnSettings(1e-3))
    assert tensors_equal(direct, fork_state(base, small(memory=MemorySettings("paper"))))
    with pytest.raises(ConfigError, match="forked"):
        fork_state(init_state(small("tcn"), [0]), small())


# -- loss --------------------------------------------------------------------------------------------------------------


def test_replay_loss_is_the_published_sum():
    """ER: MSE(new) + .2 MSE(8 replayed); the ninth batch row has weight 0 and is not seen."""
    state = init_state(small("tcn"), [0])
    x, y = noise(1, 10, 20, 3), noise(1, 10, 4)
    x[0, 9] = 100.0
    weights = torch.tensor([1.0] + [0.2 / 8] * 8 + [0.0])
    y_hat = predict(state, x)[0]
    wanted = F.mse_loss(y_hat[:1], y[0, :1]) + 0.2 * F.mse_loss(y_hat[1:9], y[0, 1:9])
    short = learn(state, x[:, :9], y[:, :9], LearnSettings(1e-3), weights=weights[:9])
    after = learn(state, x, y, LearnSettings(1e-3), weights=weights)
    torch.testing.assert_close(after.report.loss[0], wanted)
    torch.testing.assert_close(after.flat["exp_avg"], short.flat["exp_avg"], rtol=1e-4, atol=1e-7)


def test_head_only_moves_the_read_out_alone():
    spec = NetworkSpec("adapter", inputs=8, outputs=12, window=48, hidden=8, representation=16, controller_width=8)
    state = init_state(spec, [0, 1])
    before = {name: tensor.clone() for name, tensor in state.named().items()}
    x, y = torch.randn(2, 1, 48, 8), torch.randn(2, 1, 12)
    learn_(state, x, y, LearnSettings(lr=1e-2, head_only=True))
    moved = {n for n, t in state.named().items() if n.startswith("parameters/") and not torch.equal(t, before[n])}
    assert moved == {"parameters/head_w", "parameters/head_b"}
    learn_(state, x, y, LearnSettings(lr=1e-2))
    assert not torch.equal(state.named()["parameters/input_w"], before["parameters/input_w"])
