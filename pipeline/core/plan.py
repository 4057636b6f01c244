"""From the configuration to what the rules ask for: data sets, arms, leaves of settings, code files."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .catalog import Catalog
from .choices import CACHE, RECORD, Choice, data_folders, resolve
from .config import Config, SystemConfig, merge, validated
from .errors import DataError
from .stages import code


class Plan:
    """Everything that the rule files look up, one object for all roots (``results`` and ``results/light``).

    Parameters
    ----------
    config: the whole configuration as read from YAML.
    overlays: root -> what is merged over the configuration there.
    systems: system name -> its settings module (``Settings``, ``STAGES``).
    catalog: the data sets.
    """

    def __init__(
        self, config: Mapping[str, Any], overlays: Mapping[str, Mapping], systems: Mapping[str, Any], catalog: Catalog
    ):
        self.stages = {name: module.STAGES for name, module in systems.items()}
        self.catalog = catalog
        self.roots: dict[str, dict[str, SystemConfig]] = {}
        self._choices: dict[tuple[str, str], Choice | DataError] = {}
        for root, overlay in overlays.items():
            merged = merge(config, overlay)
            sections = {name: merged.pop(name, {}) for name in systems}
            self.config = validated(Config, merged, "config")
            self.roots[root] = {
                name: SystemConfig(name, section, systems[name].Settings) for name, section in sections.items()
            }
            for section in self.roots[root].values():
                for scenario in section.section.scenarios.values():
                    for dataset in scenario.datasets:
                        catalog[dataset]  # raises, with the names that exist

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
            try:
                had[scenario] = self.choice(system, root, scenario, mode)
            except DataError as error:
                if self.config.strict_data:
                    raise
                missing[scenario] = str(error)
        if not had:
            raise DataError(f"no scenario of {system}'s table {table!r} has its data:\n" + "\n".join(missing.values()))
        return had, missing

    def raw_files(self, system: str, root: str, scenario: str, mode: str) -> list[Path]:
        """Files that ``prepare`` reads: the user's own in place, or those that the rule ``fetch`` makes."""
        return [Path(path) for path in self.choice(system, root, scenario, mode).files]
