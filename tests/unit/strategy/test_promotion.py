"""Trials that wait at their rungs: who is gone on with, and when a stage of such is over."""

import itertools
import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.spec.search import Limits, Stage
from tuner.spec.space import Config, LogUniform, Parameter, Space, Uniform
from tuner.strategy.ends import Ends
from tuner.strategy.halving import plan_epochs
from tuner.strategy.stage_search import StageSearch
from tuner.strategy.trial_view import TrialView

SPACE = Space((Parameter("rate", LogUniform(low=1e-3, high=1.0)), Parameter("x", Uniform(low=0.0, high=1.0))))
MAX_EPOCHS = 9
Measure = Callable[[Config, int], float]


def learn(config: Config, epoch: int) -> float:
    """Curves that cross: what starts slowly gets further, and large steps diverge."""
    off = math.log10(float(config["rate"])) + 1.5
    if off > 1.2:
        return math.nan
    return 0.9 - 0.1 * off**2 - 0.3 * (float(config["x"]) - 0.4) ** 2 - 0.5 * math.exp(-epoch / max(0.3, 1.5 + off))


def rise_late(config: Config, epoch: int) -> float:
    """Curves of 27 epochs that gain most at their end, so that no rung tells much."""
    luck = np.random.default_rng(zlib.crc32(repr(sorted(config.items())).encode())).normal()
    return 0.1 * epoch / 27 + 0.3 * (math.tanh(luck) + float(config["x"])) * (epoch / 27) ** 2


def open_stage(
    rule: str,
    *,
    sampler: str = "random",
    seed: int = 0,
    trials: int = 30,
    max_epochs: int = MAX_EPOCHS,
    audit: float = 0.0,
    so_far: tuple[TrialView, ...] = (),
    **more: Any,
) -> StageSearch:
    halving = {"rule": rule, "type": "promotion", "min_peers": 1, "audit": audit}
    stage = {"name": "only", "trials": trials, "max_epochs": max_epochs, "sampler": sampler, "halving": halving}
    return StageSearch(Stage.model_validate(stage), SPACE, None, so_far, seed=seed, **more)


class Player:
    """Workers that train what a stage wants, and the order of what happened."""

    def __init__(self, search: StageSearch, measure: Measure = learn) -> None:
        self.search = search
        self.order: list[int] = []
        self.training: list[int] = []
        self._measure = measure

    def start(self) -> TrialView | None:
        if not self.search.has_next:
            return None
        view = self.search.start()
        if not view.values:
            self.order.append(view.number)
        self.training.append(view.number)
        return view

    def step(self, worker: int) -> None:
        number = self.training[worker % len(self.training)]
        view = self.search.views[number]
        epoch = len(view.values) + 1
        self.search.add(number, self._measure(view.config, epoch))
        self.order.append(number)
        state = self.search.judge(number, epoch).state
        if state is not None:
            self.search.end(number, state)
            self.training.remove(number)

    def look_ahead(self, left: float) -> tuple[float, bool]:
        """Return how many epochs no trial needs until it is judged, and whether one can come to its end."""
        done = [len(self.search.views[number].values) for number in self.training]
        needed = sum(next(rung for rung in self.search.history.rungs if rung > epochs) - epochs for epochs in done)
        return left - needed, any(MAX_EPOCHS - epochs <= left for epochs in done)

    def play(self, num_workers: int = 1, turns: int = 10**6) -> None:
        for turn in range(turns):
            while len(self.training) < num_workers and self.start() is not None:
                pass
            if not self.training:
                return
            self.step(turn * 7)


@given(st.sampled_from(["rank", "median"]), st.integers(1, 5), st.integers(0, 99))
def test_nobody_is_promoted_over_a_better_peer(rule: str, num_workers: int, seed: int) -> None:
    player = Player(open_stage(rule, seed=seed))
    search = player.search
    while True:
        while len(player.training) < num_workers and (view := player.start()) is not None:
            if view.values:
                rung = len(view.values)
                waiting = [search.views[n] for n in search.history.paused if len(search.views[n].values) == rung]
                assert all(view.best >= other.best for other in waiting)
                results = search.history.at(rung)
                most = len(results) // 3 if rule == "rank" else (len(results) + 1) // 2
                assert results.place(view.number) <= most
        if not player.training:
            break
        player.step(seed)


def test_one_that_was_passed_over_is_gone_on_with_when_others_turn_out_worse() -> None:
    """The first of three at a rung waits, and is promoted when the third has come."""
    search = open_stage("rank")
    for number, value in enumerate((0.6, 0.5, 0.4)):
        view = search.start()
        assert view.number == number
        search.add(number, value)
        search.end(number, search.judge(number, 1).state or "running")
    assert [search.views[n].state for n in range(3)] == ["paused"] * 3
    again = search.start()
    assert (again.number, again.values, again.state) == (0, (0.6,), "running")


