"""The families that torchvision has too: theirs at 224x224, ours on smaller images."""

import math
import warnings
from typing import TypeAlias

import pytest
import torch
import torchvision
from torch import Tensor, nn

from tuner.spec.hyperparameters import AlexNet, Architecture, GoogLeNet, Hyperparameters, MobileNetV2, Vgg, Vit
from tuner.train.models import Dropout, Randomness, build_model
from tuner.train.models.googlenet import DeeplySupervised, Inception
from tuner.train.models.halvings import count_halvings
from tuner.train.models.initialise import initialise, measure_reach
from tuner.train.models.vit import VisionTransformer

Shape: TypeAlias = tuple[int, int, int]

IMAGENET: Shape = (224, 224, 3)
SHAPES: list[Shape] = [(8, 8, 1), (28, 28, 1), (9, 14, 3), (32, 32, 3), (64, 64, 3)]
NAIVE = GoogLeNet(block="naive", width=0.25, auxiliary_weight=0)
SMALL_VIT = Vit(patch=4, depth=2, heads=4, width=32)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def build(architecture: Architecture, shape: Shape, num_classes: int = 10, *, dropout: float = 0.0) -> nn.Module:
    randomness = Randomness(torch.Generator().manual_seed(0), torch.Generator().manual_seed(1))
    return build_model(Hyperparameters(architecture=architecture, dropout=dropout), shape, num_classes, randomness)


def outline(architecture: Architecture, shape: Shape = IMAGENET, num_classes: int = 1000) -> nn.Module:
    with torch.device("meta"):
        return build(architecture, shape, num_classes)


