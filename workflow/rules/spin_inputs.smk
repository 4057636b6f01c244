"""What the rules of SPIN take as inputs, looked up in the plan."""


def spin_train_inputs(wc):
    """The data, and the weights of the arm that this one learns from or grows out of."""
    folder = f"{wc.root}/spin/{wc.dataset}/{wc.scenario}"
    needs = plan.system(wc.root, "spin").arm(wc.arm).needs
    inputs = {"data": f"{folder}/data.zarr"}
    if needs:
        inputs["needs"] = [f"{folder}/{name}/weights.safetensors" for name in needs]
    return inputs


def spin_arm_inputs(wc):
    """What an arm imputes with: its weights, or other arms' imputations and the baselines'."""
    section = plan.system(wc.root, "spin")
    arm, leaf = section.arm(wc.arm), section.settings(wc.scenario, wc.arm)
    folder = f"{wc.root}/spin/{wc.dataset}/{wc.scenario}"
    inputs = {"data": f"{folder}/data.zarr"}
    if leaf["network"]["kind"] == "stack":
        inputs["needs"] = [f"{folder}/{name}/imputations.zarr" for name in arm.needs]
        inputs["baselines"] = f"{folder}/baselines.zarr"
    else:
        inputs["weights"] = f"{folder}/{arm.start_from or wc.arm}/weights.safetensors"
    return inputs


def spin_attention_reports(wc):
    """Reports on the attention of the published network, in the scenarios that ask for one (`attention.report`)."""
    section = plan.system(wc.root, "spin")
    had, _ = plan.available("spin", wc.root, wc.table, mode())
    return [
        f"{wc.root}/spin/{choice.name}/{scenario}/spin/attention.json"
        for scenario, choice in had.items()
        if "spin" in section.scenario(scenario).arms and section.settings(scenario, "spin")["attention"]["report"]
    ]
