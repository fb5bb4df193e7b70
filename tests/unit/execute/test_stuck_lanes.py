"""A lane that is held while all that is left waits for one."""

from types import SimpleNamespace
from typing import Any

from tuner.execute.adapters import STUCK_S, Lanes


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
