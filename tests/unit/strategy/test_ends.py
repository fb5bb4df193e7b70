import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.spec.search import Limits, Stage
from tuner.spec.space import LogUniform, Parameter, Space
from tuner.strategy.ends import Ends
from tuner.strategy.simulate import Curve, Event, Job, Search, simulate
from tuner.strategy.trial_view import STAGE_BEFORE, State, TrialView

SPACE = Space((Parameter("learning_rate", LogUniform(low=1e-3, high=1.0)),))
VALUES = st.integers(0, 4).map(float) | st.just(math.nan)  # few different ones, so that ties are common
LIMITS = st.builds(
    Limits,
    time_s=st.none() | st.integers(1, 20).map(float),
    trials=st.none() | st.integers(1, 8),
    epochs=st.none() | st.integers(1, 20),
    gpu_hours=st.none() | st.integers(1, 5).map(float),
    target=st.none() | st.integers(1, 4).map(float),
    no_improvement=st.none() | st.integers(1, 5),
)


@dataclass
class Record:
    """What a ledger would have: of each stage its trials in the order of their ends, those that run or wait last."""

    stages: list[tuple[list[TrialView], list[TrialView]]] = field(default_factory=lambda: [([], [])])
    gpu_s: float = 0.0

    @property
    def ended(self) -> list[TrialView]:
        return self.stages[-1][0]

    @property
    def running(self) -> list[TrialView]:
        return self.stages[-1][1]

    def replay(self, limits: Limits) -> Ends:
        """The counts of a driver that starts anew, and goes on with what was interrupted."""
        ends = Ends(limits)
        for ended, running in self.stages:
            ends.open_stage((), [*ended, *running])
        ends.spend(self.gpu_s)
        for trial in self.running:
            if trial.state == "running":
                ends.go_on(trial.number)
        return ends


@given(st.data(), LIMITS)
def test_what_was_recorded_up_to_any_event_gives_the_same_counts_again(data: st.DataObject, limits: Limits) -> None:
    live, record = Ends(limits), Record()
    live.open_stage((), ())
    for _ in range(data.draw(st.integers(0, 40))):
        match data.draw(st.sampled_from(["begin", "epoch", "pause", "end", "stage"])):
            case "begin":
                number = len(record.ended) + len(record.running)
                record.running.append(TrialView(number, {}, (), "running"))
                live.begin(number)
            case "epoch" if record.running:
                at = data.draw(st.integers(0, len(record.running) - 1))
                trial = record.running[at]
                if trial.state == "paused":
                    live.go_on(trial.number)
                value = max(trial.best, data.draw(VALUES))
                record.running[at] = replace(trial, values=(*trial.values, value), state="running")
                record.gpu_s += 1800
                live.add(value)
                live.spend(1800)
            case "pause" if record.running:
                at = data.draw(st.integers(0, len(record.running) - 1))
                record.running[at] = replace(record.running[at], state="paused")
                live.pause(record.running[at].number)
            case "end" if record.running:
                trial = record.running.pop(data.draw(st.integers(0, len(record.running) - 1)))
                state: State = data.draw(st.sampled_from(["complete", "stopped", "failed"]))
                record.ended.append(replace(trial, state=state))
                live.end(trial.number, trial.best)
            case "stage" if not record.running:
                record.stages.append(([], []))
                live.open_stage((), ())
        assert vars(record.replay(limits)) == vars(live)


@given(st.lists(st.integers(0, 4).map(float), max_size=30), st.integers(1, 5))
def test_no_improvement_ends_a_search_after_so_many_trials_none_better_than_those_before(
    bests: list[float], num_trials: int
) -> None:
    ends = Ends(Limits(no_improvement=num_trials))
    for number, best in enumerate(bests):
        ends.begin(number)
        ends.add(best)
        ends.end(number, best)
        earlier, latest = bests[: number + 1][:-num_trials], bests[: number + 1][-num_trials:]
        is_expected = bool(earlier) and max(latest) <= max(earlier)
        assert bool(ends.find_reason()) == is_expected
        if is_expected:
            return


