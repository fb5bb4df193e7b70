"""Steps, the L2 term and the decay of the learning rate, against torch's classes and by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tuner.spec import hyperparameters as spec
from tuner.train.optimizers import (
    AdamW,
    Sgd,
    add_l2_gradient,
    build_optimizer,
    find_weights,
    learning_rate_factor,
)


def build_network() -> nn.Sequential:
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(generator=generator)
    return network


def take_steps(network: nn.Module, optimizer: torch.optim.Optimizer | Sgd | AdamW, steps: int = 5) -> Tensor:
    images = torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    for step in range(steps):
        network.zero_grad()
        nn.functional.cross_entropy(network(images), torch.arange(8) % 3).backward()
        learning_rate = 0.1 / (step + 1)
        if isinstance(optimizer, torch.optim.Optimizer):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()
        else:
            optimizer.step(learning_rate)
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.0, True), (0.9, False), (0.9, True)])
def test_sgd_steps_as_torch_does(momentum: float, nesterov: bool) -> None:
    ours, theirs = build_network(), build_network()
    own = Sgd(spec.Sgd(momentum=momentum, nesterov=nesterov), ours.parameters())
    reference = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=momentum, nesterov=nesterov and momentum > 0)
    torch.testing.assert_close(take_steps(ours, own), take_steps(theirs, reference))


def test_adamw_steps_as_torch_does_and_decays_weights_alone() -> None:
    ours, theirs = build_network(), build_network()
    weights = find_weights(theirs)
    others = [one for one in theirs.parameters() if all(one is not weight for weight in weights)]
    groups = [{"params": weights, "weight_decay": 0.3}, {"params": others, "weight_decay": 0.0}]
    own = AdamW(spec.AdamW(weight_decay=0.3), ours.parameters(), find_weights(ours))
    reference = torch.optim.AdamW(groups, lr=0.1)
    torch.testing.assert_close(take_steps(ours, own), take_steps(theirs, reference))


@pytest.mark.parametrize("options", [spec.Sgd(), spec.Sgd(momentum=0.0), spec.AdamW(weight_decay=0.1)])
def test_a_restored_optimizer_takes_the_same_steps(options: spec.Optimizer) -> None:
    hyperparameters = spec.Hyperparameters(architecture=spec.LeNet(), optimizer=options)
    networks = build_network(), build_network()
    first = build_optimizer(hyperparameters, networks[0])
    take_steps(networks[0], first)
    networks[1].load_state_dict(networks[0].state_dict())
    second = build_optimizer(hyperparameters, networks[1])
    second.load_state_dict(first.state_dict())
    assert torch.equal(take_steps(networks[0], first), take_steps(networks[1], second))


def test_weights_are_those_of_convolutions_and_dense_layers() -> None:
    network = build_network()
    assert [id(weight) for weight in find_weights(network)] == [id(network[0].weight), id(network[4].weight)]


@pytest.mark.parametrize("l2", [0.0, 0.03])
def test_l2_adds_half_the_squared_norm_and_its_gradient(l2: float) -> None:
    network, reference = build_network(), build_network()
    images, labels = torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(1)), torch.arange(8) % 3
    nn.functional.cross_entropy(network(images), labels).backward()
    term = add_l2_gradient(find_weights(network), l2)

    loss = nn.functional.cross_entropy(reference(images), labels)
    expected = l2 / 2 * sum(weight.square().sum() for weight in find_weights(reference))
    (loss + expected).backward()
    torch.testing.assert_close(term, torch.as_tensor(expected))
    for own, other in zip(network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad)


def test_step_decay_falls_at_half_and_at_three_quarters() -> None:
    factors = [learning_rate_factor("step", step / 8) for step in range(8)]
    assert factors == [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]


def test_cosine_decay_is_one_then_a_half_then_near_zero() -> None:
    assert learning_rate_factor("cosine", 0) == 1
    assert learning_rate_factor("cosine", 0.5) == pytest.approx(0.5)
    assert learning_rate_factor("cosine", 0.25) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert 0 < learning_rate_factor("cosine", 999 / 1000) < 1e-5


@given(st.sampled_from(["constant", "step", "cosine"]), st.floats(0, 1, exclude_max=True), st.floats(0, 1))
def test_the_learning_rate_never_rises(decay: str, progress: float, earlier: float) -> None:
    assert 0 <= learning_rate_factor(decay, progress) <= learning_rate_factor(decay, progress * earlier) <= 1


def test_an_unknown_decay_is_refused() -> None:
    with pytest.raises(ValueError, match="decay must be constant, step or cosine, got 'linear'"):
        learning_rate_factor("linear", 0)
