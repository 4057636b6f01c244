"""Settings of SMASH's arms and the stages that read them (pydantic only: read at every start of the workflow)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from ..core.config import ArmSettings, Model
from ..core.precision import Precision
from ..core.stages import Stage
from .options import READERS

BASELINES = ("poisson_kde", "clock_kde", "renewal_kde", "history_kde", "hawkes", "etas")
BRANCHES = ("time", "location", "joint", "mark")
FIELDS = ("smash", "smash_corrected")  # arms whose learned scores are drawn and whose samplers are timed
OWN_DATA = {"points": READERS}  # what the user's own data may be: kind -> reader -> its options
Branch = Literal["time", "location", "joint", "mark"]


class Data(Model):
    """How raw events become windows of events."""

    thin: bool = Field(True, description="keep overlapping training windows apart by phase, and train on one at a time")
    window: float | None = Field(None, gt=0, description="length of a window; null: the data set's own [time unit]")
    stride: float | None = Field(None, gt=0, description="distance of training windows; null: the data set's own")
    mark_bins: list[float] = Field(default_factory=list, description="bounds that cut magnitudes into marks")
    min_magnitude: Literal["auto"] | float | None = Field("auto", description="auto: completeness estimated on train")
    projection: Literal["auto", "none", "km"] = Field("auto", description="km: geographic places in kilometres")
    val_share: float = Field(0.1, gt=0, lt=0.5, description="of own data in one file")
    test_share: float = Field(0.1, gt=0, lt=0.5, description="of own data in one file")


class Simulation(Model):
    """The ETAS simulator (read for the data set `etas` alone); days and degrees."""

    windows: int = Field(300, ge=10, description="windows of the simulated catalogue")
    window: float = Field(30.0, gt=0, description="length of a window [days]")


class Baselines(Model):
    """What the baselines are fitted with, and how finely every method is scored."""

    memories: list[float | None] = Field(
        [None, 0.25, 0.1, 0.03], min_length=1, description="recency memories tried, share of the training span"
    )
    samples: int = Field(100, ge=2, description="draws for energy scores")
    quantiles: int = Field(200, ge=10, description="quantiles for CRPS")
    errors: bool = Field(True, description="standard errors of the fitted ETAS")
    max_lag: int = Field(400, ge=1, description="past events of the window that may trigger")
    catalogues: int = Field(1000, ge=0, description="simulated catalogues of the CSEP-style tests; 0: no tests")


class ModelKind(Model):
    """Which model an arm is."""

    kind: Literal["smash", "corrected", "exact"] = Field(
        "smash", description="smash: published; corrected: several noise levels; exact: by likelihood"
    )
    seeds: int | None = Field(None, ge=1, description="the first so many of the scenario's seeds; null: all")


class Encoder(Model):
    """The published encoder of the history: one attention stack and one LSTM a branch."""

    cond_dim: int = Field(16, ge=4, le=256, description="width of a branch (d_model)")
    branches: list[Branch] = Field(list(BRANCHES), min_length=1, description="stacks: time, location, joint, mark")
    layers: int = Field(4, ge=1, le=12)
    heads: int = Field(4, ge=1, le=16)
    head_dim: int = Field(16, ge=2, le=128)
    dropout: float = Field(0.1, ge=0, lt=1)
    attention_dropout: float = Field(0.0, ge=0, lt=1, description="of the attention weights (published: 0.1; slow)")

    @model_validator(mode="after")
    def _sensible(self) -> Encoder:
        if len(set(self.branches)) != len(self.branches):
            raise ValueError(f"branches are named twice: {self.branches}")
        if self.cond_dim % 2:
            raise ValueError(f"cond_dim must be even (sines and cosines), got {self.cond_dim}")
        return self


class Score(Model):
    """The published score network."""

    units: int = Field(64, ge=4, le=1024)
    gates: bool = Field(True, description="learned mixing of the temporal and the spatial path; false: half and half")
    marks: Literal["joint", "none"] = Field("joint", description="none: marks are neither read nor forecast")


class Denoise(Model):
    """Denoising score matching at one noise level; scales are those of [-1, 1]."""

    log_time: bool = Field(True, description="gaps on the log scale; false: plain")
    sigma_time: float = Field(0.2, gt=0)
    sigma_location: float = Field(0.25, gt=0)
    noises: int = Field(8, ge=1, le=1000, description="noise draws an event and step (published: 50)")
    antithetic: bool = Field(True, description="draws come in pairs of opposite sign")
    mark_weight: float = Field(0.5, ge=0, description="lambda, of the marks' cross entropy")
    location_weight: float = Field(1.0, ge=0, description="lambda2, of the location's loss against the time's")
    smooth: float = Field(0.0, ge=0, lt=1, description="label smoothing")

    @model_validator(mode="after")
    def _pairs(self) -> Denoise:
        if self.antithetic and self.noises % 2:
            raise ValueError(f"noises ({self.noises}) must be even where they are antithetic")
        return self


class Training(Model):
    """AdamW over length-bucketed batches."""

    epochs: int = Field(150, ge=1, description="length of the learning-rate schedule")
    steps: int | None = Field(
        None, ge=1, description="gradient steps; the schedule is compressed to them; null: epochs"
    )
    batch: int = Field(32, ge=1, description="sequences in a batch, on average")
    lr: float = Field(1e-3, gt=0)
    lr_end: float = Field(5e-5, gt=0)
    warmup: int = Field(5, ge=0, description="epochs of the schedule")
    weight_decay: float = Field(0.01, ge=0)
    precision: Precision = Field("float32", description="bfloat16: autocast")
    clip: float = Field(1.0, gt=0, description="norm of the gradient")
    patience: int = Field(50, ge=1, description="epochs without a better validation loss")
    save_every: int = Field(10, ge=1, description="epochs between validations and checkpoints")


class Corrected(Model):
    """Score matching over several noise levels; scales are standard deviations of the training data."""

    hidden: int = Field(64, ge=4, le=1024, description="width of the recurrent encoder and of the networks")
    sigma_time: list[float] = Field(
        [0.1, 1.5],
        min_length=2,
        max_length=2,
        description="noise of the log gap: the least (draws are made there), the largest",
    )
    sigma_location: list[float] = Field(
        [0.02, 3.0], min_length=2, max_length=2, description="least and largest noise of the place"
    )
    lr: float = Field(2e-3, gt=0)
    average: float = Field(0.99, ge=0, lt=1, description="of the exponential average of the weights")

    @model_validator(mode="after")
    def _ascending(self) -> Corrected:
        for name in ("sigma_time", "sigma_location"):
            least, most = getattr(self, name)
            if not 0 < least < most:
                raise ValueError(f"{name} must be two positive ascending numbers, got {getattr(self, name)}")
        return self


class Exact(Model):
    """The model trained by exact likelihood."""

    base: Literal["etas", "free"] = Field("etas", description="etas: starts exactly at the fitted ETAS")
    hidden: int = Field(48, ge=4, le=512, description="GRU")
    attention: int = Field(8, ge=1, le=128, description="width of the bilinear attention over past events")
    components: int = Field(3, ge=3, le=16, description="of the mixture of waiting times (ETAS's law has 3)")
    dropout: float = Field(0.25, ge=0, lt=1)
    tilt: bool = Field(False, description="the state tilts the marks' probabilities; false: they are the base's")
    members: int = Field(1, ge=1, le=8, description="networks whose densities are averaged")
    epochs: int = Field(14, ge=1)
    pairs: int = Field(60_000, ge=1000, description="pairs of events in a batch, at most")
    lr: float = Field(2e-3, gt=0)
    base_lr: float = Field(0.3, ge=0, description="rate of the ETAS parameters, as a share of lr")
    weight_decay: float = Field(0.1, ge=0)
    average: float = Field(0.99, ge=0, lt=1, description="of the exponential average of the weights")
    validate_every: int = Field(2, ge=1, description="epochs")
    memory_time: float | None = Field(0.1, gt=0, description="recency of the training windows, share of their span")
    memory_place: float | None = Field(0.1, gt=0, description="the same for places; null: all windows alike")
    memory_mark: float | None = Field(0.03, gt=0, description="the same for marks")


class Sampler(Model):
    """How forecasts are drawn: Langevin chains of `smash`; time and mark from the table and places by the ODE of
    `smash_corrected`; closed forms of `smash_exact`."""

    steps: int = Field(2000, ge=1, description="of the Langevin chain, or of the ODE")
    per_step: int = Field(250, ge=1, description="Langevin steps between progress reports")
    step_size: float = Field(0.005, gt=0, description="of the Langevin chain")
    step_scale: Literal["one", "sigma"] = Field(
        "sigma", description="one: one step size for all coordinates; sigma: in proportion to their noise variance"
    )
    denoise: Literal["all", "none", "upstream"] = Field(
        "all", description="mean given the last state; upstream: then 200 more noisy steps of the place"
    )
    samples: int = Field(300, ge=2)
    events: int | None = Field(None, ge=1, description="test events that are drawn for; null: all")
    table: int = Field(512, ge=16, description="points of the table of the intensity")
    chunk: int = Field(20_000, ge=1, description="chains that run side by side")


class Prepare(Model):
    data: Data = Data()
    simulation: Simulation = Simulation()


class RunBaselines(Model):
    baselines: Baselines = Baselines()


class Train(Model):
    model: ModelKind = ModelKind()
    encoder: Encoder = Encoder()
    score: Score = Score()
    denoise: Denoise = Denoise()
    training: Training = Training()
    corrected: Corrected = Corrected()
    exact: Exact = Exact()

    @model_validator(mode="after")
    def _consistent(self) -> Train:
        if self.score.marks == "none" and "mark" in self.encoder.branches and self.model.kind == "smash":
            raise ValueError("score.marks none needs encoder.branches without mark")
        return self


class Evaluate(Train):
    sampler: Sampler = Sampler()
    baselines: Baselines = Baselines()


class Settings(Evaluate, ArmSettings):
    """All settings of an arm."""

    TRAINED: ClassVar[tuple[str, ...]] = tuple(Train.model_fields)
    BASELINES: ClassVar[tuple[str, ...]] = BASELINES
    METRICS: ClassVar[tuple[str, ...]] = (
        *("log_likelihood", "log_likelihood_time", "log_likelihood_location", "log_likelihood_mark"),
        *("crps_time", "crps_log_time", "energy_location", "energy_joint", "brier", "log_score_mark", "ece", "pit_ks"),
        *("cs_time", "cs_location", "mae_time", "location_error"),
    )

    data: Data = Data()
    simulation: Simulation = Simulation()


class Plot(Model):
    language: Literal["en", "zh"] = "en"


class Study(Model):
    """What the sampling-time study runs."""


STAGES = {
    "prepare": Stage("pipeline.smash.data:prepare", Prepare),
    "baselines": Stage("pipeline.smash.run_baselines:run", RunBaselines, torch=True),
    "train": Stage("pipeline.smash.train:train", Train, torch=True),
    "evaluate": Stage("pipeline.smash.evaluate:evaluate", Evaluate, torch=True),
    "compare": Stage("pipeline.smash.compare:compare", RunBaselines),
    "sampling": Stage("pipeline.smash.sampling_study:study", Study, torch=True),
    "plot": Stage("pipeline.smash.figures:plot", Plot),
    "analyse": Stage("pipeline.smash.analysis:analyse", Plot),
    "bench": Stage("pipeline.smash.bench:bench", Model),
    "ablation": Stage("pipeline.core.tables:assemble", Model),
}
