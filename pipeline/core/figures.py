"""House style of all figures: canvas, colours, fonts, labels that don't collide, saving, contact sheets.

Figures are made without pyplot, so no figure outlives its function and jobs need no display. A canvas is 9 inches
wide and saved at 160 dots per inch: letters of 8 points stay legible where a README shows it at 900 pixels.
"""

from __future__ import annotations

import importlib.util
import textwrap
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import PipelineError

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDTH = 9.0  # inches
DPI = 160
SHEET_DPI = 220
COLUMNS = 148  # letters of a heading or note in one line
# Okabe and Ito (2008), Color universal design. Blue, vermilion, ink and grey stay apart with every common colour-vision
# deficiency; green and grey do not, so one chart never uses both for classes.
BLUE, ORANGE, GREEN, PINK, SKY, YELLOW, VERMILION, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
    "#D55E00",
    "#000000",
)
PALETTE = (BLUE, VERMILION, GREEN, ORANGE, PINK, SKY, BLACK, YELLOW)
GREY, INK, FAINT = "#808080", "#222222", "#D9D9D9"
DIVERGING, SEQUENTIAL = "PuOr", "cividis"  # both legible with colour-vision deficiencies and in print

FONT_PACKAGE = ("pylopdf_fonts_zh_cn", "NotoSansSC-Regular.otf", "pylopdf-fonts-zh-cn==0.1.1")
FONT_FAMILIES = (
    "Noto Sans SC",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
    "Heiti SC",
    "Droid Sans Fallback",
)

Words = Callable[[str], str]


def translator(language: str, *dictionaries: Mapping[str, str]) -> Words:
    """A function that gives a label in ``language``; ``dictionaries`` map English to Chinese, later ones win.

    A label without a translation (names of arms, data sets and units) stays as it is.
    """
    if language == "en":
        return lambda text: text
    words = {key: value for dictionary in dictionaries for key, value in dictionary.items()}
    return lambda text: words.get(text, text)


def chinese_font() -> str:
    """Family name of a font with Chinese glyphs, registered with matplotlib.

    Looked for in a font package of the environment first, then among the system's fonts.

    Raises
    ------
    PipelineError
        None was found; the message tells what to install.
    """
    from matplotlib import font_manager

    package, file, requirement = FONT_PACKAGE
    spec = importlib.util.find_spec(package)
    if spec is not None and spec.origin:
        path = Path(spec.origin).with_name(file)
        if path.is_file():
            font_manager.fontManager.addfont(path)
            return font_manager.FontProperties(fname=path).get_name()
    installed = {font.name for font in font_manager.fontManager.ttflist}
    for family in FONT_FAMILIES:
        if family in installed:
            return family
    raise PipelineError(
        "language: zh needs a font with Chinese characters for the figures, and none was found: install the Python "
        f"package {requirement} (pip install {requirement}) or a system font (Debian, Ubuntu: fonts-noto-cjk; "
        "conda-forge: font-ttf-source-han-sans), or set language: en"
    )


@contextmanager
def style(language: str = "en"):
    """Draw and save figures inside this context: fonts, sizes, light grid. Changes no global state for good."""
    import logging

    import matplotlib

    families = ["DejaVu Sans", *([chinese_font()] if language == "zh" else [])]
    settings = {
        "font.family": families,
        "font.size": 8.5,
        "axes.titlesize": 9,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 8.5,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.fontsize": 8,
        "legend.frameon": False,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": GREY,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.color": FAINT,
        "grid.linewidth": 0.6,
        "axes.unicode_minus": True,
    }
    # A Chinese font comes in one weight: bold falls back to it, which isn't worth a warning for every label.
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with matplotlib.rc_context(settings):
            yield
    finally:
        logger.setLevel(level)


def columns(text: str) -> int:
    """Width of a text in columns: Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` columns; a text without blanks is cut between Chinese characters."""
    if columns(text) <= width:
        return [text]
    if columns(text) < 1.3 * len(text):
        return textwrap.wrap(text, width)
    lines = [""]
    for letter in text:
        if columns(lines[-1] + letter) > width and letter not in "，。；：、）":
            lines.append("")
        lines[-1] += letter
    return [line.strip() for line in lines]


def canvas(
    height: float, title: str, subtitle: str, note: str = "", colours: Mapping[str, str] | None = None
) -> Figure:
    """An empty figure with its heading.

    Parameters
    ----------
    height: of the drawing in inches; heading, legend and note are added to it.
    title: what is shown (bold); subtitle: data set, unit, seeds; note: how to read it, below the drawing.
    colours: label -> colour of a legend between drawing and note.

    Returns
    -------
    Figure whose axes are laid out (constrained) between heading and note.
    """
    from matplotlib.figure import Figure

    titles, lines, notes = wrapped(title, 88), wrapped(subtitle, COLUMNS), wrapped(note, COLUMNS) if note else []
    line = 0.155  # inches
    head = 0.12 + 0.22 * len(titles) + line * len(lines) + 0.08
    below = 0.08 + line * len(notes)
    foot = below + (0.24 if colours else 0)
    total = head + height + foot
    figure = Figure(figsize=(WIDTH, total), layout="constrained")
    figure.get_layout_engine().set(rect=(0.004, foot / total, 0.992, height / total), w_pad=0.05, h_pad=0.05)
    place = dict(transform=figure.dpi_scale_trans, ha="left", va="top")
    figure.text(0.1, total - 0.1, "\n".join(titles), fontsize=11.5, weight="bold", linespacing=1.15, **place)
    figure.text(
        0.1, total - 0.12 - 0.22 * len(titles), "\n".join(lines), fontsize=8, color="#555555", linespacing=1.15, **place
    )
    if notes:
        figure.text(0.1, below - 0.02, "\n".join(notes), fontsize=8, color="#555555", linespacing=1.15, **place)
    if colours:
        from matplotlib.patches import Patch

        handles = [Patch(color=colour, label=label) for label, colour in colours.items()]
        legend = figure.legend(
            handles=handles,
            loc="center",
            bbox_to_anchor=(0.5, (below + 0.12) / total),
            ncols=len(handles),
            handlelength=1.2,
            borderpad=0,
        )
        legend.set_in_layout(False)
    return figure


