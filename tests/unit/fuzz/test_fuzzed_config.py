"""The configuration and the catalogue of data sets, damaged in values, words and bytes."""

import pytest
import yaml

from pipeline import cli
from pipeline.core.catalog import CATALOG, load_catalog
from pipeline.core.config import difference, merge
from pipeline.core.plan import Plan
from pipeline.fsnet import settings as fsnet

from .damage import file_of, fuzz, struck_bytes, struck_text, struck_value

SCENARIO = {
    "description": "d",
    "datasets": ["mine"],
    "primary": {"metric": "mse", "unit": "1", "better": "lower"},
    "seeds": [0, 1],
    "arms": ["nomem", "later"],
    "baselines": ["persistence"],
    "compare": [["nomem", "persistence"]],
}
CONFIG = {
    "device": "cpu",
    "strict_data": False,
    "language": "en",
    "data": {"mine": {"path": "mine.csv", "target": "y", "max_gap": 2, "units": {"y": "MW"}}, "etth1": "ETTh1.csv"},
    "fsnet": {
        "settings": {"task": {"horizon": 12, "features": "S"}, "data": {"test_rows": 100}},
        "arms": {
            "nomem": {"settings": {"network": {"kind": "adapter"}}},
            "later": {"needs": ["nomem"], "settings": {"network": {"kind": "adapter", "hidden": 32}}},
        },
        "scenarios": {
            "delayed": SCENARIO,
            "long_h{h}": {**SCENARIO, "foreach": {"h": [24, 48]}, "settings": {"task": {"horizon": "{h}"}}},
        },
        "tables": {"ablation": ["delayed", "long_*"]},
        "sweep": {
            "lr": {
                "arm": "nomem",
                "scenario": "delayed",
                "over": {
                    "network.hidden": [16, 32],
                    "online.lr": {"from": 1e-5, "to": 1e-3, "points": 3, "scale": "log"},
                },
            }
        },
    },
}


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    """A catalogue of two data sets."""
    path = tmp_path_factory.mktemp("catalogue") / "datasets.yaml"
    whole = yaml.safe_load(CATALOG.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({name: whole[name] for name in ("etth1", "nyc_weather")}), encoding="utf-8")
    return path


def test_configurations(entries):
    held = {}

    def read():
        config = held["config"]
        light = merge({"fsnet": {"settings": {"task": {"horizon": 3}}}}, difference(config, CONFIG))
        return Plan(
            config, {"results": {}, "results/light": light}, {"fsnet": fsnet}, load_catalog(entries, config.get("data"))
        )

    def sane(plan):
        for sections in plan.roots.values():
            for scenario, entry in sections["fsnet"].section.scenarios.items():
                for arm in entry.arms:
                    assert sections["fsnet"].settings(scenario, arm)["task"]["horizon"] >= 1

    def damage(blows):
        struck = struck_value(CONFIG, blows)
        held["config"] = struck if isinstance(struck, dict) else {"fsnet": struck}

    fuzz(damage, read, None, sane)


@pytest.mark.parametrize("strike", [struck_text, struck_bytes])
def test_files_of_the_configuration(tmp_path, monkeypatch, strike):
    monkeypatch.setattr(cli, "PROJECT", tmp_path)
    (tmp_path / "config.yaml").write_text("{}")
    path = tmp_path / "mine.yaml"
    content = yaml.safe_dump(CONFIG, sort_keys=False).encode()

    def sane(config):
        assert isinstance(config, dict)

    fuzz(file_of(path, content, strike), lambda: cli.read_config([path]), str(path), sane, of=2)


@pytest.mark.parametrize("strike", [struck_text, struck_bytes])
def test_the_catalogue(entries, tmp_path, strike):
    path = tmp_path / "datasets.yaml"
    fuzz(file_of(path, entries.read_bytes(), strike), lambda: load_catalog(path), path.name, dict, of=2)
