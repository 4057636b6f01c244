"""Arms that fail: the table is built without them, says so, and the next call repairs it."""

import json
import re
from pathlib import Path

import pytest

from pipeline.registry import SYSTEMS

TABLE = "results/light/fsnet_ablation.json"
DELAYED = "results/light/fsnet/nyc_weather/delayed"


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_table_of_every_system_is_told_of_its_failed_arms(system):
    """Else they would be missing from it without a word."""
    rules = (Path(__file__).resolve().parents[2] / f"workflow/rules/{system}.smk").read_text()
    (table,) = re.findall(rf"^rule {system}_ablation:\n(?:(?: .*)?\n)+", rules, re.M)
    assert f'failed=failed("{system}")' in table and f'unavailable=unavailable("{system}")' in table


def without_costs(value):
    if isinstance(value, dict):
        return {k: without_costs(v) for k, v in value.items() if k not in ("cost", "produced", "software")}
    return [without_costs(item) for item in value] if isinstance(value, list) else value


def test_a_killed_arm_leaves_the_table_of_the_others_and_the_next_call_repairs_it(new_project, finished, jobs_of):
    """`ogd` is new and its training is killed; `er` starts from it. Comparisons with them go, the others stay."""
    project = new_project(finished)
    before = json.loads((project / TABLE).read_text())
    arms = ["ogd", "nomem", "er", "fsnet_memory"]
    compare = [["nomem", "fsnet_memory"], ["nomem", "persistence"], ["ogd", "persistence"]]
    project.configure(scenarios={"delayed": {"arms": arms, "compare": compare}})

    code, text = project.call(TABLE, **project.faults(train__ogd="kill"))
    assert code == 1 and "tables are built of what has finished" in text, text
    table = json.loads((project / TABLE).read_text())
    found = table["scenarios"]["delayed"]["arms"]
    assert list(found) == arms and [arm["status"] for arm in found.values()] == ["failed", "done", "failed", "done"]
    killed = "train: killed without a word (kill -9, out of memory, power)"
    assert found["ogd"]["message"] == killed
    assert found["er"]["message"] == f"needs ogd, which failed ({killed})"
    assert found["er"]["settings"]["online"]["replay"]["size"] == 500 and found["er"]["seeds"] == [0, 1]
    assert not {"metrics", "cost"} & found["ogd"].keys()
    for part in ("baselines", "dataset"):
        assert without_costs(table["scenarios"]["delayed"][part]) == without_costs(before["scenarios"]["delayed"][part])
    assert found["nomem"]["metrics"] == before["scenarios"]["delayed"]["arms"]["nomem"]["metrics"]
    pairs = [(pair["a"], pair["b"]) for pair in table["scenarios"]["delayed"]["comparisons"]]
    assert pairs == [("nomem", "fsnet_memory"), ("nomem", "persistence")]
    assert table["scenarios"]["immediate"] == before["scenarios"]["immediate"]
    assert table["unavailable"] == before["unavailable"]

    code, text = project.call(TABLE)
    assert code == 0, text
    assert sorted((job.rule, job.arm) for job in jobs_of(text) if job.rule != "fsnet_ablation") == [
        ("fsnet_compare", None),
        ("fsnet_evaluate", "er"),
        ("fsnet_evaluate", "ogd"),
        ("fsnet_train", "ogd"),
    ]
    table = json.loads((project / TABLE).read_text())
    found = table["scenarios"]["delayed"]["arms"]
    assert list(found) == arms and {arm["status"] for arm in found.values()} == {"done"}
    assert [(p["a"], p["b"]) for p in table["scenarios"]["delayed"]["comparisons"]] == [tuple(p) for p in compare]
