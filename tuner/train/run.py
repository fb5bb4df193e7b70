"""One configuration trained from beginning to end, or from where it was left."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import torch

from tuner.spec.hyperparameters import build_hyperparameters
from tuner.spec.search import DataSpec, Objective
from tuner.spec.space import Config
from tuner.train.checkpoint import save_model
from tuner.train.data import load_splits
from tuner.train.loop import EpochResult, Trainer


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
) -> Iterator[tuple[EpochResult, bool]]:
    """Train one configuration and yield each epoch's result, and whether it is the best so far.

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
        What the weights, the order of images and the dropout are drawn from.
    cache : Path
        The folder of decoded images.
    device : str
        A device of torch.
    checkpoint : Path or None
        Where the training's state is kept, after every epoch.
    model : Path or None
        Where the best epoch's model is kept.
    """
    trainer = Trainer(
        build_hyperparameters(config),
        load_splits(data, cache),
        max_epochs=max_epochs,
        seed=seed,
        device=device,
    )
    if checkpoint is not None and checkpoint.exists():
        trainer.restore(checkpoint)
    sign = 1.0 if objective.mode == "max" else -1.0
    best = -math.inf
    known = len(trainer.history)
    for result in itertools.chain(tuple(trainer.history), trainer.epochs()):
        value = sign * getattr(result, objective.metric)
        is_best = value > best  # never so for NaN
        best = value if is_best else best
        if result.epoch > known and checkpoint is not None:
            trainer.save(checkpoint)
        if is_best and model is not None and result.epoch == trainer.epoch:
            save_model(trainer.classifier, trainer.description, model)
        yield result, is_best


def use_threads(number: int) -> None:
    """Let torch use this many threads in this process; two per core is far slower than one."""
    torch.set_num_threads(number)
