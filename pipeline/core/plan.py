"""From the configuration to what the rules ask for: data sets, arms, leaves of settings, code files."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .catalog import Catalog, check_own
from .choices import CACHE, RECORD, Choice, data_folders, resolve
from .config import Config, merge, validated
from .errors import DataError
from .partial import Losses, place
from .section import SystemConfig
from .stages import COMMON, code
from .sweeps import PREFIX, expand, points


class Plan:
    """Everything that the rule files look up, one object for all roots (``results`` and ``results/light``).

    Parameters
    ----------
    config: the whole configuration as read from YAML.
    overlays: root -> what is merged over the configuration there.
    systems: system name -> its settings module (``Settings``, ``STAGES``, and ``OWN_DATA`` where the user's own data
        may name a reader: kind -> reader -> model of its options).
    catalog: the data sets.
    losses: arms and scenarios to leave out because their jobs have failed; nothing in an ordinary run.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        overlays: Mapping[str, Mapping],
        systems: Mapping[str, Any],
        catalog: Catalog,
        losses: Losses | None = None,
    ):
        self.stages = {name: {**COMMON, **module.STAGES} for name, module in systems.items()}
        self.catalog = catalog
        self.roots: dict[str, dict[str, SystemConfig]] = {}
        self._choices: dict[tuple[str, str], Choice | DataError] = {}
        for root, overlay in overlays.items():
            merged = merge(config, overlay)
            sections = {name: merged.pop(name, {}) for name in systems}
            self.config = validated(Config, merged, "config")
            models = {name: systems[name].Settings for name in sections}
            self.roots[root] = {
                name: SystemConfig(name, expand(name, section, models[name]), models[name])
                for name, section in sections.items()
            }
            for name, section in self.roots[root].items():
                readers = getattr(systems[name], "OWN_DATA", None)
                for scenario in section.section.scenarios.values():
                    for dataset in scenario.datasets:
                        entry = catalog[dataset]  # raises, with the names that exist
                        if readers is not None and entry.source == "config":
                            check_own(entry, name, readers)
        self.losses = Losses()
        self.lose(losses or Losses())

    def lose(self, losses: Losses) -> None:
        """Leave out what failed jobs have cost; once only."""
        self.losses = losses
        for root, sections in self.roots.items():
            for name, section in sections.items():
                self._leave_out(root, name, section)

    def _leave_out(self, root: str, name: str, section: SystemConfig) -> None:
        """Take lost arms out of their scenarios; a scenario that would be left without any is lost as a whole."""
        for scenario in section.section.scenarios:
            here = place(root, name, scenario)
            lost = self.losses.arms.get(here, {})
            if gone := [arm for arm in section.scenario(scenario).arms if arm in lost]:
                if len(gone) == len(section.scenario(scenario).arms):
                    self.losses.scenarios.setdefault(here, f"no arm has finished. {gone[0]}: {lost[gone[0]]}")
                else:
                    section.leave_out(scenario, gone)

    def system(self, root: str, name: str) -> SystemConfig:
        return self.roots[root][name]

    def leaf(self, stage: str, system: str, root: str, scenario: str, arm: str | None = None) -> dict[str, Any]:
        """The settings that a stage reads for an arm (or for the scenario)."""
        return self.system(root, system).leaf(self.stages[system][stage].groups, scenario, arm)

    def code(self, system: str, stage: str) -> list[Path]:
        """Source files that a stage imports."""
        return [Path(path) for path in code(self.stages[system][stage].function)]

    def choice(self, system: str, root: str, scenario: str, mode: str) -> Choice:
        """Which data set a scenario uses; decided once and recorded, see ``core.choices``.

        ``mode`` is ``real`` (decide and record), ``dry`` (assume the first preference where nothing is recorded) or
        ``job`` (a process that the main one started: what is recorded, nothing else).

        Raises
        ------
        DataError
            No data set of the list can be had.
        """
        entry = self.system(root, system).scenario(scenario)
        preferences = entry.datasets if entry.replaceable else entry.datasets[:1]
        key = (",".join(preferences), mode)
        if key not in self._choices:
            try:
                self._choices[key] = resolve(
                    self.catalog,
                    preferences,
                    record=RECORD,
                    folders=data_folders(),
                    cache=CACHE,
                    strict=self.config.strict_data,
                    dry=mode == "dry",
                    recorded_only=mode == "job",
                )
                told = self._choices[key].announcement()
            except DataError as error:
                self._choices[key] = error  # asked again by each rule that reads the table
                told = "" if self.config.strict_data else f"data: {error}"
            if mode == "real" and told:
                print(told, file=sys.stderr)
        if isinstance(self._choices[key], DataError):
            raise self._choices[key]
        return self._choices[key]

    def available(self, system: str, root: str, table: str, mode: str) -> tuple[dict[str, Choice], dict[str, str]]:
        """Scenarios of a table with their data sets, and those whose data can't be had with the reason."""
        had, missing = {}, {}
        for scenario in self.system(root, system).table(table):
            if lost := self.losses.scenarios.get(place(root, system, scenario)):
                missing[scenario] = lost
                continue
            try:
                had[scenario] = self.choice(system, root, scenario, mode)
            except DataError as error:
                if self.config.strict_data:
                    raise
                missing[scenario] = str(error)
        if not had:
            raise DataError(f"no scenario of {system}'s table {table!r} has its data:\n" + "\n".join(missing.values()))
        return had, missing

    def stands(self, system: str, root: str, table: str) -> bool:
        """Whether failed jobs have left anything of a table."""
        scenarios = self.system(root, system).table(table)
        return any(place(root, system, scenario) not in self.losses.scenarios for scenario in scenarios)

    def failed(self, system: str, root: str, table: str) -> dict[str, dict[str, Any]]:
        """Arms of a table that have failed: scenario -> arm -> settings, seeds and message; empty as a rule."""
        section, found = self.system(root, system), {}
        for scenario in section.table(table):
            here = place(root, system, scenario)
            if here in self.losses.arms and here not in self.losses.scenarios:
                asked = section.asked(scenario)
                found[scenario] = {
                    "order": asked,
                    "arms": {
                        arm: {
                            "status": "failed",
                            "message": self.losses.arms[here][arm],
                            "settings": section.settings(scenario, arm),
                            "seeds": section.scenario(scenario).seeds,
                        }
                        for arm in asked
                        if arm in self.losses.arms[here]
                    },
                }
        return found

    def sweep(self, system: str, root: str, table: str) -> dict[str, Any]:
        """What the sweep of a table ``sweep_<name>`` is made of, see ``core.sweeps.points``."""
        return points(self.system(root, system), table.removeprefix(PREFIX))

    def sweeps(self, system: str, root: str) -> list[str]:
        """Tables of a system's sweeps of which failed jobs have left anything."""
        tables = [PREFIX + name for name in self.system(root, system).section.sweep]
        return [table for table in tables if self.stands(system, root, table)]

    def raw_files(self, system: str, root: str, scenario: str, mode: str) -> list[Path]:
        """Files that ``prepare`` reads: the user's own in place, or those that the rule ``fetch`` makes."""
        return [Path(path) for path in self.choice(system, root, scenario, mode).files]
