"""Searches on a made-up clock: the very code that Ray drives, with given learning curves instead of training."""

import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from tuner.spec.search import Limits, Stage
from tuner.spec.space import Config, Space
from tuner.strategy.ends import Ends
from tuner.strategy.sampler import Sampler
from tuner.strategy.stage_search import StageSearch, derive_stage_seed, find_space
from tuner.strategy.trial_view import Before, TrialView


@dataclass(frozen=True)
class Job:
    """What a worker is to train.

    Attributes
    ----------
    key : (str, int)
        The trial's stage and number; the same again means that it goes on.
    config : mapping from parameter names to values
        What it trains.
    epochs_done : int
        How many epochs it has behind it.
    """

    key: tuple[str, int]
    config: Config
    epochs_done: int = 0


class Policy(Protocol):
    """What decides: a search of ours, or another one to compare it with."""

    def next(self) -> Job | None:
        """Return what a free worker is to train; None if there is nothing before another epoch has ended."""
        ...

    def report(self, job: Job, epoch: int, value: float) -> bool:
        """Take what a trial's epoch measured, larger being better, and say whether it goes on."""
        ...


@dataclass(frozen=True)
class Curve:
    """What a configuration would show if it were trained to the end.

    Attributes
    ----------
    values : sequence of float
        The objective after each epoch, larger is better; not finite from where the training diverges.
    seconds : float or sequence of float, above 0
        Of one epoch, or of each.
    begin_s : float
        What passes before the first epoch each time that a worker takes the trial up.
    """

    values: Sequence[float]
    seconds: float | Sequence[float] = 1.0
    begin_s: float = 0.0

    def time(self, epoch: int) -> float:
        """Return the seconds of an epoch, counted from 1."""
        return self.seconds if isinstance(self.seconds, int | float) else self.seconds[epoch - 1]


@dataclass(frozen=True)
class Event:
    """One epoch that ended.

    Attributes
    ----------
    time_s : float
        When, on the made-up clock.
    job : Job
        Of which trial.
    epoch : int
        Which one.
    value : float
        What it measured.
    """

    time_s: float
    job: Job
    epoch: int
    value: float


def simulate(
    policy: Policy,
    train: Callable[[Job], Curve],
    *,
    workers: int,
    max_epochs: int,
    clock: Callable[[], float] = lambda: 0.0,
) -> Iterator[Event]:
    """Let workers train what a policy asks for.

    Parameters
    ----------
    policy : Policy
        What decides.
    train : function from Job to Curve
        Asked once for every trial.
    workers : int, at least 1
        How many trials run at once.
    max_epochs : int
        The budget: how many epochs end, over all trials.
    clock : function
        Real seconds, of which those that the policy takes count on the made-up clock too: what is asked of it meanwhile
        waits. By default it takes none.

    Yields
    ------
    Event
        The epochs in the order of their ends. Fewer than the budget allows if the policy has nothing more to train.
    """
    curves: dict[tuple[str, int], Curve] = {}
    queue: list[tuple[float, int, Job, int]] = []
    order = itertools.count()  # of equal times, what began first ends first
    num_free, now, decided = workers, 0.0, 0.0

    def push(job: Job, epoch: int, begin_s: float = 0.0) -> None:
        heapq.heappush(queue, (decided + begin_s + curves[job.key].time(epoch), next(order), job, epoch))

    for _ in range(max_epochs):
        while num_free:
            began = clock()
            job = policy.next()
            decided += clock() - began
            if job is None:
                break
            curves[job.key] = curves.get(job.key) or train(job)
            push(job, job.epochs_done + 1, curves[job.key].begin_s)
            num_free -= 1
        if not queue:
            return
        now, _, job, epoch = heapq.heappop(queue)
        value = curves[job.key].values[epoch - 1]
        yield Event(now, job, epoch, value)
        began = clock()
        goes_on = policy.report(job, epoch, value)
        decided = max(decided, now) + clock() - began
        if goes_on:
            push(job, epoch + 1)
        else:
            num_free += 1


