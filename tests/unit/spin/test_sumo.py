"""The simulated city: the graph's edge types by construction, the same bytes for the same seed, honest gaps."""

import numpy as np
import pytest

pytest.importorskip("sumo")

from pipeline.core.errors import DataError  # noqa: E402
from pipeline.spin import sumo  # noqa: E402
from pipeline.spin.data import build  # noqa: E402
from pipeline.spin.data_settings import Data, Missing, Simulation, Split  # noqa: E402

SMALL = Simulation(days=3, hours=1, grid=3, trips=900)


@pytest.fixture(scope="module")
def city():
    return sumo.simulate(SMALL)


def test_a_grid_of_three_has_its_lanes_and_typed_edges(city):
    assert len(city.nodes) == 24 * 2  # 12 streets, two ways, two lanes
    assert city.value.shape == (3 * 12, 48, 3) and city.segment.tolist() == [0] * 12 + [1] * 12 + [2] * 12
    kinds = np.array(city.edges.types)[city.edges.type]
    assert set(kinds) == {"near", "direct", "crossing"}
    assert (kinds == "near").sum() == 24 * 2  # each lane with the one beside it
    pairs = {(city.nodes[s], city.nodes[t], k) for s, t, k in zip(*city.edges.index, kinds, strict=True)}
    assert ("A0B0_0", "A0B0_1", "near") in pairs
    for s, t, kind in pairs:  # a street ends where the next begins; corners have no signal
        if kind != "near":
            assert s[2:4] == t[0:2]
            assert (kind == "direct") == (s[2:4] in ("A0", "A2", "C0", "C2"))


def test_speed_is_missing_exactly_where_no_vehicle_passed(city):
    speed, occupancy, count = np.moveaxis(city.value, 2, 0)
    assert np.isnan(speed).any() and not np.isnan(count).any() and not np.isnan(occupancy).any()
    np.testing.assert_array_equal(np.isnan(speed), count == 0)
    known = speed[~np.isnan(speed)]
    assert 0 <= known.min() and known.max() < 80 and 0 <= occupancy.min() and occupancy.max() <= 1


def test_the_same_seed_gives_the_same_values_and_another_one_others(city, tmp_path):
    home = sumo.home()
    net = sumo.streets(SMALL, tmp_path, home)
    names, *_ = sumo.lanes(net)
    np.testing.assert_array_equal(sumo.day(SMALL, 1, net, names, tmp_path, home), city.value[12:24])
    other = sumo.day(SMALL.model_copy(update={"seed": 2}), 1, net, names, tmp_path, home)
    assert (np.nan_to_num(other) != np.nan_to_num(city.value[12:24])).any()


def test_days_differ_and_split_by_day(city):
    assert (np.nan_to_num(city.value[:12]) != np.nan_to_num(city.value[12:24])).any()
    cube = build(
        city, Data(missing=Missing(kind="point"), split=Split(test_segments=1)), {"name": "sumo_city"}, "segments"
    )
    assert [set(city.segment[cube.split == s].tolist()) for s in range(3)] == [{0}, {1}, {2}]


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(sumo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install eclipse-sumo"):
        sumo.home()


def test_a_failing_program_is_named_with_its_message(tmp_path):
    with pytest.raises(DataError, match="netgenerate of eclipse-sumo failed: Error"):
        sumo.run([sumo.home() / "bin" / "netgenerate", "--nonsense"], sumo.home(), tmp_path)
