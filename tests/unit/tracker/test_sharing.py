"""SQLite that several processes write, and SQLite on a network file system: what is said, what is refused."""

import json
import os
from pathlib import Path

import pytest

from pipeline.core import environment
from snakemake_logger_plugin_mlflow import sharing
from snakemake_logger_plugin_mlflow.sharing import Presence, database, network_file_system
from snakemake_logger_plugin_mlflow.store import TrackerUnavailable
from snakemake_logger_plugin_mlflow.writer import Writer


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """A table of mounts: `<tmp>/shared disk` is NFS, `<tmp>/shared disk/scratch` in it is local."""
    shared = f"{tmp_path}/shared disk".replace(" ", "\\040")
    table = tmp_path / "mounts"
    table.write_text(
        f"/dev/sda / ext4 rw 0 0\nserver:/home {shared} nfs4 rw,vers=4.2 0 0\n/dev/sdb {shared}/scratch xfs rw 0 0\n"
    )
    (tmp_path / "shared disk" / "scratch").mkdir(parents=True)
    return table


def other(path: Path, host: str, pid: int, age_s: float = 0.0, start: str | None = None) -> Path:
    """The mark of another writer, as that one would have left it `age_s` seconds ago."""
    folder = path.with_name(f".{path.name}.writers")
    folder.mkdir(exist_ok=True)
    mark = folder / f"{host}-{pid}.json"
    mark.write_text(json.dumps({"host": host, "pid": pid, "process_start": start}))
    now = mark.stat().st_mtime
    os.utime(mark, (now - age_s, now - age_s))
    return mark


def test_the_innermost_mount_decides_and_blanks_in_its_name_are_read(tmp_path: Path, mounts: Path) -> None:
    shared = tmp_path / "shared disk"
    assert network_file_system(shared, mounts) == f"nfs4 at {shared}"
    assert network_file_system(shared / "not there yet" / "deep", mounts) == f"nfs4 at {shared}"
    assert network_file_system(shared / "scratch", mounts) is None
    assert network_file_system(tmp_path, mounts) is None
    assert network_file_system(tmp_path / "shared disk 2", mounts) is None
    assert network_file_system(shared, tmp_path / "no list of mounts") is None


def test_only_sqlite_files_have_a_database_path(tmp_path: Path) -> None:
    assert database(f"sqlite:///{tmp_path}/mlflow.db") == tmp_path / "mlflow.db"
    assert database("sqlite:///results/mlflow.db") == Path.cwd() / "results/mlflow.db"
    assert database("http://host:5000") is None and database("sqlite://") is None
    assert database("postgresql://host/db") is None


def test_alone_on_a_local_disk_nothing_is_said_and_nothing_left(tmp_path: Path, mounts: Path) -> None:
    presence = Presence(tmp_path / "mlflow.db")
    assert presence.enter(mounts) == sharing.Verdict(None, True)
    presence.renew()
    presence.leave()
    assert not list(tmp_path.glob(".mlflow.db.writers/*"))


def test_alone_on_a_network_file_system_is_allowed_with_one_warning_that_names_the_cure(tmp_path, mounts) -> None:
    verdict = Presence(tmp_path / "shared disk" / "mlflow.db").enter(mounts)
    assert verdict.allowed and "nfs4 at " in verdict.text and "MLFLOW_TRACKING_URI" in verdict.text


def test_two_on_one_machine_take_turns_and_dead_ones_are_forgotten(tmp_path: Path, mounts: Path) -> None:
    path = tmp_path / "mlflow.db"
    alive = os.getppid()
    mark = other(path, environment.host(), alive, start=environment.process_start(alive))
    dead = other(path, environment.host(), 4194999, start="1")  # above any pid_max
    verdict = Presence(path).enter(mounts)
    assert verdict.allowed and f"process {alive} on {environment.host()}" in verdict.text
    assert "take turns" in verdict.text and "MLFLOW_TRACKING_URI" in verdict.text
    assert mark.exists() and not dead.exists()


@pytest.mark.parametrize("place", [".", "shared disk"], ids=["unknown file system", "nfs"])
def test_a_second_machine_is_refused_until_the_first_is_silent_for_long(tmp_path, mounts, place) -> None:
    path = tmp_path / place / "mlflow.db"
    mark = other(path, "elsewhere", 7, age_s=sharing.SILENT_S / 2)
    presence = Presence(path)
    verdict = presence.enter(mounts)
    assert not verdict.allowed and "process 7 on elsewhere" in verdict.text and "MLFLOW_TRACKING_URI" in verdict.text
    assert [one.name for one in mark.parent.iterdir()] == [mark.name]  # who was refused announces nothing
    other(path, "elsewhere", 7, age_s=sharing.SILENT_S * 2)
    assert presence.enter(mounts).allowed and not mark.exists()


def test_two_on_one_machine_are_refused_on_a_network_file_system(tmp_path: Path, mounts: Path) -> None:
    path = tmp_path / "shared disk" / "mlflow.db"
    alive = os.getppid()
    other(path, environment.host(), alive, start=environment.process_start(alive))
    assert not Presence(path).enter(mounts).allowed


def test_a_refused_writer_connects_to_nothing_and_says_why(tmp_path: Path) -> None:
    other(tmp_path / "mlflow.db", "elsewhere", 7)
    with pytest.raises(TrackerUnavailable, match=r"process 7 on elsewhere .* MLFLOW_TRACKING_URI"):
        Writer(tmp_path)
    assert not (tmp_path / "mlflow.db").exists()
