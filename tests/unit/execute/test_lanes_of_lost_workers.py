"""Lanes that are held while all that is left waits for one, and trials whose worker died."""

from types import SimpleNamespace
from typing import Any

import pytest

from tuner.execute.adapters import RETRIES, STUCK_S, Lanes, LaneScheduler


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def make(name: str, status: str) -> Any:
    """What the lanes look at of a trial."""
    trial = SimpleNamespace(trial_id=name, status=status)
    trial.is_finished = lambda: trial.status in {"TERMINATED", "ERROR"}
    return trial


def open_lanes(clock: Clock, *trials: Any) -> Lanes:
    """Two lanes of a search that has nothing new to start, with trials on them."""
    run: Any = SimpleNamespace(is_finished=False, should_stop=False, has_task=lambda: False, report=lambda *_: False)
    lanes = Lanes(run, 2, clock)
    lanes._is_open = True
    for trial in trials:
        lanes._tasks[trial.trial_id] = SimpleNamespace()  # type: ignore[assignment]
        lanes.on_add(trial)
    return lanes


def test_a_held_lane_is_released_once_all_that_is_left_has_waited_in_vain() -> None:
    clock, over, waiting = Clock(), make("over", "RUNNING"), make("waiting", "PENDING")
    lanes = open_lanes(clock, over, waiting)
    lanes.on_result(over, {"measured": None})
    assert lanes.release() == []
    clock.now = STUCK_S - 0.1
    assert lanes.release() == []
    clock.now = STUCK_S
    assert lanes.release() == [over]
    clock.now = 10 * STUCK_S
    assert lanes.release() == []


def test_a_held_lane_stays_while_something_trains() -> None:
    clock, over = Clock(), make("over", "RUNNING")
    lanes = open_lanes(clock, over, make("waiting", "PENDING"), make("training", "RUNNING"))
    lanes.on_result(over, {"measured": None})
    for clock.now in (0.0, STUCK_S, 10 * STUCK_S):
        assert lanes.release() == []


@pytest.mark.parametrize("does_tune_try_again", [True, False])
def test_a_trial_whose_worker_died_while_it_took_it_over_is_put_back_a_few_times(*, does_tune_try_again: bool) -> None:
    put_back: list[Any] = []
    failed: list[str] = []
    task = SimpleNamespace(stage="coarse", number=3)
    run: Any = SimpleNamespace(put_back=put_back.append, fail=lambda _, reason, __: failed.append(reason))
    lanes = Lanes(run, 2, Clock())
    for i in range(RETRIES + 1):
        trial = make(str(i), "ERROR" if does_tune_try_again else "PENDING")
        trial.should_recover = lambda: True
        trial.local_path, trial.run_metadata = None, SimpleNamespace(num_failures=1, error_filename=None)
        lanes._tasks[trial.trial_id] = task  # type: ignore[assignment]
        LaneScheduler(lanes).on_trial_error(None, trial)
    assert len(put_back) == (0 if does_tune_try_again else RETRIES)
    assert failed == ([] if does_tune_try_again else [f"its worker failed {RETRIES + 1} times, the last: "])
