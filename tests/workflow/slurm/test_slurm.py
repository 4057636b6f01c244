"""The workflow on a real Slurm of one node: through the profile, with a killed job, against a local run."""

import json
import os
import re
import signal
import sqlite3
from pathlib import Path

import pytest

TARGETS = ("results/light/fsnet_ablation.json", "results/light/fsnet/figures/ablation")
# The cluster has two cores; and who tests doesn't want to wait as long as one asks a busy cluster.
QUICK = (
    *("--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2"),
    *("--slurm-status-command", "squeue", "--latency-wait", "20"),
    *("--group-components", "fsnet_prepare=2", "fsnet_compare=2"),
)
SMALL = {
    "settings": {
        "data": {"test_rows": 200},
        "network": {"hidden": 8, "depth": 6, "representation": 16, "controller": 8},
        "pretrain": {"epochs": 1},
    },
    "scenarios": {
        "delayed": {
            "seeds": [0, 1],
            "arms": ["nomem", "fsnet_memory"],
            "baselines": ["persistence", "rls"],
            "compare": [["nomem", "fsnet_memory"]],
        },
        "immediate": {"arms": ["nomem"], "baselines": ["persistence"], "compare": [["nomem", "persistence"]]},
    },
    "tables": {"ablation": ["delayed", "immediate"]},
}
VICTIM = "results/light/fsnet/nyc_weather/delayed/nomem"


@pytest.fixture(scope="module")
def asked(box, tmp_path_factory) -> Path:
    """A folder with `sbatch` before the cluster's own: it writes down with which arguments it was called."""
    folder = tmp_path_factory.mktemp("asked")
    real = box.environment()["PATH"].split(os.pathsep)[0]
    script = f'#!/bin/sh\nprintf "%s\\n" "$*" >> {folder}/calls\nexec {real}/sbatch "$@"\n'
    (folder / "sbatch").write_text(script)
    (folder / "sbatch").chmod(0o755)
    return folder


def small(project):
    project.configure(**SMALL)
    return project


def equal_part(value):
    """What two equal results agree in: all but costs, times and versions."""
    if isinstance(value, dict):
        return {k: equal_part(v) for k, v in value.items() if k not in ("cost", "produced", "software")}
    return [equal_part(item) for item in value] if isinstance(value, list) else value


def tracked(project) -> list[tuple[str, str, int]]:
    """Of each run of the tracker: name, status, number of metric values."""
    query = """SELECT name, status, count(key) FROM runs LEFT JOIN metrics USING (run_uuid)
               WHERE lifecycle_stage = 'active' GROUP BY run_uuid ORDER BY name, start_time"""
    with sqlite3.connect(f"file:{project / 'results/mlflow.db'}?mode=ro", uri=True) as connection:
        return sorted(connection.execute(query).fetchall())


def test_the_profile_runs_the_workflow_retries_a_killed_job_with_more_memory_and_gives_equal_results(
    box, asked, new_project, wait_until
):
    project = small(new_project(tracked=True))
    path = {"PATH": f"{asked}{os.pathsep}{box.environment()['PATH']}"}
    call = (*TARGETS, "--profile", "profiles/slurm", "--config", "device=cpu", *QUICK)
    process = project.start(*call, **path)

    running = project / f"{VICTIM}/train.running.json"
    wait_until(lambda: running.exists() or process.poll() is not None, "the job trains")
    assert process.poll() is None, process.communicate()[0]
    os.kill(json.loads(running.read_text())["pid"], signal.SIGKILL)  # as the kernel does when memory runs out
    text = process.communicate(timeout=400)[0]
    assert process.returncode == 0, text

    requests: dict[str, list[tuple[int, int]]] = {}
    calls = (asked / "calls").read_text().splitlines()
    for one in calls:
        job, minutes, memory = re.search(r"--comment rule_(\S+) .*? -t (\d+) --mem (\d+) ", one).groups()
        requests.setdefault(job.replace("wildcards_results_light_nyc_weather_", ""), []).append(
            (int(memory), int(minutes))
        )
    assert requests == {  # MB and minutes of each submission; two prepare and two compare jobs go in one each
        "fsnet_prepare_fsnet_prepare": [(2 * 1000, 5)],
        "fsnet_baselines_delayed": [(1500, 60)],
        "fsnet_baselines_immediate": [(1500, 60)],
        "fsnet_train_delayed_nomem": [(2000, 30), (4000, 60)],
        "fsnet_train_immediate_nomem": [(2000, 30)],
        "fsnet_evaluate_delayed_nomem": [(1500, 120)],
        "fsnet_evaluate_delayed_fsnet_memory": [(1500, 120)],
        "fsnet_evaluate_immediate_nomem": [(1500, 120)],
        "fsnet_compare_fsnet_compare": [(2 * 1000, 10)],
        "fsnet_plot_wildcards_results_light_ablation": [(1500, 10)],
    }
    assert not any("--gpus" in one for one in calls), "device is cpu"

    local = small(new_project(tracked=True))
    code, text = local.call(*TARGETS)
    assert code == 0, text
    tables = [json.loads((one / TARGETS[0]).read_text()) for one in (project, local)]
    assert equal_part(tables[0]) == equal_part(tables[1])
    for name in ("delayed/nomem", "delayed/fsnet_memory", "immediate/nomem"):
        place = f"results/light/fsnet/nyc_weather/{name}/evaluate.run.json"
        records = [json.loads((one / place).read_text()) for one in (project, local)]
        for record in records:
            assert record["metrics"].pop("ms_per_step") > 0
        assert records[0]["metrics"] == records[1]["metrics"] and records[0]["key"] == records[1]["key"]
    figures = [sorted(path.name for path in (one / TARGETS[1]).iterdir()) for one in (project, local)]
    assert figures[0] == figures[1] and figures[0]
    # The submitting process has written the tracker; on the node nobody could: no run has another writer.
    assert tracked(project) == tracked(local) and {status for _, status, _ in tracked(project)} == {"FINISHED"}
    hosts = "SELECT DISTINCT value FROM tags WHERE key = 'tracker.pid'"
    with sqlite3.connect(f"file:{project / 'results/mlflow.db'}?mode=ro", uri=True) as connection:
        assert connection.execute(hosts).fetchall() == [(str(process.pid),)]


