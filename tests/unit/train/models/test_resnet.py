"""The five residual units with both blocks, three stages and four, and torchvision's networks as a reference."""

import pytest
import torch
import torchvision
from torch import Tensor, nn

from tuner.spec.hyperparameters import ResNet
from tuner.train.models import Randomness
from tuner.train.models.resnet import UNITS, ResidualUnit, Subsample, build_resnet

NAMES = {nn.Conv2d: "conv", nn.BatchNorm2d: "bn", nn.ReLU: "relu"}
# figure 4 (a) to (e), read from top to bottom along the residual path
FIGURE = {
    "basic": {
        "original": "conv bn relu conv bn + relu",
        "bn_after_addition": "conv bn relu conv + bn relu",
        "relu_before_addition": "conv bn relu conv bn relu +",
        "relu_only_preactivation": "relu conv bn relu conv bn +",
        "full_preactivation": "bn relu conv bn relu conv +",
    },
    # the same with one more convolution
    "bottleneck": {
        "original": "conv bn relu conv bn relu conv bn + relu",
        "bn_after_addition": "conv bn relu conv bn relu conv + bn relu",
        "relu_before_addition": "conv bn relu conv bn relu conv bn relu +",
        "relu_only_preactivation": "relu conv bn relu conv bn relu conv bn +",
        "full_preactivation": "bn relu conv bn relu conv bn relu conv +",
    },
}
PROJECTION = {
    "original": "conv bn",
    "bn_after_addition": "conv",
    "relu_before_addition": "conv bn",
    "relu_only_preactivation": "conv bn",
    "full_preactivation": "conv",
}
Shape = tuple[int, int, int]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def build(
    unit: str = "original",
    depth: int = 14,
    block: str = "auto",
    *,
    width: int = 4,
    shape: Shape = (8, 8, 1),
    num_classes: int = 10,
) -> nn.Sequential:
    architecture = ResNet.model_validate({"depth": depth, "width": width, "unit": unit, "block": block})
    randomness = Randomness(torch.Generator().manual_seed(0), torch.Generator())
    with torch.random.fork_rng(devices=[]):
        return build_resnet(architecture, shape, num_classes, 0.0, randomness)


def get_units(model: nn.Module) -> list[ResidualUnit]:
    return [module for module in model.modules() if isinstance(module, ResidualUnit)]


def get_convolutions(model: nn.Module) -> list[nn.Conv2d]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def trace(model: nn.Module, images: Tensor) -> str:
    """Name the operations in the order in which they really run; + is where a unit adds."""
    order: list[str] = []
    for module in model.modules():
        name = NAMES.get(type(module))
        if name:
            module.register_forward_pre_hook(lambda *_, name=name: order.append(name))
        if isinstance(module, ResidualUnit):
            module.after.register_forward_pre_hook(lambda *_: order.append("+"))
    model(images)
    return " ".join(order)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("block", FIGURE)
def test_operations_run_in_the_papers_order(unit: str, block: str) -> None:
    # two units a stage, of which the second has a shortcut without weights
    units = get_units(build(unit, 20 if block == "bottleneck" else 14, block))
    assert len(units) == 6
    for later in units[1::2]:
        channels = get_convolutions(later)[0].in_channels
        assert trace(later, draw(2, channels, 8, 8)) == FIGURE[block][unit]


@pytest.mark.parametrize("unit", UNITS)
def test_units_that_halve_without_a_projection_have_the_papers_order_too(unit: str) -> None:
    for halving in get_units(build(unit))[2::2]:
        assert isinstance(halving.shortcut, Subsample)
        channels = get_convolutions(halving)[0].in_channels
        assert trace(halving, draw(2, channels, 8, 8)) == FIGURE["basic"][unit]


@pytest.mark.parametrize("unit", UNITS)
def test_stem_and_end_fit_the_unit(unit: str) -> None:
    preactivation = FIGURE["basic"][unit].partition("conv")[0]
    later = FIGURE["basic"][unit]
    first = later.removeprefix(preactivation)
    expected = f"conv bn relu {first} {later} {later} {preactivation}".strip()
    assert trace(build(unit, depth=8), draw(2, 1, 8, 8)) == expected


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(("depth", "block"), [(8, "bottleneck"), (18, "basic"), (18, "bottleneck")])
def test_both_paths_share_the_preactivation_before_a_projection(unit: str, depth: int, block: str) -> None:
    whole, projection = FIGURE[block][unit], PROJECTION[unit]
    preactivation = whole.partition("conv")[0]
    rest = whole.removeprefix(preactivation)
    # which units of each stage change the channels: the first, but for basic ones in the first stage
    stages = 4 if depth == 18 else 3
    expected = ["conv bn relu"]
    for stage in range(stages):
        is_projected = stage > 0 or block == "bottleneck"
        expected += ["" if stage == 0 else preactivation, projection if is_projected else "", rest]
        expected += [whole] if stages == 4 else []
    expected.append(preactivation)
    model = build(unit, depth, block)
    assert trace(model, draw(2, 1, 8, 8)) == " ".join(" ".join(expected).split())


@pytest.mark.parametrize("block", FIGURE)
@pytest.mark.parametrize("unit", ["relu_before_addition", "relu_only_preactivation", "full_preactivation"])
def test_nothing_follows_the_addition_so_that_the_input_passes_unchanged(unit: str, block: str) -> None:
    later = get_units(build(unit, 20, block))[1]
    for module in later.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            nn.init.zeros_(module.weight)
    maps = draw(2, 16 if block == "bottleneck" else 4, 8, 8)
    assert torch.equal(later(maps), maps)


