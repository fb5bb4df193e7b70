"""One trial trained by several workers together, through Ray Train."""

import asyncio
import contextlib
import re
import shutil
from collections.abc import Mapping
from threading import Thread
from typing import Any

import ray
import torch
from ray.train import RunConfig, ScalingConfig, get_context
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from tuner.errors import LostWorkerError, RunError
from tuner.execute.remote import Remote
from tuner.execute.task import Epochs, TrialTask
from tuner.execute.trial import train_alone
from tuner.train.run import use_threads
from tuner.train.workers import Workers

SCRATCH = "together"  # in a trial's folder: Ray Train's own files; nothing in it is needed again
_UNREACHED = re.compile("Connection (closed|reset) by peer")  # as gloo says it
LISTEN_S = 1.0  # how often a trial that waits for an epoch looks whether its workers are still there


class Exchange:
    """Where the first worker leaves each epoch, and is told whether to go on: an actor of Ray's."""

    def __init__(self) -> None:
        self._epochs: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self._answers: asyncio.Queue[bool] = asyncio.Queue()

    async def offer(self, epoch: Mapping[str, Any]) -> bool:
        """Leave an epoch and wait until it is known whether the trial goes on."""
        await self._epochs.put(epoch)
        return await self._answers.get()

    async def take(self) -> Mapping[str, Any]:
        """Wait for the next epoch."""
        return await self._epochs.get()

    async def answer(self, goes_on: bool) -> None:
        """Say whether the trial goes on."""
        await self._answers.put(goes_on)


def train_together(task: TrialTask) -> Epochs:
    """Train one trial with several workers and yield what the ledger has not got.

    Parameters
    ----------
    task : TrialTask
        The trial; each of its ``workers`` gets its ``cpus`` and, if it has one, a GPU.

    Raises
    ------
    LostWorkerError
        If a worker dies.
    RunError
        If the workers fail.

    Notes
    -----
    An epoch is trained only after the one before has been asked about, so nothing is trained in vain. A trial that is
    stopped ends its workers.
    """
    exchange: Any = ray.remote(Exchange).options(num_cpus=0).remote()
    failures: list[BaseException] = []
    fitting = Thread(target=_fit, args=(task, exchange, failures), daemon=True)
    fitting.start()
    try:
        coming = exchange.take.remote()
        while fitting.is_alive():
            done, _ = ray.wait([coming], timeout=LISTEN_S)
            if done:
                yield ray.get(coming)
                exchange.answer.remote(True)
                coming = exchange.take.remote()
        if failures:
            problem = blame(failures[0], task.workers)
            raise problem
    finally:
        exchange.answer.remote(False)
        fitting.join()
        ray.kill(exchange)
        if task.store:
            scratch = Remote(task.store).under(SCRATCH)
            scratch.delete(*scratch.list())
        shutil.rmtree(task.folder / SCRATCH, ignore_errors=True)


def _find_scratch(task: TrialTask) -> dict[str, Any]:
    """Return where Ray Train keeps its own files, which every worker must reach."""
    if not task.store:
        return {"storage_path": str(task.folder)}
    remote = Remote(task.store)
    return {"storage_path": remote.root, "storage_filesystem": remote.system}


def _fit(task: TrialTask, exchange: Any, failures: list[BaseException]) -> None:
    """Let Ray Train start the workers, and wait for them."""
    gpus = {"GPU": 1} if task.gpu else {}
    try:
        TorchTrainer(
            _train_share,
            train_loop_config={"task": task, "exchange": exchange},
            scaling_config=ScalingConfig(
                num_workers=task.workers, use_gpu=task.gpu, resources_per_worker={"CPU": task.cpus, **gpus}
            ),
            run_config=RunConfig(name=SCRATCH, **_find_scratch(task)),
            torch_config=TorchConfig(backend="nccl" if task.gpu else "gloo"),
        ).fit()
    except BaseException as error:
        failures.append(error)


def _train_share(config: dict[str, Any]) -> None:
    """Be one of the workers."""
    task: TrialTask = config["task"]
    context = get_context()
    workers = Workers(context.get_world_rank(), context.get_world_size())
    use_threads(task.cpus)
    if task.gpu:  # workers of one node may see all its GPUs
        torch.cuda.set_device(get_device())
    with contextlib.closing(train_alone(task, workers)) as epochs:
        for epoch in epochs:
            answer = torch.tensor([float(workers.rank > 0 or ray.get(config["exchange"].offer.remote(epoch)))])
            answer = answer.cuda() if task.gpu else answer
            torch.distributed.broadcast(answer, src=0)
            if not answer.item():
                return


def blame(error: BaseException, num_workers: int) -> RunError:
    """Say what several workers failed of.

    Parameters
    ----------
    error : BaseException
        Ray Train's, which holds the workers' own.
    num_workers : int
        How many they are.

    Returns
    -------
    RunError
        Caused by a worker's own error, if one has any; otherwise a LostWorkerError: one of them died, and what the
        others have is that they no longer reach it.
    """
    failures: list[BaseException] = [*getattr(error, "worker_failures", {}).values()] or [error]
    own = next((one for one in failures if not _is_of_a_lost_worker(one)), None)
    if own is None:
        return LostWorkerError(f"{num_workers} workers together: one of them died: {_shorten(failures[-1])}")
    blamed = RunError(f"{num_workers} workers together: {_shorten(own)}")
    blamed.__cause__ = own
    return blamed


def _is_of_a_lost_worker(error: BaseException) -> bool:
    """Tell whether an error is Ray's or of the connection between workers, rather than of the training."""
    is_of_connection = isinstance(error, torch.distributed.DistError) or _UNREACHED.search(str(error)) is not None
    return type(error).__module__.startswith("ray.") or is_of_connection


def _shorten(error: BaseException) -> str:
    return " ".join(str(error).split())[:2000]
