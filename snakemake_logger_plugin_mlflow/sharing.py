"""Who else writes a SQLite database, and whether it lies where SQLite's locks don't hold. No MLflow in here.

On a local disk several processes take turns safely. On a network file system one process alone may write: two can
destroy the database, and neither would be told.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from snakemake_logger_plugin_mlflow.ledger import owner
from snakemake_logger_plugin_mlflow.records import is_dead

MOUNTS = Path("/proc/mounts")
SILENT_S = 300.0  # a writer of another machine that has given no sign for so long is taken for dead
NETWORK = frozenset(
    "9p acfs afs beegfs ceph cifs coda fhgfs fuse.beegfs fuse.ceph fuse.cvmfs2 fuse.glusterfs fuse.gpfs fuse.juicefs "
    "fuse.lustre fuse.s3fs fuse.sshfs fuse.rclone glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 orangefs panfs pvfs2 smb3 "
    "smbfs virtiofs wekafs".split()
)
CURE = 'set MLFLOW_TRACKING_URI to a tracking server (docs/scale.md, "One tracker")'


def database(uri: str) -> Path | None:
    """The file behind a SQLite URI; None for servers and for a database in memory."""
    path = uri.removeprefix("sqlite:///")
    return Path(path).absolute() if path not in (uri, "") else None


def network_file_system(path: Path, mounts: Path | None = None) -> str | None:
    """Type and place of the network file system that holds `path`, such as "nfs4 at /home"; None on a local disk.

    Also None where the system has no list of its mounts (it isn't Linux).
    """
    try:
        lines = (mounts or MOUNTS).read_text().splitlines()
    except OSError:
        return None
    path = path.resolve()
    best = ("", "")
    for line in lines:
        _, place, kind, *_ = line.split()
        place = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), place)  # blanks stand as \040
        if path.is_relative_to(place) and len(place) >= len(best[0]):  # a later mount hides an earlier one
            best = (place, kind)
    return f"{best[1]} at {best[0]}" if best[1] in NETWORK else None


@dataclass(frozen=True)
class Verdict:
    """What is to be said about a database, and whether it may be written."""

    text: str | None = None
    allowed: bool = True


class Presence:
    """A file beside the database that says: this process writes it. `renew` it now and then, `leave` at the end."""

    def __init__(self, path: Path):
        self._folder = path.with_name(f".{path.name}.writers")
        self._path = path
        me = owner()
        self._mark = self._folder / f"{me['host']}-{me['pid']}.json"

    def enter(self, mounts: Path | None = None) -> Verdict:
        """Announce this process, and look who is there already."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._mark.write_text(json.dumps(owner()))
        network = network_file_system(self._path.parent, mounts)
        others = self._others()
        who = ", ".join(f"process {mark['pid']} on {mark['host']}" for mark in others)
        elsewhere = [mark for mark in others if mark["host"] != owner()["host"]]
        if others and (network or elsewhere):
            self.leave()
            place = f" ({network})" if network else ""
            return Verdict(
                f"{who} writes this SQLite database, too, and it is on a network file system{place}, where that can "
                f"destroy it; {CURE}",
                allowed=False,
            )
        if network:
            return Verdict(
                f"{self._path} is SQLite on a network file system ({network}): safe for one Snakemake at a time only; "
                f"for more, {CURE}"
            )
        if others:
            return Verdict(f"{who} writes {self._path}, too: they take turns, which is slow; to avoid it, {CURE}")
        return Verdict()

    def _others(self) -> list[dict]:
        """Marks of other living processes; those of dead ones go."""
        found = []
        now = self._mark.stat().st_mtime  # the file system's clock, not this machine's
        for path in sorted(self._folder.glob("*.json")):
            if path == self._mark:
                continue
            try:
                mark, age = json.loads(path.read_text()), now - path.stat().st_mtime
                here = mark["host"] == owner()["host"]
                dead = is_dead(mark["host"], mark["pid"], mark["process_start"]) if here else age > SILENT_S
            except (OSError, ValueError, KeyError):
                continue  # just being written or removed
            if dead:
                path.unlink(missing_ok=True)
            else:
                found.append(mark)
        return found

    def renew(self) -> None:
        os.utime(self._mark)

    def leave(self) -> None:
        self._mark.unlink(missing_ok=True)
