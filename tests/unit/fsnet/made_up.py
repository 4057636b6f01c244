"""A made-up results table with its stores on disk: the true forms and known numbers, no training."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.core.statistics import paired, summary
from pipeline.core.store import write_json
from pipeline.fsnet import data, forecasts, scoring
from pipeline.fsnet.grid import Table
from pipeline.fsnet.regimes import simulate
from pipeline.fsnet.series import load_realizations
from pipeline.fsnet.settings import Evaluate, Simulation

# arm -> (relative error of its forecasts, settings)
ADAPTER = {"kind": "adapter"}
ARMS = {
    "ogd": (1.9, {}),
    "large": (2.1, {"network": {"hidden": 128}}),
    "er": (1.6, {"online": {"replay": {"size": 500}}}),
    "derpp": (1.58, {}),
    "naive": (1.85, {"network": {"kind": "naive"}}),
    "nomem": (1.75, {"network": ADAPTER}),
    "fsnet_upstream": (1.77, {"network": ADAPTER, "memory": {"kind": "upstream"}}),
    "fsnet_seed_fix": (1.74, {"network": ADAPTER, "memory": {"kind": "seed_fix"}}),
    "fsnet_paper": (1.78, {"network": ADAPTER, "memory": {"kind": "paper"}}),
    "fsnet_memory": (1.72, {"network": ADAPTER, "memory": {"kind": "working"}}),
    "tcn_delta": (0.96, {"network": {"subtract_last": True}}),
    "fsnet_aggregate": (0.92, {"ensemble": {"kind": "aggregate"}}),
}
BASELINES = {
    "persistence": 1.15,
    "seasonal_naive": 1.5,
    "half_drift": 1.1,
    "weekly_refit": 1.02,
    "rls": 1.0,
    "rls_rich": 0.94,
    "aggregate": 0.93,
    "aggregate_exog": 0.925,
}
REGIME_ARMS = {
    "regime_nomem": (1.0, {"regime": {"kind": "regime"}}),
    "regime_memory": (0.6, {"regime": {"kind": "regime", "memory": True}}),
    "nomem": (1.6, {"network": ADAPTER}),
    "fsnet_memory": (1.55, {"network": ADAPTER, "memory": {"kind": "working"}}),
}
WINDOW = 48


def source(name: str, requested: str | None = None, **more) -> dict:
    return {
        "name": name,
        "requested": requested or name,
        "source": "folder",
        "sha256": None,
        "title": name,
        "citation": "",
        "licence": "none",
        "borders": "ratio",
        "target": "OT",
        "units": {"OT": "degC"},
        **more,
    }


def write_data(path: Path, rows: int, requested: str | None = None) -> None:
    """A daily wave with noise, mean 20 and standard deviation 5."""
    index = pd.date_range("2020-01-01", periods=rows, freq="1h")
    rng = np.random.default_rng(0)
    wave = 20 + 5 * np.sqrt(2) * np.sin(2 * np.pi * np.arange(rows) / 24) + rng.normal(0, 0.5, rows)
    table = Table(pd.DataFrame({"OT": wave}, index=index), np.zeros((rows, 1), bool), "1h")
    data.write(data.build(table, source=source("made_up", requested)), path)


def write_regimes(path: Path, rows: int, seeds: list[int]) -> None:
    for seed in seeds:
        stream = simulate(Simulation(steps=rows), seed)
        index = pd.date_range("2000-01-01", periods=rows, freq="1h")
        table = Table(pd.DataFrame({"OT": stream.series}, index=index), np.zeros((rows, 1), bool), "1h", nominal=True)
        dataset = data.build(table, source=source("regimes", source="simulation", units={}))
        dataset.attrs["switches"] = json.dumps([asdict(switch) for switch in stream.switches])
        data.write(dataset, path, group=f"seed_{seed}")


def block(folder: Path, name: str, arms: dict, baselines: dict, seeds: list[int], horizon: int, leaky: bool) -> dict:
    """Write one scenario's forecast stores and return its block of the table."""
    series = load_realizations(folder / "data.zarr")
    origins = series[0].origins("stream", WINDOW, horizon)
    test = origins >= series[0].val_end - 1
    rng = np.random.default_rng(1)
    losses, entries = {}, {}
    for index, (method, given) in enumerate([*arms.items(), *baselines.items()]):
        arm = method in arms
        size, settings = given if arm else (given, None)
        members = seeds if arm or len(series) > 1 else [0]
        values, found = [], []
        for place in range(len(members)):
            one = series[place % len(series)]
            target = scoring.truth(one.labels, origins, horizon)
            growth = 0.1 * size * np.sqrt(np.arange(1, horizon + 1))[:, None]
            forecast = target + growth * rng.normal(size=target.shape) * (1 + 0.01 * place)
            for switch in one.switches or ():  # slow to recover where there is no memory
                at = switch.row - 1 - origins[0]
                if 0 <= at < len(origins):
                    span = 15 if "memory" in method and switch.kind == "recurrence" else 60
                    forecast[at : at + span] += rng.normal(size=forecast[at : at + span].shape)
            values.append(forecast)
            scored = scoring.scores(forecast[test], target[test], one.mean, one.sd) | {
                "coverage90": 0.9 - 0.001 * place
            }
            loss = scoring.losses(forecast[test], target[test])
            for width in (50, 100) if one.switches is not None else ():
                curve = [loss[s.row - one.val_end :][:width] for s in one.switches if s.row >= one.val_end]
                scored[f"mse_first{width}"] = float(np.concatenate(curve).mean())
                scored["mse_new100"] = scored[f"mse_first{width}"] * 1.1
            found.append((scored, scoring.vectors(forecast[test], target[test]), loss))
        losses[method] = np.stack([loss for _, _, loss in found])
        entries[method] = {
            "metrics": {key: summary([scored[key] for scored, _, _ in found]) for key in found[0][0]},
            "vectors": {key: np.mean([vector[key] for _, vector, _ in found], axis=0).tolist() for key in found[0][1]},
            "cost": {"ms_per_step": 0.02 * (index + 1)},
        }
        if arm:
            full = Evaluate(**{"task": {"horizon": horizon}, **settings}).model_dump(mode="json")
            remembers = full["memory"]["kind"] != "none" or full["regime"]["memory"]
            tracks = {}
            if remembers:
                share = 0.3 if full["regime"]["kind"] == "none" else 0.005
                tracks["fired"] = (rng.random((len(seeds), len(origins))) < share).astype(np.float32)
                tracks["read_ratio"] = np.where(tracks["fired"] > 0, 0.01, np.nan).astype(np.float32)
            (folder / method).mkdir(parents=True)
            stored = forecasts.Forecasts(np.stack(values), origins, seeds, tracks)
            forecasts.write(folder / method / "forecasts.zarr", stored)
            if remembers:
                write_slots(folder / method / "forecasts.zarr", rng, len(seeds), len(origins))
            entries[method] |= {
                "status": "done",
                "settings": full,
                "seeds": seeds,
                "parameters_live": 560514.0,
                **({"memory_firings": 0.3 * len(origins), "memory_read_ratio": 0.01} if remembers else {}),
            }
            trained = not full["memory"]["kind"] != "none" and full["ensemble"]["kind"] == "none"
            entries[method]["cost"] |= {"train_s": 40.0 if trained else None, "evaluate_s": 60.0, "peak_rss_mb": 400.0}
    bar = entries["rls"]["metrics"]["mse"]["mean"]
    for entry in entries.values():
        entry["metrics"]["skill"] = summary([1 - value / bar for value in entry["metrics"]["mse"]["values"]])
    pairs = [pair for pair in (("nomem", "fsnet_upstream"), ("nomem", "persistence"), ("regime_memory", "regime_nomem"),
                               ("tcn_delta", "rls"), ("fsnet_aggregate", "aggregate_exog"), ("fsnet_memory", "nomem"))
             if pair[0] in entries and pair[1] in entries]  # fmt: skip
    return {
        "description": f"made-up {name}",
        "leaky": leaky,
        "primary": {"metric": "mse", "unit": "squared training standard deviations", "better": "lower"},
        "dataset": series[0].info,
        "arms": {method: entries[method] for method in arms},
        "baselines": {method: entries[method] for method in baselines},
        "comparisons": [
            {"a": a, "b": b, "metric": "mse"} | paired(losses[a], losses[b], block=48, draws=200) for a, b in pairs
        ],
    }


