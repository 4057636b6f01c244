"""The command line: ``python -m pipeline …``; systems add commands of their own (``pipeline.<system>.commands``).

Whatever is heavy is imported inside the functions that need it, so that ``--help`` and usage errors come at once.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from .core.errors import ConfigError, DataError, PipelineError
from .core.home import HOME as PROJECT
from .registry import SYSTEMS, system

EXAMPLES = """examples:
  python -m pipeline data                                decide which data are used, fetch and record them
  python -m pipeline compare fsnet                       the table of results/fsnet_ablation.json
  python -m pipeline fsnet forecast my.csv --target OT --horizon 12 --out forecasts.csv
  python -m pipeline <command> --help                    all options of a command, with examples

Results are made by the workflow: snakemake --cores 4 results/fsnet_ablation.json"""


def module(name: str, part: str) -> ModuleType | None:
    """Module ``part`` of a system's package, None where the system has none."""
    path = f"{SYSTEMS[name].rpartition('.')[0]}.{part}"
    return importlib.import_module(path) if importlib.util.find_spec(path) else None


def read_config(overlays: Sequence[Path] = ()) -> dict[str, Any]:
    """``config.yaml`` with other files merged over it, as ``snakemake --configfile`` does.

    Raises
    ------
    ConfigError
        A file that is missing, or is not a YAML mapping.
    """
    from .core.config import merge, read_yaml

    config: dict[str, Any] = {}
    for path in (PROJECT / "config.yaml", *overlays):
        content = read_yaml(path)
        if not isinstance(content, dict):
            raise ConfigError(f"{path} must map names to values, got {type(content).__name__}")
        config = merge(config, content)
    return config


def load_plan(config: dict[str, Any]) -> Any:
    """The workflow's plan for this configuration: validated, for ``results`` and ``results/light``."""
    from .core.catalog import load_catalog
    from .core.config import read_yaml
    from .core.plan import Plan

    light = read_yaml(PROJECT / "config" / "light.yaml")
    catalog = load_catalog(PROJECT / "config" / "datasets.yaml", config.get("data") or {})
    return Plan(config, {"results": {}, "results/light": light}, {name: system(name) for name in SYSTEMS}, catalog)


def wanted(plan: Any, names: Sequence[str]) -> dict[tuple[str, ...], list[str]]:
    """Preference lists of data sets, each with the scenarios that have it, over all roots of the workflow."""
    lists: dict[tuple[str, ...], list[str]] = {}
    for root, sections in plan.roots.items():
        for name in names:
            for scenario_name, scenario in sections[name].section.scenarios.items():
                key = tuple(scenario.datasets if scenario.replaceable else scenario.datasets[:1])
                users = lists.setdefault(key, [])
                if f"{name}.{scenario_name}" not in users:
                    users.append(f"{name}.{scenario_name}" + (" (light)" if root != "results" else ""))
    return lists


