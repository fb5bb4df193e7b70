"""VGG."""

from torch import nn

from tuner.spec.hyperparameters import Vgg
from tuner.train.models.dropout import Dropout
from tuner.train.models.initialise import MARGIN, POOLING_GROWTH, initialise, measure_reach
from tuner.train.models.randomness import Randomness

# Convolutions of each stage, by the number of layers with weights: columns A, B, D and E of the paper's table 1.
STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
CHANNELS = (64, 128, 256, 512, 512)
LARGEST = 7  # pixels a side that 224 leave for the dense layers


def build_vgg(
    architecture: Vgg,
    image_shape: tuple[int, int, int],
    num_classes: int,
    dropout: float,
    randomness: Randomness,
) -> nn.Sequential:
    """Build five stages of 3x3 convolutions with max pooling after each, and three dense layers.

    Parameters
    ----------
    architecture : Vgg
        Depth, batch normalisation, the width that all channels are multiplied by (and rounded), and the units of
        the hidden dense layers.
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
    At 224x224x3 and 1000 classes depth 16 has the paper's 138 million weights. As in torchvision, convolutions keep
    their biases under batch normalisation.

    A stage is pooled only if it leaves two pixels a side to the 3x3 filters of the next one, and the last stage if
    it has two: 32x32 leaves 16, 8, 4, 2 and 1 pixels, 8x8 leaves 4, 2, 2, 2 and 1. The first dense layer sees as many
    pixels as are left, 7x7 from 224x224, and of more their means in 7x7 fields.

    Max pooling comes before ReLU: the two commute, values and gradients are the same, and ReLU has a quarter of the
    pixels to see. The initial weights make up for filters that lie partly on padding and for the growth by pooling,
    as a network of 16 convolutions without batch normalisation could not be trained otherwise.

    References
    ----------
    .. [1] Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
       arXiv:1409.1556, table 1.
    """
    layers: list[nn.Module] = []
    height, width, channels = image_shape
    for num_convolutions, base, remaining in zip(STAGES[architecture.depth], CHANNELS, (2, 2, 2, 2, 1), strict=True):
        for position in range(num_convolutions):
            is_pooled = position == num_convolutions - 1 and min(height, width) >= 2 * remaining
            convolution = nn.Conv2d(channels, max(1, round(base * architecture.width)), 3, padding=1)
            growth = measure_reach(convolution, height, width) * (POOLING_GROWTH if is_pooled else 1)
            initialise(convolution, "relu", randomness.weights, growth)
            layers.append(convolution)
            channels = convolution.out_channels
            if architecture.batch_norm:
                layers.append(nn.BatchNorm2d(channels))
            if is_pooled:
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
            layers.append(nn.ReLU())

    height, width = min(height, LARGEST), min(width, LARGEST)
    layers += [nn.AdaptiveAvgPool2d((height, width)), nn.Flatten()]
    features = channels * height * width
    for _ in range(2):
        dense = nn.Linear(features, architecture.head)
        initialise(dense, "relu", randomness.weights)
        layers += [dense, nn.ReLU(), Dropout(dropout, randomness.dropout)]
        features = architecture.head
    output = nn.Linear(features, num_classes)
    initialise(output, "none", randomness.weights, 1 if architecture.batch_norm else MARGIN)
    return nn.Sequential(*layers, output)
