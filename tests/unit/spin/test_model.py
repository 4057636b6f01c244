"""SPIN against a message-by-message reference, published parameter counts, and what attention must obey."""

import importlib.util
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.spin import kernel
from pipeline.spin.attention import AdditiveAttention, Graph, GraphAttention
from pipeline.spin.hierarchical import SPINH
from pipeline.spin.model import SPIN, parameter_counts

PLAIN = Path(__file__).parents[2] / "reference" / "spin_plain.py"
spec = importlib.util.spec_from_file_location("spin_plain", PLAIN)
plain = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plain)

B, T, N, C = 2, 5, 4, 2
SMALL = {"channels": C, "nodes": N, "hidden": 6, "layers": 3, "eta": 2}


@pytest.fixture(autouse=True)
def double():
    """Everything here in float64, where agreement is agreement."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def graph(**extra):
    ends = torch.tensor([[0, 1, 2, 3, 0, 2], [1, 0, 1, 2, 2, 0]])  # node 3 has no incoming edge
    return Graph(ends[0], ends[1], **extra)


def batch(seed=0):
    """x, u and a mask in which node 0 sees nothing at all and node 2 has cells that are observed in part."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(B, T, N, C, generator=generator) < 0.5
    mask[:, :, 0] = False
    return torch.randn(B, T, N, C, generator=generator), torch.randn(B, T, 4, generator=generator), mask