@pytest.mark.parametrize(("rule", "sampler"), [("rank", "random"), ("forecast", "gp"), ("promise", "gp")])
@pytest.mark.parametrize("num_workers", [1, 4])
def test_a_stage_begins_all_its_trials_and_trains_about_as_much_as_halving_does(
    rule: str, sampler: str, num_workers: int
) -> None:
    player = Player(open_stage(rule, sampler=sampler))
    player.play(num_workers)
    search = player.search
    assert search.is_over and search.num_running == 0
    assert len(search.views) == 30
    assert any(trial.state == "complete" for trial in search.views.values())
    assert {trial.state for trial in search.views.values()} <= {"complete", "paused", "diverged"}
    plan = plan_epochs(search.stage)
    # by ranks more go on than were planned: one that has gone on may fall back among its peers
    most = 1.5 * plan if rule == "rank" else plan
    assert 0.5 * plan <= search.history.num_epochs <= most + MAX_EPOCHS * num_workers


@pytest.mark.parametrize("audit", [0.0, 0.3])
def test_what_audited_trials_train_is_not_taken_from_the_others(audit: float) -> None:
    player = Player(open_stage("promise", sampler="gp", audit=audit))
    player.play(num_workers=2)
    search = player.search
    audited = search.audited
    assert len(audited) > 5 or not audit
    assert all(search.views[number].state in {"complete", "diverged"} for number in audited)
    others = [trial for trial in search.views.values() if trial.number not in audited]
    past_the_first = sum(max(0, len(trial.values) - 1) for trial in others)
    assert past_the_first > 0.7 * (plan_epochs(search.stage) - 30)
    assert past_the_first < plan_epochs(search.stage) - 30 + 2 * MAX_EPOCHS


@pytest.mark.parametrize("rule", ["rank", "promise"])
def test_when_all_trials_diverge_the_stage_is_over(rule: str) -> None:
    player = Player(open_stage(rule, sampler="gp"), lambda *_: math.nan)
    player.play(3)
    assert player.search.is_over
    assert {trial.state for trial in player.search.views.values()} == {"diverged"}


def test_near_the_end_nothing_begins_that_cannot_be_trained_to_the_last_epoch() -> None:
    ends = Ends(Limits(epochs=100))
    player = Player(open_stage("promise", sampler="gp", trials=1000, ends=ends))
    late = []
    while player.search.has_next or player.training:
        begun = player.start() if not player.training else None
        if begun is not None and not begun.values and ends.num_epochs_left < MAX_EPOCHS:
            late.append(begun.number)
        if not player.training:
            break
        player.step(0)
    assert player.search.history.num_epochs == 100
    assert late == []


@pytest.mark.parametrize("seed", range(4))
def test_near_the_end_several_workers_leave_the_epochs_to_what_can_come_to_the_last(seed: int) -> None:
    """New trials begin as long as one of them has room, however many workers there are; then some stand idle."""
    ends = Ends(Limits(epochs=100))
    player = Player(open_stage("promise", sampler="gp", trials=1000, seed=seed, ends=ends))
    search, num_workers, num_begun_late, has_idled = player.search, 4, 0, False
    for turn in itertools.count():
        while len(player.training) < num_workers:
            left = ends.num_epochs_left
            spare, can_end = player.look_ahead(left)
            view = player.start()
            if view is None:
                has_idled = has_idled or left > 0
                break
            assert MAX_EPOCHS - len(view.values) <= spare or not can_end
            num_begun_late += not view.values and left < num_workers * MAX_EPOCHS
        if not player.training:
            break
        player.step(turn)
    assert search.history.num_epochs == 100
    assert num_begun_late > 0
    assert has_idled
    unfinished = [trial for trial in search.views.values() if len(trial.values) not in search.history.rungs]
    assert sum(len(trial.values) for trial in unfinished) < num_workers * MAX_EPOCHS / 2


def test_of_many_workers_none_begins_anew_where_a_quarter_of_a_training_is_left_for_each() -> None:
    """The last epochs go to those of the many that were begun which have turned out best."""
    ends = Ends(Limits(epochs=400))
    player = Player(open_stage("promise", sampler="gp", trials=1000, ends=ends))
    search, num_workers, num_gone_on_late = player.search, 32, 0
    for turn in itertools.count():
        while len(player.training) < num_workers:
            spare, can_end = player.look_ahead(ends.num_epochs_left)
            is_late = can_end and spare < (len(player.training) + 1) / 4 * MAX_EPOCHS
            view = player.start()
            if view is None:
                break
            assert view.values or not is_late
            num_gone_on_late += is_late
        if not player.training:
            break
        player.step(turn)
    assert search.history.num_epochs == 400
    assert num_gone_on_late > 0


