"""The DAG in dry runs: what is planned, and what a change reruns."""

import os
import re

import pytest
import yaml

TABLE = "results/light/fsnet_ablation.json"
SCENARIOS = ("delayed", "immediate", "regimes")


def section(project):
    """FSNet's configuration of `results/light`: the base, and what the light one replaces."""
    base = yaml.safe_load((project / "config.yaml").read_text())["fsnet"]
    light = yaml.safe_load((project / "config/light.yaml").read_text())["fsnet"]
    for name in SCENARIOS:
        base["scenarios"][name] |= light["scenarios"].get(name, {})
    return base


def of(plan, rule):
    return {(job.scenario, job.arm) for job in plan if job.rule == rule}


def rules(plan):
    return {job.rule for job in plan}


def test_the_light_run_makes_every_arm_and_trains_only_what_starts_from_nothing(new_project):
    project = new_project()
    plan = project.plan("light")
    fsnet = section(project)
    arms = {(scenario, arm) for scenario in SCENARIOS for arm in fsnet["scenarios"][scenario]["arms"]}
    assert of(plan, "fsnet_evaluate") == arms
    starting = {}
    for scenario, arm in arms:
        settings = fsnet["arms"][arm].get("settings", {})
        if "ensemble" not in settings and "regime" not in settings:
            starting[scenario, arm] = fsnet["arms"][arm].get("start_from", arm)
    trained = of(plan, "fsnet_train")
    assert trained == {(scenario, start) for (scenario, _), start in starting.items()}
    assert ("delayed", "nomem") in trained and ("delayed", "fsnet_paper") not in trained
    assert ("regimes", "nomem") in trained  # for fsnet_memory and itself
    for rule in ("fsnet_prepare", "fsnet_baselines", "fsnet_compare"):
        assert of(plan, rule) == {(scenario, None) for scenario in SCENARIOS}
    assert {"fsnet_ablation", "fsnet_plot", "fsnet_analyse", "fetch_nyc_weather"} <= rules(plan)
    assert not (project / "data").exists(), "a dry run decides nothing about data"
    assert not (project / "results").exists()


def test_the_full_table_is_a_target_of_the_same_snakefile_and_a_dry_run_assumes_the_first_data_set(new_project):
    project = new_project()
    code, text = project.call("-n", "results/fsnet_ablation.json", TABLE)
    assert code == 0, text
    outputs = re.findall(r"^ {4}output: (\S+?),? ", text, re.M)
    assert {"results/fsnet_ablation.json", TABLE} <= set(outputs)
    assert "results/fsnet/etth1/delayed/data.zarr" in outputs
    assert "results/light/fsnet/nyc_weather/delayed/data.zarr" in outputs
    assert not (project / "data").exists()


def test_the_plan_of_everything_is_made_without_an_error(new_project):
    """Snakemake recovers from what an input function raises for a rule that is only a candidate, but shows it."""
    project = new_project()
    data = {name: value for name, value in os.environ.items() if name == "PIPELINE_DATA_DIRS"}
    code, text = project.call("-n", "all", **data)
    assert code == 0 and not re.findall(r"^.*(?:Error|Exception).*$", text, re.M), text


def test_an_arm_added_in_the_configuration_is_trained_streamed_and_compared(new_project, pretended):
    project = new_project(pretended)
    project.edit("config.yaml", "    ogd: {}\n", "    ogd: {}\n    wide: { settings: { network: { depth: 9 } } }\n")
    arms = section(project)["scenarios"]["immediate"]["arms"]
    project.configure(scenarios={"immediate": {"arms": [*arms, "wide"]}})
    plan = project.plan(TABLE)
    assert plan == {
        ("fsnet_train", "immediate", "wide"),
        ("fsnet_evaluate", "immediate", "wide"),
        ("fsnet_compare", "immediate", None),
        ("fsnet_ablation", None, None),
    }


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "    hidden: 64 #",
            "    hiden: 64 #",
            r"fsnet\.settings\.network\.hiden: unknown key .*did you mean 'hidden'",
        ),
        (
            "    ogd: {}\n",
            "    ogd: { settings: { online: { lr: -1.0 } } }\n",
            r"fsnet\.arms\.ogd\.settings\.online\.lr: .*greater than or equal to 0, value -1\.0",
        ),
        ("datasets: [regimes]", "datasets: [regime]", r"no data set named 'regime'\. Did you mean 'regimes'\?"),
        ("arms: [regime_nomem,", "arms: [regime_noman,", r"'regime_noman' is not defined; known: .*regime_nomem"),
    ],
    ids=["misspelt key", "impossible value", "unknown data set", "unknown arm"],
)
def test_a_wrong_configuration_is_one_clear_error(new_project, before, after, message):
    project = new_project()
    project.edit("config.yaml", before, after)
    code, text = project.call("-n", TABLE)
    assert code == 1 and len(re.findall(message, text)) == 1, text
    assert "Traceback" not in text


