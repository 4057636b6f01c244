"""The report: one HTML file with every table, figure and analysis, and the DAG as pictures; opens from disk."""


include: "report_inputs.smk"


report: "../report/workflow.rst"


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
    log:
        "{root}/graph.log",
    localrule: True
    run:
        draw_graph(pages(wildcards.root), log[0], output.graph)


rule report:
    input:
        pages=lambda wc: pages(wc.root),
        sweeps=lambda wc: sweeps(wc.root),
        benchmarks=lambda wc: benchmarks(wc.root),
        graph="{root}/graph",
    output:
        html="{root}/report.html",
    log:
        "{root}/report.log",
    localrule: True
    run:
        call_again(["--report", output.html, *input], log[0])
