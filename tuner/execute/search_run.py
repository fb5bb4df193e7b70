"""A search in progress: asks the strategy, tells the ledger. Everything but the training, and no Ray."""

import dataclasses
import math
import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuner.errors import RunError
from tuner.execute.cluster import Placement
from tuner.execute.trial import LAST, MODEL, TrialTask
from tuner.spec import dump_spec, load_text
from tuner.spec.search import SearchSpec, Stage
from tuner.spec.space import Config, Space
from tuner.strategy.halving import SuccessiveHalving
from tuner.strategy.narrow import Reason, carry, incumbents, narrow
from tuner.strategy.sampler import Sampler, build_sampler
from tuner.strategy.trial_view import TrialView
from tuner.track.artifacts import write_artifacts
from tuner.track.ledger import Ledger, StageLedger, TrialRecord

CHECKPOINTS_KEPT = 5  # the best few of a stage keep their weights
HOPELESS = 3  # when the first trials all fail, the fault is not theirs


@dataclass(frozen=True)
class Before:
    """What a stage follows on: an earlier stage of this search, or the last one of another."""

    space: Space
    trials: tuple[TrialView, ...]


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
        Its best trials, best first.
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


@dataclass
class _StageRun:
    """One stage while it runs."""

    stage: Stage
    space: Space
    ledger: StageLedger
    sampler: Sampler
    halving: SuccessiveHalving
    carried: tuple[TrialView, ...]
    views: dict[int, TrialView]
    interrupted: deque[TrialRecord]

    @property
    def num_running(self) -> int:
        return sum(view.state == "running" for view in self.views.values())

    @property
    def is_over(self) -> bool:
        return len(self.views) >= self.stage.trials and self.num_running == 0


