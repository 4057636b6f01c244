"""Settings that nothing would read are refused by name, and arms that lack what they need."""

import pytest

from pipeline.core.config import merge, validated
from pipeline.core.errors import ConfigError
from pipeline.core.section import SystemConfig
from pipeline.spin.settings import Settings


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"network": {"kind": "spin_h", "causal": True}}, "causal"),
        ({"network": {"kind": "spin_h", "max_temporal_distance": 3}}, "max_temporal_distance"),
        ({"network": {"kind": "spin_h", "self_attention": False}}, "self_attention"),
        ({"network": {"kind": "spin_h", "degree_norm": True}}, "degree_norm"),
        ({"network": {"kind": "residual", "edge_weights": True}}, "edge_weights"),
        ({"network": {"kind": "residual", "direction": "forward"}}, "direction"),
        ({"network": {"kind": "residual"}, "unseen": {"share": 0.2}}, "share"),
        ({"network": {"kind": "residual"}, "fit": {"distil": 0.5}}, "distil"),
        ({"network": {"kind": "residual"}, "fit": {"augment": {"noise": 0.1}}}, "noise"),
    ],
)
def test_a_setting_that_a_kind_does_not_read_is_refused_by_name(settings, name):
    kind = settings["network"]["kind"]
    with pytest.raises(ConfigError, match=f"{name} is not read by kind {kind}: leave it at"):
        validated(Settings, settings, "spin.settings")


def test_what_a_kind_reads_is_taken():
    network = {"causal": True, "max_temporal_distance": 3, "self_attention": False, "degree_norm": True}
    validated(Settings, {"network": {**network, "edge_weights": True, "direction": "forward"}}, "spin.settings")
    validated(Settings, {"network": {"kind": "spin_h", "edge_weights": True}}, "spin.settings")
    validated(Settings, {"network": {"kind": "residual", "channel_tokens": True}}, "spin.settings")


SECTION = {
    "settings": {},
    "arms": {
        "net": {"settings": {"network": {"kind": "residual"}}},
        "mix": {"needs": ["net"], "settings": {"network": {"kind": "stack"}}},
        "student": {"needs": ["net"], "settings": {"fit": {"distil": 0.5}}},
    },
    "scenarios": {
        "one": {
            "description": "made up",
            "datasets": ["x"],
            "primary": {"metric": "mae", "unit": "1", "better": "lower"},
            "seeds": [0],
            "arms": ["net", "mix", "student"],
            "baselines": ["linear", "boosting_bag"],
        }
    },
    "tables": {"ablation": ["one"]},
}


def test_stacks_and_students_name_what_they_need():
    SystemConfig("spin", SECTION, Settings)
    for change, says in (
        ({"scenarios": {"one": {"baselines": ["linear"]}}}, r"'mix' needs the baseline boosting_bag.*\(linear\)"),
        ({"arms": {"mix": {"needs": []}}}, r"'mix' averages one arm with boosting_bag: state it as `needs: \[<arm>\]`"),
        ({"arms": {"mix": {"needs": ["net", "student"]}}}, "'mix' averages one arm"),
        ({"arms": {"student": {"needs": []}}}, "'student' learns from or grows out of one arm"),
    ):
        with pytest.raises(ConfigError, match=f"spin.scenarios.one: arm {says}"):
            SystemConfig("spin", merge(SECTION, change), Settings)
