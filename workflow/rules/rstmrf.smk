"""R-STMRF: background maps a day, worlds, train, evaluate, baselines, compare, table, memory, figures."""


include: "rstmrf_inputs.smk"


rule rstmrf_iri:
    input:
        code=code("rstmrf", "iri"),
    output:
        maps=directory("{root}/rstmrf/iri/{day}.zarr"),
        run="{root}/rstmrf/iri/{day}.run.json",
    log:
        "{root}/rstmrf/iri/{day}.log",
    wildcard_constraints:
        day=r"\d{8}",
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(1500),  # measured: 690 MB
        runtime=growing(5),  # minutes; measured: 12 s of CPU
    params:
        settings=rstmrf_iri_settings,
    script:
        "../scripts/run_stage.py"


rule rstmrf_prepare:
    input:
        days=rstmrf_days,
        raw=lambda wc: plan.raw_files("rstmrf", wc.root, wc.scenario, mode()),
        code=code("rstmrf", "prepare"),
    output:
        worlds=directory("{root}/rstmrf/{dataset}/{scenario}/worlds.zarr"),
        truth=directory("{root}/rstmrf/{dataset}/{scenario}/truth.zarr"),
        run="{root}/rstmrf/{dataset}/{scenario}/prepare.run.json",
    log:
        "{root}/rstmrf/{dataset}/{scenario}/prepare.log",
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),  # measured: 850 MB
        runtime=growing(10),  # minutes; measured: 13 s of CPU
    params:
        settings=settings("rstmrf", "prepare"),
        source=source("rstmrf"),
    script:
        "../scripts/run_stage.py"


rule rstmrf_tec:
    input:
        raw=lambda wc: plan.raw_files("rstmrf", wc.root, wc.scenario, mode()),
        code=code("rstmrf", "tec"),
    output:
        tec=directory("{root}/rstmrf/{dataset}/{scenario}/tec.zarr"),
        run="{root}/rstmrf/{dataset}/{scenario}/tec.run.json",
    log:
        "{root}/rstmrf/{dataset}/{scenario}/tec.log",
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),  # measured: 270 MB (two days of maps)
        runtime=growing(10),  # minutes; measured: 6 s (two days of maps)
    params:
        settings=settings("rstmrf", "tec"),
        source=source("rstmrf"),
    script:
        "../scripts/run_stage.py"


rule rstmrf_baselines:
    input:
        worlds="{root}/rstmrf/{dataset}/{scenario}/worlds.zarr",
        code=code("rstmrf", "baselines"),
    output:
        estimates=directory("{root}/rstmrf/{dataset}/{scenario}/baselines.zarr"),
        run="{root}/rstmrf/{dataset}/{scenario}/baselines.run.json",
    log:
        "{root}/rstmrf/{dataset}/{scenario}/baselines.log",
    benchmark:
        "{root}/rstmrf/{dataset}/{scenario}/baselines.benchmark.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing_with_world(3000),  # measured: 1430 MB, 3720 MB in a month
        runtime=growing(60),  # minutes; measured: 240 s of CPU
    params:
        settings=settings("rstmrf", "baselines"),
        baselines=scenario("rstmrf", "baselines"),
    script:
        "../scripts/run_stage.py"


rule rstmrf_train:
    input:
        worlds="{root}/rstmrf/{dataset}/{scenario}/worlds.zarr",
        code=code("rstmrf", "train"),
    output:
        models=directory("{root}/rstmrf/{dataset}/{scenario}/{arm}/models"),
        summary="{root}/rstmrf/{dataset}/{scenario}/{arm}/training.json",
        run="{root}/rstmrf/{dataset}/{scenario}/{arm}/train.run.json",
    log:
        "{root}/rstmrf/{dataset}/{scenario}/{arm}/train.log",
    benchmark:
        "{root}/rstmrf/{dataset}/{scenario}/{arm}/train.benchmark.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing_with_world(3000),  # measured: 1790 MB, 4380 MB in a month
        runtime=growing(120),  # minutes; measured: 640 s of CPU
        gpu=gpu("rstmrf", "train"),
    params:
        settings=settings("rstmrf", "train"),
        seeds=scenario("rstmrf", "seeds"),
    script:
        "../scripts/run_stage.py"


