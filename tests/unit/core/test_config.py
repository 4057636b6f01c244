"""The configuration: every mistake is one clear message, and config.yaml states every default."""

import copy
import json
from pathlib import Path

import pytest
import yaml

from pipeline.core.catalog import load_catalog
from pipeline.core.config import merge, unfold
from pipeline.core.errors import ConfigError
from pipeline.core.plan import Plan
from pipeline.core.section import SystemConfig
from pipeline.fsnet.settings import STAGES, Settings
from pipeline.registry import SYSTEMS, system

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def raw():
    return yaml.safe_load((PROJECT / "config.yaml").read_text())


@pytest.fixture(scope="module")
def light():
    return yaml.safe_load((PROJECT / "config" / "light.yaml").read_text())


def plan(config, overlay=None):
    catalog = load_catalog(PROJECT / "config" / "datasets.yaml", config.get("data") or {})
    overlays = {"results": {}, "results/light": overlay or {}}
    return Plan(config, overlays, {name: system(name) for name in SYSTEMS}, catalog)


def changed(config, change):
    """The configuration with a nested change merged over it."""
    return merge(config, change)


def fsnet(**parts):
    return {"fsnet": parts}


# what is changed -> what the message must name: the key, the value, what is allowed or known
WRONG = {
    "misspelt key at the top": ({"devise": "cpu"}, ["devise", "unknown key", "'cpu'"]),
    "misspelt system": ({"fsnett": {}}, ["fsnett", "unknown key"]),
    "impossible device": ({"device": "gpu"}, ["device", "'auto', 'cpu' or 'cuda'", "'gpu'"]),
    "text for a switch": ({"strict_data": "yes please"}, ["strict_data", "bool", "'yes please'"]),
    "misspelt part of a system": (fsnet(scenarioes={}), ["fsnet.scenarioes", "unknown key"]),
    "misspelt group of settings": (
        fsnet(settings={"onlin": {"lr": 0.1}}),
        ["fsnet.settings.onlin", "unknown key", "0.1", "'online'", "pretrain"],
    ),
    "misspelt setting": (
        fsnet(settings={"online": {"feedbak": "delayed"}}),
        ["fsnet.settings.online.feedbak", "unknown key", "'delayed'", "'feedback'", "inner_steps"],
    ),
    "misspelt nested setting": (
        fsnet(settings={"online": {"replay": {"sizes": 5}}}),
        ["fsnet.settings.online.replay.sizes", "unknown key", "5", "'size'", "logits"],
    ),
    "misspelt setting of an arm": (
        fsnet(arms={"large": {"settings": {"network": {"hiden": 128}}}}),
        ["fsnet.arms.large.settings.network.hiden", "unknown key", "128", "'hidden'"],
    ),
    "misspelt setting of a scenario": (
        fsnet(scenarios={"immediate": {"settings": {"online": {"feed": "immediate"}}}}),
        ["fsnet.scenarios.immediate.settings.online.feed", "unknown key", "'feedback'"],
    ),
    "misspelt key of an arm": (
        fsnet(arms={"large": {"setings": {}}}),
        ["fsnet.arms.large.setings", "unknown key", "'settings'"],
    ),
    "misspelt key of a scenario": (
        fsnet(scenarios={"delayed": {"sedes": [1]}}),
        ["fsnet.scenarios.delayed.sedes", "unknown key", "[1]"],
    ),
    "impossible value in an arm": (
        fsnet(arms={"large": {"settings": {"network": {"hidden": 0}}}}),
        ["fsnet.arms.large.settings.network.hidden", "greater than or equal to 4", "value 0"],
    ),
    "choice that doesn't exist": (
        fsnet(settings={"memory": {"kind": "associative"}}),
        ["memory.kind", "'upstream'", "'working'", "'associative'"],
    ),
    "text for a number": (fsnet(settings={"task": {"horizon": "12"}}), ["task.horizon", "integer", "'12'"]),
    "fraction for a count": (fsnet(settings={"task": {"window": 48.5}}), ["task.window", "integer", "48.5"]),
    "number for a group": (fsnet(settings={"online": 3}), ["online", "Online", "value 3"]),
    "null for a number": (fsnet(settings={"pretrain": {"lr": None}}), ["pretrain.lr", "number", "None"]),
    "unknown data set": (
        fsnet(scenarios={"delayed": {"datasets": ["eth1"]}}),
        ["'eth1'", "Did you mean 'etth1'", "nyc_weather"],
    ),
    "own path of an unknown data set": ({"data": {"etth9": "my.csv"}}, ["'etth9'", "etth1"]),
    "own data without target": ({"data": {"mine": {"path": "my.csv"}}}, ["data.mine", "target"]),
    "own data under a catalogue name": (
        {"data": {"etth1": {"path": "my.csv", "target": "OT"}}},
        ["data.etth1", "choose another name"],
    ),
    "no data set": (fsnet(scenarios={"delayed": {"datasets": []}}), ["delayed.datasets", "at least 1"]),
    "no seed": (fsnet(scenarios={"delayed": {"seeds": []}}), ["delayed.seeds", "at least 1"]),
    "one seed, not a list": (fsnet(scenarios={"delayed": {"seeds": 0}}), ["delayed.seeds", "list", "value 0"]),
    "unknown arm in a scenario": (
        fsnet(scenarios={"delayed": {"arms": ["ogd", "fsnet_papper"]}}),
        ["scenarios.delayed", "'fsnet_papper'", "fsnet_paper"],
    ),
    "needs an arm that isn't defined": (
        fsnet(arms={"fsnet_aggregate": {"needs": ["tcn_deltas"]}}),
        ["arms.fsnet_aggregate", "'tcn_deltas'", "tcn_delta"],
    ),
    "needs an arm that isn't in the scenario": (
        fsnet(scenarios={"delayed": {"arms": ["ogd", "fsnet_aggregate"], "compare": []}}),
        ["scenarios.delayed", "'fsnet_aggregate' needs 'tcn_delta'", "add it"],
    ),
    "starts from an arm that isn't defined": (
        fsnet(arms={"er": {"start_from": "odg"}}),
        ["arms.er", "'odg'", "ogd"],
    ),
    "compares what isn't in the scenario": (
        fsnet(scenarios={"delayed": {"compare": [["ogd", "regime_memory"]]}}),
        ["scenarios.delayed.compare", "'regime_memory'"],
    ),
    "compares one with nothing": (fsnet(scenarios={"delayed": {"compare": [["ogd"]]}}), ["delayed.compare"]),
    "table pattern without a match": (
        fsnet(tables={"ablation": ["daily_*"]}),
        ["fsnet.tables.ablation", "daily_*"],
    ),
    "table of an unknown scenario": (
        fsnet(tables={"ablation": ["delayd"]}),
        ["fsnet.tables.ablation", "'delayd'", "delayed"],
    ),
    "foreach without values": (
        fsnet(arms={"slots_{n}": {"foreach": {"n": []}}}),
        ["fsnet.arms.slots_{n}.foreach", "non-empty lists"],
    ),
    "foreach over no list": (
        fsnet(arms={"slots_{n}": {"foreach": {"n": 8}}}),
        ["fsnet.arms.slots_{n}.foreach", "8"],
    ),
    "foreach whose values aren't in the name": (
        fsnet(arms={"slots": {"foreach": {"n": [8, 16]}}}),
        ["fsnet.arms.slots", "twice"],
    ),
    "foreach makes a name that exists": (
        fsnet(arms={"{n}": {"foreach": {"n": ["ogd"]}}}),
        ["fsnet.arms.ogd", "twice"],
    ),
    "top_k above slots": (
        fsnet(settings={"memory": {"slots": 4, "top_k": 5}}),
        ["fsnet.settings", "memory.top_k 5", "memory.slots 4"],
    ),
    "memory without adapter": (
        fsnet(arms={"ogd": {"settings": {"memory": {"kind": "paper"}}}}),
        ["arms.ogd", "memory.kind paper", "network.kind adapter", "tcn"],
    ),
    "impossible value in an arm that no scenario uses": (
        fsnet(arms={"lonely": {"settings": {"network": {"hidden": 0}}}}),
        ["fsnet.arms.lonely.settings.network.hidden", "value 0"],
    ),
    "arms that need each other": (
        fsnet(arms={"one": {"needs": ["two"]}, "two": {"needs": ["one"]}}),
        ["fsnet.arms.one", "needs itself", "two"],
    ),
    "name that no rule can match": (fsnet(arms={"My arm": {}}), ["fsnet.arms.My arm", "a-z"]),
    "placeholder that foreach doesn't have": (
        fsnet(arms={"slots_{m}": {"foreach": {"n": [8]}}}),
        ["fsnet.arms.slots_{m}", "a-z"],
    ),
    "list for a system": ({"fsnet": [1]}, ["fsnet must map names", "[1]"]),
    "own data without its path": ({"data": {"mine": {"target": "y"}}}, ["data.mine.path", "required"]),
    "number for the arms": (fsnet(arms=3), ["fsnet.arms", "map names", "3"]),
    "number for an arm": (fsnet(arms={"ogd": 3}), ["fsnet.arms.ogd", "map names", "3"]),
    "list for a scenario": (fsnet(scenarios={"delayed": [1]}), ["fsnet.scenarios.delayed", "map names", "[1]"]),
    "a leak that isn't named": (
        fsnet(arms={"nomem": {"settings": {"online": {"feedback": "immediate"}}}}),
        ["fsnet.scenarios.", "'nomem'", "labels of the future", "`leaky: true`"],
    ),
    "immediate learns every few steps": (
        fsnet(scenarios={"immediate": {"settings": {"online": {"every": 4}}}}),
        ["scenarios.immediate", "online.every", "must be 1"],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_clear_message(raw, name):
    change, expected = WRONG[name]
    with pytest.raises(ConfigError) as caught:
        plan(changed(raw, change))
    message = str(caught.value)
    for part in expected:
        assert part in message, message
    # one fault is told once, in a line that can be read: not the whole configuration
    assert len(message.removeprefix("The configuration is wrong:\n").splitlines()) == 1, message
    assert len(message) < 1200 and message.count("{") < 4, message


def test_a_mistake_in_the_light_overlay_is_found_too(raw, light):
    wrong = merge(light, fsnet(settings={"pretrain": {"epoch": 1}}))
    with pytest.raises(ConfigError, match=r"pretrain\.epoch: unknown key"):
        plan(raw, wrong)


def test_several_mistakes_are_told_together(raw):
    change = fsnet(settings={"task": {"horizon": 0, "windw": 48}})
    with pytest.raises(ConfigError) as caught:
        plan(changed(raw, change))
    assert "task.horizon" in str(caught.value) and "task.windw" in str(caught.value)


def leaves(value, path=()):
    """Paths of all scalars and lists of nested mappings."""
    if isinstance(value, dict):
        return {leaf: v for key, item in value.items() for leaf, v in leaves(item, (*path, key)).items()}
    return {path: value}


def test_config_states_every_setting_with_its_default(raw):
    defaults = leaves(Settings().model_dump(mode="json"))
    assert leaves(raw["fsnet"]["settings"]) == defaults  # no more, no less, the same values
    kinds = {path: type(value) for path, value in leaves(raw["fsnet"]["settings"]).items()}
    assert kinds == {path: type(value) for path, value in defaults.items()}  # 1 is not 1.0 is not true


def test_config_states_every_key_of_the_top_level(raw):
    from pipeline.core.config import Config

    own = {key: value for key, value in raw.items() if key not in SYSTEMS}
    assert own == Config().model_dump(mode="json")


def test_light_merges_and_validates(raw, light):
    """The light root has the same arms, smaller settings, and data that need no download."""
    both = plan(raw, light)
    full, small = both.system("results", "fsnet"), both.system("results/light", "fsnet")
    assert set(small.section.arms) == set(full.section.arms)
    for name in small.table("ablation"):
        assert small.scenario(name).arms == full.scenario(name).arms
        assert all(both.catalog[d].source in ("package", "simulation") for d in small.scenario(name).datasets)
    assert small.settings("delayed")["pretrain"]["epochs"] < full.settings("delayed")["pretrain"]["epochs"]
    assert full.settings("delayed")["data"]["test_rows"] is None


def test_arm_wins_over_scenario_over_base(raw):
    config = merge(
        raw,
        fsnet(
            settings={"online": {"lr": 1.0, "every": 2, "recent": 2}},
            scenarios={"delayed": {"settings": {"online": {"lr": 2.0, "every": 3}}}},
            arms={"ogd": {"settings": {"online": {"lr": 3.0}}}},
            tables={"ablation": ["delayed"]},
        ),
    )
    del config["fsnet"]["scenarios"]["immediate"]
    online = SystemConfig("fsnet", config["fsnet"], Settings).settings("delayed", "ogd")["online"]
    assert (online["lr"], online["every"], online["recent"]) == (3.0, 3, 2)
    assert online["weight_decay"] == 0.01  # untouched


def test_one_arm_changes_its_own_leaves_only(raw):
    """What lets Snakemake rerun that arm alone: the leaves of the others are what they were."""
    before = SystemConfig("fsnet", raw["fsnet"], Settings)
    change = fsnet(arms={"large": {"settings": {"network": {"hidden": 96}}}})
    after = SystemConfig("fsnet", merge(raw, change)["fsnet"], Settings)
    moved = {
        (stage, scenario, arm)
        for stage in ("prepare", "train", "evaluate", "baselines")
        for scenario in ("delayed", "immediate")
        for arm in before.scenario(scenario).arms
        if before.leaf(STAGES[stage].groups, scenario, arm) != after.leaf(STAGES[stage].groups, scenario, arm)
    }
    assert moved == {(stage, s, "large") for stage in ("train", "evaluate") for s in ("delayed", "immediate")}


def test_a_leaf_holds_the_groups_of_its_stage_only(raw):
    section = SystemConfig("fsnet", raw["fsnet"], Settings)
    for name, stage in STAGES.items():
        if set(stage.groups) <= set(Settings.model_fields):
            assert list(section.leaf(stage.groups, "delayed", None)) == stage.groups, name
    assert "online" not in section.leaf(STAGES["train"].groups, "delayed", "ogd")  # the protocol never retrains


def test_unfold_counts_names_and_types():
    entries = {
        "d_{dataset}_h{horizon}": {
            "foreach": {"dataset": ["a", "b"], "horizon": [1, 24]},
            "datasets": ["{dataset}"],
            "description": "{dataset}, {horizon} ahead",
            "settings": {"task": {"horizon": "{horizon}"}},
        },
        "plain": None,
    }
    before = copy.deepcopy(entries)
    unfolded = unfold(entries, "x")
    assert list(unfolded) == ["d_a_h1", "d_a_h24", "d_b_h1", "d_b_h24", "plain"]
    assert unfolded["d_b_h24"] == {
        "datasets": ["b"],
        "description": "b, 24 ahead",
        "settings": {"task": {"horizon": 24}},  # still a number
    }
    assert entries == before


def test_merge_is_deep_and_leaves_its_arguments_alone():
    base, over = {"a": {"b": 1, "c": [1, 2]}, "d": 1}, {"a": {"c": [3]}, "d": {"e": 2}}
    frozen = json.dumps([base, over])
    assert merge(base, over) == {"a": {"b": 1, "c": [3]}, "d": {"e": 2}}
    assert json.dumps([base, over]) == frozen
    assert merge(base) == base and merge(base) is not base


def test_tables_take_patterns_in_the_order_of_the_scenarios(raw):
    section = SystemConfig("fsnet", raw["fsnet"], Settings)
    names = section.table("datasets")
    loops = raw["fsnet"]["scenarios"]["delayed_{dataset}_h{horizon}"]["foreach"]
    assert len(names) == len(set(names)) == len(loops["dataset"]) * len(loops["horizon"])
    assert section.table("ablation") == ["delayed", "immediate", "regimes"]
