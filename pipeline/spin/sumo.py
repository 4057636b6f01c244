"""A small city simulated by SUMO: lane detectors on a street grid, their values every five minutes, and the lane graph.

The package ``eclipse-sumo`` brings the programs; nothing is downloaded. Each day is a run of its own from an empty
network: netgenerate makes the streets once, randomTrips the day's trips with a morning and a noon peak, sumo drives
them. An induction loop near the end of every lane gives the mean speed, the occupancy and the number of vehicles; the
speed is missing where no vehicle passed (SUMO writes -1), as a real detector has nothing to say then.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ..core.errors import DataError
from .data_settings import WARM_UP_S, Simulation
from .graph import Edges
from .raw import Raw

START_H = 6  # the hour at which a day begins
BEFORE_END_M = 40  # place of the loops: queues of a red light reach them
CHANNELS = {"avg_speed": "km/h", "avg_occupancy": "fraction", "total_vehicles": "vehicles"}
CROSSING, NEAR, DIRECT = 0.5, 0.5, 1.0  # weights of the edge types, as the lane layout has them


def home() -> Path:
    """The folder of the installed package.

    Raises
    ------
    DataError
        It is not installed.
    """
    found = importlib.util.find_spec("sumo")
    if found is None or not found.submodule_search_locations:
        raise DataError(
            "the simulated city needs the package eclipse-sumo, which is not installed: `pip install eclipse-sumo`, or "
            "choose another data set for the scenario"
        )
    return Path(next(iter(found.submodule_search_locations)))


def demand(settings: Simulation, rng: np.random.Generator) -> np.ndarray:
    """Trips an hour in each quarter of an hour of a day: peaks at 8:00 and 12:30, a factor by day, and noise."""
    quarters = np.arange(-WARM_UP_S / 3600, settings.hours, 0.25) + START_H
    shape = 0.25 + 0.75 * np.exp(-(((quarters - 8) / 0.9) ** 2)) + 0.45 * np.exp(-(((quarters - 12.5) / 1.2) ** 2))
    return settings.trips * shape * rng.lognormal(0, 0.15) * rng.lognormal(0, 0.05, len(quarters))


def run(program: list[Any], sumo: Path, folder: Path) -> None:
    """Run one program of the package in a folder (some leave files behind); its own message is the error's."""
    environment = {**os.environ, "SUMO_HOME": str(sumo)}
    command = [str(part) for part in program]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise DataError(f"{Path(program[0]).name} of eclipse-sumo failed: {said[0] if said else done.returncode}")


def streets(settings: Simulation, folder: Path, sumo: Path) -> Path:
    """The network file: a grid of two-lane streets, traffic lights wherever three or more streets meet."""
    net = folder / "net.xml"
    grid = ["--grid", "--grid.number", settings.grid, "--grid.length", settings.block, "--default.lanenumber", 2]
    run(
        [sumo / "bin" / "netgenerate", *grid, "--tls.guess", "true", "--no-turnarounds", "true"]
        + ["--seed", settings.seed, "-o", net],
        sumo,
        folder,
    )
    return net


def lanes(net: Path) -> tuple[list[str], np.ndarray, Edges]:
    """Lanes of a network: names [N] in order, middles [N, 2] in metres, and the edges between them.

    ``direct``: straight on or around a corner without a signal. ``crossing``: over a signal-controlled junction.
    ``near``: the lane beside, both ways.
    """
    root = ElementTree.parse(net).getroot()
    names, middles, beside = [], [], []
    for edge in root.iter("edge"):
        if edge.get("function") == "internal":
            continue
        found = sorted(edge.iter("lane"), key=lambda lane: int(lane.get("index")))
        for lane in found:
            points = np.array([[float(v) for v in point.split(",")[:2]] for point in lane.get("shape").split()])
            names.append(lane.get("id"))
            middles.append(points.mean(axis=0))
        ids = [lane.get("id") for lane in found]
        beside += [pair for a, b in zip(ids, ids[1:], strict=False) for pair in ((a, b), (b, a))]
    index = {name: i for i, name in enumerate(names)}
    rows = [(index[a], index[b], NEAR, "near") for a, b in beside]
    for link in root.iter("connection"):
        source, target = (f"{link.get(end)}_{link.get(f'{end}Lane')}" for end in ("from", "to"))
        if source in index and target in index:
            signal = link.get("tl") is not None
            rows.append((index[source], index[target], *((CROSSING, "crossing") if signal else (DIRECT, "direct"))))
    return names, np.array(middles), Edges.of(rows)


