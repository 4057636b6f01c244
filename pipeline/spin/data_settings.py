"""Settings of the data, the missingness, the simulated city and the boosting baseline (pydantic only)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ..core.config import Model

BASELINES = ("mean", "time_of_day", "linear", "knn", "mf", "mice", "boosting", "boosting_bag", "boosting_long")
METRICS = ("mae", "mse", "mre", "mae_no_line", "crps", "coverage90", "mae_unseen_nodes")
WARM_UP_S = 900  # the simulated city is driven so long before the first interval that counts: it starts empty
PATTERNS = ("point", "block", "block_upstream", "outage", "spatial", "patrol", "value", "replay", "official", "none")


class Split(Model):
    """Which rows train, validate and test."""

    kind: Literal["auto", "ratio", "months", "segments"] = Field(
        "auto", description="auto: the catalogue's; ratio: in time; months: of the calendar; segments: whole files"
    )
    train: float = Field(0.7, gt=0, lt=1, description="ratio: share of rows")
    val: float = Field(0.1, gt=0, lt=1, description="ratio: share of rows after the training rows")
    test_months: list[int] = Field([3, 6, 9, 12], description="months: calendar months that are tested")
    val_days: int = Field(7, ge=1, le=28, description="months: last days of the month before each test month")
    test_segments: int = Field(3, ge=1, description="segments: last segments that are tested")
    val_segments: int = Field(1, ge=1, description="segments: segments before them that validate")
    fold: int | None = Field(None, ge=0, description="segments: test this one alone, validate on the one before it")


class Missing(Model):
    """What is hidden from every method, on top of what is really missing."""

    kind: Literal[PATTERNS] = Field("point", description="see pipeline/spin/masks.py")
    rate: float = Field(0.25, ge=0, lt=1, description="point: share of cells; spatial, patrol, value, replay: likewise")
    fault: float = Field(0.0015, ge=0, lt=1, description="block, outage, spatial: probability that a fault starts")
    noise: float = Field(0.05, ge=0, lt=1, description="block: share of single cells hidden besides")
    shortest: int = Field(12, ge=1, description="block, outage, spatial: shortest fault [rows]")
    longest: int = Field(48, ge=1, description="block, outage, spatial: longest fault [rows], not included")
    reach: int = Field(5, ge=1, description="spatial: sensors that fail together")
    seed: int = Field(9101112, ge=0, description="of the named mask")
    more: int = Field(4, ge=0, le=20, description="further seeds that are scored too (seed + 1, seed + 2, …)")

    @model_validator(mode="after")
    def _lengths_are_possible(self) -> Missing:
        if self.longest <= self.shortest:
            raise ValueError(f"longest ({self.longest}) must exceed shortest ({self.shortest})")
        return self


class Graph(Model):
    """How edges come from distances where a data set has no graph of its own."""

    threshold: float = Field(0.1, ge=0, lt=1, description="least weight exp(-(d/s)^2) of an edge that is kept")
    symmetric: bool = Field(True, description="add the reverse of every edge, as published; false: directed")
    neighbours: int = Field(8, ge=1, description="distance graphs: most incoming edges of a node")


class Data(Model):
    """How a data set becomes a cube."""

    split: Split = Split()
    missing: Missing = Missing()
    graph: Graph = Graph()
    zero_missing: bool | None = Field(None, description="zeros stand for missing values; null: as the catalogue says")
    rows: int | None = Field(None, ge=32, description="read the first rows only; null: all")


class Simulation(Model):
    """The simulated city (read for the data set `sumo_city` alone)."""

    days: int = Field(6, ge=3, le=60, description="days simulated, each with its own traffic")
    hours: float = Field(5.0, ge=1, le=18, description="length of each day, from 6 o'clock on [h]")
    grid: int = Field(4, ge=3, le=12, description="crossings along each side of the grid")
    block: float = Field(200.0, ge=50, le=1000, description="length of a street between crossings [m]")
    trips: float = Field(2000.0, gt=0, le=20_000, description="trips an hour at the height of the morning")
    every: int = Field(300, ge=60, le=900, description="length of a counting interval [s]; 900 s are a multiple of it")
    seed: int = Field(1, ge=0, description="of the streets' traffic")

    @model_validator(mode="after")
    def _whole_intervals(self) -> Simulation:
        if WARM_UP_S % self.every:
            fit = [s for s in range(60, WARM_UP_S + 1) if WARM_UP_S % s == 0]
            raise ValueError(
                f"every ({self.every} s) must divide the {WARM_UP_S} s that are driven before the first interval, or "
                f"its times would not be those stated; possible are {', '.join(map(str, fit))}"
            )
        return self


class Boosting(Model):
    """Gradient boosting on leave-one-out gap features."""

    masks: int = Field(8, ge=1, le=50, description="times that the training cells are hidden again")
    rate: float = Field(0.12, gt=0, lt=1, description="point: share of visible cells hidden again")
    trees: int = Field(300, ge=1)
    leaves: int = Field(31, ge=2)
    lr: float = Field(0.08, gt=0, le=1)
    least: int = Field(40, ge=1, description="training cells in a leaf")
    neighbours: int = Field(8, ge=1, description="most correlated series whose gap-matched contrast is a feature")
    rows: int = Field(250_000, ge=1000, description="training cells at most, drawn at random")
    penalty: float = Field(3.0, ge=0, description="low-rank estimate: taken off singular values; 0: no such feature")
    sweeps: int = Field(15, ge=1, description="low-rank estimate: rounds from the straight lines")
    chain: int = Field(
        20, ge=0, le=20, description="ridge estimate: series that each is regressed on; 0: no such feature"
    )
    lags: list[int] = Field([-1, 0, 1], description="ridge estimate: rows by which these are shifted")


class Averaged(Model):
    """The baselines ``boosting_bag``, which a stack averages with, and ``boosting_long``, with a stack's budget."""

    models: int = Field(
        8, ge=1, le=50, description="boosted models whose answers are averaged, each on cells hidden anew"
    )


class Prepare(Model):
    """What the data stage reads."""

    data: Data = Data()
    simulation: Simulation = Simulation()


class Baselines(Model):
    """What the baselines stage reads."""

    boosting: Boosting = Boosting()
    boosting_bag: Averaged = Averaged()
    boosting_long: Averaged = Averaged(models=14)
