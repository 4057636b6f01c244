"""Which periods there are, and the days whose background maps a world needs (read at every start of the workflow)."""

from __future__ import annotations

import re
from datetime import date, timedelta

from ..core.errors import ConfigError

PERIODS = {"a": date(2024, 9, 11), "b": date(2024, 5, 10), "c": date(2024, 7, 12)}  # storm, great storm, quiet
REAL_DAYS = {"cosmic2": [date(2024, 5, 8)], "code_gim": [date(2020, 1, 8), date(2020, 1, 9)]}


def parse(name: str) -> tuple[str, int]:
    """Period letter and seed of a world's name, ``a101`` -> (a, 101)."""
    match = re.fullmatch(r"([a-z])(\d+)", name)
    if not match or match[1] not in PERIODS:
        raise ConfigError(
            f"worlds: {name!r} is no world; a name is a period ({', '.join(f'{k} = {v}' for k, v in PERIODS.items())}) "
            "and a seed, such as a101"
        )
    return match[1], int(match[2])


def days(name: str, hours: int) -> list[date]:
    """Days whose maps a world of so many hours needs."""
    first = PERIODS[parse(name)[0]]
    return [first + timedelta(days=index) for index in range(hours // 24 + 1)]