@pytest.mark.parametrize("num_workers", [1, 8, 32])
@pytest.mark.parametrize("trials", [40, 60, 100])
def test_a_stage_trains_about_what_halving_would_however_many_workers_there_are(num_workers: int, trials: int) -> None:
    """Many come to a rung before anything was trained past it: they must not all go on."""
    search = open_stage("promise", sampler="gp", trials=trials, max_epochs=27)
    Player(search).play(num_workers)
    planned = plan_epochs(search.stage)
    assert len(search.views) == trials
    assert planned <= search.history.num_epochs <= planned + 3 * 27
    assert sum(trial.state == "complete" for trial in search.views.values()) >= 2


@pytest.mark.parametrize("trials", [60, 100])
@pytest.mark.parametrize("seed", range(2))
def test_some_epochs_of_several_workers_are_left_for_the_best_when_all_have_begun(trials: int, seed: int) -> None:
    """Of eight that begin together none is complete for long: if all went on till then, later trials never would."""
    player = Player(open_stage("promise", sampler="gp", trials=trials, max_epochs=27, seed=seed), rise_late)
    num_epochs = 0
    for turn in itertools.count():
        while len(player.training) < 8 and (view := player.start()) is not None:
            num_epochs = num_epochs if view.values else player.search.history.num_epochs
        if not player.training:
            break
        player.step(turn * 7)
    assert len(player.search.views) == trials
    assert player.search.history.num_epochs - num_epochs >= 27


@pytest.mark.parametrize("more", [0, 20])
def test_a_limit_a_little_above_what_halving_plans_is_used_up(more: int) -> None:
    """As it cuts the stage short, its epochs are not kept for trials that have not begun."""
    num_epochs = 150 + more
    search = open_stage("promise", sampler="gp", trials=50, max_epochs=27, seed=1, ends=Ends(Limits(epochs=num_epochs)))
    assert plan_epochs(search.stage) == 150
    Player(search).play(num_workers=8)
    assert search.history.num_epochs == num_epochs


@pytest.mark.parametrize("num_workers", [1, 8])
def test_trials_are_gone_on_with_until_one_has_come_to_its_end(num_workers: int) -> None:
    """What looks best diverges shortly before it, and that takes all the epochs that the stage was to train."""

    def break_late(config: Config, epoch: int) -> float:
        x = float(config["x"])
        return math.nan if epoch > 20 and x > 0.05 else x * epoch

    search = open_stage("promise", sampler="gp", trials=30, max_epochs=27)
    Player(search, break_late).play(num_workers)
    states = [trial.state for trial in search.views.values()]
    assert states.count("diverged") > 3
    assert states.count("complete") >= 1
    assert search.is_over


@pytest.mark.parametrize("num_workers", [1, 4])
@pytest.mark.parametrize("rule", ["rank", "forecast"])
def test_of_trials_too_few_for_the_last_rung_by_ranks_the_best_comes_to_its_end(rule: str, num_workers: int) -> None:
    search = open_stage(rule, sampler="random", trials=9, max_epochs=27)
    Player(search).play(num_workers)
    assert search.is_over
    complete = [trial for trial in search.views.values() if trial.state == "complete"]
    assert len(complete) == 1
    assert all(trial.best <= complete[0].values[8] for trial in search.views.values() if len(trial.values) == 9)


@pytest.mark.parametrize("seed", range(2))
def test_what_is_promising_leaves_the_first_epochs_to_trials_that_have_not_begun(seed: int) -> None:
    """The last epochs add most, and no trial looks bad at its rungs: each of many workers would go on."""
    search = open_stage("promise", sampler="gp", trials=60, max_epochs=27, seed=seed)
    Player(search, rise_late).play(num_workers=8)
    assert len(search.views) == 60
    assert plan_epochs(search.stage) + 2 * 26 < search.history.num_epochs <= plan_epochs(search.stage) + 3 * 27


@pytest.mark.parametrize("seed", range(2))
def test_what_is_never_stopped_takes_nothing_from_the_others_of_many_workers(seed: int) -> None:
    search = open_stage("promise", sampler="gp", trials=40, max_epochs=27, audit=0.3, seed=seed)
    Player(search).play(num_workers=32)
    others = [trial for number, trial in search.views.items() if number not in search.audited]
    assert len(search.audited) > 3
    assert sum(trial.state == "complete" for trial in others) >= 2


