"""Settings of R-STMRF's arms and the stages that read them (pydantic only: read at every start of the workflow)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from ..core.config import ArmSettings, Model
from ..core.precision import Precision
from ..core.stages import Stage

BASELINES = (
    *("iri", "iri_offset", "iri_tec", "oi_iri", "oi_iri_tec", "kf", "kf_filter", "climatology"),
    "tec_interpolation",
)


MAP_HISTORY_H = 6


class Iri(Model):
    """Parameter maps of the climatological background, a day at a time."""

    step: float = Field(5.0, gt=0, le=15, description="spacing of the maps [degrees]")


class Weather(Model):
    """Where Kp, ap and F10.7 end."""

    beyond: Literal["error", "flag"] = Field(
        "error", description="days whose values were not observed: an error, or predictions, flagged in the results"
    )


class Worlds(Model):
    """The worlds of a scenario: a period and a truth seed each (read for simulated data alone)."""

    names: list[str] = Field(["a101"], min_length=1, description="period letter and truth seed: a1, b2, …")
    hours: int = Field(71, ge=3, le=24 * 31, description="length of a world [h]")
    profiles: int = Field(1950, ge=10, description="occultation profiles in a world of 72 h")
    dense_points: int = Field(20_000, ge=100, description="area-uniform points that are scored")
    columns: int = Field(1200, ge=10, description="columns whose peak and TEC are scored")


class Network(Model):
    """The point network: the seed's branches and their repaired forms."""

    inputs: Literal["seed", "sphere"] = Field("seed", description="seed: plain angles; sphere: no seams, magnetic")
    hidden: int = Field(128, ge=4, le=1024, description="width of the sine layers")
    layers: int = Field(2, ge=0, le=8, description="hidden -> hidden layers: 2 is '3 layers' counting the first")
    basis: int = Field(64, ge=4, le=512, description="basis functions of each branch")
    omega: float = Field(30.0, gt=0, description="band limit of the spatial branch")
    omega_time: float = Field(30.0, gt=0, description="band limit of the temporal branch")
    hidden_omega: float = Field(30.0, gt=0, description="frequency of the layers after the first")
    lstm: int = Field(64, ge=4, le=512, description="width of the two LSTM layers over space weather")
    history: int = Field(
        6, ge=1, le=240, description="hours of space weather (the seed's seq_len); of TEC maps up to 6"
    )
    drivers: list[Literal["kp", "ap", "f107", "f107_81"]] = Field(["kp", "f107"], min_length=1)
    conv_layers: int = Field(1, ge=0, le=4, description="ConvLSTM layers; 0: none")
    tec_features: int = Field(16, ge=1, le=128, description="ConvLSTM channels (the seed's tec_feat_dim)")
    tec_factor: int = Field(4, ge=1, le=30, description="1-degree TEC maps are thinned so: 4 -> 46 x 91, 6 -> 31 x 61")
    padding: Literal["zeros", "sphere"] = "zeros"
    supervised: bool = Field(False, description="the ConvLSTM learns the next map, and nothing else")
    film: bool = Field(False, description="TEC features modulate the spatial functions (the seed's former version)")
    zero_start: bool = Field(False, description="the residual starts at zero")
    checkpointing: bool = Field(False, description="recompute the ConvLSTM's steps in the backward pass")

    @property
    def map_history(self) -> int:
        """Hours of TEC maps in a window: a longer history is one of space weather alone, as each map costs a step of
        the ConvLSTM."""
        return min(self.history, MAP_HISTORY_H)

    @model_validator(mode="after")
    def _possible(self) -> Network:
        if self.film and not self.conv_layers:
            raise ValueError("film needs the ConvLSTM's features: conv_layers must be at least 1")
        if self.supervised and not self.conv_layers:
            raise ValueError("supervised is the ConvLSTM's own task: conv_layers must be at least 1")
        if self.padding == "sphere" and 360 // self.tec_factor % 2:
            raise ValueError(f"tec_factor {self.tec_factor}: maps need an even number of longitudes")
        return self


