"""What the rules of SMASH take as inputs, looked up in the plan."""

from pipeline.smash.settings import FIELDS


def smash_folder(wc):
    return f"{wc.root}/smash/{wc.dataset}/{wc.scenario}"


def smash_arm_inputs(wc):
    """What an arm's training reads: the windows, and the fitted ETAS where it starts from it."""
    leaf = plan.system(wc.root, "smash").settings(wc.scenario, wc.arm)
    inputs = {"data": f"{smash_folder(wc)}/prepared.pkl"}
    if leaf["model"]["kind"] == "exact" and leaf["exact"]["base"] == "etas":
        inputs["fitted"] = f"{smash_folder(wc)}/etas.json"
    return inputs


def smash_train_gpu(wc):
    """One GPU for score matching; the exact arms are trained, and all arms are sampled and scored, on the CPU."""
    kind = plan.system(wc.root, "smash").settings(wc.scenario, wc.arm)["model"]["kind"]
    return 0 if kind == "exact" else gpu("smash", "train")


def smash_forecast_inputs(wc):
    """What an arm forecasts with: its own training or that of the arm that it shares its weights with."""
    start = plan.system(wc.root, "smash").arm(wc.arm).start_from
    return smash_arm_inputs(wc) | {"weights": f"{smash_folder(wc)}/{start or wc.arm}/weights.safetensors"}


def smash_first_seed(wc):
    """One catalogue a scenario, also where it is simulated: the seeds are those of the training."""
    return plan.system(wc.root, "smash").scenario(wc.scenario).seeds[:1]


def smash_table_arms(name):
    """One file of all arms of a table's scenarios."""

    def files(wc):
        had, _ = plan.available("smash", wc.root, wc.table, mode())
        section = plan.system(wc.root, "smash")
        return [
            f"{wc.root}/smash/{choice.name}/{scenario}/{arm}/{name}"
            for scenario, choice in had.items()
            for arm in section.scenario(scenario).arms
        ]

    return plainly(files)


@plainly
def smash_field_weights(wc):
    """Weights of the arms whose learned score is drawn."""
    had, _ = plan.available("smash", wc.root, wc.table, mode())
    section = plan.system(wc.root, "smash")
    return [
        f"{wc.root}/smash/{choice.name}/{scenario}/{arm}/weights.safetensors"
        for scenario, choice in had.items()
        for arm in FIELDS
        if arm in section.scenario(scenario).arms
    ]


@plainly
def smash_study(wc):
    """The sampling-time study, which figures and analysis of the default table show; the light run has no time for it."""
    if wc.table != "ablation" or wc.root.endswith("light"):
        return []
    had, _ = plan.available("smash", wc.root, "ablation", mode())
    section = plan.system(wc.root, "smash")
    timed = any(set(FIELDS) <= set(section.scenario(scenario).arms) for scenario in had)
    return f"{wc.root}/smash_sampling.json" if timed else []


def smash_sampled(wc):
    """Data and weights of the sampling-time study: the first scenario of the ablation that has the arms it times."""
    had, _ = plan.available("smash", wc.root, "ablation", mode())
    section = plan.system(wc.root, "smash")
    for scenario, choice in had.items():
        if set(FIELDS) <= set(section.scenario(scenario).arms):
            folder = f"{wc.root}/smash/{choice.name}/{scenario}"
            return {
                "data": f"{folder}/prepared.pkl",
                "smash": f"{folder}/smash/weights.safetensors",
                "corrected": f"{folder}/smash_corrected/weights.safetensors",
                "smash_run": f"{folder}/smash/train.run.json",
                "corrected_run": f"{folder}/smash_corrected/train.run.json",
            }
    raise WorkflowError("the sampling-time study needs a scenario with the arms smash and smash_corrected")