def shaken(model):
    """Every parameter at a random place: zeros and ones at the start hide mistakes."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


BASE = {"channels": 3, "nodes": 100, "hidden": 32, "layers": 3, "eta": 2}


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ({}, 49_909),
        ({"nodes": 50}, 45_109),
        ({"nodes": 200}, 59_509),
        ({"layers": 2}, 37_998),
        ({"self_attention": False}, 37_231),
        ({"message_layers": 2}, 56_251),
        ({"hidden": 16}, 15_493),
        ({"hidden": 8}, 5_389),
        ({"positional_layers": 1}, 48_853),
        ({"tokens": "shared"}, 46_741),
        ({"readout_layers": 1}, 46_741),
        ({"readout_layers": 0}, 43_573),
        ({"hidden": 16, "layers": 2, "eta": 1}, 12_350),  # mild
        ({"hidden": 12, "layers": 2, "eta": 1, "self_attention": False}, 6_766),  # medium
        ({"hidden": 8, "layers": 2, "eta": 1, "self_attention": False}, 3_938),  # extreme
        ({"channels": 1, "nodes": 207, "layers": 4, "eta": 3}, 71_508),  # METR-LA in the paper
        ({"channels": 1, "nodes": 36, "layers": 4, "eta": 3}, 55_092),  # AQI-36 in the paper
    ],
)
def test_parameters_are_counted_exactly(change, count):
    assert parameter_counts(SPIN(**BASE | change))["total"] == count


@pytest.mark.parametrize(("nodes", "count"), [(36, 539_816), (207, 654_728), (325, 734_024), (437, 809_288)])
def test_spin_h_has_the_published_number_of_parameters(nodes, count):
    assert parameter_counts(SPINH(1, nodes))["total"] == count


def test_components_of_the_base_configuration():
    """Counted by hand: see the comments."""
    assert parameter_counts(SPIN(**BASE)) == {
        "positional encoder": 160 + 3 * 1056,  # 4 -> 32, then three 32 x 32 maps
        "node embedding": 3200,
        "input encoder": 128 + 1056,
        "input norm": 64,
        "valid and mask embeddings": 6400,
        "input skips": 3 * 128,
        "attention layers": 3 * (2 * (1056 + 1024 + 2 * 1056 + 2 + 32) + 1056 + 64),
        "read-outs": 3 * (2 * 1056 + 99),
        "total": 49_909,
    }


def compare(model, edges, layer=plain.per_edge_layer):
    """Values and gradients of the kernel and of the plain network, each to 1e-10."""
    x, u, mask = batch()
    answers, gradients = [], []
    for run in (lambda: model(x, u, mask, edges).imputations, lambda: plain.forward(model, x, u, mask, edges, layer)):
        model.zero_grad()
        found = run()
        sum((imputation * torch.sin(torch.arange(imputation.numel()).view_as(imputation))).sum() for imputation in found
            ).backward()  # fmt: skip
        answers.append(found)
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    for mine, reference in zip(*answers, strict=True):
        torch.testing.assert_close(mine, reference, atol=1e-10, rtol=1e-10)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], gradient, atol=1e-10, rtol=1e-9, msg=name)
    return gradients[0]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"message_layers": 2},
        {"message_layers": 0},
        {"self_attention": False},
        {"causal": True},
        {"distance": 1},
        {"causal": True, "distance": 2, "eta": 0},
        {"degree_norm": True},
    ],
    ids=str,
)
def test_the_kernel_equals_the_message_by_message_network_in_values_and_gradients(change):
    model = shaken(SPIN(**SMALL | change))
    gradients = compare(model, graph())
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
    used = gradients["layers.0.cross.source.weight"]
    assert used.abs().max() > 1e-4


def test_weights_and_types_of_edges_are_used_and_equal_the_reference():
    model = shaken(SPIN(**SMALL, edge_types=2))
    weight, kind = torch.tensor([0.5, 1.0, 0.2, 0.7, 0.9, 0.3]), torch.tensor([0, 1, 0, 1, 1, 0])
    gradients = compare(model, graph(weight=weight, type=kind))
    assert gradients["layers.0.cross.kind.weight"].abs().min() > 0
    x, u, mask = batch()
    answers = [
        model(x, u, mask, edges).imputations[-1]
        for edges in (
            graph(weight=weight, type=kind),
            graph(type=kind),
            graph(weight=weight, type=1 - kind),
            Graph(graph().target, graph().source, weight, kind),  # every edge reversed
        )
    ]
    assert all((answers[0] - other).abs().max() > 1e-3 for other in answers[1:])


def test_the_scattered_version_that_is_timed_equals_the_kernel_too():
    compare(shaken(SPIN(**SMALL)), graph(), plain.scattered_layer)


@pytest.mark.parametrize("softmax", [True, False])
def test_the_written_out_gradient_is_the_derivative(softmax):
    rows, steps, hidden, last = 3, 4, 3, 2
    source = torch.randn(rows, steps, hidden, requires_grad=True)
    target = torch.randn(rows, 2, hidden, requires_grad=True)
    bias = torch.randn(4, hidden, requires_grad=True)
    gate, shift, slopes = torch.randn(last), torch.randn(()), torch.tensor([0.2, -0.3])
    linear = [torch.randn(last, hidden), torch.randn(last)]
    free = [tensor.requires_grad_() for tensor in (gate, shift, slopes, *linear)]
    mask = torch.rand(rows, steps) < 0.6
    mask[0] = False
    pairs = kernel.Pairs.of(
        torch.tensor([0, 1, 2, 1]), torch.tensor([1, 0, 0, 2]), steps, mask, None, torch.tensor([1.0, 0.5, 2.0, 0.1])
    )

    def run(source, target, bias, gate, shift, slopes, *linear):
        return torch.cat(kernel.attend(source, target, pairs, gate, shift, slopes, list(linear), bias, softmax), 2)

    assert torch.autograd.gradcheck(run, (source, target, bias, *free))


def test_the_size_of_the_chunks_changes_nothing(monkeypatch):
    x, u, mask = batch()
    model = shaken(SPIN(**SMALL))
    whole = model(x, u, mask, graph()).imputations[-1]
    monkeypatch.setitem(kernel.CHUNK_BYTES, "cpu", 1)
    torch.testing.assert_close(model(x, u, mask, graph()).imputations[-1], whole, atol=1e-12, rtol=0)


def test_every_edge_stands_in_exactly_one_chunk_of_bounded_size():
    mask = torch.rand(200, 24) < torch.rand(200, 1)
    ends = torch.randint(200, (2, 3000))
    pairs = kernel.Pairs.of(ends[0], ends[1], 24, mask)
    parts = list(pairs.chunks(24, 32, 4, "cpu"))
    assert [p.start for p, _ in parts] == [0, *(p.stop for p, _ in parts[:-1])]
    assert parts[-1][0].stop == int((mask.any(1)[ends[0]]).sum())
    assert max((p.stop - p.start) * slots * 24 * 32 * 4 for p, slots in parts) <= 1.25 * kernel.CHUNK_BYTES["cpu"]
    assert all(slots == max(pairs.length[p]) for p, slots in parts)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.one_of(st.none(), st.integers(0, 3)), st.floats(0, 1))
def test_attention_rows_sum_to_one_or_zero_and_are_zero_out_of_reach(seed, causal, distance, share):
    torch.manual_seed(seed)
    layer = shaken(GraphAttention(4, causal=causal, distance=distance))
    mask = torch.rand(B, N, T) < share
    _, found = layer(torch.randn(B, N, T, 4), graph(), mask, return_attention=True)
    step = torch.arange(T)
    far = torch.zeros(T, T, dtype=torch.bool)  # [target, source]
    if causal:
        far |= step[None] > step[:, None]
    if distance is not None:
        far |= (step[None] - step[:, None]).abs() > distance
    for alpha, seen, out in (
        (found["cross"], mask[:, graph().source], far),
        (found["self"], mask, far | torch.eye(T, dtype=torch.bool)),
    ):
        assert (alpha.masked_select(out.expand_as(alpha)) == 0).all()
        assert (alpha.masked_select(~seen[:, :, None].expand_as(alpha)) == 0).all()
        total, possible = alpha.sum(3), (seen[:, :, None] & ~out).any(3)
        torch.testing.assert_close(total, possible.to(total.dtype), atol=1e-12, rtol=0)


def test_attention_times_messages_gives_the_layers_output():
    layer = shaken(GraphAttention(4, distance=3, types=2))
    kind = torch.tensor([0, 1, 0, 1, 1, 0])
    h, mask = torch.randn(1, N, T, 4), torch.rand(1, N, T) < 0.6
    out, found = layer(h, graph(type=kind), mask, return_attention=True)
    rows = h[0]
    ends = (graph().source, graph().target)
    cross = (found["cross"][0][..., None] * layer.cross.messages(rows, rows, ends, kind)).sum(2)  # [E, T, H]
    own = (torch.arange(N), torch.arange(N))
    summed = torch.zeros_like(rows).index_add(0, graph().target, cross)
    summed = summed + (found["self"][0][..., None] * layer.self.messages(rows, rows, own)).sum(2)
    torch.testing.assert_close(layer.norm(summed + layer.skip(rows)), out[0], atol=1e-10, rtol=0)


def test_asking_for_attention_changes_no_answer():
    x, u, mask = batch()
    for model in (shaken(SPIN(**SMALL)), shaken(SPINH(C, N, 6, 8, 2, layers=3, eta=2))):
        told = model(x, u, mask, graph(), return_attention=True)
        assert len(told.attention) == 3 and model(x, u, mask, graph()).attention == []
        assert torch.equal(told.imputations[-1], model(x, u, mask, graph()).imputations[-1])


def test_hubs_attention_sums_to_one_where_anything_is_seen():
    x, u, mask = batch()
    found = shaken(SPINH(C, N, 6, 8, 2, layers=2, eta=1))(x, u, mask, graph(), return_attention=True).attention[0]
    seen = mask.any(3).transpose(1, 2).any(2)  # [B, N]
    torch.testing.assert_close(found["gather"].sum(3), seen[..., None].expand(-1, -1, 2).to(x.dtype))
    torch.testing.assert_close(found["spread"].sum(3), torch.ones(B, N, T))
    into = torch.zeros(B, N, T).index_add(1, graph().target, found["edge"])
    torch.testing.assert_close(into, torch.tensor([1.0, 1, 1, 0])[:, None].expand(B, N, T))  # node 3: no neighbour


@pytest.mark.parametrize("kind", [SPIN, SPINH])
def test_hidden_values_are_never_read_channel_by_channel(kind):
    x, u, mask = batch()
    extra = {} if kind is SPIN else {"hub_size": 8, "hubs": 2}
    model = shaken(kind(C, N, 6, layers=2, eta=1, channel_tokens=True, **extra))
    answer = model(x, u, mask, graph()).imputations[-1]
    poisoned = torch.where(mask, x, torch.nan)
    assert torch.equal(model(poisoned, u, mask, graph()).imputations[-1], answer)
    first = x.clone()
    place = tuple(mask.nonzero()[0])
    first[place] += 1
    assert (model(first, u, mask, graph()).imputations[-1] - answer).abs().max() > 1e-6


def test_renumbering_the_nodes_renumbers_the_answers():
    """With vectors from places, nothing else knows a node's number."""
    x, u, mask = batch()
    model, order = shaken(SPIN(**SMALL, embedding="places")), torch.tensor([2, 0, 3, 1])
    places, back = torch.randn(N, 2), torch.argsort(order)
    moved = Graph(back[graph().source], back[graph().target])
    answer = model(x, u, mask, graph(), places).imputations[-1]
    other = model(x[:, :, order], u, mask[:, :, order], moved, places[order]).imputations[-1]
    torch.testing.assert_close(other, answer[:, :, order], atol=1e-10, rtol=0)


