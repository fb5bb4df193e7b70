import math
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from driver import Judge
from hypothesis import given
from hypothesis import strategies as st

from tuner.spec.search import Halving, Stage
from tuner.strategy.halving import Decision, find_audit, rungs
from tuner.strategy.history import History
from tuner.strategy.trial_view import STAGE_BEFORE, TrialView

HALVINGS = st.builds(Halving, reduction=st.integers(2, 5), min_epochs=st.integers(1, 4), min_peers=st.integers(1, 6))
# Few different values, so that ties are common.
CURVES = st.lists(
    st.lists(st.one_of(st.integers(0, 6).map(float), st.just(math.nan)), min_size=9, max_size=9),
    min_size=1,
    max_size=20,
)


class TestRungs:
    @pytest.mark.parametrize(
        ("max_epochs", "min_epochs", "reduction", "expected"),
        [
            (27, 1, 3, (1, 3, 9, 27)),
            (27, 3, 3, (3, 9, 27)),
            (27, 2, 3, (3, 9, 27)),
            (9, 1, 3, (1, 3, 9)),
            (100, 1, 4, (1, 6, 25, 100)),
            (243, 1, 3, (1, 3, 9, 27, 81, 243)),
            (5, 9, 3, (5,)),
            (1, 1, 2, (1,)),
        ],
    )
    def test_they_are_the_last_epoch_and_its_fractions(
        self, max_epochs: int, min_epochs: int, reduction: int, expected: tuple[int, ...]
    ) -> None:
        assert rungs(max_epochs, min_epochs, reduction) == expected

    @given(st.integers(1, 10**15), st.integers(1, 1000), st.integers(2, 16))
    def test_they_grow_by_about_the_reduction_and_end_at_the_last_epoch(
        self, max_epochs: int, min_epochs: int, reduction: int
    ) -> None:
        ladder = rungs(max_epochs, min_epochs, reduction)
        assert ladder[-1] == max_epochs
        assert ladder[0] >= min(min_epochs, max_epochs)
        assert ladder[0] // reduction < min_epochs
        assert all(reduction <= high / low < 2 * reduction for low, high in pairwise(ladder))

    @pytest.mark.parametrize("arguments", [(0, 1, 3), (9, 0, 3), (9, 1, 1)])
    def test_an_argument_that_is_too_small_is_refused(self, arguments: tuple[int, int, int]) -> None:
        with pytest.raises(ValueError, match="need max_epochs >= 1, min_epochs >= 1 and reduction >= 2"):
            rungs(*arguments)


def start(reduction: int = 3, min_peers: int = 3, min_epochs: int = 1) -> Judge:
    return Judge(Halving(reduction=reduction, min_peers=min_peers, min_epochs=min_epochs), 27)


