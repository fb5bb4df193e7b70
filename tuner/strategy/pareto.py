"""Halving with several objectives: the first decides, and the front is spared."""

from collections.abc import Mapping, Sequence

from tuner.spec.dominance import is_dominated
from tuner.strategy.halving import Rule
from tuner.strategy.trial_view import TrialView


class FrontRule:
    """Spares the trials on the Pareto front of a rung, whatever a rule by the first objective says of them.

    Parameters
    ----------
    rule : Rule
        Decides by the first objective.
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def judge(
        self, number: int, rung: int, results: Mapping[int, float], history: Sequence[TrialView]
    ) -> tuple[bool, str]:
        """Let the rule judge, and let the front go on; see `halving.Rule.judge`."""
        goes_on, text = self._rule.judge(number, rung, results, history)
        if not goes_on:
            reached = {
                trial.number: trial.at(rung)
                for trial in history
                if trial.number in results and not trial.is_carried and len(trial.values) >= rung
            }
            if not is_dominated(reached[number], reached.values()):
                return True, f"{text}; spared, for it is on the Pareto front of this rung"
        return goes_on, text
