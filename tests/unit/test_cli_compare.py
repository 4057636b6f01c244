"""The command `compare`: what its table shows, in which order, and what it leaves out."""

import json

import pytest

from pipeline import cli


def metric(*values):
    mean = sum(values) / len(values)
    sd = (sum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1)) ** 0.5
    return {"mean": mean, "sd": sd if len(values) > 1 else None, "ci95": None, "values": list(values)}


@pytest.fixture
def results(folder):
    """A results file with an honest and a leaky scenario, three seeds, a failed arm and one scenario without data."""
    block = {
        "description": "labels when they are known",
        "leaky": False,
        "primary": {"metric": "mse", "unit": "squared sd", "better": "lower"},
        "dataset": {
            "name": "nyc_weather",
            "requested": "etth1",
            "source": "package",
            "licence": "CC0",
            "period": "2013",
        },
        "arms": {
            "slow": {
                "status": "done",
                "seeds": [0, 1, 2],
                "metrics": {"mae": metric(9.0), "mse": metric(0.5, 0.6, 0.7)},
            },
            "best": {
                "status": "done",
                "seeds": [0, 1, 2],
                "metrics": {"mae": metric(1.0), "mse": metric(0.1, 0.2, 0.3)},
            },
            "broken": {"status": "failed", "seeds": [0], "message": "train: killed"},
        },
        "baselines": {"persistence": {"metrics": {"mse": metric(0.4), "mae": metric(2.0)}}},
        "comparisons": [
            {
                "a": "best",
                "b": "slow",
                "metric": "mse",
                "difference": -0.4,
                "ci95": [-0.5, -0.3],
                "p": 0.001,
                "n": 1000,
                "test": "paired",
            }
        ],
    }
    leaky = {**block, "leaky": True, "dataset": {**block["dataset"], "requested": "nyc_weather"}, "comparisons": []}
    higher = {**block, "primary": {"metric": "skill", "unit": "1", "better": "higher"}, "comparisons": []}
    higher["arms"] = {name: {"seeds": [0], "metrics": {"skill": metric(v)}} for name, v in {"a": 0.1, "b": 0.9}.items()}
    higher["baselines"] = {}
    table = {
        "schema": "ablation/1",
        "scenarios": {"delayed": block, "immediate": leaky, "skilful": higher},
        "unavailable": {"delayed_wth_h1": "Data set 'wth' can't be had"},
    }
    (folder / "results").mkdir()
    (folder / "results" / "fsnet_ablation.json").write_text(json.dumps(table))
    return folder / "results"


def shown(capsys, *arguments):
    assert cli.main(["compare", "fsnet", *arguments]) == 0
    return capsys.readouterr().out


def test_compare_shows_best_first_with_spread_and_kind(results, capsys):
    text = shown(capsys, "--scenario", "delayed")
    table = text.split("\n\n")[1]
    rows = {line.split()[0]: line.split() for line in table.splitlines()}
    order = [name for name in rows if name in ("best", "slow", "persistence", "broken")]
    assert order == ["best", "persistence", "slow", "broken"]
    assert rows["best"] == ["best", "arm", "3", "0.2000", "±", "0.10", "1.000"]
    assert rows["persistence"] == ["persistence", "baseline", "0.4000", "2.000"]
    assert "failed" in rows["broken"] and "broken has failed: train: killed" in text
    header = next(line for line in text.splitlines() if "seeds" in line)
    assert header.split() == ["kind", "seeds", "mse", "mae"]  # the primary metric first
    assert text.splitlines()[-1] == "paired"
    assert "best − slow" in text and "-0.5000 … -0.3000" in text


def test_compare_names_the_data_really_used_and_marks_leaks(results, capsys):
    text = shown(capsys)
    delayed, immediate, skilful, missing = text.split("\n\n\n")
    assert "nyc_weather IN PLACE OF etth1" in delayed and "LEAKY" not in delayed
    assert "LEAKY" in immediate.splitlines()[0] and "IN PLACE OF" not in immediate
    assert "best (leaky)" in immediate and "persistence (leaky)" not in immediate  # a baseline sees no label early
    assert missing.strip() == "delayed_wth_h1: not computed. Data set 'wth' can't be had"
    ranks = [line.split()[0] for line in skilful.splitlines() if line.startswith(("a ", "b "))]
    assert ranks == ["b", "a"]  # higher is better there


def test_compare_fits_the_terminal_and_says_what_it_left_out(results, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    text = shown(capsys, "--scenario", "immediate")
    table = text.split("\n\n")[1].splitlines()
    assert all(len(line) <= 50 for line in table[:-1])
    assert table[-1] == "also in the file (--metrics): mae"


def test_metrics_named_by_the_user_come_right_after_the_primary_one(results, capsys):
    table = json.loads((results / "fsnet_ablation.json").read_text())
    for record in table["scenarios"]["delayed"]["arms"].values():
        if record.get("metrics"):
            record["metrics"] |= {"zeta": metric(1.0)}
    (results / "fsnet_ablation.json").write_text(json.dumps(table))
    header = shown(capsys, "--scenario", "delayed", "--metrics", "zeta").splitlines()[4]
    assert header.split() == ["kind", "seeds", "mse", "zeta", "mae"]


@pytest.mark.parametrize(
    "content, arguments, message",
    [
        ("{", [], "can't be read as JSON"),
        ('{"schema": "other/1"}', [], "is not a results table"),
        (None, ["--scenario", "dealyed"], "has no scenario dealyed; it has delayed, immediate, skilful"),
        (None, ["--table", "datasets"], "results/fsnet_datasets.json does not exist"),
    ],
)
def test_compare_says_what_is_wrong(results, capsys, content, arguments, message):
    if content:
        (results / "fsnet_ablation.json").write_text(content)
    assert cli.main(["compare", "fsnet", *arguments]) == 1
    assert message in capsys.readouterr().err
