"""CSEP-style tests of whole simulated catalogues, number forecasts for the next day and week, and their export.

Number, spatial and magnitude tests follow the catalogue-based tests of Savran et al. (2020), BSSA 110, 1799: a
statistic of the observed catalogue is placed among those of the simulated ones. A forecast is consistent if its
quantiles over many windows are uniform; one window below 0.025 says little.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from . import calibration, simulate, windows
from .etas import Etas
from .events import Catalogue
from .kde import Background
from .readers import EPOCH, SECONDS

CELLS = 30  # of the grid of the spatial test, along each side


@dataclass
class Forecast:
    """Simulated catalogues of one span of one window: number of the catalogue, t, mark, xy of all their events.

    ``count`` catalogues were simulated; those without events have no rows.
    """

    number: np.ndarray
    t: np.ndarray
    mark: np.ndarray
    xy: np.ndarray
    count: int
    sequence: int
    start: float
    end: float

    @property
    def sizes(self) -> np.ndarray:
        """[count] events in each catalogue."""
        return np.bincount(self.number, minlength=self.count)


def forecast(
    etas: Etas,
    background: Background,
    cat: Catalogue,
    sequence: int,
    start: float,
    span: float,
    count: int,
    rng: np.random.Generator,
) -> Forecast:
    """P(N >= n) and P(N <= n) over simulated catalogues (Savran et al. 2020): too many came if the first is low."""
    rows = cat.rows(sequence)
    past = slice(rows.start, rows.start + int(np.searchsorted(cat.t[rows], start, side="right")))
    history = (cat.t[past], cat.labels[past], cat.xy[past])
    found = simulate.forward(etas, background, history, start, start + span, count, rng)
    return Forecast(*found, count=count, sequence=sequence, start=start, end=start + span)


def observed(cat: Catalogue, made: Forecast) -> tuple[np.ndarray, np.ndarray]:
    """Marks [n] and places [n, 2] of what really came in the forecast's span."""
    rows = cat.rows(made.sequence)
    inside = (cat.t[rows] > made.start) & (cat.t[rows] <= made.end)
    return cat.labels[rows][inside], cat.xy[rows][inside]


def number_test(sizes: np.ndarray, n: int) -> tuple[float, float]:
    """P(N >= n) and P(N <= n) over simulated catalogues (Savran et al. 2020, eq. 1): too many if the first is small."""
    return float((sizes >= n).mean()), float((sizes <= n).mean())


