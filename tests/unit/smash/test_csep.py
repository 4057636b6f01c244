"""Catalogue tests: uniform quantiles when the forecast is right, extreme ones when it is wrong, and the export."""

import csv
from datetime import datetime, timedelta

import numpy as np
import pytest

from pipeline.smash import calibration, csep
from pipeline.smash.csep import Forecast


def forecast(rng, count=400, mean=6.0, spread=1.0, marks=(0.8, 0.2)):
    number = np.repeat(np.arange(count), rng.poisson(mean, count))
    n = len(number)
    return Forecast(
        number, rng.random(n), rng.choice(len(marks), n, p=marks), rng.normal(size=(n, 2)) * spread, count, 0, 0.0, 1.0
    )


BOX = np.array([[-4.0, -4.0], [4.0, 4.0]])


def test_quantiles_of_a_right_forecast_are_uniform():
    rng = np.random.default_rng(0)
    found = {"number": [], "spatial": [], "magnitude": []}
    for _ in range(120):
        made, n = forecast(rng), rng.poisson(6.0)
        above, below = csep.number_test(made.sizes, n)
        found["number"].append(1 - above + rng.random() * (above + below - 1))
        found["spatial"].append(csep.spatial_test(made, rng.normal(size=(n, 2)), BOX))
        found["magnitude"].append(csep.magnitude_test(made, rng.choice(2, n, p=(0.8, 0.2)), 2, rng))
    for name, values in found.items():
        limit = 1.36 / np.sqrt(120) * 1.3
        assert calibration.kolmogorov(np.array(values)) < limit, name


def test_wrong_forecasts_are_rejected():
    rng = np.random.default_rng(1)
    made = forecast(rng)
    assert csep.number_test(made.sizes, 25)[0] < 0.01 and csep.number_test(made.sizes, 0)[1] < 0.02
    assert csep.spatial_test(made, np.full((6, 2), 3.5), BOX) < 0.01
    assert csep.magnitude_test(made, np.ones(6, int), 2, rng) < 0.01
    assert np.isnan(csep.spatial_test(made, np.zeros((0, 2)), BOX))


def test_number_tests_count_ties_on_both_sides():
    assert csep.number_test(np.array([1, 2, 2, 3]), 2) == (0.75, 0.75)


def test_the_export_has_the_columns_and_empty_catalogues(tmp_path, make):
    cat = make(projection={"kind": "sinusoidal", "lon0": 140.0, "lat0": 36.0}, epoch="1990-01-01T00:00:00Z")
    rng = np.random.default_rng(0)
    made = forecast(rng, count=50, mean=1.0)
    csep.write_csv(made, cat, tmp_path / "forecast.csv")
    rows = list(csv.DictReader((tmp_path / "forecast.csv").open()))
    assert list(rows[0]) == ["lon", "lat", "mag", "time_string", "depth", "catalog_id", "event_id"]
    assert {int(row["catalog_id"]) for row in rows} == set(range(50))
    empty = [row for row in rows if row["lon"] == ""]
    assert len(empty) == (made.sizes == 0).sum() > 0
    full = [row for row in rows if row["lon"]]
    assert len(full) == len(made.t)
    lon = np.array([float(row["lon"]) for row in full])
    assert lon == pytest.approx(
        140 + made.xy[:, 0] / (111.195 * np.cos(np.radians(36 + made.xy[:, 1] / 111.195))), abs=1e-4
    )
    assert full[0]["time_string"].startswith("1990-01-01T") and full[0]["event_id"] == "0"


def test_evaluate_takes_windows_that_share_no_event(make, tmp_path):
    from pipeline.smash.etas import Etas
    from pipeline.smash.kde import Background

    cat = make(sequences=(10, 2, 12), rate=2.0)
    cat.meta["stride"] = 3.0  # as if windows of 10 overlapped: every fourth is used
    back = Background.fit(cat, count=2)
    etas = Etas(3, back.components, window=10.0, rate=1.0)
    etas.log_mu.data.fill_(np.log(2.0))
    etas.log_mu_falling.data.fill_(-20.0)
    etas.log_a.data.fill_(-20.0)  # Poisson at the true rate
    found = csep.evaluate(etas, back, cat, {"day": 1.0, "beyond": 8.0}, count=300, folder=tmp_path)
    assert list(found) == ["day"] and found["day"]["windows"] == 3  # the longer span leaves the window
    assert found["day"]["forecast_mean"] == pytest.approx(2.0, rel=0.15)
    day, last = found["day"], int(cat.sequences("test")[8])
    assert len(day["quantiles_number"]) == 3 and all(0 <= q <= 1 for q in day["quantiles_spatial"])
    assert [path.name for path in tmp_path.iterdir()] == ["day.csv"]  # the last window's, from its middle on
    rows = list(csv.DictReader((tmp_path / "day.csv").open()))
    assert {int(row["catalog_id"]) for row in rows} == set(range(300))
    full = [row for row in rows if row["lon"]]
    assert len(full) / 300 == pytest.approx(2.0, rel=0.15)
    first = datetime(1970, 1, 1) + timedelta(days=float(cat.start[last]) + 5.0)
    stamps = [datetime.fromisoformat(row["time_string"]) for row in full]
    assert min(stamps) >= first and max(stamps) <= first + timedelta(days=1)
