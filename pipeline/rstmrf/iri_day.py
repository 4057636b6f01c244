"""Maps of IRI's profile parameters for a day, made by PyIRI once and kept as Zarr.

PyIRI's spherical harmonics are evaluated once a day for the two solar activities between which it interpolates; several
values of F10.7 (a day's own for the truth of a simulation, the trailing mean for a background) then cost a second each.
The steps after the harmonics are those of ``PyIRI.sh_library.IRI_density_1day``, to which a test holds the result.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError
from ..core.stages import Job, Result
from ..core.store import open_zarr
from . import weather
from .iri import B_E_BOTTOM, B_E_TOP, F1_THICKNESS, HM_E, PARAMS, UNITS

STEP_DEG = 5.0
LEVELS = ("f107_day", "f107_81")
LEAST_B0_KM, LEAST_B1 = 20.0, 0.2  # PyIRI's lines in solar activity fall below them from F10.7 of about 260 sfu


def grid(step: float = STEP_DEG) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes -90..90 and longitudes -180..180-step in degrees."""
    return np.arange(-90, 90 + step / 2, step), np.arange(-180, 180 - step / 2, step)


def _harmonics(day: date, hours: np.ndarray, lon: np.ndarray, lat: np.ndarray) -> list[np.ndarray]:
    """foF2, hmF2, B0, B1, M3000 as [T, G, 2] (IG12 or R12 0 and 100), weighted between the two months around the
    day."""
    import PyIRI.main_library as main
    import PyIRI.sh_library as sh

    before, after, share_before, share_after = main.day_of_the_month_corr(day.year, day.month, day.day)
    total = 0
    for month, share in ((before, share_before), (after, share_after)):
        total = total + share * sh.IRI_sh_params(month.year, month.month, hours, lon, lat)
    return list(total[:5])


def parameters(day: date, hours: np.ndarray, lat: np.ndarray, lon: np.ndarray, f107: Sequence[float]) -> np.ndarray:
    """Parameters [L, 8, T, G] (:data:`pipeline.rstmrf.iri.PARAMS`) at flat positions, for each value of F10.7 [sfu].

    PyIRI normalises the F1 probability by its largest value in the call: ask for whole days over the globe.
    Its straight lines in solar activity take the bottomside's thickness and shape below zero on very active days (F10.7
    above 280 sfu), where a profile has no value; here they stop at :data:`LEAST_B0_KM` and :data:`LEAST_B1`.
    """
    import PyIRI.main_library as main
    import PyIRI.sh_library as sh

    hours, lat, lon = (np.asarray(axis, float) for axis in (hours, lat, lon))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fof2, hmf2, b0, b1, m3000 = _harmonics(day, hours, lon, lat)
        levels = []
        for flux in f107:
            both = {"foF2": (fof2, "IG12"), "hmF2": (hmf2, "IG12"), "M3000": (m3000, "R12")}
            both |= {"B0": (b0, "R12"), "B1": (b1, "R12")}
            at = {
                name: main.solar_interpolate(maps[..., 0], maps[..., 1], flux, solidx=index, solmin=0, solmax=100)
                for name, (maps, index) in both.items()
            }
            at["B0"], at["B1"] = np.maximum(at["B0"], LEAST_B0_KM), np.maximum(at["B1"], LEAST_B1)
            foe, zenith, *_ = sh.gammaE_dynamic(day.year, day.month, day.day, hours, lon, lat, flux, "GEO")
            nmf2, nme = main.limit_Nm(main.freq2den(at["foF2"])), main.limit_Nm(main.freq2den(foe))
            probability = sh.Probability_F1_with_solzen(zenith)
            height_e = np.full_like(nmf2, HM_E)
            _, _, hmf1, thick = sh.derive_dependent_F1_parameters(
                probability, nmf2, at["hmF2"], at["B0"], at["B1"], height_e
            )
            btop, _ = sh.thickness_F2(nmf2, at["foF2"], at["M3000"], at["hmF2"], flux)
            btop = np.where(btop <= 0, 10.0, btop)  # as PyIRI's profile builder does
            presence = thick / ((hmf1 - HM_E) * F1_THICKNESS)
            ones = np.zeros_like(nmf2)
            rows = [np.log(nmf2), at["hmF2"], np.log(at["B0"]), np.log(at["B1"]), np.log(btop), ones, np.log(nme)]
            levels.append(np.stack([*rows, presence]))
    return np.stack(levels)


