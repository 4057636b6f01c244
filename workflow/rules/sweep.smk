"""Sweeps of every system: a table as JSON and CSV, and a plot of the metric against the swept values."""


def sweeps(root):
    """Pictures of all sweeps in the configuration; their tables come with them."""
    return [f"{root}/{name}_{table}.png" for name in SYSTEMS for table in plan.sweeps(name, root)]


for name in SYSTEMS:

    rule:
        name:
            f"{name}_sweep"
        input:
            scenarios=scenario_files(name, "scenario.json"),
            code=code(name, "sweep"),
        output:
            table=f"{{root}}/{name}_{{table}}.json",
            csv=f"{{root}}/{name}_{{table}}.csv",
            figure=report(
                f"{{root}}/{name}_{{table}}.png",
                caption="../report/sweep.rst",
                category=name,
                subcategory="sweeps",
                labels={"show": "{table}"},
            ),
            run=f"{{root}}/{name}/{{table}}.run.json",
        log:
            f"{{root}}/{name}/{{table}}.log",
        wildcard_constraints:
            table="sweep_[a-z0-9_]+",
        localrule: True
        conda:
            "../../envs/cpu.yaml"
        params:
            settings={"language": plan.config.language},
            unavailable=unavailable(name),
            failed=failed(name),
            sweep=lambda wc, system=name: plan.sweep(system, wc.root, wc.table),
        script:
            "../scripts/run_stage.py"
