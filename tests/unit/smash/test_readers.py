"""What is read, and that every fault of a file is one error that names its place."""

import math

import numpy as np
import pytest

from pipeline.core.errors import DataError
from pipeline.smash import readers, unpickle

GOOD = [[0.0, 0.0, 1.0, 2.0], [0.5, 1.0, 3.0, 4.0], [0.5, 0.0, 1.0, 2.0]]


def written(tmp_path, train, val=None, test=None):
    paths = []
    for name, value in (("train", train), ("val", val or [GOOD]), ("test", test or [GOOD])):
        paths.append(tmp_path / f"data_{name}.pkl")
        unpickle.dump(value, paths[-1])
    return paths


def test_published_sequences(tmp_path):
    found = readers.pickles(written(tmp_path, [GOOD, GOOD[:2]])[::-1])  # names say which split, not the order
    assert [len(found[s]) for s in ("train", "val", "test")] == [2, 1, 1]
    raw = found["train"][0]
    assert raw.t.tolist() == [0, 0.5, 0.5] and raw.mark.tolist() == [0, 1, 0] and raw.xy[1].tolist() == [3, 4]


def test_events_without_marks(tmp_path):
    plain = [[[t, x, y] for t, _, x, y in GOOD]]
    found = readers.pickles(written(tmp_path, plain, plain, plain))
    assert found["test"][0].mark is None and found["test"][0].xy[1].tolist() == [3, 4]


def test_gatech_dicts(tmp_path):
    events = [{"time_since_start": t, "time_since_last_event": 0.0, "type_event": int(k)} for t, k, _, _ in GOOD]
    whole = {"dim_process": 2, "train": [events], "dev": [events], "test": [events]}
    paths = []
    for name in ("train", "val", "test"):
        paths.append(tmp_path / f"{name}.pkl")
        unpickle.dump(whole, paths[-1])
    found = readers.pickles(paths)
    assert found["val"][0].mark.tolist() == [0, 1, 0] and (found["val"][0].xy == 0).all()


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([GOOD[1], GOOD[0]], r"sequence 0, event 1: its time 0 is before.*sort"),
        ([GOOD[0], [math.nan, 0, 1, 2]], r"event 1: its time is nan"),
        ([GOOD[0], [1.0, 0, math.inf, 2]], r"event 1: its place.*inf"),
        ([GOOD[0], [1.0, 0]], r"event 1 has 2 numbers.*\[t, mark, x, y\]"),
        ([GOOD[0], [1.0, 2.0, 3.0]], r"event 1 has 3 numbers"),
        ([[0.0] * 5, [1.0] * 5], r"event 0 has 5 numbers"),
        ([GOOD[0], [1.0, -1.0, 1, 2]], r"event 1: its mark is -1; marks are whole numbers"),
        ([GOOD[0], [1.0, 0.5, 1, 2]], r"event 1: its mark is 0.5.*mark_bins"),
        ([[-1.0, 0, 1, 2], GOOD[0]], r"event 0: its time is -1"),
        ([GOOD[0]], r"has 1 event.*at least 2"),
        ([], r"has 0 event"),
        ([GOOD[0], ["1", 0, 1, 2]], r"event 1: '1' is not a number"),
        ([GOOD[0], 7], r"event 1 is int, not an event"),
        ([GOOD[0], {"time_since_start": 1.0}], r"type_event is missing"),
        (7, r"sequence 0 is int, not a list"),
    ],
)
def test_faults_of_a_sequence_are_named(tmp_path, events, words):
    with pytest.raises(DataError, match=r"data_train\.pkl.*" + words):
        readers.pickles(written(tmp_path, [events]))


def test_marks_for_all_or_for_none(tmp_path):
    with pytest.raises(DataError, match="has marks.*has none"):
        readers.pickles(written(tmp_path, [[[t, x, y] for t, _, x, y in GOOD]]))


def test_three_files_are_needed(tmp_path):
    with pytest.raises(DataError, match="three files"):
        readers.pickles(written(tmp_path, [GOOD])[:2])
    with pytest.raises(DataError, match="no sequences for 'val'"):
        readers.pickles(written(tmp_path, [GOOD], val={"train": [GOOD]}))


HEAD = "time,longitude,latitude,mag\n"


def table(tmp_path, rows, **options):
    (tmp_path / "a.csv").write_text(HEAD + "\n".join(rows) + "\n")
    return readers.table(tmp_path / "a.csv", {"magnitude": "mag", **options})


def test_times_with_and_without_zones_mean_the_same_instant(tmp_path):
    japan = table(tmp_path, ["2011-03-11 14:46:24,142.4,38.3,9.0", "2011-03-12 00:00:00,1,2,3"], time_zone="Asia/Tokyo")
    utc = table(tmp_path, ["2011-03-11T05:46:24Z,142.4,38.3,9.0", "2011-03-11T15:00:00Z,1,2,3"])
    offset = table(tmp_path, ["2011-03-11T14:46:24+09:00,142.4,38.3,9.0", "2011-03-11T16:00:00+01:00,1,2,3"])
    assert japan.t == pytest.approx(utc.t) and offset.t == pytest.approx(utc.t)
    assert utc.t[0] == pytest.approx(15044 + (5 * 3600 + 46 * 60 + 24) / 86400)
    hours = table(tmp_path, ["2011-03-11T05:46:24Z,1,2,3", "2011-03-11T06:46:24Z,1,2,3"], unit="h")
    assert np.diff(hours.t) == pytest.approx(1.0)


