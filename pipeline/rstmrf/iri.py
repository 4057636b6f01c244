"""The analytic electron-density profile of IRI as PyIRI builds it, from eight parameters, in numpy and in torch.

PyIRI makes maps of a few layer parameters and a profile from them by closed formulae (Forsythe et al. 2023;
Servan-Schreiber et al. 2026, doi 10.1029/2025SW004853): a NeQuick topside (Epstein layer, thickness growing with
height), the bottomside of Ramakrishnan and Rawer (B0, B1), an E layer at 110 km, and half of what an F1 layer stands
out. The same formulae stand here once, for either array library, so that points need no gridded call and derivatives
are exact.

Against PyIRI (with ``floor=1``): equal to rounding at all heights. With a floor of 2e8 m-3, the default, a
night-time valley that PyIRI lets fall below that (down to 1) levels off there; above 1e10 the floor changes log10 Ne
by less than 1e-4. PyIRI's own cut of terms below exp(-80) or beyond 25 thicknesses lies under either floor.

The parameter vector (:data:`PARAMS`) holds logarithms, so corrections add. The F1 layer follows F2 as in PyIRI, times a
factor that is one there. Corrections (:data:`FIELDS`) are increments of the first seven, and six bumps of log10 Ne.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

PARAMS = ("ln_nmf2", "hmf2", "ln_b0", "ln_b1", "ln_btop", "ln_f1", "ln_nme", "p_f1")
UNITS = ("ln m-3", "km", "ln km", "1", "ln km", "1", "ln m-3", "1")
BUMP_CENTRE_KM = (120.0, 150.0, 190.0, 245.0, 320.0, 430.0)
BUMP_WIDTH_KM = (20.0, 25.0, 32.0, 45.0, 60.0, 80.0)
FIELDS = (*PARAMS[:7], *(f"bump_{index}" for index in range(len(BUMP_CENTRE_KM))))
HM_E = 110.0  # km
B_E_TOP, B_E_BOTTOM = 7.0, 5.0  # km
TOPSIDE_G, TOPSIDE_R = 0.125, 100.0  # NeQuick's growth of the topside thickness
F1_LOWEST = 180.0  # km
F1_THICKNESS = 0.75  # of hmF1 - hmE
FLOOR = 2e8  # m-3
TECU = 1e16  # m-2


def _sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def _logistic(xp: ModuleType, x: Any) -> Any:
    return 0.5 * (1 + xp.tanh(0.5 * x))


def _drop_up(xp: ModuleType, alt: Any, depth: Any, hm: Any) -> Any:
    """One at the E peak, zero at ``hm`` (depth = hm - hmE): takes the E layer away on the way to F2."""
    s = _logistic(xp, (alt - hm) / (0.2 * depth) + 1)
    return (_sigmoid(1) - s) / (_sigmoid(1) - _sigmoid(-4))


def _drop_down(xp: ModuleType, alt: Any, depth: Any) -> Any:
    """Zero at the E peak, one at the layer's own (depth = hm - hmE): takes F2 and F1 away on the way down."""
    s = _logistic(xp, (alt - HM_E) / (0.1 * depth) - 1)
    return (s - _sigmoid(-1)) / (_sigmoid(9) - _sigmoid(-1))


def _ln_cosh(xp: ModuleType, x: Any) -> Any:
    x = xp.abs(x)
    return x + xp.log1p(xp.exp(-2 * x)) - float(np.log(2))


def _bottom(xp: ModuleType, hm: Any, b0: Any, b1: Any, alt: Any) -> Any:
    """Ramakrishnan and Rawer's shape below the peak, 1 at the peak."""
    x = xp.clip((hm - alt) / b0, 1e-6, None)
    return xp.exp(-xp.exp(xp.clip(b1 * xp.log(x), None, 4.4)) - _ln_cosh(xp, x))  # exp(4.4) = 81: as good as nothing


def _top(xp: ModuleType, params: Any, alt: Any) -> Any:
    """Ne [m-3] at and above the peak: NeQuick's topside."""
    nm, hm, btop = xp.exp(params[..., 0]), params[..., 1], xp.exp(params[..., 4])
    dh = xp.clip(alt - hm, 0.0, None)
    growth = 1 + TOPSIDE_R * TOPSIDE_G * dh / (TOPSIDE_R * btop + TOPSIDE_G * dh)
    return nm * xp.exp(-2 * _ln_cosh(xp, 0.5 * dh / (btop * growth)))


