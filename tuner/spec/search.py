"""A search as it was asked for: the root of the spec and its sections."""

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from tuner.spec.model import SpecModel
from tuner.spec.space import Scalar, Space

AUTO_MAX_EPOCHS = 81
LARGE_STAGE = 60
AUTO_AUDIT = 0.05
COSTS = ("parameters", "multiply_adds", "seconds")


class DataSpec(SpecModel):
    """Which images, and how many of the training split are set aside for validation."""

    name: Literal[
        "digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "svhn", "imagenet", "folder", "parquet", "idx"
    ] = Field(
        description="digits: 1,797 real 8x8 images that need no download. mnist, fashion_mnist, cifar10, cifar100, "
        "svhn: downloaded unless they are there. imagenet, folder: a folder a class. parquet: train.parquet and "
        "test.parquet, or folders of those names with several files. idx: MNIST's format."
    )
    path: str | None = Field(
        default=None,
        description="The data set's folder, or an address such as s3://bucket/folder for parquet; what is downloaded "
        "needs none.",
    )
    validation: float = Field(default=0.2, gt=0, lt=1, description="Share of the training split for validation.")
    fraction: float = Field(
        default=1.0, gt=0, le=1, description="Share of the training images to train on: start with little data."
    )
    labels: Literal["fine", "coarse"] = Field(
        default="fine", description="cifar100 alone: its 100 classes, or its 20 superclasses."
    )
    size: int | None = Field(
        default=None,
        ge=8,
        le=512,
        description="Images are scaled to this many pixels along their shorter side and their middle square is taken; "
        "needed where they differ in size.",
    )
    corrupt: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the images that may fail to decode; they are named and left out."
    )
    download: bool = Field(default=True, description="Whether what is missing is downloaded.")
    image_column: str | None = Field(default=None, description="Column of the images; found by itself if there is one.")
    label_column: str | None = Field(default=None, description="Column of the labels; found by itself if there is one.")


class Objective(SpecModel):
    """What is optimised; a trial counts with its best epoch so far."""

    metric: Literal["val_accuracy", "val_loss"] = Field(
        default="val_accuracy", description="Measured on the validation images after every epoch."
    )
    mode: Literal["max", "min"] = Field(
        default="max", description="Which way is better: max for val_accuracy, min for val_loss."
    )
    also: tuple[Literal["val_accuracy", "val_loss", "parameters", "multiply_adds", "seconds"], ...] = Field(
        default=(),
        description="What else counts, as it is at that epoch: the other of the two metrics, or what the network "
        "costs: its parameters, the multiply_adds for an image, the seconds of an epoch. The first metric alone says "
        "what is stopped, how the space is narrowed and what is best.",
    )

    def read_also(self, measured: Mapping[str, float]) -> tuple[float, ...]:
        """Return what else counts of what an epoch measured, a number a metric, larger being better.

        Costs are by their negative logarithm, for they vary by orders of magnitude; NaN for what was not measured.
        """
        return tuple(_turn(metric, measured.get(metric, math.nan)) for metric in self.also)


def _turn(metric: str, value: float) -> float:
    if metric in COSTS:
        return -math.log(value) if value > 0 else math.nan
    return value if metric == "val_accuracy" else -value


class Halving(SpecModel):
    """Asynchronous successive halving: at each rung, a rule stops what is poor."""

    rule: Literal["auto", "forecast", "promise", "rank", "median"] = Field(
        default="auto",
        description="promise: a trial goes on while nothing else promises a good deal more for an epoch, by a model of "
        "all trials; forecast: it must be among the best of its peers by what the model expects at the last epoch; "
        "rank: by its value so far it must be among the best; median: it must not be below the median; auto: promise "
        "with sampler gp, else rank.",
    )
    type: Literal["auto", "promotion", "stopping"] = Field(
        default="auto",
        description="stopping: what does not go on ends; promotion: it waits with its checkpoint, and may be gone on "
        "with later; auto: promotion with rule promise, else stopping.",
    )
    reduction: int = Field(
        default=3, ge=2, le=16, description="About the ratio of rungs; by rank, one in this many goes on."
    )
    min_epochs: int = Field(default=1, ge=1, description="The first rung: nobody is stopped earlier.")
    min_peers: int = Field(default=3, ge=1, description="Nobody is stopped before this many results at a rung.")
    peers: Literal["all", "architecture"] = Field(
        default="all",
        description="With whom rank and median compare a trial: all, or those of its architecture, so that families "
        "that start slowly are not judged by those that do not.",
    )
    axis: Literal["epochs", "seconds", "multiply_adds"] = Field(
        default="epochs",
        description="What training costs: rank compares values at equal cost, and promise is that of a unit of cost; "
        "median and forecast do not heed it.",
    )
    tolerance: Annotated[float, Field(ge=0)] | Literal["auto"] = Field(
        default=0.0,
        description="How far below the cut rank and median still let a trial go on, in units of the objective; auto: "
        "as far as curves that cross each other are apart.",
    )
    brackets: int = Field(
        default=1,
        ge=1,
        le=8,
        description="With more than one, some trials skip the first rung, some the first two, and so on; the better "
        "the values at a rung agree with those at the end, the more trials it judges.",
    )
    grow: bool = Field(
        default=False,
        description="The last rung is the second one at first, and grows towards max_epochs only while trials change "
        "places from rung to rung. Needs rule rank and type promotion, which auto takes then.",
    )
    audit: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = Field(
        default="auto",
        description="Share of the trials that are never stopped, to tell what stopping costs; "
        f"auto: {AUTO_AUDIT} in stages that may train as many epochs as {LARGE_STAGE} trials to the end do, 0 in "
        "smaller ones.",
    )


