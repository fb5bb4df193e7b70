"""What learning curves are said to show."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tuner.strategy.diagnose import MIN_EPOCHS, Guess, Kind, diagnose, summarise_advice

NUM_EACH = 60
Epochs = list[dict[str, float]]
Curve = NDArray[np.float64]


def put(guess: Guess, train: Curve, val: Curve, train_loss: Curve, val_loss: Curve, **more: float) -> Epochs:
    """Epochs of curves in skill and in shares of a guess's loss."""
    accuracies = [guess.accuracy + (1 - guess.accuracy) * np.clip(skill, -0.02, 1) for skill in (train, val)]
    columns = {"train_accuracy": accuracies[0], "val_accuracy": accuracies[1]}
    columns |= {"train_loss": train_loss * guess.loss, "val_loss": val_loss * guess.loss}
    return [{**{name: float(column[i]) for name, column in columns.items()}, **more} for i in range(len(train))]


def learn(rng: np.random.Generator, num_epochs: int, end: float, pace: float) -> Curve:
    """A curve that rises to an end and is all but there after so many epochs."""
    return end * (1 - np.exp(-3 * np.arange(1, num_epochs + 1) / pace)) + rng.normal(0, 0.004, num_epochs)


def plant(kind: Kind, rng: np.random.Generator, guess: Guess) -> Epochs:
    """The curves of a training that has one fault, of a length, speed, level and noise drawn at random."""
    n = int(rng.integers(9, 60))
    epochs = np.arange(1, n + 1)
    noise = rng.normal(0, 1, (4, n))
    end = rng.uniform(0.86, 0.98)
    fit = learn(rng, n, end, rng.uniform(0.42, 0.56) * n)
    nothing = 0.02 * noise[0]
    match kind:
        case "diverged":
            curves = put(guess, fit, fit, 1 - fit, 1 - fit)
            for epoch in curves[int(rng.integers(0, n)) :]:
                epoch["train_loss"] = math.nan
            return curves
        case "dead":
            level = 1 + 0.001 * noise[2]
            return put(guess, nothing, nothing, level, level, update_ratio=rng.uniform(0, 0.01))
        case "learning rate too low":
            loss = 1.03 - rng.uniform(0.005, 0.12) * (epochs / n) ** rng.uniform(0.95, 1.2)
            skill = rng.uniform(0.05, 0.3) * epochs / n + nothing / 4
            return put(guess, skill, skill, loss, loss)
        case "learning rate too high" if rng.random() < 0.3:
            level = 1 + 0.01 * np.abs(noise[2])
            level[0] = rng.uniform(1.15, 3)
            return put(guess, nothing, nothing, level, level, update_ratio=0.01)
        case "learning rate too high":
            level = rng.uniform(0.3, 0.8) * np.exp(rng.uniform(0.08, 0.3) * noise[2]) + 0.4 * np.exp(-epochs)
            skill = np.clip(1 - level, 0.12, None)
            return put(guess, skill, skill, level, level * (1 + 0.05 * noise[3]))
        case "underfitting":
            skill = learn(rng, n, rng.uniform(0.15, 0.65), rng.uniform(0.2, 0.6) * n)
            loss = 1 - 0.8 * skill + 0.001 * noise[2]
            return put(guess, skill, skill - rng.uniform(0, 0.08), loss, loss + 0.02)
        case "overfitting":
            train = learn(rng, n, rng.uniform(0.9, 0.999), rng.uniform(0.5, 0.8) * n)
            val = learn(rng, n, rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.5) * n)
            val_loss = 1 - 0.7 * val + rng.uniform(0, 0.5) * np.maximum(0, epochs / n - 0.4)
            return put(guess, train, val, 1.02 - train, val_loss + 0.004 * noise[3])
        case "still improving":
            slow = learn(rng, n, rng.uniform(0.8, 1.2), rng.uniform(2.5, 5) * n)
            return put(guess, slow, slow - 0.02, 1.02 - 0.95 * slow, 1.04 - 0.95 * slow)
        case "plateaued":
            fast = learn(rng, n, end, rng.uniform(0.1, 0.3) * n)
            fast[-n // 2 :] -= 0.006
            return put(guess, fast, fast - 0.03, 1.01 - fast, 1.05 - fast)
        case _:
            return put(guess, fit, fit - 0.03, 1.01 - fit, 1.05 - fit)


KINDS: tuple[Kind, ...] = (
    "diverged", "dead", "learning rate too low", "learning rate too high", "underfitting", "overfitting",
    "still improving", "plateaued", "healthy",
)  # fmt: skip


def judge(seed: int, num_classes: int) -> Counter[tuple[Kind, Kind]]:
    """How often curves of each planted kind are said to be of each kind."""
    rng = np.random.default_rng(seed)
    guess = Guess.of(rng.integers(300, 500, num_classes).tolist())
    return Counter((kind, diagnose(plant(kind, rng, guess), guess).kind) for kind in KINDS for _ in range(NUM_EACH))


@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_95_of_100_planted_curves_are_named_rightly(num_classes: int) -> None:
    found = judge(0, num_classes)
    right = {kind: found[kind, kind] / NUM_EACH for kind in KINDS}
    assert sum(right.values()) / len(KINDS) >= 0.95, found
    assert min(right.values()) >= 0.8, found


def flat(n: int, **changed: Sequence[float]) -> list[Mapping[str, float]]:
    """Epochs of a network that guesses among ten classes, but for what is changed."""
    columns = {"train_loss": [2.303] * n, "val_loss": [2.303] * n, "train_accuracy": [0.1] * n}
    columns |= {"val_accuracy": [0.1] * n} | {name: list(values) for name, values in changed.items()}
    return [{name: values[i] for name, values in columns.items()} for i in range(n)]


TEN = Guess.of([100] * 10)


@pytest.mark.parametrize(
    ("epochs", "kind", "number"),
    [
        (flat(2), "too short", "2 epochs"),
        (flat(1, val_loss=[math.inf]), "diverged", "epoch 1"),
        (flat(5, l2_share=[0.1, 0.5, 0.9, 0.6, 0.2]), "underfitting", "90%"),
        (flat(5, update_ratio=[0.2, 0.1, 0, 0, 0]), "learning rate too high", "20% of the weights"),
        (flat(5, train_loss=[2.9, 2.303, 2.303, 2.303, 2.303]), "learning rate too high", "2.9"),
        (flat(5), "dead", "a guess has 10.00%"),
    ],
)
def test_a_network_that_guesses_is_told_why(epochs: Sequence[Mapping[str, float]], kind: Kind, number: str) -> None:
    diagnosis = diagnose(epochs, TEN)
    assert diagnosis.kind == kind
    assert number in diagnosis.text
    assert diagnosis.advice


@pytest.mark.parametrize("cut", range(1, 9))
def test_curves_cut_short_are_never_said_to_have_stopped_improving(cut: int) -> None:
    rng = np.random.default_rng(1)
    found = Counter(diagnose(plant("still improving", rng, TEN)[:cut], TEN).kind for _ in range(40))
    assert not set(found) & {"plateaued", "healthy", "diverged"}
    assert found["dead"] <= 2
    assert (found["too short"] == 40) == (cut < MIN_EPOCHS)


def test_a_guess_among_unequal_classes_is_the_largest_one() -> None:
    guess = Guess.of([900, 100])
    assert guess.accuracy == 0.9
    assert guess.loss == pytest.approx(-0.9 * math.log(0.9) - 0.1 * math.log(0.1))
    assert Guess.of([5, 5, 5], is_hinge=True).loss == pytest.approx(2 / 3)
    always_the_largest = flat(6, val_accuracy=[0.9] * 6, train_accuracy=[0.9] * 6, train_loss=[guess.loss] * 6)
    assert diagnose(always_the_largest, guess).kind == "dead"


def test_balanced_weights_make_a_guesss_loss_that_of_equal_classes_and_not_its_accuracy() -> None:
    guess = Guess.of([900, 100, 0], is_balanced=True)
    assert (guess.loss, guess.accuracy) == (pytest.approx(math.log(2)), 0.9)
    at_it = flat(6, val_accuracy=[0.9] * 6, train_accuracy=[0.9] * 6, train_loss=[math.log(2)] * 6)
    assert diagnose(at_it, guess).kind == "dead"
    assert diagnose(at_it, Guess.of([900, 100, 0])).kind == "learning rate too high"


def test_what_is_low_depends_on_what_others_reached() -> None:
    epochs = plant("underfitting", np.random.default_rng(3), TEN)
    reached = max(epoch["train_accuracy"] for epoch in epochs)
    assert diagnose(epochs, TEN).kind == "underfitting"
    assert diagnose(epochs, TEN, reachable=reached).kind in {"plateaued", "healthy"}


def test_advice_is_given_for_what_most_trials_have() -> None:
    many: list[tuple[Kind, bool]] = (
        [("still improving", True)] * 4 + [("healthy", True)] * 2 + [("diverged", False)] * 4
    )
    first, second = summarise_advice([*many, *[("too short", False)] * 50])
    assert first.startswith("4 of 10 trials: diverged; lower the learning rate")
    assert second == "4 of 6 trials that came to the end: still improving; more epochs"
    assert summarise_advice([*[("still improving", False)] * 9, ("healthy", True)]) == ()  # they were stopped
    assert summarise_advice([]) == ()
    assert summarise_advice([("healthy", True)]) == ()
