"""All figures of a made-up table: what they must show, that nothing collides, and that they tell the truth."""

import itertools
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from pipeline.core.errors import DataError
from pipeline.core.figures import chinese_font, style, texts, translator
from pipeline.core.stages import Job
from pipeline.fsnet import figures, labels, stream_charts
from pipeline.fsnet.regimes import Switch
from pipeline.fsnet.settings import Plot

BY_ARM = {"metrics", "improvement", "radar", "time", "table", "cumulative", "horizons"}


class Log:
    def progress(self, items, what):
        return items


def job(made_up, tmp_path=None, table=None):
    outputs = {} if tmp_path is None else {"figures": tmp_path / "figures"}
    inputs = {"table": table or made_up.table, "data": made_up.stores}
    return Job("fsnet", "plot", inputs, outputs, {})


ASKED: set[str] = set()  # every label that the figures have asked the translator for


def recorded(text):
    ASKED.add(text)
    return text


@pytest.fixture(scope="module")
def drawn(made_up):
    """scenario -> (scene, figure name -> figure)."""
    with style():
        found = figures.scenes(job(made_up), recorded)
        result = {scene.name: (scene, dict(figures.draw(scene))) for scene in found}
        figures._overview(found, recorded).clear()
    yield result
    for _, shown in result.values():
        for figure in shown.values():
            figure.clear()


def test_every_figure_is_there(drawn):
    series = {"metrics", "improvement", "radar", "time", "table", "comparisons", "cumulative", "slots"}
    assert set(drawn["delayed"][1]) == series | {"horizons"}
    assert set(drawn["immediate"][1]) == series | {"horizons"}
    assert set(drawn["regimes"][1]) == series | {"recurrence"}  # one step ahead: nothing by horizon


def test_data_unit_seeds_and_the_leak_are_told_everywhere(drawn):
    for name, (_, shown) in drawn.items():
        for figure in shown.values():
            title, subtitle = (text.get_text().replace("\N{NO-BREAK SPACE}", " ") for text in figure.texts[:2])
            assert f"scenario {name}" in title
            assert ("leaky" in title) == (name == "immediate")
            assert ("regimes (simulated)" if name == "regimes" else "made_up") in subtitle
            assert {"delayed": "3 seeds", "immediate": "1 seed", "regimes": "2 seeds"}[name] in subtitle
            assert ("OT [no unit]" if name == "regimes" else "OT [°C]") in subtitle
            if name != "regimes":
                assert re.search(r"SD = \d\.\d+ °C", subtitle)
    assert "asked for: etth1" in drawn["immediate"][1]["metrics"].texts[1].get_text().replace("\N{NO-BREAK SPACE}", " ")


def test_axes_are_labelled_with_units_and_not_empty(drawn):
    for _, shown in drawn.values():
        for name, figure in shown.items():
            for axes in figure.axes:
                assert axes.has_data() or axes.texts
            named = [axes.get_xlabel() for axes in figure.axes] + [axes.get_ylabel() for axes in figure.axes]
            named = [label for label in named if label and label != "Slot"]
            assert all(re.search(r"\[.+\]", label) for label in named), (name, named)
            if name not in {"table", "radar"}:
                assert named, name


def test_all_arms_and_baselines_are_shown(drawn):
    for scene, shown in drawn.values():
        for name in BY_ARM & set(shown):
            told = set(texts(shown[name]))
            expected = set(scene.arms) | (set() if name == "radar" else set(scene.block["baselines"]))
            assert expected <= told, name


def test_intervals_are_drawn_where_there_are_several_seeds(drawn):
    count = {name: len(shown["metrics"].axes[0].lines) for name, (_, shown) in drawn.items()}
    assert count["delayed"] == 12 and count["immediate"] == 0
    assert "One value: no whiskers." in drawn["immediate"][1]["metrics"].texts[2].get_text()


@pytest.mark.parametrize("name", ["metrics", "improvement", "radar", "table", "cumulative", "comparisons"])
def test_no_text_covers_another_or_leaves_the_picture(drawn, name):
    for scenario in ("delayed", "regimes"):
        figure = drawn[scenario][1][name]
        with style():
            renderer = FigureCanvasAgg(figure).get_renderer()
            figure.draw(renderer)
        hidden = {
            label
            for axes in figure.axes
            for axis in (axes.xaxis, axes.yaxis)
            for tick in axis.get_major_ticks()
            if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
            for label in (tick.label1, tick.label2)
        }
        shown = [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible() and t not in hidden]
        boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in shown]
        wide, high = figure.bbox.width, figure.bbox.height
        for text, box in boxes:
            assert box.x0 > -1 and box.y0 > -1 and box.x1 < wide + 1 and box.y1 < high + 1, (scenario, text)
        for (a, first), (b, second) in itertools.combinations(boxes, 2):
            # A box has the height of the font's tallest letter: a point of shared air is no collision.
            across = min(first.x1, second.x1) - max(first.x0, second.x0)
            down = min(first.y1, second.y1) - max(first.y0, second.y0)
            assert across <= 1 or down <= 3.5, (scenario, a, b)


def test_horizons_show_the_skill_of_the_table(drawn):
    scene, shown = drawn["delayed"]
    vectors = {m.name: np.array(m.entry["vectors"]["mse_by_horizon"]) for m in scene.board.methods}
    expected = 100 * (1 - vectors["tcn_delta"] / vectors["rls"])
    axes = shown["horizons"].axes[0]
    row = [label.get_text() for label in axes.get_yticklabels()].index("tcn_delta")
    assert np.asarray(axes.images[0].get_array())[row] == pytest.approx(np.clip(expected, -50, 50))
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells[(0, row)].lstrip("+−") == f"{abs(expected[0]):.0f}"


