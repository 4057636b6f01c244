"""The record of one job: run.json, history.jsonl, failed.json and running.json beside its outputs.

Files are the truth. A job writes nothing else about itself, and whatever shows runs (the tracker, the console, the
plots) reads these files; so a job needs no tracker, works on a node that can't reach one, and loses nothing when the
tracker is down. For `<dir>/<stem>.run.json`:

<stem>.running.json   while the job works: its facts, process id and progress; what a SIGKILL leaves behind
<stem>.history.jsonl  metrics by step, a line each, flushed at once
<stem>.failed.json    after a failure ("failed") or an interruption ("killed"), until the next start
<stem>.run.json       after success, written last: where it stands, all outputs stand
"""

import hashlib
import json
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.core import environment
from pipeline.core.damage import checked
from pipeline.core.errors import DataError
from pipeline.core.progress import Progress
from pipeline.core.store import write_json

SCHEMA = "run/1"
SUFFIX = ".run.json"
# What may differ between two equal results; a JSON input is compared without it.
_VARIABLE = frozenset({"cost", "started", "ended", "produced", "host", "git", "versions", "software"})

Paths = Path | Sequence[Path]


class Terminated(SystemExit):
    """SIGTERM, raised in the main thread so that it is recorded and files are closed."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


@dataclass(frozen=True)
class RunFacts:
    """What is known of a job before it starts. Values must be plain JSON.

    inputs: the data that the job reads (not the source code: git tells that). A list becomes name.0, name.1, …
    outputs: final paths, without the run file itself.
    rule, wildcards: Snakemake's names, where Snakemake runs the job. Of these the idempotency key holds wildcards alone
    that nothing else here names: a day, a table.
    """

    system: str
    stage: str
    root: str
    settings: Mapping[str, Any]
    scenario: str | None = None
    dataset: str | None = None
    arm: str | None = None
    seeds: Sequence[int] = ()
    inputs: Mapping[str, Paths] = field(default_factory=dict)
    outputs: Mapping[str, Paths] = field(default_factory=dict)
    threads: int = 1
    device: str = "cpu"
    rule: str | None = None
    wildcards: Mapping[str, str] = field(default_factory=dict)


def run_sibling(run_path: Path, kind: str) -> Path:
    """`<dir>/<stem>.<kind>` for `<dir>/<stem>.run.json`; kind: history.jsonl, failed.json, running.json, …"""
    name = Path(run_path).name
    if not name.endswith(SUFFIX):
        raise ValueError(f"{run_path}: a run file is named <stem>{SUFFIX}")
    return Path(run_path).with_name(f"{name.removesuffix(SUFFIX)}.{kind}")


def _content_digest(path: Path, plain: str) -> str:
    """Digest of what an input says: for JSON without times, costs and hosts, else the plain digest.

    Otherwise a stage that is run again, with equal results in other seconds, would give a new key to all that
    follow it, and each repetition would add rows to the tracker's table.
    """
    if path.suffix != ".json" or path.is_dir():
        return plain
    try:
        content = json.loads(path.read_text())
    except ValueError:
        return plain
    if isinstance(content, dict) and content.get("schema") == SCHEMA:
        return content["key"]
    return hashlib.sha256(_canonical(_without_variable(content)).encode()).hexdigest()


def _without_variable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_variable(inner) for name, inner in value.items() if name not in _VARIABLE}
    if isinstance(value, list):
        return [_without_variable(inner) for inner in value]
    return value


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def idempotency_key(facts: RunFacts, input_digests: Mapping[str, str]) -> str:
    """16 hex digits that are equal exactly when two runs ask the same question of the same data."""
    question = {
        "root": facts.root,
        "system": facts.system,
        "stage": facts.stage,
        "scenario": facts.scenario,
        "dataset": facts.dataset,
        "arm": facts.arm,
        "settings": facts.settings,
        "seeds": list(facts.seeds),
        "inputs": dict(input_digests),
    }
    question |= {name: value for name, value in facts.wildcards.items() if name not in question}
    return hashlib.sha256(_canonical(question).encode()).hexdigest()[:16]


def _flatten(paths: Mapping[str, Paths]) -> dict[str, Path]:
    flat: dict[str, Path] = {}
    for name, value in paths.items():
        if isinstance(value, str | os.PathLike):
            flat[name] = Path(value)
        else:
            flat.update({f"{name}.{place}": Path(one) for place, one in enumerate(value)})
    return flat


def _finite(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Plain floats; NaN and infinities, which JSON doesn't have, become null."""
    plain = {name: float(value) for name, value in metrics.items()}
    return {name: value if math.isfinite(value) else None for name, value in plain.items()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class RunLog:
    """Writes the record of one job. The runner calls start, then finish or fail; the stage calls the rest.

    log_path: file that gets the lines of `info` and `progress` (Snakemake's `log:`). Without it they go to stderr,
    and progress is a bar when stderr is a terminal.
    """

    def __init__(self, run_path: Path, facts: RunFacts, *, log_path: Path | None = None):
        self.run_path, self.facts = Path(run_path), facts
        self.key: str | None = None
        self._log_path = Path(log_path) if log_path else None
        self._history_path = run_sibling(self.run_path, "history.jsonl")
        self._set_aside = run_sibling(self.run_path, "history.previous.jsonl")
        self._running_path = run_sibling(self.run_path, "running.json")
        self._failed_path = run_sibling(self.run_path, "failed.json")
        self._stream = None
        self._record: dict[str, Any] = {}
        self._meter = environment.CostMeter()
        self._previous_handler: Any = None
        self._progress: Progress | None = None

    # The runner's part

    def start(self) -> None:
        """Record that the job runs. The earlier attempt's failure goes, its history is set aside for `resume`."""
        self._meter = environment.CostMeter()
        self.run_path.parent.mkdir(parents=True, exist_ok=True)
        self._failed_path.unlink(missing_ok=True)
        if self._history_path.exists():
            os.replace(self._history_path, self._set_aside)
        self._record = self._describe({})  # what fail() has if an input can't be read
        inputs, contents = {}, {}
        for name, path in _flatten(self.facts.inputs).items():
            sha256 = checked(path)
            inputs[name] = {"path": str(path), "sha256": sha256}
            contents[name] = _content_digest(path, sha256)
        self.key = idempotency_key(self.facts, contents)
        self._record = self._describe(inputs)
        self._write_running()
        if threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGTERM, _raise_terminated)

    def _describe(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        facts = self.facts
        return {
            "schema": SCHEMA,
            "status": "running",
            "system": facts.system,
            "stage": facts.stage,
            "root": facts.root,
            "scenario": facts.scenario,
            "dataset": facts.dataset,
            "arm": facts.arm,
            "rule": facts.rule,
            "wildcards": dict(facts.wildcards),
            "settings": facts.settings,
            "seeds": list(facts.seeds),
            "inputs": dict(inputs),
            "outputs": {name: str(path) for name, path in _flatten(facts.outputs).items()},
            "threads": facts.threads,
            "device": facts.device,
            "versions": environment.versions(),
            "git": environment.git_state(),
            "host": environment.host(),
            "started": _now(),
            "resumed": None,
            "key": self.key,
        }

    def _write_running(self, progress: Mapping[str, Any] | None = None) -> None:
        pid = os.getpid()
        process = {"pid": pid, "process_start": environment.process_start(pid)}
        write_json(self._running_path, self._record | process | {"progress": progress})

    def finish(
        self,
        metrics: Mapping[str, float],
        *,
        figures: Iterable[Path] = (),
        tables: Iterable[Path] = (),
        weights: Iterable[Path] = (),
        dataset_info: Mapping[str, Any] | None = None,
        digests: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Write run.json and return it; call it when all outputs stand in their final places.

        metrics: final numbers; a value that is not finite is written as null.
        digests: path of an output, seen from run.json -> its digest, by which its readers tell that it is whole.
        figures, tables, weights: files to show as artefacts (weights: safetensors).
        """
        self._close()
        self._record |= {
            "status": "done",
            "metrics": _finite(metrics),
            "figures": [str(path) for path in figures],
            "tables": [str(path) for path in tables],
            "weights": [str(path) for path in weights],
            "dataset_info": dict(dataset_info) if dataset_info else None,
            "digests": dict(digests or {}),
            "cost": self._meter.read(),
            "ended": _now(),
        }
        write_json(self.run_path, self._record)
        checkpoint = self.checkpoint_path().name
        for beside in list(self.run_path.parent.iterdir()):
            if beside.name.startswith(checkpoint):
                beside.unlink()
        self._set_aside.unlink(missing_ok=True)
        self._running_path.unlink(missing_ok=True)
        return self._record

    def fail(self, error: BaseException) -> None:
        """Record why the job ended without its outputs; checkpoints stay for the next attempt."""
        self._close()
        interrupted = isinstance(error, KeyboardInterrupt | Terminated)
        self._record |= {
            "status": "killed" if interrupted else "failed",
            "error": {
                "type": type(error).__name__,
                "message": str(error),
                "traceback": "".join(traceback.format_exception(error)),
            },
            "cost": self._meter.read(),
            "ended": _now(),
        }
        write_json(self._failed_path, self._record)
        self._running_path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.close()
        if self._stream is not None:
            self._stream.close()
        self._stream = None
        if self._previous_handler is not None:
            signal.signal(signal.SIGTERM, self._previous_handler)
        self._previous_handler = None

    # The stage's part

    def resume(self, step: int) -> None:
        """Continue from a checkpoint at `step`: history up to and including it is kept, later lines go.

        Call it before the first `history`. Without it the new attempt's history starts empty.
        """
        if self._stream is not None:
            raise RuntimeError("resume(step) must come before the first history(…) of an attempt")
        if self._set_aside.exists():
            kept = [entry for entry in read_history(self._set_aside) if entry["step"] <= step]
            temporary = self._history_path.with_name(f".{self._history_path.name}.tmp")
            temporary.write_text("".join(json.dumps(entry) + "\n" for entry in kept))
            os.replace(temporary, self._history_path)
        self._record["resumed"] = step
        self._write_running()
        self.info(f"resumed from the checkpoint at step {step}")

    def history(self, step: int, total: int | None = None, **metrics: float) -> None:
        """Append metrics at `step` (of `total`) to history.jsonl; on disk when this returns."""
        if self._stream is None:
            self._stream = self._history_path.open("a")
        entry = {"step": int(step), "time": time.time(), "total": total, "metrics": _finite(metrics)}
        self._stream.write(json.dumps(entry) + "\n")
        self._stream.flush()

    def info(self, text: str) -> None:
        """One line with the time of day, to the log file or stderr."""
        line = f"[{datetime.now():%H:%M:%S}] {text}\n"
        if self._log_path is None:
            sys.stderr.write(line)
            return
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        with self._log_path.open("a") as stream:
            stream.write(line)

    def progress(self, total_or_iterable: int | Iterable, what: str, *, initial: int = 0) -> Progress:
        """Progress over a number of steps (call `.update(done)`) or over a sized iterable (iterate it)."""
        if self._progress is not None:
            self._progress.close()
        items = None if isinstance(total_or_iterable, int) else total_or_iterable
        self._progress = Progress(
            total_or_iterable if items is None else len(items),
            what,
            write=self.info,
            report=self._write_running,
            bar=self._log_path is None and sys.stderr.isatty(),
            initial=initial,
            items=items,
        )
        return self._progress

    def checkpoint_path(self, suffix: str = "") -> Path:
        """Where this job keeps resume state; removed at success."""
        return run_sibling(self.run_path, f"checkpoint{suffix}")


def _raise_terminated(signum: int, frame: Any) -> None:
    raise Terminated


def read_run(path: Path) -> dict[str, Any]:
    """A run.json, failed.json or running.json.

    Raises DataError when the file can't be read, isn't JSON or has another schema.
    """
    try:
        content = json.loads(Path(path).read_text())
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror}); run the stage that writes it") from error
    except ValueError as error:
        raise DataError(f"{path}: isn't JSON ({error}); delete it and run its stage again") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{path}: schema is {found!r}, expected {SCHEMA!r}; run its stage again")
    return content


def read_history(path: Path) -> list[dict[str, Any]]:
    """Lines of a history.jsonl (or of the one beside a run.json); none where the stage wrote no history.

    A last line without its newline is still being written, or was cut by a kill, and is left out.
    """
    path = Path(path)
    if path.name.endswith(SUFFIX):
        path = run_sibling(path, "history.jsonl")
    if not path.exists():
        return []
    whole = path.read_text().rpartition("\n")[0]
    try:
        return [json.loads(line) for line in whole.splitlines() if line]
    except ValueError as error:
        raise DataError(f"{path}: a line isn't JSON ({error}); delete it and run its stage again") from error