def day_maps(day: date, f107: Sequence[float], step: float = STEP_DEG) -> np.ndarray:
    """Hourly global maps [L, 8, 24, LAT, LON] of a day for each value of F10.7 [sfu]."""
    lat, lon = grid(step)
    lats, lons = (axis.ravel() for axis in np.meshgrid(lat, lon, indexing="ij"))
    flat = parameters(day, np.arange(24.0), lats, lons, f107)
    return flat.reshape(len(f107), len(PARAMS), 24, len(lat), len(lon))


def write(path: Path | str, day: date, f107: Sequence[float], step: float = STEP_DEG) -> None:
    """Make a day's maps for its own F10.7 and the trailing mean, and write them as Zarr."""
    import xarray as xr

    lat, lon = grid(step)
    values = day_maps(day, f107, step).astype(np.float32)
    data = xr.Dataset(
        {"param": (("level", "parameter", "hour", "lat", "lon"), values, {"long_name": "parameters of IRI's profile"})},
        coords={
            "level": ("level", np.array(LEVELS, dtype=object)),
            "f107": ("level", np.array(f107), {"units": "1e-22 W m-2 Hz-1", "long_name": "F10.7, adjusted to 1 au"}),
            "parameter": ("parameter", np.array(PARAMS, dtype=object)),
            "unit": ("parameter", np.array(UNITS, dtype=object)),
            "hour": ("hour", np.arange(24.0), {"units": "h", "long_name": "universal time"}),
            "lat": ("lat", lat, {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": ("lon", lon, {"units": "degrees_east", "standard_name": "longitude"}),
        },
        attrs={
            "Conventions": "CF-1.11",
            "day": str(day),
            "space_weather": weather.origin(day),
            "constants": f"hmE {HM_E} km, E layer thickness {B_E_TOP} km above and {B_E_BOTTOM} km below",
        },
    )
    encoding = {"param": {"chunks": (1, *values.shape[1:])}}
    data.to_zarr(path, mode="w", encoding=encoding, zarr_format=3, consolidated=False)


def read(paths: Sequence[Path | str], days: Sequence[date]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps [L, 8, T, LAT, LON] of consecutive days in the order asked for, with latitudes and longitudes.

    Raises
    ------
    DataError
        A day that none of the stores holds.
    """
    stores = {}
    for path in paths:
        with open_zarr(path) as data:
            stores[data.attrs["day"]] = (data["param"].values, data["lat"].values, data["lon"].values)
    missing = [str(day) for day in days if str(day) not in stores]
    if missing:
        raise DataError(f"no IRI maps of {', '.join(missing)} among {', '.join(map(str, paths))}")
    parts = [stores[str(day)] for day in days]
    return np.concatenate([part[0] for part in parts], axis=2).astype(float), parts[0][1], parts[0][2]


def make(job: Job, settings: Any, log: Any) -> Result:
    """Stage ``iri``: the maps of one day (``job.facts["day"]``, or the wildcard of that name) -> ``maps``."""
    wanted = job.facts.get("day") or job.facts.get("wildcards", {}).get("day")
    day = date.fromisoformat(str(wanted))
    flux = weather.flux(day, settings.weather.beyond)
    write(job.outputs["maps"], day, flux, settings.iri.step)
    log.info(f"{day}: F10.7 {flux[0]:.1f}, mean of 81 days {flux[1]:.1f} sfu, {weather.origin(day)}")
    return Result({"f107": flux[0], "f107_81": flux[1]})
