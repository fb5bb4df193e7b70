"""What every family of networks promises, over sizes of images."""

import copy
import io
import math
from typing import TypeAlias

import pytest
import torch
from torch import Tensor, nn

from tuner.spec.hyperparameters import (
    ARCHITECTURES,
    AlexNet,
    Architecture,
    GoogLeNet,
    HogSvm,
    Hyperparameters,
    LeNet,
    MobileNetV2,
    ResNet,
    SimpleCnn,
    Vgg,
    Vit,
    Xception,
)
from tuner.train.models import Classifier, Dropout, Randomness, build_model

Shape: TypeAlias = tuple[int, int, int]

SMALL = {
    "simple_cnn": SimpleCnn(),
    "simple_cnn_deep": SimpleCnn(depth=8, width=16, head=12),
    "simple_cnn_batch_norm": SimpleCnn(width=16, batch_norm=True, pooling="average"),
    "simple_cnn_stride": SimpleCnn(width=16, kernel_size=5, pooling="stride"),
    "lenet": LeNet(),
    "lenet_relu": LeNet(activation="relu", width=1.5),
    "lenet_batch_norm": LeNet(batch_norm=True),
    "resnet": ResNet(depth=8, width=8),
    "resnet_preactivation": ResNet(depth=14, width=8, unit="full_preactivation"),
    "resnet_bottleneck": ResNet(depth=14, width=4, unit="full_preactivation", block="bottleneck"),
    "hog_svm": HogSvm(),
    "hog_svm_fine": HogSvm(cell_size=3, orientations=6),
}
LARGE = {
    "alexnet": AlexNet(width=0.25, head=64),
    "alexnet_batch_norm": AlexNet(width=0.25, head=64, batch_norm=True),
    "vgg": Vgg(depth=11, width=0.25, head=64),
    "vgg_batch_norm": Vgg(depth=11, width=0.25, head=64, batch_norm=True),
    "googlenet": GoogLeNet(width=0.25),
    "googlenet_naive": GoogLeNet(width=0.125, block="naive", auxiliary_weight=0.0),
    "resnet_four_stages": ResNet(depth=18, width=8),
    "resnet_four_stages_bottleneck": ResNet(depth=18, width=4, unit="relu_only_preactivation", block="bottleneck"),
    "xception": Xception(width=0.125, middle_blocks=1, depth_multiplier=2),
    "mobilenet_v2": MobileNetV2(width=0.25),
    "vit": Vit(patch=4, depth=2, heads=2, width=32),
}
VARIANTS = SMALL | LARGE
SHAPES = [(8, 8, 1), (28, 28, 1), (32, 32, 3), (64, 64, 3), (9, 14, 3)]
LARGE_SHAPES = [(8, 8, 1), (9, 14, 3), (64, 64, 3)]
CASES = [
    *(pytest.param(one, shape, id=f"{shape}-{name}") for name, one in SMALL.items() for shape in SHAPES),
    *(pytest.param(one, shape, id=f"{shape}-{name}") for name, one in LARGE.items() for shape in LARGE_SHAPES),
]
# one of a family, quick on 8x8 images
FAMILIES = {name: VARIANTS[name] for name in ARCHITECTURES} | {
    "vgg": VARIANTS["vgg_batch_norm"],
    "hog_svm": HogSvm(cell_size=2),
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def build(
    architecture: Architecture,
    shape: Shape,
    num_classes: int = 10,
    *,
    dropout: float = 0.0,
    seed: int = 0,
    device: str = "cpu",
) -> nn.Module:
    hyperparameters = Hyperparameters(architecture=architecture, dropout=dropout)
    randomness = Randomness(torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1))
    with torch.device(device):
        return build_model(hyperparameters, shape, num_classes, randomness)


def draw_images(count: int, shape: Shape) -> Tensor:
    height, width, channels = shape
    return torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(1))


def score(model: nn.Module, images: Tensor) -> Tensor:
    """The last layer's scores: a network with heads at several depths yields those first while it is trained."""
    scores = model(images)
    return scores if isinstance(scores, Tensor) else scores[0]


