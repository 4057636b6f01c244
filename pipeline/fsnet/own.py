"""Own data in, forecasts out: a user's file is matched to a saved state, streamed and written with its forecasts."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.catalog import OwnData
from ..core.errors import DataError, PipelineError, first_line
from .features import season_length
from .forecast import Forecaster, Setup, default_warmup
from .grid import Table
from .readers import read_own

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.9
SUFFIXES = (".csv", ".parquet")
SAME = 1e-6  # relative difference of values that are taken to be the same (a file may be printed with fewer digits)


@dataclass(frozen=True)
class Request:
    """What a user asks for; None: as in the state, or the default.

    Attributes
    ----------
    path: CSV or Parquet file.
    target, horizon, level, warmup: see :class:`pipeline.fsnet.forecast.Setup`.
    columns: further inputs; ``exog`` takes every numeric column where none is named.
    time, time_format, step, gap: how the file is read, see :class:`pipeline.core.catalog.OwnData` (gap: ``max_gap``).
    out: forecasts, CSV or Parquet; state: file to go on from, and to write.
    """

    path: Path
    target: str | None = None
    horizon: int | None = None
    columns: tuple[str, ...] = ()
    exog: bool = False
    level: float | None = None
    warmup: int | None = None
    time: str | None = None
    time_format: str | None = None
    step: str | None = None
    gap: int | None = None
    out: Path | None = None
    state: Path | None = None


@dataclass
class Outcome:
    """What has been done: the forecaster after the last row, counts and remarks for people."""

    forecaster: Forecaster
    new_rows: int
    known_rows: int
    written: int | None = None
    notes: list[str] = field(default_factory=list)


def run(request: Request, progress: Callable[[int, int], None] = lambda done, total: None) -> Outcome:
    """Forecast from every new row of a file.

    Parameters
    ----------
    request: see :class:`Request`.
    progress: called with rows done and in all.

    Raises
    ------
    DataError
        A file or a state that is not what it should be; says where and what to do.
    PipelineError
        Options that contradict the state or each other.
    """
    _check_paths(request)
    forecaster = load_state(request.state) if request.state and request.state.exists() else None
    if forecaster:
        _check_options(request, forecaster.setup)
    elif request.target is None or request.horizon is None:
        missing = " and ".join(name for name in ("target", "horizon") if getattr(request, name) is None)
        raise PipelineError(f"A first run needs --{missing.replace(' and ', ' and --')}; a state file knows them")
    table = _read(request, forecaster)
    notes, last = list(table.report), forecaster.last if forecaster else None
    if forecaster is None:
        forecaster = _begin(request, table)
        values, filled = _columns(table, forecaster.setup)
    else:
        values, filled = _continue(request, table, forecaster, notes)
    if not len(values):
        notes.append("the file has no rows after those that the state has seen; nothing is written")
        return Outcome(forecaster, 0, len(table.frame), None, notes)
    result = forecaster.update(values, filled, lambda done: progress(done, len(values)))
    written = _write(request.out, forecaster, result, last) if request.out else None
    if request.state:
        save_state(request.state, forecaster)
    known = int((table.frame.index <= np.datetime64(last)).sum()) if last is not None else 0
    return Outcome(forecaster, len(values), known, written, notes)


def _check_paths(request: Request) -> None:
    """Faults that need no look at the data, found before any work."""
    named = {"the data": request.path, "--out": request.out, "--state": request.state}
    seen: dict[Path, str] = {}
    for what, path in named.items():
        if path is None:
            continue
        if path.resolve() in seen:
            raise PipelineError(f"{what} and {seen[path.resolve()]} are the same file {path}; give another name")
        seen[path.resolve()] = what
        if what != "the data" and not path.parent.is_dir():
            raise PipelineError(f"{what}: the folder {path.parent} does not exist")
    if request.out and request.out.suffix.lower() not in SUFFIXES:
        raise PipelineError(f"--out {request.out}: forecasts are written as {' or '.join(SUFFIXES)}")


def _check_options(request: Request, setup: Setup) -> None:
    asked = {name: getattr(request, name) for name in ("target", "horizon", "level", "warmup")}
    asked["columns"] = request.columns or None
    stated = {**vars(setup), "columns": setup.others}
    for name, value in asked.items():
        same = (
            set(value) - {setup.target} == set(setup.others) if name == "columns" and value else value == stated[name]
        )
        if value is not None and not same:
            raise PipelineError(
                f"--{name} {value!r} contradicts the state {request.state}, which has {stated[name]!r}. Leave the "
                "option out to go on, or start anew with another state file."
            )
    if request.exog and not setup.others:
        raise PipelineError(f"--exog contradicts the state {request.state}, which has no further columns; start anew")


def _read(request: Request, forecaster: Forecaster | None) -> Table:
    """The file on a regular grid; only the columns that are used are read, so others may hold anything."""
    target = forecaster.setup.target if forecaster else str(request.target)
    if forecaster:
        columns: list[str] | None = forecaster.setup.columns
    else:
        columns = [target, *request.columns] if request.columns or not request.exog else None
    own = OwnData(
        path=str(request.path),
        target=target,
        time=_asked(request, forecaster, "time"),
        time_format=_asked(request, forecaster, "time_format"),
        columns=list(dict.fromkeys(columns)) if columns else None,
        step=_offset(forecaster.setup.step_s) if forecaster and request.step is None else request.step,
        max_gap=_asked(request, forecaster, "gap") or 0,
    )
    return read_own(own)


def _asked(request: Request, forecaster: Forecaster | None, name: str) -> Any:
    """An option of reading: as asked for, else as in the state."""
    value = getattr(request, name)
    return getattr(forecaster.setup, name) if forecaster and value is None else value


def _offset(step_s: float) -> str:
    import pandas as pd

    return pd.tseries.frequencies.to_offset(pd.Timedelta(seconds=step_s)).freqstr


def _begin(request: Request, table: Table) -> Forecaster:
    """A forecaster for a file that is seen for the first time."""
    target, horizon = str(request.target), int(request.horizon or 0)
    level = LEVEL if request.level is None else request.level
    if not 1 <= horizon <= 512:
        raise PipelineError(f"--horizon {horizon}: 1 to 512 rows can be forecast")
    if not 0.5 <= level < 1:
        raise PipelineError(f"--level {level}: from 0.5 to below 1, for example 0.9 for 90 % intervals")
    season = season_length(table.step_seconds)
    warmup = default_warmup(season, horizon) if request.warmup is None else request.warmup
    if warmup < 50:
        raise PipelineError(f"--warmup {warmup}: at least 50 rows are needed to scale by")
    others = tuple(str(name) for name in table.frame.columns if name != target)
    reading = {"time": request.time, "time_format": request.time_format, "gap": request.gap or 0}
    setup = Setup(target, others, horizon, level, table.step_seconds, season, warmup, **reading)
    return Forecaster(setup, table.frame.index[0].to_datetime64())


def _columns(table: Table, setup: Setup) -> tuple[np.ndarray, np.ndarray]:
    """Values and flags of missing ones, [n, 1 + C], in the order of the setup."""
    order = [list(table.frame.columns).index(name) for name in setup.columns]
    return table.frame.to_numpy(float)[:, order], table.filled[:, order]


def _continue(
    request: Request, table: Table, forecaster: Forecaster, notes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows after the last one that the state has seen; rows before are held against what it remembers."""
    setup, where = forecaster.setup, f"{request.path} and the state {request.state}"
    if table.step_seconds != setup.step_s:
        raise DataError(
            f"{where} don't belong together: rows every {table.step_seconds:g} s, in the state {setup.step_s:g} s"
        )
    values, filled = _columns(table, setup)
    step = np.timedelta64(round(setup.step_s * 1e9), "ns")
    begin = table.frame.index[0].to_datetime64().astype("datetime64[ns]")
    if (begin - forecaster.start) % step != np.timedelta64(0, "ns"):
        raise DataError(
            f"{where} don't belong together: the file has a row at {_shown(begin)}, which is not on the state's grid "
            f"(every {setup.step_s:g} s from {_shown(forecaster.start)})"
        )
    first = int((begin - forecaster.start) // step)  # the state's number of the file's first row
    if first < 0:
        raise DataError(
            f"{where} don't belong together: the file begins at {_shown(begin)}, before the state's first row "
            f"({_shown(forecaster.start)}). What came earlier can't be learnt afterwards; start anew with another "
            "state file."
        )
    _compare(where, forecaster, values, filled, first)
    missing, gap = first - forecaster.seen, _asked(request, forecaster, "gap")
    if missing > gap:
        raise DataError(
            f"{where}: {missing} rows are missing between the last one seen ({_shown(forecaster.last)}) and the file's "
            f"first ({_shown(begin)}); allowed are {gap} (--gap). Give the rows between, too."
        )
    if missing > 0:
        notes.append(f"{missing} rows are missing before {_shown(begin)}; each takes the last values before it")
        values = np.concatenate([np.repeat(forecaster.tail[-1:], missing, axis=0), values])
        filled = np.concatenate([np.ones((missing, values.shape[1]), bool), filled])
    skip = max(forecaster.seen - first, 0)
    return values[skip:], filled[skip:]


def _compare(where: str, forecaster: Forecaster, values: np.ndarray, filled: np.ndarray, first: int) -> None:
    """Raise where the file has other values than the state has seen; rows that were missing then or now don't count."""
    oldest = forecaster.seen - len(forecaster.tail)
    begin, end = max(first, oldest), min(first + len(values), forecaster.seen)
    if begin >= end:
        return
    now, then = values[begin - first : end - first], forecaster.tail[begin - oldest : end - oldest]
    unknown = filled[begin - first : end - first] | forecaster.filled[begin - oldest : end - oldest]
    differs = ~np.isclose(now, then, rtol=SAME, atol=SAME * forecaster.sd) & ~unknown
    if differs.any():
        row, column = np.argwhere(differs)[0]
        raise DataError(
            f"{where} don't belong together: column {forecaster.setup.columns[column]!r} at "
            f"{_shown(forecaster.time(begin + row))} is {now[row, column]:g}, but the state has seen "
            f"{then[row, column]:g} ({int(differs.any(axis=1).sum())} such rows of {end - begin} compared). It is "
            "another file, or its past was revised: start anew with another state file."
        )


def _shown(time: np.datetime64) -> str:
    return str(time.astype("datetime64[s]")).replace("T", " ")


def load_state(path: Path) -> Forecaster:
    """A forecaster from its state file.

    Raises
    ------
    DataError
        A file that is damaged, or not a state.
    """
    try:
        with zipfile.ZipFile(path) as whole:  # numpy checks the sum of a part only where it reads to its end
            if broken := whole.testzip():
                raise ValueError(f"{broken} is damaged")
        with np.load(path, allow_pickle=False) as arrays:
            return Forecaster.from_state(dict(arrays))
    except Exception as error:  # zipfile and numpy raise errors of many kinds on damaged bytes
        raise DataError(
            f"{path} is not a state of `fsnet forecast` ({type(error).__name__}: {first_line(error)}); name another "
            "file, or delete it to start anew"
        ) from None


def save_state(path: Path, forecaster: Forecaster) -> None:
    """Write the state under a temporary name and move it into place."""
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        with part.open("wb") as stream:
            np.savez(stream, **forecaster.state())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def forecast_table(forecaster: Forecaster, result: dict[str, np.ndarray]) -> pd.DataFrame:
    """Forecasts as rows ``origin, time, horizon, forecast, lower, upper``, H of them for each origin."""
    import pandas as pd

    horizon = forecaster.setup.horizon
    rows, ahead = result["row"], np.arange(1, horizon + 1)
    columns = {
        "origin": np.repeat(forecaster.time(rows), horizon),
        "time": forecaster.time(rows[:, None] + ahead).ravel(),  # [n, H] -> [n H]
        "horizon": np.tile(ahead, len(rows)),
    }
    return pd.DataFrame(columns | {name: result[name].ravel() for name in ("forecast", "lower", "upper")})


def _write(path: Path, forecaster: Forecaster, result: dict[str, np.ndarray], last: np.datetime64 | None) -> int:
    """Write the new forecasts; after those up to ``last`` that the file has already, where a state goes on."""
    import pandas as pd

    frame = forecast_table(forecaster, result)
    if last is not None and path.exists():
        frame = pd.concat([_earlier(path, list(frame.columns), last), frame], ignore_index=True)
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        if path.suffix.lower() == ".csv":
            frame.to_csv(part, index=False, date_format="%Y-%m-%d %H:%M:%S")
        else:
            frame.to_parquet(part, index=False)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return len(frame)


def _earlier(path: Path, columns: list[str], last: np.datetime64) -> pd.DataFrame:
    """Forecasts that an earlier run has written, up to origin ``last`` (a run that was killed may have got further)."""
    import pandas as pd

    try:
        if path.suffix.lower() == ".csv":
            frame = pd.read_csv(path, parse_dates=["origin", "time"])
        else:
            frame = pd.read_parquet(path)
        if list(frame.columns) != columns:
            raise ValueError(f"columns {', '.join(map(str, frame.columns))}")
        frame[["origin", "time"]] = frame[["origin", "time"]].astype("datetime64[ns]")
    except (ValueError, OSError) as error:
        raise DataError(
            f"{path} exists and does not hold forecasts of an earlier run ({str(error).splitlines()[0]}), so none are "
            "added to it; name another file (--out)"
        ) from None
    return frame[frame["origin"] <= last]
