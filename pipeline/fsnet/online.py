"""The online protocol: when a label is known, what is learnt from it, and what is scored.

At time t (row t has been seen) an arm forecasts rows t+1 … t+H. ``delayed``: before that it may learn only from
windows whose last label is row t or earlier. ``immediate`` is upstream's protocol: the whole label of the window that
ends at t is learnt right after its forecast, so that for H > 1 the next forecast's target has mostly been trained on
already. In both a forecast is made before any update on its own labels, however many ``inner_steps`` there are.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core import checkpoints
from ..core.store import digest
from .engine import LearnSettings, Report, State, learn_, load_state, predict
from .replay import Replay
from .settings import Online
from .streaming import Windows

CHECKPOINT_EVERY = 1000  # steps
HISTORY_EVERY = 100
TRACKS = ("fired", "read_ratio")


@dataclass
class Trace:
    """What a stream leaves behind: forecasts [R, n, H, O], tracks [R, n], seconds of CPU spent."""

    forecasts: np.ndarray
    tracks: dict[str, np.ndarray]
    seconds: float = 0.0


class Learner:
    """An arm in its stream: predicts without side effects, learns from complete windows.

    Parameters
    ----------
    state: of all seeds; ``state.replay`` belongs to it and is saved with it.
    """

    def __init__(self, state: State, windows: Windows, online: Online):
        self.state, self.windows, self.online = state, windows, online
        self.settings = LearnSettings(lr=online.lr, weight_decay=online.weight_decay, head_only=online.learn == "head")
        if online.replay.size and state.replay is None:
            state.replay = Replay(
                state.seeds,
                window=windows.window,
                inputs=windows.inputs,
                outputs=windows.outputs,
                capacity=online.replay.size,
                device=str(windows.labels.device),
            )

    def rows(self, origins: range) -> torch.Tensor:
        """The same origins for every seed, [R, B]."""
        return torch.tensor(list(origins), device=self.windows.labels.device).expand(len(self.state.seeds), -1)

    def predict(self, origin: int) -> torch.Tensor:
        """Forecast [R, H, O] from ``origin``, z-scored."""
        rows = self.rows(range(origin, origin + 1))
        return self.windows.values(predict(self.state, self.windows.x(rows)), rows)[:, 0]

    def learn(self, newest: int) -> Report | None:
        """One update on the ``recent`` windows that end at ``newest`` or before, and on replayed ones."""
        replay = self.online.replay
        first = self.windows.window - 1  # the first window that is whole
        rows = self.rows(range(max(newest - self.online.recent + 1, first), newest + 1))
        x, y = self.windows.x(rows), self.windows.y(rows)
        recent = rows.shape[1]
        weights, soft, soft_weights = torch.full((recent,), 1 / recent, device=x.device), None, None
        batch_x, batch_y = x, y
        if replay.size:
            old_x, old_y, old_forecast, filled = self.state.replay.sample(replay.sample)
            batch_x, batch_y = torch.cat([x.expand(len(y), -1, -1, -1), old_x], 1), torch.cat([y, old_y], 1)
            known = (torch.arange(replay.sample, device=x.device) < filled).float() / max(filled, 1)
            weights = torch.cat([weights, replay.weight * known])
            if replay.logits:
                soft = torch.cat([torch.zeros_like(y), old_forecast], 1)
                soft_weights = torch.cat([torch.zeros_like(weights[:recent]), replay.logits * known])
        for _ in range(self.online.inner_steps):
            report = learn_(
                self.state, batch_x, batch_y, self.settings, weights=weights, soft=soft, soft_weights=soft_weights
            )
        if replay.size:
            for index in range(recent):
                self.state.replay.add(x[:, index], y[:, index], report.y_hat[:, index])
        return report


def stream(learner: Learner, origins: np.ndarray, log: Any, checkpoint: Path, fingerprint: str) -> Trace:
    """Run an arm over contiguous ``origins``.

    Resumes bit-equal from ``checkpoint`` where one with the same ``fingerprint`` (settings, data, code) is left.

    Returns
    -------
    Trace with one forecast an origin.
    """
    windows, online = learner.windows, learner.online
    horizon, replicas, total = windows.horizon, len(learner.state.seeds), len(origins)
    trace = Trace(
        np.full((replicas, total, horizon, windows.labels.shape[2]), np.nan, np.float32),
        {name: np.full((replicas, total), np.nan, np.float32) for name in TRACKS},
    )
    start = _resume(learner, trace, checkpoint, fingerprint, log)
    if start:
        log.resume(start)
    learning = online.learn != "nothing"
    progress = log.progress(total, f"online, {online.feedback}")
    clock = time.process_time()
    for step in range(start, total):
        origin = int(origins[step])
        report = None
        if learning and online.feedback == "delayed" and step % online.every == 0:
            report = learner.learn(origin - horizon)
        forecast = learner.predict(origin)
        if learning and online.feedback == "immediate":
            report = learner.learn(origin)
        trace.forecasts[:, step] = forecast.cpu().numpy()
        if report is not None:
            trace.tracks["fired"][:, step] = report.fired.cpu().numpy()
            trace.tracks["read_ratio"][:, step] = report.read_ratio.cpu().numpy()
        done = step + 1
        progress.update(done)
        if done % HISTORY_EVERY == 0:
            known = trace.forecasts[:, done - HISTORY_EVERY : done]
            error = _error(windows, known, origins[done - HISTORY_EVERY : done])
            log.history(done, total, mse=float(error.mean()))
        if done % CHECKPOINT_EVERY == 0 and done < total:
            trace.seconds += time.process_time() - clock
            _save(learner, trace, done, checkpoint, fingerprint)
            clock = time.process_time()
    trace.seconds += time.process_time() - clock
    return trace


def _error(windows: Windows, forecasts: np.ndarray, origins: np.ndarray) -> np.ndarray:
    """[R] mean squared error of forecasts [R, n, H, O] (for the curve alone: it may use labels not yet learnt)."""
    rows = origins[:, None] + np.arange(1, windows.horizon + 1)
    labels = windows.labels.cpu().numpy()[:, rows]  # [R or 1, n, H, O]
    return ((forecasts - labels) ** 2).mean(axis=(1, 2, 3))


def _save(learner: Learner, trace: Trace, done: int, checkpoint: Path, fingerprint: str) -> None:
    """State first, then the trace that names its step: a kill between the two leaves the older pair usable."""
    state = checkpoint.with_name(f"{checkpoint.name}.{done}.safetensors")
    learner.state.save(state)
    content = {"state": digest(state), "forecasts": torch.from_numpy(trace.forecasts[:, :done].copy())}
    content |= {name: torch.from_numpy(track[:, :done].copy()) for name, track in trace.tracks.items()}
    checkpoints.save(checkpoint.with_name(f"{checkpoint.name}.pt"), fingerprint, content | {"seconds": trace.seconds})
    for old in checkpoint.parent.glob(f"{checkpoint.name}.*.safetensors"):
        if old != state:
            old.unlink()


def _resume(learner: Learner, trace: Trace, checkpoint: Path, fingerprint: str, log: Any) -> int:
    saved = checkpoints.load(checkpoint.with_name(f"{checkpoint.name}.pt"), fingerprint, log)
    if saved is None:
        return 0
    done = saved["forecasts"].shape[1]
    state = checkpoint.with_name(f"{checkpoint.name}.{done}.safetensors")
    if not state.exists() or digest(state) != saved["state"]:
        log.info(f"the checkpoint {state.name} is damaged (it is not what was saved): starting anew")
        return 0
    learner.state = load_state(state, str(learner.windows.labels.device))
    trace.forecasts[:, :done] = saved["forecasts"].numpy()
    trace.seconds = saved["seconds"]
    for name in TRACKS:
        trace.tracks[name][:, :done] = saved[name].numpy()
    return done
