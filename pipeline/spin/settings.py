"""Settings of SPIN's arms and the stages that read them (pydantic only: read at every start of the workflow)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from ..core.config import Arm, ArmSettings, Model, Scenario
from ..core.precision import Precision
from ..core.stages import Stage
from .data_settings import BASELINES, METRICS, Averaged, Baselines, Boosting, Data, Prepare, Simulation
from .options import READERS

OWN_DATA = READERS  # what the user's own data may be: kind -> reader -> its options

OF_ATTENTION = ("self_attention", "causal", "max_temporal_distance", "degree_norm")  # read by kind spin alone
OF_GRAPH = ("embedding", "edge_weights", "edge_types", "direction")  # read by spin and spin_h


def refuse_changed(group: Model, names: tuple[str, ...], reader: str) -> None:
    """An error for the first of some settings that isn't at its default although it is not read."""
    for name in names:
        default, found = type(group).model_fields[name].default, getattr(group, name)
        if found != default:
            raise ValueError(f"{name} is not read by {reader}: leave it at {default!r} (it is {found!r})")


class Network(Model):
    """The network; what is not named otherwise is as published."""

    kind: Literal["spin", "spin_h", "residual", "stack"] = Field(
        "spin",
        description="spin, spin_h: published; residual: corrects a cheap imputer; stack: averaged with boosting_bag",
    )
    window: int = Field(24, ge=2, le=512, description="rows of a window (T)")
    hidden: int = Field(32, ge=2, description="width (H), even")
    layers: int = Field(4, ge=1, le=16, description="L")
    eta: int = Field(3, ge=0, description="layers in which neighbours' unobserved cells are hidden")
    message_layers: int = Field(1, ge=0, le=4, description="hidden layers of the message network")
    self_attention: bool = Field(True, description="a node attends to its own other steps")
    causal: bool = Field(False, description="attend to no later step")
    max_temporal_distance: int | None = Field(None, ge=0, description="attend to at most so many steps away")
    tokens: Literal["separate", "shared"] = Field("separate", description="valid and mask embeddings; shared: + offset")
    embedding: Literal["table", "places"] = Field("table", description="of nodes; places: computed from coordinates")
    positional_layers: int = Field(2, ge=0, le=4, description="hidden layers of the positional encoder")
    readout_layers: int = Field(2, ge=0, le=4, description="hidden layers of each read-out; 0: linear")
    hub_size: int = Field(128, ge=1, description="spin_h: width of a hub (Z)")
    hubs: int = Field(4, ge=1, description="spin_h: hubs a node")
    dropout: float = Field(0.0, ge=0, lt=1, description="on what the attentions give")
    channel_tokens: bool = Field(False, description="a vector for each missing channel of a cell seen in part")
    degree_norm: bool = Field(False, description="divide the neighbours' sum by their number")
    edge_weights: bool = Field(False, description="an edge's messages times its weight (published code drops them)")
    edge_types: bool = Field(False, description="a vector for each type of edge")
    direction: Literal["both", "forward"] = Field("both", description="forward: no edges against the road")

    @model_validator(mode="after")
    def _possible(self) -> Network:
        if self.hidden % 2:
            raise ValueError(f"hidden ({self.hidden}) must be even: half sines, half cosines")
        if self.kind == "spin_h" and self.embedding == "places":
            raise ValueError("kind spin_h keeps hubs a node, so embedding must be table")
        unread = {"spin_h": OF_ATTENTION, "residual": (*OF_ATTENTION, *OF_GRAPH)}.get(self.kind, ())
        refuse_changed(self, unread, f"kind {self.kind}")
        return self


class Base(Model):
    """kind residual: where it starts, and what it looks at."""

    imputer: Literal["linear", "kriging", "mice", "boosting"] = Field("linear", description="what the network corrects")
    masks: int = Field(8, ge=1, le=64, description="times that the training cells are hidden again")
    neighbours: int = Field(8, ge=1, le=64, description="most correlated series that are attended to (K)")
    reach: int = Field(4, ge=0, le=48, description="rows before and after that are attended to in a neighbour")
    folds: int = Field(4, ge=2, le=20, description="boosting: parts of the training rows that it is fitted without")


class Whitening(Model):
    """Which observed cells are hidden again in training."""

    kind: Literal["iid", "matched"] = Field("iid", description="iid: as published; matched: the scenario's own pattern")
    rates: list[float] = Field([0.2, 0.5, 0.8], description="iid: share hidden, one of these for each window")

    @model_validator(mode="after")
    def _shares(self) -> Whitening:
        if not self.rates or any(not 0 < rate < 1 for rate in self.rates):
            raise ValueError(f"rates must be shares between 0 and 1, got {self.rates}")
        return self


class Augment(Model):
    """The seed's measures for small samples."""

    drop_edges: float = Field(0.0, ge=0, lt=1, description="share of the edges left out of each batch")
    noise: float = Field(0.0, ge=0, description="noise on the inputs [training standard deviations]")
    slide: bool = Field(True, description="windows start at any row; false: one after the other")


