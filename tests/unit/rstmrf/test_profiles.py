"""Profiles: the two real ones, the forms that files come in, and what is wrong with files."""

from datetime import datetime

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pipeline.core.errors import DataError
from pipeline.rstmrf import profiles, quality

ALT = np.arange(120.0, 521, 4)


def chapman(alt=ALT, peak=5e11, height=300.0, scale=50.0):
    z = (alt - height) / scale
    return peak * np.exp(0.5 * (1 - z - np.exp(-z))) + 1e9


def text(path, ne=None, lon=None, lat=None, alt=ALT, head=""):
    ne = chapman(alt) if ne is None else ne
    lon = np.linspace(10, 25, len(alt)) if lon is None else lon
    lat = np.linspace(40, 30, len(alt)) if lat is None else lat
    rows = "\n".join(f"{a:.3f} {b:.3f} {c:.2f} {d:.4e}" for a, b, c, d in zip(lon, lat, alt, ne, strict=True))
    path.write_text(head + rows + "\n")
    return path


def test_real_profiles_keep_their_own_places_and_peak(data_dir):
    found, left = profiles.read_all(profiles.files(data_dir / "iono" / "ionprf"))
    assert not left and [len(one.alt_km) for one in found] == [357, 398]
    peaks = [(one.ne.max(), one.alt_km[one.ne.argmax()]) for one in found]
    assert peaks[0] == pytest.approx((1.5887e12, 348.8), rel=1e-4)  # edmax, edmaxalt of the file, el/cm3 to m-3
    assert peaks[1] == pytest.approx((1.6783e12, 351.2), rel=1e-4)
    assert [round(np.ptp(one.lat)) for one in found] == [15, 12]
    assert np.ptp(found[1].lon) == pytest.approx(26.7, abs=0.1)
    assert [(one.ne < 0).sum() for one in found] == [50, 62]


def test_levels_have_their_own_times(data_dir):
    """Top, peak and bottom of an occultation that took 504 s."""
    one = profiles.read(profiles.files(data_dir / "iono" / "ionprf")[0])[0]
    peak = one.ne.argmax()
    assert str(one.time[peak]) == "2024-05-08T20:54:51.000"
    assert (one.time[0] - one.time[-1]).astype(int) == 504_000


def test_real_profiles_pass_once_their_bottoms_are_cut(data_dir):
    found, _ = profiles.read_all(profiles.files(data_dir / "iono" / "ionprf"))
    kept, left = quality.checked(found)
    assert not left and all((one.ne >= 5e6).all() for one in kept)
    assert [round(one.alt_km[0]) for one in kept] == [98, 94]
    assert all("cut" in one.notes[-1] for one in kept)


def iga(path, **attrs):
    """An igaPrf as its description has it: an ionPrf with the unaided retrieval and the aiding background beside."""
    alt = ALT[::-1]  # from the top down
    ne = chapman(alt) / 1e6
    columns = {"MSL_alt": alt, "GEO_lat": np.linspace(5, -5, len(alt)), "GEO_lon": np.linspace(170, 190, len(alt))}
    columns |= {"TEC_cal": 0 * alt, "ELEC_dens": ne, "ELEC_dens_orig": ne - 2e5, "ELEC_dens_bg": 0.5 * ne}
    data = xr.Dataset({name: (("MSL_alt",), values) for name, values in columns.items() if name != "MSL_alt"})
    data = data.assign_coords(MSL_alt=alt)
    for name in ("ELEC_dens", "ELEC_dens_orig", "ELEC_dens_bg"):
        data[name].attrs["units"] = "el/cm3"
    stamp = {"year": 2024, "month": 5, "day": 10, "hour": 17, "minute": 3, "second": 12.5}
    data.attrs = {**stamp, "fileStamp": "C2E1.2024.131.17.03.G05", **attrs}
    data.to_netcdf(path)
    return path