class TestReport:
    def test_a_rung_with_too_few_results_stops_nobody(self) -> None:
        halving = start(min_peers=3)
        assert [halving.report(i, 1, -float(i)).action for i in range(3)] == ["continue", "continue", "stop"]

    def test_the_best_one_in_three_goes_on(self) -> None:
        halving = start()
        for number in range(6):
            halving.report(number, 3, 0.1 * number)
        assert halving.report(6, 3, 0.45).action == "continue"  # second of seven
        assert halving.report(7, 3, 0.42).action == "stop"  # third of eight, and two go on

    def test_the_best_goes_on_where_the_reduction_leaves_room_for_nobody(self) -> None:
        halving = start(reduction=16, min_peers=1)
        assert halving.report(0, 1, 0.5).action == "continue"
        assert halving.report(1, 1, 0.6).action == "continue"
        assert halving.report(2, 1, 0.4).action == "stop"

    def test_of_equals_the_one_with_the_lower_number_is_better(self) -> None:
        late, early = start(), start()
        for halving in (late, early):
            halving.report(5, 1, 0.5)
            halving.report(6, 1, 0.1)
        assert late.report(7, 1, 0.5).action == "stop"
        assert early.report(4, 1, 0.5).action == "continue"

    def test_the_reason_names_the_value_the_cut_and_the_place(self) -> None:
        halving = start()
        for number, value in enumerate((0.5, 0.46, 0.44, 0.43, 0.4)):
            halving.report(number, 3, value)
        assert halving.report(5, 3, 0.41) == Decision(
            "stop", "stopped at epoch 3: 0.41 against a cut of 0.46, rank 5 of 6 at this rung", "stopped"
        )

    def test_nobody_is_judged_between_rungs(self) -> None:
        halving = start()
        for number in range(5):
            assert halving.report(number, 2, -float(number)).action == "continue"

    def test_peers_that_come_later_do_not_change_an_answer(self) -> None:
        halving = start()
        first = halving.report(0, 3, 0.1)
        for number in range(1, 6):
            halving.report(number, 3, 0.5)
        assert (
            halving.report(0, 3, 0.1)
            == first
            == Decision("continue", "result 1 at epoch 3, too few to judge (min_peers: 3)")
        )

    def test_the_last_epoch_completes_a_trial_however_poor(self) -> None:
        halving = start()
        for number in range(9):
            halving.report(number, 27, 1.0)
        assert halving.report(9, 27, 0.0) == Decision("complete", "reached the last epoch, 27", "complete")

    def test_without_halving_only_the_last_epoch_ends_a_trial(self) -> None:
        halving = Judge(None, 4)
        actions = [halving.report(n, epoch, -float(n)).action for n in range(9) for epoch in range(1, 5)]
        assert actions == ["continue", "continue", "continue", "complete"] * 9

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("epoch", [1, 2, 27])
    @pytest.mark.parametrize("spec", [Halving(), None])
    def test_a_value_that_is_not_finite_stops_at_any_epoch(
        self, value: float, epoch: int, spec: Halving | None
    ) -> None:
        assert Judge(spec, 27).report(0, epoch, value) == Decision(
            "stop", f"diverged at epoch {epoch}: the loss is not finite", "diverged"
        )

    def test_a_diverged_trial_is_the_worst_at_the_first_rung_it_did_not_pass(self) -> None:
        halving = start()
        halving.report(0, 1, 0.9)
        halving.report(0, 2, math.nan)
        assert [halving.results(rung) for rung in (1, 3, 9)] == [{0: 0.9}, {0: -math.inf}, {}]
        halving.report(1, 3, 0.5)
        assert halving.report(2, 3, 0.4).reason.endswith("rank 2 of 3 at this rung")

    @pytest.mark.parametrize("epoch", [0, 28])
    def test_an_epoch_out_of_range_is_refused(self, epoch: int) -> None:
        with pytest.raises(ValueError, match=r"epoch must be in 1\.\.27"):
            start().report(0, epoch, 0.5)


def play(spec: Halving, curves: list[list[float]], order: list[int]) -> tuple[Judge, list[TrialView]]:
    """Let each trial in turn finish one more epoch, until the order ends."""
    halving = Judge(spec, 9)
    views = [TrialView(number, {}, (), "running") for number in range(len(curves))]
    for turn in order:
        view = views[turn % len(curves)]
        if view.state == "running":
            value = curves[view.number][len(view.values)]
            value = max(value, view.best) if math.isfinite(value) else value
            decision = halving.report(view.number, len(view.values) + 1, value)
            views[view.number] = replace(view, values=(*view.values, value), state=decision.state or "running")
    return halving, views


def snapshot(halving: Judge) -> dict[int, dict[int, float]]:
    return {rung: halving.results(rung) for rung in halving.rungs[:-1]}


ORDERS = st.lists(st.integers(0, 19), max_size=200)


