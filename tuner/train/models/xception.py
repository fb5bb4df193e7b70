"""Xception: residual connections around depthwise separable convolutions."""

from torch import Tensor, nn

from tuner.spec.hyperparameters import Xception
from tuner.train.models.dropout import Dropout
from tuner.train.models.initialise import initialise
from tuner.train.models.randomness import Randomness
from tuner.train.models.resnet import ResidualUnit

SMALLEST_HALVED = 64  # pixels a side from which the stem has a stride


class SeparableConv2d(nn.Module):
    """Filters on each channel alone, and then 1x1 filters over all that came out; the size stays.

    Parameters
    ----------
    channels, grown : int
        Channels that come in and that leave.
    kernel : int, odd
        Side of the filters on each channel, in pixels.
    depth_multiplier : int
        Filters on each channel.
    bias : bool
        Add one to each channel that leaves. The first filters need none: nothing stands between them and the second.
    """

    def __init__(
        self, channels: int, grown: int, kernel: int = 3, *, depth_multiplier: int = 1, bias: bool = False
    ) -> None:
        super().__init__()
        between = channels * depth_multiplier
        self.depthwise = nn.Conv2d(channels, between, kernel, padding=kernel // 2, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(between, grown, 1, bias=bias)

    def forward(self, maps: Tensor) -> Tensor:
        """Map float (batch, channels, height, width) to float (batch, grown, height, width)."""
        mixed: Tensor = self.pointwise(self.depthwise(maps))
        return mixed


def build_xception(
    architecture: Xception,
    image_shape: tuple[int, int, int],
    num_classes: int,
    dropout: float,
    randomness: Randomness,
) -> nn.Sequential:
    """Build the entry, middle and exit flow, the mean over all pixels and a dense layer.

    Parameters
    ----------
    architecture : Xception
        What all channels are multiplied by (and rounded), blocks of the middle flow, and filters a channel in each
        depthwise convolution.
    image_shape : tuple of int
        Height, width, channels of the images.
    num_classes : int
        How many scores come out.
    dropout : float, at least 0 and below 1
        Before the dense layer, where the paper has 0.5 for ImageNet.
    randomness : Randomness
        For the weights now, and for dropout while training.

    Returns
    -------
    Sequential
        From float (batch, channels, height, width) to float (batch, num_classes).

    Notes
    -----
    22,855,952 weights at 1000 classes of images in colour, whatever their size. Convolutions have no biases, as a
    normalisation follows each; nothing stands between the two halves of a separable one, which the paper found best.

    Images below 64 pixels on either side lose the stem's stride, and are padded by a pixel at both of its
    convolutions, which the paper leaves unpadded. The four poolings that follow stay, as does the stride of their
    shortcuts: 32x32 leaves 2x2 at the end, and so does 64x64 with the stride. Images of at most 16x16 leave one pixel,
    and a batch of one such image cannot be normalised while training.

    References
    ----------
    .. [1] Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017, arXiv:1610.02357,
       figure 5.
    """
    height, width, channels = image_shape
    is_small = min(height, width) < SMALLEST_HALVED
    layers: list[nn.Module] = []
    for wanted, stride in ((32, 1 if is_small else 2), (64, 1)):
        grown = _scale(wanted, architecture)
        convolution = nn.Conv2d(channels, grown, 3, stride=stride, padding=1 if is_small else 0, bias=False)
        layers += [convolution, nn.BatchNorm2d(grown), nn.ReLU()]
        channels = grown

    for wanted in (128, 256, 728):
        # the first block follows the activation of the stem and needs none
        is_activated = wanted == 128
        layers.append(
            _build_block(architecture, channels, (wanted, wanted), is_halving=True, is_activated=is_activated)
        )
        channels = _scale(wanted, architecture)
    for _ in range(architecture.middle_blocks):
        layers.append(_build_block(architecture, channels, (728, 728, 728)))
    layers.append(_build_block(architecture, channels, (728, 1024), is_halving=True))
    channels = _scale(1024, architecture)

    for wanted in (1536, 2048):
        grown = _scale(wanted, architecture)
        layers += [*_build_separable(architecture, channels, grown), nn.ReLU()]
        channels = grown
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), Dropout(dropout, randomness.dropout)]
    network = nn.Sequential(*layers, nn.Linear(channels, num_classes))
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            initialise(module, "relu" if isinstance(module, nn.Conv2d) else "none", randomness.weights)
    return network


def _build_block(
    architecture: Xception,
    channels: int,
    wanted: tuple[int, ...],
    *,
    is_halving: bool = False,
    is_activated: bool = False,
) -> ResidualUnit:
    """Build ReLU and separable convolution in turn, the first ReLU only if the input is not activated yet."""
    residual, shortcut = nn.Sequential(), nn.Sequential()
    grown = channels
    for position, size in enumerate(wanted):
        if position > 0 or not is_activated:
            residual.append(nn.ReLU())
        before, grown = grown, _scale(size, architecture)
        residual.extend(_build_separable(architecture, before, grown))
    if is_halving:
        residual.append(nn.MaxPool2d(3, stride=2, padding=1))
        shortcut.append(nn.Conv2d(channels, grown, 1, stride=2, bias=False))
        shortcut.append(nn.BatchNorm2d(grown))
    return ResidualUnit(residual, shortcut, nn.Sequential())


def _build_separable(architecture: Xception, channels: int, grown: int) -> list[nn.Module]:
    convolution = SeparableConv2d(channels, grown, depth_multiplier=architecture.depth_multiplier)
    return [convolution, nn.BatchNorm2d(grown)]


def _scale(size: int, architecture: Xception) -> int:
    return max(1, round(size * architecture.width))
