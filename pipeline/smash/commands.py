"""SMASH by hand: fit a catalogue of events of your own, test the fit on its last windows, forecast what comes next."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.terminal import grid, number

if TYPE_CHECKING:
    from . import own, own_forecast

METRICS = ("log_likelihood", "log_likelihood_time", "log_likelihood_location", "crps_time", "energy_location", "pit_ks")
FEW = 5  # test windows below which an interval from them says little
SHOWN = {
    "log_likelihood": "joint",
    "log_likelihood_time": "time",
    "log_likelihood_location": "place",
    "log_likelihood_mark": "mark",
    "crps_time": "CRPS gap",
    "energy_location": "energy place",
    "pit_ks": "PIT KS",
}

FIT = """\
Fits marked space-time point processes to a table of events, one line an event, and tells how well they forecast
events that they have not seen.

How the table is treated
  time     time stamps (those without a zone are in --time-zone) or numbers in --unit; lines in order, or --sort
  places   columns that are called lon… and lat… are degrees and are projected to kilometres; else as --place says
  marks    --mark with --mark-bins: classes of a size (4,5: below 4, 4 to 5, 5 and above); without: labels 0, 1, 2, …
  windows  of --window; every window starts without knowledge of what came before it
  split    by time: the first windows are fitted, the next (--val-share) choose, the last (--test-share) test
  --exact  a small network that starts at ETAS and corrects it; the better of the two on the choosing windows is used

Scores are log-likelihoods per event (nats, higher is better), the CRPS of the gap and the energy score of the place
(lower is better), and the distance of the PIT from uniform. Nothing is written if anything is wrong."""

FIT_EXAMPLES = """\
examples:
  python -m pipeline smash fit my_catalogue.csv --time time --x lon --y lat --mark mag --mark-bins 4,5 --out model/
  python -m pipeline smash fit my.csv --x lon --y lat --mark mag --mark-bins 4 --min-mark auto --exact --out m2/
  python -m pipeline smash fit calls.csv --time hour --unit h --x east --y north --place km --mark kind --out calls/"""

FORECAST = """\
Forecasts from a fitted model: when and where the next event comes, and how many come in the next day (--span).

