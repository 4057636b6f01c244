"""From files to windows: the published facts of the data sets, cutting one's own, no leak from later data."""

import logging

import numpy as np
import pytest

from pipeline.core.catalog import load_catalog
from pipeline.core.errors import ConfigError, DataError
from pipeline.core.stages import Job
from pipeline.smash import clock, data, events
from pipeline.smash.options import Options
from pipeline.smash.readers import Raw


def prepared(data_dir, name, **choice):
    entry = load_catalog()[name]
    paths = [next(data_dir / a for a in file.aliases if (data_dir / a).exists()) for file in entry.files]
    return data.read(paths, entry.reader, entry.options, name, data.Choice(**choice))


def test_earthquake_is_as_published(data_dir):
    cat = prepared(data_dir, "smash_earthquake")
    facts = data.info(cat)
    assert facts["period"] == "1200 / 150 / 150 windows" and facts["n"] == 114410
    assert facts["targets"] == {"train": 86864, "val": 14944, "test": 11102}
    assert facts["distinct"] == {"train": 20686, "val": 3554, "test": 2690}  # every event stands in four windows
    assert cat.meta["stride"] == pytest.approx(7.0)
    assert len(cat.targets("train", phase=0).row) == 21713
    for split, counts in (("train", [13458, 64837, 9769]), ("test", [96, 10160, 996])):
        assert np.bincount(cat.labels[cat.events(cat.sequences(split))]).tolist() == counts
    assert cat.meta["bbox"][0] == pytest.approx([122.291, 22.0], abs=1e-3)


def test_crime_lies_on_minutes_and_its_densities_are_per_day(data_dir):
    cat = prepared(data_dir, "smash_crime")
    assert data.info(cat)["period"] == "250 / 31 / 32 windows" and len(cat.targets("test").row) == 3648
    minutes = cat.t * 60
    assert np.abs(minutes - np.rint(minutes)).max() < 1e-6
    assert cat.meta["log_density"]["time"] == pytest.approx(np.log(24))
    assert (cat.t == 0).sum() == 78  # events that the published masks take for padding
    lost = {split: clock.folded(cat, cat.sequences(split)) for split in events.SPLITS}
    assert {split: int(found.sum()) for split, found in lost.items()} == {"train": 0, "val": 20, "test": 18}
    clean = cat.sequences("test")[~lost["test"]]
    assert len(clean) == 14 and int(cat.lengths[clean].sum()) - 14 == 1587


def test_football_windows_end_with_their_last_event(data_dir):
    cat = prepared(data_dir, "smash_football")
    assert data.info(cat)["period"] == "98 / 12 / 13 windows" and cat.marks == 7
    assert np.array_equal(cat.window, cat.t[cat.offsets[1:] - 1])


def test_japan_is_cut_in_time_above_its_completeness(data_dir):
    cat = prepared(data_dir, "japan_catalog")
    assert cat.meta["min_magnitude"] == pytest.approx(4.6) and cat.magnitude.min() >= 4.6 - 1e-9
    assert cat.meta["units"]["place"] == "km" and cat.marks == 3
    assert np.array_equal(cat.mark, np.searchsorted([5.0, 6.0], cat.magnitude + 1e-9, side="right"))
    ends = [(cat.start[s].min(), cat.start[s].max()) for s in map(cat.sequences, events.SPLITS)]
    assert ends[0][1] < ends[1][0] and ends[1][1] < ends[2][0]
    b, error = cat.meta["b_value"]
    assert 0.9 < b < 1.3 and error < 0.05


def table(n=3000, seed=0, **change):
    rng = np.random.default_rng(seed)
    fields = {
        "t": np.sort(rng.random(n)) * 300 + 40,
        "mark": None,
        "xy": np.column_stack([140 + rng.random(n), 35 + rng.random(n)]),
        "magnitude": np.round(2.95 + rng.exponential(1 / np.log(10), n), 1),
    }
    return Raw(**{**fields, **change})


def test_later_data_change_nothing_that_training_sees():
    options = Options(window=10.0, stride=5.0, mark_bins=[4.0], projection="km")
    raw = table()
    cat = data.from_table(raw, "own", options, data.Choice())
    border = cat.start[cat.split == 1].min()
    late = raw.t >= border
    changed = table(
        xy=np.where(late[:, None], raw.xy + 0.5, raw.xy), magnitude=np.where(late, raw.magnitude + 1, raw.magnitude)
    )
    other = data.from_table(changed, "own", options, data.Choice())
    train = cat.sequences("train")
    rows, rows_other = cat.events(train), other.events(other.sequences("train"))
    for name in ("t", "mark", "xy", "magnitude"):
        assert np.array_equal(getattr(cat, name)[rows], getattr(other, name)[rows_other])
    assert other.meta["scaler"] == cat.meta["scaler"] and other.meta["min_magnitude"] == cat.meta["min_magnitude"]
    assert cat.start[train].max() + 10.0 <= border  # no event of validation is inside a training window


def test_overlapping_windows_of_own_data_are_thinned_by_phases():
    cat = data.from_table(table(), "own", Options(window=10.0, stride=2.5), data.Choice(min_magnitude=None))
    assert set(cat.phase) == {0, 1, 2} and len(cat.sequences("train", phase=0)) < len(cat.sequences("train")) / 2
    whole = data.from_table(
        table(), "own", Options(window=10.0, stride=2.5), data.Choice(min_magnitude=None, thin=False)
    )
    assert set(whole.phase) == {0}