def test_what_other_data_gave_is_nothing_to_improve_on() -> None:
    ends = Ends(Limits(no_improvement=1))
    ends.open_stage([TrialView(0, {}, (0.9,), "complete", origin="earlier")], ())
    ends.begin(0)
    ends.end(0, 0.2)
    assert not ends.find_reason()
    ends.begin(1)
    ends.end(1, 0.1)
    assert ends.find_reason() == "no improvement by the last 1 trials that ended"


def test_a_running_trial_that_is_the_best_is_waited_for() -> None:
    ends = Ends(Limits(no_improvement=2))
    for number in range(4):
        ends.begin(number)
    ends.add(1.0)
    ends.end(0, 1.0)
    ends.add(2.0)  # of trial 1, which runs on
    ends.end(2, 1.0)
    ends.end(3, -math.inf)
    assert not ends.find_reason()
    ends.end(1, 2.0)
    assert not ends.find_reason()
    for number in (4, 5):
        ends.begin(number)
        ends.end(number, 2.0)
    assert ends.find_reason() == "no improvement by the last 2 trials that ended"


def test_a_stage_counts_anew_and_is_to_improve_on_the_stage_before() -> None:
    ends = Ends(Limits(no_improvement=2))
    ends.begin(0)
    ends.end(0, 1.0)
    ends.begin(1)
    ends.end(1, 0.5)
    ends.open_stage((), ())
    ends.begin(0)
    ends.end(0, 0.9)
    assert not ends.find_reason()
    ends.begin(1)
    ends.end(1, 1.0)
    assert ends.find_reason()


def test_what_is_carried_over_is_to_be_improved_on_and_reaches_no_target() -> None:
    ends = Ends(Limits(no_improvement=1, target=0.8))
    ends.open_stage([TrialView(0, {}, (0.9,), "complete", origin=STAGE_BEFORE)], ())
    assert not ends.find_reason()
    ends.begin(0)
    ends.add(0.7)
    ends.end(0, 0.7)
    assert "no improvement" in ends.find_reason()


@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 5))
def test_with_any_number_of_workers_exactly_as_many_epochs_are_trained_as_are_allowed(
    seed: int, most: int, workers: int
) -> None:
    rng, ends = Random(seed), Ends(Limits(epochs=most))
    num_begun = num_epochs = 0
    running: list[int] = []
    while not ends.find_reason():
        while len(running) < workers and ends.may_begin:
            running.append(num_begun)
            ends.begin(num_begun)
            num_begun += 1
        number = rng.choice(running)  # never none: the search would wait for ever
        is_failed = rng.random() < 0.2
        if not is_failed:
            ends.add(0.5)
            num_epochs += 1
        if is_failed or ends.find_refusal() or rng.random() < 0.3:
            ends.end(number, 0.5)
            running.remove(number)
        assert num_epochs + len(running) <= most
    assert ends.find_reason() == f"the limit of {most} epochs was reached"
    assert num_epochs == most


def test_trials_that_were_let_begin_are_let_end() -> None:
    ends = Ends(Limits(trials=2))
    ends.begin(0)
    assert ends.may_begin
    ends.begin(1)
    assert not ends.may_begin
    assert ends.may_train
    ends.end(0, 1.0)
    assert not ends.find_reason()
    ends.end(1, 1.0)
    assert ends.find_reason() == "the limit of 2 trials was reached"


@pytest.mark.parametrize(("sign", "worse", "target"), [(1.0, 0.49, 0.5), (-1.0, -0.51, 0.5)])
def test_a_target_is_reached_in_the_direction_of_the_objective(sign: float, worse: float, target: float) -> None:
    ends = Ends(Limits(target=target), sign=sign)
    ends.begin(0)
    ends.add(math.nan)
    ends.add(worse)
    assert not ends.find_reason()
    ends.add(sign * target)
    assert ends.find_reason() == "the target of 0.5 was reached"


