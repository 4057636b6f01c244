"""Memory reads and writes with numbers worked out by hand, and what a memory that works must do."""

import math

import pytest
import torch

from pipeline.core.errors import ConfigError
from pipeline.fsnet import memory
from pipeline.fsnet.engine import LearnSettings, init_state, learn_
from pipeline.fsnet.memory import MemorySettings
from pipeline.fsnet.model import NetworkSpec

# Two coefficients, three slots: q . slot = 0, ln 2, ln 4 at temperature 1, so attention = 1/7, 2/7, 4/7.
Q = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
SLOTS = torch.tensor([[[0.0, math.log(2), math.log(4)], [0.3, 0.1, 0.2]]], dtype=torch.float64)
HAND = MemorySettings("paper", slots=3, top_k=2, temperature=1.0, tau_blend=0.75, tau_write=0.75)
S1, S2 = (math.log(2), 0.1), (math.log(4), 0.2)


def close(found, wanted):
    torch.testing.assert_close(found, torch.as_tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_attention_keeps_the_two_largest_and_does_not_renormalise():
    value, index = memory.attention(Q, SLOTS, HAND)
    assert index.tolist() == [[2, 1]]
    close(value, [[4 / 7, 2 / 7]])


def limited(rows):
    """A matrix [D][M] divided by max(1, Frobenius norm)."""
    norm = max(1.0, math.sqrt(sum(v * v for row in rows for v in row)))
    return [[v / norm for v in row] for row in rows]


def test_paper_reads_by_attention_and_writes_the_query():
    read, blend, slots = memory.paper(Q, SLOTS, HAND)
    wanted = [2 / 7 * a + 4 / 7 * b for a, b in zip(S1, S2, strict=True)]
    close(read[0], wanted)
    assert torch.equal(read, blend)
    rows = [
        [0.0, 0.75 * S1[0] + 0.25 * 2 / 7, 0.75 * S2[0] + 0.25 * 4 / 7],
        [0.75 * 0.3, 0.75 * 0.1, 0.75 * 0.2],
    ]
    close(slots[0], limited(rows))


def test_upstream_reads_by_slot_number_and_writes_the_read():
    read, blend, slots = memory.upstream(Q, SLOTS, HAND)
    wanted = [1 * a + 2 * b for a, b in zip(S1, S2, strict=True)]  # the numbers 1 and 2 of the chosen slots
    close(read[0], wanted)
    assert torch.equal(read, blend)
    rows = [
        [0.0, 0.75 * S1[0] + 0.25 * 2 / 7 * wanted[0], 0.75 * S2[0] + 0.25 * 4 / 7 * wanted[0]],
        [0.3, 0.75 * S1[1] + 0.25 * 2 / 7 * wanted[1], 0.75 * S2[1] + 0.25 * 4 / 7 * wanted[1]],
    ]
    close(slots[0], limited(rows))
    assert torch.equal(memory.upstream(5 * Q, SLOTS, HAND)[0], read)  # the read ignores how well slots match


def test_seed_fix_blends_twice_and_limits_each_slot():
    read, blend, slots = memory.seed_fix(Q, SLOTS, HAND)
    wanted = [2 / 7 * a + 4 / 7 * b for a, b in zip(S1, S2, strict=True)]
    close(read[0], wanted)
    close(blend[0], [0.75 * 1 + 0.25 * wanted[0], 0.25 * wanted[1]])
    close(slots[0, :, 0], [0.0, 0.3])
    close(slots[0, :, 1], [0.75 * S1[0] + 0.25, 0.75 * 0.1])
    norm = math.hypot(0.75 * S2[0] + 0.25, 0.75 * 0.2)
    assert norm > 1
    close(slots[0, :, 2], [(0.75 * S2[0] + 0.25) / norm, 0.75 * 0.2 / norm])


def published_layer(seed=0):
    """Start of a 64 -> 64 layer's memory (320 x 32) and a query of the norm measured in training (2.9)."""
    generator = torch.Generator().manual_seed(seed)
    slots = memory.initial_slots(2 * torch.rand(8, 320, 32, generator=generator) - 1)
    query = torch.randn(8, 320, generator=generator)
    return 2.9 * query / query.norm(dim=1, keepdim=True), slots


def test_published_reads_carry_nothing():
    """Measured upstream: attention .040/.039 against 1/32 = .031; ||read|| .008 by attention, 5.2 by slot number."""
    query, slots = published_layer()
    settings = MemorySettings("paper")
    torch.testing.assert_close(torch.linalg.matrix_norm(slots), torch.ones(8))
    value, _ = memory.attention(query, slots, settings)
    assert 1 / 32 < float(value.max()) < 0.08
    assert float(memory.paper(query, slots, settings)[0].norm(dim=1).max()) < 0.03
    noise = memory.upstream(query, slots, settings)[0].norm(dim=1)
    assert float(noise.mean()) > 1.5  # the size of the query itself, whatever the query is


# -- the working memory ------------------------------------------------------------------------------------------------

WORKING = MemorySettings("working", slots=4, top_k=2, temperature=0.1)


def regimes(n, d=50, seed=0):
    """n unrelated coefficient vectors about a large common part."""
    generator = torch.Generator().manual_seed(seed)
    centre = 3 * torch.ones(1, d)
    return centre, [centre + torch.randn(1, d, generator=generator) for _ in range(n)]


def empty(d=50, slots=4):
    return torch.zeros(1, d, slots), torch.zeros(1, slots)


def test_what_is_written_is_read_back_whole():
    centre, values = regimes(3)
    slots, use = empty()
    for value in values:
        slots, use = memory.store(value, slots, centre, use, WORKING)
    for value in values:
        noisy = value + 0.2 * torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
        read, found, weights = memory.recall(noisy, slots, centre, use, WORKING)
        assert found.all()
        torch.testing.assert_close(read, value, rtol=1e-3, atol=1e-3)
        assert float(weights.max()) > 0.99 and float(weights.sum()) == pytest.approx(1)  # uniform would be .25


def test_an_unrelated_regime_recalls_nothing():
    centre, values = regimes(4)
    slots, use = empty()
    assert not memory.recall(values[0], slots, centre, use, WORKING)[1].any()
    for value in values[:3]:
        slots, use = memory.store(value, slots, centre, use, WORKING)
    read, found, weights = memory.recall(values[3], slots, centre, use, WORKING)
    assert not found.any() and weights.abs().max() == 0
    # Without the centre the common part makes everything alike.
    assert memory.recall(values[3], slots, torch.zeros_like(centre), use, WORKING)[1].all()


def test_a_write_joins_its_like_and_otherwise_takes_the_least_used_slot():
    centre, values = regimes(6)
    slots, use = empty()
    for value in values[:4]:
        slots, use = memory.store(value, slots, centre, use, WORKING)
    assert use.tolist() == [[1, 1, 1, 1]]
    near = values[1] + 0.01
    slots, use = memory.store(near, slots, centre, use, WORKING)
    assert use.tolist() == [[1, 2, 1, 1]]
    torch.testing.assert_close(slots[0, :, 1], 0.75 * values[1][0] + 0.25 * near[0])
    slots, use = memory.store(values[4], slots, centre, use + torch.tensor([[5.0, 0, 0, 5.0]]), WORKING)
    torch.testing.assert_close(slots[0, :, 2], values[4][0])  # slots 0 and 3 were in use, 1 twice


def test_unused_slots_are_forgotten():
    centre, values = regimes(2)
    settings = MemorySettings("working", slots=4, forget=0.5)
    slots, use = memory.store(values[0], *empty()[:1], centre, empty()[1], settings)
    for _ in range(5):
        slots, use = memory.store(values[1], slots, centre, use, settings)
    assert use[0, 0] == 0 and not memory.recall(values[0], slots, centre, use, settings)[1].any()
    assert memory.recall(values[1], slots, centre, use, settings)[1].all()


@pytest.mark.parametrize("bad", [{"variant": "lstm"}, {"top_k": 33}, {"temperature": 0.0}, {"tau_blend": 1.5}])
def test_impossible_settings_are_refused(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        MemorySettings(**bad)


# -- inside the engine -------------------------------------------------------------------------------------------------


def working_state(**changes):
    settings = MemorySettings("working", slots=4, temperature=0.1, **changes)
    shape = dict(inputs=3, outputs=4, window=20, hidden=8, representation=16, depth=5, controller_width=8)
    state = init_state(NetworkSpec("adapter", **shape, memory=settings), [0], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 1, 20, 3, generator=generator, dtype=torch.float64)
    return state, x, torch.ones(1, 1, 4, dtype=torch.float64)


def test_a_flipped_target_fires_and_the_settled_coefficients_are_stored():
    """A constant pair is learnt, then its target flips: gradients turn round, and the regime that ended is stored."""
    state, x, y = working_state(tau_trigger=0.5, hold=10)
    for k in range(60):
        report = learn_(state, x, (1 if k < 40 else -30) * y, LearnSettings(1e-3))
        if k < 40:
            assert int(report.fired) == 0 or k < 5
        if k == 39:
            settled = {g.name: state.t[f"settled/{g.name}"].clone() for g in state.spec.groups}
        if k >= 40 and int(report.fired):
            break
    fired = state.t["fired"][:, 0].nonzero().flatten().tolist()
    layers = [(g, i) for g in state.spec.groups for i in range(g.n)]
    for layer in fired:
        g, i = layers[layer]
        stored = state.t[f"slots/{g.name}"][i, 0, 0, :, 0]
        torch.testing.assert_close(stored, settled[g.name][i, 0].flatten(), rtol=0.2, atol=0.02)
    counts = state.fire_counts.clone()
    for _ in range(5):
        learn_(state, x, -30 * y, LearnSettings(1e-3))
    assert (state.fire_counts - counts)[fired].sum() == 0  # one change is one event for `hold` steps


def test_a_recall_that_does_not_pay_is_dropped_and_one_that_does_is_kept():
    for sign, kept in ((1.0, True), (-1.0, False)):
        state, x, y = working_state(tau_trigger=0.999, hold=50)
        for _ in range(30):
            learn_(state, x, y, LearnSettings(1e-3))
        # A recall in the last block's second layer: its gradient says which way lowers the loss.
        target = state.passes(1).forward(x).clone()
        g = state.spec.groups[-1]
        scales = state.t[f"coefs/{g.name}"]
        recalled = state.t[f"recalled/{g.name}"]
        recalled.copy_(scales)
        recalled[..., 3 + g.per_chunk :] *= 2.0
        blended = 0.75 * scales + 0.25 * recalled
        scales.copy_(blended)
        state.calibration.refresh()
        moved = state.passes(1).forward(x).clone()
        label = moved if sign > 0 else 2 * target - moved
        state.t["active"][-1] = True
        state.t["held"][-1] = 50
        learn_(state, x, label, LearnSettings(1e-6))
        assert bool(state.t["active"][-1, 0]) is kept


def test_heads_are_independent_memories():
    """With two heads each half of a layer's chunks is read and written as if it were alone."""
    settings = MemorySettings("paper", slots=5, heads=2, tau_trigger=-1.1)
    shape = dict(inputs=3, outputs=4, window=20, hidden=8, representation=16, depth=5, controller_width=8)
    state = init_state(NetworkSpec("adapter", **shape, memory=settings), [0], dtype=torch.float64)
    x = torch.randn(1, 1, 20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    learn_(state, x, torch.ones(1, 1, 4, dtype=torch.float64), LearnSettings(1e-3))
    before = {g.name: state.t[f"slots/{g.name}"].clone() for g in state.spec.groups}
    learn_(state, x, -torch.ones(1, 1, 4, dtype=torch.float64), LearnSettings(1e-3))
    for g in state.spec.groups:
        raw, query = state.calibration.raw(g), state.t[f"q_ema/{g.name}"]
        for layer in range(g.n):
            for head in range(2):
                half = slice(head * g.chunks // 2, (head + 1) * g.chunks // 2)
                q = query[layer, 0, half].reshape(1, -1)
                read, _, new = memory.paper(q, before[g.name][layer, :1, head], settings)
                close(state.t[f"slots/{g.name}"][layer, 0, head], new[0])
                used = state.t[f"coefs/{g.name}"][layer, 0, half].reshape(1, -1)
                close(used, 0.75 * raw[layer, 0, half].reshape(1, -1) + 0.25 * read)