class Search:
    """The stages of a search, one after the other, as a policy.

    Parameters
    ----------
    stages : sequence of Stage
        Coarse to fine.
    space : Space
        The first stage's.
    seed : int, at least 0
        What all suggestions are drawn from.
    before : Before or None
        The search that the space comes from, if it comes from one.
    sign : float, 1 or -1
        What the objective is multiplied with so that larger is better.
    limits : Limits or None
        When it ends although trials are left; for ``gpu_hours``, ``spend`` must be called. None for no limits.
    clock : function
        Seconds on the made-up clock, for a limit of time: whoever sees the events knows.
    first : sequence of configs
        What the first stage tries first.
    warm_start : sequence of tuples of TrialView
        What it learns from other searches.
    cost : function from config to float
        Of one epoch, on the axis that halving counts on.
    num_objectives : int, at least 1
        How many objectives there are.
    also : function from config and value to tuple of float
        The further objectives after an epoch with that value.
    sampler : Sampler or None
        What suggests in every stage; None for what each asks for.

    Attributes
    ----------
    searches : list of StageSearch
        The stages that have begun.
    stop_reason : str
        The limit that was reached; empty while none was.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        space: Space,
        *,
        seed: int,
        before: Before | None = None,
        sign: float = 1.0,
        limits: Limits | None = None,
        clock: Callable[[], float] = lambda: 0.0,
        first: Sequence[Config] = (),
        warm_start: Sequence[tuple[TrialView, ...]] = (),
        cost: Callable[[Config], float] = lambda _: 1.0,
        num_objectives: int = 1,
        also: Callable[[Config, float], tuple[float, ...]] = lambda _, __: (),
        sampler: Sampler | None = None,
    ) -> None:
        self._stages = stages
        self._space = space
        self._seed = seed
        self._first = first
        self._warm_start = warm_start
        self._cost = cost
        self._num_objectives = num_objectives
        self._also = also
        self._sampler = sampler
        self._sign = sign
        self._ends = Ends(limits or Limits(), sign=sign, clock=clock)
        self.searches: list[StageSearch] = []
        self.stop_reason = ""
        self._open(before)

    def next(self) -> Job | None:
        """Open the next trial, and the next stage when one is over; see `Policy.next`."""
        if self._reach_limit():
            return None
        if self.searches[-1].is_over and len(self.searches) < len(self._stages):
            self._open(self.searches[-1].close())
        search = self.searches[-1]
        if not search.has_next:
            return None
        view = search.start()
        return Job((search.stage.name, view.number), view.config, len(view.values))

    def report(self, job: Job, epoch: int, value: float) -> bool:
        """Let halving and the limits decide; see `Policy.report`."""
        search, number = self.searches[-1], job.key[1]
        if search.views[number].state != "running":  # a limit ended it
            return False
        search.add(number, value, self._also(job.config, value), self._cost(job.config))
        decision = search.judge(number, epoch)
        if decision.state is not None:
            search.end(number, decision.state)
        return decision.state is None and not self._reach_limit()

    def spend(self, gpu_s: float) -> None:
        """Count seconds of an epoch times the GPUs that its trial holds, before the epoch is reported."""
        self._ends.spend(gpu_s)

    def _reach_limit(self) -> bool:
        """Tell whether the search has come to a limit, and end the trials that run then."""
        search, is_last = self.searches[-1], len(self.searches) == len(self._stages)
        if search.is_stuck:
            for number in list(search.history.paused):
                search.end(number, "stopped")
        reason = "" if self.stop_reason else self._ends.find_reason()
        if reason and not (search.is_over and is_last):
            self.stop_reason = reason
            for number in [*search.history.running, *search.history.paused]:
                search.end(number, "stopped")
        return bool(self.stop_reason)

    def _open(self, before: Before | None) -> None:
        index = len(self.searches)
        stage = self._stages[index]
        space, _ = find_space(stage, self._space, before)
        self.searches.append(
            StageSearch(
                stage,
                space,
                before,
                seed=derive_stage_seed(self._seed, index),
                sign=self._sign,
                ends=self._ends,
                num_objectives=self._num_objectives,
                first=self._first if index == 0 else (),
                warm_start=self._warm_start if index == 0 else (),
                sampler=self._sampler,
            )
        )