def test_of_an_igaprf_the_aided_densities_are_read(tmp_path):
    """Not the unaided ones, whose bottom is negative, and not the background."""
    (one,) = profiles.read(iga(tmp_path / "igaPrf_C2E1.2024.131.17.03.G05_0001_nc"))
    assert one.name == "C2E1.2024.131.17.03.G05" and np.array_equal(one.alt_km, ALT)
    assert one.ne == pytest.approx(chapman(), rel=1e-12) and one.ne.min() > 0
    assert (one.lat[0], one.lat[-1]) == (-5, 5) and (one.lon[0], one.lon[-1]) == (-170, 170)
    assert set(one.time) == {np.datetime64("2024-05-10T17:03:12.500")} and one.folds == 0
    assert "aided Abel retrieval" in one.notes and "longitudes 0..360 brought to -180..180" in one.notes
    kept, left = quality.checked([one])
    assert len(kept) == 1 and not left


def test_an_igaprf_whose_time_cannot_be_is_refused(tmp_path):
    with pytest.raises(DataError, match="no valid time"):
        profiles.read(iga(tmp_path / "igaPrf_bad.nc", month=13))


def test_fy3_text_has_longitude_first_and_its_time_in_the_name(tmp_path):
    (one,) = profiles.read(text(tmp_path / "20240912_0345.txt", head="lon lat alt ne\n"))
    assert one.time[0] == np.datetime64("2024-09-12T03:45") and one.lon[0] == 10 and one.lat[0] == 40
    assert one.ne == pytest.approx(chapman(), rel=1e-3)
    with pytest.raises(DataError, match="YYYYMMDD_HHMM"):
        profiles.read(text(tmp_path / "profile.txt"))


@pytest.mark.parametrize("order", [slice(None, None, -1), np.random.default_rng(0).permutation(len(ALT))])
def test_levels_in_any_order_come_out_ascending(tmp_path, order):
    lon, lat = np.linspace(10, 25, len(ALT)), np.linspace(40, 30, len(ALT))
    path = text(tmp_path / "20240912_0345.txt", chapman()[order], lon[order], lat[order], ALT[order])
    (one,) = profiles.read(path)
    assert np.array_equal(one.alt_km, ALT) and np.allclose(one.lon, lon, atol=1e-3)
    assert (one.folds > 0.2) == isinstance(order, np.ndarray)


def test_units_are_found_stated_or_refused(tmp_path):
    path = text(tmp_path / "20240912_0345.txt", chapman() / 1e6)
    (one,) = profiles.read(path)
    assert one.ne == pytest.approx(chapman(), rel=1e-3) and "el/cm3" in one.notes[-1]
    (one,) = profiles.read(path, unit="cm-3")
    assert one.ne == pytest.approx(chapman(), rel=1e-3)
    with pytest.raises(DataError, match="is it in el/cm3"):
        profiles.read(path, unit="m-3")
    with pytest.raises(DataError, match="logarithmic"):
        profiles.read(text(tmp_path / "20240912_0350.txt", np.log10(chapman())))


def test_longitudes_to_360_are_wrapped_and_fill_values_dropped(tmp_path):
    lon, ne = np.linspace(350, 359, len(ALT)), chapman()
    ne[3] = -999.0
    (one,) = profiles.read(text(tmp_path / "20240912_0345.txt", ne, lon))
    assert one.lon.max() < 0 and len(one.ne) == len(ALT) - 1
    assert any("-180..180" in note for note in one.notes) and any("fill" in note for note in one.notes)


