"""Sweeps: from `sweep:` of a system's configuration to arms, a scenario and a table that the workflow builds.

A sweep is a derived scenario ``sweep_<name>`` with one arm for each combination of values; everything else (rules,
stages, tracking) treats it as any other. An arm is named after what it changes: ``nomem__online_lr_1em5``.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .config import NAME, ArmSettings, Range, Sweep, mapping, merge, unfold, validated
from .errors import ConfigError
from .section import SystemConfig

PREFIX = "sweep_"
LARGEST = 500  # arms of one sweep
Scalar = str | int | float | bool | None


def expand(name: str, raw: Mapping[str, Any], model: type[ArmSettings]) -> Mapping[str, Any]:
    """A system's section with the arms, scenarios and tables of its sweeps.

    Parameters
    ----------
    name, raw, model: as of ``SystemConfig``.

    Raises
    ------
    ConfigError
        A sweep of an arm, scenario or setting that isn't there, values that can't be, names that meet.
    """
    raw = mapping(raw, name)
    for table in mapping(raw.get("tables"), f"{name}.tables"):
        if str(table).startswith(PREFIX):
            raise ConfigError(
                f"{name}.tables.{table}: names that begin with {PREFIX} are those of sweeps; choose another"
            )
    if not raw.get("sweep"):
        return raw
    raw = {**raw, **{part: unfold(raw.get(part), f"{name}.{part}") for part in ("arms", "scenarios")}}
    section = SystemConfig(name, raw, model)
    added: dict[str, dict[str, Any]] = {"arms": {}, "scenarios": {}, "tables": {}}
    for title, sweep in section.section.sweep.items():
        where = f"{name}.sweep.{title}"
        if not re.match(NAME, title):
            raise ConfigError(f"{where}: the name must be of small letters, digits and _, for files are named after it")
        for part, known in (("arm", section.section.arms), ("scenario", section.section.scenarios)):
            if getattr(sweep, part) not in known:
                likely = difflib.get_close_matches(getattr(sweep, part), known, 1)
                hint = f"did you mean {likely[0]!r}? " if likely else ""
                raise ConfigError(
                    f"{where}.{part}: {getattr(sweep, part)!r} is not defined ({hint}known: {', '.join(known)})"
                )
        arms = {arm: one for arm, one, _ in _arms(section, sweep, where)}
        for arm, one in arms.items():
            held = {**section.section.arms, **added["arms"]}.get(arm)
            if held is not None and held != one:
                raise ConfigError(f"{where}: its arm {arm!r} is defined already, otherwise; rename that one")
        scenario = PREFIX + title
        if scenario in section.section.scenarios:
            raise ConfigError(f"{name}.scenarios.{scenario} has the name of a sweep's scenario; choose another")
        base = section.scenario(sweep.scenario)
        needs = [need for need in section.arm(sweep.arm).needs if need not in arms]
        added["arms"] |= arms
        added["scenarios"][scenario] = {
            **base.model_dump(exclude={"compare"}),
            "description": f"{sweep.arm} in {sweep.scenario}, over {', '.join(sweep.over)}",
            "arms": [*needs, *arms],
            "seeds": base.seeds if sweep.seeds is None else sweep.seeds,
            "baselines": base.baselines if sweep.baselines is None else sweep.baselines,
        }
        added["tables"][scenario] = [scenario]
    return {**raw, **{part: {**mapping(raw.get(part), part), **entries} for part, entries in added.items()}}


def points(section: SystemConfig, title: str) -> dict[str, Any]:
    """What a sweep is made of: its arm, its scenario, its settings, and the values of each of its arms."""
    sweep = section.section.sweep[title]
    values = {arm: chosen for arm, _, chosen in _arms(section, sweep, f"{section.name}.sweep.{title}")}
    return {"name": title, "arm": sweep.arm, "scenario": sweep.scenario, "over": list(sweep.over), "arms": values}


def _arms(section: SystemConfig, sweep: Sweep, where: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Scalar]]]:
    """Name, entry and values of each arm of a sweep."""
    settings, arm = section.settings(sweep.scenario, sweep.arm), section.arm(sweep.arm)
    axes = {key: _values(spec, _leaf(settings, key, where), f"{where}.over.{key}") for key, spec in sweep.over.items()}
    count = 1
    for values in axes.values():
        count *= len(values)
    if count > LARGEST:
        raise ConfigError(f"{where}: {count} combinations are more than {LARGEST}; make it coarser, or several sweeps")
    # What the training doesn't read leaves the trained model as it is: all arms go on from one.
    retrained = not section.model.TRAINED or any(key.split(".")[0] in section.model.TRAINED for key in axes)
    start = None if retrained else arm.start_from or sweep.arm
    for combination in itertools.product(*axes.values()):
        chosen = dict(zip(axes, combination, strict=True))
        name = "__".join([sweep.arm, *(f"{key.replace('.', '_')}_{_text(value)}" for key, value in chosen.items())])
        entry = {
            "needs": arm.needs,
            "start_from": start,
            "settings": merge(arm.settings, *map(_nested, chosen.items())),
        }
        yield name, entry, chosen


def _leaf(settings: Mapping[str, Any], key: str, where: str) -> Scalar:
    """The value of a dotted setting as the arm has it."""
    leaves = dict(_leaves(settings))
    if key in leaves:
        return leaves[key]
    likely = difflib.get_close_matches(key, leaves, 1) or [leaf for leaf in leaves if leaf.endswith("." + key)][:1]
    inside = [leaf for leaf in leaves if leaf.startswith(key + ".")]
    hint = f"did you mean {likely[0]!r}?" if likely else "write it as in network.hidden"
    if inside:
        hint = f"it is a group: choose from {', '.join(inside)}"
    raise ConfigError(f"{where}.over.{key}: there is no such setting; {hint}")


def _leaves(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{before}{key}.")
        else:
            yield before + key, value


def _values(spec: Any, present: Scalar, where: str) -> list[Scalar]:
    """The values of one setting; whole numbers where the setting is one."""
    if isinstance(spec, Mapping):
        if isinstance(present, bool) or not isinstance(present, int | float | None):
            raise ConfigError(f"{where}: a range is for numbers, and the setting is {present!r}; list its values")
        values: list[Scalar] = list(_numbers(validated(Range, dict(spec), where)))
    elif isinstance(spec, list) and spec:
        values = spec
        for value in values:
            if not isinstance(value, Scalar):
                raise ConfigError(f"{where}: {value!r} is no single value")
    else:
        raise ConfigError(
            f"{where}: must be a list of values or a range such as {{from: 1, to: 9, step: 2}}, got {spec!r}"
        )
    if isinstance(spec, Mapping) and (
        isinstance(present, int) or (present is None and all(v == round(v) for v in values))
    ):
        values = list(dict.fromkeys(round(value) for value in values))
    names = [_text(value) for value in values]
    for name, value in zip(names, values, strict=True):
        if names.count(name) > 1:
            raise ConfigError(f"{where}: {value!r} stands there twice, or has the name of another value")
    return values


def _numbers(span: Range) -> Iterator[float]:
    """The numbers of a range, its ends exactly."""
    if span.points is None:
        count = int((span.last - span.first) / span.step + 1e-9) + 1
        yield from (float(f"{span.first + place * span.step:.12g}") for place in range(count))
        return
    for place in range(span.points):
        share = place / (span.points - 1)
        if place in (0, span.points - 1):
            yield span.last if place else span.first
        elif span.scale == "log":
            yield float(f"{span.first * (span.last / span.first) ** share:.3g}")
        else:
            yield float(f"{span.first + (span.last - span.first) * share:.6g}")


def _text(value: Scalar) -> str:
    """A value in an arm's name: 0.05 is 0p05, 1e-05 is 1em5, -2 is m2."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if not isinstance(value, str):
        text = re.sub(r"e([+-])0*(?=\d)", r"e\1", text).replace("e+", "e").replace("-", "m").replace(".", "p")
    return re.sub(r"[^a-z0-9_]", "_", text.lower())


def _nested(item: tuple[str, Scalar]) -> dict[str, Any]:
    """{"a.b": 1} as {"a": {"b": 1}}."""
    key, value = item
    for part in reversed(key.split(".")):
        value = {part: value}
    return value
