"""The commands on tables of one's own: what is written, that scores are those of later events, and clear refusals."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.cli import main
from pipeline.core.errors import DataError, PipelineError
from pipeline.smash import own, own_forecast

COLUMNS = ["time", "lon", "lat", "mag"]
ASK = dict(x="lon", y="lat", mark="mag", mark_bins=(4.0,))


def simulated(n=420, seed=0):
    """Clustered events near Tokyo, half of them soon after and close to an earlier one; days from 0."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.random(n // 2) * 300)
    place = rng.normal(size=(n // 2, 2)) * [1.5, 1.0] + [140.0, 36.0]
    child = rng.integers(0, n // 2, n - n // 2)
    t = np.concatenate([t, t[child] + rng.exponential(0.5, len(child))])
    place = np.concatenate([place, place[child] + 0.03 * rng.normal(size=(len(child), 2))])
    size = 3 + rng.exponential(0.6, n)
    order = np.argsort(t)
    return [
        [f"{a:.5f}", f"{x:.4f}", f"{y:.4f}", f"{m:.2f}"]
        for a, (x, y), m in zip(t[order], place[order], size[order], strict=True)
    ]


def write(path, rows, columns=COLUMNS):
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    path = write(folder / "events.csv", simulated())
    request = own.Request(path, folder / "model", **ASK, exact=True, budget=1.0)
    return request, own.fit(request)


def test_clustered_events_are_forecast_best_by_what_knows_clusters(model):
    request, outcome = model
    found = {name: one["log_likelihood"] for name, one in outcome.metrics.items()}
    assert set(found) == {*own.REFERENCES, "smash_exact"}
    assert found["etas"] > found["poisson_kde"] + 0.5
    assert outcome.gains["poisson_kde"]["ci95"][0] > 0
    content = json.loads((request.out / "model.json").read_text())
    assert content["method"] == outcome.chosen == max(("etas", "smash_exact"), key=content["validation"].get)
    targets = outcome.facts["targets"]
    assert targets["test"] == outcome.gains["poisson_kde"]["n"] > 30
    assert any("CPU s" in note for note in outcome.notes)


def test_a_forecast_says_when_where_and_how_many(model, tmp_path):
    request, _ = model
    ask = own_forecast.Request(request.out, tmp_path / "f", span=2.0, catalogues=400)
    outcome = own_forecast.forecast(ask)
    files = {"next_event.csv", "density.csv", "map.png", "numbers.csv", "catalogues.csv", "forecast.json"}
    assert {p.name for p in (tmp_path / "f").iterdir()} == files
    with (tmp_path / "f" / "density.csv").open() as stream:
        table = list(csv.DictReader(stream))
    total = sum(float(row["probability"]) for row in table)
    assert total == pytest.approx(1, abs=0.15)
    best = max(table, key=lambda row: float(row["density_per_km2"]))
    assert 135 < float(best["lon"]) < 145 and 32 < float(best["lat"]) < 40
    assert sum(float(best[name]) for name in best if name.startswith("p(")) == pytest.approx(1, abs=1e-3)
    with (tmp_path / "f" / "numbers.csv").open() as stream:
        numbers = [(int(row["n"]), float(row["probability"])) for row in csv.DictReader(stream)]
    assert sum(p for _, p in numbers) == pytest.approx(1, abs=1e-3)
    assert sum(n * p for n, p in numbers) == pytest.approx(outcome.numbers["mean"], abs=0.01)
    assert 0.5 < outcome.numbers["mean"] < 12  # 1.4 a day came
    waits = [wait for _, wait, _ in outcome.wait]
    assert waits == sorted(waits) and waits[0] > 0
    assert sum(outcome.marks.values()) == pytest.approx(1, abs=1e-4)
    with (tmp_path / "f" / "catalogues.csv").open() as stream:
        sizes = [float(row["mag"]) for row in csv.DictReader(stream) if row["mag"]]
    assert min(sizes) >= 3  # drawn from those of the table


def test_new_events_take_over_and_silence_is_used(model, tmp_path):
    request, _ = model
    last = float(simulated()[-1][0])
    near = [[f"{last + 0.5 + 0.01 * i:.5f}", "141.5000", "37.5000", "4.60"] for i in range(30)]
    path = write(tmp_path / "new.csv", near)
    busy = own_forecast.forecast(own_forecast.Request(request.out, tmp_path / "busy", path, catalogues=200))
    quiet = own_forecast.forecast(
        own_forecast.Request(request.out, tmp_path / "quiet", path, at=f"{last + 12:g}", catalogues=200)
    )
    assert busy.now == f"{last + 0.79:.10g}"
    assert busy.places[0]["x"] == pytest.approx(141.5, abs=0.1) and busy.places[0]["y"] == pytest.approx(37.5, abs=0.1)
    assert busy.numbers["mean"] > quiet.numbers["mean"]
    assert any("none came until now" in note for note in quiet.notes)


def test_a_slice_of_the_japanese_catalogue(data_dir, tmp_path):
    """Time stamps, longitude and latitude; the density per square kilometre comes out in the table's own degrees."""
    source = data_dir / "points" / "Japan_catalog.csv"
    path = tmp_path / "japan.csv"
    path.write_text("".join(source.read_text().splitlines(keepends=True)[:501]))
    outcome = own.fit(own.Request(path, tmp_path / "m", mark="magnitude", mark_bins=(5.0,)))
    assert outcome.chosen == "etas" and outcome.facts["units"] == {"time": "day", "place": "km"}
    assert outcome.metrics["etas"]["log_likelihood"] > outcome.metrics["poisson_kde"]["log_likelihood"]
    found = own_forecast.forecast(own_forecast.Request(tmp_path / "m", tmp_path / "f", catalogues=100))
    assert found.now == path.read_text().splitlines()[-1].split(",")[1][:19].replace(" ", "T") + "Z"
    assert all(115 < one["x"] < 155 and 20 < one["y"] < 50 for one in found.places)


def changed(column, row, value):
    rows = simulated()
    rows[row][COLUMNS.index(column)] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "columns", "ask", "message"),
    [
        (simulated(), ["time", "long", "lat", "mag"], {}, r"no x column 'lon'.*did you mean 'long'"),
        (simulated(), COLUMNS, {"mark": "size"}, r"no magnitude column 'size'"),
        (changed("lat", 7, "nan"), COLUMNS, {}, r"line 9, column 'lat'"),
        (changed("mag", 3, "big"), COLUMNS, {}, r"line 5, column 'mag'.*no finite number"),
        (changed("time", 50, "250.0"), COLUMNS, {}, r"line 53: its time .* before that of the line above.*--sort"),
        (simulated()[:150], COLUMNS, {}, r"150 events; at least 200"),
        (simulated(), COLUMNS, {"window": 200.0}, r"windows of 200; at least 3"),
        (simulated(), COLUMNS, {"mark": None}, r"--mark-bins needs --mark"),
        (simulated(), COLUMNS, {"min_magnitude": "big"}, r"--min-mark big"),
        (
            [[f"2020-01-01T00:00:{i % 60:02d}" + "Z" * (i != 4), *row[1:]] for i, row in enumerate(simulated())],
            COLUMNS,
            {},
            r"line 6: the time .* states no zone",
        ),
        (
            [[f"2020-03-29T02:{i % 60:02d}:00", *row[1:]] for i, row in enumerate(simulated())],
            COLUMNS,
            {"time_zone": "Europe/Berlin"},
            r"can't be placed in the zone 'Europe/Berlin'",
        ),
        ([["soon", *row[1:]] for row in simulated()], COLUMNS, {}, r"line 2: the time 'soon' can't be read"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_and_nothing_is_written(tmp_path, rows, columns, ask, message):
    path = write(tmp_path / "events.csv", rows, columns)
    with pytest.raises(PipelineError, match=message):
        own.fit(own.Request(path, tmp_path / "model", **(ASK | ask)))
    assert [p.name for p in tmp_path.iterdir()] == ["events.csv"]


def test_missing_files_and_outputs_that_exist_are_refused(model, tmp_path):
    request, _ = model
    with pytest.raises(PipelineError, match="exists already"):
        own.fit(request)
    with pytest.raises(DataError, match="can't be read as a table"):
        own.fit(own.Request(tmp_path / "none.csv", tmp_path / "m", **ASK))
    with pytest.raises(DataError, match="holds no model.json"):
        own_forecast.forecast(own_forecast.Request(tmp_path, tmp_path / "f"))
    for more, message in (
        ({"span": 1e4}, "at most half of the model's"),
        ({"at": "tomorrow"}, "times are numbers"),
        ({"at": "-500"}, "at least 2 are needed"),
    ):
        with pytest.raises(PipelineError, match=message):
            own_forecast.forecast(own_forecast.Request(request.out, tmp_path / "f", **more))
    assert not list(tmp_path.iterdir())


def test_the_command_line_reports_scores_and_forecasts(model, tmp_path, capsys):
    from pipeline.smash import commands

    request, outcome = model
    commands.report_fit(outcome, SimpleNamespace(path=request.path, out=request.out))
    text = capsys.readouterr().out
    assert "which no fit and no choice has seen" in text and "against poisson_kde: +" in text
    assert (outcome.gains["poisson_kde"]["windows"] < commands.FEW) == ("windows are too few to tell" in text)
    assert main(["smash", "forecast", str(request.out), "--out", str(tmp_path / "f"), "--catalogues", "50"]) == 0
    text = capsys.readouterr().out
    assert "The next event" in text and "50 simulated catalogues" in text
    assert main(["smash", "forecast", str(tmp_path / "f"), "--out", str(tmp_path / "g")]) == 1
    assert "holds no model.json" in capsys.readouterr().err


def test_a_forecast_says_that_simulated_numbers_do_not_follow_a_waiting_law():
    from pipeline.smash import own_forecast, waiting
    from pipeline.smash.etas_fit import Fitted

    assert own_forecast._not_simulated(Fitted(None, None, {})) == []
    (note,) = own_forecast._not_simulated(Fitted(None, None, {"waiting": waiting.unit()}))
    assert "numbers of events do not" in note
