"""Memory: the seed's table exactly, counting, refusal before the start; checkpoints on disk."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from pipeline.core.config import merge
from pipeline.core.errors import DataError, PipelineError
from pipeline.rstmrf import checkpoints
from pipeline.rstmrf.memory import (
    MB,
    check_analysis_fits,
    check_fits,
    estimate_analysis_mb,
    estimate_mb,
    saved_bytes,
    tensor_table,
)
from pipeline.rstmrf.settings import Learn, Network, Saving, Train


def test_the_seeds_tensors_have_exact_sizes():
    table = {name: row["bytes"] for name, row in tensor_table(Learn(), windows=100).items()}
    assert table["coords"] == 32 * 1024  # right in the seed
    assert table["sw_seq_copied"] == 98_304  # the seed says 192 KB
    assert table["unique_tec_map_seq"] / 1e6 == pytest.approx(10.0, abs=0.1)
    assert table["F_tec_unique"] / 1e6 == pytest.approx(26.8, abs=0.1)
    assert table["direction_copied"] / 1e6 == pytest.approx(68.6, abs=0.1)
    assert table["tec_grad_direction"] / 1e6 == pytest.approx(3.35, abs=0.01)  # by index: a twentieth of the copy
    coarse = tensor_table(Learn(network=Network(tec_factor=6)), windows=100)
    assert coarse["F_tec_unique"]["bytes"] / 1e6 == pytest.approx(12.1, abs=0.1)


def test_saved_tensors_are_counted_once_each():
    x = torch.randn(1000, requires_grad=True)
    y = torch.randn(1000, requires_grad=True)
    assert saved_bytes(lambda: (x * y).sum()) == 8000
    assert saved_bytes(lambda: (x * x).sum()) == 4000


def test_savings_lower_the_estimate():
    def total(**settings):
        return estimate_mb(Learn(**settings), 173_411)["step_mb"]

    wide = Train(time_bin=8.0)
    base = total(train=wide)
    assert total(train=Train(time_bin=8.0, batch=1024)) < base
    assert total(train=wide, network=Network(tec_factor=6)) < base
    assert total(train=wide, network=Network(history=4)) < base
    assert total(train=wide, network=Network(checkpointing=True)) < base
    assert total(train=Train(time_bin=8.0, precision="bfloat16")) < base
    assert total(train=Train(time_bin=1.0)) < base


DOCS = Path(__file__).parents[3] / "docs" / "rstmrf.md"
PARAMETERS = 206_435  # at most


def measured_peaks():
    """Peaks of the trade-off arms in MB, from the docs' table: its second column is expected / counted."""
    found = {}
    for line in DOCS.read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 6 and " / " in cells[2]:
            peaks = [int(number.replace(",", "")) for number in re.findall(r"\d+(?:,\d{3})*", cells[3])]
            found |= dict(zip(re.findall(r"`(\w+)`", cells[1]), peaks, strict=True))
    return found


def test_the_total_is_no_less_than_what_was_measured():
    """Of each arm at least the measured peak, and less than a fifth above it."""
    section = yaml.safe_load((DOCS.parents[1] / "config.yaml").read_text())["rstmrf"]
    peaks = measured_peaks()
    assert len(peaks) == 12 and {"default", "batch_512", "gpu_4gb", "combined"} <= peaks.keys()
    for arm, peak in peaks.items():
        merged = merge(section["settings"], section["arms"][arm]["settings"])
        settings = Learn.model_validate({name: merged[name] for name in Learn.model_fields})
        assert peak <= estimate_mb(settings, PARAMETERS)["total_mb"] < 1.2 * peak, arm


def test_the_analysis_is_estimated_no_lower_than_measured_and_refused_before_it_starts():
    """A world of the tables, 20,592 levels that are not withheld: 855 MB with TEC and 719 without (docs/scale.md)."""
    text = (DOCS.parent / "scale.md").read_text()
    with_tec, without = map(int, re.search(r"`assimilate`\):.*?, (\d+) and (\d+) MB", text).groups())
    levels = 12 * (1950 - 234)
    assert with_tec <= estimate_analysis_mb(Learn(), levels, 72, True)["total_mb"] < 1.2 * with_tec
    assert without <= estimate_analysis_mb(Learn(), levels, 72, False)["total_mb"] < 1.2 * without
    tight = Learn(train=Train(memory_mb=600))
    with pytest.raises(PipelineError, match="this analysis needs about 888 MB.*600 MB may be used.*fields.draws 8"):
        check_analysis_fits(tight, levels, 72, True)


def test_a_training_that_does_not_fit_says_so_with_what_to_change():
    settings = Learn(train=Train(memory_mb=800, time_bin=72.0))
    with pytest.raises(
        PipelineError, match=r"needs about 2,[\d]+ MB, most of it conv_lstm.*800 MB may.*train.batch 512"
    ):
        check_fits(settings, 173_411, 72.0)


@pytest.fixture
def trained():
    torch.manual_seed(0)
    model = torch.nn.Linear(100, 100)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(5, 100)).square().sum().backward()
    optimizer.step()
    return model, optimizer


def kept(tmp_path, trained, **saving):
    keeper = checkpoints.Keeper(tmp_path, "x", Saving(interval=1, **saving))
    for step, loss in enumerate([3.0, 1.0, 2.0]):
        with torch.no_grad():
            trained[0].bias.fill_(step)
        keeper.offer(step, loss, *trained)
    return keeper


def test_the_best_state_is_kept_and_read_back(tmp_path, trained):
    keeper = kept(tmp_path, trained)
    assert keeper.best == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]
    assert checkpoints.load(tmp_path, "x")["bias"].tolist() == [1.0] * 100


def test_moments_triple_a_checkpoint_and_intervals_multiply_it(tmp_path, trained):
    weights = kept(tmp_path / "a", trained).bytes()
    moments = kept(tmp_path / "b", trained, weights_only=False).bytes()
    every = kept(tmp_path / "c", trained, best_only=False).bytes()
    assert weights == pytest.approx(10_100 * 4, abs=400)
    assert moments / weights == pytest.approx(3.0, abs=0.05)
    assert every == pytest.approx(4 * weights)  # three steps and the best


def test_compression_saves_a_tenth_not_a_third(tmp_path, trained):
    plain = kept(tmp_path / "a", trained).bytes()
    packed = kept(tmp_path / "b", trained, compressed=True)
    assert 0.85 * plain < packed.bytes() < plain
    assert checkpoints.load(tmp_path / "b", "x")["bias"].tolist() == [1.0] * 100


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(DataError, match="nothing.safetensors"):
        checkpoints.load(tmp_path, "nothing")


def test_megabytes_are_binary():
    assert MB == 1_048_576
