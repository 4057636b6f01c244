"""The report: one HTML file with every table, figure and analysis, and the DAG as pictures; opens from disk."""

import json
import subprocess
import sys
import tempfile


report: "../report/workflow.rst"


def pages(root):
    return [f"{root}/{name}/report/ablation" for name in standing(root)]


def call_again(arguments, **more):
    """Snakemake on the same Snakefile with this very configuration, while this one holds the lock."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(config, file)
        file.flush()
        call = [sys.executable, "-m", "snakemake", "--snakefile", workflow.main_snakefile, "--cores", "1", "--nolock"]
        call += ["--configfile", file.name, "--workflow-profile", "none", *map(str, arguments)]
        return subprocess.run(call, check=True, text=True, **more)


for name in SYSTEMS:

    rule:
        name:
            f"{name}_page"
        input:
            table=f"{{root}}/{name}_{{table}}.json",
            figures=f"{{root}}/{name}/figures/{{table}}",
            analysis=f"{{root}}/{name}_{{table}}_analysis.md",
            code=code(name, "page"),
        output:
            pages=report(
                directory(f"{{root}}/{name}/report/{{table}}"),
                patterns=["{show}.html", "{show}.png"],
                caption="../report/page.rst",
                category=name,
                subcategory="{table}",
                labels={"show": "{show}"},
            ),
            run=f"{{root}}/{name}/report/{{table}}.run.json",
        log:
            f"{{root}}/{name}/report/{{table}}.log",
        localrule: True
        conda:
            "../../envs/cpu.yaml"
        params:
            settings={},
        script:
            "../scripts/run_stage.py"


rule graph:
    input:
        tables=lambda wc: tables(wc.root),
    output:
        graph=report(
            directory("{root}/graph"),
            patterns=["{show}.png"],
            caption="../report/graph.rst",
            category="DAG",
            labels={"show": "{show}"},
        ),
    localrule: True
    run:
        found = call_again(["--dag", "dot", *pages(wildcards.root)], stdout=subprocess.PIPE).stdout
        draw = [sys.executable, "-m", "pipeline", "graph", "--out", output.graph]
        subprocess.run(draw, input=found, text=True, check=True)


rule report:
    input:
        pages=lambda wc: pages(wc.root),
        sweeps=lambda wc: sweeps(wc.root),
        graph="{root}/graph",
    output:
        html="{root}/report.html",
    localrule: True
    run:
        call_again(["--report", output.html, *input])
