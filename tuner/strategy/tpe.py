"""The tree-structured Parzen estimator, made aware of the rungs."""

import itertools
from collections.abc import Container, Iterator, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.storages import InMemoryStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tuner.spec.space import Choice, Distribution, Int, LogInt, LogUniform, Parameter, Scalar, Space, Uniform
from tuner.strategy.draws import draw, first_new, generators, index_of, on_grid
from tuner.strategy.model_free import QuasiRandomSampler
from tuner.strategy.prior import SHARE, Belief, fade
from tuner.strategy.ranking import has_result
from tuner.strategy.trial_view import STAGE_BEFORE, TrialView

NUM_MODEL_ATTEMPTS = 4


class RungAwareTpe:
    """A tree-structured Parzen estimator that learns from one rung at a time.

    The first points come from a quasi-random sequence. As soon as some rung has been reached by enough
    trials, the multivariate TPE models the highest such rung: which regions hold the best tenth of the values
    there, and which the rest. Each suggestion maximises the ratio of the two densities over a few draws from
    the first. Parameters with the same condition are modelled jointly; those under an alternative from the
    trials that chose it.

    Parameters
    ----------
    space : Space
        What to suggest from.
    seed : int, at least 0
        Another seed, other suggestions.
    stage_rungs : sequence of int, increasing
        The epochs at which the stage's trials can be compared, the last one included.
    random_share : float in [0, 1]
        How many suggestions stay quasi-random after the start, so that no region is given up for what few epochs
        said of it. Under halving they cost little, since most are stopped early.

    Notes
    -----
    A value after 3 epochs and one after 27 say different things, and a model that takes them as alike prefers
    whatever looks good early. As in BOHB [1]_ the model therefore sees the values at a single rung, the
    highest that at least two trials more than there are parameters have reached. What differs from BOHB:

    - The engine is Optuna's multivariate TPE instead of a kernel density with imputed values.
    - Trials without a value at the rung count as not among the best: those that were stopped below it, so that the
      model keeps what was learnt about poor regions; those that diverged or failed; and those that run (the constant
      liar), so that workers that ask at the same time are sent to different places.
    - The start and the random share follow a scrambled Sobol sequence [2]_, indexed by the trial's number.
    - Where there are priors, a share of the suggestions is drawn from them: one that gets smaller as trials end.

    Trials carried over from an earlier stage, or else those of another search, are modelled, by the same rule, only
    until a rung has enough of the stage's own. They trained on another schedule, where a rung's value means something
    else, so the two are never in one model.

    References
    ----------
    .. [1] Falkner, Klein and Hutter, "BOHB: Robust and Efficient Hyperparameter Optimization at Scale", ICML
       2018, arXiv:1807.01774, Algorithm 2.
    .. [2] Owen, "Scrambling Sobol' and Niederreiter-Xing points", Journal of Complexity 14, 1998.
    """

    def __init__(self, space: Space, *, seed: int, stage_rungs: Sequence[int], random_share: float = 0.2) -> None:
        self._space = space
        self._seed = seed
        self._stage_rungs = tuple(stage_rungs)
        self._random_share = random_share
        free = [parameter for parameter in space.parameters if not parameter.is_constant]
        self._sequence = QuasiRandomSampler(space, seed=seed)
        self._spread = QuasiRandomSampler(space, seed=seed, heeds_priors=False)
        self._belief = Belief(space)
        self._distributions = {parameter.name: _to_optuna(parameter.distribution) for parameter in free}
        self._num_needed = _count_most_active(space) + 2

    def ask(self, number: int, history: Sequence[TrialView]) -> dict[str, Scalar]:
        """Suggest what the model likes best, or a quasi-random point; see `sampler.Sampler.ask`."""
        num_ended = sum(trial.state != "running" and not trial.is_foreign for trial in history)
        prior_share = 0.0 if self._belief.is_empty else min(SHARE, fade(num_ended))
        return first_new(history, self._propose(number, self._choose_lesson(history), prior_share))

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
        engine = TPESampler(seed=int(rng.integers(2**32)), n_startup_trials=0, multivariate=True)
        study = Study("lesson", _Snapshot(lesson), sampler=engine)
        asking = _freeze(len(lesson), {}, {}, value=None)
        values: dict[str, Any] = {}

        def choose(parameter: Parameter) -> Scalar:
            if parameter.name not in values:
                together = {
                    name: distribution
                    for name, distribution in self._distributions.items()
                    if self._space[name].condition == parameter.condition
                }
                values.update(engine.sample_relative(study, asking, together))
            return _decode(parameter.distribution, values[parameter.name])

        return self._space.walk(choose)

    def _choose_lesson(self, history: Sequence[TrialView]) -> list[FrozenTrial]:
        """Return what the model is to learn from; nothing while no rung has enough trials."""
        own = [trial for trial in history if not trial.is_carried]
        past: dict[str, list[TrialView]] = {STAGE_BEFORE: []}  # before other searches
        for trial in history:
            if trial.is_carried:
                past.setdefault(trial.origin, []).append(trial)
        lengths = [sorted({len(trial.values) for trial in carried if has_result(trial)}) for carried in past.values()]
        for trials, epochs in ((own, self._stage_rungs), *zip(past.values(), lengths, strict=True)):
            for rung in reversed(epochs):
                values = [_value_at(trial, rung) for trial in trials]
                if sum(value is not None for value in values) >= self._num_needed:
                    told = list(zip(trials, values, strict=True))
                    if trials is not own:
                        told += [(trial, None) for trial in own if trial.state == "running"]
                    return [self._freeze(i, trial, value) for i, (trial, value) in enumerate(told)]
        return []

    def _freeze(self, number: int, trial: TrialView, value: float | None) -> FrozenTrial:
        distributions = {name: self._distributions[name] for name in trial.config if name in self._distributions}
        params = {name: _encode(self._space[name].distribution, trial.config[name]) for name in distributions}
        return _freeze(number, params, distributions, value)


class _Snapshot(InMemoryStorage):
    """A storage that holds given trials: filling a real one would copy each of them every time."""

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._trials = list(trials)

    def get_study_id_from_name(self, study_name: str) -> int:
        return 0

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return [StudyDirection.MAXIMIZE]

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Do nothing: the engine leaves word of what it suggests for other processes, and here are none."""


def _freeze(
    number: int, params: dict[str, Any], distributions: dict[str, BaseDistribution], value: float | None
) -> FrozenTrial:
    return FrozenTrial(
        number=number,
        state=TrialState.RUNNING if value is None else TrialState.COMPLETE,
        value=value,
        datetime_start=None,
        datetime_complete=None,
        params=params,
        distributions=distributions,
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=number,
    )


def _value_at(trial: TrialView, rung: int) -> float | None:
    return trial.values[rung - 1] if has_result(trial) and len(trial.values) >= rung else None


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
