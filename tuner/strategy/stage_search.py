"""One stage's decisions: what is trained next, and who goes on. What Ray drives, and the simulator too."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from tuner.spec.search import Limits, Stage
from tuner.spec.space import Config, Space
from tuner.strategy.ends import Ends
from tuner.strategy.forecast import Forecaster
from tuner.strategy.halving import Decision, ForecastRule, PromiseRule, RankRule, Rule, SuccessiveHalving, find_rungs
from tuner.strategy.narrow import Reason, carry, incumbents, narrow
from tuner.strategy.pareto import FrontRule
from tuner.strategy.prior import Belief
from tuner.strategy.sampler import build_sampler, choose_kind
from tuner.strategy.trial_view import Before, State, TrialView
from tuner.strategy.warm_start import MOST_TRIED

INCUMBENTS = 3  # the best of the stage before are tried first, at this stage's length


class StageSearch:
    """Decides for one stage; the state is in the trials, and an interrupted stage is one that begins with some.

    Parameters
    ----------
    stage : Stage
        What was asked.
    space : Space
        Its space, narrowed already.
    before : Before or None
        What it follows on; its fitting trials are carried over, and its best ones tried first.
    trials : iterable of TrialView
        What was recorded before an interruption, numbered from 0 without gaps, in the order of their ends.
    seed : int, at least 0
        What its suggestions are drawn from.
    sign : float, 1 or -1
        What an objective is multiplied with so that larger is better.
    ends : Ends or None
        Counts for the limits of the search; None for no limits.
    num_objectives : int, at least 1
        How many objectives there are; the first one stops and narrows.
    first : sequence of configs
        What is tried before anything else: points of the space, or parts of such.
    warm_start : sequence of tuples of TrialView
        For each other search that is learnt from, what `warm_start.choose_trials` chose of it; the best are tried too.

    Attributes
    ----------
    views : dict from int to TrialView
        The trials so far, by number.
    choices : str
        What suggests and what stops, and why, for people.
    """

    def __init__(
        self,
        stage: Stage,
        space: Space,
        before: Before | None,
        trials: Iterable[TrialView] = (),
        *,
        seed: int,
        sign: float = 1.0,
        ends: Ends | None = None,
        num_objectives: int = 1,
        first: Sequence[Config] = (),
        warm_start: Sequence[tuple[TrialView, ...]] = (),
    ) -> None:
        self.stage = stage
        self.space = space
        recorded = tuple(trials)
        self.views = {trial.number: trial for trial in sorted(recorded, key=lambda trial: trial.number)}
        earlier = before.trials if before is not None and stage.narrow is not None else ()
        self._carried = (*itertools.chain.from_iterable(warm_start), *carry(earlier, space))
        num_warm = min(MOST_TRIED, max(1, stage.trials // 8 // max(1, len(warm_start))))
        warm = [trial.config for trials in warm_start for trial in trials[:num_warm]]
        first = [*first, *warm, *incumbents(earlier, space, min(INCUMBENTS, max(1, stage.trials // 8)))]
        belief = Belief(space)
        if not belief.is_empty and not earlier:
            first.append(belief.guesses)
        own_seed = int(np.random.SeedSequence([seed, *stage.name.encode()]).generate_state(1)[0])
        kind, reason = choose_kind(stage, space, num_objectives)
        self.choices = f"sampler {kind}, {reason}"
        if kind == "grid":  # which ends the stage when it is done
            self.stage = stage.model_copy(update={"trials": min(stage.trials, space.count_points() or stage.trials)})
        if not belief.is_empty:
            self.choices += f"; it heeds what is guessed of {', '.join(belief.guesses)}"
        forecaster = Forecaster(space, find_rungs(stage.halving, stage.max_epochs))
        self._sampler = build_sampler(
            kind, space, forecaster, seed=own_seed, first=first, num_objectives=num_objectives
        )
        rule = choose_rule(stage, kind, forecaster, seed=own_seed, sign=sign)
        if rule is not None and num_objectives > 1:
            rule = FrontRule(rule)
        self._halving = SuccessiveHalving(stage.halving, stage.max_epochs, rule=rule, sign=sign, seed=own_seed)
        self._halving.replay(self.views.values())
        self._ends = ends or Ends(Limits())
        self._ends.open_stage(self._carried, recorded)

    @property
    def num_running(self) -> int:
        """How many trials have begun and not ended."""
        return sum(view.state == "running" for view in self.views.values())

    @property
    def has_next(self) -> bool:
        """Whether another trial is due."""
        return len(self.views) < self.stage.trials

    @property
    def is_over(self) -> bool:
        """Whether all trials have ended."""
        return not self.has_next and self.num_running == 0

    def start(self) -> TrialView:
        """Open the next trial."""
        number = len(self.views)
        config = self._sampler.ask(number, (*self._carried, *self.views.values()))
        view = TrialView(number=number, config=config, values=(), state="running")
        self.views[number] = view
        self._ends.begin(number)
        return view

    def add(self, number: int, value: float, also: tuple[float, ...] = ()) -> float:
        """Take what a trial's next epoch measured.

        Parameters
        ----------
        number : int
            The trial.
        value : float, larger is better
            The objective after its next epoch; not finite if the training diverged.
        also : tuple of float, larger is better
            The further objectives.

        Returns
        -------
        float
            The objective so far: the best epoch's, or NaN.
        """
        view = self.views[number] = self.views[number].extended(value, also)
        self._ends.add(view.values[-1])
        return view.values[-1]

    def judge(self, number: int, epoch: int) -> Decision:
        """Say what becomes of a trial after an epoch that was added; the same whenever it is asked again."""
        value = self.views[number].values[epoch - 1]
        decision = self._halving.report(number, epoch, value, tuple(self.views.values()))
        if decision.state is None and (reason := self._ends.find_refusal()):
            return Decision("stop", reason, "stopped")
        return decision

    def end(self, number: int, state: State) -> None:
        """Take note that a trial has ended."""
        self.views[number] = dataclasses.replace(self.views[number], state=state)
        self._ends.end(number, self.views[number].best)

    def close(self) -> Before:
        """Return the stage as what the next one follows on."""
        return Before(self.space, tuple(self.views.values()))


def derive_stage_seed(seed: int, index: int) -> int:
    """Derive the seed of a stage, counted from 0, from its search's."""
    return int(np.random.SeedSequence((seed, index)).generate_state(1)[0])


