"""What the report is made of, and how it calls Snakemake."""

import json
import subprocess
import sys
import tempfile


def pages(root):
    return [f"{root}/{name}/report/ablation" for name in standing(root)]


def call_again(arguments, log, **more):
    """Snakemake on the same Snakefile with this very configuration, while this one holds the lock."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file, open(log, "w") as told:
        json.dump(config, file)
        file.flush()
        call = [sys.executable, "-m", "snakemake", "--snakefile", workflow.main_snakefile, "--cores", "1", "--nolock"]
        call += ["--configfile", file.name, "--workflow-profile", "none", *map(str, arguments)]
        return subprocess.run(call, check=True, text=True, stderr=told, **more)


def draw_graph(targets, log, folder):
    """Pictures of what is made for these targets."""
    found = call_again(["--dag", "dot", *targets], log, stdout=subprocess.PIPE).stdout
    draw = [sys.executable, "-m", "pipeline", "graph", "--out", folder]
    subprocess.run(draw, input=found, text=True, check=True)
