"""Benchmarks: every system beside its plain form and published figures, and the start of the workflow; `make bench`.

A measurement takes all cores of the call, so that nothing runs beside it, and computes on one.
"""


include: "bench_inputs.smk"


for name in MEASURED:

    rule:
        name:
            f"{name}_bench"
        input:
            plain=sources([bench.PLAIN / f"{name}_plain.py"]),
            code=code(name, "bench"),
        output:
            report=f"results/bench/{name}.json",
            run=f"results/bench/{name}.run.json",
        log:
            f"results/bench/{name}.log",
        benchmark:
            f"results/bench/{name}.benchmark.tsv"
        conda:
            "../../envs/cpu.yaml"
        threads: workflow._cores or 1
        resources:
            mem_mb=growing(6000),  # measured: 4230 MB (SMASH, its plain form)
            runtime=growing(60),  # minutes; measured: 41 s of CPU (SMASH), 15 s (R-STMRF)
        params:
            settings={},
            threads=1,
        script:
            "../scripts/run_stage.py"


rule benchmarks:
    input:
        [f"results/bench/{name}.json" for name in MEASURED],
    output:
        report="results/benchmarks.json",
        page=report(
            "results/benchmarks.html",
            caption="../report/bench.rst",
            category="benchmarks",
        ),
    log:
        "results/benchmarks.log",
    localrule: True
    threads: workflow._cores or 1
    run:
        write_benchmarks(input, output.report, log[0])
