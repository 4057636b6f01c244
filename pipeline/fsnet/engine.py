"""FSNet as a state and two functions: predict(state, x) changes nothing, learn(state, x, y) gives the next state.

Order inside one learning step (it reproduces the published loop, where each step has one forward pass that both
forecasts and trains):

1. forward with the coefficients that the last step left, loss, backward;
2. AdamW on every parameter;
3. gradient averages; which layers fire (never in pre-training);
4. new coefficients from the new averages and parameters, the query's average, and for fired layers the memory's
   read, write and blend: what upstream does as a side effect of its next forward pass.

So after a step the state holds the coefficients of the next forecast, however often it is asked for.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pipeline.core.errors import ConfigError, DataError
from pipeline.fsnet.adapter import CALIBRATIONS, GradientAverages
from pipeline.fsnet.memory import initial_slots
from pipeline.fsnet.model import NetworkSpec, flat_slice, flat_views, initial_parameters, random_stream
from pipeline.fsnet.remember import follow, remember, verify_recall
from pipeline.fsnet.tcn import Passes

FORMAT = "fsnet-state/1"


@dataclass(frozen=True)
class LearnSettings:
    """AdamW on every parameter at one rate; PyTorch's defaults otherwise, as upstream."""

    lr: float
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    head_only: bool = False  # update the read-out alone


@dataclass
class Report:
    """What one learning step saw: loss [R], forecasts before the update [R, B, HC], fired layers [R], read ratio [R].

    read_ratio is the mean of ||read|| / ||query|| over the fired layers (NaN where none fired or no slot matched).
    """

    loss: torch.Tensor
    y_hat: torch.Tensor
    fired: torch.Tensor
    read_ratio: torch.Tensor


