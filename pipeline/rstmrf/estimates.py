"""What every method ends in: electron density at the points that a world asks for, with its uncertainty, on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError
from ..core.store import open_zarr
from .world import Points, World

Array = np.ndarray
Predict = Callable[[Points], tuple[Array, Array | None]]
QUANTITIES = {  # variable -> its points, unit, long name
    "dense": ("dense", "1", "log10 of electron density in m-3, dense points"),
    "withheld": ("withheld", "1", "log10 of electron density in m-3, points of the withheld profiles"),
    "nmf2": ("column", "1", "log10 of peak electron density in m-3"),
    "hmf2": ("column", "km", "height of the F2 peak"),
    "tec": ("column", "1e16 m-2", "vertical electron content over the world's altitude range"),
}
PEAK_KM = np.arange(150.0, 560.0, 10.0)
AROUND_KM = np.arange(-12.0, 12.1, 2.0)  # second look: the profile has different curvatures on its two sides


@dataclass
class Estimate:
    """One member of a method: a (world, seed).

    dense [N], withheld [W] log10 Ne; nmf2 [C] log10 m-3, hmf2 [C] km, tec [C] TECU: means; ``*_sd`` the standard
    deviations where the method has them. attrs: plain data (cpu_s, …).
    """

    method: str
    world: str
    seed: int
    dense: Array
    withheld: Array
    nmf2: Array
    hmf2: Array
    tec: Array
    dense_sd: Array | None = None
    withheld_sd: Array | None = None
    nmf2_sd: Array | None = None
    hmf2_sd: Array | None = None
    tec_sd: Array | None = None
    attrs: dict[str, Any] = field(default_factory=dict)


def peak(profile: Array, alt_km: Array) -> tuple[Array, Array]:
    """Value and height of the greatest entry of profiles [C, A], by the parabola through three nodes.

    alt_km: [A] or [C, A], in equal steps.
    """
    alt_km = np.broadcast_to(alt_km, profile.shape)
    top = np.clip(profile.argmax(1), 1, profile.shape[1] - 2)
    rows = np.arange(len(profile))
    below, at, above = (profile[rows, top + k] for k in (-1, 0, 1))
    bend = below - 2 * at + above
    shift = np.clip(np.divide(below - above, 2 * bend, out=np.zeros_like(at), where=bend < 0), -1, 1)
    step = alt_km[0, 1] - alt_km[0, 0]
    return at - (below - above) * shift / 4, alt_km[rows, top] + shift * step


def integration(low_km: float, high_km: float, nodes: int = 16) -> tuple[Array, Array]:
    """Gauss-Legendre altitudes [nodes] in km and weights that turn Ne in m-3 into TECU; pieces of at most 450 km."""
    edges = np.linspace(low_km, high_km, 1 + max(1, int(np.ceil((high_km - low_km) / 450))))
    x, w = np.polynomial.legendre.leggauss(nodes)
    halves = np.diff(edges) / 2
    altitudes = ((edges[:-1] + halves)[:, None] + halves[:, None] * x).ravel()
    return altitudes, (halves[:, None] * w).ravel() * 1e3 / 1e16


def spread_out(world: World, alt_km: Array) -> Points:
    """Points of all columns at altitudes [A] or, each its own, [C, A]; column by column."""
    columns = (world.column_time_h, world.column_lat, world.column_lon)
    alt_km = np.broadcast_to(alt_km, (len(world.column_lat), np.shape(alt_km)[-1]))
    return Points(*(np.repeat(value, alt_km.shape[1]) for value in columns), alt_km.ravel())


def columns(world: World, predict: Predict) -> dict[str, Array]:
    """Peak density, peak height and TEC of the world's columns."""
    count = len(world.column_lat)
    if not count:
        return dict.fromkeys(("nmf2", "hmf2", "tec"), np.empty(0))
    profile = predict(spread_out(world, PEAK_KM))[0].reshape(count, -1)  # [C, A]
    around = peak(profile, PEAK_KM)[1][:, None] + AROUND_KM
    nmf2, hmf2 = peak(predict(spread_out(world, around))[0].reshape(count, -1), around)
    altitudes, weights = integration(*world.column_tec_range_km)
    density = 10 ** predict(spread_out(world, altitudes))[0].reshape(count, -1)
    return {"nmf2": nmf2, "hmf2": hmf2, "tec": density @ weights}


def estimate(method: str, world: World, seed: int, predict: Predict) -> Estimate:
    """Evaluate ``predict(points) -> (log10 Ne, sd or None)`` at everything the world asks for."""
    held = world.obs_withheld
    withheld = world.obs.take(held)
    dense, dense_sd = predict(world.dense) if len(world.dense) else (np.empty(0), None)
    at_withheld, withheld_sd = predict(withheld) if held.any() else (np.empty(0), None)
    return Estimate(
        method,
        world.name,
        seed,
        dense,
        at_withheld,
        dense_sd=dense_sd,
        withheld_sd=withheld_sd,
        **columns(world, predict),
    )


def write(path: Path, estimates: list[Estimate]) -> None:
    """Write members to one Zarr store; members of smaller worlds are padded with NaN, lengths stand beside."""
    import xarray as xr

    variables: dict[str, Any] = {}
    for name, (dim, units, title) in QUANTITIES.items():
        for key, label in ((name, title), (f"{name}_sd", f"standard deviation: {title}")):
            values = [getattr(one, key) for one in estimates]
            if all(value is None for value in values):
                continue
            longest = max(getattr(one, name).size for one in estimates)
            padded = np.full((len(estimates), longest), np.nan, np.float32)
            for row, value in zip(padded, values, strict=True):
                if value is not None:
                    row[: value.size] = value
            variables[key] = (("member", dim), padded, {"units": units, "long_name": label})
    for dim in ("dense", "withheld", "column"):
        name = {"column": "tec"}.get(dim, dim)
        variables[f"count_{dim}"] = ("member", np.array([getattr(one, name).size for one in estimates]))
    labels = {name: ("member", np.array([getattr(e, name) for e in estimates], object)) for name in ("method", "world")}
    data = xr.Dataset(
        variables,
        coords={**labels, "seed": ("member", np.array([e.seed for e in estimates]))},
        attrs={"members": [one.attrs for one in estimates]},
    )
    data.to_zarr(path, mode="w", zarr_format=3, consolidated=False)


def read(path: Path) -> list[Estimate]:
    """Read what ``write`` wrote.

    Raises
    ------
    DataError
        No store of estimates at ``path``.
    """
    try:
        with open_zarr(path) as data:
            values = {str(name): data[name].values for name in data.variables}
            attrs = data.attrs["members"]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path}: no store of estimates ({error}); run the stage that writes it") from None
    found = []
    for member, more in enumerate(attrs):
        parts: dict[str, Any] = {}
        for name, (dim, _, _) in QUANTITIES.items():
            count = int(values[f"count_{dim}"][member])
            for key in (name, f"{name}_sd"):
                value = values[key][member, :count].astype(float) if key in values else None
                absent = key.endswith("_sd") and (value is None or (count and np.isnan(value).all()))
                parts[key] = None if absent else value
        labels = (str(values["method"][member]), str(values["world"][member]), int(values["seed"][member]))
        found.append(Estimate(*labels, **parts, attrs=dict(more)))
    return found
