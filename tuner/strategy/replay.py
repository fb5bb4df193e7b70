"""What other settings of halving would have cost and found, by the learning curves on record."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tuner.spec.search import Stage
from tuner.spec.space import Config, Scalar, Space
from tuner.strategy.simulate import Curve, Event, Job, Search, simulate
from tuner.strategy.trial_view import TrialView

DONORS = 5  # trials among which the rest of a curve that was cut off is drawn


@dataclass(frozen=True)
class Outcome:
    """What one replay came to.

    Attributes
    ----------
    epochs : int
        Epochs that were trained.
    seconds : float
        Of a worker, in all.
    best : float
        The best value that a trial reached, larger being better.
    is_best_known : bool
        Whether that value is on record, and not guessed.
    num_complete : int
        Trials that came to the end.
    num_guessed : int
        Epochs that were trained and are not on record.
    """

    epochs: int
    seconds: float
    best: float
    is_best_known: bool
    num_complete: int
    num_guessed: int


class Recorded:
    """A sampler that suggests what was suggested, in the same order."""

    def __init__(self, configs: Sequence[Config]) -> None:
        self._configs = configs

    def ask(self, number: int, history: Iterable[TrialView]) -> dict[str, Scalar]:
        """Return the configuration of that number; see `Sampler.ask`."""
        return dict(self._configs[number])


def replay_stage(
    trials: Sequence[TrialView],
    seconds: Sequence[float],
    stage: Stage,
    space: Space,
    *,
    workers: int,
    seed: int,
    rng: np.random.Generator,
    num_objectives: int = 1,
) -> Outcome:
    """Run a stage again on its recorded curves, with other settings.

    Parameters
    ----------
    trials : sequence of TrialView
        The stage's own, by number, with their further objectives and what their epochs cost.
    seconds : sequence of float
        Of an epoch of each.
    stage : Stage
        With the settings to try; its ``max_epochs`` are those of the record.
    space : Space
        The stage's.
    workers : int, at least 1
        How many trials train at once.
    seed : int
        What the rule's model draws from.
    rng : numpy.random.Generator
        Where the rests of curves are drawn from.
    num_objectives : int, at least 1
        How many objectives there are.

    Notes
    -----
    The same configurations come in the same order, so what the sampler would have done otherwise is left out. Where a
    trial goes on beyond its record, it follows another trial that was about as good at that epoch and has more on
    record: one of five, drawn anew for each replay. So nothing better than the record is made up. Those others were let
    on by halving for some reason, so such values are rather too high; several replays say how much hangs on the draw.
    Further objectives stay what they were at the end of the record.
    """
    curves = [_extend(trial, trials, stage.max_epochs, rng) for trial in trials]
    stage = stage.model_copy(update={"trials": len(trials)})
    policy = Search(
        [stage],
        space,
        seed=seed,
        cost=lambda _: trials[event.job.key[1]].cost,
        num_objectives=num_objectives,
        also=lambda _, __: _find_also(trials[event.job.key[1]], event.epoch, num_objectives - 1),
        sampler=Recorded([trial.config for trial in trials]),
    )

    def train(job: Job) -> Curve:
        number = job.key[1]
        return Curve(curves[number], seconds[number])

    epochs, spent, num_guessed, num_complete = 0, 0.0, 0, 0
    best, is_known = -math.inf, True
    event: Event  # the latest one, of which the policy asks
    for event in simulate(policy, train, workers=workers, max_epochs=len(trials) * stage.max_epochs):
        number = event.job.key[1]
        is_guessed = event.epoch > len(trials[number].values)
        epochs, spent, num_guessed = epochs + 1, spent + seconds[number], num_guessed + is_guessed
        num_complete += event.epoch == stage.max_epochs
        if event.value > best or (event.value == best and not is_guessed):  # what is guessed follows what is on record
            best, is_known = event.value, not is_guessed
    return Outcome(epochs, spent, best, is_known, num_complete, num_guessed)


def _extend(
    trial: TrialView, trials: Sequence[TrialView], max_epochs: int, rng: np.random.Generator
) -> tuple[float, ...]:
    """Return a trial's curve to the last epoch, what is not on record being guessed."""
    values = list(trial.values)
    if trial.state in {"diverged", "failed"}:
        return (*values, *[math.nan] * (max_epochs - len(values)))
    while len(values) < max_epochs:
        epoch = len(values)
        longer = [other for other in trials if len(other.values) > epoch and math.isfinite(other.values[epoch])]
        if not longer:
            values += [values[-1] if values else math.nan] * (max_epochs - epoch)
            break
        if not values:
            values.append(longer[int(rng.integers(len(longer)))].values[0])
            continue
        near = sorted(longer, key=lambda other: abs(other.values[epoch - 1] - values[-1]))[:DONORS]
        donor = near[int(rng.integers(len(near)))]
        rest = [value for value in donor.values[epoch:max_epochs] if math.isfinite(value)]
        values += [max(values[-1], value) for value in rest]
    return tuple(values)


def _find_also(trial: TrialView, epoch: int, num_further: int) -> tuple[float, ...]:
    """Return a trial's further objectives after an epoch; NaN if none is on record."""
    return trial.also[min(epoch, len(trial.also)) - 1] if trial.also else (math.nan,) * num_further


def summarise_outcomes(outcomes: Sequence[Outcome]) -> dict[str, tuple[float, float, float]]:
    """Return the 10th, 50th and 90th percentile of each number over several replays."""
    names = [field.name for field in dataclasses.fields(Outcome)]
    return {
        name: tuple(np.percentile([float(getattr(one, name)) for one in outcomes], (10, 50, 90)).tolist())
        for name in names
    }