@pytest.mark.parametrize(
    ("options", "change", "words"),
    [
        ({}, {}, "needs the length of a window"),
        ({"window": 200.0}, {}, "shorter windows"),
        ({"window": 5.0, "mark_bins": [4.0]}, {"magnitude": None}, "need magnitudes"),
        ({"window": 5.0, "projection": "km"}, {"xy": np.full((3000, 2), 300.0)}, "no longitude and latitude"),
        (
            {"window": 5.0},
            {"mark": np.r_[np.zeros(2800), np.full(200, 5.0)]},
            "mark 5 appears after the training period",
        ),
    ],
)
def test_faults_of_own_data_are_named(options, change, words):
    with pytest.raises(DataError, match=words):
        data.from_table(table(**change), "own", Options(**options), data.Choice(min_magnitude=None))


def test_an_event_beyond_its_window_is_refused():
    raw = Raw(np.array([0.0, 31.0]), None, np.zeros((2, 2)))
    with pytest.raises(DataError, match="beyond the window of 30"):
        data.from_sequences({s: [raw] for s in events.SPLITS}, "own", Options(window=30.0), data.Choice())


def test_three_files_or_their_folder_are_the_same(tmp_path):
    from pipeline.smash import unpickle

    for number, split in enumerate(events.SPLITS):
        sequences = [[[float(i + number), i % 2, float(i), 1.0 + i] for i in range(4)] for _ in range(3)]
        unpickle.dump(sequences, tmp_path / f"mine_{split}.pkl")
    paths = [tmp_path / f"mine_{split}.pkl" for split in events.SPLITS]
    found = [data.read(p, "sequences", {"unit": "h"}, "own", data.Choice()) for p in (paths, [tmp_path])]
    assert found[0].digest() == found[1].digest() and found[0].marks == 2
    assert found[0].t[found[0].offsets[-2]] == 2.0  # the last window is a test window
    (tmp_path / "mine_val.pkl").unlink()
    with pytest.raises(DataError, match="three files are needed"):
        data.read([tmp_path], "sequences", {"unit": "h"}, "own", data.Choice())


def test_unknown_units_and_readers(tmp_path):
    (tmp_path / "a.csv").write_text("time,longitude,latitude\n2000-01-01,1,2\n")
    with pytest.raises(ConfigError, match="options.unit.*'day'.*'week'"):
        data.read([tmp_path / "a.csv"], "table", {"unit": "week"}, "own", data.Choice())
    with pytest.raises(DataError, match="no reader 'magic'"):
        data.read([tmp_path / "a.csv"], "magic", {}, "own", data.Choice())


def test_a_changed_file_is_refused_by_the_stage(tmp_path):
    from pipeline.smash.settings import Prepare, Settings

    (tmp_path / "a.csv").write_text("time,longitude,latitude\n2000-01-01,1,2\n")
    defaults = Settings().model_dump()
    settings = Prepare.model_validate({key: defaults[key] for key in Prepare.model_fields})
    source = {"reader": "table", "name": "own", "sha256": "0" * 64, "options": {}}
    job = Job("smash", "prepare", {"raw": [str(tmp_path / "a.csv")]}, {}, {}, facts={"source": source})
    with pytest.raises(DataError, match="have changed since it was chosen"):
        data.prepare(job, settings, None)


def stage(tmp_path, own):
    """What the stage ``prepare`` makes of an entry of the configuration's section ``data``."""
    from pipeline.core.choices import choose
    from pipeline.smash.settings import Prepare, Settings

    catalog = load_catalog(own={"mine": own})
    choice = choose(catalog, ["mine"], folders=[], cache=tmp_path / "raw")
    defaults = Settings().model_dump()
    settings = Prepare.model_validate({key: defaults[key] for key in Prepare.model_fields})
    outputs = {"data": str(tmp_path / "prepared.pkl"), "zarr": str(tmp_path / "data.zarr")}
    facts = {"source": catalog.describe(choice)}
    job = Job("smash", "prepare", {"raw": list(choice.files)}, outputs, {}, facts=facts)
    result = data.prepare(job, settings, logging.getLogger(__name__))
    return events.load(outputs["data"]), result


def test_own_csv_of_the_configuration_passes_the_stage(tmp_path):
    raw = table()
    lines = [f"{t},{x},{y},{m}" for t, (x, y), m in zip(raw.t, raw.xy, raw.magnitude, strict=True)]
    (tmp_path / "a.csv").write_text("when,lon,lat,mag\n" + "\n".join(lines) + "\n")
    names = {"time": "when", "x": "lon", "y": "lat", "magnitude": "mag"}
    options = {**names, "window": 10.0, "mark_bins": [4.0], "projection": "km"}
    found, result = stage(tmp_path, {"path": str(tmp_path / "a.csv"), "kind": "points", "options": options})
    direct = data.from_table(raw, "mine", Options(**options), data.Choice())
    assert np.array_equal(found.t, direct.t) and np.array_equal(found.mark, direct.mark)
    assert (result.dataset["name"], result.dataset["source"]) == ("mine", "config")
    assert result.dataset["licence"] == "the user's own" and result.metrics["windows"] == len(direct.split)


def test_own_three_pickles_of_the_configuration_pass_the_stage(tmp_path):
    from pipeline.smash import unpickle

    paths = []
    for number, letter in enumerate("abc"):
        sequences = [[[float(i + number), i % 2, float(i), 1.0 + i] for i in range(4)] for _ in range(3)]
        paths.append(tmp_path / f"part_{letter}.pkl")  # names say nothing: the order of the list counts
        unpickle.dump(sequences, paths[-1])
    own = {"path": [str(p) for p in paths], "kind": "points", "reader": "sequences", "options": {"unit": "h"}}
    found, result = stage(tmp_path, own)
    assert result.dataset["period"] == "3 / 3 / 3 windows" and found.meta["units"]["time"] == "h"
    assert [found.t[found.offsets[found.sequences(s)[0]]] for s in events.SPLITS] == [0.0, 1.0, 2.0]