def test_gpu_hours_are_seconds_times_gpus() -> None:
    ends = Ends(Limits(gpu_hours=1.5))
    ends.spend(2 * 2699)
    assert not ends.find_reason()
    ends.spend(2)
    assert ends.find_reason() == "the limit of 1.5 GPU hours was reached"


def test_the_time_left_is_that_to_the_nearest_limit() -> None:
    now = [60.0]
    assert Ends(Limits(), clock=lambda: now[0]).guess_left_s() == math.inf
    ends = Ends(Limits(time_s=100, epochs=10, trials=4), clock=lambda: now[0])
    assert ends.guess_left_s() == pytest.approx(40.0)
    ends.begin(0)
    for _ in range(8):
        ends.add(0.5)
    assert ends.guess_left_s() == pytest.approx(15.0)
    ends.end(0, 0.5)
    now = [20.0]
    assert ends.guess_left_s() == pytest.approx(5.0)
    for number in (1, 2, 3):
        ends.begin(number)
        ends.end(number, 0.5)
    assert ends.guess_left_s() == 0.0


def test_epochs_left_are_guessed_at_the_speed_so_far_where_time_or_gpu_hours_are_limited() -> None:
    now = [0.0]
    ends = Ends(Limits(time_s=100, gpu_hours=2, epochs=30), clock=lambda: now[0])
    ends.begin(0)
    now = [20.0]
    assert (ends.num_epochs_left, ends.num_epochs_in_time) == (30, math.inf)
    for _ in range(4):
        ends.add(0.5)
        ends.spend(900)
    assert (ends.num_epochs_left, ends.num_epochs_in_time) == (4, 16)
    now = [50.0]
    assert ends.num_epochs_in_time == 4
    now = [101.0]
    assert ends.num_epochs_in_time == 0
    unlimited = Ends(Limits())
    unlimited.begin(0)
    unlimited.add(0.5)
    assert (unlimited.num_epochs_left, unlimited.num_epochs_in_time) == (math.inf, math.inf)


