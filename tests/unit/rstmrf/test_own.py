"""Own files: what can be used is used, what can't is listed with its reason, and the commands work on both."""

import csv
import shutil
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pipeline.cli import main
from pipeline.core.errors import DataError
from pipeline.rstmrf import own, weather

COSMIC = ("ionPrf_C2E2.2024.129.20.57.G31_0001.nc", "ionPrf_C2E4.2024.129.20.33.G26_0001.nc")
DAY = "2024-05-08"


def chapman(path: Path, lon: float = 240.0, scale: float = 1e-6, peak: float = 300.0) -> Path:
    """FY-3 text from the top down with two levels swapped and a fill value; el/cm3 and longitudes 0..360 by default."""
    alt = np.arange(600.0, 99, -5)
    z = (alt - peak) / 55
    ne = scale * 1e12 * np.exp(0.5 * (1 - z - np.exp(-z))) + scale * 2e9
    rows = [
        f"{lon + 0.01 * k:.3f} {20 + 0.02 * k:.3f} {h:.1f} {n:.6g}"
        for k, (h, n) in enumerate(zip(alt, ne, strict=True))
    ]
    rows[10], rows[11] = rows[11], rows[10]
    rows.insert(30, f"{lon:.3f} 20.0 450.0 -999")
    path.write_text("lon lat alt ne\n" + "\n".join(rows) + "\n")
    return path


def tec_file(path: Path, hours: range, step: float = 10.0) -> Path:
    lat, lon = np.arange(90.0, -91, -step), np.arange(0.0, 361, step)  # north to south, doubled column
    time = np.datetime64(DAY, "ns") + np.array(hours) * np.timedelta64(1, "h")
    tec = np.full((len(time), len(lat), len(lon)), 25.0) + 5 * np.cos(np.deg2rad(lat))[:, None]
    data = xr.Dataset({"tec": (("time", "lat", "lon"), tec, {"units": "TECU"})}, {"time": time, "lat": lat, "lon": lon})
    data.to_netcdf(path)
    return path


@pytest.fixture(scope="module")
def folders(data_dir, tmp_path_factory):
    """Two real COSMIC-2 profiles among good and bad files, and TEC maps of the morning."""
    root = tmp_path_factory.mktemp("own")
    profiles, tec = root / "profiles", root / "tec"
    profiles.mkdir()
    tec.mkdir()
    for name in COSMIC:
        shutil.copy(data_dir / "iono" / "ionprf" / name, profiles)
    chapman(profiles / "20240508_0615_FY3.txt")
    chapman(profiles / "20240508_0700_bottom.txt", peak=130.0)
    chapman(profiles / "20240601_0700_later.txt")
    chapman(profiles / "noname.txt")
    (profiles / "empty.nc").touch()
    (profiles / "broken.nc").write_bytes(b"\x89HDF broken")
    (profiles / "words.csv").write_text("a,b\n1,2\n")
    tec_file(tec / "morning.nc", range(0, 9))
    tec_file(tec / "zz_coarse.nc", range(2, 4), step=30.0)
    with xr.open_dataset(tec_file(tec / "aa.nc", range(9, 12))) as data:
        data.to_zarr(tec / "a_damaged.zarr", zarr_format=3, consolidated=False)
    (tec / "aa.nc").unlink()
    (tec / "a_damaged.zarr" / "tec" / "c" / "0" / "0" / "0").write_bytes(b"no chunk")
    shutil.copy(data_dir / "iono" / "ionex" / "codg0080.20i.Z", tec)
    (tec / "notes.txt").write_text("no map")
    (tec / "empty.24i").touch()
    return profiles, tec


@pytest.fixture(scope="module")
def found(folders):
    day = date.fromisoformat(DAY)
    return own.read(own.Request(*folders, first=day, last=day, step=15.0))


def test_what_can_be_used_is_used(found):
    world = found.world
    assert len(np.unique(world.obs_profile)) == 3
    text = world.obs_profile == world.attrs["profiles"].index("20240508_0615_FY3")
    at, values = world.obs.take(text), world.obs_log10_ne[text]
    assert -120 <= at.lon.min() < at.lon.max() < -118.9  # from 0..360
    assert np.all(np.diff(at.alt_km) > 0) and np.allclose(at.time_h, 6.25)
    assert values.max() == pytest.approx(12.0, abs=0.01)  # el/cm3 became m-3
    notes = " ".join(found.notes)
    for word in ("can only be el/cm3", "0..360", "sorted by altitude", "fill values dropped"):
        assert word in notes


