"""What the rules of FSNet take as inputs, looked up in the plan."""


def fsnet_arm_inputs(wc):
    """What an arm streams from: its own training or another arm's, or other arms' forecasts."""
    section = plan.system(wc.root, "fsnet")
    arm, leaf = section.arm(wc.arm), section.settings(wc.scenario, wc.arm)
    inputs = {"data": f"{wc.root}/fsnet/{wc.dataset}/{wc.scenario}/data.zarr"}
    folder = f"{wc.root}/fsnet/{wc.dataset}/{wc.scenario}"
    if leaf["ensemble"]["kind"] != "none":
        inputs["baselines"] = f"{folder}/baselines.zarr"
    elif leaf["regime"]["kind"] == "none":
        inputs["weights"] = f"{folder}/{arm.start_from or wc.arm}/pretrained.safetensors"
    if arm.needs:
        inputs["needs"] = [f"{folder}/{name}/forecasts.zarr" for name in arm.needs]
    return inputs


def fsnet_realizations(wc):
    """Seeds of the data: one realization each where they are simulated."""
    simulated = plan.catalog[wc.dataset].source == "simulation"
    return plan.system(wc.root, "fsnet").scenario(wc.scenario).seeds if simulated else [0]


def fsnet_table_forecasts(wc):
    """Forecasts of all arms of a table's scenarios: what the figures along the stream are drawn from."""
    had, _ = plan.available("fsnet", wc.root, wc.table, mode())
    section = plan.system(wc.root, "fsnet")
    return [
        f"{wc.root}/fsnet/{choice.name}/{name}/{arm}/forecasts.zarr"
        for name, choice in had.items()
        for arm in section.scenario(name).arms
    ]
