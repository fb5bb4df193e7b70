"""One stage in progress: asks the strategy what to train and what to stop, and records both first."""

import dataclasses
import math
import shutil
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuner.errors import LedgerError
from tuner.execute.task import LAST, MODEL
from tuner.execute.views import Before, view_record
from tuner.spec.search import Objective, Stage
from tuner.spec.space import Config, Scalar, Space
from tuner.strategy.halving import Decision, SuccessiveHalving
from tuner.strategy.narrow import carry, incumbents
from tuner.strategy.sampler import build_sampler
from tuner.strategy.trial_view import State, TrialView
from tuner.track.artifacts import write_artifacts
from tuner.track.ledger import StageLedger

INCUMBENTS = 3  # the best of the stage before are tried first, at this stage's length
CHECKPOINTS_KEPT = 5  # the best few of a stage keep their weights


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
    folder : Path
        The search's folder.
    say : function
        Told, in one line, what is worth telling.
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
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        self.stage = stage
        self.space = space
        self.ledger = ledger
        self._objective = objective
        self._sign = 1.0 if objective.mode == "max" else -1.0
        self._seed = seed
        self._folder = folder
        self._say = say
        records = ledger.trials()
        self.views = {record.number: view_record(record, self._sign) for record in records}
        self._kept = sorted((n for n, view in self.views.items() if view.state != "running"), key=self._rank)[
            :CHECKPOINTS_KEPT
        ]
        self._interrupted = deque(record for record in records if record.state == "running")
        earlier = before.trials if before is not None and stage.narrow is not None else ()
        self._carried = carry(earlier, space)
        first = incumbents(earlier, space, min(INCUMBENTS, max(1, stage.trials // 8)))
        self._sampler = build_sampler(stage, space, seed=seed, first=first)
        self._halving = SuccessiveHalving(stage.halving, stage.max_epochs, sign=self._sign)
        self._halving.replay(self.views.values())

    @property
    def num_running(self) -> int:
        """How many trials have begun and not ended."""
        return sum(view.state == "running" for view in self.views.values())

    @property
    def is_over(self) -> bool:
        """Whether all trials have ended."""
        return len(self.views) >= self.stage.trials and self.num_running == 0

    @property
    def has_next(self) -> bool:
        """Whether a trial can start now."""
        return bool(self._interrupted) or len(self.views) < self.stage.trials

    def next(self) -> Ask | None:
        """Open the next trial and record it, an interrupted one first; None if all have begun."""
        while self._interrupted:
            record = self._interrupted.popleft()
            # a storage that cannot write both at once may have recorded its last epoch and not the verdict
            decision = self._judge(record.number, len(record.values)) if record.values else None
            if decision is not None and decision.state is not None:
                self._settle(record.number, decision.state, decision.reason)
            else:
                return Ask(record.number, record.config, record.seed, len(record.epochs))
        if len(self.views) >= self.stage.trials:
            return None
        number = len(self.views)
        config: dict[str, Scalar] = self._sampler.ask(number, (*self._carried, *self.views.values()))
        seed = int(np.random.SeedSequence((self._seed, number)).generate_state(1)[0])
        recorded = self.ledger.start(self.space, config, seed)
        assert recorded == number, f"the ledger gave number {recorded} where {number} was due"
        self.views[number] = TrialView(number=number, config=config, values=(), state="running")
        return Ask(number, config, seed, 0)

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
        view = self.views[number]
        if view.state != "running":
            return False
        epoch = int(measured["epoch"])
        with self.ledger.batch():  # an epoch and its verdict are one record
            if epoch == len(view.values) + 1:
                value = self._best_so_far(view, measured)
                execution = measured.get("execution")
                if execution is not None:
                    self.ledger.record_execution(number, execution)
                numbers = {name: value for name, value in measured.items() if name != "execution"}
                self.ledger.record_epoch(number, epoch, numbers, self._sign * value)
                self.views[number] = dataclasses.replace(view, values=(*view.values, value))
            decision = self._judge(number, epoch)
        if decision.state is not None:
            self._settle(number, decision.state, decision.reason)
        return decision.state is None

    def end(self, number: int, state: State, reason: str, error: str = "") -> None:
        """Record a trial's end, unless it has ended, and keep no more of its files than are needed."""
        if self.views[number].state != "running":
            return
        with self.ledger.batch():
            self.ledger.end(number, state, reason, self._sign * self.views[number].best, error)
        self._settle(number, state, reason)

    def close(self, reason: str) -> Before:
        """Record the stage's end and write its files; return it as what the next stage follows on.

        Raises
        ------
        LedgerError
            If the files cannot be written.
        """
        for number, view in self.views.items():  # a worker that was told to stop may have written once more
            if view.state != "running":
                (self.checkpoints(number) / LAST).unlink(missing_ok=True)
            if view.state != "running" and number not in self._kept:
                shutil.rmtree(self.checkpoints(number), ignore_errors=True)
        try:
            write_artifacts(self._folder, self.ledger, MODEL)
        except OSError as error:
            raise LedgerError(
                f"{self._folder}: the stage's files cannot be written ({error.strerror}); free space there, then run "
                "the same command again"
            ) from error
        self.ledger.set(ended=reason)
        return Before(self.space, tuple(self.views.values()))

    def checkpoints(self, number: int) -> Path:
        """Return the folder of a trial's checkpoints."""
        return self._folder / "checkpoints" / f"{self.stage.name}-{number}"

    def _judge(self, number: int, epoch: int) -> Decision:
        """Ask the halving about a recorded epoch, and record the trial's end if it says so."""
        view = self.views[number]
        decision = self._halving.report(number, epoch, view.values[epoch - 1])
        if decision.state is not None:
            self.ledger.end(number, decision.state, decision.reason, self._sign * view.best)
        return decision

    def _settle(self, number: int, state: State, reason: str) -> None:
        """After a trial's end is on disk: see it, say it, and keep no more of its files than are needed."""
        self.views[number] = dataclasses.replace(self.views[number], state=state)
        self._tidy(number)
        self._say(f"{self.stage.name} {number}: {reason}")

    def _rank(self, number: int) -> tuple[float, int]:
        return -self.views[number].best, number

    def _best_so_far(self, view: TrialView, measured: Mapping[str, float]) -> float:
        if not all(math.isfinite(measured[key]) for key in ("train_loss", "val_loss")):
            return math.nan
        return max(self._sign * measured[self._objective.metric], view.best)

    def _tidy(self, number: int) -> None:
        """Keep the weights of the best few trials, and the state of training of those that run."""
        (self.checkpoints(number) / LAST).unlink(missing_ok=True)
        kept = sorted({*self._kept, number}, key=self._rank)
        self._kept = kept[:CHECKPOINTS_KEPT]
        for other in kept[CHECKPOINTS_KEPT:]:
            shutil.rmtree(self.checkpoints(other), ignore_errors=True)