class Narrow(SpecModel):
    """How a stage's space is made from the one before."""

    keep: float = Field(
        default=0.2, gt=0, le=1, description="Share of the trials, the best, that define the new space."
    )
    margin: float = Field(default=0.1, ge=0, le=1, description="Added at each end, as a share of what is kept.")


class Stage(SpecModel):
    """One stage of a search."""

    name: str
    trials: int = Field(ge=1, le=1_000_000, description="Number of configurations.")
    max_epochs: int = Field(ge=1, le=100_000, description="The last rung: a trial that gets there is complete.")
    halving: Halving | None = Field(default=Halving(), description="How poor trials are stopped; none: they are not.")
    sampler: Literal["auto", "gp", "tpe", "nsga2", "cmaes", "qmc", "grid", "random"] = Field(
        default="auto",
        description="What suggests configurations. gp: a Gaussian process over all that was seen; tpe: a tree-"
        "structured Parzen estimator; nsga2: a genetic algorithm for several objectives; cmaes: an evolution strategy "
        "for ranges, which draws choices at random; qmc: a sequence that fills the space evenly; grid: all "
        "combinations, in any order, where no range is continuous; random; auto: gp, or tpe for several objectives. "
        "These two begin with the middle of the space where nothing better is known.",
    )
    fidelity: Literal["epochs", "data"] = Field(
        default="epochs",
        description="What a trial gets more of from rung to rung: epochs; or data too, for its first epoch trains on "
        "1/max_epochs of the training images, the second on twice as many, the last on all.",
    )
    narrow: Narrow | None = Field(
        default=None, description="Narrow the space of the stage before; none: the whole space."
    )


class StageAsWritten(Stage):
    """A stage as its file may have it: the length may be left open."""

    max_epochs: Annotated[int, Field(ge=1, le=100_000)] | Literal["auto"] = Field(  # type: ignore[assignment]
        description=f"The last rung: a trial that gets there is complete. auto: as many as it takes until the order of "
        f"the trials stays the same, at most {AUTO_MAX_EPOCHS}; the same as {AUTO_MAX_EPOCHS} with halving: "
        "{grow: true}."
    )


class Resources(SpecModel):
    """What one trial gets, and how many run at once."""

    cpus: int = Field(default=1, ge=1, description="CPU cores of a trial, or of each of its workers; a thread each.")
    gpus: Annotated[float, Field(ge=0)] | Literal["auto"] = Field(
        default="auto", description="GPUs a trial, or a share of one; auto: one if there is any."
    )
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto",
        description="Processes that train one trial together, each with its share of every batch, its CPUs and a GPU "
        "if there are any; auto: one for each whole GPU of a trial.",
    )
    trials_at_once: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto", description="Trials that run at the same time; auto: as many as fit."
    )


class Limits(SpecModel):
    """When a search ends although trials are left."""

    time_s: float | None = Field(default=None, gt=0, description="Seconds of search, over all its sittings.")
    trials: int | None = Field(default=None, ge=1, description="Trials that begin, over all stages.")
    epochs: int | None = Field(default=None, ge=1, description="Epochs that are trained, over all trials and stages.")
    gpu_hours: float | None = Field(
        default=None, gt=0, description="Hours of training times the GPUs that a trial holds, over all trials."
    )
    target: float | None = Field(
        default=None, gt=0, description="A value of the objective: enough is found once a trial reaches it."
    )
    no_improvement: int | None = Field(
        default=None,
        ge=1,
        description="Trials of a stage that end one after the other, none of them better than all that ended before.",
    )
    failures: int | None = Field(
        default=None,
        ge=0,
        description="Trials that may fail, over all stages; with one more the search ends as failed, and says what "
        "they have in common. Those that were tried again do not count.",
    )


