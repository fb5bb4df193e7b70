"""What samplers have in common that hand Optuna the trials of one rung, and ask it for the next."""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tuner.spec.space import Choice, Distribution, Int, LogInt, LogUniform, Parameter, Scalar, Space, Uniform
from tuner.strategy.draws import at, draw, first_new, generators, index_of, on_grid
from tuner.strategy.history import History
from tuner.strategy.model_free import QuasiRandomSampler
from tuner.strategy.prior import SHARE, Belief, fade
from tuner.strategy.ranking import has_result
from tuner.strategy.trial_view import STAGE_BEFORE, TrialView

NUM_MODEL_ATTEMPTS = 4
MAX_LESSON = 400  # trials: what a suggestion costs grows with them
NUM_BEST = 40  # of those, the best are told whenever they came; the rest are the latest

Distributions: TypeAlias = dict[str, BaseDistribution]
Suggest: TypeAlias = Callable[[Distributions], Mapping[str, Any]]
"""What gives values to parameters that have the same condition; those that it leaves out are drawn."""


class RungAwareSampler(ABC):
    """Learns from one rung at a time: the highest that enough trials have reached.

    The first points come from a quasi-random sequence. As soon as some rung has been reached by enough trials, at
    least two more than there are parameters, the highest such rung is what is learnt from. Parameters with the same
    condition are suggested jointly.

    Parameters
    ----------
    space : Space
        What to suggest from.
    seed : int, at least 0
        Another seed, other suggestions.
    stage_rungs : sequence of int, increasing
        The epochs at which the stage's trials can be compared, the last one included.
    num_objectives : int, at least 1
        How many values a trial has at a rung; larger ones are better.
    random_share : float in [0, 1]
        How many suggestions stay quasi-random after the start, so that no region is given up for what few epochs
        said of it. Under halving they cost little, since most are stopped early.

    Notes
    -----
    Trials carried over from an earlier stage, or else those of another search, are learnt from, by the same rule, only
    until a rung has enough of the stage's own. They trained on another schedule, where a rung's value means something
    else, so the two are never in one model.

    Where there are priors, a share of the suggestions is drawn from them: one that gets smaller as trials end.
    """

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        stage_rungs: Sequence[int],
        num_objectives: int = 1,
        random_share: float = 0.2,
    ) -> None:
        self._space = space
        self._seed = seed
        self._stage_rungs = tuple(stage_rungs)
        self._num_objectives = num_objectives
        self._random_share = random_share
        free = [parameter for parameter in space.parameters if not parameter.is_constant]
        self._sequence = QuasiRandomSampler(space, seed=seed)
        self._spread = QuasiRandomSampler(space, seed=seed, heeds_priors=False)
        self._belief = Belief(space)
        self._distributions = {parameter.name: _to_optuna(parameter.distribution) for parameter in free}
        self._num_active = _count_most_active(space)

    def ask(self, number: int, history: Iterable[TrialView]) -> dict[str, Scalar]:
        """Suggest what the rung's trials say is best, or a quasi-random point; see `sampler.Sampler.ask`."""
        history = History.of(history, self._stage_rungs)
        prior_share = 0.0 if self._belief.is_empty else min(SHARE, fade(history.num_ended))
        return first_new(history, self._propose(number, self._choose_lesson(history), prior_share))

    @abstractmethod
    def _learn(self, lesson: Sequence[FrozenTrial], rng: np.random.Generator) -> Suggest:
        """Learn from the trials of a rung: complete ones, and others, which have no value there and are running."""

    def _open_study(self, trials: Sequence[FrozenTrial], engine: BaseSampler) -> tuple[Study, FrozenTrial]:
        """Return a study that holds given trials, for an engine to ask, and the trial that it asks for."""
        study = Study("lesson", _Snapshot(trials, self._num_objectives), sampler=engine)
        return study, _freeze(len(trials), {}, {}, values=None)

    def _propose(self, number: int, lesson: Sequence[FrozenTrial], prior_share: float) -> Iterator[dict[str, Scalar]]:
        rngs = generators(self._seed, number)
        if not lesson:
            yield self._sequence.at(number)
        elif (chance := next(rngs).random()) < self._random_share:
            yield self._spread.at(number)
        elif chance < self._random_share + prior_share:
            yield self._belief.draw(next(rngs))
        else:
            for rng in itertools.islice(rngs, NUM_MODEL_ATTEMPTS):
                yield self._ask_model(lesson, rng)
        yield from (draw(self._space, rng) for rng in rngs)

    def _ask_model(self, lesson: Sequence[FrozenTrial], rng: np.random.Generator) -> dict[str, Scalar]:
        suggest = self._learn(lesson, rng)
        values: dict[str, Any] = {}
        asked: set[str] = set()

        def choose(parameter: Parameter) -> Scalar:
            if parameter.name not in asked:
                together = {
                    name: distribution
                    for name, distribution in self._distributions.items()
                    if self._space[name].condition == parameter.condition
                }
                values.update(suggest(together))
                asked.update(together)
            if parameter.name not in values:
                return at(parameter.distribution, rng.random())
            return _decode(parameter.distribution, values[parameter.name])

        return self._space.walk(choose)

    def _choose_lesson(self, history: History) -> list[FrozenTrial]:
        """Return what the model is to learn from; nothing while no rung has enough trials."""
        for rung in reversed(self._stage_rungs):
            # a rung's results hold the diverged too, which are no lesson by themselves
            if len(history.at(rung)) < self._num_active + 2:
                continue
            told = self._tell(self._choose_trials(history, rung), rung)
            if _count_values(told) >= self._num_active + 2:
                return self._freeze_all(told)
        past: dict[str, list[TrialView]] = {STAGE_BEFORE: []}  # before other searches
        for trial in history.carried:
            past.setdefault(trial.origin, []).append(trial)
        for carried in past.values():
            for length in sorted({len(trial.values) for trial in carried if has_result(trial)}, reverse=True):
                told = self._tell(carried, length)
                if _count_values(told) >= self._num_active + 2:
                    running = [(history.own[number], None) for number in history.running]
                    return self._freeze_all([*told, *running])
        return []

    def _choose_trials(self, history: History, rung: int) -> list[TrialView]:
        """Return the stage's trials, or of very many the best at a rung and the latest, in their order."""
        if len(history.own) <= MAX_LESSON:
            return list(history.own.values())
        best = itertools.islice(history.at(rung).best(), NUM_BEST)
        arrived = (row.number for row in reversed(history.at(rung).arrivals))
        latest = itertools.islice(arrived, MAX_LESSON // 2)
        numbers = {*best, *latest}
        for number in itertools.islice(reversed(history.own), MAX_LESSON):  # what never got there, and what runs
            if len(numbers) >= MAX_LESSON:
                break
            numbers.add(number)
        return [history.own[number] for number in sorted(numbers)]

    def _tell(self, trials: Iterable[TrialView], epochs: int) -> list[tuple[TrialView, tuple[float, ...] | None]]:
        return [(trial, self._values_at(trial, epochs)) for trial in trials]

    def _freeze_all(self, told: Iterable[tuple[TrialView, tuple[float, ...] | None]]) -> list[FrozenTrial]:
        return [self._freeze(i, trial, reached) for i, (trial, reached) in enumerate(told)]

    def _values_at(self, trial: TrialView, rung: int) -> tuple[float, ...] | None:
        """Return a trial's objectives at a rung; None where there is no result, or not in each of them."""
        values = trial.at(rung) if has_result(trial) and len(trial.values) >= rung else ()
        return values if len(values) == self._num_objectives and all(map(math.isfinite, values)) else None

    def _freeze(self, number: int, trial: TrialView, values: Sequence[float] | None) -> FrozenTrial:
        distributions = {name: self._distributions[name] for name in trial.config if name in self._distributions}
        params = {name: _encode(self._space[name].distribution, trial.config[name]) for name in distributions}
        return _freeze(number, params, distributions, values)


def _count_values(told: Iterable[tuple[TrialView, tuple[float, ...] | None]]) -> int:
    return sum(reached is not None for _, reached in told)


class _Snapshot(InMemoryStorage):
    """A storage that holds given trials: filling a real one would copy each of them every time."""

    def __init__(self, trials: Sequence[FrozenTrial], num_objectives: int) -> None:
        super().__init__()
        self._trials = list(trials)
        self._num_objectives = num_objectives

    def get_study_id_from_name(self, study_name: str) -> int:
        return 0

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return [StudyDirection.MAXIMIZE] * self._num_objectives

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return {}

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Do nothing: the engine leaves word of what it suggests for other processes, and here are none."""

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Do nothing, for the same reason."""


def _freeze(
    number: int,
    params: dict[str, Any],
    distributions: dict[str, BaseDistribution],
    values: Sequence[float] | None,
) -> FrozenTrial:
    return FrozenTrial(
        number=number,
        state=TrialState.RUNNING if values is None else TrialState.COMPLETE,
        value=None,
        values=values,
        datetime_start=None,
        datetime_complete=None,
        params=params,
        distributions=distributions,
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=number,
    )


def _count_most_active(space: Space) -> int:
    """Count the parameters that are free under those choices under which there are most."""

    def count(condition: tuple[str, str] | None) -> int:
        return sum(
            (not parameter.is_constant) + max(map(count, _conditions(parameter)), default=0)
            for parameter in space.parameters
            if parameter.condition == condition
        )

    return count(None)


def _conditions(parameter: Parameter) -> list[tuple[str, str]]:
    """List the conditions that can rest on a parameter."""
    if not isinstance(parameter.distribution, Choice):
        return []
    return [(parameter.name, option) for option in parameter.distribution.options if isinstance(option, str)]


def _to_optuna(distribution: Distribution) -> BaseDistribution:
    if isinstance(distribution, Choice):
        # Options go by index: Optuna compares them by value, and takes 1 and True for the same.
        return CategoricalDistribution(range(len(distribution.options)))
    if isinstance(distribution, Int):
        return IntDistribution(distribution.low, distribution.high, step=distribution.step)
    if isinstance(distribution, LogInt):
        return IntDistribution(distribution.low, distribution.high, log=True)
    if isinstance(distribution, LogUniform):
        return FloatDistribution(distribution.low, distribution.high, log=True)
    return FloatDistribution(distribution.low, distribution.high, step=distribution.step)


def _encode(distribution: Distribution, value: Scalar) -> Scalar:
    """Turn a value of ours into Optuna's."""
    return index_of(distribution, value) if isinstance(distribution, Choice) else value


def _decode(distribution: Distribution, value: Any) -> Scalar:
    """Turn a value of Optuna's into ours."""
    if isinstance(distribution, Choice):
        return distribution.options[int(value)]
    if isinstance(distribution, Int | LogInt):
        return int(value)
    if isinstance(distribution, Uniform) and distribution.step is not None:
        return on_grid(distribution, round((value - distribution.low) / distribution.step))
    return min(max(float(value), distribution.low), distribution.high)
