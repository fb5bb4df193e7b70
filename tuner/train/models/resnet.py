"""Residual networks of three and of four stages, with both blocks and the five residual units."""

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor, nn

from tuner.spec.hyperparameters import ResNet
from tuner.train.models.dropout import Dropout
from tuner.train.models.initialise import initialise
from tuner.train.models.randomness import Randomness

# Units of each stage of ImageNet's networks: He et al. 2015, table 1.
FOUR_STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
BOTTLENECK_DEPTHS = {50, 101, 152, 164}
EXPANSION = 4  # channels that leave a bottleneck for each of its 3x3 convolution's
SMALLEST_HALVED = 64  # pixels a side from which the stem of four stages halves twice


class Unit(NamedTuple):
    """What is done around each convolution of the residual path but the last, around the last, and after adding."""

    earlier: str
    last: str
    after: str


# He et al. 2016, figure 4 (a) to (e).
UNITS = {
    "original": Unit("conv bn relu", "conv bn", "relu"),
    "bn_after_addition": Unit("conv bn relu", "conv", "bn relu"),
    "relu_before_addition": Unit("conv bn relu", "conv bn relu", ""),
    "relu_only_preactivation": Unit("relu conv bn", "relu conv bn", ""),
    "full_preactivation": Unit("bn relu conv", "bn relu conv", ""),
}
# What the residual path begins with, where that is no convolution.
PREACTIVATIONS = {"relu_only_preactivation": "relu", "full_preactivation": "bn relu"}
# A projection is normalised as the residual path is that it is added to: but for a ReLU, which would leave it no
# negative number.
PROJECTIONS = {"bn_after_addition": "conv", "full_preactivation": "conv"}


class Filters(NamedTuple):
    """One convolution: channels that leave it, side of its filters in pixels, and step between them."""

    channels: int
    kernel: int
    stride: int = 1


class ResidualUnit(nn.Module):
    """Convolutions around which their input is led by a shortcut.

    Attributes
    ----------
    residual : Sequential
        The path with most of the weights.
    shortcut : Module
        The path with a projection at most.
    after : Sequential
        What is done after the addition, if anything.
    """

    def __init__(self, residual: nn.Sequential, shortcut: nn.Module, after: nn.Sequential) -> None:
        super().__init__()
        self.residual = residual
        self.shortcut = shortcut
        self.after = after

    def forward(self, maps: Tensor) -> Tensor:
        """Map float (batch, channels, height, width) to the same, or to other channels and half the size."""
        summed: Tensor = self.after(self.shortcut(maps) + self.residual(maps))
        return summed


class Subsample(nn.Module):
    """The shortcut where the size halves: every other pixel, new channels zero (option A: no weights)."""

    def __init__(self, new_channels: int) -> None:
        super().__init__()
        self.new_channels = new_channels

    def forward(self, maps: Tensor) -> Tensor:
        """Map float (batch, channels, height, width) to more channels of half the size, rounded up."""
        return nn.functional.pad(maps[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.new_channels))


