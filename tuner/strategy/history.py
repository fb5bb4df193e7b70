"""The trials of a stage so far, and what is often asked of them, kept up to date event by event."""

import bisect
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from tuner.spec.space import Config, Scalar
from tuner.strategy.trial_view import TrialView


class Row(NamedTuple):
    """A trial that came to a rung.

    Attributes
    ----------
    place : int
        In the order of arrival, over all rungs.
    number : int
        The trial.
    rung : int
        Which rung, counted from 0.
    value : float
        What it had reached there; NaN if it diverged or failed before.
    """

    place: int
    number: int
    rung: int
    value: float


class RungResults:
    """What came to one rung: values, larger being better, and their order; of equals the lower number is better."""

    def __init__(self) -> None:
        self.arrivals: list[Row] = []
        self.values: dict[int, float] = {}
        self._order: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._order)

    def add(self, row: Row) -> None:
        """Take a result; minus infinity for a trial that diverged."""
        self.arrivals.append(row)
        value = row.value if math.isfinite(row.value) else -math.inf
        self.values[row.number] = value
        bisect.insort(self._order, (-value, row.number))

    def place(self, number: int) -> int:
        """Return a trial's place among the results, the best being 1."""
        return bisect.bisect_left(self._order, (-self.values[number], number)) + 1

    def best(self) -> Iterator[int]:
        """Yield the numbers of the trials, best first."""
        return (number for _, number in self._order)

    def value_at(self, place: int) -> float:
        """Return the value at a place, the best being 1."""
        return -self._order[place - 1][0]


