"""Between Ray Tune and a search in progress: who runs where is Ray's to say, what runs is ours.

A *lane* is a place for one trial at a time: an actor of Tune's, reused from trial to trial. Tune starts an actor for
each pending trial, but gives a pending trial to any actor that is free and cancels its own actor's start; with short
trials one actor would do everything. So each lane first gets a trial without a task, which loads torch and is then
held: a trial that is over while nothing is to be started keeps its lane. Held trials are released one by one, each when
the trial that takes over its lane can start. When a machine is lost, its trials take lanes that were meant for others;
if then all that is left waits for a lane while lanes are held, one is released. Tune tries a trial again whose worker
died, but not one whose worker died while it took the trial over: such a trial is put back into the search. So is one
whose machine failed it, by a full disk, say; and its lane rests: free at once, it would take trial after trial.
"""

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from tuner.errors import RunError, TunerError
from tuner.execute.search_run import SearchRun
from tuner.execute.task import TrialTask

LANES_WAIT_S = 30.0  # after the first lane is ready; on a busy or growing cluster the others join later
RETRIES = 3  # a trial whose worker dies goes on elsewhere this often
REST_S = 60.0  # a lane whose machine failed a trial takes no other meanwhile, as long as another lane works
STUCK_S = 3.0  # a trial gets a lane that was released for it in much less


class Lanes:
    """Which trial of Tune's stands for which of ours, and which lanes are held.

    Parameters
    ----------
    run : SearchRun
        The search.
    num_lanes : int, at least 1
        How many trials run at once.
    clock : function
        Seconds that only grow.
    """

    def __init__(self, run: SearchRun, num_lanes: int, clock: Callable[[], float]) -> None:
        self.run = run
        self._num_lanes = num_lanes
        self._clock = clock
        self._tasks: dict[str, TrialTask] = {}
        self._warming: set[str] = set()
        self._held: list[Trial] = []
        self._resting: list[tuple[Trial, float]] = []
        self._open_after: float | None = None
        self._starting: list[Trial] = []
        self._active: list[Trial] = []
        self._stuck_since: float | None = None
        self._is_open = False
        self._num_warm_ups = 0
        self._put_back: Counter[tuple[str, int]] = Counter()

    def __getstate__(self) -> dict[str, Any]:
        """Keep nothing when Tune pickles its parts: the ledger holds all state."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Give Tune its next trial: a warm-up until every lane has one, then what the search wants."""
        if self.run.is_finished or self.run.should_stop:
            return Searcher.FINISHED
        if self._num_warm_ups < self._num_lanes:
            self._num_warm_ups += 1
            self._warming.add(trial_id)
            return {"task": None}
        try:
            task = self.run.next_task() if self._is_open else None
        except TunerError as error:  # raised through Tune it would be a traceback
            self.run.error = error
            return None
        if task is None:
            return None
        self._tasks[trial_id] = task
        return {"task": task}

    def on_add(self, trial: Trial) -> None:
        """Note that a trial waits for a lane."""
        if trial.trial_id in self._tasks:
            self._starting.append(trial)
            self._active.append(trial)

    def on_result(self, trial: Trial, result: dict[str, Any]) -> str:
        """Pass an epoch to the search and Tune its answer: continue, stop, or hold the lane."""
        task = self._tasks.get(trial.trial_id)
        if task is None:
            self._warming.discard(trial.trial_id)
            self._open_after = self._open_after or self._clock() + LANES_WAIT_S
            if "error" in result:
                self.run.error = RunError(f"a worker cannot be started: {result['error']}\n{result['traceback']}")
            return self._hold(trial)
        try:
            if result.get("is_machines_fault"):
                why = f"{result['host']}: {result['error']}"
                if not self._put_back_again(task, why):
                    reason = f"its machine failed it {RETRIES + 1} times, the last: {why}"
                    self.run.fail(task, reason, result["traceback"], result["host"])
                self._resting.append((trial, self._clock() + REST_S))
                return TrialScheduler.NOOP
            if "error" in result:
                self.run.fail(task, result["error"], result["traceback"], result["host"])
            elif self.run.report(task, None if result["measured"] is None else dict(result["measured"])):
                return TrialScheduler.CONTINUE
        except TunerError as error:
            self.run.error = error
        return TrialScheduler.STOP if self.run.has_task() and not self._held else self._hold(trial)

    def _hold(self, trial: Trial) -> str:
        self._held.append(trial)
        return TrialScheduler.NOOP

    def on_failure(self, trial: Trial, report: str) -> None:
        """Record that a trial's worker died once too often; a worker that cannot even start ends the search."""
        task = self._tasks.get(trial.trial_id)
        if task is None:
            self.run.error = RunError(f"a worker cannot be started:\n{report}")
            return
        if trial.should_recover() and self._put_back_again(task):  # type: ignore[no-untyped-call]
            return
        earlier = self._put_back[task.stage, task.number]
        num_failures, last = earlier + trial.run_metadata.num_failures, report.strip().rpartition("\n")[2]
        self.run.fail(task, f"its worker failed {num_failures} times, the last: {last}", report)

    def _put_back_again(self, task: TrialTask, why: str = "") -> bool:
        """Put a trial back into the search, unless that was done too often."""
        if self._put_back[task.stage, task.number] >= RETRIES:
            return False
        self._put_back[task.stage, task.number] += 1
        self.run.put_back(task, why)
        return True

    def release(self) -> list[Trial]:
        """Name the held trials that must end now, so that their lanes serve the next ones."""
        if not self._is_open and self._open_after is not None:
            self._is_open = not self._warming or self._clock() >= self._open_after
        if self.run.is_finished or self.run.should_stop:
            released = [*self._held, *(trial for trial, _ in self._resting)]
            self._held, self._resting = [], []
            return released
        self._end_rests()
        self._starting = [trial for trial in self._starting if trial.status == Trial.PENDING]
        if self._held and self._is_open and not self._starting and self.run.has_task():
            return [self._held.pop(0)]
        if self._is_stuck():
            return [self._held.pop(0)]
        return []

    def _end_rests(self) -> None:
        """Hold, as others are held, the lanes that have rested for long enough, and all if no other lane is at work."""
        idle = [*self._held, *(trial for trial, _ in self._resting)]
        at_work = any(t.status in {Trial.PENDING, Trial.RUNNING} and t not in idle for t in self._active)
        now = self._clock()
        self._held += [trial for trial, until in self._resting if now >= until or not at_work]
        self._resting = [(trial, until) for trial, until in self._resting if now < until and at_work]

    def _is_stuck(self) -> bool:
        """Tell, once every few seconds, whether nothing trains and what waits for a lane does so in vain."""
        self._active = [trial for trial in self._active if not trial.is_finished()]  # type: ignore[no-untyped-call]
        idle = [*self._held, *(trial for trial, _ in self._resting)]
        statuses = [trial.status for trial in self._active if trial not in idle]
        if not (self._held and statuses) or set(statuses) != {Trial.PENDING}:
            self._stuck_since = None
            return False
        now = self._clock()
        if self._stuck_since is None:
            self._stuck_since = now
        if now - self._stuck_since < STUCK_S:
            return False
        self._stuck_since = None
        return True


