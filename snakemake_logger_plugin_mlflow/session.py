"""The tracking thread of one Snakemake call: follows running jobs, logs settled ones, survives a missing tracker.

Snakemake's own threads only put events into a queue; whatever is slow (importing mlflow, the database, a server that
doesn't answer) happens here, so that the tracker never holds up the workflow.
"""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.core.errors import DataError
from pipeline.core.progress import duration
from pipeline.core.runlog import read_run, run_sibling
from snakemake_logger_plugin_mlflow import records
from snakemake_logger_plugin_mlflow.records import Record, shown, signature

RETRY_S = 60.0
CONSOLE_S = 30.0
CLOSE_S = 60.0
BACKLOG_S = 20.0
_KINDS = ("run.json", "failed.json", "running.json")


@dataclass
class TrackedJob:
    """A job that Snakemake has announced and not yet settled."""

    jobid: int
    rule: str
    wildcards: dict[str, str]
    run_path: Path
    before: dict[str, Any] = field(default_factory=dict)  # files of an earlier attempt, to be told from this one's
    run: Any = None
    refused: bool = False
    first_progress: tuple[int, float] | None = None

    def __post_init__(self) -> None:
        self.before = {kind: signature(run_sibling(self.run_path, kind)) for kind in _KINDS}

    def has_new(self, kind: str) -> bool:
        now = signature(run_sibling(self.run_path, kind))
        return now is not None and now != self.before[kind]

    def facts(self) -> dict[str, Any] | None:
        """What the job says of itself while it runs."""
        if not self.has_new("running.json"):
            return None
        try:
            return read_run(run_sibling(self.run_path, "running.json"))
        except DataError:
            return None

    def outcome(self, failed: bool) -> Record | None:
        """How the job ended, by its files; `failed` is what Snakemake says of it. None if it never began."""
        try:
            if self.has_new("run.json") and not failed:
                return records.settled(self.run_path, self.run_path)
            if self.has_new("failed.json"):
                return records.settled(self.run_path, run_sibling(self.run_path, "failed.json"))
        except DataError:
            pass
        if self.has_new("running.json"):
            return records.interrupted(self.run_path)
        return records.unexplained(self.run_path, self.rule, self.wildcards) if failed else None


