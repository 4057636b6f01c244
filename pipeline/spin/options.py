"""What the catalogue of data sets, or the user's own entry, may say of sensor data by reader (pydantic only)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..core.config import Model


class Options(Model):
    """Of every reader."""

    split: Literal["ratio", "months", "segments"] = Field("ratio", description="what data.split.kind auto means")
    zero_missing: bool = Field(False, description="zeros stand for missing values")


class Metr(Options):
    """Of ``metr_la``: the first time stamp of files that have none."""

    start: str = "2012-03-01"
    step: str = "5min"
    filled: bool = Field(False, description="the publisher may have filled gaps by straight lines")


class Pems(Options):
    """Of ``pems_lanes``: main-line stations in the direction of travel (the files don't tell the order)."""

    order: list[str]


class Table(Options):
    """Of ``table``: the user's own values and graph, in the forms that ``spin impute`` reads."""

    channels: list[str] | None = Field(None, description="columns to keep; null: every numeric one")


READERS = {
    "traffic": {"table": Table, "metr_la": Metr, "pems_lanes": Pems},
    "air": {"table": Table, "aqi36": Options},
}
