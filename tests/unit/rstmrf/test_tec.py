"""TEC maps: gradients, thinning and interpolation in time against closed forms; stores of any origin."""

import tracemalloc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import DataError
from pipeline.core.stages import Job
from pipeline.rstmrf import coarsen, ionex, tec, tec_store
from pipeline.rstmrf.coordinates import harmonics

LAT, LON = np.arange(-90.0, 91), np.arange(-180.0, 180)


def sphere_mean(maps, lat):
    low, high = coarsen._bands(lat)
    return (maps.mean(-1) * (high - low)).sum(-1) / 2


@pytest.mark.parametrize("factor", [4, 6, 3])
def test_the_mean_over_the_sphere_is_kept(factor):
    maps = np.random.default_rng(0).normal(10, 3, size=(2, 181, 360))
    small = coarsen.conservative(maps, LAT, factor)
    assert np.allclose(sphere_mean(small, LAT[::factor]), sphere_mean(maps, LAT), rtol=1e-12)


def test_thinning_by_four_gives_the_seeds_grids():
    maps = np.zeros((1, 181, 360))
    assert coarsen.closed(coarsen.conservative(maps, LAT, 4)).shape == (1, 46, 91)
    assert coarsen.closed(coarsen.strided(maps, 6)).shape == (1, 31, 61)


