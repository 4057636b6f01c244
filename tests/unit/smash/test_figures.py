"""Figures and the report of a made-up scenario: labels, units, non-empty axes, verdicts that follow from numbers."""

import json

import numpy as np
import pytest

from pipeline.core.errors import DataError
from pipeline.core.figures import style, texts, translator
from pipeline.core.stages import Job
from pipeline.smash import analysis, calibration, figures, labels, study_shown


class Progress:
    def progress(self, items, what):
        return items

    def info(self, text):
        pass


def method(value, seeds=None, **more):
    rng = np.random.default_rng(int(abs(value) * 100))
    level = (np.arange(50) + 0.5) / 50
    metrics = dict.fromkeys(figures.COLUMNS, value) | {"cs_time": 0.2}
    entry = {
        "metrics": {k: {"mean": v, "sd": None, "ci95": None, "values": [v]} for k, v in metrics.items()},
        "vectors": {
            "coverage_time": calibration.coverage(rng.random(500)),
            "coverage_location": calibration.coverage(rng.random(300)),
            "pit_time": [1.0] * 20,
            "rescaled": {"exponential": (-np.log1p(-level)).tolist(), "found": (-np.log1p(-level)).tolist()},
            "reliability": {"confidence": [0.5] * 10, "accuracy": [0.4] * 10, "count": [30] * 10},
        },
        "cost": {"train_s": 3.0, "evaluate_s": 1.0},
    }
    return entry | more | ({"seeds": seeds} if seeds else {})


@pytest.fixture(scope="module")
def table(make, tmp_path_factory):
    """One scenario with an arm and two baselines, its data and fitted ETAS beside."""
    from pipeline.smash import data, etas_fit
    from pipeline.smash.etas import Etas
    from pipeline.smash.kde import Background

    folder = tmp_path_factory.mktemp("made") / "earthquake"
    folder.mkdir()
    cat = make(sequences=(8, 3, 3))
    cat.save(folder / "prepared.pkl")
    etas = Etas(3, Background.fit(cat).components, window=10.0, rate=1.0)
    etas_fit.Fitted(etas, etas, {"max_lag": None}).save(folder / "etas.json")
    pair = {"a": "smash_exact", "b": "etas", "n": 900, "p": 0.001, "test": "paired circular bootstrap", "windows": 3}
    block = {
        "description": "made up",
        "leaky": False,
        "primary": {"metric": "log_likelihood", "unit": "nats", "better": "higher"},
        "dataset": {**data.info(cat), "log_density": cat.meta["log_density"], "block_windows": 2},
        "arms": {"smash_exact": method(-4.5, [0, 1], settings={"model": {"kind": "exact"}})},
        "baselines": {"etas": method(-4.6), "poisson_kde": method(-5.5)},
        "comparisons": [
            pair | {"metric": "log_likelihood", "difference": 0.1, "ci95": [0.05, 0.15]},
            pair | {"metric": "log_likelihood_mark", "difference": 0.0, "ci95": [-0.1, 0.1]},
            pair | {"metric": "crps_time", "difference": 0.02, "ci95": [0.01, 0.03]},
        ],
        "csep": {
            "next_day": {
                "quantiles_number": [0.2, 0.5, 0.9],
                "quantiles_spatial": [0.9, 0.95, 0.98, 0.99],
                "ks_number": 0.233,
                "ks_spatial": 0.9,
                "observed_mean": 2.0,
                "forecast_mean": 2.1,
                "windows": 3,
                "coverage95_number": 1.0,
            }
        },
        "etas": {"parameters_of": "the first fit"},
        "by_clock": {
            "folded": {
                "windows": 1,
                "events": 30,
                "methods": {"etas": {"log_likelihood_time": 0.5, "log_likelihood_location": -1.0}},
            }
        },
        "recovery": {
            "log_likelihood_truth": -4.4,
            "parameters": {
                "log_a": {"truth": [[1.0, 2.0]], "estimate": [[1.1, 2.0]], "error": [[0.1, 0.1]], "z": [[1, 0]]}
            },
        },
    }
    return folder, {"schema": "ablation/1", "system": "smash", "scenarios": {"earthquake": block}, "unavailable": {}}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_figure_has_labels_with_units_and_something_drawn(table, language):
    folder, found = table
    block = found["scenarios"]["earthquake"]
    from pipeline.smash.events import load

    with style("en"):
        drawn = dict(
            figures.draw("earthquake", block, load(folder / "prepared.pkl"), folder, translator(language, labels.ZH))
        )
    assert set(drawn) == {
        "scores", "table", "time", "gains", "calibration", "rescaled", "consistency", "density", "rate",
    }  # fmt: skip
    for name, figure in drawn.items():
        assert all(axes.has_data() or axes.texts for axes in figure.axes), name
        if name != "table":
            assert any(axes.get_xlabel() or axes.get_title() for axes in figure.axes), name
    assert any("[km]" in text for text in texts(drawn["density"]))
    assert any("[1/day]" in text for text in texts(drawn["rate"]))
    gain = " ".join(texts(drawn["gains"]))
    assert ("nats/event" in gain) == (language == "en") and "smash_exact – etas" in gain


