"""Gap features cell by cell, in plain loops: what pipeline/spin/gaps.py and features.py do at once."""

import numpy as np


def around(visible, segment, t, reach=3):
    """Rows of the visible cells before and after row t, nearest first, in t's segment; the own cell is left out."""
    rows = [r for r in range(len(visible)) if visible[r] and segment[r] == segment[t] and r != t]
    return [r for r in reversed(rows) if r < t][:reach], [r for r in rows if r > t][:reach]


def line_at(values, visible, segment, t, level):
    """The straight line across the gap of row t."""
    before, after = around(visible, segment, t, 1)
    if before and after:
        share = (t - before[0]) / (after[0] - before[0])
        return (1 - share) * values[before[0]] + share * values[after[0]]
    return values[(before or after)[0]] if before or after else level


def contrast_at(own_visible, other, other_visible, segment, t, other_level):
    """How far another series is at row t from the line between its values at the ends of the own gap."""
    if not other_visible[t]:
        return np.nan
    filled = [
        other[r] if other_visible[r] else line_at(other, other_visible, segment, r, other_level)
        for r in range(len(other))
    ]
    before, after = around(own_visible, segment, t, 1)
    if before and after:
        share = (t - before[0]) / (after[0] - before[0])
        return other[t] - (1 - share) * filled[before[0]] - share * filled[after[0]]
    return other[t] - (filled[(before or after)[0]] if before or after else other_level)


def kernel_at(values, visible, segment, t, width):
    """Gaussian mean of the other visible cells of the segment within three widths."""
    total = weight = 0.0
    for r in range(len(values)):
        if r != t and visible[r] and segment[r] == segment[t] and abs(r - t) <= np.ceil(3 * width):
            w = np.exp(-0.5 * ((r - t) / width) ** 2)
            total, weight = total + w * values[r], weight + w
    return total / weight if weight > 1e-3 else np.nan
