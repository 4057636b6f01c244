"""The configuration's models, how its parts are merged, and how what is wrong in it is told.

A system section of ``config.yaml`` has the same four parts for every system: ``settings`` (every key with its
default), ``arms`` (named overrides), ``scenarios`` (data, protocol, arms, seeds) and ``tables`` (lists of scenarios
that are written to one ``results/<system>_<table>.json``). A rule sees only the merged leaf that its stage reads, so
changing one arm reruns that arm alone.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from .errors import ConfigError

NAME = r"^[a-z][a-z0-9_]*$"


class Model(BaseModel):
    """Base of all settings: unknown keys are errors, values are never coerced from another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Primary(Model):
    """The metric that a scenario is read by."""

    metric: str
    unit: str
    better: Literal["lower", "higher"] = "lower"


class Scenario(Model):
    """One block of a results table: data, protocol, arms and baselines."""

    description: str
    datasets: list[str] = Field(min_length=1, description="preference list: the first that can be had is used")
    replaceable: bool = Field(True, description="false: stands for its first data set and is never replaced")
    leaky: bool = Field(False, description="the protocol sees labels that it should not")
    primary: Primary
    seeds: list[int] = Field(min_length=1, description="one run each; looped or batched inside one job")
    arms: list[str] = Field(default_factory=list)
    baselines: list[str] = Field(default_factory=list)
    compare: list[tuple[str, str]] = Field(default_factory=list, description="pairs tested against each other")
    settings: dict[str, Any] = Field(default_factory=dict, description="overrides of the base settings")

    @field_validator("seeds")
    @classmethod
    def _ascending(cls, value: list[int]) -> list[int]:
        if value != sorted(set(value)) or value[0] < 0:
            raise ValueError(f"seeds must be distinct, ascending and not negative, got {value}")
        return value

    @field_validator("compare", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        return [tuple(pair) for pair in value] if isinstance(value, list) else value


class Arm(Model):
    """A named variant: overrides of the settings, and the arms whose outputs it needs."""

    needs: list[str] = Field(default_factory=list, description="arms whose results this arm takes as inputs")
    start_from: str | None = Field(None, description="arm whose trained model this arm goes on with")
    settings: dict[str, Any] = Field(default_factory=dict)


class ArmSettings(Model):
    """Base of a system's settings of one arm.

    Attributes
    ----------
    TRAINED: groups that an arm must share with the arm it starts from.
    BASELINES, METRICS: the names that scenarios may use.
    """

    TRAINED: ClassVar[tuple[str, ...]] = ()
    BASELINES: ClassVar[tuple[str, ...]] = ()
    METRICS: ClassVar[tuple[str, ...]] = ()

    def unfit(self, arm: Arm, scenario: Scenario) -> str | None:
        """Why an arm with these settings can't run in a scenario (what it needs isn't there, a leak not named)."""
        return None


class Range(Model):
    """Numbers of a sweep from one to another, both included."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)

    first: float = Field(alias="from")
    last: float = Field(alias="to")
    step: float | None = Field(None, gt=0, description="distance of the values; or state `points`")
    points: int | None = Field(None, ge=2, le=1000, description="number of the values; or state `step`")
    scale: Literal["linear", "log"] = Field("linear", description="log: equal ratios, three significant digits")

    @model_validator(mode="after")
    def _possible(self) -> Range:
        if not self.first < self.last:
            raise ValueError(f"from ({self.first:g}) must be below to ({self.last:g})")
        if (self.step is None) == (self.points is None):
            raise ValueError("state either step or points")
        if self.scale == "log" and (self.first <= 0 or self.points is None):
            raise ValueError(f"a log range needs points and a positive from, got from {self.first:g}")
        return self


class Sweep(Model):
    """An arm with other values of some settings: one arm for each combination, in a table and a plot of their own."""

    arm: str
    scenario: str = Field(description="whose data, protocol, seeds and baselines are used")
    over: Annotated[
        dict[str, Any],
        Field(min_length=1, description="dotted setting -> list of values, or a range"),
        WithJsonSchema(
            {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {"anyOf": [{"type": "array", "minItems": 1}, Range.model_json_schema()]},
            }
        ),
    ]
    seeds: list[int] | None = Field(None, min_length=1, description="others than the scenario's")
    baselines: list[str] | None = Field(None, description="others than the scenario's")


class System(Model):
    """One system's section of the configuration, before its settings model is applied."""

    settings: dict[str, Any] = Field(default_factory=dict)
    arms: dict[str, Arm] = Field(default_factory=dict)
    scenarios: dict[str, Scenario] = Field(default_factory=dict)
    tables: dict[str, list[str]] = Field(default_factory=dict)
    sweep: dict[str, Sweep] = Field(default_factory=dict, description="results/<system>_sweep_<name>.json")


class Config(Model):
    """The whole of ``config.yaml`` but for the systems' own sections."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    strict_data: bool = Field(False, description="a data set that can't be had is an error, not a fall-back")
    data: dict[str, Any] = Field(default_factory=dict, description="data set -> own file; read by core.catalog")
    language: Literal["en", "zh"] = Field("en", description="language of figure labels")

    @field_validator("strict_data", mode="before")
    @classmethod
    def _from_command_line(cls, value: Any) -> Any:
        """Snakemake hands `--config strict_data=true` over as a string; in YAML it is a boolean."""
        return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def copied(value: Any) -> Any:
    """A deep copy of plain data; every start makes thousands, and ``copy.deepcopy`` takes five times as long."""
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


def merge(base: Mapping[str, Any], *overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Deep-merge mappings, later ones win; lists and scalars are replaced whole."""
    result = copied(base)
    for override in overrides:
        for key, value in override.items():
            if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
                result[key] = merge(result[key], value)
            else:
                result[key] = copied(value)
    return result


def difference(config: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """What ``config`` sets otherwise than ``base``: merging it over ``base`` gives ``config`` again."""
    result = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), Mapping):
            if changed := difference(value, base[key]):
                result[key] = changed
        elif key not in base or value != base[key]:
            result[key] = copied(value)
    return result