def test_the_stage_writes_pictures_and_a_contact_sheet(table, tmp_path):
    folder, found = table
    path = tmp_path / "smash_ablation.json"
    path.write_text(json.dumps(found))
    job = Job("smash", "plot", {"table": path, "data": folder / "prepared.pkl"}, {"figures": tmp_path / "figures"}, {})

    class Settings:
        language = "en"

    figures.plot(job, Settings, Progress())
    names = {p.name for p in (tmp_path / "figures").iterdir()}
    assert {"contact_sheet.png", "earthquake_calibration.png", "earthquake_slider.html"} <= names and len(names) == 11
    path.write_text(json.dumps({**found, "system": "spin"}))
    with pytest.raises(DataError, match="no results table of SMASH"):
        figures.plot(job, Settings, Progress())


def test_verdicts_follow_from_intervals_and_from_what_is_better(table):
    _, found = table
    text = analysis.report(found)
    joint, mark, crps = (line for line in text.splitlines() if line.startswith("- `smash_exact` against"))
    assert "+0.1000 [+0.0500, +0.1500] (900 events): `smash_exact` is better" in joint
    assert "no clear difference" in mark
    assert "`etas` is better" in crps  # a higher CRPS is worse
    assert text.index("`smash_exact` | exact likelihood") < text.index("`poisson_kde` | baseline")
    assert "rewards forecasts that are too narrow" in text
    assert "`log_a[0]` | 1.000 | 1.100 | 0.100 | 1.000" in text and "−4.4000" in text
    assert "2.00 events observed, 2.10 forecast" in text
    assert "| next day | number | 3 | 0.233 | 0.785 | consistent |" in text  # 1.36 / sqrt(3)
    assert "| next day | spatial | 4 | 0.900 | 0.680 | not consistent |" in text and "| magnitude |" not in text
    assert "Estimates and errors are those of the first fit." in text
    assert "| folded (1; 30) | `etas` | 0.5000 | −1.0000 |" in text


def test_the_sampling_study_is_drawn_and_told(table):
    """Two samplers, two numbers of samples: only the larger number is shown; costs alone have no quality."""
    quality = {"crps_time": 0.2, "energy_location": 4.7, "pit_ks": 0.1}
    rows = [
        {"sampler": kind, "steps": steps, "samples": m, "seconds": 0.01 * steps, "whole_test_s": 3.0 * steps}
        | {"quality": quality}
        for kind in ("langevin_cached", "ode")
        for steps in (50, 200)
        for m in (10, 100)
    ]
    rows.append({"sampler": "exact_time_and_mark", "steps": 0, "samples": 100, "seconds": 0.1, "whole_test_s": 30.0})
    study = {"rows": rows, "units": {"time": "day", "place": "deg"}, "dataset": "made_up", "threads": 1, "events": 100}
    study["note"] = "CPU seconds of one thread"
    with style("en"):
        figure = study_shown.chart(study, translator("en", labels.ZH))
    assert [axes.get_ylabel() for axes in figure.axes][:2] == ["CRPS of the gap [day]", "Energy score of the place [°]"]
    for axes in figure.axes:
        assert [line.get_xdata().tolist() for line in axes.lines[:2]] == [[150.0, 600.0]] * 2
    text = analysis.report(table[1], study)
    assert "| `ode` | 200 | 2.00 | 600 | 0.2000 | 4.7000 | 0.1000 |" in text
    assert "| `exact_time_and_mark` | – | 0.100 | 30 | – | – | – |" in text and "`ode` | 50 | 0.500 | 150" in text