def load_torchvision(name: str, **options: object) -> nn.Module:
    """Build torchvision's network, with random weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # says that GoogLeNet's initial weights will change
        network = torchvision.models.get_model(name, weights=None, **options)
    assert isinstance(network, nn.Module)
    return network


def draw_images(count: int, shape: Shape, *, smoothed: bool = False) -> Tensor:
    height, width, channels = shape
    images = torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(1))
    if smoothed:
        images = nn.functional.avg_pool2d(images, 5, 1, 2, count_include_pad=False)
    return images / images.std()


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def name_layers(model: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in model.children()]


def get_shapes(model: nn.Module) -> list[tuple[int, ...]]:
    return sorted(tuple(value.shape) for value in model.state_dict().values())


class TestPublishedNetworks:
    """At 224x224 in colour and 1000 classes the networks are the published ones."""

    @pytest.mark.parametrize(
        ("architecture", "name", "expected"),
        [
            (AlexNet(), "alexnet", 61_100_840),
            (Vgg(depth=11), "vgg11", 132_863_336),
            (Vgg(depth=13), "vgg13", 133_047_848),
            (Vgg(depth=16), "vgg16", 138_357_544),
            (Vgg(depth=19), "vgg19", 143_667_240),
            (Vgg(depth=11, batch_norm=True), "vgg11_bn", 132_868_840),
            (Vgg(depth=13, batch_norm=True), "vgg13_bn", 133_053_736),
            (Vgg(depth=16, batch_norm=True), "vgg16_bn", 138_365_992),
            (Vgg(depth=19, batch_norm=True), "vgg19_bn", 143_678_248),
            (GoogLeNet(), "googlenet", 13_004_888),
            (MobileNetV2(), "mobilenet_v2", 3_504_872),
            (Vit(), "vit_b_16", 86_567_656),
            (Vit(patch=32, depth=24, heads=16, width=1024), "vit_l_32", 306_535_400),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_every_array_has_torchvisions_shape(self, architecture: Architecture, name: str, expected: int) -> None:
        ours = outline(architecture)
        with torch.device("meta"):
            theirs = load_torchvision(name)
        assert count_parameters(ours) == expected
        assert get_shapes(ours) == get_shapes(theirs)

    def test_googlenet_without_heads_has_fewer(self) -> None:
        assert count_parameters(outline(GoogLeNet(auxiliary_weight=0))) == 6_624_904

    def test_vgg_has_the_lectures_table_of_weights(self) -> None:
        sizes = [parameter.numel() for parameter in outline(Vgg()).parameters() if parameter.dim() > 1]
        assert sizes == [
            *[1_728, 36_864, 73_728, 147_456, 294_912, 589_824, 589_824, 1_179_648],
            *[2_359_296] * 5,
            *[102_760_448, 16_777_216, 4_096_000],
        ]

    @pytest.mark.parametrize("width", [0.35, 0.5, 1.4])
    def test_mobilenets_width_is_torchvisions(self, width: float) -> None:
        with torch.device("meta"):
            theirs = load_torchvision("mobilenet_v2", width_mult=width)
        assert get_shapes(outline(MobileNetV2(width=width))) == get_shapes(theirs)

    @pytest.mark.parametrize(
        ("architecture", "name", "options", "side"),
        [
            (AlexNet(), "alexnet", {}, 127),
            (Vgg(depth=11, batch_norm=True), "vgg11_bn", {}, 64),
            (GoogLeNet(), "googlenet", {"aux_logits": True}, 112),
            (MobileNetV2(width=0.5), "mobilenet_v2", {"width_mult": 0.5}, 112),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_scores_are_torchvisions(self, architecture: Architecture, name: str, options: dict, side: int) -> None:
        # convolutions fit any image; torchvision's dense layers want the fields that 224 leave, so ours are built so
        ours, theirs = build(architecture, IMAGENET, 7).eval(), load_torchvision(name, num_classes=7, **options).eval()
        perturb_normalisations(theirs)
        copy_state(theirs, ours)
        images = draw_images(2, (side, side, 3))
        assert_same_scores(ours(images), theirs(images))

    def test_a_small_vit_scores_as_torchvisions(self) -> None:
        theirs = torchvision.models.VisionTransformer(
            image_size=32, patch_size=4, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=128, num_classes=7
        ).eval()
        nn.init.normal_(theirs.heads.head.weight, generator=torch.Generator().manual_seed(2))
        ours = build(SMALL_VIT, (32, 32, 3), 7).eval()
        copy_state(theirs, ours)
        images = draw_images(3, (32, 32, 3))
        assert_same_scores(ours(images), theirs(images))

    def test_googlenets_heads_are_torchvisions(self) -> None:
        ours, theirs = build(GoogLeNet(), IMAGENET, 7), load_torchvision("googlenet", num_classes=7)
        perturb_normalisations(theirs)
        copy_state(theirs, ours)
        for model in (ours, theirs):  # training, but for what a batch and chance change
            for module in model.modules():
                module.training = not isinstance(module, nn.BatchNorm2d | nn.Dropout)
        images = draw_images(2, (96, 96, 3))
        outputs = theirs(images)
        for own, other in zip(ours(images), (outputs.logits, outputs.aux_logits1, outputs.aux_logits2), strict=True):
            assert_same_scores(own, other)


def assert_same_scores(ours: Tensor, theirs: Tensor) -> None:
    """Compare scores to a hundredth of their differences between images, which are small in random networks."""
    tolerance = 0.01 * (theirs.max(dim=0).values - theirs.min(dim=0).values).mean().item()
    assert tolerance > 0
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


def copy_state(theirs: nn.Module, ours: nn.Module) -> None:
    """Fill our network with torchvision's arrays, which come in the same order under other names."""
    pairs = zip(ours.state_dict(), theirs.state_dict().values(), strict=True)
    ours.load_state_dict(dict(pairs))


def perturb_normalisations(model: nn.Module) -> None:
    """Give each batch normalisation statistics and factors, some of them negative."""
    generator = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(value, generator=generator)
            nn.init.uniform_(module.running_var, 0.5, 2, generator=generator)


