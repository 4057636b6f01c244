"""What the network says of an event that comes at the very time of the one before it (see :mod:`.ties`)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .ties import Ties


class AtTies(nn.Module):
    """Laws of ties: those of all methods at first, moved by the state.

    Parameters
    ----------
    ties: fitted on the training windows. state, known: width of a state, and of a state with what is known of a time.
    tilt: whether the state moves the marks. area: of a cell, where places are lattice points.
    """

    def __init__(self, ties: Ties, state: int, known: int, tilt: bool, area: float | None):
        super().__init__()
        chance = torch.as_tensor(ties.probability, dtype=torch.float32)
        self.register_buffer("logit", torch.logit(chance), persistent=False)  # [K] by the mark before
        self.register_buffer("log_marks", torch.as_tensor(ties.marks, dtype=torch.float32).log(), persistent=False)
        self.chance = zero(state, 1)
        self.marks = zero(known, len(chance)) if tilt else None
        self.log_area = None if ties.same is None else math.log(area)
        if ties.same is not None:
            self.stay = zero(known, 1)
            nn.init.constant_(self.stay.bias, math.log(ties.same / (1 - ties.same)))

    def of_time(self, state: Tensor, mark: Tensor) -> Tensor:
        """Logit [n] of a tie after events of these states and marks."""
        return self.chance(state).squeeze(-1) + self.logit[mark]

    def of_place(self, known: Tensor, before: Tensor) -> tuple[Tensor | None, Tensor]:
        """Logit [n] of the place of the event before it (None off lattices), log probabilities [n, K] of the mark."""
        marks = self.log_marks[before]
        if self.marks is not None:
            marks = F.log_softmax(marks + self.marks(known), dim=-1)
        return (None if self.log_area is None else self.stay(known).squeeze(-1)), marks

    def mixed(self, found: Tensor, tied: Tensor, stay: Tensor | None, marks: Tensor, there: Tensor) -> Tensor:
        """log f(x, k | t) [n, K] with the laws of ties put in; ``there`` [n]: at the place of the event before."""
        place = torch.logsumexp(found, dim=1)
        if stay is not None:
            atom = torch.where(there, F.logsigmoid(stay) - self.log_area, -1e4)
            place = torch.logaddexp(atom, F.logsigmoid(-stay) + place)
        return torch.where(tied[:, None], place[:, None] + marks, found)


def zero(inputs: int, outputs: int) -> nn.Linear:
    """A layer whose outputs are zero until it is trained."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
