"""SMASH in dry runs: what is planned, what arms share, and what a change reruns."""

import re

LIGHT = "results/light/smash_ablation.json"
ARMS = {"smash", "smash_upstream", "smash_corrected", "smash_exact"}


def of(plan, rule):
    return {(job.scenario, job.arm) for job in plan if job.rule == rule}


def test_the_light_run_needs_the_simulator_alone_and_trains_shared_weights_once(new_project):
    project = new_project()
    plan = project.plan(LIGHT)
    assert of(plan, "smash_evaluate") == {("etas", arm) for arm in ARMS}
    assert of(plan, "smash_train") == {("etas", arm) for arm in ARMS - {"smash_upstream"}}
    for rule in ("smash_prepare", "smash_baselines", "smash_compare"):
        assert of(plan, rule) == {("etas", None)}
    assert not any(job.rule.startswith("fetch") for job in plan)


def test_the_table_and_the_sampling_study_are_different_targets_of_one_snakefile(new_project):
    project = new_project()
    code, text = project.call("-n", "results/light/smash_sampling.json")
    assert code == 0, text
    rules = set(re.findall(r"^(?:local)?rule (\w+):", text, re.M))
    assert "smash_sampling" in rules and not {"smash_ablation", "smash_evaluate", "smash_compare"} & rules


def test_only_arms_that_start_from_etas_wait_for_its_fit(new_project):
    code, text = new_project().call("-n", LIGHT)
    assert code == 0, text
    blocks = re.findall(r"^rule smash_train:\n((?: {4}.*\n)+)", text, re.M)
    fitted = {re.search(r"arm=(\w+)", block)[1] for block in blocks if "etas.json" in block.split("output:")[0]}
    assert fitted == {"smash_exact"}
    gpus = {re.search(r"arm=(\w+)", block)[1] for block in blocks if re.search(r"\bgpu=1\b", block)}
    assert gpus == {"smash", "smash_corrected"}  # what is not score matching runs on the CPU
    assert len(re.findall(r"\bgpu=1\b", text)) == 2


def test_every_published_data_set_has_its_own_hyper_parameters():
    """The seed's table: noise of gap and place, width, lambda, steps."""
    table = {
        "published": (0.2, 0.25, 16, 2000, 0.005),
        "published_crime": (0.3, 0.03, 64, 1000, 0.01),
        "published_football": (0.2, 0.1, 32, 2000, 0.01),
    }
    from pipeline.cli import load_plan, read_config

    section = load_plan(read_config()).system("results", "smash")
    assert set(section.table("published")) == set(table)
    for scenario, (time, place, width, steps, size) in table.items():
        one = section.settings(scenario, "smash")
        assert (one["denoise"]["sigma_time"], one["denoise"]["sigma_location"]) == (time, place)
        assert one["encoder"]["cond_dim"] == width and one["denoise"]["mark_weight"] == 0.5
        assert (one["sampler"]["steps"], one["sampler"]["samples"], one["sampler"]["step_size"]) == (steps, 300, size)
        assert one["denoise"]["noises"] == 50 and one["training"]["epochs"] == 150 and one["training"]["steps"] is None
        assert one["sampler"]["events"] is None and one["encoder"]["attention_dropout"] == 0.1
    assert section.settings("published_crime", "smash")["denoise"]["smooth"] == 0.1


def test_a_variant_differs_from_smash_by_what_its_name_says():
    from pipeline.cli import load_plan, read_config

    section = load_plan(read_config()).system("results", "smash")
    plain = section.settings("variants", "smash")
    changed = {}
    for arm in section.scenario("variants").arms:
        one = section.settings("variants", arm)
        changed[arm] = {
            f"{group}.{key}" for group, keys in one.items() for key, value in keys.items() if value != plain[group][key]
        }
    assert changed.pop("smash") == set()
    assert changed["sigma_half"] == {"denoise.sigma_time", "denoise.sigma_location"}
    assert changed["marks_none"] == {"encoder.branches", "score.marks"}
    assert changed["quick"] == {"sampler.samples", "sampler.steps"}
    assert all(
        len(keys) == 1
        for arm, keys in changed.items()
        if arm not in ("sigma_half", "sigma_double", "marks_none", "quick")
    )
