"""The catalogue file, its validation, and the user's own data joining it."""

import hashlib
import subprocess
import sys

import pytest

from pipeline.core.catalog import OwnData, check_own, load_catalog
from pipeline.core.choices import Choice, choose, resolve
from pipeline.core.errors import ConfigError, DataError

MINIMAL = """
demo:
  title: Demo
  kind: forecasting
  source: download
  reader: table
  licence: CC0
  citation: nobody
  files: [{name: demo.csv, url: [https://example.org/demo.csv]}]
"""


def written(tmp_path, text):
    path = tmp_path / "datasets.yaml"
    path.write_text(text)
    return path


def test_the_shipped_catalogue_has_the_sets_of_the_comparison():
    catalog = load_catalog()
    assert {"etth1", "etth2", "ettm1", "ettm2", "wth", "exchange_rate", "ecl", "nyc_weather", "regimes"} <= set(catalog)
    assert {catalog[name].source for name in catalog} == {"download", "package", "simulation"}
    assert catalog["etth1"].borders == "seed" and catalog["wth"].borders == "ratio"


def test_every_file_of_the_shipped_catalogue_can_be_known_by_its_bytes():
    for entry in load_catalog().values():
        assert entry.licence and entry.citation and entry.title
        assert entry.kind != "forecasting" or (entry.target and entry.step)
        for file in entry.files:
            assert file.sha256 or file.git_sha1, file.name
            plain = [url for url in file.url if not url.startswith("https://")]
            assert not plain or file.sha256, f"{file.name}: bytes that come in the clear need their SHA-256"


def test_digests_are_those_of_the_real_files(data_dir):
    names = {"etth1": "ETTh1.csv", "ettm1": "ETTm1.parquet", "wth": "WTH.csv", "exchange_rate": "exchange_rate.txt.gz"}
    catalog = load_catalog()
    for name, file in names.items():
        content = (data_dir / "forecasting" / file).read_bytes()
        (known,) = catalog[name].files
        assert (known.sha256, known.bytes) == (hashlib.sha256(content).hexdigest(), len(content))
        if known.git_sha1:
            assert hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == known.git_sha1


def test_an_unknown_name_lists_what_exists():
    with pytest.raises(ConfigError, match=r"no data set named 'eth1'. Did you mean 'etth1'\? Known: .*ecl, .*etth1, "):
        load_catalog()["eth1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "  colour: red\n", r"demo.colour: unknown key"),
        (MINIMAL.replace("source: download", "source: ftp"), r"demo.source: .*'download'"),
        (MINIMAL.replace("  licence: CC0\n", ""), "demo.licence: Field required"),
        (MINIMAL.replace("url: [https://example.org/demo.csv]", ""), "demo.csv' of a download has no url"),
        (MINIMAL.replace("source: download", "source: package"), "needs `package`"),
        (MINIMAL.replace("name: demo.csv", "name: demo.csv, sha256: abc"), "sha256: String should match"),
        (MINIMAL.replace("demo:", "Demo Set:"), "Demo Set.name: String should match"),
        ("demo: 3\n", "demo must be a mapping"),
        ("- demo\n", "must map names to entries"),
        ("demo: [\n", "not valid YAML"),
    ],
)
def test_a_malformed_catalogue_names_the_key(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load_catalog(written(tmp_path, text))


def test_a_missing_catalogue_is_named(tmp_path):
    with pytest.raises(ConfigError, match="nowhere.yaml is missing"):
        load_catalog(tmp_path / "nowhere.yaml")


def test_own_data_become_an_entry_of_their_own(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("date,y\n")
    catalog = load_catalog(own={"mine": {"path": str(path), "target": "y", "max_gap": 3, "units": {"y": "kW"}}})
    entry = catalog["mine"]
    assert (entry.source, entry.reader, entry.target, entry.borders) == ("config", "table", "y", "ratio")
    assert entry.options == {"max_gap": 3} and "mine" in catalog.names("forecasting")
    choice = choose(catalog, ["mine", "nyc_weather"], folders=[], cache=tmp_path / "raw")
    assert (choice.source, choice.files, choice.sha256) == (
        "config",
        (str(path),),
        hashlib.sha256(b"date,y\n").hexdigest(),
    )
    assert load_catalog(own={"mine": OwnData(path=str(path), target="y")})["mine"].options == {"max_gap": 0}


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"etth9": "x.csv"}, "no data set named 'etth9'"),
        ({"etth1": {"path": "x.csv", "target": "OT"}}, "data.etth1: the catalogue already has this name"),
        ({"mine": {"path": "x.csv"}}, "data.mine.target: Field required"),
        ({"mine": {"path": "x.csv", "target": "y", "gap": 1}}, "data.mine.gap: unknown key"),
        ({"My Data": {"path": "x.csv", "target": "y"}}, "data.My Data.name"),
        ({"regimes": "x.csv"}, "data.regimes: a simulated data set has no file"),
    ],
)
def test_wrong_own_data_name_the_key(own, message):
    with pytest.raises(ConfigError, match=message):
        load_catalog(own=own)


def test_an_alternative_form_is_read_with_its_own_options():
    ecl = load_catalog()["ecl"]
    assert ecl.reading(["x/electricity.txt.gz"]) == ("undated", ecl.options)
    assert ecl.reading(["somewhere/ECL.csv"]) == ("table", {"time": "date"})
    assert ecl.reading(["renamed.csv"]) == ("table", {"time": "date"})
    described = load_catalog().describe(Choice("ecl", "ecl", "config", ("a/ECL.csv",), None, "l"))
    assert described["reader"] == "table" and described["target"] == "MT_320" and described["step"] == "1h"


