"""Faults: each is one clear message, leaves nothing that looks whole but isn't, and the next call repairs it.

What is the same for all systems (storage, damage) is tried on the small system of docs/extending.md; kills on every
system in TREES. `make test-faults` sets TEST_FAULTS and adds the long ones. Ctrl-C, a killed Snakemake and two calls at
once are in test_end_to_end.py, a tracker that is down in test_tracking.py.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from pipeline.core.environment import process_start

long = pytest.mark.skipif(not os.environ.get("TEST_FAULTS"), reason="make test-faults")
SEASONAL, HOURLY = "results/light/seasonal_ablation.json", "results/light/seasonal/nyc_weather/hourly"
SMASH = "results/light/smash_ablation.json", "results/light/smash/etas_synthetic/etas"
# System -> fixture with its finished table, the table, a scenario to do over with its stages and arms.
TREES = {
    "fsnet": (
        "finished",
        "results/light/fsnet_ablation.json",
        "results/light/fsnet/nyc_weather/immediate",
        ("prepare", "train", "baselines", "evaluate", "compare", "ablation"),
        ("nomem",),
    ),
    "spin": (
        "simulated",
        "results/light/spin_ablation.json",
        "results/light/spin/sumo_city/sumo",
        ("prepare", "train", "baselines", "evaluate", "compare", "ablation"),
        ("spin",),
    ),
    "rstmrf": (
        "storm",
        "results/light/rstmrf_ablation.json",
        "results/light/rstmrf/storms/osse",
        ("iri", "prepare", "train", "baselines", "evaluate", "compare", "ablation"),
        ("corrected",),
    ),
    "seasonal": (
        "seasonal",
        SEASONAL,
        HOURLY,
        ("prepare", "baselines", "evaluate", "compare", "ablation"),
        ("last_day", "last_week", "mean_day"),
    ),
    "smash": ("tiny_smash", *SMASH, ("prepare", "baselines", "train", "evaluate", "compare", "ablation"), ("smash",)),
}
SLOW = ("rstmrf",)  # about 90 CPU s, a third of them undisturbed: every job imports PyTorch or PyIRI
COSTS = ("cost", "produced", "software", "peak_mb", "saved_mb", "seconds", "whole_test_s")


def result(path):
    """What two equal results agree in: all but costs, times and versions."""

    def equal_part(value):
        if isinstance(value, dict):
            return {k: equal_part(v) for k, v in value.items() if k not in COSTS}
        return [equal_part(item) for item in value] if isinstance(value, list) else value

    return equal_part(json.loads(Path(path).read_text()))


def parts(project):
    """Files that a job was writing when it ended."""
    return [path for path in project.folder.glob("results/**/.part-*") if ".zarr" not in str(path.parent)]


@pytest.mark.parametrize("system", [pytest.param(name, marks=long) if name in SLOW else name for name in TREES])
def test_a_job_killed_in_each_stage_is_done_over_to_the_same_result(system, request, new_project):
    """Every job of a scenario, and of the table, is killed once, when it has written everything but moved nothing."""
    fixture, table, scenario, stages, arms = TREES[system]
    finished = request.getfixturevalue(fixture)
    project = new_project(finished)
    shutil.rmtree(project / scenario)
    (project / table).unlink()
    days = [path.stem for path in project.folder.glob("results/light/rstmrf/iri/*.zarr")]
    if "iri" in stages:
        shutil.rmtree(project / "results/light/rstmrf/iri")
    faults, named = {}, {"train": arms, "evaluate": arms, "ablation": ["ablation"], "iri": days}
    for stage in stages:
        places = named.get(stage, [Path(scenario).name])
        faults |= {f"{stage}__{place}": "kill once" for place in places}
    code, text = project.call(table, "--retries", "1", **project.faults(**faults))
    assert code == 0, text
    assert len(list(project.folder.glob("struck.*"))) == len(faults)
    assert result(project / table) == result(finished / table) and not parts(project)


ATTENTION = "results/light/spin/sumo_city/sumo/spin/attention"
# Stage that is killed by itself -> its outputs, and the name by which its job is struck.
AFTER = {
    "plot": (["results/light/{system}/figures/ablation"], "ablation"),
    "analyse": (["results/light/{system}_ablation_analysis.md"], "ablation"),
    "page": (["results/light/{system}/report/ablation"], "ablation"),
    "parameters": (["results/light/spin/parameters.json"], "None"),
    "attention": ([ATTENTION, *(f"{ATTENTION}.{kind}" for kind in ("zarr", "json", "html"))], "spin"),
    "sampling": (["results/light/smash_sampling.json"], "None"),
    "iri": (["results/light/rstmrf/iri/20240510.zarr"], "20240510"),
    "tec": (["results/light/rstmrf/code_gim/gim/tec.zarr"], "gim"),
    "memory": (["results/light/rstmrf_memory.json", "results/light/rstmrf/figures/memory.png"], "memory"),
}


def shown(project, outputs):
    """File -> content of what stages have made; pictures decoded, tables without costs and times."""
    found = [path for name in outputs for path in [project / name, *(project / name).rglob("*")]]
    paths = [path for path in found if path.is_file() and path.name != ".snakemake_timestamp"]
    assert all(path.stat().st_size for path in paths)
    read = {".png": lambda path: Image.open(path).tobytes(), ".json": result}
    return {path.relative_to(project.folder): read.get(path.suffix, Path.read_bytes)(path) for path in paths}


def killed_in_each(project, system, *stages, **environment):
    """Stages done undisturbed, then anew with every job killed once, the same command until it is through: both."""
    made = {stage: [path.format(system=system) for path in AFTER[stage][0]] for stage in stages}
    targets = [path for paths in made.values() for path in paths]
    project.repaired(*targets, **environment)
    undisturbed = shown(project, targets)
    for path in (project / name for name in targets):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    environment |= project.faults(**{f"{stage}__{AFTER[stage][1]}": "kill once" for stage in stages})
    struck, code = set(), 1
    while code:
        code, text = project.call(*targets, **environment)
        now = {mark.name.split(".")[1] for mark in project.folder.glob("struck.*")} - struck
        assert bool(now) == bool(code), text
        assert not [path for stage in now for path in made[stage] if (project / path).exists()], text
        struck |= now
    assert struck == set(stages) and not parts(project)
    return undisturbed, shown(project, targets)


@pytest.mark.parametrize(
    ("system", "stages"),
    [
        # With R-STMRF's one job that needs no other: all that `make test` has the time to kill of it.
        ("spin", ("parameters", "attention", "plot", "analyse", "iri")),
        *(pytest.param(name, ("plot", "analyse", "page"), marks=long) for name in ("fsnet", "smash", "rstmrf")),
    ],
)
def test_what_follows_a_table_is_done_over_to_the_same_figures_and_texts(system, stages, request, new_project):
    """The table is the same one, so that even what tells of its times and costs must be equal."""
    project = new_project(request.getfixturevalue(TREES[system][0]))
    project.configure("rstmrf", settings={"iri": {"step": 15.0}})
    undisturbed, disturbed = killed_in_each(project, system, *stages)
    assert disturbed == undisturbed
    assert any(path.suffix == ".png" for path in undisturbed)


@long
def test_the_killed_sampling_study_is_done_over_to_the_same_table_but_for_its_seconds(new_project, tiny_smash):
    project, module = new_project(tiny_smash), "pipeline/smash/sampling_study.py"
    project.configure("smash", scenarios={"etas": {"arms": ["smash", "smash_corrected"]}})
    for name in ("SAMPLES", "LANGEVIN_STEPS", "UNCACHED_STEPS", "ODE_STEPS"):
        line = re.search(rf"^{name} = .*$", (project / module).read_text(), re.M).group()
        project.edit(module, line, f"{name} = (4,)")
    undisturbed, disturbed = killed_in_each(project, "smash", "sampling")
    assert disturbed == undisturbed
    (table,) = undisturbed.values()
    assert all(row["quality"] for row in table["rows"] if row["sampler"] in ("langevin_cached", "ode"))


@long
def test_killed_maps_and_a_killed_table_of_memory_are_done_over_to_the_same(new_project, storm, data_dir):
    project = new_project(storm)
    project.configure("rstmrf", scenarios={"tradeoffs": {"arms": ["default"]}})
    undisturbed, disturbed = killed_in_each(project, "rstmrf", "tec", "memory", PIPELINE_DATA_DIRS=str(data_dir))
    assert disturbed == undisturbed


def test_damaged_and_vanished_inputs_are_named_and_made_anew(new_project, seasonal):
    project = new_project(seasonal)
    shutil.rmtree(project / f"{HOURLY}/last_day")
    for path in (SEASONAL, f"{HOURLY}/scenario.json"):
        (project / path).unlink()
    series = project / f"{HOURLY}/series.npy"
    status, whole = series.stat(), series.read_bytes()
    content = bytearray(whole)
    content[5000] ^= 1  # one bit, which numpy would read without a word
    series.write_bytes(content)
    os.utime(series, ns=(status.st_atime_ns, status.st_mtime_ns))
    code, text = project.call(SEASONAL)
    assert code == 1 and "Traceback" not in text, text
    log = (project / f"{HOURLY}/last_day/evaluate.failed.json").read_text()
    assert "series.npy is not what its stage wrote (damaged, or changed by hand); it is set aside as" in log
    assert (series.parent / ".damaged-series.npy").read_bytes() == bytes(content)
    assert not series.exists() or series.read_bytes() == whole  # the call for the others' table may have made it anew

    code, text = project.call(SEASONAL, **project.faults(evaluate__last_day=f"remove {series}"))
    assert code == 1, text
    failed = "".join(path.read_text() for path in (project / HOURLY).rglob("*.failed.json"))
    gone = "series.npy is gone since the workflow began" in failed  # else Snakemake has noticed first
    assert gone or re.search(r"Missing files after 5 seconds(.*\n)+?.*series\.npy", text), text
    project.repaired(SEASONAL)
    assert result(project / SEASONAL) == result(seasonal / SEASONAL)


@contextmanager
def storage(folder: Path, size: str) -> Iterator[object]:
    """A file system of this size at a folder, which can be mounted with other options: needs root."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_and_a_read_only_one_are_told_and_the_work_goes_on(new_project, seasonal):
    project = new_project(seasonal)
    project.edit("profiles/default/config.yaml", "logger: [mlflow]\n", "")  # its database would fill the disk first
    shutil.rmtree(project / "results")
    (project / "results").mkdir()
    with storage(project / "results", "400k") as remount:
        code, text = project.call(SEASONAL)
        assert code == 1, text
        assert "can't be written: No space left on device." in text and "MB are free there" in text, text
        assert not (project / SEASONAL).exists() and not parts(project)
        remount("size=400k,ro")
        code, text = project.call(SEASONAL)
        assert code == 1 and "Read-only file system" in text, text
        remount("size=50m,rw")
        project.repaired(SEASONAL)
        assert result(project / SEASONAL) == result(seasonal / SEASONAL)


