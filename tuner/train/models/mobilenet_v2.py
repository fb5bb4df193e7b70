"""MobileNetV2."""

from torch import nn
from torchvision.models.mobilenetv2 import MobileNetV2 as TorchvisionMobileNetV2

from tuner.spec.hyperparameters import MobileNetV2
from tuner.train.models.dropout import Dropout
from tuner.train.models.halvings import MOST, count_halvings
from tuner.train.models.initialise import initialise
from tuner.train.models.randomness import Randomness

# Expansion t, channels c, blocks n and stride s of each stage: the paper's table 2.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def build_mobilenet_v2(
    architecture: MobileNetV2,
    image_shape: tuple[int, int, int],
    num_classes: int,
    dropout: float,
    randomness: Randomness,
) -> nn.Sequential:
    """Build a 3x3 convolution, seven stages of inverted residuals, a 1x1 convolution, the mean and a dense layer.

    Parameters
    ----------
    architecture : MobileNetV2
        The width that all channels are multiplied by, and the side that images are resized to.
    image_shape : tuple of int
        Height, width, channels of the images.
    num_classes : int
        How many scores come out.
    dropout : float, at least 0 and below 1
        Before the dense layer.
    randomness : Randomness
        For the weights now, and for dropout while training.

    Returns
    -------
    Sequential
        From float (batch, channels, height, width) to float (batch, num_classes).

    Notes
    -----
    The layers are torchvision's; at 1000 classes there are 3,504,872 weights, at every size of image. As in the paper,
    channels are rounded to multiples of 8 and the last convolution keeps 1280 channels where the width is below 1.

    Of the five halvings at 224x224 (the first convolution's and those of four stages) the first are left out where the
    image is small, so that three pixels a side are left: one below 96 pixels, two below 48, three below 24, four below
    12. Images are resized bilinearly, without a filter against aliasing.

    References
    ----------
    .. [1] Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, arXiv:1801.04381,
       table 2.
    """
    height, width, channels = image_shape
    layers: list[nn.Module] = []
    if architecture.resolution and (height, width) != (architecture.resolution, architecture.resolution):
        height = width = architecture.resolution
        layers.append(nn.Upsample((height, width), mode="bilinear", align_corners=False))

    unwanted = MOST - count_halvings(height, width)
    settings, stem_stride = [], 1 if unwanted else 2
    unwanted -= 1
    for expansion, stage_channels, num_blocks, stride in STAGES:
        is_left_out = stride == 2 and unwanted > 0
        settings.append([expansion, stage_channels, num_blocks, 1 if is_left_out else stride])
        unwanted -= is_left_out
    network = TorchvisionMobileNetV2(
        num_classes, width_mult=architecture.width, inverted_residual_setting=settings, dropout=0.0
    )
    stem = network.features[0]
    stem[0] = nn.Conv2d(channels, stem[0].out_channels, 3, stride=stem_stride, padding=1, bias=False)
    layers += [network.features, nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    layers += [Dropout(dropout, randomness.dropout), network.classifier[1]]
    adapted = nn.Sequential(*layers)
    for module in adapted.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            initialise(module, "relu" if isinstance(module, nn.Conv2d) else "none", randomness.weights)
    return adapted
