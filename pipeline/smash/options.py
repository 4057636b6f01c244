"""What the catalogue of data sets, or the user's own entry, may say of event data by reader (pydantic only)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..core.config import Model

DEGREES = "deg"


class SequenceOptions(Model):
    """Of ``sequences``: three pickles of windows, train, validation and test."""

    unit: Literal["s", "min", "h", "day"] = Field("day", description="of time")
    place: str = Field(DEGREES, description="unit of places: deg (longitude and latitude), km, or any other name")
    window: float | None = Field(None, gt=0, description="length of a window [unit]; null: it ends at its last event")
    lattice_time: float | None = Field(None, gt=0, description="step of the lattice that times lie on [unit]")
    lattice_place: float | None = Field(None, gt=0, description="step of the lattice that places lie on [place]")
    clock: float | None = Field(None, gt=0, description="period of the rate's known cycle [unit]")
    narrowest: float | None = Field(None, gt=0, description="floor of kernel widths [place]")
    density_time: Literal["s", "min", "h", "day"] | None = Field(
        None, description="unit of reported densities where it isn't `unit`"
    )
    mark_names: list[str] = []


class CatalogueOptions(SequenceOptions):
    """Of ``quakeml``: one long catalogue, which is cut into windows."""

    stride: float | None = Field(None, gt=0, description="distance between windows [unit]; null: their length")
    mark_bins: list[float] = Field(default_factory=list, description="bounds that make marks of magnitudes")
    min_magnitude: Literal["auto"] | float | None = Field(
        "auto", description="auto: completeness estimated on the training period; null: all"
    )
    projection: Literal["auto", "none", "km"] = Field("auto", description="km: degrees become kilometres")


class Options(CatalogueOptions):
    """Of ``table``: the same in CSV or Parquet, one line an event."""

    time: str = Field("time", description="column of times: stamps, or numbers in `unit`")
    x: str = "longitude"
    y: str = "latitude"
    mark: str | None = Field(None, description="column of marks: whole numbers from 0")
    magnitude: str | None = Field(None, description="column of magnitudes")
    time_zone: str = Field("UTC", description="of stamps that state none")
    ordered: bool = Field(False, description="refuse a table whose lines go back in time")


READERS = {"table": Options, "quakeml": CatalogueOptions, "sequences": SequenceOptions}
