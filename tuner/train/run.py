"""One configuration trained from beginning to end, or from where it was left."""

import functools
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from tuner.errors import InputError
from tuner.spec.hyperparameters import build_hyperparameters
from tuner.spec.search import DataSpec, Objective
from tuner.spec.space import Config
from tuner.train.data import ImageSplits, join_validation, load_splits
from tuner.train.loop import EpochResult, Trainer
from tuner.train.workers import Workers


class Progress(NamedTuple):
    """What is known after an epoch.

    Attributes
    ----------
    result : EpochResult
        What the epoch measured.
    is_best : bool
        Whether it is the best so far.
    is_new : bool
        Whether it was trained just now, and not read from a checkpoint.
    trainer : Trainer
        Who trained it, as it stands after its latest epoch.
    """

    result: EpochResult
    is_best: bool
    is_new: bool
    trainer: Trainer


def run_training(
    config: Config,
    data: DataSpec,
    objective: Objective,
    *,
    max_epochs: int,
    seed: int,
    cache: Path,
    device: str = "cpu",
    checkpoint: Path | None = None,
    model: Path | None = None,
    is_growing: bool = False,
    is_whole: bool = False,
    workers: Workers | None = None,
) -> Iterator[Progress]:
    """Train one configuration and yield what is known after each epoch.

    A checkpoint that is there already is gone on from. It is written before its epoch is yielded, so that
    whoever was killed in between gets every epoch again that it may not have heard of: all that the
    checkpoint knows are yielded first.

    Parameters
    ----------
    config : mapping
        A point of a space.
    data : DataSpec
        The images.
    objective : Objective
        What makes an epoch the best.
    max_epochs : int, at least 1
        How many epochs, and what the learning rate's decay is stretched over.
    seed : int
        What the weights, the order of images, augmentation and dropout are drawn from.
    cache : Path
        The folder of decoded images.
    device : str
        A device of torch.
    checkpoint : Path or None
        Where the training's state is kept, after every epoch.
    model : Path or None
        Where the best epoch's model is kept.
    is_growing : bool
        Whether epoch ``n`` trains on ``n / max_epochs`` of the training images rather than all.
    is_whole : bool
        Whether the validation images are trained on too; the model that is kept is then the latest epoch's, for no
        image is left to tell a better one.
    workers : Workers or None
        This process among those that train together; files are written by the first. None for one alone.
    """
    trainer = Trainer(
        build_hyperparameters(config),
        _load_splits(data, cache, is_whole=is_whole),
        max_epochs=max_epochs,
        seed=seed,
        device=device,
        is_growing=is_growing,
        workers=workers,
    )
    if checkpoint is not None and checkpoint.exists():
        trainer.restore(checkpoint)
    writes = workers is None or workers.rank == 0
    sign = 1.0 if objective.mode == "max" else -1.0
    best = -math.inf
    known = len(trainer.history)
    for result in itertools.chain(tuple(trainer.history), trainer.epochs()):
        value = sign * getattr(result, objective.metric)
        is_best = value > best  # never so for NaN
        best = value if is_best else best
        is_new = result.epoch > known
        if writes and checkpoint is not None and is_new:
            trainer.save(checkpoint)
        if writes and model is not None and (is_best or is_whole) and result.epoch == trainer.epoch:
            trainer.save_model(model)
        yield Progress(result, is_best, is_new, trainer)


@functools.lru_cache(maxsize=1)
def _load_splits(data: DataSpec, cache: Path, *, is_whole: bool) -> ImageSplits:
    """Load what the trial before had in this process too: the mean over all images alone takes 0.15 s."""
    splits = load_splits(data, cache)
    return join_validation(splits) if is_whole else splits


def use_threads(number: int) -> None:
    """Let torch use this many threads in this process; two per core is far slower than one."""
    torch.set_num_threads(number)


def require_device(name: str) -> None:
    """See that torch has a device here.

    Parameters
    ----------
    name : str
        What ``--device`` was given.

    Raises
    ------
    InputError
        If it has none of that name.
    """
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = [f"cuda:{number}" for number in range(num_gpus)]
    if name in {"cpu", *gpus, *(["cuda"] if gpus else [])}:
        return
    if gpus:
        raise InputError(f"--device: must be {', '.join(['cpu', 'cuda', *gpus])}; found {name!r}; name one of these")
    raise InputError(
        f"--device: must be cpu, for torch finds no GPU on this machine; found {name!r}; use cpu, or see with tuner "
        "doctor what keeps torch from a GPU that there is"
    )
