"""Which data set, and which copy of it, a scenario uses: decided once, recorded, read by every job.

A preference list such as ``[etth1, nyc_weather]`` means: the first that can be had. For each name the places are, in
this order: the path in the user's configuration, the cache, the folders of ``PIPELINE_DATA_DIRS``, the package that
carries it (or its simulator), its URL. The decision lies in ``data/choices.json``, so that jobs on other nodes need not
and do not decide again, and results always bear the name of the data really used.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .catalog import CACHE, Catalog, Entry, File
from .errors import DataError
from .fetch import Reachable, package_file, problem
from .store import digest, read_json, write_json

RECORD = Path("data/choices.json")
SCHEMA = "choices/1"


@dataclass(frozen=True)
class Choice:
    """The data that a scenario really uses.

    Attributes
    ----------
    name, requested: data set used, and the one that was preferred.
    source: ``config`` (the user's path), ``cache``, ``folder``, ``download``, ``package`` or ``simulation``.
    files: what rules take as inputs; none for a simulation.
    sha256: of the file; of the lines "<name> <digest>" where there are several; None before a download without
        published digest.
    licence: as the catalogue states it.
    notes: why earlier preferences or places were passed over.
    """

    name: str
    requested: str
    source: str
    files: tuple[str, ...]
    sha256: str | None
    licence: str
    notes: tuple[str, ...] = ()

    @property
    def fetched(self) -> bool:
        """Whether the rule ``fetch`` makes the files."""
        return self.source in ("cache", "download", "package")

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "files": list(self.files), "notes": list(self.notes)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Choice:
        return cls(**{**fields, "files": tuple(fields["files"]), "notes": tuple(fields["notes"])})

    def announcement(self) -> str:
        """What the user is told."""
        lines = [f"data: {self.name} ({self.source})"]
        if self.name != self.requested:
            lines[0] += f" IN PLACE OF {self.requested}; `python -m pipeline data --refresh` decides anew"
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


def combined(digests: Sequence[tuple[str, str]]) -> str:
    """One digest for the files of a data set: a single file's own, else that of the lines "<name> <digest>"."""
    if len(digests) == 1:
        return digests[0][1]
    return hashlib.sha256("".join(f"{name} {value}\n" for name, value in digests).encode()).hexdigest()


def digest_of(paths: Sequence[Path | str]) -> str:
    """:func:`combined` digest of files that are at hand."""
    return combined([(Path(path).name, digest(path)) for path in paths])


def data_folders() -> list[Path]:
    """The folders of ``PIPELINE_DATA_DIRS``, a list separated as ``PATH`` is."""
    return [Path(part) for part in os.environ.get("PIPELINE_DATA_DIRS", "").split(os.pathsep) if part]


def _form(file: File, places: Sequence[Path], notes: list[str]) -> Path | None:
    """The first copy among ``places`` (folders) that is the catalogue's file or an alternative form of it."""
    for place in places:
        for form in (file, *file.alternatives):
            for relative in dict.fromkeys([*form.aliases, form.name]):
                path = place / relative
                if path.is_file():
                    wrong = problem(form, path)
                    if not wrong:
                        return path
                    notes.append(f"{path} is passed over: it {wrong}")
    return None


def _user(entry: Entry, paths: Sequence[Path]) -> list[Path]:
    """Files at the paths that the user's configuration names; they must be what it says they are."""
    for path in paths:
        if not path.exists():
            raise DataError(
                f"data.{entry.name}: {path} does not exist; correct the path in the configuration, or take the line out"
            )
    if entry.source == "config":  # the user's own data: the reader says what is wrong with its content
        return list(paths)
    path = paths[0]
    where = f"data.{entry.name}: {path}"
    if path.is_dir():
        notes: list[str] = []
        found = [_form(file, [path], notes) for file in entry.files]
        missing = [file.name for file, copy in zip(entry.files, found, strict=True) if copy is None]
        if missing:
            raise DataError(f"{where} does not hold {', '.join(missing)}. {' '.join(notes)}".rstrip())
        return [copy for copy in found if copy]
    if len(entry.files) != 1:
        raise DataError(f"{where} must be a folder with {', '.join(file.name for file in entry.files)}")
    if wrong := problem(entry.form(path), path):
        raise DataError(
            f"{where} {wrong}. It can't stand for {entry.name!r}; give changed or other data a name of its own "
            "(data: {<name>: {path: …, …}})"
        )
    return [path]


def _set_aside(path: Path, wrong: str, notes: list[str]) -> None:
    """Move a damaged file of the cache out of the way, so that the rule ``fetch`` makes it anew."""
    damaged = path.with_name(path.name + ".damaged")
    os.replace(path, damaged)
    notes.append(f"{path} {wrong}; it is kept as {damaged.name}")


def _local(
    catalog: Catalog, entry: Entry, folders: Sequence[Path], cache: Path, notes: list[str]
) -> tuple[str, list[Path]] | None:
    """Source and files of a copy that needs no network."""
    if entry.name in catalog.user_paths:
        return "config", _user(entry, catalog.user_paths[entry.name])
    if entry.source == "simulation":
        return "simulation", []
    cached = entry.cached(cache)
    whole = True
    for file, path in zip(entry.files, cached, strict=True):
        if wrong := problem(file, path):
            whole = False
            if path.is_file():
                _set_aside(path, wrong, notes)
    if whole:
        return ("package" if entry.source == "package" else "cache"), cached
    found = [_form(file, folders, notes) for file in entry.files]
    if all(found):
        return "folder", [path for path in found if path]
    if entry.source == "package":
        try:
            for file in entry.files:
                if wrong := problem(file, package_file(entry, file)):
                    notes.append(f"{entry.name}: {file.name} of the package {entry.package} {wrong}")
                    return None
        except DataError as error:
            notes.append(str(error))
            return None
        return "package", cached
    return None


def _unreachable(entry: Entry, reachable: Callable[[str], str]) -> str:
    """Why the files can't be downloaded, "" where they can: one short look at each file's addresses."""
    for file in entry.files:
        reasons = []
        for url in file.url:
            reason = reachable(url)
            if not reason:
                break
            reasons.append(reason)
        else:
            return "; ".join(dict.fromkeys(reasons)) or "no address is known"
    return ""


def _published(entry: Entry) -> str | None:
    digests = [(file.name, file.sha256) for file in entry.files]
    return combined([(n, d) for n, d in digests if d]) if all(d for _, d in digests) else None


def choose(
    catalog: Catalog,
    preferences: Sequence[str],
    *,
    folders: Sequence[Path] | None = None,
    cache: Path = CACHE,
    strict: bool = False,
    reachable: Callable[[str], str] | None = None,
) -> Choice:
    """Decide which data set is used, and from where.

    Parameters
    ----------
    catalog: all data sets, with the paths of the user's configuration.
    preferences: names; the first that can be had is taken.
    folders: where to look for files; default :func:`data_folders`.
    cache: root of the cache, ``data/raw``.
    strict: only the first preference will do.
    reachable: gives "" or the reason why a URL can't be had; default one short request.

    Raises
    ------
    ConfigError
        A name that is not in the catalogue (all are checked, also those that are not needed).
    DataError
        A path in the configuration that does not hold the data; no preference can be had; ``strict`` and not the first.
    """
    entries = [catalog[name] for name in preferences]
    if not entries:
        raise DataError("A list of preferred data sets must not be empty")
    folders = data_folders() if folders is None else [Path(folder) for folder in folders]
    reachable = Reachable() if reachable is None else reachable
    notes: list[str] = []
    for entry in entries:
        local = _local(catalog, entry, folders, cache, notes)
        if local:
            source, files = local
            value = _published(entry) if source == "package" else digest_of(files) if files else None
        elif entry.source == "download" and not (reason := _unreachable(entry, reachable)):
            source, files, value = "download", entry.cached(cache), _published(entry)
        else:
            if entry.source == "download":
                notes.append(f"{entry.name} is neither at hand nor can it be fetched: {reason}")
            if strict:
                break
            continue
        return Choice(entry.name, entries[0].name, source, tuple(map(str, files)), value, entry.licence, tuple(notes))
    first, places = entries[0].name, ", ".join(map(str, folders)) or "none named"
    others = ", ".join(preferences[1:])
    if strict and others:
        instead = " (strict_data forbids another in its place)"
    else:
        instead = f", nor {others}" if others else ""
    raise DataError(
        f"Data set {first!r} can't be had{instead}. {'; '.join(notes)}. Looked in {cache / first} and in the folders "
        f"of PIPELINE_DATA_DIRS ({places}). Name your copy in the configuration (data: {{{first}: <path>}}), put it "
        "into one of these folders, or try again with a network connection."
    )


def assumed(catalog: Catalog, preferences: Sequence[str], *, cache: Path = CACHE) -> Choice:
    """The first preference as a dry run takes it: nothing is looked for, asked or written."""
    entry = [catalog[name] for name in preferences][0]
    if entry.name in catalog.user_paths:
        source, files = "config", list(catalog.user_paths[entry.name])
    else:
        source, files = entry.source, entry.cached(cache) if entry.source != "simulation" else []
    return Choice(entry.name, entry.name, source, tuple(map(str, files)), _published(entry), entry.licence)


def _stands(catalog: Catalog, preferences: Sequence[str], choice: Choice, strict: bool) -> bool:
    """Whether a recorded choice still follows from the configuration, and its files in place are there."""
    if choice.name not in catalog or choice.name not in preferences or (strict and choice.name != preferences[0]):
        return False
    for name in preferences[: list(preferences).index(choice.name) + 1]:
        paths = catalog.user_paths.get(name)
        if (paths is not None or choice.source == "config") and name == choice.name:
            if paths is None or choice.source != "config" or not _same_files(choice.files, paths):
                return False
        elif paths is not None:
            return False
    return choice.fetched or all(Path(file).exists() for file in choice.files)


def _same_files(files: Sequence[str], paths: Sequence[Path]) -> bool:
    """Whether recorded files are those that the user names; a folder named alone holds the files."""
    if len(paths) > 1:
        return [Path(file) for file in files] == list(paths)
    return all(Path(file) == paths[0] or paths[0] in Path(file).parents for file in files)


def resolve(
    catalog: Catalog,
    preferences: Sequence[str],
    *,
    record: Path = RECORD,
    folders: Sequence[Path] | None = None,
    cache: Path = CACHE,
    strict: bool = False,
    refresh: bool = False,
    dry: bool = False,
    recorded_only: bool = False,
    reachable: Callable[[str], str] | None = None,
) -> Choice:
    """The recorded choice for a preference list; where there is none, decide and record it.

    Parameters are those of :func:`choose`, and

    record: the file of all choices, replaced atomically.
    refresh: decide anew.
    dry: write nothing; without a record assume the first preference.
    recorded_only: a job's process, perhaps on another node: what the main process recorded stands; nothing is decided.

    Raises
    ------
    ConfigError, DataError
        As :func:`choose`; and ``recorded_only`` where nothing is recorded.
    """
    key = ",".join(preferences)
    recorded = read_choices(record)
    if recorded_only:
        if key in recorded:
            return recorded[key]
        raise DataError(
            f"{record} records no choice among {key}, and a job does not decide; start the workflow (or `python -m "
            "pipeline data`) where it can write that file, on a file system that the jobs share"
        )
    if not refresh and key in recorded and _stands(catalog, preferences, recorded[key], strict):
        return recorded[key]
    if dry:
        return assumed(catalog, preferences, cache=cache)
    choice = choose(catalog, preferences, folders=folders, cache=cache, strict=strict, reachable=reachable)
    # Read again: another process may have recorded a list of its own while this one looked around.
    everything = {**read_choices(record), key: choice}
    write_json(record, {"schema": SCHEMA, "choices": {k: everything[k].to_dict() for k in sorted(everything)}})
    return choice


def read_choices(record: Path = RECORD) -> dict[str, Choice]:
    """All recorded choices by key, the preference list joined by commas; none where there is no record.

    Raises
    ------
    DataError
        A record that is damaged or of another version.
    """
    if not Path(record).exists():
        return {}
    content = read_json(record)
    try:
        if content["schema"] != SCHEMA:
            raise ValueError(f"schema {content['schema']!r}")
        return {key: Choice.from_dict(fields) for key, fields in content["choices"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{record} is not a record of data choices ({error}); delete it, and the next run decides anew"
        ) from None