def test_reading_the_catalogue_imports_nothing_heavy():
    """A dry run reads it: numpy, pandas, requests and pooch must wait for the job."""
    script = "import sys; from pipeline.core import catalog, choices; catalog.load_catalog(); print(*sys.modules)"
    names = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "pandas", "requests", "pooch", "xarray", "torch", "mlflow"} & set(names)


POINTS = {"path": "a.csv", "kind": "points", "options": {"window": 30.0}}


def test_own_files_name_their_kind_reader_and_options():
    catalog = load_catalog(own={"quakes": POINTS, "three": {**POINTS, "path": ["c", "a", "b"], "reader": "sequences"}})
    entry = catalog["quakes"]
    assert (entry.kind, entry.reader, entry.options, entry.source) == ("points", "table", {"window": 30.0}, "config")
    assert entry.target is None and "quakes" in catalog.names("points")
    assert [str(path) for path in catalog.user_paths["three"]] == ["c", "a", "b"]  # the reader's order
    undated = {"path": "a.txt", "kind": "forecasting", "reader": "undated", "options": {"start": "2000"}, "target": "y"}
    series = load_catalog(own={"mine": undated})["mine"]
    assert (series.reader, series.target, series.options) == ("undated", "y", {"start": "2000"})


def test_a_choice_holds_all_files_and_stands_while_they_are_named(tmp_path):
    for name in "abc":
        (tmp_path / name).write_text(name)
    paths = [str(tmp_path / name) for name in "cab"]
    own = {"three": {"path": paths, "kind": "points", "reader": "sequences"}}
    record = tmp_path / "choices.json"
    first = resolve(load_catalog(own=own), ["three"], record=record, folders=[], cache=tmp_path / "raw")
    assert first.files == tuple(paths)
    digests = "".join(f"{name} {hashlib.sha256(name.encode()).hexdigest()}\n" for name in "cab")
    assert first.sha256 == hashlib.sha256(digests.encode()).hexdigest()
    own["three"]["path"] = paths[::-1]
    again = resolve(load_catalog(own=own), ["three"], record=record, folders=[], cache=tmp_path / "raw")
    assert again.files == tuple(paths[::-1])  # another order is another choice
    (tmp_path / "b").unlink()
    with pytest.raises(DataError, match="data.three: .*b does not exist"):
        resolve(load_catalog(own=own), ["three"], record=record, folders=[], cache=tmp_path / "raw", refresh=True)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"path": "x.csv", "options": {}}, "data.mine.kind: Field required"),
        ({"path": "x.csv", "kind": "dots"}, "data.mine.kind: 'dots' is no kind.*traffic, air, points"),
        ({**POINTS, "target": "y"}, "data.mine: target: only data of kind forecasting"),
        ({**POINTS, "max_gap": 1}, "data.mine.max_gap: unknown key"),
        ({**POINTS, "path": []}, "data.mine: path is an empty list"),
        (
            {"path": "x.csv", "target": "y", "options": {}, "kind": "forecasting", "time": "t"},
            "data.mine.time: unknown",
        ),
    ],
)
def test_faults_of_own_files_name_the_key(own, message):
    with pytest.raises(ConfigError, match=message):
        load_catalog(own={"mine": own})


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"path": "x.csv", "target": "y"}, "data.mine.kind: 'forecasting', but a scenario of smash.*kind: points"),
        ({**POINTS, "reader": "magic"}, "data.mine.reader: smash has no reader 'magic'; there are table, quakeml, seq"),
        ({**POINTS, "options": {"magnitud": "m"}}, "data.mine.options.magnitud: unknown.*did you mean 'magnitude'"),
        ({**POINTS, "options": {"window": "month"}}, "data.mine.options.window: Input should be a valid number"),
        (
            {"path": "x", "kind": "points", "reader": "sequences", "options": {"mark_bins": [4.0]}},
            "data.mine.options.mark_bins: unknown key",
        ),
    ],
)
def test_own_data_are_held_to_what_the_system_reads(own, message):
    from pipeline.smash.settings import OWN_DATA

    with pytest.raises(ConfigError, match=message):
        check_own(load_catalog(own={"mine": own})["mine"], "smash", OWN_DATA)


def test_the_start_holds_own_data_to_the_system_that_uses_them():
    from pipeline.core.plan import Plan
    from pipeline.smash import settings

    scenario = {
        "description": "d",
        "datasets": ["mine"],
        "primary": {"metric": "crps_time", "unit": "day"},
        "seeds": [0],
        "baselines": ["poisson_kde"],
    }
    section = {"settings": settings.Settings().model_dump(), "scenarios": {"s": scenario}, "tables": {"t": ["s"]}}

    def start(own):
        catalog = load_catalog(own={"mine": own})
        return Plan({"data": {"mine": own}, "smash": section}, {"results": {}}, {"smash": settings}, catalog)

    assert start(POINTS).system("results", "smash").table("t") == ["s"]
    with pytest.raises(ConfigError, match="data.mine.options.max_gap: unknown key"):
        start({**POINTS, "options": {"max_gap": 0}})
