"""One stage in progress: asks the strategy what to train and what to stop, and records both first."""

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuner.errors import LedgerError
from tuner.execute.checkpoints import Checkpoints
from tuner.execute.remote import publish
from tuner.execute.task import LAST, Manner
from tuner.execute.views import read_cost, read_kinds, view_record
from tuner.spec.search import Objective, Stage
from tuner.spec.space import Config, Space
from tuner.strategy.audit import audit_stage
from tuner.strategy.diagnose import Diagnosis, Guess, diagnose, summarise_advice
from tuner.strategy.ends import Ends
from tuner.strategy.halving import Decision
from tuner.strategy.stage_search import StageSearch
from tuner.strategy.trial_view import Before, State
from tuner.strategy.warm_start import read_trials
from tuner.track.artifacts import write_artifacts
from tuner.track.ledger import End, StageLedger, TrialRecord

RETRIED = "retried"  # of a stage: the failed trials that are to be tried again, or were
AUDITED = "audited_share"  # of a stage: the share of its trials that are never stopped, as it began
GPU_SECONDS = "gpu_seconds"  # of an epoch: its seconds times the GPUs that its trial held


@dataclass(frozen=True)
class Ask:
    """A trial that is to be trained, or gone on with."""

    number: int
    config: Config
    seed: int
    epochs_recorded: int