def data(args: argparse.Namespace) -> None:
    """Decide, fetch and record the data of all scenarios; or fetch one data set of the catalogue."""
    from .core.catalog import CACHE, load_catalog
    from .core.choices import RECORD, data_folders, resolve
    from .core.fetch import Reachable, fetch
    from .core.terminal import grid

    if args.fetch:
        entry = load_catalog(PROJECT / "config" / "datasets.yaml")[args.fetch]
        print(*fetch(entry, CACHE / entry.name), sep="\n")
        return
    plan = load_plan(read_config(args.configfile))
    strict, reachable = plan.config.strict_data, Reachable()
    rows, remarks, missing = [], [], []
    for preferences, users in wanted(plan, args.systems or list(SYSTEMS)).items():
        where = ", ".join(users[:3]) + (f" and {len(users) - 3} more" if len(users) > 3 else "")
        common = dict(record=RECORD, folders=data_folders(), cache=CACHE, strict=strict, reachable=reachable)
        try:
            choice = resolve(plan.catalog, preferences, refresh=args.refresh, **common)
            if choice.fetched:
                fetch(plan.catalog[choice.name], CACHE / choice.name)
                if choice.sha256 is None:  # nobody has published a digest: record that of what has arrived
                    choice = resolve(plan.catalog, preferences, refresh=True, **common)
        except DataError as error:
            missing.append(preferences[0])
            rows.append((preferences[0], "can't be had", "", where))
            remarks.append(str(error))
            continue
        instead = "" if choice.name == choice.requested else f" IN PLACE OF {choice.requested}"
        rows.append((choice.name + instead, choice.source, (choice.sha256 or "")[:12], where))
        remarks += [f"{choice.name}: {note}" for note in choice.notes]
    print(grid(("data set used", "source", "SHA-256", "scenarios"), rows))
    if remarks:
        print("", *dict.fromkeys(remarks), sep="\n")
    print(f"\nRecorded in {RECORD}; jobs use what stands there. --refresh decides anew.")
    if missing and (strict or len(missing) == len(rows)):
        raise DataError(f"{', '.join(missing)} can't be had; see above" + " (strict_data is on)" * strict)


def sync(args: argparse.Namespace) -> None:
    """Log to the tracker what it has missed."""
    from snakemake_logger_plugin_mlflow.store import TrackerUnavailable
    from snakemake_logger_plugin_mlflow.sync import sync as replay

    if not args.root.is_dir():
        raise PipelineError(f"{args.root} is no folder: there are no results to log yet (--root names another one)")
    try:
        outcome = replay(args.root, args.uri)
    except TrackerUnavailable as error:
        raise PipelineError(
            f"The tracker can't be reached ({error}). Nothing is lost; sync again when it is up."
        ) from None
    print(f"{outcome.uri}: {len(outcome.logged)} runs logged, {outcome.present} were there already", end="")
    print(f", {outcome.swept} left open by a kill are closed" if outcome.swept else "")
    if outcome.refused:
        raise PipelineError("\n".join(f"{path} was refused: {why}" for path, why in outcome.refused.items()))


def schema(args: argparse.Namespace) -> None:
    """Write the JSON schema of config.yaml."""
    from .core.schema import PATH, write

    path = args.out or PROJECT / PATH
    write({name: system(name).Settings for name in SYSTEMS}, path)
    print(path)


def bench(args: argparse.Namespace) -> None:
    """Measure the systems and write the report."""
    from .core.bench import run, start

    parts = {name: module(name, "bench") for name in args.systems or SYSTEMS}
    measures = {name: part.measure for name, part in parts.items() if part}
    if not args.systems and Path("Snakefile").is_file():
        measures["workflow"] = lambda: start(list(SYSTEMS))
    if not measures:
        raise PipelineError(f"no benchmarks for {', '.join(parts)}")
    run(measures, args.out)
    print(f"\nWritten to {args.out}")


def graph(args: argparse.Namespace) -> None:
    """Draw the job graph that is read from the standard input."""
    from .core.graph import write

    print(*write(sys.stdin.read(), args.out, list(SYSTEMS)), sep="\n")


