"""SPIN by hand: fill the gaps of your own sensors' data, and look into a trained network's attention."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.terminal import grid, number

if TYPE_CHECKING:
    from .own import Outcome

METRICS = ("mae", "mae_no_line", "mse", "crps", "coverage90")  # what `compare` shows first

IMPUTE = """\
Fills the missing cells of a table of sensors, with intervals. A network is trained on your rows (within --seconds of
CPU time): known cells are hidden again as your gaps are, and it learns to correct a cheap imputer. What is printed of
errors and coverage comes from known cells that training never saw.

How the files are read
  data          wide: a time column and one column a sensor; long: time, node (sensor, station, id, ...) and one column
                a channel; NetCDF: variables over (time, node). Times in order, one step between rows (rows that are
                left out count as missing); a sensor without any value is an error
  --graph       edges (source, target, optional weight and type), places (node, lat, lon or node, x, y), lanes (JSON);
                every name must be one of the data. Without it sensors are linked by correlation
  --out         the data with all gaps filled: wide for one channel, else one row a time and node, and `*_filled`;
                beside it `<out>.cells.csv`: every filled cell with value, lower, upper and the length of its gap
  --places      coordinates of all sensors (node, lat, lon or node, x, y). Sensors are then known by their place, so
                that series of places without a sensor can be imputed (--virtual), now or later (--model). Some sensors
                are held out: the error at places that the network has never seen is measured on them
  --model       a file to keep the model in; if it stands, it is used on the new rows without training. It holds the
                rows that it was trained on"""

EXAMPLES = """\
examples:
  python -m pipeline spin impute my.csv --graph edges.csv --out filled.csv
  python -m pipeline spin impute my.csv --graph places.csv --out filled.csv --model city.safetensors --seconds 120
  python -m pipeline spin impute tomorrow.csv --out tomorrow_filled.csv --model city.safetensors       no training
  python -m pipeline spin impute my.csv --places places.csv --virtual new1,new2 --out filled.csv
  python -m pipeline spin impute my.nc --out filled.nc --method spin --graph edges.csv --hide outage"""

VOICES = ("network", "straight line", "boosting")
ATTENTION = """\
Writes a trained SPIN arm's attention (Zarr), its pictures, an interactive page (one HTML file that needs no network),
statistics and the test of faithfulness. Choose what the pictures show by node, edge, layer, sample and step."""

ATTENTION_EXAMPLES = """\
examples:
  python -m pipeline spin attention results/spin/metr_la_week/metr_la_point/spin --out attention/
  python -m pipeline spin attention results/spin/sumo_city/sumo/spin --out a/ --node A0B0_0 --layer 3 --sample 1
  python -m pipeline spin attention results/spin/sumo_city/sumo/spin --out a/ --edge A0B0_0,B0C0_0 --step 5 --top 10"""


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add SPIN's commands to the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    one = subparsers.add_parser(
        "impute",
        help="fill the gaps of a CSV, Parquet or NetCDF file of your own, with intervals",
        description=IMPUTE,
        epilog=EXAMPLES,
        formatter_class=raw,
    )
    one.add_argument("path", metavar="FILE", type=Path, help="CSV, Parquet or NetCDF")
    one.add_argument("--out", metavar="FILE", type=Path, required=True, help="filled data: .csv, .parquet or .nc")
    one.add_argument("--graph", metavar="FILE", type=Path, help="edges, places, lanes or adjacency")
    one.add_argument("--model", metavar="FILE", type=Path, help="model to use, or to train and keep (.safetensors)")
    one.add_argument("--places", metavar="FILE", type=Path, help="coordinates, for sensors that have no values")
    one.add_argument(
        "--virtual",
        metavar="SENSOR,...",
        type=lambda text: tuple(filter(None, (name.strip() for name in text.split(",")))),
        default=(),
        help="places without values whose series are imputed (all: every one in --places)",
    )
    one.add_argument("--method", choices=("residual", "spin"), help="default: residual; with --places spin")
    bases = ("linear", "kriging", "mice", "boosting")
    one.add_argument("--base", choices=bases, help="what residual corrects (default: boosting; kriging with --model)")
    one.add_argument("--seconds", type=float, default=60.0, help="CPU seconds of training (default: 60)")
    one.add_argument("--level", type=float, default=0.9, help="of the intervals (default: 0.9)")
    one.add_argument(
        "--hide",
        choices=("auto", "point", "block", "outage", "replay"),
        default="auto",
        help="pattern of the held-out cells (auto: your own gaps, moved in time)",
    )
    one.add_argument("--channels", nargs="+", metavar="COLUMN", default=(), help="columns to fill (default: all)")
    one.add_argument("--zero-missing", action="store_true", help="zeros stand for missing values")
    one.add_argument("--seed", type=int, default=0)
    one.set_defaults(run=impute)

    two = subparsers.add_parser(
        "attention",
        help="store, draw and test the attention of a trained SPIN arm",
        description=ATTENTION,
        epilog=ATTENTION_EXAMPLES,
        formatter_class=raw,
    )
    two.add_argument("arm", metavar="ARM", type=Path, help="folder of a trained arm (weights.safetensors)")
    two.add_argument("--data", metavar="ZARR", type=Path, help="data.zarr (default: beside the arm's folder)")
    two.add_argument("--out", metavar="FOLDER", type=Path, required=True)
    two.add_argument("--seed", type=int, help="member (default: the first)")
    two.add_argument("--node", help="node of the heat maps (default: the one with most incoming edges)")
    two.add_argument("--edge", metavar="SOURCE,TARGET", help="edge of the heat maps besides the node's own")
    two.add_argument("--layer", type=int, help="layer, 1 to L (default: all, and the last one for the top edges)")
    two.add_argument("--sample", type=int, default=1, help="window, from 1 (default: 1)")
    two.add_argument("--step", type=int, help="target step of the top edges, from 1 (default: the middle one)")
    two.add_argument("--top", type=int, default=20, help="edges shown (default: 20)")
    two.add_argument("--samples", type=int, help="windows that are stored (default: 4)")
    two.set_defaults(run=attention)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def impute(args: argparse.Namespace) -> None:
    """Run ``spin impute``."""
    from .own import Request, run

    fields = {name: getattr(args, name) for name in Request.__dataclass_fields__} | {"channels": tuple(args.channels)}
    report(run(Request(**fields), _say), args)


def report(outcome: Outcome, args: argparse.Namespace) -> None:
    """Print what was read, how good the filling is to be expected, and what was written."""
    cube, fitted = outcome.cube, outcome.fitted
    rows, nodes, channels = cube.shape
    print(f"{args.path}: {rows:,} rows, {nodes} sensors, {channels} channel{'s' * (channels > 1)}")
    print(*(f"  {note}" for note in outcome.notes), sep="\n", end="\n" if outcome.notes else "")
    how = "trained now" if outcome.trained else f"{args.model}, used as it is"
    print(f"{len(outcome.filled):,} of {cube.value.size:,} cells were missing and are filled (model: {how})")
    best = {name: min(v[name] for v in fitted.scores.values()) for name in fitted.cube.channels}
    if fitted.weight is not None:
        for name, shares in zip(best, fitted.weight, strict=True):
            said = ", ".join(f"{w:.0%} {what}" for what, w in zip(VOICES, shares, strict=True) if w)
            print(f"  {name}: {said} (weights chosen on other held-out cells)")
    table = [
        (method, *(number(v[name]) + (" *" if v[name] == best[name] else "") for name in best))
        for method, v in fitted.scores.items()
    ]
    when = "" if outcome.trained else " of the training"
    print(f"\nMean absolute error on held-out cells{when} (* lowest)")
    print(grid(("method", *best), table))
    print(f"{fitted.coverage:.1%} of the held-out cells lay within their {fitted.level:.0%} intervals")
    ahead = [name for name in best if fitted.scores["this model"][name] > best[name]]
    if ahead:
        print(f"A baseline is better than this model for {', '.join(ahead)}: give it more --seconds, or another --base")
    if fitted.virtual is not None:
        unseen(outcome)
    if not outcome.trained and args.level != fitted.level:
        print(f"The model's intervals are those of its training, {fitted.level:.0%}; --level is not looked at")
    print("\nwritten: " + ", ".join(str(path) for path in outcome.files))


def unseen(outcome: Outcome) -> None:
    """Print what is to be expected of sensors that the network has never seen."""
    fitted, cube = outcome.fitted, outcome.cube
    found, known = fitted.virtual, fitted.cube.nodes
    new, voices = cube.nodes[len(known) :], list(found.scores)[1:]
    if new:
        shown = ", ".join(new[:5]) + (", …" if len(new) > 5 else "")
        print(f"\nimputed at {len(new)} place{'s' * (len(new) > 1)} that training never saw: {shown}")
        for name, shares in zip(cube.channels, found.weight, strict=True):
            print(f"  {name}: " + ", ".join(f"{w:.0%} {what}" for what, w in zip(voices, shares, strict=True) if w))
    best = {name: min(v[name] for v in found.scores.values()) for name in cube.channels}
    rows = [
        (method, *(number(v[name]) + (" *" if v[name] == best[name] else "") for name in best))
        for method, v in found.scores.items()
    ]
    print(f"\nMean absolute error at {len(found.held)} held-out sensors that training never saw (* lowest)")
    print(grid(("method", *best), rows))
    if found.coverage is None:
        print(f"{len(found.held)} held-out sensors are too few for intervals: there are none at unseen sensors")
    else:
        print(f"{found.coverage:.1%} of their values lay within the {fitted.level:.0%} intervals that the others give")


def attention(args: argparse.Namespace) -> None:
    """Run ``spin attention``."""
    from .attention_stage import by_hand

    for path in by_hand(args, _say):
        print(path)
