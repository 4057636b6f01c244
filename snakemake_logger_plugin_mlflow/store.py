"""Reaching the MLflow store: where it is, whether it answers, its first creation. Connecting imports mlflow."""

import logging
import os
import socket
import urllib.parse
import urllib.request
from pathlib import Path

from snakemake_logger_plugin_mlflow.ledger import Ledger, locked

REACH_TIMEOUT_S = 2.0
# Set before mlflow is imported, unless the user has: a tracker in trouble must cost seconds, not minutes.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class TrackerUnavailable(Exception):
    """The tracker can't be reached or refuses; what it should show stays in files."""


def tracking_uri(results: Path) -> str:
    """MLFLOW_TRACKING_URI, or the SQLite database below the results."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(Path(results) / 'mlflow.db').as_posix()}"


def connect(uri: str, results: Path):
    """An MlflowClient that has answered once. Raises TrackerUnavailable with the reason."""
    _reach(uri)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow.tracking import MlflowClient

        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        if uri.startswith("sqlite:"):
            _create_database(uri)
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    except Exception as error:  # whatever a store, a driver or a proxy raises: the workflow goes on
        raise TrackerUnavailable(f"{uri}: {_first_line(error)}") from error
    return client


def _reach(uri: str) -> None:
    """Knock before anything heavy is imported; a server that is down then costs two seconds, once."""
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.hostname or ""):
        return
    try:
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        socket.create_connection((parts.hostname or "", port), timeout=REACH_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise TrackerUnavailable(f"{uri}: {_first_line(error)}") from error


def _create_database(uri: str) -> None:
    """Make a SQLite database that isn't there yet, under a lock and whole.

    Two processes that migrate one new database at once break it for good, and so does a kill in the middle; so it
    is built beside its place, by one process, and moved there when it is complete.
    """
    path = Path(uri.removeprefix("sqlite:///"))
    if path.exists() or uri == "sqlite://":
        return
    with locked(path.with_name(f".{path.name}.lock")):
        if path.exists():
            return
        building = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        building.unlink(missing_ok=True)
        _migrate(building)
        os.replace(building, path)


def _migrate(path: Path) -> None:
    """MLflow's tables in a new file. Dozens of migrations, each made durable, take ten seconds on a slow disk; a
    half-made file is thrown away in any case, so durability waits for the end."""
    from mlflow.tracking import MlflowClient
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def relax(connection, _) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", relax)
    try:
        MlflowClient(tracking_uri=f"sqlite:///{path.as_posix()}").search_experiments(max_results=1)
    finally:
        event.remove(Engine, "connect", relax)
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def artifact_location(uri: str, results: Path, system: str) -> str | None:
    """Where artefacts of a system go: below the results for a database file; a server decides itself."""
    if uri.startswith("sqlite:"):
        return (Path(results).resolve() / "mlartifacts" / system).as_uri()
    return None


def record_lock(ledger: Ledger):
    """Held while a run is logged: two Snakemake calls at once must not both log what neither has marked yet."""
    return locked(ledger.lock_path)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
