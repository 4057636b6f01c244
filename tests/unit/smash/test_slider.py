"""The slider page: self-contained, its bytes are the density, its cuts hold the stated probability."""

import base64
import json
import re

import numpy as np
import pytest

from pipeline.smash import slider


def gaussian(x, y, at):
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    return -0.5 * ((grid - at) ** 2).sum(-1) - np.log(2 * np.pi)


@pytest.fixture
def found(tmp_path):
    x, y = np.linspace(-4, 4, 81), np.linspace(-3, 3, 61)
    xy = np.array([[0.0, 0.0], [1.0, 1.0], [-1.0, 0.5]])
    densities = [gaussian(x, y, place) for place in xy[:2]]
    units = {"time": "day", "place": "km", "x": "x [km]", "y": "y [km]"}
    path = slider.write(
        tmp_path / "page.html", "a < b", "s", (x, y), densities, np.array([0.1, 0.2, 0.4]), xy,
        ["M < 4", "</script>", "M >= 4"], units, lambda text: text,
    )  # fmt: skip
    text = path.read_text()
    return text, json.loads(re.search(r"const data = (.*);\n", text)[1]), densities


def test_the_page_is_one_file_and_asks_no_network(found):
    text, _, _ = found
    assert not re.search(r"https?:|src=|@import|fetch\(|<link", text)
    assert text.count("</script>") == 1 and "a &lt; b" in text and "@" not in re.sub(r"const data.*", "", text)


def test_bytes_are_the_density_on_five_decades(found):
    _, data, densities = found
    assert len(data["frames"]) == 2 == len(data["t"]) - 1 and (data["width"], data["height"]) == (81, 61)
    np.testing.assert_allclose(data["box"], [-4.05, -3.05, 4.05, 3.05])
    for frame, log in zip(data["frames"], densities, strict=True):
        cells = np.frombuffer(base64.b64decode(frame["cells"]), np.uint8).reshape(61, 81)
        back = frame["top"] - slider.DECADES * (1 - cells / 255)
        inside = cells > 0
        np.testing.assert_allclose(back[inside], np.log10(np.e) * log[inside], atol=slider.DECADES / 255)
        assert frame["top"] == pytest.approx(-np.log10(2 * np.pi), abs=1e-3)
    # the second event lies at distance sqrt(2) of the first frame's centre
    assert data["frames"][0]["own"] == pytest.approx(-np.log(2 * np.pi) - 1, abs=1e-3)


def test_cuts_hold_half_of_a_gaussian_inside_its_radius(found):
    """P(R < r) = 1 - exp(-r^2 / 2): the cut for one half is the density at r^2 = 2 ln 2."""
    _, data, _ = found
    for level, cut in zip(slider.LEVELS, data["frames"][0]["cuts"], strict=True):
        expected = 255 * (1 + np.log10(1 - level) / slider.DECADES)
        assert cut == pytest.approx(expected, abs=2.5)
