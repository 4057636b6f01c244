"""Drivers from the package's record: known storms, real history, no prediction passed off as observation."""

from datetime import date, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from pipeline.core.errors import DataError
from pipeline.core.stages import Job
from pipeline.rstmrf import iri_day, real, weather
from pipeline.rstmrf.settings import STAGES, IriDay, Prepare


def test_the_storm_of_september_2024_is_there():
    drivers = weather.hourly(datetime(2024, 9, 11), 72, 24)
    assert drivers.time[0] == -24 and len(drivers.time) == 96
    second = drivers.kp[48:72:3]  # the three-hour values of the 12th
    assert np.allclose(second, [2.0, 3.7, 5.7, 6.7, 6.7, 6.0, 7.0, 4.7])
    assert drivers.ap[48 + 18] == 132 and drivers.observed.all()


def test_values_hold_for_their_three_hours_and_their_day():
    drivers = weather.hourly(datetime(2024, 9, 12, 5), 4)
    assert np.allclose(drivers.kp, [3.7, 5.7, 5.7, 5.7])
    assert np.allclose(drivers.f107, 203.7)


def test_the_mean_is_trailing():
    day = date(2024, 9, 12)
    values = [weather.flux(day - timedelta(days=back))[0] for back in range(81)]
    assert weather.flux(day)[1] == pytest.approx(np.mean(values))
    assert weather.flux(day)[1] == pytest.approx(228.0, abs=0.2)  # the record's own trailing mean


def test_windows_are_real_history_or_an_error():
    drivers = weather.hourly(datetime(2024, 5, 10), 24, 72)
    window = drivers.window(0, 72)
    assert len(window["kp"]) == 72 and window["kp"][-1] == drivers.kp[72]
    with pytest.raises(DataError, match="longer `history`"):
        drivers.window(0, 74)


def test_predictions_are_refused_or_flagged():
    last = weather.last_observed()
    assert last >= date(2025, 7, 20)
    weather.flux(last)
    ahead = datetime.combine(last, datetime.min.time())
    with pytest.raises(DataError, match="was not observed"):
        weather.hourly(ahead, 48)
    flagged = weather.hourly(ahead, 48, beyond="flag")
    assert flagged.observed[:24].all() and not flagged.observed[24:].any()


def test_what_the_record_lacks_is_an_error():
    with pytest.raises(DataError, match="begins on 1957-10-01"):
        weather.flux(date(1957, 11, 1))
    with pytest.raises(DataError, match="full hour"):
        weather.hourly(datetime(2024, 9, 11, 0, 30), 5)


def test_the_setting_reaches_the_stages(tmp_path):
    """`weather.beyond` of the configuration decides in the stages `iri` and `prepare`."""
    assert "weather" in STAGES["iri"].groups and "weather" in STAGES["prepare"].groups
    assert IriDay().weather.beyond == Prepare().weather.beyond == "error"
    day = weather.last_observed() + timedelta(days=1)
    job = Job("rstmrf", "iri", {}, {"maps": tmp_path / "a.zarr"}, {}, facts={"day": str(day)})
    log = SimpleNamespace(info=lambda line: None)
    with pytest.raises(DataError, match="was not observed"):
        iri_day.make(job, IriDay(iri={"step": 15.0}), log)
    iri_day.make(job, IriDay(iri={"step": 15.0}, weather={"beyond": "flag"}), log)
    with xr.open_zarr(tmp_path / "a.zarr", consolidated=False) as made:
        assert made.attrs["space_weather"] == f"predicted after {weather.last_observed()}"
    with pytest.raises(DataError, match="was not observed"):
        real.blank("x", [day], [tmp_path / "a.zarr"])
    assert not real.blank("x", [day], [tmp_path / "a.zarr"], "flag")["drivers"].observed[-24:].any()