def save(figure: Figure, path: Path | str, dpi: int = DPI) -> Path:
    """Write a figure as PNG (the same figure gives the same bytes) and empty it.

    Raises
    ------
    ValueError
        A figure without anything drawn in one of its axes: an empty picture is a mistake.
    """
    path = Path(path)
    for axes in figure.axes:
        if not axes.has_data() and not axes.texts:
            raise ValueError(f"{path.name}: the axes {axes.get_title() or axes.get_ylabel()!r} are empty")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi, facecolor="white", metadata={"Software": None})
    figure.clear()
    return path


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move labels apart: places in the same order, at least ``gap`` apart, as near as possible to where they belong.

    Neighbours that are too close form a block around their mean place; blocks that touch are joined (pool adjacent
    violators, which minimises the squared shift). Where all don't fit between ``low`` and ``high`` they are placed
    evenly.
    """
    import numpy as np

    order = np.argsort(positions, kind="stable")
    count = len(order)
    if count * gap >= high - low:
        gap = (high - low) / max(count, 1)
    blocks: list[list[float]] = []  # [sum of wanted places of the block's lowest label, labels]
    for rank, index in enumerate(order):
        blocks.append([float(positions[index]) - rank * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            total, labels = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += labels
    base = np.repeat([total / labels for total, labels in blocks], [int(labels) for _, labels in blocks])
    base = np.clip(base, low, max(low, high - (count - 1) * gap))
    result = np.empty(count)
    result[order] = base + np.arange(count) * gap
    return result.tolist()


def number(value: float | None, digits: int = 3) -> str:
    """A number for a label: ``digits`` significant digits, at least as many decimals as tell 0.053 from 0.0526."""
    import math

    if value is None or not math.isfinite(value):
        return "–"
    if abs(value) < 1e-12:  # what is left of a difference that is zero
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size >= 5 or size < -5:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    return f"{value:,.{max(0, digits - 1 - size)}f}".replace("-", "−")


def contact_sheet(pictures: Sequence[Path], title: str, subtitle: str, across: int = 4) -> Figure:
    """All pictures on one sheet, ``across`` a row, each under its file name; rows as high as their tallest picture.

    Pictures keep their proportions and are averaged down to what :data:`SHEET_DPI` shows.
    """
    import numpy as np
    from matplotlib.figure import Figure
    from PIL import Image

    if not pictures:
        raise ValueError("contact_sheet: there are no pictures to put on it")
    width = (WIDTH - 0.2) / across - 0.08  # inches
    images, heights = [], []
    for path in pictures:
        with Image.open(path) as image:
            pixels = int(width * SHEET_DPI)
            small = image.convert("RGB").resize((pixels, round(image.height * pixels / image.width)), Image.LANCZOS)
        images.append(np.asarray(small))
        heights.append(small.height / SHEET_DPI)
    rows = [heights[start : start + across] for start in range(0, len(heights), across)]
    caption, head = 0.22, 0.12 + 0.22 + 0.155 * len(wrapped(subtitle, COLUMNS)) + 0.08
    total = head + sum(max(row) + caption for row in rows) + 0.1
    figure = Figure(figsize=(WIDTH, total))
    place = dict(transform=figure.dpi_scale_trans, ha="left", va="top")
    figure.text(0.1, total - 0.1, title, fontsize=11.5, weight="bold", **place)
    lines = "\n".join(wrapped(subtitle, COLUMNS))
    figure.text(0.1, total - 0.34, lines, fontsize=8, color="#555555", linespacing=1.15, **place)
    top = total - head
    for start, row in zip(range(0, len(images), across), rows, strict=True):
        for column, height in enumerate(row):
            left = 0.1 + column * (width + 0.08)
            figure.text(left, top - 0.05, pictures[start + column].stem, fontsize=7.5, **place)
            box = (left / WIDTH, (top - caption - height) / total, width / WIDTH, height / total)
            axes = figure.add_axes(box)
            axes.imshow(images[start + column], aspect="auto", interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            for spine in axes.spines.values():
                spine.set(visible=True, color=FAINT)
        top -= max(row) + caption
    return figure


def texts(figure: Figure) -> list[str]:
    """Every text of a figure, for tests and for alternative texts."""
    import matplotlib.text

    found: list[Any] = figure.findobj(matplotlib.text.Text)
    return [text.get_text() for text in found if text.get_text() and text.get_visible()]


def plain_log(axis: Axis, room: int = 5) -> None:
    """Plain numbers at the ticks of a logarithmic axis, at most ``room`` where that can be had."""
    import numpy as np
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    low, high = sorted(axis.get_view_interval())
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    choices = [decades[::step] for step in (4, 3, 2)]
    choices += [np.outer(decades, subs).ravel() for subs in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7))]
    inside = [ticks[(ticks >= low) & (ticks <= high)] for ticks in choices]
    axis.set_major_locator(FixedLocator(max((t for t in inside if len(t) <= room), key=len, default=inside[0])))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
