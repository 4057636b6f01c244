"""SPIN's DAG in dry runs: which arms are trained, what an arm is made from, what a change reruns."""

import re

import pytest
import yaml

TABLE = "results/light/spin_ablation.json"


@pytest.fixture(scope="module")
def light():
    from pathlib import Path

    root = Path(__file__).parents[2]
    section = yaml.safe_load((root / "config.yaml").read_text())["spin"]
    over = yaml.safe_load((root / "config/light.yaml").read_text())["spin"]
    return {name: section["scenarios"][name] | over["scenarios"][name] for name in over["tables"]["ablation"]}, section


def of(plan, rule):
    return {(job.scenario, job.arm) for job in plan if job.rule == rule}


def test_the_light_table_comes_from_the_simulated_city_alone(new_project, light):
    project = new_project()
    plan = project.plan(TABLE)
    scenarios, section = light
    arms = {(name, arm) for name, scenario in scenarios.items() for arm in scenario["arms"]}
    assert of(plan, "spin_evaluate") == arms
    stacks = {name for name, arm in section["arms"].items() if "kind: stack" in yaml.safe_dump(arm)}
    assert of(plan, "spin_train") == {(name, arm) for name, arm in arms if arm not in stacks}
    for rule in ("spin_prepare", "spin_baselines", "spin_compare"):
        assert of(plan, rule) == {(name, None) for name in scenarios}
    assert not [job for job in plan if job.rule.startswith("fetch")]


def test_students_and_grown_models_wait_for_what_they_come_from_and_a_stack_for_boosting(new_project):
    project = new_project()
    code, text = project.call("-n", TABLE)
    assert code == 0, text
    jobs = dict(re.findall(r"^ {4}input: (.*)\n {4}output: (\S+?),? ", text, re.M)[::1])
    inputs = {output: given for given, output in jobs.items()}
    folder = "results/light/spin/sumo_city"
    assert f"{folder}/lightweight/base/weights" in inputs[f"{folder}/lightweight/distilled/weights.safetensors"]
    assert f"{folder}/lightweight/stage_1/weights" in inputs[f"{folder}/lightweight/stage_2/weights.safetensors"]
    stack = inputs[f"{folder}/sumo/spin_stack/imputations.zarr"]
    assert f"{folder}/sumo/spin_residual/imputations.zarr" in stack and f"{folder}/sumo/baselines.zarr" in stack
    assert "weights.safetensors" not in stack


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("      hidden: 32 # H, even", "      hidden: 31 # H, even", r"hidden \(31\) must be even"),
        ("    virtual:\n      settings: { network: { layers: 3, eta: 2, window: 12, embedding: places }",
         "    virtual:\n      settings: { network: { layers: 3, eta: 2, window: 12 }",
         r"unseen\.share above 0 needs network\.embedding places"),
        ("rates: [0.2, 0.5, 0.8]", "rates: [0.2, 1.5]", r"rates must be shares between 0 and 1"),
        ("      needs: [spin_residual]", "      needs: [spin_residul]", r"'spin_residul' is not defined"),
    ],
    ids=["odd width", "new nodes without places", "share above one", "unknown arm"],
)  # fmt: skip
def test_a_wrong_configuration_is_one_clear_error(new_project, before, after, message):
    project = new_project()
    project.edit("config.yaml", before, after)
    code, text = project.call("-n", TABLE)
    assert code == 1 and len(re.findall(message, text)) >= 1, text
    assert "Traceback" not in text