class LaneSearcher(Searcher):
    """Tune's source of trials."""

    def __init__(self, lanes: Lanes) -> None:
        super().__init__(metric="measured", mode="max")
        self._lanes = lanes

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the config of Tune's next trial, None to wait, or FINISHED."""
        return self._lanes.suggest(trial_id)  # type: ignore[return-value] # FINISHED is a word

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: the scheduler hears of it first."""

    def save(self, checkpoint_path: str) -> None:
        """Write nothing: the ledger holds all state."""

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing: the ledger holds all state."""


class LaneScheduler(FIFOScheduler):
    """Tune's judge of results."""

    def __init__(self, lanes: Lanes) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._lanes = lanes
        self._unfinished: list[Trial] = []

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Note a new trial."""
        self._unfinished.append(trial)
        self._lanes.on_add(trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return Tune's word for what the search decided."""
        return self._lanes.on_result(trial, result)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Hear of a trial whose worker died, unless Tune tries again."""
        if trial.status == Trial.ERROR:  # it sets this before it asks, and PENDING after it, only where it tries again
            return
        error = Path(trial.local_path or ".") / (trial.run_metadata.error_filename or "error.txt")
        self._lanes.on_failure(trial, error.read_text() if error.is_file() else "")

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """End the held trials whose lanes are wanted, then choose the first that waits.

        Tune asks at every step; its own first in, first out goes through all the trials there ever were.
        """
        for trial in self._lanes.release():
            tune_controller.stop_trial(trial)
        self._unfinished = [trial for trial in self._unfinished if not trial.is_finished()]  # type: ignore[no-untyped-call]
        return next((trial for trial in self._unfinished if trial.status == Trial.PENDING), None)


class SilentProgress(TrialProgressCallback):
    """Stands where Tune would put a callback that prints; Tune finds it by its name in the environment."""

    def on_trial_result(self, *args: Any, **info: Any) -> None:
        """Print nothing."""

    def on_trial_error(self, *args: Any, **info: Any) -> None:
        """Print nothing."""

    def on_trial_complete(self, *args: Any, **info: Any) -> None:
        """Print nothing."""


class LaneStopper(tune.Stopper):
    """Ends Tune's run when the search says so."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Stop no single trial."""
        return False

    def stop_all(self) -> bool:
        """Tell whether a limit, an error or the user ended the search."""
        return self._lanes.run.should_stop


def withhold_credentials() -> None:
    """Keep Tune from handing the credentials of object stores to its workers, since Ray writes that into its logs.

    Workers on this machine inherit them; other machines have their own.
    """
    class_cache.ENV_VARS_TO_PROPAGATE = {
        name for name in class_cache.ENV_VARS_TO_PROPAGATE if not name.startswith("AWS_")
    }


def silence() -> None:
    """Keep Tune's log to errors: the search speaks for itself."""
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