class Tracking(SpecModel):
    """Where people look at the results."""

    mlflow: str = Field(
        default="auto",
        description="auto: MLFLOW_TRACKING_URI or sqlite:///mlflow.db; off; or a tracking server's address.",
    )
    wandb: str = Field(
        default="off",
        min_length=1,
        description="The project in Weights & Biases that gets a run a trial too, or off. Key, entity and mode come "
        "from W&B's own variables of the environment, such as WANDB_API_KEY and WANDB_MODE.",
    )


class TensorBoard(SpecModel):
    """What is written for TensorBoard, in the search's folder; tuner ui NAME --tensorboard shows it."""

    scalars: bool = Field(
        default=True, description="What every epoch measured, and for the page HParams what each trial had and reached."
    )
    histograms: bool = Field(default=False, description="Of each tensor of weights, and of its gradient, every epoch.")
    graph: bool = Field(default=False, description="The network, a step a node; not of hog_svm.")
    filters: bool = Field(default=False, description="The first layer's filters as an image, every epoch.")
    embedding: bool = Field(
        default=False,
        description="Up to 1,000 validation images as the last layer but one sees them at the best epoch, for the page "
        "Projector; not where several workers train a trial.",
    )


class Notify(SpecModel):
    """Who is told of what happens in a search."""

    command: tuple[str, ...] = Field(
        default=(),
        description="A program and its arguments, started without a shell where the search runs; it gets what happened "
        "as JSON on its standard input.",
    )
    webhook: str | None = Field(
        default=None,
        description="An http or https address that gets the same JSON by POST. What is secret in it stands as $NAME, "
        "a variable of the environment, for this file is copied with the results.",
    )
    events: tuple[Literal["end", "failure", "best"], ...] = Field(
        default=("end", "failure"),
        description="end: the search ends, however it does; failure: a trial fails; best: a trial is better than all "
        "before. Of failure and best, the latest once a minute at most.",
    )


class FinishedSearch(SpecModel):
    """A space that comes from a search that was run before: ``space: {from: NAME}``."""

    name: str = Field(min_length=1)


class SearchSpec(SpecModel):
    """One search, checked."""

    name: str = Field(description="The search's name, its folder's and its MLflow experiment's.")
    data: DataSpec = Field(description="The images to train on.")
    objective: Objective = Field(default=Objective(), description="What is optimised.")
    space: Space | FinishedSearch = Field(description="The hyperparameters, and what each is drawn from.")
    stages: tuple[Stage, ...] = Field(min_length=1, description="One search after the other, coarse to fine.")
    resources: Resources = Field(default=Resources(), description="What one trial gets, and how many run at once.")
    limits: Limits = Field(default=Limits(), description="When the search ends although trials are left.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="The same seed gives the same trials.")
    tracking: Tracking = Field(default=Tracking(), description="Where people look at the results.")
    tensorboard: TensorBoard = Field(default=TensorBoard(), description="What is written for TensorBoard.")
    notify: Notify | None = Field(default=None, description="Who is told of what happens in the search.")
    storage: str = Field(
        default="auto",
        description="Where the ledger is. auto: the PostgreSQL database that TUNER_STORAGE names, or a file in the "
        "search's folder; or that database's address, without a password.",
    )
    first: tuple[dict[str, Scalar], ...] = Field(
        default=(),
        description="Configurations that the first stage trains first, nested as the space is; what one leaves out is "
        "filled in.",
    )
    warm_start: tuple[str, ...] = Field(
        default=(),
        description="Names of earlier searches that the first stage learns from, on other data too: their best "
        "configurations are tried first, and their trials that lie in the space are observations of the model.",
    )


class TrainingSpec(SpecModel):
    """One configuration to train, checked: what ``tuner train`` runs."""

    name: str = Field(description="The training's name, its folder's and its MLflow experiment's.")
    data: DataSpec = Field(description="The images to train on.")
    objective: Objective = Field(default=Objective(), description="What tells the best epoch.")
    config: dict[str, Scalar] = Field(description="The hyperparameters, all constants: one point of a space.")
    epochs: int = Field(ge=1, le=100_000, description="Passes over the training images.")
    fidelity: Literal["epochs", "data"] = Field(
        default="epochs", description="data: the first epoch trains on 1/epochs of the training images, and so on."
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="The same seed gives the same weights.")
    origin: str | None = Field(default=None, description="The trial and the search that the configuration comes from.")