class History:
    """The trials of a stage so far, and those carried over from elsewhere.

    No question takes longer the more trials there are, or hardly so. Iterating yields all trials, carried ones first.

    Parameters
    ----------
    trials : iterable of TrialView
        Of the stage, in the order in which they came to where they are, and carried ones.
    rungs : sequence of int, increasing
        The epochs at which trials are compared.
    group : str
        The parameter of which peers have the same value; empty where all are peers.

    Attributes
    ----------
    carried : tuple of TrialView
        What was carried over.
    own : dict from int to TrialView
        The stage's trials by number.
    running, paused : dict from int to None
        The numbers of those that train, and of those that wait to be gone on with.
    rows : list of Row
        Every arrival at a rung, in their order.
    begun : dict from int to int
        How many arrivals there were when a trial began.
    num_epochs : int
        How many epochs the stage's trials have, all together.
    version : int
        How many events there were.
    """

    def __init__(self, trials: Iterable[TrialView] = (), *, rungs: Sequence[int] = (), group: str = "") -> None:
        self.rungs = tuple(rungs)
        self._group = group
        self.own: dict[int, TrialView] = {}
        self.running: dict[int, None] = {}
        self.paused: dict[int, None] = {}
        self.rows: list[Row] = []
        self.begun: dict[int, int] = {}
        self.num_epochs = 0
        self.version = 0
        self._results = [RungResults() for _ in self.rungs]
        self._groups: dict[tuple[int, object], RungResults] = {}
        self._rows_of: dict[int, list[Row]] = {}
        given = tuple(trials)
        self.carried = tuple(trial for trial in given if trial.is_carried)
        self._seen = {frozenset(trial.config.items()) for trial in self.carried}
        for trial in given:
            if not trial.is_carried:
                self.put(trial)

    @classmethod
    def of(cls, trials: "Iterable[TrialView]", rungs: Sequence[int] = ()) -> "History":
        """Return trials as a history with the given rungs, or itself if it is one."""
        if isinstance(trials, History) and (not rungs or trials.rungs == tuple(rungs)):
            return trials
        return cls(trials, rungs=rungs)

    def __iter__(self) -> Iterator[TrialView]:
        yield from self.carried
        yield from self.own.values()

    def __len__(self) -> int:
        return len(self.carried) + len(self.own)

    @property
    def num_ended(self) -> int:
        """How many trials, of the stage or one before it, do not train any more, or not now."""
        return len(self.own) - len(self.running) + sum(not trial.is_foreign for trial in self.carried)

    def has(self, config: Config) -> bool:
        """Tell whether a trial, also a carried one, has a config."""
        return frozenset(config.items()) in self._seen

    def at(self, epoch: int) -> RungResults:
        """Return the results at a rung."""
        return self._results[self.rungs.index(epoch)]

    def peers(self, number: int, epoch: int) -> RungResults:
        """Return the results at a rung of a trial's peers, and its own."""
        group = self._find_group(number)
        return self.at(epoch) if group is None else self._groups[self.rungs.index(epoch), group]

    def groups(self, epoch: int) -> list[RungResults]:
        """Return the results at a rung, apart for each group of peers."""
        index = self.rungs.index(epoch)
        apart = [results for (rung, _), results in self._groups.items() if rung == index]
        return apart if self._group else [self._results[index]]

    def _find_group(self, number: int) -> tuple[str, Scalar] | None:
        value = self.own[number].config.get(self._group) if self._group else None
        return None if value is None else (type(value).__name__, value)

    def put(self, trial: TrialView) -> None:
        """Take a new trial of the stage, or an old one as it is now."""
        old = self.own.get(trial.number)
        self.own[trial.number] = trial
        if old is None:
            self._seen.add(frozenset(trial.config.items()))
            self._rows_of[trial.number] = []
            self.begun[trial.number] = len(self.rows)
        num_before = 0 if old is None else len(old.values)
        self.num_epochs += len(trial.values) - num_before
        for index, rung in enumerate(self.rungs):
            if num_before < rung <= len(trial.values) and math.isfinite(trial.values[rung - 1]):
                self._arrive(trial.number, index, trial.values[rung - 1])
        has_broken = trial.state in {"diverged", "failed"}
        if has_broken and (old is None or old.state != trial.state):
            num_finite = sum(math.isfinite(value) for value in trial.values)
            index = bisect.bisect_right(self.rungs, num_finite)
            if index < len(self.rungs):
                self._arrive(trial.number, index, math.nan)
        for state, numbers in (("running", self.running), ("paused", self.paused)):
            if trial.state == state:
                numbers[trial.number] = None
            else:
                numbers.pop(trial.number, None)
        self.version += 1

    def _arrive(self, number: int, index: int, value: float) -> None:
        row = Row(len(self.rows), number, index, value)
        self.rows.append(row)
        self._rows_of[number].append(row)
        self._results[index].add(row)
        group = self._find_group(number)
        if group is not None:
            self._groups.setdefault((index, group), RungResults()).add(row)

    def select(self, limit: int, *, until: int | None = None, always: Iterable[int] = ()) -> list[Row]:
        """Choose about as many arrivals as a model can take: whole trials, the latest of each rung.

        Parameters
        ----------
        limit : int
            About how many.
        until : int or None
            Only of so many first arrivals; None for all.
        always : iterable of int
            Trials that must be among them, as long as there is room.

        Returns
        -------
        list of Row
            In the order of arrival. The highest rung fills up to half of what is left, the one below it half of the
            rest, and so on.
        """
        until = len(self.rows) if until is None else until
        if until <= limit:
            return self.rows[:until]
        chosen: dict[int, list[Row]] = {}
        left = limit

        def add(number: int) -> None:
            nonlocal left
            if number not in chosen and left > 0:
                chosen[number] = [row for row in self._rows_of[number] if row.place < until]
                left -= len(chosen[number])

        for number in always:
            add(number)
        for index in reversed(range(len(self.rungs))):
            floor = left // 2 if index else 0
            for row in reversed(self._results[index].arrivals):
                if left <= floor:
                    break
                if row.place < until:
                    add(row.number)
        return sorted(row for rows in chosen.values() for row in rows)
