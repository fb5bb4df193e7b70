"""Faults that are planted are found, and nothing else."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import tuner.train.checks
import tuner.train.loop
import tuner.train.step
from tuner.spec import Hyperparameters, SimpleCnn, Space, load_text
from tuner.train.checks import Finding, check_space, draw_contact_sheet
from tuner.train.checks.images import check_images
from tuner.train.checks.learning import RateRange, check_by_heart, check_carries_over, judge_rates
from tuner.train.checks.networks import list_networks
from tuner.train.data import ImageSplits
from tuner.train.models import Dropout, build_model
from tuner.train.optimizers import Sgd, add_l2_gradient

CORRECT = """\
name: small
data: digits
space:
  architecture: %s
  optimizer: %s
  learning_rate: {loguniform: [0.003, 0.3]}
  l2: {loguniform: [1e-6, 1e-3]}
  dropout: 0.2
  batch_size: 32
stages: {only: {trials: 1, max_epochs: 1, halving: none}}
"""
SMALL = "{simple_cnn: {depth: 2, width: 16}}"


def read_space(architecture: str = SMALL, optimizer: str = "sgd") -> Space:
    """A space with given networks."""
    space = load_text(CORRECT % (architecture, optimizer)).space
    assert isinstance(space, Space)
    return space


def run(splits: ImageSplits, *, space: Space | None = None, seed: int = 0, is_quick: bool = True) -> dict[str, Finding]:
    """What a check finds that is not right, by what it looked at."""
    findings = check_space(space or read_space(), splits, seed=seed, is_quick=is_quick)
    return {finding.check: finding for finding in findings if finding.status != "pass"}


def plant(monkeypatch: pytest.MonkeyPatch, change: Callable[[nn.Module], nn.Module], more_classes: int = 0) -> None:
    """Have every network changed after it was built."""

    def build(given: object, shape: object, num_classes: int, randomness: object) -> nn.Module:
        return change(build_model(given, shape, num_classes + more_classes, randomness))  # type: ignore[arg-type]

    monkeypatch.setattr(tuner.train.loop, "build_model", build)


def zero(network: nn.Module) -> nn.Module:
    """Begin with zeros."""
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    return network


def freeze(network: nn.Module) -> nn.Module:
    """Freeze the first layer."""
    for parameter in next(m for m in network.modules() if isinstance(m, nn.Conv2d)).parameters():
        parameter.requires_grad_(False)
    return network


def drop_always(network: nn.Module) -> nn.Module:
    """Drop units in evaluation too."""

    class Always(Dropout):
        def forward(self, units: Tensor) -> Tensor:
            self.training = True
            return super().forward(units)

    for name, module in list(network.named_children()):
        if isinstance(module, Dropout):
            setattr(network, name, Always(module.probability, module.generator))
    return network


FAULTS: dict[str, tuple[Callable[[nn.Module], nn.Module], str, str]] = {
    "a double softmax": (lambda network: nn.Sequential(network, nn.Softmax(dim=1)), "scores", "softmax"),
    "frozen layers": (freeze, "gradients", "0.weight is frozen"),
    "zero initialisation": (zero, "gradients", "equal weights"),
    "dropout in evaluation": (drop_always, "evaluation", "the same images get scores"),
    "statistics of the batch": (
        lambda network: nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), network),
        "evaluation",
        "when other images are beside them",
    ),
    "a layer that is cut off": (
        lambda network: nn.Sequential(Detached(network[0]), network[1:]),  # type: ignore[index]
        "gradients",
        "is frozen: it gets no gradient",
    ),
}


class Detached(nn.Module):
    """Cuts a layer off the loss."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images).detach()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_network_is_found(digits: ImageSplits, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    change, check, text = FAULTS[fault]
    plant(monkeypatch, change)
    found = run(digits)
    assert set(found) == {check}
    assert found[check].status == "fail"
    assert text in found[check].text
    assert found[check].advice