def measure_loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The losses of all heads, summed."""
    scores = model(images)
    heads = (scores,) if isinstance(scores, Tensor) else scores
    return torch.stack([nn.functional.cross_entropy(head, labels) for head in heads]).sum()


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("architecture", "shape"), CASES)
class TestContract:
    """Every family does this with every size of image."""

    def test_scores_have_one_column_a_class(self, architecture: Architecture, shape: Shape) -> None:
        model = build(architecture, shape, 7)
        for logits in (score(model, draw_images(4, shape)), model.eval()(draw_images(4, shape))):
            assert logits.shape == (4, 7)
            assert logits.isfinite().all()

    def test_the_loss_starts_near_that_of_a_guess(self, architecture: Architecture, shape: Shape) -> None:
        images, labels = draw_images(100, shape), torch.arange(100) % 10
        loss = nn.functional.cross_entropy(score(build(architecture, shape), images), labels)
        assert abs(loss.item() - math.log(10)) < 0.2

    def test_gradients_reach_every_parameter(self, architecture: Architecture, shape: Shape) -> None:
        model = build(architecture, shape)
        measure_loss(model, draw_images(16, shape), torch.arange(16) % 10).backward()
        still = [name for name, one in model.named_parameters() if one.grad is None or not one.grad.any()]
        assert still == []

    def test_training_and_evaluation_differ_only_by_dropout_and_batch_norm(
        self, architecture: Architecture, shape: Shape
    ) -> None:
        images = draw_images(4, shape)
        model = build(architecture, shape, dropout=0.5)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        dropped, again = score(model, images), score(model, images)
        assert not torch.equal(dropped, again)
        evaluated = model.eval()(images)
        assert torch.equal(evaluated, model(images))
        for module in model.modules():
            module.training = not isinstance(module, nn.BatchNorm2d | Dropout)
        assert torch.equal(evaluated, score(model, images))

    def test_weights_come_from_the_generator_alone(self, architecture: Architecture, shape: Shape) -> None:
        before = torch.random.get_rng_state()
        one, same, other = (build(architecture, shape, seed=seed) for seed in (3, 3, 4))
        one(draw_images(2, shape))
        assert torch.equal(torch.random.get_rng_state(), before)
        weights = [torch.cat([p.flatten() for p in model.parameters()]) for model in (one, same, other)]
        assert torch.equal(weights[0], weights[1])
        assert not torch.equal(weights[0], weights[2])

    def test_a_saved_state_scores_the_same(self, architecture: Architecture, shape: Shape) -> None:
        model = build(architecture, shape)
        model(draw_images(4, shape))
        buffer = io.BytesIO()
        torch.save(model.state_dict(), buffer)
        buffer.seek(0)
        loaded = build(architecture, shape, seed=9)
        loaded.load_state_dict(torch.load(buffer, weights_only=True))
        images = draw_images(3, shape)
        assert torch.equal(model.eval()(images), loaded.eval()(images))

    def test_shapes_are_known_without_memory(self, architecture: Architecture, shape: Shape) -> None:
        model, weightless = build(architecture, shape), build(architecture, shape, device="meta")
        assert all(tensor.is_meta for tensor in (*weightless.parameters(), *weightless.buffers()))
        shapes = [{name: one.shape for name, one in each.state_dict().items()} for each in (model, weightless)]
        assert shapes[0] == shapes[1]
        assert weightless.eval()(draw_images(2, shape).to("meta")).shape == (2, 10)


def test_every_family_keeps_the_contract() -> None:
    assert {type(architecture) for architecture in VARIANTS.values()} == set(ARCHITECTURES.values())


@pytest.mark.parametrize("architecture", FAMILIES.values(), ids=FAMILIES)
def test_thirty_two_images_can_be_learned_by_heart(architecture: Architecture) -> None:
    shape = (8, 8, 1)
    model = build(architecture, shape)
    images, labels = draw_images(32, shape), torch.arange(32) % 10
    # a linear layer on features below 1 has a long way to go
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1 if isinstance(architecture, HogSvm) else 0.003)
    for _ in range(300):
        logits = score(model, images)
        if nn.functional.cross_entropy(logits, labels).item() < 0.05:
            break
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
    assert nn.functional.cross_entropy(score(model, images), labels).item() < 0.05


@pytest.mark.parametrize(
    ("architecture", "shape", "num_classes", "expected"),
    [
        (SimpleCnn(), (32, 32, 3), 100, 70_692),
        (LeNet(), (32, 32, 1), 10, 61_706),
        (LeNet(), (28, 28, 1), 10, 61_706),
        # depth 20 to 110 in table 6 of He et al. 2015: 0.27, 0.46, 0.66, 0.85 and 1.7 million
        (ResNet(depth=20), (32, 32, 3), 10, 269_722),
        (ResNet(depth=32), (32, 32, 3), 10, 464_154),
        (ResNet(depth=44), (32, 32, 3), 10, 658_586),
        (ResNet(depth=56), (32, 32, 3), 10, 853_018),
        (ResNet(depth=110), (32, 32, 3), 10, 1_727_962),
        (ResNet(depth=110, unit="full_preactivation"), (32, 32, 3), 10, 1_727_962),
        # depth 164 in table 4 of He et al. 2016: 1.7 million
        (ResNet(depth=164, unit="full_preactivation"), (32, 32, 3), 10, 1_703_258),
        (ResNet(depth=164), (32, 32, 3), 10, 1_704_154),
        # as torchvision counts them
        (ResNet(depth=18), (224, 224, 3), 1000, 11_689_512),
        (ResNet(depth=34), (224, 224, 3), 1000, 21_797_672),
        (ResNet(depth=50), (224, 224, 3), 1000, 25_557_032),
        (ResNet(depth=101), (224, 224, 3), 1000, 44_549_160),
        (ResNet(depth=152), (224, 224, 3), 1000, 60_192_808),
        # table 3 of Chollet 2016
        (Xception(), (299, 299, 3), 1000, 22_855_952),
        (Xception(), (224, 224, 3), 1000, 22_855_952),
        (Xception(), (32, 32, 3), 1000, 22_855_952),
    ],
)
def test_published_sizes_are_met(architecture: Architecture, shape: Shape, num_classes: int, expected: int) -> None:
    assert count_parameters(build(architecture, shape, num_classes, device="meta")) == expected


def test_the_lectures_network_has_the_lectures_layers() -> None:
    model = build(SimpleCnn(), (32, 32, 3), 100)
    sizes = [count_parameters(layer) for layer in model.children()]
    assert [size for size in sizes if size] == [896, 9_248, 9_248, 51_300]


def test_pooling_before_relu_changes_nothing() -> None:
    convolution, images = nn.Conv2d(3, 4, 3), draw_images(5, (12, 12, 3))
    results = []
    for rest in (nn.Sequential(nn.MaxPool2d(2), nn.ReLU()), nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))):
        own = copy.deepcopy(convolution)
        output = rest(own(images))
        output.square().sum().backward()
        results.append((output, own.weight.grad))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])


@pytest.mark.parametrize(
    ("shape", "depth", "expected"),
    [
        ((32, 32, 3), 3, 512),
        ((8, 8, 1), 1, 36 * 32),
        ((8, 8, 1), 2, 32),
        ((8, 8, 1), 4, 32),
        ((28, 28, 1), 3, 9 * 32),
    ],
)
def test_small_images_leave_these_features(shape: Shape, depth: int, expected: int) -> None:
    *_, output = build(SimpleCnn(depth=depth), shape).children()
    assert output.in_features == expected


def test_lenet_has_the_papers_layers_and_grows_with_its_width() -> None:
    layers = [layer for layer in build(LeNet(width=0.5), (32, 32, 1)).children() if count_parameters(layer)]
    assert [layer.weight.shape[0] for layer in layers] == [3, 8, 60, 42, 10]
    names = [type(layer).__name__ for layer in build(LeNet(), (8, 8, 1)).children()]
    convolutions, dense = ["Conv2d", "Tanh", "AvgPool2d"] * 2, ["Linear", "Tanh", "Dropout"] * 2
    assert names == [*convolutions, "Flatten", *dense, "Linear"]


@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 1)], ids=str)
def test_lenet_normalises_every_convolution_and_needs_no_bias_there(shape: Shape) -> None:
    layers = list(build(LeNet(batch_norm=True), shape).children())
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert [layer.bias for layer in convolutions] == [None, None]
    followers = [layers[layers.index(convolution) + 1] for convolution in convolutions]
    assert [(type(layer), layer.num_features) for layer in followers] == [(nn.BatchNorm2d, 6), (nn.BatchNorm2d, 16)]


def test_dropout_keeps_the_expectation_and_drops_its_share() -> None:
    dropout = Dropout(0.3, torch.Generator().manual_seed(0))
    dropped = dropout(torch.full((400, 500), 2.0))
    assert torch.unique(dropped).tolist() == [0, pytest.approx(2 / 0.7)]
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.005)
    assert dropped.mean().item() == pytest.approx(2, abs=0.02)
    assert torch.equal(dropout.eval()(torch.ones(3)), torch.ones(3))


def test_dropout_scales_gradients_as_units() -> None:
    units = torch.ones(1000, requires_grad=True)
    dropped = Dropout(0.5, torch.Generator().manual_seed(0))(units)
    dropped.sum().backward()
    assert units.grad is not None
    assert torch.equal(units.grad, dropped.detach())


def test_dropout_draws_from_its_generator_alone() -> None:
    before = torch.random.get_rng_state()
    draws = [Dropout(0.5, torch.Generator().manual_seed(seed))(torch.ones(100)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_classifier_normalises_as_it_was_told() -> None:
    classifier = Classifier(nn.Identity(), [10.0, 20.0], [2.0, 4.0])
    images = torch.tensor([30, 60], dtype=torch.uint8).reshape(1, 2, 1, 1)
    assert classifier(images).flatten().tolist() == [10, 10]
    assert torch.equal(classifier(images), classifier(images.float()))


@pytest.mark.parametrize("architecture", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.filterwarnings("ignore")  # torch's own export
def test_a_classifier_can_be_exported(architecture: Architecture) -> None:
    shape = (12, 12, 3)
    classifier = Classifier(build(architecture, shape, dropout=0.5), [100.0] * 3, [50.0] * 3).eval()
    images = torch.randint(0, 256, (5, 3, 12, 12), generator=torch.Generator().manual_seed(0)).float()
    batch = torch.export.Dim("batch")
    exported = torch.export.export(classifier, (images[:2],), dynamic_shapes={"images": {0: batch}}).module()
    torch.testing.assert_close(exported(images), classifier(images))
