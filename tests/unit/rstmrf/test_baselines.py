"""Baselines: windows against the full solution, limits that can be worked out, real scenarios."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from pipeline.core.errors import DataError
from pipeline.rstmrf import interpolation, iri_day, real
from pipeline.rstmrf.baselines import Baselines, possible
from pipeline.rstmrf.interpolation import Lengths, OptimalInterpolation
from pipeline.rstmrf.observing import Errors, covariance


@pytest.fixture(scope="module")
def made(toy_world):
    return Baselines(toy_world)


def test_windows_give_the_full_solution(toy_world, made):
    whole = OptimalInterpolation(toy_world, made.residuals, Lengths(time_h=2.0, core_h=100.0))
    parts = OptimalInterpolation(toy_world, made.residuals, Lengths(time_h=2.0, core_h=6.0, reach=3.0))
    assert len(whole.edges) == 2 and len(parts.edges) == 5
    found, wanted = parts.predict(toy_world.dense), whole.predict(toy_world.dense)
    assert np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()


def test_weights_are_those_of_the_textbook(toy_world, made):
    """C_xo (C_oo + R)^-1 r in double precision with matrices written out."""
    lengths, errors = Lengths(core_h=100.0), Errors()
    oi = OptimalInterpolation(toy_world, made.residuals, lengths, errors)
    at, size = oi.embed(oi.points)
    to, to_size = oi.embed(toy_world.dense)

    def correlation(a, b):
        return np.exp(-0.5 * ((a[:, None] - b[None]) ** 2).sum(-1))

    full = correlation(at, at) * np.outer(size, size)
    full += covariance(oi.points.alt_km, oi.profile, oi.vertical, toy_world.obs_vertical_km, errors)
    wanted = (correlation(to, at) * np.outer(to_size, size)) @ np.linalg.solve(full, made.residuals)
    assert np.allclose(oi.predict(toy_world.dense), wanted, atol=2e-4)


def test_far_from_all_observations_the_background_stays(toy_world, made):
    late = replace(toy_world.dense, time_h=toy_world.dense.time_h + 1000)
    assert np.allclose(made._interpolation.predict(late), 0, atol=1e-6)


def test_correlation_is_symmetric_and_one_at_home():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(20, 5)) * 3
    found = interpolation.correlation(a, a)
    assert np.allclose(np.diag(found), 1, atol=1e-5) and np.allclose(found, found.T, atol=1e-6)
    assert np.linalg.eigvalsh(found.astype(float)).min() > -1e-5


def test_the_offset_is_the_mean_over_profiles(toy_world, made):
    iri, shifted = (made.named(name)(toy_world.dense)[0] for name in ("iri", "iri_offset"))
    number = toy_world.obs_profile[toy_world.used]
    wanted = np.mean([made.residuals[number == one, 0].mean() for one in np.unique(number)])
    assert np.allclose(shifted - iri, wanted)


def test_the_climatology_of_residuals_shrinks_where_data_are_few(toy_world, made):
    shift = made.named("climatology")(toy_world.dense)[0] - made.named("iri")(toy_world.dense)[0]
    assert 0 < np.abs(shift).max() <= np.abs(made.residuals[:, 0]).max()
    assert (shift == 0).any()  # cells without any observation


def test_what_a_world_lacks_is_left_out(toy_world):
    bare = replace(toy_world, tec=np.full_like(toy_world.tec, np.nan))
    assert possible("kf", bare) and not possible("iri_tec", bare) and possible("oi_iri", bare)
    nothing = replace(bare, obs_withheld=np.ones(len(bare.obs), bool))
    assert possible("iri", nothing) and not possible("oi_iri", nothing) and not possible("kf", nothing)


@pytest.fixture(scope="module")
def flat_maps(tmp_path_factory):
    """IRI stores of the real days with one profile everywhere: what is tested needs no climate."""
    folder = tmp_path_factory.mktemp("iri")
    column = np.array([np.log(3e11), 300.0, np.log(80.0), np.log(2.5), np.log(45.0), 0.0, np.log(1e10), 0.0])

    def store(day):
        def parameters(day, hours, lat, lon, f107):
            return np.broadcast_to(column[None, :, None, None], (2, 8, 24, len(lat))).copy()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(iri_day, "parameters", parameters)
            iri_day.write(folder / f"{day}.zarr", day, (70.0, 70.0), step=30.0)
        return folder / f"{day}.zarr"

    return store


def test_every_other_map_of_two_real_days_is_withheld(data_dir, flat_maps):
    folder = data_dir / "iono" / "ionex"
    files = [folder / "codg0080.20i.Z", folder / "codg0090.20i.Z"]
    days = [date(2020, 1, 8), date(2020, 1, 9)]
    ((world, truth),) = real.ionex(files, [flat_maps(day) for day in days])
    assert world.tec_time_h.tolist() == list(range(0, 48, 2))
    assert {*world.column_time_h.tolist()} == set(range(1, 46, 2)) == {*truth.tec_maps_time_h.tolist()}
    assert len(truth.tec) == 3000 and np.isfinite(truth.tec).all()
    found = Baselines(world).estimate("tec_interpolation").tec
    error, spread = np.sqrt(np.mean((found - truth.tec) ** 2)), truth.tec.std()
    assert error < 0.2 * spread  # 0.6 TECU of 6
    assert np.abs(world.tec[3] - truth.tec_maps[2]).mean() > 0  # a neighbour, not the map itself


def test_each_real_profile_is_withheld_once(data_dir, flat_maps):
    files = sorted((data_dir / "iono" / "ionprf").iterdir())
    worlds = real.profiles(files, [flat_maps(date(2024, 5, 8))])
    assert [world.name for world, _ in worlds] == ["cosmic_a", "cosmic_b"]
    for world, truth in worlds:
        assert not world.has_tec and world.obs_withheld.sum() == len(truth.withheld)
        assert 20 <= world.obs.time_h.min() < world.obs.time_h.max() < 21
        assert world.obs.alt_km.min() >= 118 and 11.5 < world.obs_log10_ne.max() < 12.3
    assert not np.array_equal(worlds[0][0].obs_withheld, worlds[1][0].obs_withheld)
    with pytest.raises(DataError, match="two are needed"):
        real.profiles(files[:1], [flat_maps(date(2024, 5, 8))])
