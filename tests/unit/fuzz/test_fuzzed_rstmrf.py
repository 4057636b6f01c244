"""R-STMRF's readers on damaged files: profiles as text, tables and NetCDF; TEC maps as IONEX and NetCDF."""

import gzip
from datetime import datetime

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pipeline.rstmrf import ionex, profiles, tec_store

from .damage import file_of, fuzz, fuzz_apart, struck_bytes, struck_dataset, struck_text, written

ALT = np.arange(150.0, 450, 25)
NE = 5e11 * np.exp(0.5 * (1 - (ALT - 300) / 50 - np.exp(-(ALT - 300) / 50))) + 1e9


def sane_profiles(found):
    assert found
    for one in found:
        assert len(one.time) == len(one.lat) == len(one.lon) == len(one.alt_km) == len(one.ne) >= 2
        assert (np.diff(one.alt_km) >= 0).all() and np.isfinite(one.ne).all() and not np.isnat(one.time).any()
        assert (np.abs(one.lat) <= 90).all() and (one.lon >= -180).all() and (one.lon < 180).all()


def sane_maps(maps):
    rows, lats, lons = maps.tec.shape
    assert maps.rms.shape == maps.tec.shape and (rows, lats, lons) == (len(maps.time), len(maps.lat), len(maps.lon))
    assert (
        (np.diff(maps.lat) > 0).all() and (np.diff(maps.lon) > 0).all() and maps.lon[0] >= -180 and maps.lon[-1] < 180
    )
    assert not np.isinf(maps.tec).any() and (np.diff(maps.time).astype(int) > 0).all()
    assert (np.abs(maps.lat) <= 90).all()


def test_fy3_text(tmp_path):
    path = tmp_path / "20240912_0345.txt"
    lon, lat = np.linspace(10, 14, len(ALT)), np.linspace(40, 37, len(ALT))
    rows = zip(lon, lat, ALT, NE, strict=True)
    content = "lon lat alt ne\n" + "\n".join(f"{a:.3f} {b:.3f} {c:.2f} {d:.4e}" for a, b, c, d in rows)
    fuzz(file_of(path, content.encode(), struck_text), lambda: profiles.read(path), str(path), sane_profiles)


def table(times):
    frame = pd.DataFrame({"lat": 40.0, "lon": 200.0, "alt": [*ALT, *ALT], "ne": [*NE, *NE]})
    frame.insert(0, *times)
    return frame.assign(profile=["p0"] * len(ALT) + ["p1"] * len(ALT)) if times[0] == "time" else frame


DATED = table(("time", [f"2024-09-12 {h:02d}:00:00" for h in (3, 5) for _ in ALT]))
HOURS = table(("hours", np.repeat([3.0, 5.0], len(ALT))))
START = datetime(2024, 9, 1)


@pytest.mark.parametrize("frame", [DATED, HOURS], ids=["dated", "hours"])
def test_tables(tmp_path, frame):
    path = tmp_path / "profiles.csv"
    content = frame.to_csv(index=False).encode()
    fuzz(file_of(path, content, struck_text), lambda: profiles.read(path, start=START), str(path), sane_profiles, of=2)


def test_tables_as_parquet(tmp_path):
    path = tmp_path / "profiles.parquet"
    DATED.to_parquet(path)
    fuzz_apart(file_of(path, path.read_bytes(), struck_bytes), lambda: profiles.read(path), str(path), sane_profiles)


def test_ionprf(tmp_path):
    path = tmp_path / "ionPrf_C2E2.2024.129.nc"
    data = xr.Dataset(
        {
            "MSL_alt": ("MSL_alt", ALT, {"units": "km"}),
            "GEO_lat": ("MSL_alt", np.linspace(40, 37, len(ALT))),
            "GEO_lon": ("MSL_alt", np.linspace(170, 190, len(ALT))),
            "ELEC_dens": ("MSL_alt", NE / 1e6, {"units": "el/cm3"}),
        },
        attrs={"year": 2024, "month": 5, "day": 8, "hour": 20, "minute": 54, "second": 51.0, "fileStamp": "C2E2"}
        | {"botalt": 150.0, "bottime": 0.0, "edmaxalt": 300.0, "edmaxtime": 250.0, "topalt": 425.0, "toptime": 500.0},
    )
    data.to_netcdf(path)
    fuzz_apart(
        file_of(path, path.read_bytes(), struck_bytes), lambda: profiles.read(path), str(path), sane_profiles, of=2
    )
    fuzz_apart(lambda blows: written(struck_dataset(data, blows), path), lambda: profiles.read(path), str(path), sane_profiles, of=2)  # fmt: skip  # noqa: E501


