"""A search in progress: one stage after the other, within its limits. Everything but the training, and no Ray."""

import dataclasses
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.errors import ClusterError, InputError, LedgerError, RunError
from tuner.execute.failures import describe_failures, find_failed
from tuner.execute.notify import Event
from tuner.execute.placement import Placement
from tuner.execute.stage_run import GPU_SECONDS, StageRun
from tuner.execute.task import Manner, TrialTask
from tuner.spec import dump_spec, explain_misfit
from tuner.spec.search import SearchSpec, Stage
from tuner.spec.space import Space
from tuner.strategy.ends import Ends
from tuner.strategy.findings import describe_unfinished
from tuner.strategy.narrow import carry
from tuner.strategy.stage_search import derive_stage_seed, find_space
from tuner.strategy.trial_view import Before, TrialView
from tuner.strategy.warm_start import choose_trials, read_trials, write_trials
from tuner.track.ledger import TENSORBOARD, Ledger, StageLedger

KEEP_TIME_EVERY_S = 5.0  # what a search that is killed forgets of its time
TAKEN_OVER = "taken_over"  # the attribute of a first stage: trials of the search that its space comes from
HOPELESS = 3  # when the first trials all fail, the fault is not theirs


@dataclass(frozen=True)
class Status:
    """A search at one moment, for whoever watches.

    Attributes
    ----------
    stage, stage_number, num_stages : str, int, int
        Which stage runs, counted from 1.
    trials : int
        How many trials the stage will have.
    counts : mapping from state to int
        Its trials so far.
    best : tuple of TrialView
        Its trials that have a result, best first.
    searched : tuple of str
        The names of what varies.
    epochs_done : int
        Epochs trained in this stage.
    elapsed_s : float
        Seconds of search, over all sittings.
    left_s : float or None
        A guess at the seconds that are left, None before there is anything to go by.
    """

    stage: str
    stage_number: int
    num_stages: int
    trials: int
    counts: Mapping[str, int]
    best: tuple[TrialView, ...]
    searched: tuple[str, ...]
    epochs_done: int
    elapsed_s: float
    left_s: float | None


