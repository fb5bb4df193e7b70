"""GoogLeNet."""

import torch
from torch import Tensor, nn

from tuner.spec.hyperparameters import GoogLeNet
from tuner.train.models.dropout import Dropout
from tuner.train.models.halvings import count_halvings
from tuner.train.models.initialise import MARGIN, POOLING_GROWTH, initialise, measure_reach
from tuner.train.models.randomness import Randomness

# Channels of the 1x1 filters; of the bottleneck before the 3x3 filters, and theirs; of the bottleneck before the
# 5x5 filters, and theirs; of the 1x1 filters after pooling: the paper's table 1.
BLOCKS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
HEADED = ("4a", "4d")  # the blocks that auxiliary heads follow
HEAD_CHANNELS, HEAD_UNITS = 128, 1024
HEAD_SIDE = 4  # pixels a side that an auxiliary head averages the map to
LARGEST_SQUARE = 4.0  # about where the mean square of signals ends that are pooled again and again
EPSILON = 0.001  # of the batch normalisation, as in torchvision


class Inception(nn.Module):
    """Filters of several sizes, and pooling, side by side on the same map.

    Attributes
    ----------
    branches : ModuleList
        What the map goes through; their channels follow one another in the result.
    """

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, maps: Tensor) -> Tensor:
        """Map float (batch, channels, height, width) to other channels of the same size."""
        return torch.cat([branch(maps) for branch in self.branches], dim=1)


