"""The JSON schema of config.yaml: up to date, accepts what is right and refuses what the models refuse."""

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from pipeline.core import schema
from pipeline.core.config import merge
from pipeline.registry import SYSTEMS, system

PROJECT = Path(__file__).resolve().parents[3]
MODELS = {name: system(name).Settings for name in SYSTEMS}


@pytest.fixture(scope="module")
def validator():
    whole = schema.schema(MODELS)
    Draft202012Validator.check_schema(whole)
    return Draft202012Validator(whole)


@pytest.fixture(scope="module")
def config():
    return yaml.safe_load((PROJECT / "config.yaml").read_text())


def faults(validator, value):
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def test_the_file_is_what_the_models_generate():
    assert (PROJECT / schema.PATH).read_text() == schema.text(MODELS), "run: python -m pipeline schema"


def test_config_and_light_are_valid(validator, config):
    light = yaml.safe_load((PROJECT / "config" / "light.yaml").read_text())
    assert faults(validator, config) == []
    assert faults(validator, merge(config, light)) == []


def fsnet(**parts):
    return {"fsnet": parts}


@pytest.mark.parametrize(
    "change, where",
    [
        ({"devise": "cpu"}, "$"),
        ({"device": "gpu"}, "$.device"),
        ({"data": {"mine": {"path": "my.csv"}}}, "$.data.mine"),  # no target
        (fsnet(settings={"online": {"feedbak": "delayed"}}), "$.fsnet.settings.online"),
        (fsnet(settings={"task": {"horizon": "{horizon}"}}), "$.fsnet.settings.task.horizon"),  # no foreach there
        (fsnet(arms={"large": {"settings": {"network": {"hiden": 1}}}}), "$.fsnet.arms.large.settings.network"),
        (fsnet(arms={"large": {"settings": {"network": {"hidden": 0}}}}), "$.fsnet.arms.large.settings.network.hidden"),
        (fsnet(arms={"slots": {"foreach": {"n": []}}}), "$.fsnet.arms.slots.foreach.n"),
        (fsnet(scenarios={"delayed": {"seeds": []}}), "$.fsnet.scenarios.delayed.seeds"),
        (fsnet(scenarios={"delayed": {"sedes": [1]}}), "$.fsnet.scenarios.delayed"),
    ],
)
def test_a_mistake_is_found_where_it_stands(validator, config, change, where):
    found = faults(validator, merge(config, change))
    assert len(found) == 1 and found[0].startswith(f"{where}: "), found


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"etth1": "/a/ETTh1.csv", "mine": {"path": "my.csv", "target": "y", "max_gap": 3}}},
        fsnet(arms={"slots_{n}": {"foreach": {"n": [8, 16]}, "settings": {"memory": {"slots": "{n}"}}}}),
        fsnet(arms={"quick": {"settings": {"online": {"lr": 1, "replay": {"size": 3}}}}}),  # a whole number is a number
    ],
)
def test_what_the_readme_allows_is_valid(validator, config, change):
    assert faults(validator, merge(config, change)) == []


def test_every_setting_is_described_by_type_default_and_bounds(validator):
    """Editors show these: the schema carries the models' defaults, descriptions and limits."""
    definitions = validator.schema["$defs"]
    for name, model in MODELS.items():
        section = definitions[f"{name}.Settings"]["properties"]
        assert set(section) == set(model.model_fields)
    window = definitions["fsnet.Task"]["properties"]["window"]
    assert (window["type"], window["default"], window["minimum"], window["maximum"]) == ("integer", 48, 2, 4096)
    assert "rows" in window["description"]
    override = definitions["fsnet.Task.override"]["properties"]["window"]["anyOf"][0]
    assert "default" not in override and override["minimum"] == 2


def test_the_schema_is_the_same_every_time_and_for_any_number_of_systems():
    assert schema.text(MODELS) == schema.text(MODELS)
    two = schema.schema({"first": MODELS["fsnet"], "second": MODELS["fsnet"]})
    assert {"first", "second"} <= set(two["properties"])
    references = set(json.dumps(two).split('"#/$defs/')[1:])
    assert {reference.split('"')[0] for reference in references} <= set(two["$defs"])


def test_writing_leaves_no_part_behind(tmp_path):
    path = tmp_path / "deep" / "config.schema.json"
    schema.write(MODELS, path)
    assert path.read_text() == schema.text(MODELS)
    assert [p.name for p in path.parent.iterdir()] == ["config.schema.json"]
