"""The catalogue of data sets: what each is, where it can be had and how its bytes are known.

``config/datasets.yaml`` is read into :class:`Entry` objects. The user's own files join it under names of their own, so
that everything downstream treats them like any other data set. Which data set and which copy are used is decided in
:mod:`pipeline.core.choices`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field, model_validator

from .config import NAME, Model, mapping, read_yaml, validated
from .errors import ConfigError
from .home import HOME

if TYPE_CHECKING:
    from .choices import Choice

CATALOG = HOME / "config" / "datasets.yaml"
CACHE = Path("data/raw")
SERIES = "forecasting"  # the kind of own data that needs no reader: one table of series


class File(Model):
    """One file of a data set.

    Attributes
    ----------
    name: file name in the cache.
    url: where to fetch it, tried in order.
    sha256, git_sha1, bytes: how its bytes are known; ``git_sha1`` is the blob id in the authors' git repository.
    aliases: relative paths under which a data folder may hold it.
    package_path: path inside the Python package that carries it.
    alternatives: other forms of the same content; ``reader`` and ``options`` override the entry's for them.
    """

    name: str
    url: list[str] = Field(default_factory=list)
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    git_sha1: str | None = Field(None, pattern=r"^[0-9a-f]{40}$")
    bytes: int | None = None
    aliases: list[str] = Field(default_factory=list)
    package_path: str | None = None
    reader: str | None = None
    options: dict[str, Any] | None = None
    alternatives: list[File] = Field(default_factory=list)


class Entry(Model):
    """One data set; the fields are explained at the top of ``config/datasets.yaml``."""

    name: str = Field(pattern=NAME)
    title: str
    kind: str
    source: Literal["download", "package", "simulation", "config"]
    package: str | None = None
    reader: str
    options: dict[str, Any] = Field(default_factory=dict)
    step: str | None = None
    target: str | None = None
    borders: Literal["seed", "upstream", "ratio"] = "ratio"
    units: dict[str, str] = Field(default_factory=dict)
    licence: str
    citation: str
    notes: str = ""
    files: list[File] = Field(default_factory=list)

    def cached(self, cache: Path = CACHE) -> list[Path]:
        """Where the files lie in the cache: what the rule ``fetch`` makes."""
        return [cache / self.name / file.name for file in self.files]

    def form(self, path: Path | str) -> File:
        """Which of the forms of a one-file data set a path holds: by its name, else by its suffix, else the first."""
        path, forms = Path(path), [self.files[0], *self.files[0].alternatives]
        named = [form for form in forms if form.name == path.name]
        alike = [form for form in forms if Path(form.name).suffix == path.suffix]
        return [*named, *alike, *forms][0]

    def reading(self, paths: Sequence[str]) -> tuple[str, dict[str, Any]]:
        """Reader and options for these files: an alternative form may need its own."""
        if len(self.files) != 1 or len(paths) != 1:
            return self.reader, self.options
        form = self.form(paths[0])
        return form.reader or self.reader, self.options if form.options is None else form.options


def _own_entry(name: str, paths: Sequence[str], fields: Mapping[str, Any]) -> Entry:
    """The entry of a user's own files, from the fields that its form of description states."""
    common = {"source": "config", "citation": "the user's own data", "files": [{"name": Path(p).name} for p in paths]}
    return validated(Entry, {"name": name, **common, **fields, "title": fields["title"] or name}, f"data.{name}")


class OwnData(Model):
    """A user's own series as an entry of the configuration (``data: {my_name: {path: …, target: …}}``)."""

    path: str = Field(description="CSV, Parquet, NetCDF or Zarr")
    target: str = Field(description="column to forecast")
    time: str | None = Field(
        None, description="time column; by default the one named date, datetime, time or timestamp"
    )
    time_format: str | None = Field(None, description="strptime format of the time column, e.g. %d/%m/%Y %H:%M")
    columns: list[str] | None = Field(None, description="channels to keep; default: every numeric column")
    step: str | None = Field(None, description="time between rows (1h, 15min, 1D); default: the commonest one")
    max_gap: int = Field(0, ge=0, description="longest run of missing values to fill with the last one seen [rows]")
    title: str = ""
    units: dict[str, str] = Field(default_factory=dict)
    licence: str = "the user's own"
    kind: Literal["forecasting"] = SERIES

    def paths(self) -> list[str]:
        """The one file."""
        return [self.path]

    def entry(self, name: str) -> Entry:
        """The entry that this becomes."""
        options = self.model_dump(include={"time", "time_format", "columns", "max_gap"}, exclude_none=True)
        fields = self.model_dump(include={"title", "kind", "step", "target", "units", "licence"})
        return _own_entry(name, self.paths(), {**fields, "reader": "table", "options": options})


