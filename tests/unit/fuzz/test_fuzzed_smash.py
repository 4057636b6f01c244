"""SMASH's readers on damaged files: pickles of sequences, tables, QuakeML and the prepared catalogue."""

import pickle

import numpy as np
import pandas as pd
import pytest

from pipeline.core.store import write_json
from pipeline.smash import events, own, own_forecast, readers, unpickle
from pipeline.smash.data import Choice, from_table
from pipeline.smash.options import Options

from .damage import file_of, fuzz, fuzz_apart, struck_bytes, struck_text, struck_value

MARKED = [
    [[0.0, 0, 140.5, 36.25], [0.5, 1, 139.0, 35.5], [0.75, 0, 141.0, 37.0]],
    [[0.0, 2, 1.0, 2.0], [9.5, 0, 3.0, 4.0]],
]
PLAIN = [[[t, x, y] for t, _, x, y in events] for events in MARKED]
DICTS = [[{"time_since_start": t, "type_event": k, "x": x, "y": y} for t, k, x, y in one] for one in MARKED]
GATECH = {"dim_process": 3, "train": DICTS, "dev": DICTS, "test": DICTS}


def sane_raw(raw):
    assert np.isfinite(raw.t).all() and (np.diff(raw.t) >= 0).all() and raw.xy.shape == (len(raw.t), 2)
    assert np.isfinite(raw.xy).all() and (raw.mark is None or len(raw.mark) == len(raw.t))


def sane_splits(found):
    assert list(found) == ["train", "val", "test"] and all(found.values())
    for raw in (raw for part in found.values() for raw in part):
        sane_raw(raw)
        assert len(raw.t) >= 2 and raw.t[0] >= 0


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_plain_pickles(tmp_path, protocol):
    path = tmp_path / "any.pkl"
    content = pickle.dumps([MARKED, {"a": (1, None, True, "é" * 300), 2: [3, 2.5, 2**40, -1]}], protocol=protocol)
    fuzz(file_of(path, content, struck_bytes), lambda: unpickle.load(path), str(path), of=3)


@pytest.mark.parametrize("sequences", [MARKED, PLAIN, GATECH], ids=["marked", "unmarked", "gatech"])
def test_pickles_of_sequences(tmp_path, sequences):
    files = [tmp_path / f"data_{split}.pkl" for split in ("train", "val", "test")]
    for path in files:
        unpickle.dump(sequences, path)

    def read():
        return readers.pickles(files)

    fuzz(file_of(files[0], files[0].read_bytes(), struck_bytes), read, None, sane_splits, of=3)
    unpickle.dump(sequences, files[0])
    fuzz(lambda blows: unpickle.dump(struck_value(sequences, blows), files[1]), read, "data_val", sane_splits, of=3)


def catalogue(rows=12):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"time": pd.date_range("2011-03-01", periods=rows, freq="7h").strftime("%Y-%m-%dT%H:%M:%SZ")})
    frame["latitude"], frame["longitude"] = 38 + rng.normal(size=rows).round(3), 142 + rng.normal(size=rows).round(3)
    return frame.assign(magnitude=(4 + rng.exponential(0.5, rows)).round(1))


@pytest.mark.parametrize("zone", ["Z", ""])
def test_a_table_of_events(tmp_path, zone):
    path = tmp_path / "quakes.csv"
    frame = catalogue()
    frame["time"] = frame["time"].str.replace("Z", zone)
    options = {"magnitude": "magnitude", "time_zone": "Asia/Tokyo", "ordered": bool(zone)}
    fuzz(
        file_of(path, frame.to_csv(index=False).encode(), struck_text),
        lambda: readers.table(path, options),
        str(path),
        sane_raw,
        of=3,
    )


def test_a_table_of_events_with_bare_numbers_and_marks(tmp_path):
    path = tmp_path / "events.csv"
    frame = catalogue().assign(time=np.arange(12) * 0.5, kind=np.arange(12) % 3)
    fuzz(
        file_of(path, frame.to_csv(index=False).encode(), struck_text),
        lambda: readers.table(path, {"mark": "kind", "unit": "h"}),
        str(path),
        sane_raw,
        of=3,
    )


