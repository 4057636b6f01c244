"""Scores worked out by hand, intervals that cover as promised, comparisons that know the dependence; scenario.json."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from pipeline.core.errors import DataError
from pipeline.core.stages import Job
from pipeline.spin.compare import compare, whole_cost
from pipeline.spin.cube import TEST, VAL, Imputations, read_imputations, save, write_imputations
from pipeline.spin.data_settings import Baselines, Boosting
from pipeline.spin.intervals import GAPS, LEVELS, Intervals, gap_class, gap_names, target_gaps
from pipeline.spin.run_baselines import run
from pipeline.spin.scoring import Scorer, clustered, crps, means

from .made_up import cube


def scorer_of(data):
    return Scorer(data, target_gaps(data, data.layout()))


@pytest.fixture(scope="module")
def one():
    return cube(channels=1)


@pytest.fixture(scope="module")
def two():
    return cube(channels=2, masks=3)


def test_scores_of_one_channel_by_their_definitions(one):
    scorer, layout = scorer_of(one), one.layout()
    rng = np.random.default_rng(0)
    value = layout.truth + rng.normal(size=layout.size)
    part = layout.slice(0, TEST)
    error = (value - layout.truth)[part].astype(float)
    found = scorer.metrics(value, None, ())
    assert found["mae"] == pytest.approx(np.abs(error).mean())
    assert found["mse"] == pytest.approx((error**2).mean())
    assert found["mre"] == pytest.approx(np.abs(error).sum() / np.abs(layout.truth[part]).sum())
    by_mask = [np.abs(value - layout.truth)[layout.slice(m, TEST)].mean() for m in range(2)]
    assert found["mae_masks"] == pytest.approx(np.mean(by_mask))
    assert set(found) == {"mae", "mse", "mre", "mae_masks"}  # no second channel, no line cell, no quantile


def test_validation_cells_have_no_part_in_the_scores(one):
    layout = one.layout()
    value = layout.truth.astype(float)
    value[layout.split == VAL] += 1e6
    found = scorer_of(one).metrics(value, None, ())
    assert found["mae"] == 0 and found["mse"] == 0 and found["mre"] == 0


def test_cells_on_a_line_are_left_out_of_their_own_score_alone(one):
    lined = np.zeros(one.value.shape, bool)
    lined[200:220] = True
    data = replace(one, on_line=lined)
    layout = data.layout()
    value = layout.truth + np.where(lined[layout.time, layout.node, layout.channel], 3.0, 1.0)
    found = scorer_of(data).metrics(value, None, ())
    assert found["mae_no_line"] == pytest.approx(1, abs=1e-5) and found["mae"] > 1.2


def test_channels_are_scored_in_their_units_and_together_in_standard_deviations(two):
    scorer, layout = scorer_of(two), two.layout()
    _, sd = two.scaler(0)
    value = layout.truth + np.where(layout.channel == 0, 0.5, 4.0)
    found = scorer.metrics(value, None, ())
    assert found["mae_c0"] == pytest.approx(0.5, rel=1e-4) and found["mae_c1"] == pytest.approx(4.0, rel=1e-4)
    part = layout.slice(0, TEST)
    share = (layout.channel[part] == 0).mean()
    assert found["mae"] == pytest.approx(share * 0.5 / sd[0] + (1 - share) * 4 / sd[1], rel=1e-4)


def test_vectors_are_means_by_gap_hour_and_sensor(two):
    scorer, layout = scorer_of(two), two.layout()
    value = layout.truth + layout.node
    error, part = scorer.error(value), layout.slice(0, TEST)
    found = scorer.vectors(value)
    for node in range(6):
        assert found["mae_by_sensor"][node] == pytest.approx(error[part][layout.node[part] == node].mean())
    assert len(found["mae_by_hour"]) == 24 and len(found["mae_by_mask"]) == 3
    sizes = scorer.axes()["gap_targets"]
    parts = [s * v for s, v in zip(sizes, found["mae_by_gap"], strict=True) if s]
    assert sum(sizes) == part.stop - part.start
    assert sum(parts) / sum(sizes) == pytest.approx(error[part].mean())
    assert means(np.array([1.0, 3]), np.array([0, 0]), 2) == [2.0, None]


def test_gap_classes_and_their_names_agree():
    assert gap_names() == ["1", "2", "3-4", "5-8", "9-16", "17-32", "33+"]
    hidden = np.array([1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 9999])
    assert gap_class(hidden + 1).tolist() == [0, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    assert len(gap_names()) == len(GAPS) + 1


def test_crps_of_many_quantiles_is_the_normal_closed_form():
    """Gneiting and Raftery (2007), equation 21."""
    from scipy.stats import norm

    levels = tuple((np.arange(2000) + 0.5) / 2000)
    truth = np.array([-1.3, 0.0, 2.1])
    quantile = np.broadcast_to(norm.ppf(levels), (3, 2000))
    expected = truth * (2 * norm.cdf(truth) - 1) + 2 * norm.pdf(truth) - 1 / np.sqrt(np.pi)
    np.testing.assert_allclose(crps(quantile, levels, truth), expected, rtol=2e-3)


def test_crps_of_a_point_is_the_absolute_error():
    levels = LEVELS
    np.testing.assert_allclose(crps(np.full((1, 5), 2.0), levels, np.array([5.0])), [3.0])


def test_intervals_cover_new_cells_as_promised_for_each_gap_length():
    rng = np.random.default_rng(0)
    gap = rng.choice([2, 20], 8000)
    error = rng.standard_t(4, 8000) * np.where(gap == 2, 1, 5)
    fitted = Intervals.fit(error[:4000], gap[:4000], np.zeros(4000, int), 1)
    quantile = fitted.around(np.zeros(4000), gap[4000:], np.zeros(4000, int))
    inside = (error[4000:] >= quantile[:, 0]) & (error[4000:] <= quantile[:, -1])
    for kind in (2, 20):
        assert inside[gap[4000:] == kind].mean() == pytest.approx(0.9, abs=0.02)
    few = Intervals.fit(error[:150], gap[:150], np.zeros(150, int), 1)
    np.testing.assert_array_equal(few.table[0, 0], few.table[0, 4])  # too few for classes: all of the channel


def test_the_bootstrap_s_interval_covers_the_truth_under_clusters():
    rng = np.random.default_rng(1)
    hits = []
    for trial in range(200):
        shared = rng.normal(size=40)
        cluster = np.repeat(np.arange(40), 25)
        delta = 0.2 + shared[cluster] + rng.normal(size=1000)
        low, high = clustered(delta, cluster, np.zeros(1000, int), draws=400, seed=trial)["ci95"]
        hits.append(low <= 0.2 <= high)
    assert 0.88 <= np.mean(hits) <= 0.98  # independent draws of cells would cover about 0.3
    found = clustered(np.ones(10), np.arange(10), np.zeros(10, int))
    few = clustered(np.ones(40), np.arange(40) % 9, np.zeros(40, int))
    assert few["p"] is None and "too few clusters" in few["test"]
    assert found["difference"] == 1 and found["ci95"] == [1, 1] and found["p"] == pytest.approx(2 / 2000)


def test_masks_weigh_alike_in_a_comparison():
    delta, mask = np.r_[np.zeros(90), np.ones(10)], np.repeat([0, 1], [90, 10])
    assert clustered(delta, np.tile(np.arange(10), 10), mask)["difference"] == pytest.approx(0.5)


def test_a_comparison_is_antisymmetric_and_averages_members(two):
    scorer, layout = scorer_of(two), two.layout()
    rng = np.random.default_rng(0)
    a, b = layout.truth + rng.normal(size=(3, layout.size)), layout.truth + 2 * rng.normal(size=(1, layout.size))
    forth, back = scorer.compare(a, b), scorer.compare(b, a)
    assert [f["resampled"] for f in forth] == ["hour", "sensor"] * 3
    assert [f["metric"] for f in forth] == ["mae"] * 2 + ["mae_c0"] * 2 + ["mae_c1"] * 2
    part = (layout.split == TEST) & (layout.channel == 1) & (layout.mask == 0)
    expected = np.abs(a - layout.truth)[:, part].mean() - np.abs(b - layout.truth)[:, part].mean()
    assert forth[4]["by_mask"][0] == pytest.approx(expected, rel=1e-5)  # in the channel's own unit
    for f, r in zip(forth, back, strict=True):
        assert f["difference"] == pytest.approx(-r["difference"]) and f["difference"] < 0
        assert f["ci95"] == pytest.approx([-r["ci95"][1], -r["ci95"][0]])
        assert f["difference"] == pytest.approx(np.mean(f["by_mask"]))


class Log(logging.Logger):
    def __init__(self):
        super().__init__("test")


@pytest.fixture(scope="module")
def scenario(tmp_path_factory):
    """A scenario on disk: data, baselines and one arm with two seeds."""
    folder = tmp_path_factory.mktemp("scenario")
    data = cube(channels=2, masks=2)
    save(data, folder / "data.zarr")
    quick = Baselines(boosting=Boosting(masks=2, trees=10, chain=0, neighbours=3))
    paths = {"imputations": folder / "baselines.zarr"}
    names = ["mean", "linear", "boosting_bag"]
    run(Job("spin", "baselines", {"data": folder / "data.zarr"}, paths, {}, facts={"baselines": names}), quick, Log())
    layout = data.layout()
    (folder / "spin").mkdir()
    value = np.stack([layout.truth + 0.01, layout.truth - 0.03])
    write_imputations(folder / "spin" / "imputations.zarr", Imputations([0, 1], value))
    record = {
        "schema": "run/1", "settings": {"x": 1}, "seeds": [0, 1], "inputs": {},
        "metrics": {
            "parameters_total": 1234, "parameters_encoder": 1000, "latency_ms": 2.5,
            "mae_unseen_nodes_seed0": 2.0, "mae_unseen_nodes_seed1": 4.0,
        },
        "cost": {"cpu_s": 3.0, "peak_rss_mb": 100.0},
    }  # fmt: skip
    (folder / "spin" / "evaluate.run.json").write_text(json.dumps(record))
    return folder, data


def job_of(folder, out, arms=("spin",)):
    entry = {
        "description": "a test", "leaky": False, "primary": {"metric": "mae", "unit": "1", "better": "lower"},
        "baselines": ["mean", "linear", "boosting_bag"], "arms": list(arms), "compare": [["spin", "linear"]],
    }  # fmt: skip
    inputs = {
        "data": folder / "data.zarr",
        "baselines": folder / "baselines.zarr",
        "arms": [folder / "spin" / "imputations.zarr"],
        "runs": [folder / "spin" / "evaluate.run.json"],
    }
    return Job("spin", "compare", inputs, {"scenario": out}, {}, facts={"entry": entry})


def test_the_scenario_s_block_has_the_shape_of_the_table(scenario, tmp_path, monkeypatch):
    folder, data = scenario
    monkeypatch.setattr("pipeline.spin.compare.read_run", lambda path: json.loads(path.read_text()))
    compare(job_of(folder, tmp_path / "scenario.json"), None, Log())
    block = json.loads((tmp_path / "scenario.json").read_text())
    assert block["dataset"]["name"] == "made_up" and block["targets"]["named"] == len(data.targets(0, TEST))
    arm = block["arms"]["spin"]
    assert arm["parameters"] == 1234 and arm["parameters_encoder"] == 1000 and arm["seeds"] == [0, 1]
    _, sd = data.scaler(0)
    assert arm["metrics"]["mae_c0"]["values"] == pytest.approx([0.01, 0.03], rel=1e-3)
    assert arm["cost"]["evaluate_s"] == 3.0 and arm["cost"]["train_s"] is None and arm["cost"]["cpu_s"] == 1.5
    assert arm["metrics"]["mae_unseen_nodes"]["mean"] == 3.0 and "mae_unseen_nodes_idw" not in arm["metrics"]
    assert {"mae", "mse", "mre", "crps", "coverage90", "mae_c0", "mae_c1"} <= set(
        block["baselines"]["linear"]["metrics"]
    )
    assert block["baselines"]["mean"]["transductive"] == "no" and block["baselines"]["mean"]["cost"]["cpu_s"] >= 0
    hour, sensor = block["comparisons"][:2]
    assert hour["a"] == "spin" and hour["ci95"][1] < 0 and sensor["resampled"] == "sensor"


def test_a_stack_costs_what_it_is_made_of(scenario, tmp_path, monkeypatch):
    folder, _ = scenario
    monkeypatch.setattr("pipeline.spin.compare.read_run", lambda path: json.loads(path.read_text()))
    record = json.loads((folder / "spin/evaluate.run.json").read_text())
    record["inputs"] = {"needs.0": {"path": "results/spin/d/s/spin/imputations.zarr"}, "baselines": {"path": "b"}}
    (tmp_path / "stack").mkdir()
    (tmp_path / "stack/evaluate.run.json").write_text(json.dumps(record))
    saved = read_imputations(folder / "spin/imputations.zarr")
    write_imputations(tmp_path / "stack/imputations.zarr", saved)
    job = job_of(folder, tmp_path / "scenario.json", ("spin", "stack"))
    job.inputs["arms"] = [*job.inputs["arms"], tmp_path / "stack/imputations.zarr"]
    job.inputs["runs"] = [*job.inputs["runs"], tmp_path / "stack/evaluate.run.json"]
    compare(job, None, Log())
    block = json.loads((tmp_path / "scenario.json").read_text())
    boosting = block["baselines"]["boosting_bag"]["cost"]["cpu_s"]
    assert block["arms"]["stack"]["cost"]["cpu_s"] == pytest.approx(1.5 + 1.5 + boosting)  # two seeds share 3 s


def test_costs_count_what_an_arm_grew_out_of_once():
    own, needs = {"a": 1.0, "b": 2.0, "c": 4.0, "d": 8.0}, {"a": [], "b": ["a"], "c": ["b"], "d": ["a", "b"]}
    assert [whole_cost(name, own, needs) for name in own] == [1.0, 3.0, 7.0, 11.0]


def test_stores_made_for_other_targets_or_with_holes_are_refused(scenario, tmp_path, monkeypatch):
    folder, data = scenario
    monkeypatch.setattr("pipeline.spin.compare.read_run", lambda path: json.loads(path.read_text()))
    job = job_of(folder, tmp_path / "scenario.json")
    size = data.layout().size
    bad = tmp_path / "spin" / "imputations.zarr"
    for value, message in (
        (np.zeros((1, size - 1)), "was made from other data"),
        (np.full((1, size), np.nan), "without"),
    ):
        write_imputations(bad, Imputations([0], value))
        job.inputs["arms"] = [bad]
        with pytest.raises(DataError, match=message):
            compare(job, None, Log())
        assert not (tmp_path / "scenario.json").exists()
