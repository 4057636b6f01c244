"""The command line: exit codes, messages, and what each command prints and writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline import cli
from pipeline.core import choices
from pipeline.core.bench import run as run_bench
from pipeline.core.bench import table as bench_table
from pipeline.core.store import digest
from pipeline.core.terminal import grid, number
from pipeline.registry import SYSTEMS

PROJECT = Path(__file__).resolve().parents[2]


def usage(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    return caught.value.code, capsys.readouterr()


# ---- the entry


def test_a_known_error_is_one_message_on_stderr_and_exit_code_1(tmp_path):
    """In a process of its own, as people call it: no traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "compare", "fsnet"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    message = "results/fsnet_ablation.json does not exist; make it: snakemake --cores 4 results/fsnet_ablation.json\n"
    assert done.stderr == message


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "command"),
        (["dta"], "'dta'"),
        (["compare"], "SYSTEM"),
        (["compare", "fsnot"], "there is no system 'fsnot'; there are fsnet"),
        (["data", "fsnot"], "there is no system 'fsnot'"),
        (["data", "--refesh"], "--refesh"),
        (["fsnet"], "command"),
        (["fsnet", "forecast"], "FILE"),
        (["fsnet", "forecast", "a.csv", "--horizon", "twelve"], "'twelve'"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments, said, capsys):
    code, printed = usage(arguments, capsys)
    assert code == 2 and said in printed.err and not printed.out


@pytest.mark.parametrize("command", [["data"], ["compare"], ["sync"], ["fsnet", "forecast"], []])
def test_help_has_examples(command, capsys):
    code, printed = usage([*command, "--help"], capsys)
    assert code == 0 and "examples:\n  " in printed.out
    assert "python -m pipeline " + " ".join(command) in printed.out.split("examples:")[1]


def test_every_command_has_a_summary(capsys):
    _, printed = usage(["--help"], capsys)
    for command in ("data", "sync", "schema", "bench", "compare", *SYSTEMS):
        line = next(line for line in printed.out.splitlines() if line.strip().startswith(command))
        assert len(line.split()) > 3, line


def test_ctrl_c_is_one_word_and_code_130(monkeypatch, capsys):
    def stop(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "compare", stop)
    stop.__name__ = "compare"
    assert cli.main(["compare", "fsnet"]) == 130
    assert capsys.readouterr().err == "stopped\n"


# ---- data


def small_config(**top):
    """A configuration with three scenarios, one of which stands for a data set that can't be had."""
    scenario = {"description": "d", "primary": {"metric": "mse", "unit": "u"}, "seeds": [0]}
    scenarios = {
        "first": {**scenario, "datasets": ["etth1", "nyc_weather"]},
        "second": {**scenario, "datasets": ["nyc_weather"]},
        "third": {**scenario, "datasets": ["wth", "nyc_weather"], "replaceable": False},
    }
    return {**top, "fsnet": {"settings": {}, "arms": {}, "scenarios": scenarios, "tables": {}}}


@pytest.fixture
def small(folder, monkeypatch):
    """A project folder with this configuration and the real catalogue."""
    project = folder / "project"
    (project / "config").mkdir(parents=True)
    (project / "config.yaml").write_text(yaml.safe_dump(small_config()))
    (project / "config" / "light.yaml").write_text("{}")
    (project / "config" / "datasets.yaml").write_text((PROJECT / "config" / "datasets.yaml").read_text())
    monkeypatch.setattr(cli, "PROJECT", project)
    return project


