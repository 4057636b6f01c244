"""The picture of a sweep: axes, lines, baselines, and arms that have failed."""

import pytest

from pipeline.core.figures import style, texts, translator
from pipeline.core.statistics import summary
from pipeline.core.sweep_table import ZH, draw


def table(points, over, validation=None):
    """A sweep's table: points are (values, one score a seed or None where the arm has failed)."""
    rows = [
        {
            "arm": f"arm{index}",
            "values": dict(zip(over, values, strict=True)),
            "status": "done" if scores else "failed",
            "seeds": 2,
            "mse": summary(scores) if scores else None,
            "validation": validation[index] if validation else None,
        }
        for index, (values, scores) in enumerate(points)
    ]
    block = {
        "primary": {"metric": "mse", "unit": "K²", "better": "lower"},
        "dataset": {"name": "weather"},
        "baselines": {"near": {"metrics": {"mse": summary([2.5])}}, "far": {"metrics": {"mse": summary([99.0])}}},
    }
    sweep = {"name": "one", "arm": "plain", "scenario": "point", "over": over, "points": rows}
    return {"scenarios": {"sweep_one": block}, "sweep": sweep}


def drawn(*args, language="en", **more):
    with style("en"):
        figure = draw(table(*args, **more), translator(language, ZH))
    return figure, figure.axes[0]


def test_means_intervals_seeds_and_baselines_of_one_setting():
    figure, axes = drawn([((1e-4,), [1.0, 2.0]), ((1e-2,), [2.0, 4.0]), ((1e-3,), None)], ["lr"])
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "lr" and axes.get_ylabel() == "mse [K²]"
    line = axes.get_lines()[0]
    assert line.get_xdata().tolist() == [1e-4, 1e-2] and line.get_ydata().tolist() == [1.5, 3.0]
    shown = texts(figure)
    assert "Sweep of plain over lr" in shown and "near 2.50" in shown and "off the axis:\nfar 99.0" in shown
    assert {"0.0001", "0.001", "0.01"} <= set(shown)  # the failed one has its place
    low, high = axes.get_ylim()
    assert low < 1 and 4 < high < 99


def test_validation_is_drawn_beside():
    _, axes = drawn([((1,), [1.0, 2.0]), ((2,), [2.0, 4.0])], ["depth"], validation=[1.2, 2.2])
    assert axes.get_xscale() == "linear"
    lines = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    assert list(lines["validation"]) == [1.2, 2.2] and list(lines["test"]) == [1.5, 3.0]


def test_a_grid_is_a_line_for_each_value_of_the_shorter_setting():
    points = [((kind, depth), [depth + place]) for place, kind in enumerate(("tcn", "rnn")) for depth in (1, 2, 3)]
    _, axes = drawn(points, ["net.kind", "net.depth"])
    lines = {text.get_text() for text in axes.get_legend().get_texts()}
    assert lines == {"kind tcn", "kind rnn"} and axes.get_xlabel() == "net.depth"


def test_names_stand_in_their_order():
    _, axes = drawn([(("tcn",), [1.0]), (("adapter",), [2.0]), (("naive",), [3.0])], ["kind"])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["tcn", "adapter", "naive"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_nothing_but_failures_is_said(language):
    figure, _ = drawn([((1,), None), ((2,), None)], ["depth"], language=language)
    assert {"en": "no arm has finished", "zh": "没有完成的实验臂"}[language] in texts(figure)
