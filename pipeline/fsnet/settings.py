"""Settings of FSNet's arms and the stages that read them (pydantic only: read at every start of the workflow)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from ..core.config import Arm, ArmSettings, Model, Scenario
from ..core.stages import Stage

BASELINES = (
    "persistence",
    "seasonal_naive",
    "half_drift",
    "weekly_refit",
    "rls",
    "rls_rich",
    "aggregate",
    "aggregate_exog",
    "aggregate_full",
    "aggregate_full_exog",
)


class Data(Model):
    """How a series is split."""

    borders: Literal["auto", "seed", "upstream", "ratio", "start"] = Field("auto", description="auto: the catalogue's")
    test_rows: int | None = Field(None, ge=1, description="cut the test period to its first rows; null: all")


class Task(Model):
    """What is forecast from what."""

    window: int = Field(48, ge=2, le=4096, description="rows that a forecast sees (T)")
    horizon: int = Field(12, ge=1, le=512, description="rows that are forecast (H)")
    features: Literal["S", "M", "MS"] = Field("S", description="S target; M all in, all out; MS all in, target out")


class Simulation(Model):
    """The recurring-regime stream (read for the data set `regimes` alone); lengths in rows."""

    steps: int = Field(12_000, ge=1, description="length of the series [steps]")
    regimes: int = Field(5, ge=2, le=50, description="number of different regimes")
    shortest: int = Field(300, ge=1, description="shortest stay in a regime [steps]")
    longest: int = Field(800, ge=1, description="longest stay in a regime [steps]")
    noise_variance: float = Field(0.09, gt=0, description="variance of the innovations [squared units]")
    amplitude: float = Field(1.0, ge=0, description="standard deviation of the daily profile [units]")
    persistence: float = Field(0.8, ge=0, lt=1, description="bound b of the partial autocorrelations")
    gradual_share: float = Field(0.0, ge=0, le=1, description="share of the switches that are gradual")
    gradual_steps: int = Field(100, ge=2, description="length of a gradual switch [steps]")
    day: int = Field(24, ge=1, description="steps in a day")

    @model_validator(mode="after")
    def _stays_are_possible(self) -> Simulation:
        if self.longest < self.shortest:
            raise ValueError(f"longest ({self.longest}) must not be below shortest ({self.shortest})")
        if self.gradual_share > 0 and self.gradual_steps > self.shortest:
            raise ValueError(
                f"gradual_steps ({self.gradual_steps}) must not exceed shortest ({self.shortest}): "
                "two switches would overlap"
            )
        return self


class Memory(Model):
    """The associative memory over adapter coefficients (paper eq. 5-8 and variants of it)."""

    kind: Literal["none", "upstream", "seed_fix", "paper", "working"] = "none"
    slots: int = Field(32, ge=1, le=4096, description="M")
    top_k: int = Field(2, ge=1)
    temperature: float = Field(0.5, gt=0, description="softmax temperature of the read")
    tau_trigger: float = Field(0.75, gt=0, le=1, description="fires where the cosine of gradients is below -tau")
    tau_blend: float = Field(0.75, ge=0, le=1, description="share of the present q after a read")
    tau_write: float = Field(0.75, ge=0, le=1, description="share of the old slot after a write")
    heads: int = Field(1, ge=1, le=16)
    match: float = Field(0.5, ge=-1, le=1, description="working: least cosine for a read")
    merge: float = Field(0.9, ge=-1, le=1, description="working: least cosine at which a write joins a slot")
    hold: int = Field(24, ge=1, description="working: steps for which a read stays blended in")
    forget: float = Field(1.0, gt=0, le=1, description="working: factor on every slot's use at a write; 1: never")


class Network(Model):
    """The temporal convolution network and its adapters."""

    kind: Literal["tcn", "adapter", "naive"] = "tcn"
    hidden: int = Field(64, ge=4, description="channels of the hidden blocks")
    depth: int = Field(10, ge=1, le=16, description="hidden blocks; one more leads to the representation")
    representation: int = Field(320, ge=4)
    dropout: float = Field(0.1, ge=0, lt=1)
    controller: int = Field(64, ge=1, description="width of the adapter's controller (nh)")
    chunks: Literal["flat", "output"] = Field("flat", description="gradient chunks: as published, or by output channel")
    chunk_gate: bool = Field(False, description="learned gate over chunks")
    identity: bool = Field(False, description="coefficients are 1 + head, so that adapters start as a plain network")
    zero_head: bool = Field(False, description="the read-out starts at zero")
    calendar: Literal["published", "cyclic"] = Field("published", description="time stamps; cyclic never extrapolates")
    subtract_last: bool = Field(False, description="inputs and targets relative to the last value, level as an input")
    gamma: float = Field(0.9, ge=0, lt=1, description="gradient EMA of the adapter")
    gamma_short: float = Field(0.3, ge=0, lt=1, description="gradient EMA of the trigger")


class Pretrain(Model):
    """Training on the first period, before the stream."""

    epochs: int = Field(2, ge=0)
    batch: int = Field(8, ge=1)
    lr: float = Field(1e-4, gt=0, description="halved at every epoch from the third on")
    weight_decay: float = Field(1e-2, ge=0)
    patience: int = Field(3, ge=1, description="epochs without a better validation loss")


class Replay(Model):
    """Reservoir of past windows."""

    size: int = Field(0, ge=0, description="windows kept; 0: no replay")
    sample: int = Field(8, ge=1, description="windows drawn at each update")
    weight: float = Field(0.2, ge=0, description="weight of the replayed loss")
    logits: float = Field(0.0, ge=0, description="weight of the distance to the stored forecasts (DER++)")


class Online(Model):
    """The protocol: when a label is known and how the arm learns from it."""

    feedback: Literal["delayed", "immediate"] = Field("delayed", description="immediate is upstream's and leaks")
    lr: float = Field(5e-5, ge=0)
    weight_decay: float = Field(1e-2, ge=0)
    inner_steps: int = Field(1, ge=1, description="updates a label; a forecast is scored before any of its own")
    every: int = Field(1, ge=1, description="steps between updates")
    recent: int = Field(1, ge=1, description="newest complete windows in an update")
    replay: Replay = Replay()
    learn: Literal["all", "head", "nothing"] = Field("all", description="what is updated; head: the read-out alone")


class Ensemble(Model):
    """Aggregation of other arms' forecasts with the linear experts."""

    kind: Literal["none", "aggregate"] = "none"
    base: str = Field("aggregate_full_exog", description="the baseline that the arms are added to")


