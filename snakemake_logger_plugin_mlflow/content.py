"""What a run's record looks like in MLflow: params, tags, metrics, data sets, artefacts. No MLflow in here."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.core.runlog import run_sibling
from snakemake_logger_plugin_mlflow.records import key_of, place_of, shown

STATUS = {"done": "FINISHED", "failed": "FAILED", "killed": "KILLED", "running": "RUNNING"}
POINTS = 2000  # of a curve; the whole history is an artefact
_TAG_LENGTH = 4000


def name_of(text: str) -> str:
    """A name in the characters and the length that MLflow allows."""
    return re.sub(r"[^\w\-./: ]", "_", text)[:250]


def milliseconds(iso: str | None) -> int | None:
    return None if iso is None else int(datetime.fromisoformat(iso).timestamp() * 1000)


def run_name(facts: Mapping[str, Any]) -> str:
    """The stage and what it is of: ``train/nomem``, ``prepare/etth1``, ``iri/20240510``, ``plot/ablation``."""
    others = [value for name, value in (facts.get("wildcards") or {}).items() if name != "root"]
    parts = [facts["stage"], facts.get("arm") or facts.get("dataset") or "/".join(others)]
    return "/".join(part for part in dict.fromkeys(parts) if part)  # the stage `ablation` of the table `ablation`: once


def parent_name(facts: Mapping[str, Any]) -> str:
    light = " (light)" if str(facts["root"]).endswith("/light") else ""
    return f"{facts.get('scenario') or 'shared'}{light}"


def parent_key(facts: Mapping[str, Any]) -> str:
    place = f"parent|{facts['root']}|{facts['system']}|{facts.get('scenario')}"
    return hashlib.sha256(place.encode()).hexdigest()[:16]


def params(facts: Mapping[str, Any]) -> dict[str, str]:
    """Settings with dotted names, and the seeds."""
    settings = facts.get("settings")
    flat = dict(_flat(settings, "")) if settings else {}
    if facts.get("seeds"):
        flat["seeds"] = json.dumps(facts["seeds"])
    return {name_of(name): value[:6000] for name, value in flat.items()}


def _flat(value: Any, prefix: str) -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, value if isinstance(value, str) else json.dumps(value, default=str)


def tags(run_path: Path, facts: Mapping[str, Any]) -> dict[str, str]:
    """Everything by which runs are found, grouped and explained."""
    git = facts.get("git") or {}
    settings = json.dumps(facts.get("settings") or {}, sort_keys=True, default=str)
    found: dict[str, Any] = {
        "kind": "stage",
        "key": key_of(run_path, dict(facts)),
        "place": place_of(run_path),
        "run_file": shown(run_path),
        "current": "true",
        "settings.sha256": hashlib.sha256(settings.encode()).hexdigest()[:16],
        "git.commit": git.get("commit"),
        "git.dirty": git.get("dirty"),
        "mlflow.source.git.commit": git.get("commit"),
        "mlflow.source.name": facts.get("rule") or facts["stage"],
        "mlflow.source.type": "JOB",
    }
    for name in ("system", "stage", "root", "scenario", "dataset", "arm", "rule", "host", "device", "threads"):
        found[name] = facts.get(name)
    found |= {f"wildcard.{name}": value for name, value in (facts.get("wildcards") or {}).items()}
    found |= {f"version.{name}": value for name, value in (facts.get("versions") or {}).items()}
    found |= {f"input.{name}.sha256": one.get("sha256") for name, one in (facts.get("inputs") or {}).items()}
    dataset = facts.get("dataset_info") or {}
    found |= {f"dataset.{name}": dataset.get(name) for name in ("requested", "source", "sha256", "licence", "period")}
    error = facts.get("error") or {}
    found |= {f"error.{name}": error.get(name) for name in ("type", "message")}
    found["resumed"] = facts.get("resumed")
    return {name_of(name): _tag(value) for name, value in found.items() if value not in (None, "")}


def _tag(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text[:_TAG_LENGTH]


def datasets(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    """Name, digest (MLflow keeps 36 characters), source of the data set and of every input."""
    found = []
    dataset = facts.get("dataset_info") or {}
    if dataset.get("name"):
        digest = str(dataset.get("sha256") or "unknown")[:36]
        source = json.dumps(dataset, sort_keys=True, default=str)
        found.append({"name": str(dataset["name"]), "digest": digest, "source": source, "context": "dataset"})
    for name, one in (facts.get("inputs") or {}).items():
        source = json.dumps(one, sort_keys=True)
        found.append({"name": one["path"], "digest": one["sha256"][:36], "source": source, "context": name})
    return found


def final_metrics(facts: Mapping[str, Any]) -> dict[str, float]:
    """The run's results and its cost; what was not finite has no point in a chart."""
    found = {name_of(name): value for name, value in (facts.get("metrics") or {}).items() if value is not None}
    return found | {f"cost.{name}": value for name, value in (facts.get("cost") or {}).items()}


def artifacts(run_path: Path, facts: Mapping[str, Any]) -> tuple[list[tuple[Path, str]], list[str]]:
    """(file, folder in the run) pairs, and what had to be left out and why."""
    chosen: list[tuple[Path, str]] = []
    refused: list[str] = []
    for folder in ("figures", "tables", "weights"):
        for path in map(Path, facts.get(folder) or ()):
            if folder == "weights" and path.suffix != ".safetensors":
                refused.append(f"{path}: weights are logged as safetensors only, a pickle can run code")
            elif not path.exists():
                refused.append(f"{path}: is gone")
            else:
                chosen.append((path, folder))
    ending = "run.json" if facts.get("status") == "done" else "failed.json"
    for path in (run_sibling(run_path, ending), run_sibling(run_path, "history.jsonl")):
        if path.exists():
            chosen.append((path, "record"))
    return chosen, refused


class HistoryTail:
    """Follows a growing history.jsonl and gives the points of a curve, at most about POINTS of them."""

    def __init__(self, run_path: Path):
        self._path = run_sibling(run_path, "history.jsonl")
        self._offset = 0
        self._inode: int | None = None
        self._shown: int | None = None
        self.last_step = 0

    def read(self) -> list[dict[str, Any]]:
        """Entries that were completed since the last call; a file that was replaced is read from its start."""
        try:
            with self._path.open("rb") as stream:
                status = os.fstat(stream.fileno())
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._inode, self._offset = status.st_ino, 0
                stream.seek(self._offset)
                # The last line may still be half written.
                whole, newline, _ = stream.read().rpartition(b"\n")
        except OSError:
            return []
        self._offset += len(whole) + len(newline)
        return [entry for line in whole.splitlines() if (entry := self._entry(line))]

    def _entry(self, line: bytes) -> dict[str, Any] | None:
        try:
            entry = json.loads(line)
            step = entry["step"]
        except (ValueError, KeyError, TypeError):
            return None
        stride = max(1, (entry.get("total") or 0) // POINTS)
        if self._shown is not None and self._shown <= step < self._shown + stride and step != entry.get("total"):
            return None
        self._shown, self.last_step = step, max(self.last_step, step)
        return entry
