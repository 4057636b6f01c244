"""R-STMRF by hand: reconstruct the electron density of days of your own, and ask the reconstruction."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.terminal import grid, number

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("skill", "skill_sampled", "skill_unsampled", "rmse", "rmse_hmf2_km", "rmse_fof2_mhz", "coverage90")
STEPS = (2.5, 5.0, 7.5, 10.0, 15.0)  # degrees that divide the circle and reach both poles
LISTED = 12  # files left out that the terminal shows

RECONSTRUCT = """\
Fits profiles and TEC maps by the analysis `assimilate` on a background of PyIRI, and writes log10 of electron density
on (time, alt, lat, lon) hourly with its standard deviation and a flag of which data reach a column.

How files are treated
  profiles        COSMIC ionPrf and igaPrf, FY-3 text (YYYYMMDD_HHMM in the name), CSV or Parquet tables
  units           as the file states; where it states none, m-3, and el/cm3 where a peak can be nothing else (noted)
  longitudes      0..360 are turned to -180..180; levels are sorted; fill values are dropped; all of it is noted
  TEC             IONEX (plain, .gz, .Z), NetCDF or Zarr on one regular grid
  outside TEC     hours more than 4 h from any map rest on the profiles alone; files outside the period are left out
  left out        OUT.left_out.csv lists every file or profile that was not used, with the reason"""

RECONSTRUCT_EXAMPLES = """\
examples:
  python -m pipeline rstmrf reconstruct --profiles ionprf --tec ionex --out ne.zarr
  python -m pipeline rstmrf reconstruct --profiles fy3 --unit cm-3 --from 2024-05-10 --to 2024-05-12 --out ne.nc"""

QUERY_EXAMPLES = """\
examples (answers are CSV on the standard output, or in --out):
  python -m pipeline rstmrf query ne.zarr --time 2024-05-08T20:30 --lat 10 --lon 120 --alt 300
  python -m pipeline rstmrf query ne.zarr --time 2024-05-08T20:30 --lat 10 --lon 120 --profile
  python -m pipeline rstmrf query ne.zarr --time 2024-05-08T20:30 --lat 10 --lon 120 --fof2 --hmf2 --tec vertical
  python -m pipeline rstmrf query ne.zarr --time 2024-05-08T20:30 --lat 10 --lon 120 \
      --tec slant --azimuth 90 --elevation 30
  python -m pipeline rstmrf query ne.zarr --time 2024-05-08T20:30 --map --hmf2 --out hmf2.csv
  python -m pipeline rstmrf query ne.zarr --points orbit.csv         columns time, lat, lon, alt
  python -m pipeline rstmrf query ne.zarr --ionosondes sondes.csv    columns time, lat, lon, fof2 (MHz), hmf2 (km)"""


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add R-STMRF's commands to the command line."""
    form = argparse.RawDescriptionHelpFormatter
    one = subparsers.add_parser(
        "reconstruct",
        help="electron density of days of your own, from profiles and TEC maps",
        description=RECONSTRUCT,
        epilog=RECONSTRUCT_EXAMPLES,
        formatter_class=form,
    )
    one.add_argument("--profiles", metavar="DIR", type=Path, help="folder (or file) of profiles")
    one.add_argument("--tec", metavar="DIR", type=Path, help="folder (or file) of TEC maps")
    one.add_argument("--out", metavar="FILE", type=Path, required=True, help="ne.zarr or ne.nc")
    one.add_argument("--from", dest="first", metavar="DAY", type=_day, help="first day (default: of the profiles)")
    one.add_argument("--to", dest="last", metavar="DAY", type=_day, help="last day")
    one.add_argument(
        "--unit", choices=("auto", "m-3", "cm-3"), default="auto", help="of densities in files that state none"
    )
    one.add_argument(
        "--start", metavar="TIME", type=_time, help="time from which the hours of tables count, where they have hours"
    )
    one.add_argument(
        "--alt", nargs=3, type=float, metavar=("LOW", "HIGH", "STEP"), default=(100, 600, 20), help="km (100 600 20)"
    )
    one.add_argument("--step", type=float, default=5.0, help="degrees between nodes: 2.5, 5 (default), 7.5, 10 or 15")
    one.add_argument(
        "--beyond",
        choices=("error", "flag"),
        default="error",
        help="days whose F10.7 was not observed yet: an error, or predictions, flagged in OUT (`space_weather`)",
    )
    one.add_argument("--force", action="store_true", help="replace OUT")
    one.set_defaults(run=reconstruct)

    one = subparsers.add_parser(
        "query",
        help="points, profiles, maps, vertical and slant TEC, foF2 and hmF2 of a reconstruction",
        description="Answers from the analytic profile of the stored parameters, interpolated in time and place.",
        epilog=QUERY_EXAMPLES,
        formatter_class=form,
    )
    one.add_argument("path", metavar="FILE", type=Path, help="what `reconstruct` wrote")
    one.add_argument("--time", nargs="+", metavar="TIME", help="UTC, 2024-05-08T20:30")
    one.add_argument("--lat", type=float, help="degrees north")
    one.add_argument("--lon", type=float, help="degrees east, -180..180 or 0..360")
    one.add_argument("--alt", nargs="+", type=float, metavar="KM", help="density at these altitudes")
    one.add_argument("--profile", action="store_true", help="density at the file's levels")
    one.add_argument("--map", action="store_true", help="on all nodes instead of one place")
    one.add_argument("--fof2", action="store_true", help="critical frequency [MHz]")
    one.add_argument("--hmf2", action="store_true", help="height of the peak [km]")
    one.add_argument("--tec", choices=("vertical", "slant"), help="electron content [TECU]")
    one.add_argument(
        "--between", nargs=2, type=float, metavar=("LOW", "HIGH"), default=(90, 2000), help="km, of --tec (90 2000)"
    )
    one.add_argument("--azimuth", type=float, help="of --tec slant, degrees clockwise from north")
    one.add_argument("--elevation", type=float, help="of --tec slant, degrees above the horizon")
    one.add_argument("--iri", action="store_true", help="IRI's values beside")
    one.add_argument("--points", type=Path, metavar="CSV", help="density at the rows of a table")
    one.add_argument("--ionosondes", type=Path, metavar="CSV", help="compare with measured foF2 and hmF2")
    one.add_argument("--out", type=Path, metavar="CSV", help="default: standard output")
    one.set_defaults(run=query)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day; write 2024-05-08") from None


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 2024-05-08T20:30") from None
    return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def reconstruct(args: argparse.Namespace) -> None:
    """Run ``rstmrf reconstruct``."""
    import csv

    import numpy as np

    from ..core.errors import PipelineError
    from . import own
    from .reconstruct import analysed, write

    low, high, step = args.alt
    if step <= 0 or high <= low or args.step not in STEPS:
        raise PipelineError(
            f"--alt {low:g} {high:g} {step:g}, --step {args.step:g}: LOW < HIGH, STEP > 0, {STEPS} degrees"
        )
    if args.out.suffix not in (".zarr", ".nc"):
        raise PipelineError(f"--out {args.out}: the name must end in .zarr or .nc")
    if args.out.exists() and not args.force:
        raise PipelineError(f"{args.out} is there already; name another file or give --force")
    request = own.Request(args.profiles, args.tec, args.first, args.last, args.unit, args.start, args.step, args.beyond)
    found = own.read(request, _say)
    listing = args.out.with_name(args.out.name + ".left_out.csv")
    data = analysed(found.world, alt_km=np.arange(low, high + 1e-6, step))
    data.attrs["left_out"] = len(found.left_out)
    write(data, args.out, args.force)
    with listing.open("w", newline="") as stream:
        csv.writer(stream).writerows([("file", "reason"), *found.left_out])
    print(*(f"  {note}" for note in found.notes), sep="\n", end="\n" if found.notes else "")
    for name, reason in found.left_out[:LISTED]:
        print(f"  left out: {name}: {reason}")
    if len(found.left_out) > LISTED:
        print(f"  … {len(found.left_out) - LISTED} more left out")
    flags = data["flag"].values
    shares = ", ".join(
        f"{100 * np.mean(flags == value):.0f} % {name.replace('_', ' ')}"
        for value, name in enumerate(data["flag"].attrs["flag_meanings"].split())
    )
    first, last = (str(data["time"].values[index])[:16].replace("T", " ") for index in (0, -1))
    print(f"{args.out}: {first} to {last}, {data.attrs['profiles']} profiles, {data.attrs['tec_maps']} TEC maps")
    print(f"  columns: {shares}")
    print(f"  {listing}: {len(found.left_out)} left out")


