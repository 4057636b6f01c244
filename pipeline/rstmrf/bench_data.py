"""Speed of the data's kernels: thinning a month of maps, and background maps against PyIRI's own call at points."""

from __future__ import annotations

import tempfile
import time
import warnings
from datetime import date
from pathlib import Path

import numpy as np

from . import iri_day

MONTH = (720, 181, 361)  # the seed's maps, with the doubled meridian that stores leave out
POINTS = 64


def seconds(step) -> float:
    """CPU seconds of one call, the better of two."""
    found = []
    for _ in range(2):
        start = time.process_time()
        step()
        found.append(time.process_time() - start)
    return min(found)


def thinning() -> dict[str, float]:
    """A month of 1-degree maps in a Zarr store, thinned by 4 into another: by area against every fourth node."""
    import xarray as xr

    from . import tec_store

    rng = np.random.default_rng(0)
    axes = {"lat": np.arange(-90, 91.0), "lon": np.arange(-180.0, 180.0)}
    axes["time"] = np.datetime64("2024-09-01", "ns") + np.arange(MONTH[0]) * np.timedelta64(1, "h")
    tec = rng.normal(20, 5, (MONTH[0], MONTH[1], MONTH[2] - 1)).astype(np.float32)
    dims = ("time", "lat", "lon")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "fine.zarr", Path(folder) / "coarse.zarr"
        tec_store.write(xr.Dataset({"tec": (dims, tec), "rms": (dims, np.zeros_like(tec))}, axes), source)

        def run(method: str) -> float:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                data = xr.open_zarr(source, consolidated=False)
                return seconds(lambda: tec_store.write(tec_store.thinned(data, 4, method), target))

        by_area, picked = run("conservative"), run("strided")
    return {"conservative_s": by_area, "strided_s": picked, "ratio": by_area / picked, "bar_at_most": 3.0}


def background(step: float = 15.0) -> dict[str, float]:
    """A day's parameter maps from the harmonics, against PyIRI asked point by point, per point and hour."""
    import PyIRI.main_library as main
    import PyIRI.sh_library as sh

    day, hours = date(2024, 9, 11), np.arange(24.0)
    maps_s = seconds(lambda: iri_day.day_maps(day, [200.0], step))
    lat, lon = iri_day.grid(step)
    each = maps_s / (len(lat) * len(lon) * len(hours))
    rng = np.random.default_rng(0)
    places = list(zip(rng.uniform(-180, 180, POINTS), rng.uniform(-90, 90, POINTS), strict=True))

    def one_by_one() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for x, y in places[:4]:
                main.day_of_the_month_corr(day.year, day.month, day.day)
                sh.IRI_sh_params(day.year, day.month, np.array([12.0]), np.array([x]), np.array([y]))

    single = seconds(one_by_one) / 4
    return {"maps_ms_per_value": 1e3 * each, "points_ms_per_value": 1e3 * single, "ratio": single / each, "bar": 5.0}


def measure() -> dict[str, dict[str, float]]:
    """Rows of the report."""
    return {"thinning of maps": thinning(), "background maps": background()}
