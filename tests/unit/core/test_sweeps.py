"""Sweeps: values, names and derived arms worked out by hand, and one clear message for each mistake."""

from typing import ClassVar

import pytest

from pipeline.core.config import ArmSettings, Model
from pipeline.core.errors import ConfigError
from pipeline.core.section import SystemConfig
from pipeline.core.sweeps import expand, points


class Network(Model):
    hidden: int = 64
    kind: str = "tcn"
    gate: bool = False


class Online(Model):
    lr: float = 1e-3
    rows: int | None = None


class Settings(ArmSettings):
    TRAINED: ClassVar[tuple[str, ...]] = ("network",)
    BASELINES: ClassVar[tuple[str, ...]] = ("persistence", "climatology")
    METRICS: ClassVar[tuple[str, ...]] = ("mse",)
    network: Network = Network()
    online: Online = Online()


def raw(**sweep):
    return {
        "settings": {},
        "arms": {
            "plain": {"settings": {"online": {"lr": 0.1}}},
            "wide": {"settings": {"network": {"hidden": 128}}},
            "tuned": {"start_from": "plain", "settings": {"online": {"lr": 0.2}}},
            "mean": {"needs": ["plain", "wide"]},
        },
        "scenarios": {
            "point": {
                "description": "points",
                "datasets": ["a", "b"],
                "primary": {"metric": "mse", "unit": "1"},
                "seeds": [0, 1],
                "arms": ["plain", "wide", "tuned", "mean"],
                "baselines": ["persistence", "climatology"],
                "compare": [["plain", "wide"]],
                "settings": {"network": {"kind": "rnn"}},
            }
        },
        "tables": {"ablation": ["point"]},
        "sweep": {"one": sweep} if sweep else {},
    }


def config(**sweep):
    section = raw(**sweep)
    return SystemConfig("toy", expand("toy", section, Settings), Settings)


def values(spec, key="online.lr"):
    return [
        next(iter(chosen.values()))
        for chosen in points(config(arm="plain", scenario="point", over={key: spec}), "one")["arms"].values()
    ]


def test_a_sweep_is_a_scenario_with_an_arm_for_each_combination_and_a_table():
    whole = config(arm="plain", scenario="point", over={"online.lr": [1e-5, 0.05], "network.gate": [False, True]})
    assert whole.table("sweep_one") == ["sweep_one"]
    scenario, base = whole.scenario("sweep_one"), whole.scenario("point")
    assert scenario.arms == [
        "plain__online_lr_1em5__network_gate_false",
        "plain__online_lr_1em5__network_gate_true",
        "plain__online_lr_0p05__network_gate_false",
        "plain__online_lr_0p05__network_gate_true",
    ]
    assert scenario.compare == [] and scenario.datasets == base.datasets and scenario.primary == base.primary
    assert (scenario.seeds, scenario.baselines) == (base.seeds, base.baselines)
    settings = whole.settings("sweep_one", scenario.arms[1])
    assert settings["online"]["lr"] == 1e-5 and settings["network"] == {"hidden": 64, "kind": "rnn", "gate": True}
    assert points(whole, "one")["arms"][scenario.arms[2]] == {"online.lr": 0.05, "network.gate": False}
    assert whole.scenario("point") == config().scenario("point")


def test_arms_share_a_trained_model_where_the_sweep_leaves_training_as_it_is():
    def started(arm, key, spec):
        whole = config(arm=arm, scenario="point", over={key: spec})
        return {whole.arm(name).start_from for name in whole.scenario("sweep_one").arms}

    assert started("plain", "online.lr", [1.0]) == {"plain"}
    assert started("tuned", "online.lr", [1.0]) == {"plain"}
    assert started("tuned", "network.hidden", [8]) == {None}


def test_seeds_baselines_and_needs():
    whole = config(arm="mean", scenario="point", over={"online.lr": [1.0]}, seeds=[5], baselines=["persistence"])
    scenario = whole.scenario("sweep_one")
    assert scenario.seeds == [5] and scenario.baselines == ["persistence"]
    assert scenario.arms == ["plain", "wide", "mean__online_lr_1"]
    assert whole.arm("mean__online_lr_1").needs == ["plain", "wide"]
    assert list(points(whole, "one")["arms"]) == ["mean__online_lr_1"]


