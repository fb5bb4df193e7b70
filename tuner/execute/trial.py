"""One trial on its worker: a class Trainable around a generator of epochs."""

import dataclasses
import gc
import socket
import sys
import time
import traceback
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ray import tune

from tuner.errors import LostWorkerError
from tuner.execute.checkpoints import reached
from tuner.execute.task import LAST, MODEL, Epochs, TrainFunction, TrialTask

if TYPE_CHECKING:
    from tuner.execute.insight_writer import InsightWriter
    from tuner.train.workers import Workers


def train_trial(task: TrialTask | None) -> Epochs:
    """Train one trial, or go on with it, and yield what each epoch measured that the ledger has not got.

    Parameters
    ----------
    task : TrialTask or None
        The trial; None only loads what every trial needs.
    """
    if task is not None and task.workers > 1:
        from tuner.execute.distributed import train_together

        yield from train_together(task)
        return
    # torch takes seconds to import and 400 MB to hold, which only workers should pay
    from tuner.train.run import use_threads

    if task is not None:
        use_threads(task.cpus)
        yield from train_alone(task)


def train_alone(task: TrialTask, workers: "Workers | None" = None) -> Generator[Mapping[str, Any], None, None]:
    """Train one trial in this process, or this process's share of it, and yield what the ledger has not got."""
    from tuner.train.run import run_training
    from tuner.train.usage import UsageMeter

    device = "cuda" if task.gpu else "cpu"
    meter = UsageMeter(device)
    with reached(task, writes=workers is None or workers.rank == 0) as (folder, send):
        results = run_training(
            task.config,
            task.data,
            task.objective,
            max_epochs=task.max_epochs,
            seed=task.seed,
            cache=task.cache,
            device=device,
            checkpoint=folder / LAST,
            model=folder / MODEL,
            is_growing=task.is_growing,
            is_whole=task.is_whole,
            workers=workers,
        )
        insight = open_insight(task, workers)
        for progress in results:
            result, _, is_new, trainer = progress
            send()
            if insight is not None and is_new:
                insight.write(progress)
            if result.epoch > task.epochs_recorded:
                measured = {name: value for name, value in dataclasses.asdict(result).items() if value is not None}
                measured |= meter.read() if is_new else {}
                if result.epoch == task.epochs_recorded + 1:
                    execution = {
                        **dataclasses.asdict(trainer.acceleration),
                        "workers": task.workers,
                        "host": socket.gethostname(),
                    }
                    measured["execution"] = execution
                yield {**measured, "timestamp": time.time()}


def open_insight(task: TrialTask, workers: "Workers | None") -> "InsightWriter | None":
    """Open what a trial is to write for TensorBoard beside its scalars; None for nothing, as by default."""
    wanted = task.tensorboard
    if wanted is None or task.insight is None or (workers is not None and workers.rank > 0):
        return None
    if not (wanted.histograms or wanted.graph or wanted.filters or wanted.embedding):
        return None
    from tuner.execute.insight_writer import InsightWriter

    return InsightWriter(wanted, task.insight, can_embed=workers is None or workers.is_alone)


class TrialActor(tune.Trainable):
    """A worker's process: trains one trial after the other.

    Its config holds ``task``, the trial; a task of None only warms the process up. A step is an epoch. An error of the
    training is a result like any other, so that the process stays good for the next trial.
    """

    _train: TrainFunction
    _epochs: Epochs
    _is_warm_up: bool

    def setup(self, config: dict[str, Any], train: TrainFunction = train_trial) -> None:
        """Begin the first trial; ``train`` yields the epochs of all."""
        self._train = train
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._begin(config["task"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Free the last trial and begin another."""
        self.cleanup()
        self._begin(new_config["task"])
        return True

    def _begin(self, task: TrialTask | None) -> None:
        self._is_warm_up = task is None
        self._epochs = self._train(task)
        # its first epoch is wanted for certain, and need not wait until it is asked for
        self._ahead: Future[Mapping[str, float]] | None = self._thread.submit(next, self._epochs)

    def step(self) -> dict[str, Any]:
        """Train one epoch."""
        epoch, self._ahead = self._ahead or self._thread.submit(next, self._epochs), None
        try:
            return {"measured": tuple(epoch.result().items())}  # Tune would flatten a dict
        except StopIteration:
            if self._is_warm_up:
                gc.collect()
                gc.freeze()  # what every trial needs stays: to look through it after each trial takes 50 ms
            return {"measured": None}
        except Exception as error:
            is_process_lost = is_devices_fault(error) or isinstance(error, LostWorkerError)
            if is_process_lost or (self._is_warm_up and is_machines_fault(error)):
                raise  # for Tune to start it again in a new process, on any machine, as often as if it had died
            failed = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
            return {**failed, "host": socket.gethostname(), "is_machines_fault": is_machines_fault(error)}

    def cleanup(self) -> None:
        """Free what the trial holds: its network, and the generator that refers to it."""
        self._epochs, self._ahead = iter(()), None
        gc.collect()
        if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # what a trial that failed for want of memory held is the next one's


def is_machines_fault(error: BaseException) -> bool:
    """Tell whether a training failed for its machine, such as by a full disk."""
    return any(isinstance(cause, OSError) for cause in _list_causes(error))


def is_devices_fault(error: BaseException) -> bool:
    """Tell whether a training failed since its device is no good in this process."""
    return any(isinstance(cause, RuntimeError) and "CUDA error" in str(cause) for cause in _list_causes(error))


def _list_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