class SearchRun:
    """Runs a search: what its ledger has is gone on from.

    Parameters
    ----------
    spec : SearchSpec
        What was asked.
    ledger : Ledger
        The record.
    folder, cache : Path
        The search's folder and the cache of decoded images.
    placement : Placement
        What each trial gets.
    before : Before or None
        The search that the space of a search that has not begun comes from, if it comes from one.
    provenance : mapping
        Versions, commit and the like, recorded with every stage.
    say : function
        Told, in one line, what is worth telling.
    notice : function
        Called when something was recorded.
    clock : function
        Seconds that only grow.
    sources : mapping from names to trials
        Other searches that a search that has not begun learns from.
    manner : Manner
        How its trials are trained and kept.
    tell : function of Event
        Told of failures and new bests.

    Attributes
    ----------
    error : Exception or None
        What the search ends with, once set.
    stop_reason : str
        Why it ends before all its trials are done; empty while it does not.
    """

    def __init__(
        self,
        spec: SearchSpec,
        ledger: Ledger,
        folder: Path,
        cache: Path,
        placement: Placement,
        before: Before | None,
        provenance: Mapping[str, Any],
        say: Callable[[str], None],
        notice: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        sources: Mapping[str, tuple[TrialView, ...]] | None = None,
        manner: Manner = Manner(),  # noqa: B008 it cannot change
        tell: Callable[[Event], None] = lambda _: None,
    ) -> None:
        self.spec = spec
        self.error: Exception | None = None
        self.stop_reason = ""
        self._ledger = ledger
        self._folder = folder
        self._cache = cache
        self._placement = placement
        self._provenance = provenance
        self._say = say
        self._notice = notice
        self._clock = clock
        self._sources = sources or {}
        self._manner = manner
        self._tell = tell
        self._lock = threading.RLock()  # whoever watches asks from another thread
        self._began: float | None = None  # with the first trial: waiting for machines is no search
        begun = [stage for own in spec.stages if (stage := ledger.stage(own.name)) is not None]
        sign = 1.0 if spec.objective.mode == "max" else -1.0
        values = [sign * trial.value for stage in begun for trial in stage.trials() if trial.best_epoch]
        self._best = max(values, default=-math.inf)
        self._elapsed_before: float = sum(stage.attributes.get("elapsed_s", 0.0) for stage in begun)
        self._stage_began = self._stage_elapsed_before = 0.0
        self._time_kept = clock()
        self._ends = Ends(spec.limits, sign=sign, clock=lambda: self.elapsed_s)
        self._index = -1
        self._run = self._open_next(before)
        self._last_status = self._read_status()

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to train."""
        return bool(self.stop_reason) or (self._run.search.is_over and self._index + 1 >= len(self.spec.stages))

    @property
    def should_stop(self) -> bool:
        """Whether running trials must end now: a limit, an error or the user."""
        try:
            if self._run.search.is_stuck:
                with self._lock:
                    self._run.end_waiting()
            reason = "" if self.stop_reason else self._ends.find_reason()
            if reason and not self.is_finished:
                self._stop_at_limit(reason)
        except LedgerError as error:  # Ray Tune asks, and would make a traceback of it
            self.error = self.error or error
        return bool(self.stop_reason) or self.error is not None

    @property
    def elapsed_s(self) -> float:
        """Seconds of search, over all sittings."""
        return self._elapsed_before + (0.0 if self._began is None else self._clock() - self._began)

    def has_task(self) -> bool:
        """Tell whether a trial can start now; not so while a stage waits for its last trials."""
        if self.should_stop or self.is_finished:
            return False
        return self._run.has_next or self._run.search.is_over

    def next_task(self) -> TrialTask | None:
        """Open the next trial and record it; None if none can start now."""
        with self._lock:
            if not self.has_task():
                return None
            self._began = self._clock() if self._began is None else self._began
            if self._run.search.is_over:
                self._keep_time()
                self._run = self._open_next(self._run.close("complete"))
            ask = self._run.next()
            if ask is None:  # the last interrupted trials turned out to have ended
                return self.next_task()
            stage = self._run.search.stage
            folder, store = self._run.find_checkpoints(ask.number)
            return TrialTask(
                stage=stage.name,
                number=ask.number,
                config=ask.config,
                seed=ask.seed,
                max_epochs=stage.max_epochs,
                objective=self.spec.objective,
                data=self.spec.data,
                folder=folder,
                cache=self._cache,
                store=store,
                cpus=self._placement.cpus,
                gpu=self._placement.gpus > 0,
                workers=self._placement.workers,
                is_growing=stage.fidelity == "data",
                is_whole=self._manner.is_whole,
                tensorboard=self.spec.tensorboard,
                insight=self._folder / TENSORBOARD / f"{stage.name}-{ask.number}",
                epochs_recorded=ask.epochs_recorded,
            )

    def report(self, task: TrialTask, measured: Mapping[str, Any] | None) -> bool:
        """Record an epoch and decide whether the trial goes on.

        Parameters
        ----------
        task : TrialTask
            The trial.
        measured : mapping or None
            What its next epoch measured; None if the training ended by itself.

        Returns
        -------
        bool
            Whether it goes on.
        """
        with self._lock:
            if measured is None:
                self._run.end(task.number, "failed", "the training ended by itself before its last epoch")
                return False
            if self._placement.held_gpus:
                measured = {**measured, GPU_SECONDS: self._placement.held_gpus * measured.get("seconds", 0.0)}
            goes_on = self._run.report(task.number, measured)
            self._see_best(task)
            if self._clock() - self._time_kept >= KEEP_TIME_EVERY_S:
                self._keep_time()
            self._notice()
            return goes_on and not self.should_stop

    def _see_best(self, task: TrialTask) -> None:
        """Tell of a trial that is better than all before, those of earlier stages included."""
        best = self._run.search.views[task.number].best
        if best > self._best:
            value = best if self.spec.objective.mode == "max" else -best
            self._best = best
            self._tell(Event("best", "", task.stage, task.number, value, task.config))

    def put_back(self, task: TrialTask, why: str = "") -> None:
        """Let a trial that has lost its worker, or whose machine failed it, be the next to start, where it was."""
        with self._lock:
            self._run.put_back(task.number)
            if why:
                self._say(f"{task.stage} {task.number}: {why}; it is tried again, elsewhere if there is another lane")

    def fail(self, task: TrialTask, reason: str, traceback: str, host: str = "") -> None:
        """Record that a trial failed; give up if no trial ever works, or more fail than may.

        Parameters
        ----------
        task : TrialTask
            The trial.
        reason, traceback : str
            The error in one line, and whole.
        host : str
            Where it happened, if that is known.
        """
        with self._lock:
            if host:
                self._run.record_host(task.number, host)
            self._run.end(task.number, "failed", f"failed: {reason}", traceback)
            self._notice()
            stages = [stage.trials() for stage in self._ledger.everything()]
            failed = [trial for trials in stages for trial in find_failed(trials)]
            sound = [trial for trials in stages for trial in trials if trial.state != "failed" and trial.epochs]
            self._tell(Event("failure", reason, task.stage, task.number, None, task.config, len(failed)))
            views, name, most = self._run.search.views.values(), self._run.search.stage.name, self.spec.limits.failures
            if sum(view.state == "failed" for view in views) >= HOPELESS and not any(view.values for view in views):
                what = f"the first {HOPELESS} trials of stage {name!r} all failed"
            elif most is not None and len(failed) > most:
                what = f"{len(failed)} trials failed, and limits.failures allows {most}"
            else:
                return
            self.error = RunError(
                f"{what}; {describe_failures(failed, sound)}\n{traceback}\n"
                f"All that was trained is kept. Mend this, then go on with: tuner resume {self.spec.name}, or try the "
                f"failed ones again with: tuner retry {self.spec.name} --failed"
            )

    def interrupt(self) -> None:
        """Leave the running trials as they are, for the next sitting to go on with."""
        self.stop_reason = self.stop_reason or "interrupted"

    def lose_cluster(self, what: str) -> None:
        """End the search since Ray is lost, and say so at once: Ray may end this process before it comes to its end."""
        text = f"{what}; all is recorded. To go on where it was: tuner resume {self.spec.name}"
        self._say(text)
        self.error = self.error or ClusterError(text)

    def finish(self) -> None:
        """Record the time, and close the last stage if it is over or a limit ended it."""
        with self._lock:
            self._keep_time()
            if self._run.search.is_over or (self.stop_reason and self.stop_reason != "interrupted"):
                self._run.close(self.stop_reason or "complete")

    def status(self) -> Status:
        """Return the search as it stands, or as it last stood: whoever draws must not wait for whoever decides."""
        if self._lock.acquire(blocking=False):
            try:
                self._last_status = self._read_status()
            finally:
                self._lock.release()
        return self._last_status

    def _read_status(self) -> Status:
        run = self._run
        views = list(run.search.views.values())
        return Status(
            stage=run.search.stage.name,
            stage_number=self._index + 1,
            num_stages=len(self.spec.stages),
            trials=run.search.stage.trials,
            counts=Counter(view.state for view in views),
            best=tuple(sorted((v for v in views if math.isfinite(v.best)), key=lambda view: -view.best)),
            searched=tuple(p.name for p in run.search.space.parameters if not p.is_constant),
            epochs_done=sum(len(view.values) for view in views),
            elapsed_s=self.elapsed_s,
            left_s=self._guess_left_s(views),
        )

    def _guess_left_s(self, views: list[TrialView]) -> float | None:
        """Guess: later trials train for as long as those so far, and an epoch takes as long in later stages."""
        ended = sum(view.state not in {"running", "paused"} for view in views)
        epochs = sum(len(view.values) for view in views)
        if ended < HOPELESS or epochs == 0:
            return None
        stage = self._run.search.stage
        left = self._stage_elapsed_s / ended * (stage.trials - ended)
        share_trained, epoch_s = epochs / (ended * stage.max_epochs), self._stage_elapsed_s / epochs
        left += sum(s.trials * s.max_epochs for s in self.spec.stages[self._index + 1 :]) * share_trained * epoch_s
        return min(left, self._ends.guess_left_s())

    @property
    def _stage_elapsed_s(self) -> float:
        return self._stage_elapsed_before + self.elapsed_s - self._stage_began

    def _keep_time(self) -> None:
        self._time_kept = self._clock()
        self._run.ledger.set(elapsed_s=self._stage_elapsed_s)

    def _stop_at_limit(self, reason: str) -> None:
        with self._lock:
            self.stop_reason = reason
            for view in list(self._run.search.views.values()):
                self._run.end(view.number, "stopped", reason)

    def _open_next(self, before: Before | None) -> StageRun:
        """Open the next stage that is not over: as the ledger has it, or new."""
        while True:
            self._index += 1
            stage = self.spec.stages[self._index]
            recorded = self._ledger.stage(stage.name)
            run = self._begin(stage, before) if recorded is None else self._resume(stage, recorded, before)
            following = self.spec.stages[self._index + 1 :]
            if not run.search.is_over or not following:
                return run
            has_begun = self._ledger.stage(following[0].name) is not None
            if not has_begun and self._ends.find_reason():
                return run  # a limit was reached between the two, and still is
            is_closed = run.ledger.attributes.get("ended") == "complete"
            before = run.follow() if is_closed else run.close("complete")

    def _begin(self, stage: Stage, before: Before | None) -> StageRun:
        whole = self.spec.space if isinstance(self.spec.space, Space) else None
        space, reasons = find_space(stage, whole, before)
        own = self.spec.model_copy(update={"space": space, "first": self.spec.first if self._index == 0 else ()})
        chosen: list[tuple[TrialView, ...]] = []
        if self._index == 0:
            self._check_first(space)
            chosen = [choose_trials(name, trials, space) for name, trials in self._sources.items()]
        taken_over: dict[str, Any] = {}
        if self._index == 0 and before is not None and stage.narrow is not None:
            # of the search that the space comes from, which may be gone or another when this one goes on
            before = dataclasses.replace(before, trials=carry(before.trials, space, ""))
            taken_over[TAKEN_OVER] = {"origin": before.origin, "trials": write_trials(before.trials)}
        ledger = self._ledger.begin_stage(
            stage.name,
            maximize=self.spec.objective.mode == "max",
            index=self._index,
            metric=self.spec.objective.metric,
            seed=self.spec.seed,
            spec=dump_spec(own),
            asked=dump_spec(self.spec),
            warm_start=[write_trials(trials) for trials in chosen],
            **taken_over,
            narrowing=[dataclasses.asdict(reason) for reason in reasons],
            **self._provenance,
        )
        self._say(f"stage {stage.name}: {stage.trials} trials of up to {stage.max_epochs} epochs")
        for reason in reasons:
            self._say(f"  {reason.name}: {reason.change}: {reason.text}")
        unfinished = "" if before is None else describe_unfinished(before.trials, before.kinds)
        if unfinished and self._index > 0 and stage.max_epochs <= self.spec.stages[self._index - 1].max_epochs:
            self._say(f"  max_epochs: {stage.max_epochs}, as asked, although {unfinished} at as many")
        run = self._open(stage, space, ledger, before)
        self._say(f"  {run.search.choices}")
        for (name, trials), taken in zip(self._sources.items() if chosen else (), chosen, strict=True):
            num_fitting = sum(space.contains(trial.config) for trial in trials)
            used = f"; {len(taken)} of them are learnt from" if taken else ", so nothing is learnt from it"
            self._say(f"  warm start: {num_fitting} of {len(trials)} trials of {name} lie in the space{used}")
        return run

    def _resume(self, stage: Stage, ledger: StageLedger, before: Before | None) -> StageRun:
        if (taken := ledger.attributes.get(TAKEN_OVER)) is not None:
            before = Before(ledger.space, read_trials(taken["trials"]), origin=taken["origin"])
        run = self._open(stage, ledger.space, ledger, before)
        if not run.search.is_over:
            # a limit may have ended it before; limits, resources and tracking may be others now
            ledger.set(ended=None, asked=dump_spec(self.spec))
            self._say(
                f"stage {stage.name}: going on after {len(run.search.views)} of {stage.trials} trials, "
                f"{run.search.num_running} of them interrupted"
            )
        return run

    def _open(self, stage: Stage, space: Space, ledger: StageLedger, before: Before | None) -> StageRun:
        self._stage_began, self._stage_elapsed_before = self.elapsed_s, ledger.attributes.get("elapsed_s", 0.0)
        return StageRun(
            stage,
            space,
            ledger,
            before,
            objective=self.spec.objective,
            seed=derive_stage_seed(self.spec.seed, self._index),
            ends=self._ends,
            folder=self._folder,
            say=self._say,
            first=self.spec.first if self._index == 0 else (),
            manner=self._manner,
        )

    def _check_first(self, space: Space) -> None:
        """Refuse to try what lies outside a space that was not known when the file was read.

        Raises
        ------
        InputError
            If anything does.
        """
        for i, config in enumerate(self.spec.first):
            for name, value in config.items():
                if (misfit := explain_misfit(space, name, value)) is not None:
                    raise InputError(f"try[{i}].{name}: {misfit}; the first stage has the finished search's space")
