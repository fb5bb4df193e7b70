"""LeNet-5."""

from torch import nn

from tuner.spec.hyperparameters import LeNet
from tuner.train.models.dropout import Dropout
from tuner.train.models.initialise import initialise
from tuner.train.models.randomness import Randomness

PAPER_SIDE = 32  # the paper's digits are 28 pixels wide, in a field of 32
KERNEL = 5


def build_lenet(
    architecture: LeNet,
    image_shape: tuple[int, int, int],
    num_classes: int,
    dropout: float,
    randomness: Randomness,
) -> nn.Sequential:
    """Build 5x5 convolutions of 6 and 16 channels with average pooling, and dense layers of 120 and 84 units.

    Parameters
    ----------
    architecture : LeNet
        The non-linearity, the width that all channels and units are multiplied by (and rounded), and whether each
        convolution is followed by batch normalisation; it then has no bias, which would be taken away.
    image_shape : tuple of int
        Height, width, channels of the images.
    num_classes : int
        How many scores come out.
    dropout : float, at least 0 and below 1
        After each dense layer but the last.
    randomness : Randomness
        For the weights now, and for dropout while training.

    Returns
    -------
    Sequential
        From float (batch, channels, height, width) to float (batch, num_classes).

    Notes
    -----
    As it is commonly built: pooling without weights of its own, a second convolution that sees all maps, and
    a dense last layer in place of radial basis functions. At 32x32x1 and 10 classes it has 61,706 weights.

    Images below 32 pixels a side are padded by two pixels at the first convolution, so that 28x28 is treated
    as in the paper. The second convolution is padded too where its map would otherwise be too small to pool,
    and a map of fewer than two pixels a side is not pooled. With larger images the first dense layer grows
    with their area.

    References
    ----------
    .. [1] LeCun et al., "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE 86(11), 1998,
       section II.B and figure 2.
    """
    layers: list[nn.Module] = []
    height, width, channels = image_shape
    smallest = PAPER_SIDE
    for maps in (6, 16):
        padding = KERNEL // 2 if min(height, width) < smallest else 0
        height, width = (side + 2 * padding - KERNEL + 1 for side in (height, width))
        convolution = nn.Conv2d(
            channels, _scale(maps, architecture), KERNEL, padding=padding, bias=not architecture.batch_norm
        )
        initialise(convolution, architecture.activation, randomness.weights)
        layers.append(convolution)
        if architecture.batch_norm:
            layers.append(nn.BatchNorm2d(convolution.out_channels))
        layers.append(_build_activation(architecture))
        if min(height, width) >= 2:
            layers.append(nn.AvgPool2d(2))
            height, width = height // 2, width // 2
        channels = convolution.out_channels
        smallest = KERNEL + 1  # leaves two pixels to pool

    layers.append(nn.Flatten())
    features = channels * height * width
    for units in (120, 84):
        dense = nn.Linear(features, _scale(units, architecture))
        initialise(dense, architecture.activation, randomness.weights)
        layers += [dense, _build_activation(architecture), Dropout(dropout, randomness.dropout)]
        features = dense.out_features
    output = nn.Linear(features, num_classes)
    initialise(output, "none", randomness.weights)
    return nn.Sequential(*layers, output)


def _scale(size: int, architecture: LeNet) -> int:
    return max(1, round(size * architecture.width))


def _build_activation(architecture: LeNet) -> nn.Module:
    return nn.ReLU() if architecture.activation == "relu" else nn.Tanh()
