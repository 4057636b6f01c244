"""SMASH: prepare, baselines with ETAS, train, evaluate, compare, table, figures, sampling-time study."""


include: "smash_inputs.smk"


rule smash_prepare:
    input:
        raw=lambda wc: plan.raw_files("smash", wc.root, wc.scenario, mode()),
        code=code("smash", "prepare"),
    output:
        data="{root}/smash/{dataset}/{scenario}/prepared.pkl",
        zarr=directory("{root}/smash/{dataset}/{scenario}/data.zarr"),
        run="{root}/smash/{dataset}/{scenario}/prepare.run.json",
    log:
        "{root}/smash/{dataset}/{scenario}/prepare.log",
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),  # measured: 190 MB (Earthquake)
        runtime=growing(5),  # minutes; measured: 1 CPU s
    params:
        settings=settings("smash", "prepare"),
        seeds=smash_first_seed,
        source=source("smash"),
    script:
        "../scripts/run_stage.py"


rule smash_baselines:
    input:
        data="{root}/smash/{dataset}/{scenario}/prepared.pkl",
        code=code("smash", "baselines"),
    output:
        scores=directory("{root}/smash/{dataset}/{scenario}/baselines.zarr"),
        fitted="{root}/smash/{dataset}/{scenario}/etas.json",
        csep=directory("{root}/smash/{dataset}/{scenario}/csep"),
        run="{root}/smash/{dataset}/{scenario}/baselines.run.json",
    log:
        "{root}/smash/{dataset}/{scenario}/baselines.log",
    benchmark:
        "{root}/smash/{dataset}/{scenario}/baselines.benchmark.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),  # measured: 1430 MB (Earthquake), 1130 MB (crime), 1020 MB (football)
        runtime=growing(60),  # minutes; measured: 112, 97 and 101 CPU s
    params:
        settings=settings("smash", "baselines"),
        baselines=scenario("smash", "baselines"),
    script:
        "../scripts/run_stage.py"


rule smash_train:
    input:
        unpack(smash_arm_inputs),
        code=code("smash", "train"),
    output:
        weights="{root}/smash/{dataset}/{scenario}/{arm}/weights.safetensors",
        run="{root}/smash/{dataset}/{scenario}/{arm}/train.run.json",
    log:
        "{root}/smash/{dataset}/{scenario}/{arm}/train.log",
    benchmark:
        "{root}/smash/{dataset}/{scenario}/{arm}/train.benchmark.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),  # measured: 1040 MB (Earthquake), 830 MB (crime), 690 MB (football)
        runtime=growing(600),  # minutes; measured: 28, 47, 100 CPU s a seed; score matching 74 and 30 (Earthquake)
        gpu=smash_train_gpu,
    params:
        settings=settings("smash", "train"),
        seeds=scenario("smash", "seeds"),
    script:
        "../scripts/run_stage.py"


rule smash_evaluate:
    input:
        unpack(smash_forecast_inputs),
        code=code("smash", "evaluate"),
    output:
        scores=directory("{root}/smash/{dataset}/{scenario}/{arm}/scores.zarr"),
        samples=directory("{root}/smash/{dataset}/{scenario}/{arm}/samples.zarr"),
        run="{root}/smash/{dataset}/{scenario}/{arm}/evaluate.run.json",
    log:
        "{root}/smash/{dataset}/{scenario}/{arm}/evaluate.log",
    benchmark:
        "{root}/smash/{dataset}/{scenario}/{arm}/evaluate.benchmark.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),  # measured: 670 MB (Earthquake), 880 MB (crime)
        runtime=growing(1200),  # minutes; measured: 20 (exact, Earthquake), 33 (exact, crime), 15 CPU s a seed (football)
    params:
        settings=settings("smash", "evaluate"),
        seeds=scenario("smash", "seeds"),
    script:
        "../scripts/run_stage.py"


rule smash_compare:
    input:
        data="{root}/smash/{dataset}/{scenario}/prepared.pkl",
        baselines="{root}/smash/{dataset}/{scenario}/baselines.zarr",
        fitted="{root}/smash/{dataset}/{scenario}/etas.json",
        arms=arm_files("smash", "scores.zarr"),
        runs=arm_files("smash", "evaluate.run.json"),
        code=code("smash", "compare"),
    output:
        scenario="{root}/smash/{dataset}/{scenario}/scenario.json",
        run="{root}/smash/{dataset}/{scenario}/compare.run.json",
    log:
        "{root}/smash/{dataset}/{scenario}/compare.log",
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),  # measured: 310 MB (Earthquake)
        runtime=growing(20),  # minutes; measured: 2 CPU s (Earthquake)
    params:
        settings=settings("smash", "compare"),
        entry=lambda wc: plan.system(wc.root, "smash").scenario(wc.scenario).model_dump(exclude={"settings"}),
    script:
        "../scripts/run_stage.py"


rule smash_ablation:
    input:
        scenarios=scenario_files("smash", "scenario.json"),
        code=code("smash", "ablation"),
    output:
        table="{root}/smash_{table}.json",
        run="{root}/smash/{table}.run.json",
    log:
        "{root}/smash/{table}.log",
    wildcard_constraints:
        table="(?!sampling[.])[a-z][a-z0-9_]*",
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    params:
        settings={},
        unavailable=unavailable("smash"),
        failed=failed("smash"),
    script:
        "../scripts/run_stage.py"


rule smash_plot:
    input:
        table="{root}/smash_{table}.json",
        data=scenario_files("smash", "prepared.pkl"),
        fitted=scenario_files("smash", "etas.json"),
        samples=smash_table_arms("samples.zarr"),
        weights=smash_field_weights,
        sampling=smash_study,
        code=code("smash", "plot"),
    output:
        figures=directory("{root}/smash/figures/{table}"),
        run="{root}/smash/figures/{table}.run.json",
    log:
        "{root}/smash/figures/{table}.log",
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),  # measured: 460 MB (light)
        runtime=growing(20),  # minutes; measured: 13 CPU s (light)
    params:
        settings={"language": plan.config.language},
    script:
        "../scripts/run_stage.py"


rule smash_analyse:
    input:
        table="{root}/smash_{table}.json",
        sampling=smash_study,
        code=code("smash", "analyse"),
    output:
        report="{root}/smash_{table}_analysis.md",
        run="{root}/smash/{table}_analysis.run.json",
    log:
        "{root}/smash/{table}_analysis.log",
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    params:
        settings={"language": plan.config.language},
    script:
        "../scripts/run_stage.py"


rule smash_sampling:
    input:
        unpack(smash_sampled),
        code=code("smash", "sampling"),
    output:
        table="{root}/smash_sampling.json",
        run="{root}/smash/sampling.run.json",
    log:
        "{root}/smash/sampling.log",
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),  # measured: 300 MB (light)
        runtime=growing(60),  # minutes; measured: 60 s (light)
    params:
        settings={},
    script:
        "../scripts/run_stage.py"
