"""Down-sampling of global maps: by area, so that means are kept, or by picking every so-many-th node, as the seed does.

Cells lie around their nodes and end half-way to the next one; those at the ends of the latitudes reach to the poles.
A coarse cell takes from the fine ones what it shares with them of the sphere's area, so polar half cells, the
wrapped meridian and the global mean are right whatever the factor.
"""

from __future__ import annotations

import numpy as np

from ..core.errors import DataError


def nodes(lat: np.ndarray, lon: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Every ``factor``-th latitude (both ends kept) and longitude.

    Raises
    ------
    DataError
        A factor that doesn't divide the steps between the outermost latitudes and once round.
    """
    rows, columns = len(lat) - 1, len(lon)
    if factor < 1 or rows % factor or columns % factor:
        allowed = [f for f in range(1, rows + 1) if not rows % f and not columns % f]
        raise DataError(
            f"maps of {len(lat)} latitudes and {columns} longitudes can't be thinned by {factor}; "
            f"allowed are {', '.join(map(str, allowed))}"
        )
    return lat[::factor], lon[::factor]


def latitude_weights(fine: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Share [coarse, fine] of each coarse band's area that lies in each fine band; rows sum to one."""
    (low, high), (to_low, to_high) = (_bands(axis) for axis in (fine, coarse))
    shared = np.minimum(high, to_high[:, None]) - np.maximum(low, to_low[:, None])
    return np.clip(shared, 0, None) / (to_high - to_low)[:, None]


def _bands(lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sines of the southern and northern edge of each node's band."""
    edges = np.concatenate([[-90.0], 0.5 * (lat[1:] + lat[:-1]), [90.0]])
    sines = np.sin(np.deg2rad(edges))
    return sines[:-1], sines[1:]


def longitude_weights(factor: int) -> dict[int, float]:
    """Shares of the fine cells in a coarse one, by distance in fine cells; an even factor halves the outermost two."""
    half = factor // 2
    if factor % 2:
        return {step: 1 / factor for step in range(-half, half + 1)}
    ends = {-half: 0.5 / factor, half: 0.5 / factor}
    return {step: 1 / factor for step in range(-half + 1, half)} | ends


def conservative(maps: np.ndarray, lat: np.ndarray, factor: int) -> np.ndarray:
    """Area means [..., LAT/f, LON/f] of maps [..., LAT, LON] around every ``factor``-th node.

    Latitudes ascend, longitudes go once round. A cell of which part is missing (NaN) takes the mean of the rest, one
    that is all missing stays so.
    """
    missing = np.isnan(maps)
    if missing.any():
        total = _summed(np.where(missing, 0, maps), lat, factor)
        there = _summed((~missing).astype(maps.dtype), lat, factor)
        return np.divide(total, there, out=np.full_like(total, np.nan), where=there > 1e-6)
    return _summed(maps, lat, factor)


def _summed(maps: np.ndarray, lat: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return maps.copy()
    weights = latitude_weights(lat, lat[::factor]).astype(maps.dtype)  # [LAT/f, LAT]
    half, columns = factor // 2, maps.shape[-1]
    bands = None  # [..., LAT/f, LON]; the shares lie in a band of 2 half + 1 rows: so many sums and no full product
    middle = np.arange(0, len(lat), factor)
    for step in range(-half, half + 1):
        row = middle + step
        inside = (row >= 0) & (row < len(lat))
        share = np.where(inside, weights[np.arange(len(middle)), np.clip(row, 0, len(lat) - 1)], 0)
        part = maps[..., np.clip(row, 0, len(lat) - 1), :] * share[:, None]
        bands = part if bands is None else np.add(bands, part, out=bands)
    shares = longitude_weights(factor)
    padded = np.concatenate([bands[..., columns - half :], bands, bands[..., :half]], axis=-1) if half else bands
    result = None
    for step, share in shares.items():
        start = half + step
        part = padded[..., start : start + columns : factor] * np.asarray(share, maps.dtype)
        result = part if result is None else np.add(result, part, out=result)
    return result


def strided(maps: np.ndarray, factor: int) -> np.ndarray:
    """Every ``factor``-th node of maps [..., LAT, LON], aliasing included."""
    return np.ascontiguousarray(maps[..., ::factor, ::factor])


def closed(maps: np.ndarray) -> np.ndarray:
    """Maps [..., LAT, LON + 1] with the first meridian repeated at the end (the seed's 46 x 91 and 31 x 61)."""
    return np.concatenate([maps, maps[..., :1]], axis=-1)
