"""One job of the toy workflow: writes its process id, a curve, a table, and ends as its settings say."""

import os
import time
from pathlib import Path

from pipeline.core.runlog import RunFacts, RunLog

job = snakemake  # noqa: F821 - Snakemake puts it there
settings = dict(job.params.settings)
arm = job.wildcards.get("arm")
table = Path(job.output.table)
table.with_suffix(".pid").write_text(str(os.getpid()))
if settings["how"] == "exit":
    raise SystemExit("this job dies before its record begins")

facts = RunFacts(
    system="toy",
    stage=job.rule.split("_")[0],
    root="results",
    scenario="fast" if arm else None,
    dataset="numbers",
    arm=arm,
    settings=settings,
    seeds=[0],
    inputs={"table": Path(job.input.table)} if arm else {},
    outputs={"table": table},
    rule=job.rule,
    wildcards=dict(job.wildcards),
)
log = RunLog(Path(job.output.run), facts, log_path=job.log[0] if job.log else None)
log.start()
try:
    progress = log.progress(settings["steps"], "steps")
    for step in range(settings["steps"]):
        log.history(step, total=settings["steps"], loss=1 / (1 + step))
        progress.update(step + 1)
        time.sleep(settings["pause"])
    while settings["how"] == "wait" and not Path("go").exists():
        time.sleep(0.05)
    if settings["how"] == "raise":
        raise ValueError("this arm diverges")
    table.write_text("".join(f"{number}\n" for number in range(3)))
    log.finish({"loss": 0.25}, tables=[table])
except BaseException as error:
    log.fail(error)
    raise