def test_a_file_size_limit_is_told_like_a_full_disk(new_project, seasonal):
    """Where nothing can be mounted: a limit that the forecasts exceed (977 x 24 numbers are 188 kB)."""
    project = new_project(seasonal)
    shutil.rmtree(project / f"{HOURLY}/mean_day")
    for path in (SEASONAL, f"{HOURLY}/scenario.json"):
        (project / path).unlink()
    project.edit("profiles/default/config.yaml", "logger: [mlflow]\n", "")
    code, text = project.call(SEASONAL, limit_bytes=150_000)
    assert code == 1, text
    table = json.loads((project / SEASONAL).read_text())["scenarios"]["hourly"]["arms"]
    assert table["last_day"]["status"] == "done" and table["mean_day"]["status"] == "failed"
    told = (
        r"can't be written: (File too large|No space left on device)\. [\d,]+ MB are free there"  # numpy says neither
    )
    assert re.search(told, table["mean_day"]["message"]) and not parts(project)


def kill(record):
    """Kill the job that a running.json tells of; False where it is no longer there, whoever has its number now."""
    try:
        job = json.loads(record.read_text())
        if process_start(job["pid"]) != job["process_start"]:
            return False
        os.kill(job["pid"], signal.SIGKILL)
    except (OSError, ValueError, KeyError):
        return False
    return True