def build_resnet(
    architecture: ResNet,
    image_shape: tuple[int, int, int],
    num_classes: int,
    dropout: float,
    randomness: Randomness,
) -> nn.Sequential:
    """Build a stem, three or four stages of residual units, the mean over all pixels and a dense layer.

    Parameters
    ----------
    architecture : ResNet
        Depth, which says how many stages there are; channels of the first one; block, and the order of operations
        in a unit.
    image_shape : tuple of int
        Height, width, channels of the images.
    num_classes : int
        How many scores come out.
    dropout : float, at least 0 and below 1
        Before the dense layer, the one place that is the same in every kind of unit.
    randomness : Randomness
        For the weights now, and for dropout while training.

    Returns
    -------
    Sequential
        From float (batch, channels, height, width) to float (batch, num_classes).

    Notes
    -----
    Three stages, the paper's for CIFAR-10: the stem is one 3x3 convolution. With basic units, shortcuts have no
    weights (option A): 0.27 million weights at depth 20 and 1.7 million at depth 110. Bottlenecks, which [2]_ has at
    depth 164, are projected (1x1 convolutions) wherever the channels change: from 16 to 64 in the first stage, and
    where the size halves. Nothing is halved before the first stage, so the time grows with the area: 224x224 takes 49
    times as long as 32x32. An 8x8 image leaves 2x2 at the last stage.

    Four stages, the paper's for ImageNet: a 7x7 convolution with stride 2 and 3x3 max pooling with stride 2, and
    projections wherever the channels change (option B): 25,557,032 weights at depth 50 and 1000 classes. A bottleneck
    halves the size at its 3x3 convolution, not at its first one as the paper does: it is as large, and sees every
    pixel. Images below 64 pixels on either side get a 3x3 convolution without stride or pooling as their stem, so
    that 32x32 leaves 4x4 at the last stage. Images of at most 8x8 leave one pixel, and a batch of one such image
    cannot be normalised while training.

    A block that is not the paper's keeps the number of units of four stages: depth 50 with basic units has the 34
    layers of depth 34.

    With pre-activation, the first unit follows the activation of the stem and has none of its own, and one more
    follows the last unit, as in the appendix of [2]_. Before a projection the pre-activation is shared by both paths.
    Projections are normalised unless a normalisation follows the addition or begins the next unit. Convolutions have
    no biases, as a normalisation follows.

    With ReLU before the addition a sum only grows from unit to unit, and nothing normalises the last one: the loss
    starts above that of a guess, by some 3 nats at depth 110.

    References
    ----------
    .. [1] He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385,
       tables 1 and 6, section 4.2 and figure 5.
    .. [2] He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016, arXiv:1603.05027, figure 4.
    """
    depth = architecture.depth
    is_bottleneck = architecture.block == "bottleneck" or (architecture.block == "auto" and depth in BOTTLENECK_DEPTHS)
    convolutions = 3 if is_bottleneck else 2
    stages = FOUR_STAGES.get(depth, (-(-(depth - 2) // (3 * convolutions)),) * 3)
    width = architecture.width or (64 if depth in FOUR_STAGES else 16)
    unit = UNITS[architecture.unit]
    preactivation = PREACTIVATIONS.get(architecture.unit, "")

    layers: list[nn.Module] = _build_stem(depth in FOUR_STAGES, image_shape, width)
    channels = width
    for stage, num_units in enumerate(stages):
        for position in range(num_units):
            stride = 2 if stage > 0 and position == 0 else 1
            filters = _choose_filters(width * 2**stage, stride, is_bottleneck)
            grown = filters[-1].channels
            shortcut: nn.Module = nn.Identity()
            residual = " ".join([unit.earlier] * (convolutions - 1) + [unit.last])
            is_projected = grown != channels and (is_bottleneck or depth in FOUR_STAGES)
            is_first = stage == 0 and position == 0
            if is_projected or is_first:
                # the stem's activation, or one that both paths share
                residual = residual.removeprefix(preactivation).strip()
                if not is_first:
                    layers += _build_operations(preactivation, channels)
            if is_projected:
                projection = PROJECTIONS.get(architecture.unit, "conv bn")
                shortcut = _build_operations(projection, channels, [Filters(grown, 1, stride)])
            elif stride == 2:
                shortcut = Subsample(grown - channels)
            path = _build_operations(residual, channels, filters)
            layers.append(ResidualUnit(path, shortcut, _build_operations(unit.after, grown)))
            channels = grown
    layers += [*_build_operations(preactivation, channels), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    layers += [Dropout(dropout, randomness.dropout), nn.Linear(channels, num_classes)]
    network = nn.Sequential(*layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            initialise(module, "relu" if isinstance(module, nn.Conv2d) else "none", randomness.weights)
    return network


def _build_stem(has_four_stages: bool, image_shape: tuple[int, int, int], width: int) -> list[nn.Module]:
    """Build the convolution before the first unit, and pooling if the images are large enough."""
    height, breadth, channels = image_shape
    if not has_four_stages or min(height, breadth) < SMALLEST_HALVED:
        return [*_build_operations("conv bn relu", channels, [Filters(width, 3)])]
    stem = _build_operations("conv bn relu", channels, [Filters(width, 7, 2)])
    return [*stem, nn.MaxPool2d(3, stride=2, padding=1)]


def _choose_filters(width: int, stride: int, is_bottleneck: bool) -> list[Filters]:
    if is_bottleneck:
        return [Filters(width, 1), Filters(width, 3, stride), Filters(width * EXPANSION, 1)]
    return [Filters(width, 3, stride), Filters(width, 3)]


def _build_operations(names: str, channels: int, filters: Iterable[Filters] = ()) -> nn.Sequential:
    """Build operations in order; each convolution takes the next filters."""
    operations, remaining = nn.Sequential(), iter(filters)
    for name in names.split():
        if name == "conv":
            grown, kernel, stride = next(remaining)
            operations.append(nn.Conv2d(channels, grown, kernel, stride=stride, padding=kernel // 2, bias=False))
            channels = grown
        elif name == "bn":
            operations.append(nn.BatchNorm2d(channels))
        else:
            operations.append(nn.ReLU())
    return operations
