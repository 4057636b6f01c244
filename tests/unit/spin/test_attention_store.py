"""Stored attention: adds up to what the layers put out; statistics of known maps; faithfulness; page and pictures."""

import argparse
import base64
import gzip
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.core.errors import PipelineError
from pipeline.core.stages import Job, run
from pipeline.spin import attention_statistics as numbers
from pipeline.spin import attention_store, explorer, faithfulness
from pipeline.spin.attention_report import attention_section
from pipeline.spin.attention_store import Store, contributions, listening
from pipeline.spin.commands import add
from pipeline.spin.cube import save
from pipeline.spin.published import build, for_cube
from pipeline.spin.settings import STAGES, Network, Settings
from pipeline.spin.windows import Windows

from .made_up import cube

NETWORK = Network(window=8, hidden=8, layers=2, eta=1, edge_weights=True)


@pytest.fixture(scope="module")
def seen():
    whole = cube(times=150, nodes=5, channels=1, masks=1)
    model = for_cube(NETWORK, whole, "cpu", 3).eval()
    windows = Windows(whole, 0, NETWORK, "cpu")
    return whole, model, windows, attention_store.record(model, windows, attention_store.window_rows(whole, 8, 3))


def test_contributions_add_up_to_each_layers_output(seen):
    whole, model, windows, _ = seen
    batch = windows.batch(np.arange(100, 108)[None])
    with torch.no_grad(), listening(model) as heard:
        out = model(*batch, windows.graph, windows.places, return_attention=True)
    for layer, calls, alpha in zip(model.layers, heard, out.attention, strict=True):
        for kind, (args, output) in calls.items():
            said = contributions(getattr(layer, kind), args, alpha[kind][0])
            by_hand = torch.zeros_like(output)
            for pair, end in enumerate(args[2][1]):
                by_hand[end] += said[pair]
            torch.testing.assert_close(by_hand, output, atol=1e-6, rtol=1e-5)
    assert not model.layers[0].cross._forward_hooks  # nothing is left behind


def test_rows_sum_to_one_or_zero_and_unseen_steps_have_none(seen):
    whole, _, windows, store = seen
    k, layers, pairs, steps, _ = store.alpha.shape
    assert (k, layers, pairs, steps) == (3, 2, 10 + 5, 8) and store.attrs["reproduction_error"] < 1e-5
    total = store.alpha.astype(float).sum(axis=4)
    assert (np.minimum(np.abs(total - 1), np.abs(total)) < 4e-3).all()  # float16
    gone = ~store.seen[:, :, store.source].transpose(0, 2, 1)  # [K, T, P] -> [K, P, T]
    assert (store.alpha[:, 0].transpose(0, 1, 3, 2)[gone] == 0).all()  # first layer: only what was visible
    own = store.kind == 1
    assert (np.diagonal(store.alpha[:, :, own], axis1=3, axis2=4) == 0).all()


def test_shares_of_a_node_sum_to_one(seen):
    store = seen[3]
    total = np.zeros((*store.share.shape[:2], 5, 8))
    np.add.at(total, (slice(None), slice(None), store.target), store.share)
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_the_store_is_read_back(seen, tmp_path):
    store = seen[3]
    attention_store.save(store, tmp_path / "a.zarr")
    again = attention_store.load(tmp_path / "a.zarr")
    for name in ("alpha", "norm", "kind", "source", "target", "time", "seen", "value", "filled"):
        np.testing.assert_array_equal(getattr(again, name), getattr(store, name))
    assert again.nodes == store.nodes and again.attrs == store.attrs
    with pytest.raises(PipelineError, match="no edge from n0 to n3"):
        again.pair(0, 3)


def test_other_networks_are_refused(seen):
    whole = seen[0]
    with pytest.raises(PipelineError, match="kind spin"):
        attention_store.require_spin(build(Network(kind="spin_h", hidden=8, layers=1), 1, 5, 0))
    with pytest.raises(PipelineError, match="no stretch"):
        attention_store.window_rows(whole, 100, 1)


def test_statistics_of_maps_that_are_known():
    eye, ahead = np.eye(6), np.eye(6, k=1)
    assert numbers.lag_profile(eye).tolist() == [0] * 5 + [1] + [0] * 5
    assert numbers.lag_profile(ahead)[6] == 1 and numbers.lag_profile(ahead).sum() == 1
    assert numbers.symmetry(eye) == 1 and numbers.symmetry(ahead) == 0
    assert numbers.symmetry(np.array([[0.5, 0.5], [0.25, 0.75]])) == pytest.approx((0.5 + 2 * 0.25 + 0.75) / 2)
    blind = np.full((6, 6), 1 / 6)
    found = numbers.locality(blind)
    assert found["distance"] == pytest.approx(found["distance_blind"]) == pytest.approx(35 / 18)  # (n^2 - 1) / 3n
    assert numbers.locality(ahead)["distance"] == 1 and numbers.locality(ahead)["near"] == 1
    assert numbers.rank_correlation(np.array([1.0, 2, 3]), np.array([9.0, 4, 1])) == pytest.approx(-1)
    assert numbers.rank_correlation(np.ones(3), np.arange(3)) is None


def test_distance_of_a_degree_of_latitude(seen):
    store = replace(seen[3], place=np.stack([np.arange(5.0), np.zeros(5)], 1), attrs={"place": "latlon"})
    distance, unit = numbers.edge_distance(store)
    apart = np.abs(store.source - store.target)[store.kind == 0]
    np.testing.assert_allclose(distance, 111.195 * apart, rtol=1e-4)
    assert unit == "km"


