"""FSNet: prepare, train, stream (evaluate), baselines, compare, table, figures."""

FSNET = "{root}/fsnet/{dataset}/{scenario}"


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


def fsnet_scenario_arms(name):
    return lambda wc: [
        f"{wc.root}/fsnet/{wc.dataset}/{wc.scenario}/{arm}/{name}"
        for arm in plan.system(wc.root, "fsnet").scenario(wc.scenario).arms
    ]


rule fsnet_prepare:
    input:
        raw=lambda wc: plan.raw_files("fsnet", wc.root, wc.scenario, mode()),
        code=code("fsnet", "prepare"),
    output:
        data=directory(FSNET + "/data.zarr"),
        run=FSNET + "/prepare.run.json",
    log:
        FSNET + "/prepare.log",
    params:
        settings=settings("fsnet", "prepare"),
        seeds=fsnet_realizations,
        source=source("fsnet"),
    resources:
        mem_mb=1000,
        runtime=5,
    conda:
        "../../envs/cpu.yaml"
    script:
        "../scripts/run_stage.py"


rule fsnet_train:
    input:
        data=FSNET + "/data.zarr",
        code=code("fsnet", "train"),
    output:
        weights=FSNET + "/{arm}/pretrained.safetensors",
        run=FSNET + "/{arm}/train.run.json",
    log:
        FSNET + "/{arm}/train.log",
    benchmark:
        FSNET + "/{arm}/train.benchmark.tsv"
    params:
        settings=settings("fsnet", "train"),
        seeds=scenario("fsnet", "seeds"),
    resources:
        mem_mb=2000,
        runtime=60,
    conda:
        "../../envs/cpu.yaml"
    script:
        "../scripts/run_stage.py"


rule fsnet_baselines:
    input:
        data=FSNET + "/data.zarr",
        code=code("fsnet", "baselines"),
    output:
        forecasts=directory(FSNET + "/baselines.zarr"),
        run=FSNET + "/baselines.run.json",
    log:
        FSNET + "/baselines.log",
    benchmark:
        FSNET + "/baselines.benchmark.tsv"
    params:
        settings=settings("fsnet", "baselines"),
        baselines=scenario("fsnet", "baselines"),
    resources:
        mem_mb=2000,
        runtime=30,
    conda:
        "../../envs/cpu.yaml"
    script:
        "../scripts/run_stage.py"


rule fsnet_evaluate:
    input:
        unpack(fsnet_arm_inputs),
        code=code("fsnet", "evaluate"),
    output:
        forecasts=directory(FSNET + "/{arm}/forecasts.zarr"),
        run=FSNET + "/{arm}/evaluate.run.json",
    log:
        FSNET + "/{arm}/evaluate.log",
    benchmark:
        FSNET + "/{arm}/evaluate.benchmark.tsv"
    params:
        settings=settings("fsnet", "evaluate"),
        seeds=scenario("fsnet", "seeds"),
    resources:
        mem_mb=2000,
        runtime=120,
    conda:
        "../../envs/cpu.yaml"
    script:
        "../scripts/run_stage.py"


rule fsnet_compare:
    input:
        data=FSNET + "/data.zarr",
        baselines=FSNET + "/baselines.zarr",
        arms=fsnet_scenario_arms("forecasts.zarr"),
        runs=fsnet_scenario_arms("evaluate.run.json"),
        code=code("fsnet", "compare"),
    output:
        scenario=FSNET + "/scenario.json",
        run=FSNET + "/compare.run.json",
    log:
        FSNET + "/compare.log",
    params:
        settings=settings("fsnet", "compare"),
        entry=lambda wc: plan.system(wc.root, "fsnet").scenario(wc.scenario).model_dump(exclude={"settings"}),
    resources:
        mem_mb=2000,
        runtime=10,
    conda:
        "../../envs/cpu.yaml"
    script:
        "../scripts/run_stage.py"


rule fsnet_ablation:
    input:
        scenarios=scenario_files("fsnet", "scenario.json"),
        code=code("fsnet", "ablation"),
    output:
        table="{root}/fsnet_{table}.json",
        run="{root}/fsnet/{table}.run.json",
    log:
        "{root}/fsnet/{table}.log",
    params:
        settings={},
        unavailable=unavailable("fsnet"),
    conda:
        "../../envs/cpu.yaml"
    localrule: True
    script:
        "../scripts/run_stage.py"


rule fsnet_plot:
    input:
        table="{root}/fsnet_{table}.json",
        data=scenario_files("fsnet", "data.zarr"),
        code=code("fsnet", "plot"),
    output:
        figures=directory("{root}/fsnet/figures/{table}"),
        run="{root}/fsnet/figures/{table}.run.json",
    log:
        "{root}/fsnet/figures/{table}.log",
    params:
        settings={"language": plan.config.language},
    conda:
        "../../envs/cpu.yaml"
    script:
        "../scripts/run_stage.py"
