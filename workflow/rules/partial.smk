"""Tables of what has finished when jobs have failed: Snakemake is called once more, for the tables alone.

That call gets what is lost as `config["partial"]`, and the plan leaves it out (see pipeline.core.partial); the first
call fails all the same. The next ordinary call takes up what failed, and the tables after it.
"""

import json
import signal
import subprocess
import threading
import time

from pipeline.core.partial import Work, losses

began = time.time()
interrupted = []


def note_interrupt(number, frame):
    """Ctrl-C ends the jobs, too, which look as if they had failed; nothing is to be started after it."""
    interrupted.append(number)
    signal.default_int_handler(number, frame)


if workflow.is_main_process and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, note_interrupt)


def planned(job, places):
    """A job of the DAG as what `losses` reads."""
    system, _, stage = job.rule.name.partition("_")
    known = system in SYSTEMS
    record = next((Path(path) for path in job.output if str(path).endswith(".run.json")), None)
    return Work(
        stage=stage if known else job.rule.name,
        finished=workflow.dag.finished(job),
        needs=tuple(places[other] for other in workflow.dag.dependencies[job] if other in places),
        system=system if known else None,
        run=record,
        log=Path(job.log[0]) if job.log else None,
        **{name: job.wildcards_dict.get(name) for name in ("root", "scenario", "arm")},
    )


def shows_anything(job):
    """Whether the table that a job belongs to has a scenario left."""
    system, root, table = job.rule.name.partition("_")[0], *map(job.wildcards_dict.get, ("root", "table"))
    return bool(job.output) and (table is None or plan.stands(system, root, table))


def build_partial_tables():
    """Call Snakemake for the tables that failed jobs have held up, if there is anything to show."""
    scheduler = workflow.scheduler
    stopped = interrupted or scheduler._user_kill or scheduler.running
    if stopped or not scheduler.failed or not scheduler.keepgoing:
        return  # or told to stop at the first failure
    if not workflow.is_main_process or "partial" in config:
        return
    jobs = list(workflow.dag.needrun_jobs(exclude_finished=False))
    places = {job: place for place, job in enumerate(jobs)}
    lost = losses([planned(job, places) for job in jobs], began)
    partial = lost.plain()
    plan.lose(lost)
    targets = [str(jobs[place].output[0]) for place in lost.tables if shows_anything(jobs[place])]
    if not lost or not targets:
        return
    print("Some jobs have failed: tables are built of what has finished, with the rest marked.", file=sys.stderr)
    order = {"arguments": sys.argv[1:], "targets": targets, "partial": partial}
    call = [sys.executable, workflow.source_path("../scripts/build_partial.py")]
    subprocess.run(call, input=json.dumps(order), text=True)


onerror:
    build_partial_tables()
