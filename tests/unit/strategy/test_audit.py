"""What stopping cost, estimated from the trials that were never stopped."""

import dataclasses
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tuner.spec.search import Halving, Stage
from tuner.spec.space import Choice, LogUniform, Parameter, Space
from tuner.strategy.audit import Audit, RungWorth, audit_stage
from tuner.strategy.halving import SuccessiveHalving, rungs
from tuner.strategy.history import History
from tuner.strategy.stage_search import StageSearch
from tuner.strategy.trial_view import TrialView

MAX_EPOCHS = 27
DATA = Path(__file__).parents[3] / "benchmarks" / "data"


@cache
def load_curves(name: str) -> tuple[tuple[float, ...], ...]:
    """Real trainings that all came to the end: the best accuracy so far after each epoch."""
    rows = pq.read_table(DATA / f"{name}.parquet").to_pylist()
    whole = [row["val_accuracy"] for row in rows if len(row["val_accuracy"]) == MAX_EPOCHS]
    return tuple(tuple(np.maximum.accumulate(curve).tolist()) for curve in whole if np.isfinite(curve).all())


def search(curves: list[tuple[float, ...]], halving: Halving, audit: float, seed: int) -> list[TrialView]:
    """Train curves one after the other, as halving lets them."""
    judge = SuccessiveHalving(halving, MAX_EPOCHS, audit=audit, seed=seed)
    history = History(rungs=judge.rungs)
    for number, curve in enumerate(curves):
        trial = TrialView(number, {}, (), "running")
        for epoch in range(1, MAX_EPOCHS + 1):
            trial = dataclasses.replace(trial, values=curve[:epoch])
            history.put(trial)
            decision = judge.judge(number, epoch, history)
            if decision.state is not None:
                trial = dataclasses.replace(trial, state=decision.state)
                break
        history.put(trial)
    return list(history.own.values())


@pytest.mark.parametrize("name", ["curves", "digits"])
@pytest.mark.parametrize("audit", [0.05, 0.3])
def test_the_interval_holds_the_true_rate_in_nine_of_ten_resamples(name: str, audit: float) -> None:
    curves, rng = load_curves(name), np.random.default_rng(0)
    halving = Halving(reduction=3, min_epochs=1)
    stage = Stage(name="all", trials=150, max_epochs=MAX_EPOCHS, halving=halving)
    held, errors, rates = [], [], []
    for resample in range(40):
        drawn = [curves[i] for i in rng.choice(len(curves), stage.trials, replace=False)]
        trials = search(drawn, halving, audit, resample)
        judge = SuccessiveHalving(halving, MAX_EPOCHS, audit=audit, seed=resample)
        audited = {number for number in range(len(drawn)) if judge.is_audited(number)}
        found = audit_stage(trials, audited, judge.rungs)
        others = [number for number in range(len(drawn)) if number not in audited]
        through = sorted((drawn[n][-1] for n in others if trials[n].state == "complete"), reverse=True)
        bar = through[found.num_top - 1]
        truth = 1 - sum(v >= bar for v in through[: found.num_top]) / sum(drawn[n][-1] >= bar for n in others)
        rates.append(truth)
        if found.num_audited:
            held.append(found.low - 1e-9 <= truth <= found.high + 1e-9)
            errors.append(found.false_stops - truth)
    assert np.mean(held) >= 0.9, (np.mean(held), len(held))
    assert np.ptp(rates) > 0.1, "what is estimated is not always the same"
    if audit > 0.1:
        assert abs(np.mean(errors)) < 0.1


def view(number: int, values: tuple[float, ...], state: Any) -> TrialView:
    """A trial."""
    return TrialView(number, {}, values, state)


def test_nothing_was_lost_where_nobody_who_was_stopped_is_good() -> None:
    good = [view(n, (0.5, 0.8, 0.9 + n / 1000), "complete") for n in range(10)]
    stopped = [view(n, (0.1,), "stopped") for n in range(10, 100)]
    audited = [view(n, (0.1, 0.2, 0.3), "complete") for n in range(100, 120)]
    found = audit_stage([*good, *stopped, *audited], range(100, 120), (1, 2, 3))
    assert (found.num_top, found.num_top_audited, found.num_audited) == (3, 0, 20)
    assert found.false_stops == 0
    assert found.low == 0
    assert 0 < found.high < 0.9
    assert found.epochs == 30 + 90 + 60
    assert found.epochs_unstopped == 3 * 120
    assert found.saved == 0.5