class TestSimulated:
    """The simulator's search has the same limits."""

    STAGES = tuple(
        Stage.model_validate({"name": name, "trials": trials, "max_epochs": 6, "sampler": "random"})
        for name, trials in (("coarse", 12), ("fine", 8))
    )

    def run(
        self, limits: Limits, workers: int, curve: Callable[[Job], list[float]] = lambda job: [float(job.key[1])] * 6
    ) -> tuple[list[Event], Search]:
        """The epochs that ended, and the search."""
        now = 0.0
        search = Search(self.STAGES, SPACE, seed=0, limits=limits, clock=lambda: now)
        events = []
        for event in simulate(search, lambda job: Curve(curve(job)), workers=workers, max_epochs=10**6):
            now = event.time_s
            events.append(event)
        return events, search

    @pytest.mark.parametrize("workers", [1, 2, 5])
    @pytest.mark.parametrize("most", [1, 17, 40])
    def test_epochs(self, workers: int, most: int) -> None:
        events, search = self.run(Limits(epochs=most), workers)
        assert len(events) == most
        assert search.stop_reason == f"the limit of {most} epochs was reached"

    @pytest.mark.parametrize("most", [3, 12, 15])
    def test_trials(self, most: int) -> None:
        events, search = self.run(Limits(trials=most), 3)
        assert len({event.job.key for event in events}) == most
        assert search.stop_reason == f"the limit of {most} trials was reached"

    @pytest.mark.parametrize("workers", [1, 2, 5])
    def test_a_stage_cut_short_by_a_limit_of_trials_trains_what_a_stage_of_so_many_does(self, workers: int) -> None:
        def train(job: Job) -> Curve:
            best = -abs(math.log10(job.config["learning_rate"]) + 1.5)  # type: ignore[arg-type]
            return Curve([best - 1 / epoch for epoch in range(1, 28)])

        trained = []
        for trials, limit in ((12, None), (1000, 12)):
            search = Search(
                [Stage(name="only", trials=trials, max_epochs=27)], SPACE, seed=0, limits=Limits(trials=limit)
            )
            events = simulate(search, train, workers=workers, max_epochs=10**6)
            trained.append([(event.job.key, event.epoch, event.value) for event in events])
        assert search.stop_reason == "the limit of 12 trials was reached"
        assert len(trained[0]) < 12 * 27 / 2
        assert trained[0] == trained[1]

    def test_time(self) -> None:
        events, search = self.run(Limits(time_s=10), 2)
        assert {event.time_s for event in events} == {float(second) for second in range(1, 11)}
        assert search.stop_reason == "the time limit of 10 s was reached"

    @pytest.mark.parametrize(("workers", "time_s"), [(1, 100.0), (4, 40.0)])
    def test_near_the_end_of_its_time_a_worker_begins_nothing_that_it_cannot_end(
        self, workers: int, time_s: float
    ) -> None:
        num_epochs, now = 9, 0.0
        stage = Stage.model_validate({"name": "only", "trials": 1000, "max_epochs": num_epochs, "sampler": "gp"})
        search = Search([stage], SPACE, seed=0, limits=Limits(time_s=time_s), clock=lambda: now)

        def train(job: Job) -> Curve:
            best = -abs(math.log10(job.config["learning_rate"]) + 1.5)  # type: ignore[arg-type]
            return Curve([best - 1 / epoch for epoch in range(1, num_epochs + 1)])

        late, ends = [], 0
        for event in simulate(search, train, workers=workers, max_epochs=10**6):
            now = event.time_s
            late += [event] if event.epoch == 1 and now - 1 > time_s - num_epochs else []
            ends += event.epoch == num_epochs and now > time_s - num_epochs
        assert search.stop_reason == f"the time limit of {time_s:g} s was reached"
        assert late == []
        assert ends >= workers

    def test_target(self) -> None:
        events, search = self.run(Limits(target=4), 1)
        assert events[-1].value == 4
        assert sum(event.value >= 4 for event in events) == 1
        assert search.stop_reason == "the target of 4.0 was reached"

    def test_what_is_under_way_at_the_end_is_not_recorded(self) -> None:
        events, search = self.run(Limits(target=4), 3)
        num_recorded = sum(len(view.values) for view in search.searches[-1].views.values())
        assert next(i for i, event in enumerate(events, start=1) if event.value >= 4) == num_recorded < len(events)

    def test_no_improvement(self) -> None:
        events, search = self.run(Limits(no_improvement=4), 1, lambda job: [-float(abs(job.key[1] - 5))] * 6)
        assert max(event.job.key[1] for event in events) == 9
        assert search.stop_reason.startswith("no improvement by the last 4")

    def test_a_limit_that_comes_with_the_end_of_all_is_none(self) -> None:
        events, search = self.run(Limits(trials=20), 3)
        assert len({event.job.key for event in events}) == 20
        assert search.stop_reason == ""

    @pytest.mark.parametrize("workers", [1, 3])
    def test_gpu_hours(self, workers: int) -> None:
        search = Search(self.STAGES, SPACE, seed=0, limits=Limits(gpu_hours=5))
        num_epochs = 0
        for _ in simulate(search, lambda _: Curve([0.0] * 6), workers=workers, max_epochs=10**6):
            if not search.stop_reason:
                num_epochs += 1
                search.spend(1800)
        assert num_epochs == 10
        assert search.stop_reason == "the limit of 5 GPU hours was reached"

    def test_a_loss_has_its_target_from_above(self) -> None:
        search = Search(self.STAGES, SPACE, seed=0, sign=-1, limits=Limits(target=0.5))
        values = [-0.9, -0.7, -0.5, -0.3, -0.2, -0.1]
        events = list(simulate(search, lambda _: Curve(values), workers=1, max_epochs=10**6))
        assert search.stop_reason == "the target of 0.5 was reached"
        assert events[-1].value == -0.5
