"""The profiles of schedulers that can't be had here: their commands are stand-ins that run what they are given.

Slurm is tested on a real one (`make test-slurm`).
"""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from pipeline.core.stages import Stage
from pipeline.registry import SYSTEMS, system

ROOT = Path(__file__).resolve().parents[2]
PREPARED = "results/light/fsnet/regimes/regimes/prepare.run.json"  # simulated: nothing to fetch, one job

# Each writes down how it was called. A submission runs at once, in the background, and leaves its exit code.
RUN = '(sh {script} > "$BATCH/$id.out" 2>&1; echo $? > "$BATCH/$id.code") < /dev/null &'
NUMBER = 'printf "%s\\n" "$*" >> "$BATCH/calls"; id=$(wc -l < "$BATCH/calls")'
PBS = {
    "qsub": f"""{NUMBER}
for script; do :; done
{RUN.format(script='"$script"')}
echo "$id.server"
""",
    # As PBS Pro answers `qstat -x -f <job>`.
    "qstat": """for id; do :; done
echo "Job Id: $id"
code="$BATCH/${id%.server}.code"
if [ -s "$code" ]; then
  printf '    job_state = F\\n    Exit_status = %s\\n' "$(cat "$code")"
else
  echo '    job_state = R'
fi
""",
    "qdel": "exit 0\n",
}
LSF = {
    "bsub": f"""{NUMBER}
for command; do :; done
printf '%s\\n' "$command" > "$BATCH/$id.sh"
{RUN.format(script='"$BATCH/$id.sh"')}
echo "Job <$id> is submitted to queue <short>."
""",
    "bjobs": """for sh in "$BATCH"/*.sh; do
  id=$(basename "$sh" .sh); state=RUN
  if [ -s "$BATCH/$id.code" ]; then [ "$(cat "$BATCH/$id.code")" = 0 ] && state=DONE || state=EXIT; fi
  echo "$id $state"
done
""",
    "bkill": "exit 0\n",
    "badmin": 'printf "header\\nLSB_SHAREDIR = %s\\nLSF_CONFDIR = %s\\n" "$BATCH" "$BATCH"\n',
    "lsclusters": 'printf "CLUSTER_NAME STATUS\\nbox ok\\n"\n',
    "bhist": "exit 1\n",
}


@pytest.fixture
def batch(tmp_path):
    """Makes a folder of stand-ins; returns the environment that finds them, and the folder."""

    def make(commands: dict[str, str]) -> tuple[dict[str, str], Path]:
        folder = tmp_path / "batch"
        folder.mkdir()
        for name, body in commands.items():
            (folder / name).write_text(f"#!/bin/sh\n{body}")
            (folder / name).chmod(0o755)
        params = folder / "lsbatch/box/configdir/lsb.params"
        params.parent.mkdir(parents=True)
        params.write_text("Begin Parameters\nDEFAULT_QUEUE = short\nEnd Parameters\n")
        return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "BATCH": str(folder)}, folder

    return make


def option(call: str, name: str) -> list[str]:
    words = shlex.split(call)
    return [words[place + 1] for place, word in enumerate(words) if word == name]


def test_the_pbs_profile_asks_for_what_the_rule_needs_and_sees_the_end_of_the_job(new_project, batch):
    environment, folder = batch(PBS)
    project = new_project()
    code, text = project.call(PREPARED, "--profile", "profiles/pbs", "--latency-wait", "5", **environment)
    assert code == 0, text
    (call,) = (folder / "calls").read_text().splitlines()
    assert option(call, "-l") == ["select=1:ncpus=1:mem=1000mb:ngpus=0", "walltime=300"]
    assert json.loads((project / PREPARED).read_text())["status"] == "done"


def test_the_lsf_profile_asks_for_what_the_rule_needs_and_sees_the_end_of_the_job(new_project, batch):
    environment, folder = batch(LSF)
    project = new_project()
    code, text = project.call(PREPARED, "--profile", "profiles/lsf", "--latency-wait", "5", **environment)
    assert code == 0, text
    (call,) = [line for line in (folder / "calls").read_text().splitlines() if line.startswith("-J")]
    assert option(call, "-W") == ["5"] and option(call, "-n") == ["1"] and option(call, "-q") == ["short"]
    assert "-R rusage[mem=1000.0] -R span[hosts=1]" in call
    assert json.loads((project / PREPARED).read_text())["status"] == "done"