def test_the_comparison_is_paired_and_repeatable(seen):
    whole, model, windows, _ = seen
    found = faithfulness.measure(model, windows, whole, count_windows=3, targets=3, counts=(2,))
    entry = found["by_k"]["2"]
    assert found["targets"] == 9 and found["windows"] == 3
    assert entry["difference"] == pytest.approx(entry["mae_top"] - entry["mae_random"])
    assert entry["ci95"][0] <= entry["difference"] <= entry["ci95"][1]
    assert entry["moved_top"] > 0 and entry["moved_random"] > 0
    again = faithfulness.measure(model, windows, whole, count_windows=3, targets=3, counts=(2,))
    assert again == found


def test_importance_of_a_cell_sums_to_one(seen):
    _, model, windows, _ = seen
    with torch.no_grad(), listening(model) as heard:
        batch = windows.batch(np.arange(100, 108)[None])
        out = model(*batch, windows.graph, windows.places, return_attention=True)
    rank = faithfulness.importance(model, heard, out.attention, 2, 4, 5)
    assert rank.shape == (5, 8) and rank.sum() == pytest.approx(1, abs=1e-5)
    assert (rank[[0, 4]] == 0).all()  # on the ring 1 and 3 are its neighbours


def test_bootstrap_of_a_constant_is_the_constant():
    assert faithfulness.bootstrap(np.full(8, 2.0), np.arange(8) % 3, np.random.default_rng(0)) == [2.0, 2.0]


def test_the_page_holds_its_data_and_asks_for_nothing(seen, tmp_path):
    store: Store = seen[3]
    explorer.write(store, tmp_path / "a.html", 1)
    text = (tmp_path / "a.html").read_text()
    assert not re.search(r"(src|href)=|https?://|@import|fetch\(", text)
    packed = re.search(r'id="data"[^>]*>([^<]+)<', text).group(1)
    found = json.loads(gzip.decompress(base64.b64decode(packed)))
    share = np.frombuffer(base64.b64decode(found["share"]), "<u2").reshape(2, 15, 8)
    np.testing.assert_allclose(share / 65535, store.share[1], atol=1e-5)
    alpha = np.frombuffer(base64.b64decode(found["alpha"]), np.uint8).reshape(2, 15, 8, 8)
    top = np.array(found["top"]).reshape(2, 15)[..., None, None]
    np.testing.assert_allclose(alpha / 255 * top, store.alpha[1].astype(float), atol=3e-3)
    assert np.ptp(np.array(found["place"])) <= 1


def test_what_is_not_decided_is_called_undecided():
    entry = {"targets": 60, "difference": -0.2, "ci95": [-1.2, 0.7], "moved_difference": 1.7, "moved_ci95": [1.1, 2.5]}
    last = {"cross": {"near": 0.3, "near_blind": 0.25, "distance": 5, "distance_blind": 6, "symmetry": 0.5}}
    report = {"arm": "spin", "scenario": "s", "statistics": {"layers": [last]}}
    report["faithfulness"] = {"by_k": {"5": entry}, "unit": "mph", "targets": 70}
    title, _, error, answer, *_ = attention_section(report)
    assert title == "## Attention of `spin`, s"
    assert "the error grows by -0.200 mph [-1.200, +0.700]" in error and error.endswith("undecided.")
    assert "(60 cells)" in error
    assert "+1.700 mph" in answer and answer.endswith("more than by chance.")


def test_by_rule_and_by_hand(seen, tmp_path):
    whole = seen[0]
    save(whole, tmp_path / "data.zarr")
    arm = tmp_path / "spin"
    settings = Settings.model_validate(
        {"network": NETWORK.model_dump(), "fit": {"steps": 1, "batches_epoch": 1, "schedule": "linear", "warmup": 0}}
    ).model_dump(mode="json")
    facts = {"scenario": "s", "arm": "spin"}
    inputs = {"data": tmp_path / "data.zarr", "weights": arm / "weights.safetensors"}
    for name, outputs in (
        ("train", {"weights": "weights.safetensors"}),
        ("attention", {"store": "x.zarr", "report": "x.json", "page": "x.html", "figures": "x"}),
    ):
        outputs = {key: arm / value for key, value in outputs.items()} | {"run": arm / f"{name}.run.json"}
        leaf = {group: settings[group] for group in STAGES[name].groups}
        given = inputs if name == "attention" else {"data": inputs["data"]}
        run(Job("spin", name, given, outputs, leaf, [0], facts=facts), STAGES[name])
    report = json.loads((arm / "x.json").read_text())
    assert report["arm"] == "spin" and len(report["statistics"]["layers"]) == 2
    assert len(list((arm / "x").glob("*.png"))) >= 5
    parser = argparse.ArgumentParser()
    add(parser.add_subparsers())
    out = tmp_path / "out"
    args = parser.parse_args(
        ["attention", str(arm), "--out", str(out), "--edge", "n0,n1", "--layer", "2", "--sample", "2", "--step", "3"]
    )
    args.run(args)
    assert (out / "attention.html").exists() and (out / "attention_maps.png").exists()
    for changes, message in (
        (["--node", "nobody"], "no sensor 'nobody'"),
        (["--layer", "9"], "--layer 9: from 1 to 2"),
        (["--edge", "n0,n3"], "no edge from n0 to n3"),
        (["--seed", "5"], "trained with 0"),
    ):
        args = parser.parse_args(["attention", str(arm), "--out", str(tmp_path / "no"), *changes])
        with pytest.raises(PipelineError, match=message):
            args.run(args)
        assert not (tmp_path / "no").exists()
