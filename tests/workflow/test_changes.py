"""What a change reruns, counted in dry runs for every system: one arm, one module, one seed, one data file.

Two scenarios a system, each with a data file of its own; what changes belongs to the first, and the second must stay
as it is. More of FSNet's is in test_dag.py.
"""

import json
from typing import NamedTuple

import pytest

# R-STMRF takes no file of another name than the catalogue's: its data lie in the cache, as if fetched.
CACHED = {"cosmic2": "cosmic", "code_gim": "gim"}

OWN = {"fsnet": "target: x", "spin": "kind: traffic", "smash": "kind: points"}  # how a file of one's own is described


class Tree(NamedTuple):
    """The two scenarios of a system, and what changes in the first.

    arms: of the first scenario, and whose weights each takes. other: the second one's arm. change: one arm's settings.
    follow: arms that are trained anew for it. module: one that only the baselines import. after: arms that start
    from what the baselines fitted.
    """

    arms: dict[str, str]
    other: str
    baseline: str
    metric: str
    arm: str = ""
    change: dict = {}
    follow: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


TREES = {
    "fsnet": Tree({"nomem": "nomem", "fsnet_memory": "nomem"}, "ogd", "persistence", "mse"),
    "spin": Tree(
        {"base": "base", "distilled": "distilled", "mild": "mild"},
        "mild",
        "linear",
        "mae",
        arm="base",
        change={"network": {"hidden": 16}},
        follow=("base", "distilled"),  # which learns from it
    ),
    "smash": Tree(
        {"smash": "smash", "smash_upstream": "smash", "smash_exact": "smash_exact"},
        "smash_corrected",
        "etas",
        "log_likelihood",
        arm="smash_exact",
        change={"exact": {"hidden": 8}},
        follow=("smash_exact",),
        after=("smash_exact",),
    ),
    "rstmrf": Tree(
        {"corrected": "corrected", "assimilate_no_tec": "assimilate_no_tec"},
        "corrected",
        "iri",
        "rmse_withheld",
        arm="assimilate_no_tec",
        change={"fields": {"degree": 3}},
        follow=("assimilate_no_tec",),
    ),
}


def table(system):
    return f"results/light/{system}_own.json"


def data(project, system, scenario):
    """The file that a scenario's data stage reads."""
    if system == "rstmrf":
        folder = next(name for name, held in CACHED.items() if held == scenario)
        return next(path for path in sorted((project / "data/raw" / folder).iterdir()) if path.suffix != ".log")
    return project / f"{scenario}_{system}.csv"


def scenarios(system):
    return tuple(CACHED.values()) if system == "rstmrf" else ("mine", "yours")


@pytest.fixture
def run(new_project, pretended_with):
    """The project after the four tables."""

    def make_ready(project):
        own, choices = [], {}
        for system, tree in TREES.items():
            entries = {}
            for scenario, arms in zip(scenarios(system), (list(tree.arms), [tree.other]), strict=True):
                dataset = f"{scenario}_{system}"
                if system == "rstmrf":
                    dataset = next(name for name, held in CACHED.items() if held == scenario)
                    choices[dataset] = cached(dataset)
                else:
                    (project / f"{dataset}.csv").write_text("time,x\n0,1\n")
                    own.append(f"{dataset}: {{ path: {dataset}.csv, {OWN[system]} }}")
                entries[scenario] = {
                    "description": "a file of its own",
                    "datasets": [dataset],
                    "primary": {"metric": tree.metric, "unit": "1"},
                    "seeds": [0],
                    "arms": arms,
                    "baselines": [tree.baseline],
                    "compare": [],
                }
            project.configure(system, scenarios=entries, tables={"own": list(entries)})
        project.edit("config.yaml", "data: {} #", f"data: {{ {', '.join(own)} }} #")
        (project / "data").mkdir()
        record = {"schema": "choices/1", "choices": choices}
        (project / "data/choices.json").write_text(json.dumps(record))

    return new_project(pretended_with("own", make_ready, *map(table, TREES)))


def cached(dataset):
    from pipeline.core.catalog import load_catalog

    files = [f"data/raw/{dataset}/{file.name}" for file in load_catalog()[dataset].files]
    fields = {"name": dataset, "requested": dataset, "source": "cache", "files": files}
    return fields | {"sha256": None, "licence": "none", "notes": []}


def expected(system, scenario, *stages, trained=(), evaluated=()):
    """The jobs: stages of a scenario, arms that are trained and evaluated, and the table."""
    found = {(f"{system}_{stage}", scenario, None) for stage in stages}
    found |= {(f"{system}_train", scenario, arm) for arm in trained}
    found |= {(f"{system}_evaluate", scenario, arm) for arm in evaluated}
    return found | {(f"{system}_ablation", None, None)}


@pytest.mark.parametrize("system", list(TREES)[1:])
def test_an_arm_a_module_and_a_seed_rerun_exactly_what_depends_on_them(system, run):
    tree, (mine, yours) = TREES[system], scenarios(system)
    light = (run / "config/light.yaml").read_text()
    run.configure(system, arms={tree.arm: {"settings": tree.change}})
    assert run.plan(table(system)) == expected(system, mine, "compare", trained=tree.follow, evaluated=tree.follow)

    (run / "config/light.yaml").write_text(light)
    run.configure(system, scenarios={mine: {"seeds": [0, 1]}})
    plan = run.plan(table(system))
    assert plan == expected(system, mine, "compare", trained=set(tree.arms.values()), evaluated=tree.arms)

    (run / "config/light.yaml").write_text(light)
    module = run / f"pipeline/{system}/run_baselines.py"
    module.write_text(module.read_text() + "\n# edited\n")
    plan = run.plan(table(system))
    again = expected(system, mine, "baselines", "compare", trained=tree.after, evaluated=tree.after)
    assert plan == again | expected(system, yours, "baselines", "compare")


@pytest.mark.parametrize("system", TREES)
def test_a_changed_data_file_reruns_the_scenario_that_reads_it_alone(system, run):
    tree, (mine, _) = TREES[system], scenarios(system)
    path = data(run, system, mine)
    path.write_text(path.read_text() + "1,2\n")
    stages, trained = ("prepare", "baselines", "compare"), set(tree.arms.values())
    plan = run.plan(*map(table, TREES))
    assert plan == expected(system, mine, *stages, trained=trained, evaluated=tree.arms)