class State:
    """Everything that decides the future of R replicas of one network; see `named` for its tensors."""

    def __init__(self, spec: NetworkSpec, seeds: list[int], device="cpu", dtype=torch.float32) -> None:
        self.spec, self.seeds = spec, list(seeds)
        r = len(self.seeds)
        zeros = torch.zeros
        options = {"dtype": dtype, "device": device}
        # parameters, gradients, exp_avg, exp_avg_sq: [spec.size * R], laid out as in model.flat_views
        self.flat = {name: zeros(spec.size * r, **options) for name in ("parameters", "exp_avg", "exp_avg_sq")}
        self.gradient = zeros(spec.size * r, **options)
        self.t: dict[str, torch.Tensor] = {
            "adam_step": zeros(r, dtype=torch.float32, device=device),
            "steps": zeros(r, dtype=torch.int64),
        }
        if spec.kind == "adapter":
            self._adapter_tensors(options)
        self.parameters = flat_views(spec, self.flat["parameters"], r)
        self.gradients = flat_views(spec, self.gradient, r)
        self.calibration = CALIBRATIONS[spec.kind](spec, self.parameters, self.gradients, self.t)
        if spec.kind == "adapter":
            self.averages = GradientAverages(spec, self.gradients, self.t)
        self._passes: dict[int, Passes] = {}
        self.report: Report | None = None
        self.replay = None

    def _adapter_tensors(self, options) -> None:
        spec, r = self.spec, self.replicas
        layers = sum(g.n for g in spec.groups)
        self.t["through"] = torch.ones(layers, r, **options)
        for g in spec.groups:
            lead = (g.n, r)
            shapes = {
                "long": (g.out, g.taps, g.inn),
                "hidden": (g.chunks, spec.controller_width),
                "heads": (g.chunks, g.coefficients + spec.gate),
                "coefs": (g.chunks, g.coefficients),
                "q_ema": (g.chunks, g.coefficients),
            }
            if spec.has_memory:
                entries = g.chunks * g.coefficients // spec.memory.heads
                shapes["short"] = shapes["long"]
                shapes["slots"] = (spec.memory.heads, entries, spec.memory.slots)
                if spec.memory.variant == "working":
                    shapes["use"] = (spec.memory.heads, spec.memory.slots)
                    shapes |= {name: shapes["q_ema"] for name in ("centre", "settled", "recalled")}
            for name, shape in shapes.items():
                self.t[f"{name}/{g.name}"] = torch.zeros(*lead, *shape, **options)
        if spec.has_memory:
            device = options["device"]
            self.t["fired"] = torch.zeros(layers, r, dtype=torch.bool, device=device)
            self.t["fire_counts"] = torch.zeros(layers, r, dtype=torch.int64, device=device)
        if spec.memory.variant == "working":
            self.t["held"] = torch.zeros(layers, r, dtype=torch.int64, device=device)
            self.t["active"] = torch.zeros(layers, r, dtype=torch.bool, device=device)
            self.t["advantage"] = torch.zeros(r, **options)

    # -- reading ---------------------------------------------------------------------------------------------------

    @property
    def replicas(self) -> int:
        return len(self.seeds)

    @property
    def device(self) -> torch.device:
        return self.gradient.device

    @property
    def dtype(self) -> torch.dtype:
        return self.gradient.dtype

    @property
    def steps(self) -> int:
        """Learning steps so far, pre-training included."""
        return int(self.t["steps"][0])

    @property
    def fire_counts(self) -> torch.Tensor:
        """How often each convolution fired, [layers, R]."""
        if "fire_counts" in self.t:
            return self.t["fire_counts"]
        return torch.zeros(2 * self.spec.depth + 2, self.replicas, dtype=torch.int64)

    def named(self) -> dict[str, torch.Tensor]:
        """Every tensor of the state, as views with the replica axis in front."""
        found = {}
        for flat, buffer in self.flat.items():
            for name, view in flat_views(self.spec, buffer, self.replicas).items():
                found[f"{flat}/{name}"] = view.transpose(0, 1)  # [R, n, *shape]
        for name, tensor in self.t.items():
            found[name] = tensor if tensor.dim() == 1 else tensor.transpose(0, 1)
        return found

    def passes(self, batch: int) -> Passes:
        """Buffers for a batch size, made on first use."""
        if batch not in self._passes:
            self._passes[batch] = Passes(
                self.spec,
                self.replicas,
                batch,
                self.parameters,
                self.gradients,
                self.calibration.layers(),
                self.gradient,
            )
        return self._passes[batch]

    # -- copying and storing ---------------------------------------------------------------------------------------

    def select(self, replicas: list[int]) -> State:
        """A copy of some replicas (without the replay buffer)."""
        other = State(self.spec, [self.seeds[r] for r in replicas], self.device, self.dtype)
        mine = self.named()
        for name, tensor in other.named().items():
            tensor.copy_(mine[name][replicas])
        other.calibration.restore()
        return other

    def clone(self) -> State:
        other = self.select(list(range(self.replicas)))
        other.replay = None if self.replay is None else self.replay.clone()
        return other

    def save(self, path: str | Path) -> None:
        """One safetensors file; network and seeds as JSON in its header.  Written aside, then moved into place."""
        path = Path(path)
        tensors = {name: tensor.contiguous() for name, tensor in self.named().items()}
        header = {"format": FORMAT, "spec": self.spec.to_dict(), "seeds": self.seeds}
        if self.replay is not None:
            tensors |= {f"replay/{name}": tensor for name, tensor in self.replay.tensors.items()}
            header["replay"] = self.replay.shape
        aside = path.with_name(f".{path.name}.{os.getpid()}.part")
        # One entry: safetensors writes several in an order of chance, and the same state must give the same bytes.
        metadata = {"state": json.dumps(header)}
        save_file({name: tensor.cpu() for name, tensor in tensors.items()}, aside, metadata=metadata)
        os.replace(aside, path)


