"""Commands that take files of one's own, really run as README and docs spell them, on small files made here.

A page's commands run one after the other in one folder, since some read what others have written. Where a command
trains for minutes, an option behind it cuts the budget; all else is as it stands on the page.
"""

import importlib.util
import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pipeline import cli

spec = importlib.util.spec_from_file_location("docs", Path(__file__).with_name("test_docs.py"))
docs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(docs)

SHORTER = {
    ("spin", "impute"): ["--seconds", "2"],
    ("smash", "fit"): ["--budget", "2"],
    ("rstmrf", "reconstruct"): ["--step", "15", "--alt", "100", "600", "100"],
}
# Run by other tests: they need a trained network, or the whole configuration, or a tracker.
ELSEWHERE = {("spin", "attention"), ("data",), ("sync",)}
ROWS, WARMUP, HORIZON = 400, 336, 12  # FSNet's default at hourly rows: 14 days


def commands() -> dict[str, list[list[str]]]:
    """Page -> arguments of the commands to run; the same command is run once a page."""
    found: dict[str, list[list[str]]] = {}
    for page, words in docs.shown():
        arguments = words[3:]
        if words[:3] != ["python", "-m", "pipeline"] or arguments in found.get(page, []):
            continue
        if len(arguments) == 2 and arguments[0] != "compare":  # named in a sentence, without its file
            continue
        if tuple(arguments[:1]) not in ELSEWHERE and tuple(arguments[:2]) not in ELSEWHERE:
            found.setdefault(page, []).append(arguments)
    return found


def hourly(first: int, rows: int) -> pd.DataFrame:
    t = np.arange(first, first + rows)
    noise = np.random.default_rng(first).normal(0, 0.2, (2, rows))
    time = pd.date_range("2024-01-01", periods=first + rows, freq="h")[first:]
    return pd.DataFrame({"date": time, "OT": 10 + 3 * np.sin(2 * np.pi * t / 24) + noise[0], "wind": noise[1]})


def series() -> None:
    hourly(0, ROWS).to_csv("my.csv", index=False)
    hourly(ROWS, 24).to_csv("tomorrow.csv", index=False)


