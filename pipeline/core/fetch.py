"""Bringing the files of a data set into the cache: resumable, checked, atomic.

Transfers go through pooch with a downloader of our own, because pooch's starts again from the first byte after an
interruption. Whatever arrives lies under ``<folder>/.incoming`` until it has been checked, so the cache holds whole
files only. Each fault has its own message.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from .catalog import Entry, File
from .errors import DataError
from .progress import Progress
from .store import digest

Report = Callable[[int, int | None], None]  # bytes so far, bytes in all (None: the server doesn't say)
ATTEMPTS = 3
CONNECT_S, STALLED_S = 10.0, 30.0
CHUNK = 1 << 16


class Fault(Exception):
    """Why one address did not give the file."""


def _git_sha1(path: Path) -> str:
    total = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            total.update(chunk)
    return total.hexdigest()


def problem(file: File, path: Path) -> str:
    """What is wrong with the bytes at ``path``, or "" where they are those of the catalogue."""
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size == 0:
        return "is empty"
    with path.open("rb") as stream:
        head = stream.read(512).lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "is a web page, not the data file (a login, a notice or an error page was saved in its place)"
    if file.bytes and size < file.bytes:
        return f"is truncated: {size:,} of {file.bytes:,} bytes"
    if file.sha256 and (found := digest(path)) != file.sha256:
        return f"has the wrong checksum: SHA-256 {found}, the catalogue says {file.sha256}"
    if not file.sha256 and file.git_sha1 and (found := _git_sha1(path)) != file.git_sha1:
        return f"has the wrong checksum: git blob {found}, the catalogue says {file.git_sha1}"
    return ""


def package_file(entry: Entry, file: File) -> Path:
    """The file inside the installed package that carries it; the package itself is not imported.

    Raises
    ------
    DataError
        Where the package is not installed.
    """
    spec = importlib.util.find_spec(str(entry.package))
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            f"Data set {entry.name!r} lies in the Python package {entry.package!r}, which is not installed; "
            "install the locked requirements"
        )
    return Path(spec.submodule_search_locations[0]) / str(file.package_path)


class Reachable:
    """One short look whether an address answers; a host without connection is asked once only.

    Called with a URL it returns "" where the file can be had, else the reason in a few words.
    """

    def __init__(self, timeout: float = 3.0):
        self.timeout = timeout
        self._dead: dict[str, str] = {}

    def __call__(self, url: str) -> str:
        host = urlsplit(url).netloc
        if host in self._dead:
            return self._dead[host]
        answer: list[int | None] = []
        # A thread, because the look-up of a host name knows no time limit.
        asking = threading.Thread(target=lambda: answer.append(self._status(url)), daemon=True)
        asking.start()
        asking.join(2 * self.timeout)
        status = answer[0] if answer else None
        if status is None:
            self._dead[host] = f"no network connection to {host}"
            return self._dead[host]
        # 405 and 501: the server is there, but answers no HEAD.
        return "" if status < 400 or status in (405, 501) else f"{host} answers {status}"

    def _status(self, url: str) -> int | None:
        import requests

        try:
            with requests.head(url, allow_redirects=True, timeout=self.timeout) as answer:
                return answer.status_code
        except requests.RequestException:
            return None


def shown(name: str) -> Report:
    """Progress on standard error: a bar on a terminal, lines with the time left elsewhere."""
    progress: Progress | None = None

    def report(done: int, total: int | None) -> None:
        nonlocal progress
        if progress is None:
            bar = sys.stderr.isatty()
            progress = Progress(total or 0, f"fetch {name} [bytes]", write=_say, bar=bar, initial=done)
        progress.update(done)
        if done == total:
            progress.close()

    return report


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Resumable:
    """A pooch downloader that continues the bytes kept in ``part``.

    A connection that breaks is taken up again ``ATTEMPTS`` times; after that ``part`` stays for the next run. The
    server's entity tag is kept beside it, so that bytes of two versions are never joined.
    """

    def __init__(self, file: File, part: Path, report: Report):
        self.file = file
        self.part = part
        self.tag = part.with_name(part.name + ".etag")
        self.report = report

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        joined, breaks = self.part.exists(), 0
        while True:
            try:
                self._transfer(url)
            except ConnectionError as error:
                breaks += 1
                if breaks == ATTEMPTS:
                    kept = self.part.stat().st_size if self.part.exists() else 0
                    raise Fault(
                        f"the transfer was interrupted after {kept:,} bytes ({error}); they are kept, "
                        "run again to continue"
                    ) from None
                time.sleep(0.5 * breaks)
                continue
            self.tag.unlink(missing_ok=True)
            if wrong := problem(self.file, self.part):
                self.part.unlink()
                if not joined:
                    raise Fault(f"what arrived {wrong}")
                joined = False  # what an earlier run left may be to blame: the whole file once more
                continue
            os.replace(self.part, output_file)
            return

    def _transfer(self, url: str) -> None:
        import requests
        import urllib3

        have = self.part.stat().st_size if self.part.exists() else 0
        # Identity: the bytes counted are those of the file, and a .gz file arrives as it is.
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if self.tag.exists():
                headers["If-Range"] = self.tag.read_text()
        try:
            answer = requests.get(url, headers=headers, stream=True, timeout=(CONNECT_S, STALLED_S))
        except requests.RequestException as error:
            raise Fault(f"no network connection to {urlsplit(url).netloc} ({_short(error)})") from None
        with answer:
            if answer.status_code == 416:  # what is kept doesn't belong to this file
                self.part.unlink(missing_ok=True)
                raise ConnectionError("the part kept did not fit")
            if answer.status_code in (404, 410):
                raise Fault(f"the server answers {answer.status_code}: there is no such file (moved or renamed)")
            if answer.status_code >= 400:
                raise Fault(f"the server answers {answer.status_code} {answer.reason}")
            if answer.headers.get("Content-Type", "").startswith("text/html"):
                raise Fault("the server sent a web page, not the data file (a login, a notice or an error page)")
            resumed = answer.status_code == 206
            length = answer.headers.get("Content-Length")
            total = int(length) + (have if resumed else 0) if length else None
            if tag := answer.headers.get("ETag"):
                self.tag.write_text(tag)
            done = have if resumed else 0
            try:
                with self.part.open("ab" if resumed else "wb") as stream:
                    for chunk in answer.raw.stream(CHUNK, decode_content=False):
                        stream.write(chunk)
                        done += len(chunk)
                        self.report(done, total)
            except (urllib3.exceptions.HTTPError, requests.RequestException) as error:
                raise ConnectionError(_short(error)) from None
            if total is not None and done < total:
                raise ConnectionError(f"{done:,} of {total:,} bytes arrived")


def _short(error: BaseException) -> str:
    """The innermost reason of a nested network error."""
    reason = getattr(error, "reason", None) or (error.args[0] if error.args else error)
    while isinstance(reason, BaseException):
        reason = getattr(reason, "reason", None) or (reason.args[0] if reason.args else type(reason).__name__)
    return str(reason).split("object at 0x")[0].rsplit(">: ", 1)[-1][:160]


def _download(url: str, file: File, incoming: Path, report: Report) -> Path:
    """One address; afterwards the file lies in ``incoming``, checked."""
    import logging

    import pooch

    pooch.get_logger().setLevel(logging.WARNING)
    known = f"sha256:{file.sha256}" if file.sha256 else None
    (incoming / file.name).unlink(missing_ok=True)  # pooch would take a leftover for the file
    downloader = Resumable(file, incoming / f"{file.name}.part", report)
    return Path(pooch.retrieve(url, known, fname=file.name, path=incoming, downloader=downloader))


def _bring(entry: Entry, file: File, incoming: Path, report: Report) -> Path:
    if entry.source == "package":
        source = package_file(entry, file)
        if wrong := problem(file, source):
            raise DataError(
                f"Data set {entry.name!r}: {source.name} of the package {entry.package!r} {wrong}; install the version "
                "of the package that requirements.lock names"
            )
        return Path(shutil.copyfile(source, incoming / file.name))
    faults = []
    for url in file.url:
        try:
            return _download(url, file, incoming, report)
        except Fault as fault:
            faults.append(f"{url}: {fault}")
    raise DataError(
        f"Data set {entry.name!r}: {file.name} can't be fetched. "
        + "; ".join(faults)
        + f". Try again later, or name your copy in the configuration (data: {{{entry.name}: <path>}})."
    )


def fetch(entry: Entry, folder: Path | str, report: Report | None = None) -> list[Path]:
    """Put the files of a download or package data set into ``folder``.

    Files that are there and pass their check are left alone.

    Parameters
    ----------
    entry: the data set.
    folder: where to, normally ``data/raw/<name>``.
    report: called with bytes so far and in all; default: :func:`shown`.

    Returns
    -------
    The files' paths, in the order of the catalogue.

    Raises
    ------
    DataError
        No network, an answer of 404, an interrupted transfer (what arrived is kept and continued by the next call), a
        truncated file, a wrong checksum, a web page in place of the file, a missing package, a folder that can't be
        written. Nothing half written is left under a file's name.
    """
    folder = Path(folder)
    if entry.source not in ("download", "package"):
        raise DataError(f"Data set {entry.name!r} has source {entry.source!r}: there is nothing to fetch")
    incoming = folder / ".incoming"
    try:
        for file in entry.files:
            target = folder / file.name
            if not problem(file, target):
                continue
            incoming.mkdir(parents=True, exist_ok=True)
            os.replace(_bring(entry, file, incoming, report or shown(file.name)), target)
        if incoming.exists():
            shutil.rmtree(incoming)
    except OSError as error:
        raise DataError(f"Data set {entry.name!r}: {folder} can't be written: {error}") from error
    return [folder / file.name for file in entry.files]
