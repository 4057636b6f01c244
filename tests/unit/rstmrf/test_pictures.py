"""What the figures are drawn from, and that each of them can be drawn."""

import numpy as np
import pytest

from pipeline.core import figures
from pipeline.core.board import Board, Method
from pipeline.rstmrf import estimates, pictures, scoring
from pipeline.rstmrf.figures import HIGHER, METRICS, board


def test_cells_hold_means_and_need_three_points():
    x, y = np.array([1.0, 1.5, 1.9, 2.5]), np.array([5.0, 5.0, 5.0, 5.0])
    found = pictures.binned(x, y, np.array([1.0, 2.0, 6.0, 9.0]), np.array([1.0, 2.0, 3.0]), np.array([0.0, 10.0]))
    assert found[0, 0] == 3.0 and np.isnan(found[0, 1])


def test_intervals_of_a_true_spread_hold_what_they_say():
    rng = np.random.default_rng(0)
    sd = rng.uniform(0.1, 2.0, 40_000)
    np.testing.assert_allclose(pictures.inside(sd * rng.standard_normal(40_000), sd), pictures.LEVELS, atol=0.01)


def test_front_keeps_what_nothing_beats():
    places = {
        "big": (100.0, 0.5),
        "small": (10.0, 0.3),
        "worse": (50.0, 0.3),
        "best": (200.0, 0.6),
        "waste": (300.0, 0.6),
    }
    assert pictures.pareto(places) == ["small", "big", "best"]


def entry(value):
    return {"metrics": {"skill": {"mean": value, "values": [value], "sd": value, "ci95": None}}, "vectors": {}}


def test_what_rounding_leaves_of_zero_is_zero():
    block = {
        "dataset": {"name": "storms"},
        "worlds": {"a1": {}},
        "values_of": "seeds",
        "primary": {"metric": "skill"},
        "arms": {"assimilate": entry(0.6)},
        "baselines": {"iri": entry(1.8e-8)},
    }
    one = board("osse", block, str)
    assert one.method("iri").mean("skill") == 0.0 and one.method("assimilate").mean("skill") == 0.6
    assert figures.number(one.method("iri").mean("skill")) == "0"


def test_pictures_of_a_world(toy_world, toy_truth, tmp_path):
    one = Board("toy", "storms", [], {}, METRICS, str, 1, HIGHER)
    found = {"iri": estimates.estimate("iri", toy_world, 0, lambda p: (scoring.background(toy_world, p), None))}
    spread = np.full(len(toy_world.dense), 0.3)
    found["kf"] = estimates.estimate("kf", toy_world, 0, lambda p: (scoring.background(toy_world, p), None))
    found["kf"].dense_sd = spread
    drawn = {
        "slices": pictures.slices(one, toy_world, toy_truth, found),
        "peaks": pictures.peaks(one, toy_truth, found),
        "coverage": pictures.coverage(one, toy_world, toy_truth, found),
    }
    error = figures.number(np.sqrt(np.mean((found["iri"].hmf2 - toy_truth.hmf2) ** 2)))
    assert f"iri\nRMSE {error}" in figures.texts(drawn["peaks"])
    assert {"used", "withheld", "kf"} <= set(figures.texts(drawn["coverage"]))
    with figures.style():
        for name, figure in drawn.items():
            assert figures.save(figure, tmp_path / f"{name}.png").stat().st_size > 10_000


def test_front_needs_three_arms_with_a_memory():
    arms = [Method(f"arm{k}", "arm", {**entry(0.1 * k), "saved_mb": 10.0 * k}) for k in (1, 2, 3)]
    one = Board("toy", "storms", arms, {"arm": figures.BLUE}, METRICS, str, 1, HIGHER)
    assert {"arm1", "arm2", "arm3"} <= set(figures.texts(pictures.front(one)))
    assert pictures.front(Board("toy", "storms", arms[:2], {}, METRICS, str, 1, HIGHER)) is None


@pytest.mark.parametrize("language", ["zh"])
def test_labels_are_translated(language):
    words = figures.translator(language, pictures.CHINESE)
    assert words("Slices") == "剖面" and words("assimilate") == "assimilate"