def test_area_means_are_those_of_brute_force():
    rng = np.random.default_rng(1)
    lat, lon = np.arange(-90, 91, 15.0), np.arange(-180, 180, 15.0)
    maps = rng.normal(size=(len(lat), len(lon)))
    found = coarsen.conservative(maps[None], lat, 2)[0]
    fine = np.deg2rad(np.arange(-90 + 0.05, 90, 0.1))  # a fine raster of the same cells
    row = np.abs(np.rad2deg(fine)[:, None] - lat).argmin(1)
    east = np.arange(-180, 180, 0.5) + 0.25
    column = (np.round((east + 180) / 15).astype(int)) % len(lon)
    to_row = np.abs(np.rad2deg(fine)[:, None] - lat[::2]).argmin(1)
    to_column = (np.round((east + 180) / 30).astype(int)) % (len(lon) // 2)
    weight = np.cos(fine)[:, None] * np.ones(len(east))
    total, area = np.zeros((2, *found.shape))
    place = (to_row[:, None] + np.zeros(len(east), int), to_column[None] + np.zeros((len(fine), 1), int))
    np.add.at(total, place, weight * maps[row][:, column])
    np.add.at(area, place, weight)
    assert np.allclose(found, total / area, atol=2e-3)


@pytest.mark.parametrize("index", [1, 3, 6, 11, 20])
def test_smooth_harmonics_pass_through_and_stay_periodic(index):
    field = harmonics(LAT[:, None], LON[None], 4)[..., index][None]
    small = coarsen.conservative(field, LAT, 4)
    assert np.allclose(
        small[:, 4:-4], field[:, 16:-16:4, ::4], atol=0.02
    )  # nearer a pole a cell's mean lies off its node
    turned = coarsen.conservative(np.roll(field, 8, axis=-1), LAT, 4)
    assert np.allclose(turned, np.roll(small, 2, axis=-1), atol=1e-12)


def test_white_noise_is_averaged_where_picking_keeps_it():
    """Shares 1/8, 1/4, 1/4, 1/4, 1/8 either way leave a standard deviation of 7/32."""
    maps = np.random.default_rng(2).normal(size=(3, 181, 360))
    assert coarsen.conservative(maps, LAT, 4)[:, 10:-10].std() == pytest.approx(7 / 32, rel=0.03)
    assert coarsen.strided(maps, 4).std() == pytest.approx(1, rel=0.05)


def test_missing_cells_take_no_part():
    maps = np.full((1, 181, 360), 7.0)
    maps[0, 80:84, 100:104] = np.nan
    small = coarsen.conservative(maps, LAT, 4)
    assert np.allclose(small[np.isfinite(small)], 7)
    maps[:] = np.nan
    assert np.isnan(coarsen.conservative(maps, LAT, 4)).all()


@given(st.integers(2, 200))
@settings(max_examples=20, deadline=None)
def test_factors_that_fit_are_allowed_and_others_named(factor):
    fits = not 180 % factor and not 360 % factor
    if fits:
        assert coarsen.nodes(LAT, LON, factor)[0][-1] == 90
    else:
        with pytest.raises(DataError, match="allowed are 1, 2, 3, 4"):
            coarsen.nodes(LAT, LON, factor)


def fields(phi, lam):
    """Spherical harmonics up to degree 2 with their slopes north and east on a sphere of radius one."""
    zero = 0 * phi * lam
    return {
        "sin": (np.sin(phi) + zero, np.cos(phi) + zero, zero),
        "cos cos": (np.cos(phi) * np.cos(lam), -np.sin(phi) * np.cos(lam), -np.sin(lam) + zero),
        "cos sin": (np.cos(phi) * np.sin(lam), -np.sin(phi) * np.sin(lam), np.cos(lam) + zero),
        "sin cos cos": (np.sin(2 * phi) / 2 * np.cos(lam), np.cos(2 * phi) * np.cos(lam), -np.sin(phi) * np.sin(lam)),
        "cos2 cos 2": (
            np.cos(phi) ** 2 * np.cos(2 * lam),
            -np.sin(2 * phi) * np.cos(2 * lam),
            -2 * np.cos(phi) * np.sin(2 * lam),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", fields(0.0, 0.0))
def test_slopes_of_harmonics_are_exact_from_pole_to_pole_and_across_the_seam(name):
    """ln TEC is the harmonic: every node of the 1-degree grid, both poles included, within 2e-3 of the closed form."""
    field, north, east = fields(np.deg2rad(LAT)[:, None], np.deg2rad(LON)[None])[name]
    found = 6371.2 * tec.gradient(np.exp(field)[None], LAT, LON)
    assert found.shape == (2, 1, 181, 360)
    assert np.abs(found[0, 0] - north).max() < 2e-3 and np.abs(found[1, 0] - east).max() < 2e-3


@pytest.mark.parametrize("row", [0, -1])
def test_at_a_pole_the_slope_is_one_vector_seen_from_each_meridian(row):
    """Noise has no slope at a pole that all meridians agree on; what is given is the same vector from each."""
    noise = np.exp(np.random.default_rng(0).normal(size=(181, 360)))
    north, east = tec.gradient(noise, LAT, LON)[:, row].astype(float)
    lam, sign = np.deg2rad(LON), 1 if row == 0 else -1
    x = sign * north * np.cos(lam) - east * np.sin(lam)
    y = sign * north * np.sin(lam) + east * np.cos(lam)
    assert np.ptp(x) < 1e-8 and np.ptp(y) < 1e-8 and np.hypot(x, y).max() > 1e-5


def test_maps_that_end_before_the_poles_have_one_sided_slopes_there():
    lat, lon = np.arange(-87.5, 88, 2.5), np.arange(-180.0, 180, 5)
    north, east = 6371.2 * tec.gradient(np.exp(0.01 * lat)[:, None] + 0 * lon, lat, lon)
    assert np.allclose(north, 0.01 * 180 / np.pi, rtol=1e-5) and np.allclose(east, 0, atol=1e-6)


def test_gradients_refuse_what_they_would_get_wrong():
    with pytest.raises(DataError, match="ascend"):
        tec.gradient(np.ones((181, 360)), LAT[::-1], LON)
    with pytest.raises(DataError, match="once round"):
        tec.gradient(np.ones((181, 361)), LAT, np.arange(-180.0, 181))


def test_between_epochs_the_field_stays_with_the_sun():
    """A crest at 14 h local time: interpolation in sun-fixed longitude is exact, plain averaging is not."""
    lat, lon, hours = np.arange(-90, 91, 5.0), np.arange(-180, 180, 5.0), np.array([0.0, 2.0, 4.0])

    def crest(hour):
        angle = np.deg2rad(15 * ((hour + lon / 15) - 14))
        return 20 + 10 * np.cos(angle)[None] * np.cos(np.deg2rad(lat))[:, None]

    maps = np.stack([crest(hour) for hour in hours])
    at = tec.sun_fixed(maps, hours, lat, lon)
    assert np.allclose(at([1.0], lat, lon)[0], crest(1.0), atol=1e-10)
    assert np.abs(0.5 * (maps[0] + maps[1]) - crest(1.0)).max() > 0.3
    assert np.allclose(at([2.0], lat, lon)[0], maps[1])
    assert np.isnan(at([9.5], lat, lon)).all()  # further than four hours from any map


def test_maps_without_a_value_are_passed_over():
    lat, lon = np.arange(-90, 91, 30.0), np.arange(-180, 180, 30.0)
    maps = np.stack([np.full((7, 12), value) for value in (4.0, np.nan, 8.0)])
    found = tec.sun_fixed(maps, np.arange(3.0), lat, lon)([1.0], lat, lon)
    assert np.allclose(found, 6.0)


def netcdf(path, lat, lon, factor=1.0, units="TECU", name="tec"):
    values = 10 + np.arange(3)[:, None, None] + 0.1 * lat[:, None] + 0 * lon
    time = np.datetime64("2024-09-01", "ns") + np.arange(3) * np.timedelta64(1, "h")
    variables = {name: (("time", "latitude", "longitude"), values * factor, {"units": units})}
    xr.Dataset(variables, {"time": time, "latitude": lat, "longitude": lon}).to_netcdf(path)
    return values


@pytest.mark.parametrize(("units", "factor"), [("TECU", 1.0), ("m-2", 1e16)])
def test_any_regular_netcdf_comes_out_the_same(tmp_path, units, factor):
    """181 x 361 from north to south, 0..360, in either unit."""
    netcdf(tmp_path / "t.nc", np.arange(90.0, -91, -1), np.arange(0.0, 361), factor, units)
    data = tec_store.gathered([tmp_path / "t.nc"])
    assert data["tec"].shape == (3, 181, 360)
    assert data["lat"][0] == -90 and data["lon"][0] == -180 and data["lon"][-1] == 179
    assert np.allclose(data["tec"].values[1, :, 7], 11 + 0.1 * LAT)
    tec_store.write(tec_store.thinned(data, 4), tmp_path / "small.zarr")
    with xr.open_zarr(tmp_path / "small.zarr", consolidated=False) as small:
        assert small["tec"].shape == (3, 46, 90) and small["tec"].attrs["units"] == "1e16 m-2"
        assert small["lat"].attrs["standard_name"] == "latitude" and small.attrs["Conventions"] == "CF-1.11"
        assert np.allclose(small["tec"].values[0, 4:-4, 0], 10 + 0.1 * LAT[16:-16:4], atol=0.01)


def test_a_damaged_file_is_named(tmp_path):
    lat, lon = np.arange(-90.0, 91, 10), np.arange(-180.0, 180, 10)
    netcdf(tmp_path / "good.nc", lat, lon)
    with xr.open_dataset(tmp_path / "good.nc") as data:
        data.to_zarr(tmp_path / "t.zarr", zarr_format=3, consolidated=False)
        data.to_netcdf(tmp_path / "t.nc", encoding={"tec": {"zlib": True, "chunksizes": (3, 19, 36)}})
    (tmp_path / "t.zarr" / "tec" / "c" / "0" / "0" / "0").write_bytes(b"no chunk")
    content = (tmp_path / "t.nc").read_bytes()
    start = content.index(b"\x78\x5e" if b"\x78\x5e" in content else b"\x78\x9c")  # of the only deflated chunk
    (tmp_path / "t.nc").write_bytes(content[: start + 20] + bytes(100) + content[start + 120 :])
    for name in ("t.zarr", "t.nc"):
        with pytest.raises(DataError, match=f"{name} is damaged: not all of its maps can be read"):
            tec_store.write(tec_store.gathered([tmp_path / name]), tmp_path / "out.zarr")


def test_wrong_units_names_and_grids_are_errors(tmp_path):
    lat, lon = np.arange(-90.0, 91, 10), np.arange(-180.0, 180, 10)
    netcdf(tmp_path / "a.nc", lat, lon, units="apples")
    netcdf(tmp_path / "b.nc", lat, lon, name="temperature")
    netcdf(tmp_path / "c.nc", lat, lon[:20])
    netcdf(tmp_path / "d.nc", np.array([-90.0, -60, -10, 90]), lon)
    for name, message in zip("abcd", ["units 'apples'", "needed for tec", "once round", "evenly spaced"], strict=True):
        with pytest.raises(DataError, match=message):
            tec_store.gathered([tmp_path / f"{name}.nc"])


def test_ionex_days_become_one_store(data_dir, tmp_path):
    folder = data_dir / "iono" / "ionex"
    data = tec_store.gathered([folder / "codg0080.20i.Z", folder / "codg0090.20i.Z"])
    tec_store.write(data, tmp_path / "gim.zarr")
    with xr.open_zarr(tmp_path / "gim.zarr", consolidated=False) as stored:
        assert dict(stored.sizes) == {"time": 49, "lat": 71, "lon": 72}
        assert float(stored["rms"].mean()) == pytest.approx(1.29, abs=0.02)


def test_the_stage_thins_what_it_is_given(tmp_path):
    netcdf(tmp_path / "t.nc", np.arange(-90.0, 91), np.arange(-180.0, 181))
    job = Job("rstmrf", "tec", {"raw": str(tmp_path / "t.nc")}, {"tec": tmp_path / "t.zarr"}, {})
    log = SimpleNamespace(info=lambda line: None)
    for method, first in (("strided", 1.0), ("conservative", 1.2)):  # the mean of the cap lies 2 degrees off the pole
        result = tec_store.convert(job, SimpleNamespace(tec=SimpleNamespace(factor=6, method=method)), log)
        assert result.metrics == {"maps": 3, "nodes": 31 * 60}
        with xr.open_zarr(tmp_path / "t.zarr", consolidated=False) as stored:
            assert float(stored["tec"][0, 0, 0]) == pytest.approx(first, abs=0.03)


def stored(raw, path, factor=3):
    """What the stage holds of its input at the worst moment, in bytes that numpy and Python ask for."""
    job = Job("rstmrf", "tec", {"raw": raw}, {"tec": path}, {})
    wanted = SimpleNamespace(tec=SimpleNamespace(factor=factor, method="conservative"))
    tracemalloc.start()
    try:
        tec_store.convert(job, wanted, SimpleNamespace(info=lambda line: None))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_length_of_a_file(tmp_path):
    """NetCDF without chunks of its own: four times the maps, the same peak, far below the file."""
    lat, lon = np.arange(-90.0, 91, 4), np.arange(-180.0, 180, 4)
    stored(short_file(tmp_path / "warm.nc", 2, lat, lon), tmp_path / "warm.zarr")  # imports are no maps
    peaks, sizes = [], []
    for pieces in (8, 32):
        raw = short_file(tmp_path / f"{pieces}.nc", pieces * tec_store.HOURS_A_PIECE, lat, lon)
        sizes.append(pieces * tec_store.HOURS_A_PIECE * len(lat) * len(lon) * 4)
        peaks.append(stored(raw, tmp_path / f"{pieces}.zarr"))
    assert peaks[1] < 1.25 * peaks[0] and peaks[1] < 0.5 * sizes[1]


def short_file(path, count, lat, lon):
    time = np.datetime64("2024-01-01", "ns") + np.arange(count) * np.timedelta64(1, "h")
    values = np.ones((count, len(lat), len(lon)), np.float32)
    data = xr.Dataset(
        {"tec": (("time", "lat", "lon"), values, {"units": "TECU"})}, {"time": time, "lat": lat, "lon": lon}
    )
    data.to_netcdf(path, encoding={"tec": {"contiguous": True}})
    return str(path)


@pytest.mark.parametrize("count", [4, 16])
def test_ionex_files_are_in_memory_a_few_at_a_time(tmp_path, monkeypatch, count):
    """A piece of 48 maps comes from at most three daily files; no more of them are alive, whatever their number."""
    lat, lon = np.arange(-90.0, 91, 30), np.arange(-180.0, 180, 30)
    alive = {"now": 0, "most": 0, "reads": 0}

    def maps(day, shape):
        time = np.datetime64("2024-01-01", "s") + (24 * day + np.arange(25)) * np.timedelta64(3600, "s")
        values = np.full((shape, len(lat), len(lon)), 10.0 + day)
        return ionex.TecMaps(time, lat, lon, values, values.copy(), 450.0)

    def read(day):
        found = maps(int(day), 25)
        alive["now"] += 1
        alive["reads"] += 1
        alive["most"] = max(alive["most"], alive["now"])
        weakref.finalize(found.tec, lambda: alive.update(now=alive["now"] - 1))
        return found

    blocks = {"now": 0, "most": 0}
    stack = np.stack

    def counted(*arguments, **more):
        both = stack(*arguments, **more)
        if both.shape[0] == 2 and both.ndim == 4:
            blocks["now"] += 1
            blocks["most"] = max(blocks["most"], blocks["now"])
            weakref.finalize(both, lambda: blocks.update(now=blocks["now"] - 1))
        return both

    monkeypatch.setattr(tec_store, "outline", lambda day: maps(int(day), 0))
    monkeypatch.setattr(tec_store, "read", read)
    monkeypatch.setattr(tec_store.np, "stack", counted)
    days = [str(day) for day in reversed(range(count))]
    data = tec_store.gathered(days)
    tec_store.write(tec_store.thinned(data, 2), tmp_path / "t.zarr")
    assert alive["reads"] == count and alive["most"] == 1 and blocks["most"] <= 3
    with xr.open_zarr(tmp_path / "t.zarr", consolidated=False) as kept:
        assert kept.sizes["time"] == 24 * count + 1
        assert kept["tec"].values[:, 1, 1].tolist() == pytest.approx(
            [10.0 + h // 24 for h in range(24 * count)] + [9.0 + count]
        )


def test_an_outline_says_what_reading_says(data_dir):
    for path in sorted((data_dir / "iono" / "ionex").iterdir()):
        whole, plan = ionex.read(path), ionex.outline(path)
        assert plan.time.tolist() == whole.time.tolist() and plan.notes == whole.notes and plan.tec.shape[0] == 0
        assert np.array_equal(plan.lat, whole.lat) and np.array_equal(plan.lon, whole.lon)


def test_files_on_two_grids_do_not_join(tmp_path):
    lon = np.arange(-180.0, 180, 10)
    netcdf(tmp_path / "a.nc", np.arange(-90.0, 91, 10), lon)
    netcdf(tmp_path / "b.nc", np.arange(-90.0, 91, 30), lon)
    with pytest.raises(DataError, match="different grids .19 x 36 and 7 x 36"):
        tec_store.gathered([tmp_path / "a.nc", tmp_path / "b.nc"])


def test_a_file_without_any_map_is_named():
    nothing = xr.Dataset(coords={"time": np.array([], "datetime64[ns]"), "lat": [0.0], "lon": [0.0]})
    with pytest.raises(DataError, match=r"x\.nc: no TEC map, the axis of time is empty"):
        tec_store._series([nothing], ["x.nc"])
