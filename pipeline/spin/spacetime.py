"""Space-time kriging: the best linear guess of a cell from its own steps and its neighbours' steps around it.

For each series the covariance between itself, lagged, and its most correlated neighbours, lagged, is estimated from the
training rows; the value of a cell is the conditional mean given those of its variables that are visible (simple
kriging: Cressie and Wikle 2011, Statistics for Spatio-Temporal Data, section 6.1). Cells with other gaps have other
conditioning sets, so each has a small linear system of its own; they are solved in batches.

Covariances come from series whose gaps were filled by straight lines, and every lag's sum is divided by the same number
of rows, so that each matrix is positive semi-definite by construction. Estimating each entry from the cells that happen
to be visible together gives matrices that are no covariances, and guesses worse than the line's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .cube import TRAIN, Cube
from .features import FeatureSpace
from .gaps import line, series

OWN = 6  # own steps before and after
LAG = 2  # neighbours' steps before and after
NEAR = 8  # neighbours
NUGGET = 0.01  # share of the series' variance
BATCH = 2048  # cells


@dataclass(frozen=True)
class SpaceTimeKriging:
    """Covariances of each series' P variables; values in units of the series' own standard deviation.

    Attributes
    ----------
    space: scales.
    home: [S, P] series of each variable. lag: [P] its step, relative to the cell.
    within: [S, P, P]. across: [S, P] with the cell itself. own: [S] variance of the cell.
    """

    space: FeatureSpace
    home: np.ndarray
    lag: np.ndarray
    within: np.ndarray
    across: np.ndarray
    own: np.ndarray

    @classmethod
    def fit(cls, cube: Cube, space: FeatureSpace, mask: int = 0) -> SpaceTimeKriging:
        """Estimate covariances from the training rows of a mask's visible cells."""
        z, shown = _standard(space, cube.value, cube.visible(mask))
        z = np.where(shown, z, line(z, shown, space.run, np.zeros(len(z))))
        train = cube.split == TRAIN
        members, member, lag = _variables(space)
        home = members[:, member]  # [S, P]
        longest = int(lag.max() - lag.min())
        rows = z.shape[1]
        table = np.zeros((2 * longest + 1, len(z), len(z)), np.float32)  # [lag, a, b]: cov(a(t), b(t + lag))
        for tau in range(longest + 1):
            both = train[: rows - tau] & train[tau:] & (space.run[: rows - tau] == space.run[tau:])
            early, late = z[:, : rows - tau][:, both], z[:, tau:][:, both]
            table[longest + tau] = early @ late.T / max(int(train.sum()), 1)  # one divisor: see above
            table[longest - tau] = table[longest + tau].T
        between = lag[None] - lag[:, None]  # [P, P]
        everyone = np.arange(len(z))
        within = table[longest + between, home[:, :, None], home[:, None]]  # [S, P, P]
        across = table[longest + lag, everyone[:, None], home]  # [S, P]
        return cls(space, home, lag, within, across, table[longest, everyone, everyone])

    def predict(self, value: np.ndarray, visible: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Conditional mean and standard deviation of cells, leave-one-out.

        Parameters
        ----------
        value: [T, N, C] physical units; cells outside ``visible`` [T, N, C] are never read.
        cells: flat indices into [T, N, C].

        Returns
        -------
        mean and standard deviation [cell], in units of the channel's training standard deviation (as the features).
        """
        import torch

        z, shown = _standard(self.space, value, visible)
        rows, nodes, channels = self.space.shape
        home, time = cells % (nodes * channels), cells // (nodes * channels)
        mean, variance = np.empty(len(cells), np.float32), np.empty(len(cells), np.float32)
        within, across = torch.from_numpy(self.within), torch.from_numpy(self.across)
        for start in range(0, len(cells), BATCH):
            part = slice(start, start + BATCH)
            i, t = home[part], time[part]
            at = t[:, None] + self.lag  # [b, P]
            inside = np.clip(at, 0, rows - 1)
            other = self.home[i]
            known = (at == inside) & (self.space.run[inside] == self.space.run[t][:, None]) & shown[other, inside]
            there = torch.from_numpy(known.astype(np.float32))
            x = torch.from_numpy(np.where(known, z[other, inside], 0))
            matrix = within[i] * there[:, :, None] * there[:, None]
            matrix = matrix + torch.diag_embed(1 - there + NUGGET * there)  # unknown ones stand for themselves
            right = (across[i] * there)[..., None]  # [b, P, 1]
            factor, failed = torch.linalg.cholesky_ex(matrix)
            if failed.any():  # nearly equal series: more nugget
                again = matrix[failed > 0] + 0.2 * torch.diag_embed(there[failed > 0])
                factor[failed > 0] = torch.linalg.cholesky_ex(again)[0]
            weight = torch.cholesky_solve(right, factor)[..., 0]
            mean[part] = (weight * x).sum(1).numpy()
            variance[part] = self.own[i] - (weight * right[..., 0]).sum(1).numpy()
        spread = _spread(self.space)[home]
        return (mean * spread + self.space.level[home]).astype(np.float32), (
            np.sqrt(np.maximum(variance, 1e-4)) * spread
        ).astype(np.float32)


def _spread(space: FeatureSpace) -> np.ndarray:
    return np.maximum(space.spread, 1e-3)


def _standard(space: FeatureSpace, value: np.ndarray, visible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[S, T] values less the series' level over its spread, 0 where not visible; and what is visible."""
    shown = series(visible)
    z = space.scaled(np.where(visible, value, 0.0))
    return np.where(shown, (z - space.level[:, None]) / _spread(space)[:, None], 0).astype(np.float32), shown


def _variables(space: FeatureSpace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Series that each series looks at [S, members], and the variables' places among them [P] and lags [P].

    A series looks at itself, at the node's other channels, and at its neighbours.
    """
    _, nodes, channels = space.shape
    own = np.arange(nodes * channels)
    siblings = [own - own % channels + (own + step) % channels for step in range(1, channels)]
    members = np.stack([own, *siblings, *space.neighbours[:, :NEAR].T], 1)
    places = [(0, lag) for lag in range(-OWN, OWN + 1) if lag]
    places += [(k, lag) for k in range(1, members.shape[1]) for lag in range(-LAG, LAG + 1)]
    member, lag = np.array(places).T
    return members, member, lag