class TestSmallImages:
    """What is left out where an image is small."""

    @pytest.mark.parametrize(
        ("side", "expected"),
        [(1, 0), (5, 0), (6, 1), (8, 1), (12, 2), (23, 2), (24, 3), (32, 3), (48, 4), (95, 4), (96, 5), (512, 5)],
    )
    def test_halvings_leave_three_pixels(self, side: int, expected: int) -> None:
        assert count_halvings(side, 600) == count_halvings(600, side) == expected

    @pytest.mark.parametrize(
        ("shape", "features"),
        [(IMAGENET, 7 * 7), ((64, 64, 3), 2 * 2), ((32, 32, 3), 1), ((8, 8, 1), 1), ((9, 30, 1), 3), ((8, 300, 1), 7)],
    )
    def test_vggs_dense_layer_sees_no_pixel_twice(self, shape: Shape, features: int) -> None:
        first, *_ = (layer for layer in outline(Vgg(), shape).children() if isinstance(layer, nn.Linear))
        assert first.in_features == 512 * features

    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    @pytest.mark.parametrize("depth", [11, 19])
    def test_vggs_filters_see_at_least_two_pixels(self, shape: Shape, depth: int) -> None:
        maps = draw_images(1, shape)
        for layer in build(Vgg(depth=depth, width=0.05, head=4), shape).children():
            assert not isinstance(layer, nn.Conv2d) or min(maps.shape[2:]) >= 2
            maps = layer(maps)

    @pytest.mark.parametrize(
        ("shape", "stem", "num_poolings", "features"),
        [
            (IMAGENET, (11, 4), 3, 6 * 6),
            ((64, 64, 3), (7, 2), 3, 3 * 3),
            ((32, 32, 3), (5, 1), 3, 3 * 3),
            ((16, 16, 3), (5, 1), 2, 3 * 3),
            ((9, 14, 3), (5, 1), 1, 4 * 6),
            ((8, 8, 1), (5, 1), 1, 3 * 3),
        ],
    )
    def test_alexnets_layers_suit_the_image(
        self, shape: Shape, stem: tuple[int, int], num_poolings: int, features: int
    ) -> None:
        model = outline(AlexNet(), shape)
        first = next(model.children())
        dense = next(layer for layer in model.children() if isinstance(layer, nn.Linear))
        assert isinstance(first, nn.Conv2d)
        assert (first.kernel_size[0], first.stride[0]) == stem
        assert name_layers(model).count("MaxPool2d") == num_poolings
        assert dense.in_features == 256 * features

    @pytest.mark.parametrize(
        ("shape", "sizes"),
        [
            (IMAGENET, [28, 28, *[14] * 5, 7, 7]),
            ((64, 64, 3), [16, 16, *[8] * 5, 4, 4]),
            ((32, 32, 3), [16, 16, *[8] * 5, 4, 4]),
            ((25, 25, 3), [12, 12, *[6] * 5, 3, 3]),
            ((15, 15, 3), [15, 15, *[7] * 5, 4, 4]),
            ((8, 8, 1), [8, 8, *[8] * 5, 4, 4]),
        ],
    )
    def test_googlenets_blocks_see_maps_of_these_sizes(self, shape: Shape, sizes: list[int]) -> None:
        model = build(GoogLeNet(width=0.05), shape)
        assert isinstance(model, DeeplySupervised)
        seen = []
        for module in model.modules():
            if isinstance(module, Inception):
                module.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[2]))
        model(draw_images(2, shape))
        assert seen == sizes
        pooling = model.heads[0][0]
        assert isinstance(pooling, nn.AdaptiveAvgPool2d)
        assert pooling.output_size == (4, 4)

    def test_googlenets_heads_do_not_average_to_more_pixels_than_there_are(self) -> None:
        model = build(GoogLeNet(width=0.05), (3, 9, 1))
        assert isinstance(model, DeeplySupervised)
        assert model.heads[0][0].output_size == (3, 4)

    @pytest.mark.parametrize(
        ("shape", "side"),
        [(IMAGENET, 7), ((96, 96, 3), 3), ((64, 64, 3), 4), ((32, 32, 3), 4), ((28, 28, 1), 4), ((8, 8, 1), 4)],
    )
    def test_mobilenet_leaves_maps_of_this_size(self, shape: Shape, side: int) -> None:
        features = next(build(MobileNetV2(width=0.05), shape).children())
        assert features(draw_images(2, shape)).shape[2:] == (side, side)

    @pytest.mark.parametrize("shape", [IMAGENET, *SHAPES], ids=str)
    def test_sizes_change_no_weights_of_networks_that_end_in_a_mean(self, shape: Shape) -> None:
        height, width, _ = shape
        assert count_parameters(outline(MobileNetV2(), (height, width, 3))) == 3_504_872

    @pytest.mark.parametrize(
        ("shape", "patch", "num_patches", "padding"),
        [
            ((32, 32, 3), 4, 64, (0, 0, 0, 0)),
            ((28, 28, 1), 16, 4, (2, 2, 2, 2)),
            ((8, 8, 1), 16, 1, (0, 0, 0, 0)),
            ((9, 14, 3), 16, 2, (2, 2, 0, 0)),
            ((9, 14, 3), 4, 12, (1, 1, 1, 2)),
            ((14, 9, 3), 4, 12, (1, 2, 1, 1)),
        ],
    )
    def test_vit_pads_to_whole_patches_no_larger_than_the_image(
        self, shape: Shape, patch: int, num_patches: int, padding: tuple[int, ...]
    ) -> None:
        model = build(Vit(patch=patch, depth=1, heads=1, width=8), shape)
        assert isinstance(model, VisionTransformer)
        assert model.padding == padding
        assert model.encoder.get_parameter("pos_embedding").shape == (1, 1 + num_patches, 8)
        assert model(draw_images(2, shape)).shape == (2, 10)


