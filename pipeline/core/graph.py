"""Pictures of the workflow: its jobs, and its rules, drawn from what ``snakemake --dag dot`` prints.

No Graphviz is needed. Nodes stand in layers, each right of all that it needs; within a layer they are sorted by the
mean place of their neighbours, to and fro, which takes most crossings out (Sugiyama, Tagawa and Toda 1981).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import DataError
from .figures import FAINT, INK, PALETTE, canvas, save, style

SWEEPS = 12  # of the sorting, to and fro
ROW = 0.2  # inches from node to node in the fullest layer
SHARED = "fetch"
PLACES = ("scenario", "arm", "table")  # wildcards that tell jobs of a rule apart, the last one best


@dataclass
class Graph:
    """Nodes with their rule and a text, and edges from what is needed to what needs it."""

    rules: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)

    def of(self, nodes: set[str]) -> Graph:
        """The part that some of the nodes make."""
        return Graph(
            {node: rule for node, rule in self.rules.items() if node in nodes},
            {node: text for node, text in self.texts.items() if node in nodes},
            [(a, b) for a, b in self.edges if a in nodes and b in nodes],
        )


def read_dot(text: str) -> Graph:
    """The job graph of ``snakemake --dag dot``, each job with the arm, scenario or table that it is of.

    Snakemake states a wildcard only where no job before it has the same; the rest is what all those before it agree on.

    Raises
    ------
    DataError
        A text without any node: not the output of that command.
    """
    labels: dict[str, str] = {}
    edges: list[tuple[str, str]] = []
    for line in text.splitlines():
        if node := re.match(r'\s*(\d+)\s*\[\s*label\s*=\s*"(.*?)"', line):
            labels[node[1]] = node[2]
        elif edge := re.match(r"\s*(\d+)\s*->\s*(\d+)", line):
            edges.append((edge[1], edge[2]))
    if not labels:
        raise DataError("there is no job in the graph: pipe `snakemake --dag dot <targets>` into this command")
    needs: dict[str, list[str]] = {node: [] for node in labels}
    for a, b in edges:
        needs[b].append(a)
    known: dict[str, dict[str, str]] = {}

    def values(node: str) -> dict[str, str]:
        if node not in known:
            before = [values(need) for need in needs[node]]
            names = dict.fromkeys(name for one in before for name in one)
            found = {name: {one[name] for one in before if name in one} for name in names}
            agreed = {name: next(iter(all_)) for name, all_ in found.items() if len(all_) == 1}
            stated = (line.split(": ", 1) for line in labels[node].split("\\n")[1:] if ": " in line)
            known[node] = agreed | dict(stated)
        return known[node]

    graph = Graph(edges=edges)
    for node, label in labels.items():
        graph.rules[node] = rule = label.split("\\n")[0]
        shown = [values(node)[name] for name in PLACES if name in values(node)]
        graph.texts[node] = " ".join([_stage(rule), *(shown[-1:] if not rule.startswith(SHARED) else [])])
    return graph


def by_rule(graph: Graph) -> Graph:
    """The graph of the rules: one node a rule, one edge where a job of the one needs a job of the other."""
    names = {rule: rule for rule in dict.fromkeys(graph.rules.values())}
    edges = dict.fromkeys((graph.rules[a], graph.rules[b]) for a, b in graph.edges if graph.rules[a] != graph.rules[b])
    return Graph(names, names, list(edges))


def of_system(graph: Graph, system: str) -> Graph:
    """The jobs of one system, and the downloads that they need."""
    own = {node for node, rule in graph.rules.items() if rule.startswith(f"{system}_")}
    return graph.of(own | {a for a, b in graph.edges if b in own and graph.rules[a].startswith(SHARED)})


def reduced(graph: Graph) -> Graph:
    """Without the edges that a longer way says, too: what needs a trained model needs its data."""
    after: dict[str, set[str]] = {node: set() for node in graph.rules}
    for a, b in graph.edges:
        after[a].add(b)
    reach: dict[str, set[str]] = {}

    def beyond(node: str) -> set[str]:
        if node not in reach:
            reach[node] = after[node].union(*map(beyond, after[node]))
        return reach[node]

    edges = [(a, b) for a, b in graph.edges if not any(b in beyond(other) for other in after[a] if other != b)]
    return Graph(graph.rules, graph.texts, edges)


def layers(graph: Graph) -> list[list[str]]:
    """Nodes by the length of the longest path that leads to them, each layer sorted against crossings."""
    before: dict[str, list[str]] = {node: [] for node in graph.rules}
    after: dict[str, list[str]] = {node: [] for node in graph.rules}
    for a, b in graph.edges:
        before[b].append(a)
        after[a].append(b)
    depth: dict[str, int] = {}
    waiting = {node: len(needs) for node, needs in before.items()}
    queue = [node for node, count in waiting.items() if count == 0]
    while queue:
        node = queue.pop()
        depth[node] = max((depth[need] + 1 for need in before[node]), default=0)
        for follower in after[node]:
            waiting[follower] -= 1
            if waiting[follower] == 0:
                queue.append(follower)
    found: list[list[str]] = [[] for _ in range(max(depth.values()) + 1)]
    for node in graph.rules:
        found[depth[node]].append(node)
    for sweep in range(SWEEPS):
        forth = sweep % 2 == 0
        place = {node: (i + 0.5) / len(layer) for layer in found for i, node in enumerate(layer)}
        for index in range(len(found)) if forth else reversed(range(len(found))):
            beside = before if forth else after
            found[index].sort(
                key=lambda node: (
                    sum(place[other] for other in beside[node]) / len(beside[node]) if beside[node] else place[node]
                )
            )
            place |= {node: (i + 0.5) / len(found[index]) for i, node in enumerate(found[index])}
    return found


def draw(graph: Graph, title: str, subtitle: str) -> Any:
    """A figure of a graph from left to right; a node's colour is its stage's."""
    graph = reduced(graph)
    found = layers(graph)
    fullest = max(map(len, found))
    height = max(2.0, ROW * 1.6 * fullest if fullest < 15 else ROW * fullest)
    figure = canvas(height, title, subtitle)
    axes = figure.subplots()
    axes.axis("off")
    place = {node: (x, 1 - (y + 0.5) / len(layer)) for x, layer in enumerate(found) for y, node in enumerate(layer)}
    stages = list(dict.fromkeys(map(_stage, graph.rules.values())))
    colour = {stage: PALETTE[index % len(PALETTE)] for index, stage in enumerate(stages)}
    for a, b in graph.edges:
        (x0, y0), (x1, y1) = place[a], place[b]
        axes.plot([x0, x0 + 0.45 * (x1 - x0), x1 - 0.2, x1], [y0, y0, y1, y1], color=FAINT, linewidth=0.8, zorder=1)
    size = 7.5 if fullest < 25 else 6
    for node, (x, y) in place.items():
        axes.plot([x], [y], "o", markersize=5, color=colour[_stage(graph.rules[node])], zorder=3)
        text = axes.text(x + 0.05, y, graph.texts[node], fontsize=size, va="center", color=INK, zorder=4)
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5})
    axes.set_xlim(-0.1, len(found) - 0.1)
    axes.set_ylim(-0.02, 1.02)
    return figure


def _stage(rule: str) -> str:
    """A rule without its system; all downloads are one stage."""
    return SHARED if rule.startswith(SHARED) else rule.partition("_")[2] or rule


def write(text: str, folder: Path, systems: Sequence[str]) -> list[Path]:
    """Draw ``rules.png``, and ``jobs_<system>.png`` for each system that has jobs; returns their paths."""
    graph = read_dot(text)
    graph = graph.of({node for node, rule in graph.rules.items() if rule not in ("all", "light")})
    overview = by_rule(graph)
    folder.mkdir(parents=True, exist_ok=True)
    with style():
        how = "each stands right of what it needs; needs that follow from others are not drawn"
        subtitle = f"{len(overview.rules)} rules, {len(graph.rules)} jobs; {how}"
        paths = [save(draw(overview, "Rules of the workflow", subtitle), folder / "rules.png")]
        for system in systems:
            jobs = of_system(graph, system)
            if jobs.rules:
                picture = draw(jobs, f"Jobs of {system}", f"{len(jobs.rules)} jobs; {how}")
                paths.append(save(picture, folder / f"jobs_{system}.png"))
    return paths
