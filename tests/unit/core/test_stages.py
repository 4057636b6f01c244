"""Running a stage: outputs appear together or not at all; code files follow the imports."""

from pathlib import Path

import pytest

from pipeline.core import stages
from pipeline.core.config import Model
from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.runlog import read_run


class Settings(Model):
    text: str = "hello"


def write(job, settings, log):
    Path(job.outputs["table"]).write_text(settings.text)
    log.history(1, 1, loss=0.5)
    return stages.Result({"loss": 0.5}, tables=("table",))


def write_then_fail(job, settings, log):
    write(job, settings, log)
    raise PipelineError("the input has no column 'OT'")


def write_nothing(job, settings, log):
    return stages.Result()


def job(tmp_path, **settings):
    outputs = {"table": tmp_path / "out" / "table.txt", "run": tmp_path / "out" / "x.run.json"}
    return stages.Job("toy", "stage", {}, outputs, settings)


def stage(function):
    return stages.Stage(f"{__name__}:{function.__name__}", Settings)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])


def names(tmp_path):
    return sorted(p.name for p in (tmp_path / "out").iterdir())


def test_a_finished_stage_leaves_outputs_and_record(tmp_path):
    stages.run(job(tmp_path, text="bye"), stage(write))
    assert (tmp_path / "out" / "table.txt").read_text() == "bye"
    record = read_run(tmp_path / "out" / "x.run.json")
    assert record["metrics"] == {"loss": 0.5} and record["settings"] == {"text": "bye"}
    assert record["tables"] == [str(tmp_path / "out" / "table.txt")]
    assert names(tmp_path) == ["table.txt", "x.history.jsonl", "x.run.json"]


@pytest.mark.parametrize("function", [write_then_fail, write_nothing])
def test_a_failed_stage_leaves_no_output_and_keeps_the_old_one(tmp_path, function):
    stages.run(job(tmp_path), stage(write))
    with pytest.raises(PipelineError):
        stages.run(job(tmp_path, text="new"), stage(function))
    assert (tmp_path / "out" / "table.txt").read_text() == "hello"
    assert "x.failed.json" in names(tmp_path) and not [n for n in names(tmp_path) if "part" in n]


def test_wrong_settings_never_start(tmp_path):
    with pytest.raises(ConfigError, match=r"toy\.stage\.txet: unknown key"):
        stages.run(job(tmp_path, txet="x"), stage(write))


def test_code_is_what_a_stage_imports_lazily_or_not():
    relative = {Path(p).relative_to(stages.PACKAGE).as_posix() for p in stages.code("pipeline.core.stages:run")}
    assert {"core/stages.py", "core/config.py", "core/errors.py", "core/runlog.py"} <= relative  # runlog: lazily
    assert not any(p.startswith("fsnet") for p in relative)


def test_figures_are_no_code_of_training():
    for name in ("train", "evaluate", "prepare", "baselines"):
        from pipeline.registry import system

        files = stages.code(system("fsnet").STAGES[name].function)
        assert not [f for f in files if f.endswith("figures.py")]


def test_the_imports_of_every_module_are_those_of_its_syntax_tree():
    """The quick reading of import statements misses none and makes none up."""
    import ast

    for module in sorted(stages.PACKAGE.rglob("*.py")):
        text = module.read_text()
        whole = [ast.dump(n) for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Import | ast.ImportFrom)]
        quick = [ast.dump(ast.parse(found.group(1)).body[0]) for found in stages.IMPORT.finditer(text)]
        assert sorted(quick) == sorted(whole), module
