"""Which data set and which copy is used: look-up order, fall-back, record."""

import hashlib
import json

import pytest

from pipeline.core.catalog import load_catalog
from pipeline.core.choices import (
    Choice,
    assumed,
    choose,
    combined,
    data_folders,
    digest_of,
    read_choices,
    resolve,
)
from pipeline.core.errors import ConfigError, DataError

GOOD = b"date,y\n2020-01-01,1\n"
SHA256 = hashlib.sha256(GOOD).hexdigest()
BASE = """
{name}:
  title: T
  kind: forecasting
  source: {source}
  reader: table
  licence: L
  citation: C
  files:
"""
FILE = (
    "    - {{name: {name}, url: [https://example.org/{name}], sha256: {sha256}, aliases: [forecasting/{name}]{more}}}\n"
)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A catalogue with a one-file set, a two-file set and a simulation; empty cache and data folder; no network."""
    monkeypatch.chdir(tmp_path)
    csv = ", alternatives: [{name: one.parquet, aliases: [forecasting/one.parquet]}]"
    text = (
        BASE.format(name="one", source="download")
        + FILE.format(name="one.csv", sha256=SHA256, more=csv)
        + BASE.format(name="two", source="download")
        + FILE.format(name="a.csv", sha256=SHA256, more="")
        + FILE.format(name="b.csv", sha256=SHA256, more="")
        + BASE.format(name="made", source="simulation").replace("  files:\n", "")
    )
    (tmp_path / "datasets.yaml").write_text(text)

    class Places:
        root, cache, folder, record = (
            tmp_path,
            tmp_path / "raw",
            tmp_path / "folder",
            tmp_path / "data" / "choices.json",
        )
        asked: list = []

        def catalog(self, **own):
            return load_catalog(tmp_path / "datasets.yaml", own)

        def put(self, path, content=GOOD):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            return path

        def offline(self, url):
            self.asked.append(url)
            return "no network connection to example.org"

        def online(self, url):
            self.asked.append(url)
            return ""

        def choose(self, *preferences, catalog=None, network=None, **more):
            return choose(
                catalog or self.catalog(),
                preferences,
                folders=[self.folder],
                cache=self.cache,
                reachable=network or self.offline,
                **more,
            )

        def resolve(self, *preferences, catalog=None, network=None, **more):
            return resolve(
                catalog or self.catalog(),
                preferences,
                record=self.record,
                folders=[self.folder],
                cache=self.cache,
                reachable=network or self.offline,
                **more,
            )

    found = Places()
    found.asked = []
    return found


def test_the_order_is_config_cache_folder_url(places):
    user = places.put(places.root / "user" / "one.csv")
    cached = places.put(places.cache / "one" / "one.csv")
    held = places.put(places.folder / "forecasting" / "one.csv")
    catalog = places.catalog(one=str(user))
    assert places.choose("one", catalog=catalog).source == "config"
    assert places.choose("one", catalog=catalog).files == (str(user),)
    assert places.choose("one").to_dict() == {
        "name": "one",
        "requested": "one",
        "source": "cache",
        "files": [str(cached)],
        "sha256": SHA256,
        "licence": "L",
        "notes": [],
    }
    cached.unlink()
    choice = places.choose("one")
    assert (choice.source, choice.files, choice.fetched) == ("folder", (str(held),), False)
    assert places.asked == []  # what is at hand needs no network
    held.unlink()
    choice = places.choose("one", network=places.online)
    assert (choice.source, choice.files, choice.sha256, choice.fetched) == ("download", (str(cached),), SHA256, True)
    assert places.asked == ["https://example.org/one.csv"]  # one short look


def test_the_fall_back_bears_its_own_name_and_says_why(places):
    choice = places.choose("one", "made")
    assert (choice.name, choice.requested, choice.source, choice.files) == ("made", "one", "simulation", ())
    assert "made (simulation) IN PLACE OF one" in choice.announcement()
    assert "no network connection to example.org" in choice.announcement()


def test_strict_data_turns_the_fall_back_into_an_error(places):
    with pytest.raises(DataError, match="'one' can't be had.*strict_data forbids.*no network connection"):
        places.choose("one", "made", strict=True)
    places.put(places.folder / "forecasting" / "one.csv")
    assert places.choose("one", "made", strict=True).name == "one"


def test_nothing_at_all_names_the_places_looked_in_and_the_way_out(places):
    with pytest.raises(DataError) as caught:
        places.choose("one", "two")
    for part in ("'one'", "two", str(places.cache / "one"), str(places.folder), "data: {one: <path>}"):
        assert part in str(caught.value)


def test_an_unknown_name_is_an_error_even_behind_one_that_is_there(places):
    with pytest.raises(ConfigError, match="no data set named 'onne'.*'one'"):
        places.choose("made", "onne")


def test_a_wrong_file_in_a_folder_is_passed_over_and_said(places):
    places.put(places.folder / "forecasting" / "one.csv", GOOD + b"x")
    choice = places.choose("one", "made")
    assert choice.name == "made" and any("wrong checksum" in note for note in choice.notes)


def test_a_damaged_file_in_the_cache_is_set_aside_for_a_new_fetch(places):
    cached = places.put(places.cache / "one" / "one.csv", b"<html>sign in</html>")
    choice = places.choose("one", network=places.online)
    assert choice.source == "download" and "web page" in choice.notes[0]
    assert not cached.exists() and cached.with_name("one.csv.damaged").exists()


def test_an_alternative_form_counts(places):
    held = places.put(places.folder / "forecasting" / "one.parquet", b"PAR1")
    assert places.choose("one").files == (str(held),)


def test_a_set_of_two_files_needs_both(places):
    places.put(places.folder / "forecasting" / "a.csv")
    assert places.choose("two", "made").name == "made"
    places.put(places.folder / "forecasting" / "b.csv")
    choice = places.choose("two")
    expected = hashlib.sha256(f"a.csv {SHA256}\nb.csv {SHA256}\n".encode()).hexdigest()
    assert choice.sha256 == expected == combined([("a.csv", SHA256), ("b.csv", SHA256)]) == digest_of(choice.files)


def test_the_users_path_must_hold_what_it_stands_for(places):
    with pytest.raises(DataError, match="data.one: .*absent.csv does not exist"):
        places.choose("one", catalog=places.catalog(one="absent.csv"))
    changed = places.put(places.root / "changed.csv", GOOD + b"2020-01-02,2\n")
    with pytest.raises(DataError, match="wrong checksum.*can't stand for 'one'.*name of its own"):
        places.choose("one", catalog=places.catalog(one=str(changed)))
    with pytest.raises(DataError, match="does not hold b.csv"):
        places.put(places.root / "both" / "a.csv")
        places.choose("two", catalog=places.catalog(two=str(places.root / "both")))
    with pytest.raises(DataError, match="must be a folder with a.csv, b.csv"):
        places.choose("two", catalog=places.catalog(two=str(changed)))


def test_the_choice_is_made_once_and_read_afterwards(places):
    first = places.resolve("one", "made", network=places.online)
    record = places.record.read_bytes()
    assert json.loads(record)["schema"] == "choices/1"
    assert read_choices(places.record) == {"one,made": first}
    # Now the network is down, or this is a compute node: the record holds.
    assert places.resolve("one", "made") == first and places.record.read_bytes() == record
    assert places.resolve("one", "made", dry=True) == first
    # A list of its own has a choice of its own, and doesn't disturb the other.
    assert places.resolve("made").name == "made"
    assert set(read_choices(places.record)) == {"one,made", "made"}
    # --refresh decides by what is at hand now.
    assert places.resolve("one", "made", refresh=True).name == "made"


def test_a_dry_run_assumes_the_first_preference_and_writes_nothing(places):
    choice = places.resolve("one", "made", dry=True)
    assert (choice.name, choice.files) == ("one", (str(places.cache / "one" / "one.csv"),))
    assert not places.record.exists() and places.asked == []
    assert assumed(places.catalog(one="mine.csv"), ["one"]).files == ("mine.csv",)


def test_a_record_that_the_configuration_overtakes_is_decided_anew(places):
    user = places.put(places.root / "user" / "one.csv")
    assert places.resolve("one", "made").name == "made"
    with_path = places.catalog(one=str(user))
    assert places.resolve("one", "made", catalog=with_path).source == "config"
    assert places.resolve("one", "made", catalog=with_path, network=lambda url: pytest.fail("asked")).source == "config"
    assert places.resolve("one", "made").name == "made"  # the path was taken out again
    with pytest.raises(DataError, match="strict_data"):
        places.resolve("one", "made", strict=True)


def test_a_recorded_file_that_vanished_is_looked_for_again(places):
    held = places.put(places.folder / "forecasting" / "one.csv")
    assert places.resolve("one", "made").source == "folder"
    held.unlink()
    assert places.resolve("one", "made").name == "made"


def test_a_job_reads_the_record_and_never_decides(places):
    held = places.put(places.folder / "forecasting" / "one.csv")
    with pytest.raises(DataError, match="records no choice among one,made, and a job does not decide"):
        places.resolve("one", "made", recorded_only=True)
    first = places.resolve("one", "made")
    held.unlink()  # a node that doesn't see the folder must not fall back on its own
    assert places.resolve("one", "made", recorded_only=True) == first


def test_a_damaged_record_is_a_clear_error(places):
    places.put(places.record, b'{"schema": "choices/0", "choices": {}}')
    with pytest.raises(DataError, match="not a record of data choices.*delete it"):
        places.resolve("made")
    places.put(places.record, b"{")
    with pytest.raises(DataError, match="delete it"):
        places.resolve("made")


def test_data_folders_are_separated_as_path_is(monkeypatch):
    monkeypatch.setenv("PIPELINE_DATA_DIRS", "/a:/b::")
    assert [str(folder) for folder in data_folders()] == ["/a", "/b"]
    monkeypatch.delenv("PIPELINE_DATA_DIRS")
    assert data_folders() == []


def test_the_packaged_default_is_always_there(tmp_path):
    choice = choose(load_catalog(), ["nyc_weather"], folders=[], cache=tmp_path, strict=True)
    assert (choice.source, choice.fetched) == ("package", True)
    assert choice.files == (str(tmp_path / "nyc_weather" / "weather.csv"),)
    assert Choice.from_dict(json.loads(json.dumps(choice.to_dict()))) == choice
