"""Separable convolutions and the three flows."""

import pytest
import torch
from torch import Tensor, nn

from tuner.spec.hyperparameters import Xception
from tuner.train.models import Randomness
from tuner.train.models.resnet import ResidualUnit
from tuner.train.models.xception import SeparableConv2d, build_xception

Shape = tuple[int, int, int]
NAMES = {nn.ReLU: "relu", SeparableConv2d: "separable", nn.BatchNorm2d: "bn", nn.MaxPool2d: "pool", nn.Conv2d: "conv"}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def build(shape: Shape = (8, 8, 1), *, device: str = "cpu", **options: float) -> nn.Sequential:
    architecture = Xception.model_validate(options)
    randomness = Randomness(torch.Generator().manual_seed(0), torch.Generator())
    with torch.random.fork_rng(devices=[]), torch.device(device):
        return build_xception(architecture, shape, 10, 0.0, randomness)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def get_units(model: nn.Module) -> list[ResidualUnit]:
    return [module for module in model.modules() if isinstance(module, ResidualUnit)]


def describe(layers: nn.Module) -> str:
    return " ".join(NAMES[type(layer)] for layer in layers.children())


def test_a_separable_convolution_has_a_third_of_the_weights() -> None:
    separable, ordinary = SeparableConv2d(8, 4, bias=True), nn.Conv2d(8, 4, 3, padding="same")
    assert (count_parameters(separable), count_parameters(ordinary)) == (108, 292)
    assert count_parameters(SeparableConv2d(8, 4)) == 104
    maps = draw(2, 8, 9, 7)
    assert separable(maps).shape == ordinary(maps).shape == (2, 4, 9, 7)


@pytest.mark.parametrize("multiplier", [1, 3])
def test_a_separable_convolution_is_an_ordinary_one_of_products(multiplier: int) -> None:
    separable = SeparableConv2d(5, 4, depth_multiplier=multiplier, bias=True)
    each = separable.depthwise.weight.reshape(5, multiplier, 3, 3)
    mixed = separable.pointwise.weight.reshape(4, 5, multiplier)
    weight = torch.einsum("ocm,cmhw->ochw", mixed, each)
    maps = draw(2, 5, 6, 7)
    expected = nn.functional.conv2d(maps, weight, separable.pointwise.bias, padding=1)
    torch.testing.assert_close(separable(maps), expected)


def test_blocks_are_the_papers() -> None:
    units = get_units(build((299, 299, 3), device="meta"))
    middle = "relu separable bn relu separable bn relu separable bn"
    halving = "relu separable bn relu separable bn pool"
    assert [describe(unit.residual) for unit in units] == [
        halving.removeprefix("relu "),
        *[halving] * 2,
        *[middle] * 8,
        halving,
    ]
    assert [describe(unit.shortcut) for unit in units] == [*["conv bn"] * 3, *[""] * 8, "conv bn"]
    assert not any(describe(unit.after) for unit in units)
    separable = [[one for one in unit.residual if isinstance(one, SeparableConv2d)] for unit in units]
    channels = [[one.pointwise.out_channels for one in ones] for ones in separable]
    assert channels == [[128] * 2, [256] * 2, [728] * 2, *[[728] * 3] * 8, [728, 1024]]


@pytest.mark.parametrize(
    ("shape", "stem", "end"),
    [
        ((299, 299, 3), 147, 10),
        ((224, 224, 3), 109, 7),
        ((64, 64, 3), 29, 2),
        ((63, 63, 3), 63, 4),
        ((32, 32, 3), 32, 2),
        ((8, 8, 1), 8, 1),
    ],
)
def test_images_leave_this_many_pixels_a_side(shape: Shape, stem: int, end: int) -> None:
    model = build(shape, device="meta", width=0.1)
    kinds = [type(layer) for layer in model]
    maps = model[: kinds.index(ResidualUnit)](torch.empty(2, shape[2], *shape[:2], device="meta"))
    assert maps.shape[2:] == (stem, stem)
    maps = model[kinds.index(ResidualUnit) : kinds.index(nn.AdaptiveAvgPool2d)](maps)
    assert maps.shape[2:] == (end, end)


@pytest.mark.parametrize("shape", [(64, 8, 3), (8, 100, 1)], ids=str)
def test_the_shorter_side_chooses_the_stride(shape: Shape) -> None:
    model = build(shape, width=0.05, middle_blocks=1)
    assert model[0].stride == (1, 1)
    assert model(draw(2, shape[2], *shape[:2])).shape == (2, 10)


@pytest.mark.parametrize("middle_blocks", [0, 2, 9])
def test_the_middle_flow_has_as_many_blocks(middle_blocks: int) -> None:
    assert len(get_units(build(device="meta", middle_blocks=middle_blocks))) == middle_blocks + 4


def test_width_and_depth_multiplier_have_their_effect() -> None:
    for layer, wider in zip(build(device="meta").modules(), build(device="meta", width=1.5).modules(), strict=True):
        if isinstance(layer, nn.Conv2d):
            assert wider.out_channels == round(layer.out_channels * 1.5)
    deeper = [one for one in build(device="meta", depth_multiplier=3).modules() if isinstance(one, SeparableConv2d)]
    assert len(deeper) == 34
    for one in deeper:
        assert one.depthwise.out_channels == one.pointwise.in_channels == 3 * one.depthwise.groups