@pytest.mark.parametrize(
    ("answers", "state"),
    [
        ("    job_state = Q", "running"),
        ("    job_state = R", "running"),
        ("    job_state = E", "running"),
        ("    job_state = F\n    Exit_status = 0", "success"),
        ("    job_state = F\n    Exit_status = 271", "failed"),  # killed by the scheduler
        ("    job_state = C\n    exit_status = 0", "success"),  # Torque
        ("    job_state = C\n    exit_status = 1", "failed"),
    ],
)
def test_the_state_of_a_pbs_job_is_read_from_what_pbs_pro_and_torque_say(tmp_path, answers, state):
    torque = "C\n" in answers
    first = "echo '<Data>'" if torque else f"printf '%s\\n' '{answers}'"
    body = f"#!/bin/sh\n[ \"$1\" = -x ] && {{ {first}; exit 0; }}\nprintf '%s\\n' '{answers}'\n"
    (tmp_path / "qstat").write_text(body)
    (tmp_path / "qstat").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    command = [ROOT / "profiles/pbs/status.sh", "1.server"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == state


def reads_the_device(stage: Stage) -> bool:
    return stage.torch and "job.device" in (ROOT / f"{stage.function.split(':')[0].replace('.', '/')}.py").read_text()


def test_a_gpu_is_asked_for_by_rules_that_compute_on_the_device_unless_it_is_cpu(new_project):
    project = new_project()
    targets = ("light", "results/light/smash_sampling.json")
    gpus = {}
    for device in ("auto", "cpu", "cuda"):
        code, text = project.call("-n", *targets, "--config", f"device={device}")
        assert code == 0, text
        found = re.findall(r"^rule (\w+):\n(?: {4}.*\n)*? {4}resources: (.*)$", text, re.M)
        gpus[device] = {rule for rule, resources in found if re.search(r"\bgpu=1\b", resources)}
    able = {
        f"{name}_{stage}" for name in SYSTEMS for stage, entry in system(name).STAGES.items() if reads_the_device(entry)
    }
    both = {f"{name}_{stage}" for name in SYSTEMS for stage in ("train", "evaluate")}
    assert able == both - {"smash_evaluate"}  # which draws on the processor
    assert gpus == {"auto": able, "cpu": set(), "cuda": able}
    lines = (ROOT / "profiles/lsf/config.yaml").read_text().splitlines()
    assert {line.split()[1].rstrip(":") for line in lines if "-gpu num=1" in line} == able


def cluster_rules() -> dict[str, str]:
    """Rule -> its body, of the rules that a cluster runs."""
    found = {}
    for path in sorted((ROOT / "workflow/rules").glob("*.smk")):
        for name, body in re.findall(r"^rule (\w+):\n((?:    .*\n|\n)+)", path.read_text(), re.M):
            if "localrule: True" not in body and "script:" in body:
                found[name] = body
    return found


def test_every_rule_that_a_cluster_runs_states_memory_time_and_threads_and_the_measurement_behind_them():
    for name, body in cluster_rules().items():
        assert re.search(r"mem_mb=growing(_with_world)?\(\d+\), *# measured: \d+ MB", body), name
        assert re.search(r"runtime=growing\(\d+\), *# minutes; measured: \d", body), name
        assert re.search(r"^    threads: 1$", body, re.M), name


# Their results are of minutes' size: no record of a full-size job of theirs stands in this repository's results yet.
MEASURED_LIGHT = {"smash_plot", "smash_sampling", "spin_plot", "spin_attention"}


def test_measurements_of_the_light_run_say_so():
    assert {name for name, body in cluster_rules().items() if "(light)" in body} == MEASURED_LIGHT


CHEAP = {f"{name}_{stage}" for name in SYSTEMS for stage in ("prepare", "compare")} | {"rstmrf_iri", "rstmrf_tec"}


@pytest.mark.parametrize("name", ["slurm", "lsf", "pbs", "kubernetes"])
def test_profiles_retry_and_put_jobs_of_seconds_of_every_system_four_to_a_submission(name):
    profile = yaml.safe_load((ROOT / "profiles" / name / "config.yaml").read_text())
    assert profile["retries"] >= 1 and profile["default-resources"]["mem_mb"] > 0
    assert profile["groups"] == {rule: rule for rule in CHEAP}
    assert profile["group-components"] == dict.fromkeys(CHEAP, 4)
    for rule in CHEAP:  # seconds: the measurement says so
        assert re.search(r"# minutes; measured: \d+ (CPU )?s\b", cluster_rules()[rule]), rule


def test_retries_stand_in_profiles_only():
    """In a rule they would count in the job's own Snakemake on the node as well: 3 x 3 attempts."""
    assert not [
        path for path in (ROOT / "workflow").rglob("*.smk") if re.search(r"^ +retries:", path.read_text(), re.M)
    ]
