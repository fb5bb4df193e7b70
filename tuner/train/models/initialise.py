"""Random weights, by the non-linearity that follows them."""

import math

from torch import Generator, nn

# What a max pooling multiplies the mean square of signals with, about: 1 where neighbours are equal, 3.1 where four of
# them are independent.
POOLING_GROWTH = 2.0
# By how much the mean square of the signals that reach the last layer may be off, by chance and by what the images are
# like, where no batch normalisation holds it.
MARGIN = 4.0


def initialise(layer: nn.Conv2d | nn.Linear, activation: str, generator: Generator, growth: float = 1.0) -> None:
    """Draw a layer's weights so that signals keep their variance, and set its biases to zero.

    Parameters
    ----------
    layer : Conv2d or Linear
        What to fill; on the meta device there is nothing to do.
    activation : str
        What follows: relu [1]_, tanh [2]_, or none for the layer of the class scores. Its weights are uniform
        up to ``0.5 / sqrt(fan_in)``, a twelfth of the variance that would be kept: all classes are about as
        probable at first and the loss starts near ln(num_classes), whatever the width.
    generator : torch.Generator
        Where the random numbers come from.
    growth : float, above 0
        What padding and pooling multiply the mean square of the layer's signals with; the weights are divided by
        its root. Networks with batch normalisation need no such care.

    References
    ----------
    .. [1] He et al., "Delving Deep into Rectifiers", ICCV 2015, arXiv:1502.01852, equation 10.
    .. [2] Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
       AISTATS 2010, equation 16.
    """
    if layer.weight.is_meta:
        return
    if activation == "relu":
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
    elif activation == "tanh":
        nn.init.xavier_uniform_(layer.weight, generator=generator)
    else:
        bound = 0.5 / math.sqrt(layer.weight[0].numel())
        nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    if growth != 1:
        layer.weight.data.div_(math.sqrt(growth))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def measure_reach(layer: nn.Conv2d, height: int, width: int) -> float:
    """Say which share of a filter's weights lies on the map and not on its zero padding.

    Where maps are as small as filters it is far below 1, and a deep network's signals would vanish.

    Parameters
    ----------
    layer : Conv2d
        Whose filters, stride and padding count.
    height, width : int
        Of the map that comes in, in pixels.

    Returns
    -------
    float, above 0 and at most 1
        The mean over all positions of the filter.
    """
    reach = 1.0
    for axis, side in enumerate((height, width)):
        kernel, padding = layer.kernel_size[axis], int(layer.padding[axis])
        starts = range(-padding, side + padding - kernel + 1, layer.stride[axis])
        reach *= sum(min(start + kernel, side) - max(start, 0) for start in starts) / (kernel * len(starts))
    return reach
