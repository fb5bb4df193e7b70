"""Ray Tune driving a search in progress. Takes a second to import, which ``run_search`` does while Ray starts."""

import contextlib
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ray import tune
from ray.exceptions import RayError
from ray.tune.search import ConcurrencyLimiter

from tuner.errors import GaveUpError
from tuner.execute.adapters import (
    RETRIES,
    Lanes,
    LaneScheduler,
    LaneSearcher,
    LaneStopper,
    silence,
    withhold_credentials,
)
from tuner.execute.placement import Placement
from tuner.execute.search_run import SearchRun
from tuner.execute.task import TrainFunction
from tuner.execute.trial import TrialActor, train_trial

__all__ = ["SearchRun", "drive", "train_trial"]


def drive(run: SearchRun, placement: Placement, scratch: Path, train: TrainFunction) -> None:
    """Let Ray Tune run the trials of a search until it is over or told to stop.

    Parameters
    ----------
    run : SearchRun
        The search.
    placement : Placement
        What a trial gets.
    scratch : Path
        A folder for Tune's own files; nothing in it is needed again.
    train : function
        Trains one trial.

    Raises
    ------
    TunerError
        What the search ended with, if it ended with an error.
    GaveUpError
        If Ray Tune gave up.
    """
    silence()
    withhold_credentials()
    lanes = Lanes(run, placement.trials_at_once, time.monotonic)
    needs: dict[str, float] = {"cpu": placement.cpus, "gpu": placement.gpus}
    if placement.workers > 1:
        # Ray Train places them and counts what they take; the trial only listens, and Tune wants it to take something
        needs = {"cpu": 0, "memory": 1}
    ray_tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(TrialActor, train=train), needs),
        tune_config=tune.TuneConfig(
            search_alg=ConcurrencyLimiter(LaneSearcher(lanes), max_concurrent=placement.trials_at_once),
            scheduler=LaneScheduler(lanes),
            num_samples=-1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch.absolute()),
            stop=LaneStopper(lanes),
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            verbose=0,
        ),
    )
    with interruptible(run):
        try:
            ray_tuner.fit()
        except (RayError, tune.TuneError) as error:
            if not run.stop_reason:  # otherwise it ends as it was told to, with what Ray Tune has no more part in
                run.error = run.error or GaveUpError(f"Ray Tune gave up: {error}; all is recorded: run the same again")
    shutil.rmtree(scratch, ignore_errors=True)
    if run.error is not None:
        raise run.error
    if not run.is_finished:
        raise GaveUpError("Ray Tune ended before the search did; run the same command again to go on with it")


@contextlib.contextmanager
def interruptible(run: SearchRun) -> Iterator[None]:
    """Let ctrl-C, and a request to terminate, end the search cleanly; a second ctrl-C ends it at once."""

    def interrupt(number: int, frame: Any) -> None:
        run.interrupt()
        signal.signal(number, earlier[number])

    earlier: dict[int, Any] = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
