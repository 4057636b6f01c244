"""Pages of the report: a results table and its analysis as HTML, and the figures beside them."""

from __future__ import annotations

import html
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .stages import Job, Result
from .store import read_json
from .terminal import number

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; margin: 1.5em; max-width: 75em }
table { border-collapse: collapse; margin: .8em 0 1.6em; font-size: 13px }
th, td { padding: .25em .7em; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap }
th:first-child, td:first-child, td.text { text-align: left; white-space: normal }
tr.baseline td:first-child { font-style: italic }
tr.failed { color: #a33 }
.note { color: #555 } .leaky { color: #a33; font-weight: bold }
code, pre { font-size: 13px; background: #f5f5f5 } pre { padding: .6em; overflow-x: auto }
"""


def render(job: Job, settings: Any, log: Any) -> Result:
    """Stage ``page``: the folder ``pages`` with ``table.html``, ``analysis.html`` and the figures.

    Inputs: ``table`` (schema ``ablation/1``), ``figures`` (a folder of PNG files) and ``analysis`` (Markdown). Figures
    are hard links where the file system has them: the folder takes no space.
    """
    folder = Path(job.outputs["pages"])
    folder.mkdir(parents=True)
    table = read_json(job.inputs["table"])
    name = Path(job.inputs["table"]).stem
    (folder / "table.html").write_text(page(name, results(table)), encoding="utf-8")
    text = Path(job.inputs["analysis"]).read_text(encoding="utf-8")
    (folder / "analysis.html").write_text(page(f"{name}: analysis", markdown(text)), encoding="utf-8")
    pictures = sorted(Path(job.inputs["figures"]).glob("*.png"))
    for picture in pictures:
        try:
            os.link(picture, folder / picture.name)
        except OSError:
            shutil.copyfile(picture, folder / picture.name)
    return Result({"pictures": float(len(pictures))})


def page(title: str, body: str) -> str:
    """A whole HTML document, without anything from elsewhere: it opens from disk."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{html.escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def markdown(text: str) -> str:
    """Markdown with tables as HTML; HTML inside it is shown as text."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable("table").render(text)


def results(table: Mapping[str, Any]) -> str:
    """All scenarios of a table of schema ``ablation/1``, best methods first."""
    parts = [_scenario(name, block) for name, block in table["scenarios"].items()]
    for name, reason in (table.get("unavailable") or {}).items():
        parts.append(f"<h2>{html.escape(name)}</h2><p>Not computed. {html.escape(reason)}</p>")
    software = ", ".join(f"{name} {version}" for name, version in table["software"].items())
    parts.append(f'<p class="note">{html.escape(table["produced"])}; {html.escape(software)}</p>')
    return "\n".join(parts)


def _scenario(name: str, block: Mapping[str, Any]) -> str:
    primary, dataset = block["primary"], block["dataset"]
    used = dataset["name"]
    if dataset.get("requested") not in (None, used):
        used += f" in place of {dataset['requested']}"
    facts = [f"data: {used} ({dataset['source']})", *(str(dataset[k]) for k in ("period", "licence") if dataset.get(k))]
    better = primary.get("better", "lower")
    leaky = '<p class="leaky">Leaky: learns from labels that it should not know yet.</p>' if block["leaky"] else ""
    head = (
        f"<h2>{html.escape(name)}</h2><p>{html.escape(block['description'])}</p>{leaky}"
        f'<p class="note">{html.escape("; ".join(facts))}. Primary: {html.escape(primary["metric"])} '
        f"[{html.escape(primary['unit'])}], {better} is better.</p>"
    )
    return head + _methods(block) + _comparisons(block.get("comparisons") or [])


def _methods(block: Mapping[str, Any]) -> str:
    """A row a method, a column a metric; the mean over seeds, ± its standard deviation."""
    first, sign = block["primary"]["metric"], 1 if block["primary"].get("better", "lower") == "lower" else -1
    members = [(arm, "arm", entry) for arm, entry in block["arms"].items()]
    members += [(one, "baseline", entry) for one, entry in block["baselines"].items()]
    means = {one: ((entry.get("metrics") or {}).get(first) or {}).get("mean") for one, _, entry in members}
    members.sort(key=lambda member: (means[member[0]] is None, sign * (means[member[0]] or 0.0)))
    metrics = list(dict.fromkeys([first, *(m for _, _, entry in members for m in entry.get("metrics") or {})]))
    rows = []
    for one, kind, entry in members:
        if entry.get("status") == "failed":
            message = html.escape(entry.get("message") or "")
            rows.append(
                f'<tr class="failed"><td>{one}</td><td></td><td class="text" colspan="99">failed: {message}</td></tr>'
            )
            continue
        seeds = str(len(entry["seeds"])) if "seeds" in entry else ""
        cells = [seeds, *(_spread((entry.get("metrics") or {}).get(metric)) for metric in metrics)]
        rows.append(f'<tr class="{kind}"><td>{html.escape(one)}</td>{_cells(cells)}</tr>')
    return _grid(["", "seeds", *metrics], rows)


def _comparisons(pairs: Sequence[Mapping[str, Any]]) -> str:
    if not pairs:
        return ""
    rows = []
    for pair in pairs:
        interval = " … ".join(number(value) for value in pair.get("ci95") or [])
        numbers = [number(pair.get("difference")), interval, number(pair.get("p"), 2), number(pair.get("n"))]
        name = f"{pair['a']} − {pair['b']}, {pair['metric']}"
        test = f'<td class="text">{html.escape(str(pair.get("test") or ""))}</td>'
        rows.append(f"<tr><td>{html.escape(name)}</td>{_cells(numbers)}{test}</tr>")
    return _grid(["comparison", "difference", "95 % interval", "p", "n", "test"], rows)


def _spread(metric: Mapping[str, Any] | None) -> str:
    if not metric or metric.get("mean") is None:
        return ""
    return number(metric["mean"]) + (f" ± {number(metric['sd'], 2)}" if metric.get("sd") is not None else "")


def _cells(cells: Sequence[str]) -> str:
    return "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)


def _grid(header: Sequence[str], rows: Sequence[str]) -> str:
    names = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    return f"<table><thead><tr>{names}</tr></thead><tbody>\n" + "\n".join(rows) + "\n</tbody></table>"
