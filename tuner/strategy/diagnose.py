"""What a trial's learning curves say: which of a few well-known shapes they have, by which numbers, and what to do."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]
Accuracy = TypeVar("Accuracy", float, Curve)

Kind = Literal[
    "diverged",
    "dead",
    "learning rate too low",
    "learning rate too high",
    "overfitting",
    "still improving",
    "underfitting",
    "plateaued",
    "healthy",
    "too short",
]

ADVICE: dict[Kind, str] = {
    "diverged": "lower the learning rate, or set gradient_clip",
    "dead": "look at the gradients with tuner check: units that never fire, or weights that all start equal",
    "learning rate too low": "raise the learning rate",
    "learning rate too high": "lower the learning rate, or let it decay",
    "overfitting": "more l2, dropout or augmentation, a smaller network, or more images",
    "still improving": "more epochs",
    "underfitting": "a larger network, or less l2 and dropout",
    "plateaued": "fewer epochs would do, or a learning rate that decays",
    "healthy": "nothing to mend",
    "too short": "at least 3 epochs tell something",
}

KINDS: dict[str, Kind] = {kind: kind for kind in ADVICE}

MIN_EPOCHS = 3  # fewer points are no curve
AT_A_GUESS = 0.1  # skill up to which a network knows nothing, with the chance of a few hundred images
STRONG_L2 = 0.3  # share of the loss from which on the L2 term may be what keeps a network from learning
LARGE_STEP = 0.05  # of a step's length to the weights': about 0.001 is usual
BLOWN_UP = 1.1  # of an epoch's mean loss to a guess's
SLOW_FALL = 0.15  # of the training loss over all epochs
LEAST_FALL = 1e-4  # of the training loss, an epoch: less is none
STRAIGHT = 0.4  # of the fall's pace in the last half to that in the first, from which on it is not levelling off
UNSTEADY = 0.004  # mean rise of the training loss an epoch, as a share of a guess's loss
UNSTEADY_SHARE = 0.2  # of all rises to all falls
MIN_CHANGES = 4  # from epoch to epoch, to call a loss unsteady
LOSS_RISE = 0.1  # of the validation loss over its least
GAP = 0.15  # in skill, from training to validation
GAIN = 0.03  # in skill, over the last third of the epochs
UNFIT = 0.8  # of the skill that was reached elsewhere
FLAT = 0.01  # in skill, over the last half of the epochs


@dataclass(frozen=True)
class Guess:
    """What a network reaches that has learned nothing but how frequent the classes are.

    Attributes
    ----------
    loss : float, in nats
        The entropy of the classes, or of equally frequent ones where their weights are balanced; for a support vector
        machine the hinge loss of equal scores.
    accuracy : float, fraction in [0, 1]
        The share of the largest class.
    """

    loss: float
    accuracy: float

    @classmethod
    def of(cls, class_sizes: Sequence[int], *, is_hinge: bool = False, is_balanced: bool = False) -> Self:
        """Work it out from how many images each class has, and whether all classes have the same weight in the loss."""
        shares = np.array(class_sizes, dtype=float) / sum(class_sizes)
        shares = shares[shares > 0]
        entropy = math.log(len(shares)) if is_balanced else float(-(shares * np.log(shares)).sum())
        return cls((len(class_sizes) - 1) / len(class_sizes) if is_hinge else entropy, float(shares.max()))

    def skill(self, accuracy: Accuracy) -> Accuracy:
        """Put accuracies on a scale on which a guess is 0 and no error is 1."""
        return (accuracy - self.accuracy) / max(1 - self.accuracy, 1e-9)


@dataclass(frozen=True)
class Diagnosis:
    """What a trial's curves look like.

    Attributes
    ----------
    kind : str
        The shape.
    text : str
        The numbers that it rests on, for people.
    """

    kind: Kind
    text: str

    @property
    def advice(self) -> str:
        """What to do about it."""
        return ADVICE[self.kind]


def diagnose(epochs: Sequence[Mapping[str, float]], guess: Guess, *, reachable: float = 1.0) -> Diagnosis:
    """Say which shape a trial's curves have.

    Parameters
    ----------
    epochs : sequence of mappings
        What was measured at epoch 1, 2, ..., by the names of the training's results: ``train_loss``, ``val_loss``,
        ``train_accuracy``, ``val_accuracy``, and where there are any ``l2_share`` and ``update_ratio``.
    guess : Guess
        What is reached without having learned.
    reachable : float, fraction in [0, 1]
        An accuracy that other trials have reached on the same images, or 1.

    Notes
    -----
    The rules, the first that holds. *Skill* is accuracy on a scale from a guess, 0, to no error, 1.

    1. diverged: a loss is not finite.
    2. too short: fewer than 3 epochs.
    3. Skill never above 0.1, in training or validation. underfitting: the L2 term is 30% of the loss or more at some
       epoch. learning rate too low: the training loss falls in a straight line. learning rate too high: an epoch's mean
       loss is a tenth above a guess's, or steps are a twentieth of the weights or longer. dead: none of these.
    4. learning rate too low: the training loss falls by less than 15% over all epochs, in a straight line: the pace of
       the last half is at least 0.4 of that of the first, and it hardly ever rises.
    5. learning rate too high: of 6 epochs or more, from the second on, the training loss rises by 0.4% of a guess's
       loss an epoch on the average, and by at least a fifth of all that it falls.
    6. overfitting: at the end the validation loss is a tenth above its least, while the training loss is below what it
       was there.
    7. still improving: the best validation accuracy gains 0.03 in skill over the last third of the epochs.
    8. overfitting: training is 0.15 in skill above validation at the end.
    9. underfitting: at the end neither training nor validation has 0.8 of the skill that is reachable.
    10. plateaued: the last half of the epochs gains no 0.01 in skill.
    11. healthy: none of these.
    """
    curves = {
        name: np.array([epoch.get(name, math.nan) for epoch in epochs], dtype=float)
        for name in ("train_loss", "val_loss", "train_accuracy", "val_accuracy", "l2_share", "update_ratio")
    }
    losses, validation = curves["train_loss"], curves["val_loss"]
    if not (np.isfinite(losses).all() and np.isfinite(validation).all()):
        epoch = int(np.argmin(np.isfinite(losses) & np.isfinite(validation))) + 1
        return Diagnosis("diverged", f"the loss is not finite at epoch {epoch}")
    if len(epochs) < MIN_EPOCHS:
        return Diagnosis("too short", f"{len(epochs)} epoch{'s' if len(epochs) > 1 else ''}")
    train, val = guess.skill(curves["train_accuracy"]), guess.skill(curves["val_accuracy"])
    third, tail = max(2, len(epochs) // 3), max(2, len(epochs) // 5)
    fall, is_straight = 1 - losses[-1] / max(losses[0], 1e-12), _is_straight(losses)
    slow = f"the training loss falls by {fall:.1%} in {len(epochs)} epochs, in a straight line"
    if max(train.max(), val.max()) < AT_A_GUESS:
        return _explain_guessing(curves, guess, slow if is_straight else "")
    if fall < SLOW_FALL and is_straight:
        return Diagnosis("learning rate too low", slow)
    changes = np.diff(losses[1:])
    rises, falls = changes[changes > 0].sum(), -changes[changes < 0].sum()
    is_unsteady = rises > UNSTEADY * guess.loss * len(changes) and rises > UNSTEADY_SHARE * falls
    if is_unsteady and len(changes) >= MIN_CHANGES:
        text = f"the training loss rises at {(changes > 0).sum()} of {len(changes)} epochs, by {rises:.3g} in all"
        return Diagnosis("learning rate too high", text)
    least = int(np.argmin(validation))
    end = float(np.median(validation[-tail:]))
    if end > (1 + LOSS_RISE) * validation[least] and losses[-1] < losses[least]:
        text = (
            f"the validation loss was {validation[least]:.3g} at epoch {least + 1} and is {end:.3g} at the end, while "
        )
        return Diagnosis("overfitting", f"{text}the training loss fell from {losses[least]:.3g} to {losses[-1]:.3g}")
    best = np.maximum.accumulate(curves["val_accuracy"])
    before = best[-third - 1]
    if guess.skill(best[-1]) - guess.skill(before) > GAIN:
        text = f"the validation accuracy rises from {before:.2%} to {best[-1]:.2%} in the last {third} epochs"
        return Diagnosis("still improving", text)
    fit, held = float(train[-tail:].mean()), float(val[-tail:].mean())
    means = [curves[f"{name}_accuracy"][-tail:].mean() for name in ("train", "val")]
    if fit - held > GAP:
        return Diagnosis("overfitting", f"accuracy {means[0]:.2%} in training and {means[1]:.2%} in validation")
    if max(fit, held) < UNFIT * guess.skill(reachable):
        text = f"accuracy {means[0]:.2%} even in training"
        return Diagnosis("underfitting", text + (f", where {reachable:.2%} was reached" if reachable < 1 else ""))
    half = best[(len(best) - 1) // 2]
    if guess.skill(best[-1]) - guess.skill(half) < FLAT:
        text = f"the best validation accuracy is {best[-1]:.2%}, and was {half:.2%} half-way"
        return Diagnosis("plateaued", text)
    return Diagnosis("healthy", f"accuracy {means[0]:.2%} in training and {means[1]:.2%} in validation at the end")


def _explain_guessing(curves: Mapping[str, Curve], guess: Guess, slow: str) -> Diagnosis:
    """Say why a network knows nothing."""
    losses, best = curves["train_loss"], float(curves["val_accuracy"].max())
    text = f"accuracy {best:.2%} at best, a guess has {guess.accuracy:.2%}"
    share, step = (_largest(curves[name]) for name in ("l2_share", "update_ratio"))
    if share > STRONG_L2:
        return Diagnosis("underfitting", f"{text}; the L2 term is {share:.0%} of the loss")
    if slow:
        return Diagnosis("learning rate too low", slow)
    if losses.max() > BLOWN_UP * guess.loss:
        return Diagnosis(
            "learning rate too high", f"{text}; the loss was {losses.max():.3g}, a guess has {guess.loss:.3g}"
        )
    if step > LARGE_STEP:
        return Diagnosis("learning rate too high", f"{text}; a step was {step:.0%} of the weights")
    return Diagnosis("dead", f"{text}; the training loss stays at {losses[-1]:.4g}")


def _is_straight(losses: Curve) -> bool:
    """Tell whether a loss falls steadily and does not level off."""
    changes = np.diff(losses)
    rises, falls = changes[changes > 0].sum(), -changes[changes < 0].sum()
    middle = (len(losses) - 1) / 2
    first, last = losses[0] - losses[math.floor(middle)], losses[math.ceil(middle)] - losses[-1]
    is_falling = falls > LEAST_FALL * losses[0] * len(changes) and rises < FLAT * falls
    return bool(is_falling and last > STRAIGHT * first)


def _largest(values: Curve) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if len(finite) else 0.0


def summarise_advice(diagnoses: Iterable[tuple[Kind, bool]]) -> tuple[str, ...]:
    """Turn what the trials of a stage show into advice for the next search.

    Parameters
    ----------
    diagnoses : iterable of (str, bool)
        The shape of each trial's curves, and whether it came to the last epoch.

    Returns
    -------
    tuple of str
        A sentence for each shape that half or more of those trials have that came to the end, and for those that a
        third or more of all trials with a curve have; of these not that they still improved, as whatever is stopped.
    """
    known = [(kind, is_complete) for kind, is_complete in diagnoses if kind != "too short"]
    complete: Counter[Kind] = Counter(kind for kind, is_complete in known if is_complete)
    everyone: Counter[Kind] = Counter(kind for kind, _ in known)
    advice = []
    for kind in itertools.islice(ADVICE, 8):
        at_end, in_all = complete[kind], everyone[kind]
        if complete and 2 * at_end >= complete.total():
            advice.append(f"{at_end} of {complete.total()} trials that came to the end: {kind}; {ADVICE[kind]}")
        elif everyone and 3 * in_all >= everyone.total() and kind != "still improving":
            advice.append(f"{in_all} of {everyone.total()} trials: {kind}; {ADVICE[kind]}")
    return tuple(advice)