def test_what_was_left_out_is_listed_with_its_reason(found):
    reasons = {Path(name).name: why for name, why in found.left_out}
    wanted = {
        "empty.nc": "is empty",
        "broken.nc": "can't be read as NetCDF",
        "words.csv": "needs columns",
        "noname.txt": "must hold its time",
        "20240508_0700_bottom": "peak at",
        "20240601_0700_later": "outside 2024-05-08",
        "codg0080.20i.Z": "outside the period",
        "notes.txt": "",
        "empty.24i": "is empty",
        "zz_coarse.nc": "its grid differs",
        "a_damaged.zarr": "is damaged: not all of its maps",
    }
    assert reasons.keys() == wanted.keys()
    for name, why in wanted.items():
        assert why in reasons[name]


def test_hours_without_maps_rest_on_profiles(found):
    world = found.world
    known = np.isfinite(world.observed_tec).all(axis=(1, 2))
    assert known.tolist() == [hour <= 8 + own.TEC_AROUND_H for hour in range(24)]
    assert np.nanmax(np.abs(world.tec[:, :, 0] - world.tec[:, :, -1])) == 0
    assert world.tec_lat[0] == -90 and len(world.tec_lon) == 36  # ascending, no doubled column


def test_nothing_to_use_is_an_error(folders, tmp_path):
    (tmp_path / "empty.nc").touch()
    with pytest.raises(DataError, match="nothing can be used.*is empty"):
        own.read(own.Request(profiles=tmp_path))
    with pytest.raises(DataError, match="neither"):
        own.read(own.Request())
    chapman(tmp_path / "20240101_0700_a.txt")
    chapman(tmp_path / "20240501_0700_b.txt")
    with pytest.raises(DataError, match="between one and 31 days"):
        own.read(own.Request(profiles=tmp_path))


def test_the_commands_on_two_real_profiles(data_dir, tmp_path, capsys):
    out = tmp_path / "ne.zarr"
    source = str(data_dir / "iono" / "ionprf")
    ask = [
        "rstmrf",
        "reconstruct",
        "--profiles",
        source,
        "--out",
        str(out),
        "--step",
        "15",
        "--alt",
        "100",
        "500",
        "100",
    ]
    assert main(ask) == 0
    assert "2 profiles, 0 TEC maps" in capsys.readouterr().out
    with (tmp_path / "ne.zarr.left_out.csv").open() as stream:
        assert list(csv.reader(stream)) == [["file", "reason"]]
    assert main(ask) == 1  # never over a file that is there
    assert "is there already" in capsys.readouterr().err
    place = ["rstmrf", "query", str(out), "--time", f"{DAY}T20:30Z", "--lat", "-5", "--lon", "200"]
    assert main([*place, "--alt", "300", "350", "--iri"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [float(row["alt"]) for row in rows] == [300, 350]
    assert all(8 < float(row["log10_ne"]) < 13 for row in rows)
    assert main([*place, "--fof2", "--hmf2", "--tec", "vertical"]) == 0
    (row,) = csv.DictReader(capsys.readouterr().out.splitlines())
    assert 200 < float(row["hmf2_km"]) < 500 and 1 < float(row["tec_tecu"]) < 200
    assert main([*place, "--tec", "slant"]) == 1
    assert "--azimuth and --elevation" in capsys.readouterr().err
    assert main([*place[:5], "--map", "--hmf2", "--out", str(tmp_path / "map.csv")]) == 0
    assert len((tmp_path / "map.csv").read_text().splitlines()) == 1 + 13 * 24


def test_days_whose_space_weather_was_not_observed_are_an_error_or_flagged(tmp_path, capsys):
    day = weather.last_observed() + timedelta(days=2)
    chapman(tmp_path / f"{day:%Y%m%d}_0700_ahead.txt")
    out = tmp_path / "ne.nc"
    ask = ["rstmrf", "reconstruct", "--profiles", str(tmp_path), "--out", str(out), "--step", "15"]
    assert main([*ask, "--alt", "200", "400", "100"]) == 1
    said = capsys.readouterr().err
    assert f"space weather of {day} was not observed" in said and "--beyond flag" in said and not out.exists()
    assert main([*ask, "--alt", "200", "400", "100", "--beyond", "flag"]) == 0
    assert f"predicted after {weather.last_observed()}" in capsys.readouterr().out
    with xr.open_dataset(out) as made:
        assert made.attrs["space_weather"] == f"predicted after {weather.last_observed()}"
