"""Stage ``evaluate``: forecasts of one arm at validation and test events, scored one by one."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from ..core.stages import Job, Result
from . import events, samples, scores, weights
from .batches import Frames, Scale, buckets
from .events import Catalogue, Targets
from .settings import Evaluate

VALIDATION = 200  # validation events that are drawn for, where drawing is slow
KEPT = 500  # test events whose samples are stored
JOINT = 8  # draws of gap and place together, for methods whose densities are exact


def chosen(targets: Targets, count: int | None) -> np.ndarray:
    """Places of the first so many targets of a fixed permutation, ascending: the same events for every arm."""
    order = np.random.default_rng(1).permutation(len(targets.row))
    return np.sort(order[: len(order) if count is None else count])


def evaluate(job: Job, settings: Evaluate, log: Any) -> Result:
    """Score every seed of an arm, on the CPU.

    Inputs: ``data``, ``weights``; ``fitted`` (ETAS) where the arm starts from it.
    """
    catalogue = events.load(job.inputs["data"])
    states, attrs = weights.load(job.inputs["weights"])
    method = Exact if settings.model.kind == "exact" else Sampled
    arm = method(job, settings, catalogue, states, log)
    seeds = job.seeds[: settings.model.seeds]
    begun, by_split, drawn = time.process_time(), {"val": [], "test": []}, None
    for seed in seeds:
        for split in by_split:
            found, kept = arm.scored(seed, split)
            by_split[split].append(found)
            drawn = kept if drawn is None and split == "test" else drawn
    notes = {"method": settings.model.kind, "events": settings.sampler.events, "samples": settings.sampler.samples}
    scores.write(job.outputs["scores"], list(seeds), by_split, catalogue, notes)
    samples.write(job.outputs["samples"], drawn)
    metrics = {"evaluate_cpu_s": time.process_time() - begun, "sampling_s": arm.sampling / len(seeds)}
    metrics |= {f"parameters_{name}": float(count) for name, count in attrs["parameters"].items()}
    stored = scores.read(job.outputs["scores"])
    for split, prefix in (("test", ""), ("val", "validation_")):
        found = [scores.metrics(stored, member, split) for member in range(len(seeds))]
        metrics |= {prefix + name: float(np.mean([one[name] for one in found])) for name in found[0]}
    return Result(
        {name: value for name, value in metrics.items() if np.isfinite(value)}, dataset=catalogue.meta.get("info")
    )


def place_back(found: dict[str, np.ndarray], at: np.ndarray, n: int) -> dict[str, np.ndarray]:
    """Scores of some targets as arrays over all of them, NaN elsewhere."""
    result = {}
    for name, value in found.items():
        result[name] = np.full((n, *value.shape[1:]), np.nan)
        result[name][at] = value
    return result


class Sampled:
    """Arms whose forecasts are samples: Langevin chains, or tabulated times with places by the ODE."""

    def __init__(self, job: Job, settings: Evaluate, catalogue: Catalogue, states: dict, log: Any):
        self.settings, self.catalogue, self.states, self.log = settings, catalogue, states, log
        self.sampling = 0.0
        if settings.model.kind == "corrected":
            from .corrected import Corrected, Standard

            self.scale = Standard.of(catalogue, settings.denoise.log_time)
            self.model = Corrected(catalogue.marks, settings.corrected)
        else:
            from .denoise import Smash

            self.scale = Scale.of(catalogue, settings.denoise.log_time)
            self.model = Smash.of(settings, catalogue.marks)
        self.frames = Frames(catalogue, self.scale)
        self.model.eval()

    @torch.no_grad()
    def conditions(self, split: str, targets: Targets) -> torch.Tensor:
        """[n, C] condition of every target."""
        lengths, found, rows = self.catalogue.lengths, [], []
        for one in buckets(lengths, self.catalogue.sequences(split), 4000, None):
            batch = self.frames.batch(one)
            found.append(self.model.condition(batch))
            rows.append(batch.row[:, 1:][batch.target])
        order = torch.cat(rows).argsort()
        return torch.cat(found)[order]

    def scored(self, seed: int, split: str) -> tuple[dict[str, np.ndarray], samples.Drawn]:
        """Scores over all targets of a split (NaN where nothing was drawn), and the samples to keep."""
        settings, catalogue, sampler = self.settings, self.catalogue, self.settings.sampler
        self.model.load_state_dict(self.states[seed])
        targets = catalogue.targets(split)
        at = chosen(targets, VALIDATION if split == "val" else sampler.events)
        cond = self.conditions(split, targets)[at]
        generator = torch.Generator().manual_seed(seed)
        begun = time.process_time()
        value, probability = self.draw(cond, generator, f"sampling {split} events, seed {seed}")
        self.sampling += time.process_time() - begun
        drawn = self.scale.backward(value.double().numpy())  # [n, M, 3]
        known = probability is not None and probability.shape[-1] == catalogue.marks and catalogue.marked
        part = Targets(targets.row[at], targets.sequence[at], targets.index[at], targets.windows)
        result = scores.Samples(drawn[..., 0], drawn[..., 1:], probability.double().numpy() if known else None)
        found = scores.score_samples(catalogue, part, result, np.random.default_rng([seed, 3]))
        kept = samples.Drawn(
            part.row[:KEPT],
            part.sequence[:KEPT],
            part.index[:KEPT],
            drawn[:KEPT],
            probability[:KEPT].mean(1).numpy() if known else None,
            {"split": split, "method": settings.model.kind, "steps": sampler.steps},
        )
        return place_back(found, at, len(targets.row)), kept

    def draw(self, cond: torch.Tensor, generator: torch.Generator, what: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Scaled samples [n, M, 3] and mark probabilities [n, M, K], some events at a time."""
        settings, sampler = self.settings, self.settings.sampler
        size = max(1, sampler.chunk // sampler.samples)
        parts = cond.split(size)
        each = sampler.steps if settings.model.kind == "smash" else 1
        progress, done, found = self.log.progress(len(parts) * each, what), 0, []
        for part in parts:
            if settings.model.kind == "corrected":
                from . import ode

                bounds = (self.scale.least, self.scale.most)
                found.append(
                    ode.sample(self.model, part, sampler.samples, sampler.steps, sampler.table, bounds, generator)
                )
                done += 1
                progress.update(done)
            else:
                from . import langevin

                def advance(steps: int) -> None:
                    nonlocal done
                    done += steps
                    progress.update(done)

                sigma = settings.denoise.sigma_time, settings.denoise.sigma_location
                found.append(langevin.sample(self.model.net, part, sampler, sigma, generator, advance))
        return torch.cat([x for x, _ in found]), torch.cat([p for _, p in found])


class Exact:
    """Arms whose densities are exact: every target is scored."""

    def __init__(self, job: Job, settings: Evaluate, catalogue: Catalogue, states: dict, log: Any):
        from .exact_base import build

        self.settings, self.catalogue, self.states, self.log = settings, catalogue, states, log
        self.sampling = 0.0
        self.model, self.reader = build(catalogue, job.inputs.get("fitted"), settings.exact)

    def scored(self, seed: int, split: str) -> tuple[dict[str, np.ndarray], samples.Drawn | None]:
        """Scores over all targets of a split, and the samples to keep (of the test split)."""
        from . import exact_forecast

        settings, catalogue = self.settings, self.catalogue
        targets = catalogue.targets(split)
        members, test = settings.exact.members, split == "test"
        draws = settings.baselines.samples if test else 0  # validation needs likelihoods alone
        begun = time.process_time()
        parts = []
        for member in range(members):
            self.model.load_state_dict(self.states[1000 * member + seed])
            share = draws // members + (member < draws % members)
            rng = np.random.default_rng([seed, member, 4])
            both = max(1, JOINT // members) if test else 0
            gaps = exact_forecast.clock_gaps(catalogue, targets, both, rng, self.reader.clock)
            parts.append(exact_forecast.forecast(self.model, self.reader, targets.windows, share, both, rng, gaps))
        self.sampling += time.process_time() - begun
        found = exact_forecast.average(parts)
        exact = exact_forecast.as_exact(found, catalogue, targets, settings.baselines.quantiles, self.reader.clock)
        rng = np.random.default_rng([seed, 5])
        scored = scores.score_exact(catalogue, targets, exact, rng)
        if not test:
            return scored, None
        at = chosen(targets, KEPT)
        gap = exact.quantiles_time[at][:, np.linspace(0, exact.quantiles_time.shape[1] - 1, draws).astype(int)]
        gap = rng.permuted(gap, axis=1)
        kept = samples.Drawn(
            targets.row[at],
            targets.sequence[at],
            targets.index[at],
            np.concatenate([gap[..., None], found.places[at]], axis=2),
            exact.mark_given_t[at] if catalogue.marked else None,
            {"split": split, "method": "exact", "places": "given the true time"},
        )
        return scored, kept