def _below(xp: ModuleType, params: Any, alt: Any) -> Any:
    """Ne [m-3] below the peak: F2 bottomside, E layer, and half of what the F1 layer stands out of the two."""
    nm, hm, b0, b1 = (params[..., i] for i in range(4))
    nm, b0, b1 = xp.exp(nm), xp.exp(b0), xp.exp(b1)
    f1, nme, p = xp.exp(params[..., 5]), xp.exp(params[..., 6]), params[..., 7]
    depth = xp.clip(hm - HM_E, 20.0, None)

    above = alt >= HM_E
    lift = xp.where(above, _drop_down(xp, alt, depth), 0 * depth)
    f2 = nm * _bottom(xp, hm, b0, b1, alt) * xp.clip(lift, 0.0, None)
    e_shape = xp.exp(-2 * _ln_cosh(xp, 0.5 * (alt - HM_E) / xp.where(above, B_E_TOP, B_E_BOTTOM)))
    e = nme * e_shape * xp.where(above, _drop_up(xp, alt, depth, hm), 1.0 + 0 * depth)
    total = f2 + xp.clip(e, 0.0, None)

    hm1 = xp.clip(hm - b0, F1_LOWEST, None)
    nm1 = f1 * nm * _bottom(xp, hm, b0, b1, hm1) * _drop_down(xp, hm1, depth)
    thick = xp.clip((hm1 - HM_E) * F1_THICKNESS * p, 1e-3, None)
    half = xp.clip(0.5 * (alt - hm1) / thick, -200.0, 0.0)
    full = nm1 * xp.exp(-2 * _ln_cosh(xp, half)) * _drop_down(xp, alt, hm1 - HM_E)
    inside = (alt > HM_E) & (alt < hm1)
    return total + 0.5 * xp.where(inside, xp.clip(full - total, 0.0, None), 0 * total)


def _density(xp: ModuleType, params: Any, alt: Any) -> Any:
    """Ne [m-3] without floor; params [..., 8] and alt [...] broadcast."""
    return xp.where(alt >= params[..., 1], _top(xp, params, alt), _below(xp, params, alt))


def _log10(xp: ModuleType, params: Any, alt: Any, floor: float) -> Any:
    return _floored(xp, _density(xp, params, alt), floor)


def _floored(xp: ModuleType, density: Any, floor: float) -> Any:
    return 0.5 * xp.log10(density * density + floor * floor)


def log10_density(params: np.ndarray, alt: np.ndarray, floor: float = FLOOR) -> np.ndarray:
    """log10 of Ne [m-3] from parameters [..., 8] (:data:`PARAMS`) at altitudes [km], which broadcast to [...].

    ``floor`` [m-3] is joined smoothly, sqrt(Ne^2 + floor^2).
    """
    params, alt = np.asarray(params, float), np.asarray(alt, float)
    if params.ndim == 2 and alt.shape == params.shape[:1]:  # points: each side of the peak has its own formula
        density, top = np.empty(len(alt)), alt >= params[:, 1]
        density[top], density[~top] = _top(np, params[top], alt[top]), _below(np, params[~top], alt[~top])
        return _floored(np, density, floor)
    return _log10(np, params, alt, floor)


def log10_density_torch(params: torch.Tensor, alt: torch.Tensor, floor: float = FLOOR) -> torch.Tensor:
    """As :func:`log10_density`, differentiable in both arguments (piecewise at the peak, the E peak and hmF1)."""
    import torch

    return _log10(torch, params, alt, floor)


def bumps(alt: np.ndarray) -> np.ndarray:
    """Shapes [..., 6] of the altitude bumps at altitudes [km]: Gaussians of height one."""
    z = (np.asarray(alt, float)[..., None] - np.array(BUMP_CENTRE_KM)) / np.array(BUMP_WIDTH_KM)
    return np.exp(-0.5 * z * z)


def bumps_torch(alt: torch.Tensor) -> torch.Tensor:
    """As :func:`bumps`."""
    z = (alt.unsqueeze(-1) - alt.new_tensor(BUMP_CENTRE_KM)) / alt.new_tensor(BUMP_WIDTH_KM)
    return (-0.5 * z * z).exp()


