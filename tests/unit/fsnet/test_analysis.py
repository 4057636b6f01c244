"""The printed analysis: every verdict is worked out by hand on a table small enough to read."""

import re

import pytest

from pipeline.core.errors import DataError
from pipeline.core.stages import Job
from pipeline.core.statistics import summary
from pipeline.core.store import read_json, write_json
from pipeline.fsnet import analysis, published
from pipeline.fsnet.block import Block
from pipeline.fsnet.settings import Evaluate, Plot

# What a run of the published protocol gave on ETTh1 (one seed): (MSE, MAPE of z-scores, MAE).
FOUND = {
    "ogd": (0.0645, 14.66, 0.1769),
    "er": (0.0542, 13.66, 0.1668),
    "nomem": (0.0301, 10.11, 0.1204),
    "fsnet_upstream": (0.0310, 10.21, 0.1219),
    "fsnet_seed_fix": (0.0304, 10.14, 0.1211),
    "fsnet_paper": (0.03135, 10.26, 0.1235),
}
MEMORY = {"fsnet_upstream": (3852.0, 1.8), "fsnet_seed_fix": (6326.0, 0.24), "fsnet_paper": (5609.0, 0.22)}


def entry(values, **metrics):
    return {"metrics": {"mse": summary(values), **{key: summary(v) for key, v in metrics.items()}}, "cost": {}}


def arm(name, values, seeds, settings=None, **metrics):
    network = {"network": {"kind": "adapter"}}
    kinds = {"fsnet_upstream": "upstream", "fsnet_seed_fix": "seed_fix", "fsnet_paper": "paper"}
    adapters = {"nomem": network} | {name: {**network, "memory": {"kind": kind}} for name, kind in kinds.items()}
    given = settings or adapters.get(name, {})
    found = {**entry(values, **metrics), "status": "done", "seeds": seeds}
    found["settings"] = Evaluate(**given).model_dump(mode="json")
    if name in MEMORY:
        found["memory_firings"], found["memory_read_ratio"] = MEMORY[name]
    return found


def block(arms, baselines, leaky=False, dataset="etth1", requested="etth1", comparisons=()):
    info = {"name": dataset, "requested": requested, "source": "folder", "sha256": "s", "licence": "l", "period": "p"}
    return {
        "description": "A description",
        "leaky": leaky,
        "dataset": info,
        "primary": {"metric": "mse", "unit": "u", "better": "lower"},
        "arms": arms,
        "baselines": baselines,
        "comparisons": list(comparisons),
    }


@pytest.fixture
def immediate():
    arms = {name: arm(name, [mse], [0], mape_z=[mape], mae=[mae]) for name, (mse, mape, mae) in FOUND.items()}
    compared = {
        "a": "nomem",
        "b": "fsnet_seed_fix",
        "metric": "mse",
        "difference": -0.0003,
        "ci95": [-0.0006, 0.0001],
        "p": 0.12,
        "test": "paired",
    }
    return block(arms, {"persistence": entry([0.0806])}, leaky=True, comparisons=[compared])


def test_the_seeds_numbers_are_those_of_the_seed():
    printed = {row.arm: (row.mape_z, row.mse, row.mae) for row in published.SEED}
    assert printed == {
        "ogd": (14.75, 0.0635, 0.1766),
        "er": (13.53, 0.0531, 0.1661),
        "nomem": (9.73, 0.0319, 0.1226),
        "fsnet_upstream": (10.07, 0.0387, 0.1310),
        "fsnet_seed_fix": (10.25, 0.0390, 0.1291),
    }


def test_the_seeds_table_stands_beside_ours(immediate):
    text = "\n".join(published.beside(Block("immediate", immediate)))
    assert "| NoMem / `nomem` | 9.73 | 10.11 | 0.0319 | 0.0301 | 0.1226 | 0.1204 | −5.6 % |" in text
    assert "| OGD / `ogd` | 14.75 | 14.66 | 0.0635 | 0.0645 | 0.1766 | 0.1769 | +1.6 % |" in text
    assert "{NoMem, FSNet} < ER < OGD, holds" in text
    assert "10.14 % and 0.0304: the expectation is NOT met" in text
    assert "the fix saves −1.00 % of the MSE" in text  # .0304 against .0301
    # the table has the pair the other way round: the difference changes its sign and the interval its ends
    assert (
        "`fsnet_seed_fix` against `nomem`: +1.0 % MSE (95 % interval −0.3 % … +2.0 %, p = 0.12): not told apart" in text
    )


def test_an_order_that_fails_is_said(immediate):
    immediate["arms"]["er"] = arm("er", [0.07], [0], mape_z=[13.0], mae=[0.1])
    assert any("does NOT hold" in line for line in published.order(Block("immediate", immediate)))
    immediate["arms"]["fsnet_seed_fix"] = arm("fsnet_seed_fix", [0.02], [0], mape_z=[9.0], mae=[0.1])
    assert any("the expectation is met" in line for line in published.expectation(Block("immediate", immediate)))


def test_other_data_are_not_compared_with_the_seeds(immediate):
    immediate["dataset"]["name"] = "nyc_weather"
    text = "\n".join(published.beside(Block("immediate", immediate)))
    assert "only the order of the methods can be compared" in text and "expectation" not in text
    assert "−5.6 %" not in text
    assert "nyc_weather (asked for: etth1, which could not be had)" in "\n".join(
        analysis.heading(Block("i", immediate))
    )
    assert published.beside(Block("delayed", block({}, {}))) == []


