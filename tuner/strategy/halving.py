"""Asynchronous successive halving: at each rung, a rule says who goes on."""

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tuner.spec.search import AUTO_AUDIT, LARGE_STAGE, Halving, Stage
from tuner.strategy.brackets import choose_bracket
from tuner.strategy.history import History
from tuner.strategy.rules import RankRule, Room, Rule


@dataclass(frozen=True)
class Decision:
    """What becomes of a trial after an epoch.

    Attributes
    ----------
    action : str
        continue: train on; pause: let it wait, for it may be gone on with; stop: end it here; complete: it has
        reached the last epoch.
    reason : str
        Why, for people.
    state : str or None
        The state that the trial is in then; None where it goes on.
    """

    action: Literal["continue", "pause", "stop", "complete"]
    reason: str
    state: Literal["paused", "complete", "stopped", "diverged"] | None = None


def rungs(max_epochs: int, min_epochs: int, reduction: int) -> tuple[int, ...]:
    """Return the epochs after which trials are compared.

    The last epoch, a ``reduction``-th of it, a ``reduction``-th of that and so on, each rounded down, while
    at least ``min_epochs`` are left. In integers throughout: with logarithms, 243 epochs at a reduction of 3
    lose a rung.

    Parameters
    ----------
    max_epochs : int, at least 1
        The last rung.
    min_epochs : int, at least 1
        No rung is lower, except that ``max_epochs`` always is one.
    reduction : int, at least 2
        About the ratio of neighbouring rungs; the paper's eta.

    Returns
    -------
    tuple of int
        Strictly increasing, ending at ``max_epochs``.

    Raises
    ------
    ValueError
        If an argument is below its least value.

    Examples
    --------
    >>> rungs(27, 1, 3), rungs(27, 2, 3), rungs(100, 1, 4)
    ((1, 3, 9, 27), (3, 9, 27), (1, 6, 25, 100))
    """
    if max_epochs < 1 or min_epochs < 1 or reduction < 2:
        raise ValueError(
            "need max_epochs >= 1, min_epochs >= 1 and reduction >= 2, "
            f"got max_epochs={max_epochs}, min_epochs={min_epochs}, reduction={reduction}"
        )
    descending = [max_epochs]
    while descending[-1] // reduction >= min_epochs:
        descending.append(descending[-1] // reduction)
    return tuple(reversed(descending))


def find_rungs(halving: Halving | None, max_epochs: int) -> tuple[int, ...]:
    """Return the rungs of a stage; without halving there is only the last epoch."""
    return (max_epochs,) if halving is None else rungs(max_epochs, halving.min_epochs, halving.reduction)


def plan_epochs(stage: Stage) -> float:
    """Return how many epochs a stage would train if at each rung one in ``reduction`` trials went on."""
    reduction = 1 if stage.halving is None else stage.halving.reduction
    stage_rungs = find_rungs(stage.halving, stage.max_epochs)
    steps = [high - low for low, high in itertools.pairwise((0, *stage_rungs))]
    return float(sum(max(1.0, stage.trials / reduction**i) * step for i, step in enumerate(steps)))


def find_audit(stage: Stage) -> float:
    """Return the share of a stage's trials that are never stopped."""
    if stage.halving is None:
        return 0.0
    if stage.halving.audit != "auto":
        return stage.halving.audit
    return AUTO_AUDIT if plan_epochs(stage) >= LARGE_STAGE * stage.max_epochs else 0.0


def is_drawn(number: int, audit: float, seed: int) -> bool:
    """Tell whether a trial is among the share that is never stopped, by its number alone."""
    return bool(np.random.default_rng((seed, number)).random() < audit)


class SuccessiveHalving:
    """Halving: a trial is judged at each rung, and goes on, or ends, or waits to be gone on with.

    Where trials end for good (the stopping type) each is judged once at each rung. Where they wait (the promotion type)
    a free worker goes on with the one that the rule chooses, or begins a new trial. Nobody is stopped while fewer than
    ``min_peers`` results are at a rung, and some trials never are: the audited, who tell what the rungs are worth.

    Parameters
    ----------
    halving : Halving or None
        How to stop; None: every trial trains to the last epoch.
    max_epochs : int, at least 1
        The last epoch.
    rule : Rule or None
        What decides at a rung; None for the ranks.
    is_pausing : bool
        Whether trials wait rather than end.
    sign : float, 1 or -1
        What the objective was multiplied with so that larger is better; texts show it as it was.
    audit : float, 0 to 1
        Share of the trials that are never stopped.
    seed : int
        Which trials those are depends on it, and how many rungs a trial skips.

    Notes
    -----
    What differs from the paper's algorithm 2, and from Ray Tune's ``ASHAScheduler``:

    - A value that is not finite stops the trial at once, at any epoch. (In Ray Tune, NaN compares as not worse, and
      goes on.) A diverged trial stays at the first rung that it did not get past, as the worst result there.
    - The first ``min_peers - 1`` arrivals at a rung go on untested, unless they wait as in the paper. (In Ray Tune one
      earlier result is enough to stop the next trial.)
    - Rungs are integers that end exactly at the last epoch. (In Ray Tune they grow from the first by powers and may
      miss it.)

    References
    ----------
    .. [1] Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, arXiv:1810.05934,
       Algorithm 2.
    """

    def __init__(
        self,
        halving: Halving | None,
        max_epochs: int,
        *,
        rule: Rule | None = None,
        is_pausing: bool = False,
        sign: float = 1.0,
        audit: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.rungs = find_rungs(halving, max_epochs)
        self._halving = halving
        self._rule = rule or RankRule(2 if halving is None else halving.reduction, sign=sign)
        self._is_pausing = is_pausing
        self._audit = audit
        self._seed = seed
        self._verdicts: dict[tuple[int, int], Decision] = {}

    def is_audited(self, number: int) -> bool:
        """Tell whether a trial is one of those that are never stopped."""
        return is_drawn(number, self._audit, self._seed)

    def judge(self, number: int, epoch: int, history: History, room: Room | None = None) -> Decision:
        """Say what becomes of a trial after an epoch.

        Asked again, about a trial that was restored after a crash, it answers as it did the first time.

        Parameters
        ----------
        number : int
            The trial's number in its stage.
        epoch : int, 1 to max_epochs
            How many epochs it has finished.
        history : History
            The stage's trials so far, what this one measured in the epoch among it.
        room : Room or None
            What may still be spent; None for no end to it.

        Raises
        ------
        ValueError
            If ``epoch`` is outside its range.
        """
        if not 1 <= epoch <= self.rungs[-1]:
            raise ValueError(f"epoch must be in 1..{self.rungs[-1]}, got {epoch}")
        if not math.isfinite(history.own[number].values[epoch - 1]):
            return Decision("stop", f"diverged at epoch {epoch}: the loss is not finite", "diverged")
        if epoch == self.rungs[-1]:
            return Decision("complete", f"reached the last epoch, {epoch}", "complete")
        if epoch not in self.rungs:
            return Decision("continue", f"no rung at epoch {epoch}")
        if epoch < len(history.own[number].values):
            return Decision("continue", f"went on at epoch {epoch}")
        if (number, epoch) not in self._verdicts:
            self._verdicts[number, epoch] = self._judge(number, epoch, history, room or Room())
        return self._verdicts[number, epoch]

    def choose(self, history: History, room: Room) -> int | None:
        """Choose what a free worker does: the waiting trial to go on with, or None for a new one if one may begin."""
        if not self._is_pausing or not history.paused:
            return None
        number, _ = self._rule.choose(history, room)
        return number

    def _find_bracket(self, number: int, history: History) -> int:
        """Return how many of the first rungs a trial skips."""
        if self._halving is None or self._halving.brackets == 1:
            return 0
        return choose_bracket(number, history, self._halving.brackets, self._seed)

    def _judge(self, number: int, rung: int, history: History, room: Room) -> Decision:
        assert self._halving is not None
        if self.is_audited(number):
            return Decision("continue", f"went on at epoch {rung}: audited, so it is never stopped")
        skipped = self._find_bracket(number, history)
        if self.rungs.index(rung) < skipped:
            return Decision("continue", f"went on at epoch {rung}: one of those that skip {skipped} rungs")
        num_peers = len(history.peers(number, rung))
        if num_peers < self._halving.min_peers and not (self._is_pausing and self._rule.waits_for_peers):
            return Decision(
                "continue",
                f"result {num_peers} at epoch {rung}, too few to judge (min_peers: {self._halving.min_peers})",
            )
        if self._is_pausing:
            chosen, text = self._rule.choose(history, room, number)
            if chosen == number:
                return Decision("continue", f"went on at epoch {rung}: {text}")
            return Decision("pause", f"paused at epoch {rung}: {text}", "paused")
        goes_on, text = self._rule.judge(number, rung, history)
        if goes_on:
            return Decision("continue", f"went on at epoch {rung}: {text}")
        return Decision("stop", f"stopped at epoch {rung}: {text}", "stopped")
