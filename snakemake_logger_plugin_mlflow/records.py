"""Finding and reading the files that jobs leave (see `pipeline.core.runlog`): what the tracker has to show."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.core import environment
from pipeline.core.errors import DataError
from pipeline.core.runlog import SUFFIX, read_run, run_sibling

# Thousands of chunk files and no run files; copies of run files among artefacts.
_OPAQUE = (".zarr", ".checkpoint", "mlartifacts", "mlruns")


@dataclass(frozen=True)
class Record:
    """One settled run: its facts, the run file it belongs to, and a digest of the file that tells it."""

    run_path: Path
    facts: dict[str, Any]
    digest: str

    @property
    def key(self) -> str:
        return key_of(self.run_path, self.facts)


def key_of(run_path: Path, facts: dict[str, Any]) -> str:
    """The idempotency key; a job that died before it knew its key is known by its place."""
    return facts.get("key") or place_of(run_path)


def place_of(run_path: Path) -> str:
    """16 hex digits for where a run's file is, relative to the working directory if it is below it."""
    return hashlib.sha256(shown(run_path).encode()).hexdigest()[:16]


def shown(path: Path) -> str:
    """A path as people read it: relative to the working directory where it is below it."""
    path = Path(os.path.abspath(path))
    return path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else path.as_posix()


def signature(path: Path) -> tuple[int, int] | None:
    """Changes whenever the file is written anew; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def is_dead(host: str | None, pid: Any, process_start: str | None) -> bool:
    """Whether a process of THIS machine is gone; of another machine nothing can be said, so False."""
    if host != environment.host() or pid in (None, ""):
        return False
    return environment.process_start(int(pid)) != process_start


def settled(run_path: Path, path: Path) -> Record:
    """The record that `path` (run.json or failed.json) tells. Raises DataError as `read_run`."""
    return Record(run_path, read_run(path), hashlib.sha256(path.read_bytes()).hexdigest())


def interrupted(run_path: Path) -> Record | None:
    """The record of a job that left nothing but running.json: it was killed without a chance to say so."""
    path = run_sibling(run_path, "running.json")
    try:
        record = settled(run_path, path)
        ended = datetime.fromtimestamp(_last_sign(run_path, path), UTC).isoformat(timespec="milliseconds")
    except (DataError, OSError):
        return None
    message = {"type": "Killed", "message": "the process ended without a word (SIGKILL, out of memory, power)"}
    return Record(run_path, record.facts | {"status": "killed", "ended": ended, "error": message}, record.digest)


def _last_sign(run_path: Path, running: Path) -> float:
    history = run_sibling(run_path, "history.jsonl")
    return max(path.stat().st_mtime for path in (running, history) if path.exists())


def unexplained(run_path: Path, rule: str, wildcards: dict[str, str]) -> Record:
    """The record of a job that failed before its record began (an import error, say)."""
    parts = Path(shown(run_path)).parts
    light = len(parts) > 3 and parts[1] == "light"
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    facts = {
        "status": "failed",
        "root": "/".join(parts[: 1 + light]),
        "system": parts[1 + light] if len(parts) > 2 else "workflow",
        "stage": rule,
        "rule": rule,
        "wildcards": wildcards,
        "host": environment.host(),
        "started": now,
        "ended": now,
        "error": {"type": "Unknown", "message": "the job failed before it began its record; see its log"},
    }
    return Record(run_path, facts, "")


def all_settled(results: Path) -> Iterator[Record]:
    """Every run below `results` that has ended, whatever way; runs whose process may be alive are left out.

    Where several files tell of one run, the newest is right. Files that can't be read are passed over.
    """
    for folder, folders, names in os.walk(results):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not name.endswith(_OPAQUE))
        stems = {name.removesuffix(end) for end in _ENDINGS for name in names if name.endswith(end)}
        for stem in sorted(stems):
            record = newest(Path(folder) / f"{stem}{SUFFIX}")
            if record is not None:
                yield record


_ENDINGS = (SUFFIX, ".failed.json", ".running.json")


def newest(run_path: Path) -> Record | None:
    """How a run ended by the newest of its files; None while its process may be alive, or nothing can be read."""
    running = run_sibling(run_path, "running.json")
    candidates = [path for path in (run_path, run_sibling(run_path, "failed.json"), running) if path.exists()]
    try:
        newest = max(candidates, key=lambda path: path.stat().st_mtime_ns)
        if newest != running:
            return settled(run_path, newest)
        facts = read_run(running)
        if is_dead(facts.get("host"), facts.get("pid"), facts.get("process_start")):
            return interrupted(run_path)
    except (DataError, OSError, ValueError):
        pass
    return None
