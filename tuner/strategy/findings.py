"""What the learning curves of many trials say about the next space and the next length."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tuner.strategy.diagnose import Kind
from tuner.strategy.trial_view import TrialView

MIN_SHOWN = 3  # trials, and half of those that show anything: fewer are no finding
REMEDIES: tuple[tuple[Kind, tuple[str, ...], Literal["lower", "upper"]], ...] = (
    ("overfitting", ("l2", "dropout"), "upper"),
    ("underfitting", ("l2", "dropout"), "lower"),
    ("learning rate too low", ("learning_rate",), "upper"),
    ("learning rate too high", ("learning_rate",), "lower"),
)


@dataclass(frozen=True)
class Remedy:
    """What becomes of a range for what learning curves show.

    Attributes
    ----------
    end : str
        Which end should lie farther out: lower or upper.
    text : str
        What they show, for people.
    """

    end: Literal["lower", "upper"]
    text: str


def find_remedy(key: str, best_kinds: Sequence[Kind]) -> Remedy | None:
    """Say which end of a range the learning curves of its best trials ask to move outward.

    Parameters
    ----------
    key : str
        The hyperparameter's own name.
    best_kinds : sequence of str
        The shapes of its best trials' curves.

    Returns
    -------
    Remedy or None
        None where they ask for nothing.

    Notes
    -----
    Of those best trials whose curves are long enough to show anything, half or more, and three or more, must have the
    same shape. Overfitting: the upper end of ``l2`` and ``dropout``. Underfitting: their lower end. Learning rate too
    low: the upper end of ``learning_rate``; too high: its lower end. What the best trials lack is not in their values,
    or they would be better; so it is sought beyond them.
    """
    shown: list[Kind] = [kind for kind in best_kinds if kind != "too short"]
    for kind, keys, end in REMEDIES:
        count = shown.count(kind)
        if key in keys and count >= MIN_SHOWN and 2 * count >= len(shown):
            return Remedy(end, f"curves of {count} of the best {len(shown)} that show something: {kind}")
    return None


def describe_unfinished(trials: Sequence[TrialView], kinds: Mapping[int, Kind]) -> str:
    """Say how many trials were still improving at a stage's last epoch, if half or more were; else nothing.

    Parameters
    ----------
    trials : sequence of TrialView
        The stage's.
    kinds : mapping from int to str
        The shapes of their curves.
    """
    complete = [kinds[trial.number] for trial in trials if trial.state == "complete" and trial.number in kinds]
    count = complete.count("still improving")
    if count < MIN_SHOWN or 2 * count < len(complete):
        return ""
    return f"{count} of the {len(complete)} trials that came to the end were still improving"