def test_a_model_on_places_takes_more_nodes_than_it_was_made_for():
    x, u, mask = batch()
    model = SPIN(**SMALL | {"nodes": 2}, embedding="places")
    assert model(x, u, mask, graph(), torch.randn(N, 2)).imputations[-1].shape == (B, T, N, C)


def test_single_precision_agrees_to_a_millionth():
    torch.set_default_dtype(torch.float32)
    layer = GraphAttention(32)
    nodes, steps = 12, 8
    ends = torch.randint(nodes, (2, 40))
    h, mask = torch.randn(1, nodes, steps, 32), torch.rand(1, nodes, steps) < 0.5
    mask[:, 0] = False
    fast, _ = layer(h, Graph(*ends), mask)
    slow = plain.scattered_layer(layer, h, Graph(*ends), mask)
    torch.testing.assert_close(fast, slow, atol=2e-6, rtol=0)


def test_without_any_edge_or_observation_the_answer_is_finite():
    x, u, mask = batch()
    empty = Graph(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long))
    for model in (SPIN(**SMALL), SPINH(C, N, 6, 8, 2, layers=2, eta=1)):
        for edges in (graph(), empty):
            out = model(x, u, torch.zeros_like(mask), edges, return_attention=True).imputations[-1]
            out.sum().backward()
            assert torch.isfinite(out).all()
            assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_an_edge_without_sources_still_has_its_place_in_the_attention():
    attention = AdditiveAttention(3, 3, 3)
    rows, ends = torch.randn(2, T, 3), (torch.tensor([0, 1]), torch.tensor([1, 0]))
    mask = torch.tensor([[True] * T, [False] * T])
    out, alpha = attention(rows, rows, ends, mask, return_attention=True)
    assert alpha.shape == (2, T, T) and (alpha[1] == 0).all()
    assert (out[0] == 0).all() and (out[1] != 0).any()
