"""House style: what keeps figures legible is computed here by hand."""

import itertools

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.core import figures
from pipeline.core.errors import PipelineError


@given(st.lists(st.floats(0, 10), min_size=1, max_size=20), st.floats(0.01, 0.4))
def test_spread_keeps_order_distance_and_bounds(positions, gap):
    moved = np.array(figures.spread(positions, gap, 0.0, 10.0))
    order = np.argsort(positions, kind="stable")
    assert (np.diff(moved[order]) >= gap - 1e-9).all()
    assert moved.min() >= -1e-9 and moved.max() <= 10 + 1e-9


def test_spread_moves_as_little_as_possible():
    assert figures.spread([1.0, 5.0, 9.0], 0.5, 0, 10) == [1.0, 5.0, 9.0]
    # Two at 5 part to both sides; a third at 5.5 joins them: the squared shift is least around their mean 31/6.
    assert figures.spread([5.0, 5.0], 1.0, 0, 10) == pytest.approx([4.5, 5.5])
    assert figures.spread([5.0, 5.0, 5.5], 1.0, 0, 10) == pytest.approx([31 / 6 - 1, 31 / 6, 31 / 6 + 1])
    assert figures.spread([9.9, 0.0, 10.0], 1.0, 0, 10) == pytest.approx([9.0, 0.0, 10.0])


def test_spread_is_even_where_labels_do_not_fit():
    assert np.diff(figures.spread([1.0] * 5, 9.0, 0, 10)) == pytest.approx([2.0] * 4)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.05264, 3, "0.0526"),
        (-0.5, 2, "−0.50"),
        (10789, 3, "10,789"),
        (0, 3, "0"),
        (-5.5e-17, 3, "0"),
        (None, 3, "–"),
        (float("nan"), 3, "–"),
        (1.5e7, 3, "1.50e+07"),
    ],
)
def test_number(value, digits, text):
    assert figures.number(value, digits) == text


def test_lines_are_wrapped_by_width_and_chinese_letters_count_twice():
    assert figures.wrapped("one two three", 7) == ["one two", "three"]
    assert figures.wrapped("累积误差", 8) == ["累积误差"]
    assert figures.wrapped("累积误差与记忆", 8) == ["累积误差", "与记忆"]


def test_a_label_without_translation_stays():
    words = figures.translator("zh", {"Slot": "槽"}, {"Slot": "记忆槽"})
    assert words("Slot") == "记忆槽" and words("fsnet_memory") == "fsnet_memory"
    assert figures.translator("en", {"Slot": "槽"})("Slot") == "Slot"


def _lab(colour: str, blind: str | None) -> np.ndarray:
    """CIELAB of a colour as seen with a colour-vision deficiency (Machado, Oliveira and Fernandes 2009, severity 1)."""
    srgb = np.array(matplotlib.colors.to_rgb(colour))
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    matrices = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    }
    if blind:
        linear = np.clip(np.array(matrices[blind]) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    f = np.cbrt(xyz / np.array([0.9505, 1.0, 1.089]))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("blind", [None, "protan", "deutan", "tritan"])
def test_colours_of_one_chart_are_told_apart(blind):
    used = [figures.BLUE, figures.VERMILION, figures.INK, figures.GREY]
    for a, b in itertools.combinations(used, 2):
        assert np.linalg.norm(_lab(a, blind) - _lab(b, blind)) > 18, (a, b)


def test_the_style_leaves_no_trace():
    before = dict(matplotlib.rcParams)
    with figures.style("en"):
        assert matplotlib.rcParams["axes.spines.top"] is False
    assert dict(matplotlib.rcParams) == before


def test_chinese_letters_are_drawn_and_not_boxes():
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    font = FT2Font(font_manager.findfont(figures.chinese_font(), fallback_to_default=False))
    assert all(font.get_char_index(ord(letter)) for letter in "误差记忆槽泄漏触发基线")


def test_a_missing_chinese_font_says_what_to_install(monkeypatch):
    from matplotlib import font_manager

    monkeypatch.setattr(figures.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [])
    with pytest.raises(PipelineError, match="pip install pylopdf-fonts-zh-cn==.*fonts-noto-cjk.*language: en"):
        figures.chinese_font()


def _drawn():
    with figures.style():
        figure = figures.canvas(1.0, "Title", "data, unit", "a note", {"one": figures.BLUE})
        figure.subplots().plot([0, 1], [0, 1])
        return figure


def test_the_same_figure_gives_the_same_bytes_and_is_emptied(tmp_path):
    figure = _drawn()
    first = figures.save(figure, tmp_path / "a.png")
    assert figure.axes == []
    assert first.read_bytes() == figures.save(_drawn(), tmp_path / "b.png").read_bytes()
    with Image.open(first) as image:
        assert image.width == figures.WIDTH * figures.DPI


def test_an_empty_picture_is_refused(tmp_path):
    figure = figures.canvas(1.0, "Title", "data")
    figure.subplots().set_title("nothing here")
    with pytest.raises(ValueError, match="nothing here.*empty"):
        figures.save(figure, tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_contact_sheet_names_each_picture_and_keeps_its_proportions(tmp_path):
    sizes = {"wide": (200, 100), "tall": (100, 300), "square": (64, 64)}
    paths = []
    for name, size in sizes.items():
        paths.append(tmp_path / f"{name}.png")
        Image.new("RGB", size, "red").save(paths[-1])
    figure = figures.contact_sheet(paths, "All", "data", across=2)
    assert {"All", "data", *sizes} <= set(figures.texts(figure))
    width, height = figure.get_size_inches()
    for axes, (wide, high) in zip(figure.axes, sizes.values(), strict=True):
        box = axes.get_position()
        assert box.width * width / (box.height * height) == pytest.approx(wide / high, rel=0.01)
        assert 0 <= box.x0 and box.x1 <= 1 and 0 <= box.y0 and box.y1 <= 1
    boxes = [axes.get_position() for axes in figure.axes]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    with pytest.raises(ValueError, match="no pictures"):
        figures.contact_sheet([], "All", "data")
