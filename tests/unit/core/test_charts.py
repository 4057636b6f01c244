"""Charts of a results table: what is drawn equals what stands in the table."""

import numpy as np
import pytest

from pipeline.core import charts
from pipeline.core.board import Board, Method, gains
from pipeline.core.figures import BLUE, GREY, texts
from pipeline.core.statistics import summary


def method(name, kind, mse, **more):
    return Method(name, kind, {"metrics": {"mse": summary(mse), **more}, "cost": {"ms_per_step": 2.0, "train_s": 9.0}})


@pytest.fixture
def board():
    skill = {"skill": {"mean": 0.5, "sd": None, "ci95": None, "values": [0.5]}}
    methods = [
        method("second", "arm", [0.2, 0.22, 0.24]),
        method("first", "arm", [0.1, 0.12, 0.11], **skill),
        Method("broken", "arm", {"status": "failed"}),
        method("reference", "baseline", [0.2]),
        method("diverged", "baseline", [50.0]),
    ]
    labels = {"mse": "MSE [SD²]", "skill": "Skill [1]"}
    kinds = {"arm": BLUE, "baseline": GREY}
    return Board("scenario x", "data y", methods, kinds, labels, str, seeds=3, higher=frozenset({"skill"}))


def test_ranking_puts_the_best_first_and_the_failed_last(board):
    names = [m.name for m in board.ranked("mse")]
    assert names == ["first", "reference", "second", "diverged", "broken"]
    assert board.ranked("skill")[0].name == "first"


def test_gains_by_hand():
    arm, pair, one = (method(n, "arm", v) for n, v in (("a", [1.0, 3.0]), ("b", [2.0, 3.0]), ("c", [4.0])))
    assert gains(arm, pair, "mse")["values"] == pytest.approx([50.0, 0.0])  # seed by seed
    assert gains(arm, one, "mse")["values"] == pytest.approx([75.0, 25.0])  # one value stands for all
    assert gains(arm, one, "mse", higher=True)["mean"] == pytest.approx(-50.0)
    assert gains(arm, one, "mse")["ci95"] == pytest.approx([50 - 12.706 * 25, 50 + 12.706 * 25], rel=1e-3)
    assert gains(Method("x", "arm", {}), one, "mse") is None


def test_bars_are_as_long_as_the_means_and_a_diverged_one_is_cut(board):
    axes = charts.metric_bars(board, ["mse"]).axes[0]
    widths = [bar.get_width() for bar in axes.patches]
    limit = 4 * np.median([0.22, 0.11, 0.2, 50.0])
    assert widths == pytest.approx([0.11, 0.2, 0.22, limit, 0.0])
    assert "50.0" in [text.get_text() for text in axes.texts]
    assert axes.get_xlabel() == "MSE [SD²]"
    whiskers = [line.get_xdata() for line in axes.lines]
    assert len(whiskers) == 2  # two methods have several seeds
    half = 4.3027 * 0.01 / 3**0.5  # Student, 2 degrees of freedom
    assert whiskers[0] == pytest.approx([0.11 - half, 0.11 + half], rel=1e-3)


def test_improvement_is_signed_and_says_what_is_cut(board):
    figure = charts.improvement(board, "mse", ["reference"])
    axes = figure.axes[0]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == pytest.approx([45.0, 0.0, -10.0, -120.0, 0.0])
    assert {"+45.0", "−10.0", "−24900.0", "–"} <= {text.get_text() for text in axes.texts}
    assert axes.get_xlabel() == "Improvement over reference [%]"


def test_radar_shows_reference_over_method(board):
    figure = charts.radar(board, ["mse"], "reference", ["arm"])
    assert [axes.get_title() for axes in figure.axes] == ["second", "first", "broken"]
    lines = [axes.lines[1].get_ydata() for axes in figure.axes]
    assert [line[0] for line in lines] == pytest.approx([0.2 / 0.22, 0.2 / 0.11, 0.0])


def test_table_cells_share_decimals_and_the_best_is_bold(board):
    figure = charts.table(board, ["mse", "skill"], {"ms_per_step": "Online [ms/step]"})
    cells = {text.get_text(): text.get_weight() for text in figure.axes[0].texts}
    assert cells["0.110 ± 0.010"] == "bold" and cells["0.220 ± 0.020"] == "normal"
    assert cells["50.000"] == "normal" and cells["0.500"] == "bold"
    assert {"MSE\n[SD²]", "broken", "2.0"} <= set(cells)


def test_cost_has_a_bar_for_what_is_known(board):
    figure = charts.cost(board, {"train_s": "Training [s]", "peak_rss_mb": "Memory [MB]"})
    assert [axes.get_xlabel() for axes in figure.axes] == ["Training [s]"]  # nobody states memory
    assert [text.get_text() for text in figure.axes[0].texts] == ["9.0", "9.0", "–", "9.0", "9.0"]


def test_comparison_in_percent_of_the_second(board):
    entry = {"a": "first", "b": "reference", "metric": "mse", "difference": -0.09, "ci95": [-0.1, -0.08], "p": 0.001}
    figure = charts.comparisons(board, [entry])
    assert "−45.0 % (−50.0 … −40.0), p ≤ 0.001" in texts(figure)
    assert figure.axes[0].lines[0].get_xdata() == pytest.approx([-50.0, -40.0])
    assert figure.axes[0].get_yticklabels()[0].get_text() == "first against reference"
    assert any(text.endswith(", no p") for text in texts(charts.comparisons(board, [{**entry, "p": None}])))


def test_a_metric_below_zero_is_drawn_as_dots_that_keep_the_order(board):
    values = {"second": -4.62, "first": -4.55, "broken": None, "reference": -5.4, "diverged": -80.0}
    methods = [
        Method(name, "arm", {"metrics": {} if value is None else {"ll": summary([value, value + 0.02])}})
        for name, value in values.items()
    ]
    labels = {"ll": "log-likelihood [nats]"}
    own = Board("x", "y", methods, {"arm": BLUE}, labels, str, seeds=2, higher=frozenset({"ll"}))
    axes = charts.metric_bars(own, ["ll"]).axes[0]
    assert not axes.patches  # a bar would start at a zero that means nothing
    places = [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() != "None"]
    assert places[:3] == pytest.approx([-4.54, -4.61, -5.39]) and places[3] > -10  # cut, with its number
    assert [line.get_marker() for line in axes.lines if line.get_marker() != "None"] == ["o", "o", "o", "<"]
    assert {"−4.54", "−80.0", "–"} <= {text.get_text() for text in axes.texts}