@pytest.mark.parametrize(
    ("spec", "key", "expected"),
    [
        ({"from": 0.1, "to": 0.7, "step": 0.2}, "online.lr", [0.1, 0.3, 0.5, 0.7]),
        ({"from": 0, "to": 1, "step": 0.3}, "online.lr", [0, 0.3, 0.6, 0.9]),
        ({"from": 0, "to": 1, "points": 5}, "online.lr", [0, 0.25, 0.5, 0.75, 1]),
        ({"from": 1e-5, "to": 1e-3, "points": 5, "scale": "log"}, "online.lr", [1e-5, 3.16e-5, 1e-4, 3.16e-4, 1e-3]),
        ({"from": 2, "to": 32, "points": 5, "scale": "log"}, "network.hidden", [2, 4, 8, 16, 32]),
        ({"from": 1, "to": 3, "points": 9}, "network.hidden", [1, 2, 3]),  # whole numbers, each once
        ({"from": 10, "to": 30, "step": 10}, "online.rows", [10, 20, 30]),
        ([None, 3], "online.rows", [None, 3]),
        (["a-b", "c"], "network.kind", ["a-b", "c"]),
    ],
)
def test_values(spec, key, expected):
    found = values(spec, key)
    assert found == expected
    if key != "online.lr":
        assert not any(isinstance(value, float) for value in found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arm": "plane"}, r"toy\.sweep\.one\.arm: 'plane' is not defined \(did you mean 'plain'\? known: plain, wide"),
        ({"scenario": "block"}, r"toy\.sweep\.one\.scenario: 'block' is not defined"),
        ({"over": {}}, r"toy\.sweep\.one\.over: .*at least 1"),
        ({"over": {"online.rate": [1]}}, r"over\.online\.rate: there is no such setting; "),
        ({"over": {"onlin.lr": [1]}}, r"over\.onlin\.lr: there is no such setting; did you mean 'online\.lr'\?"),
        ({"over": {"lr": [1]}}, r"over\.lr: there is no such setting; did you mean 'online\.lr'\?"),
        ({"over": {"online": [1]}}, r"over\.online: .*it is a group: choose from online\.lr, online\.rows"),
        ({"over": {"online.lr": []}}, r"over\.online\.lr: must be a list of values or a range such as"),
        ({"over": {"online.lr": 3}}, r"over\.online\.lr: must be a list .* got 3"),
        ({"over": {"online.lr": [[1]]}}, r"over\.online\.lr: \[1\] is no single value"),
        ({"over": {"online.lr": [1.0, 1.0]}}, r"over\.online\.lr: 1\.0 stands there twice"),
        ({"over": {"online.lr": ["fast"]}}, r"arms\.plain__online_lr_fast\.settings\.online\.lr: .*valid number"),
        ({"over": {"network.hidden": [1.5]}}, r"arms\.plain__network_hidden_1p5\.settings\.network\.hidden: .*integer"),
        ({"over": {"network.kind": {"from": 1, "to": 2, "step": 1}}}, r"over\.network\.kind: a range is for numbers"),
        ({"over": {"online.lr": {"from": 2, "to": 1, "step": 1}}}, r"from \(2\) must be below to \(1\)"),
        ({"over": {"online.lr": {"from": 1, "to": 2}}}, r"state either step or points"),
        ({"over": {"online.lr": {"from": 1, "to": 2, "step": 1, "points": 2}}}, r"state either step or points"),
        (
            {"over": {"online.lr": {"from": 1, "to": 2, "step": 0}}},
            r"over\.online\.lr\.step: .*greater than 0, value 0",
        ),
        ({"over": {"online.lr": {"from": 0, "to": 2, "points": 3, "scale": "log"}}}, r"a log range needs .* from 0"),
        ({"over": {"online.lr": {"from": 1, "to": 2, "steps": 3}}}, r"lr\.steps: unknown key \(did you mean 'step'\?"),
        ({"over": {"online.lr": {"from": 0, "to": 1, "points": 501}}}, r"501 combinations are more than 500"),
        ({"seeds": []}, r"toy\.sweep\.one\.seeds: .*at least 1"),
        ({"seeds": [1, 1]}, r"scenarios\.sweep_one\.seeds: seeds must be distinct"),
        ({"baselines": ["persistance"]}, r"sweep_one\.baselines: 'persistance' is not defined"),
        ({"values": [1]}, r"toy\.sweep\.one\.values: unknown key"),
    ],
)
def test_a_mistake_is_one_clear_message(change, message):
    with pytest.raises(ConfigError, match=message) as caught:
        config(**{"arm": "plain", "scenario": "point", "over": {"online.lr": [1.0]}} | change)
    assert len(str(caught.value).splitlines()) <= 2


def test_names_of_sweeps_are_their_own():
    section = raw(arm="plain", scenario="point", over={"online.lr": [1.0]})
    section["tables"]["sweep_mine"] = ["point"]
    with pytest.raises(ConfigError, match=r"toy\.tables\.sweep_mine: names that begin with sweep_"):
        expand("toy", section, Settings)
    section = raw(arm="plain", scenario="point", over={"online.lr": [1.0]})
    section["arms"]["plain__online_lr_1"] = {"settings": {"online": {"lr": 2.0}}}
    with pytest.raises(ConfigError, match=r"arm 'plain__online_lr_1' is defined already, otherwise"):
        expand("toy", section, Settings)
    section = raw(arm="plain", scenario="point", over={"online.lr": [1.0]})
    section["sweep"] = {"Big": section["sweep"]["one"]}
    with pytest.raises(ConfigError, match=r"toy\.sweep\.Big: the name must be of small letters"):
        expand("toy", section, Settings)