def test_data_decides_fetches_records_and_says_so(small, folder, capsys):
    assert cli.main(["data"]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = next(line for line in lines if "fsnet.first" in line)
    assert first.startswith("nyc_weather IN PLACE OF etth1") and "package" in first
    assert next(line for line in lines if "fsnet.third" in line).split()[:4] == ["wth", "can't", "be", "had"]
    assert any("Data set 'wth' can't be had" in line and "no network connection" in line for line in lines)
    assert any(line.startswith("nyc_weather: etth1 is neither at hand") for line in lines)
    recorded = choices.read_choices(folder / "data" / "choices.json")
    assert {key: choice.name for key, choice in recorded.items()} == {
        "etth1,nyc_weather": "nyc_weather",
        "nyc_weather": "nyc_weather",
    }
    fetched = folder / "data" / "raw" / "nyc_weather" / "weather.csv"
    assert digest(fetched) == recorded["nyc_weather"].sha256
    assert recorded["nyc_weather"].sha256[:12] in first


def test_data_keeps_what_is_recorded_until_refresh(small, folder, monkeypatch, capsys):
    cli.main(["data"])
    etth1 = folder / "elsewhere" / "ETTh1.csv"
    etth1.parent.mkdir()
    etth1.write_text("now it is at hand")
    monkeypatch.setenv("PIPELINE_DATA_DIRS", str(etth1.parent))
    monkeypatch.setattr(choices, "problem", lambda form, path: "" if path.is_file() else "is missing")
    monkeypatch.setattr(choices, "digest_of", lambda paths: "ab" * 32)
    record = folder / "data" / "choices.json"
    before = record.read_text()
    assert cli.main(["data"]) == 0
    assert record.read_text() == before
    assert cli.main(["data", "--refresh", "fsnet"]) == 0
    assert choices.read_choices(record)["etth1,nyc_weather"].source == "folder"
    assert "etth1" in capsys.readouterr().out


def test_strict_data_makes_a_fall_back_an_error(small, folder, capsys):
    (folder / "mine.yaml").write_text("strict_data: true\n")
    assert cli.main(["data", "--configfile", "mine.yaml"]) == 1
    assert "etth1, wth can't be had" in capsys.readouterr().err


def test_data_finds_mistakes_in_the_configuration(small, folder, capsys):
    (folder / "mine.yaml").write_text("devise: cpu\n")
    assert cli.main(["data", "--configfile", "mine.yaml"]) == 1
    assert "config.devise: unknown key" in capsys.readouterr().err
    assert cli.main(["data", "--configfile", "absent.yaml"]) == 1
    assert "absent.yaml can't be read" in capsys.readouterr().err
    (folder / "mine.yaml").write_text("a: [")
    assert cli.main(["data", "--configfile", "mine.yaml"]) == 1
    assert "mine.yaml is not valid YAML" in capsys.readouterr().err
    assert not (folder / "data").exists()


def test_fetch_brings_one_data_set_into_the_cache(folder, capsys):
    assert cli.main(["data", "--fetch", "nyc_weather"]) == 0
    assert capsys.readouterr().out == "data/raw/nyc_weather/weather.csv\n"
    assert digest(folder / "data/raw/nyc_weather/weather.csv").startswith("5d1ea2548a39")
    assert not (folder / "data" / "choices.json").exists()


def test_fetch_of_what_there_is_not(folder, capsys):
    assert cli.main(["data", "--fetch", "nyc_wether"]) == 1
    assert "Did you mean 'nyc_weather'" in capsys.readouterr().err
    assert cli.main(["data", "--fetch", "regimes"]) == 1
    assert "nothing to fetch" in capsys.readouterr().err


def test_the_real_configuration_lists_every_scenario_once():
    plan = cli.load_plan(cli.read_config())
    lists = cli.wanted(plan, list(SYSTEMS))
    users = [user for names in lists.values() for user in names if not user.endswith("(light)")]
    assert len(users) == len(set(users))
    expected = {f"{name}.{s}" for name in SYSTEMS for s in plan.system("results", name).section.scenarios}
    assert set(users) == expected
    assert "fsnet.delayed (light)" in lists[("nyc_weather",)]


# ---- bench, schema, sync


def test_bench_writes_the_report_and_shows_published_figures(tmp_path):
    rows = {
        "nomem": {"value": 3.25, "unit": "ms", "upstream": 39.0, "passed": True},
        "rls": {"value": 0.09, "note": "one"},
    }
    path, said = tmp_path / "results" / "benchmarks.json", []
    run_bench({"fsnet": lambda: rows}, path, said.append)
    report = json.loads(path.read_text())
    assert report["schema"] == "bench/1" and report["systems"] == {"fsnet": rows}
    assert {"processor", "cores"} <= set(report["machine"]) and "numpy" in report["software"]
    lines = [line.split() for line in said[-1].splitlines()]
    assert lines[0] == ["value", "unit", "upstream", "passed", "note"]
    assert lines[2] == ["nomem", "3.250", "ms", "39.00", "yes"] and lines[3] == ["rls", "0.09000", "one"]
    run_bench({"spin": lambda: {"x": {"value": 1}}}, path, said.append)  # the other systems' rows stay
    assert set(json.loads(path.read_text())["systems"]) == {"fsnet", "spin"}


def test_bench_shows_groups_of_rows_and_single_values():
    arms = {"nomem": {"plain_ms": 40.0, "fast_ms": 4.0}, "ogd": {"fast_ms": 2.0}}
    text = bench_table({"arms": arms, "growth_mb": 0.25, "threads": 1})
    assert text.splitlines() == [
        "arms",
        "       plain_ms  fast_ms",
        "-----  --------  -------",
        "nomem     40.00    4.000",
        "ogd                2.000",
        "growth_mb: 0.2500",
        "threads: 1",
    ]


def test_bench_calls_the_systems_that_can_be_measured(folder, monkeypatch, capsys):
    class Fake:
        @staticmethod
        def measure():
            assert os.environ["OMP_NUM_THREADS"] == "1"
            return {"one": {"value": 2.0, "unit": "ms a step"}}

    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(cli, "module", lambda name, part: Fake if part == "bench" else None)
    assert cli.main(["bench"]) == 0
    assert "ms a step" in capsys.readouterr().out
    assert json.loads(Path("results/benchmarks.json").read_text())["systems"]["fsnet"]["one"]["value"] == 2.0
    monkeypatch.setattr(cli, "module", lambda name, part: None)
    assert cli.main(["bench"]) == 1
    assert "no benchmarks for fsnet" in capsys.readouterr().err


def test_schema_writes_the_file_of_the_repository(folder, capsys):
    assert cli.main(["schema", "--out", "here.json"]) == 0
    assert json.loads(Path("here.json").read_text())["title"] == "config.yaml"
    assert capsys.readouterr().out == "here.json\n"


def test_sync_reports_what_was_logged_and_what_was_refused(folder, monkeypatch, capsys):
    from snakemake_logger_plugin_mlflow import sync as replay
    from snakemake_logger_plugin_mlflow.store import TrackerUnavailable

    assert cli.main(["sync"]) == 1
    assert "no results to log yet" in capsys.readouterr().err
    Path("results").mkdir()
    outcome = replay.SyncResult("sqlite:///x.db", logged=["a", "b"], present=3, swept=1)
    called = []
    monkeypatch.setattr(replay, "sync", lambda root, uri: called.append((root, uri)) or outcome)
    assert cli.main(["sync", "--uri", "sqlite:///x.db"]) == 0
    assert called == [(Path("results"), "sqlite:///x.db")]
    out = capsys.readouterr().out
    assert out == "sqlite:///x.db: 2 runs logged, 3 were there already, 1 left open by a kill are closed\n"
    outcome.refused["results/x.run.json"] = "torn"
    assert cli.main(["sync"]) == 1
    assert "results/x.run.json was refused: torn" in capsys.readouterr().err

    def down(root, uri):
        raise TrackerUnavailable("http://nowhere: refused")

    monkeypatch.setattr(replay, "sync", down)
    assert cli.main(["sync"]) == 1
    assert "http://nowhere: refused" in capsys.readouterr().err


# ---- the system's own command


def test_forecast_prints_the_rows_to_come_and_the_errors(folder, capsys):
    rows = ["date,y"] + [
        f"2024-01-{1 + h // 24:02d} {h % 24:02d}:00,{10 + (h % 24) + 0.1 * (h % 5)}" for h in range(300)
    ]
    Path("my.csv").write_text("\n".join(rows))
    options = ["--target", "y", "--horizon", "3", "--warmup", "100", "--out", "f.csv", "--state", "s.npz"]
    assert cli.main(["fsnet", "forecast", "my.csv", *options]) == 0
    text = capsys.readouterr().out
    assert "my.csv: 300 new rows; 300 seen, 2024-01-01 00:00:00 to 2024-01-13 11:00:00" in text
    for hour in (12, 13, 14):
        assert f"2024-01-13 {hour}:00:00  " in text
    assert "Errors so far: 198 forecasts of 3 rows" in text  # origins 99 to 296
    for method in ("this forecast", "persistence", "seasonal naive", "rls"):
        assert f"\n{method}" in text
    assert f"f.csv: {201 * 3} forecasts" in text and "s.npz: state after 2024-01-13 11:00:00" in text
    assert cli.main(["fsnet", "forecast", "my.csv", "--state", "s.npz"]) == 0
    assert "no rows after those that the state has seen" in capsys.readouterr().out
    assert cli.main(["fsnet", "forecast", "my.csv", "--target", "x", "--horizon", "3"]) == 1
    assert "no target column 'x'" in capsys.readouterr().err
    assert cli.main(["fsnet", "forecast", "my.csv", "--target", "y", "--horizon", "3", "--gap", "-1"]) == 1
    assert "--gap -1" in capsys.readouterr().err


# ---- tables for the terminal


def test_grid_aligns_words_left_and_numbers_right():
    text = grid(("name", "value"), [("a", "1"), ("long name", "12.5"), ("b", "")])
    assert text.splitlines() == ["name       value", "---------  -----", "a              1", "long name   12.5", "b"]


@pytest.mark.parametrize(
    "value, text",
    [
        (0.0524489, "0.05245"),
        (0.05, "0.05000"),
        (1234.5678, "1235"),
        (12345.67, "12,346"),
        (-2.0, "-2.000"),
        (1.5e-9, "1.500e-09"),
        (1, "1"),
        (10789, "10,789"),
        (True, "yes"),
        (None, ""),
    ],
)
def test_numbers_have_four_digits(value, text):
    assert number(value) == text