def line(text, label):
    return f"{text:<60}{label}"


def ionex_text():
    """Two maps of 3 x 7 cells and their errors."""
    rows = [
        line("     1.0            IONOSPHERE MAPS     GPS", "IONEX VERSION / TYPE"),
        line("  450.0 450.0   0.0", "HGT1 / HGT2 / DHGT"),
        line("  60.0 -60.0 -60.0", "LAT1 / LAT2 / DLAT"),
        line("-180.0 180.0  60.0", "LON1 / LON2 / DLON"),
        line("    -1", "EXPONENT"),
        line("", "END OF HEADER"),
    ]
    for kind in ("TEC", "RMS"):
        for number, hour in enumerate((0, 2), 1):
            rows.append(line(f"{number:6d}", f"START OF {kind} MAP"))
            rows.append(line(f"  2000     1     1    {hour:2d}     0     0", "EPOCH OF CURRENT MAP"))
            for lat in (60, 0, -60):
                rows.append(line(f"  {lat:6.1f}-180.0 180.0  60.0 450.0", "LAT/LON1/LON2/DLON/H"))
                rows.append("".join(f"{10 * number + lon:5d}" for lon in range(7)))
            rows.append(line(f"{number:6d}", f"END OF {kind} MAP"))
    return "\n".join([*rows, line("", "END OF FILE")]) + "\n"


def unix_compressed(content):
    """As compress writes it, though not smaller: groups of seven literals of nine bits and a code that clears."""
    out = bytearray(b"\x1f\x9d\x90")
    for start in range(0, len(content), 7):
        part = content[start : start + 7]
        codes = [*part, *([256] if len(part) == 7 else [])]
        bits = sum(code << 9 * place for place, code in enumerate(codes))
        out += bits.to_bytes(-(-9 * len(codes) // 8), "little")
    return bytes(out)


@pytest.mark.parametrize("strike", [struck_text, struck_bytes])
def test_ionex(tmp_path, strike):
    path = tmp_path / "igsg0010.00i"
    fuzz(file_of(path, ionex_text().encode(), strike), lambda: ionex.read(path), str(path), sane_maps, of=2)


@pytest.mark.parametrize(("suffix", "pack"), [("gz", lambda b: gzip.compress(b, mtime=0)), ("Z", unix_compressed)])
def test_ionex_compressed(tmp_path, suffix, pack):
    path = tmp_path / f"igsg0010.00i.{suffix}"
    fuzz(file_of(path, pack(ionex_text().encode()), struck_bytes), lambda: ionex.read(path), str(path), sane_maps, of=2)
    fuzz(
        lambda blows: path.write_bytes(pack(struck_text(ionex_text().encode(), blows))),
        lambda: ionex.read(path),
        str(path),
        sane_maps,
        of=2,
    )


def test_tec_as_netcdf(tmp_path):
    path = tmp_path / "tec.nc"
    shape = (3, 5, 8)
    values = np.random.default_rng(0).uniform(1, 40, shape).astype(np.float32)
    axes = {"time": pd.date_range("2024-09-01", periods=3, freq="1h"), "lat": np.arange(-90.0, 91, 45)}
    axes["lon"] = np.arange(-180.0, 180, 45)
    dims = ("time", "lat", "lon")
    data = xr.Dataset({"tec": (dims, values, {"units": "TECU"}), "rms": (dims, values / 9, {"units": "TECU"})}, axes)
    data.to_netcdf(path)

    def sane(found):
        tec = found["tec"].values
        assert tec.shape == found["rms"].shape == tuple(found.sizes[d] for d in dims) and not np.isinf(tec).any()
        assert (np.diff(found["lat"].values) > 0).all() and (np.diff(found["lon"].values) > 0).all()
        assert (np.diff(found["time"].values).astype(np.int64) > 0).all()

    def read():
        with dask.config.set(scheduler="synchronous"):  # a forked process has none of its parent's threads
            return tec_store.gathered([path]).load()

    fuzz_apart(file_of(path, path.read_bytes(), struck_bytes), read, str(path), sane, of=2)
    fuzz_apart(lambda blows: written(struck_dataset(data, blows), path), read, str(path), sane, of=2)
