"""FSNet: prepare, train, stream (evaluate), baselines, compare, table, figures."""


include: "fsnet_inputs.smk"


rule fsnet_prepare:
    input:
        raw=lambda wc: plan.raw_files("fsnet", wc.root, wc.scenario, mode()),
        code=code("fsnet", "prepare"),
    output:
        data=directory("{root}/fsnet/{dataset}/{scenario}/data.zarr"),
        run="{root}/fsnet/{dataset}/{scenario}/prepare.run.json",
    log:
        "{root}/fsnet/{dataset}/{scenario}/prepare.log",
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),  # measured: 180 MB (WTH, 35,064 rows)
        runtime=growing(5),  # minutes; measured: 2 s
    params:
        settings=settings("fsnet", "prepare"),
        seeds=fsnet_realizations,
        source=source("fsnet"),
    script:
        "../scripts/run_stage.py"


rule fsnet_train:
    input:
        data="{root}/fsnet/{dataset}/{scenario}/data.zarr",
        code=code("fsnet", "train"),
    output:
        weights="{root}/fsnet/{dataset}/{scenario}/{arm}/pretrained.safetensors",
        run="{root}/fsnet/{dataset}/{scenario}/{arm}/train.run.json",
    log:
        "{root}/fsnet/{dataset}/{scenario}/{arm}/train.log",
    benchmark:
        "{root}/fsnet/{dataset}/{scenario}/{arm}/train.benchmark.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),  # measured: 820 MB (regimes, 5 seeds side by side)
        runtime=growing(30),  # minutes; measured: 17 s
        gpu=gpu("fsnet", "train"),
    params:
        settings=settings("fsnet", "train"),
        seeds=scenario("fsnet", "seeds"),
    script:
        "../scripts/run_stage.py"


rule fsnet_baselines:
    input:
        data="{root}/fsnet/{dataset}/{scenario}/data.zarr",
        code=code("fsnet", "baselines"),
    output:
        forecasts=directory("{root}/fsnet/{dataset}/{scenario}/baselines.zarr"),
        run="{root}/fsnet/{dataset}/{scenario}/baselines.run.json",
    log:
        "{root}/fsnet/{dataset}/{scenario}/baselines.log",
    benchmark:
        "{root}/fsnet/{dataset}/{scenario}/baselines.benchmark.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(1500),  # measured: 590 MB (WTH)
        runtime=growing(60),  # minutes; measured: 7 (WTH)
    params:
        settings=settings("fsnet", "baselines"),
        baselines=scenario("fsnet", "baselines"),
    script:
        "../scripts/run_stage.py"


rule fsnet_evaluate:
    input:
        unpack(fsnet_arm_inputs),
        code=code("fsnet", "evaluate"),
    output:
        forecasts=directory("{root}/fsnet/{dataset}/{scenario}/{arm}/forecasts.zarr"),
        run="{root}/fsnet/{dataset}/{scenario}/{arm}/evaluate.run.json",
    log:
        "{root}/fsnet/{dataset}/{scenario}/{arm}/evaluate.log",
    benchmark:
        "{root}/fsnet/{dataset}/{scenario}/{arm}/evaluate.benchmark.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(1500),  # measured: 470 MB (regimes, 5 seeds)
        runtime=growing(120),  # minutes; measured: 6 (regimes, 5 seeds)
        gpu=gpu("fsnet", "evaluate"),
    params:
        settings=settings("fsnet", "evaluate"),
        seeds=scenario("fsnet", "seeds"),
    script:
        "../scripts/run_stage.py"


rule fsnet_compare:
    input:
        data="{root}/fsnet/{dataset}/{scenario}/data.zarr",
        baselines="{root}/fsnet/{dataset}/{scenario}/baselines.zarr",
        arms=arm_files("fsnet", "forecasts.zarr"),
        runs=arm_files("fsnet", "evaluate.run.json"),
        code=code("fsnet", "compare"),
    output:
        scenario="{root}/fsnet/{dataset}/{scenario}/scenario.json",
        run="{root}/fsnet/{dataset}/{scenario}/compare.run.json",
    log:
        "{root}/fsnet/{dataset}/{scenario}/compare.log",
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),  # measured: 240 MB (WTH)
        runtime=growing(10),  # minutes; measured: 9 s
    params:
        settings=settings("fsnet", "compare"),
        entry=lambda wc: plan.system(wc.root, "fsnet").scenario(wc.scenario).model_dump(exclude={"settings"}),
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
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    params:
        settings={},
        unavailable=unavailable("fsnet"),
        failed=failed("fsnet"),
    script:
        "../scripts/run_stage.py"


rule fsnet_plot:
    input:
        table="{root}/fsnet_{table}.json",
        data=scenario_files("fsnet", "data.zarr"),
        forecasts=fsnet_table_forecasts,
        code=code("fsnet", "plot"),
    output:
        figures=directory("{root}/fsnet/figures/{table}"),
        run="{root}/fsnet/figures/{table}.run.json",
    log:
        "{root}/fsnet/figures/{table}.log",
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(1500),  # measured: 320 MB
        runtime=growing(10),  # minutes; measured: 20 s
    params:
        settings={"language": plan.config.language},
    script:
        "../scripts/run_stage.py"


rule fsnet_analyse:
    input:
        table="{root}/fsnet_{table}.json",
        code=code("fsnet", "analyse"),
    output:
        report="{root}/fsnet_{table}_analysis.md",
        run="{root}/fsnet/{table}_analysis.run.json",
    log:
        "{root}/fsnet/{table}_analysis.log",
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    params:
        settings={"language": plan.config.language},
    script:
        "../scripts/run_stage.py"
