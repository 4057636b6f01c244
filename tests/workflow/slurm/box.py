"""A Slurm cluster of one node, run by whoever calls it out of a folder of its own: no root, no systemd, no trace.

Slurm's commands on the machine are used where there are any. Otherwise Debian's packages are downloaded and unpacked
into a folder, not installed: Snakemake's Slurm plugin asks `scontrol` at every start of every Snakemake, which costs
seconds on a machine that has Slurm's commands and no running Slurm.
"""

import getpass
import os
import platform
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

from pipeline.core.environment import end_with_parent

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
DAEMONS = ("slurmctld", "slurmd", "slurmstepd", "munged")
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo", "sacct", "sacctmgr", "sshare")
PROGRAMS = (*DAEMONS, *COMMANDS)
PATIENCE_S = 60

CONFIG = """\
ClusterName=box
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
PluginDir={plugins}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
EnforcePartLimits=ALL
SchedulerParameters=sched_interval=1,batch_sched_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb} State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class CannotRun(Exception):
    """Slurm can't run here, and why."""


class Box:
    """The cluster: `start` it, run commands with `environment()`, `stop` it.

    Parameters
    ----------
    folder: everything that the daemons write; made anew.
    cache: where downloaded packages are unpacked and found by the next call.
    cpus: cores that Slurm may give away; it doesn't look how many there are.
    """

    def __init__(self, folder: Path, cache: Path, cpus: int = 2):
        self.folder, self.cache, self.cpus = folder, cache, cpus
        self._daemons: list[subprocess.Popen] = []
        self._root: Path | None = None
        self._bin = folder / "bin"

    # Programs

    def _found(self) -> dict[str, Path]:
        """Slurm's programs: on the machine, or in the unpacked packages."""
        search = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
        found = {name: shutil.which(name, path=search) for name in PROGRAMS}
        if all(found.values()):
            self._root = None
            return {name: Path(path) for name, path in found.items()}
        root = self.cache / "root"
        unpacked = {}
        for name in PROGRAMS:  # Debian calls some <name>-wlm, and links them in a script that doesn't run here
            places = [root / folder / f"{name}{end}" for folder in ("usr/sbin", "usr/bin") for end in ("-wlm", "")]
            unpacked.update((name, path) for path in places if path.exists())
        self._root = root
        return unpacked if len(unpacked) == len(PROGRAMS) else {}

    def _download(self) -> None:
        """Debian's packages, and what they need that the machine doesn't have, unpacked below `cache`."""
        for tool in ("apt-get", "dpkg"):
            if shutil.which(tool) is None:
                raise CannotRun(f"Slurm isn't installed and there is no {tool}: install {', '.join(PACKAGES)} yourself")
        packages = self.cache / "packages"
        shutil.rmtree(self.cache, ignore_errors=True)
        packages.mkdir(parents=True)
        error = self._fetch(packages, [])
        if error:  # no package lists, or old ones: get them, into the cache, which needs no root
            lists = self.cache / "lists"
            (lists / "partial").mkdir(parents=True)
            private = ["-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={self.cache}/apt"]
            private += ["-o", "APT::Sandbox::User="]
            (self.cache / "apt/archives/partial").mkdir(parents=True)
            self._apt(packages, [*private, "update"])
            error = self._fetch(packages, private)
        if error:
            raise CannotRun(f"Slurm isn't installed and Debian's packages can't be had: {error}")
        for package in sorted(packages.glob("*.deb")):
            subprocess.run(["dpkg", "-x", package, self.cache / "root"], check=True)

    def _fetch(self, folder: Path, options: list[str]) -> str:
        """Download what an installation would; returns the error, empty when all went well."""
        planned = self._apt(folder, [*options, "-s", "install", "--no-install-recommends", *PACKAGES])
        names = [line.split()[1] for line in planned.stdout.splitlines() if line.startswith("Inst ")]
        if planned.returncode or not names:
            return _last_line(planned.stderr) or "nothing to download"
        done = self._apt(folder, [*options, "download", *names])
        return _last_line(done.stderr) if done.returncode else ""

    @staticmethod
    def _apt(folder: Path, arguments: list[str]) -> subprocess.CompletedProcess:
        environment = os.environ | {"LC_ALL": "C"}
        return subprocess.run(["apt-get", *arguments], cwd=folder, env=environment, capture_output=True, text=True)

    # Daemons

    def start(self) -> None:
        """Start munged, slurmctld and slurmd, and wait until the node takes jobs. Raises CannotRun."""
        if platform.system() != "Linux":
            raise CannotRun("Slurm runs on Linux only")
        programs = self._found()
        if not programs:
            self._download()
            programs = self._found()
        if not programs:
            raise CannotRun(f"the packages in {self.cache} don't hold all of {', '.join(PROGRAMS)}")
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        for name, program in programs.items():
            self._wrap(name, program)
        try:
            self._start(programs)
        except BaseException:
            self.stop()
            raise

    def _wrap(self, name: str, program: Path) -> None:
        """A command that knows this cluster by itself: in a job Snakemake calls srun without any SLURM_* variable."""
        lines = ["#!/bin/sh", f"export SLURM_CONF={self.folder}/slurm.conf"]
        if self._root:
            libraries = sorted({str(path.parent) for path in self._root.glob("usr/lib/**/*.so*")})
            lines.append(f'export LD_LIBRARY_PATH={":".join(libraries)}"${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"')
        (self._bin / name).write_text("\n".join([*lines, f'exec {program} "$@"', ""]))
        (self._bin / name).chmod(0o755)

    def _start(self, programs: dict[str, Path]) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        host = socket.gethostname().split(".")[0]
        ports = _free_ports(2)
        (self.folder / "slurm.conf").write_text(
            CONFIG.format(
                host=host,
                user=getpass.getuser(),
                folder=self.folder,
                plugins=self._plugins(),
                ctld_port=ports[0],
                slurmd_port=ports[1],
                cpus=self.cpus,
                memory_mb=_memory_mb() - 512,
            )
        )
        (self.folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
        options = [f"--{name}={self.folder}/munge.{name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
        self._daemon("munged", "--foreground", "--force", f"--key-file={key}", *options)
        self._wait(lambda: (self.folder / "munge.socket").exists(), "munged")
        self._daemon("slurmctld", "-D", "-f", str(self.folder / "slurm.conf"))
        self._daemon("slurmd", "-D", "-N", host, "-f", str(self.folder / "slurm.conf"), *self._stepd(programs))
        self._wait(lambda: self.ask("sinfo", "-h", "-o", "%T").strip() in ("idle", "mixed", "allocated"), "slurmd")

    def _stepd(self, programs: dict[str, Path]) -> list[str]:
        return ["-d", str(programs["slurmstepd"])] if self._root else []

    def _plugins(self) -> Path:
        places = [self._root] if self._root else [Path("/")]
        found = [path.parent for root in places for path in root.glob("usr/lib*/**/select_cons_tres.so")]
        if not found:
            raise CannotRun("Slurm's plugins (select_cons_tres.so) are in no folder below /usr/lib")
        return found[0]

    def _daemon(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.out").open("w") as output:
            self._daemons.append(
                subprocess.Popen(
                    [self._bin / name, *arguments],
                    env=self.environment(),
                    cwd=self.folder,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C ends the tests, and they end the daemons
                    preexec_fn=end_with_parent,  # so does a kill that leaves the tests no time for it
                )
            )

    def _wait(self, condition, name: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            dead = [daemon for daemon in self._daemons if daemon.poll() is not None]
            if dead or time.monotonic() > deadline:
                logs = "\n".join(_last_line(path.read_text()) for path in self.folder.glob("*.out"))
                raise CannotRun(f"{name} doesn't start here; its log is in {self.folder}:\n{logs}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Cancel what runs and end the daemons, last started first."""
        if any(daemon.poll() is None for daemon in self._daemons):
            self.ask("scancel", "--full", "--state=RUNNING,PENDING", "--user", getpass.getuser())
            deadline = time.monotonic() + 10
            while self.ask("squeue", "-h").strip() and time.monotonic() < deadline:
                time.sleep(0.2)
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._daemons.clear()

    # Use

    def environment(self) -> dict[str, str]:
        """Variables with which Slurm's commands reach this cluster and no other."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        return clean | {"PATH": f"{self._bin}{os.pathsep}{clean['PATH']}"}

    def ask(self, *command: str) -> str:
        """What one of Slurm's commands prints."""
        return subprocess.run(
            command, env=self.environment(), capture_output=True, text=True, timeout=PATIENCE_S
        ).stdout


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _memory_mb() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