@given(HALVINGS, CURVES, ORDERS, st.randoms())
def test_any_prefix_replayed_in_any_order_gives_the_same_state(
    spec: Halving, curves: list[list[float]], order: list[int], random: Random
) -> None:
    halving, views = play(spec, curves, order)
    shuffled = list(views)
    random.shuffle(shuffled)
    replayed = Judge(spec, 9)
    elsewhere = TrialView(99, {}, (9.0,) * 9, "complete", origin=STAGE_BEFORE)
    replayed.history = History([*shuffled, elsewhere], rungs=replayed.rungs)
    assert snapshot(replayed) == snapshot(halving)
    for view in views:
        if view.state == "running" and view.values and len(view.values) < 9:
            report = (view.number, len(view.values) + 1, 3.0)
            assert replayed.report(*report).action == halving.report(*report).action


@given(HALVINGS, CURVES, ORDERS)
def test_the_same_report_again_is_answered_as_before(
    spec: Halving, curves: list[list[float]], order: list[int]
) -> None:
    halving, views = play(spec, curves, order)
    before = snapshot(halving)
    replayed = Judge(spec, 9)
    replayed.history = History(views, rungs=replayed.rungs)
    for view in views:
        for epoch, value in enumerate(view.values, start=1):
            ends = epoch == len(view.values) and view.state != "running"
            assert halving.report(view.number, epoch, value).state == (view.state if ends else None)
            if not ends and epoch < len(view.values):
                assert replayed.report(view.number, epoch, value).action == "continue"
    assert snapshot(halving) == before


@given(HALVINGS, st.lists(st.integers(0, 5).map(float), min_size=1, max_size=40))
def test_on_arrival_a_trial_goes_on_exactly_if_it_is_among_the_best_or_peers_are_few(
    spec: Halving, values: list[float]
) -> None:
    halving = Judge(spec, 100)
    rung = halving.rungs[0]
    if rung == 100:
        return
    for number, value in enumerate(values):
        num_better = sum(other >= value for other in values[:number])
        num_there = number + 1
        goes_on = num_there < spec.min_peers or num_better < max(1, num_there // spec.reduction)
        assert (halving.report(number, rung, value).action == "continue") == goes_on


@given(HALVINGS, CURVES, ORDERS)
def test_the_best_of_a_rung_was_never_stopped_there(spec: Halving, curves: list[list[float]], order: list[int]) -> None:
    halving, views = play(spec, curves, order)
    for rung in halving.rungs[:-1]:
        results = halving.results(rung)
        if results:
            best = views[min(results, key=lambda number: (-results[number], number))]
            assert not (best.state == "stopped" and len(best.values) == rung)


def test_a_loss_is_shown_as_it_was_measured() -> None:
    judge = Judge(Halving(reduction=3, min_epochs=1, min_peers=1), 9, sign=-1.0)
    judge.report(0, 1, -0.5)
    assert "0.75 against a cut of 0.5" in judge.report(1, 1, -0.75).reason


@pytest.mark.parametrize(
    ("trials", "options", "expected"),
    [
        (40, {}, 0.0),
        (539, {}, 0.0),
        (540, {}, 0.05),  # 540 + 180 * 2 + 60 * 6 + 20 * 18 epochs
        (359, {"reduction": 2}, 0.0),
        (360, {"reduction": 2}, 0.05),  # 360 + 180 * 2 + 90 * 3 + 45 * 7 + 22.5 * 14
        (1000, {"audit": 0.0}, 0.0),
        (40, {"audit": 0.2}, 0.2),
    ],
)
def test_one_trial_in_twenty_is_audited_where_a_stage_is_large_enough(
    trials: int, options: dict[str, float], expected: float
) -> None:
    stage = Stage.model_validate({"name": "a", "trials": trials, "max_epochs": 27, "halving": options})
    assert find_audit(stage) == expected


def test_nothing_is_audited_without_halving() -> None:
    assert find_audit(Stage(name="a", trials=1000, max_epochs=27, halving=None)) == 0.0
