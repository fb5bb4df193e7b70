"""Lanes that are held while all that is left waits for one, and trials whose worker died."""

from types import SimpleNamespace
from typing import Any

import pytest

from tuner.execute.adapters import REST_S, RETRIES, STUCK_S, Lanes, LaneScheduler


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
    run: Any = SimpleNamespace(
        put_back=lambda task, _: put_back.append(task), fail=lambda _, reason, __: failed.append(reason)
    )
    lanes = Lanes(run, 2, Clock())
    for i in range(RETRIES + 1):
        trial = make(str(i), "ERROR" if does_tune_try_again else "PENDING")
        trial.should_recover = lambda: True
        trial.local_path, trial.run_metadata = None, SimpleNamespace(num_failures=1, error_filename=None)
        lanes._tasks[trial.trial_id] = task  # type: ignore[assignment]
        LaneScheduler(lanes).on_trial_error(None, trial)
    assert len(put_back) == (0 if does_tune_try_again else RETRIES)
    assert failed == ([] if does_tune_try_again else [f"its worker failed {RETRIES + 1} times, the last: "])


def test_the_first_trial_that_waits_is_chosen_and_finished_ones_are_never_looked_at_again() -> None:
    trials = [make(str(i), "PENDING") for i in range(4)]
    scheduler = LaneScheduler(open_lanes(Clock()))
    for trial in trials:
        scheduler.on_trial_add(None, trial)
    for i, trial in enumerate(trials):
        assert scheduler.choose_trial_to_run(None) is trial
        trial.status = "RUNNING"
        assert scheduler.choose_trial_to_run(None) is (trials[i + 1] if i < 3 else None)
        trial.status = "TERMINATED" if i else "PENDING"  # the first one's worker died, and Tune tries it again
        if i == 0:
            assert scheduler.choose_trial_to_run(None) is trial
            trial.status = "RUNNING"
    trials[0].status = "TERMINATED"
    assert scheduler.choose_trial_to_run(None) is None
    for trial in trials:
        del trial.status
    assert scheduler.choose_trial_to_run(None) is None


FULL = {"error": "OSError: no space", "traceback": "Traceback", "host": "node7", "is_machines_fault": True}


def test_a_lane_whose_machine_failed_a_trial_rests_while_another_works() -> None:
    clock, sick, sound = Clock(), make("sick", "RUNNING"), make("sound", "RUNNING")
    lanes = open_lanes(clock, sick, sound)
    put_back: list[str] = []
    lanes.run.put_back = lambda _, why: put_back.append(why)  # type: ignore[method-assign, assignment, misc]
    lanes.run.has_task = lambda: True  # type: ignore[method-assign]
    lanes._tasks["sick"] = SimpleNamespace(stage="coarse", number=3)  # type: ignore[assignment]
    assert lanes.on_result(sick, FULL) == "NOOP"
    assert put_back == ["node7: OSError: no space"]
    for clock.now in (0.0, REST_S - 0.1):
        assert lanes.release() == []
    clock.now = REST_S
    assert lanes.release() == [sick]


def test_the_only_lane_does_not_rest_and_its_trial_fails_after_a_few_tries() -> None:
    lanes, failed = open_lanes(Clock()), list[str]()
    lanes.run.put_back = lambda *_: None  # type: ignore[method-assign, assignment, misc]
    lanes.run.fail = lambda _, reason, *__: failed.append(reason)  # type: ignore[method-assign, assignment, misc]
    lanes.run.has_task = lambda: True  # type: ignore[method-assign]
    for i in range(RETRIES + 1):
        assert failed == []
        trial = make(str(i), "RUNNING")
        lanes._tasks[trial.trial_id] = SimpleNamespace(stage="coarse", number=3)  # type: ignore[assignment]
        lanes.on_add(trial)
        lanes.on_result(trial, FULL)
        assert lanes.release() == [trial]
        trial.status = "TERMINATED"
    assert failed == ["its machine failed it 4 times, the last: node7: OSError: no space"]
