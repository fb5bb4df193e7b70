"""What a search takes from earlier ones."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tuner.spec.space import Space
from tuner.strategy.narrow import carry
from tuner.strategy.ranking import rank_trials
from tuner.strategy.trial_view import TrialView

MOST_TAKEN = 40  # trials of a search: with two rungs each, a model has some 60 rows of it
MOST_TRIED = 2  # of those, the best are trained again


def choose_trials(name: str, trials: Sequence[TrialView], space: Space) -> tuple[TrialView, ...]:
    """Choose what is learnt from an earlier search.

    Parameters
    ----------
    name : str
        The search's.
    trials : sequence of TrialView
        Of one of its stages.
    space : Space
        The new search's.

    Returns
    -------
    tuple of TrialView
        Trials that lie in the space and have a result, best first, marked with the search's name: all of them, or the
        best and as many that are spread evenly over the ranks of the others.
    """
    ranked = rank_trials(carry(trials, space, name))
    if len(ranked) <= MOST_TAKEN:
        return tuple(ranked)
    num_best = MOST_TAKEN // 2
    places = np.linspace(num_best, len(ranked) - 1, MOST_TAKEN - num_best).round().astype(int)
    return tuple(ranked[place] for place in (*range(num_best), *places))


def write_trials(trials: Iterable[TrialView]) -> list[dict[str, Any]]:
    """Turn trials into what JSON can hold, for the ledger: the search that they are from may be gone later."""
    return [
        {
            "search": trial.origin,
            "number": trial.number,
            "config": dict(trial.config),
            "values": trial.values,
            "state": trial.state,
            "also": trial.also,
            "cost": trial.cost,
        }
        for trial in trials
    ]


def read_trials(recorded: Iterable[Mapping[str, Any]]) -> tuple[TrialView, ...]:
    """Turn what the ledger has back into trials; the inverse of `write_trials`."""
    return tuple(
        TrialView(
            entry["number"],
            entry["config"],
            tuple(entry["values"]),
            entry["state"],
            entry["search"],
            tuple(tuple(values) for values in entry.get("also", ())),
            entry.get("cost", 1.0),
        )
        for entry in recorded
    )
