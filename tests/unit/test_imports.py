"""Who may import whom (scripts, cli -> registry -> systems -> core), and what a start of the workflow must not load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.registry import SYSTEMS

PROJECT = Path(__file__).resolve().parents[2]
PACKAGE = PROJECT / "pipeline"
MODULES = sorted(PACKAGE.rglob("*.py"))
TRACKER = PROJECT / "snakemake_logger_plugin_mlflow"
TOP = {"cli", "__main__", "registry"}
HEAVY = ("torch", "xarray", "zarr", "pandas", "scipy", "matplotlib", "sklearn", "mlflow", "snakemake")
QUICK = ("config", "catalog", "choices", "stages", "plan", "errors", "store")  # read at every start, a dry run too


def name_of(path):
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


def imported(path):
    """Full names of everything that a file imports, at its top or inside functions."""
    package = name_of(path).split(".")
    package = package if path.name == "__init__.py" else package[:-1]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names |= {stem} | {f"{stem}.{alias.name}" for alias in node.names}
    return names


def room(name):
    """Second part of a module's name: core, a system, or one of the modules on top."""
    parts = name.split(".")
    return parts[1] if parts[0] == "pipeline" and len(parts) > 1 else None


def test_relative_and_absolute_imports_are_understood(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PROJECT", tmp_path)
    path = tmp_path / "pipeline" / "fsnet" / "x.py"
    path.parent.mkdir(parents=True)
    path.write_text("import a.b\nfrom ..core import config\nfrom . import y\ndef f():\n    from ..spin.z import g\n")
    found = imported(path)
    assert {"a.b", "pipeline.core.config", "pipeline.fsnet.y", "pipeline.spin.z"} <= found


def test_every_package_of_the_pipeline_is_core_or_a_registered_system():
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert packages == {"core", *SYSTEMS}
    assert {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"} == TOP


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down_only(path):
    here = room(name_of(path))
    seen = {room(name) for name in imported(path)} - {None, here}
    allowed = {
        "core": set(),
        "registry": {"core"},  # systems by name only, so that a new one costs nothing until it is used
        "cli": {"core", "registry"},
        "__main__": {"cli"},
        None: set(),
    }.get(here, {"core"})
    assert seen <= allowed, f"{name_of(path)} imports {sorted(seen - allowed)}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_imports_the_tracker_library_or_the_workflow_engine(path):
    roots = {name.split(".")[0] for name in imported(path)}
    assert not roots & {"mlflow", "snakemake", "workflow", "tests"}
    if name_of(path) != "pipeline.cli":  # `python -m pipeline sync` calls the replay
        assert TRACKER.name not in roots


def test_the_tracker_sees_core_alone():
    for path in TRACKER.rglob("*.py"):
        assert {room(name) for name in imported(path)} - {None} <= {"core"}, path.name


def test_only_the_bridge_and_the_rules_know_the_snakemake_object():
    for path in [*MODULES, *(PROJECT / "workflow").rglob("*.py")]:
        names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        assert ("snakemake" in names) == (path.name == "run_stage.py"), path


def test_commands_of_a_system_import_nothing_heavy_at_their_top():
    for path in PACKAGE.glob("*/commands.py"):
        loaded = started(f"import {name_of(path)}")
        assert not loaded & set(HEAVY), path


def started(statement):
    """Top-level packages that a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_start_of_the_workflow_loads_nothing_heavy():
    """A dry run reads the configuration, the catalogue and every system's settings; nothing else."""
    modules = [*(f"pipeline.core.{name}" for name in QUICK), "pipeline.registry", "pipeline.cli"]
    loaded = started(
        "import " + ", ".join(modules) + "\n"
        "from pipeline.registry import SYSTEMS, system\n"
        "for name in SYSTEMS: system(name)\n"
        "from pipeline.cli import load_plan, read_config\n"
        "load_plan(read_config())"
    )
    assert not loaded & set(HEAVY), loaded & set(HEAVY)
    assert "numpy" not in loaded


@pytest.mark.parametrize("name", QUICK)
def test_each_quick_module_stands_alone(name):
    """No hidden order of imports: each can be the first."""
    assert not started(f"import pipeline.core.{name}") & set(HEAVY)