class StageRun:
    """Runs one stage: what the ledger has of it is gone on from.

    Parameters
    ----------
    stage : Stage
        What was asked.
    space : Space
        Its space, narrowed already.
    ledger : StageLedger
        Its record.
    before : Before or None
        What it follows on; its fitting trials are carried over, and its best ones tried first.
    objective : Objective
        What is optimised.
    seed : int
        What its suggestions and its trials' seeds are drawn from.
    ends : Ends
        Counts for the limits of the search.
    folder : Path
        The search's folder.
    say : function
        Told, in one line, what is worth telling.
    first : sequence of configs
        What is tried before anything else: points of the space, or parts of such.
    manner : Manner
        How its trials are trained and kept.

    Notes
    -----
    What is learnt from other searches is what the ledger has of them under ``warm_start``.
    """

    def __init__(
        self,
        stage: Stage,
        space: Space,
        ledger: StageLedger,
        before: Before | None,
        *,
        objective: Objective,
        seed: int,
        ends: Ends,
        folder: Path,
        say: Callable[[str], None],
        first: Sequence[Config] = (),
        manner: Manner = Manner(),  # noqa: B008 it cannot change
    ) -> None:
        self.ledger = ledger
        self._objective = objective
        self._sign = 1.0 if objective.mode == "max" else -1.0
        self._seed = seed
        self._ends = ends
        self._folder = folder
        self._checkpoints = Checkpoints(folder)
        self._say = say
        self._num_kept = manner.models_kept
        records = ledger.trials()
        in_order = sorted(records, key=lambda r: math.inf if r.ended is None else r.ended.timestamp())
        self._axis = "epochs" if stage.halving is None else stage.halving.axis
        views = [view_record(record, self._sign, objective, self._axis) for record in in_order]
        retried: list[int] = ledger.attributes.get(RETRIED, [])
        views = [dataclasses.replace(v, state="stopped") if v.number in retried else v for v in views]
        self.search = StageSearch(
            stage,
            space,
            before,
            views,
            seed=seed,
            sign=self._sign,
            ends=ends,
            num_objectives=1 + len(objective.also),
            first=first,
            repeats=manner.repeats,
            warm_start=[read_trials(trials) for trials in ledger.attributes.get("warm_start", [])],
            order=list_events(records),
            num_again=len(retried),
            audit=ledger.attributes.get(AUDITED),
        )
        if AUDITED not in ledger.attributes:  # kept with more trials, for who was stopped is not drawn any more
            ledger.set(**{AUDITED: self.search.audit})
        ends.spend(sum(epoch.get(GPU_SECONDS, 0.0) for record in records for epoch in record.epochs))
        ended = [view.number for view in views if view.state not in {"running", "paused"}]
        self._kept = sorted(ended, key=self._rank)[: self._num_kept]
        self._waits_since = {record.number: record.reason for record in records if record.state == "paused"}
        self._interrupted = deque(record for record in records if record.state == "running")
        self._seeds = {record.number: record.seed for record in records}
        begun = {record.again for record in records}
        self._again = deque(records[number] for number in retried if number not in begun)
        self._epochs = {r.number: list(r.epochs) for r in records if r.state in {"running", "paused"}}
        self._reached = 0.0
        for record in records:
            self._see_accuracies(record.epochs)
        self._class_sizes = ledger.attributes.get("class_sizes")

    @property
    def has_next(self) -> bool:
        """Whether a trial can start now."""
        return self._ends.may_train if self._interrupted else self.search.has_next

    def next(self) -> Ask | None:
        """Open the next trial and record it, or go on with one, an interrupted one first; None if none is due."""
        while self._interrupted:
            record = self._interrupted.popleft()
            # a storage that cannot write both at once may have recorded its last epoch and not the verdict
            decision = self._judge(record.number, len(record.values)) if record.values else None
            if decision is not None and decision.state is not None:
                self._settle(record.number, decision.state, decision.reason)
            else:
                self._ends.go_on(record.number)
                return Ask(record.number, record.config, record.seed, len(record.epochs))
        if not self.has_next:
            return None
        failed = self._again[0] if self._again and self.search.may_try_again else None
        view = self.search.start(None if failed is None else failed.config)
        if view.values:
            return Ask(view.number, view.config, self._seeds[view.number], len(view.values))
        if failed is not None:
            self._again.popleft()
        seed, again = (self._derive_seed(view.number), None) if failed is None else (failed.seed, failed.number)
        self._seeds[view.number] = seed
        recorded = self.ledger.start(self.search.space, view.config, seed, again)
        assert recorded == view.number, f"the ledger gave number {recorded} where {view.number} was due"
        return Ask(view.number, view.config, seed, 0)

    def put_back(self, number: int) -> None:
        """Let a trial that runs be the next to go on."""
        if self.search.views[number].state == "running":
            self._ends.pause(number)
            self._interrupted.append(self.ledger.trials()[number])

    def _derive_seed(self, number: int) -> int:
        return int(np.random.SeedSequence((self._seed, number)).generate_state(1)[0])

    def report(self, number: int, measured: Mapping[str, Any]) -> bool:
        """Record an epoch, once, and decide whether the trial goes on.

        Parameters
        ----------
        number : int
            The trial.
        measured : mapping
            What the epoch measured, ``epoch`` among it, and perhaps ``execution``: how the device was used.

        Returns
        -------
        bool
            Whether it goes on.
        """
        view = self.search.views[number]
        if view.state != "running":
            return False
        epoch = int(measured["epoch"])
        with self.ledger.batch():  # an epoch and its verdict are one record
            if epoch == len(view.values) + 1:
                also, cost = self._objective.read_also(measured), read_cost(measured, self._axis)
                value = self.search.add(number, self._read_value(measured), also, cost)
                self._ends.spend(measured.get(GPU_SECONDS, 0.0))
                execution = measured.get("execution")
                if execution is not None:
                    self.ledger.record_execution(number, execution)
                numbers = {name: value for name, value in measured.items() if name != "execution"}
                self.ledger.record_epoch(number, epoch, numbers, self._sign * value)
                self._epochs.setdefault(number, []).append(numbers)
                self._see_accuracies([numbers])
            decision = self._judge(number, epoch)
        if decision.state is not None:
            self._settle(number, decision.state, decision.reason)
        return decision.state is None

    def end(self, number: int, state: End, reason: str, error: str = "") -> None:
        """Record a trial's end, unless it has ended, and keep no more of its files than are needed."""
        if self.search.views[number].state not in {"running", "paused"}:
            return
        with self.ledger.batch():
            self._record_end(number, state, reason, error)
        self._settle(number, state, reason)

    def record_host(self, number: int, host: str) -> None:
        """Record where a trial failed, which may have been before its first epoch; nothing of one that has ended."""
        if self.search.views[number].state in {"running", "paused"}:
            known = self.ledger.trials()[number].execution
            self.ledger.record_execution(number, {**known, "host": host})

    def close(self, reason: str) -> Before:
        """Record the stage's end and write its files; return it as what the next stage follows on.

        Raises
        ------
        LedgerError
            If the files cannot be written.
        """
        self.end_waiting()
        views = self.search.views
        there = {path.partition("/")[0] for path in self._checkpoints.list()}
        for number, view in self.search.views.items():  # a worker that was told to stop may have written once more
            if view.state != "running" and self._name(number) in there:
                self._checkpoints.settle(self._name(number))
                if number not in self._kept:
                    self._checkpoints.drop(self._name(number))
        try:
            written = write_artifacts(self._folder, self.ledger, self._checkpoints.fetch_model)
            publish(self._folder, written)
        except OSError as error:
            raise LedgerError(
                f"{self._folder}: the stage's files cannot be written ({error.strerror}); free space there, then run "
                "the same command again"
            ) from error
        self.ledger.set(ended=reason, **self._audit())
        before = self.follow()
        for sentence in summarise_advice((kind, views[n].state == "complete") for n, kind in before.kinds.items()):
            self._say(f"  {self.search.stage.name}, learning curves: {sentence}")
        return before

    def follow(self) -> Before:
        """Return the stage as what the next one follows on, with what its learning curves show."""
        return dataclasses.replace(self.search.close(), kinds=read_kinds(self.ledger.trials()))

    def _audit(self) -> dict[str, Any]:
        """Estimate what stopping trials cost, if any could be stopped."""
        stage, views = self.search.stage, list(self.search.views.values())
        if stage.halving is None:
            return {}
        return {"audit": dataclasses.asdict(audit_stage(views, self.search.audited, self.search.history.rungs))}

    def end_waiting(self) -> None:
        """Record the end of the trials that wait, if none of them will be gone on with."""
        for number in list(self.search.history.paused) if self.search.is_stuck else []:
            self.end(number, "stopped", f"{self._waits_since[number]}; others went on until the end")

    def find_checkpoints(self, number: int) -> tuple[Path, str]:
        """Return the folder of a trial's checkpoints, and its address if that is in a store."""
        return self._checkpoints.find_place(self._name(number))

    def _name(self, number: int) -> str:
        return f"{self.search.stage.name}-{number}"

    def _judge(self, number: int, epoch: int) -> Decision:
        """Ask the strategy about a recorded epoch, and record the trial's end if it says so."""
        decision = self.search.judge(number, epoch)
        if decision.state == "paused":
            self.ledger.pause(number, epoch, decision.reason)
            self._waits_since[number] = decision.reason
        elif decision.state is not None:
            self._record_end(number, decision.state, decision.reason)
        return decision

    def _record_end(self, number: int, state: End, reason: str, error: str = "") -> None:
        """Record a trial's end, with what its curves look like."""
        found = self._diagnose(number)
        diagnosis = None if found is None else dataclasses.asdict(found)
        self.ledger.end(number, state, reason, self._sign * self.search.views[number].best, error, diagnosis)

    def _see_accuracies(self, epochs: Sequence[Mapping[str, float]]) -> None:
        """Keep the best accuracy that the stage has reached."""
        finite = filter(math.isfinite, (epoch.get("val_accuracy", math.nan) for epoch in epochs))
        self._reached = max([self._reached, *finite])

    def _diagnose(self, number: int) -> Diagnosis | None:
        """Say what a trial's curves look like, if it has any and what a guess would reach is known."""
        epochs = self._epochs.pop(number, None)
        if not epochs or self._class_sizes is None:
            return None
        config = self.search.views[number].config
        is_hinge, is_balanced = config.get("architecture") == "hog_svm", config.get("class_weights") == "balanced"
        guess = Guess.of(self._class_sizes, is_hinge=is_hinge, is_balanced=is_balanced)
        return diagnose(epochs, guess, reachable=self._reached)

    def _settle(self, number: int, state: State, reason: str) -> None:
        """After a trial's end, or that it waits, is on disk: see it, say it, and keep no more files than are needed."""
        self.search.end(number, state)
        if state != "paused":
            self._tidy(number)
        self._say(f"{self.search.stage.name} {number}: {reason}")

    def _rank(self, number: int) -> tuple[float, int]:
        return -self.search.views[number].best, number

    def _read_value(self, measured: Mapping[str, float]) -> float:
        """Return the objective, larger being better; NaN where the training diverged."""
        is_finite = all(math.isfinite(measured[key]) for key in ("train_loss", "val_loss"))
        return self._sign * measured[self._objective.metric] if is_finite else math.nan

    def _tidy(self, number: int) -> None:
        """Keep the weights of the best few trials, and the state of training of those that run."""
        self._checkpoints.delete(self._name(number), LAST)
        kept = sorted({*self._kept, number}, key=self._rank)
        self._kept = kept[: self._num_kept]
        for other in kept[self._num_kept :]:
            self._checkpoints.drop(self._name(other))


def list_events(records: Sequence[TrialRecord]) -> list[int]:
    """Return the order in which trials began and came on, as `StageSearch` takes it: by the times on record."""
    events: list[tuple[float, int]] = []
    for record in records:
        time_s = -math.inf if record.started is None else record.started.timestamp()
        events.append((time_s, record.number))
        for epoch in record.epochs:
            time_s = max(time_s, epoch.get("timestamp", time_s))
            events.append((time_s, record.number))
    return [number for _, number in sorted(events, key=lambda event: event[0])]
