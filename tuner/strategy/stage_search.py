"""One stage's decisions: what is trained next, and who goes on. What Ray drives, and the simulator too."""

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from tuner.spec.search import Limits, Stage
from tuner.spec.space import Config, Space
from tuner.strategy.draws import find_middle
from tuner.strategy.ends import Ends
from tuner.strategy.forecast import Forecaster
from tuner.strategy.gaussian_sampler import GaussianSampler
from tuner.strategy.halving import Decision, SuccessiveHalving, find_audit, find_rungs, plan_epochs
from tuner.strategy.history import History
from tuner.strategy.narrow import Reason, carry, incumbents, narrow
from tuner.strategy.pareto import FrontRule
from tuner.strategy.prior import Belief
from tuner.strategy.rules import EqualCostRule, ForecastRule, MedianRule, PromiseRule, RankRule, Room, Rule
from tuner.strategy.sampler import FirstThen, Kind, Sampler, build_sampler, choose_kind
from tuner.strategy.trial_view import STAGE_BEFORE, Before, State, TrialView
from tuner.strategy.warm_start import MOST_TRIED

MODELLING = ("gp", "tpe")  # the samplers that try the middle of the space first, where nothing better is known
ENOUGH_LEFT = 0.25  # of a full training for each worker, but no more than
ENOUGH_SHARE = 1 / 3  # of all epochs; with less left, what begins would only keep others from their ends
MORE_TRAININGS = 3  # than halving by ranks plans, at most, and at most one for each trial that trains at once
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
    repeats : int, at least 1
        How often that is tried, one round after the other.
    warm_start : sequence of tuples of TrialView
        For each other search that is learnt from, what `warm_start.choose_trials` chose of it; the best are tried too.

    sampler : Sampler or None
        What suggests, whatever the stage says; None for what it says.
    order : sequence of int
        In which order the recorded trials began and came on: a trial's number for its beginning, and again for each of
        its epochs. Without it each trial comes after the one before it has got to where it is.
    num_again : int
        How many of the stage's trials try another one's config again, which failed.
    audit : float, 0 to 1, or None
        The share of the trials that are never stopped, if the stage has begun with one; None for what it says.

    Attributes
    ----------
    history : History
        The trials so far.
    audit : float, 0 to 1
        The share of the trials that are never stopped.
    audited : list of int
        The numbers of the trials so far that are never stopped.
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
        repeats: int = 1,
        warm_start: Sequence[tuple[TrialView, ...]] = (),
        order: Sequence[int] = (),
        sampler: Sampler | None = None,
        num_again: int = 0,
        audit: float | None = None,
    ) -> None:
        self.stage = stage
        self.space = space
        recorded = tuple(trials)
        earlier = before.trials if before is not None and stage.narrow is not None else ()
        origin = STAGE_BEFORE if before is None else before.origin
        carried = (*itertools.chain.from_iterable(warm_start), *carry(earlier, space, origin))
        num_warm = min(MOST_TRIED, max(1, stage.trials // 8 // max(1, len(warm_start))))
        warm = [trial.config for trials in warm_start for trial in trials[:num_warm]]
        first = [*first, *warm, *incumbents(earlier, space, min(INCUMBENTS, max(1, stage.trials // 8)))]
        belief = Belief(space)
        if not belief.is_empty and not earlier:
            first.append(belief.guesses)
        own_seed = _derive_own_seed(stage, seed)
        kind, reason = choose_kind(stage, space, num_objectives)
        self.choices = f"sampler {kind}, {reason}"
        if kind in MODELLING and not first:
            first.append(find_middle(space))
            self.choices += "; the middle of the space is tried first"
        if kind == "grid":  # which ends the stage when it is done
            most = (space.count_points() or stage.trials) + num_again
            self.stage = stage.model_copy(update={"trials": min(stage.trials, most)})
        self._ends = ends or Ends(Limits())
        self._ends.open_stage(carried, recorded)
        most_trials = min(self.stage.trials, len(recorded) + self._ends.num_trials_left)
        self._within_limits = self.stage.model_copy(update={"trials": most_trials})
        if not belief.is_empty:
            self.choices += f"; it heeds what is guessed of {', '.join(belief.guesses)}"
        stage_rungs = find_rungs(stage.halving, stage.max_epochs)
        pauses = is_pausing(stage, kind)
        self._is_by_promise = pauses and find_rule(stage, kind) == "promise"
        forecaster = Forecaster(space, stage_rungs, is_cautious=not pauses and stage.halving is not None)
        model = GaussianSampler(space, forecaster, seed=own_seed)
        self._sampler = sampler or build_sampler(
            kind, space, model, seed=own_seed, first=first, repeats=repeats, num_objectives=num_objectives
        )
        self._num_first = self._sampler.num_first if isinstance(self._sampler, FirstThen) else 0
        rule = choose_rule(stage, kind, model, seed=own_seed, sign=sign)
        if rule is not None and num_objectives > 1:
            rule = FrontRule(rule)
        self.audit = find_audit(self._within_limits) if audit is None else audit
        self._halving = SuccessiveHalving(
            stage.halving,
            stage.max_epochs,
            rule=rule,
            is_pausing=pauses,
            sign=sign,
            audit=self.audit,
            seed=own_seed,
        )
        self._plan = plan_epochs(self._within_limits)
        self._choice: tuple[int, int | None] | None = None
        group = "architecture" if stage.halving is not None and stage.halving.peers == "architecture" else ""
        self.history = History(carried, rungs=stage_rungs, group=group)
        for trial in _in_order(recorded, order):
            self.history.put(trial)
        self.audited = [number for number in self.views if self._halving.is_audited(number)]

    @property
    def views(self) -> Mapping[int, TrialView]:
        """The trials so far, by number."""
        return self.history.own

    @property
    def num_running(self) -> int:
        """How many trials train."""
        return len(self.history.running)

    @property
    def has_next(self) -> bool:
        """Whether the limits of the search let another trial start now: a new one, or one that waits."""
        return self._ends.may_train and (self._find_room().may_begin or self._choose() is not None)

    @property
    def is_over(self) -> bool:
        """Whether all trials have ended, but for those that would wait for ever."""
        return self.num_running == 0 and len(self.views) >= self.stage.trials and self._choose() is None

    @property
    def is_stuck(self) -> bool:
        """Whether trials wait that will not be gone on with, and nothing else trains."""
        return self.num_running == 0 and bool(self.history.paused) and not self.has_next

    @property
    def may_try_again(self) -> bool:
        """Whether the next new trial may have a given config: what is to be tried first has its numbers."""
        return len(self.views) >= self._num_first

    def start(self, config: Config | None = None) -> TrialView:
        """Open the next trial, or go on with one that waits; only if one is due.

        Parameters
        ----------
        config : mapping or None
            What a new trial is to train, if ``may_try_again``; None for what the sampler suggests.
        """
        number = self._choose()
        if number is None:
            number = len(self.views)
            config = self._sampler.ask(number, self.history) if config is None else config
            view = TrialView(number=number, config=config, values=(), state="running")
            if self._halving.is_audited(number):
                self.audited.append(number)
            self._ends.begin(number)
        else:
            view = dataclasses.replace(self.views[number], state="running")
            self._ends.go_on(number)
        self.history.put(view)
        return view

    def add(self, number: int, value: float, also: tuple[float, ...] = (), cost: float = 1.0) -> float:
        """Take what a trial's next epoch measured.

        Parameters
        ----------
        number : int
            The trial.
        value : float, larger is better
            The objective after its next epoch; not finite if the training diverged.
        also : tuple of float, larger is better
            The further objectives.
        cost : float, above 0
            Of the epoch, on the axis that halving counts on.

        Returns
        -------
        float
            The objective so far: the best epoch's, or NaN.
        """
        view = self.views[number].extended(value, also, cost)
        self.history.put(view)
        self._ends.add(view.values[-1])
        return view.values[-1]

    def judge(self, number: int, epoch: int) -> Decision:
        """Say what becomes of a trial after an epoch that was added; the same whenever it is asked again."""
        decision = self._halving.judge(number, epoch, self.history, self._find_room(judged=number))
        if decision.state is None and (reason := self._ends.find_refusal()):
            return Decision("stop", reason, "stopped")
        return decision

    def end(self, number: int, state: State) -> None:
        """Take note that a trial has ended, or waits."""
        self.history.put(dataclasses.replace(self.views[number], state=state))
        if state == "paused":
            self._ends.pause(number)
        else:
            self._ends.end(number, self.views[number].best)

    def close(self) -> Before:
        """Return the stage as what the next one follows on."""
        return Before(self.space, tuple(self.views.values()))

    def _choose(self) -> int | None:
        """Choose the waiting trial that a free worker goes on with; None for a new one, or for none."""
        if len(self.views) < self._num_first:
            return None
        if self._choice is None or self._choice[0] != self.history.version:
            room = self._find_room()
            chosen = self._halving.choose(self.history, room)
            if chosen is None and not (room.may_begin or self.num_running or self._is_by_promise):
                chosen = self._find_finisher()
            self._choice = self.history.version, chosen
        return self._choice[1]

    def _find_finisher(self) -> int | None:
        """Return the best trial of the highest rung where all wait and none has a result at the last; else None.

        By ranks none of so few may go on, and the stage would end with nothing trained to its end; promise sees to that
        by itself.
        """
        is_growing = self.stage.halving is not None and self.stage.halving.grow  # its last rung is where it says
        if is_growing or self._has_complete:
            return None
        waiting = {number: len(self.views[number].values) for number in self.history.paused}
        highest = [number for number, epochs in waiting.items() if epochs == max(waiting.values())]
        return max(highest, key=lambda number: (self.views[number].best, -number), default=None)

    @property
    def _has_complete(self) -> bool:
        """Whether a trial has a result at the last rung."""
        return any(map(math.isfinite, self.history.at(self.stage.max_epochs).values.values()))

    def _find_room(self, judged: int | None = None) -> Room:
        """Say what may still be spent, by a free worker or by a trial that is judged.

        A stage of so many trials, but for those that the limit of trials lets not begin, is to train about as many
        epochs as halving by ranks would, unless the search has fewer left. Whatever promises most is trained, until no
        more than enough is left of that beside the first epochs of trials that have not begun; these all begin then,
        and what is left is for the best of all. What audited trials train past the first rung comes on top, or they
        would take it from those that promise most. So does what is needed, one trial after the other, until one has
        come to its end.

        Of a limit of time each worker has its own share, which it can take from no other.
        """
        left, in_time = self._ends.num_epochs_left, self._ends.num_epochs_in_time
        last, first_rung, spent = self.stage.max_epochs, self.history.rungs[0], self.history.num_epochs
        audited = (self.views[number] for number in self.audited)
        on_top = sum(max(0, len(trial.values) - first_rung) for trial in audited)
        done = [len(self.views[number].values) for number in self.history.running if number != judged]
        num_workers, lacking = 1 + len(done), last - max(done, default=-math.inf)
        most = self._plan + min(MORE_TRAININGS, num_workers) * (last - first_rung) + on_top
        num_due = max(0, self._within_limits.trials - len(self.views))
        to_begin = num_due * first_rung
        is_cut_short = most > min(left, in_time) + spent
        needed = self._count_needed(judged)
        lacks_any = not (self._has_complete or done or num_due)  # all that were trained to the end diverged
        left_here = math.inf if is_cut_short or lacks_any else most - spent - to_begin

        def find_enough(num_epochs: float) -> float:
            return max(last, min(ENOUGH_LEFT * num_workers * last, ENOUGH_SHARE * num_epochs))

        others_may_end = self._is_by_promise and lacking <= left < math.inf
        return Room(
            may_begin=num_due > 0
            and self._ends.may_begin
            and (not others_may_end or left - needed >= find_enough(left + spent)),
            may_go_on=left_here - needed >= (find_enough(most) if num_due else 0),
            horizon=min(left - needed, in_time / num_workers),
            in_stage=left_here - needed,
            is_contended=lacking <= min(left, left_here) < math.inf,
        )

    def _count_needed(self, judged: int | None) -> int:
        """Count the epochs that those which run need, but for one that is judged.

        That is until they are judged next, and from there on for as many of them as halving by ranks would let go on:
        else many workers all come to a rung from which none can get any further. Those that are never stopped need all
        that they lack.
        """
        last, rungs, audited = self.stage.max_epochs, self.history.rungs, set(self.audited)
        others = (number for number in self.history.running if number != judged)
        done = Counter((len(self.views[number].values), number in audited) for number in others)
        needed, arriving = 0, dict.fromkeys(rungs, 0)
        for (epochs, is_audited), count in done.items():
            following = last if is_audited else next((rung for rung in rungs if rung > epochs), last)
            needed += count * (following - epochs)
            arriving[following] += count
        reduction = 1 if self.stage.halving is None else self.stage.halving.reduction
        going_on = 0
        for low, high in itertools.pairwise(rungs):
            going_on = (arriving[low] + going_on) // reduction
            needed += going_on * (high - low)
        return needed


def derive_stage_seed(seed: int, index: int) -> int:
    """Derive the seed of a stage, counted from 0, from its search's."""
    return int(np.random.SeedSequence((seed, index)).generate_state(1)[0])


def _derive_own_seed(stage: Stage, seed: int) -> int:
    return int(np.random.SeedSequence([seed, *stage.name.encode()]).generate_state(1)[0])


def _in_order(trials: Sequence[TrialView], order: Sequence[int]) -> Iterator[TrialView]:
    """Yield recorded trials as they were after each event, in the order of the events."""
    recorded = {trial.number: trial for trial in trials}
    seen: Counter[int] = Counter()
    for number in order:
        trial = recorded[number]
        if seen[number] < len(trial.values):
            yield dataclasses.replace(
                trial, values=trial.values[: seen[number]], also=trial.also[: seen[number]], state="running"
            )
        else:
            yield recorded.pop(number)
        seen[number] += 1
    yield from recorded.values()


def find_rule(stage: Stage, kind: Kind) -> str:
    """Return the name of the rule that decides at a stage's rungs."""
    assert stage.halving is not None
    if stage.halving.rule == "auto":
        return "promise" if kind == "gp" and not stage.halving.grow else "rank"
    return stage.halving.rule


def is_pausing(stage: Stage, kind: Kind) -> bool:
    """Tell whether trials that do not go on wait at their rungs."""
    if stage.halving is None:
        return False
    if stage.halving.type == "auto":
        return stage.halving.grow or find_rule(stage, kind) == "promise"
    return stage.halving.type == "promotion"


def choose_rule(stage: Stage, kind: Kind, model: GaussianSampler, *, seed: int, sign: float) -> Rule | None:
    """Choose what decides at a stage's rungs: forecasts where the sampler makes them too, ranks elsewhere."""
    if stage.halving is None:
        return None
    match find_rule(stage, kind):
        case "promise":
            return PromiseRule(model, seed=seed, sign=sign)
        case "forecast":
            return ForecastRule(model.forecaster, stage.halving.reduction, sign=sign)
        case "median":
            return MedianRule(tolerance=stage.halving.tolerance, sign=sign)
        case _:
            build = RankRule if stage.halving.axis == "epochs" else EqualCostRule
            grows, tolerance = stage.halving.grow, stage.halving.tolerance
            return build(stage.halving.reduction, tolerance=tolerance, grows=grows, sign=sign)


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
        narrowing = narrow(before.space, before.trials, stage.narrow, before.kinds)
        return narrowing.space, narrowing.reasons
    if space is not None:
        return space, ()
    assert before is not None, "a space that comes from a search has one before it"
    return before.space, ()