def test_a_rung_that_misleads_is_told() -> None:
    good = [view(n, (0.5, 0.8, 0.6), "complete") for n in range(10)]
    stopped = [view(n, (0.1,), "stopped") for n in range(10, 100)]
    rng = np.random.default_rng(0)
    audited = []
    for n in range(100, 140):
        start = float(rng.uniform(0, 0.2))
        audited.append(view(n, (start, 1 - start, 1 - start), "complete"))
    found = audit_stage([*good, *stopped, *audited], range(100, 140), (1, 2, 3))
    assert found.false_stops > 0.85
    assert found.low > 0.5
    assert found.is_sample
    assert [round(worth.correlation, 6) for worth in found.rungs] == [-1, 1]
    assert found.num_better > 20
    assert found.advise() == "raise min_epochs to 2: the first rung misleads"
    equals = [dataclasses.replace(trial, values=(*trial.values[:2], 0.6)) for trial in audited]
    none_lost = audit_stage([*good, *stopped, *equals], range(100, 140), (1, 2, 3))
    assert none_lost.low > 0.5
    assert none_lost.num_better == 0
    assert "raise" not in none_lost.advise()


def test_what_a_limit_ended_is_left_out_and_broken_trials_are_not_good() -> None:
    trials = [
        view(0, (0.5, 0.6, 0.7), "complete"),
        view(1, (0.5,), "stopped"),
        view(2, (0.5, 0.6), "stopped"),  # between two rungs: by a limit
        view(3, (0.9, math.nan), "diverged"),
        view(4, (0.5, 0.6), "running"),
        view(5, (0.9,), "stopped"),  # audited: by a limit
        view(6, (), "failed"),
    ]
    found = audit_stage(trials, {3, 5, 6}, (1, 3))
    assert (found.num_trials, found.num_audited, found.num_top, found.num_top_audited) == (4, 2, 1, 0)
    assert found.rungs == ()


def test_without_audited_trials_nothing_is_claimed() -> None:
    found = audit_stage([view(0, (0.5, 0.6), "complete"), view(1, (0.1,), "stopped")], (), (1, 2))
    assert math.isnan(found.false_stops)
    assert "no trial was audited" in found.advise()
    assert math.isnan(audit_stage([view(1, (0.1,), "stopped")], (), (1, 2)).high)


def test_where_nobody_was_stopped_no_audit_is_missing() -> None:
    found = audit_stage([view(0, (0.5, 0.6), "complete"), view(1, (0.1, math.nan), "diverged")], (), (1, 2))
    assert (found.saved, found.advise()) == (0, "")


def test_a_first_rung_that_tells_well_may_come_earlier() -> None:
    worth = (RungWorth(3, 0.95, 30),)
    found = Audit(200, 30, 20, 3, 0, 0.02, 0.0, 0.2, worth, True, 500, 1000)
    assert found.advise() == "lower min_epochs below 3: the first rung tells the best ones well"
    assert dataclasses.replace(found, low=0.0, high=0.9).advise().startswith("30 audited trials tell little")
    assert dataclasses.replace(found, rungs=()).advise() == ""
    assert Audit.read(json.loads(json.dumps(dataclasses.asdict(found)))) == found


def test_the_audited_trials_are_those_that_a_stage_never_stops() -> None:
    stage = Stage(name="all", trials=60, max_epochs=9, halving=Halving(audit=0.2, rule="rank"), sampler="random")
    space = Space((Parameter("learning_rate", LogUniform(low=1e-4, high=1.0)),))
    live = StageSearch(stage, space, None, seed=7)
    went_on = set()
    for number in range(60):
        live.start()
        for epoch in range(1, 10):
            live.add(number, 1 - number / 100 - 0.5 / epoch)  # each worse than all before
            decision = live.judge(number, epoch)
            if decision.state is not None:
                live.end(number, decision.state)
                break
        if live.views[number].state == "complete":
            went_on.add(number)
    audited = set(live.audited)
    assert 5 < len(audited) < 20
    assert audited <= went_on
    assert went_on - audited <= {0, 1, 2}  # too few to judge
    assert rungs(9, 1, 3) == live.history.rungs


def test_a_grid_is_audited_by_the_trials_that_it_has() -> None:
    space = Space((Parameter("width", Choice(options=tuple(range(200)))),))
    for trials in (200, 1000):  # which would be a large stage if the grid had as many
        stage = Stage(name="all", trials=trials, max_epochs=27, sampler="grid")
        search = StageSearch(stage, space, None, seed=7)
        while search.has_next:
            number = search.start().number
            search.add(number, 0.5)
            search.end(number, "stopped")
        assert len(search.views) == 200
        assert search.audited == []
