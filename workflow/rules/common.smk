"""The plan, and the functions that look wildcards up in it."""

import fcntl
import sys
from pathlib import Path

from pipeline.core.catalog import load_catalog
from pipeline.core.choices import CACHE
from pipeline.core.config import difference, merge, parse_yaml
from pipeline.core.errors import PipelineError
from pipeline.core.partial import Losses
from pipeline.core.plan import Plan
from pipeline.registry import SYSTEMS, system as load_system
from snakemake.exceptions import WorkflowError


def drop_dead_locks():
    """Remove the locks that a killed Snakemake has left in this folder; returns the file that must stay open.

    Snakemake's locks don't say whose they are. Here every main process holds one file open and shared, which the
    kernel lets go however the process ends: whoever gets it for himself alone knows that all locks are dead.
    """
    folder = Path(".snakemake")
    folder.mkdir(exist_ok=True)
    alive = (folder / "alive").open("w")
    try:
        fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for lock in (folder / "locks").glob("*.lock"):
            lock.unlink(missing_ok=True)
    except BlockingIOError:
        pass  # another Snakemake lives: its locks stand, and Snakemake says so if the two would collide
    except OSError:
        return alive  # a file system without such locks: `snakemake --unlock`, as ever
    fcntl.flock(alive, fcntl.LOCK_SH)
    return alive


if workflow.is_main_process:  # dry runs, too: which they are is not known yet
    alive = drop_dead_locks()


def make_plan():
    """The validated plan; a wrong configuration stops here with its message."""
    base, light = (
        parse_yaml(Path(workflow.source_path(f"../../{name}")).read_text())
        for name in ("config.yaml", "config/light.yaml")
    )
    asked = {key: value for key, value in config.items() if key != "partial"}  # see partial.smk
    light = merge(light, difference(asked, base))  # what the user sets holds for the light root, too
    try:
        return Plan(
            merge(base, asked),  # as a module of another workflow, `config` may hold what that one changes, alone
            {"results": {}, "results/light": light},
            {name: load_system(name) for name in SYSTEMS},
            load_catalog(
                workflow.source_path("../../config/datasets.yaml"),
                config.get("data") or {},
            ),
            Losses.of(config.get("partial")),
        )
    except PipelineError as error:
        raise WorkflowError(str(error)) from None


plan = make_plan()


wildcard_constraints:
    root="results(/light)?",
    dataset="[a-z][a-z0-9_]*",
    scenario="[a-z][a-z0-9_]*",
    arm="[a-z][a-z0-9_]*",
    table="(?!sweep_)[a-z][a-z0-9_]*",  # the tables of sweeps come from sweep.smk


def plainly(function):
    """Input and params functions end the start with the one clear error; Snakemake would add a traceback."""

    def asked(wc):
        try:
            return function(wc)
        except PipelineError as error:
            sys.exit(f"{type(error).__name__}: {error}")

    return asked


def mode():
    """How data sets are decided in this process, see Plan.choice."""
    if not workflow.is_main_process:
        return "job"
    return "dry" if workflow.dryrun else "real"


def settings(system, stage):
    """Params function: the leaf that a stage reads, of an arm or of a scenario."""
    return lambda wc: plan.leaf(stage, system, wc.root, wc.scenario, getattr(wc, "arm", None))


def scenario(system, key):
    """Params function: one entry of the scenario."""
    return lambda wc: getattr(plan.system(wc.root, system).scenario(wc.scenario), key)


def sources(paths):
    """Files of the project as inputs: relative where they lie in the folder of the call. Never in a remote store."""
    here = Path.cwd()
    return [local(str(path.relative_to(here) if path.is_relative_to(here) else path)) for path in paths]


def code(system, stage):
    """Source files of a stage, as inputs: editing one reruns the stages that import it."""
    return sources(plan.code(system, stage))


def growing(amount):
    """Resource: more at each attempt, for a job that a cluster has killed for it. Only profiles have `retries`."""
    return lambda wc, attempt: amount * attempt


def gpu(system, stage):
    """Resource: one GPU for a stage that can use it, unless `device` is cpu. Without a cluster it binds nothing."""
    return int(plan.stages[system][stage].torch and plan.config.device != "cpu")


def source(system):
    """Params function: the data set really used, with licence and digest."""
    return lambda wc: plan.catalog.describe(plan.choice(system, wc.root, wc.scenario, mode()))


def scenario_files(system, name):
    """Input function: one file of each scenario of a table whose data can be had."""

    def files(wc):
        had, _ = plan.available(system, wc.root, wc.table, mode())
        return [f"{wc.root}/{system}/{choice.name}/{scenario}/{name}" for scenario, choice in had.items()]

    return plainly(files)


def arm_files(system, name):
    """Input function: one file of each arm of a scenario."""
    return lambda wc: [
        f"{wc.root}/{system}/{wc.dataset}/{wc.scenario}/{arm}/{name}"
        for arm in plan.system(wc.root, system).scenario(wc.scenario).arms
    ]


def unavailable(system):
    """Params function: scenarios of a table that are left out, with the reason."""
    return lambda wc: plan.available(system, wc.root, wc.table, mode())[1]


def failed(system):
    """Params function: arms of a table that have failed; the table states them. Empty but in a second call."""
    return lambda wc: plan.failed(system, wc.root, wc.table)


def standing(root):
    """Systems of whose table failed jobs have left anything: all but in a second call."""
    return [name for name in SYSTEMS if plan.stands(name, root, "ablation")]


def tables(root):
    return [f"{root}/{name}_ablation.json" for name in standing(root)]


def figures(root):
    return [f"{root}/{name}/figures/ablation" for name in standing(root)]


def analyses(root):
    return [f"{root}/{name}_ablation_analysis.md" for name in standing(root)]