def _cells(xy: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Cell number [n] on a grid over the box [[x0, y0], [x1, y1]]; what lies outside takes the nearest cell."""
    share = (xy - box[0]) / np.maximum(box[1] - box[0], 1e-12)
    place = np.clip((share * CELLS).astype(int), 0, CELLS - 1)
    return place[:, 0] * CELLS + place[:, 1]


def spatial_test(made: Forecast, xy: np.ndarray, box: np.ndarray) -> float:
    """Share of simulated catalogues whose mean log rate over their events' cells is not above the observed one.

    Rates are the forecast's own counts, one added over the grid. NaN without observed events.
    """
    if not len(xy):
        return float("nan")
    cells, sizes, flat = _cells(made.xy, box), made.sizes, made.count / CELLS**2
    rate = np.bincount(cells, minlength=CELLS**2) + flat
    # a simulated catalogue must not be part of the forecast that it is held against: the observed one isn't either
    _, back, times = np.unique(made.number * CELLS**2 + cells, return_inverse=True, return_counts=True)
    log = np.log((rate[cells] - times[back]) / (rate.sum() - sizes[made.number]))
    sums = np.bincount(made.number, log, made.count)
    simulated = sums[sizes > 0] / sizes[sizes > 0]
    return float((simulated <= np.log(rate / rate.sum())[_cells(xy, box)].mean()).mean())


def magnitude_test(made: Forecast, mark: np.ndarray, marks: int, rng: np.random.Generator) -> float:
    """Share of simulated catalogues whose marks are at least as far from the forecast's as the observed ones.

    The statistic is the sum over classes of squared differences of log(1 + count), both brought to the observed number
    (Savran et al. 2020). Few classes make equal statistics common: they are ordered at random. NaN without events.
    """
    n = len(mark)
    if not n or not len(made.mark):
        return float("nan")
    union = np.bincount(made.mark, minlength=marks) / len(made.mark)
    target = np.log1p(n * union)
    by_catalogue = np.zeros((made.count, marks))
    np.add.at(by_catalogue, (made.number, made.mark), 1)
    sizes = by_catalogue.sum(axis=1)
    used = by_catalogue[sizes > 0] / sizes[sizes > 0, None]
    simulated = ((np.log1p(n * used) - target) ** 2).sum(axis=1)
    own = ((np.log1p(np.bincount(mark, minlength=marks).astype(float)) - target) ** 2).sum()
    tied = np.abs(simulated - own) < 1e-12
    return float(((simulated > own) & ~tied).mean() + rng.random() * tied.mean())


def evaluate(
    etas: Etas,
    background: Background,
    cat: Catalogue,
    spans: dict[str, float],
    count: int = 1000,
    seed: int = 0,
    split: str = "test",
    folder: Path | str | None = None,
) -> dict[str, Any]:
    """Number, spatial and magnitude tests over the windows of a split that share no event.

    Parameters
    ----------
    spans: name -> length [time unit], forecast from the middle of each window.
    folder: where the last window's forecasts go, ``<name>.csv`` as CSEP reads them; None: nowhere.

    Returns
    -------
    By span: quantiles of each test by window, their Kolmogorov distance from uniformity with the level that 95 % of
    uniform samples keep to, coverage of the central 95 % of the number, mean observed and forecast numbers, mean log
    probability of the observed number.
    """
    sequences = cat.sequences(split)
    if cat.meta["stride"]:
        sequences = sequences[:: int(np.ceil(cat.meta["window"] / cat.meta["stride"]))]
    box = np.array(cat.meta["bbox"])
    out: dict[str, Any] = {}
    for place, (name, span) in enumerate(spans.items()):
        rng = np.random.default_rng([seed, place])
        rows: dict[str, list[float]] = {key: [] for key in ("number", "spatial", "magnitude", "n", "mean", "log")}
        inside = []
        for sequence in sequences:
            start = 0.5 * float(cat.window[sequence])
            if start + span > cat.window[sequence]:
                continue
            made = forecast(etas, background, cat, int(sequence), start, span, count, rng)
            mark, xy = observed(cat, made)
            n, sizes = len(mark), made.sizes
            above, below = number_test(sizes, n)
            # randomised inside the observed number's probability: uniform if the forecast is right
            rows["number"].append(1 - above + rng.random() * (above + below - 1))
            rows["spatial"].append(spatial_test(made, xy, box))
            rows["magnitude"].append(magnitude_test(made, mark, cat.marks, rng) if cat.marks > 1 else float("nan"))
            rows["n"].append(float(n))
            rows["mean"].append(float(sizes.mean()))
            rows["log"].append(float(np.log(((sizes == n).sum() + 0.5) / (count + 1))))
            inside.append(above >= 0.025 and below >= 0.025)
        if not inside:
            continue
        if folder is not None:
            write_csv(made, cat, Path(folder) / f"{name}.csv", seed)
        limit = 1.36 / np.sqrt(len(inside))
        out[name] = {
            "windows": len(inside),
            "span": span,
            "count": count,
            "coverage95_number": float(np.mean(inside)),
            "observed_mean": float(np.mean(rows["n"])),
            "forecast_mean": float(np.mean(rows["mean"])),
            "log_score_number": float(np.mean(rows["log"])),
            "ks_limit95": float(limit),
            **{
                f"ks_{test}": calibration.kolmogorov(np.array(rows[test]))
                for test in ("number", "spatial", "magnitude")
            },
        }
        for test in ("number", "spatial", "magnitude"):
            out[name][f"quantiles_{test}"] = [q for q in rows[test] if q == q]  # NaN where nothing came
        out[name] = {key: value for key, value in out[name].items() if value == value}  # NaN where there are no marks
    return out


def _magnitudes(cat: Catalogue, mark: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Magnitudes [n] drawn from the training events of each mark; the number of the mark where none are known."""
    if cat.magnitude is None:
        return mark.astype(float)
    out = np.empty(len(mark))
    row = cat.events(cat.sequences("train"))
    for k in np.unique(mark):
        known = cat.magnitude[row][cat.labels[row] == k]
        out[mark == k] = rng.choice(known, int((mark == k).sum())) if len(known) else float(k)
    return out


def write_csv(made: Forecast, cat: Catalogue, path: Path | str, seed: int = 0) -> None:
    """Write a catalogue forecast as CSEP reads it: lon, lat, magnitude, time, depth, catalogue and event number.

    A catalogue without events is one line that states its number alone. Kilometres go back to degrees; depth is unknown
    and written as 0. Where the catalogue's true epoch isn't known, times count from 1970.
    """
    place = cat.meta.get("projection")
    xy = windows.to_degrees(made.xy, place["lon0"], place["lat0"]) if place else made.xy
    size = _magnitudes(cat, made.mark, np.random.default_rng(seed))
    origin = datetime.fromisoformat(cat.meta.get("epoch", EPOCH).replace("Z", "+00:00")).astimezone(UTC)
    unit = SECONDS[cat.meta["units"]["time"]]
    first = float(cat.start[made.sequence])
    with Path(path).open("w", newline="") as stream:
        out = csv.writer(stream)
        out.writerow(["lon", "lat", "mag", "time_string", "depth", "catalog_id", "event_id"])
        ends = np.searchsorted(made.number, np.arange(made.count + 1))
        for one in range(made.count):
            rows = range(ends[one], ends[one + 1])
            if not rows:
                out.writerow(["", "", "", "", "", one, ""])
            for event, row in enumerate(rows):
                time = origin + timedelta(seconds=float((first + made.t[row]) * unit))
                stamp = time.strftime("%Y-%m-%dT%H:%M:%S.%f")
                out.writerow([f"{xy[row, 0]:.5f}", f"{xy[row, 1]:.5f}", f"{size[row]:.2f}", stamp, 0.0, one, event])
