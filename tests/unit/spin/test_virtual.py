"""Series of places without a sensor: imputed from coordinates, scored on held-out sensors, one error a mistake."""

import argparse
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.core.errors import DataError, PipelineError
from pipeline.spin import own_model, own_places, published, virtual
from pipeline.spin.commands import add
from pipeline.spin.intervals import Intervals
from pipeline.spin.own import Request, hold_out, run
from pipeline.spin.settings import Settings

from .made_up import cube

ROWS, NEW = 160, 40
NAMES = [f"s{i}" for i in range(14)]  # s12 never has values, s13 has some in the new rows alone


def field(rows=ROWS + NEW):
    """A wave whose level and height grow along x: [rows, 14], and the places [14, 2]."""
    rng = np.random.default_rng(0)
    place = rng.random((14, 2))
    t = np.arange(rows)[:, None]
    shared = 0.3 * np.cumsum(rng.normal(size=(rows, 1)), axis=0)
    wave = (1 + place[:, 0]) * np.sin(2 * np.pi * t / 24) + 5 * place[:, 0]
    return 20 + wave + shared + 0.1 * rng.normal(size=(rows, 14)), place


def write(folder):
    whole, place = field()
    gone = np.random.default_rng(1).random(whole.shape) < 0.1
    frame = pd.DataFrame(np.where(gone, np.nan, whole), columns=NAMES)
    frame.insert(0, "time", pd.date_range("2024-01-01", periods=len(whole), freq="h"))
    frame[:ROWS].drop(columns=["s12", "s13"]).to_csv(folder / "my.csv", index=False)
    frame[ROWS:].drop(columns="s12").to_csv(folder / "new.csv", index=False)
    places = pd.DataFrame({"node": NAMES, "x": place[:, 0], "y": place[:, 1]})
    places.to_csv(folder / "places.csv", index=False)
    return whole, gone


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("virtual")
    whole, gone = write(folder)
    request = Request(
        folder / "my.csv", folder / "filled.csv", places=folder / "places.csv", virtual=("all",),
        model=folder / "city.safetensors", seconds=1.0,
    )  # fmt: skip
    return folder, whole, gone, request, run(request)


def test_the_whole_series_of_a_virtual_sensor_is_imputed_with_intervals(made):
    folder, whole, gone, _, outcome = made
    out = pd.read_csv(folder / "filled.csv")
    assert list(out) == ["time", *NAMES] and np.isfinite(out[NAMES].to_numpy()).all()
    np.testing.assert_allclose(
        out[NAMES[:12]].to_numpy()[~gone[:ROWS, :12]], whole[:ROWS, :12][~gone[:ROWS, :12]], rtol=1e-6
    )
    error = np.abs(out[["s12", "s13"]].to_numpy() - whole[:ROWS, 12:])
    assert error.mean() < np.abs(whole[:ROWS].mean() - whole[:ROWS, 12:]).mean()
    cells = pd.read_csv(folder / "filled.cells.csv")
    new = cells[cells["node"].isin(["s12", "s13"])]
    assert len(new) == 2 * ROWS and len(cells) == 2 * ROWS + gone[:ROWS, :12].sum() == len(outcome.filled)
    assert (new["lower"] <= new["value"]).all() and (new["value"] <= new["upper"]).all() and new["gap"].isna().all()


def test_held_out_sensors_tell_error_and_coverage(made):
    *_, outcome = made
    found = outcome.fitted.virtual
    assert len(found.held) == 4 and set(found.held) < set(NAMES[:12])
    assert list(found.scores) == ["this model", *virtual.VOICES]
    assert np.sum(found.weight) == pytest.approx(1) and 0.7 <= found.coverage <= 1
    again = own_model.load(made[3].model)
    assert again.virtual == found and again.settings.network.embedding == "places"
    told = virtual.judge(again).scores["this model"]["value"]
    assert told == pytest.approx(found.scores["this model"]["value"], rel=1e-4)