def day(settings: Simulation, number: int, net: Path, names: list[str], folder: Path, sumo: Path) -> np.ndarray:
    """[rows, N, 3] one day's intervals of every lane: speed (NaN without a vehicle), occupancy, vehicles."""
    seed = 1000 * settings.seed + number
    rates = demand(settings, np.random.default_rng(seed))
    end = WARM_UP_S + int(settings.hours * 3600) // settings.every * settings.every
    trips, loops, counted = folder / "trips.xml", folder / "loops.xml", folder / "counts.xml"
    run(
        [sys.executable, sumo / "tools" / "randomTrips.py", "-n", net, "-o", trips, "-b", 0, "-e", 900 * len(rates)]
        + ["--insertion-rate", *(f"{rate:.1f}" for rate in rates), "--poisson", "--fringe-factor", 5, "--seed", seed],
        sumo,
        folder,
    )
    # whole intervals are counted from the start of the run: the warm-up must be a multiple of them
    detectors = "".join(
        f'<inductionLoop id="{name}" lane="{name}" pos="-{BEFORE_END_M}" period="{settings.every}" '
        f'friendlyPos="true" file="{counted.name}"/>'
        for name in names
    )
    loops.write_text(f"<additional>{detectors}</additional>")
    run(
        [sumo / "bin" / "sumo", "-n", net, "-r", trips, "-a", loops, "--seed", seed, "-e", end]
        + ["--no-step-log", "--no-warnings", "--time-to-teleport", 300],
        sumo,
        folder,
    )
    skipped = WARM_UP_S // settings.every  # intervals of the warm-up
    values = np.full((end // settings.every - skipped, len(names), len(CHANNELS)), np.nan)
    index = {name: i for i, name in enumerate(names)}
    for _, interval in ElementTree.iterparse(counted):
        if interval.tag != "interval":
            continue
        row = round(float(interval.get("begin")) / settings.every) - skipped
        if 0 <= row < len(values):
            speed = float(interval.get("speed"))
            values[row, index[interval.get("id")]] = (
                3.6 * speed if speed >= 0 else np.nan,
                float(interval.get("occupancy")) / 100,
                float(interval.get("nVehContrib")),
            )
        interval.clear()
    return values


def simulate(settings: Simulation, log: Any = None) -> Raw:
    """The simulated days as segments; the same seed gives the same values to the bit.

    Raises
    ------
    DataError
        eclipse-sumo is not installed, or one of its programs fails.
    """
    sumo = home()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        net = streets(settings, folder, sumo)
        nodes, place, edges = lanes(net)
        parts = []
        for number in range(settings.days):
            parts.append(day(settings, number, net, nodes, folder, sumo))
            if log is not None:
                log.info(f"day {number + 1} of {settings.days}: {np.nansum(parts[-1][..., 2]):,.0f} passages")
    rows = len(parts[0])
    first = np.datetime64("2024-01-01T00:00:00", "ns") + np.timedelta64(START_H, "h")
    steps = (np.arange(rows) * settings.every).astype("timedelta64[s]")
    return Raw(
        value=np.concatenate(parts),
        time=np.concatenate([first + np.timedelta64(i, "D") + steps for i in range(settings.days)]),
        segment=np.repeat(np.arange(settings.days), rows),
        nodes=tuple(nodes),
        channels=tuple(CHANNELS),
        units=tuple(CHANNELS.values()),
        edges=edges,
        place=place,
        place_kind="xy",
        step_seconds=float(settings.every),
        report=[f"simulated with seed {settings.seed}"],
    )
