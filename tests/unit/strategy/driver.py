"""A search on a made-up clock: real sampler, real halving, made-up learning curves."""

import heapq
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tuner.spec.search import Halving
from tuner.spec.space import Choice, Config, Int, LogInt, LogUniform, Parameter, Space, Uniform
from tuner.strategy.halving import Decision, SuccessiveHalving
from tuner.strategy.history import History
from tuner.strategy.sampler import Sampler
from tuner.strategy.trial_view import TrialView

SPACE = Space(
    (
        Parameter("architecture", Choice(options=("simple_cnn", "resnet", "lenet"))),
        Parameter("architecture.simple_cnn.depth", Int(low=1, high=8), ("architecture", "simple_cnn")),
        Parameter("architecture.resnet.depth", Choice(options=(8, 14, 20)), ("architecture", "resnet")),
        Parameter("architecture.resnet.width", Int(low=8, high=32, step=8), ("architecture", "resnet")),
        Parameter("learning_rate", LogUniform(low=1e-4, high=1.0)),
        Parameter("l2", LogUniform(low=1e-7, high=1e-2)),
        Parameter("dropout", Uniform(low=0.0, high=0.6)),
        Parameter("batch_size", LogInt(low=16, high=1024)),
        Parameter("learning_rate_decay", Choice(options=("constant", "step", "cosine"))),
    )
)

LEAST_ERROR = 0.05


class Judge:
    """Halving, and the history that it looks at: told epoch by epoch."""

    def __init__(self, halving: Halving | None, max_epochs: int = 27, **options: Any) -> None:
        self.halving = SuccessiveHalving(halving, max_epochs, **options)
        self.rungs = self.halving.rungs
        self.history = History(rungs=self.rungs)

    def report(self, number: int, epoch: int, value: float, config: Config | None = None) -> Decision:
        """Let a trial come to an epoch, its values before it being the same, unless it was there already; judge it."""
        trial = self.history.own.get(number) or TrialView(number, config or {}, (), "running")
        if len(trial.values) < epoch:
            missing = epoch - len(trial.values)
            before = (value if math.isfinite(value) else 0.0,) * (missing - 1)
            trial = replace(trial, values=(*trial.values, *before, value))
            self.history.put(trial)
        decision = self.halving.judge(number, epoch, self.history)
        if epoch == len(trial.values):
            self.history.put(replace(trial, state=decision.state or "running"))
        return decision

    def results(self, rung: int) -> dict[int, float]:
        """Return what came to a rung."""
        return dict(self.history.at(rung).values)


def error_after(config: Config, epoch: int) -> float:
    """The error of a made-up training: small steps are slow, large ones diverge."""
    log_rate = math.log10(float(config["learning_rate"]))
    if log_rate > -0.3:
        return math.nan
    final = LEAST_ERROR + 0.05 * (log_rate + 1.3) ** 2 + 0.008 * (math.log10(float(config["l2"])) + 4) ** 2
    final += 0.6 * (float(config["dropout"]) - 0.2) ** 2 + 0.01 * (math.log2(int(config["batch_size"])) - 6) ** 2
    final += {"constant": 0.04, "step": 0.01, "cosine": 0.0}[str(config["learning_rate_decay"])]
    slowness = 1.5 + 0.5 * max(0.0, -1.5 - log_rate)
    match config["architecture"]:
        case "simple_cnn":
            final += 0.12 + 0.01 * abs(int(config["architecture.simple_cnn.depth"]) - 4)
        case "resnet":
            final += {8: 0.04, 14: 0.02, 20: 0.0}[int(config["architecture.resnet.depth"])]
            final += 0.03 * (1 - int(config["architecture.resnet.width"]) / 32)
        case _:
            final += 0.2
    return final + (0.9 - final) * math.exp(-epoch / slowness) + 0.02 * math.sin(50 * log_rate) / epoch


def run(
    sampler: Sampler,
    halving: Halving | None,
    *,
    max_epochs: int,
    num_trials: int,
    num_workers: int = 4,
    budget: int = 10**9,
    error: Callable[[Config, int], float] = error_after,
    carried: tuple[TrialView, ...] = (),
) -> list[TrialView]:
    """Run a stage with workers that take a second an epoch; ask for no more once the budget is spent."""
    judge = Judge(halving, max_epochs)
    trials: list[TrialView] = []
    queue: list[tuple[float, int]] = []
    spent = 0

    def start(now: float) -> None:
        number = len(trials)
        if number < num_trials and spent < budget:
            config = sampler.ask(number, (*carried, *trials))
            trials.append(TrialView(number, config, (), "running"))
            heapq.heappush(queue, (now + 1.0 + 0.01 * (number % 7), number))

    for _ in range(num_workers):
        start(0.0)
    while queue:
        now, number = heapq.heappop(queue)
        trial = trials[number]
        spent += 1
        epoch = len(trial.values) + 1
        value = -error(trial.config, epoch)
        if not math.isnan(value):
            value = max(value, trial.best)
        decision = judge.report(number, epoch, value, trial.config)
        trials[number] = replace(trial, values=(*trial.values, value), state=decision.state or "running")
        if decision.action == "continue":
            heapq.heappush(queue, (now + 1.0, number))
        else:
            start(now)
    return trials
