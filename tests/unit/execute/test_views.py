import dataclasses
import math

from hypothesis import given
from hypothesis import strategies as st

from tuner.execute.views import view_record
from tuner.spec.search import Objective
from tuner.strategy.trial_view import TrialView
from tuner.track.ledger import TrialRecord

EPOCHS = st.lists(st.tuples(st.integers(0, 5).map(float) | st.just(math.nan), st.integers(1, 5)), max_size=8)


OBJECTIVES = [Objective(), Objective(metric="val_loss", mode="min", also=("val_accuracy", "seconds"))]


@given(EPOCHS, st.sampled_from(OBJECTIVES))
def test_a_trial_that_is_read_again_is_the_one_that_was_seen(
    epochs: list[tuple[float, int]], objective: Objective
) -> None:
    sign = 1.0 if objective.mode == "max" else -1.0
    seen = TrialView(3, {"x": 1}, (), "running")
    measured = [{"val_accuracy": value, "val_loss": value, "seconds": seconds} for value, seconds in epochs]
    for one in measured:
        seen = seen.extended(sign * one[objective.metric], objective.read_also(one))
    values = tuple(sign * value for value in seen.values)
    record = TrialRecord("only", 3, {"x": 1}, 0, "running", "", tuple(measured), values, None, None)
    assert repr(view_record(record, sign, objective)) == repr(dataclasses.replace(seen))


def test_further_objectives_are_those_of_the_best_epoch() -> None:
    view = TrialView(0, {}, (), "running")
    for value, also in [(0.5, 1.0), (0.4, 2.0), (0.5, 3.0), (0.6, 4.0), (math.nan, 5.0)]:
        view = view.extended(value, (also,))
    assert view.also == ((1.0,), (1.0,), (1.0,), (4.0,), (4.0,))
    assert view.at(3) == (0.5, 1.0)
