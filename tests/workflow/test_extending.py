"""docs/extending.md, done to the letter in a copy of the project: a fifth system from table to report."""

import csv
import html.parser
import json
import re

import numpy as np
import pytest
import yaml

from pipeline.registry import SYSTEMS

TABLE, SWEEP = "results/light/seasonal_ablation.json", "results/light/seasonal_sweep_days.json"
HERE, SWEPT = (f"results/light/seasonal/nyc_weather/{scenario}" for scenario in ("hourly", "sweep_days"))


def series(folder):
    return np.load(folder / f"{HERE}/series.npy")


def test_the_table_is_what_numpy_makes_of_the_series(seasonal):
    table = json.loads((seasonal / TABLE).read_text())
    block, values = table["scenarios"]["hourly"], series(seasonal)
    assert len(values) == 8730 and list(block["arms"]) == ["last_day", "last_week", "mean_day"]
    at = np.arange(8730 - 1001, 8730 - 24)[:, None]
    hours = at + np.arange(1, 25)
    expected = {
        "last_day": values[hours - 24],
        "last_week": values[hours - 168],
        "mean_day": np.mean([values[hours - 24 * day] for day in range(1, 8)], axis=0),
        "persistence": values[at],
    }
    for name, forecast in expected.items():
        metrics = {**block["arms"], **block["baselines"]}[name]["metrics"]
        assert metrics["mse"]["mean"] == pytest.approx(((forecast - values[hours]) ** 2).mean())
        assert metrics["mae"]["mean"] == pytest.approx(abs(forecast - values[hours]).mean())


def test_the_sweep_has_a_table_a_csv_and_a_picture(seasonal):
    table = json.loads((seasonal / SWEEP).read_text())
    sweep, values = table["sweep"], series(seasonal)
    assert (sweep["arm"], sweep["scenario"], sweep["over"]) == ("last_day", "hourly", ["season.cycles"])
    assert [point["values"]["season.cycles"] for point in sweep["points"]] == [1, 2, 4, 8, 16]
    assert sweep["points"][2]["arm"] == "last_day__season_cycles_4"
    hours = np.arange(8730 - 1001, 8730 - 24)[:, None] + np.arange(1, 25)
    rows = list(csv.DictReader((seasonal / SWEEP).with_suffix(".csv").open()))
    for point, row in zip(sweep["points"], rows, strict=True):
        mean = np.mean([values[hours - 24 * day] for day in range(1, 1 + point["values"]["season.cycles"])], axis=0)
        mse = ((mean - values[hours]) ** 2).mean()
        assert point["mse"]["mean"] == pytest.approx(mse) and point["status"] == row["status"] == "done"
        assert float(row["mse_mean"]) == pytest.approx(mse)
        assert int(row["season.cycles"]) == point["values"]["season.cycles"]
    assert (seasonal / SWEEP).with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    ablation = json.loads((seasonal / TABLE).read_text())["scenarios"]["hourly"]["arms"]["last_day"]["metrics"]
    assert sweep["points"][0]["mse"] == ablation["mse"]  # one cycle is the arm itself


def test_the_scheduler_looks_at_the_ready_jobs_when_one_ends_and_not_ever_more_often(new_project, seasonal):
    project = new_project(seasonal)
    lost = [*project.folder.glob(f"{HERE}/*/forecasts.npy"), *project.folder.glob(f"{SWEPT}/*/forecasts.npy")]
    for path in (*lost, project / SWEEP, project / TABLE, *(project / f"{at}/scenario.json" for at in (HERE, SWEPT))):
        path.unlink()
    code, text = project.call(TABLE, SWEEP, "--verbose")
    assert code == 0, text
    assert len(lost) >= 8 and text.count("Ready jobs: ") <= text.count("Finished jobid: ") + 1


def test_errors_and_memory_leave_the_others_table_and_a_lost_scenario_is_named(new_project, seasonal, jobs_of):
    """An exception and memory in evaluate; in the sweep, all that the baselines cost is the scenario."""
    project = new_project(seasonal)
    for path in (f"{HERE}/last_day/forecasts.npy", f"{HERE}/last_week/forecasts.npy", f"{SWEPT}/baselines.npy"):
        (project / path).unlink()
    for path in (TABLE, SWEEP, f"{HERE}/scenario.json", f"{SWEPT}/scenario.json"):  # else nobody misses the others
        (project / path).unlink()
    faults = {"evaluate__last_day": "raise", "evaluate__last_week": "memory", "baselines__sweep_days": "kill"}
    code, text = project.call(TABLE, SWEEP, "results/light/seasonal_ablation_analysis.md", **project.faults(**faults))
    assert code == 1, text
    found = json.loads((project / TABLE).read_text())["scenarios"]["hourly"]
    messages = {arm: entry.get("message") for arm, entry in found["arms"].items()}
    assert messages == {
        "last_day": "evaluate: RuntimeError: this arm diverges",
        "last_week": "evaluate: MemoryError: Unable to allocate 1.0 TiB",
        "mean_day": None,
    }
    assert [(pair["a"], pair["b"]) for pair in found["comparisons"]] == [("mean_day", "persistence")]
    assert "`last_day` has failed" in (project / "results/light/seasonal_ablation_analysis.md").read_text()
    assert "sweep_days" not in json.loads((project / TABLE).read_text())["unavailable"]

    code, text = project.call(TABLE, SWEEP)
    assert code == 0, text
    assert {"seasonal_evaluate", "seasonal_baselines", "seasonal_sweep"} <= {job.rule for job in jobs_of(text)}
    for path in (TABLE, SWEEP):
        before, after = (json.loads((folder / path).read_text())["scenarios"] for folder in (seasonal, project))
        assert str(without_costs(before)) == str(without_costs(after))


def without_costs(value):
    if isinstance(value, dict):
        return {key: without_costs(item) for key, item in value.items() if key != "cost"}
    return [without_costs(item) for item in value] if isinstance(value, list) else value


class Links(html.parser.HTMLParser):
    """What a page would load from elsewhere."""

    def __init__(self):
        super().__init__()
        self.loaded = []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag in ("script", "img", "link", "iframe"):
            self.loaded += [values[name] for name in ("src", "href") if values.get(name)]


def test_the_report_opens_from_disk_and_holds_table_analysis_figures_and_graphs(new_project, seasonal):
    """Of the fifth system alone: the others' tables would take minutes."""
    project = new_project(seasonal)
    text = (project / "pipeline/registry.py").read_text()
    (project / "pipeline/registry.py").write_text(re.sub(r'^    "(?!seasonal").*\n', "", text, flags=re.M))
    for name in ("config.yaml", "config/light.yaml"):
        kept = {k: v for k, v in yaml.safe_load((project / name).read_text()).items() if k not in SYSTEMS}
        (project / name).write_text(yaml.safe_dump(kept))
    code, text = project.call("results/light/report.html", "--rerun-triggers", "mtime")
    assert code == 0 and "WARNING" not in text, text
    page = (project / "results/light/report.html").read_text()
    for name in ("table.html", "analysis.html", "hourly_metrics.png", "rules.png", "jobs_seasonal.png"):
        assert name in page, name
    assert "sweep_days" in page and page.count("data:image/png;") == 4
    links = Links()
    links.feed(page)
    assert not [link for link in links.loaded if not link.startswith("data:")]
    table = (project / "results/light/seasonal/report/ablation/table.html").read_text()
    mse = json.loads((project / TABLE).read_text())["scenarios"]["hourly"]["arms"]["mean_day"]["metrics"]["mse"]["mean"]
    assert f"<td>{mse:.4g}</td>" in table
