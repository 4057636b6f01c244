"""A system's section of the configuration: arms and scenarios, merged, validated and handed out leaf by leaf."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from typing import Any

from .config import Arm, ArmSettings, Scenario, System, mapping, merge, unfold, validated
from .errors import ConfigError


class SystemConfig:
    """A system's validated section: hands out merged leaves to rules.

    Parameters
    ----------
    name: system name, the key of its section.
    raw: the section as read from YAML.
    model: pydantic model of the merged settings of an arm.
    """

    def __init__(self, name: str, raw: Mapping[str, Any], model: type[ArmSettings]):
        raw = dict(mapping(raw, name))
        for part in ("arms", "scenarios"):
            raw[part] = unfold(raw.get(part), f"{name}.{part}")
        self.name = name
        self.model = model
        self.section: System = validated(System, raw, name)
        self._check_settings()
        self._check_names()
        self._asked = {scenario: list(entry.arms) for scenario, entry in self.section.scenarios.items()}

    def _check_settings(self) -> None:
        """Base, every arm and every scenario by itself, then the arms in their scenarios."""
        base = self.section.settings
        validated(self.model, base, f"{self.name}.settings")
        for part in ("arms", "scenarios"):
            for name, entry in getattr(self.section, part).items():
                validated(self.model, merge(base, entry.settings), f"{self.name}.{part}.{name}.settings")
        for name, scenario in self.section.scenarios.items():
            where = f"{self.name}.scenarios.{name}"
            for baseline in scenario.baselines:
                self._known(baseline, self.model.BASELINES, f"{where}.baselines")
            self._known(scenario.primary.metric, self.model.METRICS, f"{where}.primary.metric")
            for arm in scenario.arms:
                self._known(arm, self.section.arms, where)
                merged, start = self.settings(name, arm), self.section.arms[arm].start_from
                if start and start in self.section.arms:
                    other = self.settings(name, start)
                    for group in self.model.TRAINED:
                        if merged[group] != other[group]:
                            raise ConfigError(
                                f"{where}: arm {arm!r} starts from {start!r}, but their settings of {group!r} differ, "
                                f"which the training depends on; make them equal, or drop start_from"
                            )

    def _check_names(self) -> None:
        arms = self.section.arms
        for table in self.section.tables:
            if not self.table(table):
                raise ConfigError(f"{self.name}.tables.{table}: no scenario matches {self.section.tables[table]}")
        for name, arm in arms.items():
            where = f"{self.name}.arms.{name}"
            for other in [*arm.needs, *([arm.start_from] if arm.start_from else [])]:
                self._known(other, arms, where)
            chain = self._needed(name, [])
            if name in chain:
                raise ConfigError(f"{where} needs itself, by way of {', '.join(chain)}")
        for name, scenario in self.section.scenarios.items():
            where = f"{self.name}.scenarios.{name}"
            for arm_name in scenario.arms:
                for other in arms[arm_name].needs:
                    if other not in scenario.arms:
                        raise ConfigError(
                            f"{where}: arm {arm_name!r} needs {other!r}, which is not among the scenario's arms "
                            f"({', '.join(scenario.arms)}); add it"
                        )
                merged = self.model.model_validate(self.settings(name, arm_name))
                if (reason := merged.unfit(arms[arm_name], scenario)) is not None:
                    raise ConfigError(f"{where}: arm {arm_name!r} {reason}")
            for pair in scenario.compare:
                for side in pair:
                    self._known(side, [*scenario.arms, *scenario.baselines], f"{where}.compare")

    def _needed(self, name: str, seen: list[str]) -> list[str]:
        """Arms that an arm needs, directly or not."""
        arm = self.section.arms[name]
        for other in [*arm.needs, *([arm.start_from] if arm.start_from else [])]:
            if other in self.section.arms and other not in seen:
                seen.append(other)
                self._needed(other, seen)
        return seen

    @staticmethod
    def _known(name: str, known: Any, where: str) -> None:
        if name not in known:
            raise ConfigError(f"{where}: {name!r} is not defined; known: {', '.join(sorted(known))}")

    def table(self, table: str) -> list[str]:
        """Scenario names of a table; an entry may be a shell pattern."""
        names = []
        for pattern in self.section.tables[table]:
            if not any(c in pattern for c in "*?["):
                self._known(pattern, self.section.scenarios, f"{self.name}.tables.{table}")
            names += [n for n in self.section.scenarios if fnmatch.fnmatchcase(n, pattern) and n not in names]
        return names

    def leave_out(self, scenario: str, arms: Iterable[str]) -> None:
        """Take arms, and the comparisons with them, out of a scenario."""
        entry, gone = self.section.scenarios[scenario], set(arms)
        self.section.scenarios[scenario] = entry.model_copy(
            update={
                "arms": [arm for arm in entry.arms if arm not in gone],
                "compare": [pair for pair in entry.compare if not gone & set(pair)],
            }
        )

    def asked(self, scenario: str) -> list[str]:
        """All arms of a scenario, those that were left out, too."""
        return list(self._asked[scenario])

    def scenario(self, name: str) -> Scenario:
        return self.section.scenarios[name]

    def arm(self, name: str) -> Arm:
        return self.section.arms[name]

    def settings(self, scenario: str, arm: str | None = None) -> dict[str, Any]:
        """Merged settings (base, then scenario, then arm) as plain data with all defaults filled in."""
        where = f"{self.name}.scenarios.{scenario}" + (f" × arms.{arm}" if arm else "") + ": settings"
        layers = [self.section.scenarios[scenario].settings]
        if arm:
            layers.append(self.section.arms[arm].settings)
        return validated(self.model, merge(self.section.settings, *layers), where).model_dump(mode="json")

    def leaf(self, groups: Iterable[str], scenario: str, arm: str | None = None) -> dict[str, Any]:
        """The groups of the merged settings that one stage reads: what may rerun it."""
        merged = self.settings(scenario, arm)
        return {group: merged[group] for group in groups}