class TestHyperparameters:
    """Each option of a family changes what it says."""

    @pytest.mark.parametrize("architecture", [AlexNet(width=0.1, head=30), Vgg(width=0.1, head=30)])
    def test_width_counts_for_convolutions_and_head_for_dense_layers(self, architecture: Architecture) -> None:
        layers = list(outline(architecture).children())
        first = next(layer for layer in layers if isinstance(layer, nn.Conv2d))
        dense = [layer.out_features for layer in layers if isinstance(layer, nn.Linear)]
        assert first.out_channels == 6
        assert dense == [30, 30, 1000]

    def test_widths_never_leave_a_layer_without_channels(self) -> None:
        for architecture in (AlexNet(width=1e-3), Vgg(width=1e-3), GoogLeNet(width=1e-3), MobileNetV2(width=1e-3)):
            assert build(architecture, (12, 12, 1))(draw_images(2, (12, 12, 1))) is not None

    def test_pooling_comes_before_relu(self) -> None:
        normalised = ["Conv2d", "BatchNorm2d", "MaxPool2d", "ReLU"]
        assert name_layers(outline(AlexNet()))[:3] == ["Conv2d", "MaxPool2d", "ReLU"]
        assert name_layers(outline(AlexNet(batch_norm=True)))[:4] == normalised
        assert name_layers(outline(Vgg(depth=11, batch_norm=True)))[:4] == normalised

    def test_batch_norm_takes_the_place_of_alexnets_biases(self) -> None:
        channels = 64 + 192 + 384 + 256 + 256
        plain, normalised = outline(AlexNet()), outline(AlexNet(batch_norm=True))
        assert count_parameters(normalised) - count_parameters(plain) == channels
        assert name_layers(normalised).count("BatchNorm2d") == 5

    def test_googlenet_without_batch_norm_has_biases(self) -> None:
        options = {"auxiliary_weight": 0.0}
        plain, normalised = outline(GoogLeNet(batch_norm=False, **options)), outline(GoogLeNet(**options))
        assert not any(isinstance(module, nn.BatchNorm2d) for module in plain.modules())
        channels = sum(module.num_features for module in normalised.modules() if isinstance(module, nn.BatchNorm2d))
        assert count_parameters(normalised) - count_parameters(plain) == channels

    def test_the_naive_block_hands_on_what_it_pools(self) -> None:
        # the lecture's arithmetic: 28x28x256 into 128 + 192 + 96 filters is 672 channels and 854 million products
        model = build(GoogLeNet(block="naive", batch_norm=False, auxiliary_weight=0), (8, 8, 3))
        blocks = [module for module in model.modules() if isinstance(module, Inception)]
        channels = [192, 416, 832, 1280, 1728, 2176, 2640, 3344, 4048]
        inputs = [block.branches[0][0].in_channels for block in blocks]
        assert inputs == channels
        convolutions = [branch[0] for branch in list(blocks[1].branches)[:3]]
        assert [one.kernel_size[0] for one in convolutions] == [1, 3, 5]
        products = sum(28 * 28 * 256 * one.out_channels * one.kernel_size[0] ** 2 for one in convolutions)
        assert products == 854_196_224
        assert sum(one.out_channels for one in convolutions) + 256 == 672
        assert isinstance(blocks[1].branches[3], nn.MaxPool2d)

    def test_heads_speak_only_while_training(self) -> None:
        images = draw_images(3, (12, 12, 3))
        model = build(GoogLeNet(width=0.1, auxiliary_weight=0.2), (12, 12, 3))
        assert model.auxiliary_weight == 0.2
        outputs = model(images)
        assert isinstance(outputs, tuple)
        assert [scores.shape for scores in outputs] == [(3, 10)] * 3
        assert model.eval()(images).shape == (3, 10)

    def test_without_a_weight_there_are_no_heads(self) -> None:
        model = build(GoogLeNet(width=0.1, auxiliary_weight=0), (12, 12, 3))
        assert model.auxiliary_weight == 0
        assert model(draw_images(3, (12, 12, 3))).shape == (3, 10)

    def test_heads_send_gradients_to_what_is_before_them_alone(self) -> None:
        model = build(GoogLeNet(width=0.1, batch_norm=False), (12, 12, 3))
        assert isinstance(model, DeeplySupervised)
        _, shallow, _ = model(draw_images(3, (12, 12, 3)))
        shallow.sum().backward()
        reached = {
            name.split(".")[0:2][0] + name.split(".")[1]
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        }
        assert reached == {"stages0", "heads0"}

    def test_images_are_resized_to_the_resolution(self) -> None:
        model = build(MobileNetV2(width=0.05, resolution=24), (9, 14, 3)).eval()
        resized, *rest = model.children()
        images = draw_images(2, (9, 14, 3))
        expected = nn.functional.interpolate(images, (24, 24), mode="bilinear", antialias=False)
        assert torch.equal(resized(images), expected)
        assert rest[0](expected).shape[2:] == (3, 3)
        assert torch.equal(model(images), build(MobileNetV2(width=0.05), (24, 24, 3)).eval()(expected))

    @pytest.mark.parametrize("resolution", [0, 32])
    def test_images_of_the_resolution_are_left_alone(self, resolution: int) -> None:
        assert "Upsample" not in name_layers(outline(MobileNetV2(resolution=resolution), (32, 32, 3)))

    @pytest.mark.parametrize(("width", "heads", "expected"), [(32, 4, 32), (33, 4, 36), (1, 3, 3), (768, 12, 768)])
    def test_vits_width_is_rounded_up_to_the_heads(self, width: int, heads: int, expected: int) -> None:
        model = outline(Vit(patch=8, depth=1, heads=heads, width=width), (16, 16, 1))
        assert isinstance(model, VisionTransformer)
        assert model.patches.out_channels == expected
        dense = [module.weight.shape for module in model.modules() if isinstance(module, nn.Linear)]
        assert (4 * expected, expected) in dense

    @pytest.mark.parametrize(
        ("architecture", "expected"),
        [
            (AlexNet(), 2),
            (Vgg(depth=11), 2),
            (GoogLeNet(), 3),
            (GoogLeNet(auxiliary_weight=0), 1),
            (MobileNetV2(), 1),
            (Vit(depth=3), 1 + 3 * 3),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_dropout_is_ours_everywhere(self, architecture: Architecture, expected: int) -> None:
        with torch.device("meta"):
            model = build(architecture, (32, 32, 3), dropout=0.3)
        assert [module.probability for module in model.modules() if isinstance(module, Dropout)] == [0.3] * expected
        assert not any(isinstance(module, nn.Dropout) for module in model.modules())
        assert not any(module.dropout for module in model.modules() if isinstance(module, nn.MultiheadAttention))


class TestSignals:
    """Without batch normalisation the initial weights alone keep signals alive."""

    @pytest.mark.parametrize(
        "architecture",
        [
            Vgg(depth=19, width=0.125, head=64),
            AlexNet(width=0.25, head=64),
            GoogLeNet(width=0.25, batch_norm=False),
            GoogLeNet(width=0.25, batch_norm=False, block="naive"),
        ],
        ids=["vgg", "alexnet", "googlenet", "naive"],
    )
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    @pytest.mark.parametrize("smoothed", [False, True], ids=["noise", "smooth"])
    def test_signals_neither_vanish_nor_explode(self, architecture: Architecture, shape: Shape, smoothed: bool) -> None:
        model = build(architecture, shape)
        *_, last = (module for module in model.modules() if isinstance(module, nn.Linear))
        seen: list[float] = []
        last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].square().mean().item()))
        outputs = model(draw_images(20, shape, smoothed=smoothed))
        assert 0.1 < seen[0] < 10
        # the margin for signals that are a few times off
        assert last.weight.abs().max().item() <= 0.25 / math.sqrt(last.in_features)
        for scores in outputs if isinstance(outputs, tuple) else (outputs,):
            assert abs(nn.functional.cross_entropy(scores, torch.arange(20) % 10).item() - math.log(10)) < 0.2

    @pytest.mark.parametrize("shape", [(14, 15, 3), (28, 31, 1)], ids=str)
    def test_googlenet_knows_how_large_its_maps_are(self, shape: Shape) -> None:
        model = build(GoogLeNet(width=0.5, batch_norm=False, auxiliary_weight=0), shape)
        ratios = []

        def compare(layer: nn.Conv2d, inputs: tuple[Tensor]) -> None:
            expected = math.sqrt(2 / layer.weight[0].numel() / measure_reach(layer, *inputs[0].shape[2:]))
            ratios.append(layer.weight.std().item() / expected)

        for module in model.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and module.weight.numel() > 30_000:
                module.register_forward_pre_hook(compare)
        model(draw_images(1, shape))
        assert len(ratios) == 8
        assert ratios == pytest.approx([1.0] * 8, rel=0.02)

    def test_reach_is_the_share_of_weights_on_the_map(self) -> None:
        assert measure_reach(nn.Conv2d(1, 1, 3, padding=1), 1, 1) == pytest.approx(1 / 9)
        assert measure_reach(nn.Conv2d(1, 1, 3, padding=1), 2, 4) == pytest.approx(4 / 6 * 10 / 12)
        assert measure_reach(nn.Conv2d(1, 1, 3, stride=2, padding=1), 4, 4) == pytest.approx((5 / 6) ** 2)
        assert measure_reach(nn.Conv2d(1, 1, 5), 9, 7) == 1

    def test_growth_divides_the_weights(self) -> None:
        plain, grown = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        initialise(plain, "relu", torch.Generator().manual_seed(0))
        initialise(grown, "relu", torch.Generator().manual_seed(0), 4.0)
        torch.testing.assert_close(grown.weight * 2, plain.weight)