class Fit(Model):
    """Training."""

    steps: int = Field(90_000, ge=0, description="at most so many batches")
    seconds: float | None = Field(None, gt=0, description="at most so many CPU seconds; null: no limit")
    batch: int = Field(8, ge=1, description="windows (residual: of 64 target cells each)")
    batches_epoch: int = Field(300, ge=1, description="batches between two validations")
    lr: float = Field(8e-4, gt=0)
    schedule: Literal["constant", "linear", "cosine", "magic"] = Field(
        "magic", description="magic: as published, cosine with restarts times a linear decay, by epochs"
    )
    warmup: int = Field(12, ge=0, description="epochs of a rising rate")
    l2: float = Field(0.0, ge=0)
    precision: Precision = Field("float32", description="bfloat16: autocast; the attention's kernel stays in float32")
    clip: float = Field(5.0, gt=0, description="norm of the gradient")
    patience: int = Field(40, ge=1, description="validations without a better one")
    min_delta: float = Field(0.0, ge=0, description="what counts as better [share]")
    readouts: Literal["all", "last"] = Field("all", description="read-outs in the loss")
    whitening: Whitening = Whitening()
    augment: Augment = Augment()
    distil: float = Field(
        0.0, ge=0, le=1, description="share of the teacher's soft labels in the loss (needs a teacher)"
    )
    grow: bool = Field(False, description="start from a smaller arm's weights, grown (start from a needed arm)")
    checkpoint: float = Field(60.0, gt=0, description="CPU seconds between two checkpoints")


class Uncertainty(Model):
    """Intervals."""

    head: Literal["none", "quantile"] = Field("none", description="quantile: the read-out gives five of them")
    conformal: bool = Field(True, description="quantiles calibrated on validation cells by length of the gap")


class Impute(Model):
    """From windows to cells."""

    overlap: bool = Field(True, description="half-overlapping windows, each cell from the one it is most central in")


class Unseen(Model):
    """Virtual sensors."""

    share: float = Field(0.0, ge=0, lt=1, description="nodes that training never sees, scored apart")


class Attention(Model):
    """Attention in the analysis of a table; of every trained arm it can be had by name."""

    report: bool = Field(False, description="of the scenario's arm `spin`: built with the analysis, and told there")


class Train(Model):
    network: Network = Network()
    base: Base = Base()
    fit: Fit = Fit()
    uncertainty: Uncertainty = Uncertainty()
    unseen: Unseen = Unseen()
    boosting: Boosting = Boosting()

    @model_validator(mode="after")
    def _consistent(self) -> Train:
        if self.network.kind == "residual":
            refuse_changed(self.unseen, ("share",), "kind residual")
            refuse_changed(self.fit, ("distil", "grow", "readouts"), "kind residual")
            refuse_changed(self.fit.augment, ("drop_edges", "noise", "slide"), "kind residual")
        if self.unseen.share > 0 and self.network.embedding != "places":
            raise ValueError("unseen.share above 0 needs network.embedding places: a table knows no new node")
        if self.uncertainty.head != "none" and self.network.kind in ("spin", "spin_h", "stack"):
            raise ValueError("uncertainty.head is one of kind residual; published networks are conformal alone")
        return self


class Evaluate(Train):
    impute: Impute = Impute()


class Settings(Evaluate, ArmSettings):
    """All settings of an arm."""

    TRAINED: ClassVar[tuple[str, ...]] = tuple(Train.model_fields)
    BASELINES: ClassVar[tuple[str, ...]] = BASELINES
    METRICS: ClassVar[tuple[str, ...]] = METRICS

    data: Data = Data()
    simulation: Simulation = Simulation()
    boosting_bag: Averaged = Averaged()
    boosting_long: Averaged = Averaged(models=14)
    attention: Attention = Attention()

    def unfit(self, arm: Arm, scenario: Scenario) -> str | None:
        if self.network.kind == "stack":
            if len(arm.needs) != 1:
                return f"averages one arm with boosting_bag: state it as `needs: [<arm>]`, now it needs {arm.needs}"
            if "boosting_bag" not in scenario.baselines:
                named = ", ".join(scenario.baselines)
                return f"needs the baseline boosting_bag, which is not among the scenario's ({named})"
        elif (self.fit.distil or self.fit.grow) and len(arm.needs) != 1:
            return f"learns from or grows out of one arm: state it as `needs: [<arm>]`, now it needs {arm.needs}"
        return None


class Plot(Model):
    language: Literal["en", "zh"] = "en"


STAGES = {
    "prepare": Stage("pipeline.spin.data:prepare", Prepare),
    "baselines": Stage("pipeline.spin.run_baselines:run", Baselines),
    "train": Stage("pipeline.spin.train:train", Train, torch=True),
    "evaluate": Stage("pipeline.spin.evaluate:evaluate", Evaluate, torch=True),
    "attention": Stage("pipeline.spin.attention_stage:attend", Train, torch=True),
    "compare": Stage("pipeline.spin.compare:compare", Model),
    "parameters": Stage("pipeline.spin.parameters:table", Model, torch=True),
    "plot": Stage("pipeline.spin.figures:plot", Plot),
    "analyse": Stage("pipeline.spin.analysis:analyse", Plot),
    "bench": Stage("pipeline.spin.bench:bench", Model),
    "ablation": Stage("pipeline.core.tables:assemble", Model),
}