def choose_rule(stage: Stage, kind: str, forecaster: Forecaster, *, seed: int, sign: float) -> Rule | None:
    """Choose what decides at a stage's rungs: forecasts where the sampler makes them too, ranks elsewhere."""
    if stage.halving is None:
        return None
    match stage.halving.rule:
        case "promise" | "auto" if stage.halving.rule == "promise" or kind == "gp":
            return PromiseRule(forecaster, seed=seed, sign=sign)
        case "forecast":
            return ForecastRule(forecaster, stage.halving.reduction, sign=sign)
        case _:
            return RankRule(stage.halving.reduction, sign=sign)


def find_space(stage: Stage, space: Space | None, before: Before | None) -> tuple[Space, tuple[Reason, ...]]:
    """Find a stage's space: that of the one before, narrowed, or the whole.

    Parameters
    ----------
    stage : Stage
        Says whether and how to narrow.
    space : Space or None
        The whole space; None if it comes from what is before.
    before : Before or None
        What the stage follows on.

    Returns
    -------
    (Space, tuple of Reason)
        The reasons are empty where nothing was narrowed.
    """
    if before is not None and stage.narrow is not None:
        narrowing = narrow(before.space, before.trials, stage.narrow)
        return narrowing.space, narrowing.reasons
    if space is not None:
        return space, ()
    assert before is not None, "a space that comes from a search has one before it"
    return before.space, ()
