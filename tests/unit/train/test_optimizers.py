"""Steps, the L2 term and clipping, against torch's classes and by hand."""

import pytest
import torch
from torch import Tensor, nn

from tuner.spec import hyperparameters as spec
from tuner.train.models import Randomness, build_model
from tuner.train.optimizers import (
    MUON_SCALE,
    AdamW,
    Muon,
    Optimizer,
    RmsProp,
    Sgd,
    add_l2_gradient,
    build_optimizer,
    clip_gradients,
    find_weights,
    orthogonalise,
)


def build_network() -> nn.Sequential:
    generator = torch.Generator().manual_seed(0)
    # a bias before the normalisation would have gradients of rounding errors alone, which Adam blows up
    convolution = nn.Conv2d(1, 4, 3, bias=False)
    network = nn.Sequential(convolution, nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(generator=generator)
    return network


def take_steps(network: nn.Module, optimizer: torch.optim.Optimizer | Optimizer, steps: int = 5) -> Tensor:
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


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rmsprop_steps_as_torch_does(momentum: float) -> None:
    ours, theirs = build_network(), build_network()
    own = RmsProp(spec.RmsProp(momentum=momentum, smoothing=0.9), ours.parameters())
    reference = torch.optim.RMSprop(theirs.parameters(), lr=0.1, alpha=0.9, momentum=momentum)
    torch.testing.assert_close(take_steps(ours, own), take_steps(theirs, reference))


def build_deep_network() -> nn.Sequential:
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1), nn.Flatten(), nn.Linear(96, 8), nn.Linear(8, 3)
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.1, generator=generator)
    return network


def test_muon_steps_hidden_matrices_by_orthogonal_momentum_and_the_rest_as_adamw() -> None:
    ours, theirs = build_deep_network(), build_deep_network()
    hidden = [theirs[1].weight, theirs[3].weight]
    images = torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    nn.functional.cross_entropy(theirs(images), torch.arange(8) % 3).backward()
    expected = [weight.detach().clone() for weight in hidden]
    for weight, target in zip(hidden, expected, strict=True):
        # one step of momentum from zero, looked ahead along: a multiple of the gradient, which has no scale left
        step = orthogonalise(weight.grad.flatten(1)).reshape(weight.shape)
        target.mul_(1 - 0.1 * 0.5).sub_(step * 0.1 * MUON_SCALE * max(weight.flatten(1).shape) ** 0.5)
    others = [one for one in theirs.parameters() if all(one is not weight for weight in hidden)]
    ends = [theirs[0].weight, theirs[4].weight]
    biases = [one for one in others if all(one is not end for end in ends)]
    groups = [{"params": ends, "weight_decay": 0.5}, {"params": biases, "weight_decay": 0.0}]
    take_steps(theirs, torch.optim.AdamW(groups, lr=0.1), steps=1)

    take_steps(ours, Muon(spec.Muon(weight_decay=0.5), ours), steps=1)
    for own, target in zip((ours[1].weight, ours[3].weight), expected, strict=True):
        torch.testing.assert_close(own.detach(), target, rtol=1e-3, atol=1e-5)
    for position in (0, 4):
        torch.testing.assert_close(ours[position].weight, theirs[position].weight)
    torch.testing.assert_close(ours[1].bias, theirs[1].bias)


def test_muon_leaves_the_scores_of_every_head_to_adamw() -> None:
    given = spec.Hyperparameters(architecture=spec.GoogLeNet(width=0.1))
    randomness = Randomness(torch.Generator().manual_seed(0), torch.Generator().manual_seed(1))
    network = build_model(given, (8, 8, 1), 3, randomness)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    scores = network(torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1)))
    sum(nn.functional.cross_entropy(one, torch.arange(8) % 3) for one in scores).backward()
    Muon(spec.Muon(), network).step(0.1)
    steps = {name: (parameter.detach() - before[name]).abs() for name, parameter in network.named_parameters()}
    for name in ("classifier.weight", "heads.0.6.weight", "heads.1.6.weight"):
        assert steps[name].median() == pytest.approx(0.1, rel=0.01), "the first step of AdamW is the learning rate"
    assert steps["heads.0.3.weight"].median() < 0.05


@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (16, 16), (1, 7)])
def test_orthogonal_matrices_have_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrix = 100 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, values, right = torch.linalg.svd(orthogonalise(matrix), full_matrices=False)
    assert values.min() > 0.5
    assert values.max() < 1.3
    theirs_left, _, theirs_right = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(
        left @ right, theirs_left @ theirs_right, atol=1e-3, rtol=0
    )  # the nearest orthogonal matrix is the same
    assert not orthogonalise(torch.zeros(3, 4)).any()


def test_muon_learns_a_small_network() -> None:
    network = build_deep_network()
    images, labels = torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(1)), torch.arange(8) % 3
    take_steps(network, Muon(spec.Muon(), network), steps=60)
    assert nn.functional.cross_entropy(network(images), labels) < 0.1


@pytest.mark.parametrize("longest", [0.1, 1e6])
def test_gradients_are_clipped_as_torch_does(longest: float) -> None:
    ours, theirs = build_network(), build_network()
    images = torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    for network in (ours, theirs):
        nn.functional.cross_entropy(network(images), torch.arange(8) % 3).backward()
    norm = clip_gradients(ours.parameters(), longest)
    expected = nn.utils.clip_grad_norm_(theirs.parameters(), longest)
    torch.testing.assert_close(norm, expected)
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad)


@pytest.mark.parametrize(
    "options",
    [
        spec.Sgd(),
        spec.Sgd(momentum=0.0),
        spec.AdamW(weight_decay=0.1),
        spec.RmsProp(momentum=0.5),
        spec.RmsProp(),
        spec.Muon(weight_decay=0.1),
    ],
)
def test_a_restored_optimizer_takes_the_same_steps(options: spec.Optimizer) -> None:
    hyperparameters = spec.Hyperparameters(architecture=spec.LeNet(), optimizer=options)
    networks = build_deep_network(), build_deep_network()
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


def test_a_transformers_matrices_are_weights_and_its_positions_are_none() -> None:
    attention = nn.MultiheadAttention(8, 2)
    attention.positions = nn.Parameter(torch.zeros(1, 5, 8))
    found = {id(weight) for weight in find_weights(attention)}
    assert found == {id(attention.in_proj_weight), id(attention.out_proj.weight)}