def load_state(path: str | Path, device="cpu") -> State:
    """Read what State.save wrote, bit for bit.

    Raises DataError if the file is missing, damaged or no state of this program.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("state", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: not a readable FSNet state ({error}); it is written by State.save") from error
    if header.get("format") != FORMAT:
        raise DataError(f"{path}: format is {header.get('format')!r}; expected {FORMAT!r}")
    spec = NetworkSpec.from_dict(header["spec"])
    state = State(spec, header["seeds"], device, tensors["parameters/input_w"].dtype)
    mine = state.named()
    missing = sorted(mine.keys() - tensors.keys())
    if missing:
        raise DataError(f"{path}: tensors are missing from the state: {', '.join(missing[:5])}")
    for name, tensor in mine.items():
        tensor.copy_(tensors[name])
    state.calibration.restore()
    if "replay" in header:
        from pipeline.fsnet.replay import Replay

        state.replay = Replay(seeds=state.seeds, device=device, **header["replay"])
        for name, tensor in state.replay.tensors.items():
            tensor.copy_(tensors[f"replay/{name}"])
    return state


def _seed_slots(state: State) -> None:
    """Published random start of the memory; the working memory starts with free slots instead."""
    spec = state.spec
    if not spec.has_memory or spec.memory.variant == "working":
        return
    for g in spec.groups:
        slots = state.t[f"slots/{g.name}"]
        for r, seed in enumerate(state.seeds):
            draw = random_stream(seed, f"slots/{g.name}").uniform(-1, 1, slots[:, r].shape)
            slots[:, r] = initial_slots(torch.from_numpy(draw)).to(slots)


def init_state(spec: NetworkSpec, seeds: list[int], device="cpu", dtype: torch.dtype = torch.float32) -> State:
    """A fresh state of len(seeds) replicas; replica r depends on seeds[r] alone."""
    if not seeds or any(not 0 <= seed < 2**63 for seed in seeds):
        raise ConfigError(f"fsnet: seeds are {seeds}; at least one is needed, each in 0..2^63-1")
    state = State(spec, seeds, device, dtype)
    state.flat["parameters"].copy_(initial_parameters(spec, state.seeds, device, dtype))
    _seed_slots(state)
    state.calibration.update(first=True)
    state.calibration.refresh()
    return state


FORKABLE = {"memory", "dropout", "gamma", "gamma_short"}


def fork_state(state: State, spec: NetworkSpec) -> State:
    """A copy of the state as another arm: same parameters, moments and averages, other FORKABLE settings.

    Nothing fires in pre-training, so arms that differ in their memory alone can share it: train the state with a
    memory (which keeps the short averages), then fork.  Raises ConfigError if `spec` differs in more than FORKABLE.
    """
    mine, theirs = state.spec.to_dict(), spec.to_dict()
    changed = sorted(k for k in mine if mine[k] != theirs[k] and k not in FORKABLE)
    if changed:
        raise ConfigError(
            f"fsnet: a state can be forked into a network with another {', '.join(sorted(FORKABLE))} only; "
            f"this one differs in {', '.join(changed)}"
        )
    other = State(spec, state.seeds, state.device, state.dtype)
    source = state.named()
    for name, tensor in other.named().items():
        kind, _, group = name.partition("/")
        if kind in ("centre", "settled") and name not in source:  # slow means of the query start where it is
            tensor.copy_(source[f"q_ema/{group}"])
        elif name in source and kind not in ("slots", "use"):
            tensor.copy_(source[name])
    _seed_slots(other)
    other.calibration.restore()
    return other


@torch.no_grad()
def predict(state: State, x: torch.Tensor) -> torch.Tensor:
    """Forecasts [R, B, HC] of windows x [R or 1, B, T, C].  The state is only read."""
    return state.passes(x.shape[1]).forward(x).clone()


def learn(state: State, x, y, settings: LearnSettings, **options) -> State:
    """The state after one learning step; `state` stays as it is.  Arguments as in learn_."""
    after = state.clone()
    learn_(after, x, y, settings, **options)
    return after


def pretrain_step_(state: State, x, y, settings: LearnSettings, **options) -> Report:
    """learn_ with dropout on the representation and nothing firing, as upstream's training mode."""
    return learn_(state, x, y, settings, training=True, **options)


