"""Pictures of the DAG: what dot says, layers by hand, and that the pictures hold every job."""

import pytest
from PIL import Image

from pipeline.core import graph
from pipeline.core.errors import DataError
from pipeline.core.figures import texts

DOT = r"""digraph snakemake_dag {
    graph[bgcolor=white, margin=0];
    0[label = "all", color = "0.3 0.6 0.85", style="rounded"];
    1[label = "toy_ablation\ntable: ablation", color = "0.3 0.6 0.85", style="rounded"];
    2[label = "toy_compare", color = "0.3 0.6 0.85", style="rounded"];
    3[label = "toy_prepare\nroot: results\nscenario: point", color = "0.3 0.6 0.85", style="rounded,dashed"];
    4[label = "fetch_weather", color = "0.3 0.6 0.85", style="rounded"];
    5[label = "toy_train\narm: a", color = "0.3 0.6 0.85", style="rounded"];
    6[label = "toy_evaluate", color = "0.3 0.6 0.85", style="rounded"];
    7[label = "toy_evaluate\narm: b", color = "0.3 0.6 0.85", style="rounded"];
    1 -> 0
    2 -> 1
    6 -> 2
    7 -> 2
    3 -> 2
    4 -> 3
    3 -> 5
    5 -> 6
    5 -> 7
    3 -> 6
}
"""


def test_jobs_have_the_names_that_dot_leaves_to_those_before_them():
    jobs = graph.read_dot(DOT)
    assert jobs.rules["6"] == "toy_evaluate" and len(jobs.edges) == 10
    expected = {"3": "prepare point", "4": "fetch", "5": "train a", "6": "evaluate a", "7": "evaluate b"}
    assert {node: jobs.texts[node] for node in expected} == expected
    assert jobs.texts["2"] == "compare point"  # two arms: none of them
    assert jobs.texts["1"] == "ablation ablation"


def test_rules_and_the_part_of_a_system():
    jobs = graph.read_dot(DOT)
    rules = graph.by_rule(jobs)
    assert set(rules.rules) == {
        "all",
        "fetch_weather",
        *(f"toy_{s}" for s in "ablation compare prepare train evaluate".split()),
    }
    assert ("toy_train", "toy_evaluate") in rules.edges and len(rules.edges) == len(set(rules.edges)) == 8
    assert set(graph.of_system(jobs, "toy").rules) == set("1234567")
    assert graph.of_system(jobs, "other").rules == {}


def test_needs_that_follow_from_others_are_not_drawn():
    edges = set(graph.reduced(graph.read_dot(DOT)).edges)
    assert {("3", "6"), ("3", "2")} & edges == set()
    assert edges == {("1", "0"), ("2", "1"), ("6", "2"), ("7", "2"), ("4", "3"), ("3", "5"), ("5", "6"), ("5", "7")}


def test_every_job_stands_right_of_what_it_needs_and_crossings_are_taken_out():
    jobs = graph.read_dot(DOT)
    found = graph.layers(jobs)
    depth = {node: x for x, layer in enumerate(found) for node in layer}
    assert sorted(depth) == sorted(jobs.rules) and all(depth[a] < depth[b] for a, b in jobs.edges)
    assert [sorted(layer) for layer in found] == [["4"], ["3"], ["5"], ["6", "7"], ["2"], ["1"], ["0"]]
    pairs = {str(i): str(i) for i in range(8)}  # 0-3 need 7-4: crossed as they are stated
    crossed = graph.Graph(pairs, pairs, [(str(i), str(7 - i)) for i in range(4)])
    left, right = graph.layers(crossed)
    assert right == [str(7 - int(node)) for node in left]


def test_pictures_hold_every_job(tmp_path):
    paths = graph.write(DOT, tmp_path / "graph", ["toy", "other"])
    assert [path.name for path in paths] == ["rules.png", "jobs_toy.png"]
    assert all(Image.open(path).width == 1440 for path in paths)
    shown = texts(graph.draw(graph.of_system(graph.read_dot(DOT), "toy"), "Jobs", "7 jobs"))
    assert {"fetch", "prepare point", "train a", "evaluate a", "evaluate b", "compare point"} <= set(shown)


def test_another_text_is_an_error():
    with pytest.raises(DataError, match="there is no job in the graph: pipe `snakemake --dag dot"):
        graph.read_dot("Building DAG of jobs...\n")
