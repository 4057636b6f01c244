"""Facts about the machine, the software and the cost of this process, for `run.json`."""

import os
import platform
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path

_PACKAGES = ("torch", "numpy", "scipy", "pandas", "xarray", "zarr", "scikit-learn", "safetensors", "snakemake")


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on; read from metadata, nothing is imported."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def git_state() -> dict[str, str | bool | None]:
    """Commit of the project and whether tracked files differ from it; nulls where there is no repository."""
    folder = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


def host() -> str:
    """Name of this machine; a process id means something only beside it."""
    return platform.node()


def process_start(pid: int) -> str | None:
    """An opaque mark of when process `pid` of this machine began, None when there is no such process.

    A process id alone is no identity: the kernel hands it out again.
    """
    try:
        # Field 22 of /proc/<pid>/stat; the second field (the name) may itself hold blanks and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:  # no /proc (macOS): existence is all that can be asked cheaply
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "alive"


def end_with_parent() -> None:
    """Have the kernel send this process SIGTERM when the one that started it dies (Linux; elsewhere nothing).

    A workflow that is killed with -9 ends no job, and the next start would find them still writing the same files.
    """
    if sys.platform == "linux":
        import ctypes

        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def peak_rss_mb() -> float:
    """Largest resident memory of this process so far, in MB (2**20 bytes)."""
    try:
        # ru_maxrss survives exec: a small job forked by a large parent would report the parent's memory.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def _cpu_seconds() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


@dataclass
class CostMeter:
    """Wall seconds since it was made, CPU seconds since then (children included), peak memory."""

    _wall: float = field(default_factory=time.perf_counter)
    _cpu: float = field(default_factory=_cpu_seconds)

    def read(self) -> dict[str, float]:
        return {
            "wall_s": round(time.perf_counter() - self._wall, 3),
            "cpu_s": round(_cpu_seconds() - self._cpu, 3),
            "peak_rss_mb": round(peak_rss_mb(), 1),
        }
