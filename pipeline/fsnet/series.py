"""A prepared series as numpy arrays: loading and periods.

Apart from the data stage, so that what trains and scores depends on the store's form alone and is not rerun when a
reader changes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import DataError
from ..core.store import open_zarr
from .regimes import Switch

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Series:
    """A loaded series; N rows, C input channels.

    Attributes
    ----------
    name, requested: the data set really used, and the one that was preferred.
    time: [N] datetime64[s].
    channels, units: [C] names and units.
    values, z: [N, C] physical and z-scored, float64.
    mean, sd: [C] of the training rows (ddof 0).
    stamps: [N, 7] calendar fields, standardised by the training rows; a field that is constant there is 0.
    filled: [N, C] True where the file had no value.
    target: column of the target; ``outputs``: columns that are forecast.
    train_end, val_end, test_end: first row after each period; test_end = N.
    season: rows in a day (in a week where a row is a day; 1 where there is none).
    step_seconds: seconds between rows.
    info: name, requested, source, sha256, licence, period and n, as ``run.json`` states them.
    attrs: the store's attributes.
    switches: the simulator's regime changes; None for real data.
    """

    name: str
    requested: str
    time: np.ndarray
    channels: tuple[str, ...]
    units: tuple[str, ...]
    values: np.ndarray
    z: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    stamps: np.ndarray
    filled: np.ndarray
    target: int
    outputs: tuple[int, ...]
    train_end: int
    val_end: int
    test_end: int
    season: int
    step_seconds: float
    info: dict[str, Any]
    attrs: dict[str, Any]
    switches: tuple[Switch, ...] | None = None

    @property
    def y(self) -> np.ndarray:
        """The target, z-scored [N]."""
        return self.z[:, self.target]

    @property
    def exog(self) -> np.ndarray | None:
        """All channels but the target, z-scored [N, C-1]; None where there are none."""
        return np.delete(self.z, self.target, axis=1) if len(self.channels) > 1 else None

    @property
    def labels(self) -> np.ndarray:
        """What is forecast, z-scored [N, C_out]."""
        return self.z[:, list(self.outputs)]

    def origins(self, part: str, T: int, H: int) -> np.ndarray:
        """Origins (last seen rows) of a period: T rows are seen, the H rows that follow lie in the period.

        Parameters
        ----------
        part: ``train``, ``val``, ``test``, or ``stream`` (validation and test without a break).
        T, H: rows seen and rows forecast.

        Raises
        ------
        DataError
            A period that holds no window.
        """
        first, end = {
            "train": (T - 1, self.train_end),
            "val": (self.train_end - 1, self.val_end),
            "test": (self.val_end - 1, self.test_end),
            "stream": (self.train_end - 1, self.test_end),
        }[part]
        origins = np.arange(max(first, T - 1), end - H)
        if not len(origins):
            raise DataError(
                f"{self.name}: the {part} period holds no window of {T} + {H} rows (borders at rows {self.train_end}, "
                f"{self.val_end}, {self.test_end}); take a longer series, or smaller task.window and task.horizon"
            )
        return origins


def info(attrs: dict[str, Any], time: np.ndarray) -> dict[str, Any]:
    """The data set as ``run.json`` and the results state it."""
    first, last = (str(time[i].astype("datetime64[m]")).replace("T", " ") for i in (0, -1))
    return {
        "name": attrs["name"],
        "requested": attrs["requested"],
        "source": attrs["source"],
        "sha256": attrs["sha256"],
        "licence": attrs["licence"],
        "period": f"{first} to {last}" + (" (nominal)" if attrs["nominal_time"] else ""),
        "n": int(attrs["test_end"]),
    }


def _loaded(dataset: xr.Dataset, features: str) -> Series:
    attrs = dict(dataset.attrs)
    channels = [str(channel) for channel in dataset["channel"].values]
    target = channels.index(attrs["target"])
    keep = [target] if features == "S" else list(range(len(channels)))
    position = keep.index(target)
    values, mean, sd = (dataset[name].values[..., keep] for name in ("series", "mean", "sd"))
    switches = json.loads(attrs.pop("switches")) if "switches" in attrs else None
    return Series(
        name=attrs["name"],
        requested=attrs["requested"],
        time=dataset["time"].values.astype("datetime64[s]"),
        channels=tuple(channels[k] for k in keep),
        units=tuple(str(unit) for unit in dataset["unit"].values[keep]),
        values=values,
        z=(values - mean) / sd,
        mean=mean,
        sd=sd,
        stamps=dataset["stamps"].values,
        filled=dataset["filled"].values[:, keep].astype(bool),
        target=position,
        outputs=tuple(range(len(keep))) if features == "M" else (position,),
        train_end=int(attrs["train_end"]),
        val_end=int(attrs["val_end"]),
        test_end=int(attrs["test_end"]),
        season=int(attrs["season"]),
        step_seconds=float(attrs["step_seconds"]),
        info=info(attrs, dataset["time"].values),
        attrs=attrs,
        switches=tuple(Switch(**switch) for switch in switches) if switches is not None else None,
    )


def load_realizations(path: Path | str, features: str = "S") -> list[Series]:
    """Load a prepared store.

    Parameters
    ----------
    path: the folder that ``prepare`` wrote.
    features: ``S`` target alone; ``M`` all channels in and out; ``MS`` all in, target out.

    Returns
    -------
    One series; for a simulation one a seed, in the order of the seeds.
    """
    if features not in ("S", "M", "MS"):
        raise DataError(f"features must be S, M or MS, got {features!r}")
    path = Path(path)
    if not (path / "zarr.json").is_file():
        raise DataError(f"{path} is not a prepared series; run the prepare stage first")
    groups = sorted((p.name for p in path.glob("seed_*")), key=lambda group: int(group.removeprefix("seed_")))
    series = []
    for group in groups or [None]:
        with open_zarr(path, group) as dataset:
            series.append(_loaded(dataset.load(), features))
    return series