@pytest.mark.parametrize(
    "architecture",
    [
        AlexNet(width=0.1, head=8, batch_norm=True),
        Vgg(depth=11, width=0.1, head=8),
        GoogLeNet(width=0.1),
        NAIVE,
        MobileNetV2(width=0.05, resolution=20),
        SMALL_VIT,
    ],
    ids=["alexnet", "vgg", "googlenet", "naive", "mobilenet_v2", "vit"],
)
class TestUse:
    """Networks as they are served."""

    @pytest.mark.filterwarnings("ignore")  # torch's own export
    def test_any_number_of_images_goes_through_the_export(self, architecture: Architecture) -> None:
        model = build(architecture, (12, 14, 3), dropout=0.5).eval()
        images = draw_images(5, (12, 14, 3))
        shapes = ({0: torch.export.Dim("batch")},)
        exported = torch.export.export(model, (images[:2],), dynamic_shapes=shapes).module()
        torch.testing.assert_close(exported(images), model(images))

    def test_the_order_in_memory_changes_nothing(self, architecture: Architecture) -> None:
        model = build(architecture, (12, 14, 3)).eval()
        images = draw_images(3, (12, 14, 3))
        expected = model(images)
        model.to(memory_format=torch.channels_last)
        torch.testing.assert_close(model(images.to(memory_format=torch.channels_last)), expected, rtol=1e-3, atol=1e-5)
        with torch.inference_mode():
            torch.testing.assert_close(model(images), expected, rtol=1e-3, atol=1e-5)
