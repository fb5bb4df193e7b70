"""What a classifier's probabilities say of it, and what may be chance in that."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

CALIBRATION_BINS = 15
RESAMPLES = 2000
LEVEL = 0.95
"""Of every interval here."""
WITHIN = {"val_accuracy": (0.0, 1.0), "val_loss": (0.0, math.inf)}
"""Between which an objective lies, and so its mean."""
_BLOCK = 100  # so many samples are drawn at a time

Probabilities = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """An estimate, and between what it may well lie.

    Attributes
    ----------
    estimate, low, high : float
        Equal, where nothing tells how sure the estimate is, low and high are NaN.
    """

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Measures:
    """How a classifier does on labelled images.

    Attributes
    ----------
    accuracy : float, fraction in [0, 1]
        Images whose class has the highest probability.
    top5_accuracy : float or None, fraction in [0, 1]
        Images whose class is among the five most probable; None with five classes or fewer.
    superclass_accuracy : float or None, fraction in [0, 1]
        Images whose superclass is that of the most probable class; None where classes have none.
    loss : float, in nats
        Mean cross-entropy.
    calibration_error : float, fraction in [0, 1]
        Mean distance of confidence and accuracy over bins of confidence, weighted by their images [1]_.
    confidence, hit_rate, bin_sizes : tuples, length CALIBRATION_BINS
        Of each bin, its mean confidence and its accuracy (NaN without images), and its number of images.
    recall, precision : tuples of float, length num_classes
        Of each class, the share of its images that are found, and of what is taken for it that is right; NaN of none.
    confusion : int array, shape (num_classes, num_classes)
        Images by their class and by the class that they are taken for.

    References
    ----------
    .. [1] Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.
    """

    accuracy: float
    top5_accuracy: float | None
    superclass_accuracy: float | None
    loss: float
    calibration_error: float
    confidence: tuple[float, ...]
    hit_rate: tuple[float, ...]
    bin_sizes: tuple[int, ...]
    recall: tuple[float, ...]
    precision: tuple[float, ...]
    confusion: NDArray[np.int64]


def measure(probabilities: Probabilities, labels: Labels, superclasses: Labels | None = None) -> Measures:
    """Measure how a classifier does.

    Parameters
    ----------
    probabilities : float array, shape (num_images, num_classes)
        Of each class, for each image.
    labels : int64 array, shape (num_images,)
        The classes that the images have; at least one image.
    superclasses : int64 array, shape (num_classes,), or None
        The superclass of each class.
    """
    num_images, num_classes = probabilities.shape
    found = probabilities.argmax(axis=1)
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(confusion, (labels, found), 1)
    hits = confusion.diagonal()
    top5 = None
    if num_classes > 5:
        top5 = float((np.argpartition(probabilities, -5, axis=1)[:, -5:] == labels[:, None]).any(axis=1).mean())
    confidence = probabilities.max(axis=1)
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    sizes = np.bincount(bins, minlength=CALIBRATION_BINS)
    mean_confidence, hit_rate = (
        _divide(np.bincount(bins, weights=values, minlength=CALIBRATION_BINS), sizes)
        for values in (confidence, found == labels)
    )
    error = float(np.nansum(np.abs(mean_confidence - hit_rate) * sizes) / num_images)
    own = probabilities[np.arange(num_images), labels]
    return Measures(
        accuracy=float(hits.sum() / num_images),
        top5_accuracy=top5,
        superclass_accuracy=None
        if superclasses is None
        else float((superclasses[found] == superclasses[labels]).mean()),
        loss=float(-np.log(np.maximum(own, np.finfo(np.float64).tiny)).mean()),
        calibration_error=error,
        confidence=tuple(mean_confidence.tolist()),
        hit_rate=tuple(hit_rate.tolist()),
        bin_sizes=tuple(sizes.tolist()),
        recall=tuple(_divide(hits, confusion.sum(axis=1)).tolist()),
        precision=tuple(_divide(hits, confusion.sum(axis=0)).tolist()),
        confusion=confusion,
    )


def vote_softly(members: Sequence[Probabilities]) -> Probabilities:
    """Return an ensemble's mean probabilities, shape (num_images, num_classes)."""
    mean: Probabilities = np.mean(members, axis=0)
    return mean


def vote_hard(members: Sequence[Probabilities]) -> Probabilities:
    """Return the share of an ensemble's members that find each class, shape (num_images, num_classes).

    Of classes with as many votes, the one that the members' mean probability is higher for counts by a hair more.
    """
    votes = np.mean([np.eye(one.shape[1])[one.argmax(axis=1)] for one in members], axis=0)
    mixed: Probabilities = votes * (1 - 1e-6) + vote_softly(members) * 1e-6
    return mixed


def bound_mean(values: Sequence[float], within: tuple[float, float] = (-math.inf, math.inf)) -> Interval:
    """Return the mean of a few values, as of several seeds, with its interval by Student's t.

    Parameters
    ----------
    values : sequence of float, not empty
        The values.
    within : (float, float)
        Between which any value lies, so that the interval does too.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan)
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    reach = float(student_t.ppf((1 + LEVEL) / 2, len(values) - 1)) * error
    return Interval(mean, max(within[0], mean - reach), min(within[1], mean + reach))


def bound_accuracy(hits: NDArray[np.bool_]) -> Interval:
    """Return an accuracy with its interval over other images of the kind: Wilson's score interval [1]_.

    References
    ----------
    .. [1] Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22, 1927.
    """
    n, z = len(hits), 1.959963984540054
    share = float(hits.mean())
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, middle - reach, middle + reach)


def compare_paired(first: NDArray[np.bool_], second: NDArray[np.bool_], generator: np.random.Generator) -> Interval:
    """Say how much more accurate one configuration is than another, by a paired bootstrap.

    Images are drawn again, the same ones for both, and so are the seeds of each.

    Parameters
    ----------
    first, second : bool arrays, shape (num_seeds, num_images)
        Whether each training with another seed is right on each image; the images are the same ones, the number of
        seeds may differ.
    generator : Generator
        What is drawn again comes from.

    Returns
    -------
    Interval
        Of the accuracy of the first less that of the second.

    References
    ----------
    .. [1] Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, sections 13.3 (percentile intervals) and 8.3
       (samples of several levels).
    """
    num_images = first.shape[1]
    differences = []
    for _ in range(RESAMPLES // _BLOCK):
        images = _draw_again(num_images, generator) / num_images
        means = [((_draw_again(len(one), generator) @ one) * images).sum(axis=1) / len(one) for one in (first, second)]
        differences.append(means[0] - means[1])
    low, high = np.quantile(differences, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(first.mean() - second.mean()), float(low), float(high))


def _draw_again(num: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Draw a sample of so many again and again; return how often each was drawn, shape (_BLOCK, num)."""
    drawn = generator.integers(num, size=(_BLOCK, num)) + num * np.arange(_BLOCK)[:, None]
    return np.bincount(drawn.ravel(), minlength=_BLOCK * num).reshape(_BLOCK, num).astype(float)


def _divide(parts: NDArray[np.generic], wholes: NDArray[np.generic]) -> NDArray[np.float64]:
    """Divide, with NaN where the whole is none."""
    quotients: NDArray[np.float64] = np.full(len(wholes), np.nan)
    np.divide(parts, wholes, out=quotients, where=np.asarray(wholes) > 0, dtype=np.float64, casting="unsafe")
    return quotients
