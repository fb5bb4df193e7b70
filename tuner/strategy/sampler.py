"""What to try next: the protocol, and which sampler a stage gets."""

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

from tuner.spec.search import Stage
from tuner.spec.space import Config, Scalar, Space
from tuner.strategy.cma_es import RankedCmaEs
from tuner.strategy.gaussian_sampler import GaussianSampler
from tuner.strategy.grid import GridSampler
from tuner.strategy.model_free import QuasiRandomSampler, RandomSampler
from tuner.strategy.nsga2 import RungAwareNsga2
from tuner.strategy.tpe import RungAwareTpe
from tuner.strategy.trial_view import TrialView

Kind = Literal["gp", "tpe", "nsga2", "cmaes", "qmc", "grid", "random"]


class Sampler(Protocol):
    """What suggests the configurations of a stage.

    A suggestion is a function of the sampler's arguments, the trial's number and the history alone, so a
    search that was killed goes on as if it had not been.
    """

    def ask(self, number: int, history: Iterable[TrialView]) -> dict[str, Scalar]:
        """Suggest what a trial should train.

        Parameters
        ----------
        number : int, at least 0
            The trial's number in its stage.
        history : iterable of TrialView
            The stage's trials so far, running ones too, and those of earlier stages that lie in the space,
            marked as carried. A `History` with the stage's rungs saves going through them.

        Returns
        -------
        dict from parameter names to values
            A point of the space; one that is not in the history, as long as such a point is easily found.
        """
        ...


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

    def __init__(self, space: Space, first: Sequence[Config], then: Sampler, repeats: int = 1) -> None:
        for config in first:
            if not space.contains(config):
                raise ValueError(f"{dict(config)} is not a point of the space")
        self.first = tuple(first)
        self.num_first = len(self.first) * repeats
        self._then = then

    def ask(self, number: int, history: Iterable[TrialView]) -> dict[str, Scalar]:
        """Return the next given configuration, or else a suggestion; see `Sampler.ask`."""
        if number < self.num_first:
            return dict(self.first[number % len(self.first)])
        return self._then.ask(number, history)


def choose_kind(stage: Stage, space: Space, num_objectives: int = 1) -> tuple[Kind, str]:
    """Choose what kind of sampler a stage gets.

    Returns
    -------
    (str, str)
        The kind, and why, for people.
    """
    if stage.sampler == "cmaes":
        num_free = sum(not parameter.is_constant for parameter in space.parameters)
        return "cmaes", f"as asked; it models {len(space.flat_ranges)} of {num_free} parameters and draws the others"
    if stage.sampler == "grid":
        size = space.count_points()
        assert size is not None, "a grid of a continuous range is refused with the spec"
        return "grid", f"as asked: {min(size, stage.trials)} of its {size} points"
    if stage.sampler != "auto":
        return stage.sampler, "as asked"
    if all(parameter.is_constant for parameter in space.parameters):
        return "random", "since nothing varies"
    if num_objectives > 1:
        return "tpe", f"since there are {num_objectives} objectives, and a Gaussian process models one"
    return "gp", "since a Gaussian process over configurations and rungs makes most of each epoch"


def build_sampler(
    kind: Kind,
    space: Space,
    model: GaussianSampler,
    *,
    seed: int,
    first: Sequence[Config],
    repeats: int = 1,
    num_objectives: int = 1,
) -> Sampler:
    """Build what suggests the configurations of a stage.

    Parameters
    ----------
    kind : str
        Of which kind.
    space : Space
        What to suggest from.
    model : GaussianSampler
        What suggests if that kind is asked for; it knows the stage's rungs.
    seed : int, at least 0
        The stage's own.
    first : sequence of configs
        What the first trials train, before anything is suggested: points of the space, or parts of such, which the
        quasi-random sequence makes whole. What comes twice is trained once.
    repeats : int, at least 1
        How often that is trained, one round after the other.
    num_objectives : int, at least 1
        How many objectives there are.
    """
    sequence = QuasiRandomSampler(space, seed=seed)
    whole = [sequence.at(i, config) for i, config in enumerate(first)]
    different = list({frozenset(config.items()): config for config in whole}.values())
    sampler: Sampler
    stage_rungs = model.forecaster.stage_rungs
    match kind:
        case "gp":
            sampler = model
        case "tpe":
            sampler = RungAwareTpe(space, seed=seed, stage_rungs=stage_rungs, num_objectives=num_objectives)
        case "nsga2":
            sampler = RungAwareNsga2(space, seed=seed, stage_rungs=stage_rungs, num_objectives=num_objectives)
        case "cmaes":
            sampler = RankedCmaEs(space, seed=seed)
        case "qmc":
            sampler = QuasiRandomSampler(space, seed=seed)
        case "grid":
            sampler = GridSampler(space, seed=seed)
        case "random":
            sampler = RandomSampler(space, seed=seed)
    return FirstThen(space, different, sampler, repeats) if different else sampler
