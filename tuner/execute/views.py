"""What the ledger has of other stages, as the strategy sees it."""

import dataclasses
import math
from collections.abc import Sequence

from tuner.spec.search import Objective
from tuner.strategy.trial_view import TrialView
from tuner.track.ledger import TrialRecord


def view_record(record: TrialRecord, sign: float, objective: Objective) -> TrialView:
    """Show a recorded trial to the strategy.

    Parameters
    ----------
    record : TrialRecord
        The trial.
    sign : float
        1 where a larger objective is better and -1 where a smaller one is.
    objective : Objective
        Says what else counts.
    """
    values = tuple(sign * value for value in record.values)
    view = TrialView(number=record.number, config=record.config, values=values, state=record.state)
    if not objective.also:
        return view
    best, also = -math.inf, list[tuple[float, ...]]()
    for value, measured in zip(values, record.epochs, strict=False):
        also.append(objective.read_also(measured) if value > best or not also else also[-1])
        best = max(best, value)
    return dataclasses.replace(view, also=tuple(also))


def view_records(records: Sequence[TrialRecord], objective: Objective, *, maximize: bool) -> tuple[TrialView, ...]:
    """Show the trials of a finished stage to the strategy."""
    return tuple(view_record(record, 1.0 if maximize else -1.0, objective) for record in records)
