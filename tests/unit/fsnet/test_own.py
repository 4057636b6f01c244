"""A user's own file in, forecasts and state out: one run or many, honest errors, clear messages."""

import numpy as np
import pandas as pd
import pytest

from pipeline.core.errors import DataError, PipelineError
from pipeline.fsnet.own import Request, load_state, run

from .waves import HORIZON, START, frame, same, stream, wave


@pytest.fixture(scope="module")
def series():
    return wave(420)


def ask(path, **changes):
    fields = {"target": "load", "horizon": HORIZON, "warmup": 100, "level": 0.8}
    return Request(path=path, **{**fields, **changes})


def save(path, table):
    table.to_csv(path, index=False) if path.suffix == ".csv" else table.to_parquet(path, index=False)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tomorrow_s_rows_end_in_the_same_files_as_one_run(tmp_path, series, suffix):
    """New rows alone, with an overlap, all so far; each time the same forecasts and the same state as in one run."""
    table = frame(series)
    once, often = tmp_path / f"once{suffix}", tmp_path / f"often{suffix}"
    run(ask(save(tmp_path / f"all{suffix}", table), out=once, state=tmp_path / "once.npz"))
    state = tmp_path / "often.npz"
    counts = []
    for name, rows in {"a": slice(0, 200), "b": slice(200, 224), "c": slice(190, 300), "d": slice(0, 420)}.items():
        path = save(tmp_path / f"{name}{suffix}", table[rows])
        request = ask(path, out=often, state=state) if name == "a" else Request(path=path, out=often, state=state)
        counts.append(run(request).new_rows)
    assert counts == [200, 24, 76, 120]
    if suffix == ".csv":
        assert often.read_bytes() == once.read_bytes()
    else:
        pd.testing.assert_frame_equal(pd.read_parquet(often), pd.read_parquet(once), check_exact=True)
    same(load_state(state).state(), load_state(tmp_path / "once.npz").state())
    again = run(Request(path=tmp_path / f"d{suffix}", out=often, state=state))
    assert (again.new_rows, again.known_rows, again.written) == (0, 420, None)
    assert not list(tmp_path.glob(".part*"))


def test_a_run_that_died_before_its_state_was_saved_is_repeated_without_doubles(tmp_path, series):
    table, out, state = frame(series), tmp_path / "f.csv", tmp_path / "s.npz"
    run(ask(save(tmp_path / "a.csv", table[:300]), out=out, state=state))
    kept = state.read_bytes()
    run(Request(path=save(tmp_path / "b.csv", table), out=out, state=state))
    complete = out.read_bytes()
    state.write_bytes(kept)  # the forecasts were written, the state was not
    run(Request(path=tmp_path / "b.csv", out=out, state=state))
    assert out.read_bytes() == complete


@pytest.mark.parametrize("freq, step_s, season", [("D", 86400, 7), ("15min", 900, 96), ("7min", 420, 1)])
def test_other_steps_have_their_season_and_go_on(tmp_path, freq, step_s, season):
    """A week of days, a day of quarter hours, no season where a day is no whole number of rows."""
    table, state = frame(wave(130), freq=freq), tmp_path / "s.npz"
    first = run(ask(save(tmp_path / "a.csv", table[:120]), state=state))
    assert (first.forecaster.setup.step_s, first.forecaster.setup.season) == (step_s, season)
    second = run(Request(path=save(tmp_path / "b.csv", table[118:]), state=state))
    assert second.new_rows == 10 and second.forecaster.last == table["date"].iloc[-1].to_datetime64()


def test_the_state_knows_how_files_are_read(tmp_path, series):
    """Day first and a column of another name, said once."""
    table = frame(series).rename(columns={"date": "Zeit"})
    table["Zeit"] = table["Zeit"].dt.strftime("%d.%m.%Y %H:%M")
    state = tmp_path / "s.npz"
    path = save(tmp_path / "a.csv", table[:300])
    run(ask(path, state=state, time="Zeit", time_format="%d.%m.%Y %H:%M"))
    assert run(Request(path=save(tmp_path / "b.csv", table[300:]), state=state)).new_rows == 120
    same(load_state(state).errors.state(), stream(series, [])[0].errors.state())