def test_training_sees_nothing_of_a_held_out_sensor(made):
    fitted = made[4].fitted
    held, train = np.isin(fitted.cube.nodes, fitted.virtual.held), fitted.cube.split == 0
    value = fitted.cube.value.copy()
    value[np.ix_(train, held)] = value[np.ix_(train, held)][::-1]  # other values, of the same mean and deviation
    found = []
    for data in (fitted.cube, replace(fitted.cube, value=value)):
        model = published.for_cube(fitted.settings.network, data, "cpu", 0)
        loss, validate = virtual.training(model, data, fitted.settings, 0)
        with torch.no_grad():
            found.append([float(loss(np.random.default_rng(0))), validate()])
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_a_kept_model_takes_further_sensors_without_training(made, monkeypatch, capsys):
    folder, whole, gone, request, _ = made
    monkeypatch.setattr("pipeline.spin.own.train", lambda *a: pytest.fail("trained again"))
    parser = argparse.ArgumentParser()
    add(parser.add_subparsers())
    files = ["--places", str(request.places), "--model", str(request.model), "--out", str(folder / "new_filled.csv")]
    args = parser.parse_args(["impute", str(folder / "new.csv"), "--virtual", "s12", *files])
    args.run(args)
    text = capsys.readouterr().out
    assert "2 places that training never saw: s13, s12" in text and "4 held-out sensors" in text
    assert "inverse distances" in text and "intervals that the others give" in text
    out = pd.read_csv(folder / "new_filled.csv")[NAMES].to_numpy()
    known = ~gone[ROWS:]
    known[:, 12] = False
    np.testing.assert_allclose(out[known], whole[ROWS:][known], rtol=1e-6)
    assert np.isfinite(out).all()
    with pytest.raises(DataError, match="it doesn't know s13.*trained with --places it takes further sensors"):
        run(Request(folder / "new.csv", folder / "x.csv", model=request.model))
    table = pd.read_csv(folder / "places.csv")
    table["x"] += 0.5
    table.to_csv(folder / "moved.csv", index=False)
    with pytest.raises(DataError, match="knows other places .* of the sensors s0, s1"):
        run(replace(request, places=folder / "moved.csv"))


def test_a_model_without_coordinates_refuses_further_sensors(tmp_path):
    write(tmp_path)
    data, settings = cube(), Settings()
    weights = published.for_cube(settings.network, data, "cpu").state_dict()
    model = tmp_path / "plain.safetensors"
    own_model.save(model, own_model.Fitted(data, settings, weights, Intervals(np.zeros((2, 7, 2)), (0.05, 0.95))))
    with pytest.raises(PipelineError, match="trained without coordinates: it takes no sensors but its own"):
        run(
            Request(
                tmp_path / "my.csv", tmp_path / "x.csv", places=tmp_path / "places.csv", virtual=("all",), model=model
            )
        )
    assert not (tmp_path / "x.csv").exists()


def test_intervals_are_wide_enough_for_a_sensor_that_gave_none():
    rng = np.random.default_rng(0)
    sensor = np.repeat(np.arange(200), 10)
    missed = rng.normal(0, 1, 200)[sensor] + 0.3 * rng.normal(size=2000)  # each sensor is off on its own
    ((low, high),), coverage = virtual.intervals(missed, sensor, np.zeros(2000, int), 1, 0.9)
    fresh = np.repeat(rng.normal(0, 1, 2000), 5) + 0.3 * rng.normal(size=10_000)
    assert 0.85 < coverage < 0.96 and 0.85 < np.mean((low <= fresh) & (fresh <= high)) < 0.97


def test_too_few_held_out_sensors_give_a_score_but_no_intervals():
    data = cube(nodes=7, channels=2)
    data, _ = hold_out(replace(data, attrs={"place": "xy"}), "point", 0)
    found = Settings.model_validate(virtual.settings(*data.shape))
    weights = published.for_cube(found.network, data, "cpu").state_dict()
    fitted = own_model.Fitted(data, found, weights)
    fitted.virtual = virtual.judge(fitted)
    assert len(fitted.virtual.held) == 2 and fitted.virtual.table is None and fitted.virtual.coverage is None
    unseen = np.isin(data.nodes, fitted.virtual.held)
    rows, near, truth = data.split == 2, [], []
    for k in np.flatnonzero(unseen):  # by hand: inverse squared distances to the sensors that are shown
        weight = np.where(unseen, 0, 1 / np.maximum(((data.place - data.place[k]) ** 2).sum(axis=1), 1e-12))
        shown = data.observed[rows][:, :, 0] * weight
        near.append((np.nan_to_num(data.value[rows][:, :, 0]) * weight).sum(axis=1) / shown.sum(axis=1))
        truth.append(data.value[rows][:, k, 0])
    expected = np.nanmean(np.abs(np.array(near) - np.array(truth)))
    assert fitted.virtual.scores["inverse distances"]["c0"] == pytest.approx(expected, rel=1e-5)
    value, band = virtual.fill(fitted, data, unseen, 100)
    assert value.shape == (len(data.time) - 100, 2, 2) and np.isnan(band).all()


def test_cubes_are_cut_and_widened_with_their_graph():
    data = replace(cube(), attrs={"place": "xy"})
    part = own_places.take(data, np.array([4, 3, 0]))
    assert part.nodes == ("n4", "n3", "n0") and (part.value[:, 0] == data.value[:, 4])[data.observed[:, 4]].all()
    assert {tuple(edge) for edge in part.edge_index.T} == {(1, 0), (0, 1)}  # of the ring, only n3 - n4 is left
    old, whole = own_places.over(part, data)
    assert whole.nodes == old.nodes == ("n4", "n3", "n0", "n1", "n2", "n5")
    assert np.isnan(old.value[:, 3:]).all() and not old.hidden[:, :, 3:].any()
    np.testing.assert_array_equal(old.value[:, :3], part.value)
    names = {frozenset((data.nodes[s], data.nodes[t])) for s, t in data.edge_index.T}
    assert {frozenset((whole.nodes[s], whole.nodes[t])) for s, t in old.edge_index.T} == names


