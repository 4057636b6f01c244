"""What failed jobs cost: causes are found along the needs, and each arm and scenario is told why it is missing."""

import json
import os
from dataclasses import replace

import pytest

from pipeline.core.partial import KILLED, Losses, Work, losses, reason

HERE = "results toy point"


def work(stage, *needs, finished=False, arm=None, scenario="point", **more):
    return Work(stage, finished, needs, "results", "toy", scenario, arm, **more)


def test_an_arm_is_lost_by_itself_or_by_one_that_it_needs_and_the_rest_stands():
    works = [
        work("prepare", finished=True),
        work("train", 0, arm="a"),  # 1: the cause
        work("evaluate", 1, arm="a"),
        work("evaluate", 1, arm="b"),  # starts from a
        work("evaluate", 3, arm="c"),  # needs b
        work("evaluate", 0, arm="d", finished=True),
        work("compare", 2, 3, 4, 5),  # 6
        work("ablation", 6, scenario=None),  # 7
        work("plot", 7, scenario=None),  # 8
    ]
    found = losses(works, 0)
    told = "train: see the output of the workflow"
    assert found.arms == {HERE: {"a": told} | dict.fromkeys("bc", f"needs a, which failed ({told})")}
    assert found.scenarios == {} and found.tables == [7, 8]
    assert Losses.of(json.loads(json.dumps(found.plain()))) == replace(found, tables=[])


@pytest.mark.parametrize("stage", ["prepare", "baselines", "compare"])
def test_a_scenario_is_lost_by_what_all_its_arms_share(stage):
    finished = {name: name != stage for name in ("prepare", "baselines")}
    finished["baselines"] &= finished["prepare"]
    works = [
        work("prepare", finished=finished["prepare"]),
        work("baselines", 0, finished=finished["baselines"]),
        work("evaluate", 0, arm="a", finished=finished["prepare"]),
        work("compare", 1, 2),
        work("compare", scenario="block", finished=True),
        work("ablation", 3, 4, scenario=None),
    ]
    found = losses(works, 0)
    assert found.scenarios == {HERE: f"{stage}: see the output of the workflow"}
    assert found.arms == {} and found.tables == [5]


@pytest.mark.parametrize("again", [True, False], ids=["table made in this run", "table made before"])
def test_an_arm_is_not_lost_by_what_no_comparison_waits_for(again):
    """Else the attention of a trained arm would take the arm out of the table when its job is killed."""
    before = [work("evaluate", arm="a"), work("compare", 0), work("ablation", 1, scenario=None)] if again else []
    before = [replace(one, finished=True) for one in before]
    here = len(before)
    needs = [*range(here)]
    works = [*before, work("attention", *needs[:1], arm="a"), work("analyse", *needs[2:], here, scenario=None)]
    assert not losses(works, 0) and losses(works, 0).tables == []


def test_data_that_cannot_be_fetched_lose_the_scenarios_that_need_them():
    works = [Work("fetch_etth1", False), work("prepare", 0), work("ablation", 1, scenario=None)]
    found = losses(works, 0)
    assert found.scenarios == {HERE: "fetch_etth1: see the output of the workflow"} and found.tables == [2]


def test_a_table_that_fails_itself_is_not_tried_again():
    works = [work("ablation", scenario=None), work("plot", 0, scenario=None)]
    assert not losses(works, 0) and losses(works, 0).tables == []


def test_all_is_well_after_a_run_without_failures():
    found = losses([work("train", arm="a", finished=True), work("ablation", 0, scenario=None, finished=True)], 0)
    assert not found and found.tables == []


@pytest.mark.parametrize(
    ("kind", "error", "told"),
    [
        ("failed.json", {"type": "ValueError", "message": "a\n  b"}, "ValueError: a b"),
        ("failed.json", {"type": "MemoryError", "message": ""}, "MemoryError"),
        ("failed.json", {"type": "DataError", "message": "no column 'x'"}, "no column 'x'"),
        ("failed.json", {"type": "ValueError", "message": "x" * 999}, "ValueError: " + "x" * 387 + "…"),
        ("running.json", None, KILLED),
    ],
)
def test_the_reason_is_the_record_of_this_run(tmp_path, kind, error, told):
    path = tmp_path / f"train.{kind}"
    record = {"schema": "run/1"} | ({"error": error} if error else {})
    path.write_text(json.dumps(record))
    one = work("train", arm="a", run=tmp_path / "train.run.json", log=tmp_path / "train.log")
    assert reason(one, path.stat().st_mtime - 1) == told
    os.utime(path, (1, 1))  # left by an earlier attempt
    assert reason(one, 1000) == f"see {tmp_path / 'train.log'}"