def query(args: argparse.Namespace) -> None:
    """Run ``rstmrf query``."""
    from ..core.errors import PipelineError
    from . import analysis_field

    field = analysis_field.load(args.path)
    if args.ionosondes:
        frame, scores, left = field.against_ionosondes(args.ionosondes)
        rows = [(name, str(s["n"]), number(s["bias"]), number(s["rmse"])) for name, s in scores.items()]
        _say(f"{args.ionosondes}: {len(frame)} rows compared, {left} left out; MHz and km")
        _say(grid(("quantity", "n", "bias", "RMSE"), rows))
        return _answer(frame, args.out)
    if args.points:
        frame = analysis_field.table(args.points, ("time", "lat", "lon", "alt"))
        return _answer(_densities(field, frame, args.iri), args.out)
    if not args.time:
        raise PipelineError("--time is needed (or --points, --ionosondes)")
    if not args.map and (args.lat is None or args.lon is None):
        raise PipelineError("--lat and --lon are needed (or --map)")
    if not (args.alt or args.profile or args.fof2 or args.hmf2 or args.tec):
        raise PipelineError("ask for something: --alt KM, --profile, --fof2, --hmf2 or --tec vertical|slant")
    if args.tec == "slant" and (args.map or args.azimuth is None or args.elevation is None):
        raise PipelineError("--tec slant needs one place, --azimuth and --elevation")
    if args.profile and args.map:
        raise PipelineError("--map goes with --alt, --fof2, --hmf2 or --tec vertical; the file itself holds all levels")
    places = _places(field, args)
    columns = args.fof2 or args.hmf2 or args.tec
    if (args.alt or args.profile) and columns:
        raise PipelineError("ask for densities (--alt, --profile) and for column quantities one after the other")
    _answer(_columns(field, places, args) if columns else _densities(field, places, args.iri), args.out)