@pytest.mark.parametrize(
    ("changes", "places", "message"),
    [
        ({"virtual": ("s0", "s12", "s13")}, None, "--virtual names 1 sensor with values in my.csv: s0; virtual are"),
        ({"virtual": ("s12", "s13", "q")}, None, "names 1 sensor without a place in places.csv: q; give their"),
        ({"virtual": ("s12",)}, None, "names 1 sensor without values in my.csv: s13; name them"),
        ({}, lambda f: f.drop(index=3), "places.csv gives no place for 1 sensors: s3"),
        ({}, lambda f: f.assign(x=f["x"].where(f["node"] != "s12", 99.0)), "to 1 virtual sensor: s12. A"),
        ({}, lambda f: f.rename(columns={"x": "k"}), "places.csv is no graph|no coordinates"),
        ({}, lambda f: f[["x", "y"]], "places.csv has no column of sensors"),
        ({"graph": "edges.csv"}, None, "no edge leads from a sensor with values to 2 virtual"),
        ({"places": None}, None, "--virtual needs coordinates"),
        ({"method": "residual"}, None, "--places goes with --method spin"),
    ],
)  # fmt: skip
def test_bad_requests_are_one_error_and_nothing_is_written(tmp_path, changes, places, message):
    write(tmp_path)
    (tmp_path / "edges.csv").write_text("source,target\ns0,s1\ns12,s13\ns12,s0\n")
    if places:
        places(pd.read_csv(tmp_path / "places.csv")).to_csv(tmp_path / "places.csv", index=False)
    before = sorted(tmp_path.iterdir())
    if "graph" in changes:
        changes = changes | {"graph": tmp_path / changes["graph"]}
    request = {"path": tmp_path / "my.csv", "out": tmp_path / "x.csv", "places": tmp_path / "places.csv"}
    with pytest.raises(PipelineError, match=message):
        run(Request(**(request | {"virtual": ("all",)} | changes)))
    assert sorted(tmp_path.iterdir()) == before


def test_four_sensors_are_too_few(tmp_path):
    write(tmp_path)
    pd.read_csv(tmp_path / "my.csv").iloc[:, :5].to_csv(tmp_path / "my.csv", index=False)
    with pytest.raises(DataError, match="my.csv has 4 sensors with values; --places needs at least 5"):
        run(Request(tmp_path / "my.csv", tmp_path / "x.csv", places=tmp_path / "places.csv", virtual=("all",)))


def test_real_stations_are_imputed_without_their_values(data_dir, tmp_path):
    """Twenty days of 36 Beijing stations, four of them taken out; inverse distances computed by hand."""
    frame = pd.read_csv(data_dir / "air/aqi36/pm25_ground.txt").iloc[:480]
    frame = frame.rename(columns={frame.columns[0]: "time"})
    places = pd.read_csv(data_dir / "air/aqi36/pm25_latlng.txt", dtype={"sensor_id": str})
    places = places.rename(columns={"sensor_id": "node", "latitude": "lat", "longitude": "lon"})
    new = list(frame.columns[[5, 13, 21, 29]])
    truth = frame[new].to_numpy(float)
    frame.drop(columns=new).to_csv(tmp_path / "my.csv", index=False)
    places.to_csv(tmp_path / "places.csv", index=False)
    files = {"path": tmp_path / "my.csv", "out": tmp_path / "out.csv", "places": tmp_path / "places.csv"}
    outcome = run(Request(**files, model=tmp_path / "kept.safetensors", virtual=tuple(new), seconds=5.0))
    known = np.isfinite(truth)
    value = pd.read_csv(tmp_path / "out.csv")[new].to_numpy()
    cells = pd.read_csv(tmp_path / "out.cells.csv", dtype={"node": str})
    lower, upper = (
        cells.pivot(index="time", columns="node", values=name)[new].to_numpy() for name in ("lower", "upper")
    )
    place = places.set_index("node")[["lat", "lon"]] * [1, np.cos(np.deg2rad(40))]
    near, shown = [], frame.drop(columns=["time", *new])
    for name in new:
        weight = 1 / ((place.loc[shown.columns] - place.loc[name]) ** 2).sum(axis=1)
        near.append((shown * weight).sum(axis=1) / (shown.notna() * weight).sum(axis=1))
    error, inverse = (np.abs(guess - truth)[known].mean() for guess in (value, np.stack(near, axis=1)))
    inside = ((lower <= truth) & (truth <= upper))[known].mean()
    assert error < 1.1 * inverse  # after five CPU seconds 10.5 for 10.8 µg/m³
    assert 0.7 < inside < 0.99  # 87 %
    assert len(outcome.fitted.virtual.held) == 6 and 0.8 < outcome.fitted.virtual.coverage < 1
