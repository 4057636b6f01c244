"""Corrections of the profile's parameters as random fields on the sphere, and what observations say of them.

A field is a sum of components; each is a series of spherical harmonics in a frame (sun: magnetic latitude and local
time;
earth: geographic) whose coefficients change with time as a Markov process. Harmonics and knots in time make the field
linear in a vector of independent standard normal numbers, the control, so that the background term Jb is its squared
norm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .coordinates import degrees_of, harmonics
from .iri import FIELDS
from .world import World


@dataclass(frozen=True)
class Component:
    """One part of the fields.

    frame: `sun` or `earth`. degree: of the harmonics. sd: standard deviation of each field, in its unit. slope:
    amplitude falls as (1 + l/3)^-slope. tau_h: correlation time at degree 0; at degree l it is tau_h / (1 + l / 8).
    """

    frame: str
    degree: int
    sd: tuple[float, ...]
    slope: float = 1.8
    tau_h: float = 12.0

    def amplitudes(self) -> np.ndarray:
        """[(degree + 1)^2, fields] standard deviations of the coefficients; their squares add to sd^2."""
        l = degrees_of(self.degree)  # noqa: E741
        shape = (1 + l / 3.0) ** -self.slope
        return (shape / np.sqrt((shape**2).sum()))[:, None] * np.array(self.sd)[None, :]

    def time_factor(self, knots_h: np.ndarray) -> np.ndarray:
        """[degree + 1, K, K] lower factors of the correlation exp(-|dt| / tau_l) between knots."""
        lag = np.abs(knots_h[:, None] - knots_h[None, :])
        taus = self.tau_h / (1 + np.arange(self.degree + 1) / 8.0)
        return np.stack([np.linalg.cholesky(np.exp(-lag / tau) + 1e-9 * np.eye(len(knots_h))) for tau in taus])


class Sites:
    """Places and times as rows of harmonics, sorted by their interval between knots.

    ``field(coefficients)`` gives [n, F, S] values, ``adjoint`` its transpose.
    """

    def __init__(self, world: World, components: list[Component], knots_h: np.ndarray, time_h, lat, lon):
        step = knots_h[1] - knots_h[0]
        place = np.clip((np.asarray(time_h, float) - knots_h[0]) / step, 0, len(knots_h) - 1 - 1e-9)
        interval = place.astype(int)
        self.order = np.argsort(interval, kind="stable")
        self.bounds = np.searchsorted(interval[self.order], np.arange(len(knots_h)))
        fraction = (place - interval)[self.order]
        self.late = torch.as_tensor(fraction, dtype=torch.float32)[:, None]
        self.rows = []
        qd = world.qd(lat, lon)
        frames = {"sun": (qd, 15.0 * ((np.asarray(time_h) + np.asarray(lon) / 15) % 24)), "earth": (lat, lon)}
        table: dict[tuple[str, int], Tensor] = {}
        for one in components:
            key = (one.frame, one.degree)
            if key not in table:
                values = harmonics(*(np.asarray(v)[self.order] for v in frames[one.frame]), one.degree)
                table[key] = torch.as_tensor(values, dtype=torch.float32)
            self.rows.append(table[key])
        self.count = len(self.order)
        self.back = torch.as_tensor(np.argsort(self.order))
        self.order = torch.as_tensor(self.order)

    def field(self, coefficients: list[Tensor]) -> Tensor:
        """coefficients: a component each, [K, (degree + 1)^2, X] -> values [n, X] in the caller's order."""
        result = torch.zeros(self.count, coefficients[0].shape[2])
        for k in range(len(self.bounds) - 1):
            part = slice(int(self.bounds[k]), int(self.bounds[k + 1]))
            if part.stop > part.start:
                late = self.late[part]
                for rows, c in zip(self.rows, coefficients, strict=True):
                    # both knots in one product: [m, L] @ [L, 2 X]
                    both = rows[part] @ torch.cat([c[k], c[k + 1]], 1)
                    early, later = both.chunk(2, 1)
                    result[part] += early + late * (later - early)
        return result[self.back]

    def adjoint(self, values: Tensor, knots: int) -> list[Tensor]:
        """values [n, X] -> a component each, [K, (degree + 1)^2, X]."""
        values = values[self.order]
        result = [torch.zeros(knots, rows.shape[1], values.shape[1]) for rows in self.rows]
        for k in range(len(self.bounds) - 1):
            part = slice(int(self.bounds[k]), int(self.bounds[k + 1]))
            if part.stop > part.start:
                later = self.late[part] * values[part]
                both = torch.cat([values[part] - later, later], 1)  # [m, 2 X]
                for rows, out in zip(self.rows, result, strict=True):
                    early, later = (rows[part].T @ both).chunk(2, 1)
                    out[k] += early
                    out[k + 1] += later
        return result


class Prior:
    """The control vector's meaning: coefficients = amplitude x time factor x control."""

    def __init__(self, components: list[Component], knots_h: np.ndarray):
        self.components, self.knots_h = components, knots_h
        self.amplitudes = [torch.as_tensor(c.amplitudes(), dtype=torch.float32) for c in components]
        self.factors = [
            torch.as_tensor(c.time_factor(knots_h)[degrees_of(c.degree)], dtype=torch.float32) for c in components
        ]  # [L, K, K]
        self.sizes = [(c.degree + 1) ** 2 for c in components]

    def shape(self, samples: int = 1) -> tuple[int, int, int, int]:
        """Controls are [sum of L, K, F, samples]."""
        return (sum(self.sizes), len(self.knots_h), len(self.components[0].sd), samples)

    def coefficients(self, control: Tensor) -> list[Tensor]:
        """[sum L, K, F, S] -> a component each [K, L, F S]."""
        result = []
        for part, amplitude, factor in zip(control.split(self.sizes), self.amplitudes, self.factors, strict=True):
            size, knots, fields, samples = part.shape
            moved = torch.bmm(factor, part.reshape(size, knots, fields * samples))  # [L, K, F S]
            scaled = moved.view(size, knots, fields, samples) * amplitude[:, None, :, None]
            result.append(scaled.reshape(size, knots, fields * samples).transpose(0, 1))
        return result

    def adjoint(self, gradients: list[Tensor], samples: int) -> Tensor:
        """Transpose of ``coefficients``."""
        parts = []
        for gradient, amplitude, factor in zip(gradients, self.amplitudes, self.factors, strict=True):
            knots, size, _ = gradient.shape
            moved = gradient.transpose(0, 1).reshape(size, knots, -1, samples) * amplitude[:, None, :, None]
            parts.append(torch.bmm(factor.transpose(1, 2), moved.reshape(size, knots, -1)).view_as(moved))
        return torch.cat(parts)


FIELD_COUNT = len(FIELDS)