def test_a_table_of_events_as_parquet(tmp_path):
    path = tmp_path / "quakes.parquet"
    catalogue().to_parquet(path)
    fuzz_apart(
        file_of(path, path.read_bytes(), struck_bytes),
        lambda: readers.table(path, {"magnitude": "magnitude"}),
        str(path),
        sane_raw,
    )


EVENT = """<event publicID="e{0}"><preferredOriginID>o{0}</preferredOriginID>
<origin publicID="o{0}"><time><value>2011-03-{0:02d}T05:46:24Z</value></time>
<longitude><value>142.{0}</value></longitude>
<latitude><value>38.3</value></latitude></origin>
<magnitude publicID="m"><mag><value>{0}.1</value></mag></magnitude></event>"""
QUAKEML = f"""<?xml version="1.0"?>
<q:quakeml xmlns:q="http://quakeml.org/xmlns/quakeml/1.2"
xmlns="http://quakeml.org/xmlns/bed/1.2"><eventParameters publicID="a">
{EVENT.format(5)}
{EVENT.format(6)}
{EVENT.format(7)}
</eventParameters></q:quakeml>"""


@pytest.mark.parametrize("strike", [struck_text, struck_bytes])
def test_quakeml(tmp_path, strike):
    path = tmp_path / "quakes.xml"
    fuzz(file_of(path, QUAKEML.encode(), strike), lambda: readers.quakeml(path, {}), str(path), sane_raw, of=2)


def test_the_prepared_catalogue(tmp_path):
    path = tmp_path / "events.pkl"
    raw = readers.Raw(np.arange(60.0), np.arange(60) % 2, np.random.default_rng(0).normal(size=(60, 2)))
    from_table(raw, "some", Options(place="unit"), Choice(window=10.0)).save(path)
    content = unpickle.load(path)

    def sane(cat):
        assert (
            cat.offsets[0] == 0 and cat.offsets[-1] == len(cat.t) == len(cat.xy) and len(cat.split) == len(cat.window)
        )

    fuzz(file_of(path, path.read_bytes(), struck_bytes), lambda: events.load(path), str(path), sane, of=2)
    fuzz(
        lambda blows: unpickle.dump(struck_value(content, blows), path),
        lambda: events.load(path),
        str(path),
        sane,
        of=2,
    )


@pytest.mark.parametrize("name", ["model.json", "prepared.pkl", "recent.json", "etas.json", "weights.safetensors"])
def test_a_fitted_model(tmp_path, name):
    raw = readers.Raw(np.arange(60.0), np.arange(60) % 2, np.random.default_rng(0).normal(size=(60, 2)))
    windows = from_table(raw, "some", Options(place="unit"), Choice(window=10.0))
    windows.save(tmp_path / "prepared.pkl")
    recent = {"end": 59.0, "t": [57.5, 58.0], "mark": [0, 1], "xy": [[0.0, 1.0], [2.0, 3.0]]}
    write_json(tmp_path / "recent.json", recent)
    for other in ("etas.json", "weights.safetensors"):
        (tmp_path / other).write_text("{}")
    content = {"schema": own.SCHEMA, "method": "etas", "stamps": False, "options": {"time": "t"}, "é": [1.5, None]}
    own.seal(tmp_path, content)

    def read():
        model = own_forecast.load(tmp_path)
        return model, own_forecast.history(model, None)

    def same(found):
        model, (t, mark, xy, end) = found
        assert {key: model.content[key] for key in content} == content and end == 59.0
        assert t.tolist() == recent["t"] and mark.tolist() == recent["mark"] and xy.tolist() == recent["xy"]
        assert model.catalogue.digest() == windows.digest()

    path = tmp_path / name
    fuzz(file_of(path, path.read_bytes(), struck_bytes), read, str(tmp_path), same, of=5)
