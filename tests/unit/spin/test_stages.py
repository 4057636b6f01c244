"""The stages train, evaluate and parameters on a small cube, called as the workflow calls them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.core.config import merge
from pipeline.core.errors import DataError, PipelineError
from pipeline.core.stages import Job, run
from pipeline.core.store import write_json
from pipeline.spin import published
from pipeline.spin.cube import TEST, VAL, Imputations, read_imputations, save, write_imputations
from pipeline.spin.parameters import components, losses, variants
from pipeline.spin.settings import STAGES, Network, Settings

from .made_up import cube

TINY = {
    "network": {"window": 8, "hidden": 4, "layers": 1, "eta": 1},
    "fit": {"steps": 6, "batches_epoch": 3, "batch": 2, "schedule": "linear", "warmup": 0},
    "base": {"masks": 1, "neighbours": 2, "reach": 1},
}


def stage(name, folder, inputs, seeds=(0,), **over):
    """Run one stage with the leaf that it reads; outputs lie in ``folder``."""
    merged = Settings.model_validate(merge(TINY, over)).model_dump(mode="json")
    output = {"train": {"weights": folder / "weights.safetensors"},
              "evaluate": {"imputations": folder / "imputations.zarr"}}[name]  # fmt: skip
    job = Job(
        "spin",
        name,
        inputs,
        {**output, "run": folder / f"{name}.run.json"},
        {group: merged[group] for group in STAGES[name].groups},
        list(seeds),
        facts={"scenario": "s", "arm": folder.name},
    )
    return run(job, STAGES[name]).metrics


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spin")
    whole = cube(times=150, nodes=4, channels=2, masks=2)
    save(whole, folder / "data.zarr")
    return folder, whole


@pytest.fixture(scope="module")
def plain(made):
    folder, _ = made
    metrics = stage("train", folder / "plain", {"data": folder / "data.zarr"}, seeds=(0, 1))
    return metrics, stage(
        "evaluate",
        folder / "plain",
        {"data": folder / "data.zarr", "weights": folder / "plain/weights.safetensors"},
        seeds=(0, 1),
    )


def test_every_target_of_every_mask_is_imputed_once_with_ordered_intervals(made, plain):
    folder, whole = made
    saved = read_imputations(folder / "plain/imputations.zarr")
    assert saved.members == [0, 1] and saved.value.shape == (2, whole.layout().size)
    assert np.isfinite(saved.value).all() and (np.diff(saved.quantile, axis=2) >= 0).all()
    assert (saved.value[0] != saved.value[1]).any()
    train, evaluate = plain
    assert train["steps"] == 6 and train["parameters_total"] == evaluate["parameters_total"]
    layout = whole.layout()
    part = layout.slice(0, TEST)
    sd = whole.scaler(0)[1][layout.channel[part]]  # two channels: in training standard deviations
    expected = np.mean(np.abs(saved.value[:, part] - layout.truth[part]) / sd)
    assert evaluate["mae"] == pytest.approx(expected, rel=1e-4)


def test_the_truth_of_hidden_test_cells_reaches_no_value(made, plain, tmp_path):
    """Replaced by nonsense under every mask, they change no imputation of the named mask (intervals come from val)."""
    folder, whole = made
    secret = whole.hidden[0] & whole.observed & (whole.split == TEST)[:, None, None]
    save(replace(whole, value=np.where(secret, np.float32(999), whole.value)), tmp_path / "data.zarr")
    inputs = {"data": tmp_path / "data.zarr"}
    stage("train", tmp_path / "plain", inputs, seeds=(0, 1))
    stage("evaluate", tmp_path / "plain", inputs | {"weights": tmp_path / "plain/weights.safetensors"}, seeds=(0, 1))
    named = [(VAL, whole.layout().slice(0, VAL)), (TEST, whole.layout().slice(0, TEST))]
    one, other = (read_imputations(at / "plain/imputations.zarr") for at in (folder, tmp_path))
    for _, part in named:
        np.testing.assert_array_equal(one.value[:, part], other.value[:, part])
        np.testing.assert_array_equal(one.quantile[:, part], other.quantile[:, part])


@pytest.mark.parametrize("kind", ["spin", "spin_h", "residual"])
def test_mixed_precision_trains_other_weights_to_nearly_the_same_error(made, kind, tmp_path):
    folder, _ = made
    found, saved = {}, {}
    for precision in ("float32", "bfloat16"):
        over = {"network": {"kind": kind}, "fit": {"precision": precision}}
        if kind == "residual":
            over["fit"]["whitening"] = {"kind": "matched"}
        place = tmp_path / precision
        found[precision] = stage("train", place, {"data": folder / "data.zarr"}, **over)["validation_mae"]
        saved[precision] = load_file(place / "weights.safetensors")
    assert all(tensor.dtype == torch.float32 for tensor in saved["bfloat16"].values())
    assert any((saved["float32"][name] != tensor).any() for name, tensor in saved["bfloat16"].items())
    assert found["bfloat16"] == pytest.approx(found["float32"], rel=0.05)


def test_a_stack_takes_the_weight_that_is_best_on_validation_cells(made):
    """Truth lies a fifth of the way from boosting to the network in channel 0, at boosting in channel 1."""
    folder, whole = made
    layout = whole.layout()
    share = np.where(layout.channel == 0, 0.2, 0.0)
    sign = np.where(np.arange(layout.size) % 2, 1.0, -1.0)
    boosting = layout.truth - share * sign
    network = layout.truth + (1 - share) * sign
    write_imputations(folder / "baselines.zarr", Imputations(["linear", "boosting_bag"], np.stack([network, boosting])))
    write_imputations(folder / "network.zarr", Imputations([0], network[None]))
    metrics = stage(
        "evaluate",
        folder / "stack",
        {"data": folder / "data.zarr", "baselines": folder / "baselines.zarr", "needs": [folder / "network.zarr"]},
        network={"kind": "stack"},
    )
    assert metrics["stack_weight_c0_seed0"] == pytest.approx(0.2)
    assert metrics["stack_weight_c1_seed0"] == 0
    np.testing.assert_allclose(read_imputations(folder / "stack/imputations.zarr").value[0], layout.truth, rtol=1e-4)


def test_students_and_grown_models_need_another_arm(made, plain):
    folder, _ = made
    data = {"data": folder / "data.zarr"}
    with pytest.raises(PipelineError, match="needs: "):
        stage("train", folder / "alone", data, fit={"distil": 0.5})
    needs = data | {"needs": [folder / "plain/weights.safetensors"]}
    for name, over in (
        ("student", {"fit": {"distil": 0.5}}),
        ("grown", {"network": {"hidden": 6}, "fit": {"grow": True}}),
    ):
        assert np.isfinite(stage("train", folder / name, needs, **over)["validation_mae"])


def test_places_are_refused_where_there_are_none(made, tmp_path):
    _, whole = made
    save(replace(whole, place=np.full((4, 2), np.nan)), tmp_path / "data.zarr")
    with pytest.raises(DataError, match="no coordinates"):
        stage("train", tmp_path / "x", {"data": tmp_path / "data.zarr"}, network={"embedding": "places"})


def test_new_nodes_are_scored_beside_the_weighted_mean_of_the_others(made):
    folder, _ = made
    inputs = {"data": folder / "data.zarr"}
    over = {"network": {"embedding": "places"}, "unseen": {"share": 0.25}}
    stage("train", folder / "virtual", inputs, **over)
    weights = {"weights": folder / "virtual/weights.safetensors"}
    metrics = stage("evaluate", folder / "virtual", inputs | weights, **over)
    own, others = metrics["mae_unseen_nodes_seed0"], metrics["mae_unseen_nodes_idw_seed0"]
    assert 0 < others < own < 100  # six steps teach little


def test_growing_keeps_the_small_weights_in_the_corner():
    torch.manual_seed(0)
    small = published.build(Network(window=8, hidden=4, layers=1, eta=1), 2, 4, 0)
    large = published.build(Network(window=8, hidden=8, layers=2, eta=1), 2, 4, 0)
    assert published.grow(small.state_dict(), large) == len(dict(small.named_parameters()))
    torch.testing.assert_close(large.layers[0].skip.weight[:4, :4], small.layers[0].skip.weight)
    torch.testing.assert_close(large.tokens.valid.table[:, :4], small.tokens.valid.table)


def test_the_seeds_estimates_beside_the_counts():
    """Shares and errors of the seed's table 1.2.5, worked out in reference figures."""
    rows = components()
    assert rows["total"]["seed"] == 50_918 and rows["total"]["counted"] == 49_909
    assert rows["attention layers"]["seed_share"] == pytest.approx(0.675, abs=0.001)
    assert rows["attention layers"]["share"] == pytest.approx(0.575, abs=0.001)
    assert rows["read-outs"]["error_percent"] == pytest.approx(-49.3, abs=0.1)
    assert sum(row["share"] for name, row in rows.items() if name != "total") == pytest.approx(1)
    found = variants()
    assert {name: found[name]["counted"] for name in ("mild", "medium", "extreme")} == {
        "mild": 12_350,
        "medium": 6_766,
        "extreme": 3_938,
    }
    assert found["hidden 16"]["within_seed"] and not found["medium"]["within_seed"]


def test_measured_losses_stand_beside_the_predicted_ones(tmp_path):
    def arm(mae, parameters):
        return {"metrics": {"mae": {"mean": mae}}, "parameters": parameters}

    block = {"primary": {"metric": "mae"}, "arms": {"base": arm(2.0, 9), "mild": arm(2.2, 5), "extreme": arm(1.8, 3)}}
    table = {"scenarios": {"lightweight": block, "other": {"primary": {"metric": "mae"}, "arms": {}}}}
    found = losses(table)
    assert found == {"lightweight": found["lightweight"]}
    assert found["lightweight"]["mild"]["loss_percent"] == pytest.approx(10)
    assert found["lightweight"]["extreme"]["loss_percent"] == pytest.approx(-10)
    assert found["lightweight"]["extreme"]["predicted_percent"] == [15, 25]
    write_json(tmp_path / "table.json", table)
    job = Job("spin", "parameters", {"table": tmp_path / "table.json"},
              {"parameters": tmp_path / "p.json", "run": tmp_path / "p.run.json"}, {})  # fmt: skip
    run(job, STAGES["parameters"])
    assert json.loads((tmp_path / "p.json").read_text())["accuracy"] == found