class DeeplySupervised(nn.Module):
    """A network that is trained at several depths: heads of their own see what is inside it.

    Attributes
    ----------
    stages : ModuleList
        One after the other; the last one leaves a vector an image.
    heads : ModuleList
        One after each stage but the last, or none at all.
    classifier : Linear
        After the last stage.
    auxiliary_weight : float, at least 0
        What each head's loss counts.
    """

    def __init__(
        self, stages: list[nn.Module], heads: list[nn.Module], classifier: nn.Linear, auxiliary_weight: float
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.heads = nn.ModuleList(heads)
        self.classifier = classifier
        self.auxiliary_weight = auxiliary_weight

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map float (batch, channels, height, width) to float (batch, num_classes).

        While training with heads, to a tuple of such scores: the classifier's first, then those of the heads, the
        shallowest first.
        """
        maps, auxiliary = images, []
        for position, stage in enumerate(self.stages):
            maps = stage(maps)
            if self.training and position < len(self.heads):
                auxiliary.append(self.heads[position](maps))
        scores: Tensor = self.classifier(maps)
        return (scores, *auxiliary) if auxiliary else scores


def build_googlenet(
    architecture: GoogLeNet,
    image_shape: tuple[int, int, int],
    num_classes: int,
    dropout: float,
    randomness: Randomness,
) -> DeeplySupervised:
    """Build three convolutions, nine inception blocks, the mean over all pixels and a dense layer.

    Parameters
    ----------
    architecture : GoogLeNet
        Kind of block, batch normalisation, the width that the channels of all convolutions are multiplied by (and
        rounded), and the weight of the auxiliary heads, which are left out at 0.
    image_shape : tuple of int
        Height, width, channels of the images.
    num_classes : int
        How many scores come out.
    dropout : float, at least 0 and below 1
        Before the last layer of the network and of each head.
    randomness : Randomness
        For the weights now, and for dropout while training.

    Returns
    -------
    DeeplySupervised
        From float (batch, channels, height, width) to float (batch, num_classes); while training with auxiliary
        heads, to a tuple of these: the network's, and those of the heads after blocks 4a and 4d.

    Notes
    -----
    At 224x224x3 and 1000 classes there are 13,004,888 weights with heads and 6,624,904 without. These are
    torchvision's: batch normalisation in place of local response normalisation, and 3x3 filters in the bottleneck
    block where the paper has 5x5. The naive block, figure 2 (a), has its 5x5 filters; it hands on all channels that it
    pools, so that they become more with each block.

    Of the five halvings at 224x224 the first are left out where the image is small, so that three pixels a side are
    left at last: below 96 pixels a side the first convolution has 3x3 filters at every pixel in place of 7x7 at every
    second, and the poolings are left out one after the other below 48, 24, 12 and 6. So 32x32 leaves 16, 8 and 4
    pixels a side to the three groups of blocks, 8x8 leaves 8, 8 and 4. Heads average to 4x4 pixels, or to as many as
    there are.

    Without batch normalisation the initial weights make up for filters that lie partly on padding and for the growth
    by pooling.

    References
    ----------
    .. [1] Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, arXiv:1409.4842, figure 2 and table 1.
    """
    sketch = _Sketch(architecture, image_shape, num_classes, dropout, randomness)
    halvings = count_halvings(sketch.height, sketch.width)
    sketch.append_convolution(64, *((7, 2) if halvings >= 5 else (3, 1)))
    sketch.append_pooling(3, halvings >= 4)
    sketch.append_convolution(64, 1)
    sketch.append_convolution(192, 3)
    sketch.append_pooling(3, halvings >= 3)
    stages: list[nn.Module] = []
    heads: list[nn.Module] = []
    for name in BLOCKS:
        if name == "4a":
            sketch.append_pooling(3, halvings >= 2)
        elif name == "5a":
            sketch.append_pooling(2, halvings >= 1)
        sketch.append_inception(name)
        if name in HEADED and architecture.auxiliary_weight > 0:
            stages.append(sketch.take_layers())
            heads.append(sketch.build_head())
    sketch.layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), Dropout(dropout, randomness.dropout)]
    stages.append(sketch.take_layers())
    classifier = sketch.build_output(sketch.channels, sketch.mean_square)
    return DeeplySupervised(stages, heads, classifier, architecture.auxiliary_weight)


class _Sketch:
    """The layers so far, and the map that they leave: its size and about its mean square."""

    def __init__(
        self,
        architecture: GoogLeNet,
        image_shape: tuple[int, int, int],
        num_classes: int,
        dropout: float,
        randomness: Randomness,
    ) -> None:
        self.architecture = architecture
        self.height, self.width, self.channels = image_shape
        self.num_classes = num_classes
        self.dropout = dropout
        self.randomness = randomness
        self.mean_square = 1.0
        self.layers: list[nn.Module] = []

    def take_layers(self) -> nn.Sequential:
        layers, self.layers = self.layers, []
        return nn.Sequential(*layers)

    def append_convolution(self, base: int, side: int, stride: int = 1) -> None:
        self.layers.append(self.build_convolution(self.channels, base, side, stride))
        self.channels, self.mean_square = self._scale(base), 1.0
        self.height, self.width = ((pixels + stride - 1) // stride for pixels in (self.height, self.width))

    def append_pooling(self, side: int, is_wanted: bool) -> None:
        if is_wanted:
            self.layers.append(nn.MaxPool2d(side, stride=2, ceil_mode=True))
            self.mean_square = self._pool_signals()
            # windows of two keep an odd pixel at the end, windows of three reach it from the one before
            kept = 1 if side == 2 else 0
            self.height, self.width = ((pixels + kept) // 2 for pixels in (self.height, self.width))

    def append_inception(self, name: str) -> None:
        ones, threes_before, threes, fives_before, fives, pooled = BLOCKS[name]
        pooling, channels = nn.MaxPool2d(3, stride=1, padding=1), self.channels
        made = sum(self._scale(base) for base in (ones, threes, fives))
        if self.architecture.block == "naive":
            branches: list[nn.Module] = [
                self.build_convolution(channels, base, side) for base, side in ((ones, 1), (threes, 3), (fives, 5))
            ]
            self.channels = made + channels
            self.mean_square = (made + channels * self._pool_signals()) / self.channels
            self.layers.append(Inception(*branches, pooling))
            return
        branches = [self.build_convolution(channels, ones, 1)]
        for before, base in ((threes_before, threes), (fives_before, fives)):
            bottleneck = self.build_convolution(channels, before, 1)
            branches.append(
                nn.Sequential(bottleneck, self.build_convolution(self._scale(before), base, 3, mean_square=1.0))
            )
        self.mean_square = self._pool_signals()
        branches.append(nn.Sequential(pooling, self.build_convolution(channels, pooled, 1)))
        self.channels, self.mean_square = made + self._scale(pooled), 1.0
        self.layers.append(Inception(*branches))

    def build_head(self) -> nn.Sequential:
        """Build an auxiliary head on the map."""
        height, width = min(self.height, HEAD_SIDE), min(self.width, HEAD_SIDE)
        dense = nn.Linear(self._scale(HEAD_CHANNELS) * height * width, HEAD_UNITS)
        initialise(dense, "relu", self.randomness.weights)
        return nn.Sequential(
            nn.AdaptiveAvgPool2d((height, width)),
            self.build_convolution(self.channels, HEAD_CHANNELS, 1),
            nn.Flatten(),
            dense,
            nn.ReLU(),
            Dropout(self.dropout, self.randomness.dropout),
            self.build_output(HEAD_UNITS),
        )

    def build_convolution(
        self, channels: int, base: int, side: int, stride: int = 1, mean_square: float | None = None
    ) -> nn.Sequential:
        """Build a convolution with ReLU on the map, or on channels that were made from it."""
        has_batch_norm = self.architecture.batch_norm  # it would take a bias away and adds its own
        convolution = nn.Conv2d(channels, self._scale(base), side, stride, side // 2, bias=not has_batch_norm)
        growth = (mean_square or self.mean_square) * measure_reach(convolution, self.height, self.width)
        initialise(convolution, "relu", self.randomness.weights, growth)
        layers: list[nn.Module] = [convolution]
        if has_batch_norm:
            layers.append(nn.BatchNorm2d(convolution.out_channels, eps=EPSILON))
        return nn.Sequential(*layers, nn.ReLU())

    def build_output(self, features: int, mean_square: float = 1.0) -> nn.Linear:
        output = nn.Linear(features, self.num_classes)
        growth = mean_square * (1 if self.architecture.batch_norm else MARGIN)
        initialise(output, "none", self.randomness.weights, growth)
        return output

    def _pool_signals(self) -> float:
        return min(POOLING_GROWTH * self.mean_square, LARGEST_SQUARE)

    def _scale(self, base: int) -> int:
        return max(1, round(base * self.architecture.width))