def test_a_single_new_row_is_enough(tmp_path, series):
    """Daily data bring one row a day; the step is known from the state."""
    state = tmp_path / "s.npz"
    run(ask(save(tmp_path / "a.csv", frame(series[:120])), state=state))
    for row in (120, 121):
        outcome = run(Request(path=save(tmp_path / "b.csv", frame(series)[row : row + 1]), state=state))
        assert outcome.new_rows == 1
    same(load_state(state).state(), stream(series[:122], [])[0].state())


def test_the_file_of_forecasts_says_what_it_holds(tmp_path, series):
    outcome = run(ask(save(tmp_path / "a.csv", frame(series[:150])), out=tmp_path / "f.csv"))
    table = pd.read_csv(tmp_path / "f.csv", parse_dates=["origin", "time"])
    assert list(table.columns) == ["origin", "time", "horizon", "forecast", "lower", "upper"]
    assert len(table) == outcome.written == (150 - 99) * HORIZON
    assert ((table["time"] - table["origin"]) == pd.to_timedelta(table["horizon"], unit="h")).all()
    assert table["origin"].iloc[0] == pd.Timestamp(START) + pd.Timedelta(hours=99)
    known = table.dropna()
    assert ((known["lower"] <= known["forecast"]) & (known["forecast"] <= known["upper"])).all()


def test_missing_rows_take_the_last_values_and_a_cut_there_changes_nothing(tmp_path, series):
    """Two rows missing inside a file, and again between two files: as if the values before them had been repeated."""
    stuck = series.copy()
    stuck[150:152], stuck[250:252] = series[149], series[249]
    reference = run(ask(save(tmp_path / "stuck.csv", frame(stuck)))).forecaster
    table = frame(series).drop([150, 151, 250, 251])
    state = tmp_path / "s.npz"
    first = run(ask(save(tmp_path / "a.csv", table[table.index < 250]), state=state, gap=2))
    assert any("2 of 250 rows were missing" in note for note in first.notes)
    second = run(Request(path=save(tmp_path / "b.csv", table[table.index >= 252]), state=state))  # gap as in the state
    assert any("2 rows are missing" in note for note in second.notes)
    np.testing.assert_array_equal(second.forecaster.errors.pending["forecast"], reference.errors.pending["forecast"])
    assert second.forecaster.scores() == reference.scores()
    # what was missing and turns up later was not learnt from, and is no contradiction
    complete = frame(np.concatenate([series, series[-1:]]))
    assert run(Request(path=save(tmp_path / "c.csv", complete), state=state)).new_rows == 1


def test_only_the_columns_that_are_used_must_be_sound(tmp_path, series):
    table = frame(series).assign(remark="x")
    table["wind"] = table["wind"].astype(object)
    table.loc[7, "wind"] = "calm"
    path = save(tmp_path / "a.csv", table)
    plain = run(ask(path)).forecaster
    np.testing.assert_array_equal(plain.latest()["forecast"], stream(series, [])[0].latest()["forecast"])
    with pytest.raises(DataError, match="line 9, column 'wind': 'calm' is not a number"):
        run(ask(path, exog=True))
    with pytest.raises(DataError, match="'calm'"):
        run(ask(path, columns=("wind",)))


def test_exog_takes_every_numeric_column_and_columns_names_some(tmp_path, series):
    table = frame(series).assign(remark="x", third=series[:, 1] ** 2)
    path = save(tmp_path / "a.csv", table)
    assert run(ask(path, exog=True)).forecaster.setup.others == ("wind", "third")
    assert run(ask(path, columns=("third",))).forecaster.setup.others == ("third",)


def changed(**at):
    """A damaged copy of the table: column -> {row: value}."""

    def apply(table):
        table = table.astype({name: object for name in at})
        for name, cells in at.items():
            for row, value in cells.items():
                table.loc[row, name] = value
        return table

    return apply


