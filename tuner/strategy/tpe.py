"""The tree-structured Parzen estimator, made aware of the rungs."""

from collections.abc import Sequence

import numpy as np
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial

from tuner.strategy.rung_aware import RungAwareSampler, Suggest


class RungAwareTpe(RungAwareSampler):
    """A tree-structured Parzen estimator that learns from one rung at a time.

    The first points come from a quasi-random sequence. As soon as some rung has been reached by enough
    trials, the multivariate TPE models the highest such rung: which regions hold the best tenth of the values
    there, and which the rest. Each suggestion maximises the ratio of the two densities over a few draws from
    the first. Parameters with the same condition are modelled jointly; those under an alternative from the
    trials that chose it.

    With several objectives the best tenth are the first Pareto fronts, and of the front that is cut those that
    together dominate the largest volume [3]_.

    Parameters as of `RungAwareSampler`.

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

    References
    ----------
    .. [1] Falkner, Klein and Hutter, "BOHB: Robust and Efficient Hyperparameter Optimization at Scale", ICML
       2018, arXiv:1807.01774, Algorithm 2.
    .. [2] Owen, "Scrambling Sobol' and Niederreiter-Xing points", Journal of Complexity 14, 1998.
    .. [3] Ozaki et al., "Multiobjective Tree-Structured Parzen Estimator", Journal of Artificial Intelligence
       Research 73, 2022, Algorithm 1.
    """

    def _learn(self, lesson: Sequence[FrozenTrial], rng: np.random.Generator) -> Suggest:
        engine = TPESampler(seed=int(rng.integers(2**32)), n_startup_trials=0, multivariate=True)
        study, asking = self._open_study(lesson, engine)
        return lambda together: engine.sample_relative(study, asking, together)
