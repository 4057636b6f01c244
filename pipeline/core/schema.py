"""The JSON schema of ``config.yaml``, generated from the models that validate it.

Editors complete and check the file with it. What no schema can say (an arm that needs another, ``top_k`` above
``slots``) is checked by the models and by :class:`pipeline.core.config.SystemConfig`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from .config import Arm, Config, Scenario, System

PATH = Path("workflow/schemas/config.schema.json")
PLACEHOLDER = {"type": "string", "pattern": r"^\{[a-z_]+\}$", "description": "a name of the entry's foreach"}
FOREACH = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {"type": "array", "minItems": 1},
    "description": "one entry for each combination of these values; {name} stands for them",
}
REFERENCE = "#/$defs/"


def _definitions(models: list[type[BaseModel]], prefix: str) -> tuple[dict[str, Any], list[str]]:
    """Definitions of models and of what they use, with names that start with ``prefix``; and the models' names."""
    refs, whole = models_json_schema(
        [(model, "validation") for model in models], ref_template=f"{REFERENCE}{prefix}{{model}}"
    )
    definitions = {prefix + name: _plain(entry) for name, entry in whole["$defs"].items()}
    return definitions, [refs[model, "validation"]["$ref"].removeprefix(REFERENCE) for model in models]


def _plain(value: Any) -> Any:
    """Without the titles that repeat the key, and without docstrings of the code (descriptions of keys stay)."""
    if isinstance(value, Mapping):
        named = {k: _plain(v) for k, v in value.items() if not (k == "title" and isinstance(v, str))}
        if "properties" in named:
            named.pop("description", None)
        return named
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _overrides(definitions: Mapping[str, Any], settings: str, suffix: str) -> tuple[dict[str, Any], str]:
    """Definitions of partial settings: no key is required or has a default, a placeholder may stand for a value."""

    def renamed(value: Any) -> Any:
        if isinstance(value, Mapping):
            if str(value.get("$ref", "")).startswith(REFERENCE):
                return {"$ref": value["$ref"] + suffix}
            return {key: renamed(item) for key, item in value.items() if key not in ("default", "required")}
        return [renamed(item) for item in value] if isinstance(value, list) else value

    result = {}
    for name in _used(definitions, settings):
        entry = renamed(definitions[name])
        entry["properties"] = {
            key: leaf if "$ref" in leaf else {"anyOf": [leaf, PLACEHOLDER]} for key, leaf in entry["properties"].items()
        }
        result[name + suffix] = entry
    return result, settings + suffix


def _used(definitions: Mapping[str, Any], name: str) -> list[str]:
    """A definition and those that it refers to."""
    seen, queue = [], [name]
    while queue:
        current = queue.pop(0)
        if current not in seen:
            seen.append(current)
            queue += [n for n in definitions if f'"{REFERENCE}{n}"' in json.dumps(definitions[current])]
    return seen


def _own_data() -> dict[str, Any]:
    """The section ``data``: a path for a data set of the catalogue, or the description of the user's own."""
    from .catalog import OwnData, OwnFiles

    forms = [_plain(form.model_json_schema()) for form in (OwnData, OwnFiles)]
    return {"anyOf": [{"type": "string", "description": "path of your copy"}, *forms]}


def schema(settings: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """JSON schema (draft 2020-12) of the whole configuration.

    Parameters
    ----------
    settings: system name -> model of an arm's settings.
    """
    definitions, (config,) = _definitions([Config], "")
    top = definitions.pop(config)
    top["properties"]["data"]["additionalProperties"] = _own_data()
    for name, model in settings.items():
        parts, (whole, section, arm, scenario) = _definitions([model, System, Arm, Scenario], f"{name}.")
        partial, override = _overrides(parts, whole, ".override")
        parts |= partial
        for entry in (arm, scenario):
            parts[entry]["properties"]["settings"] = {"$ref": REFERENCE + override}
            parts[entry]["properties"]["foreach"] = FOREACH
        parts[section]["properties"]["settings"] = {"$ref": REFERENCE + whole}
        definitions |= parts
        top["properties"][name] = {"$ref": REFERENCE + section}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "config.yaml",
        **top,
        "$defs": definitions,
    }


def write(settings: Mapping[str, type[BaseModel]], path: Path = PATH) -> None:
    """Write the schema of :func:`schema` to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    part.write_text(text(settings))
    os.replace(part, path)


def text(settings: Mapping[str, type[BaseModel]]) -> str:
    """The content of the schema file."""
    return json.dumps(schema(settings), indent=2, ensure_ascii=False) + "\n"
