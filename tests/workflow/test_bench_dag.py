"""The benchmarks in the DAG: part of everything, each alone on the machine, and no part of the light run."""

import json
import re
import shutil
from pathlib import Path

import pytest

from pipeline.registry import SYSTEMS

ROOT = Path(__file__).resolve().parents[2]
RULES = {*(f"{name}_bench" for name in SYSTEMS), "benchmarks"}


@pytest.fixture
def checkout(new_project):
    """The project with the plain forms that the benchmarks compare with."""
    project = new_project()
    shutil.copytree(ROOT / "tests/reference", project / "tests/reference")
    return project


def planned(project, *arguments) -> dict[str, str]:
    """Rule -> what the dry run says of its last job."""
    code, text = project.call("-n", *arguments)
    assert code == 0, text
    return dict(re.findall(r"^(?:local)?rule (\w+):\n((?: {4}.*\n)+)", text, re.M))


def test_everything_has_the_benchmarks_and_each_takes_all_cores_of_the_call(checkout):
    plan = planned(checkout, "--cores", "3")
    assert RULES <= plan.keys()
    assert {re.search(r"threads: (\d+)", plan[rule]).group(1) for rule in RULES} == {"3"}
    assert "results/benchmarks.json" in plan["report"] and "results/benchmarks.json" in plan["all"]


def test_the_light_run_has_none_nor_has_a_project_without_the_plain_forms(checkout):
    assert not RULES & planned(checkout, "light").keys()
    shutil.rmtree(checkout / "tests")
    assert not RULES & planned(checkout).keys()


def test_the_report_joins_what_each_system_has_measured_on_one_thread(checkout):
    for place, name in enumerate(SYSTEMS):
        with (checkout / f"pipeline/{name}/bench.py").open("a") as file:
            file.write(
                "\n\ndef measure():\n"
                "    import os\n\n"
                "    import torch\n\n"
                '    threads = {"torch": torch.get_num_threads(), "blas": int(os.environ["OMP_NUM_THREADS"])}\n'
                f'    return {{"arms": {{"one": {{"fast_ms": {place + 0.5}, "bar": "x"}}}}, "threads": threads}}\n'
            )
    with (checkout / "pipeline/core/bench.py").open("a") as file:
        file.write('\n\ndef start(systems):\n    return {"all": {"cpu_s": 2.5, "jobs": 0}}\n')
    code, text = checkout.call("results/benchmarks.json")
    assert code == 0, text
    report = json.loads((checkout / "results/benchmarks.json").read_text())
    one = {"torch": 1, "blas": 1}
    assert report["schema"] == "bench/1"
    assert report["systems"] == {
        **{
            name: {"arms": {"one": {"fast_ms": place + 0.5, "bar": "x"}}, "threads": one}
            for place, name in enumerate(SYSTEMS)
        },
        "workflow": {"all": {"cpu_s": 2.5, "jobs": 0}},
    }
    page = (checkout / "results/benchmarks.html").read_text()
    assert all(f"<h2>{name}</h2>" in page for name in (*SYSTEMS, "workflow")) and "3.500" in page
    record = json.loads((checkout / "results/bench/rstmrf.run.json").read_text())  # the fourth
    assert record["metrics"] == {"arms/one/fast_ms": 3.5, "threads/torch": 1.0, "threads/blas": 1.0}
    assert record["system"] == "rstmrf" and record["stage"] == "bench" and record["threads"] == 1
    assert "3.500" in (checkout / "results/benchmarks.log").read_text()