class Losses(Model):
    """Weights of the losses; 0 leaves a term out and doesn't compute it."""

    data: float = Field(1.0, gt=0)
    huber: float | None = Field(None, gt=0, description="threshold of the Huber loss [dex]; null: squares")
    by_profile: bool = Field(False, description="a profile's points share one weight: their errors are correlated")
    chapman: float = Field(0.1, ge=0, description="curvature in altitude")
    chapman_of: Literal["field", "residual"] = Field("field", description="field in km (seed); residual / scale height")
    direction: float = Field(0.03, ge=0, description="angle between the field's gradient and that of TEC")
    direction_target: Literal["learned", "anchored"] = Field("learned", description="ConvLSTM head; finite differences")
    direction_metric: Literal["degree", "km"] = "degree"
    direction_gate: bool = Field(False, description="only near the peak and where TEC has a slope")
    background: float = Field(0.0, ge=0, description="mean squared residual at points all over the volume (Jb)")
    next_map: float = Field(1.0, ge=0, description="of the ConvLSTM's own task, where it has one")
    volume_points: int = Field(
        0, ge=0, le=65536, description="physics losses on so many points of the volume; 0: at the observations"
    )
    every: int = Field(1, ge=1, description="steps between physics losses")


class Train(Model):
    """How a point network is trained."""

    steps: int = Field(300, ge=1)
    batch: int = Field(2048, ge=8)
    time_bin: float = Field(2.0, gt=0, description="hours that a batch comes from; many: each window costs a ConvLSTM")
    lr: float = Field(3e-4, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    precision: Precision = Field("float32", description="bfloat16: autocast")
    validation: Literal["profiles", "days"] = Field(
        "profiles",
        description="kept back whole to choose checkpoints: 8 % of the profiles, or of the days, at least one",
    )
    memory_mb: int | None = Field(None, ge=100, description="memory that may be used; null: what the machine has")


class Saving(Model):
    """Which checkpoints of a training stay on disk."""

    best_only: bool = Field(True, description="the best and nothing else")
    interval: int = Field(50, ge=1, description="steps between looks at the validation loss, and checkpoints")
    weights_only: bool = Field(True, description="without the optimizer's state")
    compressed: bool = False


class Fields(Model):
    """Statistics of the corrections as random fields; learnt and tried on development worlds."""

    degree: int = Field(8, ge=1, le=16, description="of the spherical harmonics")
    sd: list[float] = Field(
        [0.25, 18.0, 0.15, 0.12, 0.18, 0.25, 0.2, 0.12, 0.12, 0.10, 0.07, 0.05, 0.06],
        min_length=13,
        max_length=13,
        description="of ln NmF2, hmF2 [km], ln B0, ln B1, ln Btop, ln F1, ln NmE and six altitude bumps [dex]",
    )
    earth_share: float = Field(0.3, ge=0, lt=1, description="share of the variance that turns with the Earth")
    slope: float = Field(2.2, gt=0, description="amplitudes fall as (1 + degree / 3)^-slope")
    memory: float = Field(11.0, gt=0, description="correlation time at degree 0 [h]")
    knots: float = Field(3.0, gt=0, le=24, description="hours between time knots")
    passes: int = Field(3, ge=1, le=8, description="Gauss-Newton passes")
    iterations: int = Field(60, ge=1, le=500, description="conjugate-gradient steps a pass")
    draws: int = Field(16, ge=2, le=100, description="draws of the posterior that give the spread")
    representativeness: float = Field(0.18, ge=0, description="what the fields can't follow at a level [dex]")
    tec_error: float = Field(2.0, gt=0, description="correlated error of TEC maps [TECU]: a field of its own")
    tec_white: float = Field(1.0, gt=0, description="error of one TEC value alone [TECU]")
    tec_relative: float = Field(0.1, ge=0, description="the same as a share of TEC")
    huber: float = Field(3.0, gt=0, description="profiles and TEC values beyond so many sigma count less")


class Nets(Model):
    """The parameter networks of the ensemble."""

    members: int = Field(5, ge=1, le=20)
    steps: int = Field(200, ge=1)
    batch: int = Field(2048, ge=8, description="levels in a batch of whole profiles")
    hidden: int = Field(96, ge=4)
    lr: float = Field(5e-3, gt=0)
    omega: float = Field(2.5, gt=0, description="band limit")
    time_stretch: float = Field(2.0, gt=0, description="time over the period against space of unit radius")
    background: float = Field(0.1, ge=0, description="weight of Jb against Jo")
    tec: float = Field(0.3, ge=0, description="weight of Jtec against Jo")
    tec_points: int = Field(128, ge=1, description="TEC values a step")
    huber: float = Field(2.0, gt=0)
    representativeness: float = Field(0.1, ge=0, description="[dex]")


class Assimilation(Model):
    """The arm in parameter space."""

    parts: Literal["blend", "nets", "fields"] = Field("fields", description="fields, networks, or both")
    tec: bool = Field(True, description="TEC scales the background and is fitted; false: profiles alone")
    nets_share: float = Field(0.1, ge=0, le=1, description="of the networks in the blend of increments")
    floor: float = Field(0.05, ge=0, description="spread that is left where everything is observed [dex]")


class Interpolation(Model):
    """Optimal interpolation: how far, and how large, a background's errors are."""

    qd_deg: float = Field(27.0, gt=0, description="correlation length in magnetic latitude [degrees]")
    lt_deg: float = Field(30.0, gt=0, description="in local time [degrees of longitude at the magnetic equator]")
    alt_km: float = Field(45.0, gt=0, description="in altitude [km]")
    time_h: float = Field(4.0, gt=0, description="in time [h]")


class Smoother(Model):
    """The Kalman smoother in parameter space."""

    memory_h: float = Field(4.0, gt=0, description="e-folding time of degree 0 [h]")
    slope: float = Field(2.2, gt=0, description="coefficients fall as (1 + degree / 3)^-slope")
    white: float = Field(0.2, gt=0, description="error of one level, what the fields can't follow included [dex]")
    tec_factor: float = Field(3.8, gt=0, description="stated errors of TEC count so many times: they are correlated")


class Method(Model):
    kind: Literal["point", "assimilate", "baseline"] = "point"
    baseline: Literal["oi_iri", "oi_iri_tec", "kf", "kf_filter"] | None = Field(
        None, description="with kind baseline: which one is run as an arm, with settings of its own"
    )

    @model_validator(mode="after")
    def _named(self) -> Method:
        if (self.kind == "baseline") != (self.baseline is not None):
            raise ValueError("`baseline` names the baseline of kind: baseline, and stands with no other kind")
        return self


class Prepare(Model):
    worlds: Worlds = Worlds()
    weather: Weather = Weather()


class Tec(Model):
    """Thinning of TEC maps from files into one store."""

    factor: int = Field(4, ge=1, le=30, description="1 degree: 4 -> 46 x 90; CODE's 71 x 72 nodes: 1 or 2")
    method: Literal["conservative", "strided"] = Field(
        "conservative", description="area means, or every factor-th node"
    )


class TecMaps(Model):
    tec: Tec = Tec()


class IriDay(Model):
    iri: Iri = Iri()
    weather: Weather = Weather()


class Plot(Model):
    language: Literal["en", "zh"] = "en"


class Nothing(Model):
    """A stage without settings."""


class Learn(Model):
    method: Method = Method()
    network: Network = Network()
    losses: Losses = Losses()
    train: Train = Train()
    saving: Saving = Saving()
    fields: Fields = Fields()
    nets: Nets = Nets()
    assimilation: Assimilation = Assimilation()
    interpolation: Interpolation = Interpolation()
    smoother: Smoother = Smoother()


class Settings(Learn, ArmSettings):
    """All settings of an arm."""

    TRAINED: ClassVar[tuple[str, ...]] = tuple(Learn.model_fields)
    BASELINES: ClassVar[tuple[str, ...]] = BASELINES
    METRICS: ClassVar[tuple[str, ...]] = (
        *("skill", "rmse", "bias", "skill_sampled", "skill_unsampled", "rmse_sampled", "rmse_unsampled"),
        *("rmse_nmf2", "rmse_fof2_mhz", "rmse_hmf2_km", "rmse_tec", "crps", "coverage90"),
        *("rmse_withheld", "skill_withheld", "skill_f", "skill_e"),
    )

    iri: Iri = Iri()
    weather: Weather = Weather()
    tec: Tec = Tec()
    worlds: Worlds = Worlds()


STAGES = {
    "iri": Stage("pipeline.rstmrf.iri_day:make", IriDay),
    "tec": Stage("pipeline.rstmrf.tec_store:convert", TecMaps),
    "prepare": Stage("pipeline.rstmrf.prepare:prepare", Prepare),
    "baselines": Stage("pipeline.rstmrf.run_baselines:run", Nothing),
    "train": Stage("pipeline.rstmrf.train:train", Learn, torch=True),
    "evaluate": Stage("pipeline.rstmrf.evaluate:evaluate", Learn, torch=True),
    "compare": Stage("pipeline.rstmrf.compare:compare", Nothing),
    "plot": Stage("pipeline.rstmrf.figures:plot", Plot),
    "analyse": Stage("pipeline.rstmrf.analysis:analyse", Plot),
    "memory": Stage("pipeline.rstmrf.memory_table:write", Plot),
    "bench": Stage("pipeline.rstmrf.bench:bench", Nothing),
    "ablation": Stage("pipeline.core.tables:assemble", Nothing),
}