CITY = "results/light/spin_ablation.json"


def simulated(project, small_city):
    """SPIN's table of a small simulated city: a network, the arm that corrects a line, and its mean with boosting."""
    scenario = {
        "seeds": [0],
        "arms": ["spin", "spin_residual", "spin_stack"],
        "baselines": ["linear", "boosting_bag"],
        "compare": [["spin_stack", "boosting_bag"]],
    }
    project.configure("spin", **small_city | {"scenarios": {"sumo": scenario}})
    return project


def test_a_simulated_city_and_arms_that_wait_for_others_give_the_same_table_on_the_cluster(
    box, asked, new_project, small_city
):
    before = len((asked / "calls").read_text().splitlines()) if (asked / "calls").exists() else 0
    project = simulated(new_project(), small_city)
    path = {"PATH": f"{asked}{os.pathsep}{box.environment()['PATH']}"}
    code, text = project.call(CITY, "--profile", "profiles/slurm", "--config", "device=cpu", *QUICK[:-3], **path)
    assert code == 0, text
    calls = (asked / "calls").read_text().splitlines()[before:]
    jobs = [re.search(r"--comment rule_(\S+) ", one).group(1) for one in calls]
    assert len(jobs) == 8 and sum("spin_evaluate" in job for job in jobs) == 3  # the stack trains nothing
    assert not any("--gpus" in one for one in calls), "device is cpu"

    local = simulated(new_project(), small_city)
    code, text = local.call(CITY)
    assert code == 0, text
    tables = [json.loads((one / CITY).read_text()) for one in (project, local)]
    assert equal_part(tables[0]) == equal_part(tables[1])


# qsub, qstat and qdel in front of Slurm: the profile for PBS, unchanged, on a scheduler that really queues and kills.
PBS = {
    "qsub": """printf '%s\\n' "$*" >> {calls}
memory=$(printf '%s' "$*" | sed -n 's/.*:mem=\\([0-9]*\\)mb.*/\\1/p')
seconds=$(printf '%s' "$*" | sed -n 's/.*walltime=\\([0-9]*\\).*/\\1/p')
for script; do :; done
exec sbatch --parsable --mem "$memory" -t "$((seconds / 60))" -o .snakemake/%j.out "$script"
""",
    "qstat": """for id; do :; done
state=$(scontrol -o show job "$id" | sed -n 's/.* JobState=\\([A-Z]*\\).*/\\1/p')
case "$state" in
  COMPLETED) printf '    job_state = F\\n    Exit_status = 0\\n' ;;
  PENDING|CONFIGURING) echo '    job_state = Q' ;;
  RUNNING|COMPLETING) echo '    job_state = R' ;;
  *) printf '    job_state = F\\n    Exit_status = 1\\n' ;;
esac
""",
    "qdel": 'exec scancel "$@"\n',
}


def test_cluster_generic_submits_sees_a_killed_job_and_retries_it_with_more_memory(
    box, new_project, wait_until, tmp_path
):
    for name, body in PBS.items():
        (tmp_path / name).write_text("#!/bin/sh\n" + body.replace("{calls}", str(tmp_path / "calls")))
        (tmp_path / name).chmod(0o755)
    project = small(new_project())
    path = {"PATH": f"{tmp_path}{os.pathsep}{box.environment()['PATH']}"}
    trained = f"{VICTIM}/train.run.json"
    options = ("--profile", "profiles/pbs", "--config", "device=cpu", "--latency-wait", "20")
    process = project.start(trained, *options, **path)
    running = project / f"{VICTIM}/train.running.json"
    wait_until(lambda: running.exists() or process.poll() is not None, "the job trains")
    assert process.poll() is None, process.communicate()[0]
    os.kill(json.loads(running.read_text())["pid"], signal.SIGKILL)
    text = process.communicate(timeout=300)[0]
    assert process.returncode == 0, text
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [re.search(r":mem=(\d+)mb:ngpus=(\d)", one).groups() for one in calls] == [
        ("1000", "0"),  # prepare
        ("2000", "0"),
        ("4000", "0"),
    ]
    assert json.loads((project / trained).read_text())["status"] == "done"


def test_a_gpu_is_asked_for_where_a_rule_can_use_one(asked, box, new_project):
    """The node has none, so Slurm refuses the submission: what was asked is seen, and the refusal is told."""
    project = small(new_project())
    before = len((asked / "calls").read_text().splitlines()) if (asked / "calls").exists() else 0
    path = {"PATH": f"{asked}{os.pathsep}{box.environment()['PATH']}"}
    data = "results/light/fsnet/nyc_weather/delayed/data.zarr"
    assert project.call(data)[0] == 0  # here, not on the cluster
    target = f"{VICTIM}/train.run.json"
    code, text = project.call(target, "--profile", "profiles/slurm", "--retries", "0", *QUICK[:-3], **path)
    assert code == 1 and "sbatch: error" in text, text
    calls = (asked / "calls").read_text().splitlines()[before:]
    assert len(calls) == 1 and re.search(r"--gpus=1\b", calls[0])