def bad_files(folder):
    """Files that can't be used, and what is said of each."""
    (folder / "20240912_0001.txt").write_text("")
    (folder / "20240912_0002.txt").write_text("no numbers here\n")
    (folder / "20240912_0003.txt").write_text("10 20\n")
    text(folder / "20240912_0004.txt", lat=np.linspace(100, 130, len(ALT)))
    text(folder / "20240912_0005.txt", alt=ALT * 1000, ne=chapman())
    (folder / "broken.nc").write_bytes(b"CDF nonsense")
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(folder / "other.nc")
    pd.DataFrame({"lat": [1.0], "lon": [2.0]}).to_csv(folder / "short.csv", index=False)
    said = [
        "is empty",
        "no row of numbers",
        "2 columns",
        "beyond 90",
        "must be in km",
        "as NetCDF",
        "lacks MSL_alt",
        "needs columns",
    ]
    return dict(zip(sorted(path.name for path in folder.iterdir()), said, strict=True))


def test_bad_files_are_listed_and_good_ones_read(tmp_path):
    said = bad_files(tmp_path)
    text(tmp_path / "20240912_0345.txt")
    found, left = profiles.read_all(profiles.files(tmp_path))
    assert [one.name for one in found] == ["20240912_0345"]
    assert len(left) == len(said)
    for path, reason in left:
        assert said[path.rsplit("/", 1)[1]] in reason, reason


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no file that may be a profile"):
        profiles.files(tmp_path)


def table(count=3):
    rows = []
    for number in range(count):
        for alt, ne in zip(ALT, chapman(), strict=True):
            rows.append(
                {"Latitude": 10.0 + number, "LON": 200.0, "alt": alt, "hours": 2.0 * number, "Ne_log": np.log10(ne)}
            )
    return pd.DataFrame(rows)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables_hold_many_profiles(tmp_path, suffix):
    path = tmp_path / f"fy.{suffix}"
    getattr(table(), f"to_{suffix}")(path, index=False)
    found = profiles.read(path, start=datetime(2024, 9, 1))
    assert [one.lat[0] for one in found] == [10, 11, 12] and found[0].lon[0] == -160
    assert found[1].time[0] == np.datetime64("2024-09-01T02:00") and found[1].ne == pytest.approx(chapman())
    with pytest.raises(DataError, match="say from when"):
        profiles.read(path)


def test_tables_with_profile_numbers_and_dates(tmp_path):
    frame = table(2).rename(columns={"hours": "time"})
    frame["time"], frame["profile"] = "2024-09-12 03:00", [f"p{i // len(ALT)}" for i in range(len(frame))]
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert [one.name for one in profiles.read(tmp_path / "t.csv")] == ["t:p0", "t:p1"]


def made(ne=None, alt=ALT, folds=0.0):
    ne = chapman(alt) if ne is None else ne
    time = np.full(len(alt), np.datetime64("2024-09-12", "ms"))
    return profiles.Profile("p", time, 0 * alt, 0 * alt, alt, ne, folds)


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        (made(alt=ALT[:15]), "15 levels"),
        (made(alt=np.linspace(250, 380, 40)), "spans 130 km"),
        (made(folds=0.2), "turns back at 20 %"),
        (made(chapman(height=480, scale=80)), "peak at 480 km"),
        (made(chapman(peak=8e12)), "peak density 8e+12 m-3"),
        (made(chapman() * (1 + 0.5 * (-1.0) ** np.arange(len(ALT)))), "roughness"),
        (made(chapman() * np.where(ALT > 420, 1 + 0.1 * (-1.0) ** np.arange(len(ALT)), 1)), "topside noise"),
        (made(chapman() + np.where(ALT > 400, 2e9 * (ALT - 400), 0)), "does not fall"),
    ],
)
def test_each_rule_names_itself(profile, said):
    assert any(said in reason for reason in quality.faults(profile)), quality.faults(profile)


def test_a_clean_profile_breaks_no_rule():
    assert quality.faults(made()) == []


def test_cutting_goes_up_to_the_highest_bad_level_below_the_peak():
    ne = chapman()
    ne[4] = -1e9
    cut = quality.trimmed(made(ne))
    assert cut.alt_km[0] == ALT[5] and len(cut.ne) == len(ALT) - 5
