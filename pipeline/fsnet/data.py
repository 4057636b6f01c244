"""The data stage: a forecasting series with its coordinates, scaling and borders as Zarr, and loading it again.

The store holds every channel in physical units; which of them a method sees (features S, M, MS) is chosen on loading,
because z-scores are taken channel by channel. Rows after the test period are not stored. Scaling constants come from
the training rows alone.

Borders by name (rows: train, validation, test):

seed      4, 1, 15 months of 30 days at the data's step (ETTh: 2,880, 720, 10,800 rows)
upstream  what FSNet's code does: those 2,880/720/10,800 rows whatever the step where the seed's borders are the data
          set's own (so ETTm gets one month of training), 20:5:75 for all others
ratio     20:5:75, with upstream's rounding
start     4:1:95, for streams whose changes are to be met online
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import DataError
from ..core.stages import Job, Result
from ..core.store import digest
from .regimes import Switch, simulate
from .series import info
from .settings import Prepare, Simulation

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from .grid import Table

STAMPS = ("minute", "hour", "dayofweek", "day", "dayofyear", "month", "weekofyear")
MONTH_S = 30 * 86400
HOURLY_ROWS = (2880, 3600, 14400)
CHUNK = 4096  # rows
EPOCH = "seconds since 1970-01-01"


def calendar(index: pd.DatetimeIndex) -> np.ndarray:
    """Calendar fields of time stamps [N, 7], in the order of :data:`STAMPS` (Monday is 0, ISO week)."""
    fields = [index.minute, index.hour, index.day_of_week, index.day, index.day_of_year, index.month]
    return np.stack([np.asarray(f, float) for f in (*fields, index.isocalendar().week)], axis=1)


def standardise(values: np.ndarray, train_end: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (ddof 0) of the rows before ``train_end``, by column: two arrays [C]."""
    return values[:train_end].mean(axis=0), values[:train_end].std(axis=0)


def borders(kind: str, rows: int, step_seconds: float, own: str, name: str) -> tuple[int, int, int]:
    """First rows after the training, validation and test periods.

    Parameters
    ----------
    kind: ``seed``, ``upstream``, ``ratio`` or ``start``, or ``auto`` for the data set's own.
    rows: N.
    step_seconds: seconds between rows.
    own: the borders that the catalogue gives the data set.
    name: for messages.

    Raises
    ------
    DataError
        Too short a series.
    """
    kind = own if kind == "auto" else kind
    if kind == "seed":
        month = MONTH_S / step_seconds
        ends = tuple(round(months * month) for months in (4, 5, 20))
    elif kind == "upstream" and own == "seed":
        ends = HOURLY_ROWS
    else:
        train, test = (int(rows * share) for share in ((0.04, 0.95) if kind == "start" else (0.2, 0.75)))
        ends = (train, rows - test, rows)
    if ends[2] > rows or not 1 < ends[0] < ends[1] < ends[2]:
        raise DataError(
            f"{name}: {rows:,} rows are too few for the borders {kind!r}, which end at rows "
            f"{', '.join(map(str, ends))}; use `data: {{borders: ratio}}` or a longer series"
        )
    return ends


def build(table: Table, *, source: dict[str, Any], kind: str = "auto", test_rows: int | None = None) -> xr.Dataset:
    """The store's content: series, calendar, scaling constants and borders.

    Parameters
    ----------
    table: a regular series.
    source: what :meth:`pipeline.core.catalog.Catalog.describe` says of it.
    kind: borders by name.
    test_rows: cut the test period to its first rows.

    Raises
    ------
    DataError
        Too short a series; a target that is missing or constant in the training period; a step that is no whole number
        of seconds.
    """
    import xarray as xr

    if table.step_seconds % 1:
        raise DataError(
            f"{source['name']}: a step of {table.step} is below one second or between two; resample the data"
        )
    frame, name, target = table.frame, source["name"], source["target"] or table.frame.columns[-1]
    if target not in frame.columns:
        raise DataError(f"{name} has no column {target!r} to forecast; it has {', '.join(frame.columns)}")
    train_end, val_end, test_end = borders(kind, len(frame), table.step_seconds, source["borders"], name)
    if test_rows is not None:
        test_end = min(test_end, val_end + test_rows)
    frame = frame.iloc[:test_end]
    values = frame.to_numpy(np.float64)
    mean, sd = standardise(values, train_end)
    if sd[frame.columns.get_loc(target)] == 0:
        raise DataError(
            f"{name}: {target!r} has the same value in all {train_end:,} training rows, so that it can't be scaled; "
            "take another target, or a longer training period"
        )
    sd[sd == 0] = 1.0  # a channel that is constant in training keeps its unit
    fields = calendar(frame.index)
    field_mean, field_sd = standardise(fields, train_end)
    stamps = np.where(field_sd > 0, (fields - field_mean) / np.where(field_sd > 0, field_sd, 1), 0.0)
    units = [source["units"].get(channel, "1") for channel in frame.columns]
    content = hashlib.sha256(frame.index.to_numpy("datetime64[s]").tobytes() + values.tobytes())
    return xr.Dataset(
        {
            "series": (
                ("time", "channel"),
                values,
                {"long_name": "series in physical units", "ancillary_variables": "filled", "comment": "see unit"},
            ),
            "filled": (
                ("time", "channel"),
                table.filled[:test_end].astype(np.int8),
                {
                    "long_name": "origin of the value",
                    "flag_values": [0, 1],
                    "flag_meanings": "observed last_observation_carried_forward",
                },
            ),
            "stamps": (
                ("time", "stamp"),
                stamps,
                {"long_name": "calendar fields standardised by the training rows", "units": "1"},
            ),
            "mean": ("channel", mean, {"long_name": "mean of the training rows", "comment": "see unit"}),
            "sd": ("channel", sd, {"long_name": "standard deviation of the training rows", "comment": "see unit"}),
        },
        coords={
            "time": ("time", frame.index.to_numpy("datetime64[ns]"), {"standard_name": "time", "axis": "T"}),
            "channel": ("channel", np.array(frame.columns, dtype=object), {"long_name": "name of the channel"}),
            "stamp": ("stamp", np.array(STAMPS, dtype=object), {"long_name": "name of the calendar field"}),
            "unit": ("channel", np.array(units, dtype=object), {"long_name": "unit of the channel"}),
        },
        attrs={
            "Conventions": "CF-1.11",
            "title": source["title"],
            "references": source["citation"],
            "licence": source["licence"],
            "name": name,
            "requested": source["requested"],
            "source": source["source"],
            "sha256": source["sha256"] or "",
            "content_sha256": content.hexdigest(),
            "target": target,
            "borders": source["borders"] if kind == "auto" else kind,
            "train_end": train_end,
            "val_end": val_end,
            "test_end": test_end,
            "rows_in_file": len(table.frame),
            "step": table.step,
            "step_seconds": table.step_seconds,
            "season": table.season,
            "nominal_time": int(table.nominal),
            "comment": ". ".join(table.report),
        },
    )


