"""The link between speed, occupancy and flow of a lane: speed x occupancy = g x flow.

g is the mean effective length of the vehicles of a counting interval, so that two of the three say much of the third.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .gaps import Gaps

if TYPE_CHECKING:
    from .features import FeatureSpace

TRAFFIC = {  # what data sets call the three
    "speed": ("speed", "avg_speed"),
    "occupancy": ("occupancy", "avg_occupancy"),
    "flow": ("flow", "total_vehicles"),
}


def roles(channels: tuple[str, ...]) -> dict[str, int] | None:
    """Which channel is speed, occupancy and flow; None where one of them is not there."""
    found = {role: next((channels.index(n) for n in names if n in channels), None) for role, names in TRAFFIC.items()}
    return None if None in found.values() else found


def traffic(z: np.ndarray, channels: tuple[str, ...], mean: np.ndarray, sd: np.ndarray) -> dict[str, np.ndarray]:
    """Speed, occupancy and flow [N, T] in physical units of scaled series [S, T]; NaN where not positive."""
    parts = z.reshape(-1, len(channels), z.shape[1])  # [N, C, T]
    found = {}
    for name, c in (roles(channels) or {}).items():
        physical = parts[:, c] * sd[c] + mean[c]
        found[name] = np.where(physical > 0, physical, np.nan)
    return found


def lengths(z: np.ndarray, channels: tuple[str, ...], mean: np.ndarray, sd: np.ndarray) -> np.ndarray | None:
    """[N] median of speed x occupancy / flow of series [S, T] with NaN; None for data without the three channels."""
    if roles(channels) is None:
        return None
    seen = traffic(z, channels, mean, sd)
    with np.errstate(invalid="ignore"):
        ratio = seen["speed"] * seen["occupancy"] / seen["flow"]
    return np.array([np.nanmedian(r) if np.isfinite(r).any() else np.nan for r in ratio])


def implied(z: np.ndarray, visible: np.ndarray, space: FeatureSpace) -> tuple[np.ndarray, np.ndarray] | None:
    """What the other two of speed, occupancy and flow say of the third: speed x occupancy = g x flow.

    g is a lane's mean effective vehicle length over the counting interval. Two estimates: with the lane's usual g, and
    with the g of the nearest intervals in which all three were seen (the own one left out).

    Returns
    -------
    [S, T] each, scaled, NaN where one of the two is not visible; None for data without the three channels.
    """
    if space.lengths is None:
        return None
    seen = traffic(np.where(visible, z, np.nan), space.channels, space.mean, space.sd)
    speed, occupancy, flow = (seen[name] for name in TRAFFIC)
    usual = space.lengths[:, None]
    with np.errstate(invalid="ignore"):
        ratio = speed * occupancy / flow  # [N, T]
    gaps = Gaps.find(np.isfinite(ratio), space.run, np.arange(ratio.size), reach=1)
    left, right = gaps.weights(np.arange(ratio.size))
    flat = np.nan_to_num(ratio.ravel())
    near = (left * flat[gaps.before[0]] + right * flat[gaps.after[0]]).reshape(ratio.shape)
    near = np.where((left + right > 0).reshape(ratio.shape), near, usual)
    found = []
    for g in (usual, near):
        values = np.full((ratio.shape[0], len(space.channels), ratio.shape[1]), np.nan)  # [N, C, T]
        thirds = (g * flow / occupancy, g * flow / speed, speed * occupancy / g)
        for c, value in zip(roles(space.channels).values(), thirds, strict=True):
            values[:, c] = (value - space.mean[c]) / space.sd[c]
        found.append(values.reshape(z.shape))
    return found[0], found[1]
