"""What a worker is told: one trial, whole."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tuner.spec.search import DataSpec, Objective, TensorBoard
from tuner.spec.space import Config

LAST = "last.pt"  # in a trial's folder: the state of training after its latest epoch
MODEL = "model.pt"  # and the model of its best epoch


@dataclass(frozen=True)
class Manner:
    """How trials are trained and kept; by default as in a search.

    Attributes
    ----------
    repeats : int, at least 1
        How often each configuration that is given is trained, one round of all after the other.
    models_kept : int
        Of how many trials, the best ones, the weights are kept.
    is_whole : bool
        Whether the validation images are trained on too.
    """

    repeats: int = 1
    models_kept: int = 5
    is_whole: bool = False


@dataclass(frozen=True)
class TrialTask:
    """Everything that a worker must know to train one trial, or to go on with it.

    Attributes
    ----------
    stage, number : str, int
        Which trial of the search it is.
    config : mapping
        The point of the space.
    seed : int
        What the weights, the order of images and the dropout are drawn from.
    max_epochs : int
        The length that the learning rate's decay is made for.
    objective : Objective
        Which epoch is the best.
    data : DataSpec
        The images.
    folder : Path
        Where the trial's checkpoints are, on storage that every node reaches, unless they are in ``store``.
    store : str
        The address of the object store's folder that they are in; empty for none.
    cache : Path
        Where a node keeps decoded images.
    cpus : int
        Threads to train with.
    gpu : bool
        Whether a GPU is given, to each worker if there are several.
    workers : int
        How many processes train it together, each with ``cpus``.
    is_growing : bool
        Whether its epochs train on more and more of the images.
    is_whole : bool
        Whether it trains on the validation images too.
    tensorboard : TensorBoard or None
        What the worker writes for TensorBoard; None for nothing.
    insight : Path or None
        Where it writes that.
    epochs_recorded : int
        How many epochs the ledger has already; a resumed trial reports only later ones.
    """

    stage: str
    number: int
    config: Config
    seed: int
    max_epochs: int
    objective: Objective
    data: DataSpec
    folder: Path
    cache: Path
    store: str = ""
    cpus: int = 1
    gpu: bool = False
    workers: int = 1
    is_growing: bool = False
    is_whole: bool = False
    tensorboard: TensorBoard | None = None
    insight: Path | None = None
    epochs_recorded: int = 0

    def __deepcopy__(self, memo: object) -> "TrialTask":
        """Return itself: it cannot change, and Tune copies a trial's config five times."""
        return self


# what an epoch measured by name; the first that is reported has, as ``execution``, how its device was used
Epochs: TypeAlias = Iterator[Mapping[str, Any]]
TrainFunction: TypeAlias = Callable[[TrialTask | None], Epochs]
