"""From a spec to a finished search: the paragraph to read first is ``run_search``."""

import contextlib
import dataclasses
import datetime
import fcntl
import os
import shutil
import signal
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune.search import ConcurrencyLimiter

from tuner.errors import ClusterError, InputError, LedgerError, SearchNotFoundError
from tuner.execute.adapters import Lanes, LaneScheduler, LaneSearcher, LaneStopper, silence
from tuner.execute.cluster import connected
from tuner.execute.placement import Placement, place
from tuner.execute.search_run import SearchRun
from tuner.execute.stage_run import Before, view_records
from tuner.execute.task import TrainFunction
from tuner.execute.trial import TrialActor, train_trial
from tuner.spec import load_text
from tuner.spec.search import FinishedSearch, SearchSpec
from tuner.track.ledger import Ledger
from tuner.track.mirror_process import MirrorProcess
from tuner.train.data import prepare

WORKER_RETRIES = 3  # a trial whose worker dies goes on elsewhere this often
_MAY_CHANGE = {"resources", "limits", "tracking"}  # between two sittings of one search


class Watcher(Protocol):
    """Whoever watches a search."""

    def begin(self, run: SearchRun) -> None:
        """See the search before its first trial; ``run.status()`` may be asked for at any time from now on."""

    def say(self, line: str) -> None:
        """Hear what is worth telling."""

    def end(self) -> None:
        """See that no more trials run."""


@dataclass(frozen=True)
class Surroundings:
    """What a search takes from the machine and the command line, read there and nowhere else.

    Attributes
    ----------
    results : Path
        Where the folders of searches are.
    cache : Path
        Where decoded images are kept.
    tracking_uri : str or None
        MLflow's store or server; None for none.
    ray_address : str or None
        An existing cluster; None starts Ray here.
    provenance : mapping
        Versions, commit and the like, recorded with every stage.
    """

    results: Path
    cache: Path
    tracking_uri: str | None = None
    ray_address: str | None = None
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def run_search(spec: SearchSpec, around: Surroundings, watcher: Watcher, *, train: TrainFunction = train_trial) -> str:
    """Run a search, or go on with it where it was.

    Parameters
    ----------
    spec : SearchSpec
        What was asked.
    around : Surroundings
        Where, and with what.
    watcher : Watcher
        Sees what happens.
    train : function
        Trains one trial.

    Returns
    -------
    str
        Why it ended: ``complete``, ``interrupted`` or the limit that was reached.

    Raises
    ------
    InputError
        If the search cannot be run as asked.
    RunError
        If it was begun and failed.
    """
    folder = around.results / spec.name
    with claimed(folder):
        ledger = Ledger.open(folder, create=True)
        refuse_another_spec(spec, ledger)
        if is_complete(spec, ledger):
            return "complete"
        before = read_before(spec, around.results)
        prepare(spec.data, around.cache)
        with connected(around.ray_address) as nodes, mirrored(folder, around, watcher) as notice:
            placement = place(spec.resources, nodes)
            provenance = {**around.provenance, "search_id": search_id(ledger)}
            run = SearchRun(spec, ledger, folder, around.cache, placement, before, provenance, watcher.say, notice)
            watcher.begin(run)
            try:
                drive(run, placement, folder / "ray", train)
            finally:
                run.finish()
                watcher.end()
        return run.stop_reason or "complete"


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
    ClusterError
        If Ray Tune gave up.
    """
    silence()
    lanes = Lanes(run, placement.trials_at_once, train, time.monotonic)
    ray_tuner = tune.Tuner(
        tune.with_resources(TrialActor, {"cpu": placement.cpus, "gpu": placement.gpus}),
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
            failure_config=tune.FailureConfig(max_failures=WORKER_RETRIES),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            verbose=0,
        ),
    )
    with interruptible(run):
        ray_tuner.fit()
    shutil.rmtree(scratch, ignore_errors=True)
    if run.error is not None:
        raise run.error
    if not run.is_finished:
        raise ClusterError("Ray Tune ended before the search did; run the same command again to go on with it")


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a search's folder, making it if need be, so that no second process runs the same search.

    Raises
    ------
    InputError
        If the folder cannot be written.
    LedgerError
        If another process runs this search.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "driver.lock").open("a+")
    except OSError as error:
        raise InputError(
            f"{folder}: the search's folder cannot be written ({error.strerror}); choose another with --results"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise LedgerError(
                f"{folder}: this search is being run already, by process {lock.read().strip() or 'unknown'}; "
                "wait for it or stop it, or give this one another name with --set name=NAME"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def put_aside(folder: Path) -> Path | None:
    """Rename an earlier search's folder, so that its name is free, and return the new place; None if there was none."""
    if not folder.exists():
        return None
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    return folder.rename(folder.with_name(f"{folder.name}.before-{stamp}"))


@contextlib.contextmanager
def mirrored(folder: Path, around: Surroundings, watcher: Watcher) -> Iterator[Any]:
    """Keep MLflow like the ledger for as long as the block lasts; yields what to call when something was recorded."""
    if around.tracking_uri is None:
        yield lambda: None
        return
    mirror = MirrorProcess(folder, around.tracking_uri, watcher.say)
    try:
        yield mirror.notice
    finally:
        if not mirror.close():
            watcher.say(
                f"MLflow at {around.tracking_uri} has not got everything; all of it is in {folder}. "
                f"When MLflow is there: tuner sync {folder.name}"
            )


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


def refuse_another_spec(spec: SearchSpec, ledger: Ledger) -> None:
    """Check that a search that is gone on with is the one that was begun.

    Raises
    ------
    InputError
        If anything differs but what may change between two sittings.
    """
    stages = ledger.stages()
    if not stages:
        return
    begun = load_text(stages[0].attributes["asked"], "the ledger")
    changed = [
        name
        for name in type(spec).model_fields
        if name not in _MAY_CHANGE and getattr(spec, name) != getattr(begun, name)
    ]
    if changed:
        raise InputError(
            f"a search {spec.name!r} was begun with another {', another '.join(changed)}; go on with the spec that "
            "it was begun with, give this one another name (--set name=NAME), or start over with --fresh, which puts "
            "the earlier one aside"
        )


def is_complete(spec: SearchSpec, ledger: Ledger) -> bool:
    """Tell whether every stage was run to its end."""
    ended = {stage.name: stage.attributes.get("ended") for stage in ledger.stages()}
    return all(ended.get(stage.name) == "complete" for stage in spec.stages)


def search_id(ledger: Ledger) -> str:
    """Return the id that tells this search from others of its name, making one for a new search."""
    stages = ledger.stages()
    return str(stages[0].attributes["search_id"]) if stages else uuid.uuid4().hex


def read_before(spec: SearchSpec, results: Path) -> Before | None:
    """Read the search that a space comes from, if it comes from one.

    Raises
    ------
    SearchNotFoundError
        If that search is not there, or none of its trials has ended.
    """
    if not isinstance(spec.space, FinishedSearch):
        return None
    stages = Ledger.open(results / spec.space.name).stages()
    records = stages[-1].trials() if stages else []
    if not any(record.state == "complete" for record in records):
        raise SearchNotFoundError(
            f"space.from: search {spec.space.name!r} has no complete trial in its last stage yet; finish it first"
        )
    return Before(stages[-1].space, view_records(records, maximize=stages[-1].maximize))