@long
@pytest.mark.parametrize("system", TREES)
def test_ten_random_kills(system, request, new_project):
    """Whatever job runs at a random moment is killed, ten times; the same command follows until it is through.

    Where it is through before the tenth kill, its results are thrown away and it begins anew.
    """
    fixture, table, *_ = TREES[system]
    finished = request.getfixturevalue(fixture)
    project, dice, kills, calls = new_project(finished), random.Random(0), 0, 0
    process = None
    while kills < 10 or process.returncode:
        if process is None or process.returncode == 0:
            for path in (project / "results/light").glob("*/*/*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            (project / table).unlink()
        process, calls = project.start(table), calls + 1
        assert calls <= 60, f"{kills} kills in {calls} calls"
        patience = time.monotonic() + dice.uniform(0, 12)
        while process.poll() is None:
            # os.walk passes over what a job moves away meanwhile; Path.glob does not.
            walk = os.walk(project / "results/light")
            running = [Path(at) / name for at, _, names in walk for name in names if name.endswith(".running.json")]
            if kills < 10 and running and time.monotonic() > patience and kill(dice.choice(running)):
                kills, patience = kills + 1, time.monotonic() + dice.uniform(0, 12)
            time.sleep(0.02)
        text = process.communicate()[0]
        if process.returncode == 0:
            assert result(project / table) == result(finished / table) and not parts(project), text
    assert kills == 10


@long
def test_a_zarr_chunk_gone_bad_is_found_before_anything_is_computed_from_it(new_project, finished):
    project = new_project(finished)
    scenario = project / "results/light/fsnet/nyc_weather/immediate"
    shutil.rmtree(scenario / "nomem/forecasts.zarr")
    table = TREES["fsnet"][1]
    for path in (project / table, scenario / "scenario.json"):
        path.unlink()
    chunk = max(
        (path for path in (scenario / "data.zarr").rglob("c/*") if path.is_file()), key=lambda p: p.stat().st_size
    )
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 0xFF
    chunk.write_bytes(content)
    code, text = project.call(table)
    assert code == 1, text
    assert "data.zarr is not what its stage wrote" in (scenario / "nomem/evaluate.failed.json").read_text()
    project.repaired(table)
    assert result(project / table) == result(finished / table)
