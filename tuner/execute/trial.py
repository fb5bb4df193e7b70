"""One trial on its worker: a class Trainable around a generator of epochs."""

import dataclasses
import gc
import time
import traceback
from typing import Any

from ray import tune

from tuner.execute.task import LAST, MODEL, Epochs, TrialTask


def train_trial(task: TrialTask | None) -> Epochs:
    """Train one trial, or go on with it, and yield what each epoch measured that the ledger has not got.

    Parameters
    ----------
    task : TrialTask or None
        The trial; None only loads what every trial needs.
    """
    # torch takes seconds to import and 400 MB to hold, which only workers should pay
    from tuner.train.run import run_training, use_threads

    if task is None:
        return
    use_threads(task.cpus)
    task.folder.mkdir(parents=True, exist_ok=True)
    results = run_training(
        task.config,
        task.data,
        task.objective,
        max_epochs=task.max_epochs,
        seed=task.seed,
        cache=task.cache,
        device="cuda" if task.gpu else "cpu",
        checkpoint=task.folder / LAST,
        model=task.folder / MODEL,
    )
    for result, _ in results:
        if result.epoch > task.epochs_recorded:
            yield {**dataclasses.asdict(result), "timestamp": time.time()}


class TrialActor(tune.Trainable):
    """A worker's process: trains one trial after the other.

    Its config holds ``train``, the function that yields epochs, and ``task``, the trial; a task of None only warms the
    process up. A step is an epoch. An error of the training is a result like any other, so that the process stays
    good for the next trial.
    """

    _epochs: Epochs

    def setup(self, config: dict[str, Any]) -> None:
        """Begin the first trial."""
        self._epochs = config["train"](config["task"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Free the last trial and begin another."""
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch."""
        try:
            return {"measured": tuple(next(self._epochs).items())}  # Tune would flatten a dict
        except StopIteration:
            return {"measured": None}
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}

    def cleanup(self) -> None:
        """Free what the trial holds: its network, and the generator that refers to it."""
        self._epochs = iter(())
        gc.collect()
