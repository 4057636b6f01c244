"""The DAG in dry runs: what is planned, and what a change reruns."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TABLE = "results/light/fsnet_ablation.json"


@pytest.fixture
def workdir(tmp_path):
    """A copy of the project without results, so that edits of modules and configuration are possible."""
    for name in ("Snakefile", "config.yaml", "config", "workflow", "pipeline", "profiles", "envs"):
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    (tmp_path / "profiles/default/config.yaml").unlink()  # no tracking of these runs
    return tmp_path


def snakemake(workdir, *arguments):
    """Output of a Snakemake call on the copy (its own `pipeline` first on the path)."""
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
        cwd=workdir,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(workdir), "PATH": "/usr/bin:/bin", "HOME": str(workdir)},
    )
    return done.returncode, done.stdout + done.stderr


def planned(workdir, *arguments):
    """Rule -> number of jobs that a dry run plans, and the arms that are streamed."""
    code, text = snakemake(workdir, "-n", *arguments)
    assert code == 0, text
    stats = re.search(r"Job stats:\n.*?\n-.*?\n(.*?)\ntotal", text, re.S)
    counts = {line.split()[0]: int(line.split()[1]) for line in stats.group(1).splitlines()} if stats else {}
    arms = set(re.findall(r"rule fsnet_evaluate:.*?wildcards: .*?arm=(\w+)", text, re.S))
    return counts, arms


def touch_all(workdir, target):
    """Create every output of the target empty, with Snakemake's records, as a finished run leaves them."""
    code, text = snakemake(workdir, "-n", target)
    assert code == 0, text
    script = workdir / "workflow/scripts/run_stage.py"
    real = script.read_text()
    script.write_text(
        "from pathlib import Path\n"
        "for path in snakemake.output:\n"
        "    path = Path(path)\n"
        "    path.parent.mkdir(parents=True, exist_ok=True)\n"
        "    path.mkdir() if path.suffix == '.zarr' else path.write_text('{}')\n"
    )
    code, text = snakemake(workdir, target)
    script.write_text(real)
    assert code == 0, text


def edit(path, before, after):
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


def test_the_light_table_plans_every_arm_of_the_configuration(workdir):
    config = yaml.safe_load((workdir / "config.yaml").read_text())["fsnet"]
    counts, arms = planned(workdir, TABLE)
    scenarios = [config["scenarios"][name] for name in config["tables"]["ablation"]]
    assert counts["fsnet_evaluate"] == sum(len(s["arms"]) for s in scenarios)
    assert arms == {arm for s in scenarios for arm in s["arms"]}
    assert counts["fsnet_compare"] == len(scenarios) and counts["fsnet_ablation"] == 1


def test_an_arm_added_in_the_configuration_becomes_a_target(workdir):
    edit(
        workdir / "config.yaml",
        "    ogd: {}\n",
        "    ogd: {}\n    ogd_fast: { settings: { online: { lr: 1.0e-3 } } }\n",
    )
    edit(workdir / "config.yaml", "        - ogd\n", "        - ogd\n        - ogd_fast\n")
    _, arms = planned(workdir, TABLE)
    assert "ogd_fast" in arms


def test_a_start_from_arm_is_not_trained_again(workdir):
    code, text = snakemake(workdir, "-n", TABLE)
    trained = set(re.findall(r"rule fsnet_train:.*?wildcards: .*?arm=(\w+)", text, re.S))
    assert "ogd" in trained and not trained & {"er", "derpp", "fsnet_upstream", "fsnet_paper"}


def test_both_roots_are_targets_of_one_snakefile(workdir):
    for target in ("results/fsnet_ablation.json", TABLE):
        counts, _ = planned(workdir, target)
        assert counts["fsnet_ablation"] == 1


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("hidden: 64 #", "hiden: 64 #", r"settings.network.hiden: unknown key"),
        (
            "    ogd: {}\n",
            "    ogd: { settings: { online: { lr: -1.0 } } }\n",
            r"online.lr: .*greater than or equal to 0",
        ),
        ("datasets: [etth1, nyc_weather]", "datasets: [etth7]", r"etth7"),
        ("        - ogd\n", "        - odg\n", r"'odg' is not defined; known: .*ogd"),
    ],
)
def test_a_wrong_configuration_is_one_clear_error(workdir, before, after, message):
    edit(workdir / "config.yaml", before, after)
    code, text = snakemake(workdir, "-n", TABLE)
    assert code != 0 and re.search(message, text), text
    assert "Traceback" not in text


def test_what_a_change_reruns(workdir):
    touch_all(workdir, TABLE)
    assert planned(workdir, TABLE)[0] == {}

    # an arm's own setting: that arm and what needs it
    original = (workdir / "config.yaml").read_text()
    edit(
        workdir / "config.yaml",
        "er: { start_from: ogd, settings: { online: { replay: { size: 500 } } } }",
        "er: { start_from: ogd, settings: { online: { replay: { size: 400 } } } }",
    )
    counts, arms = planned(workdir, TABLE)
    assert (
        arms == {"er"}
        and counts == {"fsnet_evaluate": 2, "fsnet_compare": 2, "fsnet_ablation": 1, "total": 5}
        or counts == {"fsnet_evaluate": 2, "fsnet_compare": 2, "fsnet_ablation": 1}
    )
    (workdir / "config.yaml").write_text(original)

    # a module: the stages that import it, and what follows from them
    edit(workdir / "pipeline/fsnet/run_baselines.py", '"""All baselines', '"""All the baselines')
    counts, arms = planned(workdir, TABLE)
    assert counts["fsnet_baselines"] == 3 and "fsnet_train" not in counts and arms == {"fsnet_aggregate"}


def test_figures_never_retrain(workdir):
    target = "results/light/fsnet/figures/ablation"
    touch_all(workdir, target)
    edit(workdir / "pipeline/fsnet/figures.py", '"""', '"""\n')
    counts, _ = planned(workdir, target)
    assert set(counts) == {"fsnet_plot"}
