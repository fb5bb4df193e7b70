"""Driving a peer by hand: what the adapters share."""

import contextlib
import itertools
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import numpy as np

from search_quality.problems import MAX_EPOCHS
from tuner.spec.space import Choice, Config, Int, LogInt, Parameter, Scalar, Space
from tuner.strategy.draws import on_grid
from tuner.strategy.simulate import Job


class Worst:
    """What a diverged trial is told as: the worst value of any epoch so far, 0 before the first."""

    def __init__(self) -> None:
        self._worst = math.inf

    def replace(self, value: float) -> float:
        """Return a value that is finite: this one, or the worst so far."""
        if math.isfinite(value):
            self._worst = min(self._worst, value)
            return value
        return self._worst if math.isfinite(self._worst) else 0.0


class StoppingPeer(ABC):
    """A peer that starts trials and says after every epoch whether one goes on."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._numbers = itertools.count()
        self._worst = Worst()

    def next(self) -> Job | None:
        """Start a trial; see `Policy.next`."""
        number = next(self._numbers)
        config = self.suggest(number)
        assert self._space.contains(config), config
        return Job(("", number), config)

    def report(self, job: Job, epoch: int, value: float) -> bool:
        """Tell an epoch; see `Policy.report`."""
        number, told = job.key[1], self._worst.replace(value)
        if not math.isfinite(value):
            self.fail(number, epoch, told)
            return False
        goes_on = self.judge(number, epoch, told) and epoch < MAX_EPOCHS
        if not goes_on:
            self.end(number, epoch, told)
        return goes_on

    @abstractmethod
    def suggest(self, number: int) -> Config:
        """Return what the trial of that number is to train."""

    def judge(self, number: int, epoch: int, value: float) -> bool:
        """Say whether a trial goes on."""
        return True

    def end(self, number: int, epoch: int, value: float) -> None:
        """Take a trial's last epoch: all of them done, or stopped."""
        return

    def fail(self, number: int, epoch: int, worst: float) -> None:
        """Take that a trial diverged: without more ado, that it was stopped at the worst value so far."""
        self.judge(number, epoch, worst)
        self.end(number, epoch, worst)


@dataclass(frozen=True)
class Run:
    """What a peer asks for: a trial trained until an epoch.

    Attributes
    ----------
    trial : hashable
        The same again means that the trial goes on from where it is.
    config : mapping from parameter names to values
        What it trains.
    until_epoch : int
        After which of its epochs the peer wants to know.
    token : object
        What the peer needs to recognize the answer.
    """

    trial: Hashable
    config: Config
    until_epoch: int
    token: object = None


class RungPeer(ABC):
    """A peer that asks for trials up to an epoch count, and is told only what they reach there.

    What a trial was trained before is not paid for again, and a count that it has passed is answered at once. A trial
    that is asked for while it runs waits for itself, without a worker.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._worst = Worst()
        self._numbers: dict[Hashable, int] = {}
        self._values: dict[int, list[float]] = {}
        self._running: dict[int, Run] = {}
        self._waiting: list[Run] = []

    def next(self) -> Job | None:
        """Start or resume a trial; see `Policy.next`."""
        while (run := self._released() or self.ask()) is not None:
            assert self._space.contains(run.config), run.config
            assert 1 <= run.until_epoch <= MAX_EPOCHS
            number = self._numbers.setdefault(run.trial, len(self._numbers))
            values = self._values.setdefault(number, [])
            has_diverged = bool(values) and not math.isfinite(values[-1])
            if number in self._running:
                self._waiting.append(run)
            elif len(values) < run.until_epoch and not has_diverged:
                self._running[number] = run
                return Job(("", number), run.config, len(values))
            else:
                self._tell(run, values[-1] if has_diverged else values[run.until_epoch - 1])
        return None

    def _released(self) -> Run | None:
        for run in self._waiting:
            if self._numbers[run.trial] not in self._running:
                self._waiting.remove(run)
                return run
        return None

    def report(self, job: Job, epoch: int, value: float) -> bool:
        """Note an epoch, and tell the peer if it is the one it asked for; see `Policy.report`."""
        number = job.key[1]
        self._values[number].append(value)
        self._worst.replace(value)
        if math.isfinite(value) and epoch < self._running[number].until_epoch:
            return True
        self._tell(self._running.pop(number), value)
        return False

    def _tell(self, run: Run, value: float) -> None:
        self.tell(run, self._worst.replace(value), has_diverged=not math.isfinite(value))

    @abstractmethod
    def ask(self) -> Run | None:
        """Return what to train; None if there is nothing before a running trial has been told."""

    @abstractmethod
    def tell(self, run: Run, value: float, *, has_diverged: bool) -> None:
        """Take what a trial reached."""


class OwnRandomness:
    """The global random states of a peer whose library draws from them, kept apart from everybody else's."""

    def __init__(self, seed: int) -> None:
        self._states = (random.Random(seed).getstate(), np.random.RandomState(seed).get_state())

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Put the peer's states in place, and the others' back at the end."""
        others = (random.getstate(), np.random.get_state())  # noqa: NPY002
        self._put(self._states)
        try:
            yield
        finally:
            self._states = (random.getstate(), np.random.get_state())  # noqa: NPY002
            self._put(others)

    @staticmethod
    def _put(states: tuple[object, object]) -> None:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


def num_steps(parameter: Parameter) -> int | None:
    """Return how many steps a stepped parameter has above its lower end; None where it has no step above 1."""
    distribution = parameter.distribution
    step = getattr(distribution, "step", None)
    if step is None or (isinstance(distribution, Int) and step == 1):
        return None
    return round((distribution.high - distribution.low) / step)


def choosing(values: dict[str, object], parameter: Parameter) -> Scalar:
    """Turn what a library says of a parameter into one of its values: indices into options, and steps, undone."""
    distribution, value = parameter.distribution, values[parameter.name]
    if isinstance(distribution, Choice):
        return distribution.options[int(value)]
    if num_steps(parameter) is not None:
        return on_grid(distribution, round(value))
    if isinstance(distribution, Int | LogInt):
        return min(max(round(value), distribution.low), distribution.high)  # Syne Tune's BOHB goes below now and then
    return min(max(float(value), distribution.low), distribution.high)  # what a round trip through a logarithm adds
