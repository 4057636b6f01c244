"""The printed analysis: best first, what is transductive, and what an interval says."""

from pipeline.spin.analysis import scenario


def test_methods_stand_best_first_and_baselines_say_whether_they_are_transductive():
    def entry(mae, **more):
        return {"metrics": {"mae": {"mean": mae, "sd": None}}, "cost": {"cpu_s": 1.5}, **more}

    pair = {"a": "net", "b": "mf", "metric": "mae", "difference": -0.5, "ci95": [-0.7, -0.3], "resampled": "hour"}
    block = {
        "description": "made up",
        "dataset": {"name": "d"},
        "primary": {"metric": "mae", "unit": "mph", "better": "lower"},
        "arms": {"net": entry(1.5, parameters=1234)},
        "baselines": {"mf": entry(2.0, transductive="yes"), "linear": entry(1.0, transductive="no")},
        "comparisons": [pair, {**pair, "ci95": [-0.7, 0.3]}],
    }
    lines = scenario("s", block)
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert table[0] == ["method", "", "transductive", "mae", "parameters", "CPU s a seed"]
    assert table[2][:5] == ["`linear`", "baseline", "no", "1.00", "–"]
    assert table[3] == ["`net`", "arm", "–", "1.50", "1,234", "1.50"]
    assert table[4][:3] == ["`mf`", "baseline", "yes"]
    assert [row[-1] for row in table[-2:]] == ["`net` is better", "undecided"]
