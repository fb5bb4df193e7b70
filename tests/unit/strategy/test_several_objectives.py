"""Searches with two objectives on a made-up clock."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from tuner.spec.dominance import find_front
from tuner.spec.search import Stage
from tuner.spec.space import Config, Parameter, Space, Uniform
from tuner.strategy.sampler import choose_kind
from tuner.strategy.stage_search import StageSearch
from tuner.strategy.trial_view import TrialView

SIZE = 6
SPACE = Space(tuple(Parameter(f"x{i}", Uniform(low=0, high=1)) for i in range(SIZE)))
WORST = (1.1, 6.0)


def evaluate(config: Config) -> tuple[float, float]:
    """Zitzler, Deb and Thiele's first problem: two costs, and a front on which all but the first number are 0."""
    first, *rest = (float(config[f"x{i}"]) for i in range(SIZE))
    g = 1 + 9 * float(np.mean(rest))
    return first, g * (1 - (first / g) ** 0.5)


def measure_volume(costs: Sequence[tuple[float, float]]) -> float:
    """Measure what costs dominate of the rectangle below the worst."""
    volume, ceiling = 0.0, WORST[1]
    for one, other in sorted(costs):
        if one < WORST[0] and other < ceiling:
            volume, ceiling = volume + (WORST[0] - one) * (ceiling - other), other
    return volume


def play(
    stage: Stage,
    *,
    seed: int,
    num_workers: int = 4,
    past: Sequence[TrialView] = (),
    see: Callable[[StageSearch, int, int], None] = lambda *_: None,
) -> StageSearch:
    """Run a stage with workers that take turns; the second cost is the first objective, and slow to be seen."""
    search = StageSearch(stage, SPACE, None, past, seed=seed, num_objectives=2)
    running = [view.number for view in past if view.state == "running"]
    while search.has_next or running:
        while search.has_next and len(running) < num_workers:
            running.append(search.start().number)
        number = running.pop(0)
        view = search.views[number]
        epoch = len(view.values) + 1
        first, second = evaluate(view.config)
        search.add(number, -second - 3 / epoch, (-first,))
        decision = search.judge(number, epoch)
        if decision.state is None:
            running.append(number)
        else:
            search.end(number, decision.state)
        see(search, number, epoch)
    return search


def make_stage(sampler: str, trials: int = 100) -> Stage:
    return Stage.model_validate({"name": "only", "trials": trials, "max_epochs": 9, "sampler": sampler})


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_a_front_is_found_that_random_search_does_not_find(sampler: str) -> None:
    volumes = {
        kind: np.mean(
            [
                measure_volume([evaluate(v.config) for v in play(make_stage(kind), seed=seed).views.values()])
                for seed in range(3)
            ]
        )
        for kind in ("random", sampler)
    }
    assert volumes[sampler] > volumes["random"] + 0.5


def test_what_is_on_the_front_of_a_rung_is_not_stopped() -> None:
    spared = []

    def see(search: StageSearch, number: int, epoch: int) -> None:
        state = search.views[number].state
        peers = [view for view in search.views.values() if len(view.values) >= epoch]
        is_on_front = dict(zip((p.number for p in peers), find_front([p.at(epoch) for p in peers]), strict=True))
        assert state != "stopped" or not is_on_front[number]
        rank = sorted(peers, key=lambda peer: -peer.values[epoch - 1]).index(search.views[number])
        if epoch == 1 and state == "running" and len(peers) >= 3 and rank >= max(1, len(peers) // 3):
            spared.append(is_on_front[number])

    search = play(make_stage("random"), seed=1, see=see)
    assert len(spared) > 5
    assert all(spared)
    assert sum(view.state == "stopped" for view in search.views.values()) > 50


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_a_search_of_several_objectives_that_was_killed_goes_on_the_same(sampler: str) -> None:
    stage = make_stage(sampler, trials=40)
    pasts: list[list[TrialView]] = []

    def see(search: StageSearch, number: int, epoch: int) -> None:
        pasts.append(list(search.views.values()))

    whole = play(stage, seed=2, num_workers=1, see=see)
    for past in (pasts[3], pasts[60], pasts[-10]):
        assert play(stage, seed=2, num_workers=1, past=past).views == whole.views


def test_a_gaussian_process_is_not_chosen_for_several_objectives() -> None:
    assert choose_kind(make_stage("auto"), SPACE, 1)[0] == "gp"
    kind, reason = choose_kind(make_stage("auto"), SPACE, 2)
    assert (kind, "2 objectives" in reason) == ("tpe", True)
