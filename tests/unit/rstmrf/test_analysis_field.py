"""The reconstruction on a grid, what reaches where, and the questions that it answers."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.core.errors import DataError
from pipeline.rstmrf import analysis_field, iri
from pipeline.rstmrf.assimilate import Assimilated
from pipeline.rstmrf.reconstruct import MAPS, Reach, analysed, write
from pipeline.rstmrf.settings import Learn
from pipeline.rstmrf.world import Points

SMALL = {"degree": 3, "knots": 6.0, "passes": 2, "iterations": 15, "draws": 2}
SETTINGS = Learn.model_validate({"method": {"kind": "assimilate"}, "fields": SMALL})
ALT = [100.0, 200.0, 300.0, 450.0]
WHEN = "2024-09-11T07:00"


@pytest.fixture(scope="module")
def sparse(toy_world):
    """Without TEC, and with two neighbouring profiles alone."""
    keep = np.isin(toy_world.obs_profile, np.unique(toy_world.obs_profile)[:2])
    parts = ("obs_log10_ne", "obs_profile", "obs_sigma_white", "obs_sigma_vertical")
    own = {name: getattr(toy_world, name)[keep] for name in parts}
    none = np.full_like(toy_world.tec, np.nan)
    return replace(toy_world, obs=toy_world.obs.take(keep), obs_withheld=np.zeros(keep.sum(), bool), tec=none, **own)


@pytest.fixture(scope="module")
def whole(toy_world):
    return analysed(toy_world, SETTINGS, ALT)


@pytest.fixture(scope="module")
def field(whole, tmp_path_factory):
    path = tmp_path_factory.mktemp("field") / "ne.zarr"
    write(whole, path)
    return analysis_field.load(path)


def test_the_grid_holds_the_analysis(whole, toy_world):
    found = Assimilated(toy_world, SETTINGS, 0).fit(0, lambda step, parts: None)
    at = Points(np.full(4, 7.0), np.full(4, 15.0), np.full(4, -45.0), np.array(ALT))
    mean, sd = found.predict(at)
    cell = whole.sel(time=WHEN, lat=15.0, lon=-45.0)
    np.testing.assert_allclose(cell["log10_ne"], mean, atol=2e-4)
    np.testing.assert_allclose(cell["log10_ne_sd"], sd, rtol=2e-3)
    assert set(np.unique(whole["flag"])) <= {1, 3}  # hourly maps without gaps reach everywhere


def test_iri_stands_alone_where_nothing_reaches(sparse):
    data = analysed(sparse, SETTINGS, ALT)
    alone = data["flag"].values == 0
    assert 0.5 < alone.mean() < 1
    changed = np.abs(data["map"].values[: len(iri.PARAMS)] - data["iri_map"].values).max(0)  # [T, lat, lon]
    bumps = np.abs(data["map"].values[len(iri.PARAMS) :]).max(0)
    assert changed[alone].max() < 1e-4 and bumps[alone].max() == 0
    assert changed[~alone].max() > 0.02
    near = data["flag"].sel(lat=sparse.obs.lat[0], lon=sparse.obs.lon[0], method="nearest")
    assert near.values[int(np.round(sparse.obs.time_h[0]))] == 2


def test_distance_in_degrees_and_hours(sparse):
    obs = Points(np.array([6.0]), np.array([0.0]), np.array([10.0]), np.array([300.0]))
    one = np.zeros(1)
    reach = Reach(
        replace(
            sparse,
            obs=obs,
            obs_log10_ne=one,
            obs_profile=one,
            obs_withheld=one > 0,
            obs_sigma_white=one,
            obs_sigma_vertical=one,
        )
    )
    chord = 2 * np.sin(np.deg2rad(10)) / np.deg2rad(20)  # 20 degrees as a chord
    cases = [(6.0, 0.0, 10.0, 0.0), (6.0, 20.0, 10.0, chord), (18.0, 0.0, 10.0, 1.0)]
    cases += [(12.0, 0.0, -80.0, 0.5), (6.0, 0.0, 190.0, np.inf)]  # 6 h later at the same local time; half a turn away
    for time, lat, lon, wanted in cases:
        got = reach.distance(np.array([time]), np.array([lat]), np.array([lon]))[0]
        assert got == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
def test_both_forms_are_read_back(whole, tmp_path, suffix):
    path = tmp_path / f"ne{suffix}"
    write(whole, path)
    back = analysis_field.load(path)
    wanted = whole.sel(time=WHEN, lat=15.0, lon=-45.0)["log10_ne"].values
    np.testing.assert_allclose(back.log10_ne(WHEN, 15.0, -45.0, np.array(ALT)), wanted, atol=2e-4)
    np.testing.assert_allclose(back.log10_ne(WHEN, 15.0, 315.0, np.array(ALT)), wanted, atol=2e-4)  # another turn
    level = whole.sel(time=WHEN, lat=15.0, lon=-45.0)["log10_ne_sd"].values
    np.testing.assert_allclose(
        back.log10_ne_sd(WHEN, 15.0, -45.0, [250.0, 900.0]), [level[1:3].mean(), level[3]], rtol=1e-5
    )
    with pytest.raises(DataError, match="there already"):
        write(whole, path)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]  # no part is left


def test_background_peak_is_that_of_the_parameters(field):
    at = (np.array([7.0]), np.array([15.0]), np.array([-45.0]))
    row = field.iri_map[:, 7, 7, 9]
    density, height = field.peak(np.array([WHEN], "datetime64[m]"), *at[1:], background=True)
    assert density[0] == pytest.approx(row[0] / np.log(10), abs=1e-3)
    assert height[0] == pytest.approx(row[1], abs=1.0)  # a parabola over the kink at the peak
    assert field.fof2(WHEN, 15.0, -45.0, background=True) == pytest.approx(8.98e-6 * np.exp(row[0] / 2), rel=3e-3)


def test_slant_content(field):
    vertical = field.vertical_tec(WHEN, 15.0, -45.0)
    assert field.slant_tec(WHEN, 15.0, -45.0, 0.0, 90.0) == pytest.approx(float(vertical), rel=2e-3)
    length = analysis_field.ray_length(np.array([450.0]), 30.0)
    # sine rule: the angle at the piercing point is asin(R cos 30 / (R + h))
    angle = np.pi / 2 - np.deg2rad(30) - np.arcsin(6371 * np.cos(np.deg2rad(30)) / 6821)
    assert length[0] == pytest.approx(6821 * np.sin(angle) / np.cos(np.deg2rad(30)), rel=1e-9)
    lat, lon, alt = analysis_field.ray(0.0, 0.0, 90.0, 30.0, 0.0, length)
    assert (alt[0], lat[0]) == (pytest.approx(450.0), pytest.approx(0.0, abs=1e-9))
    assert np.deg2rad(lon[0]) == pytest.approx(angle)
    assert field.slant_tec(WHEN, 15.0, -45.0, 180.0, 30.0) > 1.3 * float(vertical)


def test_questions_out_of_range(field):
    with pytest.raises(DataError, match="holds 2024-09-11T00:00 to 2024-09-11T23:00"):
        field.log10_ne("2024-09-12T00:00", 0.0, 0.0, 300.0)
    assert field.log10_ne("2024-09-11T23:59", 0.0, 0.0, 300.0) == field.log10_ne("2024-09-11T23:00", 0.0, 0.0, 300.0)
    for arguments in ((91.0, 0.0, 300.0), (0.0, 400.0, 300.0), (0.0, 0.0, 30.0), (np.nan, 0.0, 300.0)):
        with pytest.raises(DataError, match="must lie within"):
            field.log10_ne(WHEN, *arguments)
    with pytest.raises(DataError, match="elevation"):
        field.slant_tec(WHEN, 0.0, 0.0, 0.0, 0.0)
    with pytest.raises(DataError, match="does not exist"):
        analysis_field.load("nowhere.zarr")


def test_another_file_is_no_reconstruction(tmp_path, whole):
    (tmp_path / "other.nc").write_bytes(b"not a file")
    whole.drop_vars("map").to_netcdf(tmp_path / "part.nc")
    for name in ("other.nc", "part.nc"):
        with pytest.raises(DataError, match="no reconstruction"):
            analysis_field.load(tmp_path / name)
    assert whole.attrs["parameters"].split() == list(MAPS)


def test_ionosondes_are_compared(field, tmp_path):
    times = pd.to_datetime([WHEN, "2024-09-11T08:30", "2024-09-11T09:00", "2024-09-14T00:00", WHEN])
    frame = pd.DataFrame({"Time": times, "Lat": 15.0, "Lon": 315.0})
    inside = np.array([0, 1, 2])
    density, height = field.peak(times.to_numpy()[inside], np.full(3, 15.0), np.full(3, -45.0))
    frame["foF2"], frame["hmF2"] = np.nan, np.nan
    frame.loc[inside, "foF2"] = analysis_field.fof2_mhz(density) + np.array([1.0, 1.0, -0.5])
    frame.loc[inside, "hmF2"] = height - np.array([10.0, -20.0, 0.0])
    frame.loc[2, "hmF2"] = 9999.0  # a fill value
    frame.loc[3, "foF2"] = 5.0  # another day
    frame.to_csv(tmp_path / "sondes.csv", index=False)
    rows, scores, left = field.against_ionosondes(tmp_path / "sondes.csv")
    assert (len(rows), left) == (3, 2)
    found = scores["fof2_analysis"]
    assert found["n"] == 3 and found["bias"] == pytest.approx(-0.5, abs=1e-6)
    assert found["rmse"] == pytest.approx(np.sqrt(2.25 / 3), abs=1e-6)
    assert scores["hmf2_analysis"]["n"] == 2
    assert scores["hmf2_analysis"]["bias"] == pytest.approx(-5, abs=1e-6)
    assert {"fof2_iri", "hmf2_iri"} <= scores.keys()
