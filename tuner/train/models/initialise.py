"""Random weights, by the non-linearity that follows them."""

import math

from torch import Generator, nn


def initialise(layer: nn.Conv2d | nn.Linear, activation: str, generator: Generator) -> None:
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
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
