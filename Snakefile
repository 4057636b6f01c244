"""Four spatio-temporal deep-learning systems, prepared, trained, evaluated and compared.

snakemake --cores 4 results/fsnet_ablation.json          one system's table
snakemake --cores 2 results/light/fsnet_ablation.json    the same DAG at minutes' size
snakemake --cores 4                                      everything, and results/report.html
"""

from snakemake.utils import min_version

min_version("9.27")


configfile: workflow.source_path("config.yaml")


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/partial.smk"
include: "workflow/rules/sweep.smk"
include: "workflow/rules/bench.smk"
include: "workflow/rules/report.smk"


for name in SYSTEMS:

    include: f"workflow/rules/{name}.smk"


localrules:
    all,
    light,


# Snakemake's limit on jobs a second plants a timer at each look at the ready jobs, whose end is the next look, and a
# job's end is one more: while jobs wait for cores, the looks a second are as many as jobs have ended. Only clusters need it.
onstart:
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None


rule all:
    default_target: True
    input:
        tables("results"),
        figures("results"),
        analyses("results"),
        sweeps("results"),
        benchmarks("results"),
        "results/report.html",


rule light:
    input:
        tables("results/light"),
        figures("results/light"),
        analyses("results/light"),
        sweeps("results/light"),
        "results/light/report.html",