def _places(field: Any, args: argparse.Namespace) -> pd.DataFrame:
    """Rows of time, lat, lon and, where densities are asked for, alt."""
    import pandas as pd

    from ..core.errors import DataError

    try:
        times = pd.to_datetime(args.time, utc=True, format="ISO8601").tz_localize(None)
    except ValueError:
        raise DataError(f"--time {' '.join(args.time)}: write 2024-05-08T20:30 (UTC)") from None
    lat, lon = (field.lat, field.lon) if args.map else ([args.lat], [args.lon])
    axes = {"time": times, "lat": lat, "lon": lon}
    if args.alt or args.profile:
        axes["alt"] = field.alt_km if args.profile else args.alt
    return pd.MultiIndex.from_product(axes.values(), names=axes.keys()).to_frame(index=False)


def _densities(field: Any, frame: pd.DataFrame, background: bool) -> pd.DataFrame:
    place = (frame["time"].to_numpy("datetime64[ms]"), *(frame[name].to_numpy() for name in ("lat", "lon", "alt")))
    frame["log10_ne"] = field.log10_ne(*place)
    frame["log10_ne_sd"] = field.log10_ne_sd(*place)
    frame["ne_m3"] = 10 ** frame["log10_ne"]
    if background:
        frame["log10_ne_iri"] = field.log10_ne(*place, background=True)
    frame["flag"] = field.flags(*place[:3])
    return frame


def _columns(field: Any, frame: pd.DataFrame, args: argparse.Namespace) -> pd.DataFrame:
    place = (frame["time"].to_numpy("datetime64[ms]"), frame["lat"].to_numpy(), frame["lon"].to_numpy())
    low, high = args.between
    for mark, background in (("", False), ("_iri", True))[: 1 + args.iri]:
        if args.fof2:
            frame[f"fof2_mhz{mark}"] = field.fof2(*place, background=background)
        if args.hmf2:
            frame[f"hmf2_km{mark}"] = field.hmf2(*place, background=background)
        if args.tec == "vertical":
            frame[f"tec_tecu{mark}"] = field.vertical_tec(*place, low, high, background)
        if args.tec == "slant":
            line = (args.azimuth, args.elevation, low, high)
            frame[f"slant_tec_tecu{mark}"] = [
                field.slant_tec(*row, *line, background=background) for row in zip(*place, strict=True)
            ]
    frame["flag"] = field.flags(*place)
    return frame


def _answer(frame: pd.DataFrame, out: Path | None) -> None:
    text = frame.to_csv(index=False, float_format="%.6g", date_format="%Y-%m-%dT%H:%M:%S")
    if out is None:
        print(text, end="")
    else:
        out.write_text(text)
        _say(f"{out}: {len(frame)} rows")
