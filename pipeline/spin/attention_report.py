"""The report on an arm's attention in words."""

from __future__ import annotations

from typing import Any


def sentences(report: dict[str, Any]) -> list[str]:
    """The report in words (Markdown), each with its sign and interval."""
    found = report["faithfulness"]
    lines = []
    for k, entry in found["by_k"].items():
        for name, interval, what in (
            ("difference", "ci95", "the error grows by"),
            ("moved_difference", "moved_ci95", "the answer moves by"),
        ):
            low, high = entry[interval]
            verdict = "undecided" if low <= 0 <= high else "more than by chance" if low > 0 else "less than by chance"
            lines.append(
                f"- Without the {k} sources of most attention {what} {entry[name]:+.3f} {found['unit']} [{low:+.3f}, "
                f"{high:+.3f}] beyond {k} random ones ({entry['targets']} cells): {verdict}."
            )
    last = report["statistics"]["layers"][-1]
    for kind in ("cross", "self"):
        if kind in last:
            one = last[kind]
            lines.append(
                f"- Last layer, {kind}: {one['near']:.0%} of attention within three steps (blind: "
                f"{one['near_blind']:.0%}), mean distance {one['distance']:.1f} steps (blind: "
                f"{one['distance_blind']:.1f}), symmetry {one['symmetry']:.2f}."
            )
    return lines


def attention_section(report: dict[str, Any]) -> list[str]:
    """A section of the analysis."""
    return [f"## Attention of `{report['arm']}`, {report['scenario']}", "", *sentences(report), ""]