BAD_FILES = {
    "unknown target": (lambda t: t.rename(columns={"load": "Load"}), ["no target column 'load'", "'Load'"]),
    "text in the target": (changed(load={40: "n/a?"}), ["line 42", "'load'", "'n/a?'", "not a number"]),
    "missing value": (changed(load={40: None}), ["missing", "2024-01-02 16:00", "'load'", "max_gap"]),
    "missing rows": (lambda t: t.drop([40, 41]), ["2 rows are missing", "2024-01-02 16:00"]),
    "first value missing": (changed(load={0: None}), ["'load' starts with 1 missing"]),
    "infinite value": (changed(load={40: float("inf")}), ["line 42", "'load'", "infinite"]),
    "duplicate stamp": (lambda t: pd.concat([t[:41], t[40:]]), ["line 43", "same time stamp"]),
    "unsorted rows": (lambda t: t.iloc[[*range(40), 41, 40, *range(42, 420)]], ["line 43", "not in order"]),
    "irregular stamps": (changed(date={40: "2024-01-02 16:20:00"}), ["line 42", "irregular"]),
    "damaged stamp": (changed(date={40: "soon"}), ["line 42", "'soon'", "not a time"]),
    "no time column": (lambda t: t.rename(columns={"date": "when"}), ["time column", "when"]),
    "too short": (lambda t: t[:105], ["105 rows", "at least 106", "--warmup"]),
    "constant in the warm-up": (changed(load=dict.fromkeys(range(100), 3.5)), ["'load' is constant (3.5)", "--warmup"]),
    "empty": (lambda t: t[:0], ["no rows"]),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_clear_error(tmp_path, series, name):
    damage, parts = BAD_FILES[name]
    path = save(tmp_path / "bad.csv", damage(frame(series)))
    with pytest.raises(DataError) as caught:
        run(ask(path, out=tmp_path / "f.csv", state=tmp_path / "s.npz"))
    for part in parts:
        assert part in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["bad.csv"]  # nothing half written


SECOND_FILES = {
    "another file": (lambda t: t.assign(load=wave(420, seed=9)[:, 0])[:320], ["2024-01-", "another file"]),
    "revised past": (changed(load={250: 99.0}), ["'load' at 2024-01-11 10:00:00 is 99", "1 such rows", "revised"]),
    "gap": (lambda t: t[303:], ["3 rows are missing", "2024-01-13 11:00:00", "--gap"]),
    "off the grid": (lambda t: t[300:].assign(date=t["date"] + pd.Timedelta("10min")), ["not on the state's grid"]),
    "earlier than the state": (
        lambda t: t.assign(date=t["date"] - pd.Timedelta("7D")),
        ["before the state's first row", "2024-01-01 00:00:00"],
    ),
    "other columns": (lambda t: t.drop(columns="load"), ["no target column 'load'"]),
}


@pytest.mark.parametrize("name", SECOND_FILES)
def test_a_file_that_doesn_t_follow_leaves_state_and_forecasts_alone(tmp_path, series, name):
    out, state = tmp_path / "f.csv", tmp_path / "s.npz"
    run(ask(save(tmp_path / "a.csv", frame(series)[:300]), out=out, state=state))
    before = out.read_bytes(), state.read_bytes()
    change, parts = SECOND_FILES[name]
    path = save(tmp_path / "b.csv", change(frame(series)))
    with pytest.raises(DataError) as caught:
        run(Request(path=path, out=out, state=state))
    for part in parts:
        assert part in str(caught.value), str(caught.value)
    assert (out.read_bytes(), state.read_bytes()) == before


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"target": "wind"}, "--target 'wind' contradicts the state"),
        ({"horizon": 12}, "--horizon 12 contradicts"),
        ({"level": 0.95}, "--level 0.95 contradicts"),
        ({"warmup": 200}, "--warmup 200 contradicts"),
        ({"columns": ("wind",)}, "--columns"),
        ({"exog": True}, "--exog contradicts"),
    ],
)
def test_options_that_contradict_the_state(tmp_path, series, changes, message):
    path, state = save(tmp_path / "a.csv", frame(series[:120])), tmp_path / "s.npz"
    run(ask(path, state=state))
    with pytest.raises(PipelineError, match=message):
        run(Request(path=path, state=state, **changes))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"horizon": 0}, "--horizon 0: 1 to 512"),
        ({"level": 1.0}, "--level 1.0"),
        ({"warmup": 10}, "--warmup 10: at least 50"),
        ({"target": None}, "first run needs --target"),
        ({"out": "a.csv"}, "same file"),
        ({"out": "f.xlsx"}, "written as .csv or .parquet"),
        ({"out": "nowhere/f.csv"}, "nowhere does not exist"),
        ({"state": "a.csv"}, "same file"),
        ({"path": "absent.csv"}, "absent.csv does not exist"),
    ],
)
def test_options_that_make_no_sense(tmp_path, series, changes, message):
    path = save(tmp_path / "a.csv", frame(series[:120]))
    changes = {name: tmp_path / value if name in ("out", "state", "path") else value for name, value in changes.items()}
    with pytest.raises(PipelineError, match=message):
        run(ask(**{"path": path, **changes}))
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]


