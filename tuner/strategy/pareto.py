"""Halving with several objectives: the first decides, and the front is spared."""

from tuner.spec.dominance import is_dominated
from tuner.strategy.history import History
from tuner.strategy.rules import Room, Rule


class FrontRule:
    """Spares the trials on the Pareto front of a rung, whatever a rule by the first objective says of them.

    Parameters
    ----------
    rule : Rule
        Decides by the first objective.
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self.waits_for_peers = rule.waits_for_peers

    def judge(self, number: int, rung: int, history: History) -> tuple[bool, str]:
        """Let the rule judge, and let the front go on; see `rules.Rule.judge`."""
        goes_on, text = self._rule.judge(number, rung, history)
        if not goes_on and _is_on_front(number, rung, history):
            return True, f"{text}; spared, for it is on the Pareto front of this rung"
        return goes_on, text

    def choose(self, history: History, room: Room, arrived: int | None = None) -> tuple[int | None, str]:
        """Let the rule choose, and let what arrives on the front go on; see `rules.Rule.choose`."""
        chosen, text = self._rule.choose(history, room, arrived)
        if arrived not in {None, chosen} and _is_on_front(arrived, len(history.own[arrived].values), history):
            return arrived, f"{text}; spared, for it is on the Pareto front of this rung"
        return chosen, text


def _is_on_front(number: int, rung: int, history: History) -> bool:
    trials = [history.own[other] for other in history.at(rung).values]
    reached = {trial.number: trial.at(rung) for trial in trials if len(trial.values) >= rung}
    return not is_dominated(reached[number], reached.values())
