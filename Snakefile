"""Four spatio-temporal deep-learning systems, prepared, trained, evaluated and compared.

snakemake --cores 4 results/fsnet_ablation.json          one system's table
snakemake --cores 2 results/light/fsnet_ablation.json    the same DAG at minutes' size
"""

from snakemake.utils import min_version

min_version("9.27")


configfile: workflow.source_path("config.yaml")


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/fsnet.smk"
include: "workflow/rules/rstmrf.smk"


localrules:
    all,
    light,


rule all:
    default_target: True
    input:
        tables("results"),
        figures("results"),
        analyses("results"),


rule light:
    input:
        tables("results/light"),
        figures("results/light"),
        analyses("results/light"),
