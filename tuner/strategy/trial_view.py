"""What a strategy sees of a trial."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tuner.spec.space import Scalar, Space

STAGE_BEFORE = "the stage before"  # no search can be called so
State = Literal["running", "complete", "stopped", "diverged", "failed"]


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
        running; complete: reached its stage's last epoch; stopped: by halving or a limit; diverged; failed:
        by an error.
    origin : str
        Where it comes from: empty for the stage's own; STAGE_BEFORE; or the name of another search.
    """

    number: int
    config: Mapping[str, Scalar]
    values: tuple[float, ...]
    state: State
    origin: str = ""

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
        finite = [value for value in self.values if math.isfinite(value)]
        return max(finite, default=-math.inf)


@dataclass(frozen=True)
class Before:
    """What a stage follows on: an earlier stage of its search, or the last one of another."""

    space: Space
    trials: tuple[TrialView, ...]
