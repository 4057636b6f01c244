"""FSNet by hand: forecast a series of your own with the linear experts that the deep arms are measured against."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.terminal import grid, number

if TYPE_CHECKING:
    from .own import Outcome

METRICS = ("mse", "skill", "mae", "rmse", "wape", "coverage90", "mape_z")  # what `compare` shows first
SHOWN = 24  # rows of the latest forecast in the terminal
LABELS = {"forecast": "this forecast", "seasonal_naive": "seasonal naive"}

FORECAST = """\
Streams a CSV or Parquet file row by row through an online aggregation of linear experts. The forecast from a row has
learnt from that row and those before it, never from later ones, so the errors that are printed are honest.

How the file is treated
  time stamps     one column, in order, one step between rows; duplicates and irregular ones are errors
  missing values  rows or cells; runs of up to --gap take the last value before them, longer ones are an error
  scaling         by the mean and standard deviation of the first --warmup rows; forecasts start at the last of them
  other columns   are not looked at unless --exog or --columns makes them inputs
  --state         rows that the state has seen are recognised by their time stamp, compared with what it remembers
                  (at least the last 500), and skipped; the file may hold the new rows alone, or everything so far
  --out           one row a forecast: origin (last row seen), time, horizon, forecast, lower, upper; a run that goes on
                  from a state adds its own below"""

EXAMPLES = """\
examples:
  python -m pipeline fsnet forecast my.csv --target OT --horizon 12 --out forecasts.csv --state state.npz
  python -m pipeline fsnet forecast tomorrow.csv --out forecasts.csv --state state.npz        go on with new rows
  python -m pipeline fsnet forecast my.parquet --target load --horizon 24 --columns temperature wind --level 0.8
  python -m pipeline fsnet forecast my.csv --target y --horizon 6 --time Zeit --time-format "%d.%m.%Y %H:%M" --gap 3"""


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add FSNet's commands to the command line."""
    one = subparsers.add_parser(
        "forecast",
        help="forecast a CSV or Parquet file of your own, with intervals, and go on with tomorrow's rows",
        description=FORECAST,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    one.add_argument("path", metavar="FILE", type=Path, help="CSV or Parquet")
    one.add_argument("--target", metavar="COLUMN", help="column to forecast (a state knows it)")
    one.add_argument("--horizon", metavar="ROWS", type=int, help="rows ahead, 1 to 512 (a state knows it)")
    one.add_argument("--level", type=float, help="of the intervals (default: 0.9)")
    one.add_argument("--columns", nargs="+", metavar="COLUMN", default=(), help="further columns that serve as inputs")
    one.add_argument("--exog", action="store_true", help="every other numeric column serves as an input")
    one.add_argument("--time", metavar="COLUMN", help="time column (default: date, datetime, time, timestamp or ds)")
    one.add_argument("--time-format", metavar="FORMAT", help="form of the time column, e.g. '%%m/%%d/%%Y %%H:%%M'")
    one.add_argument("--step", help="time between rows: 1h, 15min, 1D (default: the commonest one)")
    one.add_argument("--gap", metavar="ROWS", type=int, help="longest run of missing rows to fill (default: 0)")
    one.add_argument(
        "--warmup", metavar="ROWS", type=int, help="rows to scale by (default: 14 days, at least 200 rows)"
    )
    one.add_argument("--out", metavar="FILE", type=Path, help="forecasts from every row, .csv or .parquet")
    one.add_argument("--state", metavar="FILE", type=Path, help="file to go on from, and to save to (.npz)")
    one.set_defaults(run=forecast)


def forecast(args: argparse.Namespace) -> None:
    """Run ``fsnet forecast``."""
    from ..core.errors import PipelineError
    from ..core.progress import Progress
    from .own import Request, run

    if args.gap is not None and args.gap < 0:
        raise PipelineError(f"--gap {args.gap}: a number of rows, 0 or more")
    fields = {name: getattr(args, name) for name in Request.__dataclass_fields__} | {"columns": tuple(args.columns)}
    bar: list[Progress] = []

    def progress(done: int, total: int) -> None:
        if not bar:
            bar.append(Progress(total, "rows", write=_say, bar=sys.stderr.isatty()))
        bar[0].update(done)
        if done == total:
            bar[0].close()

    report(run(Request(**fields), progress), args)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def report(outcome: Outcome, args: argparse.Namespace) -> None:
    """Print the latest forecast, the running errors and what was written."""
    one = outcome.forecaster
    setup = one.setup
    known = f", {outcome.known_rows:,} known before" if outcome.known_rows else ""
    print(
        f"{args.path}: {outcome.new_rows:,} new rows{known}; {one.seen:,} seen, {_time(one.start)} to {_time(one.last)}"
    )
    print(*(f"  {note}" for note in outcome.notes), sep="\n", end="\n" if outcome.notes else "")
    inputs = f" and {', '.join(setup.others)}" if setup.others else ""
    print(f"{setup.target} from its own past{inputs}; a row every {setup.step_s:g} s, season {setup.season} rows")
    print(
        f"scaled by the first {setup.warmup:,} rows: mean {number(float(one.mean[0]))}, sd {number(float(one.sd[0]))}"
    )

    latest = one.latest()
    rows = [
        (_time(time), *(number(float(v)) if v == v else "" for v in values))
        for time, *values in zip(*(latest[name] for name in ("time", "forecast", "lower", "upper")), strict=True)
    ]
    print(f"\nForecast of {setup.target} after {_time(one.last)}, {setup.level:.0%} intervals")
    print(grid(("time", "forecast", "lower", "upper"), rows[:SHOWN]))
    if len(rows) > SHOWN:
        print(f"… {len(rows) - SHOWN} more" + (f" in {args.out}" if outcome.written else " (--out writes them all)"))

    scores = one.scores()
    if scores:
        table = [
            (LABELS.get(name, name), number(s["rmse"]), number(s["mae"]), number(s["ratio"]))
            for name, s in scores.items()
        ]
        print(
            f"\nErrors so far: {one.errors.count:,} forecasts of {setup.horizon} rows, in the units of {setup.target}"
        )
        print(grid(("method", "RMSE", "MAE", "MSE / persistence"), table))
    if coverage := one.coverage():
        share, width = coverage
        print(f"{share:.1%} of the rows lay within their {setup.level:.0%} intervals (mean width {number(width)})")
    if outcome.written:
        print(f"\n{args.out}: {outcome.written:,} forecasts")
    if args.state and outcome.new_rows:
        print(f"{args.state}: state after {_time(one.last)}")


def _time(value: object) -> str:
    return str(value)[:19].replace("T", " ")