class OwnFiles(Model):
    """A user's own files with the reader of a system (``data: {my_name: {path: …, kind: points, options: {…}}}``).

    What a reader is called and which options it takes is the system's to say (``OWN_DATA`` of its settings module), and
    :func:`check_own` holds every entry to it.
    """

    path: str | list[str] = Field(description="a file or folder, or a list of files in the reader's order")
    kind: str = Field(description="what systems read it: a kind of the catalogue (points, traffic, …)")
    reader: str = Field("table", description="how that system reads it")
    options: dict[str, Any] = Field(default_factory=dict, description="of the reader")
    target: str | None = Field(None, description="column to forecast (kind forecasting)")
    step: str | None = Field(None, description="time between rows (kind forecasting)")
    title: str = ""
    units: dict[str, str] = Field(default_factory=dict)
    licence: str = "the user's own"

    @model_validator(mode="after")
    def _possible(self) -> OwnFiles:
        if not self.paths():
            raise ValueError("path is an empty list; name at least one file")
        stated = [key for key in ("target", "step") if getattr(self, key) is not None]
        if stated and self.kind != SERIES:
            raise ValueError(f"{' and '.join(stated)}: only data of kind {SERIES} have them, not kind {self.kind}")
        return self

    def paths(self) -> list[str]:
        """The files, in the reader's order."""
        return [self.path] if isinstance(self.path, str) else list(self.path)

    def entry(self, name: str) -> Entry:
        """The entry that this becomes."""
        return _own_entry(name, self.paths(), self.model_dump(exclude={"path"}))


def own_data(name: str, value: Any) -> OwnData | OwnFiles:
    """A user's own data as the configuration describes them.

    Raises
    ------
    ConfigError
        A key that is missing, unknown or of the wrong type; ``reader`` or ``options`` without a ``kind``.
    """
    if isinstance(value, OwnData | OwnFiles):
        return value
    stated = set(value) if isinstance(value, Mapping) else set()
    if not stated & {"reader", "options"} and (SERIES if "kind" not in stated else value["kind"]) == SERIES:
        return validated(OwnData, value, f"data.{name}")
    return validated(OwnFiles, value, f"data.{name}")


Readers = Mapping[str, Mapping[str, type[BaseModel]]]


def check_own(entry: Entry, system: str, readers: Readers) -> None:
    """Hold a user's own data to what the system that is to use them can read.

    Parameters
    ----------
    readers: kind -> reader -> model of its options: ``OWN_DATA`` of the system's settings module.

    Raises
    ------
    ConfigError
        A kind or a reader that the system doesn't have, or an option that the reader doesn't have.
    """
    where = f"data.{entry.name}"
    if entry.kind not in readers:
        kinds = " or ".join(readers)
        raise ConfigError(
            f"{where}.kind: {entry.kind!r}, but a scenario of {system} uses these data, and {system} reads {kinds}. "
            f"Describe them as data: {{{entry.name}: {{path: …, kind: {next(iter(readers))}, options: {{…}}}}}}."
        )
    known = readers[entry.kind]
    if entry.reader not in known:
        raise ConfigError(f"{where}.reader: {system} has no reader {entry.reader!r}; there are {', '.join(known)}")
    validated(known[entry.reader], entry.options, f"{where}.options")