def _fields(model: Any, path: tuple) -> list[str]:
    """Names that a model allows at a place inside it; groups nest, and mappings hold models by name."""
    for part in path:
        if get_origin(model) is dict:
            model = get_args(model)[1]
        else:
            field = getattr(model, "model_fields", {}).get(part)
            model = field.annotation if field else None
    return [field.alias or name for name, field in getattr(model, "model_fields", {}).items()]


def explain(error: ValidationError, where: str, model: type[BaseModel]) -> ConfigError:
    """Turn pydantic's report into one line a fault: key, value, what is allowed."""
    lines = []
    for item in error.errors():
        path = ".".join([where, *(str(part) for part in item["loc"])])
        if item["type"] == "extra_forbidden":
            known = _fields(model, item["loc"][:-1])
            likely = difflib.get_close_matches(str(item["loc"][-1]), known, 1)
            hint = f"did you mean {likely[0]!r}? " if likely else ""
            allowed = f"allowed: {', '.join(known)}" if known else "nothing is allowed there"
            lines.append(f"{path}: unknown key ({hint}{allowed}), value {_short(item['input'])}")
        elif item["type"] == "value_error":
            lines.append(f"{path}: {item['ctx']['error']}")
        else:
            lines.append(f"{path}: {item['msg']}, value {_short(item['input'])}")
    return ConfigError("The configuration is wrong:\n" + "\n".join(f"  {line}" for line in lines))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."


def validated(model: type[BaseModel], raw: Any, where: str) -> Any:
    """Validate ``raw`` with ``model``.

    Raises
    ------
    ConfigError
        Naming each wrong key as ``where.path``, its value and what is allowed.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise explain(error, where, model) from None


def _substitute(value: Any, names: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        if value.startswith("{") and value.endswith("}") and value[1:-1] in names:
            return names[value[1:-1]]
        for name, replacement in names.items():
            value = value.replace("{" + name + "}", str(replacement))
        return value
    if isinstance(value, Mapping):
        return {_substitute(key, names): _substitute(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_substitute(item, names) for item in value]
    return value


def parse_yaml(text: str) -> Any:
    """YAML as plain data, by the parser in C where PyYAML has it: a tenth of the time at every start."""
    import yaml

    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def read_yaml(path: Path | str) -> Any:
    """What a YAML file holds.

    Raises
    ------
    ConfigError
        A file that is missing, no text in UTF-8 or no YAML.
    """
    try:
        return parse_yaml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from None
    except Exception as error:  # dates that don't exist and numbers too long are no errors of PyYAML's own
        raise ConfigError(f"{path} is not valid YAML: {str(error)[:600]}") from None


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """The value, or an empty mapping for null; anything else is a ``ConfigError``."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} must map names to values, got {_short(value)}")
    odd = [key for key in value if not isinstance(key, str)]
    if odd:
        raise ConfigError(f"{where}: the name {_short(odd[0])} is no text; put it in quotes, or choose another")
    return value


def unfold(entries: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Expand entries that carry ``foreach: {name: [values]}`` into one entry a combination.

    ``delayed_{dataset}_h{horizon}`` with ``foreach: {dataset: [etth1], horizon: [1, 12]}`` becomes two entries; a
    value that is exactly ``"{horizon}"`` keeps its type.
    """
    result: dict[str, Any] = {}
    for name, entry in mapping(entries, where).items():
        entry = dict(mapping(entry, f"{where}.{name}"))
        loops = entry.pop("foreach", {})
        if not isinstance(loops, Mapping) or not all(isinstance(v, list) and v for v in loops.values()):
            raise ConfigError(f"{where}.{name}.foreach must map names to non-empty lists, got {loops!r}")
        for values in itertools.product(*loops.values()):
            names = dict(zip(loops, values, strict=True))
            key = _substitute(name, names)
            if not isinstance(key, str) or not re.fullmatch(NAME, key):
                raise ConfigError(f"{where}.{key}: a name is made of a-z, 0-9 and _, and begins with a letter")
            if key in result:
                raise ConfigError(f"{where}.{key} is defined twice (after expanding foreach of {name!r})")
            result[key] = _substitute(entry, names)
    return result
