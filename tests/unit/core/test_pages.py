"""HTML pages of tables: order, failed arms, escaping, and nothing from elsewhere."""

import re

from pipeline.core.pages import markdown, page, results
from pipeline.core.statistics import summary


def table():
    def entry(*values):
        return {"metrics": {"mse": summary(list(values))}}

    block = {
        "description": "a < b & c",
        "leaky": True,
        "primary": {"metric": "mse", "unit": "K²", "better": "lower"},
        "dataset": {"name": "weather", "requested": "etth1", "source": "package", "period": None, "licence": "CC0"},
        "arms": {
            "worse": {"status": "done", "seeds": [0, 1], **entry(2.0, 4.0)},
            "lost": {"status": "failed", "seeds": [0, 1], "message": "train: <killed>"},
            "best": {"status": "done", "seeds": [0, 1], **entry(1.0, 1.5)},
        },
        "baselines": {"persistence": entry(2.5)},
        "comparisons": [
            {
                "a": "best",
                "b": "worse",
                "metric": "mse",
                "difference": -1.75,
                "ci95": [-2, -1],
                "p": 0.01,
                "n": 9,
                "test": "t",
            }
        ],
    }
    software = {"python": "3.11"}
    return {
        "scenarios": {"point": block},
        "unavailable": {"far": "can't be had"},
        "software": software,
        "produced": "now",
    }


def rows(text):
    return [re.sub("<[^>]+>", "|", row).strip("|").split("||") for row in re.findall("<tr.*?</tr>", text)]


def test_methods_are_sorted_and_a_failed_arm_comes_last_with_its_message():
    text = results(table())
    methods = [row[0] for row in rows(text)]
    assert methods == ["seeds", "best", "persistence", "worse", "lost", "comparison", "best − worse, mse"]
    assert "failed: train: &lt;killed&gt;" in text and "a &lt; b &amp; c" in text
    assert "1.250 ± 0.35" in text and "Leaky" in text and "weather in place of etth1" in text
    assert "<h2>far</h2><p>Not computed. can&#x27;t be had</p>" in text
    assert rows(text)[-1] == ["best − worse, mse", "-1.750", "-2 … -1", "0.010", "9", "t"]


def test_a_page_is_whole_and_markdown_carries_no_html():
    text = page("a & b", markdown("# One\n\n| a | b |\n| --- | ---: |\n| 1 | <b>2</b> |\n"))
    assert text.startswith("<!doctype html>") and "<title>a &amp; b</title>" in text
    assert "<h1>One</h1>" in text and "<td>1</td>" in text and "&lt;b&gt;2&lt;/b&gt;" in text
    assert not re.search(r"""(src|href)=""", text)