Without FILE the forecast starts at the end of the fitted table; FILE has the same columns, and holds the new events
alone or everything so far. Written into --out:
  next_event.csv   quantiles of the time of the next event
  density.csv      density of its place on a grid, the cells' probabilities, probabilities of its mark there
  map.png          the same as a map
  numbers.csv      law of the number of events in the span
  catalogues.csv   simulated catalogues of the span, as CSEP reads them
  forecast.json    all of it in brief"""

FORECAST_EXAMPLES = """\
examples:
  python -m pipeline smash forecast model/ --out forecast/
  python -m pipeline smash forecast model/ new_events.csv --at 2026-03-01T00:00:00Z --span 7 --out week/"""


def _bins(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: bounds are numbers with commas between, e.g. 4,5") from None


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _share(text: str) -> float:
    value = _positive(text)
    if value >= 0.5:
        raise argparse.ArgumentTypeError(f"{text!r}: a share below 0.5")
    return value


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add SMASH's commands to the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    summary = "fit an event catalogue (CSV or Parquet) of your own and test the fit on its last windows"
    one = subparsers.add_parser("fit", help=summary, description=FIT, epilog=FIT_EXAMPLES, formatter_class=raw)
    one.add_argument("path", metavar="FILE", type=Path, help="CSV or Parquet, one line an event")
    one.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="the model; must not exist yet")
    one.add_argument("--time", metavar="COLUMN", default="time", help="default: time")
    one.add_argument("--x", metavar="COLUMN", default="longitude", help="default: longitude")
    one.add_argument("--y", metavar="COLUMN", default="latitude", help="default: latitude")
    one.add_argument("--mark", metavar="COLUMN", help="size (with --mark-bins) or label 0, 1, 2, … (default: no marks)")
    one.add_argument("--mark-bins", metavar="A,B", type=_bins, default=(), help="bounds of the classes, e.g. 4,5")
    one.add_argument("--min-mark", dest="min_magnitude", metavar="SIZE", help="drop smaller events; auto: estimated")
    one.add_argument("--unit", choices=("s", "min", "h", "day"), default="day", help="unit of time (default: day)")
    one.add_argument("--place", metavar="UNIT", help="deg, km or another unit of the places (default: by the columns)")
    one.add_argument("--window", type=_positive, metavar="LENGTH", help="of a window (default: some 60 events)")
    one.add_argument("--stride", type=_positive, metavar="LENGTH", help="between windows (default: they don't overlap)")
    one.add_argument("--time-zone", metavar="ZONE", default="UTC", help="of time stamps without one (default: UTC)")
    one.add_argument("--val-share", type=_share, default=0.15, help="windows that choose (default: 0.15)")
    one.add_argument("--test-share", type=_share, default=0.15, help="windows that test (default: 0.15)")
    one.add_argument("--sort", action="store_true", help="sort the lines by time")
    one.add_argument("--exact", action="store_true", help="train the network that corrects ETAS, too")
    one.add_argument(
        "--budget", type=_positive, default=120.0, metavar="SECONDS", help="of its training (default: 120)"
    )
    one.set_defaults(run=fit)

    summary = "when and where the next event comes, and how many come in the next day"
    text = dict(help=summary, description=FORECAST, epilog=FORECAST_EXAMPLES, formatter_class=raw)
    one = subparsers.add_parser("forecast", **text)
    one.add_argument("model", metavar="MODEL", type=Path, help="folder that fit wrote")
    one.add_argument("path", metavar="FILE", type=Path, nargs="?", help="new events, columns as in the fitted table")
    one.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="the forecast; must not exist yet")
    one.add_argument("--at", metavar="TIME", help="time of the forecast (default: the last event)")
    one.add_argument("--span", type=_positive, metavar="LENGTH", help="how far ahead to count (default: one day)")
    one.add_argument("--catalogues", type=int, default=1000, metavar="N", help="to simulate (default: 1000)")
    one.set_defaults(run=forecast)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _request(kind: type, args: argparse.Namespace):  # noqa: ANN202
    return kind(**{name: getattr(args, name) for name in kind.__dataclass_fields__})


def fit(args: argparse.Namespace) -> None:
    """Run ``smash fit``."""
    from . import own

    report_fit(own.fit(_request(own.Request, args), _say), args)


def forecast(args: argparse.Namespace) -> None:
    """Run ``smash forecast``."""
    from ..core.errors import PipelineError
    from . import own_forecast

    if not 1 <= args.catalogues <= 100_000:
        raise PipelineError(f"--catalogues {args.catalogues}: 1 to 100,000")
    report_forecast(own_forecast.forecast(_request(own_forecast.Request, args), _say), args)


def report_fit(outcome: own.Outcome, args: argparse.Namespace) -> None:
    """Print what was held out, the scores, and what the chosen method gains."""
    facts, targets = outcome.facts, outcome.facts["targets"]
    units = facts["units"]
    print(
        f"{args.path}: {sum(facts['distinct'].values()):,} events in {facts['period']} of {facts['window']:g} "
        f"{units['time']} (fit / choice / test)"
    )
    if facts.get("min_magnitude") is not None:
        print(f"events below {facts['min_magnitude']:g} are left out")
    print(f"\nScores of {targets['test']:,} events of the test windows, which no fit and no choice has seen")
    columns = [name for name in SHOWN if any(name in one for one in outcome.metrics.values())]
    ranked = sorted(outcome.metrics, key=lambda name: -outcome.metrics[name]["log_likelihood"])
    rows = [(name, *(number(outcome.metrics[name].get(c)) for c in columns)) for name in ranked]
    print(grid(("method", *(SHOWN[c] for c in columns)), rows))
    print(f"nats an event (1/{units['time']}, 1/{units['place']}²); CRPS [{units['time']}]; energy [{units['place']}]")
    why = ", the better of ETAS and the network on the choosing windows" if "smash_exact" in outcome.metrics else ""
    print(f"\nForecasts will be made by {outcome.chosen}{why}. On the test windows it is")
    for name, gain in outcome.gains.items():
        if gain:
            low, high = gain["ci95"]
            verdict = "better" if low > 0 else "worse" if high < 0 else "no clear difference"
            verdict = verdict if gain["windows"] >= FEW else f"{gain['windows']} windows are too few to tell"
            print(f"  against {name}: {gain['difference']:+.4f} [{low:+.4f}, {high:+.4f}] nats an event, {verdict}")
    print(*(f"  {note}" for note in outcome.notes), sep="\n", end="\n" if outcome.notes else "")
    print(f"\n{args.out}: the model; python -m pipeline smash forecast {args.out} --out FOLDER")


def report_forecast(outcome: own_forecast.Outcome, args: argparse.Namespace) -> None:
    """Print the law of the next event, the number to come, and what was written."""
    print(f"Forecast by {outcome.method} from {outcome.now}, {outcome.known} events known in the window")
    print(*(f"  {note}" for note in outcome.notes), sep="\n", end="\n" if outcome.notes else "")
    print("\nThe next event")
    rows = [(f"{level:.3g}", number(wait), time) for level, wait, time in outcome.wait]
    print(grid(("probability before", f"wait [{outcome.unit}]", "time"), rows))
    if len(outcome.marks) > 1:
        print("mark: " + ", ".join(f"{name} {p:.1%}" for name, p in outcome.marks.items()))
    rows = [(f"{one['x']:.4f}", f"{one['y']:.4f}", number(one["density"])) for one in outcome.places]
    print("\nDensest cells of the map")
    print(grid(("x", "y", "density"), rows))
    n = outcome.numbers
    low, high = n["interval95"]
    print(
        f"\nNext {n['span']:g} {outcome.unit}, by ETAS ({n['catalogues']:,} simulated catalogues): {n['mean']:.2f} "
        f"events, 95 % {low:.0f} to {high:.0f}; none with probability {n['none']:.1%}"
    )
    for name, one in n["by_mark"].items():
        print(f"  {name}: {one['expected']:.3f} expected, at least one with probability {one['at_least_one']:.1%}")
    print(f"\n{args.out}: next_event.csv, density.csv, map.png, numbers.csv, catalogues.csv, forecast.json")