@pytest.mark.parametrize("more", [1, -2])
def test_a_wrong_number_of_classes_is_found(digits: ImageSplits, monkeypatch: pytest.MonkeyPatch, more: int) -> None:
    plant(monkeypatch, lambda network: network, more_classes=more)
    found = run(digits)
    assert set(found) == {"scores"}
    assert found["scores"].text == f"{10 + more} scores come out for 10 classes"


def test_images_that_are_not_normalised_are_found(digits: ImageSplits) -> None:
    raw = dataclasses.replace(digits, mean=np.zeros(1), std=np.ones(1))
    found = run(raw)
    assert "normalised" in found
    assert set(found) <= {"normalised", "first loss"}
    assert found["normalised"].status == "fail"


def test_l2_that_is_counted_twice_is_found(digits: ImageSplits, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(weights: list[nn.Parameter], l2: float) -> Tensor:
        return add_l2_gradient(weights, l2) + add_l2_gradient(weights, l2)

    with monkeypatch.context() as patch:
        patch.setattr(tuner.train.step, "add_l2_gradient", twice)
        found = run(digits)
    assert set(found) == {"L2 once"}
    assert found["L2 once"].value == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize(
    "optimizer",
    ["{sgd: {momentum: 0.9, nesterov: true}}", "{adamw: {weight_decay: 1.0}}", "muon"],
)
def test_l2_is_counted_once_whatever_the_optimizer(digits: ImageSplits, optimizer: str) -> None:
    assert "L2 once" not in run(digits, space=read_space(optimizer=optimizer))


def test_l2_that_the_optimizer_takes_too_is_found(digits: ImageSplits, monkeypatch: pytest.MonkeyPatch) -> None:
    class Decaying(Sgd):
        def step(self, learning_rate: float) -> None:
            for parameter in self._parameters:
                assert parameter.grad is not None
                parameter.grad.add_(parameter.detach(), alpha=self.l2)
            super().step(learning_rate)

    def build(hyperparameters: object, model: nn.Module) -> Decaying:
        optimizer = Decaying(hyperparameters.optimizer, model.parameters())  # type: ignore[attr-defined]
        optimizer.l2 = hyperparameters.l2  # type: ignore[attr-defined]
        return optimizer

    monkeypatch.setattr(tuner.train.step, "build_optimizer", build)
    found = run(digits)
    assert set(found) == {"L2 once"}


def test_shuffled_labels_are_found(digits: ImageSplits) -> None:
    shuffled = dataclasses.replace(digits, labels=np.random.default_rng(0).permutation(digits.labels))
    found = run(shuffled, is_quick=False)
    assert found["labels fit images"].status == "warn"
    assert found["carries over"].status == "fail"
    assert "shuffled" in found["carries over"].advice


def test_labels_that_fit_are_right_however_few_are_looked_at(digits: ImageSplits) -> None:
    train, validation = (rows[digits.labels[rows] < 2] for rows in (digits.train, digits.validation))
    few = dataclasses.replace(digits, train=train, validation=validation[:2])
    (found,) = (one for one in check_images(few, np.random.default_rng(0)) if one.check == "labels fit images")
    assert (found.status, found.value, found.bound) == ("pass", 1.0, "at least 100.0%")


def test_another_rate_is_tried_before_it_is_said_that_nothing_carries_over(digits: ImageSplits) -> None:
    given = Hyperparameters(architecture=SimpleCnn(depth=2, width=16), learning_rate=0.1)
    statuses = [
        check_carries_over("it", given, digits, rates, seed=0, device="cpu").status
        for rates in ([1e-9], [1e-9, 0.05], [0.05])
    ]
    assert statuses == ["warn", "pass", "pass"]


def test_a_range_test_that_is_far_too_low_raises_no_further_alarm(
    digits: ImageSplits, monkeypatch: pytest.MonkeyPatch
) -> None:
    far_off = RateRange((), (), low=1e-9, high=1e-8, blown_up=2.0)
    monkeypatch.setattr(tuner.train.checks, "find_rates", lambda *_, **__: far_off)
    assert set(run(digits, is_quick=False)) == {"learning rate"}


def test_a_network_that_can_not_learn_a_few_images_is_found(
    digits: ImageSplits, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Blind(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: Tensor) -> Tensor:
            return self.network(torch.ones_like(images))

    plant(monkeypatch, Blind)
    monkeypatch.setattr(tuner.train.checks.learning, "MOST_EPOCHS", 5)
    given = Hyperparameters(architecture=SimpleCnn(depth=1, width=8))
    found = check_by_heart("it", given, digits, seed=0, device="cpu")
    assert found.status == "fail"
    assert found.value > 1.5


@pytest.mark.parametrize("factor", [100, 0.01])
def test_a_learning_rate_window_that_is_off_is_found(factor: float) -> None:
    tested = RateRange((), (), low=0.01, high=0.3, blown_up=2.0)
    assert judge_rates("it", tested, 0.003, 0.3).status == "pass"
    assert judge_rates("it", tested, 1e-4, 1.0).status == "pass"
    off = judge_rates("it", tested, 0.003 * factor, 0.3 * factor)
    assert off.status != "pass"
    assert off.advice == "search from 0.001 to 0.9"
    assert judge_rates("it", tested, 0.05 * factor, 0.05 * factor).status == "fail"


@pytest.mark.parametrize("seed", range(3))
def test_there_is_no_false_alarm(digits: ImageSplits, seed: int) -> None:
    families = "{choice: {simple_cnn: {depth: 1, width: 16}, lenet: {}}}"
    assert run(digits, space=read_space(families), seed=seed, is_quick=False) == {}
    others = "{choice: {resnet: {depth: 8, width: 8}, vit: {patch: 2, depth: 2, heads: 2, width: 32}, hog_svm: {}}}"
    assert run(digits, space=read_space(others), seed=seed) == {}


@pytest.mark.parametrize(("depth", "found"), [(32, set()), (56, {"first loss"})])  # as in float32
def test_gradients_that_overflow_at_the_first_scale_of_float16_are_no_alarm(
    depth: int, found: set[str], digits: ImageSplits
) -> None:
    # begins with gradients of more than one
    summing = f"{{resnet: {{depth: {depth}, width: 8, unit: relu_before_addition}}}}"
    space = load_text(CORRECT.replace("batch_size", "precision: float16\n  batch_size") % (summing, "sgd")).space
    assert isinstance(space, Space)
    assert set(run(digits, space=space)) == found


def test_blank_images_and_copies_among_the_splits_are_found(digits: ImageSplits) -> None:
    images = digits.images.copy()
    images[digits.validation[:20]] = 7
    images[digits.validation[20:60]] = images[digits.train[:40]]
    found = {
        one.check: one for one in check_images(dataclasses.replace(digits, images=images), np.random.default_rng(0))
    }
    assert found["images vary"].status == "fail"
    assert found["splits apart"].status == "warn"
    assert found["splits apart"].value == pytest.approx(40 / len(digits.validation))


def test_of_each_family_the_smallest_and_the_largest_network_is_looked_at() -> None:
    families = (
        "{choice: {simple_cnn: {depth: {int: [1, 4]}, width: {logint: [8, 64]}}, lenet: {}, "
        "resnet: {depth: {choice: [14, 8, 20]}, width: {choice: [8, 16]}}}}"
    )
    networks = list_networks(read_space(families), (32, 32, 3), 10)
    assert [network.name for network in networks] == [
        "simple_cnn, smallest", "simple_cnn, largest", "lenet", "resnet, smallest", "resnet, largest",
    ]  # fmt: skip
    sizes = [network.num_parameters for network in networks]
    assert sizes[0] < sizes[1]
    assert sizes[3] < sizes[4]
    assert networks[4].config["architecture.resnet.depth"] == 20
    assert networks[0].config["learning_rate"] == pytest.approx(0.03)


def test_the_contact_sheet_shows_images_of_every_class(digits: ImageSplits) -> None:
    sheet = draw_contact_sheet(digits, np.random.default_rng(0))
    assert isinstance(sheet, Image.Image)
    assert sheet.size == (110 + 10 * 56, 10 * 56)
    assert torch.tensor(np.array(sheet)).float().std() > 30