def test_a_damaged_state_and_a_foreign_out_file(tmp_path, series):
    path, state, out = save(tmp_path / "a.csv", frame(series[:200])), tmp_path / "s.npz", tmp_path / "f.csv"
    state.write_bytes(b"PK not a zip")
    with pytest.raises(DataError, match="is not a state of `fsnet forecast`"):
        run(Request(path=path, state=state))
    np.savez(state, a=np.zeros(3))
    with pytest.raises(DataError, match="is not a state"):
        run(Request(path=path, state=state))
    np.savez(state, meta=np.array([{"schema": 1}], object))  # pickles are never loaded
    with pytest.raises(DataError, match="is not a state"):
        run(Request(path=path, state=state))
    state.unlink()
    run(ask(save(tmp_path / "b.csv", frame(series[:150])), state=state))
    out.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="does not hold forecasts of an earlier run"):
        run(Request(path=path, state=state, out=out))
    assert out.read_text() == "a,b\n1,2\n" and load_state(state).seen == 150


def test_the_real_etth1_in_two_runs_is_the_real_etth1_in_one(tmp_path, data_dir):
    real = next(iter(data_dir.rglob("ETTh1.csv")), None)
    if real is None:
        pytest.skip("ETTh1.csv is not among the data at hand")
    lines = real.read_text().splitlines(keepends=True)
    for name, rows in {"all": 600, "first": 500}.items():
        (tmp_path / f"{name}.csv").write_text("".join(lines[: rows + 1]))
    (tmp_path / "rest.csv").write_text("".join([lines[0], *lines[501:601]]))
    request = {"target": "OT", "horizon": 12, "columns": ("HUFL", "LULL")}
    run(Request(path=tmp_path / "all.csv", out=tmp_path / "all.parquet", state=tmp_path / "all.npz", **request))
    run(Request(path=tmp_path / "first.csv", out=tmp_path / "two.parquet", state=tmp_path / "two.npz", **request))
    two = run(Request(path=tmp_path / "rest.csv", out=tmp_path / "two.parquet", state=tmp_path / "two.npz"))
    same(load_state(tmp_path / "two.npz").state(), load_state(tmp_path / "all.npz").state())
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "two.parquet"), pd.read_parquet(tmp_path / "all.parquet"))
    y = pd.read_csv(tmp_path / "all.csv")["OT"].to_numpy()
    origins = np.arange(335, 588)
    persistence = np.mean([(y[o + 1 : o + 13] - y[o]) ** 2 for o in origins])
    assert two.forecaster.scores()["persistence"]["rmse"] == pytest.approx(np.sqrt(persistence), rel=1e-12)