def test_why_the_published_memory_does_nothing(immediate):
    text = "\n".join(analysis.memory(Block("immediate", immediate)))
    assert "| `fsnet_upstream` | 3,852 | 1.8 | −3.0 % (`nomem`) |" in text
    assert "| `fsnet_seed_fix` | 6,326 | 0.24 | −1.0 % (`nomem`) |" in text
    assert "`fsnet_upstream` reads 180 % of the query's length: a sum of slots weighted by their slot NUMBERS" in text
    assert "`fsnet_paper` reads 22 % of the query's length" in text
    # one blend leaves tau = .75; the seed's two leave .75 of w and .75 * .25 of the average of q
    # and of the read .25 or .25^2 enter: .25 * 22 % and .0625 * 24 % of the query's length
    assert re.search(r"fsnet_paper.*leaves 75 % of the present coefficients, and adds 5\.5 % of the query", text)
    assert re.search(
        r"fsnet_seed_fix.*75 % of the present coefficients and 18.8 % of their average, and adds 1\.5 %", text
    )


def test_a_memory_that_never_fired_is_said_to_be_none(immediate):
    silent = immediate["arms"]["fsnet_paper"]
    silent["memory_firings"], silent["memory_read_ratio"] = 0.0, None
    assert "`fsnet_paper` never fired" in "\n".join(analysis.memory(Block("immediate", immediate)))


def test_the_leak_is_the_ratio_on_the_same_rows(immediate):
    honest = block({"nomem": arm("nomem", [0.1056], [0]), "ogd": arm("ogd", [0.1290], [0])}, {})
    blocks = [Block("delayed", honest), Block("immediate", immediate)]
    assert analysis.leak(blocks) == [
        "- The leak, MSE in `immediate` (leaky) → `delayed` on the same rows: `ogd` 0.0645 → 0.129 (2.0 times), "
        "`nomem` 0.0301 → 0.106 (3.5 times)."
    ]
    honest["dataset"]["sha256"] = "other"
    assert analysis.leak(blocks) == []


def test_findings_name_the_best_and_who_loses_to_persistence(immediate):
    ensemble = {"ensemble": {"kind": "aggregate"}}
    arms = {
        "nomem": arm("nomem", [0.10, 0.11, 0.12], [0, 1, 2]),
        "tcn_delta": arm("tcn_delta", [0.054] * 3, [0, 1, 2]),
        "fsnet_aggregate": arm("fsnet_aggregate", [0.052] * 3, [0, 1, 2], ensemble),
    }
    honest = Block("delayed", block(arms, {"persistence": entry([0.0806]), "rls": entry([0.061])}))
    (line,) = analysis.findings([honest, Block("immediate", immediate)])[:1]
    assert line == (
        "- `delayed`, etth1: best MSE 0.0520 by `fsnet_aggregate`, best lone arm `tcn_delta` 0.0540; "
        "persistence 0.0806 is NOT beaten by `nomem`."
    )
    table = "\n".join(analysis.improvements(honest))
    assert "| `tcn_delta` | +33.0 % (+33.0 … +33.0) | +11.5 % (+11.5 … +11.5) |" in table
    assert re.search(r"\| `nomem` \|.*\| – \|", table)


def test_recurrence_pays_and_costs():
    linear, remembers = {"regime": {"kind": "regime"}}, {"regime": {"kind": "regime", "memory": True}}
    arms = {
        "regime_nomem": arm("x", [1.0, 1.0], [1, 2], linear, mse_first50=[1.0, 2.0], mse_new100=[1.0, 1.0]),
        "regime_memory": arm("x", [0.6, 0.6], [1, 2], remembers, mse_first50=[0.2, 0.4], mse_new100=[1.1, 1.1]),
    }
    (line,) = analysis.recurrence(Block("regimes", block(arms, {}, dataset="regimes")))
    assert "+80.0 % saved in the first 50 steps after a recurrence (95 % over streams +80.0 … +80.0)" in line
    assert "price in the first 100 steps of a new regime +10.0 %" in line
    assert line.endswith("+40.0 % over the whole stream (95 % over streams +40.0 … +40.0); 2 streams.")


def test_stage_writes_and_prints_the_report(made_up, tmp_path, capsys):
    out = tmp_path / "fsnet_analysis.md"
    result = analysis.analyse(Job("fsnet", "analyse", {"table": made_up.table}, {"report": out}, {}), Plot(), None)
    text = out.read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    table = read_json(made_up.table)
    for name, scenario in table["scenarios"].items():
        title = f"## Scenario `{name}`" + (" (leaky)" if scenario["leaky"] else "")
        assert title in text
        section = text.split(title)[1].split("\n## ")[0]
        assert ("**Leaky**" in section) == scenario["leaky"]
        for method in [*scenario["arms"], *scenario["baselines"]]:
            assert f"| `{method}` |" in section
    expected = table["scenarios"]["immediate"]["arms"]["ogd"]["metrics"]["mse"]["mean"] / 0.0635
    assert result.metrics["mse_over_seed/immediate/ogd"] == pytest.approx(expected)
    assert "nan" not in text and "None" not in text


def test_a_scenario_that_was_not_run_is_listed_with_the_reason(immediate):
    text = analysis.report({"scenarios": {"immediate": immediate}, "unavailable": {"delayed": "no data"}}, "Title")
    assert text.startswith("# Title\n") and "## Scenario `delayed`: not run\n\nno data" in text


def test_a_table_of_another_schema_is_refused(tmp_path):
    write_json(tmp_path / "x.json", {"schema": "run/1"})
    job = Job("fsnet", "analyse", {"table": tmp_path / "x.json"}, {"report": tmp_path / "a.md"}, {})
    with pytest.raises(DataError, match="schema is 'run/1'"):
        analysis.analyse(job, Plot(), None)