def sensors(first: int, rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(first)
    t = np.arange(first, first + rows)[:, None]
    values = 50 + 8 * np.sin(2 * np.pi * t / 80) + np.arange(5) + rng.normal(0, 0.3, (rows, 5))
    frame = pd.DataFrame(np.where(rng.random(values.shape) < 0.1, np.nan, values), columns=list("abcde"))
    frame.insert(0, "time", pd.date_range("2024-01-01", periods=first + rows, freq="5min")[first:])
    return frame


def network() -> None:
    sensors(0, ROWS).to_csv("my.csv", index=False)
    sensors(ROWS, 60).to_csv("tomorrow.csv", index=False)
    Path("edges.csv").write_text("source,target\na,b\nb,c\nc,d\nd,e\n")
    Path("places.csv").write_text("node,x,y\na,0,0\nb,1,0\nc,2,0\nd,2,1\ne,1,1\nnew1,0.5,0.5\nnew2,1.5,0.5\n")


def catalogue(count: int, begin: str, days: float, seed: int) -> pd.DataFrame:
    """Events near Tokyo, half of them soon after an earlier one."""
    rng = np.random.default_rng(seed)
    t, place = rng.random(count // 2) * days, rng.normal(size=(count // 2, 2)) * [1.5, 1.0] + [140.0, 36.0]
    child = rng.integers(0, count // 2, count - count // 2)
    t = np.concatenate([t, t[child] + rng.exponential(0.5, len(child))])
    place = np.concatenate([place, place[child] + 0.03 * rng.normal(size=(len(child), 2))])
    order = np.argsort(t)
    time = (pd.Timestamp(begin) + pd.to_timedelta(t[order], "D")).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    frame = pd.DataFrame({"time": time, "lon": place[order, 0], "lat": place[order, 1]})
    return frame.assign(mag=(3 + rng.exponential(0.7, count)).round(2)[order])


def events() -> None:
    catalogue(600, "2025-03-01", 300, 0).to_csv("my_catalogue.csv", index=False)
    catalogue(40, "2026-02-01", 26, 1).to_csv("new_events.csv", index=False)


def ionosphere() -> None:
    """FY-3 text profiles of a Chapman layer, TEC maps and two ionosonde readings of one day."""
    Path("ionprf").mkdir()
    alt = np.arange(100.0, 601, 5)
    for hour, lon in ((2, 120.0), (8, 30.0), (14, -60.0), (20, -60.0)):
        z = (alt - 300) / 55
        density = 1e12 * np.exp(0.5 * (1 - z - np.exp(-z))) + 2e9
        rows = [
            f"{lon + 0.01 * k:.3f} {20 + 0.02 * k:.3f} {h} {n:.6g}"
            for k, (h, n) in enumerate(zip(alt, density, strict=True))
        ]
        Path(f"ionprf/20240508_{hour:02d}15_FY3.txt").write_text("lon lat alt ne\n" + "\n".join(rows) + "\n")
    lat, lon = np.arange(-90.0, 91, 15), np.arange(-180.0, 180, 15)
    time = np.datetime64("2024-05-08", "ns") + np.arange(24) * np.timedelta64(1, "h")
    tec = np.broadcast_to(20 + 10 * np.cos(np.deg2rad(lat))[:, None], (24, len(lat), len(lon)))
    maps = xr.Dataset({"tec": (("time", "lat", "lon"), tec, {"units": "TECU"})}, {"time": time, "lat": lat, "lon": lon})
    Path("ionex").mkdir()
    maps.to_netcdf("ionex/maps.nc")
    Path("sondes.csv").write_text(
        "time,lat,lon,fof2,hmf2\n2024-05-08T08:00,20,30,8.5,300\n2024-05-08T20:00,20,300,9.0,310\n"
    )


def results(system: str, scenario: str) -> None:
    """A table with one arm and one baseline."""
    metric = {"mean": 1.5, "sd": None, "ci95": None, "values": [1.5]}
    block = {
        "description": "made up",
        "leaky": False,
        "primary": {"metric": "mae", "unit": "mph", "better": "lower"},
        "dataset": {"name": "x", "requested": "x", "source": "folder", "licence": "", "period": ""},
        "arms": {"ours": {"status": "done", "seeds": [0], "metrics": {"mae": metric}}},
        "baselines": {"mean": {"metrics": {"mae": metric}}},
        "comparisons": [],
    }
    table = {"schema": "ablation/1", "system": system, "scenarios": {scenario: block}, "software": {}, "produced": ""}
    Path("results").mkdir(exist_ok=True)
    Path(f"results/{system}_ablation.json").write_text(json.dumps(table))


FILES = {"README.md": series, "fsnet.md": series, "spin.md": network, "smash.md": events, "rstmrf.md": ionosphere}


def test_every_page_with_such_commands_has_its_files():
    assert set(commands()) == set(FILES)
    kinds = {tuple(arguments[:2]) for several in commands().values() for arguments in several}
    assert {("fsnet", "forecast"), *SHORTER, ("smash", "forecast"), ("rstmrf", "query")} <= kinds


@pytest.mark.parametrize("page", FILES)
def test_the_commands_of_a_page_do_what_it_says(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    FILES[page]()
    said = []
    for arguments in commands()[page]:
        if arguments[0] == "compare":
            results(arguments[1], arguments[-1] if "--scenario" in arguments else "delayed")
        code = cli.main([*arguments, *SHORTER.get(tuple(arguments[:2]), [])])
        told = capsys.readouterr()
        assert code == 0, f"python -m pipeline {shlex.join(arguments)}: {told.err}"
        if "--out" in arguments:
            assert Path(arguments[arguments.index("--out") + 1]).exists()
        said.append(told.out)
    CHECKS[page](said)


def check_forecasts(said) -> None:
    origins = ROWS - WARMUP + 1
    table = pd.read_csv("forecasts.csv")
    days = len(table) // HORIZON - origins
    assert days in (0, 24)  # the page's second command, where it has one, adds tomorrow's
    assert table["lower"].le(table["upper"]).sum() == table["lower"].notna().sum() > 0
    assert "seasonal naive" in said[-2] + said[-1] and Path("state.npz").exists()


def check_filled(said) -> None:
    for given, filled in (("my.csv", "filled.csv"), ("tomorrow.csv", "tomorrow_filled.csv")):
        before, after = (pd.read_csv(path).iloc[:, 1:].to_numpy() for path in (given, filled))
        assert np.isnan(before).any() and np.isfinite(after).all()
        known = ~np.isnan(before)
        np.testing.assert_allclose(after[known], before[known], rtol=1e-6)
        assert len(pd.read_csv(filled.replace(".csv", ".cells.csv"))) == (~known).sum()
    for given, filled in (("my.csv", "with_new.csv"), ("tomorrow.csv", "tomorrow_new.csv")):
        after = pd.read_csv(filled)
        assert list(after) == [*pd.read_csv(given), "new1", "new2"] and after.notna().all(axis=None)


def check_events(said) -> None:
    for folder in ("forecast", "week"):
        quantiles = pd.read_csv(f"{folder}/next_event.csv")
        assert quantiles.select_dtypes("number").iloc[:, 0].is_monotonic_increasing
    assert "Next 7 day" in said[3]
    facts = json.loads(Path("week/forecast.json").read_text())
    assert "2026-03-01" in json.dumps(facts)


def check_field(said) -> None:
    profile, columns, slant, _, sondes = (text for text in said[1:6])
    assert len(profile.splitlines()) == 1 + 6  # levels of 100 to 600 km
    assert {"fof2_mhz", "hmf2_km", "tec_tecu", "fof2_mhz_iri"} <= set(columns.splitlines()[0].split(","))
    assert len(slant.splitlines()) == 2 and len(sondes.splitlines()) == 1 + 2
    assert len(pd.read_csv("hmf2.csv")) == 13 * 24  # nodes every 15 degrees, both poles, no meridian twice


CHECKS = {
    "README.md": check_forecasts,
    "fsnet.md": check_forecasts,
    "spin.md": check_filled,
    "smash.md": check_events,
    "rstmrf.md": check_field,
}
