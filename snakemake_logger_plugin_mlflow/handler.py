"""The logger plugin itself: turns Snakemake's events into tracked jobs. Light: it is imported at every start."""

import gc
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

from snakemake_logger_plugin_mlflow import estimate

RESULTS = Path("results")
_RUN_FILE = ".run.json"


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """Options, on the command line as --logger-mlflow-<name>."""

    interval: float = field(
        default=5.0,
        metadata={"help": "Seconds between two looks at the history of running jobs.", "type": float},
    )


class LogHandler(LogHandlerBase):
    """Shows every stage as an MLflow run, next to the usual console output, and says what the work will cost.

    Inert in dry runs; Snakemake doesn't make it in nested calls (a job step on a node). Snakemake calls `emit` in a
    thread of its own, one record at a time.
    """

    writes_to_stream = False
    writes_to_file = False
    has_filter = True  # none: --quiet must not hide events from the tracker
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        self._session: Any = None
        self._closed = False
        self._cores: int | None = None
        self._light = False
        self._rest: estimate.Rest | None = None  # set by the first estimate
        self._begun: dict[int, tuple[str, float, Path | None]] = {}  # running jobs: rule, time, benchmark file
        self._spent: dict[str, estimate.Spent] = {}  # by rule, of finished jobs
        self._console = logging.getLogger("snakemake.logging")
        self._actions = {
            LogEvent.WORKFLOW_STARTED: self._workflow_started,
            LogEvent.RESOURCES_INFO: self._resources_info,
            LogEvent.RUN_INFO: self._run_info,
        }
        if not self.common_settings.dryrun:
            self._actions |= {
                LogEvent.JOB_INFO: self._job_info,
                LogEvent.JOB_FINISHED: self._job_finished,
                LogEvent.JOB_ERROR: self._job_error,
                LogEvent.GROUP_ERROR: self._group_error,
            }

    def emit(self, record: logging.LogRecord) -> None:
        action = self._actions.get(getattr(record, "event", None))
        if action is None or self._closed:
            return
        try:
            action(record)
        except Exception as error:  # tracking never stops a workflow
            self._console.warning(f"tracking: {type(error).__name__}: {error}")

    def close(self) -> None:
        """Log what is left. Snakemake calls it at the end, logging a second time at exit."""
        if not self._closed:
            self._closed = True
            summary = estimate.summary(self._spent)
            if summary:
                self._console.info(f"\n{summary}\n")
            if self._session is not None:
                self._session.close()
                # Python would look through a million objects of mlflow's before it exits: seconds after Ctrl-C.
                gc.freeze()
        super().close()

    def _start(self):
        if self._session is None:
            from snakemake_logger_plugin_mlflow.session import Session

            interval = getattr(self.settings, "interval", None) or 5.0
            self._session = Session(RESULTS.absolute(), interval, self._console.info, self._console.warning)
            self._session.start()
        return self._session

    # Events

    def _workflow_started(self, record: Any) -> None:
        from snakemake_logger_plugin_mlflow.ledger import Ledger

        self._light = estimate.is_light(getattr(record, "cmd", ""))
        if not self.common_settings.dryrun and Ledger(RESULTS).orphans():
            self._start()  # an earlier Snakemake was killed: its runs are closed even if there is nothing to do now

    def _resources_info(self, record: Any) -> None:
        self._cores = getattr(record, "cores", None) or self._cores

    def _run_info(self, record: Any) -> None:
        if self._rest is not None:
            return
        seconds, jobs = estimate.load(estimate.FILE, self._light), dict(getattr(record, "stats", {}))
        text = estimate.sentence(jobs, seconds, self._cores)
        jobs.pop("total", None)
        self._rest = estimate.Rest(jobs, seconds, self._cores)
        if text:
            self._console.info(text)

    def _job_info(self, record: Any) -> None:
        benchmark = getattr(record, "benchmark", None)
        self._begun[record.jobid] = (record.rule_name, record.created, Path(benchmark) if benchmark else None)
        run_files = [path for path in record.output if path.endswith(_RUN_FILE)]
        if not run_files:
            return
        from snakemake_logger_plugin_mlflow.session import TrackedJob

        wildcards = {name: str(value) for name, value in dict(record.wildcards or {}).items()}
        path = Path(run_files[0]).absolute()
        self._start().started(TrackedJob(record.jobid, record.rule_name, wildcards, path))

    def _job_finished(self, record: Any) -> None:
        if record.job_id in self._begun:
            rule, begun, benchmark = self._begun.pop(record.job_id)
            self._spent.setdefault(rule, estimate.Spent()).add(record.created - begun, benchmark)
            left = self._rest.finished(rule, record.created - begun) if self._rest else None
            if left:
                self._console.info(left)
        if self._session is not None:
            self._session.finished(record.job_id)

    def _job_error(self, record: Any) -> None:
        if self._session is not None:
            self._session.failed(record.jobid)

    def _group_error(self, record: Any) -> None:
        for job in getattr(record, "job_error_info", ()):
            if self._session is not None:
                self._session.failed(job["jobid"])