@pytest.mark.parametrize(("num_trainings", "num_begun", "num_complete"), [(12, 32, 3), (4, 20, 1)])
@pytest.mark.parametrize("seed", range(2))
def test_many_workers_with_few_epochs_train_some_of_their_trials_to_the_last_one(
    num_trainings: int, num_begun: int, num_complete: int, seed: int
) -> None:
    """If all were gone on with, all would end at a rung on the way."""
    num_epochs = 27 * num_trainings
    ends = Ends(Limits(epochs=num_epochs))
    player = Player(open_stage("promise", sampler="gp", trials=1000, max_epochs=27, seed=seed, ends=ends))
    player.play(num_workers=32)
    trials = player.search.views.values()
    assert player.search.history.num_epochs == num_epochs
    assert len(trials) >= num_begun
    assert sum(trial.state == "complete" for trial in trials) >= num_complete


@pytest.mark.parametrize("seed", range(6))
def test_what_is_never_stopped_is_trained_to_the_end_within_a_limit_of_epochs(seed: int) -> None:
    player = Player(
        open_stage("promise", sampler="gp", trials=1000, seed=seed, audit=0.3, ends=Ends(Limits(epochs=100)))
    )
    player.play(num_workers=4)
    audited = [player.search.views[number].state for number in player.search.audited]
    assert len(audited) > 3
    assert set(audited) <= {"complete", "diverged"}


def test_epochs_for_one_training_are_enough_to_end_one() -> None:
    """What a trial itself still needs is not set aside from it."""
    player = Player(open_stage("promise", sampler="gp", ends=Ends(Limits(epochs=MAX_EPOCHS))))
    player.play()
    assert [trial.state for trial in player.search.views.values()] == ["complete"]


def test_where_ranks_decide_no_worker_stands_idle_while_epochs_are_left() -> None:
    ends = Ends(Limits(epochs=40))
    player = Player(open_stage("rank", trials=1000, ends=ends))
    for turn in itertools.count():
        while len(player.training) < 4 and player.start() is not None:
            pass
        assert len(player.training) == min(4, ends.num_epochs_left)
        if not player.training:
            break
        player.step(turn)


def test_where_no_trial_could_come_to_the_last_epoch_no_worker_stands_idle() -> None:
    player = Player(open_stage("promise", sampler="gp", ends=Ends(Limits(epochs=MAX_EPOCHS - 1))))
    views = [player.start() for _ in range(4)]
    assert None not in views


@settings(max_examples=25)
@given(
    st.sampled_from([("rank", "random"), ("rank", "tpe"), ("promise", "gp"), ("forecast", "gp")]),
    st.integers(1, 4),
    st.integers(1, 60),
    st.integers(0, 9),
    st.sampled_from([0.0, 0.3]),
)
def test_a_stage_that_is_read_again_decides_as_the_one_that_was_never_left(
    kind: tuple[str, str], num_workers: int, turns: int, seed: int, audit: float
) -> None:
    rule, sampler = kind
    options: dict[str, Any] = {"sampler": sampler, "seed": seed, "trials": 14, "audit": audit}
    left = Player(open_stage(rule, **options))
    left.play(num_workers, turns)
    views = tuple(left.search.views.values())
    again = Player(open_stage(rule, **options, so_far=views, order=left.order))
    again.training = list(left.training)
    assert again.search.history.rows == left.search.history.rows
    again.order = list(left.order)
    for player in (left, again):
        player.play(num_workers)
    assert [(v.config, v.values, v.state) for v in again.search.views.values()] == [
        (v.config, v.values, v.state) for v in left.search.views.values()
    ]
    assert again.order == left.order


@pytest.mark.parametrize("turns", [10, 25])
def test_a_stage_cut_short_by_a_limit_of_trials_plans_the_same_when_it_is_read_again(turns: int) -> None:
    options: dict[str, Any] = {"sampler": "gp", "trials": 1000, "max_epochs": 27}
    left = Player(open_stage("promise", **options, ends=Ends(Limits(trials=12))))
    left.play(2, turns)
    views = tuple(left.search.views.values())
    again = Player(open_stage("promise", **options, ends=Ends(Limits(trials=12)), so_far=views, order=left.order))
    again.training, again.order = list(left.training), list(left.order)
    for player in (left, again):
        player.play(2)
    assert len(again.search.views) == 12
    assert again.search.history.num_epochs < 12 * 27 / 2
    assert again.order == left.order


def test_values_at_a_rung_are_ranked_with_equals_by_their_numbers() -> None:
    search = open_stage("rank")
    for number, value in enumerate((0.5, 0.7, 0.5, 0.6)):
        search.start()
        search.add(number, value)
        search.end(number, "stopped")
    assert list(search.history.at(1).best()) == [1, 3, 0, 2]
    assert [search.history.at(1).place(n) for n in range(4)] == [3, 1, 4, 2]
    assert np.isclose(search.history.at(1).value_at(2), 0.6)
