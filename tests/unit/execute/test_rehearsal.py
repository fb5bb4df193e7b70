"""A search on a made-up clock, with costs that are known."""

from typing import Any

import numpy as np
import pytest

from tuner.execute.placement import Placement
from tuner.execute.rehearsal import REPORT_ANSWERS, Rehearsal, Stakes, find_place, rehearse
from tuner.spec import load_text
from tuner.spec.space import Space
from tuner.strategy.diagnose import Guess
from tuner.train.cost import Cost, CostModel, Images

SPEC = """\
name: small
data: digits
space: {architecture: lenet, learning_rate: {loguniform: [1e-3, 0.3]}}
stages:
  coarse: {trials: 9, max_epochs: 3, halving: none, sampler: random}
  fine: {trials: 4, max_epochs: 6, halving: none, narrow: {}}
"""
COST = Cost(begin_s=1.0, train_s=3.0, rest_s=1.0, memory_bytes=1e9, state_bytes=2e6, model_bytes=1e6)


@pytest.fixture(autouse=True)
def always_converging(monkeypatch: pytest.MonkeyPatch) -> None:
    """No training diverges, so that every trial has all its epochs."""
    monkeypatch.setattr("tuner.strategy.landscape.DIVERGING", (2.0, 3.0))


def run(*changes: str, at_once: int = 2, workers: int = 1, gpus: float = 0.0, seed: int = 0, **more: Any) -> Rehearsal:
    spec = load_text(SPEC, overrides=changes)
    assert isinstance(spec.space, Space)
    costs = CostModel([({"architecture": "lenet", "learning_rate": 0.1}, COST)], Images((8, 8, 1), 10, 1000, 200))
    given = {"unsteadiness": 0.0, "num_cpus": 64.0, "answer_s": 0.0, **more}
    placement = Placement(cpus=1, gpus=gpus, trials_at_once=at_once, workers=workers)
    stakes = Stakes(spec, spec.space, None, {}, placement, costs, Guess.of([100] * 10), **given)
    return rehearse(stakes, np.random.default_rng(seed), clock=lambda: 0.0)


def test_without_halving_every_number_is_known() -> None:
    found = run(at_once=1)
    assert (found.trials, found.epochs, found.ended) == (13, 9 * 3 + 4 * 6, "complete")
    assert found.seconds == pytest.approx(13 * 1 + 51 * 4)
    assert found.memory_bytes == pytest.approx(1e9)
    coarse, fine = found.stages
    assert (coarse.rungs, fine.rungs) == ({3: 9}, {6: 4})
    assert (coarse.seconds, fine.seconds) == (pytest.approx(9 + 27 * 4), pytest.approx(4 + 24 * 4))
    # of each stage the five best models stay; what trains has its own, and what it takes to go on
    assert found.disk_bytes == pytest.approx(5e6 + 3e6 + 3e6)


def test_trials_at_once_share_the_time_and_add_up_in_memory() -> None:
    one, three = run(at_once=1), run(at_once=3)
    assert three.epochs == one.epochs
    assert three.stages[0].seconds == pytest.approx(one.stages[0].seconds / 3)
    assert three.memory_bytes == pytest.approx(3 * one.memory_bytes)
    assert run(at_once=1, workers=2).memory_bytes == pytest.approx(2 * one.memory_bytes)


def test_a_machine_that_is_slower_than_when_it_was_measured_takes_so_much_longer() -> None:
    steady = run(at_once=1)
    assert steady.slowness == 1
    slow = [run(at_once=1, unsteadiness=0.5, seed=seed) for seed in range(3)]
    assert len({one.slowness for one in slow}) == 3
    for one in slow:
        assert one.seconds == pytest.approx(one.slowness * steady.seconds)


def test_a_network_beyond_those_that_were_measured_lies_at_their_end() -> None:
    spec = load_text(SPEC)
    assert isinstance(spec.space, Space)
    few, many = ({"architecture": "lenet", "architecture.lenet.width": width} for width in (1, 2))
    costs = CostModel([(few, COST), (many, COST)], Images((8, 8, 1), 10, 1000, 200))
    placement = Placement(cpus=1, gpus=0, trials_at_once=1)
    stakes = Stakes(spec, spec.space, None, {}, placement, costs, Guess.of([100] * 10), 0.0, 64.0, 0.0)
    places = [find_place({**few, "architecture.lenet.width": width}, stakes) for width in (0.5, 1, 1.5, 2, 4)]
    assert places[:2] == [0, 0] and places[3:] == [1, 1]
    assert 0 < places[2] < 1


def test_gpu_hours_are_those_in_which_trials_train_and_a_limit_of_them_is_hard() -> None:
    found = run(at_once=2, gpus=0.5)
    assert found.gpu_hours == pytest.approx(51 * 4 * 0.5 / 3600)
    cut = run("limits.gpu_hours=0.01", at_once=2, gpus=0.5)
    assert cut.epochs == 18
    assert cut.ended == "the limit of 0.01 GPU hours was reached"


def test_limits_end_a_rehearsal_as_they_end_a_search() -> None:
    assert run("limits.epochs=17").epochs == 17
    timed = run("limits.time=30s")
    assert (timed.seconds, timed.ended) == (30.0, "the time limit of 30 s was reached")
    assert [stage.name for stage in timed.stages] == ["coarse"]


def test_growing_data_take_less_time() -> None:
    grown = run("stages.coarse.fidelity=data", at_once=1)
    assert grown.stages[0].seconds == pytest.approx(9 * (1 + 3 * 1 + 3 * (1 / 3 + 2 / 3 + 1)))


def test_growing_data_take_fewer_gpu_hours_and_let_more_be_trained_within_a_limit() -> None:
    data = ("stages.coarse.fidelity=data", "stages.fine.fidelity=data")
    grown = run(*data, at_once=2, gpus=0.5)
    trained_s = 9 * 3 * (1 / 3 + 2 / 3 + 1) + 4 * 3 * (1 + 2 + 3 + 4 + 5 + 6) / 6
    assert grown.gpu_hours == pytest.approx((trained_s + 51 * 1) * 0.5 / 3600)
    assert run(*data, "limits.gpu_hours=0.01", at_once=2, gpus=0.5).epochs > 18


def test_what_is_not_training_counts_too() -> None:
    slow = run(at_once=1, answer_s=0.01)
    assert slow.seconds > run(at_once=1).seconds + 51 * 0.01 * REPORT_ANSWERS
    assert run(at_once=2, num_cpus=2.0).seconds > 1.1 * run(at_once=2).seconds


def test_halving_saves_and_a_seed_repeats_itself() -> None:
    halved = [run("stages.coarse.halving={min_epochs: 1}", "stages.coarse.trials=18", seed=seed) for seed in (0, 0, 1)]
    assert halved[0] == halved[1]
    assert halved[0].epochs < 18 * 3 + 24
    assert halved[0].stages[0].rungs[1] == 18 > halved[0].stages[0].rungs[3]


@pytest.mark.parametrize(
    "changes",
    [
        ("objective=val_loss",),
        ("objective=[val_accuracy, parameters, seconds]",),
        ("stages.coarse.halving={axis: seconds, rule: rank}",),
        ("objective=val_loss", "limits.target=0.0001"),
    ],
)
def test_any_search_can_be_rehearsed(changes: tuple[str, ...]) -> None:
    assert run(*changes).trials == 13
