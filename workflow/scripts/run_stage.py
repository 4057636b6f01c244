"""The bridge from Snakemake to the pipeline: the only file that sees the `snakemake` object."""

import sys
from pathlib import Path

from pipeline.core.environment import end_with_parent
from pipeline.core.errors import PipelineError
from pipeline.core.stages import COMMON, Job, run
from pipeline.registry import SYSTEMS, system

end_with_parent()
job = snakemake  # noqa: F821
parts = job.rule.split("_")  # <system>_<stage>; a workflow that uses this one as a module may put a prefix before it
place = next(place for place, part in enumerate(parts) if part in SYSTEMS)
name, stage = parts[place], "_".join(parts[place + 1 :])
params = dict(job.params.items())
facts = {**params, **dict(job.wildcards.items()), "rule": job.rule, "wildcards": dict(job.wildcards.items())}
try:
    run(
        Job(
            system=name,
            stage=stage,
            inputs=dict(job.input.items()),
            outputs=dict(job.output.items()),
            settings=facts.pop("settings"),
            seeds=list(facts.pop("seeds", [0])),
            threads=facts.pop("threads", job.threads),
            device=job.config.get("device", "auto"),
            facts=facts,
            log=Path(job.log[0]),
        ),
        {**COMMON, **system(name).STAGES}[stage],
    )
except PipelineError as error:
    sys.exit(f"{type(error).__name__}: {error}")
