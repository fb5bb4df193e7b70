"""NSGA-II, made aware of the rungs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.samplers import NSGAIISampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from tuner.strategy.rung_aware import Distributions, RungAwareSampler, Suggest

MOST_PARENTS = 50


class RungAwareNsga2(RungAwareSampler):
    """The genetic algorithm NSGA-II, whose parents are trials of one rung.

    The first points come from a quasi-random sequence. As soon as some rung has been reached by enough trials, each
    suggestion is a child of two trials that reached the highest such rung: of the better half of them, by Pareto
    fronts, and on the front that is cut by how far they are from their neighbours. A parameter is one of the parents',
    or, in about one place a child, drawn anew. What depends on an option is had from parents that chose it.

    Parameters as of `RungAwareSampler`.

    Notes
    -----
    The operators are Optuna's. What differs from the paper [1]_: there are no generations, for trials end at any time.
    The parents are selected from all trials at the rung whenever a child is wanted, as in the steady-state variant
    [2]_, and trials without a value at the rung are not among them. The crossover is uniform and a mutation draws the
    whole range, for most parameters of a search have few values or options without an order.

    References
    ----------
    .. [1] Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE Transactions on Evolutionary
       Computation 6(2), 2002.
    .. [2] Durillo et al., "On the Effect of the Steady-State Selection Scheme in Multi-Objective Genetic Algorithms",
       EMO 2009.
    """

    def _learn(self, lesson: Sequence[FrozenTrial], rng: np.random.Generator) -> Suggest:
        def suggest(together: Distributions) -> dict[str, Any]:
            """Make a child of those that have the parameters; of fewer than two there is none."""
            able = [t for t in lesson if t.state == TrialState.COMPLETE and together.keys() <= t.params.keys()]
            if len(able) < 2:
                return {}
            engine = _SteadyState(
                population_size=min(max(2, len(able) // 2), MOST_PARENTS),
                mutation_prob=1 / (self._num_active + 1),
                seed=int(rng.integers(2**32)),
            )
            study, asking = self._open_study(able, engine)
            return engine.sample_relative(study, asking, together)

        return suggest


class _SteadyState(NSGAIISampler):
    """Selects the parents of every trial from all that are complete."""

    def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
        return 1

    def get_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        return study.get_trials(deepcopy=False)