def raised(params: np.ndarray, increments: np.ndarray) -> np.ndarray:
    """Parameters [..., 8] with the first seven of the increments [..., 13] (or [..., 7]) added."""
    return np.concatenate([params[..., :7] + increments[..., :7], params[..., 7:] + 0 * increments[..., :1]], axis=-1)


def corrected(params: np.ndarray, increments: np.ndarray, alt: np.ndarray, floor: float = FLOOR) -> np.ndarray:
    """log10 Ne of corrected parameters: profile(params + increments[:7]) + sum of the six bumps.

    params [..., 8], increments [..., 13] in the order of :data:`FIELDS`, alt [...].
    """
    profile = log10_density(raised(params, increments), alt, floor)
    return profile + np.sum(bumps(alt) * increments[..., 7:], axis=-1)


def corrected_torch(
    params: torch.Tensor, increments: torch.Tensor, alt: torch.Tensor, floor: float = FLOOR
) -> torch.Tensor:
    """As :func:`corrected`, differentiable."""
    import torch

    first = params[..., :7] + increments[..., :7]
    both = torch.cat([first, params[..., 7:].expand(*first.shape[:-1], 1)], dim=-1)
    return log10_density_torch(both, alt, floor) + (bumps_torch(alt) * increments[..., 7:]).sum(-1)


@cache
def _nodes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    x, w = np.polynomial.legendre.leggauss(count)
    return 0.5 * (x + 1), 0.5 * w


def quadrature(xp: ModuleType, peak: Any, low: float, high: float, nodes: int = 14) -> tuple[Any, Any]:
    """Altitudes [..., 2 * nodes] and weights [km] that integrate over [low, high], split at the peak [...] (km).

    Either side is stretched quadratically, so that nodes crowd where the density is.
    """
    u, w = _nodes(nodes)
    u, w = (peak.new_tensor(u), peak.new_tensor(w)) if hasattr(peak, "new_tensor") else (u, w)
    split = xp.clip(peak, low, high)[..., None]
    alt = [split - (split - low) * u**1.5, split + (high - split) * u**2]
    weight = [(split - low) * 1.5 * u**0.5 * w, (high - split) * 2 * u * w]
    join = np.concatenate if xp is np else xp.cat
    return join(alt, -1), join(weight, -1)


def vtec(
    params: np.ndarray,
    increments: np.ndarray | None = None,
    low: float = 90.0,
    high: float = 2000.0,
    floor: float = FLOOR,
    nodes: int = 14,
) -> np.ndarray:
    """Vertical content [...] in TECU between two altitudes [km], of parameters [..., 8] and increments [..., 13]."""
    peak = params[..., 1] if increments is None else params[..., 1] + increments[..., 1]
    alt, weight = quadrature(np, peak, low, high, nodes)
    at = (params if increments is None else raised(params, increments))[..., None, :]
    half = alt.shape[-1] // 2  # the first nodes lie below the peak
    density = np.concatenate([_below(np, at, alt[..., :half]), _top(np, at, alt[..., half:])], axis=-1)
    density = np.sqrt(density**2 + floor**2)
    if increments is not None:
        density = density * 10 ** (bumps(alt) @ increments[..., 7:, None])[..., 0]
    return np.sum(density * weight, axis=-1) * (1e3 / TECU)


def vtec_torch(
    params: torch.Tensor,
    increments: torch.Tensor | None = None,
    low: float = 90.0,
    high: float = 2000.0,
    floor: float = FLOOR,
) -> torch.Tensor:
    """As :func:`vtec`, differentiable (the nodes move with the peak but carry no derivative: the integral has none)."""
    import torch

    peak = params[..., 1] if increments is None else params[..., 1] + increments[..., 1]
    alt, weight = quadrature(torch, peak.detach(), low, high)
    if increments is None:
        value = log10_density_torch(params.unsqueeze(-2), alt, floor)
    else:
        value = corrected_torch(params.unsqueeze(-2), increments.unsqueeze(-2), alt, floor)
    return (torch.exp(value * float(np.log(10)) - float(np.log(TECU / 1e3))) * weight).sum(-1)