class Session(threading.Thread):
    """Give it events with `started`, `finished`, `failed`; `close` ends it and waits for what is left to log."""

    def __init__(self, results: Path, interval: float, say: Callable[[str], None], warn: Callable[[str], None]):
        super().__init__(name="mlflow-tracking", daemon=True)
        self._results, self._interval, self._say, self._warn = Path(results), interval, say, warn
        self._events: queue.Queue = queue.Queue()
        self._jobs: dict[int, TrackedJob] = {}
        self._backlog: list[Record] = []
        self._unlogged: set[str] = set()
        self._writer: Any = None
        self._retry_at = 0.0
        self._warned = False
        self._next_console = time.monotonic() + CONSOLE_S

    # Called by the handler, from Snakemake's threads

    def started(self, job: TrackedJob) -> None:
        self._events.put(("started", job))

    def finished(self, jobid: int) -> None:
        self._events.put(("finished", jobid))

    def failed(self, jobid: int) -> None:
        self._events.put(("failed", jobid))

    def close(self) -> None:
        """Log what is left and end, within a minute; what isn't logged by then waits in its files."""
        self._events.put(("close", None))
        self.join(CLOSE_S)
        if self.is_alive():
            self._warn("tracking: the tracker is too slow, the rest of the runs will be logged at the next start")

    # The thread

    def run(self) -> None:
        self._connect()
        next_tick = time.monotonic() + self._interval
        open_ended = True
        while open_ended:
            try:
                # What an outage left is logged between events, one run at a time.
                wait = 0.0 if self._backlog and self._writer else max(next_tick - time.monotonic(), 0.0)
                try:
                    open_ended = self._handle(*self._events.get(block=wait > 0, timeout=wait or None))
                except queue.Empty:
                    if time.monotonic() >= next_tick:
                        next_tick = time.monotonic() + self._interval
                        self._tick()
                    else:
                        self._catch_up()
            except Exception as error:  # a file that can't be read, a full disk: this thread must outlive it
                self._warn(f"tracking: {type(error).__name__}: {error}")
        self._finish()

    def _handle(self, kind: str, what: Any) -> bool:
        """Act on an event; False when it is the last one."""
        if kind == "started":
            self._jobs[what.jobid] = what
        elif what in self._jobs:
            self._settle(self._jobs.pop(what), failed=kind == "failed")
        return kind != "close"

    def _connect(self) -> bool:
        if self._writer is not None:
            return True
        if time.monotonic() < self._retry_at:
            return False
        try:
            from snakemake_logger_plugin_mlflow.sync import pending
            from snakemake_logger_plugin_mlflow.writer import Writer

            self._writer = Writer(self._results, warn=self._warn)
            self._writer.sweep()
            self._backlog = pending(self._writer)
        except Exception as error:
            self._lost(error)
        return self._writer is not None

    def _lost(self, error: Exception) -> None:
        self._writer, self._backlog = None, []
        self._retry_at = time.monotonic() + RETRY_S
        for job in self._jobs.values():
            job.run = None
        if not self._warned:
            self._warned = True
            self._warn(
                f"tracking: MLflow can't be reached ({error}). The workflow goes on; its runs stay in files and are "
                "logged by the next run or by `python -m pipeline sync`."
            )

    def _guarded(self, action: Callable[[], None], what: Path) -> bool:
        """Do it if the tracker is there. An error is the tracker's (then it is lost for a while) or this run's."""
        if not self._connect():
            return False
        try:
            action()
        except Exception as error:
            if self._writer.answers():
                self._warn(f"tracking: {shown(what)} can't be logged: {error}")
            else:
                self._lost(error)
            return False
        return True

    def _tick(self) -> None:
        """Open the runs of jobs that have begun, and let their curves grow."""
        if self._writer is not None:
            self._writer.renew()
        reported = []
        for job in self._jobs.values():
            facts = job.facts()
            if facts is None:
                continue
            if facts.get("progress"):
                job.first_progress = job.first_progress or (facts["progress"]["step"], facts["progress"]["time"])
                reported.append((job, facts["progress"]))
            if not job.refused:
                job.refused = not self._guarded(lambda job=job, facts=facts: self._follow(job, facts), job.run_path)
                job.refused &= self._writer is not None  # an outage is no reason not to try again
        if time.monotonic() >= self._next_console:
            self._next_console = time.monotonic() + CONSOLE_S
            for job, progress in reported:
                self._say(_telling(job, progress))

    def _follow(self, job: TrackedJob, facts: dict[str, Any]) -> None:
        if job.run is None:
            job.run = self._writer.begin(job.run_path, facts)
        if job.run is not None:
            self._writer.follow(job.run)

    def _settle(self, job: TrackedJob, failed: bool) -> None:
        record = job.outcome(failed)
        if record is not None:
            self._log(record, job.run)
        elif job.run is not None:
            self._guarded(lambda: self._writer.abandon(job.run), job.run_path)

    def _log(self, record: Record, run: Any = None) -> None:
        place = shown(record.run_path)
        if self._guarded(lambda: self._writer.end(record, run), record.run_path):
            self._unlogged.discard(place)
        else:
            self._unlogged.add(place)

    def _catch_up(self) -> None:
        """Log one run of the backlog, as its files tell it now: it may have been run again since."""
        if self._backlog:
            record = records.newest(self._backlog.pop().run_path)
            if record is not None:
                self._log(record)

    def _finish(self) -> None:
        """Settle what Snakemake didn't report: interrupted jobs, and all jobs under `--quiet progress`."""
        was_interrupted = not all(job.has_new("run.json") for job in self._jobs.values())
        if was_interrupted and self._writer is None:
            self._retry_at = float("inf")  # Ctrl-C must be quick: the next start logs these runs
        for job in self._jobs.values():
            self._settle(job, failed=False)
        self._jobs.clear()
        deadline = time.monotonic() + (0 if was_interrupted else BACKLOG_S)
        while self._backlog and self._writer and time.monotonic() < deadline:
            self._catch_up()
        if self._writer is not None:
            try:
                self._writer.close()
            except Exception as error:
                self._lost(error)
        if self._unlogged:
            self._warn(
                f"tracking: runs not logged yet: {len(self._unlogged)}; the next run of the workflow does it, or "
                "`python -m pipeline sync`."
            )


def _telling(job: TrackedJob, progress: dict[str, Any]) -> str:
    """A line for the console: how far a job is, and how long it will take at its pace since it was first seen."""
    step, total = progress["step"], progress["total"]
    steps, seconds = step - job.first_progress[0], progress["time"] - job.first_progress[1]
    left = f", {duration((total - step) * seconds / steps)} left" if steps > 0 else ""
    share = f" ({step / total:.0%})" if total else ""
    return f"{shown(job.run_path).removesuffix('.run.json')}: {progress['what']} {step}/{total}{share}{left}"