class RegimeLearner(Model):
    """The linear learner of a stream of about unit scale; evidence in nats, lengths in rows."""

    lags: int = Field(8, ge=1, description="autoregressive lags")
    day: int = Field(24, ge=1, description="rows in a day: one-hot hours")
    prior_variance: float = Field(1.0, gt=0, description="prior variance v of a weight")
    noise_guess: float = Field(0.1, gt=0, description="noise variance assumed before the first row")
    noise_rate: float = Field(0.002, gt=0, lt=1, description="rate of the running noise variance")
    warm_up: int = Field(96, ge=1, description="rows before alarms are possible")
    forgetting: float = Field(0.9995, gt=0, le=1, description="forgetting factor of the live learner")
    share: float = Field(0.03, gt=0, lt=1, description="fixed share of the mixture")
    alarm: float = Field(12.0, gt=0, description="evidence that fires the detector [nats]")
    recall: float = Field(30.0, gt=0, description="evidence that has a slot recalled [nats]")
    slots: int = Field(12, ge=1, description="capacity of the memory")
    write_delay: int = Field(10, ge=0, description="a snapshot is at least so much older than the onset [rows]")
    snapshot_every: int = Field(10, ge=1, description="rows between snapshots")
    mature: int = Field(96, ge=1, description="rows a learner must have read to be worth a slot")
    agree: float = Field(5.0, gt=0, description="distance below which slots merge [about 1 in one regime]")


class Regime(Model):
    """An arm of the regime stream."""

    kind: Literal["none", "regime"] = "none"
    memory: bool = Field(False, description="keep and recall models of past regimes")
    learner: RegimeLearner = RegimeLearner()


class Prepare(Model):
    data: Data = Data()
    simulation: Simulation = Simulation()


class Forecast(Model):
    task: Task = Task()


class Train(Forecast):
    network: Network = Network()
    pretrain: Pretrain = Pretrain()


class Evaluate(Train):
    memory: Memory = Memory()
    online: Online = Online()
    ensemble: Ensemble = Ensemble()
    regime: Regime = Regime()

    @model_validator(mode="after")
    def _consistent(self) -> Evaluate:
        if self.memory.kind != "none" and self.network.kind != "adapter":
            raise ValueError(f"memory.kind {self.memory.kind} needs network.kind adapter, got {self.network.kind}")
        if self.memory.top_k > self.memory.slots:
            raise ValueError(f"memory.top_k {self.memory.top_k} exceeds memory.slots {self.memory.slots}")
        if self.ensemble.base not in BASELINES:
            raise ValueError(f"ensemble.base {self.ensemble.base!r} is no baseline; known: {', '.join(BASELINES)}")
        if self.online.feedback == "immediate" and (self.online.every > 1 or self.online.recent > 1):
            raise ValueError("online.feedback immediate learns one window a step: online.every and recent must be 1")
        return self


class Settings(Evaluate, ArmSettings):
    """All settings of an arm."""

    TRAINED: ClassVar[tuple[str, ...]] = tuple(Train.model_fields)
    BASELINES: ClassVar[tuple[str, ...]] = BASELINES
    METRICS: ClassVar[tuple[str, ...]] = (
        *("mse", "mae", "rmse", "mape", "mape_z", "smape", "wape", "skill", "coverage90", "width90"),
        *("mse_first50", "mse_first100", "mse_new100"),
    )

    data: Data = Data()
    simulation: Simulation = Simulation()

    def unfit(self, arm: Arm, scenario: Scenario) -> str | None:
        """With ``immediate`` feedback and more than one row ahead, labels are learnt before they are known."""
        if self.online.feedback == "immediate" and self.task.horizon > 1 and not scenario.leaky:
            return (
                "learns labels of the future (online.feedback immediate, more than one row ahead): say so with "
                "`leaky: true` in the scenario, which marks its tables and figures, or change them"
            )
        return None


class Plot(Model):
    language: Literal["en", "zh"] = "en"


STAGES = {
    "prepare": Stage("pipeline.fsnet.data:prepare", Prepare),
    "train": Stage("pipeline.fsnet.train:train", Train, torch=True),
    "evaluate": Stage("pipeline.fsnet.evaluate:evaluate", Evaluate, torch=True),
    "baselines": Stage("pipeline.fsnet.run_baselines:run", Forecast),
    "compare": Stage("pipeline.fsnet.compare:compare", Forecast),
    "plot": Stage("pipeline.fsnet.figures:plot", Plot),
    "analyse": Stage("pipeline.fsnet.analysis:analyse", Plot),
    "bench": Stage("pipeline.fsnet.bench:bench", Model),
    "ablation": Stage("pipeline.core.tables:assemble", Model),
}
