"""Residual networks for small images, with the five residual units."""

from torch import Tensor, nn

from tuner.spec.hyperparameters import ResNet
from tuner.train.models.dropout import Dropout
from tuner.train.models.initialise import initialise
from tuner.train.models.randomness import Randomness

# What is done on a unit's residual path, and after the addition: He et al. 2016, figure 4 (a) to (e).
UNITS = {
    "original": ("conv bn relu conv bn", "relu"),
    "bn_after_addition": ("conv bn relu conv", "bn relu"),
    "relu_before_addition": ("conv bn relu conv bn relu", ""),
    "relu_only_preactivation": ("relu conv bn relu conv bn", ""),
    "full_preactivation": ("bn relu conv bn relu conv", ""),
}
# What the residual path begins with, where that is no convolution.
PREACTIVATIONS = {"relu_only_preactivation": "relu", "full_preactivation": "bn relu"}


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions around which their input is led by a shortcut.

    Attributes
    ----------
    residual : Sequential
        The path with the weights.
    shortcut : Module
        The path without any.
    after : Sequential
        What is done after the addition, if anything.
    """

    def __init__(self, residual: nn.Sequential, shortcut: nn.Module, after: nn.Sequential) -> None:
        super().__init__()
        self.residual = residual
        self.shortcut = shortcut
        self.after = after

    def forward(self, maps: Tensor) -> Tensor:
        """Map float (batch, channels, height, width) to as many or twice the channels of half the size."""
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
    """Build a 3x3 convolution, three stages of n residual units, the mean over all pixels and a dense layer.

    Parameters
    ----------
    architecture : ResNet
        Depth 6n + 2, channels of the first stage, and the order of operations in a unit.
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
    Shortcuts have no weights (option A), as in the paper's CIFAR-10 networks: 0.27 million weights at depth
    20 and 1.7 million at depth 110. With pre-activation, the first unit follows the activation of the stem
    and has none of its own, and one more follows the last unit, as in the appendix of [2]_. Convolutions have
    no biases, as a normalisation follows.

    Any size of image fits, as the pixels are averaged in the end; 8x8 leaves 2x2 at the last stage. Nothing
    is halved before the first stage, so the time grows with the area: 224x224 takes 49 times as long as
    32x32.

    References
    ----------
    .. [1] He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385,
       section 4.2 and table 6.
    .. [2] He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016, arXiv:1603.05027, figure 4.
    """
    channels, num_units = architecture.width, (architecture.depth - 2) // 6
    preactivation = PREACTIVATIONS.get(architecture.unit, "")
    layers: list[nn.Module] = [*_build_operations("conv bn relu", image_shape[2], channels)]
    for stage in range(3):
        for position in range(num_units):
            is_halving = stage > 0 and position == 0
            residual, after = UNITS[architecture.unit]
            if stage == 0 and position == 0:
                residual = residual.removeprefix(preactivation).strip()
            grown = channels * 2 if is_halving else channels
            layers.append(
                ResidualUnit(
                    _build_operations(residual, channels, grown, stride=2 if is_halving else 1),
                    Subsample(grown - channels) if is_halving else nn.Identity(),
                    _build_operations(after, grown, grown),
                )
            )
            channels = grown
    layers += [*_build_operations(preactivation, channels, channels), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    layers += [Dropout(dropout, randomness.dropout), nn.Linear(channels, num_classes)]
    network = nn.Sequential(*layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            initialise(module, "relu" if isinstance(module, nn.Conv2d) else "none", randomness.weights)
    return network


def _build_operations(names: str, channels: int, grown: int, stride: int = 1) -> nn.Sequential:
    """Build operations in order; the first convolution changes the channels and the size."""
    operations = nn.Sequential()
    for name in names.split():
        if name == "conv":
            operations.append(nn.Conv2d(channels, grown, 3, stride=stride, padding=1, bias=False))
            channels, stride = grown, 1
        elif name == "bn":
            operations.append(nn.BatchNorm2d(channels))
        else:
            operations.append(nn.ReLU())
    return operations