def test_firings_are_those_of_the_store(drawn):
    scene, shown = drawn["regimes"]
    saved = scene.forecasts("regime_memory")
    test = (saved.origins >= scene.series[0].val_end - 1) & (saved.origins + 1 < scene.series[0].test_end)
    expected = np.flatnonzero(saved.tracks["fired"][0, test] > 0)
    axes = next(
        axes for axes in shown["cumulative"].axes if [t.get_text() for t in axes.get_yticklabels()] == ["regime_memory"]
    )
    ticks = [segment[0][0] for segment in axes.collections[0].get_segments()]
    assert ticks == pytest.approx(expected) and len(expected) > 3


def test_recurrence_curve_by_hand():
    def switch(row, kind):
        return Switch(row=row, start=row, end=row, previous=0, regime=1, kind=kind)

    losses = np.arange(20.0)  # of rows 100 .. 119
    switches = [switch(90, "recurrence"), switch(102, "recurrence"), switch(105, "first"), switch(108, "recurrence")]
    # 90 lies before the test rows, 105 is new; 102 and 108 begin at 2 and 8
    assert stream_charts.recurrence_curve(losses, switches, 100, 4) == pytest.approx([5, 6, 7, 8])
    # with 13 steps the one at 108 does not end within the 20 rows
    assert stream_charts.recurrence_curve(losses, switches, 100, 13) == pytest.approx(np.arange(2, 15))
    assert np.isnan(stream_charts.recurrence_curve(losses, switches[2:3], 100, 4)).all()


def test_the_drawn_curve_is_the_mean_over_seeds_and_recurrences(drawn):
    scene, shown = drawn["regimes"]
    saved, wanted = scene.forecasts("regime_memory"), []
    for seed, series in enumerate(scene.series):
        first = int(saved.origins[0]) + 1
        for switch in series.switches:
            if switch.kind == "recurrence" and series.val_end <= switch.row <= series.test_end - 100:
                at = switch.row - first
                error = saved.values[seed, at : at + 5, 0, 0] - series.labels[switch.row : switch.row + 5, 0]
                wanted.append((seed, (error**2).mean()))
    means = [np.mean([value for seed, value in wanted if seed == k]) for k in range(2)]
    axes = shown["recurrence"].axes[0]
    line = next(line for line in axes.lines if line.get_label() == "regime_memory")
    assert line.get_ydata()[0] == pytest.approx(np.mean(means), rel=1e-6)


def test_every_label_has_its_chinese(drawn):
    """Each label that is drawn is in the dictionary; names of metrics without words stay."""
    neutral = {"MSE [SD²]", "MAE [SD]", "RMSE [SD]", "MAPE [%]", "sMAPE [%]", "WAPE [%]"}
    filled = re.compile(r"^(Right of zero|Spokes).*(SD²|rls)")  # notes that were translated before they were filled in
    neutral |= set(labels.UNITS.values())
    assert not {text for text in ASKED - set(labels.ZH) - neutral if not filled.match(text)}
    assert len(ASKED) > 50


def test_chinese_has_all_letters_and_keeps_the_warning():
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    files = [font_manager.findfont(family, fallback_to_default=False) for family in (chinese_font(), "DejaVu Sans")]
    fonts = [FT2Font(file) for file in files]
    letters = set("".join(labels.ZH.values())) - {" "}
    assert not [letter for letter in letters if not any(font.get_char_index(ord(letter)) for font in fonts)]
    assert all("leaky" in value for key, value in labels.ZH.items() if "leaky" in key)
    for english, chinese in labels.ZH.items():
        assert english.count("{}") == chinese.count("{}"), english


def test_stage_writes_one_picture_a_figure_and_a_contact_sheet(made_up, tmp_path):
    whole = json.loads(made_up.table.read_text())
    whole["scenarios"] = {"regimes": whole["scenarios"]["regimes"]}
    table = tmp_path / "fsnet_one.json"
    table.write_text(json.dumps(whole))
    result = figures.plot(job(made_up, tmp_path, table), Plot(language="zh"), Log())
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    shown = "metrics improvement radar time table comparisons cumulative slots recurrence".split()
    assert names == {f"regimes_{name}.png" for name in shown} | {"contact_sheet.png"}
    assert result.metrics["pictures"] == 10 and result.figures == ("figures",)
    with Image.open(tmp_path / "figures" / "regimes_metrics.png") as image:
        assert np.asarray(image.convert("L")).std() > 10  # something is drawn


def test_wrong_tables_and_missing_data_are_named(made_up, tmp_path):
    other = tmp_path / "other.json"
    other.write_text('{"schema": "run/1"}')
    with pytest.raises(DataError, match="other.json: schema is 'run/1', expected 'ablation/1'"):
        figures.scenes(job(made_up, table=other), str)
    one = replace(job(made_up), inputs={"table": made_up.table, "data": made_up.stores[:1]})
    with pytest.raises(DataError, match="data of scenario 'immediate' is not among the inputs"):
        figures.scenes(one, str)


def test_an_arm_without_results_does_not_stop_the_others(made_up):
    with style():
        scene = figures.scenes(job(made_up), translator("en"))[2]
        block = dict(scene.block, arms=dict(scene.block["arms"]), comparisons=[])
        block["arms"]["nomem"] = {"status": "failed", "settings": scene.arms["nomem"]["settings"], "seeds": []}
        shown = dict(figures.draw(replace(scene, block=block)))
    assert {"metrics", "table", "cumulative"} <= set(shown)
    assert "nomem" in texts(shown["table"]) and "nomem" not in texts(shown["cumulative"])
