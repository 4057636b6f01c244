"""Paired comparisons by blocks of windows, and a scenario's block from end to end."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pipeline.core.stages import Job
from pipeline.smash import calibration, compare, run_baselines, scores
from pipeline.smash.settings import STAGES, Settings


class Quiet:
    def info(self, text):
        pass


def test_a_constant_difference_is_found_exactly():
    count = np.array([3.0, 5.0, 2.0, 8.0])
    found = compare.paired(count * 0.25, np.zeros(4), count, block=2)
    assert found["difference"] == pytest.approx(0.25) and found["ci95"] == pytest.approx([0.25, 0.25])
    assert found["n"] == 18 and found["greater"] == 1.0 and found["p"] == pytest.approx(0.001)


def test_no_difference_has_an_interval_around_zero():
    rng = np.random.default_rng(0)
    count = rng.integers(20, 80, 150).astype(float)
    a, b = rng.normal(size=(2, 150)) * np.sqrt(count)
    found = compare.paired(a, b, count, block=5)
    assert found["ci95"][0] < 0 < found["ci95"][1] and found["p"] > 0.05


def test_blocks_widen_the_interval_of_windows_that_repeat_each_other():
    """Windows at a quarter's stride hold each event four times: one by one they look like four times the data."""
    rng = np.random.default_rng(0)
    delta = np.repeat(rng.normal(size=40), 4)
    width = []
    for block in (1, 5, 10):
        low, high = compare.paired(delta, np.zeros(160), np.ones(160), block)["ci95"]
        width.append(high - low)
    assert width[1] > 1.5 * width[0] and width[2] > width[1]
    true = 2 * 1.96 / np.sqrt(40)
    assert abs(width[2] - true) < abs(width[0] - true)


def test_distances_of_resampled_windows_are_those_of_the_repeated_values():
    rng = np.random.default_rng(0)
    values, window = rng.random(60) ** 1.3, rng.integers(0, 4, 60)
    times = np.array([[1, 1, 1, 1], [2, 0, 1, 3]])
    found = compare.distances(values, window, times)
    for row, counts in zip(found, times, strict=True):
        assert row == pytest.approx(calibration.kolmogorov(np.repeat(values, counts[window])))


def test_block_lengths_cover_the_overlap(make):
    assert compare.block_of(make()) == 2
    assert compare.block_of(make(window=30.0, stride=7.0)) == 5


@pytest.fixture(scope="module")
def scenario(make, tmp_path_factory):
    """All baselines of a small catalogue, and an arm that is one of them a little worse on half the events."""
    folder = tmp_path_factory.mktemp("scenario")
    cat = make(sequences=(20, 5, 6))
    cat.save(folder / "prepared.pkl")
    names = ["poisson_kde", "renewal_kde", "history_kde", "hawkes", "etas"]
    defaults = Settings().model_dump()
    model = STAGES["baselines"].model
    settings = model.model_validate({key: defaults[key] for key in model.model_fields})
    quick = settings.baselines.model_copy(
        update={"samples": 20, "quantiles": 40, "errors": False, "memories": [None], "catalogues": 30}
    )
    settings = settings.model_copy(update={"baselines": quick})
    outputs = {"scores": folder / "baselines.zarr", "fitted": folder / "etas.json", "csep": folder / "csep"}
    job = Job("smash", "baselines", {"data": folder / "prepared.pkl"}, outputs, {}, facts={"baselines": names})
    result = run_baselines.run(job, settings, Quiet())
    saved = scores.read(folder / "baselines.zarr")
    place = saved.members.index("etas")
    found = {name: saved.of(name, place) for name in saved.values}
    half = np.arange(len(found["log_time"])) % 2 == 0
    worse = {
        name: np.where(half, found[name] - 0.1, np.nan) for name in ("log_time", "log_location", "log_mark_given_tx")
    }
    worse |= {"log_survival": found["log_survival"], "crps_time": np.where(half, found["crps_time"] + 1, np.nan)}
    (folder / "arm").mkdir()
    scores.write(folder / "arm" / "scores.zarr", [0, 1], {"val": [{}, {}], "test": [worse, worse]}, cat, {})
    run = {
        "inputs": {},
        "settings": {},
        "seeds": [0, 1],
        "metrics": {"parameters_trainable": 5},
        "cost": {"cpu_s": 1.0, "peak_rss_mb": 2.0},
    }
    (folder / "arm" / "evaluate.run.json").write_text(json.dumps(run))
    return folder, cat, result, saved


