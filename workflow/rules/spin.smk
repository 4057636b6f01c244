"""SPIN: prepare, train, impute (evaluate), baselines, compare, table, parameters, figures."""


include: "spin_inputs.smk"


rule spin_prepare:
    input:
        raw=lambda wc: plan.raw_files("spin", wc.root, wc.scenario, mode()),
        code=code("spin", "prepare"),
    output:
        data=directory("{root}/spin/{dataset}/{scenario}/data.zarr"),
        run="{root}/spin/{dataset}/{scenario}/prepare.run.json",
    log:
        "{root}/spin/{dataset}/{scenario}/prepare.log",
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(1500),  # measured: 190 MB (METR-LA week)
        runtime=growing(20),  # minutes; measured: 14 s of CPU (the simulated city)
    params:
        settings=settings("spin", "prepare"),
        source=source("spin"),
    script:
        "../scripts/run_stage.py"


rule spin_baselines:
    input:
        data="{root}/spin/{dataset}/{scenario}/data.zarr",
        code=code("spin", "baselines"),
    output:
        imputations=directory("{root}/spin/{dataset}/{scenario}/baselines.zarr"),
        run="{root}/spin/{dataset}/{scenario}/baselines.run.json",
    log:
        "{root}/spin/{dataset}/{scenario}/baselines.log",
    benchmark:
        "{root}/spin/{dataset}/{scenario}/baselines.benchmark.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),  # measured: 760 MB (AQI-36)
        runtime=growing(30),  # minutes; measured: 190 s of CPU (METR-LA week)
    params:
        settings=settings("spin", "baselines"),
        baselines=scenario("spin", "baselines"),
    script:
        "../scripts/run_stage.py"


rule spin_train:
    input:
        unpack(spin_train_inputs),
        code=code("spin", "train"),
    output:
        weights="{root}/spin/{dataset}/{scenario}/{arm}/weights.safetensors",
        run="{root}/spin/{dataset}/{scenario}/{arm}/train.run.json",
    log:
        "{root}/spin/{dataset}/{scenario}/{arm}/train.log",
    benchmark:
        "{root}/spin/{dataset}/{scenario}/{arm}/train.benchmark.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),  # measured: 1590 MB (spin_residual, lanes with outages)
        runtime=growing(600),  # minutes; measured: 260 s of CPU; the published recipe is hours long
        gpu=gpu("spin", "train"),
    params:
        settings=settings("spin", "train"),
        seeds=scenario("spin", "seeds"),
    script:
        "../scripts/run_stage.py"


rule spin_evaluate:
    input:
        unpack(spin_arm_inputs),
        code=code("spin", "evaluate"),
    output:
        imputations=directory("{root}/spin/{dataset}/{scenario}/{arm}/imputations.zarr"),
        run="{root}/spin/{dataset}/{scenario}/{arm}/evaluate.run.json",
    log:
        "{root}/spin/{dataset}/{scenario}/{arm}/evaluate.log",
    benchmark:
        "{root}/spin/{dataset}/{scenario}/{arm}/evaluate.benchmark.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),  # measured: 870 MB (spin_residual, lanes)
        runtime=growing(60),  # minutes; measured: 20 s of CPU (spin_residual, METR-LA week)
        gpu=gpu("spin", "evaluate"),
    params:
        settings=settings("spin", "evaluate"),
        seeds=scenario("spin", "seeds"),
    script:
        "../scripts/run_stage.py"


rule spin_compare:
    input:
        data="{root}/spin/{dataset}/{scenario}/data.zarr",
        baselines="{root}/spin/{dataset}/{scenario}/baselines.zarr",
        arms=arm_files("spin", "imputations.zarr"),
        runs=arm_files("spin", "evaluate.run.json"),
        code=code("spin", "compare"),
    output:
        scenario="{root}/spin/{dataset}/{scenario}/scenario.json",
        run="{root}/spin/{dataset}/{scenario}/compare.run.json",
    log:
        "{root}/spin/{dataset}/{scenario}/compare.log",
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),  # measured: 270 MB (METR-LA week)
        runtime=growing(15),  # minutes; measured: 2 s of CPU
    params:
        settings=settings("spin", "compare"),
        entry=lambda wc: plan.system(wc.root, "spin").scenario(wc.scenario).model_dump(exclude={"settings"}),
    script:
        "../scripts/run_stage.py"


rule spin_ablation:
    input:
        scenarios=scenario_files("spin", "scenario.json"),
        code=code("spin", "ablation"),
    output:
        table="{root}/spin_{table}.json",
        run="{root}/spin/{table}.run.json",
    log:
        "{root}/spin/{table}.log",
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    params:
        settings={},
        unavailable=unavailable("spin"),
        failed=failed("spin"),
    script:
        "../scripts/run_stage.py"


rule spin_parameters:
    input:
        table="{root}/spin_ablation.json",
        code=code("spin", "parameters"),
    output:
        parameters="{root}/spin/parameters.json",
        run="{root}/spin/parameters.run.json",
    log:
        "{root}/spin/parameters.log",
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    params:
        settings={},
    script:
        "../scripts/run_stage.py"


rule spin_plot:
    input:
        table="{root}/spin_{table}.json",
        code=code("spin", "plot"),
    output:
        figures=directory("{root}/spin/figures/{table}"),
        run="{root}/spin/figures/{table}.run.json",
    log:
        "{root}/spin/figures/{table}.log",
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(1500),  # measured: 130 MB (light)
        runtime=growing(10),  # minutes; measured: 4 s (light)
    params:
        settings={"language": plan.config.language},
    script:
        "../scripts/run_stage.py"


rule spin_analyse:
    input:
        table="{root}/spin_{table}.json",
        parameters="{root}/spin/parameters.json",
        attention=plainly(spin_attention_reports),
        code=code("spin", "analyse"),
    output:
        report="{root}/spin_{table}_analysis.md",
        run="{root}/spin/{table}_analysis.run.json",
    log:
        "{root}/spin/{table}_analysis.log",
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    params:
        settings={"language": plan.config.language},
    script:
        "../scripts/run_stage.py"


rule spin_attention:
    input:
        data="{root}/spin/{dataset}/{scenario}/data.zarr",
        weights="{root}/spin/{dataset}/{scenario}/{arm}/weights.safetensors",
        code=code("spin", "attention"),
    output:
        store=directory("{root}/spin/{dataset}/{scenario}/{arm}/attention.zarr"),
        report="{root}/spin/{dataset}/{scenario}/{arm}/attention.json",
        page="{root}/spin/{dataset}/{scenario}/{arm}/attention.html",
        figures=directory("{root}/spin/{dataset}/{scenario}/{arm}/attention"),
        run="{root}/spin/{dataset}/{scenario}/{arm}/attention.run.json",
    log:
        "{root}/spin/{dataset}/{scenario}/{arm}/attention.log",
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),  # measured: 470 MB (light)
        runtime=growing(20),  # minutes; measured: 4 s of CPU (light)
    params:
        settings=settings("spin", "attention"),
        seeds=scenario("spin", "seeds"),
    script:
        "../scripts/run_stage.py"
