"""Losses, and what counts as right."""

import math
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, multi_margin_loss, one_hot

from tuner.spec.hyperparameters import GoogLeNet, HogSvm, Hyperparameters, LeNet
from tuner.train.criterion import Criterion, count_correct

LOGITS = torch.randn(12, 7, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) % 7


SIZES = torch.tensor([2, 3, 5, 8, 12, 10, 10])


def build(architecture: LeNet | GoogLeNet | HogSvm, **options: Any) -> Criterion:
    return Criterion(Hyperparameters(architecture=architecture, **options), SIZES)


def test_a_guess_costs_the_logarithm_of_the_number_of_classes() -> None:
    criterion = build(LeNet())
    assert criterion.guess == math.log(7)
    assert criterion.loss(torch.zeros(12, 7), LABELS).item() == pytest.approx(math.log(7))
    hinge = build(HogSvm())
    assert hinge.guess == pytest.approx(hinge.loss(torch.zeros(12, 7), LABELS).item())


def test_cross_entropy_takes_classes_and_their_shares() -> None:
    criterion = build(LeNet())
    torch.testing.assert_close(criterion.loss(LOGITS, LABELS), cross_entropy(LOGITS, LABELS))
    shares = one_hot(LABELS, 7) * 0.7 + one_hot(LABELS.flip(0), 7) * 0.3
    expected = 0.7 * cross_entropy(LOGITS, LABELS) + 0.3 * cross_entropy(LOGITS, LABELS.flip(0))
    torch.testing.assert_close(criterion.loss(LOGITS, shares), expected)


def test_a_support_vector_machine_has_the_hinge_loss_and_takes_shares() -> None:
    criterion = build(HogSvm())
    torch.testing.assert_close(criterion.loss(LOGITS, LABELS), multi_margin_loss(LOGITS, LABELS))
    torch.testing.assert_close(criterion.loss(LOGITS, one_hot(LABELS, 7).float()), multi_margin_loss(LOGITS, LABELS))
    shares = one_hot(LABELS, 7) * 0.7 + one_hot(LABELS.flip(0), 7) * 0.3
    expected = 0.7 * multi_margin_loss(LOGITS, LABELS) + 0.3 * multi_margin_loss(LOGITS, LABELS.flip(0))
    torch.testing.assert_close(criterion.loss(LOGITS, shares), expected)


def test_the_factor_weighs_the_losses_against_the_norm_of_the_weights() -> None:
    # |w|^2 / 2 + C * 50 * mean loss is 50 C times (mean loss + l2 / 2 * |w|^2) with l2 = 1 / (50 C)
    assert build(HogSvm(C=2.0), l2=0.5).l2 == pytest.approx(0.5 + 1 / 100)
    assert build(LeNet(), l2=0.5).l2 == 0.5


@pytest.mark.parametrize("architecture", [LeNet(), HogSvm()])
def test_balanced_classes_count_the_same_whatever_their_sizes(architecture: LeNet | HogSvm) -> None:
    criterion = build(architecture, class_weights="balanced")
    weights = SIZES.sum() / (7 * SIZES)
    each = torch.stack([criterion.loss(LOGITS[i : i + 1], LABELS[i : i + 1]) for i in range(12)])
    expected = (each * weights[LABELS]).mean()
    torch.testing.assert_close(criterion.measure(LOGITS, LABELS).own, expected)
    torch.testing.assert_close(criterion.measure(LOGITS, one_hot(LABELS, 7).float()).own, expected)
    # over the training images, weighted by how many each class has, the mean weight is one
    assert (weights * SIZES).sum() / SIZES.sum() == pytest.approx(1)


def test_auxiliary_heads_are_learned_and_not_reported() -> None:
    criterion = build(GoogLeNet(auxiliary_weight=0.3))
    losses = criterion.measure((LOGITS, 2 * LOGITS, -LOGITS), LABELS)
    own, first, second = (cross_entropy(factor * LOGITS, LABELS) for factor in (1, 2, -1))
    torch.testing.assert_close(losses.own, own)
    torch.testing.assert_close(losses.total, own + 0.3 * (first + second))
    assert torch.equal(losses.logits, LOGITS)


def test_the_class_is_counted_among_the_highest_scores() -> None:
    order = LOGITS.argsort(dim=1, descending=True)
    ranks = (order == LABELS[:, None]).int().argmax(dim=1)
    for among in (1, 2, 5, 9):
        assert count_correct(LOGITS, LABELS, among) == (ranks < among).sum()
