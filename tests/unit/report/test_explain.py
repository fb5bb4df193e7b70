"""The record in words."""

import dataclasses
from typing import Any

from tuner.report.explain import RungPlace, describe_audit, describe_diagnoses, describe_place, find_places
from tuner.strategy.audit import Audit, RungWorth
from tuner.track.ledger import TrialRecord


def record(number: int, *values: float, state: Any = "stopped", kind: str = "healthy") -> TrialRecord:
    """A trial."""
    diagnosis = {"kind": kind, "text": "so"}
    return TrialRecord("coarse", number, {}, 0, state, "because", (), values, None, None, diagnosis=diagnosis)


def test_a_trial_is_placed_among_all_that_came_to_its_rungs() -> None:
    trials = [record(0, 0.5, 0.6, 0.7), record(1, 0.4), record(2, 0.6), record(3, 0.3, 0.4, 0.5), record(4)]
    assert find_places(trials[1], trials, (1, 3), maximize=True) == (RungPlace(1, 0.4, 3, 4, 2, 0.5),)
    one, three = find_places(trials[0], trials, (1, 3), maximize=False)
    assert (one.place, one.cut) == (3, 0.4)
    assert (three.place, three.num_trials, three.num_further) == (2, 2, 0)
    assert describe_place(one, "val_loss") == "3rd of 4 with 0.5000; 2 trained on, and the 2nd had 0.4000"
    assert describe_place(three, "val_accuracy") == "2nd of 2 with 70.00%"


def test_curves_are_counted_and_advice_follows() -> None:
    trials = [record(n, 0.5, state="complete", kind="overfitting") for n in range(3)]
    lines = describe_diagnoses([*trials, record(3, kind="diverged"), record(4, kind="too short")])
    assert lines[0] == "learning curves: 1 diverged, 3 overfitting, 1 too short"
    assert lines[1].startswith("  3 of 3 trials that came to the end: overfitting; more l2, dropout")
    assert describe_diagnoses([dataclasses.replace(trials[0], diagnosis={})]) == []


def test_what_stopping_cost_is_told_with_its_interval() -> None:
    audit = Audit(100, 5, 10, 1, 0, 0.4, 0.05, 0.8, (RungWorth(1, 0.61, 7),), False, 300, 900)
    assert describe_audit(dataclasses.asdict(audit)) == [
        "halving: 300 of 900 epochs were trained, 67% saved",
        "  of the trials as good as the best 10 that came to the end by it, it stopped about 40% (5% to 80%, a 90% "
        "interval), by 5 audited trials, none of them better than all that it let through",
        "  rank correlation with the last epoch, over 7 trials that came to the end: epoch 1: 0.61",
        "  5 audited trials tell little; more trials, or halving: {audit: 0.2}, tell more",
    ]
    assert describe_audit(None) == []
