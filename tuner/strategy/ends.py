"""When a search ends although trials are left: its limits, counted event by event."""

import math
from collections.abc import Callable, Iterable

from tuner.spec.search import Limits
from tuner.strategy.trial_view import TrialView


class Ends:
    """Counts what the limits of a search are about, over all its stages.

    Every event takes the same short time however many came before, and what was recorded before an interruption gives
    the same counts again.

    Parameters
    ----------
    limits : Limits
        What was asked.
    sign : float, 1 or -1
        What an objective is multiplied with so that larger is better.
    clock : function
        Seconds of search so far, over all sittings.

    Notes
    -----
    A trial that was begun or gone on with has one epoch under way until it ends. Recorded epochs and those under way
    are together never more than the limit, so that with any number of workers the search ends at the very limit.

    A trial improves on the search if its best value is above those of all trials that ended before it, in this stage
    and earlier ones. While a trial that does so runs, ``no_improvement`` waits for its end: what is counted depends on
    the order of the ends alone, which the ledger has.
    """

    def __init__(self, limits: Limits, *, sign: float = 1.0, clock: Callable[[], float] = lambda: 0.0) -> None:
        self._limits = limits
        self._clock = clock
        self._target = math.inf if limits.target is None else sign * limits.target
        self._most_trials = math.inf if limits.trials is None else limits.trials
        self._most_epochs = math.inf if limits.epochs is None else limits.epochs
        self._num_begun = self._num_ended = self._num_epochs = 0
        self._gpu_s = 0.0
        self._best = -math.inf  # of all trials of this search, those that run among them
        self._best_ended = -math.inf  # of those that ended, and of what was carried over
        self._num_without_gain = 0  # trials of the stage that ended since one improved on the search
        self._under_way: set[int] = set()

    @property
    def may_train(self) -> bool:
        """Whether one more epoch may be started."""
        return self._num_epochs + len(self._under_way) < self._most_epochs

    @property
    def may_begin(self) -> bool:
        """Whether one more trial may begin."""
        return self.may_train and self.num_trials_left > 0

    def open_stage(self, carried: Iterable[TrialView], trials: Iterable[TrialView]) -> None:
        """Begin a stage, or go on with it.

        Parameters
        ----------
        carried : iterable of TrialView
            What is carried over from before the stage; what is this search's own of it is to be improved on.
        trials : iterable of TrialView
            What was recorded of the stage, in the order of the trials' ends. None of them trains until it is gone on
            with.
        """
        self._num_without_gain = 0
        own = (trial.best for trial in carried if not trial.is_foreign)  # on other data a value means something else
        self._best_ended = max([self._best_ended, *own])
        for trial in trials:
            self.begin(trial.number)
            for value in trial.values:
                self.add(value)
            if trial.state not in {"running", "paused"}:
                self.end(trial.number, trial.best)
        self._under_way.clear()

    def begin(self, number: int) -> None:
        """Count a trial of the stage that begins."""
        self._num_begun += 1
        self.go_on(number)

    def go_on(self, number: int) -> None:
        """Take note that a trial that was interrupted trains again."""
        self._under_way.add(number)

    def add(self, value: float) -> None:
        """Count an epoch.

        Parameters
        ----------
        value : float, larger is better
            Its trial's objective so far; not finite if the training diverged.
        """
        self._num_epochs += 1
        if math.isfinite(value):
            self._best = max(self._best, value)

    def spend(self, gpu_s: float) -> None:
        """Count seconds of training times the GPUs that were held."""
        self._gpu_s += gpu_s

    def end(self, number: int, best: float) -> None:
        """Count a trial's end.

        Parameters
        ----------
        number : int
            The trial.
        best : float, larger is better
            Its best objective; minus infinity if it has none.
        """
        self._num_ended += 1
        self._under_way.discard(number)
        self._num_without_gain = 0 if best > self._best_ended else self._num_without_gain + 1
        self._best_ended = max(self._best_ended, best)

    def pause(self, number: int) -> None:
        """Count that a trial waits: it has no epoch under way."""
        self._under_way.discard(number)

    @property
    def num_trials_left(self) -> float:
        """How many trials may still begin; infinite without a limit."""
        return max(0, self._most_trials - self._num_begun)

    @property
    def num_epochs_left(self) -> float:
        """How many epochs may still end, by a guess if GPU hours are limited; infinite without a limit."""
        return min(
            self._most_epochs - self._num_epochs, self._guess_epochs_left(self._gpu_hours, self._limits.gpu_hours)
        )

    @property
    def num_epochs_in_time(self) -> float:
        """How many epochs will still end before the limit of time, at the speed so far; infinite without one."""
        return self._guess_epochs_left(self._clock(), self._limits.time_s)

    def _guess_epochs_left(self, done: float, most: float | None) -> float:
        """Guess how many epochs end until something has come to a limit that grows with them."""
        if most is None or done <= 0 or self._num_epochs == 0:
            return math.inf
        return self._num_epochs * max(most / done - 1, 0.0)

    @property
    def _gpu_hours(self) -> float:
        return self._gpu_s / 3600

    def find_refusal(self) -> str:
        """Say why a trial whose epoch was just counted may not begin another; nothing if it may."""
        is_refused = self._num_epochs + len(self._under_way) > self._most_epochs
        return f"the limit of {self._limits.epochs} epochs was reached" if is_refused else ""

    def find_reason(self) -> str:
        """Say why the search must end now; nothing if it need not."""
        limits = self._limits
        if limits.time_s is not None and self._clock() >= limits.time_s:
            return f"the time limit of {limits.time_s:g} s was reached"
        if self._best >= self._target:
            return f"the target of {limits.target} was reached"
        if self._num_epochs >= self._most_epochs:
            return f"the limit of {limits.epochs} epochs was reached"
        if limits.gpu_hours is not None and self._gpu_hours >= limits.gpu_hours:
            return f"the limit of {limits.gpu_hours:g} GPU hours was reached"
        if self._num_begun >= self._most_trials and self._num_begun == self._num_ended:
            return f"the limit of {limits.trials} trials was reached"
        is_best_running = self._best > self._best_ended
        if limits.no_improvement is not None and self._num_without_gain >= limits.no_improvement:
            return "" if is_best_running else f"no improvement by the last {limits.no_improvement} trials that ended"
        return ""

    def guess_left_s(self) -> float:
        """Guess the seconds until the nearest limit that is counted down to, at the speed so far.

        Returns
        -------
        float
            Infinite if there is no such limit, or nothing to go by.
        """
        limits, elapsed_s = self._limits, self._clock()
        counted: list[tuple[float, float | None]] = [
            (elapsed_s, limits.time_s),
            (self._num_ended, limits.trials),
            (self._num_epochs, limits.epochs),
            (self._gpu_hours, limits.gpu_hours),
        ]
        guesses = [elapsed_s * max(most / done - 1, 0.0) for done, most in counted if most is not None and done > 0]
        return min(guesses, default=math.inf)
