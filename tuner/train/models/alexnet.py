"""AlexNet."""

from torch import nn

from tuner.spec.hyperparameters import AlexNet
from tuner.train.models.dropout import Dropout
from tuner.train.models.halvings import count_halvings
from tuner.train.models.initialise import MARGIN, initialise, measure_reach
from tuner.train.models.randomness import Randomness

LARGEST = 6  # pixels a side that 224 leave for the dense layers
# Side, stride and padding of the first filters, by the halvings that are left to them.
STEMS = {2: (11, 4, 2), 1: (7, 2, 3), 0: (5, 1, 2)}
# Channels, side of the filters, and which of the last halvings comes after: 3 is left out first.
CONVOLUTIONS = ((64, 0, 3), (192, 5, 2), (384, 3, 0), (256, 3, 0), (256, 3, 1))
# What max pooling over 3x3 pixels multiplies the mean square of signals with, about: 1 where neighbours are equal, 5.1
# where all nine are independent.
POOLING_GROWTH = 3.0


def build_alexnet(
    architecture: AlexNet,
    image_shape: tuple[int, int, int],
    num_classes: int,
    dropout: float,
    randomness: Randomness,
) -> nn.Sequential:
    """Build five convolutions with max pooling after the first, second and last, and three dense layers.

    Parameters
    ----------
    architecture : AlexNet
        Batch normalisation, the width that all channels are multiplied by (and rounded), and the units of the hidden
        dense layers.
    image_shape : tuple of int
        Height, width, channels of the images.
    num_classes : int
        How many scores come out.
    dropout : float, at least 0 and below 1
        Before each dense layer but the last.
    randomness : Randomness
        For the weights now, and for dropout while training.

    Returns
    -------
    Sequential
        From float (batch, channels, height, width) to float (batch, num_classes).

    Notes
    -----
    The variant for one GPU [2]_, as in torchvision: 64, 192, 384, 256 and 256 channels, no local response
    normalisation; at 224x224x3 and 1000 classes it has 61,100,840 weights. With batch normalisation the convolutions
    have no biases.

    The first filters are 11 pixels wide, at every fourth pixel. Below 96 pixels a side they are 7 wide at every
    second, as in [3]_, below 48 they are 5 wide at every pixel, as in the first paper's network for 32x32; below 24
    the first pooling is left out too, and below 12 the second. The first dense layer sees as many pixels as are
    left, 6x6 from 224x224, and of more their means in 6x6 fields.

    Max pooling comes before ReLU: the two commute, values and gradients are the same, and ReLU has a quarter of the
    pixels to see. The initial weights make up for filters that lie partly on padding and for the growth by pooling.

    References
    ----------
    .. [1] Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks", NeurIPS 2012.
    .. [2] Krizhevsky, "One weird trick for parallelizing convolutional neural networks", arXiv:1404.5997.
    .. [3] Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, arXiv:1311.2901.
    """
    layers: list[nn.Module] = []
    height, width, channels = image_shape
    halvings = count_halvings(height, width)
    for base, kernel, halving in CONVOLUTIONS:
        side, stride, padding = (kernel, 1, kernel // 2) if kernel else STEMS[max(0, halvings - 3)]
        is_pooled = 0 < halving <= halvings
        convolution = nn.Conv2d(
            channels,
            max(1, round(base * architecture.width)),
            side,
            stride=stride,
            padding=padding,
            bias=not architecture.batch_norm,  # the normalisation would take a bias away and adds its own
        )
        growth = measure_reach(convolution, height, width) * (POOLING_GROWTH if is_pooled else 1)
        initialise(convolution, "relu", randomness.weights, growth)
        layers.append(convolution)
        channels = convolution.out_channels
        height, width = ((pixels + 2 * padding - side) // stride + 1 for pixels in (height, width))
        if architecture.batch_norm:
            layers.append(nn.BatchNorm2d(channels))
        if is_pooled:
            layers.append(nn.MaxPool2d(3, stride=2))
            height, width = (height - 1) // 2, (width - 1) // 2
        layers.append(nn.ReLU())

    height, width = min(height, LARGEST), min(width, LARGEST)
    layers += [nn.AdaptiveAvgPool2d((height, width)), nn.Flatten()]
    features = channels * height * width
    for _ in range(2):
        dense = nn.Linear(features, architecture.head)
        initialise(dense, "relu", randomness.weights)
        layers += [Dropout(dropout, randomness.dropout), dense, nn.ReLU()]
        features = architecture.head
    output = nn.Linear(features, num_classes)
    initialise(output, "none", randomness.weights, 1 if architecture.batch_norm else MARGIN)
    return nn.Sequential(*layers, output)
