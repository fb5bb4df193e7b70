"""From one stage's trials to the next stage's space, with a reason for every hyperparameter."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, TypeAlias

from tuner.spec.search import Narrow
from tuner.spec.space import Choice, Distribution, Int, LogInt, LogUniform, Parameter, Scalar, Space, Uniform
from tuner.strategy.diagnose import Kind
from tuner.strategy.draws import index_of
from tuner.strategy.findings import Remedy, find_remedy
from tuner.strategy.importance import LEVEL, MIN_TRIALS, Importance, find_importances
from tuner.strategy.interval import End, Range, extend_range, find_limits, fit_range
from tuner.strategy.ranking import rank_trials
from tuner.strategy.trial_view import STAGE_BEFORE, TrialView

MIN_BEST = 5
MIN_TRIES = 5
DOUBTFUL_KEEP = 0.5
"""What share of the trials defines a range whose effect may be that of others."""
MIN_OPTIONS = 5
"""Among at least so many options the level of the tests is shared, so that it is never above 1%."""

Action: TypeAlias = Literal["narrowed", "widened", "kept", "dropped options", "fixed", "dropped"]
END_TEXTS: dict[End, str] = {
    "widened": "most are near the {} end, so the range goes on there by a quarter",
    "at its limit": "most are near the {} end, but it may not go further",
}


@dataclass(frozen=True)
class Reason:
    """What became of one parameter.

    Attributes
    ----------
    name : str
        The parameter's, as in the old space.
    action : str
        narrowed; widened: it goes beyond an old end; kept; dropped options: some of a choice's; fixed: one is
        left, or there never was another; dropped: it went with the option that it depended on.
    before, after : str
        The old and the new range or options; ``after`` is empty where the parameter was dropped.
    text : str
        Why, for people.
    num_trials : int
        How many trials it rests on.
    """

    name: str
    action: Action
    before: str
    after: str
    text: str
    num_trials: int

    @property
    def change(self) -> str:
        """What it was and what it is now, or what it stays."""
        return self.before if self.before == self.after else f"{self.before} -> {self.after or 'gone'}"


@dataclass(frozen=True)
class Narrowing:
    """A new space, and why: a reason for every parameter of the old one, in its order."""

    space: Space
    reasons: tuple[Reason, ...]


def narrow(
    space: Space, trials: Sequence[TrialView], narrow: Narrow, kinds: Mapping[int, Kind] | None = None
) -> Narrowing:
    """Narrow a space to where its best trials lie.

    Trials are ranked by `rank_trials`, so values are compared at equal epochs only. For each parameter the
    best share of those trials in which it exists is looked at, at least five of them: a range that matters, as
    `find_importances` finds, is fitted to their values by `fit_range`; an option is dropped if none of them has
    it and its trials are clearly worse than the others.

    Parameters
    ----------
    space : Space
        The space of the stage that ended.
    trials : sequence of TrialView
        The stage's; those carried over from another one are left out, since they trained on another schedule.
    narrow : Narrow
        How much to keep.
    kinds : mapping from int to str, or None
        Which shape the learning curves of trials have, by their numbers.

    Returns
    -------
    Narrowing
        The best trial's config is always a point of the new space. Where fewer than eight trials tell about a
        parameter, or all are equally good, it is kept as it is.

    Notes
    -----
    A range that explains no more of the trials' order than chance may is kept: the ends of any best few trials
    lie inside those of all, and say nothing. One that explains something which may as well be due to more
    important parameters is fitted to the better half of the trials, and only what is clear to the best share.

    An option is dropped on three conditions: it was tried five times or more; none of its trials is among
    the best; and a one-sided rank-sum test, with what more important parameters explain taken off, puts its
    trials below the others. There, diverged and failed trials count as the worst. All options of the space
    share a level of 5%, so that a space in which no choice matters loses an option in about one narrowing of
    twenty. With an option go the parameters that depend on it.

    What the learning curves of the best trials show moves one end of a range outward, as `find_remedy` says.

    A parameter is looked at by itself, so the new space is a box and holds combinations that were never good.
    """
    own = [trial for trial in trials if not trial.is_carried]
    ranked = rank_trials(own)
    losers = [trial for trial in own if trial.state in {"diverged", "failed"}]
    importances = find_importances(space, ranked, losers)
    level = LEVEL / max(MIN_OPTIONS, _count_options(space))
    verdicts = {
        parameter.name: _look_at(
            parameter,
            _Evidence(
                [trial for trial in ranked if parameter.name in trial.config],
                [trial for trial in losers if parameter.name in trial.config],
                importances.get(parameter.name),
            ),
            narrow,
            level,
            kinds or {},
        )
        for parameter in space.parameters
    }
    narrowed = space.replace({name: distribution for name, (distribution, _) in verdicts.items()})
    left = {parameter.name for parameter in narrowed.parameters}
    return Narrowing(
        narrowed,
        tuple(
            reason if parameter.name in left else _explain_dropped(parameter, reason)
            for parameter, (_, reason) in ((space[name], verdict) for name, verdict in verdicts.items())
        ),
    )


def carry(trials: Sequence[TrialView], space: Space, origin: str = STAGE_BEFORE) -> tuple[TrialView, ...]:
    """Pick the trials of an earlier stage that lie in a new space, and mark where they come from.

    Parameters
    ----------
    trials : sequence of TrialView
        Of an earlier stage. Those that never ended are left out: they would count as running for ever.
    space : Space
        The next stage's.
    origin : str
        Their mark.
    """
    return tuple(
        dataclasses.replace(trial, origin=origin)
        for trial in trials
        if trial.state != "running" and space.contains(trial.config)
    )


def incumbents(trials: Sequence[TrialView], space: Space, count: int) -> list[dict[str, Scalar]]:
    """Return the best different configs of a stage that lie in a new space, best first.

    The next stage trains them first and at its own length, and so ends at least as well as this one.

    Parameters
    ----------
    trials : sequence of TrialView
        The stage's; those carried over from another one are left out.
    space : Space
        The next stage's.
    count : int, at least 0
        How many at most. Three are enough, and no more than an eighth of the next stage's trials.
    """
    configs: list[dict[str, Scalar]] = []
    for trial in rank_trials(trial for trial in trials if not trial.is_carried):
        config = dict(trial.config)
        if len(configs) < count and config not in configs and space.contains(config):
            configs.append(config)
    return configs


@dataclass(frozen=True)
class _Evidence:
    """What is known of one parameter.

    Attributes
    ----------
    ranked, losers : sequence of TrialView
        The trials that have it: those with a result, best first, and those that diverged or failed.
    importance : Importance or None
        How much it explains; None for a constant.
    """

    ranked: Sequence[TrialView]
    losers: Sequence[TrialView]
    importance: Importance | None


def _count_options(space: Space) -> int:
    """Count the options that might be dropped."""
    free = [parameter.distribution for parameter in space.parameters if not parameter.is_constant]
    return sum(len(distribution.options) for distribution in free if isinstance(distribution, Choice))


def _look_at(
    parameter: Parameter, evidence: _Evidence, narrow: Narrow, level: float, kinds: Mapping[int, Kind]
) -> tuple[Distribution, Reason]:
    """Decide about one parameter; an option is dropped at that level of the test."""
    old, ranked, importance = parameter.distribution, evidence.ranked, evidence.importance
    num_ended = len(ranked) + len(evidence.losers)

    def keep(text: str, action: Action = "kept") -> tuple[Distribution, Reason]:
        return old, Reason(parameter.name, action, describe(old), describe(old), text, num_ended)

    if importance is None:
        return keep("a constant", "fixed")
    if len(ranked) < MIN_TRIALS:
        return keep(f"trials with a result that tell about it: {len(ranked)}, and {MIN_TRIALS} are needed")
    if all(trial.best == ranked[0].best for trial in ranked):
        return keep(f"all {len(ranked)} trials are equally good")
    num_best = max(MIN_BEST, math.ceil(narrow.keep * len(ranked)))
    if isinstance(old, Choice):
        best = [index_of(old, trial.config[parameter.name]) for trial in ranked[:num_best]]
        return _look_at_options(parameter.name, old, [*ranked, *evidence.losers], best, importance, level)
    finding = find_remedy(parameter.key, [kinds[t.number] for t in ranked[:num_best] if t.number in kinds])
    limits = find_limits(parameter.name, old)
    if not importance.is_clear and not importance.is_clear_alone:
        text = "it explains no more of the differences between trials than chance may"
        return _heed(parameter.name, old, old, text, num_ended, finding, limits)
    if not importance.is_clear:
        num_best = max(num_best, math.ceil(DOUBTFUL_KEEP * len(ranked)))
    values = [float(trial.config[parameter.name]) for trial in ranked[:num_best]]
    fit = fit_range(old, values, margin=narrow.margin, limits=limits)
    ends = {"lower": fit.low, "upper": fit.high}
    text = f"{_explain(importance)}; the best {num_best} of {num_ended} lie in [{min(values):.4g}, {max(values):.4g}]"
    text += "".join(f"; {END_TEXTS[end].format(which)}" for which, end in ends.items() if end in END_TEXTS)
    if "cut" in ends.values():
        text += f"; {narrow.margin:.0%} of that is added where an end moves in"
    return _heed(parameter.name, old, fit.range, text, num_ended, finding, limits)


def _heed(
    name: str,
    old: Range,
    fitted: Range,
    text: str,
    num_trials: int,
    finding: Remedy | None,
    limits: tuple[float, float],
) -> tuple[Distribution, Reason]:
    """Move an end of a fitted range outward, if learning curves ask for that."""
    new = fitted
    if finding is not None:
        has_moved = fitted.high > old.high if finding.end == "upper" else fitted.low < old.low
        new = fitted if has_moved else extend_range(old, fitted, finding.end, limits)
        what = "with which that agrees" if has_moved else "so the {} end goes on by a quarter of the old range"
        what = "but the {} end may not go further" if new == fitted and not has_moved else what
        text += f"; {finding.text}, {what.format(finding.end)}"
    is_wider = new.low < old.low or new.high > old.high
    action: Action = "widened" if is_wider else "kept" if new == old else "narrowed"
    return new, Reason(name, action, describe(old), describe(new), text, num_trials)


def _explain(importance: Importance) -> str:
    """Say how much a range matters."""
    count = len(importance.besides)
    others = importance.besides[0] if count == 1 else f"{count} more important ones"
    if not importance.is_clear:
        return f"what it explains of the differences between trials may be due to {others}"
    left = f" that {others} leave{'s' if count == 1 else ''}" if count else ""
    return f"it explains {importance.share:.0%} of the differences between trials{left}"


def _look_at_options(
    name: str, old: Choice, ended: Sequence[TrialView], best: Sequence[int], importance: Importance, level: float
) -> tuple[Distribution, Reason]:
    """Drop the options that were tried, are nowhere among the best, and are clearly worse."""
    places: dict[int, list[float]] = {i: [] for i in range(len(old.options))}
    for trial in ended:
        places[index_of(old, trial.config[name])].append(importance.left[trial.number])
    dropped = {
        i
        for i, own in places.items()
        if len(own) >= MIN_TRIES and i not in best and _is_worse(own, list(importance.left.values()), level)
    }
    kept = tuple(option for i, option in enumerate(old.options) if i not in dropped)
    new = Choice(options=kept)
    if dropped:
        text = "; ".join(
            f"{old.options[i]}: none of its {len(places[i])} trials is among the best {len(best)} of {len(ended)}, "
            f"and they are clearly worse (rank-sum test, {100 * level:.2g}%)"
            for i in sorted(dropped)
        )
    else:
        have = ", ".join(str(old.options[i]) for i in sorted(set(best)))
        text = f"the best {len(best)} of {len(ended)} trials have {have}; no other is clearly worse"
    action: Action = "kept" if not dropped else "fixed" if len(kept) == 1 else "dropped options"
    return new, Reason(name, action, describe(old), describe(new), text, len(ended))


def _is_worse(own: Sequence[float], everyone: Sequence[float], level: float) -> bool:
    """Tell whether some of the ranks are worse than the rest, by a one-sided rank-sum test.

    The variance is that of the ranks as they are, which are fewer different ones where trials tie.
    """
    num_own, num_all = len(own), len(everyone)
    if num_own == num_all:
        return False
    mean = sum(everyone) / num_all
    variance = sum((rank - mean) ** 2 for rank in everyone) / (num_all - 1)
    excess = sum(own) - num_own * mean
    deviation = math.sqrt(num_own * (num_all - num_own) / num_all * variance)
    return excess > NormalDist().inv_cdf(1 - level) * deviation


def _explain_dropped(parameter: Parameter, reason: Reason) -> Reason:
    assert parameter.condition is not None
    text = f"went with {parameter.condition[0]}: {parameter.condition[1]}"
    return dataclasses.replace(reason, action="dropped", after="", text=text)


def describe(distribution: Distribution) -> str:
    """Write a distribution for people: its kind and its ends, or its options."""
    if isinstance(distribution, Choice):
        return ", ".join(map(str, distribution.options))
    kind = {Uniform: "uniform", LogUniform: "loguniform", Int: "int", LogInt: "logint"}[type(distribution)]
    text = f"{kind} [{distribution.low:.6g}, {distribution.high:.6g}]"
    step = distribution.step if isinstance(distribution, Uniform | Int) else None
    return text if step in {None, 1} else f"{text} in steps of {step:.6g}"
