"""Installed by pip, used as a module of another workflow, and described the same everywhere."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("pipeline", "snakemake_logger_plugin_mlflow", "config", "config.yaml", "pyproject.toml", "requirements.lock")
OTHER = """\
configfile: "mine.yaml"


module spatiotemporal:
    snakefile: "{snakefile}"
    config: config["spatiotemporal"]


use rule * from spatiotemporal{alias}


rule mine:
    default_target: True
    input:
        "{target}",
    output:
        "mine.txt",
    shell:
        "cp {{input}} {{output}}"
"""
TARGET = "results/light/fsnet/regimes/regimes/prepare.run.json"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The Python of a new environment into which `pip install .` was called; the rest comes from this one."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    for name in (*SOURCES, "README.md", "LICENSE"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            source.mkdir(exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    python = folder / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    (packages,) = (folder / "env").glob("lib/python*/site-packages")
    (packages / "rest.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "--python", python, "install", *options, source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(source)  # nothing may be read from it any more
    return python


def run(*command, folder, check=True, **environment) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "PIPELINE_"))}
    command = [str(word) for word in command]
    done = subprocess.run(command, cwd=folder, env=clean | environment, capture_output=True, text=True, timeout=200)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_pip_install_gives_the_command_and_it_works_away_from_the_source_tree(installed, tmp_path):
    command = installed.with_name("pipeline")
    found = run(installed, "-c", "import pipeline, sys; print(pipeline.__file__)", folder=tmp_path)
    assert found.startswith(str(installed.parents[1]))
    assert "forecast" in run(command, "fsnet", "--help", folder=tmp_path)
    assert run(command, "data", "--fetch", "nyc_weather", folder=tmp_path).strip() == "data/raw/nyc_weather/weather.csv"
    rows = "".join(f"2024-01-{1 + h // 24:02d} {h % 24:02d}:00,{h % 24}\n" for h in range(600))
    (tmp_path / "my.csv").write_text("date,load\n" + rows)
    call = (command, "fsnet", "forecast", "my.csv", "--target", "load", "--horizon", "3", "--out", "out.csv")
    assert "Forecast of load" in run(*call, folder=tmp_path)
    assert (tmp_path / "out.csv").read_text().count("\n") > 100


@pytest.mark.parametrize("alias", ["", " as st_*"], ids=["plain", "renamed"])
def test_another_workflow_uses_this_one_as_a_module_and_changes_its_settings(installed, new_project, tmp_path, alias):
    workflow = new_project()  # stands for a release: Snakemake reads github("…", path="Snakefile", tag="…") likewise
    shutil.rmtree(workflow / "pipeline")  # the package comes from `pip install`
    shutil.rmtree(workflow / "snakemake_logger_plugin_mlflow")
    other = tmp_path / "other"
    other.mkdir()
    (other / "Snakefile").write_text(OTHER.format(snakefile=workflow / "Snakefile", alias=alias, target=TARGET))
    mine = {"spatiotemporal": {"fsnet": {"settings": {"simulation": {"day": 12}}}}}
    (other / "mine.yaml").write_text(yaml.safe_dump(mine))
    call = (installed, "-m", "snakemake", "--cores", "1")
    planned = run(*call, "-n", "results/light/fsnet_ablation.json", folder=other)
    assert len(re.findall(r"^rule (?:st_)?fsnet_evaluate:", planned, re.M)) > 10
    done = run(*call, folder=other)
    record = yaml.safe_load((other / "mine.txt").read_text())
    assert record["settings"]["simulation"]["day"] == 12 and record["stage"] == "prepare", done
    assert record["settings"]["simulation"]["steps"] == 2000  # of this project's light configuration


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def test_every_pin_of_the_lock_is_what_is_installed():
    from importlib import metadata

    # torch is 2.13.0+cpu or 2.13.0+cu130: the same version in another build
    have = {one.metadata["Name"].lower(): one.version.split("+")[0] for one in metadata.distributions()}
    pins = {name.lower(): pin for name, pin in locked().items()}
    assert {name: have[name] for name in pins if name in have} == {name: pins[name] for name in pins if name in have}


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_conda_environments_hold_no_versions_but_those_of_the_lock(name):
    path = ROOT / "envs" / f"{name}.yaml"
    env = yaml.safe_load(path.read_text())
    python, pip, pins = env["dependencies"]
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert f">={python.removeprefix('python=')}" == wanted and pip == "pip" and env["name"].endswith(name)
    (requirement,) = pins["pip"]
    assert (path.parent / requirement.removeprefix("-r ")).resolve() == ROOT / "requirements.lock"
    assert not [pin for pin in locked() if re.match("nvidia|triton|cuda", pin)], "CUDA would be forced on everyone"


def test_changelog_citation_and_package_name_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)[1]
    assert newest == citation["version"] == project["version"]
    assert citation["cff-version"] == "1.2.0" and citation["license"] == project["license"]
    for one in (citation, *citation["references"]):
        assert one["title"] and all("name" in author or "family-names" in author for author in one["authors"])
    titles = " ".join(one["title"] for one in citation["references"])
    for part in ("Fast and Slow", "Sparse", "Score Matching", "Sinusoidal|Periodic", "PyIRI|Reference Ionosphere"):
        assert re.search(part, titles), part
