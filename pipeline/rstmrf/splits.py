"""Observations that are kept back from training: whole profiles, or whole days of them.

The levels of a profile have common errors and lie within minutes and a few degrees: a random split of levels (as the
seed's code has it) would score a model on what it has seen. Beside this split a world withholds profiles from every
method (:mod:`.simulation`, :mod:`.real`); local times that are never sampled are a region of the scores of its own.
"""

from __future__ import annotations

import numpy as np

from ..core.errors import ConfigError

FEWEST_DAYS = 3


def kept_back(profile: np.ndarray, share: float, day: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """Mask [N] of the levels that are kept back: a random ``share`` of the profiles, each with all its levels.

    Parameters
    ----------
    profile: [N] number of each level's profile.
    share: of the profiles (rounded down) or, with ``day``, of the days (at least one).
    day: [N] datetime64[D]; whole days are drawn, a profile belongs to the day on which it begins.

    Raises
    ------
    ConfigError
        Days are to be kept back of fewer than three.
    """
    ids, place = np.unique(profile, return_inverse=True)
    random = np.random.default_rng(seed)
    if day is None:
        chosen = random.permutation(len(ids))[: int(share * len(ids))]
        return np.isin(place, chosen)
    first = np.full(len(ids), np.datetime64("9999-01-01"), "datetime64[D]")
    np.minimum.at(first, place, day)
    days = np.unique(first)
    if len(days) < FEWEST_DAYS:
        raise ConfigError(
            f"train.validation: days needs profiles of at least {FEWEST_DAYS} days, these begin on {len(days)}; "
            "take a longer period or keep back profiles"
        )
    chosen = random.permutation(len(days))[: max(int(share * len(days)), 1)]
    return np.isin(first, days[chosen])[place]