@torch.no_grad()
def learn_(
    state: State,
    x: torch.Tensor,
    y: torch.Tensor,
    settings: LearnSettings,
    weights: torch.Tensor | None = None,
    soft: torch.Tensor | None = None,
    soft_weights: torch.Tensor | None = None,
    training: bool = False,
) -> Report:
    """One learning step in place.

    x [R or 1, B, T, C], y [R or 1, B, HC].  The loss of a replica is sum_b weights[b] * MSE(y_hat[b], y[b]), with
    weights [B] or [R, B] (default 1/B).  soft [R, B, HC] adds sum_b soft_weights[b] * MSE(y_hat[b], soft[b]) (DER++'s
    stored outputs).
    """
    batch = x.shape[1]
    passes = state.passes(batch)
    dropout = _dropout(state, batch) if training and state.spec.dropout else None
    if state.spec.memory.variant == "working" and not training:
        verify_recall(state, lambda: _loss(passes.forward(x), y, weights)[0])
    y_hat = passes.forward(x, dropout)
    loss, dy = _loss(y_hat, y, weights)
    if soft is not None:
        soft_loss, soft_dy = _loss(y_hat, soft, soft_weights)
        loss, dy = loss + soft_loss, dy + soft_dy
    passes.backward(dy, dropout)
    state.calibration.backward(passes)
    _adamw(state, settings)
    state.t["steps"] += 1
    fired, ratio = _adapt(state, watch=not training)
    state.report = Report(loss, y_hat.clone(), fired, ratio)
    return state.report


def _loss(y_hat, y, weights):
    """Weighted squared error [R] and its gradient [R, B, HC]."""
    r, b, o = y_hat.shape
    error = y_hat - y.to(y_hat.device)
    if weights is None:
        weight = 1.0 / (b * o)
    else:
        weight = weights.to(y_hat).expand(r, b)[..., None] / o
    dy = 2.0 * weight * error
    return 0.5 * (dy * error).sum((1, 2)), dy


def _dropout(state: State, batch: int) -> torch.Tensor:
    """Scaled keep mask [R, B, representation] of each replica's own stream at this step."""
    p, width = state.spec.dropout, state.spec.representation
    keep = [
        torch.from_numpy(random_stream(seed, "dropout", state.steps).random((batch, width)) >= p)
        for seed in state.seeds
    ]
    return torch.stack(keep).to(state.device, state.dtype) / (1 - p)


def _adamw(state: State, s: LearnSettings) -> None:
    """torch.optim.AdamW(fused=True)'s kernel on the flat buffer: 560,000 entries in one call."""
    step = state.t["adam_step"]
    step += 1
    updated = flat_slice(state.spec, ("head_w", "head_b"), state.replicas) if s.head_only else slice(None)
    torch._fused_adamw_(
        [state.flat["parameters"][updated]],
        [state.gradient[updated]],
        [state.flat["exp_avg"][updated]],
        [state.flat["exp_avg_sq"][updated]],
        [],
        [step[0]],
        lr=s.lr,
        beta1=s.betas[0],
        beta2=s.betas[1],
        weight_decay=s.weight_decay,
        eps=s.eps,
        amsgrad=False,
        maximize=False,
    )


def _adapt(state: State, watch: bool):
    """Steps 3 and 4: averages, firing, coefficients, memory.  Returns fired layers [R] and read ratios [R]."""
    spec, calibration = state.spec, state.calibration
    if spec.kind == "adapter":
        state.averages.take(watch)
    calibration.update()
    fired = torch.zeros(state.replicas, dtype=torch.int64, device=state.device)
    ratio = torch.full((state.replicas,), torch.nan, dtype=state.dtype, device=state.device)
    if spec.has_memory and watch:
        fired, ratio = remember(state)
    elif spec.memory.variant == "working":
        follow(state)
    calibration.refresh()
    return fired, ratio