class SearchRun:
    """Decides, stage after stage, what is trained next and what is stopped, and records both before anything else happens.

    Parameters
    ----------
    spec : SearchSpec
        What was asked.
    ledger : Ledger
        The record; what it holds already is gone on from.
    folder, cache : Path
        The search's folder and the cache of decoded images.
    placement : Placement
        What each trial gets.
    before : Before or None
        The search that the space comes from, if it comes from one.
    provenance : mapping
        Versions, commit and the like, recorded with every stage.
    say : function
        Told, in one line, what is worth telling.
    notice : function
        Called when something was recorded.
    clock : function
        Seconds that only grow.
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
    ) -> None:
        self.spec = spec
        self.ledger = ledger
        self.error: BaseException | None = None
        self.stop_reason = ""
        self._folder = folder
        self._cache = cache
        self._placement = placement
        self._provenance = provenance
        self._clock = clock
        self._say = say
        self._notice = notice
        self._lock = threading.RLock()
        self._sign = 1.0 if spec.objective.mode == "max" else -1.0
        self._began = clock()
        self._elapsed_before = sum(stage.attributes.get("elapsed_s", 0.0) for stage in ledger.stages())
        self._stage_began = self._began
        self._stage_elapsed_before = 0.0
        self._index = -1
        self._run = self._open_next(before)

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to train."""
        return bool(self.stop_reason) or (self._run.is_over and self._index + 1 >= len(self.spec.stages))

    @property
    def should_stop(self) -> bool:
        """Whether running trials must end now: a limit, an error or the user."""
        if not self.stop_reason and self.spec.limits.time_s is not None and self.elapsed_s >= self.spec.limits.time_s:
            self.stop_at_limit(f"the time limit of {self.spec.limits.time_s:g} s was reached")
        return bool(self.stop_reason) or self.error is not None

    @property
    def elapsed_s(self) -> float:
        """Seconds of search, over all sittings."""
        return self._elapsed_before + self._clock() - self._began

    @property
    def _stage_elapsed_s(self) -> float:
        return self._stage_elapsed_before + self._clock() - self._stage_began

    def has_task(self) -> bool:
        """Tell whether a trial can start now; not so while a stage waits for its last trials."""
        run = self._run
        if self.should_stop or self.is_finished:
            return False
        return bool(run.interrupted) or len(run.views) < run.stage.trials or run.is_over

    def next_task(self) -> TrialTask | None:
        """Open the next trial, an interrupted one first, and record it; None if none can start now."""
        with self._lock:
            if not self.has_task():
                return None
            if self._run.is_over:
                self._run = self._open_next(self._close_stage())
            run = self._run
            if run.interrupted:
                record = run.interrupted.popleft()
                if record.values and self._judge(record.number, len(record.values)):
                    return self.next_task()
                return self._task(record.number, record.config, record.seed, len(record.epochs))
            if len(run.views) >= run.stage.trials:
                return self.next_task()
            number = len(run.views)
            config = run.sampler.ask(number, (*run.carried, *run.views.values()))
            seed = int(np.random.SeedSequence((self.spec.seed, self._index, number)).generate_state(1)[0])
            recorded = run.ledger.start(run.space, config, seed)
            assert recorded == number, f"the ledger gave number {recorded} where {number} was due"
            run.views[number] = TrialView(number=number, config=config, values=(), state="running")
            return self._task(number, config, seed, 0)

    def report(self, task: TrialTask, measured: Mapping[str, float] | None) -> bool:
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
            run, view = self._run, self._run.views[task.number]
            if view.state != "running":
                return False
            if measured is None:
                self._end(task.number, "failed", f"the training ended by itself after {len(view.values)} epochs")
                return False
            epoch = int(measured["epoch"])
            if epoch == len(view.values) + 1:
                value = self._best_so_far(view, measured)
                run.ledger.record_epoch(task.number, epoch, measured, self._sign * value)
                view = dataclasses.replace(view, values=(*view.values, value))
                run.views[task.number] = view
                self._notice()
            return not self._judge(task.number, epoch)

    def _judge(self, number: int, epoch: int) -> bool:
        """Ask the halving about a trial's recorded epoch, and end the trial if it says so; return whether it ended."""
        decision = self._run.halving.report(number, epoch, self._run.views[number].values[epoch - 1])
        if decision.state is not None:
            self._end(number, decision.state, decision.reason)
        return decision.state is not None

    def fail(self, task: TrialTask, reason: str, error: str) -> None:
        """Record that a trial failed, with its traceback, and give up if no trial ever works."""
        with self._lock:
            if self._run.views[task.number].state != "running":
                return
            self._end(task.number, "failed", reason, error)
            views = list(self._run.views.values())
            if sum(v.state == "failed" for v in views) >= HOPELESS and not any(v.values for v in views):
                self.error = RunError(
                    f"the first {HOPELESS} trials of stage {self._run.stage.name!r} failed, the last with: {reason}\n{error}\n"
                    f"Mend this, then run the same command with --fresh"
                )

    def stop_at_limit(self, reason: str) -> None:
        """End every running trial where it is, and the search with them."""
        with self._lock:
            self.stop_reason = reason
            for view in list(self._run.views.values()):
                if view.state == "running":
                    self._end(view.number, "stopped", reason)
            self._close_stage()

    def interrupt(self) -> None:
        """Leave the running trials as they are, for the next sitting to go on with."""
        self.stop_reason = self.stop_reason or "interrupted"

    def finish(self) -> None:
        """Close the last stage."""
        with self._lock:
            self._keep_time()
            if self._run.is_over:
                self._close_stage()

    def status(self) -> Status:
        """Return the search as it stands."""
        with self._lock:
            run = self._run
            views = list(run.views.values())
            epochs = sum(len(view.values) for view in views)
            ended = [view for view in views if view.state != "running"]
            best = sorted((v for v in views if math.isfinite(v.best)), key=lambda view: -view.best)
            elapsed = self.elapsed_s
            return Status(
                stage=run.stage.name,
                stage_number=self._index + 1,
                num_stages=len(self.spec.stages),
                trials=run.stage.trials,
                counts=Counter(view.state for view in views),
                best=tuple(best),
                searched=tuple(p.name for p in run.space.parameters if not p.is_constant),
                epochs_done=epochs,
                elapsed_s=elapsed,
                left_s=self._guess_left_s(len(ended), epochs),
            )

    def _guess_left_s(self, ended: int, epochs: int) -> float | None:
        """Guess: later trials train for as long as those so far, and an epoch takes as long in later stages."""
        in_stage = self._stage_elapsed_s
        if ended < 3:
            return None
        left = in_stage / ended * (self._run.stage.trials - ended)
        per_epoch = in_stage / max(epochs, 1)
        share = epochs / (ended * self._run.stage.max_epochs)
        left += sum(s.trials * s.max_epochs * share * per_epoch for s in self.spec.stages[self._index + 1 :])
        limit = self.spec.limits.time_s
        return left if limit is None else min(left, max(limit - self.elapsed_s, 0.0))

    def _open_next(self, before: Before | None) -> _StageRun:
        """Open the next stage that is not over: as the ledger has it, or new."""
        while True:
            self._index += 1
            stage = self.spec.stages[self._index]
            ledger = self.ledger.stage(stage.name)
            run = self._begin(stage, before) if ledger is None else self._resume(stage, ledger, before)
            if not run.is_over or self._index + 1 >= len(self.spec.stages):
                return run
            before = Before(run.space, tuple(run.views.values()))

    def _begin(self, stage: Stage, before: Before | None) -> _StageRun:
        space, reasons = self._space_of(stage, before)
        ledger = self.ledger.begin_stage(
            stage.name,
            maximize=self._sign > 0,
            index=self._index,
            spec=dump_spec(self.spec.model_copy(update={"space": space})),
            asked=dump_spec(self.spec),
            metric=self.spec.objective.metric,
            seed=self.spec.seed,
            narrowing=[dataclasses.asdict(reason) for reason in reasons],
            **self._provenance,
        )
        self._stage_began, self._stage_elapsed_before = self._clock(), 0.0
        self._say(f"stage {stage.name}: {stage.trials} trials of up to {stage.max_epochs} epochs")
        for reason in reasons:
            self._say(f"  {reason.name}: {reason.text}")
        return self._stage_run(stage, space, ledger, before, [])

    def _resume(self, stage: Stage, ledger: StageLedger, before: Before | None) -> _StageRun:
        space = load_text(ledger.attributes["spec"], f"the ledger's stage {stage.name}").space
        assert isinstance(space, Space), "a stage is recorded with its own space"
        records = ledger.trials()
        self._stage_began, self._stage_elapsed_before = self._clock(), ledger.attributes.get("elapsed_s", 0.0)
        run = self._stage_run(stage, space, ledger, before, records)
        if not run.is_over:
            self._say(
                f"stage {stage.name}: going on after {len(records)} of {stage.trials} trials, "
                f"{len(run.interrupted)} of them interrupted"
            )
        return run

    def _stage_run(
        self, stage: Stage, space: Space, ledger: StageLedger, before: Before | None, records: Sequence[TrialRecord]
    ) -> _StageRun:
        views = {record.number: as_view(record, self._sign) for record in records}
        earlier = before.trials if before is not None and stage.narrow is not None else ()
        first = incumbents(earlier, space, min(3, stage.trials // 8)) if earlier else []
        halving = SuccessiveHalving(stage.halving, stage.max_epochs)
        halving.replay(views.values())
        return _StageRun(
            stage=stage,
            space=space,
            ledger=ledger,
            sampler=build_sampler(stage, space, seed=self._stage_seed(), first=first),
            halving=halving,
            carried=carry(earlier, space),
            views=views,
            interrupted=deque(record for record in records if record.state == "running"),
        )

    def _space_of(self, stage: Stage, before: Before | None) -> tuple[Space, tuple[Reason, ...]]:
        if before is not None and stage.narrow is not None:
            narrowing = narrow(before.space, before.trials, stage.narrow)
            return narrowing.space, narrowing.reasons
        if isinstance(self.spec.space, Space):
            return self.spec.space, ()
        assert before is not None, "a space that comes from a search has one before it"
        return before.space, ()

    def _stage_seed(self) -> int:
        return int(np.random.SeedSequence((self.spec.seed, self._index)).generate_state(1)[0])

    def _task(self, number: int, config: Config, seed: int, epochs_recorded: int) -> TrialTask:
        stage = self._run.stage
        return TrialTask(
            stage=stage.name,
            number=number,
            config=config,
            seed=seed,
            max_epochs=stage.max_epochs,
            objective=self.spec.objective,
            data=self.spec.data,
            folder=self._checkpoints(number),
            cache=self._cache,
            cpus=self._placement.cpus,
            gpu=self._placement.gpus > 0,
            epochs_recorded=epochs_recorded,
        )

    def _checkpoints(self, number: int) -> Path:
        return self._folder / "checkpoints" / f"{self._run.stage.name}-{number}"

    def _best_so_far(self, view: TrialView, measured: Mapping[str, float]) -> float:
        if not all(math.isfinite(measured[key]) for key in ("train_loss", "val_loss") if key in measured):
            return math.nan
        value = self._sign * measured[self.spec.objective.metric]
        return max(value, view.best)

    def _end(self, number: int, state: str, reason: str, error: str = "") -> None:
        run = self._run
        run.ledger.end(number, state, reason, error)
        run.views[number] = dataclasses.replace(run.views[number], state=state)
        self._keep_time()
        self._tidy(number)
        self._say(f"{run.stage.name} {number}: {reason}")

    def _keep_time(self) -> None:
        self._run.ledger.set(elapsed_s=self._stage_elapsed_s)

    def _tidy(self, number: int) -> None:
        """Keep the weights of the best few trials, and nobody's state of training but a running one's."""
        (self._checkpoints(number) / LAST).unlink(missing_ok=True)
        ended = sorted((v for v in self._run.views.values() if v.state != "running"), key=lambda view: -view.best)
        for view in ended[CHECKPOINTS_KEPT:]:
            shutil.rmtree(self._checkpoints(view.number), ignore_errors=True)

    def _close_stage(self) -> Before:
        run = self._run
        write_artifacts(self._folder, run.ledger, MODEL)
        run.ledger.set(ended=self.stop_reason or "complete")
        return Before(run.space, tuple(run.views.values()))


def as_view(record: TrialRecord, sign: float) -> TrialView:
    """Show a recorded trial to the strategy; ``sign`` is 1 where a larger objective is better and -1 where a smaller is."""
    return TrialView(
        number=record.number,
        config=record.config,
        values=tuple(sign * value for value in record.values),
        state=record.state,
    )
