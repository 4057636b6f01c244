"""What this project knows of the tracker without asking it: which runs it has, which are open, and a lock.

Lives in `<results>/.mlflow/`. It can be deleted at any time: runs are then logged anew, each replacing itself.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.core import environment
from snakemake_logger_plugin_mlflow.records import Record, is_dead

LOCK_TIMEOUT_S = 60


def owner() -> dict[str, Any]:
    """This process, so that another one can tell later whether it is still there."""
    pid = os.getpid()
    return {"host": environment.host(), "pid": pid, "process_start": environment.process_start(pid)}


class Ledger:
    """Marks of logged runs, one file a key in a folder a store, and of runs open right now."""

    def __init__(self, results: Path):
        self._home = Path(results) / ".mlflow"

    @property
    def lock_path(self) -> Path:
        return self._home / "lock"

    def has(self, store: str, record: Record) -> bool:
        """Whether `store` holds exactly this outcome of the run."""
        try:
            mark = json.loads(self._mark(store, record.key).read_text())
        except (OSError, ValueError):
            return False
        return mark.get("digest") == record.digest

    def logged(self, store: str, record: Record, run_id: str) -> None:
        path = self._mark(store, record.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps({"digest": record.digest, "run_id": run_id}))
        os.replace(temporary, path)

    def _mark(self, store: str, key: str) -> Path:
        return self._home / store / f"{key}.json"

    def opened(self, key: str) -> None:
        path = self._home / "open" / f"{key}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(owner()))

    def closed(self, key: str) -> None:
        (self._home / "open" / f"{key}.json").unlink(missing_ok=True)

    def orphans(self) -> list[str]:
        """Keys of runs that a dead process of this machine left open: cheap, so that every start can look."""
        found = []
        for path in (self._home / "open").glob("*.json"):
            try:
                mark = json.loads(path.read_text())
            except (OSError, ValueError):
                continue
            if is_dead(mark.get("host"), mark.get("pid"), mark.get("process_start")):
                found.append(path.stem)
        return found


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time. Raises TimeoutError when another one holds it for a minute."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=LOCK_TIMEOUT_S)
    try:
        lock.acquire()
    except Timeout as error:
        raise TimeoutError(f"{path} has been held by another process for {LOCK_TIMEOUT_S} s") from error
    try:
        yield
    finally:
        lock.release()
