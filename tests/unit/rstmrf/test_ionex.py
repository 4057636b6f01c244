"""IONEX: every real file, facts written in their headers, and damaged ones."""

import gzip

import numpy as np
import pytest

from pipeline.core.errors import DataError
from pipeline.rstmrf import ionex

FILES = {  # maps, first and last epoch, missing cells
    "IGS0OPSFIN_20243490000_01D_02H_GIM.INX.gz": (13, "2024-12-14T00", "2024-12-15T00", 0),
    "codg0080.20i.Z": (25, "2020-01-08T00", "2020-01-09T00", 0),
    "codg0090.20i.Z": (25, "2020-01-09T00", "2020-01-10T00", 0),
    "esag0080.20i.Z": (13, "2020-01-08T00", "2020-01-09T00", 0),
    "esag0090.20i.Z": (13, "2020-01-09T00", "2020-01-10T00", 0),
    "gnss-lab_ionex_file.00i": (12, "2000-01-01T01", "2000-01-01T23", 1536),
}


@pytest.fixture(scope="module")
def folder(data_dir):
    return data_dir / "iono" / "ionex"


@pytest.fixture(scope="module")
def files(folder):
    return {name: ionex.read(folder / name) for name in FILES}


@pytest.mark.parametrize("name", FILES)
def test_every_file_at_hand_is_read(files, name):
    count, first, last, missing = FILES[name]
    maps = files[name]
    assert maps.tec.shape == maps.rms.shape == (count, 71, 72)
    assert [str(time)[:13] for time in maps.time[[0, -1]]] == [first, last]
    assert maps.lat[[0, -1]].tolist() == [-87.5, 87.5] and maps.lon[[0, -1]].tolist() == [-180, 175]
    assert np.isnan(maps.tec).sum() == missing
    assert 0 <= np.nanmin(maps.tec) and np.nanmax(maps.tec) < 125  # 9999 tenths would be 999.9
    assert 0 < np.nanmean(maps.rms) < 3


def test_values_lie_where_the_file_has_them(folder, files):
    """The first row of numbers of a map is its northernmost latitude, from -180 on."""
    lines = ionex.text(folder / "codg0080.20i.Z").splitlines()
    start = next(i for i, line in enumerate(lines) if "START OF TEC MAP" in line)
    row = [0.1 * int(part) for part in lines[start + 3].split()]
    maps = files["codg0080.20i.Z"]
    assert maps.tec[0, -1, :16] == pytest.approx(row)
    last = max(i for i, line in enumerate(lines) if line[60:].startswith("LAT/LON1") and "-87.5" in line[:10])
    assert maps.rms[-1, 0, :16] == pytest.approx([0.1 * int(part) for part in lines[last + 1].split()])


def test_neighbouring_days_agree_at_midnight_and_join(files):
    days = [files[f"codg00{day}0.20i.Z"] for day in (8, 9)]
    assert np.abs(days[0].tec[-1] - days[1].tec[0]).mean() < 1
    both = ionex.joined(days[::-1])
    assert len(both.time) == 49 and (np.diff(both.time).astype(int) == 3600).all()
    assert np.array_equal(both.tec[24], days[1].tec[0])


def written(values, lon=(-180, 180, 60), lat=(60, -60, -60), exponent=-1, second=0):
    """A small file of one map with rows of numbers."""

    def line(text, label):
        return f"{text:<60}{label}"

    rows = [
        line("     1.0            IONOSPHERE MAPS     GPS", "IONEX VERSION / TYPE"),
        line("  450.0 450.0   0.0", "HGT1 / HGT2 / DHGT"),
        line(" ".join(map(str, lat)), "LAT1 / LAT2 / DLAT"),
        line(" ".join(map(str, lon)), "LON1 / LON2 / DLON"),
        line(f"{exponent:6d}", "EXPONENT"),
        line("", "END OF HEADER"),
        line("     1", "START OF TEC MAP"),
        line(f"  2000     1     1    22    59    {second:2d}", "EPOCH OF CURRENT MAP"),
    ]
    for index, numbers in enumerate(values):
        here = lat[0] + index * lat[2]
        rows.append(line(f"  {here:6.1f}{lon[0]:6.1f}{lon[1]:6.1f}{lon[2]:6.1f} 450.0", "LAT/LON1/LON2/DLON/H"))
        rows.append("".join(f"{number:5d}" for number in numbers))
    return "\n".join([*rows, line("     1", "END OF TEC MAP"), line("", "END OF FILE")]) + "\n"


VALUES = [[10, 20, 30, 40, 50, 60, 10], [11, 21, 31, 9999, 51, 61, 13], [12, 22, 32, 42, 52, 62, 9999]]


def test_order_meridian_missing_cells_and_sixty_seconds(tmp_path):
    path = tmp_path / "small.00i"
    path.write_text(written(VALUES, second=60))
    maps = ionex.read(path)
    assert maps.lat.tolist() == [-60, 0, 60] and maps.lon.tolist() == [-180, -120, -60, 0, 60, 120]
    assert maps.tec[0, 2] == pytest.approx([1, 2, 3, 4, 5, 6])
    assert np.isnan(maps.tec[0, 1, 3]) and maps.tec[0, 1, 0] == pytest.approx(1.2)  # mean of the two ends
    assert maps.tec[0, 0, 0] == pytest.approx(1.2)  # one end missing: the other
    assert str(maps.time[0]) == "2000-01-01T23:00:00" and np.isnan(maps.rms).all()


def test_longitudes_from_0_to_360_are_turned(tmp_path):
    path = tmp_path / "east.00i"
    path.write_text(written(VALUES, lon=(0, 360, 60)))
    maps = ionex.read(path)
    assert maps.lon.tolist() == [-180, -120, -60, 0, 60, 120]
    assert maps.tec[0, 2] == pytest.approx([4, 5, 6, 1, 2, 3])


def test_another_exponent_scales(tmp_path):
    path = tmp_path / "tens.00i"
    path.write_text(written(VALUES, exponent=0))
    assert ionex.read(path).tec[0, 2, 0] == 10


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello\n", "no IONEX file"),
        (written(VALUES).encode()[:900], "cut short"),
        (written(VALUES).replace("   30   40", "").encode(), "not 7"),
        (written(VALUES, lon=(-60, 60, 20)).encode(), "once round"),
        (gzip.compress(written(VALUES).encode(), mtime=0)[:80], "decompressed"),
        (b"\x1f\x9dnonsense", "decompressed"),
    ],
)
def test_damaged_files_say_so(tmp_path, content, message):
    path = tmp_path / "bad.20i"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        ionex.read(path)
