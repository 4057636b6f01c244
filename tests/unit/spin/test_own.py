"""Filling a user's own file: every gap and nothing else, intervals, models that are used again, one error a mistake."""

import argparse

import numpy as np
import pandas as pd
import pytest

from pipeline.core.errors import DataError, PipelineError
from pipeline.spin import own_model
from pipeline.spin.commands import add
from pipeline.spin.own import Request, hold_out, read, run

ROWS, NODES = 600, 5


def values(rows=ROWS, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(rows)[:, None]
    shared = np.cumsum(rng.normal(0, 0.4, (rows, 1)), axis=0)
    return 50 + 8 * np.sin(2 * np.pi * t / 80) + shared + rng.normal(0, 0.3, (rows, NODES))


def table(whole, missing=0.15, seed=1, start="2024-01-01"):
    gone = np.random.default_rng(seed).random(whole.shape) < missing
    frame = pd.DataFrame(np.where(gone, np.nan, whole), columns=list("abcde"))
    frame.insert(0, "time", pd.date_range(start, periods=len(whole), freq="5min"))
    return frame, gone


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    whole = values(ROWS + 80)
    frame, gone = table(whole)
    frame[:ROWS].to_csv(folder / "my.csv", index=False)
    frame[ROWS:].to_csv(folder / "new.csv", index=False)
    (folder / "edges.csv").write_text("source,target\na,b\nb,c\nc,d\nd,e\n")
    request = Request(
        folder / "my.csv", folder / "filled.csv", folder / "edges.csv", folder / "model.safetensors", seconds=3.0
    )
    return folder, whole, gone, request, run(request)


def test_every_gap_is_filled_and_no_known_cell_is_touched(filled):
    folder, whole, gone, _, outcome = filled
    out = pd.read_csv(folder / "filled.csv")
    given = pd.read_csv(folder / "my.csv")
    assert list(out) == list(given) and len(out) == ROWS
    got, gone = out.iloc[:, 1:].to_numpy(), gone[:ROWS]
    np.testing.assert_allclose(got[~gone], whole[:ROWS][~gone], rtol=1e-6)
    assert np.isfinite(got).all()
    cells = pd.read_csv(folder / "filled.cells.csv")
    assert len(cells) == gone.sum() == len(outcome.filled)
    row = out.set_index("time")
    for cell in cells.sample(20, random_state=0).itertuples():
        assert row.loc[cell.time, cell.node] == pytest.approx(cell.value, rel=1e-6)
        assert cell.lower <= cell.value <= cell.upper


def test_filling_is_better_than_the_line_and_the_intervals_hold_what_they_say(filled):
    _, whole, gone, _, outcome = filled
    gone = gone[:ROWS]
    error = np.abs(outcome.value - whole[:ROWS][gone])
    line = pd.DataFrame(np.where(gone, np.nan, whole[:ROWS])).interpolate(limit_direction="both").to_numpy()
    assert error.mean() < 0.9 * np.abs(line[gone] - whole[:ROWS][gone]).mean()
    inside = (whole[:ROWS][gone] >= outcome.band[:, 0]) & (whole[:ROWS][gone] <= outcome.band[:, 1])
    assert 0.8 <= inside.mean() <= 0.98  # 90 % of 240 cells: 5 standard errors
    scores = outcome.fitted.scores
    assert {"mean", "linear", "knn", "boosting", "this model"} <= set(scores)
    assert scores["this model"]["value"] <= scores["linear"]["value"] < scores["mean"]["value"]


def test_a_kept_model_fills_as_the_one_in_memory(filled):
    _, _, _, request, outcome = filled
    again = own_model.load(request.model)
    cells = outcome.filled[:50]
    np.testing.assert_allclose(
        again.values(again.cube, 1, cells), outcome.fitted.values(outcome.fitted.cube, 1, cells), rtol=1e-5
    )


def test_new_rows_are_filled_without_training(filled, monkeypatch):
    folder, whole, gone, request, _ = filled
    monkeypatch.setattr("pipeline.spin.own.train", lambda *a: pytest.fail("trained again"))
    before = request.model.read_bytes()
    outcome = run(Request(folder / "new.csv", folder / "new_filled.csv", model=request.model))
    assert not outcome.trained and request.model.read_bytes() == before
    new = gone[ROWS:]
    got = pd.read_csv(folder / "new_filled.csv").iloc[:, 1:].to_numpy()
    np.testing.assert_allclose(got[~new], whole[ROWS:][~new], rtol=1e-6)
    assert np.abs(got[new] - whole[ROWS:][new]).mean() < 1.0  # noise .3, walk .4 a step: the line is at about .6
    joined = own_model.join(outcome.fitted, read(Request(folder / "new.csv", folder / "x.csv"))[0])
    assert joined.segment[ROWS] == joined.segment[ROWS - 1]  # the new rows follow the old ones


def test_held_out_cells_are_known_and_outside_the_training_rows(filled):
    folder, *_ = filled
    cube, _ = read(Request(folder / "my.csv", folder / "x.csv"))
    whole, said = hold_out(cube, "auto", 0)
    assert "own gaps" in said
    assert (whole.hidden[0] & np.isnan(cube.value)).sum() == 0 and not whole.hidden[1].any()
    assert not whole.hidden[0][whole.split == 0].any()
    assert np.bincount(whole.split).argmax() == 0 and set(np.unique(whole.split)) == {0, 1, 2}


def test_without_a_model_file_the_network_is_averaged_with_boosting(tmp_path):
    frame, _ = table(values(300))
    frame.to_csv(tmp_path / "my.csv", index=False)
    outcome = run(Request(tmp_path / "my.csv", tmp_path / "out.csv", base="linear", seconds=1.0))
    fitted, cells = outcome.fitted, outcome.filled
    (shares,) = fitted.weight
    assert shares.sum() == pytest.approx(1) and (shares >= 0).all()
    voices = [voice(fitted.cube, 1, cells) for voice in (fitted.network, fitted.straight, fitted.boosted)]
    np.testing.assert_allclose(outcome.value, shares @ voices, rtol=1e-5)
    line = frame.iloc[:, 1:].interpolate(limit_direction="both").to_numpy()
    np.testing.assert_allclose(voices[1], line[np.isnan(frame.iloc[:, 1:].to_numpy())], rtol=1e-5)
    held = own_model.flat_targets(fitted.cube, 1)
    truth = fitted.cube.value.ravel()[held]
    voices = (fitted.network, fitted.straight, fitted.boosted)
    errors = [np.abs(guess(fitted.cube, 0, held) - truth).mean() for guess in voices]
    assert np.abs(fitted.values(fitted.cube, 0, held) - truth).mean() <= min(errors) + 1e-6


def test_two_channels_by_the_published_network(tmp_path):
    frame, _ = table(values(300))
    long = frame.melt("time", var_name="node", value_name="speed").sort_values(["time", "node"])
    long["flow"] = long["speed"] * 3 + 1
    long.to_parquet(tmp_path / "my.parquet")
    outcome = run(Request(tmp_path / "my.parquet", tmp_path / "out.nc", method="spin", seconds=2.0, hide="point"))
    import xarray as xr

    with xr.open_dataset(tmp_path / "out.nc") as data:
        assert set(data.data_vars) == {
            f"{c}{s}" for c in ("speed", "flow") for s in ("", "_lower", "_upper", "_filled")
        }
        assert int(data["speed_filled"].sum() + data["flow_filled"].sum()) == len(outcome.filled)
        assert np.isfinite(data["flow"]).all()
        assert (np.isfinite(data["speed_lower"]) == (data["speed_filled"] == 1)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.assign(c=np.nan), "1 sensor has no value at all: c"),
        (lambda f: f.iloc[::-1], "comes after a later one"),
        (lambda f: pd.concat([f[:3], f[2:]]), "is given twice"),
        (lambda f: f.fillna(1.0), "no missing cell"),
        (lambda f: f[:30], "30 rows; at least 40"),
        (lambda f: f.rename(columns={"a": "z"}), "edges.csv names 1 node that the data don.t have: a"),
    ],
)
def test_bad_data_is_one_error_and_nothing_is_written(tmp_path, change, message):
    frame, _ = table(values(100))
    change(frame).to_csv(tmp_path / "my.csv", index=False)
    (tmp_path / "edges.csv").write_text("source,target\na,b\n")
    with pytest.raises(DataError, match=message):
        run(Request(tmp_path / "my.csv", tmp_path / "out.csv", tmp_path / "edges.csv", tmp_path / "m.safetensors"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["edges.csv", "my.csv"]


def test_a_model_refuses_other_sensors_and_other_files(filled, tmp_path):
    *_, request, _ = filled
    frame, _ = table(values(100))
    frame.rename(columns={"a": "z"}).to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(DataError, match="it doesn't know z; the file lacks a"):
        run(Request(tmp_path / "other.csv", tmp_path / "out.csv", model=request.model))
    frame["time"] = pd.date_range("2024-02-01", periods=100, freq="1h")
    frame.to_csv(tmp_path / "hourly.csv", index=False)
    with pytest.raises(DataError, match="rows 300 s apart, the new ones are 3600 s"):
        run(Request(tmp_path / "hourly.csv", tmp_path / "out.csv", model=request.model))
    (tmp_path / "wrong.safetensors").write_bytes(b"not a model")
    with pytest.raises(PipelineError, match="can't be read as a model"):
        run(Request(tmp_path / "hourly.csv", tmp_path / "out.csv", model=tmp_path / "wrong.safetensors"))
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out": "out.txt"}, "'.txt' are not written"),
        ({"out": "none/out.csv"}, "doesn't exist; make it first"),
        ({"out": "my.csv"}, "is an input"),
        ({"level": 1.2}, "--level"),
        ({"model": "m.safetensors", "base": "boosting"}, "can't be kept"),
    ],
)
def test_impossible_options(tmp_path, changes, message):
    table(values(60))[0].to_csv(tmp_path / "my.csv", index=False)
    changes = {k: tmp_path / v if k in ("out", "model") else v for k, v in changes.items()}
    with pytest.raises(PipelineError, match=message):
        run(Request(**({"path": tmp_path / "my.csv", "out": tmp_path / "out.csv"} | changes)))