class Catalog(Mapping[str, Entry]):
    """Entries by name, and the paths (one or more) that the user's configuration gives for some of them."""

    def __init__(self, entries: Mapping[str, Entry], user_paths: Mapping[str, Sequence[Path]]):
        self._entries = dict(entries)
        self.user_paths = {name: tuple(paths) for name, paths in user_paths.items()}

    def __getitem__(self, name: str) -> Entry:
        if name in self._entries:
            return self._entries[name]
        close = difflib.get_close_matches(str(name), self._entries, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigError(
            f"There is no data set named {name!r}.{hint} Known: {', '.join(sorted(self._entries))}. Your own file gets "
            "a name by an entry `data: {<name>: {path: …, …}}` in the configuration."
        )

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def names(self, kind: str | None = None) -> list[str]:
        """Names of the data sets (of one kind), in the order of the catalogue."""
        return [name for name, entry in self._entries.items() if kind in (None, entry.kind)]

    def describe(self, choice: Choice) -> dict[str, Any]:
        """What a data stage needs to know besides the files; plain data, the same from run to run."""
        entry = self[choice.name]
        reader, options = entry.reading(choice.files)
        stated = {"title", "licence", "citation", "step", "target", "borders", "units"}
        return {
            "name": choice.name,
            "requested": choice.requested,
            "source": choice.source,
            "sha256": choice.sha256,
            "reader": reader,
            "options": options,
            **entry.model_dump(mode="json", include=stated),
        }


def _check(entry: Entry, where: str) -> None:
    for file in entry.files:
        if entry.source == "download" and not file.url:
            raise ConfigError(f"{where}: file {file.name!r} of a download has no url")
        if entry.source == "package" and not (entry.package and file.package_path):
            raise ConfigError(f"{where}: a package data set needs `package`, and each file its `package_path`")
    if entry.source in ("download", "package") and not entry.files:
        raise ConfigError(f"{where}: a data set with source {entry.source!r} needs files")


def load_catalog(
    path: Path | str = CATALOG, own: Mapping[str, str | OwnData | OwnFiles | Mapping[str, Any]] | None = None
) -> Catalog:
    """Read and validate the catalogue, and join the user's own data to it.

    Parameters
    ----------
    path: the catalogue's YAML file.
    own: the ``data`` section of the configuration: a catalogue name with the path of the user's copy (a file, or a
        folder that holds the files), or a new name with a mapping that :class:`OwnData` or :class:`OwnFiles` allows.

    Raises
    ------
    ConfigError
        A malformed entry, or a path for a data set that doesn't exist: the key, its value and what is allowed.
    """
    path = Path(path)
    if not path.exists():
        raise ConfigError(f"The catalogue of data sets {path} is missing")
    raw = read_yaml(path)
    if not isinstance(raw, Mapping):
        raise ConfigError(f"The catalogue of data sets {path} must map names to entries, got {type(raw).__name__}")
    entries = {}
    for name, fields in raw.items():
        where = f"{path.name}: {name}"
        if not isinstance(fields, Mapping):
            raise ConfigError(f"{where} must be a mapping, got {fields!r}")
        entries[name] = validated(Entry, {"name": name, **fields}, where)
        _check(entries[name], where)

    user_paths: dict[str, list[Path]] = {}
    kinds = list(dict.fromkeys(entry.kind for entry in entries.values()))
    for name, value in mapping(own, "data").items():
        if isinstance(value, str | Path):
            if name not in entries:
                Catalog(entries, {})[name]  # raises with the list of names
            if entries[name].source == "simulation":
                raise ConfigError(f"data.{name}: a simulated data set has no file to name")
            user_paths[name] = [Path(value)]
            continue
        if name in entries:
            raise ConfigError(
                f"data.{name}: the catalogue already has this name; give a path alone (data: {{{name}: <path>}}) for "
                "your copy of it, or choose another name for your own data"
            )
        data = own_data(name, value)
        if data.kind not in kinds:
            raise ConfigError(f"data.{name}.kind: {data.kind!r} is no kind of data; there are {', '.join(kinds)}")
        entries[name] = data.entry(name)
        user_paths[name] = [Path(path) for path in data.paths()]
    return Catalog(entries, user_paths)