def test_nothing_is_to_be_done_after_a_run_nor_after_touching_files_without_a_change(new_project, pretended):
    project = new_project(pretended)
    for pattern in (
        "pipeline/**/*.py",
        "workflow/**/*.smk",
        "workflow/scripts/*",
        "config/*",
        "*.yaml",
        "data/raw/**/*",
    ):
        for path in project.folder.glob(pattern):
            os.utime(path)
    assert project.plan("light") == set()


def test_a_setting_of_an_arm_reruns_that_arm_and_what_needs_it(new_project, pretended):
    project = new_project(pretended)
    project.edit("config.yaml", "replay: { size: 500, logits: 0.2 }", "replay: { size: 500, logits: 0.3 }")  # derpp
    project.edit(
        "config.yaml",
        "network: { calendar: cyclic, subtract_last: true, zero_head: true }",
        "network: { subtract_last: true }",
    )
    assert project.plan("light") == {
        ("fsnet_evaluate", "delayed", "derpp"),
        ("fsnet_evaluate", "immediate", "derpp"),
        ("fsnet_train", "delayed", "tcn_delta"),
        ("fsnet_evaluate", "delayed", "tcn_delta"),
        ("fsnet_evaluate", "delayed", "fsnet_aggregate"),
        ("fsnet_compare", "delayed", None),
        ("fsnet_compare", "immediate", None),
        ("fsnet_ablation", None, None),
        ("fsnet_plot", None, None),
        ("fsnet_analyse", None, None),
    }


def test_another_seed_reruns_the_arms_but_prepares_only_simulated_data(new_project, pretended):
    project = new_project(pretended)
    project.configure(scenarios={"delayed": {"seeds": [0, 1, 2]}, "regimes": {"seeds": [100, 101, 102]}})
    plan = project.plan(TABLE)
    arms = section(project)["scenarios"]
    expected = {(scenario, arm) for scenario in ("delayed", "regimes") for arm in arms[scenario]["arms"]}
    assert of(plan, "fsnet_evaluate") == expected
    assert {arm for scenario, arm in of(plan, "fsnet_train") if scenario == "delayed"} >= {"ogd", "nomem", "tcn_delta"}
    assert of(plan, "fsnet_prepare") == {("regimes", None)}
    assert of(plan, "fsnet_baselines") == {("regimes", None)}
    assert "immediate" not in {job.scenario for job in plan}


@pytest.mark.parametrize(
    ("module", "rerun"),
    [
        ("fsnet/compare.py", {"compare", "ablation", "plot", "analyse"}),
        ("fsnet/engine.py", {"train", "evaluate", "compare", "ablation", "plot", "analyse"}),
        ("fsnet/run_baselines.py", {"baselines", "evaluate", "compare", "ablation", "plot", "analyse"}),
        ("fsnet/figures.py", {"plot"}),
    ],
)
def test_editing_a_module_reruns_the_stages_that_import_it_and_nothing_else(new_project, pretended, module, rerun):
    project = new_project(pretended)
    with (project / "pipeline" / module).open("a") as file:
        file.write("\n# edited\n")
    plan = project.plan("light")
    assert rules(plan) == {f"fsnet_{stage}" for stage in rerun}
    if "evaluate" in rerun and "train" not in rerun:  # only the ensemble takes the baselines as inputs
        assert of(plan, "fsnet_evaluate") == {("delayed", "fsnet_aggregate")}