def write(dataset: xr.Dataset, path: Path | str, group: str | None = None) -> None:
    """Write a store (Zarr format 3). The same content gives the same bytes: nothing in it states when or where."""
    encoding: dict[str, dict] = {
        "time": {"units": EPOCH, "calendar": "standard", "dtype": "int64", "chunks": (CHUNK,)},
        **{name: {"dtype": object} for name in ("channel", "stamp", "unit")},
    }
    for name in ("series", "filled", "stamps"):
        rows, columns = dataset[name].shape
        encoding[name] = {"chunks": (min(CHUNK, rows), columns)}
    encoding["time"]["chunks"] = encoding["series"]["chunks"][:1]
    dataset.to_zarr(path, mode="a" if group else "w", group=group, encoding=encoding, zarr_format=3, consolidated=False)


def simulated(settings: Simulation, source: dict[str, Any], seed: int) -> tuple[Table, tuple[Switch, ...]]:
    """One realization of the recurring regimes, on nominal hours."""
    import pandas as pd

    from .grid import Table

    stream = simulate(settings, seed)
    index = pd.date_range("2000-01-01", periods=settings.steps, freq=source["step"])
    frame = pd.DataFrame({source["target"]: stream.series}, index=index)
    note = f"simulated with seed {seed}"
    table = Table(frame, np.zeros(frame.shape, bool), source["step"], nominal=True, report=[note])
    return table, stream.switches


def prepare(job: Job, settings: Prepare, log: Any) -> Result:
    """Stage ``prepare``: raw files -> ``data`` (a Zarr store; for a simulation one group a seed).

    ``job.facts["source"]`` is what :meth:`pipeline.core.catalog.Catalog.describe` says; ``job.inputs["raw"]``
    its files.

    Raises
    ------
    DataError
        Files that have changed since the data set was chosen, or whose content is not as documented.
    """
    source, target = dict(job.facts["source"]), Path(job.outputs["data"])
    cut = {"kind": settings.data.borders, "test_rows": settings.data.test_rows}
    if source["reader"] == "simulation":
        datasets = []
        for seed in job.seeds:
            table, switches = simulated(settings.simulation, source, seed)
            dataset = build(table, source=source, **cut)
            dataset.attrs["switches"] = json.dumps([asdict(switch) for switch in switches])
            datasets.append(dataset)
        contents = "".join(dataset.attrs["content_sha256"] for dataset in datasets)
        for seed, dataset in zip(job.seeds, datasets, strict=True):
            dataset.attrs["sha256"] = hashlib.sha256(contents.encode()).hexdigest()
            write(dataset, target, group=f"seed_{seed}")
    else:
        from .readers import read

        raw = job.inputs["raw"]
        (path,) = [raw] if isinstance(raw, str | Path) else raw  # every forecasting set is one file
        found = digest(path)
        if source["sha256"] not in (None, found):
            raise DataError(
                f"{path} has changed since {source['name']} was chosen (SHA-256 {found}, was "
                f"{source['sha256']}); run `python -m pipeline data --refresh` to decide anew"
            )
        source["sha256"] = found
        table = read([path], source["reader"], source["options"], target=source["target"], step=source["step"])
        datasets = [build(table, source=source, **cut)]
        write(datasets[0], target)
    first = datasets[0]
    for line in table.report:
        log.info(f"{source['name']}: {line}")
    column = list(first["channel"].values).index(first.attrs["target"])
    metrics = {
        "rows": first.sizes["time"],
        "channels": first.sizes["channel"],
        "rows_filled": int(first["filled"].values.any(axis=1).sum()),
        "values_filled": int(first["filled"].sum()),
        "target_mean": float(first["mean"][column]),
        "target_sd": float(first["sd"][column]),
    }
    return Result(metrics=metrics, dataset=info(first.attrs, first["time"].values))
