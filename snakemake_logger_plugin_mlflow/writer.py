"""Writes runs to MLflow. The one place that does; one process at a time for one run."""

import getpass
import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snakemake_logger_plugin_mlflow import content, store
from snakemake_logger_plugin_mlflow.content import HistoryTail
from snakemake_logger_plugin_mlflow.ledger import Ledger, owner
from snakemake_logger_plugin_mlflow.records import Record, is_dead, key_of, newest, place_of
from snakemake_logger_plugin_mlflow.sharing import Presence, database

_BATCH = {"metrics": 900, "params": 90, "tags": 90}  # below MLflow's limits for one call
_OWNER = ("host", "pid", "process_start")


@dataclass
class OpenRun:
    """A run that shows as RUNNING, and how far its curves have been written."""

    run_id: str
    key: str
    tail: HistoryTail


class Writer:
    """A connected tracker. Raises TrackerUnavailable on construction; afterwards whatever MLflow raises."""

    def __init__(self, results: Path, uri: str | None = None, *, warn: Callable[[str], None] = lambda text: None):
        self.results = Path(results)
        self.uri = uri or store.tracking_uri(self.results)
        self.ledger = Ledger(self.results)
        self._warn = warn
        self._presence = self._enter()
        try:
            self._client = store.connect(self.uri, self.results)
        except store.TrackerUnavailable:
            self._leave()
            raise
        self._experiments: dict[str, tuple[str, str]] = {}
        self._parents: dict[str, str] = {}  # key -> run id, of those that this process has opened
        self._stale: set[str] = set()  # parents that have lost a child: their status may have changed

    def _enter(self) -> Presence | None:
        """Announce this process as a writer of the SQLite database, unless it must not be one."""
        path = database(self.uri)
        if path is None:
            return None
        presence = Presence(path)
        try:
            verdict = presence.enter()
        except OSError as error:
            raise store.TrackerUnavailable(f"{self.uri}: {error}") from error
        if not verdict.allowed:
            raise store.TrackerUnavailable(f"{self.uri}: {verdict.text}")
        if verdict.text:
            self._warn(f"tracking: {verdict.text}")
        return presence

    def renew(self) -> None:
        """Tell others that this process still writes; to be called every minute or so."""
        if self._presence is not None:
            with suppress(OSError):
                self._presence.renew()

    def _leave(self) -> None:
        if self._presence is not None:
            self._presence.leave()

    def answers(self) -> bool:
        """Whether the store still works: tells a bad record from a lost tracker."""
        try:
            self._client.search_experiments(max_results=1)
        except Exception:
            return False
        return True

    def knows(self, record: Record) -> bool:
        """Whether the tracker holds exactly this outcome, by the ledger's word."""
        return self.ledger.has(self._experiment(record.facts["system"])[1], record)

    # Runs of stages

    def begin(self, run_path: Path, facts: Mapping[str, Any]) -> OpenRun | None:
        """Show a run as RUNNING in the place of an earlier one with the same key.

        None where another living process is showing this very run.
        """
        self._experiment(facts["system"])  # takes the lock too, so before it
        with store.record_lock(self.ledger):
            return self._begin(run_path, facts)

    def _begin(self, run_path: Path, facts: Mapping[str, Any]) -> OpenRun | None:
        experiment = self._experiment(facts["system"])[0]
        key = key_of(run_path, dict(facts))
        for earlier in self._search(experiment, f"tags.key = '{key}'"):
            if earlier.info.status == "RUNNING" and not self._may_take(earlier):
                return None
            self._delete(earlier)
        place = place_of(run_path)
        for other in self._search(experiment, f"tags.place = '{place}'"):
            if other.data.tags["key"] == place:  # an attempt that died before it knew its key
                self._delete(other)
            else:
                self._client.set_tag(other.info.run_id, "current", "false")
        tags = content.tags(run_path, facts) | self._owner_tags()
        tags |= {"mlflow.parentRunId": self._parent(facts), "mlflow.user": _user()}
        # The mark before the run, and the tags with it: a kill at any point leaves nothing that no sweep finds.
        self.ledger.opened(key)
        run = self._client.create_run(
            experiment,
            start_time=content.milliseconds(facts.get("started")),
            run_name=content.run_name(facts),
            tags=tags,
        )
        self._batch(run.info.run_id, params=content.params(facts))
        return OpenRun(run.info.run_id, key, HistoryTail(run_path))

    def follow(self, run: OpenRun) -> None:
        """Write what was added to the history."""
        self._batch(run.run_id, metrics=_points(run.tail.read()))

    def end(self, record: Record, run: OpenRun | None = None) -> None:
        """Write everything of a settled run and close it; nothing if the store holds this outcome already."""
        facts = record.facts
        store_name = self._experiment(facts["system"])[1]
        with store.record_lock(self.ledger):
            latest = newest(record.run_path) if record.digest else None
            if latest is not None and latest.digest != record.digest:
                return  # the job was run again while this waited for the lock; whoever ran it logs it
            if self.ledger.has(store_name, record):
                return
            if run is not None and run.key != record.key:  # the job found other data than it had announced
                self.abandon(run)
                run = None
            run = run or self._begin(record.run_path, facts)
            if run is None:
                return
            self._fill(run, record)
            ended = content.milliseconds(facts.get("ended")) or _now_ms()
            self._client.set_terminated(run.run_id, content.STATUS[facts["status"]], end_time=ended)
            self.ledger.closed(run.key)
            self.ledger.logged(store_name, record, run.run_id)

    def _fill(self, run: OpenRun, record: Record) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        facts = record.facts
        ended = content.milliseconds(facts.get("ended")) or _now_ms()
        self.follow(run)
        # At the last step of the curves, so that the final number is also the "latest" one.
        final = ((name, value, ended, run.tail.last_step) for name, value in content.final_metrics(facts).items())
        self._batch(run.run_id, metrics=final, tags=content.tags(record.run_path, facts))
        inputs = [
            DatasetInput(
                Dataset(one["name"], one["digest"], "local", one["source"]),
                [InputTag("mlflow.data.context", one["context"])],
            )
            for one in content.datasets(facts)
        ]
        if inputs:
            self._client.log_inputs(run.run_id, datasets=inputs)
        chosen, refused = content.artifacts(record.run_path, facts)
        for path, folder in chosen:
            if path.is_dir():
                self._client.log_artifacts(run.run_id, str(path), f"{folder}/{path.name}")
            else:
                self._client.log_artifact(run.run_id, str(path), folder)
        for reason in refused:
            self._warn(f"tracking: not logged: {reason}")

    def abandon(self, run: OpenRun) -> None:
        """Take back a run that turned out to be none."""
        self._delete(self._client.get_run(run.run_id))

    # Parents: one run a system and scenario

    def _parent(self, facts: Mapping[str, Any]) -> str:
        key = content.parent_key(facts)
        if key in self._parents:
            return self._parents[key]
        experiment = self._experiment(facts["system"])[0]
        found = self._search(experiment, f"tags.key = '{key}'")
        tags = {"kind": "scenario", "key": key, "mlflow.user": _user()} | self._owner_tags()
        tags |= {name: str(facts[name]) for name in ("system", "root", "scenario") if facts.get(name)}
        self.ledger.opened(key)
        if found:
            run_id = found[0].info.run_id
            self._batch(run_id, tags=tags)
            self._client.update_run(run_id, status="RUNNING")
        else:
            run = self._client.create_run(experiment, run_name=content.parent_name(facts), tags=tags)
            run_id = run.info.run_id
        self._parents[key] = run_id
        return run_id

    def close(self) -> None:
        """End the parents that this process touched, each with the worst status of what it holds now.

        A parent with a child that another living process shows is left open: that process ends it.
        """
        try:
            self._end_parents()
        finally:
            self._leave()

    def _end_parents(self) -> None:
        experiments = self._ours()
        for run_id in self._stale | set(self._parents.values()):
            key = self._client.get_run(run_id).data.tags["key"]
            children = self._search(experiments, f"tags.mlflow.parentRunId = '{run_id}' and tags.current = 'true'")
            states = {child.info.status for child in children}
            if "RUNNING" not in states:
                worst = next((state for state in ("FAILED", "KILLED") if state in states), "FINISHED")
                self._client.set_terminated(run_id, worst)
            self.ledger.closed(key)
        self._parents.clear()
        self._stale.clear()

    # What a dead process left

    def sweep(self) -> int:
        """Close as KILLED what shows as RUNNING though the process of this machine that showed it is dead."""
        left = self._search(self._ours(), "attributes.status = 'RUNNING'")
        dead = [run for run in left if self._is_orphan(run)]
        for run in dead:
            self._client.set_terminated(run.info.run_id, "KILLED")
            if run.data.tags["kind"] == "scenario":
                self._stale.add(run.info.run_id)
        for key in self.ledger.orphans():
            self.ledger.closed(key)
        return len(dead)

    @staticmethod
    def _is_orphan(run) -> bool:
        return is_dead(*(run.data.tags.get(f"tracker.{name}") for name in _OWNER))

    def _may_take(self, run) -> bool:
        mine = {f"tracker.{name}": str(value) for name, value in owner().items()}
        return self._is_orphan(run) or mine.items() <= run.data.tags.items()

    @staticmethod
    def _owner_tags() -> dict[str, str]:
        return {f"tracker.{name}": str(value) for name, value in owner().items()}

    # MLflow

    def _experiment(self, system: str) -> tuple[str, str]:
        """(id, name of this store in the ledger): a database made anew has another creation time."""
        if system not in self._experiments:
            with store.record_lock(self.ledger):
                found = self._client.get_experiment_by_name(system)
                if found is None:
                    place = store.artifact_location(self.uri, self.results, system)
                    self._client.create_experiment(system, artifact_location=place, tags=_EXPERIMENT_TAGS)
                elif found.lifecycle_stage == "deleted":
                    self._client.restore_experiment(found.experiment_id)
                found = self._client.get_experiment_by_name(system)
            name = re.sub(r"\W", "_", system)
            self._experiments[system] = (found.experiment_id, f"{name}-{found.experiment_id}-{found.creation_time}")
        return self._experiments[system]

    def _ours(self) -> list[str]:
        return [one.experiment_id for one in self._client.search_experiments(filter_string=_OURS)]

    def _search(self, experiments: str | list[str], filter_string: str) -> list:
        ids = [experiments] if isinstance(experiments, str) else experiments
        found, token = [], None
        while ids:
            page = self._client.search_runs(ids, filter_string, max_results=1000, page_token=token)
            found += page
            token = page.token
            if not token:
                break
        return found

    def _delete(self, run) -> None:
        """Delete a run and its artefacts (MLflow keeps a deleted run's row, hidden, until `mlflow gc`)."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        with suppress(Exception):  # a store that can't delete artefacts keeps them: no harm but to the disk
            get_artifact_repository(run.info.artifact_uri).delete_artifacts()
        self._client.delete_run(run.info.run_id)
        self._stale.add(run.data.tags["mlflow.parentRunId"])
        self.ledger.closed(run.data.tags["key"])

    def _batch(
        self,
        run_id: str,
        metrics: Iterable[tuple[str, float, int, int]] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        entities = {
            "metrics": [Metric(*one) for one in metrics],
            "params": [Param(*one) for one in (params or {}).items()],
            "tags": [RunTag(*one) for one in (tags or {}).items()],
        }
        for kind, items in entities.items():
            for begin in range(0, len(items), _BATCH[kind]):
                self._client.log_batch(run_id, **{kind: items[begin : begin + _BATCH[kind]]})


_EXPERIMENT_TAGS = {"written_by": "snakemake_logger_plugin_mlflow"}
_OURS = "tags.written_by = 'snakemake_logger_plugin_mlflow'"


def _points(entries: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, float, int, int]]:
    for entry in entries:
        for name, value in (entry.get("metrics") or {}).items():
            if value is not None:
                yield content.name_of(name), float(value), int(entry["time"] * 1000), int(entry["step"])


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return "unknown"


def _now_ms() -> int:
    return int(time.time() * 1000)
