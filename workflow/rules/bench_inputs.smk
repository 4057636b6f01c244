"""What the benchmarks are made of, and when they are part of everything."""

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
