"""A made-up search in a real ledger, of any size, for whoever draws one."""

from pathlib import Path

import numpy as np

from tuner.spec import dump_spec, load_text
from tuner.spec.search import SearchSpec
from tuner.spec.space import Space
from tuner.strategy.draws import draw
from tuner.track.ledger import Ledger, StageLedger

SPEC = """\
name: made-up
data: digits
space:
  architecture:
    choice:
      simple_cnn: {depth: {int: [1, 4]}, width: {logint: [8, 64]}}
      lenet: {}
  learning_rate: {loguniform: [1e-4, 1.0]}
  l2: {loguniform: [1e-7, 1e-2]}
  dropout: {uniform: [0.0, 0.6]}
stages:
  coarse: {trials: 1000, max_epochs: 27}
  fine: {trials: 1000, max_epochs: 27}
"""
START = 1.8e9


def make_up(folder: Path, num_trials: int, *stages: str, overrides: tuple[str, ...] = ()) -> Ledger:
    """Write a search of so many trials in each of the stages; what it was asked may be changed."""
    folder.mkdir(parents=True)
    ledger = Ledger.open(folder, create=True)
    spec = load_text(SPEC, overrides=overrides)
    assert isinstance(spec.space, Space)
    for stage in stages:
        reasons = [] if stage == "coarse" else [{**REASON, "name": "learning_rate"}]
        begun = ledger.begin_stage(
            stage,
            maximize=spec.objective.mode == "max",
            index=0,
            metric=spec.objective.metric,
            seed=0,
            spec=dump_spec(spec),
            asked=dump_spec(spec),
            warm_start=[],
            narrowing=reasons,
            search_id="0",
            versions={},
        )
        fill(begun, spec, spec.space, num_trials)
        begun.set(ended="complete", elapsed_s=60.0)
    return ledger


REASON = {
    "before": "loguniform [0.0001, 1]",
    "after": "loguniform [0.001, 0.1]",
    "action": "narrowed",
    "text": "the best <b>lie</b> there",
    "num_trials": 12,
}


def fill(stage: StageLedger, spec: SearchSpec, space: Space, num_trials: int) -> None:
    """Let two workers train trials whose curves depend on the learning rate."""
    rng = np.random.default_rng(0)
    free_at = np.zeros(2)
    is_loss = spec.objective.metric == "val_loss"
    for _ in range(num_trials):
        config = draw(space, rng)
        number = stage.start(space, config, 0)
        peak = 0.9 - 0.1 * abs(np.log10(float(config["learning_rate"])) + 2)
        length = int(rng.choice([1, 3, 9, 27], p=[0.6, 0.25, 0.1, 0.05]))
        worker, best = int(free_at.argmin()), np.inf if is_loss else 0.0
        with stage.batch():
            for epoch in range(1, length + 1):
                free_at[worker] += 1.0
                accuracy = float(peak * (1 - 0.5**epoch) + 0.01 * rng.random())
                loss = 2.3 * (1 - accuracy) + 0.01
                best = min(best, 1.2 * loss) if is_loss else max(best, accuracy)
                measured = {
                    "epoch": epoch,
                    "train_loss": loss,
                    "train_loss_with_l2": 1.1 * loss,
                    "val_loss": 1.2 * loss,
                    "train_accuracy": accuracy,
                    "val_accuracy": accuracy,
                    "seconds": 0.9,
                    "timestamp": START + free_at[worker],
                    "parameters": 1000.0 * (1 + number % 9),
                    "multiply_adds": 1e5 * (1 + number % 9),
                }
                stage.record_epoch(number, epoch, measured, best)
            state = "complete" if length == 27 else "diverged" if rng.random() < 0.05 else "stopped"
            stage.end(number, state, "so it was made up", best)