rule rstmrf_evaluate:
    input:
        worlds="{root}/rstmrf/{dataset}/{scenario}/worlds.zarr",
        models="{root}/rstmrf/{dataset}/{scenario}/{arm}/models",
        summary="{root}/rstmrf/{dataset}/{scenario}/{arm}/training.json",
        code=code("rstmrf", "evaluate"),
    output:
        estimates=directory("{root}/rstmrf/{dataset}/{scenario}/{arm}/estimates.zarr"),
        run="{root}/rstmrf/{dataset}/{scenario}/{arm}/evaluate.run.json",
    log:
        "{root}/rstmrf/{dataset}/{scenario}/{arm}/evaluate.log",
    benchmark:
        "{root}/rstmrf/{dataset}/{scenario}/{arm}/evaluate.benchmark.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing_with_world(2500),  # measured: 1210 MB, 4160 MB in a month
        runtime=growing(60),  # minutes; measured: 29 s of CPU
        gpu=gpu("rstmrf", "evaluate"),
    params:
        settings=settings("rstmrf", "evaluate"),
        seeds=scenario("rstmrf", "seeds"),
    script:
        "../scripts/run_stage.py"


rule rstmrf_compare:
    input:
        worlds="{root}/rstmrf/{dataset}/{scenario}/worlds.zarr",
        truth="{root}/rstmrf/{dataset}/{scenario}/truth.zarr",
        baselines="{root}/rstmrf/{dataset}/{scenario}/baselines.zarr",
        arms=arm_files("rstmrf", "estimates.zarr"),
        runs=arm_files("rstmrf", "evaluate.run.json"),
        trainings=arm_files("rstmrf", "train.run.json"),
        code=code("rstmrf", "compare"),
    output:
        scenario="{root}/rstmrf/{dataset}/{scenario}/scenario.json",
        run="{root}/rstmrf/{dataset}/{scenario}/compare.run.json",
    log:
        "{root}/rstmrf/{dataset}/{scenario}/compare.log",
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),  # measured: 860 MB
        runtime=growing(10),  # minutes; measured: 7 s of CPU
    params:
        settings=settings("rstmrf", "compare"),
        source=source("rstmrf"),
        entry=lambda wc: plan.system(wc.root, "rstmrf").scenario(wc.scenario).model_dump(exclude={"settings"}),
    script:
        "../scripts/run_stage.py"


rule rstmrf_memory:
    input:
        scenarios=scenario_files("rstmrf", "scenario.json"),
        code=code("rstmrf", "memory"),
    output:
        table="{root}/rstmrf_{table,memory}.json",
        figure="{root}/rstmrf/figures/{table}.png",
        run="{root}/rstmrf/{table}.run.json",
    log:
        "{root}/rstmrf/{table}.log",
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(1500),  # measured: 270 MB (scenario tradeoffs)
        runtime=growing(10),  # minutes; measured: 2 s of CPU
    params:
        settings={"language": plan.config.language},
    script:
        "../scripts/run_stage.py"


ruleorder: rstmrf_memory > rstmrf_ablation


rule rstmrf_ablation:
    input:
        scenarios=scenario_files("rstmrf", "scenario.json"),
        code=code("rstmrf", "ablation"),
    output:
        table="{root}/rstmrf_{table}.json",
        run="{root}/rstmrf/{table}.run.json",
    log:
        "{root}/rstmrf/{table}.log",
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    params:
        settings={},
        unavailable=unavailable("rstmrf"),
        failed=failed("rstmrf"),
    script:
        "../scripts/run_stage.py"


rule rstmrf_plot:
    input:
        table="{root}/rstmrf_{table}.json",
        worlds=scenario_files("rstmrf", "worlds.zarr"),
        truth=scenario_files("rstmrf", "truth.zarr"),
        baselines=scenario_files("rstmrf", "baselines.zarr"),
        estimates=rstmrf_table_estimates,
        code=code("rstmrf", "plot"),
    output:
        figures=directory("{root}/rstmrf/figures/{table}"),
        run="{root}/rstmrf/figures/{table}.run.json",
    log:
        "{root}/rstmrf/figures/{table}.log",
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(1500),  # measured: 630 MB (the default table)
        runtime=growing(10),  # minutes; measured: 16 s of CPU
    params:
        settings={"language": plan.config.language},
    script:
        "../scripts/run_stage.py"


rule rstmrf_analyse:
    input:
        table="{root}/rstmrf_{table}.json",
        code=code("rstmrf", "analyse"),
    output:
        report="{root}/rstmrf_{table}_analysis.md",
        run="{root}/rstmrf/{table}_analysis.run.json",
    log:
        "{root}/rstmrf/{table}_analysis.log",
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    params:
        settings={"language": plan.config.language},
    script:
        "../scripts/run_stage.py"
