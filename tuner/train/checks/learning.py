"""Whether a network learns at all: a few images by heart, something that carries over, and at which learning rates."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tuner.spec.hyperparameters import AdamW, HogSvm, Hyperparameters
from tuner.train.checks.finding import Finding, judge
from tuner.train.checks.images import DEVIATIONS, measure_neighbours
from tuner.train.checks.wiring import without_regularisation
from tuner.train.data import ImageSplits
from tuner.train.loop import Trainer

FEW = 32  # images that are learned by heart
BY_HEART = 0.1  # of a guess's loss
NOT_BY_HEART = 0.5
STEPS_AN_EPOCH, MOST_EPOCHS = 8, 60
RATES_BY_HEART = (1e-2, 3e-3, 1e-3, 3e-2, 3e-4)
LOWEST, HIGHEST = 1e-6, 10.0
STEPS_A_DECADE = (12, 36)  # more, where so few lower no loss
SMOOTHING = 0.15  # of a decade: the deviation of the weights by which neighbouring losses are averaged
BLOWN_UP, CEILING = 3.0, 1.5  # of the first loss
LEAST_FALL = 0.03  # of a guess's loss
BEGUN, BOTTOM = 0.1, 0.2  # shares of the fall: it has begun, and it is as good as over
SOME, SHORT_EPOCHS = 1024, 10
USEFUL = 10**1.5  # rates down to so much below the one at which the loss is lowest are the best in longer trainings
COVERED, WASTED = 0.5, 0.6  # shares of decades
BELOW, ABOVE = 10.0, 3.0  # the range test is short: rates that much below and above what it says work too


@dataclass(frozen=True)
class RateRange:
    """A learning-rate range test: one step at each of many rates, from tiny to huge.

    Attributes
    ----------
    rates, losses : tuple of float
        Of each step; losses are smoothed, in nats.
    low, high : float
        Between the rate at which the loss begins to fall and the middle of those at which it is lowest; NaN if it does
        not fall.
    blown_up : float
        The rate at which the loss was three times the first, or the highest one.

    References
    ----------
    .. [1] Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017, arXiv:1506.01186, section 3.3.

    Notes
    -----
    The bottom is flat, so that where exactly its lowest point lies is chance; the middle of all that is nearly as low
    has two thirds of its deviation from seed to seed. Two or three seeds with a half or a third of the steps each are
    worse: a deep network hardly learns in so few (benchmarks/LOG.md).
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    low: float
    high: float
    blown_up: float


def find_rates(given: Hyperparameters, splits: ImageSplits, *, seed: int, device: str) -> RateRange:
    """Train with a learning rate that rises from step to step, by the same factor, until the loss blows up.

    What learns nothing in so few steps is given three times as many.
    """
    few, many = STEPS_A_DECADE
    found = _rise(given, splits, few, seed=seed, device=device)
    return found if math.isfinite(found.high) else _rise(given, splits, many, seed=seed, device=device)


def _rise(given: Hyperparameters, splits: ImageSplits, steps_a_decade: int, *, seed: int, device: str) -> RateRange:
    trainer = Trainer(given, splits, max_epochs=1, seed=seed, device=device)
    trainer.classifier.train()
    num_steps = round(steps_a_decade * math.log10(HIGHEST / LOWEST))
    rates = np.geomspace(LOWEST, HIGHEST, num_steps)
    generator = torch.Generator().manual_seed(seed)
    seen: list[float] = []
    for rate in rates:
        chosen = torch.randint(len(splits.train), (min(given.batch_size, len(splits.train)),), generator=generator)
        measured = trainer.stepper.take(trainer.gather(torch.from_numpy(splits.train)[chosen]), rate, is_measured=False)
        loss = float(measured.sums[0]) / len(chosen)
        if not math.isfinite(loss) or loss > BLOWN_UP * (seen or [loss])[0]:
            break
        seen.append(loss)
    ceiling = CEILING * seen[0]  # what is beyond counts as this, lest one step outweighs all others
    whole = np.minimum(seen + [ceiling] * (num_steps - len(seen)), ceiling)
    losses = smooth(whole, SMOOTHING * steps_a_decade)[: len(seen)]
    first, lowest = float(np.median(losses[:steps_a_decade])), int(losses.argmin())
    low = high = math.nan
    fall = first - losses[lowest]
    if fall > LEAST_FALL * trainer.criterion.guess:
        low = float(rates[np.flatnonzero(losses[: lowest + 1] > first - BEGUN * fall).max(initial=0)])
        higher = np.flatnonzero(losses > losses[lowest] + BOTTOM * fall)
        left, right = higher[higher < lowest].max(initial=-1), higher[higher > lowest].min(initial=len(losses))
        high = math.sqrt(rates[left + 1] * rates[right - 1])
    blown_up = float(rates[min(len(losses), num_steps - 1)])
    return RateRange(tuple(rates[: len(losses)].tolist()), tuple(losses.tolist()), low, high, blown_up)


def smooth(losses: NDArray[np.float64], deviation: float) -> NDArray[np.float64]:
    """Average each loss of a range test with its neighbours on both sides, those near it most."""
    at = np.arange(len(losses)) / deviation
    weights = np.exp(-0.5 * (at[:, None] - at) ** 2)
    smoothed: NDArray[np.float64] = weights @ losses / weights.sum(axis=1)
    return smoothed