def test_the_shortcut_takes_every_other_pixel_and_adds_empty_channels() -> None:
    maps = torch.arange(2 * 3 * 5 * 4, dtype=torch.float32).reshape(2, 3, 5, 4)
    shortened = Subsample(3)(maps)
    assert shortened.shape == (2, 6, 3, 2)
    assert torch.equal(shortened[:, :3], maps[:, :, ::2, ::2])
    assert not shortened[:, 3:].any()


@pytest.mark.parametrize(
    ("depth", "block", "expected"),
    [
        (18, "basic", 8),
        (34, "basic", 16),
        (50, "bottleneck", 16),
        (101, "bottleneck", 33),
        (152, "bottleneck", 50),
        (8, "basic", 3),
        (26, "basic", 12),
        (110, "basic", 54),
        (164, "bottleneck", 54),
    ],
)
def test_auto_is_the_papers_block_and_as_many_units(depth: int, block: str, expected: int) -> None:
    with torch.device("meta"):
        automatic, named = (build(depth=depth, block=one, width=1) for one in ("auto", block))
    assert str(automatic) == str(named)
    units = get_units(automatic)
    assert len(units) == expected
    kernels = [convolution.kernel_size[0] for convolution in get_convolutions(units[-1].residual)]
    assert kernels == ([3, 3] if block == "basic" else [1, 3, 1])
    # and those and the stem and the last layer are as many layers as the depth says
    assert expected * len(kernels) + 2 == depth


@pytest.mark.parametrize(
    ("depth", "block", "expected"),
    [(8, "bottleneck", 3), (20, "bottleneck", 6), (110, "bottleneck", 36), (164, "basic", 81), (50, "basic", 16)],
)
def test_other_blocks_round_the_depth_up_to_whole_units(depth: int, block: str, expected: int) -> None:
    with torch.device("meta"):
        assert len(get_units(build(depth=depth, block=block, width=1))) == expected


@pytest.mark.parametrize(("depth", "expected"), [(20, 16), (164, 16), (18, 64), (50, 64)])
def test_without_a_width_the_papers_is_taken(depth: int, expected: int) -> None:
    with torch.device("meta"):
        models = [build(depth=depth, width=width) for width in (0, expected)]
    assert get_convolutions(models[0])[0].out_channels == expected
    assert str(models[0]) == str(models[1])


@pytest.mark.parametrize(("depth", "features"), [(20, 64), (164, 256), (18, 512), (50, 2048)])
def test_the_last_layer_sees_this_many_features(depth: int, features: int) -> None:
    with torch.device("meta"):
        *_, last = build(depth=depth, width=0).children()
    assert last.in_features == features


@pytest.mark.parametrize(
    ("depth", "shape", "expected"),
    [
        (18, (224, 224, 3), 7),
        (18, (64, 64, 3), 2),
        (18, (63, 63, 3), 8),
        (50, (32, 32, 3), 4),
        (50, (8, 8, 1), 1),
        (20, (32, 32, 3), 8),
        (20, (8, 8, 1), 2),
        (20, (224, 224, 3), 56),
    ],
)
def test_images_leave_this_many_pixels_a_side(depth: int, shape: Shape, expected: int) -> None:
    with torch.device("meta"):
        model = build(depth=depth, shape=shape, width=1)
        maps = model[: [type(layer) for layer in model].index(nn.AdaptiveAvgPool2d)](
            torch.empty(1, shape[2], *shape[:2]).expand(2, -1, -1, -1)
        )
    assert maps.shape[2:] == (expected, expected)


@pytest.mark.parametrize("shape", [(64, 8, 3), (8, 300, 1), (63, 100, 3)], ids=str)
def test_the_shorter_side_chooses_the_stem(shape: Shape) -> None:
    model = build(depth=18, shape=shape, width=2)
    stem = get_convolutions(model)[0]
    assert (stem.kernel_size, stem.stride) == ((3, 3), (1, 1))
    assert not any(isinstance(module, nn.MaxPool2d) for module in model)
    assert model(draw(2, shape[2], *shape[:2])).shape == (2, 10)


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_torchvision_has_the_same_layers(depth: int) -> None:
    with torch.device("meta"):
        ours = build(depth=depth, width=0, shape=(224, 224, 3), num_classes=1000)
        theirs = getattr(torchvision.models, f"resnet{depth}")()
    shapes = [[tensor.shape for tensor in model.state_dict().values()] for model in (ours, theirs)]
    assert shapes[0] == shapes[1]
    for name in ("stride", "padding", "kernel_size"):
        of_each = [[getattr(module, name) for module in get_convolutions(model)] for model in (ours, theirs)]
        assert of_each[0] == of_each[1]


@pytest.mark.parametrize("depth", [18, 50])
def test_with_torchvisions_weights_it_scores_as_torchvisions(depth: int) -> None:
    ours = build(depth=depth, width=0, shape=(64, 80, 3)).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = getattr(torchvision.models, f"resnet{depth}")(num_classes=10).eval()
        for module in theirs.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.1)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    images = draw(2, 3, 64, 80)
    with torch.no_grad():
        expected = theirs(images)
        torch.testing.assert_close(ours(images), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("unit", UNITS)
def test_every_depth_takes_the_smallest_images(unit: str) -> None:
    for depth in (8, 18, 20, 26, 34, 44, 50):
        for block in FIGURE:
            model = build(unit, depth, block, width=1)
            assert model(draw(2, 1, 8, 8)).isfinite().all()
