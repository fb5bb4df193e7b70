"""The moving average of weights."""

import torch
from torch import nn

from tuner.train.average import WeightAverage


def build() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def test_the_average_is_that_of_the_weights_and_statistics_by_hand() -> None:
    model = build()
    average = WeightAverage(model, 0.5)
    expected = [value.detach().clone() for value in (model[0].weight, model[1].running_var)]
    for step in range(1, 6):
        with torch.no_grad():
            model[0].weight.add_(step)
            model[1].running_var.mul_(1.5)
        average.update()
        kept = min(0.5, (1 + step) / (10 + step))
        for mean, value in zip(expected, (model[0].weight, model[1].running_var), strict=True):
            mean.lerp_(value.detach(), 1 - kept)
    current = model[0].weight.detach().clone()
    with average.applied():
        torch.testing.assert_close(model[0].weight.detach(), expected[0])
        torch.testing.assert_close(model[1].running_var, expected[1])
    assert torch.equal(model[0].weight, current)


def test_without_a_share_nothing_is_kept() -> None:
    model = build()
    average = WeightAverage(model, 0.0)
    with torch.no_grad():
        model[0].weight.add_(1)
    average.update()
    before = model[0].weight.detach().clone()
    with average.applied():
        assert torch.equal(model[0].weight, before)
    assert average.state_dict() == {"average": [], "steps": 0}


def test_weights_still_learn_after_the_average_was_applied() -> None:
    model = build()
    average = WeightAverage(model, 0.9)
    average.update()
    with average.applied(), torch.inference_mode():
        model.eval()(torch.ones(1, 2))
    model.train()(torch.randn(4, 2, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    assert model[0].weight.grad is not None
