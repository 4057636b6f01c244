"""The drawn score field is the network's own score, in the data's units."""

import numpy as np
import pytest
import torch

from pipeline.core.figures import style, texts
from pipeline.smash import panels, samples, score_field, weights
from pipeline.smash.settings import Evaluate


@pytest.fixture(params=["smash", "corrected"])
def trained(request, catalogue, tmp_path):
    kind = request.param
    settings = Evaluate.model_validate({"model": {"kind": kind}})
    torch.manual_seed(0)
    if kind == "corrected":
        from pipeline.smash.corrected import Corrected

        model = Corrected(catalogue.marks, settings.corrected)
    else:
        from pipeline.smash.denoise import Smash

        model = Smash.of(settings, catalogue.marks)
    weights.save(tmp_path / "weights.safetensors", {0: model.state_dict()}, {})
    targets = catalogue.targets("test")
    drawn = np.random.default_rng(0).normal(size=(len(targets.row), 5, 3))
    samples.write(tmp_path / "samples.zarr", samples.Drawn(targets.row, targets.sequence, targets.index, drawn))
    return kind, settings, tmp_path


def test_an_untrained_denoiser_points_home_and_any_field_has_its_units(trained, catalogue):
    kind, settings, folder = trained
    found = score_field.field("arm", settings.model_dump(), catalogue, folder)
    assert found.score.shape == (score_field.CELLS, score_field.CELLS, 2) and np.isfinite(found.score).all()
    sequence = catalogue.sequence[np.flatnonzero((catalogue.xy == found.truth).all(1))[0]]
    assert 0.3 < len(found.past) / catalogue.lengths[sequence] < 0.7
    if kind == "corrected":  # its last layer starts at zero: the score is that of N(mean, sd^2 (1 + sigma^2))
        scaler = catalogue.meta["scaler"]["xy"]
        sd = np.array(scaler["sd"])
        sigma = np.sqrt(np.prod(settings.corrected.sigma_location))
        grid = np.stack(np.meshgrid(found.x, found.y), axis=-1)
        expected = -(grid - scaler["mean"]) / sd**2 / (1 + sigma**2)
        np.testing.assert_allclose(found.score, expected, atol=1e-4)
        np.testing.assert_allclose(found.sigma, sigma * sd)


def test_the_figure_has_units(trained, catalogue):
    from pipeline.core.board import Board
    from pipeline.smash import labels

    _, settings, folder = trained
    found = score_field.field("arm", settings.model_dump(), catalogue, folder)
    with style("en"):
        board = Board("made up", "s", [], labels.KINDS, labels.METRICS, lambda text: text)
        figure = panels.score_field(board, [found], "km")
    assert {"x [km]", "y [km]", "log10 |score| [1/km]"} <= set(texts(figure))
