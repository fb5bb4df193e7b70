"""What the record says in words: why a trial ended where it did, what its curves show, what stopping cost."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.report.leaderboard import format_objective
from tuner.strategy.audit import LEVEL, Audit
from tuner.strategy.diagnose import ADVICE, KINDS, summarise_advice
from tuner.track.ledger import TrialRecord


@dataclass(frozen=True)
class RungPlace:
    """Where a trial stood at a rung among all that came there, by the end of the stage.

    Attributes
    ----------
    rung : int
        The epoch.
    value : float
        The trial's objective there.
    place, num_trials : int
        Its place, the best being 1, and how many came there.
    num_further : int
        How many of them trained on.
    cut : float
        The objective of the worst of the best ``num_further``; NaN where nobody trained on.
    """

    rung: int
    value: float
    place: int
    num_trials: int
    num_further: int
    cut: float


def find_places(
    trial: TrialRecord, trials: Sequence[TrialRecord], rungs: Sequence[int], *, maximize: bool
) -> tuple[RungPlace, ...]:
    """Find where a trial stood at each rung that it came to.

    Parameters
    ----------
    trial : TrialRecord
        The trial.
    trials : sequence of TrialRecord
        All of its stage.
    rungs : sequence of int
        The epochs at which trials were compared.
    maximize : bool
        Whether a larger objective is better.
    """
    sign = 1.0 if maximize else -1.0
    places = []
    for rung in rungs:
        there = [one for one in trials if len(one.values) >= rung and math.isfinite(one.values[rung - 1])]
        if trial not in there:
            continue
        ranked = sorted((one.values[rung - 1] for one in there), key=lambda value: -sign * value)
        value = trial.values[rung - 1]
        num_further = sum(len(one.values) > rung for one in there)
        cut = ranked[num_further - 1] if num_further else math.nan
        places.append(RungPlace(rung, value, ranked.index(value) + 1, len(there), num_further, cut))
    return tuple(places)


def describe_place(place: RungPlace, metric: str) -> str:
    """Say where a trial stood at a rung."""
    text = f"{_ordinal(place.place)} of {place.num_trials} with {format_objective(place.value, metric)}"
    if not place.num_further:
        return text
    cut = format_objective(place.cut, metric)
    return f"{text}; {place.num_further} trained on, and the {_ordinal(place.num_further)} had {cut}"


def describe_diagnoses(trials: Sequence[TrialRecord]) -> list[str]:
    """Say how many trials have curves of which shape, and what follows; nothing where none has a diagnosis."""
    counts = Counter(trial.diagnosis["kind"] for trial in trials if trial.diagnosis)
    if not counts:
        return []
    told = [(KINDS[t.diagnosis["kind"]], t.state == "complete") for t in trials if t.diagnosis]
    shown = ", ".join(f"{counts[kind]} {kind}" for kind in ADVICE if counts[kind])
    return [f"learning curves: {shown}", *(f"  {sentence}" for sentence in summarise_advice(told))]


def describe_audit(record: Mapping[str, Any] | None) -> list[str]:
    """Say what stopping saved and what it cost, by a stage's attribute ``audit``; nothing where there is none."""
    if record is None:
        return []
    audit = Audit.read(record)
    lines = [f"halving: {audit.epochs:,} of {audit.epochs_unstopped:,} epochs were trained, {audit.saved:.0%} saved"]
    if math.isfinite(audit.false_stops):
        best = f"{'best one' if audit.num_top == 1 else f'best {audit.num_top}'} that came to the end by it"
        lines.append(
            f"  of the trials as good as the {best}, it stopped about {audit.false_stops:.0%} "
            f"({audit.low:.0%} to {audit.high:.0%}, a {LEVEL:.0%} interval), by {audit.num_audited} audited trials, "
            f"{audit.num_better or 'none'} of them better than all that it let through"
        )
    if audit.rungs:
        of = "audited trials" if audit.is_sample else "trials that came to the end"
        shown = ", ".join(f"epoch {worth.rung}: {worth.correlation:.2f}" for worth in audit.rungs)
        lines.append(f"  rank correlation with the last epoch, over {audit.rungs[0].num_trials} {of}: {shown}")
    if advice := audit.advise():
        lines.append(f"  {advice}")
    return lines


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
