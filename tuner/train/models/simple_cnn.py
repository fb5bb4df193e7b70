"""The lecture's first network: convolutions and pooling, then a dense layer."""

from torch import nn

from tuner.spec.hyperparameters import SimpleCnn
from tuner.train.models.dropout import Dropout
from tuner.train.models.initialise import initialise
from tuner.train.models.randomness import Randomness


def build_simple_cnn(
    architecture: SimpleCnn,
    image_shape: tuple[int, int, int],
    num_classes: int,
    dropout: float,
    randomness: Randomness,
) -> nn.Sequential:
    """Build convolutions with ReLU, each but the last followed by halving, and a dense layer.

    Parameters
    ----------
    architecture : SimpleCnn
        Depth, width and options.
    image_shape : tuple of int
        Height, width, channels of the images.
    num_classes : int
        How many scores come out.
    dropout : float, at least 0 and below 1
        Before each dense layer.
    randomness : Randomness
        For the weights now, and for dropout while training.

    Returns
    -------
    Sequential
        From float (batch, channels, height, width) to float (batch, num_classes).

    Notes
    -----
    Filters are unpadded, as in the lecture: of 32x32 images, 3x3 filters and 2x2 pooling leave 30, 15, 13, 6,
    4 pixels a side and 512 features. A map smaller than the filter is padded by half the filter, and a map of
    fewer than two pixels a side is not halved: so an 8x8 image takes any depth. With large images the dense
    layer grows with their area.

    Max-pooling comes before ReLU: the two commute, values and gradients are the same, and ReLU has a quarter
    of the pixels to see. Average pooling does not commute and comes after it. In the stride variant the
    convolution itself takes every other pixel.
    """
    layers: list[nn.Module] = []
    height, width, channels = image_shape
    kernel = architecture.kernel_size
    for position in range(architecture.depth):
        padding = 0 if min(height, width) >= kernel else kernel // 2
        height, width = (side + 2 * padding - kernel + 1 for side in (height, width))
        is_halved = position < architecture.depth - 1 and min(height, width) >= 2
        is_strided = is_halved and architecture.pooling == "stride"
        convolution = nn.Conv2d(
            channels,
            architecture.width,
            kernel,
            stride=2 if is_strided else 1,
            padding=padding,
            bias=not architecture.batch_norm,  # the normalisation would take a bias away and adds its own
        )
        initialise(convolution, "relu", randomness.weights)
        layers.append(convolution)
        if architecture.batch_norm:
            layers.append(nn.BatchNorm2d(architecture.width))
        if is_halved and architecture.pooling == "max":
            layers += [nn.MaxPool2d(2), nn.ReLU()]
        elif is_halved and architecture.pooling == "average":
            layers += [nn.ReLU(), nn.AvgPool2d(2)]
        else:
            layers.append(nn.ReLU())
        if is_halved:
            # a stride keeps the odd pixel at the end, pooling leaves it out
            height, width = ((side + 1) // 2 if is_strided else side // 2 for side in (height, width))
        channels = architecture.width

    layers.append(nn.Flatten())
    features = channels * height * width
    for units, activation in ((architecture.head, "relu"), (num_classes, "none")):
        if units:
            dense = nn.Linear(features, units)
            initialise(dense, activation, randomness.weights)
            layers += [Dropout(dropout, randomness.dropout), dense]
            features = units
        if units and activation == "relu":
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)
