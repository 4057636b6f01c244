"""The window processor and the indexed sampling."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import DataError
from pipeline.rstmrf.settings import Network
from pipeline.rstmrf.windows import SlidingWindowBatchProcessor, resample, sample, seed_grid, sphere_grid


def processor(hours=10, length=4, before=5):
    maps = torch.arange(hours, dtype=torch.float32)[:, None, None].expand(hours, 3, 4)
    drivers = torch.arange(-before, hours, dtype=torch.float32)[:, None]
    return SlidingWindowBatchProcessor(maps, drivers, before, length)


def coords(times):
    times = torch.tensor(times)
    return torch.stack([torch.zeros_like(times)] * 3 + [times], 1)


def test_each_window_stands_once_and_points_hold_its_place():
    batch = processor()(coords([7.2, 2.0, 7.9, 2.5, 4.0]))
    assert batch.maps[:, -1, 0, 0, 0].tolist() == [2.0, 4.0, 7.0]
    assert batch.index.tolist() == [2, 0, 2, 0, 1]
    assert batch.maps.shape == (3, 4, 1, 3, 4)
    assert batch.maps[2, :, 0, 0, 0].tolist() == [4.0, 5.0, 6.0, 7.0]
    assert batch.following[:, 0, 0].tolist() == [3.0, 5.0, 8.0]


def test_space_weather_before_the_period_is_history_and_no_padding():
    batch = processor()(coords([0.5, 1.0]))
    assert batch.sw_seq[0, :, 0].tolist() == [-3.0, -2.0, -1.0, 0.0]
    assert batch.sw_seq[1, :, 0].tolist() == [-2.0, -1.0, 0.0, 1.0]


def test_windows_beyond_the_record_are_an_error():
    with pytest.raises(DataError, match="from 7 hours before the period.*there are 5 hours"):
        processor(length=8)


def test_the_seeds_grids_have_the_seeds_sizes():
    assert [len(axis) for axis in seed_grid(4)] == [46, 91]
    assert [len(axis) for axis in seed_grid(6)] == [31, 61]
    assert sphere_grid(4.0)[1][[0, -1]].tolist() == [-180, 176]


def test_resampling_keeps_what_is_linear_in_latitude_and_wraps_in_longitude():
    lat, lon = np.arange(-90, 91, 5.0), np.arange(-180, 180, 5.0)
    field = lat[:, None] + 10 * np.cos(np.radians(lon))[None]
    to_lat, to_lon = seed_grid(4)
    got = resample(field, lat, lon, to_lat, to_lon)
    assert got[:, 0] == pytest.approx(to_lat - 10)  # -180 is a node
    assert got[:, -1] == pytest.approx(got[:, 0])
    assert np.abs(got - (to_lat[:, None] + 10 * np.cos(np.radians(to_lon)))).max() < 10 * (np.radians(5) ** 2) / 8


@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 2**31))
def test_indexed_sampling_equals_a_copy_a_point(windows, points, seed):
    generator = torch.Generator().manual_seed(seed)
    fields = torch.randn(windows, 2, 7, 9, generator=generator)
    index = torch.randint(windows, (points,), generator=generator)
    lat = 180 * torch.rand(points, generator=generator) - 90
    lon = 360 * torch.rand(points, generator=generator) - 180
    edges = (-90.0, 90.0, -180.0, 180.0)
    south, north, west, east = edges
    x, y = 2 * (lon - west) / (east - west) - 1, 2 * (lat - south) / (north - south) - 1
    copied = torch.nn.functional.grid_sample(
        fields[index], torch.stack([x, y], -1)[:, None, None], padding_mode="border", align_corners=True
    )[:, :, 0, 0]
    assert torch.allclose(sample(fields, index, lat, lon, edges), copied, atol=1e-4)


def test_maps_without_a_doubled_column_have_no_seam():
    """Columns -180 .. 176: half way from 176 to 180 lies the mean of the last and the first, and -180 is 180."""
    lat, lon = sphere_grid(4.0)
    fields = torch.randn(2, 3, len(lat), len(lon), generator=torch.Generator().manual_seed(0))
    edges = (lat[0], lat[-1], lon[0], lon[-1])
    index, south = torch.tensor([1, 1, 1, 0]), torch.full((4,), float(lat[5]))
    got = sample(fields, index, south, torch.tensor([178.0, 179.9999, -180.0, 176.0]), edges)
    assert torch.allclose(got[0], 0.5 * (fields[1, :, 5, -1] + fields[1, :, 5, 0]), atol=1e-4)
    assert torch.allclose(got[1], got[2], atol=1e-3) and torch.allclose(got[2], fields[1, :, 5, 0], atol=1e-4)
    assert torch.allclose(got[3], fields[0, :, 5, -1], atol=1e-4)


def test_a_long_history_is_one_of_space_weather():
    """The arms of 36 and 72 h see six hours of TEC maps, as the seed does."""
    assert [Network(history=hours).map_history for hours in (4, 6, 36, 72)] == [4, 6, 6, 6]
    found = SlidingWindowBatchProcessor(torch.zeros(10, 3, 4), torch.zeros(82, 1), 72, 72, 6)(coords([5.0]))
    assert found.sw_seq.shape == (1, 72, 1) and found.maps.shape == (1, 6, 1, 3, 4)
