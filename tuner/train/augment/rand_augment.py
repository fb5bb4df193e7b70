"""Two operations drawn at random for each image, after RandAugment."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from tuner.train.augment.colour import (
    change_brightness,
    change_contrast,
    change_saturation,
    change_sharpness,
    posterize,
    solarize,
)
from tuner.train.augment.subset import change_some
from tuner.train.augment.warp import build_affine, compose

NUM_DRAWN = 2
STRONGEST = 10
# the largest shear is a shift of this many pixels a pixel, the largest translation this share of the side
MOST_SHEAR, MOST_SHIFT, MOST_ANGLE = 0.3, 0.45, math.radians(30)
MOST_FACTOR = 0.9
FEWEST_BITS = 4

FACTORS = {
    "brightness": change_brightness,
    "contrast": change_contrast,
    "saturation": change_saturation,
    "sharpness": change_sharpness,
}
OPERATIONS = (
    *("identity", "rotate", "shear_x", "shear_y", "translate_x", "translate_y"),
    *FACTORS,
    *("posterize", "solarize"),
)


class Drawn(NamedTuple):
    """What was drawn for a batch.

    Attributes
    ----------
    operations : int64 tensor, shape (2, batch)
        Positions in ``OPERATIONS``: the first and the second of each image.
    strengths : float tensor, shape (2, batch), -1 to 1
        How much of the largest change, with a sign that is drawn for each.
    """

    operations: Tensor
    strengths: Tensor


def draw_operations(num_images: int, strength: int, generator: torch.Generator) -> Drawn:
    """Draw operations and signs.

    Parameters
    ----------
    num_images : int
        Images of the batch.
    strength : int, 0 to 10
        The magnitude of all operations.
    generator : torch.Generator
        On the device of the batch.

    Notes
    -----
    With the ranges of [1]_ as in [2]_, without the operations that have no strength (autocontrast, equalize) and
    without inversion. The strength is out of 10 and signs are drawn, also those of brightness, contrast,
    saturation and sharpness.

    Both geometric operations are done first, in one sampling, and the others after them in the order of drawing:
    they commute but for the black that comes in from outside, and for rounding.

    References
    ----------
    .. [1] Cubuk et al., "AutoAugment: Learning Augmentation Strategies from Data", CVPR 2019, arXiv:1805.09501,
       table 6.
    .. [2] Cubuk et al., "RandAugment: Practical Automated Data Augmentation with a Reduced Search Space",
       NeurIPS 2020, arXiv:1909.13719, figure 2.
    """
    shape, device = (NUM_DRAWN, num_images), generator.device
    operations = torch.randint(len(OPERATIONS), shape, generator=generator, device=device)
    signs = 2 * torch.randint(2, shape, generator=generator, device=device) - 1
    return Drawn(operations, signs * (strength / STRONGEST))


def compose_warps(drawn: Drawn, height: int, width: int) -> Tensor:
    """Return the matrices of the geometric operations, shape (batch, 3, 3), as ``build_affine`` does."""
    matrices = []
    for operations, strengths in zip(*drawn, strict=True):

        def amount(name: str, most: float, operations: Tensor = operations, strengths: Tensor = strengths) -> Tensor:
            return torch.where(operations == OPERATIONS.index(name), most * strengths, 0.0)

        matrices.append(
            build_affine(
                angle=amount("rotate", MOST_ANGLE),
                shear_x=amount("shear_x", MOST_SHEAR),
                shear_y=amount("shear_y", MOST_SHEAR),
                shift_x=amount("translate_x", MOST_SHIFT * width),
                shift_y=amount("translate_y", MOST_SHIFT * height),
            )
        )
    first, second = matrices
    return compose(first, second)  # a new pixel is led back through the second operation, then through the first


def change_colours(images: Tensor, drawn: Drawn) -> Tensor:
    """Do all operations but the geometric ones.

    Parameters
    ----------
    images : float tensor, shape (batch, channels, height, width), contiguous
        Values 0 to 255; may be overwritten.
    drawn : Drawn
        What to do.
    """
    for operations, strengths in zip(*drawn, strict=True):
        for name, change in FACTORS.items():
            images = change_some(images, operations == OPERATIONS.index(name), change, 1 + MOST_FACTOR * strengths)
        bits = 8 - ((8 - FEWEST_BITS) * strengths.abs()).round()
        images = change_some(images, operations == OPERATIONS.index("posterize"), posterize, bits)
        thresholds = 256 * (1 - strengths.abs())
        images = change_some(images, operations == OPERATIONS.index("solarize"), solarize, thresholds)
    return images
