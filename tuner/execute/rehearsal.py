"""A search as it may go, on a made-up clock: its own decisions, foretold costs, and learning curves out of the air."""

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tuner.execute.placement import Placement
from tuner.execute.task import Manner
from tuner.spec.search import SearchSpec
from tuner.spec.space import Config, Space
from tuner.strategy.diagnose import Guess
from tuner.strategy.landscape import Landscape
from tuner.strategy.simulate import Curve, Event, Job, Search, simulate
from tuner.strategy.trial_view import Before, TrialView
from tuner.strategy.warm_start import choose_trials
from tuner.train.cost import Cost, CostModel

# how long an epoch is reported, and one trial makes place for the next, beyond what is decided: in times of what a
# worker that has nothing to do takes to answer, which grows with what else the machine does (benchmarks/plan.py)
REPORT_ANSWERS, START_ANSWERS = 10, 20
OTHERS_CPUS = 0.3  # that the search itself, MLflow's process and Ray take; trials on all cores have that much less


@dataclass(frozen=True)
class Rehearsal:
    """What one simulated search came to.

    Attributes
    ----------
    seconds : float
        From the first trial to the end.
    slowness : float
        How many times as long all takes as when it was measured.
    trials, epochs : int
        How many.
    gpu_hours : float
        Hours of training times the GPUs that a trial holds.
    disk_bytes, memory_bytes : float
        At the peak: of all checkpoints, and of all trials at once.
    stages : tuple of RehearsedStage
        Those that were begun.
    ended : str
        ``complete`` or the limit that was reached.
    """

    seconds: float
    slowness: float
    trials: int
    epochs: int
    gpu_hours: float
    disk_bytes: float
    memory_bytes: float
    stages: tuple["RehearsedStage", ...]
    ended: str


@dataclass(frozen=True)
class RehearsedStage:
    """One stage of a simulated search.

    Attributes
    ----------
    name : str
        Its name.
    rungs : mapping from int to int
        By the epoch of each rung, the trials that came to it.
    trials, epochs : int
        How many.
    seconds : float
        How long it took.
    """

    name: str
    rungs: dict[int, int]
    trials: int
    epochs: int
    seconds: float


@dataclass(frozen=True)
class Stakes:
    """All that a simulated search depends on, beside chance.

    Attributes
    ----------
    spec : SearchSpec
        What was asked.
    space : Space
        The first stage's.
    before : Before or None
        The search that the space comes from.
    warm_start : mapping from names to tuples of TrialView
        Other searches that are learnt from.
    placement : Placement
        What each trial gets.
    costs : CostModel
        What each configuration takes.
    guess : Guess
        What a network reaches that has learned nothing.
    unsteadiness : float
        Of the machines: the deviation of the logarithm of their speed while they were measured.
    num_cpus : float
        Of all machines.
    answer_s : float
        What a worker that has nothing to do takes to answer.
    """

    spec: SearchSpec
    space: Space
    before: Before | None
    warm_start: dict[str, tuple[TrialView, ...]]
    placement: Placement
    costs: CostModel
    guess: Guess
    unsteadiness: float
    num_cpus: float
    answer_s: float

    @property
    def crowding(self) -> float:
        """How many times as long trials take beside all else that runs on their machines."""
        at_once = self.placement.trials_at_once * self.placement.workers * self.placement.cpus
        return max(1.0, (at_once + OTHERS_CPUS) / self.num_cpus)