def compare(args: argparse.Namespace) -> None:
    """Print a results file."""
    from .core.store import read_json
    from .core.terminal import results

    path = args.root / f"{args.system}_{args.table}.json"
    if not path.exists():
        raise DataError(f"{path} does not exist; make it: snakemake --cores 4 {path.as_posix()}")
    table = read_json(path)
    if not isinstance(table, dict) or table.get("schema") != "ablation/1":
        raise DataError(f"{path} is not a results table of schema ablation/1")
    if args.scenario:
        unknown = [name for name in args.scenario if name not in table["scenarios"]]
        if unknown:
            raise DataError(f"{path} has no scenario {', '.join(unknown)}; it has {', '.join(table['scenarios'])}")
        table = {**table, "scenarios": {name: table["scenarios"][name] for name in args.scenario}, "unavailable": {}}
    order = args.metrics or getattr(module(args.system, "commands"), "METRICS", ())
    print(results(table, order, width=shutil.get_terminal_size((120, 40)).columns))


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="Data, results, benchmarks and forecasts by hand, beside the workflow.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(metavar="command", required=True)

    def add(run: Any, summary: str, examples: str = "") -> argparse.ArgumentParser:
        one = commands.add_parser(
            run.__name__,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=examples and f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        one.set_defaults(run=run)
        return one

    names = {"nargs": "*", "metavar": "SYSTEM", "type": _system, "help": f"only these: {', '.join(SYSTEMS)}"}
    one = add(
        data,
        "decide which data sets are used, fetch them, and record both",
        "  python -m pipeline data\n"
        "  python -m pipeline data --refresh fsnet          decide anew, for one system\n"
        "  python -m pipeline data --fetch etth1            one data set into data/raw/etth1\n"
        "  PIPELINE_DATA_DIRS=/my/data python -m pipeline data",
    )
    one.add_argument("systems", **names)
    one.add_argument("--refresh", action="store_true", help="decide anew what is recorded already")
    one.add_argument("--fetch", metavar="NAME", help="fetch this data set of the catalogue into data/raw/NAME, no more")
    one.add_argument(
        "--configfile",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="merged over config.yaml; repeatable",
    )

    one = add(
        sync, "log to the tracker what it has missed", "  MLFLOW_TRACKING_URI=http://host:5000 python -m pipeline sync"
    )
    one.add_argument("--root", type=Path, default=Path("results"), help="folder of the results (default: results)")
    one.add_argument("--uri", help="the tracker (default: MLFLOW_TRACKING_URI, else sqlite:///<root>/mlflow.db)")

    one = add(schema, "write the JSON schema of config.yaml")
    one.add_argument("--out", type=Path, metavar="FILE", help="default: workflow/schemas/config.schema.json")

    one = add(bench, "time the systems on one thread, beside their plain counterparts and published figures")
    one.add_argument("systems", **names)
    one.add_argument("--out", type=Path, metavar="FILE", default=Path("results/benchmarks.json"), help="the report")

    one = add(
        graph,
        "draw the rules and the jobs of the workflow, without Graphviz",
        "  snakemake --dag dot results/fsnet_ablation.json | python -m pipeline graph --out graph",
    )
    one.add_argument("--out", type=Path, metavar="FOLDER", default=Path("results/graph"), help="default: results/graph")

    one = add(
        compare,
        "print a results table: arms and baselines, best first, and their paired comparisons",
        "  python -m pipeline compare fsnet\n"
        "  python -m pipeline compare fsnet --table datasets --scenario delayed_wth_h12\n"
        "  python -m pipeline compare fsnet --root results/light --metrics mse mae coverage90",
    )
    one.add_argument("system", metavar="SYSTEM", type=_system, help=", ".join(SYSTEMS))
    one.add_argument("--table", default="ablation", help="results/SYSTEM_TABLE.json (default: ablation)")
    one.add_argument("--root", type=Path, default=Path("results"), help="results or results/light")
    one.add_argument("--scenario", nargs="+", metavar="NAME", help="only these")
    one.add_argument("--metrics", nargs="+", metavar="NAME", help="shown first, after the primary one")

    for name in SYSTEMS:
        if part := module(name, "commands"):
            own = commands.add_parser(name, help=part.__doc__.splitlines()[0])
            part.add(own.add_subparsers(metavar="command", required=True))
    return top


def _system(name: str) -> str:
    if name not in SYSTEMS:
        raise argparse.ArgumentTypeError(f"there is no system {name!r}; there are {', '.join(SYSTEMS)}")
    return name


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it has worked, 1 with one message on an error, 2 on wrong usage (by argparse)."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # as in the workflow's jobs: the matrices are small; before numpy loads
    args = parser().parse_args(arguments)
    try:
        args.run(args)
        sys.stdout.flush()
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, `head` say, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0