def test_every_baseline_scores_the_same_events(scenario):
    _, cat, result, saved = scenario
    targets = {split: len(cat.targets(split).row) for split in ("val", "test")}
    assert saved.values["log_time"].shape == (5, sum(targets.values()))
    for name in ("log_time", "log_location", "log_mark_given_tx", "log_mark_given_t"):
        assert np.isfinite(saved.values[name]).all(), name
    assert set(result.metrics) >= {"etas_cpu_s", "log_likelihood/etas", "log_likelihood/hawkes"}


def test_the_block_of_a_scenario(scenario, monkeypatch):
    folder, cat, _, saved = scenario
    monkeypatch.setattr(compare, "read_run", lambda path: json.loads(path.read_text()))
    entry = {
        "description": "made up",
        "leaky": False,
        "primary": {"metric": "log_likelihood", "unit": "nats", "better": "higher"},
        "arms": ["arm"],
        "baselines": saved.members,
        "compare": [["arm", "etas"], ["etas", "poisson_kde"]],
    }
    inputs = {
        "data": folder / "prepared.pkl",
        "baselines": folder / "baselines.zarr",
        "arms": [folder / "arm" / "scores.zarr"],
        "runs": [folder / "arm" / "evaluate.run.json"],
    }
    job = Job("smash", "compare", inputs, {"scenario": folder / "scenario.json"}, {}, facts={"entry": entry})
    compare.compare(job, None, Quiet())
    block = json.loads((folder / "scenario.json").read_text())
    etas = block["baselines"]["etas"]["metrics"]
    parts = [etas[f"log_likelihood_{part}"]["mean"] for part in ("time", "location", "mark")]
    assert etas["log_likelihood"]["mean"] == pytest.approx(sum(parts))
    assert block["arms"]["arm"]["seeds"] == [0, 1] and block["arms"]["arm"]["metrics"]["crps_time"]["sd"] == 0.0
    by = {(c["a"], c["b"], c["metric"]): c for c in block["comparisons"]}
    n = len(cat.targets("test").row)
    joint = by["arm", "etas", "log_likelihood"]
    assert joint["n"] == (n + 1) // 2 or joint["n"] == n // 2 + n % 2  # only events that both have scored
    assert joint["difference"] == pytest.approx(-0.3, abs=1e-4)
    assert by["arm", "etas", "crps_time"]["difference"] == pytest.approx(1.0, abs=1e-4)
    assert by["etas", "poisson_kde", "log_likelihood"]["n"] == n
    assert ("arm", "etas", "brier") not in by  # the arm has none
    vectors = block["baselines"]["etas"]["vectors"]
    assert len(vectors["coverage_time"]["share"]) == 9 and sum(vectors["reliability"]["count"]) == n


def test_members_are_averaged_before_they_are_compared(scenario):
    _, _, _, saved = scenario
    place = saved.members.index("etas")
    values = {name: np.concatenate([v[[place]], v[[place]]]) for name, v in saved.values.items()}
    values["log_time"] = values["log_time"] + np.array([0.2, -0.2])[:, None]
    two = replace(saved, members=["0", "1"], values=values)
    found = compare.contrast((two, [0, 1]), (saved, [place]), "log_likelihood_time", 2)
    assert found["difference"] == pytest.approx(0.0, abs=1e-6)


def test_windows_that_lost_am_and_pm_are_reported_apart(scenario):
    """Events of half the windows get times in the morning: those are folded, whatever was scored there."""
    _, cat, _, saved = scenario
    step = 1 / 1440
    t = np.round(cat.t / step) * step
    windows = cat.sequences("test")
    for number, sequence in enumerate(windows):
        rows = cat.rows(sequence)
        hour = 5 if number % 2 else np.where(np.arange(rows.stop - rows.start) % 2, 20, 5)
        t[rows] = np.floor(t[rows]) + hour / 24
    meta = {**cat.meta, "period_of_clock": 7.0, "lattice": {"time": step, "place": None}}
    place = saved.members.index("etas")
    found = compare.by_clock(replace(cat, t=t, meta=meta), {"etas": (saved, [place])})
    number = saved.sequence[saved.split == 2]
    values = saved.of("log_location", place)
    for name, rest in (("clean", 0), ("folded", 1)):
        chosen = np.isin(number, windows[rest::2])
        assert found[name]["windows"] == 3 and found[name]["events"] == chosen.sum()
        mean = found[name]["methods"]["etas"]["log_likelihood_location"]
        assert mean == pytest.approx(values[chosen].mean(), rel=1e-5)
    assert compare.by_clock(cat, {"etas": (saved, [place])}) is None  # no clock
