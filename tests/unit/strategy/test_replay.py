"""Other settings of halving, on curves that are on record."""

import dataclasses
import json
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tuner.spec.search import Halving, Stage
from tuner.spec.space import Int, Parameter, Space
from tuner.strategy.replay import Outcome, replay_stage, summarise_outcomes
from tuner.strategy.trial_view import TrialView

DATA = Path(__file__).parents[3] / "benchmarks" / "data"
SPACE = Space((Parameter("batch_size", Int(low=1, high=1000)),))
RANK = Halving(rule="rank", type="stopping", audit=0.0)
STAGE = Stage(name="only", trials=40, max_epochs=27, halving=RANK, sampler="random")


@cache
def load_trials() -> tuple[TrialView, ...]:
    """Forty real trainings that all came to the end."""
    rows = [row["val_accuracy"] for row in pq.read_table(DATA / "digits.parquet").slice(0, 60).to_pylist()]
    whole = [np.maximum.accumulate(row).tolist() for row in rows if len(row) == 27 and np.isfinite(row).all()][:40]
    return tuple(TrialView(n, {"batch_size": n + 1}, tuple(curve), "complete") for n, curve in enumerate(whole))


def replay(trials: tuple[TrialView, ...], halving: Halving | None, seed: int = 0) -> Outcome:
    """One replay, a second an epoch."""
    stage = STAGE.model_copy(update={"halving": halving})
    rng = np.random.default_rng(seed)
    return replay_stage(trials, [1.0] * len(trials), stage, SPACE, workers=2, seed=0, rng=rng)


def cut(trials: tuple[TrialView, ...], epoch: int) -> tuple[TrialView, ...]:
    """The trials as they would be if all but the best ten had been stopped."""
    best = {t.number for t in sorted(trials, key=lambda t: -t.values[epoch - 1])[:10]}
    short = (dataclasses.replace(t, values=t.values[:epoch], state="stopped") for t in trials)  # type: ignore[arg-type]
    return tuple(t if t.number in best else s for t, s in zip(trials, short, strict=True))


def test_without_halving_everything_is_trained_and_the_best_is_found() -> None:
    trials = load_trials()
    found = replay(trials, None)
    assert (found.epochs, found.seconds, found.num_complete, found.num_guessed) == (40 * 27, 40 * 27, 40, 0)
    assert found.best == max(trial.values[-1] for trial in trials)
    assert found.is_best_known


def test_more_stopping_costs_less_and_complete_curves_need_no_guess() -> None:
    trials = load_trials()
    costs = [replay(trials, RANK.model_copy(update={"reduction": r})) for r in (2, 3, 4)]
    assert costs[0].epochs > costs[1].epochs > costs[2].epochs
    late = replay(trials, RANK.model_copy(update={"min_epochs": 9}))
    assert late.epochs > costs[1].epochs
    assert {one.num_guessed for one in (*costs, late)} == {0}


def test_a_curve_that_was_cut_off_is_guessed_and_never_better_than_the_record() -> None:
    trials = cut(load_trials(), 3)
    recorded = max(trial.best for trial in trials)
    found = [replay(trials, RANK.model_copy(update={"min_epochs": 9, "reduction": 2}), seed) for seed in range(5)]
    assert all(outcome.num_guessed > 0 for outcome in found)
    assert all(outcome.best <= recorded for outcome in found)
    truth = replay(load_trials(), RANK.model_copy(update={"min_epochs": 9, "reduction": 2}))
    assert abs(np.median([outcome.epochs for outcome in found]) / truth.epochs - 1) < 0.25
    bands = json.loads(json.dumps(summarise_outcomes(found)))
    low, middle, high = bands["epochs"]
    assert low <= middle <= high


def test_a_best_value_that_is_on_record_is_no_guess_where_a_guess_came_to_it_first() -> None:
    best = TrialView(1, {"batch_size": 2}, (0.5, 0.9), "complete")
    like_it = TrialView(0, {"batch_size": 1}, (0.5,), "stopped")  # trains before it, and follows it
    stage = STAGE.model_copy(update={"max_epochs": 2, "halving": None})
    rng = np.random.default_rng(0)
    found = replay_stage((like_it, best), [1.0, 1.0], stage, SPACE, workers=1, seed=0, rng=rng)
    assert (found.best, found.num_guessed, found.is_best_known) == (0.9, 1, True)


def test_a_trial_that_diverged_or_has_no_epoch_does_no_harm() -> None:
    trials = load_trials()
    broken = dataclasses.replace(trials[0], values=(0.1, float("nan")), state="diverged")
    empty = dataclasses.replace(trials[1], values=(), state="stopped")
    found = replay((broken, empty, *trials[2:]), RANK)
    assert found.epochs > 40
