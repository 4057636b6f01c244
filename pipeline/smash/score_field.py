"""The learned score of the next place at one event: where the arrows of the samplers point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import events, samples, weights
from .settings import Evaluate

CELLS = 25  # arrows along each side


@dataclass
class Field:
    """Score of one arm.

    x, y: [X], [Y] in the data's units; score: [Y, X, 2] (1 / unit) of places with noise ``sigma`` [2] (data's units),
    at the true time and, for arms that are told it, the true mark; drawn: [M, 2] the arm's samples of the event.
    """

    arm: str
    x: np.ndarray
    y: np.ndarray
    score: np.ndarray
    sigma: np.ndarray
    drawn: np.ndarray
    past: np.ndarray
    truth: np.ndarray


def event_of(cat: events.Catalogue, drawn: samples.Drawn) -> int:
    """Place among the stored events of one whose window has a middling number of events before it."""
    known = drawn.index / np.maximum(cat.lengths[drawn.sequence], 1)
    return int(np.argmin(np.abs(known - 0.5)))


def field(arm: str, given: Mapping[str, Any], cat: events.Catalogue, folder: Path) -> Field:
    """Score over the box of training places, by the first stored seed of an arm in ``folder``."""
    import torch

    from .batches import Frames, Scale

    settings = Evaluate.model_validate(given)
    states, _ = weights.load(folder / "weights.safetensors")
    drawn = samples.read(folder / "samples.zarr")
    at = event_of(cat, drawn)
    row, sequence, index = (int(part[at]) for part in (drawn.row, drawn.sequence, drawn.index))
    corrected = settings.model.kind == "corrected"
    if corrected:
        from .corrected import Corrected, Standard

        scale: Any = Standard.of(cat, settings.denoise.log_time)
        model: Any = Corrected(cat.marks, settings.corrected)
        unit = scale.sd[1:]
    else:
        from .denoise import Smash

        scale, model = Scale.of(cat, settings.denoise.log_time), Smash.of(settings, cat.marks)
        unit = 0.5 * (scale.high - scale.low)[1:]
    model.load_state_dict(states[min(states)])
    model.eval()
    low, high = np.array(cat.meta["bbox"])
    x, y = (np.linspace(low[a], high[a], CELLS) for a in (0, 1))
    places = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    with torch.no_grad():
        cond = model.condition(Frames(cat, scale).batch(np.array([sequence])))[index - 1 : index]
        value = scale.forward(np.repeat(cat.dt[row], len(places)), places)
        value = torch.as_tensor(value, dtype=torch.float32)[None]  # [1, S, 3]
        if corrected:
            sigma = float(np.sqrt(np.prod(settings.corrected.sigma_location)))
            noise = torch.full(value.shape[:2], sigma)
            mark = torch.full(value.shape[:2], int(cat.labels[row]))
            clean = model.denoised(value[..., 1:], noise, value[..., 0], mark, model.given(cond))
            score = (clean - value[..., 1:]) / sigma**2
        else:
            sigma = settings.denoise.sigma_location
            conditions = model.net.conditions(cond)
            h, _ = model.net.temporal(value[..., 0], conditions, slope=False)
            score = model.net.place_score(h, value[..., 1:], conditions)
    before = slice(int(cat.offsets[sequence]), row)
    return Field(
        arm,
        x,
        y,
        (score[0].double().numpy() / unit).reshape(CELLS, CELLS, 2),
        sigma * unit,
        drawn.sample[at][:, 1:],
        cat.xy[before],
        cat.xy[row],
    )