def test_a_table_is_sorted_by_time(tmp_path):
    raw = table(tmp_path, ["2011-03-12,1,2,3", "2011-03-11,4,5,6"])
    assert raw.xy.tolist() == [[4, 5], [1, 2]] and raw.magnitude.tolist() == [6, 3]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["2011-03-11T05:46:24Z,1,2,3", "2011-03-12,1,2,3"], "line 3.*states no zone"),
        (["yesterday,1,2,3", "2011-03-12,1,2,3"], "line 2: the time 'yesterday' can't be read"),
        (["2011-03-11,1,2,3", "2011-03-12,1,north,3"], "line 3, column 'latitude': 'north'"),
        (["2011-03-11,1,2,3", "2011-03-12,1,2,"], "line 3, column 'mag': 'nan' is no finite number"),
    ],
)
def test_faults_of_a_table_are_named(tmp_path, rows, words):
    with pytest.raises(DataError, match=words):
        table(tmp_path, rows)


def test_columns_and_zones_that_do_not_exist(tmp_path):
    with pytest.raises(DataError, match="no x column 'longitud'.*did you mean 'longitude'"):
        table(tmp_path, ["2011-03-11,1,2,3"], x="longitud")
    with pytest.raises(DataError, match="zone 'Mars/Base'"):
        table(tmp_path, ["2011-03-11,1,2,3"], time_zone="Mars/Base")
    with pytest.raises(DataError, match="can't be placed in the zone"):  # the hour that summer time leaves out
        table(tmp_path, ["2011-03-27 02:30:00,1,2,3"], time_zone="Europe/Berlin")


QUAKE = """<?xml version="1.0"?><q:quakeml xmlns:q="http://quakeml.org/xmlns/quakeml/1.2"
 xmlns="http://quakeml.org/xmlns/bed/1.2"><eventParameters publicID="a">{}</eventParameters></q:quakeml>"""
EVENT = """<event publicID="e"><preferredOriginID>o2</preferredOriginID>
<origin publicID="o1"><time><value>2000-01-01T00:00:00Z</value></time>
 <longitude><value>1</value></longitude><latitude><value>2</value></latitude></origin>
<origin publicID="o2"><time><value>{}</value></time>
 <longitude><value>{}</value></longitude><latitude><value>38.3</value></latitude></origin>
<magnitude publicID="m"><mag><value>{}</value></mag></magnitude></event>"""


def quake(tmp_path, *events):
    (tmp_path / "a.xml").write_text(QUAKE.format("".join(events)))
    return readers.quakeml(tmp_path / "a.xml", {})


def test_quakeml_takes_the_preferred_origin(tmp_path):
    raw = quake(
        tmp_path, EVENT.format("2011-03-12T00:00:00", 1.5, 5.0), EVENT.format("2011-03-11T05:46:24.12Z", 142.4, 9.1)
    )
    assert raw.xy.tolist() == [[142.4, 38.3], [1.5, 38.3]] and raw.magnitude.tolist() == [9.1, 5.0]
    assert raw.t[0] == pytest.approx(15044 + (5 * 3600 + 46 * 60 + 24.12) / 86400)


def test_quakeml_has_magnitudes_of_all_events_or_of_none(tmp_path):
    plain = EVENT[: EVENT.index("<magnitude")] + "</event>"
    first, second = "2011-03-11T00:00:00", "2011-03-12T00:00:00"
    with pytest.raises(DataError, match="event 1 has no magnitude, while 1 of 2 events have one; leave out"):
        quake(tmp_path, EVENT.format(first, 1, 5.0), plain.format(second, 2))
    raw = quake(tmp_path, plain.format(first, 1), plain.format(second, 2))
    assert raw.magnitude is None and raw.xy[:, 0].tolist() == [1, 2]


def test_faults_of_quakeml_are_named(tmp_path):
    with pytest.raises(DataError, match="event 1: its time, place or magnitude"):
        quake(tmp_path, EVENT.format("2011-03-12", 1, 5), EVENT.format("2011-03-12", "east", 5))
    with pytest.raises(DataError, match="event 0 has no origin"):
        quake(tmp_path, "<event publicID='x'/>")
    with pytest.raises(DataError, match="at least 2"):
        quake(tmp_path)
    (tmp_path / "b.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>')
    with pytest.raises(DataError, match="document type"):
        readers.quakeml(tmp_path / "b.xml", {})
    (tmp_path / "b.xml").write_text("<a>")
    with pytest.raises(DataError, match="well-formed"):
        readers.quakeml(tmp_path / "b.xml", {})