def rehearse(stakes: Stakes, rng: np.random.Generator, clock: Callable[[], float] = time.perf_counter) -> Rehearsal:
    """Let a search run on a made-up clock: with its own sampler, halving, limits and seed.

    Parameters
    ----------
    stakes : Stakes
        The search.
    rng : numpy.random.Generator
        Where the learning curves, and what is uncertain of costs, are drawn from.
    clock : function
        Real seconds: how long the search's own decisions take counts too.
    """
    spec, placement, guess = stakes.spec, stakes.placement, stakes.guess
    stages = {stage.name: stage for stage in spec.stages}
    landscape = Landscape(stakes.space, rng)
    speed = math.exp(stakes.unsteadiness * rng.normal())
    costs: dict[tuple[str, int], Cost] = {}
    is_loss = spec.objective.metric == "val_loss"
    sign = 1.0 if spec.objective.mode == "max" else -1.0
    now = 0.0

    def time_epoch(key: tuple[str, int], epoch: int) -> float:
        stage, cost = stages[key[0]], costs[key]
        share = epoch / stage.max_epochs if stage.fidelity == "data" else 1.0
        return cost.train_s * share + cost.rest_s

    def train(job: Job) -> Curve:
        stage, cost = stages[job.key[0]], stakes.costs.foretell(job.config)
        costs[job.key] = cost
        pace = stakes.crowding * math.exp(stakes.costs.spread * rng.normal()) / speed
        epochs_s = [time_epoch(job.key, epoch) for epoch in range(1, stage.max_epochs + 1)]
        seconds = [pace * epoch_s + REPORT_ANSWERS * stakes.answer_s for epoch_s in epochs_s]
        skills = landscape.draw_skills(job.config, find_place(job.config, stakes), stage.max_epochs)
        values = guess.loss * (1 - skills) if is_loss else guess.accuracy + (1 - guess.accuracy) * skills
        return Curve(
            [sign * value for value in values.tolist()], seconds, START_ANSWERS * stakes.answer_s + pace * cost.begin_s
        )

    def read_also(config: Config, value: float) -> tuple[float, ...]:
        size, cost, measured = stakes.costs.size(config), stakes.costs.foretell(config), sign * value
        skill = 1 - measured / guess.loss if is_loss else guess.skill(measured)
        return spec.objective.read_also(
            {
                "val_loss": guess.loss * (1 - skill),
                "val_accuracy": guess.accuracy + (1 - guess.accuracy) * skill,
                "parameters": size.parameters,
                "multiply_adds": size.multiply_adds,
                "seconds": cost.train_s + cost.rest_s,
            }
        )

    def read_axis(config: Config) -> float:
        halving = stages[search.searches[-1].stage.name].halving
        if halving is None or halving.axis == "epochs":
            return 1.0
        cost = stakes.costs.foretell(config)
        return cost.train_s + cost.rest_s if halving.axis == "seconds" else stakes.costs.size(config).multiply_adds

    search = Search(
        spec.stages,
        stakes.space,
        seed=spec.seed,
        before=stakes.before,
        sign=sign,
        limits=spec.limits,
        clock=lambda: now,
        first=spec.first,
        warm_start=[choose_trials(name, trials, stakes.space) for name, trials in stakes.warm_start.items()],
        cost=read_axis,
        num_objectives=1 + len(spec.objective.also),
        also=read_also,
    )
    epochs: Counter[str] = Counter()
    ends: dict[str, float] = {}
    gpu_s = disk = memory = 0.0
    budget = sum(stage.trials * stage.max_epochs for stage in spec.stages)
    event: Event
    for event in simulate(search, train, workers=placement.trials_at_once, max_epochs=budget, clock=clock):
        if search.stop_reason:
            break
        now, name = event.time_s, event.job.key[0]
        epochs[name] += 1
        ends[name] = now
        own_gpu_s = placement.held_gpus * time_epoch(event.job.key, event.epoch) * stakes.crowding / speed
        search.spend(own_gpu_s)
        gpu_s += own_gpu_s
        running = search.searches[-1].history.running
        memory = max(memory, placement.workers * sum(costs[name, number].memory_bytes for number in running))
        if event.epoch == 1:
            disk = max(disk, measure_disk(search, costs))
    seconds = now if spec.limits.time_s is None else min(now, spec.limits.time_s)
    rehearsed, begun = [], 0.0
    for one in search.searches:
        name = one.stage.name
        lengths = [len(view.values) for view in one.views.values()]
        rungs = {rung: sum(length >= rung for length in lengths) for rung in one.history.rungs}
        took = min(ends.get(name, begun), seconds) - begun
        rehearsed.append(RehearsedStage(name, rungs, sum(length > 0 for length in lengths), epochs[name], took))
        begun += took
    return Rehearsal(
        seconds,
        1 / speed,
        sum(stage.trials for stage in rehearsed),
        epochs.total(),
        gpu_s / 3600,
        disk,
        memory,
        tuple(rehearsed),
        search.stop_reason or "complete",
    )


def measure_disk(search: Search, costs: dict[tuple[str, int], Cost]) -> float:
    """Measure what a search's checkpoints take: the models of the best, and all of what trains or waits."""
    held = 0.0
    for one in search.searches:
        unfinished = {*one.history.running, *one.history.paused}
        ended = sorted((view for view in one.views.values() if view.number not in unfinished), key=lambda v: -v.best)
        kept = [costs[one.stage.name, view.number].model_bytes for view in ended[: Manner.models_kept]]
        open_costs = [costs[one.stage.name, number] for number in unfinished]
        held += sum(kept) + sum(cost.model_bytes + cost.state_bytes for cost in open_costs)
    return held


def find_place(config: Config, stakes: Stakes) -> float:
    """Say where a network lies between the smallest and the largest that were measured, by its multiply-adds."""
    low, high = stakes.costs.ends
    share = math.log(max(1, stakes.costs.size(config).multiply_adds) / low) / max(math.log(high / low), 1e-9)
    return min(max(share, 0.0), 1.0)
