"""What to try next: the protocol, and the samplers that a stage can name."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from tuner.spec.search import Stage
from tuner.spec.space import Config, Scalar, Space
from tuner.strategy.draws import draw, first_new, generators
from tuner.strategy.halving import rungs
from tuner.strategy.tpe import RungAwareTpe
from tuner.strategy.trial_view import TrialView


class Sampler(Protocol):
    """What suggests the configurations of a stage.

    A suggestion is a function of the sampler's arguments, the trial's number and the history alone, so a
    search that was killed goes on as if it had not been.
    """

    def ask(self, number: int, history: Sequence[TrialView]) -> dict[str, Scalar]:
        """Suggest what a trial should train.

        Parameters
        ----------
        number : int, at least 0
            The trial's number in its stage.
        history : sequence of TrialView
            The stage's trials so far, running ones too, and those of earlier stages that lie in the space,
            marked as carried.

        Returns
        -------
        dict from parameter names to values
            A point of the space; one that is not in the history, as long as such a point is easily found.
        """
        ...


class RandomSampler:
    """Independent draws, uniform over every choice and every range.

    Parameters
    ----------
    space : Space
        What to draw from.
    seed : int, at least 0
        Another seed, other draws.
    """

    def __init__(self, space: Space, *, seed: int) -> None:
        self._space = space
        self._seed = seed

    def ask(self, number: int, history: Sequence[TrialView]) -> dict[str, Scalar]:
        """Draw a point at random; see `Sampler.ask`."""
        return first_new(history, (draw(self._space, rng) for rng in generators(self._seed, number)))


class FirstThen:
    """Given configurations first, a sampler's after that.

    Parameters
    ----------
    space : Space
        What every configuration has to lie in.
    first : sequence of configs
        What the trials with the lowest numbers train: for instance the best of an earlier stage, at the new
        length.
    then : Sampler
        What suggests the rest.

    Raises
    ------
    ValueError
        If one of ``first`` is not a point of the space.
    """

    def __init__(self, space: Space, first: Sequence[Config], then: Sampler) -> None:
        for config in first:
            if not space.contains(config):
                raise ValueError(f"{dict(config)} is not a point of the space")
        self._first = tuple(first)
        self._then = then

    def ask(self, number: int, history: Sequence[TrialView]) -> dict[str, Scalar]:
        """Return the next given configuration, or else a suggestion; see `Sampler.ask`."""
        return dict(self._first[number]) if number < len(self._first) else self._then.ask(number, history)


def build_sampler(stage: Stage, space: Space, *, seed: int, first: Sequence[Config] = ()) -> Sampler:
    """Build what suggests the configurations of a stage.

    Parameters
    ----------
    stage : Stage
        Names the sampler and fixes the rungs. Its name goes into the seed, so that stages draw independently.
    space : Space
        What to suggest from.
    seed : int, at least 0
        The search's.
    first : sequence of configs
        What the first trials train, before anything is suggested; all of them points of the space.
    """
    own_seed = int(np.random.SeedSequence([seed, *stage.name.encode()]).generate_state(1)[0])
    halving = stage.halving
    epochs = (stage.max_epochs,) if halving is None else rungs(stage.max_epochs, halving.min_epochs, halving.reduction)
    sampler: Sampler = (
        RandomSampler(space, seed=own_seed)
        if stage.sampler == "random"
        else RungAwareTpe(space, seed=own_seed, stage_rungs=epochs)
    )
    return FirstThen(space, first, sampler) if first else sampler
