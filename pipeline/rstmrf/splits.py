"""Splits of profiles into training, validation and test sets that share no profile.

The levels of a profile have common errors and lie within minutes and a few degrees: a random split of levels (as the
seed's code has it) would score a model on what it has seen. Days can be locked as a whole, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np

from ..core.errors import ConfigError

TRAIN, VALIDATION, TEST = 0, 1, 2


def by_profile(profile: np.ndarray, shares: tuple[float, float] = (0.1, 0.1), seed: int = 0) -> np.ndarray:
    """Set [N] of each level: whole profiles at random, ``shares`` of them for validation and for test.

    Raises
    ------
    ConfigError
        Shares that leave nothing to train on.
    """
    _check(shares)
    ids, place = np.unique(profile, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(ids))
    return _cut(len(ids), order, shares)[place]


def by_day(
    profile: np.ndarray,
    day: np.ndarray,
    test: Sequence[date] = (),
    shares: tuple[float, float] = (0.1, 0.1),
    seed: int = 0,
) -> np.ndarray:
    """Set [N] of each level by the day on which its profile begins.

    ``day`` [N] is datetime64[D] of each level; ``test`` are locked days, else ``shares`` of the days (at least one
    of each where there are three) are drawn for validation and test.

    Raises
    ------
    ConfigError
        Locked days that hold no profile, or nothing left to train on.
    """
    ids, place = np.unique(profile, return_inverse=True)
    first = np.full(len(ids), np.datetime64("9999-01-01"), "datetime64[D]")
    np.minimum.at(first, place, day.astype("datetime64[D]"))
    days = np.unique(first)
    if test:
        locked = np.array([np.datetime64(one) for one in test])
        absent = [str(one) for one in locked if one not in days]
        if absent:
            raise ConfigError(
                f"no profile begins on the locked days {', '.join(absent)}; there are {days[0]}..{days[-1]}"
            )
        free = np.setdiff1d(days, locked)
        order = np.random.default_rng(seed).permutation(len(free))
        kind = dict.fromkeys(locked.tolist(), TEST)
        kind |= dict(zip(free.tolist(), _cut(len(free), order, (shares[0], 0.0)).tolist(), strict=True))
    else:
        _check(shares)
        order = np.random.default_rng(seed).permutation(len(days))
        kind = dict(zip(days.tolist(), _cut(len(days), order, shares).tolist(), strict=True))
    if TRAIN not in kind.values():
        raise ConfigError(f"{len(days)} days leave none to train on; lock fewer of them")
    return np.array([kind[one] for one in first.tolist()], np.int8)[place]


def _check(shares: tuple[float, float]) -> None:
    if min(shares) < 0 or sum(shares) >= 1:
        raise ConfigError(f"shares {shares} of validation and test must not be negative and must sum to less than one")


def _cut(count: int, order: np.ndarray, shares: tuple[float, float]) -> np.ndarray:
    """Sets [count] of items in a random order; a share above zero gets at least one where three items are there."""
    sizes = [max(round(share * count), int(share > 0 and count >= 3)) for share in shares]
    kind = np.full(count, TRAIN, np.int8)
    kind[order[: sizes[1]]] = TEST
    kind[order[sizes[1] : sizes[1] + sizes[0]]] = VALIDATION
    return kind
