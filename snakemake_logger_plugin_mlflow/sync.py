"""Logging what the tracker has missed: after an outage, a killed Snakemake, or for runs made by hand."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from snakemake_logger_plugin_mlflow.records import Record, all_settled, shown
from snakemake_logger_plugin_mlflow.store import TrackerUnavailable
from snakemake_logger_plugin_mlflow.writer import Writer


@dataclass
class SyncResult:
    """What `sync` did: runs logged now, runs that the tracker had already, files that couldn't be logged and why."""

    uri: str
    logged: list[str] = field(default_factory=list)
    present: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    swept: int = 0


def sync(results: Path = Path("results"), uri: str | None = None, *, say: Callable[[str], None] = print) -> SyncResult:
    """Bring the tracker up to date with every run file below `results`.

    uri: default MLFLOW_TRACKING_URI, else the SQLite database `<results>/mlflow.db`.
    Raises TrackerUnavailable when the tracker can't be reached, or is lost on the way.
    """
    writer = Writer(Path(results), uri, warn=say)
    outcome = SyncResult(writer.uri, swept=writer.sweep())
    for record in all_settled(Path(results)):
        if writer.knows(record):
            outcome.present += 1
            continue
        try:
            writer.end(record)
            outcome.logged.append(shown(record.run_path))
        except Exception as error:
            if not writer.answers():
                raise TrackerUnavailable(f"{writer.uri}: lost while logging {shown(record.run_path)}") from error
            outcome.refused[shown(record.run_path)] = str(error)
    writer.close()
    return outcome


def pending(writer: Writer) -> list[Record]:
    """The settled runs that the tracker doesn't have."""
    return [record for record in all_settled(writer.results) if not writer.knows(record)]