def test_the_command_prints_errors_and_coverage(filled, capsys):
    folder, *_, request, _ = filled
    parser = argparse.ArgumentParser()
    add(parser.add_subparsers())
    out = folder / "printed.csv"
    args = parser.parse_args(["impute", str(folder / "new.csv"), "--out", str(out), "--model", str(request.model)])
    args.run(args)
    text = capsys.readouterr().out
    assert "used as it is" in text and "linear" in text and "lay within their 90% intervals" in text
    assert str(out) in text and str(folder / "printed.cells.csv") in text


def test_real_speeds_are_filled_by_the_command_with_its_own_settings(data_dir, tmp_path, capsys):
    """Two days of sixteen Los Angeles detectors, a fifth hidden; all settings as they are, the minute cut short."""
    frame = pd.read_csv(data_dir / "traffic/metr_la_week/los_speed.csv").iloc[:576, 60:76]
    truth = frame.to_numpy(float)
    gone = np.random.default_rng(0).random(truth.shape) < 0.2
    frame = frame.mask(gone)
    frame.insert(0, "time", pd.date_range("2012-03-01", periods=len(frame), freq="5min"))
    frame.to_csv(tmp_path / "my.csv", index=False)
    parser = argparse.ArgumentParser()
    add(parser.add_subparsers())
    files = ["--out", str(tmp_path / "out.csv"), "--model", str(tmp_path / "kept.safetensors")]
    args = parser.parse_args(["impute", str(tmp_path / "my.csv"), *files, "--seconds", "5"])
    args.run(args)
    got = pd.read_csv(tmp_path / "out.csv").iloc[:, 1:].to_numpy()
    line = frame.iloc[:, 1:].interpolate(limit_direction="both").to_numpy()
    error, straight = (np.abs(value - truth)[gone].mean() for value in (got, line))
    assert error < straight  # by 2 %; the network alone, after five seconds, is 3 % worse than the line
    cells = pd.read_csv(tmp_path / "out.cells.csv")
    told = truth[gone]  # by time, then sensor, as the cells are written
    inside = (cells["lower"].to_numpy() <= told) & (told <= cells["upper"].to_numpy())
    assert len(cells) == gone.sum() and 0.82 < inside.mean() < 0.97  # 90 % of 1,800 dependent cells
    assert "boosting" in capsys.readouterr().out