def write_slots(path: Path, rng: np.random.Generator, seeds: int, origins: int) -> None:
    """A track of 12 slots: [member, origin, slot]."""
    import xarray as xr

    use = rng.random((seeds, origins, 12)) * np.linspace(0, 1, origins)[None, :, None]
    xr.Dataset({"slots": (("member", "origin", "slot"), use.astype(np.float32))}).to_zarr(
        path, mode="a", zarr_format=3, consolidated=False
    )


def results(root: Path, rows: int = 800, regime_rows: int = 4500) -> tuple[Path, list[Path]]:
    """Three scenarios as the workflow leaves them: the table's path and the data stores."""
    scenarios = {}
    stores = []
    for name, leaky, seeds in (("delayed", False, [0, 1, 2]), ("immediate", True, [0])):
        folder = root / "fsnet" / "made_up" / name
        folder.mkdir(parents=True)
        write_data(folder / "data.zarr", rows, requested="etth1" if leaky else None)
        scenarios[name] = block(folder, name, ARMS, BASELINES, seeds, 12, leaky)
        stores.append(folder / "data.zarr")
    folder = root / "fsnet" / "regimes" / "regimes"
    folder.mkdir(parents=True)
    write_regimes(folder / "data.zarr", regime_rows, [100, 101])
    few = {name: BASELINES[name] for name in ("persistence", "seasonal_naive", "rls")}
    scenarios["regimes"] = block(folder, "regimes", REGIME_ARMS, few, [100, 101], 1, False)
    stores.append(folder / "data.zarr")
    path = root / "fsnet_ablation.json"
    write_json(
        path,
        {
            "schema": "ablation/1",
            "system": "fsnet",
            "scenarios": scenarios,
            "unavailable": {},
            "software": {},
            "produced": "2026-01-01T00:00:00+00:00",
        },
    )
    return path, stores
