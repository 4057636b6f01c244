"""How quickly a forecaster finds back into a regime that it has met, and what that costs in one that it hasn't."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.core.errors import PipelineError
from pipeline.fsnet.regimes import Switch


def recurrence_scores(errors: np.ndarray, switches: Sequence[Switch]) -> dict[str, float]:
    """Mean squared errors right after the switches.

    Args:
        errors: one-step errors [n], row by row.
        switches: the stream's switch table.

    Returns:
        `mse_first50`, `mse_first100`: over the first 50 and 100 rows after every recurrence, pooled;
        `mse_new100`: over the first 100 rows of every regime met for the first time (the one that the stream begins
        with isn't counted: nothing changes there);  `mse`: over all rows.  NaN where there is no such switch.
        A window ends at the next switch.

    Raises:
        PipelineError: errors aren't one series, or a switch lies outside of it.
    """
    errors = np.asarray(errors, dtype=np.float64)
    rows = [switch.row for switch in switches]
    if errors.ndim != 1 or any(not 0 <= row < errors.size for row in rows):
        raise PipelineError(
            f"recurrence_scores: errors have shape {errors.shape} and the switches reach to row "
            f"{max(rows, default=None)}; errors must be one series [n] that holds every switch: "
            "pass those of the whole stream."
        )
    squares = errors**2
    ends = [*rows, errors.size][1:]

    def mean_after(kind: str, length: int) -> float:
        windows = [
            squares[switch.row : min(switch.row + length, end)]
            for switch, end in zip(switches, ends, strict=True)
            if switch.kind == kind
        ]
        return float(np.concatenate(windows).mean()) if windows else float("nan")

    return {
        "mse_first50": mean_after("recurrence", 50),
        "mse_first100": mean_after("recurrence", 100),
        "mse_new100": mean_after("first", 100),
        "mse": float(squares.mean()),
    }