def judge_rates(subject: str, found: RateRange, low: float, high: float) -> Finding:
    """Hold the learning rates of a space against a range test.

    Parameters
    ----------
    subject : str
        The network.
    found : RateRange
        Its range test.
    low, high : float
        The space's ends; equal where the rate is a constant.
    """
    check = "learning rate"
    if not math.isfinite(found.high):
        text = f"left open: no rate lowers the loss, of {STEPS_A_DECADE[1]} a decade from {LOWEST:g} to {HIGHEST:g}"
        return Finding(subject, check, "pass", math.nan, "", text)  # whether it learns at all is another check's
    useful = found.high / USEFUL, found.high
    bound = f"half of {useful[0]:.2g} to {useful[1]:.2g}, or half of it there"
    share = max(_cover((low, high), useful), _cover(useful, (low, high)))
    wasted = 1 - _cover((LOWEST * 1e-3, found.blown_up), (low, high))
    text = f"the loss falls from {found.low:.2g} on and is lowest at {found.high:.2g}; the space has {low:.2g}"
    text += f" to {high:.2g}" if low < high else ""
    is_outside = high < found.low / BELOW or low > found.high * ABOVE
    is_poor = low < high and (share < COVERED or wasted > WASTED)
    status = judge(share, warn=is_poor, fail=is_outside)
    advice = "" if status == "pass" else f"search from {found.low / BELOW:.1g} to {found.high * ABOVE:.1g}"
    return Finding(subject, check, status, share, bound, text, advice)


def check_by_heart(subject: str, given: Hyperparameters, splits: ImageSplits, *, seed: int, device: str) -> Finding:
    """See that a network learns a few images by heart, without regularisation, at one of a few learning rates."""
    generator = np.random.default_rng(seed)
    rows = generator.choice(splits.train, min(FEW, len(splits.train)), replace=False)
    few = dataclasses.replace(splits, train=np.tile(rows, STEPS_AN_EPOCH), validation=rows, order=None)
    check, guess = f"{len(rows)} images by heart", math.nan
    if isinstance(given.architecture, HogSvm):
        text = "left out: a linear machine on few features cannot, and need not"
        return Finding(subject, check, "pass", math.nan, "", text)
    plain = without_regularisation(given).model_copy(update={"optimizer": AdamW(), "batch_size": len(rows)})
    best, epochs = math.inf, 0
    for rate in RATES_BY_HEART:
        trainer = Trainer(
            plain.model_copy(update={"learning_rate": rate}), few, max_epochs=MOST_EPOCHS, seed=seed, device=device
        )
        guess = trainer.criterion.guess
        for result in trainer.epochs():
            epochs += 1
            best = min(best, result.train_loss) if math.isfinite(result.train_loss) else best
            if best < BY_HEART * guess:
                break
        if best < BY_HEART * guess:
            break
    status = judge(best, warn=best > BY_HEART * guess, fail=best > NOT_BY_HEART * guess)
    text = f"the loss comes to {best:.3f} in {epochs * STEPS_AN_EPOCH} steps, a guess has {guess:.3f}"
    advice = "" if status == "pass" else "the network cannot learn even these: look at its layers, loss and steps"
    return Finding(subject, check, status, best, f"below {BY_HEART * guess:.2f}", text, advice)


def check_carries_over(
    subject: str, given: Hyperparameters, splits: ImageSplits, rates: Sequence[float], *, seed: int, device: str
) -> Finding:
    """See that what is learned from some images in a few epochs, at one of a few rates, holds for others."""
    rng = np.random.default_rng(seed)
    rows = [rng.choice(part, min(SOME, len(part)), replace=False) for part in (splits.train, splits.validation)]
    some = dataclasses.replace(splits, train=np.sort(rows[0]), validation=np.sort(rows[1]), order=None)
    plain = without_regularisation(given).model_copy(update={"batch_size": min(given.batch_size, 64)})
    guess = float(np.bincount(splits.labels[some.validation]).max()) / len(some.validation)
    bound = guess + DEVIATIONS * math.sqrt(guess * (1 - guess) / len(some.validation))
    best, epochs = 0.0, 0
    for rate in rates:
        at_rate = plain.model_copy(update={"learning_rate": rate})
        for result in Trainer(at_rate, some, max_epochs=SHORT_EPOCHS, seed=seed, device=device).epochs():
            epochs += 1
            best = max(best, result.val_accuracy) if math.isfinite(result.val_accuracy) else best
            if best > bound:
                break
        if best > bound:
            break
    right, _, clear = measure_neighbours(splits, rng)
    status = judge(best, warn=best <= bound, fail=best <= bound and right < clear)
    text = f"validation accuracy {best:.1%} after {epochs} short epochs, a guess has {guess:.1%}"
    advice = ""
    if status == "fail":
        advice = "the labels do not go with the images: are they shuffled? See the contact sheet"
    elif status == "warn":
        advice = "it learns slowly: give it more epochs, or another learning rate"
    return Finding(subject, "carries over", status, best, f"above {bound:.1%}", text, advice)


def _cover(by: tuple[float, float], what: tuple[float, float]) -> float:
    """Return the share of a range's decades that another one covers; of a point, whether it does."""
    low, high = max(by[0], what[0]), min(by[1], what[1])
    if what[0] >= what[1]:
        return float(by[0] <= what[0] <= by[1])
    return max(0.0, math.log(high / low)) / math.log(what[1] / what[0]) if high > low else 0.0
