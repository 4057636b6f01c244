"""Benchmarks: every system beside its plain form and published figures, and the start of the workflow; `make bench`.

A measurement takes all cores of the call, so that nothing runs beside it, and computes on one.
"""

from pipeline.core import bench
from pipeline.core.store import read_json


def benchmarks(root):
    """The report of the benchmarks, of full size alone, where the plain forms are: they come with a checkout only."""
    return f"{root}/benchmarks.json" if root == "results" and bench.PLAIN.is_dir() else []


def write_benchmarks(parts, path, log):
    """Join what the systems have measured, measure the start of the workflow, and write both."""
    measures = {Path(part).stem: lambda part=part: read_json(part) for part in parts}
    measures["workflow"] = lambda: bench.start(list(SYSTEMS))
    Path(path).unlink(missing_ok=True)  # it would keep what another call has measured
    with open(log, "w") as told:
        bench.run(measures, path, lambda line: print(line, file=told, flush=True))


MEASURED = [name for name in SYSTEMS if "bench" in plan.stages[name]]

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
