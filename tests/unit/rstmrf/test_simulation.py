"""The simulator: geometry of the occultations, statistics of its fields and errors, digests and stores."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from pipeline.core import stages
from pipeline.core.errors import ConfigError, DataError
from pipeline.rstmrf import iri, nature, orbit, periods, random_fields, simulation, world
from pipeline.rstmrf.coordinates import local_time
from pipeline.rstmrf.weather import hourly


@pytest.fixture(scope="module")
def tracks():
    return orbit.occultations(orbit.Orbit(), 24.0, simulation.LEVELS_KM, np.random.default_rng(0), 15.0)


def test_a_circle_keeps_its_radius_and_inclination():
    phase = np.linspace(0, 2 * np.pi, 200)
    at = orbit.circle(7207.0, np.deg2rad(98.75), 0.5, phase)
    assert np.allclose(np.linalg.norm(at, axis=-1), 7207)
    assert np.rad2deg(np.arcsin(at[:, 2].max() / 7207)) == pytest.approx(180 - 98.75, abs=0.1)
    assert 2 * np.pi / orbit.rate(7207.0) / 60 == pytest.approx(101.5, abs=0.2)  # minutes a revolution


def test_the_tangent_point_is_the_nearest_of_the_ray():
    rng = np.random.default_rng(1)
    a, b = 7200 * np.array([[1.0, 0, 0]]), 26000 * rng.normal(size=(1, 3))
    point, _ = orbit.tangent(a, b)
    shares = np.linspace(-2, 2, 4001)[:, None]
    assert np.linalg.norm(point) == pytest.approx(np.linalg.norm(a + shares * (b - a), axis=1).min(), rel=1e-5)


def test_about_650_occultations_a_day_in_two_local_times(tracks):
    assert 600 < len(tracks.time_h) < 1300
    lt = local_time(tracks.time_h, tracks.lon)[np.abs(tracks.lat) < 60]
    assert world.sampled_local_time(lt).mean() > 0.8


def test_tangent_points_drift_while_a_profile_is_taken(tracks):
    """In the plane of flight the tangent point all but stands still; seen sideways it drifts by many degrees."""
    north = np.ptp(tracks.lat, axis=1)
    east = np.ptp(np.rad2deg(np.unwrap(np.deg2rad(tracks.lon), axis=1)), axis=1) * np.cos(np.deg2rad(tracks.lat[:, 6]))
    drift = np.hypot(north, east)
    assert 1 < np.median(drift) < 12 and np.quantile(drift, 0.95) > 8
    assert np.all(np.abs(tracks.alt_km - simulation.LEVELS_KM) <= 15)
    minutes = 60 * np.ptp(tracks.time_h, axis=1)
    assert 1 < np.median(minutes) < 12


def test_random_fields_have_unit_variance_and_persist():
    lat, lon, hours = np.arange(-85, 86, 10.0), np.arange(-180, 180, 15.0), np.arange(300.0)
    rng = np.random.default_rng(2)
    field = random_fields.maps(rng, lat, lon, hours, degree=6, slope=1.0, memory_h=5.0, count=2)
    weight = np.cos(np.deg2rad(lat))[:, None] * np.ones(len(lon))
    variance = (field**2 * weight).sum(axis=(2, 3)).mean(axis=1) / weight.sum()
    assert np.allclose(variance, 1, atol=0.15)
    mean = (field * weight).sum(axis=(2, 3)) / weight.sum()
    assert np.corrcoef(mean[0, :-1], mean[0, 1:])[0, 1] == pytest.approx(np.exp(-1 / 5), abs=0.1)


def test_the_sun_fixed_part_follows_the_sun():
    lat, lon = np.array([0.0]), np.arange(-180, 180, 15.0)
    field = random_fields.maps(np.random.default_rng(3), lat, lon, np.arange(3.0), memory_h=1e9, sun_fixed=1.0)[0, :, 0]
    assert np.allclose(field[1], np.roll(field[0], -1), atol=1e-3)  # an hour later it lies 15 degrees further west
    fixed = random_fields.maps(np.random.default_rng(3), lat, lon, np.arange(3.0), memory_h=1e9, sun_fixed=0.0)[0, :, 0]
    assert np.allclose(fixed[1], fixed[0], atol=1e-3)


def test_quiet_days_have_no_storm_and_great_ones_do():
    hours = np.arange(72.0)
    calm, great = (
        nature.strength(hourly(datetime(*day), 72, 72), hours, 2.0) for day in ((2024, 7, 12), (2024, 5, 10))
    )
    assert calm.max() == 0 and great.max() > 0.9


def test_the_truth_is_not_of_iri_shape(toy_world):
    """No set of IRI's parameters reaches the nature run's topside: its logarithm bends otherwise."""
    params = toy_world.background_at(10.0, 0.0, -60.0)
    shapes = np.zeros(2 + len(nature.SHAPES))
    shapes[:2] = 1.0, 0.1
    alt = np.arange(params[1] + 1, 700, 5.0)
    own = nature.profile(np.broadcast_to(params, (len(alt), 8)), np.broadcast_to(shapes, (len(alt), len(shapes))), alt)
    z = np.log1p(0.1 * (alt - params[1]) / np.exp(params[4])) / 0.1
    assert np.allclose(own, (params[0] + 0.5 * (1 - z - np.exp(-z))) / np.log(10), atol=1e-3)
    assert np.abs(own - iri.log10_density(np.broadcast_to(params, (len(alt), 8)), alt)).max() > 0.05


def test_errors_of_profiles_are_as_stated():
    """Of a truth of zero the observations are the errors: white and vertically correlated ones of the stated size,
    and the offset of the whole profile, which all that two far levels share is."""

    class Nothing:
        def log10_ne(self, points):
            return np.zeros(len(points))

    found = simulation._profiles(Nothing(), simulation.Size(), np.random.default_rng(4))
    obs, error, exact, number, withheld, sigma = found
    assert not exact.any() and sigma == pytest.approx(simulation.level_errors(obs.alt_km))
    count = number.max() + 1
    assert withheld.sum() == 12 * round(0.12 * count)
    error, sigma, alt = (part.reshape(count, 12) for part in (error, sigma, obs.alt_km))
    offset = simulation.SIGMA_PROFILE**2
    assert (error / np.sqrt(offset + 2 * sigma**2)).std(axis=0) == pytest.approx(np.ones(12), rel=0.06)
    for one, other in ((0, 1), (5, 6), (3, 5)):
        near = np.exp(-0.5 * ((alt[:, one] - alt[:, other]) / simulation.VERTICAL_KM) ** 2)
        stated = np.mean(offset + near * sigma[:, one] * sigma[:, other])
        assert np.mean(error[:, one] * error[:, other]) == pytest.approx(stated, rel=0.15)
    assert np.mean(error[:, 0] * error[:, 11]) == pytest.approx(offset, abs=6e-4)


def test_an_eighth_of_the_profiles_is_withheld_whole(toy_world):
    numbers = np.unique(toy_world.obs_profile)
    held = [toy_world.obs_withheld[toy_world.obs_profile == number] for number in numbers]
    assert all(one.all() or not one.any() for one in held)
    assert sum(one.all() for one in held) == round(0.12 * len(numbers))
    assert not np.isin(toy_world.obs_profile[toy_world.used], toy_world.obs_profile[toy_world.obs_withheld]).any()


def test_a_world_is_its_name(toy_world, toy_truth):
    maps = toy_world.param
    lat, lon = toy_world.param_lat, toy_world.param_lon
    size = simulation.Size(hours=23, profiles=20, dense=100, columns=10)
    one, truth = simulation.simulate("a3", maps, maps, lat, lon, size)
    same, again = simulation.simulate("a3", maps, maps, lat, lon, size)
    other, _ = simulation.simulate("a4", maps, maps, lat, lon, size)
    assert one.attrs == same.attrs and np.array_equal(truth.dense, again.dense)
    assert one.attrs["data_digest"] != other.attrs["data_digest"]
    assert one.attrs["code_digest"] == other.attrs["code_digest"] == simulation.code_digest()


def test_dense_points_are_uniform_in_area_and_altitude():
    points = simulation.uniform(20000, 71.0, np.random.default_rng(5))
    assert np.mean(np.abs(points.lat) < 30) == pytest.approx(0.5, abs=0.02)
    assert points.alt_km.mean() == pytest.approx(310, abs=3) and points.time_h.max() < 71


def test_worlds_and_truths_survive_the_disk(tmp_path, toy_world, toy_truth):
    world.save(tmp_path / "w.zarr", toy_world)
    world.save_truth(tmp_path / "t.zarr", toy_world.name, toy_truth)
    assert world.names(tmp_path / "w.zarr") == ["a3"]
    again, truth = world.load(tmp_path / "w.zarr", "a3"), world.load_truth(tmp_path / "t.zarr", "a3")
    assert np.allclose(again.tec, toy_world.tec, atol=1e-5)  # kept in tenths, as it was made
    assert np.array_equal(again.obs_log10_ne, toy_world.obs_log10_ne) and again.attrs == toy_world.attrs
    assert np.allclose(again.param, toy_world.param, atol=1e-4) and np.array_equal(truth.dense, toy_truth.dense)
    with pytest.raises(DataError, match="no world 'b1'"):
        world.load(tmp_path / "w.zarr", "b1")


def test_names_that_are_no_world():
    for name in ("z1", "a", "storm"):
        with pytest.raises(ConfigError, match="is no world"):
            periods.parse(name)
    assert [str(day) for day in periods.days("b7", 71)] == ["2024-05-10", "2024-05-11", "2024-05-12"]


def test_scaling_by_tec_brings_the_background_to_the_observed_content(toy_world):
    """Where the ratio is within its limits the scaled background integrates to what was seen."""
    inside = slice(3, -3)
    params = np.moveaxis(toy_world.tec_scaled[:, 12, inside], 0, -1)
    ratio = iri.vtec(params) / toy_world.observed_tec[12, inside]
    assert np.median(np.abs(ratio - 1)) < 0.01


def test_worlds_without_tec_scale_nothing(toy_world):
    empty = replace(toy_world, tec=np.full_like(toy_world.tec, np.nan))
    assert not empty.has_tec and np.array_equal(empty.tec_scaled, empty.param)


def test_the_code_digest_covers_every_module_that_a_world_comes_from():
    needed = {Path(path) for path in stages.code("pipeline.rstmrf.simulation:simulate")}
    own = {path.stem for path in needed if path.parent.name == "rstmrf"}
    assert own | {"iri_day"} == set(simulation.CODE)  # iri_day makes the maps that it is given


def test_the_data_digest_covers_what_is_observed_and_what_is_scored(toy_world, toy_truth):
    known = simulation.data_digest(toy_world, toy_truth)
    assert known == toy_world.attrs["data_digest"]
    held = toy_world.obs_withheld.copy()
    held[:12] = ~held[:12]
    truths = [replace(toy_truth, **{name: getattr(toy_truth, name) + 1}) for name in ("dense", "nmf2", "hmf2", "tec")]
    others = [replace(toy_world, obs_withheld=held), replace(toy_world, column_lat=-toy_world.column_lat)]
    others.append(replace(toy_world, drivers=replace(toy_world.drivers, kp=toy_world.drivers.kp + 1)))
    found = [simulation.data_digest(toy_world, one) for one in truths]
    found += [simulation.data_digest(one, toy_truth) for one in others]
    assert len({known, *found}) == 8
