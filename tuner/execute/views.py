"""What the ledger has of other stages, as the strategy sees it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from tuner.spec.search import Objective
from tuner.strategy.diagnose import KINDS, Kind
from tuner.strategy.trial_view import TrialView
from tuner.track.ledger import TrialRecord


def read_cost(measured: Mapping[str, float], axis: str) -> float:
    """Return what an epoch cost on the axis that halving counts on; 1 where that is epochs, or nothing was measured."""
    cost = measured.get(axis, 1.0)
    return cost if cost > 0 else 1.0


def view_record(record: TrialRecord, sign: float, objective: Objective, axis: str = "epochs") -> TrialView:
    """Show a recorded trial to the strategy.

    Parameters
    ----------
    record : TrialRecord
        The trial.
    sign : float
        1 where a larger objective is better and -1 where a smaller one is.
    objective : Objective
        Says what else counts.
    axis : str
        What halving counts on.
    """
    values = tuple(sign * value for value in record.values)
    costs = [read_cost(measured, axis) for measured in record.epochs]
    cost = sum(costs) / len(costs) if costs else 1.0
    view = TrialView(number=record.number, config=record.config, values=values, state=record.state, cost=cost)
    if not objective.also:
        return view
    best, also = -math.inf, list[tuple[float, ...]]()
    for value, measured in zip(values, record.epochs, strict=False):
        also.append(objective.read_also(measured) if value > best or not also else also[-1])
        best = max(best, value)
    return dataclasses.replace(view, also=tuple(also))


def read_kinds(records: Sequence[TrialRecord]) -> dict[int, Kind]:
    """Return which shape the learning curves of trials have, by their numbers; of those alone that have any."""
    return {record.number: KINDS[record.diagnosis["kind"]] for record in records if record.diagnosis}


def view_records(records: Sequence[TrialRecord], objective: Objective, *, maximize: bool) -> tuple[TrialView, ...]:
    """Show the trials of a finished stage to the strategy."""
    return tuple(view_record(record, 1.0 if maximize else -1.0, objective) for record in records)
