"""What the ledger has of other stages, as the strategy sees it."""

from collections.abc import Sequence

from tuner.strategy.trial_view import TrialView
from tuner.track.ledger import TrialRecord


def view_record(record: TrialRecord, sign: float) -> TrialView:
    """Show a recorded trial to the strategy.

    Parameters
    ----------
    record : TrialRecord
        The trial.
    sign : float
        1 where a larger objective is better and -1 where a smaller one is.
    """
    values = tuple(sign * value for value in record.values)
    return TrialView(number=record.number, config=record.config, values=values, state=record.state)


def view_records(records: Sequence[TrialRecord], *, maximize: bool) -> tuple[TrialView, ...]:
    """Show the trials of a finished stage to the strategy."""
    return tuple(view_record(record, 1.0 if maximize else -1.0) for record in records)
