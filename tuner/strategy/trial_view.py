"""What a strategy sees of a trial."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

from tuner.spec.space import Scalar, Space
from tuner.strategy.diagnose import Kind

STAGE_BEFORE = "the stage before"  # no search can be called so
State = Literal["running", "paused", "complete", "stopped", "diverged", "failed"]


@dataclass(frozen=True)
class TrialView:
    """One trial of a stage, as far as it has come.

    Attributes
    ----------
    number : int, at least 0
        Its place in the order of suggestion in its stage.
    config : mapping from parameter names to values
        The point of the space that it trains.
    values : tuple of float
        The objective after each epoch, first to latest, larger is better; the best epoch so far counts, so
        they never fall. NaN from the epoch on in which the loss was not finite.
    state : str
        running; paused: by halving, and may be gone on with; complete: reached its stage's last epoch; stopped: by
        halving or a limit; diverged; failed: by an error.
    origin : str
        Where it comes from: empty for the stage's own; STAGE_BEFORE; or the name of another search.
    also : tuple of tuples of float
        The further objectives after each epoch, larger is better: what they are at the best epoch so far, for it is
        that epoch's network which is kept. Empty where there is one objective.
    cost : float, above 0
        Of one of its epochs, on the axis that its stage counts on; 1 where that is epochs.
    """

    number: int
    config: Mapping[str, Scalar]
    values: tuple[float, ...]
    state: State
    origin: str = ""
    also: tuple[tuple[float, ...], ...] = ()
    cost: float = 1.0

    @property
    def is_carried(self) -> bool:
        """Whether it comes from an earlier stage or another search."""
        return bool(self.origin)

    @property
    def is_foreign(self) -> bool:
        """Whether it comes from another search, whose values may mean something else."""
        return self.origin not in {"", STAGE_BEFORE}

    @property
    def best(self) -> float:
        """The objective at the latest epoch that was finite; minus infinity before the first."""
        return next((value for value in reversed(self.values) if math.isfinite(value)), -math.inf)

    def at(self, epoch: int) -> tuple[float, ...]:
        """Return all objectives after an epoch that it has finished, the first one first."""
        return (self.values[epoch - 1], *(self.also[epoch - 1] if self.also else ()))

    def extended(self, value: float, also: tuple[float, ...] = (), cost: float = 1.0) -> Self:
        """Return the trial after its next epoch.

        Parameters
        ----------
        value : float, larger is better
            The objective after the epoch; not finite if the training diverged.
        also : tuple of float
            The further objectives after the epoch.
        cost : float, above 0
            Of the epoch; what the trial has is the mean.
        """
        best = self.best
        so_far = max(value, best) if math.isfinite(value) else math.nan
        is_best = value > best or not self.also  # never so for NaN
        also_so_far = (*self.also, also if is_best else self.also[-1]) if also else ()
        mean_cost = self.cost + (cost - self.cost) / (len(self.values) + 1)
        return dataclasses.replace(self, values=(*self.values, so_far), also=also_so_far, cost=mean_cost)


@dataclass(frozen=True)
class Before:
    """What a stage follows on: an earlier stage of its search, or the last one of another.

    Attributes
    ----------
    space : Space
        Its space.
    trials : tuple of TrialView
        Its trials.
    kinds : mapping from int to str
        By the trials' numbers, which shape their learning curves have, as far as that is known.
    origin : str
        What its trials are marked with where they are carried over: STAGE_BEFORE, or the name of a search whose values
        mean something else.
    """

    space: Space
    trials: tuple[TrialView, ...]
    kinds: Mapping[int, Kind] = dataclasses.field(default_factory=dict)
    origin: str = STAGE_BEFORE
