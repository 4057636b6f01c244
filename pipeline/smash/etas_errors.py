"""Standard errors of a fitted ETAS, from the curvature of its likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .etas import Etas
from .etas_fit import FACTORS, Events, log_likelihood, set_parameters


def standard_errors(
    etas: Etas, events: Events, factors: tuple[str, ...] = FACTORS, step: float = 5e-3
) -> dict[str, dict[str, Any]]:
    """Estimates with standard errors, from the curvature of the log likelihood (all parameters but the mixing logits).

    The Hessian is differenced from exact gradients. Parameters are logarithms (``log_q``: of q - 1). The mixture of
    background densities is held: its weights are many and interchangeable.
    """
    names = [name for name, _ in etas.named_parameters() if name not in ("background_mix",)]
    chosen = [dict(etas.named_parameters())[name] for name in names]
    ones = torch.ones(len(events.end))
    start = np.concatenate([p.detach().double().numpy().ravel() for p in chosen])

    def gradient(vector: np.ndarray) -> np.ndarray:
        set_parameters(chosen, vector)
        found = torch.autograd.grad(log_likelihood(etas, events, ones, factors), chosen, allow_unused=True)
        flat = [torch.zeros_like(p) if g is None else g for g, p in zip(found, chosen, strict=True)]
        return np.concatenate([g.double().numpy().ravel() for g in flat])

    centre = gradient(start)
    hessian = np.stack([gradient(start + step * unit) - centre for unit in np.eye(len(start))]) / step
    set_parameters(chosen, start)
    # logits have directions in which nothing changes: a weak prior keeps the matrix invertible
    information = -0.5 * (hessian + hessian.T) + 1e-2 * np.eye(len(start))
    values, vectors = np.linalg.eigh(information)
    variance = ((vectors**2) / np.maximum(values, 1e-2)).sum(axis=1)
    found, place = {}, 0
    for name, parameter in zip(names, chosen, strict=True):
        size = parameter.numel()
        error = np.sqrt(variance[place : place + size]).reshape(parameter.shape)
        found[name] = {"estimate": parameter.detach().double().numpy().tolist(), "error": error.tolist()}
        place += size
    return found
