"""What is measured of a classifier, against other implementations and against chance."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, log_loss, precision_score, recall_score, top_k_accuracy_score

from tuner.train.measures import WITHIN, bound_accuracy, bound_mean, compare_paired, measure, vote_hard, vote_softly


def draw(num_images: int, num_classes: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Labels, and probabilities that are right for them: calibrated by how they are made."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(num_classes, 0.3), num_images)
    labels = np.array([rng.choice(num_classes, p=row) for row in probabilities])
    return probabilities, labels


def test_measures_are_those_of_scikit_learn() -> None:
    probabilities, labels = draw(500, 8, 0)
    found = probabilities.argmax(axis=1)
    measures = measure(probabilities, labels)
    np.testing.assert_array_equal(measures.confusion, confusion_matrix(labels, found, labels=range(8)))
    assert measures.accuracy == pytest.approx((found == labels).mean())
    assert measures.top5_accuracy == pytest.approx(top_k_accuracy_score(labels, probabilities, k=5))
    assert measures.loss == pytest.approx(log_loss(labels, np.maximum(probabilities, 1e-300), labels=range(8)))
    np.testing.assert_allclose(measures.recall, recall_score(labels, found, average=None))
    np.testing.assert_allclose(measures.precision, precision_score(labels, found, average=None))


def test_calibrated_probabilities_have_next_to_no_calibration_error_and_bold_ones_have() -> None:
    probabilities, labels = draw(20_000, 10, 1)
    assert measure(probabilities, labels).calibration_error < 0.015
    bold = probabilities**4 / (probabilities**4).sum(axis=1, keepdims=True)
    assert measure(bold, labels).calibration_error > 0.1


def test_a_superclass_is_right_where_the_class_need_not_be() -> None:
    probabilities = np.eye(4)[[1, 0, 3, 2]]
    labels = np.array([0, 1, 2, 0])
    measures = measure(probabilities, labels, superclasses=np.array([0, 0, 1, 1]))
    assert measures.accuracy == 0
    assert measures.superclass_accuracy == 0.75
    assert measures.top5_accuracy is None
    assert math.isnan(measures.recall[3]), "no image of that class"


def test_the_interval_of_an_accuracy_is_wilsons() -> None:
    hits = np.arange(50) < 44
    expected = binomtest(44, 50).proportion_ci(method="wilson")
    found = bound_accuracy(hits)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_the_interval_of_a_mean_holds_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = [bound.low <= 0 <= bound.high for bound in (bound_mean(rng.normal(size=3)) for _ in range(2000))]
    assert 0.93 < np.mean(held) < 0.97
    assert math.isnan(bound_mean([0.5]).low)


def test_the_interval_of_an_objective_lies_where_the_objective_can() -> None:
    share, loss = bound_mean([0.9, 1.0], WITHIN["val_accuracy"]), bound_mean([0.5, 1.5], WITHIN["val_loss"])
    assert (share.low, share.high) == (pytest.approx(0.95 - 0.05 * 12.706, abs=1e-3), 1.0)
    assert (loss.low, loss.high) == (0.0, pytest.approx(1.0 + 0.5 * 12.706, abs=1e-3))


def test_a_paired_comparison_holds_the_true_difference_and_is_surer_for_pairs() -> None:
    rng = np.random.default_rng(0)
    held, widths = [], []
    for _ in range(60):
        easy = rng.random(300) < 0.8
        first = easy[None] ^ (rng.random((3, 300)) < 0.05)
        second = easy[None] ^ (rng.random((3, 300)) < 0.15)  # of 80% easy images it finds 0.06 fewer
        found = compare_paired(first, second, rng)
        held.append(found.low <= 0.06 <= found.high)
        widths.append(found.high - found.low)
    assert np.mean(held) >= 0.85
    assert np.mean(widths) < 0.75 * 2 * 1.96 * math.sqrt(2 * 0.16 / 300), "than that of unpaired images would be"


def test_votes_of_an_ensemble() -> None:
    members = [np.array([[0.4, 0.6, 0.0]]), np.array([[0.45, 0.55, 0.0]]), np.array([[0.9, 0.1, 0.0]])]
    assert vote_softly(members).argmax() == 0, "the sure one is heard"
    assert vote_hard(members).argmax() == 1, "two against one"
    tie = [np.array([[0.9, 0.1]]), np.array([[0.4, 0.6]])]
    assert vote_hard(tie).argmax() == 0, "of as many votes, the surer"
